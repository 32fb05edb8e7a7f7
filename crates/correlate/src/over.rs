//! Over budget: new keys of a rule in a key group that is full.
//!
//! In: events of keys that have no room. Out: for counts, estimates that are never too low; for other types, whose place is taken.
//! Invariants: keys that have state are not touched, but for the oldest with one event where the type cannot be sketched; who
//! has room depends on nothing but the state of the key group and the event's time; memory is bounded.

use std::collections::{BTreeSet, VecDeque};

use vedette_event::{Micros, Order, Span, time::DAY};

use crate::{
    Health, body,
    emit::{Scope, key_of},
    episode::Phase,
    keys::{Entry, State},
    plan::{Node, NodeKind},
    prefixes::Prefixes,
    tree::NodeState,
    window::Window,
};

/// Panes of a timespan: what can be forgotten, and what sketches hold, is told apart by these.
const PANES: i64 = 8;
/// Panes that a sketch holds at most: those that a window can touch, and the one before.
pub const HELD: usize = PANES as usize + 2;
/// Rows of counters of a pane.
const ROWS: usize = 4;
/// Counters of a row at most.
pub const WIDEST: usize = 4_096;

/// The length of a pane.
pub fn pane(node: &Node) -> Span {
    let span = if node.span > Span::ZERO { node.span } else { node.rearm };
    Span((span.0.saturating_add(PANES - 1) / PANES).max(1))
}

/// Whether nothing in an entry can matter to an event at `now` or later; told only from pane to pane, so that it does not
/// depend on when somebody looks.
#[inline]
pub fn free(node: &Node, entry: &Entry, now: Micros) -> bool {
    let State::Sliding(window) = &entry.state else { return false };
    let now = now.floor(pane(node));
    let phase = match entry.phase {
        Phase::Open(_) => false,
        Phase::Cut(held) => held.plus(node.rearm) < now || held.midnight().plus(DAY).plus(DAY) <= now,
        Phase::None => true,
    };
    phase && window.expired(node, entry.newest, now)
}

/// A key that holds one event: that event's place in the total order, its bytes, its slot.
type Rank = (Order, Box<[u8]>, u32);

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
}

/// Counts of all keys that share it: a count-min sketch for each pane of time.
#[derive(Debug)]
pub struct Sketch {
    /// Counters of a row: a power of two.
    pub width: usize,
    /// By number, in order: rows of counters.
    pub panes: VecDeque<(i64, Box<[u32]>)>,
}

impl Sketch {
    /// An empty one for so many keys.
    pub fn new(budget: usize) -> Self {
        Self { width: budget.clamp(256, WIDEST).next_power_of_two(), panes: VecDeque::new() }
    }

    /// How many counters a pane has.
    pub const fn counters(&self) -> usize {
        self.width * ROWS
    }

    /// Where a key's counters are.
    fn places(width: usize, hash: u64) -> [usize; ROWS] {
        let step = (hash >> 32) | 1;
        let place = |row: usize| {
            row * width + (hash.wrapping_add(step.wrapping_mul(row as u64)) as usize & (width - 1))
        };
        std::array::from_fn(place)
    }

    /// The weight of a key's events in `(now − span, now]`, or more.
    pub fn estimate(&self, node: &Node, hash: u64, now: Micros) -> u64 {
        let (length, after) = (pane(node), now.minus(node.span));
        let touched = self.panes.iter().filter(|(number, _)| {
            number.saturating_add(1).saturating_mul(length.0).saturating_sub(1) > after.0
        });
        touched.fold(0, |sum, (_, counters)| {
            let of = Self::places(self.width, hash).into_iter();
            let least = of.map(|at| counters.get(at).copied().unwrap_or(u32::MAX)).min().unwrap_or(u32::MAX);
            // A full counter says nothing but that there were many.
            if least == u32::MAX { u64::MAX } else { u64::saturating_add(sum, u64::from(least)) }
        })
    }

    /// Counts an event, raising no counter higher than its key needs.
    pub fn add(&mut self, node: &Node, hash: u64, weight: u16, now: Micros) {
        let number = now.0.div_euclid(pane(node).0);
        if self.panes.back().is_none_or(|(newest, _)| *newest < number) {
            if self.panes.len() == HELD {
                self.panes.pop_front();
            }
            self.panes.push_back((number, vec![0; self.counters()].into()));
        }
        let places = Self::places(self.width, hash);
        let Some((_, counters)) = self.panes.back_mut() else { return };
        let least = places.iter().filter_map(|at| counters.get(*at)).min().copied().unwrap_or(0);
        let raised = least.saturating_add(u32::from(weight));
        for at in places {
            if let Some(counter) = counters.get_mut(at) {
                *counter = raised.max(*counter);
            }
        }
    }

    /// The start of its oldest pane.
    pub fn oldest(&self, node: &Node) -> Micros {
        let oldest = self.panes.front().map_or(0, |(number, _)| *number);
        Micros(oldest.saturating_mul(pane(node).0))
    }

