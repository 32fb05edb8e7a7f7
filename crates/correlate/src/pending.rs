//! Findings that wait for their watermark.
//!
//! In: findings in any order, each with what its tree needs of the event. Out: those below a watermark, in the total order.
//! Invariants: findings lie in flat runs by second of event time, so that letting some through touches only those; the lowest
//! unreleased offset of each partition and key group is known without a walk over the findings.

use std::collections::BTreeMap;

use vedette_event::{Micros, Partition};

use crate::{GROUPS, event::EventRef};

/// About a second: the length of event time in one run.
const WIDTH: u32 = 20;
/// Emptied runs kept for their memory.
const SPARE: usize = 8;

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
    lowest: Vec<(Partition, Box<[i64; GROUPS as usize]>)>,
}

impl Run {
    /// Notes that a finding of this group is held.
    fn note(&mut self, partition: Partition, group: u8, offset: i64) {
        let known = self.lowest.iter().position(|(p, _)| *p == partition);
        let at = known.unwrap_or_else(|| {
            self.lowest.push((partition, Box::new([i64::MAX; GROUPS as usize])));
            self.lowest.len() - 1
        });
        if let Some(lowest) =
            self.lowest.get_mut(at).and_then(|(_, by_group)| by_group.get_mut(usize::from(group)))
        {
            *lowest = offset.min(*lowest);
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
}

impl Pending {
    /// Holds a finding; `payload` appends what the tree needs of it.
    #[inline]
    pub fn hold(&mut self, event: EventRef, tree: u32, payload: &[u8], groups: &[u8], hash: u64) {
        let run =
            self.runs.entry(event.time.0 >> WIDTH).or_insert_with(|| self.spare.pop().unwrap_or_default());
        let start = run.bytes.len();
        run.bytes.extend_from_slice(payload);
        for group in groups {
            run.note(event.order().partition(), *group, event.offset);
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
        Some(first.remove_entry())
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
                let partition = held.event.order().partition();
                match held.groups {
                    GroupSet::One(group) => run.note(partition, group, held.event.offset),
                    GroupSet::Several => {
                        for group in groups(&held, run.bytes.get(held.start..).unwrap_or_default()) {
                            run.note(partition, group, held.event.offset);
                        }
                    }
                }
            }
        }
        self.runs.insert(at, run);
    }

    /// Lowers `into` to the lowest offset of each partition that holds a finding of the group.
    pub fn lowest(&self, group: u8, into: &mut BTreeMap<Partition, i64>) {
        for (partition, by_group) in self.runs.values().flat_map(|run| &run.lowest) {
            if let Some(&offset) = by_group.get(usize::from(group)).filter(|offset| **offset != i64::MAX) {
                let lowest = into.entry(*partition).or_insert(offset);
                *lowest = offset.min(*lowest);
            }
        }
    }

    /// How many findings it holds.
    pub fn len(&self) -> usize {
        self.runs.values().map(|run| run.held.len()).sum()
    }
}
