//! The correlator: brings findings to their key groups, lets the groups through, puts together what they say.
//!
//! In: findings, watermarks. Out: [`Output`].
//! Invariants: a finding is let through once, when its time lies below the watermark of all sources its tree reads. In a release every
//! group comes to the watermark by itself, and only then do they meet, in [`Storms`]: so groups can be on threads of their own, each with a
//! [`Report`] of its own.

use std::{collections::BTreeMap, sync::Arc};

use smallvec::SmallVec;
use vedette_event::{FindingBatch, Micros, RuleIx, SourceIx, Span, Topics, time::HOUR};

use crate::{
    Counters, Effort, GROUPS, Output, Plan,
    codec::KeyHasher,
    event::EventRef,
    group::Group,
    intake::{
        columns::{Layout, trees_of},
        route,
    },
    notices::{Announced, Announcing, KEYS_WITH_MOST, Unreleased},
    over::budget::Budgets,
    pending::{
        Held, Origin,
        waiting::{Waiting, WaitingBudget, entries},
    },
    plan::{InForce, Tree},
    report::Report,
    step::{Context, walk::Scratch},
    storm::Storms,
};

/// What a deployment decides.
#[derive(Debug, Clone)]
pub struct CorrelatorSettings {
    /// Keys the hashes of keys and values.
    pub secret: [u8; 32],
    /// Whether conditions are announced before they are final.
    pub notices: bool,
    /// What may be remembered of unreleased events for notices, in entries of [`crate::NOTICE_ENTRY`] bytes.
    pub notice_budget: usize,
    /// Bytes for the keys of all rules.
    pub state: usize,
    /// Findings that may wait for their watermark, in entries.
    pub waiting: WaitingBudget,
}

/// Keyed windows over findings, in event time.
#[derive(Debug)]
pub struct Correlator {
    pub(crate) plan: Arc<Plan>,
    pub(crate) topics: Arc<Topics>,
    pub(crate) settings: CorrelatorSettings,
    pub(crate) budgets: Budgets,
    pub(crate) hasher: KeyHasher,
    pub(crate) groups: Vec<Group>,
    pub(crate) storms: Storms,
    pub(crate) waiting: Waiting,
    /// By set of sources.
    pub(crate) watermarks: Vec<Micros>,
    /// By version, by source.
    pub(crate) layouts: Vec<Vec<Layout>>,
    intake: Intake,
    pub(crate) report: Report,
    /// By tree.
    pub(crate) announced: BTreeMap<u32, Announced>,
    /// What all groups remember of unreleased events, in entries: those that wait for live sources, those that wait for sources
    /// that stand still, which must not take all room for notices.
    pub(crate) ahead: [usize; 2],
}

/// One event on its way to one tree in one key group.
struct Finding<'a> {
    tree: &'a Tree,
    held: Held,
    payload: &'a [u8],
    source: SourceIx,
    group: u8,
}

/// Memory reused from event to event.
#[derive(Debug, Default)]
struct Intake {
    uses: Vec<(u32, u16)>,
    payload: Vec<u8>,
    part: Vec<u8>,
    key: Vec<u8>,
    scratch: Scratch,
    /// Findings of a batch: they are handed to their groups at its end, so that each group's memory is looked up once for all of its own.
    held: Vec<Staged>,
    payloads: Vec<u8>,
}

/// A finding on its way to its group; its payload is in [`Intake::payloads`].
#[derive(Debug, Clone, Copy)]
struct Staged {
    held: Held,
    end: usize,
    set: usize,
    group: u8,
}

const _: () = {
    const fn movable<T: Send + Sync>() {}
    // A group can be let through on a thread of its own, over what all of them look at.
    movable::<Group>();
    movable::<Report>();
    movable::<Context<'_>>();
};

impl Correlator {
    /// An empty one.
    #[must_use]
    pub fn new(plan: Arc<Plan>, topics: Arc<Topics>, settings: CorrelatorSettings) -> Self {
        let budgets = Budgets::of(&plan, settings.state);
        Self {
            hasher: KeyHasher::new(&settings.secret),
            groups: (0..GROUPS).map(|number| Group::new(&plan, number)).collect(),
            storms: Storms::new(&plan, &budgets),
            waiting: Waiting::new(&plan, settings.waiting),
            budgets,
            watermarks: vec![Micros::MIN; plan.sets.len()],
            layouts: layouts(&plan),
            intake: Intake::default(),
            report: Report::new(&plan),
            announced: BTreeMap::new(),
            ahead: [0; 2],
            plan,
            topics,
            settings,
        }
    }

