//! Findings of a few seconds of event time, in any order; those below a watermark come out in the total order.
//!
//! In: findings. Out: those below a watermark, sorted.
//! Invariant: a finding is sorted once, with what came since the last release that reached into the run, and then lies in a piece that is in
//! order; pieces are merged when there are several of a size, so that each is moved a few times at most, however often the
//! watermark moves within the run.

use vedette_event::Micros;

use super::Origin;
use crate::{Effort, event::EventRef};

/// Findings of a run whose memory is kept for the next: some megabytes over all groups for each set of sources, payloads aside.
const SPARE: usize = 1_024;

/// One event that concerns one tree.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// The event.
    pub event: EventRef,
    /// Where its payload starts in [`Run::bytes`].
    pub start: usize,
    /// Hash of its key, if it has one key.
    pub hash: Option<u64>,
    /// The tree.
    pub tree: u32,
    /// Entries of the reorder budget that it takes.
    pub entries: u16,
    /// Whether it is counted for the rule here: an event may be in several groups.
    pub counts: bool,
}

impl Held {
    fn sort(all: &mut [Self]) {
        // Stable and quick where pieces are in order already.
        all.sort_by(|a, b| a.event.order().cmp(&b.event.order()).then(a.tree.cmp(&b.tree)));
    }
}

/// Findings of some seconds of event time.
#[derive(Debug, Default)]
pub struct Run {
    /// What came since the last release that reached into the run.
    fresh: Vec<Held>,
    /// In order each, larger ones first: findings, how many of them are gone.
    pieces: Vec<(Vec<Held>, usize)>,
    /// Payloads.
    pub bytes: Vec<u8>,
    /// The earliest of `fresh`.
    earliest: Option<Micros>,
    /// The lowest offset of each partition, as far as somebody asked and nothing was let through since.
    lowest: Option<Vec<(Origin, i64)>>,
    /// So many of `fresh` are in it.
    noted: usize,
}

impl Run {
    #[inline]
    pub fn hold(&mut self, held: Held, payload: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(payload);
        let time = held.event.time;
        if self.earliest.is_none_or(|earliest| time < earliest) {
            self.earliest = Some(time);
        }
        self.fresh.push(Held { start, ..held });
    }

    /// The time of its first finding.
    pub fn first(&self) -> Option<Micros> {
        let heads = self.pieces.iter().filter_map(|(held, gone)| Some(held.get(*gone)?.event.time));
        heads.chain(self.earliest).min()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.fresh.len() + self.pieces.iter().map(|(held, gone)| held.len() - gone).sum::<usize>()
    }

    /// How many lie below a time: what came since the last release is put in order for that, as it would be soon.
    pub fn count(&mut self, below: Micros, effort: &mut Effort) -> usize {
        if !self.fresh.is_empty() {
            let mut fresh = std::mem::take(&mut self.fresh);
            self.earliest = None;
            Held::sort(&mut fresh);
            effort.sorted += fresh.len() as u64;
            self.add(fresh);
            effort.sorted += self.merge() as u64;
        }
        let count = |(held, gone): &(Vec<Held>, usize)| {
            held.get(*gone..).unwrap_or_default().partition_point(|held| held.event.time < below)
        };
        self.pieces.iter().map(count).sum()
    }

    /// Moves what lies below a time into `out`, in order; how many findings were sorted.
    pub fn take(&mut self, below: Option<Micros>, out: &mut Vec<Held>) -> usize {
        let mut sorted = 0;
        if !self.fresh.is_empty() {
            let mut fresh = std::mem::take(&mut self.fresh);
            self.earliest = None;
            sorted += fresh.len();
            Held::sort(&mut fresh);
            let all = below.is_none_or(|below| fresh.last().is_some_and(|last| last.event.time < below));
            if all && self.pieces.is_empty() {
                // As it mostly is: the watermark comes when all is there.
                out.append(&mut fresh);
                (self.fresh, self.lowest, self.noted) = (fresh, None, 0);
                return sorted;
            }
            self.add(fresh);
        }
        let before = out.len();
        for (held, gone) in &mut self.pieces {
            let rest = held.get(*gone..).unwrap_or_default();
            let n = below.map_or(rest.len(), |below| rest.partition_point(|held| held.event.time < below));
            out.extend_from_slice(rest.get(..n).unwrap_or_default());
            *gone += n;
        }
        if out.len() > before {
            self.lowest = None;
        }
        self.pieces.retain(|(held, gone)| *gone < held.len());
        if let Some(taken) = out.get_mut(before..) {
            Held::sort(taken);
        }
        sorted + self.merge()
    }

