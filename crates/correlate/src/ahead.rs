//! Looking ahead: conditions over the events read so far, before they are final.
//!
//! In: findings as they are read, and the released state of their key. Out: notices.
//! Invariants: nothing in here reaches an alert; only keys with unreleased findings are held; a key is announced when its
//! condition holds at an event that the episode in progress, as far as is known, will not take in.

use std::sync::Arc;

use hashbrown::HashTable;
use smallvec::SmallVec;
use vedette_event::{Micros, Notice, Order, alert::Number, time::HOUR};

use crate::{
    Output, body,
    body::{Detail, STORM_AFTER},
    emit::{Scope, key_of},
    episode::{Episode, Phase},
    event::EventRef,
    keys::{Entry, State},
    plan::{Node, Tree},
    window::{Joining, Window},
};

/// Unreleased events of one key that are kept to be put in order.
const KEPT: usize = 256;

/// The keys of one rule that have unreleased findings.
#[derive(Debug, Default)]
pub struct Ahead {
    keys: HashTable<Looking>,
    /// Notices in the clock hour.
    said: (Micros, u64),
}

/// One key, as if all that was read were final.
#[derive(Debug)]
struct Looking {
    key: SmallVec<[u8; 24]>,
    hash: u64,
    window: Window,
    /// Unreleased events, in order.
    seen: Vec<Seen>,
    last: Order,
    /// The last event at which the condition held, while an episode goes on.
    held: Option<Micros>,
}

/// What an event brought.
#[derive(Debug)]
struct Seen {
    event: EventRef,
    refs: SmallVec<[u16; 4]>,
    values: SmallVec<[u64; 2]>,
}

impl Looking {
    /// Starts from the released state of the key.
    fn new(node: &Node, key: &[u8], hash: u64, entry: Option<&Entry>, first: Order) -> Self {
        let held = match entry.map(|entry| &entry.phase) {
            Some(Phase::Open(episode)) => Some(episode.held),
            _ => None,
        };
        Self {
            key: SmallVec::from_slice(key),
            hash,
            window: released(node, entry),
            seen: Vec::new(),
            last: first,
            held,
        }
    }

    /// Takes in an event in its place; whether the condition holds at it or at a later one that was read before.
    fn push(
        &mut self,
        node: &Node,
        entry: Option<&Entry>,
        joining: &Joining<'_>,
        released_below: Micros,
    ) -> bool {
        let order = joining.event.order();
        let late = order < self.last;
        if self.seen.len() < KEPT {
            let at = self.seen.partition_point(|seen| seen.event.order() < order);
            self.seen.insert(
                at,
                Seen {
                    event: *joining.event,
                    refs: SmallVec::from_slice(joining.refs),
                    values: SmallVec::from_slice(joining.values),
                },
            );
        }
        if !late || self.seen.len() == KEPT {
            self.last = order.max(self.last);
            return self.window.push(node, joining);
        }
        self.seen.retain(|seen| seen.event.time >= released_below);
        self.window = released(node, entry);
        let mut holds = false;
        for seen in &self.seen {
            let joining = Joining { event: &seen.event, refs: &seen.refs, values: &seen.values };
            holds |= self.window.push(node, &joining) && seen.event.order() >= order;
        }
        holds
    }
}

/// A copy of the released window.
fn released(node: &Node, entry: Option<&Entry>) -> Window {
    match entry.map(|entry| &entry.state) {
        Some(State::Sliding(window)) if !matches!(window, Window::Shared) => window.clone(),
        _ => Window::new(node),
    }
}

impl Ahead {
    /// Takes in an event of a key; whether its condition holds there, and no episode takes it in.
    pub fn look(
        &mut self,
        node: &Node,
        (key, hash): (&[u8], u64),
        entry: Option<&Entry>,
        joining: &Joining<'_>,
        released_below: Micros,
    ) -> Option<Episode> {
        let order = joining.event.order();
        let found = self.keys.find_mut(hash, |looking| looking.key.as_slice() == key);
        let looking = match found {
            Some(looking) => looking,
            None => {
                let fresh = Looking::new(node, key, hash, entry, order);
                self.keys.insert_unique(hash, fresh, |looking| looking.hash).into_mut()
            }
        };
        if !looking.push(node, entry, joining, released_below) {
            return None;
        }
        let time = joining.event.time;
        let open = looking
            .held
            .is_some_and(|held| time <= held.plus(node.rearm) && held.midnight() == time.midnight());
        looking.held = Some(looking.held.map_or(time, |held| held.max(time)));
        if open {
            return None;
        }
        let witness = looking.window.witness(node, joining.event);
        Some(Episode::open(node, joining.event, 0, &witness))
    }

    /// Forgets keys all of whose events were released.
    pub fn forget(&mut self, below: Micros) {
        self.keys.retain(|looking| looking.last.time >= below);
    }

    /// Announces a crossing of a tree's root, but never more in an hour than would raise alerts.
    pub fn announce(
        &mut self,
        scope: &Scope<'_>,
        tree: &Tree,
        key: &[u8],
        episode: &Episode,
        out: &mut Output,
    ) {
        let Some(node) = tree.nodes.last() else { return };
        let (rule, crossing) = (scope.plan.rules.get(tree.root), &episode.crossing);
        let hour = crossing.time.floor(HOUR);
        if self.said.0 != hour {
            self.said = (hour, 0);
        }
        self.said.1 += 1;
        if self.said.1 > STORM_AFTER {
            return;
        }
        let key = key_of(node, key);
        let incarnation = scope.topics.incarnation(crossing.topic);
        let identity = scope.identity(tree, &key, crossing.order(), incarnation);
        let value = episode.value(node);
        out.notices.push(Notice {
            notice_id: blake3::keyed_hash(b"vedette: a notice, not an alert.", identity.as_bytes())
                .to_hex()
                .as_str()
                .into(),
            rule_ix: tree.root,
            rule: Arc::clone(&tree.rule_ref),
            entity: body::entity(rule, &key),
            crossed_at: crossing.time,
            count: episode.count,
            value: Number::Int(value),
            severity: rule.level,
            summary: body::summary(rule, &key, episode.count, value, &Detail::Plain),
            evidence: scope.evidence(std::slice::from_ref(crossing)),
            key,
        });
    }
}