    /// Takes the findings of a batch, to be held until released.
    pub fn push(&mut self, findings: &FindingBatch<'_>, out: &mut Output) {
        self.take(findings, false, out);
    }

    /// The same of events of which nobody knows when they were: they meet rules of one event only.
    pub fn push_alone(&mut self, findings: &FindingBatch<'_>, out: &mut Output) {
        self.take(findings, true, out);
    }

    fn take(&mut self, findings: &FindingBatch<'_>, alone: bool, out: &mut Output) {
        let plan = Arc::clone(&self.plan);
        let Some(version) = plan.versions.get(findings.version) else { return };
        let Some(layout) = layout_of(&mut self.layouts, findings) else { return };
        layout.refresh(findings.batch.projection(), plan.trees.len());
        let mut intake = std::mem::take(&mut self.intake);
        for hits in findings.hits.chunk_by(|a, b| a.row == b.row) {
            let Some(row) = hits.first().map(|hit| hit.row as usize) else { continue };
            trees_of(version, hits, &mut intake.uses);
            if alone {
                intake.uses.retain(|(at, _)| plan.trees.get(*at as usize).is_some_and(Tree::single));
            }
            if let Some(layout) = layout_of(&mut self.layouts, findings) {
                layout.next_event();
            }
            let mut uses = std::mem::take(&mut intake.uses);
            for matched in uses.chunk_by(|a, b| a.0 == b.0) {
                self.route(&plan, findings, row, matched, &mut intake, out);
            }
            uses.clear();
            intake.uses = uses;
        }
        self.hand_over(&mut intake);
        self.intake = intake;
        self.collect(&plan, out);
        self.waiting.announce(&plan, &self.watermarks, &mut out.health);
    }

    /// Brings one event to the key groups that it concerns for one tree.
    #[inline]
    fn route(
        &mut self,
        plan: &Plan,
        findings: &FindingBatch<'_>,
        row: usize,
        matched: &[(u32, u16)],
        intake: &mut Intake,
        out: &mut Output,
    ) {
        let Some(&(at, _)) = matched.first() else { return };
        let Some(tree) = plan.trees.get(at as usize) else { return };
        if findings.times.get(row).is_none_or(|time| !tree.takes(*time)) {
            return;
        }
        let Some(layout) = layout_of(&mut self.layouts, findings) else { return };
        intake.payload.clear();
        let weight = layout.payload((plan, &self.hasher), at, findings, row, matched, &mut intake.payload);
        let mut to = route::destinations(&self.hasher, tree, &intake.payload, &mut intake.key);
        if to.is_empty() {
            self.keyless(at, tree, matched);
            return;
        }
        let order = findings.order(row);
        let first = moved_from(findings, row).unwrap_or(order.time);
        // What a group has done with before a restart.
        let groups = &self.groups;
        to.retain(|to| groups.get(usize::from(to.group)).is_some_and(|group| first >= group.mark(at)));
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
        for (copy, to) in to.iter().enumerate() {
            let payload = match &to.matched {
                None => &intake.payload,
                Some(matched) => {
                    route::write_part(&intake.payload, tree, matched, &mut intake.part);
                    &intake.part
                }
            };
            let entries = entries(payload.len());
            let held = Held { event, start: 0, hash: to.hash, tree: at, entries, counts: copy == 0 };
            let finding = Finding { tree, held, payload, source: findings.batch.source, group: to.group };
            if self.admit(plan, &finding, &mut intake.scratch, out) {
                let start = intake.payloads.len();
                intake.payloads.extend_from_slice(payload);
                let held = Held { start, ..finding.held };
                let end = intake.payloads.len();
                intake.held.push(Staged { held, end, set: tree.set, group: to.group });
            }
        }
    }

    /// An event that has no key in any rule of a tree.
    fn keyless(&mut self, at: u32, tree: &Tree, matched: &[(u32, u16)]) {
        let tally = self.report.of(at);
        tally.root.without_key += 1;
        for (inner, counters) in tree.inner.iter().zip(&mut tally.inner) {
            let matches = matched.iter().any(|(_, bit)| inner.detections.contains(bit));
            counters.without_key += u64::from(matches);
        }
    }

