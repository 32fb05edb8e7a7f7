//! Episodes: from a crossing to its end, revision by revision.
//!
//! In: the witness of a crossing, then each event of the key while the episode is open. Out: when the next revision is due, and what it says.
//! Invariant: state is bounded whatever the number of events.

use vedette_event::{Flags, Micros, time::DAY};

use super::{
    judged::Distinct,
    window::{Joining, Witness},
};
use crate::{
    event::{Bits, Ends, EventRef},
    plan::{Node, NodeKind},
};

/// Where a key stands.
#[derive(Debug, Default)]
pub enum Phase {
    /// No episode is open.
    #[default]
    None,
    /// Midnight cut an episode in which the condition last held then.
    Cut(Micros),
    /// An episode is open.
    Open(Box<Episode>),
}

/// An open episode.
#[derive(Debug, Clone)]
pub struct Episode {
    /// The crossing event.
    pub crossing: EventRef,
    /// Raises no alert: folded into a storm, or a child's within a chain.
    pub silent: bool,
    /// Goes on from one that midnight cut.
    pub continuation: bool,
    /// The last revision given.
    pub revision: u32,
    /// Time of the first event.
    pub first_seen: Micros,
    /// Time of the last event.
    pub last_seen: Micros,
    /// Time of the last event at which the condition held.
    pub held: Micros,
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
    /// `temporal_ordered`: times of the witness.
    pub steps: Vec<Micros>,
    /// When the revision of the running interval is due.
    pub pending: Option<Micros>,
    /// When its end is looked at next: no later than the end.
    pub queued: Micros,
}

/// A record of 1 MiB holds no longer list; only products of several lists do.
const MOST_OF_EVENT: usize = 1 << 19;

impl Node {
    /// How many distinct values of an episode are told apart.
    pub const fn values_cap(&self) -> u64 {
        if self.n > crate::body::VALUES { self.n } else { crate::body::VALUES }
    }

    /// How many values of one event are told apart: one more than of an episode, and so more than any comparison asks for.
    pub fn values_of_event(&self) -> usize {
        usize::try_from(self.values_cap())
            .map_or(MOST_OF_EVENT, |cap| cap.saturating_add(1).min(MOST_OF_EVENT))
    }
}

impl Episode {
    /// Opens with a witness.
    pub fn open(node: &Node, crossing: &EventRef, witness: &Witness) -> Self {
        let mut episode = Self {
            crossing: *crossing,
            silent: false,
            continuation: false,
            revision: 0,
            first_seen: witness.events.first().map_or(crossing.time, |first| first.time),
            last_seen: crossing.time,
            held: crossing.time,
            count: 0,
            weight: 0,
            flags: Flags::NONE,
            ends: Ends::default(),
            values: Distinct::default(),
            matched: witness.matched.clone(),
            steps: Vec::new(),
            pending: None,
            queued: Micros::MAX,
        };
        for event in &witness.events {
            episode.add(event);
        }
        for value in &witness.values {
            episode.values.add(*value, node.values_cap());
        }
        if node.kind == NodeKind::Ordered {
            episode.steps = witness.events.iter().map(|event| event.time).collect();
        }
        episode
    }

    /// It rests on an estimate: what is not known of its events is taken from that.
    pub fn approximate(&mut self, estimate: u64) {
        (self.count, self.weight) = (estimate.max(1), estimate.max(1));
        self.flags = self.flags.with(Flags::APPROXIMATE);
    }

    fn add(&mut self, event: &EventRef) {
        self.count = self.count.saturating_add(1);
        self.weight = self.weight.saturating_add(u64::from(event.weight));
        self.flags = self.flags.with(event.flags);
        self.last_seen = event.time;
        self.ends.push(event);
    }

    /// Takes in a later event of the key.
    pub fn join(&mut self, node: &Node, joining: &Joining<'_>, holds: bool) {
        self.add(joining.event);
        match node.kind {
            NodeKind::Distinct(_) => {
                for value in joining.values {
                    self.values.add(*value, node.values_cap());
                }
            }
            NodeKind::Temporal => {
                for at in joining.refs {
                    self.matched.set(usize::from(*at));
                }
            }
            NodeKind::Single | NodeKind::Count | NodeKind::Ordered => {}
        }
        if holds {
            self.held = joining.event.time;
        }
        if self.pending.is_none() && !self.silent {
            self.pending = Some(interval_end(self.crossing.time, joining.event.time, node.update.0));
        }
    }

    /// The first instant that is not its own: the 00:00 after its crossing.
    pub const fn midnight(&self) -> Micros {
        self.crossing.time.midnight().plus(DAY)
    }

    /// When it ends, as far as is known.
    pub fn end(&self, node: &Node) -> Micros {
        self.held.plus(node.rearm).min(self.midnight())
    }

    /// When its next revision is due.
    pub fn due(&self, node: &Node) -> Micros {
        let end = self.end(node);
        self.pending.filter(|pending| *pending < end).unwrap_or(end)
    }

    /// What its body calls `value`.
    pub fn value(&self, node: &Node) -> u64 {
        match node.kind {
            NodeKind::Single => 1,
            NodeKind::Count => self.weight,
            NodeKind::Distinct(_) => self.values.len(),
            NodeKind::Temporal => self.matched.count(),
            NodeKind::Ordered => node.refs.len() as u64,
        }
    }
}

/// The right end of the interval `(crossed + (k − 1)·update, crossed + k·update]` that holds `t`; the first also holds `crossed`.
pub const fn interval_end(crossed: Micros, t: Micros, update: i64) -> Micros {
    let since = t.since(crossed).0;
    let whole = since / update + if since % update > 0 || since == 0 { 1 } else { 0 };
    Micros(crossed.0.saturating_add(update.saturating_mul(whole)))
}

/// Whether an episode that crosses at `now` goes on from one that midnight cut.
pub fn continues(held: Micros, now: Micros, node: &Node) -> bool {
    held.midnight().plus(DAY) == now.midnight() && now.since(held) <= node.rearm
}
