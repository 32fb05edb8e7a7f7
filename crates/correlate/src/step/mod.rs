//! What happens at one key of one rule: an event arrives, or something falls due.
//!
//! In: events in total order, timers. Out: revisions, crossings and counts, in a [`Report`].
//! Invariants: nothing outside the key group is changed; whether a revision is for nothing, since its episode is folded into a storm, is
//! asked of [`Storms`], which says so only where it is certain.

pub mod episode;
pub mod judged;
mod slide;
pub mod tally;
pub mod timers;
mod wake;
pub mod walk;
pub mod window;

use std::sync::Arc;

use vedette_event::{Micros, State as Liveness, Topics, time::HOUR};

use self::{
    episode::Phase,
    judged::Judged,
    timers::{Due, Timer},
    walk::{AtKey, Taken},
    window::{Joining, Window},
};
use crate::{
    body::{Bodies, STORM_AFTER},
    chain::{ChildEpisode, ChildEvent},
    codec::KeyHasher,
    event::EventRef,
    group::Agenda,
    keys::{AnyWindow, KeyBytes, Keys},
    notices::Ahead,
    over::{Arrival, Over, Room, budget::Budgets},
    plan::{Node, NodeInput, Plan, Tree},
    report::Report,
    storm::Storms,
};

/// What every step may look at, whatever its key group.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    pub plan: &'a Plan,
    pub topics: &'a Topics,
    pub hasher: &'a KeyHasher,
    pub budgets: &'a Budgets,
    pub storms: &'a Storms,
}

impl<'a> Context<'a> {
    pub const fn bodies(&self) -> Bodies<'a> {
        Bodies { plan: self.plan, topics: self.topics }
    }
}

/// What is kept of one rule of a tree.
#[derive(Debug, Default)]
pub struct NodeState {
    /// Its keys.
    pub keys: Keys,
    /// Judged windows that a later event of their key closed before their timer.
    pub closed: Vec<(KeyBytes, Judged)>,
    /// The end of the last judged window that has a timer.
    pub judging: Option<Micros>,
    /// What is over budget.
    pub over: Option<Box<Over>>,
    /// The pane in which all keys were last looked at for room.
    pub swept: Micros,
    /// Its keys with unreleased findings, as if all that was read were final.
    pub ahead: Option<Box<Ahead>>,
}

impl NodeState {
    fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.closed.is_empty() && self.over.is_none() && self.ahead.is_none()
    }
}

/// What a key group keeps of a tree.
#[derive(Debug)]
pub struct TreeState {
    /// As in the plan.
    pub nodes: Box<[NodeState]>,
    /// It has a timer for looking for what can be forgotten.
    pub sweeping: bool,
    /// How many of its root's episodes crossed in the hour that begins then.
    crossed: (Micros, u64),
}

impl TreeState {
    /// The empty state of a tree.
    pub fn new(tree: &Tree) -> Self {
        Self {
            nodes: tree.nodes.iter().map(|_| NodeState::default()).collect(),
            sweeping: false,
            crossed: (Micros::MIN, 0),
        }
    }

    /// Whether nothing is kept any more.
    pub fn is_empty(&self) -> bool {
        self.nodes.iter().all(NodeState::is_empty)
    }
}

/// One tree of a key group, about to change.
#[derive(Debug)]
pub struct Step<'a> {
    pub cx: &'a Context<'a>,
    pub at: u32,
    pub tree: &'a Tree,
    pub group: u8,
    pub state: &'a mut TreeState,
    pub agenda: &'a mut Agenda,
    pub report: &'a mut Report,
    /// Hash of the event's key, if it has one only.
    pub hash: Option<u64>,
    /// Episodes of rules that others refer to, which crossed at the event.
    pub crossed: Vec<ChildEpisode>,
}

impl AtKey for Step<'_> {
    fn take(&mut self, at: usize, node: &Node, key: Option<&[u8]>, joining: &Joining<'_>) -> Taken {
        let (bytes, named) = (key.unwrap_or_default(), key.is_some());
        let child = self.child(node, joining);
        let joining = &Joining { child: child.as_ref(), ..*joining };
        let hash = self.hash.unwrap_or_else(|| self.cx.hasher.hash(bytes));
        let now = joining.event.time;
        let arrival = Arrival { key: bytes, hash, now, weight: joining.event.weight };
        let Some(state) = self.state.nodes.get_mut(at) else { return Taken::No };
        let budget = self.cx.budgets.get(node);
        state.make_room(self.cx.hasher, node, budget, now);
        let known = if named { state.keys.find(hash, bytes) } else { None };
        let (slot, estimate) = match known {
            Some(slot) => (slot, state.known(node, slot, &arrival)),
            None => match self.enter(at, node, named, &arrival, joining) {
                Ok(entered) => entered,
                Err(taken) => return taken,
            },
        };
        let taken = if !node.judged {
            self.slide(at, node, (slot, estimate), joining)
        } else {
            if known.is_some() {
                self.extend(at, node, slot, joining);
            }
            Taken::Yes(None)
        };
        if let Some(state) = self.state.nodes.get_mut(at) {
            state.keys.recharge(node, slot);
            state.ranked(self.cx.hasher, node, slot);
            if state.entries() > budget.most {
                let gone = state.shrink(self.cx.hasher, node, budget, slot, now);
                self.report.of(self.at).root.evicted += gone;
                self.agenda.over.insert((self.at, at as u16));
            }
        }
        taken
    }
}

