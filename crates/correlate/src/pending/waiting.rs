//! How many findings may wait for their watermark, and what becomes of those beyond.
//!
//! In: findings held and let through, which sources stand still. Out: whether there is room for one more; which rules went without.
//!
//! A source that stands still (its topics are missing, or stopped until somebody decides) may do so for days, and what waits for it
//! waits as long. So there are two stores with a bound each, and neither takes room from the other:
//!
//! - *live*: trees all of whose sources are read. At the budget, partitions ahead are to be paused. That helps unless the
//!   partitions are level: then only reading on moves the watermark, so all that lies within one disorder must be held at once.
//!   Where there is no room for that ([`Waiting::limit`]), findings are refused.
//! - *standing*: trees that read a source which stands still. No pause can help them, so none is asked for; at the budget
//!   findings are refused; where it passes by itself (an election of leaders takes seconds), at the limit of the live, since they would
//!   have been held had the source gone on. Not those of that source itself, up to the limit of the live: when it is read again, they are what
//!   moves the watermark, and wait for nobody else.
//!
//! A finding that is refused (or given up, [`Waiting::refuse`] after the fact) is not evaluated, which is counted and announced
//! for its tree's rule. What is over its share is refused, not what happened to come last: a tree that holds no more than the budget
//! divided by the trees that hold something is always taken in, so no rule's flood silences another. Therefore a store holds
//! less than twice its limit.
//!
//! The newest are refused rather than the oldest pushed out: dropping the oldest would, in a flood, drop each finding just before
//! its watermark comes, and evaluate none.

use vedette_event::{Micros, SourceIx};

use super::Held;
use crate::{HealthSignal, plan::Plan};

/// Bytes of a finding with a short key: in a list that grows by doubling, three quarters full on average, with what its tree needs
/// of the event.
pub const ENTRY: usize = 192;

/// Entries of a finding with so many bytes of payload.
#[inline]
pub fn entries(payload: usize) -> u16 {
    let bytes = size_of::<Held>() * 3 / 2 + payload * 3 / 2;
    u16::try_from(bytes.div_ceil(ENTRY)).unwrap_or(u16::MAX)
}

/// How much may wait, in entries: a finding with a long key takes several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingBudget {
    /// From so many on, partitions ahead are to be paused.
    pub pause: usize,
    /// From so many on, findings are refused.
    pub refuse: usize,
}

impl WaitingBudget {
    /// Divides bytes: either store holds less than twice what it refuses at.
    #[must_use]
    pub const fn of(bytes: usize) -> Self {
        let refuse = bytes / 4 / ENTRY;
        Self { pause: refuse / 5 * 4, refuse }
    }
}

/// Whether a source stands still, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Still {
    /// It is read.
    #[default]
    No,
    /// Until something passes by itself.
    Passing,
    /// Until somebody decides.
    Lasting,
}

/// What waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    budget: WaitingBudget,
    /// By tree, in entries.
    by_tree: Vec<usize>,
    live: Account,
    standing: Account,
    /// By source.
    still: Vec<Still>,
    /// By set of sources: what holds of the one that stands still longest.
    stands: Vec<Still>,
    /// By tree: what was not evaluated, until that is over.
    refused: Vec<Option<NotEvaluated>>,
    /// How many trees that is.
    refusals: usize,
    /// Trees whose first refusal was not announced yet.
    unannounced: Vec<usize>,
}

/// One of the two stores.
#[derive(Debug, Default, Clone, Copy)]
struct Account {
    entries: usize,
    /// Trees that hold something.
    trees: usize,
}

/// A time in which a tree's findings were not evaluated.
#[derive(Debug, Clone, Copy)]
struct NotEvaluated {
    since: Micros,
    until: Micros,
    findings: u64,
}

impl Waiting {
    pub fn new(plan: &Plan, budget: WaitingBudget) -> Self {
        Self {
            budget,
            by_tree: vec![0; plan.trees.len()],
            live: Account::default(),
            standing: Account::default(),
            still: vec![Still::No; plan.sources.defs.len()],
            stands: vec![Still::No; plan.sets.len()],
            refused: vec![None; plan.trees.len()],
            refusals: 0,
            unannounced: Vec::new(),
        }
    }

