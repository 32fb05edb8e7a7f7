//! What ingest is told: which brokers and topics, and where a former run got to.
//!
//! In: values that the binary has read and checked; the enums bear the names by which its configuration calls them. Out:
//! plain structs and the client settings made from them.
//! Invariant: a [`Password`] shows itself to nobody but librdkafka.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use serde::Deserialize;
use vedette_event::{Micros, Partition, SourceIx, Span, TopicIx};

pub use vedette_event::raw::record_hash;

/// Everything about one cluster and the topics read from it.
#[derive(Debug, Clone)]
pub struct IngestSettings {
    /// `host:port` of each bootstrap broker.
    pub brokers: Vec<String>,
    /// How to connect.
    pub security: Security,
    /// Group to commit offsets to, for lag monitors only; nothing is ever read back from it.
    pub group: Option<String>,
    /// The topics.
    pub topics: Vec<TopicSettings>,
    /// `S`: the allowance for clocks and replication.
    pub allowance: Span,
    /// How long a broker may keep a fetch waiting when there is nothing new.
    pub fetch_wait: Duration,
    /// How many items the channel holds before reading stops.
    pub queue: usize,
    /// Whether a partition is read only once it is resumed.
    pub held: bool,
}

/// One topic.
#[derive(Debug, Clone)]
pub struct TopicSettings {
    /// Its name.
    pub name: Arc<str>,
    /// Its rank in [`vedette_event::Topics`].
    pub topic: TopicIx,
    /// The source its records belong to.
    pub source: SourceIx,
    /// What stands for `ts_log`.
    pub time_source: TimeSource,
    /// Where partitions that have no [`Resume`] begin.
    pub start: StartAt,
    /// What to do when Kafka has deleted records that were not read.
    pub on_loss: OnLoss,
}

/// What stands for `ts_log`. CreateTime is weaker than LogAppendTime: producers can be wrong or lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeSource {
    /// Each record's own timestamp: LogAppendTime as it is, CreateTime made non-decreasing per partition.
    #[default]
    Auto,
    /// LogAppendTime, set by the broker; CreateTime is refused.
    Broker,
    /// Whatever stands there, made non-decreasing per partition.
    Producer,
}

/// Where a partition without a [`Resume`] begins. One that appears later always begins at its log start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartAt {
    /// At the oldest record there is.
    #[default]
    Earliest,
    /// After the newest record there is.
    Latest,
}

/// What to do when Kafka has deleted records that were not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnLoss {
    /// Report the interval and go on from the log start.
    #[default]
    Continue,
    /// Report the interval and stop reading the topic.
    Stop,
}

/// How to connect to the brokers.
#[derive(Debug, Clone, Default)]
pub struct Security {
    /// Encryption and authentication.
    pub protocol: Protocol,
    /// Who we are; needed by the two SASL protocols.
    pub sasl: Option<Sasl>,
    /// Certificates (PEM) to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// Kafka's `security.protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Neither encryption nor authentication.
    #[default]
    Plaintext,
    /// TLS.
    Ssl,
    /// Authentication without encryption.
    SaslPlaintext,
    /// Authentication over TLS.
    SaslSsl,
}

impl Protocol {
    /// Kafka's name of it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }
}

/// A user and how it proves itself.
#[derive(Debug, Clone)]
pub struct Sasl {
    /// The mechanism.
    pub mechanism: Mechanism,
    /// The user's name.
    pub username: String,
    /// The user's password.
    pub password: Password,
}

/// Kafka's `sasl.mechanism`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Mechanism {
    /// The password itself is sent.
    #[serde(rename = "PLAIN")]
    Plain,
    /// Challenge and response, SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// Challenge and response, SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl Mechanism {
    /// Kafka's name of it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// A password, which `Debug` does not show.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    /// Wraps a password.
    #[must_use]
    pub fn new(password: impl Into<String>) -> Self {
        Self(password.into())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// Where a former run got to.
#[derive(Debug, Clone, Default)]
pub struct Recovery {
    /// Per partition; one that is missing begins as [`TopicSettings::start`] says.
    pub partitions: BTreeMap<Partition, Resume>,
    /// Stored `clock=broker` placements by partition and offset; they decide whatever the clock says now.
    pub placements: BTreeMap<(Partition, i64), Micros>,
}

/// Where one partition is taken up again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The first offset to read.
    pub offset: i64,
    /// The running maximum of `ts_log` before that offset.
    pub log_max: Option<Micros>,
    /// The last record ever read, by which a recreated topic is told.
    pub last: Option<LastRead>,
}

/// A record that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastRead {
    /// Its offset.
    pub offset: i64,
    /// Its [`record_hash`].
    pub hash: [u8; 32],
}
