//! The lake's catalog: which files hold which events, and up to where.

use vedette_event::{Incarnation, Micros};

/// One file of the lake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LakeFile {
    /// Where it is, below the lake's place.
    pub path: String,
    /// By which layout it was written.
    pub layout: u32,
    /// The source of all its events.
    pub source: String,
    /// Hours since 1970 of its events' times.
    pub hour: i64,
    /// The first time of an event.
    pub earliest: Micros,
    /// The last.
    pub latest: Micros,
    /// How many events.
    pub events: u64,
    /// Its size.
    pub bytes: u64,
    /// When it was written.
    pub written_at: Micros,
}

/// Up to where a partition is in the lake.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LakePosition {
    /// The topic.
    pub topic: String,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// The partition.
    pub partition: i32,
    /// The first offset that is not in it.
    pub next_offset: i64,
    /// The newest broker's time before that offset; none before the first record.
    pub newest_log: Option<Micros>,
}
