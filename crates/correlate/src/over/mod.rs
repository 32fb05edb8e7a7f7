//! Over budget: new keys of a rule in a key group that is full.
//!
//! In: events of keys that have no room. Out: for counts, estimates that are never too low; for other types, whose place is taken.
//! Invariants: keys that have state are not touched, but for the oldest with one event where the type cannot be sketched, and where
//! those that are there have grown beyond all room ([`NodeState::shrink`]); who has room depends on nothing but the state of the
//! key group and the event's time; memory is bounded.

pub mod budget;
pub mod prefixes;
pub mod sketch;

use std::collections::BTreeSet;

use vedette_event::{Micros, Order, Span, time::DAY};

use self::{budget::RuleBudget, prefixes::Prefixes, sketch::Sketch};
use crate::{
    HealthSignal,
    body::{self, key_of},
    codec::KeyHasher,
    keys::{AnyWindow, KeyState},
    plan::{Node, NodeKind},
    step::{NodeState, episode::Phase, window::Window},
};

/// Panes of a timespan: what can be forgotten, and what sketches hold, is told apart by these.
const PANES: i64 = 8;

/// The length of a pane.
pub fn pane(node: &Node) -> Span {
    let span = if node.span > Span::ZERO { node.span } else { node.rearm };
    Span((span.0.saturating_add(PANES - 1) / PANES).max(1))
}

/// Whether nothing kept of a key can matter to an event at `now` or later; told only from pane to pane, so that it does not
/// depend on when somebody looks.
#[inline]
pub fn free(node: &Node, state: &KeyState, now: Micros) -> bool {
    let AnyWindow::Sliding(window) = &state.window else { return false };
    let now = now.floor(pane(node));
    let phase = match state.phase {
        Phase::Open(_) => false,
        Phase::Cut(held) => held.plus(node.rearm) < now || held.midnight().plus(DAY).plus(DAY) <= now,
        Phase::None => true,
    };
    phase && window.expired(node, state.newest, now)
}

/// A key that holds one event: that event's place in the total order, the key's hash, its slot.
type Rank = (Order, u64, u32);

/// Of the keys that can go, so many go at once where those that are there have grown beyond all room: looking for them costs a look
/// at each key.
const AT_ONCE: usize = 16;

/// What a key group has beyond its budget.
#[derive(Debug)]
pub struct Over {
    /// When room was first missing.
    pub since: Micros,
    /// When room was last missing.
    pub last: Micros,
    /// Keys refused, dropped for others or put into the sketch.
    pub keys: u64,
    /// Where they came from.
    pub prefixes: Prefixes,
    /// Of counts.
    pub sketch: Option<Sketch>,
    /// Keys that hold one event, oldest first, once they were looked for.
    single: Option<BTreeSet<Rank>>,
    /// It was announced.
    announced: bool,
}

impl Over {
    /// Starts at an instant.
    pub fn new(since: Micros, sketch: Option<Sketch>) -> Self {
        let (last, prefixes) = (since, Prefixes::default());
        Self { since, last, keys: 0, prefixes, sketch, single: None, announced: false }
    }

    /// Takes note of a key without room.
    fn note(&mut self, node: &Node, budget: RuleBudget, key: &[u8], now: Micros) {
        self.last = now.max(self.last);
        self.keys = self.keys.saturating_add(1);
        self.prefixes.add(body::prefix(&key_of(node, key)), budget.prefixes);
    }

    /// The sketch of a rule whose events can be counted in one.
    fn sketch(&mut self, node: &Node, budget: RuleBudget) -> Option<&mut Sketch> {
        sketched(node).then(|| self.sketch.get_or_insert_with(|| Sketch::new(budget.width)))
    }
}

/// Where a new key goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It gets state of its own.
    Own,
    /// It is counted in the sketch; so much is there, with this event.
    Shared(u64),
    /// Nowhere.
    No,
}

/// An event of a key, as far as room is concerned.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    pub key: &'a [u8],
    pub hash: u64,
    pub now: Micros,
    pub weight: u16,
}

