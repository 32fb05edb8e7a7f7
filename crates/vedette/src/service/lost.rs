//! Records that were lost, each counted once.
//!
//! In: intervals that Kafka deleted unread, or that were read of a topic which was accepted anew before what was found in them
//! was released; of the store at the start, of ingest and the engine while it runs. The same loss may be told again, and as part
//! of a longer one. Out: how many records. Invariant: intervals of a partition neither overlap nor touch.

use std::collections::BTreeMap;

use vedette_event::{Incarnation, SourceIx};

/// From each first offset to the one behind the last.
type Intervals = BTreeMap<i64, i64>;

/// A partition of a topic, and which of the topics of that name.
pub type TopicPartition = (String, Incarnation, i32);

/// All lost intervals, by source and partition.
#[derive(Debug, Default)]
pub struct Lost(BTreeMap<SourceIx, BTreeMap<TopicPartition, Intervals>>);

impl Lost {
    /// Adds the records of a partition from one offset to before another. False if all of them are known.
    pub fn add(&mut self, source: SourceIx, place: TopicPartition, (from, to): (i64, i64)) -> bool {
        if from >= to {
            return false;
        }
        let known = self.0.entry(source).or_default().entry(place).or_default();
        if known.range(..=from).next_back().is_some_and(|(_, end)| *end >= to) {
            return false;
        }
        let (mut first, mut last) = (from, to);
        while let Some((begin, end)) = known.range(..=last).next_back().map(|(b, e)| (*b, *e)) {
            if end < first {
                break;
            }
            known.remove(&begin);
            (first, last) = (first.min(begin), last.max(end));
        }
        known.insert(first, last);
        true
    }

    /// How many records of a source are lost.
    pub fn of(&self, source: SourceIx) -> u64 {
        let intervals = self.0.get(&source).into_iter().flat_map(BTreeMap::values).flatten();
        intervals.map(|(from, to)| to.saturating_sub(*from).unsigned_abs()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_that_is_told_again_is_counted_once() {
        let source = SourceIx(1);
        let mut lost = Lost::default();
        let mut add = |partition, interval| {
            let before = lost.of(source);
            let new = lost.add(source, ("api".to_owned(), 0, partition), interval);
            assert_eq!(new, lost.of(source) > before);
            lost.of(source)
        };
        assert_eq!(add(0, (100, 150)), 50);
        // A restart before it was passed, and one that reads again from further back.
        assert_eq!(add(0, (100, 150)), 50);
        assert_eq!(add(0, (90, 150)), 60);
        assert_eq!(add(0, (150, 160)), 70);
        assert_eq!(add(0, (10, 20)), 80);
        assert_eq!(add(1, (10, 20)), 90);
        assert_eq!(add(0, (5, 200)), 205);
        assert_eq!(add(0, (7, 7)), 205);
        assert!(lost.add(source, ("api".to_owned(), 1, 0), (7, 9)), "of another incarnation");
        assert_eq!(lost.of(source), 207);
        assert_eq!(lost.of(SourceIx(0)), 0);
    }
}
