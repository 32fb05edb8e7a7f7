//! The correlator: brings findings to their key groups, lets the groups through, puts together what they say.
//!
//! In: findings, watermarks. Out: [`Correlated`].
//! Invariants: a finding is let through once, when its time lies below the watermark of all sources its tree reads. In a release every
//! group comes to the watermark by itself, and only then do they meet, in [`Storms`] ([`crate::release`]).

use std::{collections::BTreeMap, sync::Arc};

use smallvec::SmallVec;
use vedette_event::{Micros, PlacedBatch, RuleIx, SourceIx, Span, Topics, time::HOUR};

use crate::{
    Correlated, Counters, Effort, GROUPS, Plan,
    codec::KeyHasher,
    event::EventRef,
    group::Group,
    intake::router::{Finding, Routed},
    notices::{Announced, Announcing, KEYS_WITH_MOST, Unreleased},
    over::budget::Budgets,
    pending::{
        Held, Origin,
        waiting::{Waiting, WaitingBudget, entries},
    },
    plan::Tree,
    release::Sharing,
    report::Report,
    step::{Context, walk::Scratch},
    storm::Storms,
};

/// Most findings let through at once for each alert that there is room for, where the last ones said little: few correlated findings say
/// anything, and two thousand over 64 groups cost half as much again as sixteen thousand. A storm's first release gives so many more once.
const MAX_STRIDE: usize = 8;

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
    pub(crate) budgets: Arc<Budgets>,
    pub(crate) hasher: KeyHasher,
    pub(crate) groups: Vec<Group>,
    /// Shared while groups are let through elsewhere.
    pub(crate) storms: Arc<Storms>,
    pub(crate) waiting: Waiting,
    /// By set of sources.
    pub(crate) watermarks: Vec<Micros>,
    intake: Intake,
    pub(crate) report: Report,
    pub(crate) sharing: Sharing,
    /// Findings that came since the last release.
    pub(crate) fresh: usize,
    /// How many findings and timers are let through at once for each alert that there is room for.
    stride: usize,
    /// By tree.
    pub(crate) announced: BTreeMap<u32, Announced>,
    /// What all groups remember of unreleased events, in entries: those that wait for live sources, those that wait for sources
    /// that stand still, which must not take all room for notices.
    pub(crate) ahead: [usize; 2],
}

/// One event on its way to one tree in one key group.
struct Arriving<'a> {
    tree: &'a Tree,
    held: Held,
    payload: &'a [u8],
    group: u8,
}

/// Memory reused from batch to batch.
#[derive(Debug, Default)]
struct Intake {
    scratch: Scratch,
    /// Findings of a batch: they are handed to their groups at its end, so that each group's memory is looked up once for all of its own.
    held: Vec<OnItsWay>,
    order: Vec<u32>,
}

/// A finding on its way to its group; its payload ends there in [`Routed`].
#[derive(Debug, Clone, Copy)]
struct OnItsWay {
    held: Held,
    end: usize,
    set: usize,
    group: u8,
}

impl Correlator {
    /// An empty one.
    #[must_use]
    pub fn new(plan: Arc<Plan>, topics: Arc<Topics>, settings: CorrelatorSettings) -> Self {
        let budgets = Budgets::of(&plan, settings.state);
        Self {
            hasher: KeyHasher::new(&settings.secret),
            groups: (0..GROUPS).map(|number| Group::new(&plan, number)).collect(),
            storms: Arc::new(Storms::new(&plan, &budgets)),
            waiting: Waiting::new(&plan, settings.waiting),
            budgets: Arc::new(budgets),
            watermarks: vec![Micros::MIN; plan.sets.len()],
            intake: Intake::default(),
            report: Report::new(&plan),
            sharing: Sharing::default(),
            fresh: 0,
            stride: 1,
            announced: BTreeMap::new(),
            ahead: [0; 2],
            plan,
            topics,
            settings,
        }
    }