    /// Makes room for another plan: sets of sources may be new.
    pub fn adopt(&mut self, plan: &Plan) {
        self.by_tree.resize(plan.trees.len(), 0);
        self.refused.resize(plan.trees.len(), None);
        let still = std::mem::take(&mut self.still);
        self.stand(plan, |source| still.get(usize::from(source.0)).copied().unwrap_or_default());
    }

    /// Forgets a tree of which nothing waits.
    pub fn drop_tree(&mut self, at: usize) {
        self.unannounced.retain(|tree| *tree != at);
        if let Some(refused) = self.refused.get_mut(at)
            && refused.take().is_some()
        {
            self.refusals -= 1;
        }
    }

    /// Where refusing begins. The room above where pausing begins is for what is on its way then.
    const fn limit(&self, still: Still) -> usize {
        if matches!(still, Still::Lasting) { self.budget.pause } else { self.budget.refuse }
    }

    fn account(&mut self, set: usize) -> &mut Account {
        if self.stands(set) { &mut self.standing } else { &mut self.live }
    }

    /// Whether trees of a set wait for a source that stands still.
    pub fn stands(&self, set: usize) -> bool {
        self.still_of(set) != Still::No
    }

    fn still_of(&self, set: usize) -> Still {
        self.stands.get(set).copied().unwrap_or_default()
    }

    /// Where refusing begins for trees of a set.
    pub fn limit_of(&self, set: usize) -> usize {
        self.limit(self.still_of(set))
    }

    /// Whether a tree may hold one more finding of a source.
    #[inline]
    pub fn room(&self, tree: usize, set: usize, source: SourceIx) -> bool {
        let still = self.still_of(set);
        let account = if still == Still::No { &self.live } else { &self.standing };
        let own = self.still.get(usize::from(source.0)).is_some_and(|own| *own != Still::No);
        let limit = self.limit(if own { Still::No } else { still });
        account.entries < limit || self.of(tree) < limit / account.trees.max(1)
    }

    /// How much of a tree waits.
    pub fn of(&self, tree: usize) -> usize {
        self.by_tree.get(tree).copied().unwrap_or(0)
    }

    /// Takes note of a finding that is held.
    #[inline]
    pub fn hold(&mut self, tree: usize, set: usize, entries: u16) {
        let Some(of_tree) = self.by_tree.get_mut(tree) else { return };
        let first = *of_tree == 0;
        *of_tree += usize::from(entries);
        let account = self.account(set);
        account.entries += usize::from(entries);
        account.trees += usize::from(first);
    }

    /// Takes note of findings that wait no more.
    pub fn leave(&mut self, tree: usize, set: usize, entries: usize) {
        let Some(of_tree) = self.by_tree.get_mut(tree).filter(|_| entries > 0) else { return };
        *of_tree = of_tree.saturating_sub(entries);
        let last = *of_tree == 0;
        let account = self.account(set);
        account.entries = account.entries.saturating_sub(entries);
        account.trees = account.trees.saturating_sub(usize::from(last));
    }

    /// Takes note of a finding that is not evaluated.
    pub fn refuse(&mut self, tree: usize, time: Micros) {
        match self.refused.get_mut(tree) {
            Some(Some(known)) => {
                known.since = known.since.min(time);
                known.until = known.until.max(time);
                known.findings += 1;
            }
            Some(none) => {
                *none = Some(NotEvaluated { since: time, until: time, findings: 1 });
                self.refusals += 1;
                self.unannounced.push(tree);
            }
            None => {}
        }
    }

    /// Says which sources stand still.
    pub fn stand(&mut self, plan: &Plan, still: impl Fn(SourceIx) -> Still) {
        self.still = plan.sources.iter().map(|(source, _)| still(source)).collect();
        let longest = |sources: &Vec<SourceIx>| sources.iter().map(|source| still(*source)).max();
        self.stands = plan.sets.iter().map(|sources| longest(sources).unwrap_or_default()).collect();
        (self.live, self.standing) = (Account::default(), Account::default());
        for (at, tree) in plan.trees.iter().enumerate() {
            let of_tree = self.of(at);
            let account = self.account(tree.set);
            account.entries += of_tree;
            account.trees += usize::from(of_tree > 0);
        }
    }

