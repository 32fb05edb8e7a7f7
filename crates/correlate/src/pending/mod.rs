//! Findings of one key group that wait for their watermark.
//!
//! In: findings in any order, each with what its tree needs of the event. Out: those below a watermark, in the total order.
//! Invariants: findings lie in runs by event time, so that letting some through touches only those; the lowest
//! unreleased offset of each partition is known without a walk over all findings; a finding that waits alone in
//! its run costs no more than some hundred bytes.

pub mod run;
pub mod standing;
pub mod waiting;

use std::collections::BTreeMap;

use vedette_event::{Incarnation, Micros, Partition};

pub use self::run::{Held, Run};
use crate::Effort;

/// About four seconds: the length of event time in one run. Each of 64 groups has a run for each of these, so shorter ones would cost more
/// than what lies in them; what is sorted does not depend on it.
const WIDTH: u32 = 22;

/// Where findings were read: a partition, of this incarnation of its topic. What was read of another cannot be read again.
pub type Origin = (Partition, Incarnation);

/// The findings of the trees that share a set of sources, in one key group.
#[derive(Debug, Default)]
pub struct Pending {
    runs: BTreeMap<i64, Run>,
    /// An emptied run, kept for its memory.
    spare: Option<Run>,
    /// The lowest offsets over all runs, until something changes: each is asked for several times.
    lowest: Option<BTreeMap<Origin, i64>>,
}

impl Pending {
    /// Holds a finding.
    #[inline]
    pub fn hold(&mut self, held: Held, payload: &[u8]) {
        self.lowest = None;
        let run = self.runs.entry(held.event.time.0 >> WIDTH);
        run.or_insert_with(|| self.spare.take().unwrap_or_default()).hold(held, payload);
    }

    /// The time of the first finding.
    pub fn first(&self) -> Option<Micros> {
        self.runs.first_key_value().and_then(|(_, run)| run.first())
    }

    /// How many findings lie below a time, or more than so many.
    pub fn count(&mut self, below: Micros, most: usize, effort: &mut Effort) -> usize {
        let last = below.0.saturating_sub(1) >> WIDTH;
        let mut found = 0;
        for (at, run) in self.runs.range_mut(..=last) {
            found += if *at < last { run.len() } else { run.count(below, effort) };
            if found > most {
                break;
            }
        }
        found
    }

    /// Takes out the earliest run that has something below a time.
    pub fn take(&mut self, below: Option<Micros>) -> Option<(i64, Run)> {
        let first = self.runs.first_entry()?;
        if below.is_some_and(|below| first.get().first().is_some_and(|first| first >= below)) {
            return None;
        }
        self.lowest = None;
        Some(first.remove_entry())
    }

    /// Puts back a run of which some was let through.
    pub fn put_back(&mut self, at: i64, run: Run) {
        if run.is_empty() {
            self.spare = run.cleared();
        } else {
            self.runs.insert(at, run);
        }
    }

    /// When its runs begin.
    pub fn runs(&self) -> impl Iterator<Item = i64> {
        self.runs.keys().copied()
    }

    /// Takes out the runs that begin no later than one.
    pub fn give_up(&mut self, last: i64) -> BTreeMap<i64, Run> {
        self.lowest = None;
        let rest = self.runs.split_off(&last.saturating_add(1));
        std::mem::replace(&mut self.runs, rest)
    }

    /// By partition, the lowest offset of a finding.
    pub fn lowest(&mut self) -> &BTreeMap<Origin, i64> {
        let runs = &mut self.runs;
        self.lowest.get_or_insert_with(|| {
            let mut lowest = BTreeMap::new();
            for (origin, offset) in runs.values_mut().flat_map(Run::lowest) {
                lowest.entry(*origin).and_modify(|low| *low = *offset.min(low)).or_insert(*offset);
            }
            lowest
        })
    }
}