    /// The end of its newest pane.
    pub fn newest(&self, node: &Node) -> Micros {
        let newest = self.panes.back().map_or(0, |(number, _)| *number);
        Micros(newest.saturating_add(1).saturating_mul(pane(node).0))
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
    pub group: u8,
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
    pub fn make_room(&mut self, scope: &Scope<'_>, node: &Node, group: u8, now: Micros) {
        if self.keys.size(group) < scope.budget && !self.over.contains_key(&group) {
            return;
        }
        let start = now.floor(pane(node));
        if self.swept == start {
            return;
        }
        self.swept = start;
        let gone = self.keys.iter().filter(|(_, entry)| free(node, entry, now)).map(|(slot, _)| slot);
        for slot in gone.collect::<Vec<_>>() {
            self.keys.remove(scope.hasher, slot);
        }
    }

    /// The estimate of a key in the sketch, with this event; `None` if it has no events there, or there is no sketch.
    pub fn shared(&mut self, node: &Node, arrival: &Arrival<'_>) -> Option<u64> {
        let sketch = self.over.get_mut(&arrival.group)?.sketch.as_mut()?;
        if sketch.estimate(node, arrival.hash, arrival.now) == 0 {
            return None;
        }
        sketch.add(node, arrival.hash, arrival.weight, arrival.now);
        Some(sketch.estimate(node, arrival.hash, arrival.now))
    }

    /// Where the event of a new key goes. The slot whose place it takes is the second.
    pub fn admit(
        &mut self,
        scope: &Scope<'_>,
        node: &Node,
        arrival: &Arrival<'_>,
        evicted: &mut u64,
    ) -> (Room, Option<u32>) {
        let group = arrival.group;
        // Of a key whose events are in the sketch, no exact count is possible.
        if let Some(estimate) = self.shared(node, arrival) {
            return (Room::Shared(estimate), None);
        }
        if self.keys.size(group) < scope.budget {
            return (Room::Own, None);
        }
        let over = self.over.entry(group).or_insert_with(|| Over::new(arrival.now, None));
        over.last = arrival.now.max(over.last);
        over.keys = over.keys.saturating_add(1);
        *evicted += 1;
        over.prefixes.add(body::prefix(&key_of(node, arrival.key)));
        if sketched(node) {
            let sketch = over.sketch.get_or_insert_with(|| Sketch::new(scope.budget));
            sketch.add(node, arrival.hash, arrival.weight, arrival.now);
            return (Room::Shared(sketch.estimate(node, arrival.hash, arrival.now)), None);
        }
        match self.oldest(node, group) {
            Some(slot) => (Room::Own, Some(slot)),
            None => (Room::No, None),
        }
    }

    /// The estimate of a known key that is only in the sketch, with this event; it gets a window of its own once it has no events there.
    #[inline]
    pub fn known(&mut self, node: &Node, slot: u32, arrival: &Arrival<'_>) -> Option<u64> {
        if !matches!(self.keys.get(slot)?.state, State::Sliding(Window::Shared)) {
            return None;
        }
        let estimate = self.shared(node, arrival);
        if estimate.is_none()
            && let Some(entry) = self.keys.get_mut(slot)
        {
            entry.state = State::Sliding(Window::new(node));
        }
        estimate
    }

    /// The key of a group that has one event only, and the oldest such.
    fn oldest(&mut self, node: &Node, group: u8) -> Option<u32> {
        let Self { keys, over, .. } = self;
        let single = over.get_mut(&group)?.single.get_or_insert_with(|| {
            let of_group = keys.iter().filter(|(_, entry)| entry.group == group);
            of_group.filter_map(|(slot, entry)| rank(node, entry, slot)).collect()
        });
        while let Some(first) = single.pop_first() {
            let Some(entry) = keys.get(first.2) else { continue };
            match rank(node, entry, first.2) {
                Some(now) if now == first => return Some(first.2),
                _ => {}
            }
        }
        None
    }

    /// After an event of a key: it may be one whose place others can take.
    #[inline]
    pub fn ranked(&mut self, node: &Node, slot: u32) {
        if self.over.is_empty() {
            return;
        }
        let Some(entry) = self.keys.get(slot) else { return };
        let (group, rank) = (entry.group, rank(node, entry, slot));
        let Some(over) = self.over.get_mut(&group) else { return };
        if let (Some(single), Some(rank)) = (&mut over.single, rank) {
            single.insert(rank);
            if single.len() > 4 * self.keys.size(group) + 64 {
                // Most of it is out of date: looked for again when it is needed.
                over.single = None;
            }
        }
    }

    /// Whether one more key may be over budget for the sake of its open episode.
    pub fn spare(&self, scope: &Scope<'_>, group: u8) -> bool {
        self.keys.size(group) < scope.budget + scope.budget / 4 + 16
    }

    /// Announces what began, and what is over.
    pub fn settle(&mut self, node: &Node, below: Micros, health: &mut Vec<Health>) {
        let rule = node.rule;
        self.over.retain(|group, over| {
            if !over.announced {
                over.announced = true;
                let prefixes = over.prefixes.top(TOP);
                health.push(Health::OverBudget { rule, group: *group, since: over.since, prefixes });
            }
            // What is in the sketch must stay as long as a window can reach it.
            let last = over.sketch.as_ref().map_or(over.last, |sketch| sketch.newest(node).max(over.last));
            let until = last.plus(node.span.max(pane(node))).plus(pane(node));
            if until >= below {
                return true;
            }
            if over.announced {
                health.push(Health::WithinBudget {
                    rule,
                    group: *group,
                    since: over.since,
                    until: over.last,
                    keys: over.keys,
                    prefixes: over.prefixes.top(TOP),
                });
            }
            false
        });
    }
}

/// Prefixes in an announcement.
const TOP: usize = 5;

/// The place of a key that holds one event only, among those that others can replace.
fn rank(node: &Node, entry: &Entry, slot: u32) -> Option<Rank> {
    let order = match (&entry.state, &entry.phase) {
        (State::Judged(window), _) => (window.count == 1).then(|| window.last.order()),
        (State::Sliding(Window::None), Phase::Open(episode)) => {
            (episode.count == 1).then(|| episode.crossing.order())
        }
        (State::Sliding(window), Phase::None) if !sketched(node) => window.single(entry.newest),
        _ => None,
    }?;
    Some((order, (*entry.key).into(), slot))
}
