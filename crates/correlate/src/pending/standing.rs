//! What becomes of findings whose sources stand still.
//!
//! In: which sources stand still, how far partitions were read. Out: sets of sources that are crowded, findings given up.
//! Invariant: what waits for a source that stands still takes no room from what waits for others, neither as a finding nor for
//! notices.

use std::collections::{BTreeMap, BTreeSet};

use vedette_event::{Micros, SourceIx};

use crate::{Correlated, Correlator, Origin, Still, group::Group};

impl Correlator {
    /// Says which sources stand still: nothing is known of when they will be read on.
    pub fn stand(&mut self, still: impl Fn(SourceIx) -> Still) {
        self.waiting.stand(&self.plan, still);
        self.count_remembered();
    }

    /// Adds up what the groups remember for notices.
    pub(crate) fn count_remembered(&mut self) {
        self.ahead = [0; 2];
        for (set, agenda) in self.groups.iter().flat_map(|group| group.agendas.iter().enumerate()) {
            self.ahead[usize::from(self.waiting.stands(set))] += agenda.remembered;
        }
    }

    /// Sets of sources that hold too many findings and none of whose sources stands still.
    #[must_use]
    pub fn crowded(&self) -> Vec<&[SourceIx]> {
        let sets = self.waiting.crowded(&self.plan).into_iter();
        sets.filter_map(|set| self.plan.sets.get(set).map(Vec::as_slice)).collect()
    }

    /// Gives up the oldest findings that wait for sources which stand still, until a restart has at most `each` records to
    /// read again for each finding that a set of sources may hold. `read` says how far each partition was read.
    pub fn give_up(&mut self, read: &BTreeMap<Origin, i64>, each: usize, out: &mut Correlated) {
        let plan = std::sync::Arc::clone(&self.plan);
        for set in (0..plan.sets.len()).filter(|set| self.waiting.stands(*set)).collect::<Vec<_>>() {
            let most = self.waiting.limit_of(set).saturating_mul(each);
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            let mut before = Micros::MIN;
            while distance(&mut self.groups, set, read) > most {
                let Some(latest) = self.give_up_some(set) else { break };
                before = before.max(latest);
            }
            if before > Micros::MIN {
                self.groups.iter_mut().for_each(|group| group.fade(set, before));
            }
        }
        self.collect(&plan, out);
        self.count_remembered();
        self.waiting.announce(&plan, &self.watermarks, &mut out.health);
    }

    /// Gives up the earliest of an eighth of the times for which findings of a set wait; the last of their times.
    fn give_up_some(&mut self, set: usize) -> Option<Micros> {
        let runs = self.groups.iter().filter_map(|group| group.agendas.get(set));
        let runs: BTreeSet<i64> = runs.flat_map(|agenda| agenda.pending.runs()).collect();
        let last = runs.iter().nth(runs.len().div_ceil(8).checked_sub(1)?).copied()?;
        let mut latest = Micros::MIN;
        for agenda in self.groups.iter_mut().filter_map(|group| group.agendas.get_mut(set)) {
            for held in agenda.pending.give_up(last).values().flat_map(|run| run.iter()) {
                latest = latest.max(held.event.time);
                let tally = self.report.of(held.tree);
                tally.left += usize::from(held.entries);
                // All keys of an event are given up together: they have one time.
                if held.counts {
                    self.waiting.refuse(held.tree as usize, held.event.time);
                    tally.root.unevaluated += 1;
                }
            }
        }
        Some(latest)
    }
}

/// How many offsets lie between the findings of a set and how far their partitions were read.
fn distance(groups: &mut [Group], set: usize, read: &BTreeMap<Origin, i64>) -> i64 {
    let mut lowest: BTreeMap<Origin, i64> = BTreeMap::new();
    for agenda in groups.iter_mut().filter_map(|group| group.agendas.get_mut(set)) {
        for (origin, offset) in agenda.pending.lowest() {
            lowest.entry(*origin).and_modify(|low| *low = *offset.min(low)).or_insert(*offset);
        }
    }
    lowest.iter().fold(0, |sum, (origin, lowest)| {
        let distance = read.get(origin).map_or(0, |read| read.saturating_sub(*lowest).max(0));
        sum.saturating_add(distance)
    })
}
