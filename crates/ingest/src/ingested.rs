//! What ingest hands out: records, progress and what stands in their way.
//!
//! Invariant: the items of one partition come in the order in which they hold; an [`Ingested::Idle`] comes after every
//! record it speaks of, a placement before the batch with its record.

use std::{collections::BTreeSet, sync::Arc};

use vedette_event::{Micros, Partition, RawBatch, StoredPlacement, TopicIx};

use crate::Error;

/// One item of the channel.
#[derive(Debug)]
pub enum Ingested {
    /// A partition is read from this offset on; again when what lay before it was lost, and when a topic is
    /// accepted.
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
    /// These partitions of a topic, and no others, exist and cannot be begun yet, since they have no leader: what they hold is
    /// still to come.
    Awaited {
        /// The topic.
        topic: TopicIx,
        /// Their numbers; none once all are begun.
        numbers: BTreeSet<i32>,
    },
    /// A topic was accepted: all that follows of it is of its next incarnation, all before of the one before.
    Accepted(TopicIx),
    /// Something changed about the connection or a topic.
    StatusChange(StatusChange),
    /// What cannot ever work; nothing follows.
    Failed(Error),
}

/// A change in the state of the connection or a topic.
#[derive(Debug)]
pub enum StatusChange {
    /// The brokers answer (again).
    Connected,
    /// The brokers do not answer; they are tried again for ever.
    Unreachable(Error),
    /// A topic is read (again).
    TopicReady(TopicIx),
    /// A topic is not read. If the error is not [`Error::retryable`], it stays so until the caller decides.
    TopicStopped(TopicIx, Error),
    /// A topic's records carry the producers' time, and the setting allows that. Told once for each topic.
    ProducerTime(TopicIx),
    /// Worth telling, and nothing stops for it.
    Warning(Error),
}

/// Whose clock a record's timestamp is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Clock {
    /// LogAppendTime.
    Broker,
    /// CreateTime, or no time at all.
    Producer,
}

/// How far each partition has been read.
#[derive(Debug, Clone, Default)]
pub struct LagReport {
    /// True if the brokers answered the last query.
    pub connected: bool,
    /// In order of topic and partition; those that are read.
    pub partitions: Vec<PartitionLag>,
    /// All topics of the settings, by rank.
    pub topics: Vec<TopicLag>,
}

/// How one topic stands as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicLag {
    /// The topic.
    pub topic: TopicIx,
    /// Its name.
    pub name: Arc<str>,
    /// How many partitions it had when last looked up; `None` before that.
    pub partitions: Option<usize>,
    /// Of those, how many are read.
    pub assigned: usize,
    /// Of those read, how many are paused by command.
    pub paused: usize,
    /// Why some partitions are not read though the topic is, where known.
    pub missing: Option<String>,
    /// Whose clock the newest records carry: the producers' if those of any partition do; `None` before the first.
    pub clock: Option<Clock>,
}

impl TopicLag {
    /// How many of its partitions are not read.
    #[must_use]
    pub fn unassigned(&self) -> usize {
        self.partitions.unwrap_or_default().saturating_sub(self.assigned)
    }
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
    /// How many records of it have been handed on since it was last assigned.
    pub handed_on: u64,
    /// `ts_log` of the newest record read.
    pub last_ts_log: Option<Micros>,
    /// True while it is paused by command.
    pub paused: bool,
    /// Whose clock its newest record carries.
    pub clock: Option<Clock>,
}

impl PartitionLag {
    /// How many offsets are unread, where known. Holes count, so the true number of records can be lower.
    #[must_use]
    pub fn unread(&self) -> Option<i64> {
        self.end.map(|end| end.saturating_sub(self.position).max(0))
    }
}
