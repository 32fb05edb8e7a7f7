//! What becomes of findings whose sources stand still.
//!
//! In: which sources stand still, how far partitions were read. Out: sets of sources that are crowded, findings given up.
//! Invariant: what waits for a source that stands still takes no room from what waits for others, neither as a finding nor for
//! notices.

use std::collections::BTreeMap;

use vedette_event::{Micros, SourceIx};

use crate::{Correlator, Origin, Output, Still};

impl Correlator {
    /// Says which sources stand still: nothing is known of when they will be read on.
    pub fn stand(&mut self, still: impl Fn(SourceIx) -> Still) {
        self.waiting.stand(&self.plan, still);
        self.ahead = [0; 2];
        for (tree, state) in self.plan.trees.iter().zip(&self.trees) {
            self.ahead[usize::from(self.waiting.stands(tree.set))] += state.ahead();
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
    pub fn give_up(&mut self, read: &BTreeMap<Origin, i64>, each: usize, out: &mut Output) {
        for (set, pending) in self.pending.iter_mut().enumerate() {
            if !self.waiting.stands(set) {
                continue;
            }
            let most = self.waiting.limit_of(set).saturating_mul(each);
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            let mut before = Micros::MIN;
            while !pending.is_empty() && pending.distance(read) > most {
                for held in pending.give_up().iter().flat_map(|run| &run.held) {
                    let tree = held.tree as usize;
                    before = before.max(held.event.time);
                    self.waiting.leave(tree, set);
                    self.waiting.refuse(tree, held.event.time);
                    if let Some(state) = self.trees.get_mut(tree) {
                        state.counters.unevaluated += 1;
                    }
                }
            }
            let trees = self.plan.trees.iter().zip(&mut self.trees);
            for (_, state) in trees.filter(|(tree, _)| tree.set == set && before > Micros::MIN) {
                self.ahead[1] -= state.ahead();
                state.released(before);
                self.ahead[1] += state.ahead();
            }
        }
        self.waiting.announce(&self.plan, &self.watermarks, &mut out.health);
    }
}
