//! What flows through Vedette: the vocabulary every other crate shares.
//!
//! Raw records ([`RawBatch`]) become columns ([`EventBatch`]), columns become hits of rules
//! ([`PlacedBatch`]), hits become alerts ([`Alert`]) and notices ([`Notice`]).
//!
//! Invariants: nothing here performs I/O, reads a clock, randomness or the environment; a cell's
//! text is canonical for its kind, so equal bytes of equal kind mean equal values.

pub mod alert;
pub mod batch;
pub mod cell;
pub mod column;
pub mod finding;
pub mod flags;
pub mod order;
pub mod placement;
pub mod raw;
pub mod rule;
pub mod schema;
pub mod source;
pub mod text;
pub mod time;
pub mod value;
mod views;

pub use alert::{Alert, Entity, Evidence, Identity, Notice, RuleRef, Severity, State};
pub use batch::{BatchBuilder, EventBatch, MAX_ROWS, Projection};
pub use cell::{Cell, Kind};
pub use column::Column;
pub use finding::{Hit, PlacedBatch};
pub use flags::Flags;
pub use order::{Incarnation, Order, Partition, SourceIx, TopicIx, Topics};
pub use placement::{Placed, StoredPlacement, place};
pub use raw::{DeadLetter, DeadReason, RawBatch, RawBatchBuilder, RawRecord};
pub use rule::RuleIx;
pub use schema::{FieldType, Fields};
pub use source::{LogSource, SourceDef, Sources};
pub use text::Text;
pub use time::{Micros, Span};
pub use value::{KEY_PART_BYTES, Value, key_json, key_part, key_text};

/// Version of the engine's semantics: bodies are comparable only within one version.
pub const SEMANTICS_VERSION: u32 = 1;
