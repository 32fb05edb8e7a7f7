//! Findings that wait for their watermark.
//!
//! In: findings in any order, each with what its tree needs of the event. Out: those below a watermark, in the total order.
//! Invariants: findings lie in flat runs by second of event time, so that letting some through touches only those; the lowest
//! unreleased offset of each partition and key group is known without a walk over the findings; a finding that waits alone in
//! its second costs no more than some hundred bytes.

use std::collections::BTreeMap;

use smallvec::SmallVec;
use vedette_event::{Incarnation, Micros, Partition};

use crate::{GROUPS, event::EventRef};

/// About a second: the length of event time in one run.
const WIDTH: u32 = 20;
/// Emptied runs kept for their memory.
const SPARE: usize = 8;

/// Where findings were read: a partition, of this incarnation of its topic. What was read of another cannot be read again.
pub type Origin = (Partition, Incarnation);

/// One event that concerns one tree.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// The event.
    pub event: EventRef,
    /// Where its payload starts in [`Run::bytes`].
    pub start: usize,
    /// Hash of its key, if it has one key.
    pub hash: u64,
    /// The tree.
    pub tree: u32,
    /// Its key groups.
    pub groups: GroupSet,
}

/// One key group, or several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupSet {
    /// Exactly this one.
    One(u8),
    /// More than one: only the payload tells.
    Several,
}

/// Findings of about one second of event time.
#[derive(Debug, Default)]
pub struct Run {
    pub held: Vec<Held>,
    pub bytes: Vec<u8>,
    lowest: Vec<(Origin, Lowest)>,
}

/// Lowest offsets by key group, `i64::MAX` where there is none.
type ByGroup = [i64; GROUPS as usize];

/// The lowest offset of each key group that has a finding. What waits for a source that stands still lies thinly over many
/// seconds, and 512 bytes for each of them would be more than the findings themselves.
#[derive(Debug)]
enum Lowest {
    Few(SmallVec<[(u8, i64); 4]>),
    All(Box<ByGroup>),
}

impl Lowest {
    #[inline]
    fn note(&mut self, group: u8, offset: i64) {
        match self {
            Self::All(by_group) => {
                if let Some(lowest) = by_group.get_mut(usize::from(group)) {
                    *lowest = offset.min(*lowest);
                }
            }
            Self::Few(few) => {
                if let Some((_, lowest)) = few.iter_mut().find(|(known, _)| *known == group) {
                    *lowest = offset.min(*lowest);
                } else if few.len() < few.inline_size() {
                    few.push((group, offset));
                } else {
                    let mut all = Self::All(Box::new([i64::MAX; GROUPS as usize]));
                    few.iter().for_each(|(known, lowest)| all.note(*known, *lowest));
                    all.note(group, offset);
                    *self = all;
                }
            }
        }
    }

    /// Lowers `into` where this is lower.
    fn lower(&self, into: &mut ByGroup) {
        let mut note = |group: usize, offset: i64| {
            if let Some(lowest) = into.get_mut(group) {
                *lowest = offset.min(*lowest);
            }
        };
        match self {
            Self::Few(few) => few.iter().for_each(|(group, offset)| note(usize::from(*group), *offset)),
            Self::All(all) => all.iter().enumerate().for_each(|(group, offset)| note(group, *offset)),
        }
    }
}

impl Run {
    /// Notes that a finding of this group is held.
    fn note(&mut self, origin: Origin, group: u8, offset: i64) {
        let known = self.lowest.iter().position(|(o, _)| *o == origin);
        let at = known.unwrap_or_else(|| {
            self.lowest.push((origin, Lowest::Few(SmallVec::new())));
            self.lowest.len() - 1
        });
        if let Some((_, lowest)) = self.lowest.get_mut(at) {
            lowest.note(group, offset);
        }
    }

    /// Sorts and gives how many findings lie below a time.
    pub fn sort(&mut self, below: Option<Micros>) -> usize {
        self.held.sort_by(|a, b| a.event.order().cmp(&b.event.order()).then(a.tree.cmp(&b.tree)));
        below.map_or(self.held.len(), |below| self.held.partition_point(|held| held.event.time < below))
    }
}

