//! Letting groups through to a watermark: on the correlator's own thread, or on several.
//!
//! In: groups of which something is due. Out: their reports, put together in the order of the groups' numbers. Invariants: a group
//! is let through by one thread at a time, with a report of its own, and looks at nothing that another changes; what is said, and in which
//! order, is the same whoever let which group through. This crate starts no thread: [`Hands`] are given by whoever has threads.
//!
//! Groups are given away in rounds, and meet in [`Storms`] after each: what a storm's rule has crossed in the first round spares the others
//! most of their bodies, which they would make in vain. One round would make up to 64 times a thousand of them for an hour of one rule.

use std::{fmt, sync::Arc};

use vedette_event::{Micros, Topics};

use crate::{
    Correlated, Correlator, body::Bodies, codec::KeyHasher, group::Group, over::budget::Budgets, plan::Plan,
    report::Report, step::Context, storm::Storms,
};

/// Groups let through in one round.
const ROUND: usize = 16;
/// Tasks for each thread in a round: one that gets on faster takes another, and whoever has none waits for the last one. With two the kernel
/// waited for a seventh of a scan on two cores (`value_count`, 100,000 keys: 0.55 s, 0.51 with this).
const TASKS_A_THREAD: usize = 8;

/// Some key groups on their way to a watermark, with all that is looked at for that.
#[derive(Debug)]
pub struct ReleaseTask {
    plan: Arc<Plan>,
    topics: Arc<Topics>,
    storms: Arc<Storms>,
    hasher: KeyHasher,
    budgets: Arc<Budgets>,
    set: usize,
    below: Option<Micros>,
    groups: Vec<Group>,
    report: Report,
}

impl ReleaseTask {
    /// Lets the groups through. To be called once, on whatever thread.
    pub fn run(&mut self) {
        let Self { plan, topics, storms, hasher, budgets, set, below, groups, report } = self;
        let cx = Context { plan, topics, hasher, budgets, storms };
        groups.iter_mut().for_each(|group| group.release(&cx, *set, *below, report));
    }
}

/// Threads that let groups through.
pub struct Hands {
    threads: usize,
    least: usize,
    run: Box<dyn FnMut(Vec<ReleaseTask>) -> Vec<ReleaseTask> + Send>,
}

impl Hands {
    /// So many threads, that of the correlator included. `run` runs each task once and gives back all, in any order. Releases after fewer
    /// than `least` findings stay on the correlator's thread: handing them over would cost more than it saves.
    pub fn new(
        threads: usize,
        least: usize,
        run: impl FnMut(Vec<ReleaseTask>) -> Vec<ReleaseTask> + Send + 'static,
    ) -> Self {
        Self { threads, least, run: Box::new(run) }
    }
}

impl fmt::Debug for Hands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hands").field("threads", &self.threads).field("least", &self.least).finish()
    }
}

/// Who lets groups through beside the correlator's thread, if anybody does.
#[derive(Debug, Default)]
pub(crate) struct Sharing {
    hands: Option<Hands>,
    /// Reports that were used before, and the plan they are for.
    spare: Vec<Report>,
    spare_for: Option<Arc<Plan>>,
}

impl Sharing {
    fn report(&mut self, plan: &Arc<Plan>) -> Report {
        if self.spare_for.as_ref().is_none_or(|of| !Arc::ptr_eq(of, plan)) {
            self.spare.clear();
            self.spare_for = Some(plan.clone());
        }
        self.spare.pop().unwrap_or_else(|| Report::new(plan))
    }
}

impl Correlator {
    /// From now on, lets groups through on several threads where there is enough to do.
    pub fn share(&mut self, hands: Hands) {
        self.sharing.hands = Some(hands);
    }

    /// Brings all groups to one time, each on its own, and then together.
    pub(crate) fn step(&mut self, plan: &Plan, set: usize, below: Option<Micros>, out: &mut Correlated) {
        let stands = usize::from(self.waiting.stands(set));
        let due: Vec<usize> =
            (0..).zip(&self.groups).filter(|(_, group)| group.due(set, below)).map(|(at, _)| at).collect();
        let before = self.remembered(&due, set);
        // At the end of all input every timer fires.
        let enough = |hands: &Hands| hands.threads > 1 && (below.is_none() || self.fresh >= hands.least);
        match self.sharing.hands.take() {
            Some(mut hands) if due.len() > 1 && enough(&hands) => {
                due.chunks(ROUND).for_each(|round| self.round(&mut hands, round, (set, below)));
                self.sharing.hands = Some(hands);
            }
            hands => {
                self.sharing.hands = hands;
                self.alone(plan, &due, (set, below));
            }
        }
        self.ahead[stands] = self.ahead[stands] + self.remembered(&due, set) - before;
        let Self { topics, groups, report, .. } = self;
        if self.storms.due(set, below) {
            let bodies = Bodies { plan, topics };
            let storms = Arc::make_mut(&mut self.storms);
            storms.settle(&bodies, (set, below), &mut report.alerts, |crossing| {
                if let Some(group) = groups.get_mut(usize::from(crossing.group)) {
                    group.silence(crossing.tree, crossing.slot, crossing.event.order());
                }
            });
        }
        // Their memory goes with them: a step can end all that a flood began.
        out.alerts.append(&mut std::mem::take(&mut report.alerts));
        out.health.append(&mut report.health);
    }

    /// What some groups remember of unreleased events of a set of sources.
    fn remembered(&self, groups: &[usize], set: usize) -> usize {
        groups.iter().filter_map(|at| self.groups.get(*at)).map(|group| group.remembered(set)).sum()
    }

    /// Lets groups through one after the other.
    fn alone(&mut self, plan: &Plan, due: &[usize], (set, below): (usize, Option<Micros>)) {
        let Self { topics, budgets, hasher, groups, storms, report, .. } = self;
        for at in due {
            let Some(group) = groups.get_mut(*at) else { continue };
            group.release(&Context { plan, topics, hasher, budgets, storms }, set, below, report);
            if !report.crossings.is_empty() {
                Arc::make_mut(storms).hear(plan, std::mem::take(&mut report.crossings), &mut report.alerts);
            }
        }
    }

    /// Lets some groups through at once.
    fn round(&mut self, hands: &mut Hands, round: &[usize], (set, below): (usize, Option<Micros>)) {
        let each = round.len().div_ceil(hands.threads * TASKS_A_THREAD).max(1);
        let mut tasks = Vec::with_capacity(round.len().div_ceil(each));
        for numbers in round.chunks(each) {
            let take = |at: &usize| {
                let group = self.groups.get_mut(*at)?;
                let away = Group::away(group.number);
                Some(std::mem::replace(group, away))
            };
            let groups = numbers.iter().filter_map(take).collect();
            tasks.push(ReleaseTask {
                plan: self.plan.clone(),
                topics: self.topics.clone(),
                storms: self.storms.clone(),
                hasher: self.hasher.clone(),
                budgets: self.budgets.clone(),
                set,
                below,
                groups,
                report: self.sharing.report(&self.plan),
            });
        }
        let mut done = (hands.run)(tasks);
        done.sort_by_key(|task| task.groups.first().map(|group| group.number));
        for ReleaseTask { groups, mut report, .. } in done {
            self.report.append(&mut report);
            self.sharing.spare.push(report);
            for group in groups {
                if let Some(place) = self.groups.get_mut(usize::from(group.number)) {
                    *place = group;
                }
            }
        }
        let Self { plan, storms, report, .. } = self;
        Arc::make_mut(storms).hear(plan, std::mem::take(&mut report.crossings), &mut report.alerts);
    }
}
