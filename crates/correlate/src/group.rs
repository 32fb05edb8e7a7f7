//! One key group: everything of its keys, and nothing of any other's.
//!
//! In: findings of its keys, how far time has come. Out: a [`Report`].
//! Invariants: a tree without keys here costs nothing but its place; a finding is let through once, in the total order among those of its tree,
//! and no timer fires before all events at or before its instant; a group can be let through, written and read on any thread, whatever
//! the others do.

use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;
use vedette_event::{Micros, Order, Span};

use crate::{
    Effort, Plan,
    intake::payload::Payload,
    notices::Fading,
    pending::{Held, Origin, Pending},
    plan::Tree,
    report::{Report, count},
    step::{
        Context, Step, TreeState,
        episode::Phase,
        timers::{Due, Timer, Timers},
        walk::{Scratch, Taken, Walk},
    },
};

/// Findings whose keys are brought into the cache together: their misses overlap.
const TOGETHER: usize = 16;
/// Findings put in order whose memory is kept for the next ones.
const READY: usize = 1 << 13;
/// So many keys of a rule are in the cache anyway: 64 groups of them are.
const CACHED: usize = 64;

/// What the trees that read one set of sources have to do in a key group, in order of time.
#[derive(Debug)]
pub struct Agenda {
    pub pending: Pending,
    pub timers: Timers,
    /// Rules over budget: tree, node.
    pub over: BTreeSet<(u32, u16)>,
    /// Keys looked at ahead, by when they may be forgotten.
    pub fading: Fading,
    /// What is remembered of unreleased events for notices, in entries.
    pub remembered: usize,
    /// There is nothing to do for a watermark that is not above this: each release asks all groups.
    next: Micros,
}

impl Agenda {
    fn new() -> Self {
        Self {
            pending: Pending::default(),
            timers: Timers::default(),
            over: BTreeSet::new(),
            fading: Fading::default(),
            remembered: 0,
            next: Micros::MAX,
        }
    }

    /// Holds a finding.
    #[inline]
    pub fn hold(&mut self, held: Held, payload: &[u8]) {
        self.next = self.next.min(held.event.time);
        self.pending.hold(held, payload);
    }

    /// A tree's rule ends then.
    pub fn end_at(&mut self, due: Micros, tree: u32) {
        self.next = self.next.min(due);
        self.timers.push(Timer { due, what: Due::End, tree });
    }

    /// The time of the first finding or timer: they are let through strictly below a watermark.
    pub fn first(&self) -> Micros {
        self.pending.first().unwrap_or(Micros::MAX).min(self.timers.next())
    }

    /// How many findings and timers lie below a time, or more than so many.
    pub fn count(&mut self, below: Micros, most: usize, effort: &mut Effort) -> usize {
        let findings = self.pending.count(below, most, effort);
        if findings > most { findings } else { findings + self.timers.count(below, most - findings) }
    }

    /// After a change: when there is something to do.
    fn plan(&mut self) {
        let waits = self.first();
        let fades = self.fading.first().map_or(Micros::MAX, |end| end.minus(Span(1)));
        self.next = if self.over.is_empty() { waits.min(fades) } else { Micros::MIN };
    }
}

/// One of the 64 key groups.
#[derive(Debug)]
pub struct Group {
    pub number: u8,
    /// By tree, as far as there are any.
    trees: Vec<Option<Box<TreeState>>>,
    /// By set of sources.
    pub agendas: Vec<Agenda>,
    /// By tree: up to where it was let through before a restart. That is needed as long as anything can be read again, also by a
    /// topic that was stopped in between and is placed where its source has come to by then.
    marks: Vec<Micros>,
}

impl Group {
    pub fn new(plan: &Plan, number: u8) -> Self {
        let agendas = plan.sets.iter().map(|_| Agenda::new()).collect();
        Self { number, trees: Vec::new(), agendas, marks: Vec::new() }
    }

