//! One rule tree at work: its keys, its timers, its storm.
//!
//! In: the events that concern it in total order, and how far time has come. Out: revisions.
//! Invariants: a timer due at `t` fires after all events at or before `t` and before any later one; trees share nothing.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use vedette_event::{Flags, Micros, State as Liveness, key_text};

use crate::{
    Counters, GROUPS, Output,
    ahead::{self, Ahead, Unreleased},
    emit::{Scope, key_of},
    episode::{Episode, Phase, continues},
    event::EventRef,
    judged::Judged,
    keys::{Entry, Key, Keys, SWEEP, State},
    over::{Arrival, Over, Room, free},
    payload::{self, Payload},
    plan::{From, Node, NodeKind, Tree},
    storm::{Storm, Verdict},
    timers::Timer,
    window::{Joining, Window},
};

/// So many keys are in the cache anyway.
const CACHED: u32 = 4_096;

/// The state of one rule of the tree.
#[derive(Debug, Default)]
pub struct NodeState {
    /// Its keys.
    pub keys: Keys,
    /// Judged windows that a later event of their key closed before their timer: key, group, window.
    pub closed: Vec<(Key, u8, Judged)>,
    /// What is over budget, by key group.
    pub over: BTreeMap<u8, Over>,
    /// The pane in which all keys were last looked at for room.
    pub swept: Micros,
    /// Twice the events seen, to take turns.
    events: u32,
    /// Its keys with unreleased findings, as if all that was read were final.
    pub ahead: Ahead,
}

/// The state of a tree.
#[derive(Debug)]
pub struct TreeState {
    /// As in the plan.
    pub nodes: Vec<NodeState>,
    pub timers: BinaryHeap<Reverse<Timer>>,
    /// Ends of judged windows that are open, by node.
    pub judge: BTreeSet<(Micros, u32)>,
    /// The root's crossings.
    pub storm: Storm,
    /// No later than the next thing due.
    pub next: Micros,
    /// Watermarks that key groups were restored with.
    pub restored: Option<Box<[Micros; GROUPS as usize]>>,
    /// The highest of them: revisions of storms due before were given already.
    pub published: Micros,
    /// Of the root, since they were last collected.
    pub counters: Counters,
    /// The same of the plan's inner rules.
    pub inner: Vec<Counters>,
    scratch: Scratch,
}

/// Memory reused from event to event.
#[derive(Debug, Default)]
struct Scratch {
    key: Vec<u8>,
    refs: Vec<u16>,
    values: Vec<u64>,
    crossed: Vec<Option<Flags>>,
    /// What became of the event, by node.
    became: Vec<Option<Taken>>,
}

/// What became of an event at one key of one rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// Skipped: already done before a restart, or no room.
    No,
    /// Took part; if it crossed, not as a continuation, with what is to be known of that.
    Yes(Option<Flags>),
}

impl TreeState {
    /// The empty state of a tree.
    pub fn new(tree: &Tree) -> Self {
        Self {
            nodes: tree.nodes.iter().map(|_| NodeState::default()).collect(),
            timers: BinaryHeap::new(),
            judge: BTreeSet::new(),
            storm: Storm::default(),
            next: Micros::MAX,
            restored: None,
            published: Micros::MIN,
            counters: Counters::default(),
            inner: vec![Counters::default(); tree.inner.len()],
            scratch: Scratch::default(),
        }
    }

    /// Whether a key group has done with this instant before a restart.
    #[inline]
    pub fn skips(&self, group: u8, time: Micros) -> bool {
        time < self.published && time < self.mark(group)
    }

    /// Up to where a key group had come before a restart.
    fn mark(&self, group: u8) -> Micros {
        let marks = self.restored.as_ref();
        marks.and_then(|marks| marks.get(usize::from(group)).copied()).unwrap_or(Micros::MIN)
    }

    /// Brings a key into the cache, where there are more than fit.
    #[inline]
    pub fn touch(&self, hash: u64) -> Option<u32> {
        match &self.nodes[..] {
            [node] if node.keys.len() > CACHED => node.keys.touch(hash),
            _ => None,
        }
    }

    /// Brings the entry into the cache that `touch` found.
    #[inline]
    pub fn touch_entry(&self, slot: u32) -> u64 {
        self.nodes.first().map_or(0, |node| node.keys.touch_entry(slot))
    }

