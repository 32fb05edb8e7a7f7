//! What an alert over a chain tells of the episodes below it.
//!
//! In: a child's episode at its crossing. Out: [`ChildEvent`], which the parent keeps as long as that event is in its window or in its
//! evidence, and of which bodies are made.
//!
//! A child's episode is told as it was at its crossing, because that is what the parent's condition saw: one event, at that instant.
//! What it grew to later is its own alert's to say, and would have to be fetched for each revision of the parent, from a key that may
//! be forgotten by then.
//!
//! Invariants: a child event holds at most [`LISTED`] episodes, its own and those further down, the upper levels first, and a body lists
//! as many; what is kept of one is therefore never missing where a body would list it. An episode takes some 300 bytes (its references are
//! delta-coded), whatever its number of events.

use std::{collections::VecDeque, sync::Arc};

use vedette_event::{Flags, Micros, Order};

use crate::{
    event::{EventRef, Trail},
    keys::KeyBytes,
    plan::Node,
    step::{
        episode::Episode,
        window::{Joining, Window, Witness},
    },
};

/// Child episodes in one body, of all levels together. Ten events, each with ten below, are 110; five levels of ten would be a
/// hundred thousand.
pub const LISTED: usize = 128;
/// Levels of children. Rules have fewer.
pub const LEVELS: usize = 16;
/// Child events that are kept before somebody looks which of them are still needed.
pub const FEW: usize = 4;
/// Bytes of an episode as it is told.
pub const EPISODE: usize = 320;

/// An event that crossed children.
#[derive(Debug)]
pub struct ChildEvent {
    /// The event; neither its flags nor its weight.
    pub event: EventRef,
    /// The episodes that crossed: by the child's place in the rule, then by the key's text.
    pub episodes: Box<[ChildEpisode]>,
    /// How many there are down the whole chain, those that are not kept included.
    pub total: u64,
}

/// A child's episode at its crossing.
#[derive(Debug, Clone)]
pub struct ChildEpisode {
    /// Number of the child in its tree.
    pub node: u16,
    pub key: KeyBytes,
    pub first_seen: Micros,
    pub count: u64,
    pub value: u64,
    pub flags: Flags,
    /// Its first and last five events.
    pub evidence: Trail,
    /// What those of them crossed that were child events themselves.
    pub below: Box<[Arc<ChildEvent>]>,
}

impl ChildEpisode {
    /// What is told of an episode that has just crossed.
    pub fn new(at: usize, node: &Node, key: KeyBytes, episode: &Episode) -> Self {
        let tally = &episode.tally;
        let mut evidence = Trail::default();
        tally.ends.iter().for_each(|event| evidence.push(&event));
        Self {
            node: at as u16,
            key,
            first_seen: episode.first_seen,
            count: tally.count,
            value: tally.measured(node),
            flags: episode.flags(),
            evidence,
            below: tally.children.iter().cloned().collect(),
        }
    }
}

impl ChildEvent {
    /// The event with what it crossed.
    pub fn new(event: &EventRef, episodes: Vec<ChildEpisode>) -> Self {
        let below = |episode: &ChildEpisode| total(&episode.below).saturating_add(1);
        let total = episodes.iter().map(below).fold(0, u64::saturating_add);
        let event = EventRef { flags: Flags::NONE, weight: 1, ..*event };
        let whole = Self { event, episodes: episodes.into(), total };
        match Cut::of(std::slice::from_ref(&whole)) {
            Some(mut cut) => cut.event(&whole, 0),
            None => whole,
        }
    }

    /// Its place in the total order.
    pub const fn order(&self) -> Order {
        self.event.order()
    }

    /// Bytes of what it keeps.
    pub fn bytes(&self) -> usize {
        usize::try_from(self.total).map_or(LISTED, |total| total.min(LISTED)) * EPISODE
    }
}

/// How many episodes there are below some events.
pub fn total(events: &[Arc<ChildEvent>]) -> u64 {
    events.iter().map(|event| event.total).fold(0, u64::saturating_add)
}

/// Where a list of children ends that would be too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// So many levels are whole.
    whole: usize,
    /// So many are left of the next one, from its start.
    rest: usize,
}

impl Cut {
    /// The cut that some events need, if they need one.
    pub fn of<E: AsRef<ChildEvent>>(events: &[E]) -> Option<Self> {
        let mut widths = [0; LEVELS + 1];
        events.iter().for_each(|event| count(event.as_ref(), &mut widths));
        let mut room = LISTED;
        for (whole, width) in widths.iter().enumerate() {
            if *width > room || (whole == LEVELS && *width > 0) {
                return Some(Self { whole, rest: if whole < LEVELS { room } else { 0 } });
            }
            room -= width;
        }
        None
    }

