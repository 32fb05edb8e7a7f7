//! Kafka and files in; raw batches with offsets and broker time out.
//!
//! [`Ingest`] reads topics on threads of its own and hands everything out over one bounded channel of [`Ingested`];
//! [`FileBatches`] reads files, on the caller's thread.
//!
//! Invariants: this crate is the only user of Kafka's consumer and the only reader of a clock for progress; offsets
//! of a partition strictly increase; what cannot be read is reported ([`Ingested::Lost`]), never skipped in silence;
//! a password is in no `Debug` output, log line or error.

mod error;
mod files;
mod ingested;
mod settings;

pub use error::Error;
pub use files::{FileBatches, Input};
pub use ingested::{Ingested, LagReport, PartitionLag, Status};
pub use settings::{
    LastRead, Mechanism, OnLoss, Password, Protocol, Recovery, Resume, Sasl, Security, Settings, StartAt,
    TimeSource, TopicSettings, record_hash,
};