    /// Takes in the next event in total order.
    pub fn event(
        &mut self,
        scope: &Scope<'_>,
        tree: &Tree,
        event: &EventRef,
        payload: &[u8],
        out: &mut Output,
    ) {
        self.advance(scope, tree, Some(event.time), out);
        let (taken, skipped) = self.walk(scope, tree, event, payload, out);
        if taken {
            self.counters.matched += 1;
            self.counters.flagged += u64::from(!event.flags.is_empty());
        } else if !skipped {
            self.counters.without_key += 1;
        }
    }

    /// One event at all rules of the tree: whether it took part in any, and whether it was skipped in any.
    pub fn walk(
        &mut self,
        scope: &Scope<'_>,
        tree: &Tree,
        event: &EventRef,
        payload: &[u8],
        out: &mut Output,
    ) -> (bool, bool) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let payload = Payload::read(payload, tree);
        scratch.crossed.clear();
        scratch.crossed.resize(tree.nodes.len(), None);
        let inner = scope.ahead.is_none() && !tree.inner.is_empty();
        scratch.became.clear();
        let (mut taken, mut skipped) = (false, false);
        for at in 0..tree.nodes.len() {
            let became = self.node(scope, tree, at, event, &payload, &mut scratch, out);
            if inner {
                scratch.became.push(became);
            }
            match became {
                Some(Taken::Yes(crossed)) => {
                    taken = true;
                    if let Some(slot) = scratch.crossed.get_mut(at) {
                        *slot = crossed;
                    }
                }
                Some(Taken::No) => skipped = true,
                None => {}
            }
        }
        if inner {
            self.count_inner(tree, &payload, event, &scratch.became);
        }
        self.scratch = scratch;
        (taken, skipped)
    }

    /// Counts an event for the inner rules that it concerns, as [`Self::event`] does for the root.
    fn count_inner(
        &mut self,
        tree: &Tree,
        payload: &Payload<'_>,
        event: &EventRef,
        became: &[Option<Taken>],
    ) {
        for (inner, counters) in tree.inner.iter().zip(&mut self.inner) {
            let mut of = inner.nodes.iter().filter_map(|at| became.get(*at).copied().flatten());
            if of.clone().any(|taken| matches!(taken, Taken::Yes(_))) {
                counters.matched += 1;
                counters.flagged += u64::from(!event.flags.is_empty());
            } else if of.next().is_none() && inner.detections.iter().any(|bit| payload.matched.contains(bit))
            {
                counters.without_key += 1;
            }
        }
    }

    /// Counts an event that has no key in any rule of the tree; `matched` are the numbers of its detections.
    pub fn keyless(&mut self, tree: &Tree, matched: impl Iterator<Item = u16> + Clone) {
        self.counters.without_key += 1;
        for (inner, counters) in tree.inner.iter().zip(&mut self.inner) {
            counters.without_key += u64::from(matched.clone().any(|bit| inner.detections.contains(&bit)));
        }
    }

    /// One event at one rule: all keys it has there.
    #[expect(clippy::too_many_arguments, reason = "the parts of one step, borrowed separately")]
    fn node(
        &mut self,
        scope: &Scope<'_>,
        tree: &Tree,
        at: usize,
        event: &EventRef,
        payload: &Payload<'_>,
        scratch: &mut Scratch,
        out: &mut Output,
    ) -> Option<Taken> {
        let node = tree.nodes.get(at)?;
        if node.kind == NodeKind::Single {
            let joining = Joining { event, refs: &[], values: &[] };
            return Some(self.take_part(scope, tree, at, payload.entity, &joining, out));
        }
        scratch.refs.clear();
        let (mut direct, mut flags) = (false, event.flags);
        for (ix, r) in node.refs.iter().enumerate() {
            let matches = match r.from {
                From::Detection(bit) => payload.matched.contains(&bit),
                From::Node(child) => {
                    let crossed = scratch.crossed.get(child).copied().flatten();
                    flags = flags.with(crossed.unwrap_or_default());
                    crossed.is_some()
                }
            };
            if matches {
                direct |= matches!(r.from, From::Detection(_));
                scratch.refs.push(ix as u16);
            }
        }
        if scratch.refs.is_empty() {
            return None;
        }
        scratch.values.clear();
        if let NodeKind::Distinct(slots) = &node.kind {
            payload::values(
                slots.iter().filter_map(|slot| payload.slots.get(*slot)),
                scope.hasher,
                node.values_of_event(),
                &mut scratch.values,
            );
            if scratch.values.is_empty() {
                return None;
            }
        }
        // A child's event weighs 1.
        let event = EventRef { weight: if direct { event.weight } else { 1 }, flags, ..*event };
        if let [recipe] = &node.recipes[..] {
            scratch.key.clear();
            payload.key(recipe, &mut scratch.key)?;
            let joining = Joining { event: &event, refs: &scratch.refs, values: &scratch.values };
            return Some(self.take_part(scope, tree, at, Some(&scratch.key), &joining, out));
        }
        self.several_keys(scope, tree, at, (&event, payload), scratch, out)
    }

    /// An event whose matched rules may give different keys: in each group it takes part for the rules that gave its key.
    fn several_keys(
        &mut self,
        scope: &Scope<'_>,
        tree: &Tree,
        at: usize,
        (event, payload): (&EventRef, &Payload<'_>),
        scratch: &Scratch,
        out: &mut Output,
    ) -> Option<Taken> {
        let node = tree.nodes.get(at)?;
        let mut groups: Vec<(Vec<u8>, Vec<u16>)> = Vec::new();
        for ix in &scratch.refs {
            let recipe = node.refs.get(usize::from(*ix)).and_then(|r| node.recipes.get(r.recipe))?;
            let mut key = Vec::new();
            if payload.key(recipe, &mut key).is_none() {
                continue;
            }
            match groups.iter_mut().find(|(known, _)| *known == key) {
                Some((_, refs)) => refs.push(*ix),
                None => groups.push((key, vec![*ix])),
            }
        }
        if groups.len() > 1 {
            groups.sort_by_cached_key(|(key, _)| key_text(&key_of(node, key)));
        }
        let mut taken = None;
        for (key, refs) in &groups {
            let direct = refs.iter().any(|ix| {
                node.refs.get(usize::from(*ix)).is_some_and(|r| matches!(r.from, From::Detection(_)))
            });
            let event = EventRef { weight: if direct { event.weight } else { 1 }, ..*event };
            let joining = Joining { event: &event, refs, values: &scratch.values };
            taken = match (taken, self.take_part(scope, tree, at, Some(key), &joining, out)) {
                (Some(Taken::Yes(a)), Taken::Yes(b)) => Some(Taken::Yes(a.or(b))),
                (Some(Taken::Yes(a)), Taken::No) => Some(Taken::Yes(a)),
                (_, now) => Some(now),
            };
        }
        taken
    }

    /// One event at one key. Without a key, it is an episode of its own.
    fn take_part(
        &mut self,
        scope: &Scope<'_>,
        tree: &Tree,
        at: usize,
        key: Option<&[u8]>,
        joining: &Joining<'_>,
        out: &mut Output,
    ) -> Taken {
        let Some(node) = tree.nodes.get(at) else { return Taken::No };
        let (bytes, named) = (key.unwrap_or_default(), key.is_some());
        let hash = scope.hasher.hash(bytes);
        let group = payload::group(scope.hasher, node, bytes, hash);
        let now = joining.event.time;
        if self.skips(group, now) {
            return Taken::No;
        }
        if let Some(unreleased) = scope.ahead {
            let below = unreleased.below.max(self.mark(group));
            return self.look(scope, tree, at, (key, hash), joining, Unreleased { below, ..unreleased }, out);
        }
        self.forget(scope, node, at, now);
        let Some(state) = self.nodes.get_mut(at) else { return Taken::No };
        state.make_room(scope, node, group, now);
        let arrival = Arrival { key: bytes, hash, group, now, weight: joining.event.weight };
        let known = if named { state.keys.find(hash, bytes) } else { None };
        let (slot, estimate) = match known {
            Some(slot) => (slot, state.known(node, slot, &arrival)),
            None => match self.enter(scope, tree, at, (named, &arrival), joining, out) {
                Ok(entered) => entered,
                Err(taken) => return taken,
            },
        };
        let taken = if !node.judged {
            self.slide(scope, tree, at, (slot, estimate), joining, out)
        } else {
            if known.is_some() {
                self.judged(node, at, slot, joining);
            }
            Taken::Yes(None)
        };
        if let Some(state) = self.nodes.get_mut(at) {
            state.ranked(node, slot);
        }
        taken
    }

    /// The slot of a new key, and what the sketch says of it if it is counted there; or that it gets no slot.
    fn enter(
        &mut self,
        scope: &Scope<'_>,
        tree: &Tree,
        at: usize,
        (named, arrival): (bool, &Arrival<'_>),
        joining: &Joining<'_>,
        out: &mut Output,
    ) -> Result<(u32, Option<u64>), Taken> {
        let (Some(node), Some(state)) = (tree.nodes.get(at), self.nodes.get_mut(at)) else {
            return Err(Taken::No);
        };
        let (room, replaced) = state.admit(scope, node, arrival, &mut self.counters.evicted);
        if let Some(slot) = replaced {
            if let Some(Entry { phase: Phase::Open(episode), group, key, .. }) = state.keys.get_mut(slot)
                && !episode.silent
            {
                scope.revise(tree, (*group, key), episode, Liveness::Ended, out);
            }
            state.keys.remove(scope.hasher, slot);
        }
        let (fresh, estimate) = match room {
            Room::No => return Err(Taken::No),
            Room::Shared(estimate) if estimate < node.n => return Err(Taken::Yes(None)),
            Room::Shared(estimate) if state.spare(scope, arrival.group) => {
                (State::Sliding(Window::Shared), Some(estimate))
            }
            Room::Shared(_) => {
                self.counters.evicted += 1;
                return Err(Taken::Yes(None));
            }
            Room::Own if node.judged => {
                let fresh = Judged::new(node, joining);
                self.judge.insert((fresh.end(node), at as u32));
                self.next = self.next.min(fresh.end(node));
                (State::Judged(Box::new(fresh)), None)
            }
            Room::Own => (State::Sliding(Window::new(node)), None),
        };
        Ok((state.keys.insert(arrival.hash, arrival.key, arrival.group, named, fresh), estimate))
    }

    /// Says when a key group goes over budget, and when that is over.
    pub fn settle(&mut self, tree: &Tree, below: Micros, out: &mut Output) {
        for (node, state) in tree.nodes.iter().zip(&mut self.nodes).filter(|(_, s)| !s.over.is_empty()) {
            state.settle(node, below, &mut out.health);
        }
    }

    /// One event at one key, before it is final.
    #[expect(clippy::too_many_arguments, reason = "the parts of one step, borrowed separately")]
    fn look(
        &mut self,
        scope: &Scope<'_>,
        tree: &Tree,
        at: usize,
        (key, hash): (Option<&[u8]>, u64),
        joining: &Joining<'_>,
        unreleased: Unreleased,
        out: &mut Output,
    ) -> Taken {
        let (Some(node), Some(state)) = (tree.nodes.get(at), self.nodes.get_mut(at)) else {
            return Taken::No;
        };
        if node.judged {
            return Taken::No;
        }
        let root = at + 1 == tree.nodes.len();
        let found = match key {
            Some(bytes) => {
                let entry = state.keys.find(hash, bytes).and_then(|slot| state.keys.get(slot));
                state.ahead.look(node, (bytes, hash), entry, joining, unreleased, root)
            }
            None => ahead::Found { crosses: true, announce: state.ahead.alone(node, joining.event) },
        };
        if let Some(episode) = &found.announce {
            ahead::announce(scope, tree, key.unwrap_or_default(), episode, out);
        }
        Taken::Yes(found.crosses.then_some(Flags::NONE))
    }

    /// What is remembered of unreleased events, in entries.
    pub fn ahead(&self) -> usize {
        self.nodes.iter().map(|node| node.ahead.entries()).sum()
    }

    /// Forgets what was only looked at ahead and is released by now.
    pub fn released(&mut self, below: Micros) {
        for node in &mut self.nodes {
            node.ahead.forget(below);
        }
    }

    /// A later event of a key of a judged rule.
    fn judged(&mut self, node: &Node, at: usize, slot: u32, joining: &Joining<'_>) {
        let Some(state) = self.nodes.get_mut(at) else { return };
        let Some(Entry { state: State::Judged(window), key, group, .. }) = state.keys.get_mut(slot) else {
            return;
        };
        if window.start == joining.event.time.floor(node.span) {
            window.push(node, joining);
            return;
        }
        // An event exactly at the window's end comes before the timer that judges it.
        let fresh = Judged::new(node, joining);
        self.judge.insert((fresh.end(node), at as u32));
        self.next = self.next.min(fresh.end(node));
        state.closed.push((key.clone(), *group, std::mem::replace(window, fresh)));
    }

    /// One event at one key of a sliding rule.
    fn slide(
        &mut self,
        scope: &Scope<'_>,
        tree: &Tree,
        at: usize,
        (slot, estimate): (u32, Option<u64>),
        joining: &Joining<'_>,
        out: &mut Output,
    ) -> Taken {
        let (Some(node), Some(state)) = (tree.nodes.get(at), self.nodes.get_mut(at)) else {
            return Taken::No;
        };
        let Some(entry) = state.keys.get_mut(slot) else { return Taken::No };
        let State::Sliding(window) = &mut entry.state else { return Taken::No };
        let event = joining.event;
        let holds = window.push(node, joining) || estimate.is_some_and(|estimate| estimate >= node.n);
        entry.newest = event.time;
        if let Phase::Open(episode) = &mut entry.phase
            && event.time >= episode.midnight()
        {
            let held = episode.held;
            if !episode.silent {
                scope.revise(tree, (entry.group, &entry.key), episode, Liveness::Ended, out);
            }
            entry.phase = Phase::Cut(held);
        }
        let mut crossed = false;
        let mut due = None;
        match &mut entry.phase {
            Phase::Open(episode) => {
                episode.join(node, joining, holds);
                due = Some(episode.due(node)).filter(|due| *due < episode.queued);
                if let Some(due) = due {
                    episode.queued = due;
                }
            }
            phase if holds => {
                let witness = window.witness(node, event);
                let mut episode = Episode::open(node, event, &witness);
                if let Some(estimate) = estimate {
                    episode.approximate(estimate);
                }
                episode.continuation =
                    matches!(phase, Phase::Cut(held) if continues(*held, event.time, node));
                crossed = !episode.continuation;
                if at + 1 < tree.nodes.len() {
                    episode.silent = true;
                } else {
                    let key = || key_of(node, &entry.key);
                    let verdict = self.storm.cross(node, event, (entry.group, &key), self.published);
                    episode.silent = verdict != Verdict::Alert;
                    if verdict == Verdict::Alert {
                        scope.revise(tree, (entry.group, &entry.key), &mut episode, Liveness::Active, out);
                    }
                    self.stormy(scope, tree, event.time, verdict, out);
                }
                episode.queued = episode.due(node);
                due = Some(episode.queued);
                let Some(entry) = self.nodes.get_mut(at).and_then(|state| state.keys.get_mut(slot)) else {
                    return Taken::No;
                };
                entry.phase = Phase::Open(Box::new(episode));
            }
            Phase::None | Phase::Cut(_) => {}
        }
        if let Some(due) = due {
            self.queue(at, slot, due);
        }
        let flags = if estimate.is_some() { Flags::APPROXIMATE } else { Flags::NONE };
        Taken::Yes(crossed.then_some(flags))
    }

    /// After a crossing: the storm's own crossing, and when it is due.
    fn stormy(&mut self, scope: &Scope<'_>, tree: &Tree, time: Micros, verdict: Verdict, out: &mut Output) {
        let Some(node) = tree.nodes.last() else { return };
        let start = time.floor(vedette_event::time::HOUR);
        let Some(hour) = self.storm.hours.get_mut(&start) else { return };
        self.next = self.next.min(hour.due(node, start));
        if verdict != Verdict::First || node.judged || time < self.published {
            return;
        }
        if let Some(mut head) = hour.head.take() {
            head.revision = 1;
            scope.storm(tree, start, hour, &head, Liveness::Active, out);
            hour.head = Some(head);
        }
    }

    /// Now and then looks at some keys and forgets what can no longer matter: two keys an event.
    #[inline]
    fn forget(&mut self, scope: &Scope<'_>, node: &Node, at: usize, now: Micros) {
        let Some(state) = self.nodes.get_mut(at) else { return };
        state.events = state.events.wrapping_add(2);
        if node.judged || state.events % SWEEP != 0 {
            return;
        }
        state.keys.sweep(scope.hasher, |entry| free(node, entry, now));
    }
}
