//! Notices: what is known before it is final.
//!
//! In: findings as they are read, and the released state of their key. Out: notices.
//! Invariant: a rule announces no more in a clock hour than can become alerts. That is counted for all key groups together: it is
//! no part of any body, so groups on different threads may count a few more.

mod ahead;

use std::collections::BTreeMap;

use vedette_event::{Flags, Micros, Notice, time::HOUR};

pub use self::ahead::{Ahead, KEYS_WITH_MOST, NOTICE_ENTRY, Unreleased};
use self::ahead::{Sighting, alone};
use crate::{
    group::{Agenda, Group},
    intake::payload::Payload,
    pending::Held,
    plan::{Node, Tree},
    step::{
        Context, TreeState,
        walk::{AtKey, Scratch, Taken, Walk},
        window::Joining,
    },
};

/// Keys looked at ahead, by the end of the second of their last event as far as it was known then. Each is there once, so that
/// forgetting costs as much as was read, however many keys there are.
#[derive(Debug, Default)]
pub struct Fading(BTreeMap<Micros, Vec<(u32, u16, u64)>>);

impl Fading {
    const SECOND: vedette_event::Span = vedette_event::time::SECOND;

    fn add(&mut self, last: Micros, key: (u32, u16, u64)) {
        self.0.entry(last.floor(Self::SECOND).plus(Self::SECOND)).or_default().push(key);
    }

    /// When the first may be forgotten: once all before was released.
    pub fn first(&self) -> Option<Micros> {
        self.0.first_key_value().map(|(end, _)| *end)
    }
}

/// What a rule has announced, by the clock hour of the crossing.
pub type Announced = BTreeMap<Micros, u64>;

/// One tree of a key group, looked at ahead.
struct Look<'a> {
    cx: &'a Context<'a>,
    at: u32,
    tree: &'a Tree,
    state: &'a mut TreeState,
    agenda: &'a mut Agenda,
    unreleased: Unreleased,
    announced: &'a mut Announced,
    notices: &'a mut Vec<Notice>,
    hash: Option<u64>,
}

impl AtKey for Look<'_> {
    fn take(&mut self, at: usize, node: &Node, key: Option<&[u8]>, joining: &Joining<'_>) -> Taken {
        let Some(state) = self.state.nodes.get_mut(at) else { return Taken::No };
        if node.judged {
            return Taken::No;
        }
        let root = at + 1 == self.tree.nodes.len();
        let found = match key {
            Some(bytes) => {
                let hash = self.hash.unwrap_or_else(|| self.cx.hasher.hash(bytes));
                let known = state.keys.find(hash, bytes).and_then(|slot| state.keys.get(slot));
                let ahead = state.ahead.get_or_insert_default();
                let before = ahead.entries();
                let hours = root.then_some(&*self.announced);
                let found = ahead.look(node, (bytes, hash), known, joining, self.unreleased, hours);
                self.agenda.remembered = self.agenda.remembered + ahead.entries() - before;
                self.unreleased.room = (self.unreleased.room + before).saturating_sub(ahead.entries());
                if ahead.is_empty() {
                    // There was no room.
                    state.ahead = None;
                }
                if found.fresh {
                    self.agenda.fading.add(joining.event.time, (self.at, at as u16, hash));
                }
                found
            }
            None => {
                let announce = alone(node, joining.event, self.announced);
                Sighting { crosses: true, announce, fresh: false }
            }
        };
        if let Some(episode) = &found.announce {
            *self.announced.entry(episode.crossing.time.floor(HOUR)).or_default() += 1;
            let notice = self.cx.bodies().notice(self.tree, key.unwrap_or_default(), episode);
            self.notices.push(notice);
        }
        Taken::Yes(found.crosses.then_some(Flags::NONE))
    }
}

/// Where notices go: what their rule has announced already, and the notices.
#[derive(Debug)]
pub struct Announcing<'a> {
    pub announced: &'a mut Announced,
    pub notices: &'a mut Vec<Notice>,
}

impl Group {
    /// Looks at an event that is not final.
    pub fn look(
        &mut self,
        cx: &Context<'_>,
        held: &Held,
        payload: &[u8],
        (unreleased, to): (Unreleased, Announcing<'_>),
        scratch: &mut Scratch,
    ) {
        let at = held.tree;
        let below = unreleased.below.max(self.mark(at));
        let Some(tree) = cx.plan.trees.get(at as usize) else { return };
        let Some((state, agenda)) = self.at(at, tree) else { return };
        let Announcing { announced, notices } = to;
        let unreleased = Unreleased { below, ..unreleased };
        let mut look = Look { cx, at, tree, state, agenda, unreleased, announced, notices, hash: held.hash };
        let payload = Payload::read(payload, tree);
        Walk { tree, hasher: cx.hasher, event: &held.event, payload: &payload }.all(scratch, &mut look);
        self.drop_if_empty(at);
    }

    /// Forgets what was only looked at ahead and is released by now.
    pub fn fade(&mut self, set: usize, below: Micros) {
        while let Some(first) = self.agendas.get_mut(set).and_then(|agenda| {
            let first = agenda.fading.0.first_entry()?;
            (*first.key() <= below).then(|| first.remove())
        }) {
            for key in first {
                let last = self.fade_key(set, key, below);
                if let (Some(last), Some(agenda)) = (last, self.agendas.get_mut(set)) {
                    agenda.fading.add(last, key);
                }
            }
        }
    }

    /// One key; when it is to be asked for again.
    fn fade_key(&mut self, set: usize, (at, node, hash): (u32, u16, u64), below: Micros) -> Option<Micros> {
        let state = self.kept(at)?;
        let place = state.nodes.get_mut(usize::from(node))?;
        let ahead = place.ahead.as_mut()?;
        let before = ahead.entries();
        let last = ahead.fade(hash, below);
        let forgotten = before - ahead.entries();
        if ahead.is_empty() {
            place.ahead = None;
        }
        self.drop_if_empty(at);
        if let Some(agenda) = self.agendas.get_mut(set) {
            agenda.remembered -= forgotten;
        }
        last
    }
}
