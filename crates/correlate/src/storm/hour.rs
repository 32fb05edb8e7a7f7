//! One clock hour of one rule: which of its episodes raise alerts, and what is known of the others.
//!
//! In: crossings, from each key group in total order. Out: the storm alert's content.
//! Invariant: what a key group contributes is kept apart, so that key groups restored to different watermarks still
//! add up to what an uninterrupted run would have.

use std::collections::BTreeMap;

use vedette_event::{Flags, Micros, Order, Span, time::HOUR};

use crate::{
    body::STORM_AFTER,
    event::{Ends, EventRef},
    over::prefixes::Prefixes,
    plan::Tree,
};

/// How long a closed hour is kept for restarts.
const KEPT: Span = Span(2 * HOUR.0);

/// The place of a crossing among those of its rule: one event may cross at two keys, which are told apart by their JSON text.
pub type Turn = (Order, Box<str>);

/// One clock hour.
#[derive(Debug, Clone, Default)]
pub struct Hour {
    /// The first crossings, as many as raise alerts of their own: the event, and the key group it crossed in.
    pub first: BTreeMap<Turn, (EventRef, u8)>,
    /// What the others contribute, by key group.
    pub folded: BTreeMap<u8, Folded>,
    /// Once there is a storm.
    pub head: Option<Head>,
    /// It is over, and kept only for key groups that come back from an earlier watermark after a restart.
    pub closed: bool,
}

/// What the folded episodes of one key group contribute.
#[derive(Debug, Clone, Default)]
pub struct Folded {
    /// How many.
    pub episodes: u64,
    /// The first and last five of their crossing events, each once.
    pub ends: Ends,
    /// The last of them.
    pub last: Option<Order>,
    /// Their flags.
    pub flags: Flags,
    /// Their prefixes.
    pub prefixes: Prefixes,
}

/// The storm alert.
#[derive(Debug, Clone)]
pub struct Head {
    /// The crossing of the first episode folded.
    pub crossing: EventRef,
    /// The last revision given.
    pub revision: u32,
    /// When the revision of the running interval is due.
    pub pending: Option<Micros>,
}

impl Folded {
    /// Takes in an episode.
    pub fn add(&mut self, crossing: &EventRef, prefix: String, room: usize) {
        self.episodes = self.episodes.saturating_add(1);
        self.flags = self.flags.with(crossing.flags);
        if self.last != Some(crossing.order()) {
            self.ends.push(crossing);
            self.last = Some(crossing.order());
        }
        self.prefixes.add(prefix, room);
    }
}

impl Hour {
    /// Takes note of a crossing, in any order. True if another is behind as many as raise alerts because of it.
    pub fn note(&mut self, place: Turn, event: EventRef, group: u8) -> bool {
        if self.behind(&place) {
            return false;
        }
        self.first.insert(place, (event, group));
        if self.first.len() as u64 > STORM_AFTER {
            self.first.pop_last();
            return true;
        }
        false
    }

    /// The last of those that raise alerts, once there are as many as may.
    pub fn last(&self) -> Option<&Turn> {
        let full = self.first.len() as u64 >= STORM_AFTER;
        self.first.last_key_value().filter(|_| full).map(|(last, _)| last)
    }

    /// Whether as many come before as raise alerts, of those that are known. It stays so whatever else comes to be known.
    pub fn behind(&self, place: &Turn) -> bool {
        self.last().is_some_and(|last| place > last)
    }

    /// When it closes: at its end, or once the last judged window that overlaps it is judged; with its rule at the latest.
    pub fn end(tree: &Tree, start: Micros) -> Micros {
        let (node, end) = (tree.last(), start.plus(HOUR));
        let end =
            if node.judged { end.minus(Span(1)).floor(node.span).plus(node.span).max(end) } else { end };
        end.min(tree.until)
    }

    /// When it is to be revised, closed or forgotten.
    pub fn due(&self, tree: &Tree, start: Micros) -> Micros {
        let end = Self::end(tree, start);
        if self.closed {
            return end.plus(KEPT);
        }
        let pending = self.head.as_ref().and_then(|head| head.pending);
        pending.filter(|pending| !tree.judged() && *pending < end).unwrap_or(end)
    }

    /// Episodes folded.
    pub fn episodes(&self) -> u64 {
        self.folded.values().map(|folded| folded.episodes).fold(0, u64::saturating_add)
    }

    /// The flags of the folded crossings.
    pub fn flags(&self) -> Flags {
        self.folded.values().fold(Flags::NONE, |flags, folded| flags.with(folded.flags))
    }

    /// The first and last five of the folded crossing events.
    pub fn evidence(&self) -> Vec<EventRef> {
        let mut events: Vec<_> = self.folded.values().flat_map(|folded| folded.ends.iter()).collect();
        events.sort_unstable_by_key(EventRef::order);
        events.dedup_by_key(|event| event.order());
        let mut ends = Ends::default();
        for event in &events {
            ends.push(event);
        }
        ends.iter().collect()
    }

    /// How many episodes were folded under each prefix.
    pub fn prefixes(&self) -> Vec<(String, u64)> {
        let mut all: BTreeMap<&str, u64> = BTreeMap::new();
        for (prefix, n) in self.folded.values().flat_map(|folded| folded.prefixes.iter()) {
            let episodes = all.entry(prefix).or_default();
            *episodes = episodes.saturating_add(n);
        }
        all.into_iter().map(|(prefix, n)| (prefix.to_owned(), n)).collect()
    }
}
