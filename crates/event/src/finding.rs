//! Where detection and correlation meet: which events of a batch matched which rules.
//!
//! In: an [`EventBatch`], its hits, and where its events are placed. Out: [`PlacedBatch`].

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

/// A placed batch: events with their place in the total order, and the rules they matched. Whoever goes on with events from there
/// takes this one value; it owns its parts, so that it can be handed on, or shared, without a copy.
#[derive(Debug, Clone)]
pub struct PlacedBatch {
    /// The events.
    pub events: EventBatch,
    /// The version of the rules that matched them, among those in force: hits have its numbers.
    pub version: usize,
    /// Their topic's incarnation.
    pub incarnation: Incarnation,
    /// `ts_event`, one a row.
    pub times: Vec<Micros>,
    /// Flags, one a row.
    pub flags: Vec<Flags>,
    /// Rows that a restart reads again and places later than the first time, and where they were the first time. Who was done
    /// with that instant has taken them in. Sorted by row; nearly always empty.
    pub moved: Vec<(u32, Micros)>,
    /// Rows before this one have no time that anything could be correlated by: they meet rules of one event only.
    pub undated: usize,
    /// Sorted by row, then rule; each pair once.
    pub hits: Vec<Hit>,
}

impl PlacedBatch {
    /// The event of a row in the total order.
    #[must_use]
    #[inline]
    pub fn order(&self, row: usize) -> Order {
        Order {
            time: self.times[row],
            topic: self.events.partition.topic,
            incarnation: self.incarnation,
            partition: self.events.partition.number,
            offset: self.events.offsets()[row],
            index: self.events.indexes()[row],
        }
    }

    /// Where a row was the first time, if it is placed elsewhere now.
    #[must_use]
    #[inline]
    pub fn moved_from(&self, row: usize) -> Option<Micros> {
        let at = self.moved.binary_search_by_key(&row, |(row, _)| *row as usize).ok()?;
        self.moved.get(at).map(|(_, first)| *first)
    }
}
