//! What ingest hands out: records, progress and what stands in their way.
//!
//! Invariant: the items of one partition come in the order in which they hold; an [`Ingested::Idle`] comes after every
//! record it speaks of, a placement before the batch with its record.

use std::sync::Arc;

use vedette_event::{Micros, Partition, RawBatch, StoredPlacement, TopicIx};

use crate::Error;

/// One item of the channel.
#[derive(Debug)]
pub enum Ingested {
    /// A partition is read from this offset on; again when a recreated topic is accepted.
    Assigned {
        /// The partition.
        partition: Partition,
        /// The first offset that will be asked for.
        offset: i64,
    },
    /// Records.
    Batch(RawBatch),
    /// A broker's time was too far ahead and was replaced: to be stored before anything that follows from it is published.
    Placed(StoredPlacement),
    /// A query sent at this time showed nothing unread in the partition.
    Idle {
        /// The partition.
        partition: Partition,
        /// When the query was sent.
        sent_at: Micros,
    },
    /// Kafka deleted these records before they were read.
    Lost {
        /// The partition.
        partition: Partition,
        /// The first lost offset.
        from: i64,
        /// The first offset that is there.
        to: i64,
    },
    /// Something changed about the connection or a topic.
    Status(Status),
    /// What cannot ever work; nothing follows.
    Failed(Error),
}

/// A change in the state of the connection or a topic.
#[derive(Debug)]
pub enum Status {
    /// The brokers answer (again).
    Connected,
    /// The brokers do not answer; they are tried again for ever.
    Unreachable(Error),
    /// A topic is read (again).
    TopicReady(TopicIx),
    /// A topic is not read. If the error is not [`Error::retryable`], it stays so until the caller decides.
    TopicStopped(TopicIx, Error),
    /// Worth telling, and nothing stops for it.
    Warning(Error),
}

/// How far each partition has been read.
#[derive(Debug, Clone, Default)]
pub struct LagReport {
    /// True if the brokers answered the last query.
    pub connected: bool,
    /// In order of topic and partition.
    pub partitions: Vec<PartitionLag>,
}

/// How far one partition has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionLag {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: Partition,
    /// The next offset to read.
    pub position: i64,
    /// The offset after the newest record, where known.
    pub end: Option<i64>,
    /// The oldest offset there is, where known.
    pub log_start: Option<i64>,
    /// `ts_log` of the newest record read.
    pub last_ts_log: Option<Micros>,
    /// True while it is paused by command.
    pub paused: bool,
}

impl PartitionLag {
    /// How many offsets are unread, where known. Holes count, so the true number of records can be lower.
    #[must_use]
    pub fn unread(&self) -> Option<i64> {
        self.end.map(|end| end.saturating_sub(self.position).max(0))
    }
}
