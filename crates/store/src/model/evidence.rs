//! What the records say that alerts and notices refer to.

use vedette_event::{Evidence, Incarnation};

/// An alert or notice whose evidence is not complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwaitingEvidence {
    /// The alert or notice.
    pub id: String,
    /// Place of its last change in commit order.
    pub seq: i64,
    /// Its references of which nothing is known yet.
    pub missing: Vec<Evidence>,
    /// Of those of which nothing is known, the ones in a topic that is another one now: their records are gone.
    pub gone: Vec<Evidence>,
}

/// What was read back for one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceOf {
    /// The alert or notice.
    pub id: String,
    /// Contents of some or all of its references.
    pub contents: Vec<EvidenceContent>,
}

/// What one reference refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceContent {
    /// Topic.
    pub topic: String,
    /// Which of the topics of that name.
    pub incarnation: Incarnation,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Index within the record.
    pub index: u32,
    /// What became of it.
    pub content: Content,
}

/// What became of a record that a row refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The event, as JSON or text, masked.
    Present(String),
    /// The log has deleted it.
    Gone,
    /// It was read and cannot be decoded, for this reason (which holds no value of the record).
    Undecodable(String),
}