    /// Whether an episode of a level is listed. Those of one level are asked for in order.
    pub const fn lists(&mut self, level: usize) -> bool {
        if level != self.whole {
            return level < self.whole;
        }
        let more = self.rest > 0;
        self.rest -= more as usize;
        more
    }

    /// What is listed of an event.
    fn event(&mut self, event: &ChildEvent, level: usize) -> ChildEvent {
        let mut episodes = Vec::new();
        for episode in event.episodes.iter() {
            if !self.lists(level) {
                break;
            }
            let below = episode.below.iter().map(|event| Arc::new(self.event(event, level + 1)));
            episodes.push(ChildEpisode { below: below.collect(), ..episode.clone() });
        }
        ChildEvent { event: event.event, episodes: episodes.into(), total: event.total }
    }
}

impl AsRef<Self> for ChildEvent {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// Adds the number of episodes of each level, as far down as a list can go.
fn count(event: &ChildEvent, widths: &mut [usize]) {
    let Some((width, below)) = widths.split_first_mut() else { return };
    *width = width.saturating_add(event.episodes.len());
    event.episodes.iter().flat_map(|episode| &*episode.below).for_each(|event| count(event, below));
}

/// The window of a rule over correlations: beside its events, what those of them crossed that are child events.
#[derive(Debug, Clone)]
pub struct ChainWindow {
    pub window: Window,
    children: VecDeque<Arc<ChildEvent>>,
    /// At so many it is looked for those that are no longer needed.
    look_at: usize,
}

impl ChainWindow {
    pub const fn new(window: Window, children: VecDeque<Arc<ChildEvent>>) -> Self {
        Self { window, children, look_at: FEW }
    }

    /// Takes in an event; whether the condition holds at it.
    pub fn push(&mut self, node: &Node, joining: &Joining<'_>) -> bool {
        let holds = self.window.push(node, joining);
        if let Some(child) = joining.child {
            self.children.push_back(Arc::clone(child));
            if self.children.len() >= self.look_at {
                let events = self.window.events().count();
                self.children = self.needed().cloned().collect();
                // So that looking costs no more than the events that came since.
                self.look_at = self.children.len() + events.max(FEW);
            }
        }
        holds
    }

    /// The child events that are in the window.
    pub fn needed(&self) -> impl Iterator<Item = &Arc<ChildEvent>> {
        let mut orders: Vec<Order> = self.window.events().map(|event| event.order()).collect();
        orders.sort_unstable();
        self.children.iter().filter(move |child| orders.binary_search(&child.order()).is_ok())
    }

    /// Bytes of the child events that are in the window.
    pub fn bytes(&self) -> usize {
        match (&self.window, self.children.is_empty()) {
            (_, true) => 0,
            // The window is what came last.
            (Window::Count { trail, .. }, _) => {
                let first = trail.front().map(|first| first.order());
                let inside = self.children.iter().rev().take_while(|child| Some(child.order()) >= first);
                inside.map(|child| child.bytes()).sum()
            }
            _ => self.needed().map(|child| child.bytes()).sum(),
        }
    }

    /// The child events of a witness.
    pub fn of(&self, witness: &Witness) -> impl Iterator<Item = &Arc<ChildEvent>> {
        // Both are in total order.
        self.children
            .iter()
            .filter(|child| witness.events.binary_search_by_key(&child.order(), EventRef::order).is_ok())
    }
}

/// How many child episodes are kept, in all windows and episodes, as often as they are.
#[cfg(test)]
pub fn kept(correlator: &crate::Correlator) -> usize {
    fn below(events: &[Arc<ChildEvent>]) -> usize {
        let episodes = events.iter().flat_map(|event| &event.episodes);
        episodes.map(|episode| 1 + below(&episode.below)).sum()
    }
    use crate::{keys::AnyWindow, step::episode::Phase};
    let trees = correlator.groups.iter().flat_map(crate::group::Group::trees);
    let keys = trees.flat_map(|(_, tree)| &tree.nodes).flat_map(|node| node.keys.iter());
    keys.map(|(_, key)| {
        let window = match &key.window {
            AnyWindow::Sliding(Window::Chain(chain)) => chain.children.iter().cloned().collect(),
            AnyWindow::Sliding(_) => Vec::new(),
            AnyWindow::Judged(window) => window.tally.children.clone(),
        };
        let episode = match &key.phase {
            Phase::Open(episode) => below(&episode.tally.children),
            Phase::None | Phase::Cut(_) => 0,
        };
        below(&window) + episode
    })
    .sum()
}
