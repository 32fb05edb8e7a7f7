//! Episodes: from a crossing to its end, revision by revision.
//!
//! In: the witness of a crossing, then each event of the key while the episode is open. Out: when the next revision is due, and what it says.
//! Invariant: state is bounded whatever the number of events.

use vedette_event::{Flags, Micros, time::DAY};

use super::{
    tally::Tally,
    window::{Joining, Window, Witness},
};
use crate::{
    event::EventRef,
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
    /// Its events.
    pub tally: Tally,
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
            tally: Tally { matched: witness.matched.clone(), ..Tally::default() },
            steps: Vec::new(),
            pending: None,
            queued: Micros::MAX,
        };
        for event in &witness.events {
            episode.tally.event(event);
        }
        for value in &witness.values {
            episode.tally.values.add(*value, node.values_cap());
        }
        if node.kind == NodeKind::Ordered {
            episode.steps = witness.events.iter().map(|event| event.time).collect();
        }
        episode
    }

    /// Takes up what the events of its witness crossed that are child events.
    pub fn tell(&mut self, window: &Window, witness: &Witness, joining: &Joining<'_>) {
        match window {
            Window::Chain(chain) => self.tally.tell(chain.of(witness)),
            // Without a window of its own, the crossing event is all that is known.
            _ => self.tally.tell(joining.child),
        }
    }

    /// It rests on an estimate: what is not known of its events is taken from that.
    pub fn approximate(&mut self, estimate: u64) {
        let tally = &mut self.tally;
        (tally.count, tally.weight) = (estimate.max(1), estimate.max(1));
        tally.flags = tally.flags.with(Flags::APPROXIMATE);
    }

    /// Takes in a later event of the key; `full` if there is no room for more values.
    pub fn join(&mut self, node: &Node, joining: &Joining<'_>, holds: bool, full: bool) {
        self.tally.join(node, joining, if full { 0 } else { node.values_cap() });
        self.last_seen = joining.event.time;
        if holds {
            self.held = joining.event.time;
        }
        if self.pending.is_none() && !self.silent {
            self.pending = Some(interval_end(self.crossing.time, joining.event.time, node.update.0));
        }
    }

    /// All its flags.
    pub const fn flags(&self) -> Flags {
        let capped = if self.tally.values.more { Flags::CAPPED } else { Flags::NONE };
        self.tally.flags.with(capped)
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
