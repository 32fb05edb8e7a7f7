//! Where detection and correlation meet: which events of a batch matched which rules.
//!
//! In: an [`EventBatch`] with its placements, and hits. Out: [`FindingBatch`], borrowed for the length of one push.

use crate::{
    batch::EventBatch,
    flags::Flags,
    order::{Incarnation, Order},
    rule::RuleIx,
    time::Micros,
};

/// One event matched one detection rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hit {
    /// Row of the batch.
    pub row: u32,
    /// The detection rule.
    pub rule: RuleIx,
}

/// The placed events of a batch and the rules they matched.
#[derive(Debug, Clone, Copy)]
pub struct FindingBatch<'a> {
    /// The events.
    pub batch: &'a EventBatch,
    /// The version of the rules that matched them, among those in force: hits have its numbers.
    pub version: usize,
    /// Their topic's incarnation.
    pub incarnation: Incarnation,
    /// `ts_event`, one a row.
    pub times: &'a [Micros],
    /// Flags, one a row.
    pub flags: &'a [Flags],
    /// Rows that a restart reads again and places later than the first time, and where they were the first time. Who was done
    /// with that instant has taken them in. Sorted by row; nearly always empty.
    pub moved: &'a [(u32, Micros)],
    /// Sorted by row, then rule; each pair once.
    pub hits: &'a [Hit],
}

impl FindingBatch<'_> {
    /// The event of a row in the total order.
    #[must_use]
    pub fn order(&self, row: usize) -> Order {
        Order {
            time: self.times[row],
            topic: self.batch.partition.topic,
            incarnation: self.incarnation,
            partition: self.batch.partition.number,
            offset: self.batch.offsets()[row],
            index: self.batch.indexes()[row],
        }
    }
}