    /// What stands in the place of a group that is elsewhere.
    pub const fn away(number: u8) -> Self {
        Self { number, trees: Vec::new(), agendas: Vec::new(), marks: Vec::new() }
    }

    /// What is remembered of unreleased events of a set of sources.
    pub fn remembered(&self, set: usize) -> usize {
        self.agendas.get(set).map_or(0, |agenda| agenda.remembered)
    }

    /// Whether something of a set of sources is due below a time (at all, if `None`).
    pub fn due(&self, set: usize, below: Option<Micros>) -> bool {
        let next = self.agendas.get(set).map_or(Micros::MAX, |agenda| agenda.next);
        below.map_or(next < Micros::MAX, |below| next < below)
    }

    /// Up to where a tree was let through before a restart.
    #[inline]
    pub fn mark(&self, tree: u32) -> Micros {
        self.marks.get(tree as usize).copied().unwrap_or(Micros::MIN)
    }

    /// Says up to where trees were let through before a restart.
    pub fn set_marks(&mut self, marks: Vec<Micros>) {
        self.marks = marks;
    }

    /// What is kept of a tree.
    pub fn tree(&self, at: u32) -> Option<&TreeState> {
        self.trees.get(at as usize)?.as_deref()
    }

    /// The trees of which something is kept.
    pub fn trees(&self) -> impl Iterator<Item = (u32, &TreeState)> {
        self.trees.iter().zip(0..).filter_map(|(state, at)| Some((at, state.as_deref()?)))
    }

    /// The same, to change it.
    pub fn kept(&mut self, at: u32) -> Option<&mut TreeState> {
        self.trees.get_mut(at as usize)?.as_deref_mut()
    }

    /// Makes room for another plan.
    pub fn adopt(&mut self, plan: &Plan) {
        self.agendas.resize_with(plan.sets.len(), Agenda::new);
    }

    /// Forgets a tree.
    pub fn drop_tree(&mut self, at: u32, set: usize) {
        let state = self.trees.get_mut(at as usize).and_then(Option::take);
        let ahead = state.iter().flat_map(|state| &state.nodes).filter_map(|node| node.ahead.as_ref());
        let remembered: usize = ahead.map(|ahead| ahead.entries()).sum();
        if let Some(agenda) = self.agendas.get_mut(set) {
            agenda.remembered -= remembered;
        }
        if let Some(mark) = self.marks.get_mut(at as usize) {
            *mark = Micros::MIN;
        }
    }

    /// Gives back the memory of a tree of which nothing is kept any more.
    pub fn drop_if_empty(&mut self, at: u32) {
        if let Some(place) = self.trees.get_mut(at as usize)
            && place.as_ref().is_some_and(|state| !state.sweeping && state.is_empty())
        {
            *place = None;
        }
    }

    /// What is kept of a tree and what the trees of its set have to do; made if there is nothing yet.
    pub fn at(&mut self, at: u32, tree: &Tree) -> Option<(&mut TreeState, &mut Agenda)> {
        let (place, agenda) = (at as usize, self.agendas.get_mut(tree.set)?);
        if self.trees.len() <= place {
            self.trees.resize_with(place + 1, || None);
        }
        let state = self.trees.get_mut(place)?;
        if state.is_none() && tree.until != Micros::MAX {
            agenda.end_at(tree.until, at);
        }
        Some((state.get_or_insert_with(|| Box::new(TreeState::new(tree))), agenda))
    }

