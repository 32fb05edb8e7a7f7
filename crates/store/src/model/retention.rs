//! How long what is kept, and what was removed.

use serde::Serialize;
use vedette_event::{Micros, Span};

/// How long each kind of thing is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Alerts and notices after they were closed.
    pub alerts: Span,
    /// Points of an alert's course, but for its newest.
    pub revisions: Span,
    /// The text of dead letters.
    pub dead_letters: Span,
    /// Counts of dead letters, health events.
    pub ledger: Span,
}

/// Where the log of a partition begins: no replay reads what is below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStart {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The first offset that is still there.
    pub offset: i64,
}

/// How much of something was removed on a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removal {
    /// `alerts`, `revisions`, `dead_letters`, `dead_letter_counts`, `health`, `placements`, `lake_events`, `lake_originals`.
    pub kind: String,
    /// The rule, source, topic or kind of health event.
    pub subject: String,
    /// The day (UTC).
    pub day: Micros,
    /// How many.
    pub count: u64,
}