    /// Sets of live sources that hold more than their share while the budget is used up.
    pub fn crowded(&self, plan: &Plan) -> Vec<usize> {
        if self.live.entries < self.budget.pause {
            return Vec::new();
        }
        let share = self.budget.pause / self.live.trees.max(1);
        let members = |set: usize| plan.members.get(set).into_iter().flatten();
        let over = |set: &usize| !self.stands(*set) && members(*set).any(|at| self.of(*at) >= share.max(1));
        (0..plan.sets.len()).filter(over).collect()
    }

    /// Announces what is new: rules some of whose findings were not evaluated, and rules for which that is over, since all
    /// that came later has been let through.
    pub fn announce(&mut self, plan: &Plan, passed: &[Micros], health: &mut Vec<HealthSignal>) {
        for at in std::mem::take(&mut self.unannounced) {
            if let (Some(tree), Some(Some(refused))) = (plan.trees.get(at), self.refused.get(at)) {
                let standing = self.stands(tree.set);
                health.push(HealthSignal::Unevaluated { rule: tree.root, since: refused.since, standing });
            }
        }
        if self.refusals == 0 {
            return;
        }
        for (tree, slot) in plan.trees.iter().zip(&mut self.refused) {
            let Some(NotEvaluated { since, until, findings }) = *slot else { continue };
            if passed.get(tree.set).is_some_and(|passed| *passed > until) {
                *slot = None;
                self.refusals -= 1;
                health.push(HealthSignal::EvaluatedAgain { rule: tree.root, since, until, findings });
            }
        }
    }

    /// What waits for live sources, and where pausing begins.
    pub const fn live(&self) -> (usize, usize) {
        (self.live.entries, self.budget.pause)
    }

    /// What waits for sources that stand still, and where refusing begins.
    pub fn standing(&self) -> (usize, usize) {
        let passing = self.stands.contains(&Still::Passing) && !self.stands.contains(&Still::Lasting);
        (self.standing.entries, self.limit(if passing { Still::Passing } else { Still::Lasting }))
    }

    /// The tree of which the most waits.
    pub fn most(&self) -> Option<(usize, usize)> {
        let most = self.by_tree.iter().copied().enumerate().max_by_key(|(at, n)| (*n, usize::MAX - at));
        most.filter(|(_, n)| *n > 0)
    }
}

#[cfg(test)]
mod tests {
    use vedette_sigma::ir::{Cmp, CorrelationKind::EventCount};

    use super::*;
    use crate::tests::harness::{correlation, detection, single, world};

    /// Trees: two of the firewall alone, one of all sources.
    fn plan() -> std::sync::Arc<Plan> {
        let count = |id, rule| correlation(id, EventCount, &[rule], &["user"], "10s", &[(Cmp::Gte, 2)]);
        let rules =
            vec![detection("fw-d"), single("fw-s", true), count("c", 0), detection("d"), count("all", 3)];
        world(rules).plan
    }

    const LEAST: usize = 1 << 20;
    const BUDGET: WaitingBudget = WaitingBudget { pause: 1_000, refuse: LEAST };

    fn fill(waiting: &mut Waiting, plan: &Plan, tree: usize, most: usize) -> usize {
        let set = plan.trees[tree].set;
        let room = |waiting: &Waiting| waiting.room(tree, set, SourceIx(1));
        (0..most).take_while(|_| room(waiting).then(|| waiting.hold(tree, set, 1)).is_some()).count()
    }