/// Whether events of a rule can be counted in a sketch.
pub fn sketched(node: &Node) -> bool {
    node.kind == NodeKind::Count && !node.judged
}

impl NodeState {
    /// Before a key is looked up: gives away all that is free, once a pane, where room is short.
    #[inline]
    pub fn make_room(&mut self, hasher: &KeyHasher, node: &Node, budget: RuleBudget, now: Micros) {
        if self.keys.entries() < budget.entries && self.over.is_none() {
            return;
        }
        let start = now.floor(pane(node));
        if self.swept != start {
            self.swept = start;
            self.keys.sweep(hasher, |state| free(node, state, now));
        }
    }

    /// The estimate of a key in the sketch, with this event; `None` if it has no events there, or there is no sketch.
    pub fn shared(&mut self, node: &Node, arrival: &Arrival<'_>) -> Option<u64> {
        let sketch = self.over.as_mut()?.sketch.as_mut()?;
        if sketch.estimate(node, arrival.hash, arrival.now) == 0 {
            return None;
        }
        sketch.add(node, arrival.hash, u64::from(arrival.weight), arrival.now);
        Some(sketch.estimate(node, arrival.hash, arrival.now))
    }

    /// Where the event of a new key goes. The slot whose place it takes is the second.
    pub fn admit(
        &mut self,
        hasher: &KeyHasher,
        node: &Node,
        budget: RuleBudget,
        arrival: &Arrival<'_>,
        evicted: &mut u64,
    ) -> (Room, Option<u32>) {
        // Of a key whose events are in the sketch, no exact count is possible.
        if let Some(estimate) = self.shared(node, arrival) {
            return (Room::Shared(estimate), None);
        }
        if self.entries() < budget.entries {
            return (Room::Own, None);
        }
        *evicted += 1;
        let over = self.over.get_or_insert_with(|| Box::new(Over::new(arrival.now, None)));
        over.note(node, budget, arrival.key, arrival.now);
        if let Some(sketch) = over.sketch(node, budget) {
            sketch.add(node, arrival.hash, u64::from(arrival.weight), arrival.now);
            return (Room::Shared(sketch.estimate(node, arrival.hash, arrival.now)), None);
        }
        match self.oldest(hasher, node) {
            Some(slot) => (Room::Own, Some(slot)),
            None => (Room::No, None),
        }
    }

    /// What the keys are charged for.
    pub fn entries(&self) -> usize {
        // What was closed goes when its timer fires, at the same instant.
        self.keys.entries() + self.closed.len()
    }

    /// Where those that are there have grown beyond all room, gives away keys without an open episode, those with one event
    /// first, then the oldest, but not the one that has just grown; counts are put into the sketch. How many there were.
    pub fn shrink(
        &mut self,
        hasher: &KeyHasher,
        node: &Node,
        budget: RuleBudget,
        slot: u32,
        now: Micros,
    ) -> u64 {
        let mut gone = 0;
        while self.entries() > budget.most && self.keys.idle() > 1 {
            let place = |(slot, state): (u32, &KeyState)| {
                let (several, order) = standing(state)?;
                Some((several, order, hasher.hash(&state.key), slot))
            };
            let mut all: Vec<_> = self.keys.iter().filter(|(at, _)| *at != slot).filter_map(place).collect();
            let some = all.len().div_ceil(AT_ONCE);
            if some < all.len() {
                all.select_nth_unstable(some);
            }
            if all.is_empty() {
                break;
            }
            let over = self.over.get_or_insert_with(|| Box::new(Over::new(now, None)));
            for (.., hash, slot) in all.into_iter().take(some) {
                let Some(state) = self.keys.get(slot) else { continue };
                over.note(node, budget, &state.key, now);
                if let (Some(sketch), AnyWindow::Sliding(window)) = (over.sketch(node, budget), &state.window)
                {
                    sketch.add(node, hash, window.weight(), now);
                }
                self.keys.remove(hasher, slot);
                gone += 1;
            }
        }
        gone
    }

