//! Aligned windows, judged when they end.
//!
//! In: the events of one key and window, in total order. Out: whether the condition held over all of them, and what the body says.

use hashbrown::HashTable;
use vedette_event::{Flags, Micros};

use super::window::Joining;
use crate::{
    event::{Bits, Ends, EventRef},
    plan::{Node, NodeKind},
};

/// One key's window so far.
#[derive(Debug, Clone)]
pub struct Judged {
    /// Its start.
    pub start: Micros,
    /// Time of its first event.
    pub first_seen: Micros,
    /// Its last event: the crossing event, if the condition holds.
    pub last: EventRef,
    /// How many events.
    pub count: u64,
    /// Their weight.
    pub weight: u64,
    /// Their flags.
    pub flags: Flags,
    /// The first and last five.
    pub ends: Ends,
    /// Their distinct values.
    pub values: Distinct,
    /// The referenced rules they matched.
    pub matched: Bits,
}

/// Distinct values, counted up to a cap.
#[derive(Debug, Clone, Default)]
pub struct Distinct {
    pub seen: HashTable<u64>,
    /// There were more than the cap.
    pub more: bool,
}

impl Distinct {
    /// Adds a value, unless there are `cap` others already.
    pub fn add(&mut self, value: u64, cap: u64) {
        if self.seen.find(value, |known| *known == value).is_some() {
            return;
        }
        if self.seen.len() as u64 >= cap {
            self.more = true;
            return;
        }
        self.seen.insert_unique(value, value, |value| *value);
    }

    /// How many there are, up to the cap.
    pub fn len(&self) -> u64 {
        self.seen.len() as u64
    }
}

impl Judged {
    /// A window that starts with this event.
    pub fn new(node: &Node, joining: &Joining<'_>) -> Self {
        let mut judged = Self {
            start: joining.event.time.floor(node.span),
            first_seen: joining.event.time,
            last: *joining.event,
            count: 0,
            weight: 0,
            flags: Flags::NONE,
            ends: Ends::default(),
            values: Distinct::default(),
            matched: Bits::default(),
        };
        judged.push(node, joining);
        judged
    }

    /// Takes in an event of the window.
    pub fn push(&mut self, node: &Node, joining: &Joining<'_>) {
        self.last = *joining.event;
        self.count = self.count.saturating_add(1);
        self.weight = self.weight.saturating_add(u64::from(joining.event.weight));
        self.flags = self.flags.with(joining.event.flags);
        self.ends.push(joining.event);
        // One more than the greatest number in the condition tells all comparisons apart.
        let cap = node.values_cap().saturating_add(1);
        for value in joining.values {
            self.values.add(*value, cap);
        }
        if node.kind == NodeKind::Temporal {
            for at in joining.refs {
                self.matched.set(usize::from(*at));
            }
        }
    }

    /// What the condition measures, exactly as far as the condition can tell.
    pub fn measured(&self, node: &Node) -> u64 {
        match node.kind {
            NodeKind::Count => self.weight,
            NodeKind::Distinct(_) => self.values.len(),
            NodeKind::Temporal => self.matched.count(),
            NodeKind::Single | NodeKind::Ordered => self.count,
        }
    }

    /// Whether all comparisons hold.
    pub fn holds(&self, node: &Node) -> bool {
        let measured = self.measured(node);
        node.condition.iter().all(|(cmp, n)| cmp.holds(&measured, n))
    }

    /// The end of the window.
    pub const fn end(&self, node: &Node) -> Micros {
        self.start.plus(node.span)
    }
}
