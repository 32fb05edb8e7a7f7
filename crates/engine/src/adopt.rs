//! Other versions of the rules while the kernel works.
//!
//! In: the versions from now on, put together off the kernel's thread or here ([`Compiled::with`], [`Compiled::without`]). Out: which
//! of them nothing needs any more.
//! Invariants: everything evaluated by the versions before is taken in before; a version is needed as long as a partition may hold
//! records from before the next one, and as long as anything waits from before it: of a rule that goes on, too, which may have another
//! title by then. A source of which nothing comes keeps its versions; how many there may be is for the service to say. A key group's
//! checkpoint knows nothing of a version that was dropped, so whoever stores versions has all groups written once one is outgrown,
//! forgets it then, and drops it after that.

use std::{collections::BTreeMap, sync::Arc};

use vedette_event::{Micros, Partition, PlacedBatch};

use crate::{Compiled, Engine};

impl Engine {
    /// Goes on with other versions. What was evaluated by the ones before has been absorbed. Gives them over the topics as they
    /// are.
    pub fn adopt(&mut self, compiled: &Arc<Compiled>) -> Arc<Compiled> {
        let compiled = compiled.with_topics((*self.compiled.topics).clone());
        let mut matched = vec![0; compiled.rules.rules.len()];
        for (before, now) in self.matched.iter().zip(compiled.carried(&self.compiled)) {
            if let Some(place) = now.and_then(|now| matched.get_mut(now.0 as usize)) {
                *place += before;
            }
        }
        (self.matched, self.numbers) = (matched, compiled.numbers());
        self.correlator.adopt(&compiled.plan);
        self.compiled = compiled.clone();
        compiled
    }

    /// The versions that it goes by.
    #[must_use]
    pub const fn compiled(&self) -> &Arc<Compiled> {
        &self.compiled
    }

    /// Counts which rules the events of a batch matched.
    pub(crate) fn count_matches(&mut self, batch: &PlacedBatch) {
        let numbers = self.numbers.get(batch.version).map(Vec::as_slice).unwrap_or_default();
        for hit in &batch.hits {
            let rule = numbers.get(hit.rule.0 as usize);
            if let Some(matched) = rule.and_then(|rule| self.matched.get_mut(rule.0 as usize)) {
                *matched += 1;
            }
        }
    }

    /// The highest `ts_log` of each partition so far: what is read next of it comes behind.
    pub(crate) fn highest(&self) -> BTreeMap<Partition, Micros> {
        self.partitions.iter().filter_map(|(partition, state)| Some((*partition, state.max_log?))).collect()
    }

    /// How many of the oldest versions nothing needs any more, once every key group is written: what was evaluated by them, also of
    /// events that lie ahead of their records, is let through, so that no restart from then on has to evaluate it again.
    #[must_use]
    pub fn outgrown(&self) -> usize {
        let future = self.compiled.future();
        let all_from = self.partitions.values().filter(|state| !state.ended);
        let slowest = all_from.map(|state| self.reached(state)).min().unwrap_or(Micros::MIN);
        let next = self.compiled.versions().iter().skip(1).map(|version| version.from);
        let passed = |all: Micros| slowest > all && self.correlator.is_past(all);
        next.take_while(|from| passed(from.plus(future))).count()
    }
}
