//! The correlator: holds findings, lets them through in the total order, keeps the time of each set of sources.
//!
//! In: findings, watermarks. Out: [`Output`].
//! Invariants: a finding is let through once, when its time lies below the watermark of all sources its tree reads, and in the
//! total order among those of its tree; no timer fires before all events at or before its instant.

use std::{collections::BTreeMap, sync::Arc};

use smallvec::SmallVec;
use vedette_event::{FindingBatch, Micros, RuleIx, Span, Topics, time::SECOND};

use crate::{
    Counters, Output, Plan,
    ahead::{KEYS_WITH_MOST, Unreleased},
    codec::KeyHasher,
    emit::Scope,
    event::EventRef,
    extract::{Layout, trees_of},
    payload,
    pending::{Held, Origin, Pending, Run},
    tree::TreeState,
    waiting::Waiting,
};

/// Findings whose keys are brought into the cache together: their misses overlap.
const AHEAD: usize = 16;
/// Where more timers wait than alerts are wanted, they fire in steps of event time this long.
const STEP: Span = Span(10_000);

/// What a deployment decides.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Keys the hashes of keys and values.
    pub secret: [u8; 32],
    /// Whether conditions are announced before they are final.
    pub notices: bool,
    /// What may be remembered of unreleased events for notices, in entries of about 100 bytes.
    pub notice_budget: usize,
    /// Keys held at most per rule and key group.
    pub budget: usize,
    /// Findings that may wait for their watermark before something is done about it.
    pub reorder_budget: usize,
}

/// Keyed windows over findings, in event time.
#[derive(Debug)]
pub struct Correlator {
    pub(crate) plan: Arc<Plan>,
    pub(crate) topics: Arc<Topics>,
    pub(crate) settings: Settings,
    pub(crate) hasher: KeyHasher,
    pub(crate) trees: Vec<TreeState>,
    /// By set of sources.
    pub(crate) pending: Vec<Pending>,
    pub(crate) waiting: Waiting,
    pub(crate) watermarks: Vec<Micros>,
    layouts: Vec<Layout>,
    scratch: Scratch,
    /// What all trees remember of unreleased events, in entries: those that wait for live sources, those that wait for sources
    /// that stand still, which must not take all room for notices.
    pub(crate) ahead: [usize; 2],
}

/// Memory reused from event to event.
#[derive(Debug, Default)]
struct Scratch {
    uses: Vec<(u32, u16)>,
    payload: Vec<u8>,
    key: Vec<u8>,
}

impl Correlator {
    /// An empty one.
    #[must_use]
    pub fn new(plan: Arc<Plan>, topics: Arc<Topics>, settings: Settings) -> Self {
        Self {
            hasher: KeyHasher::new(&settings.secret),
            trees: plan.trees.iter().map(TreeState::new).collect(),
            pending: plan.sets.iter().map(|_| Pending::default()).collect(),
            waiting: Waiting::new(&plan, settings.reorder_budget),
            watermarks: vec![Micros::MIN; plan.sets.len()],
            layouts: plan.sources.defs.iter().map(|_| Layout::default()).collect(),
            scratch: Scratch::default(),
            ahead: [0; 2],
            plan,
            topics,
            settings,
        }
    }

    /// Takes the findings of a batch, to be held until released.
    pub fn push(&mut self, findings: &FindingBatch<'_>, out: &mut Output) {
        let plan = Arc::clone(&self.plan);
        let Some(layout) = self.layouts.get_mut(usize::from(findings.batch.source.0)) else { return };
        layout.refresh(findings.fields, plan.trees.len());
        let mut scratch = std::mem::take(&mut self.scratch);
        for hits in findings.hits.chunk_by(|a, b| a.row == b.row) {
            let Some(row) = hits.first().map(|hit| hit.row as usize) else { continue };
            trees_of(&plan, hits, &mut scratch.uses);
            if let Some(layout) = self.layouts.get_mut(usize::from(findings.batch.source.0)) {
                layout.next_event();
            }
            let mut uses = std::mem::take(&mut scratch.uses);
            for matched in uses.chunk_by(|a, b| a.0 == b.0) {
                self.hold(&plan, findings, row, matched, &mut scratch, out);
            }
            uses.clear();
            scratch.uses = uses;
        }
        self.scratch = scratch;
        self.waiting.announce(&plan, &self.watermarks, &mut out.health);
    }