    /// Whether there is room for one event of one tree in one key group; if so, it is looked at ahead.
    #[inline]
    fn admit(&mut self, plan: &Plan, finding: &Finding<'_>, scratch: &mut Scratch, out: &mut Output) -> bool {
        let Finding { tree, ref held, payload, source, group } = *finding;
        // Asked before the notice, which no alert would cover.
        if !self.waiting.room(held.tree as usize, tree.set, source) {
            self.waiting.refuse(held.tree as usize, held.event.time);
            self.report.of(held.tree).root.unevaluated += 1;
            return false;
        }
        let Some(group) = self.groups.get_mut(usize::from(group)) else { return false };
        if self.settings.notices && !tree.judged() {
            let stands = self.waiting.stands(tree.set);
            let budget = if stands { self.settings.notice_budget / 2 } else { self.settings.notice_budget };
            let ahead = &mut self.ahead[usize::from(stands)];
            let unreleased = Unreleased {
                below: self.watermarks.get(tree.set).copied().unwrap_or(Micros::MIN),
                room: budget.saturating_sub(*ahead),
                most_of_key: self.settings.notice_budget / KEYS_WITH_MOST,
            };
            let cx = Context {
                plan,
                topics: &self.topics,
                hasher: &self.hasher,
                budgets: &self.budgets,
                storms: &self.storms,
            };
            let announced = self.announced.entry(held.tree).or_default();
            let to = Announcing { announced, notices: &mut out.notices };
            let remembered =
                |group: &Group| group.agendas.get(tree.set).map_or(0, |agenda| agenda.remembered);
            let before = remembered(group);
            group.look(&cx, held, payload, (unreleased, to), scratch);
            *ahead = *ahead + remembered(group) - before;
        }
        self.waiting.hold(held.tree as usize, tree.set, held.entries);
        true
    }

    /// Hands the findings of a batch to their groups, one group after the other.
    fn hand_over(&mut self, intake: &mut Intake) {
        let mut places = [0; GROUPS as usize];
        for staged in &intake.held {
            if let Some(n) = places.get_mut(usize::from(staged.group)) {
                *n += 1;
            }
        }
        let mut before = 0;
        for place in &mut places {
            before += std::mem::replace(place, before);
        }
        let mut order = vec![0; intake.held.len()];
        for (at, staged) in intake.held.iter().enumerate() {
            if let Some(place) = places.get_mut(usize::from(staged.group)) {
                if let Some(slot) = order.get_mut(*place) {
                    *slot = at;
                }
                *place += 1;
            }
        }
        for staged in order.iter().filter_map(|at| intake.held.get(*at)) {
            let group = self.groups.get_mut(usize::from(staged.group));
            let payload = intake.payloads.get(staged.held.start..staged.end).unwrap_or_default();
            if let Some(agenda) = group.and_then(|group| group.agendas.get_mut(staged.set)) {
                agenda.hold(staged.held, payload);
            }
        }
        intake.held.clear();
        intake.payloads.clear();
    }