    /// Adds a piece that is in order.
    fn add(&mut self, piece: Vec<Held>) {
        if let Some(lowest) = &mut self.lowest {
            piece.iter().for_each(|held| lower(lowest, &held.event));
        }
        self.noted = 0;
        self.pieces.push((piece, 0));
    }

    /// Merges the last pieces while the one is not twice as long as the other; how many findings were moved.
    fn merge(&mut self) -> usize {
        let mut moved = 0;
        while let [.., (a, a_gone), (b, b_gone)] = &mut self.pieces[..] {
            if a.len() - *a_gone >= 2 * (b.len() - *b_gone) {
                break;
            }
            a.drain(..*a_gone);
            *a_gone = 0;
            a.extend(b.drain(*b_gone..));
            moved += a.len();
            Held::sort(a);
            self.pieces.pop();
        }
        moved
    }

    /// All there is, in any order.
    pub fn iter(&self) -> impl Iterator<Item = &Held> {
        let pieces = self.pieces.iter().flat_map(|(held, gone)| held.get(*gone..).unwrap_or_default());
        pieces.chain(&self.fresh)
    }

    /// True if it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.pieces.is_empty()
    }

    /// The lowest offset of each partition.
    pub fn lowest(&mut self) -> &[(Origin, i64)] {
        let mut lowest = self.lowest.take();
        match &mut lowest {
            Some(lowest) => {
                let rest = self.fresh.get(self.noted..).unwrap_or_default();
                rest.iter().for_each(|held| lower(lowest, &held.event));
            }
            None => {
                let all = lowest.insert(Vec::new());
                self.iter().for_each(|held| lower(all, &held.event));
            }
        }
        self.noted = self.fresh.len();
        self.lowest.insert(lowest.unwrap_or_default())
    }

    /// Empties it, to be used again; not if it took much memory, which would stay after a flood.
    pub fn cleared(mut self) -> Option<Self> {
        self.fresh.clear();
        self.pieces.clear();
        self.bytes.clear();
        (self.earliest, self.lowest, self.noted) = (None, None, 0);
        (self.fresh.capacity() <= SPARE && self.bytes.capacity() <= SPARE * size_of::<Held>()).then_some(self)
    }
}

#[inline]
fn lower(lowest: &mut Vec<(Origin, i64)>, event: &EventRef) {
    let origin = event.origin();
    match lowest.iter_mut().find(|(known, _)| *known == origin) {
        Some((_, offset)) => *offset = event.offset.min(*offset),
        None => lowest.push((origin, event.offset)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vedette_event::{Flags, TopicIx};

    use super::*;

    fn held(time: i64, offset: i64) -> Held {
        let (time, flags, topic) = (Micros(time), Flags::NONE, TopicIx(0));
        let event =
            EventRef { time, offset, partition: 0, index: 0, topic, incarnation: 0, flags, weight: 1 };
        Held { event, start: 0, hash: None, tree: 0, entries: 1, counts: true }
    }

    proptest! {
        #[test]
        fn what_comes_out_is_below_and_in_order_and_nothing_is_lost(
            steps in prop::collection::vec((prop::collection::vec(0..100_i64, 0..20), 0..20_i64), 1..30),
        ) {
            let (mut run, mut below, mut offset) = (Run::default(), 0, 0);
            let mut waiting: Vec<(i64, i64)> = Vec::new();
            for (times, step) in steps {
                for time in times {
                    let time = below + time;
                    run.hold(held(time, offset), &[]);
                    waiting.push((time, offset));
                    offset += 1;
                }
                prop_assert_eq!(run.first().map(|time| time.0), waiting.iter().map(|(time, _)| *time).min());
                below += step;
                let mut out = Vec::new();
                run.take(Some(Micros(below)), &mut out);
                let mut expected: Vec<_> = waiting.extract_if(.., |(time, _)| *time < below).collect();
                expected.sort_unstable();
                prop_assert!(out.iter().map(|held| (held.event.time.0, held.event.offset)).eq(expected));
                let lowest = waiting.iter().map(|(_, offset)| *offset).min();
                prop_assert_eq!(run.lowest().first().map(|(_, offset)| *offset), lowest);
                prop_assert_eq!(run.is_empty(), waiting.is_empty());
            }
        }
    }

    #[test]
    fn what_is_sorted_goes_by_what_is_new() {
        let (mut run, mut sorted, mut out) = (Run::default(), 0, Vec::new());
        (0..10_000).for_each(|n| run.hold(held(n, n), &[]));
        for below in 0..10_000 {
            run.hold(held(below + 100, 10_000 + below), &[]);
            sorted += run.take(Some(Micros(below)), &mut out);
            assert!(run.pieces.len() < 16, "{} pieces", run.pieces.len());
        }
        // Each once, and merged with others like it a dozen times at most.
        assert!(sorted < 20_000 * 14, "{sorted}");
    }
}
