//! Sources, their topics and partitions, as they are right now.
//!
//! In: what ingest and the kernel know. Out: plain data under `/api/v1/sources` and on the console. Invariant: a source is
//! no better than its topics together, and a topic of which nothing is known is not read.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;
use vedette_event::{Micros, Span};

/// One source.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct SourceStatus {
    /// Its name.
    pub name: String,
    /// One line for a person.
    pub description: String,
    /// The topic it is read from; several, joined by commas.
    pub topic: String,
    /// Its topics, in the order of their names.
    pub topics: Vec<TopicStatus>,
    /// Whether it is doing well.
    pub health: Health,
    /// Why it is not, for a person.
    pub message: Option<String>,
    /// What stands for broker time; the producers' if that is so in any topic.
    pub time_source: TimeSource,
    /// `D`: tolerated disorder.
    #[schema(value_type = String, example = "60s")]
    pub disorder: Span,
    /// `F`: future tolerance.
    #[schema(value_type = String, example = "10s")]
    pub future: Span,
    /// Minimum over the partitions; missing until every partition has one.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub watermark: Option<Micros>,
    /// `ts_log` of the newest record read.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub newest: Option<Micros>,
    /// Records not read yet, over all partitions.
    pub lag: u64,
    /// Records read.
    pub records: u64,
    /// Events decoded and evaluated.
    pub events: u64,
    /// Records and events that ended as dead letters, by reason.
    pub dead_letters: BTreeMap<String, u64>,
    /// Events whose time was replaced, by flag (`clock=late`, …).
    pub flags: BTreeMap<String, u64>,
    /// Records that were lost: the broker deleted them unread, or their topic was made anew before what was found in them was
    /// final.
    pub lost: u64,
    /// The partitions, by number.
    pub partitions: Vec<PartitionStatus>,
}

/// Whether a source is doing well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Its topics are still looked up.
    Starting,
    /// Records are read as they come.
    Ok,
    /// Some of its topics are not read.
    Partial,
    /// Records wait to be read.
    Lagging,
    /// Nothing has come for much longer than usual.
    Silent,
    /// Its records are not evaluated: the kernel does not move.
    Stalled,
    /// The broker does not answer for it.
    Unreachable,
    /// It waits for an operator (a recreated topic, say).
    Stopped,
}

impl Health {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ok => "ok",
            Self::Partial => "partial",
            Self::Lagging => "lagging",
            Self::Silent => "silent",
            Self::Stalled => "stalled",
            Self::Unreachable => "unreachable",
            Self::Stopped => "stopped",
        }
    }
}

/// What stands for broker time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TimeSource {
    /// LogAppendTime.
    Broker,
    /// CreateTime made non-decreasing: weaker, since producers can forge it. `message.timestamp.type=LogAppendTime` on the
    /// topic mends it.
    Producer,
}

/// One topic of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TopicStatus {
    /// Its name.
    pub name: String,
    /// Whether it is read.
    pub state: TopicState,
    /// Since when that is so.
    #[schema(value_type = String, format = DateTime)]
    pub since: Micros,
    /// Why it, or some of its partitions, is not read, and what helps, for a person.
    pub message: Option<String>,
    /// Whose time its newest records carry; missing before the first.
    pub time_source: Option<TimeSource>,
    /// How many partitions it has; missing until it was looked up.
    pub partitions: Option<u64>,
    /// Of those, how many are not read.
    pub unassigned: u64,
    /// Of those that are read, how many are held back because others are far behind them.
    pub paused: u64,
}

/// Whether a topic is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TopicState {
    /// It has not been looked up, or its partitions have not been begun.
    Starting,
    /// It is read.
    Read,
    /// It cannot be read just now; it is tried again.
    Waiting,
    /// There is no such topic; it is looked for again.
    Missing,
    /// It waits for an operator.
    Stopped,
}

impl TopicState {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Read => "read",
            Self::Waiting => "waiting",
            Self::Missing => "missing",
            Self::Stopped => "stopped",
        }
    }
}

/// One partition of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PartitionStatus {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub number: i32,
    /// The next offset to read; missing until it is known.
    pub position: Option<i64>,
    /// The offset behind the last record; missing until it is known.
    pub end: Option<i64>,
    /// Records between the two (holes in the offsets count).
    pub lag: u64,
    /// Its watermark.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub watermark: Option<Micros>,
    /// Events evaluated of it since the process began.
    pub events: u64,
    /// Events of it by clock flag.
    pub flags: BTreeMap<String, u64>,
    /// True if it is held back because others are far behind it.
    pub paused: bool,
}