    /// The estimate of a known key that is only in the sketch, with this event; it gets a window of its own once it has no events there.
    #[inline]
    pub fn known(&mut self, node: &Node, slot: u32, arrival: &Arrival<'_>) -> Option<u64> {
        if !matches!(self.keys.get(slot)?.window, AnyWindow::Sliding(Window::Shared)) {
            return None;
        }
        let estimate = self.shared(node, arrival);
        if estimate.is_none()
            && let Some(state) = self.keys.get_mut(slot)
        {
            state.window = AnyWindow::Sliding(Window::new(node));
        }
        estimate
    }

    /// The key that has one event only, and the oldest such.
    fn oldest(&mut self, hasher: &KeyHasher, node: &Node) -> Option<u32> {
        let Self { keys, over, .. } = self;
        let single = over.as_mut()?.single.get_or_insert_with(|| {
            keys.iter().filter_map(|(slot, state)| rank(hasher, node, state, slot)).collect()
        });
        while let Some(first) = single.pop_first() {
            let Some(state) = keys.get(first.2) else { continue };
            match rank(hasher, node, state, first.2) {
                Some(now) if now == first => return Some(first.2),
                _ => {}
            }
        }
        None
    }

    /// After an event of a key: it may be one whose place others can take.
    #[inline]
    pub fn ranked(&mut self, hasher: &KeyHasher, node: &Node, slot: u32) {
        let Some(Over { single: known @ Some(_), .. }) = self.over.as_deref_mut() else { return };
        let Some(state) = self.keys.get(slot) else { return };
        if let (Some(single), Some(rank)) = (known.as_mut(), rank(hasher, node, state, slot)) {
            single.insert(rank);
            if single.len() > 2 * self.keys.len() + 64 {
                // Most of it is out of date: looked for again when it is needed.
                *known = None;
            }
        }
    }

    /// Whether one more key may be over budget for the sake of its open episode.
    pub fn spare(&self, budget: RuleBudget) -> bool {
        self.entries() < budget.most
    }

    /// Announces what began, and what is over. True if it goes on.
    pub fn settle(&mut self, node: &Node, group: u8, below: Micros, health: &mut Vec<HealthSignal>) -> bool {
        let rule = node.rule;
        let Some(over) = &mut self.over else { return false };
        if !over.announced {
            over.announced = true;
            let prefixes = over.prefixes.top(TOP);
            health.push(HealthSignal::OverBudget { rule, group, since: over.since, prefixes });
        }
        // What is in the sketch must stay as long as a window can reach it.
        let last = over.sketch.as_ref().map_or(over.last, |sketch| sketch.newest(node).max(over.last));
        let until = last.plus(node.span.max(pane(node))).plus(pane(node));
        if until >= below {
            return true;
        }
        health.push(HealthSignal::WithinBudget {
            rule,
            group,
            since: over.since,
            until: over.last,
            keys: over.keys,
            prefixes: over.prefixes.top(TOP),
        });
        self.over = None;
        false
    }
}

/// Prefixes in an announcement.
const TOP: usize = 5;

/// The place of a key that holds one event only, among those that others can replace.
fn rank(hasher: &KeyHasher, node: &Node, state: &KeyState, slot: u32) -> Option<Rank> {
    let order = match (&state.window, &state.phase) {
        (AnyWindow::Judged(window), _) => (window.tally.count == 1).then(|| window.last.order()),
        (AnyWindow::Sliding(Window::None), Phase::Open(episode)) => {
            (episode.tally.count == 1).then(|| episode.crossing.order())
        }
        (AnyWindow::Sliding(window), Phase::None) if !sketched(node) => window.single(state.newest),
        _ => None,
    }?;
    Some((order, hasher.hash(&state.key), slot))
}

/// Of a key without an open episode: whether it holds several events, and the place of its first or, if it is judged, its last.
fn standing(state: &KeyState) -> Option<(bool, Order)> {
    match (&state.window, &state.phase) {
        (_, Phase::Open(_)) => None,
        (AnyWindow::Judged(window), _) => Some((window.tally.count > 1, window.last.order())),
        (AnyWindow::Sliding(window), _) => {
            let (first, several) = window.oldest(state.newest);
            Some((several, first))
        }
    }
}
