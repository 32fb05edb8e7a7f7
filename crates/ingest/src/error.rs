//! What can go wrong, and whether trying again can help.

use std::{io, path::PathBuf, sync::Arc};

use vedette_event::Partition;

/// An error of ingest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// librdkafka refuses a setting.
    #[error("Kafka client setting {key}: {reason}")]
    Setting {
        /// The setting, by librdkafka's name.
        key: String,
        /// Why; never holds the value of a password.
        reason: String,
    },
    /// The Kafka client cannot be made.
    #[error("cannot make a Kafka client: {reason}")]
    Client {
        /// librdkafka's reason.
        reason: String,
    },
    /// No broker answers.
    #[error("cannot reach Kafka at {brokers}: {reason}")]
    Unreachable {
        /// The brokers asked.
        brokers: String,
        /// librdkafka's reason.
        reason: String,
    },
    /// A broker refuses the user.
    #[error("Kafka at {brokers} refuses user {user} ({mechanism}): {reason}")]
    Credentials {
        /// The brokers asked.
        brokers: String,
        /// The SASL mechanism.
        mechanism: &'static str,
        /// The user.
        user: String,
        /// librdkafka's reason.
        reason: String,
    },
    /// A topic does not exist.
    #[error("topic {topic} does not exist; it is looked for again")]
    UnknownTopic {
        /// The topic.
        topic: Arc<str>,
    },
    /// A topic cannot be read, since the brokers refuse it.
    #[error("topic {topic} cannot be read: {reason}; it is looked for again")]
    Topic {
        /// The topic.
        topic: Arc<str>,
        /// The broker's reason.
        reason: String,
    },
    /// A topic cannot be read yet, or not just now.
    #[error("topic {topic} cannot be read yet: {reason}; it is tried again")]
    NotYet {
        /// The topic.
        topic: Arc<str>,
        /// What is missing.
        reason: String,
    },
    /// A topic is set to carry the producers' time where the broker's is asked for.
    #[error(
        "topic {topic} has message.timestamp.type=CreateTime, but time_source is broker; set \
         message.timestamp.type=LogAppendTime on the topic, or time_source: auto; it is looked at again"
    )]
    CreateTime {
        /// The topic.
        topic: Arc<str>,
    },
    /// Records carry the producer's time where the broker's is asked for.
    #[error(
        "topic {topic}: record {offset} of partition {} has no LogAppendTime; set message.timestamp.type=LogAppendTime \
         on the topic, or time_source: auto", .partition.number
    )]
    TimestampType {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: Partition,
        /// The record.
        offset: i64,
    },
    /// A topic is not the one that was read before. It is not read until an operator accepts it.
    #[error("topic {topic} was recreated or truncated (partition {}): {reason}; if that was intended, `vedette topic accept {topic}`", .partition.number)]
    Recreated {
        /// The topic.
        topic: Arc<str>,
        /// The partition where it showed.
        partition: Partition,
        /// How it showed.
        reason: String,
    },
    /// Kafka deleted records that were not read, and the topic is to stop then.
    #[error("topic {topic}, partition {}: records {from} to {to} (exclusive) were deleted unread", .partition.number)]
    Lost {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: Partition,
        /// The first lost offset.
        from: i64,
        /// The first offset that is there.
        to: i64,
    },
    /// Another error of the Kafka client.
    #[error("Kafka: {reason}")]
    Kafka {
        /// librdkafka's reason.
        reason: String,
        /// True if the client has given up for good.
        fatal: bool,
    },
    /// A thread cannot be started.
    #[error("cannot start the thread {name}: {source}")]
    Thread {
        /// Its name.
        name: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// A file cannot be opened.
    #[error("cannot open {}: {source}", .file.display())]
    Open {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file cannot be read on.
    #[error("cannot read {} at byte {at}: {source}", .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// How far it was read.
        at: u64,
        /// The cause.
        source: io::Error,
    },
    /// A compressed file is damaged or cut short.
    #[error("{} is damaged at byte {at} ({form}): {source}", .file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// `gzip` or `zstd`.
        form: &'static str,
        /// How far it could be unpacked, in bytes of the file.
        at: u64,
        /// The cause.
        source: io::Error,
    },
}

impl Error {
    /// True if the same can succeed later without anyone changing a setting or deciding something.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::UnknownTopic { .. }
            | Self::Topic { .. }
            | Self::NotYet { .. }
            | Self::CreateTime { .. } => true,
            Self::Kafka { fatal, .. } => !fatal,
            Self::Setting { .. }
            | Self::Client { .. }
            | Self::Credentials { .. }
            | Self::TimestampType { .. }
            | Self::Recreated { .. }
            | Self::Lost { .. }
            | Self::Thread { .. }
            | Self::Open { .. }
            | Self::Read { .. }
            | Self::Damaged { .. } => false,
        }
    }

    /// True if it passes by itself, so that a source waits for a topic that has it. What does not exist, is refused or
    /// needs a decision is not waited for.
    #[must_use]
    pub const fn passing(&self) -> bool {
        matches!(self, Self::NotYet { .. } | Self::Unreachable { .. })
    }
}
