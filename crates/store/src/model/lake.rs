//! The lake's catalog: which files hold which events, and up to where.

use serde::Serialize;
use vedette_event::{Incarnation, Micros};

use super::LostInterval;

/// One file of the lake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LakeFile {
    /// Where it is, below the lake's place.
    pub path: String,
    /// By which layout it was written.
    pub layout: u32,
    /// What it holds.
    pub holds: Holds,
    /// The source of all its events.
    pub source: String,
    /// Hours since 1970 of its events' times.
    pub hour: i64,
    /// The first time of an event.
    pub earliest: Micros,
    /// The last.
    pub latest: Micros,
    /// How many events, or originals of such.
    pub events: u64,
    /// Its size.
    pub bytes: u64,
    /// The size of the skip index beside it; 0 where there is none.
    pub index_bytes: u64,
    /// When it was written.
    pub written_at: Micros,
}

impl LakeFile {
    /// The size of all that is kept of it.
    #[must_use]
    pub const fn stored(&self) -> u64 {
        self.bytes.saturating_add(self.index_bytes)
    }
}

/// What a file of the lake holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Holds {
    /// Events, sorted by time.
    #[default]
    Events,
    /// Records as they came, sorted by where they stood; each belongs to an event, which is in another file.
    Originals,
}

impl Holds {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Originals => "originals",
        }
    }

    pub(crate) fn of(text: &str) -> Self {
        if text == Self::Originals.text() { Self::Originals } else { Self::Events }
    }
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
    /// The hash of the record before that offset; none before the first, or where an older version has written this.
    pub last_hash: Option<[u8; 32]>,
    /// All that the broker had taken by then is before that offset, as far as is known.
    pub through: Option<Micros>,
}

/// Why events are in the lake no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// They were as old as they were to be.
    Age,
    /// There was no more room.
    Size,
}

impl DropReason {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Size => "size",
        }
    }
}

/// What was dropped of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LakeDrop {
    /// The source.
    pub source: String,
    /// Of what.
    pub holds: Holds,
    /// Why.
    pub why: DropReason,
    /// Some of its events, or their originals, up to this time are gone.
    pub through: Micros,
    /// How many, in all.
    pub events: u64,
    /// When some were dropped last.
    pub at: Micros,
}

/// A file that the catalog names no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeavingFile {
    /// Where it is, below the lake's place.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Since when it is not named.
    pub left_at: Micros,
}

/// The catalog at one moment: what is before the positions is in the files, but for what was dropped or lost, and nothing else is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LakeCatalog {
    /// Those of events, by source and time.
    pub files: Vec<LakeFile>,
    /// Those of originals, by source and time.
    pub originals: Vec<LakeFile>,
    /// By topic, incarnation and partition.
    pub positions: Vec<LakePosition>,
    /// By source.
    pub dropped: Vec<LakeDrop>,
    /// Records that were deleted before the lake had read them, by topic, incarnation, partition and offset.
    pub lost: Vec<LostInterval>,
}
