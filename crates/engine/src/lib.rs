//! The one kernel: raw batches and times in; alerts, notices, dead letters and stored placements out.
//!
//! `run`, `demo`, `scan`, `check` and the tests all use this and only feed it differently:
//! [`Compiled`] is what a rule set means over a set of sources, a [`Detector`] turns raw records into
//! [`Detected`] events (any number of them, on any threads), [`InForce`] says by which version of the rules, [`InOrder`] hands
//! these on as they were read, and the
//! [`Engine`] places, orders and correlates.
//!
//! Invariants: no I/O, no clock, no randomness; the same records with the same broker times give the same alert
//! bodies whatever the batch sizes, interleaving, restarts or threads; every record ends in exactly one of
//! {evaluated, dead letter}.

mod adopt;
mod checkpoint;
mod compiled;
mod detector;
mod engine;
mod error;
mod figures;
mod files;
mod former;
mod history;
mod in_force;
mod in_order;
mod partition;
mod progress;
mod standing;
mod version;

pub use checkpoint::{GivenUp, GroupCheckpoint, POSITIONS, PartitionPoint, PartitionStart};
pub use compiled::Compiled;
pub use detector::{Detected, DetectedBatch, Detector, RecordTime};
pub use engine::{Engine, EngineSettings, Output, PartitionCounters, SourceCounters};
pub use error::Error;
pub use in_force::{InForce, Task};
pub use in_order::{InFlight, InOrder};
pub use standing::TopicStanding;
pub use vedette_correlate::{Effort, Hands, Load, NOTICE_ENTRY, NewRevision, ReleaseTask, WaitingBudget};
pub use vedette_detect::Spread;
pub use version::Version;

/// Fixed number of key groups; state is checkpointed by group.
pub const KEY_GROUPS: u8 = 64;

#[cfg(test)]
mod tests;