    /// Takes the findings of a batch, as a [`crate::Router`] of the same plan and secret gives them, to be held until released.
    pub fn push(&mut self, batch: &PlacedBatch, routed: &Routed, out: &mut Correlated) {
        let plan = Arc::clone(&self.plan);
        let mut intake = std::mem::take(&mut self.intake);
        for event in routed.findings.chunk_by(|a, b| (a.row, a.tree) == (b.row, b.tree)) {
            let Some(&first) = event.first() else { continue };
            let Some(tree) = plan.trees.get(first.tree as usize) else { continue };
            let row = first.row as usize;
            let order = batch.order(row);
            if !tree.takes(order.time) || (row < batch.undated && !tree.single()) {
                continue;
            }
            // What a group has done with before a restart.
            let from = batch.moved_from(row).unwrap_or(order.time);
            // An event is counted, and let in or not, as a whole, also where it has several keys.
            let mut counts = true;
            for finding in event {
                let group = self.groups.get(usize::from(finding.group));
                if group.is_none_or(|group| from < group.mark(finding.tree)) {
                    continue;
                }
                // Asked before the notice, which no alert would cover.
                if counts && !self.waiting.room(finding.tree as usize, tree.set, batch.events.source) {
                    self.waiting.refuse(finding.tree as usize, order.time);
                    self.report.of(finding.tree).root.unevaluated += 1;
                    break;
                }
                let event = EventRef {
                    time: order.time,
                    offset: order.offset,
                    partition: order.partition,
                    index: order.index,
                    topic: order.topic,
                    incarnation: order.incarnation,
                    flags: batch.flags.get(row).copied().unwrap_or_default(),
                    weight: finding.weight,
                };
                let payload = routed.payload(finding.start, finding.end);
                let Finding { start, end, hash, tree: at, group, .. } = *finding;
                let held = Held { event, start, hash, tree: at, entries: entries(payload.len()), counts };
                counts = false;
                self.take_in(&plan, &Arriving { tree, held, payload, group }, &mut intake.scratch, out);
                intake.held.push(OnItsWay { held, end, set: tree.set, group });
            }
        }
        for keyless in &routed.keyless {
            let tree = plan.trees.get(keyless.tree as usize);
            let time = batch.times.get(keyless.row as usize);
            let dated = keyless.row as usize >= batch.undated;
            if dated && tree.zip(time).is_some_and(|(tree, time)| tree.takes(*time)) {
                let tally = self.report.of(keyless.tree);
                tally.root.without_key += 1;
                for at in &keyless.inner {
                    if let Some(counters) = tally.inner.get_mut(usize::from(*at)) {
                        counters.without_key += 1;
                    }
                }
            }
        }
        self.hand_over(&mut intake, routed);
        self.intake = intake;
        self.collect(&plan, out);
        self.waiting.announce(&plan, &self.watermarks, &mut out.health);
    }

    /// Has one event of one tree in one key group wait, and looks at it ahead.
    #[inline]
    fn take_in(&mut self, plan: &Plan, arriving: &Arriving<'_>, scratch: &mut Scratch, out: &mut Correlated) {
        let Arriving { tree, ref held, payload, group } = *arriving;
        let Some(group) = self.groups.get_mut(usize::from(group)) else { return };
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
    }

    /// Hands the findings of a batch to their groups, one group after the other.
    fn hand_over(&mut self, intake: &mut Intake, routed: &Routed) {
        let Intake { held, order, .. } = intake;
        let mut places = [0; GROUPS as usize];
        for staged in &*held {
            if let Some(n) = places.get_mut(usize::from(staged.group)) {
                *n += 1;
            }
        }
        let mut before = 0;
        for place in &mut places {
            before += std::mem::replace(place, before);
        }
        order.clear();
        order.resize(held.len(), 0);
        for (at, staged) in (0..).zip(&*held) {
            if let Some(place) = places.get_mut(usize::from(staged.group)) {
                if let Some(slot) = order.get_mut(*place) {
                    *slot = at;
                }
                *place += 1;
            }
        }
        for staged in order.iter().filter_map(|at| held.get(*at as usize)) {
            let group = self.groups.get_mut(usize::from(staged.group));
            if let Some(agenda) = group.and_then(|group| group.agendas.get_mut(staged.set)) {
                agenda.hold(staged.held, routed.payload(staged.held.start, staged.end));
            }
        }
        self.fresh += held.len();
        held.clear();
    }

    /// How many findings came since the last release.
    #[must_use]
    pub const fn fresh(&self) -> usize {
        self.fresh
    }

    /// Lets through what lies below the watermarks (by source; `Micros::MIN` where there is none yet), until so many alerts
    /// are there: then only up to some time, from which the next call goes on. True if all was let through.
    pub fn release(&mut self, watermarks: &[Micros], most: usize, out: &mut Correlated) -> bool {
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
        if all {
            self.fresh = 0;
        }
        self.collect(&plan, out);
        self.waiting.announce(&plan, &self.watermarks, &mut out.health);
        all
    }

    /// The end of all input: lets through everything, every timer fires, every episode ends.
    pub fn finish(&mut self, out: &mut Correlated) {
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
        out: &mut Correlated,
    ) -> bool {
        let upto = loop {
            let room = most.saturating_sub(out.alerts.len()).max(most / 8).max(1);
            let before = out.alerts.len();
            let upto = wanted.map(|wanted| {
                if most == usize::MAX {
                    wanted
                } else {
                    self.stop(set, wanted, room.saturating_mul(self.stride))
                }
            });
            self.step(plan, set, upto, out);
            let said = out.alerts.len() - before;
            self.stride = if said > room / 2 { 1 } else { (self.stride * 2).min(MAX_STRIDE) };
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

    /// Up to where to go at once: to the time wanted, or to one below which there are about as many findings and timers as
    /// there is room for. The first instant at which there is something at least.
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
    pub(crate) fn collect(&mut self, plan: &Plan, out: &mut Correlated) {
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