impl Step<'_> {
    /// What the event crossed of the rules that brought it to a key.
    fn child(&self, node: &Node, joining: &Joining<'_>) -> Option<Arc<ChildEvent>> {
        if self.crossed.is_empty() || !node.chain {
            return None;
        }
        let refs = joining.refs.iter().filter_map(|ix| node.refs.get(usize::from(*ix)));
        let children = refs.filter_map(|reference| match reference.from {
            NodeInput::Node(child) => Some(child),
            NodeInput::Detection(_) => None,
        });
        let of = |child| self.crossed.iter().filter(move |episode| usize::from(episode.node) == child);
        let episodes: Vec<_> = children.flat_map(of).cloned().collect();
        (!episodes.is_empty()).then(|| Arc::new(ChildEvent::new(joining.event, episodes)))
    }

    /// The slot of a new key, and what the sketch says of it if it is counted there; or that it gets no slot.
    fn enter(
        &mut self,
        at: usize,
        node: &Node,
        named: bool,
        arrival: &Arrival<'_>,
        joining: &Joining<'_>,
    ) -> Result<(u32, Option<u64>), Taken> {
        let budget = self.cx.budgets.get(node);
        let Some(state) = self.state.nodes.get_mut(at) else { return Err(Taken::No) };
        let evicted = &mut self.report.of(self.at).root.evicted;
        let (room, replaced) = state.admit(self.cx.hasher, node, budget, arrival, evicted);
        if state.over.is_some() {
            self.agenda.over.insert((self.at, at as u16));
        }
        if let Some(slot) = replaced {
            self.replace(at, slot, arrival.now);
        }
        let Some(state) = self.state.nodes.get_mut(at) else { return Err(Taken::No) };
        let (window, estimate) = match room {
            Room::No => return Err(Taken::No),
            Room::Shared(estimate) if estimate < node.n => return Err(Taken::Yes(None)),
            Room::Shared(estimate) if state.spare(budget) => {
                self.sweep_from(arrival.now);
                (AnyWindow::Sliding(Window::Shared), Some(estimate))
            }
            Room::Shared(_) => {
                self.report.of(self.at).root.evicted += 1;
                return Err(Taken::Yes(None));
            }
            Room::Own if node.judged => {
                let fresh = Judged::new(node, joining);
                self.judge_at(at, fresh.end(node));
                (AnyWindow::Judged(Box::new(fresh)), None)
            }
            Room::Own => {
                self.sweep_from(arrival.now);
                (AnyWindow::Sliding(Window::new(node)), None)
            }
        };
        let Some(state) = self.state.nodes.get_mut(at) else { return Err(Taken::No) };
        Ok((state.keys.insert(arrival.hash, arrival.key, named, window), estimate))
    }

    /// Another takes the place of a key.
    fn replace(&mut self, at: usize, slot: u32, now: Micros) {
        let Some(state) = self.state.nodes.get_mut(at) else { return };
        if let Some(known) = state.keys.get_mut(slot)
            && let Phase::Open(episode) = &mut known.phase
        {
            self.agenda.timers.spoil(1 + usize::from(episode.pending.is_some()));
            if !episode.silent {
                let place = (self.group, &*known.key);
                let last = self.cx.bodies().revision((self.tree, now), place, episode, Liveness::Ended);
                self.report.say(last);
            }
        }
        state.keys.remove(self.cx.hasher, slot);
    }

    /// A later event of a key of a judged rule.
    fn extend(&mut self, at: usize, node: &Node, slot: u32, joining: &Joining<'_>) {
        let Some(state) = self.state.nodes.get_mut(at) else { return };
        let Some(known) = state.keys.get_mut(slot) else { return };
        let AnyWindow::Judged(window) = &mut known.window else { return };
        if window.start == joining.event.time.floor(node.span) {
            window.push(node, joining);
            return;
        }
        // An event exactly at the window's end comes before the timer that judges it.
        let fresh = Judged::new(node, joining);
        let end = fresh.end(node);
        state.closed.push((known.key.clone(), std::mem::replace(window, fresh)));
        self.judge_at(at, end);
    }

    /// Judged windows of a rule end then: one timer for all of them.
    pub fn judge_at(&mut self, at: usize, end: Micros) {
        let Some(state) = self.state.nodes.get_mut(at) else { return };
        // Events come in order, and so do the ends of their windows.
        if state.judging.is_none_or(|last| end > last) {
            state.judging = Some(end);
            let what = Due::Windows { node: at as u16 };
            self.agenda.timers.push(Timer { due: end, what, tree: self.at });
        }
    }

    /// An episode of a node opened or is to be looked at then.
    fn wake_at(&mut self, at: usize, slot: u32, birth: u32, due: Micros) {
        let what = Due::Episode { node: at as u16, slot, birth };
        self.agenda.timers.push(Timer { due, what, tree: self.at });
    }

    /// How many of the tree's episodes crossed here before, in the hour of an event: no more than there are in all groups.
    fn crossed_before(&self, event: &EventRef) -> u64 {
        let (hour, n) = self.state.crossed;
        if hour == event.time.floor(HOUR) { n } else { 0 }
    }

    /// Takes note that one more crossed.
    fn count_crossing(&mut self, event: &EventRef) {
        self.state.crossed = (event.time.floor(HOUR), self.crossed_before(event) + 1);
    }

    /// Whether an episode of the root that crosses now is folded, as far as is known.
    fn folded(&self, event: &EventRef, key: &[u8]) -> bool {
        // They cross in total order here.
        self.crossed_before(event) >= STORM_AFTER
            || self.cx.storms.behind(self.at, event.order(), || crate::body::key_of(self.tree.last(), key))
    }
}
