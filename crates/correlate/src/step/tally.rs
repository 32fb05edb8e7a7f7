//! What a body says of many events, in bounded memory: of an episode's, or of a judged window's.
//!
//! In: events in total order. Out: how many, their weight, flags, ends, distinct values, matched rules.
//! Invariant: state is bounded whatever the number of events.

use std::sync::Arc;

use hashbrown::HashTable;
use smallvec::SmallVec;
use vedette_event::{Flags, Order};

use super::window::Joining;
use crate::{
    chain::ChildEvent,
    event::{Bits, Ends, EventRef},
    plan::{Node, NodeKind},
};

/// What is counted over some events.
#[derive(Debug, Clone, Default)]
pub struct Tally {
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
    /// The referenced rules they matched (`temporal`).
    pub matched: Bits,
    /// What those of the first and last five crossed that are child events, in total order.
    pub children: Vec<Arc<ChildEvent>>,
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

impl Tally {
    /// Takes in an event, but not what it matched and which values it has.
    pub fn event(&mut self, event: &EventRef) {
        self.count = self.count.saturating_add(1);
        self.weight = self.weight.saturating_add(u64::from(event.weight));
        self.flags = self.flags.with(event.flags);
        self.ends.push(event);
    }

    /// Takes in an event; at most `cap` distinct values are told apart.
    pub fn join(&mut self, node: &Node, joining: &Joining<'_>, cap: u64) {
        self.event(joining.event);
        self.tell(joining.child);
        // Other kinds have none.
        for value in joining.values {
            self.values.add(*value, cap);
        }
        if node.kind == NodeKind::Temporal {
            for at in joining.refs {
                self.matched.set(usize::from(*at));
            }
        }
    }

    /// Keeps what events crossed that were taken in last, as long as they are among the first and last five.
    pub fn tell<'a>(&mut self, children: impl IntoIterator<Item = &'a Arc<ChildEvent>>) {
        self.children.extend(children.into_iter().cloned());
        if !self.children.is_empty() {
            let ends: SmallVec<[Order; 10]> = self.ends.iter().map(|event| event.order()).collect();
            self.children.retain(|child| ends.binary_search(&child.order()).is_ok());
        }
    }

    /// What the condition measures.
    pub fn measured(&self, node: &Node) -> u64 {
        match node.kind {
            NodeKind::Single => 1,
            NodeKind::Count => self.weight,
            NodeKind::Distinct(_) => self.values.len(),
            NodeKind::Temporal => self.matched.count(),
            NodeKind::Ordered => node.refs.len() as u64,
        }
    }
}