    /// Lets through what lies below a watermark, findings and timers; everything, if `None`.
    pub fn release(&mut self, cx: &Context<'_>, set: usize, below: Option<Micros>, report: &mut Report) {
        report.effort.groups += 1;
        let (mut scratch, mut ready) =
            (std::mem::take(&mut report.scratch), std::mem::take(&mut report.ready));
        while let Some((start, mut run)) =
            self.agendas.get_mut(set).and_then(|agenda| agenda.pending.take(below))
        {
            ready.clear();
            report.effort.sorted += run.take(below, &mut ready) as u64;
            for (at, held) in ready.iter().enumerate() {
                if at % TOGETHER == 0 {
                    self.touch(ready.get(at..ready.len().min(at + TOGETHER)).unwrap_or_default(), &run.bytes);
                }
                self.wake(cx, set, Some(held.event.time), report);
                let payload = run.bytes.get(held.start..).unwrap_or_default();
                self.event(cx, held, payload, &mut scratch, report);
            }
            if let Some(agenda) = self.agendas.get_mut(set) {
                agenda.pending.put_back(start, run);
            }
        }
        ready.clear();
        if ready.capacity() > READY {
            ready = Vec::new();
        }
        (report.scratch, report.ready) = (scratch, ready);
        self.wake(cx, set, below, report);
        self.settle(cx.plan, set, below.unwrap_or(Micros::MAX), report);
    }

    /// Brings what some findings need into the cache: their payloads and the places of their keys in the tables first, then
    /// what these lead to.
    fn touch(&self, held: &[Held], payloads: &[u8]) {
        let mut found: SmallVec<[(&TreeState, u32); TOGETHER]> = SmallVec::new();
        let mut read = 0;
        for held in held {
            read ^= u64::from(payloads.get(held.start).copied().unwrap_or_default());
            if let (Some(hash), Some(state)) = (held.hash, self.tree(held.tree))
                && let [node] = &*state.nodes
                && node.keys.len() > CACHED
            {
                found.extend(node.keys.touch(hash).map(|slot| (state, slot)));
            }
        }
        let keys =
            |state: &TreeState, slot| state.nodes.first().map_or(0, |node| node.keys.touch_state(slot));
        let read = found.iter().fold(read, |all, (state, slot)| all ^ keys(state, *slot));
        std::hint::black_box(read);
    }

    /// Takes in the next event of a tree in total order.
    #[inline]
    fn event(
        &mut self,
        cx: &Context<'_>,
        held: &Held,
        payload: &[u8],
        scratch: &mut Scratch,
        report: &mut Report,
    ) {
        let (at, group) = (held.tree, self.number);
        let Some(tree) = cx.plan.trees.get(at as usize) else { return };
        if !tree.takes(held.event.time) {
            // It waited when its rule was changed or went, from an instant on that lies before it.
            report.of(at).left += 1;
            return;
        }
        let Some((state, agenda)) = self.at(at, tree) else { return };
        let payload = Payload::read(payload, tree);
        let mut step =
            Step { cx, at, tree, group, state, agenda, report, hash: held.hash, crossed: Vec::new() };
        let walk = Walk { tree, hasher: cx.hasher, event: &held.event, payload: &payload };
        walk.all(scratch, &mut step);
        // If there was nothing to keep of it.
        self.drop_if_empty(at);
        let tally = report.of(at);
        tally.left += usize::from(held.entries);
        if !held.counts {
            return;
        }
        let flags = held.event.flags;
        let (taken, skipped) = scratch.taken();
        tally.event(taken, skipped, flags);
        for (inner, counters) in tree.inner.iter().zip(&mut tally.inner) {
            let mut of = inner.nodes.iter().filter_map(|at| scratch.became().get(*at).copied().flatten());
            let taken = of.clone().any(|taken| matches!(taken, Taken::Yes(_)));
            let reached = of.next().is_some();
            if reached || inner.detections.iter().any(|bit| payload.matched.contains(bit)) {
                count(counters, taken, reached, flags);
            }
        }
    }