    /// Lets through what lies below the watermarks (by source; `Micros::MIN` where there is none yet), until so many alerts
    /// are there: then only up to some time, from which the next call goes on. True if all was let through.
    pub fn release(&mut self, watermarks: &[Micros], most: usize, out: &mut Output) -> bool {
        let plan = Arc::clone(&self.plan);
        let of = |source: &SourceIx| watermarks.get(usize::from(source.0)).copied().unwrap_or(Micros::MIN);
        let below = |sources: &Vec<SourceIx>| sources.iter().map(of).min();
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

    /// Lets through the findings and timers of one set of sources, until so many alerts are there. Where it stops, it stops
    /// between two times, as if a watermark had come no further: that decides when something is said, never what.
    fn let_through(
        &mut self,
        plan: &Plan,
        set: usize,
        wanted: Option<Micros>,
        most: usize,
        out: &mut Output,
    ) -> bool {
        let upto = loop {
            let room = most.saturating_sub(out.alerts.len()).max(most / 8).max(1);
            let upto =
                wanted.map(|wanted| if most == usize::MAX { wanted } else { self.stop(set, wanted, room) });
            self.step(plan, set, upto, out);
            if upto == wanted || out.alerts.len() >= most {
                break upto;
            }
        };
        let mark = upto.unwrap_or(Micros::MAX);
        if let Some(known) = self.watermarks.get_mut(set) {
            if known.floor(HOUR) != mark.floor(HOUR) {
                let of_set = |at: u32| plan.trees.get(at as usize).is_some_and(|tree| tree.set == set);
                for (_, hours) in self.announced.iter_mut().filter(|(at, _)| of_set(**at)) {
                    hours.retain(|hour, _| hour.plus(HOUR) > mark);
                }
            }
            *known = mark.max(*known);
        }
        upto == wanted
    }

    /// Brings all groups to one time, each on its own, and then together.
    fn step(&mut self, plan: &Plan, set: usize, below: Option<Micros>, out: &mut Output) {
        let Self { topics, budgets, hasher, groups, storms, report, .. } = self;
        let stands = self.waiting.stands(set);
        let ahead = &mut self.ahead[usize::from(stands)];
        for group in groups.iter_mut().filter(|group| group.due(set, below)) {
            let remembered = |group: &Group| group.agendas.get(set).map_or(0, |agenda| agenda.remembered);
            let before = remembered(group);
            let cx = Context { plan, topics, hasher, budgets, storms };
            group.release(&cx, set, below, report);
            *ahead = *ahead + remembered(group) - before;
            storms.hear(plan, std::mem::take(&mut report.crossings), &mut report.alerts);
        }
        if storms.due(set, below) {
            let bodies = crate::body::Bodies { plan, topics };
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

    /// Up to where to go at once: to the time wanted, or to one below which there are about as many findings and timers as
    /// there is room for alerts, since few say more than one thing. The first instant at which there is something at least.
    fn stop(&mut self, set: usize, wanted: Micros, room: usize) -> Micros {
        let agendas = self.groups.iter_mut().filter_map(|group| group.agendas.get_mut(set));
        let mut due: Vec<_> = agendas.filter(|agenda| agenda.first() < wanted).collect();
        let first = due.iter().map(|agenda| agenda.first()).min().unwrap_or(wanted);
        let effort = &mut self.report.effort;
        let mut fits = |below: Micros| {
            let mut left = Some(room);
            for agenda in &mut due {
                left = left.and_then(|left| left.checked_sub(agenda.count(below, left, effort)));
            }
            left.is_some()
        };
        if fits(wanted) {
            return wanted;
        }
        let (mut low, mut high) = (first.plus(Span(1)), wanted);
        // From a millisecond on by powers of eight, and then by halves.
        let widths = std::iter::successors(Some(Span(1_000)), |width| Some(Span(width.0.saturating_mul(8))));
        for upto in widths.map(|width| first.plus(width)).take_while(|upto| *upto < wanted) {
            if !fits(upto) {
                high = upto;
                break;
            }
            low = upto;
        }
        for _ in 0..6 {
            let middle = Micros(low.0.midpoint(high.0));
            if fits(middle) {
                low = middle.max(low);
            } else {
                high = middle;
            }
        }
        low
    }

    /// Hands over what was counted.
    pub(crate) fn collect(&mut self, plan: &Plan, out: &mut Output) {
        let waiting = &mut self.waiting;
        self.report.take(|at, tally| {
            let Some(tree) = plan.trees.get(at as usize) else { return };
            waiting.leave(at as usize, tree.set, tally.left);
            let rules = std::iter::once(tree.root).chain(tree.inner.iter().map(|inner| inner.rule));
            for (rule, counters) in rules.zip(std::iter::once(&tally.root).chain(&tally.inner)) {
                if *counters != Counters::default() {
                    out.counters.entry(rule).or_default().add(*counters);
                }
            }
        });
    }

    /// By partition, the lowest offset with an unreleased finding of a key group.
    pub fn unreleased(&mut self, group: u8) -> BTreeMap<Origin, i64> {
        self.groups.get_mut(usize::from(group)).map(Group::unreleased).unwrap_or_default()
    }

    /// Below this time, all was said that a rule will ever say; of one that reads nothing, all.
    #[must_use]
    pub fn passed(&self, rule: RuleIx) -> Micros {
        let set =
            self.plan.tree_of(rule).and_then(|at| self.plan.trees.get(at as usize)).map(|tree| tree.set);
        let reads = set.filter(|set| self.plan.sets.get(*set).is_some_and(|sources| !sources.is_empty()));
        reads.and_then(|set| self.watermarks.get(set).copied()).unwrap_or(Micros::MAX)
    }

    /// What was done so far.
    #[must_use]
    pub const fn effort(&self) -> Effort {
        self.report.effort
    }
}

/// Where the columns of each version's sources are, to be looked up.
pub(crate) fn layouts(plan: &Plan) -> Vec<Vec<Layout>> {
    let of = |version: &InForce| version.sources.defs.iter().map(|_| Layout::default()).collect();
    plan.versions.iter().map(of).collect()
}

#[inline]
fn layout_of<'a>(layouts: &'a mut [Vec<Layout>], findings: &FindingBatch<'_>) -> Option<&'a mut Layout> {
    layouts.get_mut(findings.version)?.get_mut(usize::from(findings.batch.source.0))
}

/// Where a row was the first time, if it is placed elsewhere now.
#[inline]
fn moved_from(findings: &FindingBatch<'_>, row: usize) -> Option<Micros> {
    let at = findings.moved.binary_search_by_key(&row, |(row, _)| *row as usize).ok()?;
    findings.moved.get(at).map(|(_, first)| *first)
}
