//! Kafka and files in; raw batches with offsets and broker time out.
//!
//! [`Ingest`] reads topics on threads of its own and hands everything out over one bounded channel of [`Ingested`];
//! [`FileBatches`] reads files, on the caller's thread. Beside them stand what needs the same connection settings:
//! [`DeadLetterTopic`], [`RecordProducer`] and, for demonstrations and tests, an in-process [`MockBroker`].
//!
//! Two threads make up [`Ingest`]: one reads and never waits for an answer, the other asks the brokers (which
//! partitions there are, where they end, whether a topic is still the same) and waits.
//!
//! Invariants: this crate is the only user of Kafka's consumer and the only reader of a clock for progress; offsets
//! of a partition strictly increase; what cannot be read is reported ([`Ingested::Lost`]), never skipped in silence;
//! a password is in no `Debug` output, log line or error.

mod client;
mod clock;
mod dead_letters;
mod error;
mod files;
mod heartbeat;
mod ingest;
mod ingested;
mod lane;
mod mock;
mod plan;
mod prober;
mod producer;
mod read_back;
mod reader;
mod settings;
mod shared;
mod topic_config;
mod verify;
mod writer;

pub use dead_letters::{Copies, DEAD_LETTER_TOPIC, DeadLetterTopic};
pub use error::Error;
pub use files::{FileBatches, Input};
pub use heartbeat::{Ended, Heartbeat};
pub use ingest::{Ingest, LagView};
pub use ingested::{Clock, Ingested, LagReport, PartitionLag, StatusChange, TopicLag};
pub use mock::MockBroker;
pub use producer::{NewRecord, RECORD_PATIENCE, RecordProducer};
pub use read_back::{Found, ReadBack};
pub use settings::{
    IngestSettings, LastRead, Mechanism, OnLoss, Password, Protocol, Recovery, Resume, Sasl, Security,
    StartAt, TimeSource, TopicSettings, record_hash,
};
pub use writer::TopicWriter;

#[cfg(test)]
mod mock_tests;