    /// Holds one event for one tree.
    #[inline]
    fn hold(
        &mut self,
        plan: &Plan,
        findings: &FindingBatch<'_>,
        row: usize,
        matched: &[(u32, u16)],
        scratch: &mut Scratch,
        out: &mut Output,
    ) {
        let Some(&(at, _)) = matched.first() else { return };
        let (Some(tree), Some(state)) = (plan.trees.get(at as usize), self.trees.get_mut(at as usize)) else {
            return;
        };
        let Some(layout) = self.layouts.get_mut(usize::from(findings.batch.source.0)) else { return };
        scratch.payload.clear();
        let weight = layout.payload((plan, &self.hasher), at, findings, row, matched, &mut scratch.payload);
        let (groups, hash) = payload::groups(&self.hasher, tree, &scratch.payload, &mut scratch.key);
        if groups.is_empty() {
            state.keyless(tree, matched.iter().map(|(_, bit)| *bit));
            return;
        }
        let order = findings.order(row);
        let first = moved_from(findings, row).unwrap_or(order.time);
        if groups.iter().all(|group| state.skips(*group, first)) {
            return;
        }
        // Asked before the notice, which no alert would cover.
        if !self.waiting.room(at as usize, tree.set, findings.batch.source) {
            self.waiting.refuse(at as usize, order.time);
            state.counters.unevaluated += 1;
            return;
        }
        let event = EventRef {
            time: order.time,
            offset: order.offset,
            partition: order.partition,
            index: order.index,
            topic: order.topic,
            incarnation: order.incarnation,
            flags: findings.flags.get(row).copied().unwrap_or_default(),
            weight,
        };
        if self.settings.notices && !tree.judged() {
            let below = self.watermarks.get(tree.set).copied().unwrap_or(Micros::MIN);
            let Self { topics, hasher, settings, .. } = self;
            let stands = self.waiting.stands(tree.set);
            let budget = if stands { settings.notice_budget / 2 } else { settings.notice_budget };
            let ahead = &mut self.ahead[usize::from(stands)];
            let unreleased = Unreleased {
                below,
                room: budget.saturating_sub(*ahead),
                most_of_key: settings.notice_budget / KEYS_WITH_MOST,
            };
            let scope = Scope { plan, topics, hasher, budget: settings.budget, ahead: Some(unreleased) };
            let before = state.ahead();
            state.walk(&scope, tree, &event, &scratch.payload, out);
            *ahead = *ahead + state.ahead() - before;
        }
        if let Some(pending) = self.pending.get_mut(tree.set) {
            pending.hold(event, at, &scratch.payload, &groups, hash);
            self.waiting.hold(at as usize, tree.set);
        }
    }

    /// Lets through what lies below the watermarks (by source; `Micros::MIN` where there is none yet), until so many alerts
    /// are there: then only up to some time, from which the next call goes on. True if all was let through.
    pub fn release(&mut self, watermarks: &[Micros], most: usize, out: &mut Output) -> bool {
        let plan = Arc::clone(&self.plan);
        let of = |source: &vedette_event::SourceIx| {
            watermarks.get(usize::from(source.0)).copied().unwrap_or(Micros::MIN)
        };
        let below = |sources: &Vec<vedette_event::SourceIx>| sources.iter().map(of).min();
        let sets = plan.sets.iter().map(below).zip(&self.watermarks).enumerate();
        let mut due: SmallVec<[(Micros, usize, Micros); 8]> = sets
            .filter_map(|(set, (below, mark))| {
                below.filter(|below| below > mark).map(|below| (*mark, set, below))
            })
            .collect();
        // The one furthest behind first: else a storm in one would keep all later ones from ever saying anything.
        due.sort_unstable();
        let mut all = true;
        for (_, set, below) in due {
            if out.alerts.len() >= most {
                all = false;
                break;
            }
            all &= self.let_through(&plan, set, Some(below), most, out);
        }
        self.collect(&plan, out);
        self.waiting.announce(&plan, &self.watermarks, &mut out.health);
        all
    }

    /// The end of all input: lets through everything, every timer fires, every episode ends.
    pub fn finish(&mut self, out: &mut Output) {
        let plan = Arc::clone(&self.plan);
        for set in 0..plan.sets.len() {
            self.let_through(&plan, set, None, usize::MAX, out);
        }
        self.collect(&plan, out);
    }

    /// Lets through the findings of one set of sources, then the timers, until so many alerts are there. Where it stops, it
    /// stops between two times, as if a watermark had come no further: that decides when something is said, never what.
    fn let_through(
        &mut self,
        plan: &Plan,
        set: usize,
        wanted: Option<Micros>,
        most: usize,
        out: &mut Output,
    ) -> bool {
        let members = plan.members.get(set).map(Vec::as_slice).unwrap_or_default();
        let below = loop {
            let upto = wanted.map(|wanted| stop(&self.trees, members, wanted, most));
            let upto = self.findings(plan, set, upto, most, out);
            let Self { topics, settings, hasher, trees, .. } = self;
            let scope = Scope { plan, topics, hasher, budget: settings.budget, ahead: None };
            for at in members {
                if let (Some(tree), Some(state)) = (plan.trees.get(*at), trees.get_mut(*at)) {
                    state.advance(&scope, tree, upto, out);
                }
            }
            if upto == wanted || out.alerts.len() >= most {
                break upto;
            }
        };
        let Self { settings, trees, ahead, waiting, .. } = self;
        let second = |time: Micros| time.floor(SECOND);
        let second_passed = self.watermarks.get(set).map(|mark| second(*mark)) != below.map(second);
        for at in members {
            let (Some(tree), Some(state)) = (plan.trees.get(*at), trees.get_mut(*at)) else { continue };
            state.settle(tree, below.unwrap_or(Micros::MAX), out);
            if second_passed && settings.notices {
                let before = state.ahead();
                state.released(below.unwrap_or(Micros::MAX));
                let ahead = &mut ahead[usize::from(waiting.stands(set))];
                *ahead = *ahead + state.ahead() - before;
            }
        }
        if let Some(mark) = self.watermarks.get_mut(set) {
            *mark = below.unwrap_or(Micros::MAX).max(*mark);
        }
        below == wanted
    }

