//! Storms: when more than a thousand episodes of one rule cross in one clock hour, the rest become one alert.
//!
//! In: the crossings of a rule in total order (after a restore, those of each key group in total order). Out: whether a crossing
//! raises an alert of its own, and the storm alert's revisions.
//! Invariant: what a key group contributes is kept apart, so that key groups restored to different watermarks still
//! add up to what an uninterrupted run would have.

use std::collections::BTreeMap;

use vedette_event::{Flags, Micros, Order, Span, key_text, time::HOUR};

use crate::{
    body::{self, STORM_AFTER},
    episode::interval_end,
    event::{Ends, EventRef},
    plan::Node,
    prefixes::Prefixes,
};

/// How long a closed hour is kept for restarts.
const KEPT: Span = Span(2 * HOUR.0);

/// The crossings of one rule.
#[derive(Debug, Default)]
pub struct Storm {
    /// By the start of the hour.
    pub hours: BTreeMap<Micros, Hour>,
}

/// One clock hour.
#[derive(Debug, Default)]
pub struct Hour {
    /// By key group.
    pub parts: BTreeMap<u8, Part>,
    /// Once there is a storm.
    pub head: Option<Head>,
    /// Crossings that `parts` list.
    pub listed: u64,
    /// It is over, and kept only for key groups that come back from an earlier watermark after a restart.
    pub closed: bool,
}

/// What one key group contributes.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// Crossings that raised alerts, each with its key as JSON text, in this order: one event may cross at two keys.
    pub crossings: Vec<(EventRef, Box<str>)>,
    /// Episodes folded.
    pub folded: u64,
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

/// What becomes of a crossing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// An alert of its own.
    Alert,
    /// The first that is folded in its hour.
    First,
    /// Folded.
    Folded,
}

impl Storm {
    /// Takes in a crossing. Revisions due before `published` were given in an earlier life.
    pub fn cross(
        &mut self,
        node: &Node,
        event: &EventRef,
        (group, key): (u8, &dyn Fn() -> body::Key),
        published: Micros,
    ) -> Verdict {
        let hour = self.hours.entry(event.time.floor(HOUR)).or_default();
        let order = event.order();
        let key = key();
        let text = key_text(&key).into_boxed_str();
        let before = if hour.listed < STORM_AFTER { hour.listed } else { hour.before(order, &text) };
        let part = hour.parts.entry(group).or_default();
        if before < STORM_AFTER {
            part.crossings.push((*event, text));
            hour.listed += 1;
            return Verdict::Alert;
        }
        part.folded = part.folded.saturating_add(1);
        part.flags = part.flags.with(event.flags);
        if part.last != Some(order) {
            part.ends.push(event);
            part.last = Some(order);
        }
        part.prefixes.add(body::prefix(&key));
        match &mut hour.head {
            None => {
                hour.head = Some(Head { crossing: *event, revision: 0, pending: None });
                Verdict::First
            }
            Some(head) => {
                let due = interval_end(head.crossing.time, event.time, node.update.0);
                if head.pending.is_none() && due >= published {
                    head.pending = Some(due);
                }
                Verdict::Folded
            }
        }
    }

    /// When something is due next: the earliest hour to revise or to close.
    pub fn due(&self, node: &Node) -> Option<Micros> {
        self.hours.iter().map(|(start, hour)| hour.due(node, *start)).min()
    }
}

impl Hour {
    /// How many listed crossings come before this one.
    fn before(&self, order: Order, key: &str) -> u64 {
        let earlier = |known: &(EventRef, Box<str>)| (known.0.order(), &*known.1) < (order, key);
        self.parts.values().map(|part| part.crossings.partition_point(earlier) as u64).sum()
    }

    /// When it closes: at its end, or once the last judged window that overlaps it is judged.
    pub fn end(node: &Node, start: Micros) -> Micros {
        let end = start.plus(HOUR);
        if node.judged { end.minus(Span(1)).floor(node.span).plus(node.span).max(end) } else { end }
    }

    /// When it is to be revised or closed.
    pub fn due(&self, node: &Node, start: Micros) -> Micros {
        let end = Self::end(node, start);
        if self.closed {
            return end.plus(KEPT);
        }
        let pending = self.head.as_ref().and_then(|head| head.pending);
        pending.filter(|pending| !node.judged && *pending < end).unwrap_or(end)
    }

    /// Episodes folded.
    pub fn folded(&self) -> u64 {
        self.parts.values().map(|part| part.folded).fold(0, u64::saturating_add)
    }

    /// The flags of the folded crossings.
    pub fn flags(&self) -> Flags {
        self.parts.values().fold(Flags::NONE, |flags, part| flags.with(part.flags))
    }

    /// The first and last five of the folded crossing events.
    pub fn evidence(&self) -> Vec<EventRef> {
        let mut events: Vec<_> = self.parts.values().flat_map(|part| part.ends.iter()).collect();
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
        for (prefix, n) in self.parts.values().flat_map(|part| part.prefixes.iter()) {
            let episodes = all.entry(prefix).or_default();
            *episodes = episodes.saturating_add(n);
        }
        all.into_iter().map(|(prefix, n)| (prefix.to_owned(), n)).collect()
    }
}
