//! Hunts: read-only SQL over events.
//!
//! In: the text of a query ([`Query`]), the columns that there are ([`Columns`]), and whoever gives the events ([`Open`]) as record
//! batches that a [`Converter`] made of [`EventBatch`](vedette_event::EventBatch)es. Out: [`Answer`].
//! Invariants: this crate is the only user of DataFusion, and only the program depends on it, so that nobody who changes detection
//! builds it; a query changes nothing, and reaches neither a file nor the network; events are read as they are needed, and only
//! their columns that are needed; which rules match is said by whoever gives the events.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod answer;
mod columns;
mod convert;
mod error;
mod functions;
mod gauge;
mod growth;
pub mod lake;
mod named;
mod query;
mod session;
mod sigma;
mod spelled;
mod table;
mod tables;
#[cfg(test)]
mod tests;
mod words;
mod yielding;

pub use arrow_array::{BooleanArray, RecordBatch};

pub use answer::{Answer, Ipc, Received, Rows, Stopper};
pub use columns::{Columns, SOURCE};
pub use convert::{Converter, Origin};
pub use error::{Error, Place};
pub use functions::FUNCTIONS;
pub use gauge::{Gauge, Read};
pub use query::Query;
pub use session::Limits;
pub use sigma::{Judge, Sigma};
pub use table::{Batches, Open, SourceError, Supply};
pub use tables::{MOST_ALERTS, TableError, Tables, alerts, described, rules};