    /// Does what is due before an instant (all there is, if `None`).
    #[inline]
    fn wake(&mut self, cx: &Context<'_>, set: usize, before: Option<Micros>, report: &mut Report) {
        let mut sweeps: SmallVec<[u32; 4]> = SmallVec::new();
        while let Some(timer) = self.agendas.get_mut(set).and_then(|agenda| agenda.timers.pop(before)) {
            if timer.what == Due::Sweep {
                sweeps.push(timer.tree);
            } else if let Some(mut step) = self.step(cx, set, timer.tree, report) {
                step.wake(timer);
                if matches!(timer.what, Due::Windows { .. } | Due::End) {
                    self.drop_if_empty(timer.tree);
                }
            }
        }
        // Once, however many panes have passed: nothing else was due in between.
        for at in sweeps {
            if let Some(mut step) = self.step(cx, set, at, report) {
                step.sweep(before);
            }
            self.drop_if_empty(at);
        }
    }

    /// A tree of which something is kept, about to change.
    fn step<'a>(
        &'a mut self,
        cx: &'a Context<'a>,
        set: usize,
        at: u32,
        report: &'a mut Report,
    ) -> Option<Step<'a>> {
        let tree = cx.plan.trees.get(at as usize)?;
        let state = self.trees.get_mut(at as usize)?.as_deref_mut()?;
        let agenda = self.agendas.get_mut(set)?;
        Some(Step {
            cx,
            at,
            tree,
            group: self.number,
            state,
            agenda,
            report,
            hash: None,
            crossed: Vec::new(),
        })
    }

    /// After a release: says which rules go over budget and which are back, forgets what was looked at ahead and is released now.
    fn settle(&mut self, plan: &Plan, set: usize, below: Micros, report: &mut Report) {
        let Self { number, trees, agendas, .. } = self;
        let Some(agenda) = agendas.get_mut(set) else { return };
        agenda.over.retain(|(at, node_at)| {
            let node = plan.trees.get(*at as usize).and_then(|tree| tree.nodes.get(usize::from(*node_at)));
            let state = trees.get_mut(*at as usize).and_then(Option::as_mut);
            let state = state.and_then(|state| state.nodes.get_mut(usize::from(*node_at)));
            node.zip(state)
                .is_some_and(|(node, state)| state.settle(node, *number, below, &mut report.health))
        });
        agenda.timers.clean(|timer| {
            let state = trees.get(timer.tree as usize).and_then(Option::as_ref);
            match timer.what {
                Due::Episode { node, slot, birth } => {
                    let known = state.and_then(|state| state.nodes.get(usize::from(node))?.keys.get(slot));
                    known.is_some_and(|known| known.birth == birth)
                }
                Due::Windows { .. } | Due::Sweep | Due::End => state.is_some(),
            }
        });
        self.fade(set, below);
        if let Some(agenda) = self.agendas.get_mut(set) {
            agenda.plan();
        }
    }

    /// An episode is folded into a storm: it says nothing more. It is known by the event at which it crossed: by the time
    /// that groups meet, its key may have begun another, and its slot may be another key's.
    pub fn silence(&mut self, tree: u32, slot: u32, order: Order) {
        let known = self.kept(tree).and_then(|state| state.nodes.last_mut()?.keys.get_mut(slot));
        if let Some(known) = known
            && let Phase::Open(episode) = &mut known.phase
            && episode.crossing.order() == order
        {
            episode.silent = true;
        }
    }

    /// Forgets all that is kept of trees, to be read again.
    pub fn clear(&mut self) {
        self.trees.clear();
        for agenda in &mut self.agendas {
            (agenda.timers, agenda.remembered) = (Timers::default(), 0);
            agenda.over.clear();
            agenda.fading = Fading::default();
            // Whatever is read comes before.
            agenda.next = Micros::MIN;
        }
    }

    /// By partition, the lowest offset with an unreleased finding.
    pub fn unreleased(&mut self) -> BTreeMap<Origin, i64> {
        let mut lowest = BTreeMap::new();
        for (origin, offset) in self.agendas.iter_mut().flat_map(|agenda| agenda.pending.lowest()) {
            lowest.entry(*origin).and_modify(|low: &mut i64| *low = *offset.min(low)).or_insert(*offset);
        }
        lowest
    }
}