    #[test]
    fn a_flood_leaves_the_others_their_share() {
        let plan = plan();
        let mut waiting = Waiting::new(&plan, BUDGET);
        assert_eq!(fill(&mut waiting, &plan, 0, 2 * LEAST), LEAST);
        assert_eq!(waiting.crowded(&plan), [plan.trees[0].set]);
        assert_eq!(fill(&mut waiting, &plan, 2, 100), 100);
        assert_eq!(waiting.crowded(&plan), [plan.trees[0].set]);
        assert_eq!(fill(&mut waiting, &plan, 2, 2 * LEAST), LEAST / 2 - 100);
        assert_eq!(waiting.crowded(&plan).len(), 2);
        assert_eq!(fill(&mut waiting, &plan, 1, 2 * LEAST), LEAST / 3);
        assert!(waiting.live().0 < 2 * LEAST);
        waiting.leave(0, plan.trees[0].set, LEAST);
        assert_eq!(waiting.live().0, LEAST / 2 + LEAST / 3);
    }

    #[test]
    fn a_long_finding_takes_the_room_of_several_and_gives_it_back() {
        let plan = plan();
        let mut waiting = Waiting::new(&plan, BUDGET);
        let (set, long) = (plan.trees[0].set, entries(8 << 10));
        assert_eq!((entries(40), long), (1, 65));
        (0..10).for_each(|_| waiting.hold(0, set, long));
        assert_eq!((waiting.live().0, waiting.of(0)), (650, 650));
        waiting.leave(0, set, 10 * usize::from(long));
        assert_eq!((waiting.live().0, waiting.live.trees), (0, 0));
    }

    #[test]
    fn what_waits_for_a_source_that_stands_still_takes_no_room_from_the_others() {
        let plan = plan();
        let mut waiting = Waiting::new(&plan, BUDGET);
        assert_eq!(fill(&mut waiting, &plan, 2, 900), 900);
        waiting.stand(&plan, |source| if source == SourceIx(0) { Still::Lasting } else { Still::No });
        assert_eq!((waiting.live().0, waiting.standing()), (0, (900, 1_000)));
        assert_eq!(fill(&mut waiting, &plan, 2, 900), 100);
        assert!(waiting.crowded(&plan).is_empty());
        assert_eq!(fill(&mut waiting, &plan, 0, 5_000), 5_000);
        // The source itself is read again: what it brings is what the others wait for.
        assert!(!waiting.room(2, plan.trees[2].set, SourceIx(2)));
        assert!(waiting.room(2, plan.trees[2].set, SourceIx(0)));
        waiting.stand(&plan, |_| Still::No);
        assert_eq!(waiting.live().0, 6_000);
    }

    #[test]
    fn what_waits_for_something_that_passes_is_held_as_if_it_had_not_come() {
        let plan = plan();
        let mut waiting = Waiting::new(&plan, BUDGET);
        waiting.stand(&plan, |source| if source == SourceIx(0) { Still::Passing } else { Still::No });
        assert_eq!(fill(&mut waiting, &plan, 2, 5_000), 5_000);
        assert!(waiting.crowded(&plan).is_empty());
        assert_eq!((waiting.live().0, waiting.standing()), (0, (5_000, LEAST)));
        // Nobody knows any more when it ends.
        waiting.stand(&plan, |source| if source == SourceIx(0) { Still::Lasting } else { Still::No });
        assert_eq!((fill(&mut waiting, &plan, 2, 1), waiting.standing()), (0, (5_000, 1_000)));
    }

    #[test]
    fn what_was_refused_is_announced_once_with_its_begin_and_its_end() {
        let plan = plan();
        let mut waiting = Waiting::new(&plan, BUDGET);
        let (root, set) = (plan.trees[2].root, plan.trees[2].set);
        let said = |waiting: &mut Waiting, passed: i64| {
            let mut health = Vec::new();
            waiting.announce(&plan, &vec![Micros(passed); plan.sets.len()], &mut health);
            health
        };
        [5, 3, 9].into_iter().for_each(|time| waiting.refuse(2, Micros(time)));
        let began = HealthSignal::Unevaluated { rule: root, since: Micros(3), standing: waiting.stands(set) };
        assert_eq!(said(&mut waiting, 2), [began]);
        waiting.refuse(2, Micros(7));
        assert_eq!(said(&mut waiting, 9), []);
        let (since, until) = (Micros(3), Micros(9));
        assert_eq!(
            said(&mut waiting, 10),
            [HealthSignal::EvaluatedAgain { rule: root, since, until, findings: 4 }]
        );
        assert_eq!(said(&mut waiting, 11), []);
    }
}