/// All findings of the trees that share a set of sources.
#[derive(Debug, Default)]
pub struct Pending {
    runs: BTreeMap<i64, Run>,
    spare: Vec<Run>,
    /// The lowest offsets over all runs, until something changes: all key groups are asked for one after the other.
    lowest: Option<BTreeMap<Origin, Box<ByGroup>>>,
}

impl Pending {
    /// Holds a finding; `payload` appends what the tree needs of it.
    #[inline]
    pub fn hold(&mut self, event: EventRef, tree: u32, payload: &[u8], groups: &[u8], hash: u64) {
        self.lowest = None;
        let run =
            self.runs.entry(event.time.0 >> WIDTH).or_insert_with(|| self.spare.pop().unwrap_or_default());
        let start = run.bytes.len();
        run.bytes.extend_from_slice(payload);
        for group in groups {
            run.note(event.origin(), *group, event.offset);
        }
        let groups = if let [group] = groups { GroupSet::One(*group) } else { GroupSet::Several };
        run.held.push(Held { event, start, hash, tree, groups });
    }

    /// Takes out the earliest run that has something below a time.
    pub fn take(&mut self, below: Option<Micros>) -> Option<(i64, Run)> {
        let first = self.runs.first_entry()?;
        let start = first.key() << WIDTH;
        if below.is_some_and(|below| start >= below.0) {
            return None;
        }
        self.lowest = None;
        Some(first.remove_entry())
    }

    /// Takes out the earliest of an eighth of the runs.
    pub fn give_up(&mut self) -> Vec<Run> {
        self.lowest = None;
        let runs = self.runs.len().div_ceil(8);
        (0..runs).filter_map(|_| self.runs.pop_first()).map(|(_, run)| run).collect()
    }

    /// Puts back a run after `done` of its findings were let through. `groups` gives a finding's key groups.
    pub fn put_back(
        &mut self,
        at: i64,
        mut run: Run,
        done: usize,
        groups: impl Fn(&Held, &[u8]) -> smallvec::SmallVec<[u8; 2]>,
    ) {
        if done >= run.held.len() {
            if self.spare.len() < SPARE {
                run.held.clear();
                run.bytes.clear();
                run.lowest.clear();
                self.spare.push(run);
            }
            return;
        }
        if done > 0 {
            run.held.drain(..done);
            run.lowest.clear();
            for at in 0..run.held.len() {
                let held = run.held[at];
                let origin = held.event.origin();
                match held.groups {
                    GroupSet::One(group) => run.note(origin, group, held.event.offset),
                    GroupSet::Several => {
                        for group in groups(&held, run.bytes.get(held.start..).unwrap_or_default()) {
                            run.note(origin, group, held.event.offset);
                        }
                    }
                }
            }
        }
        self.runs.insert(at, run);
    }

    /// By partition, the lowest offset of each key group that has a finding.
    fn lowest(&mut self) -> &BTreeMap<Origin, Box<ByGroup>> {
        let runs = &self.runs;
        self.lowest.get_or_insert_with(|| {
            let mut lowest = BTreeMap::new();
            for (origin, of_run) in runs.values().flat_map(|run| &run.lowest) {
                let into = lowest.entry(*origin).or_insert_with(|| Box::new([i64::MAX; GROUPS as usize]));
                of_run.lower(into);
            }
            lowest
        })
    }

    /// Lowers `into` to the lowest offset of each partition that holds a finding of the group.
    pub fn lowest_of(&mut self, group: u8, into: &mut BTreeMap<Origin, i64>) {
        for (origin, by_group) in self.lowest() {
            if let Some(&offset) = by_group.get(usize::from(group)).filter(|offset| **offset != i64::MAX) {
                let lowest = into.entry(*origin).or_insert(offset);
                *lowest = offset.min(*lowest);
            }
        }
    }

    /// How many offsets lie between its findings and how far their partitions were read.
    pub fn distance(&mut self, read: &BTreeMap<Origin, i64>) -> i64 {
        self.lowest().iter().fold(0, |sum, (origin, by_group)| {
            let lowest = by_group.iter().copied().min().unwrap_or(i64::MAX);
            let distance = read.get(origin).map_or(0, |read| read.saturating_sub(lowest).max(0));
            sum.saturating_add(distance)
        })
    }

    /// True if it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
}
