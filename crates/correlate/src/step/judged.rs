//! Aligned windows, judged when they end.
//!
//! In: the events of one key and window, in total order. Out: whether the condition held over all of them, and what the body says.

use vedette_event::Micros;

use super::{tally::Tally, window::Joining};
use crate::{event::EventRef, plan::Node};

/// One key's window so far.
#[derive(Debug, Clone)]
pub struct Judged {
    /// Its start.
    pub start: Micros,
    /// Time of its first event.
    pub first_seen: Micros,
    /// Its last event: the crossing event, if the condition holds.
    pub last: EventRef,
    /// Its events.
    pub tally: Tally,
}

impl Judged {
    /// A window that starts with this event.
    pub fn new(node: &Node, joining: &Joining<'_>) -> Self {
        let mut judged = Self {
            start: joining.event.time.floor(node.span),
            first_seen: joining.event.time,
            last: *joining.event,
            tally: Tally::default(),
        };
        judged.push(node, joining);
        judged
    }

    /// Takes in an event of the window.
    pub fn push(&mut self, node: &Node, joining: &Joining<'_>) {
        self.last = *joining.event;
        // One more than the greatest number in the condition tells all comparisons apart.
        self.tally.join(node, joining, node.values_cap().saturating_add(1));
    }

    /// Whether all comparisons hold.
    pub fn holds(&self, node: &Node) -> bool {
        let measured = self.tally.measured(node);
        node.condition.iter().all(|(cmp, n)| cmp.holds(&measured, n))
    }

    /// The end of the window.
    pub const fn end(&self, node: &Node) -> Micros {
        self.start.plus(node.span)
    }
}