    /// Lets through the findings below a time, or those before the first time at which so many alerts are there; up to where.
    fn findings(
        &mut self,
        plan: &Plan,
        set: usize,
        mut below: Option<Micros>,
        most: usize,
        out: &mut Output,
    ) -> Option<Micros> {
        let Self { topics, settings, hasher, trees, pending, waiting, .. } = self;
        let scope = Scope { plan, topics, hasher, budget: settings.budget, ahead: None };
        let Some(pending) = pending.get_mut(set) else { return below };
        let mut last = None;
        while let Some((at, mut run)) = pending.take(below) {
            let mut done = run.sort(below);
            let Run { held, bytes, .. } = &run;
            for (at, held) in held.iter().take(done).enumerate() {
                let time = held.event.time;
                if out.alerts.len() >= most && last.is_some_and(|last| last < time) {
                    (done, below) = (at, Some(time));
                    break;
                }
                last = Some(time);
                if at % AHEAD == 0 {
                    touch(trees, run.held.get(at..done.min(at + AHEAD)).unwrap_or_default());
                }
                let ix = held.tree as usize;
                if let (Some(tree), Some(state)) = (plan.trees.get(ix), trees.get_mut(ix)) {
                    let payload = bytes.get(held.start..).unwrap_or_default();
                    state.event(&scope, tree, &held.event, payload, out);
                }
                waiting.leave(ix, set);
            }
            let rest = done < run.held.len();
            pending.put_back(at, run, done, |held: &Held, bytes| {
                let tree = plan.trees.get(held.tree as usize);
                tree.map(|tree| payload::groups(hasher, tree, bytes, &mut Vec::new()).0).unwrap_or_default()
            });
            if rest {
                break;
            }
        }
        below
    }

    /// Hands over the counters.
    fn collect(&mut self, plan: &Plan, out: &mut Output) {
        for (tree, state) in plan.trees.iter().zip(&mut self.trees) {
            let rules = std::iter::once(tree.root).chain(tree.inner.iter().map(|inner| inner.rule));
            for (rule, counters) in rules.zip(std::iter::once(&mut state.counters).chain(&mut state.inner)) {
                let now = std::mem::take(counters);
                if now != Counters::default() {
                    out.counters.entry(rule).or_default().add(now);
                }
            }
        }
    }

    /// By partition, the lowest offset with an unreleased finding of a key group.
    pub fn unreleased(&mut self, group: u8) -> BTreeMap<Origin, i64> {
        let mut lowest = BTreeMap::new();
        for pending in &mut self.pending {
            pending.lowest_of(group, &mut lowest);
        }
        lowest
    }

    /// Below this time, all was said that a rule will ever say; of one that reads nothing, all.
    #[must_use]
    pub fn passed(&self, rule: RuleIx) -> Micros {
        // Trees come in the order of their rules.
        let tree = self.plan.trees.binary_search_by_key(&rule, |tree| tree.root).ok();
        let set = tree.and_then(|at| self.plan.trees.get(at)).map(|tree| tree.set);
        let reads = set.filter(|set| self.plan.sets.get(*set).is_some_and(|sources| !sources.is_empty()));
        reads.and_then(|set| self.watermarks.get(set).copied()).unwrap_or(Micros::MAX)
    }
}

/// Up to where to go at once: to the time wanted, or to shortly behind the first timer if more are due than alerts are wanted.
/// What began within a second of a storm ends within a second, too.
fn stop(trees: &[TreeState], members: &[usize], wanted: Micros, most: usize) -> Micros {
    let due = members.iter().filter_map(|at| trees.get(*at)).filter(|state| state.next < wanted);
    let (timers, first) =
        due.fold((0_usize, wanted), |(n, first), state| (n + state.timers.len(), state.next.min(first)));
    if timers > most { first.plus(STEP).min(wanted) } else { wanted }
}

/// Where a row was the first time, if it is placed elsewhere now.
#[inline]
fn moved_from(findings: &FindingBatch<'_>, row: usize) -> Option<Micros> {
    let at = findings.moved.binary_search_by_key(&row, |(row, _)| *row as usize).ok()?;
    findings.moved.get(at).map(|(_, first)| *first)
}

/// Brings the keys of some findings into the cache: their places in the tables first, then what these lead to.
fn touch(trees: &[TreeState], held: &[Held]) {
    let mut found: SmallVec<[(&TreeState, u32); AHEAD]> = SmallVec::new();
    for held in held {
        if let Some(tree) = trees.get(held.tree as usize) {
            found.extend(tree.touch(held.hash).map(|slot| (tree, slot)));
        }
    }
    let read = found.iter().fold(0, |all, (tree, slot)| all ^ tree.touch_entry(*slot));
    std::hint::black_box(read);
}
