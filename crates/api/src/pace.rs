//! How counters moved lately: a look at them every fifteen seconds, of the last hour.
//!
//! In: snapshots, looked at by the server while it runs. Out: events by time, and the rate of each source. Invariants: at most
//! [`LOOKS`] are held, each with a figure for every source; a counter that fell began anew and counts from zero; nothing is said of times
//! at which nobody looked.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use vedette_event::{Micros, Span};

use crate::live::{Live, PartitionStatus, SourceStatus};

/// Between two looks: what a person watches a rate by.
pub(crate) const EVERY: Duration = Duration::from_secs(15);
/// An hour of them, and the one before.
const LOOKS: usize = 241;
/// Looks that a rate is taken from: those of a minute, and one that came late.
const RECENT: usize = 6;
/// What a rate is taken over.
const RATE: Span = Span::secs(60);

struct Look {
    at: Micros,
    /// Since the look before.
    events: u64,
    /// Events of each source since its counter began.
    sources: BTreeMap<String, u64>,
    /// The same of each topic's partitions; of the newest looks only.
    partitions: BTreeMap<(String, i32), u64>,
    /// How far the slowest source is behind.
    behind: Option<Span>,
}

/// What went on between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub from: Micros,
    pub until: Micros,
    /// Events evaluated.
    pub events: u64,
    /// How far the slowest source was behind at its end.
    pub behind: Option<Span>,
}

/// The looks of the last hour.
#[derive(Default)]
pub(crate) struct Pace(Mutex<VecDeque<Look>>);

impl Pace {
    /// Looks.
    pub fn look(&self, live: &Live, at: Micros) {
        let sources: BTreeMap<String, u64> =
            live.sources.iter().map(|source| (source.name.clone(), source.events)).collect();
        let behind = live.sources.iter().filter_map(|source| source.watermark).min();
        let behind = behind.map(|watermark| at.since(watermark));
        let partitions = live.sources.iter().flat_map(|source| &source.partitions);
        let partitions = partitions.map(|of| ((of.topic.clone(), of.number), of.events)).collect();
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let events = looks.back().map_or(0, |last| {
            sources.iter().map(|(name, n)| moved(last.sources.get(name).copied(), *n)).sum()
        });
        looks.push_back(Look { at, events, sources, partitions, behind });
        // There may be thousands of them.
        if let Some(old) = looks.len().checked_sub(RECENT + 1).and_then(|old| looks.get_mut(old)) {
            old.partitions.clear();
        }
        while looks.len() > LOOKS {
            looks.pop_front();
        }
    }

    /// What went on, from the oldest to the newest.
    pub fn steps(&self) -> Vec<Step> {
        let looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pairs = looks.iter().zip(looks.iter().skip(1));
        pairs.map(|(a, b)| Step { from: a.at, until: b.at, events: b.events, behind: b.behind }).collect()
    }

    /// Events a second of a source over the last minute; none before a minute of it was seen.
    pub fn rate(&self, source: &SourceStatus, at: Micros) -> Option<f64> {
        self.over(at, |look| moved(look.sources.get(&source.name).copied(), source.events))
    }

    /// The same of a partition.
    pub fn partition_rate(&self, partition: &PartitionStatus, at: Micros) -> Option<f64> {
        let key = (partition.topic.clone(), partition.number);
        self.over(at, |look| moved(look.partitions.get(&key).copied(), partition.events))
    }

    fn over(&self, at: Micros, moved: impl Fn(&Look) -> u64) -> Option<f64> {
        let looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = looks.iter().rev().take(RECENT).find(|look| at.since(look.at) >= RATE)?;
        Some(moved(before) as f64 / (at.since(before.at).0 as f64 / 1e6))
    }
}

/// By how much a counter moved; one that is new, or that fell, began at zero.
fn moved(before: Option<u64>, now: u64) -> u64 {
    before.and_then(|before| now.checked_sub(before)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{live::Mode, tests::seed};

    fn at(seconds: i64) -> Micros {
        Micros(1_769_860_800_000_000).plus(Span::secs(seconds))
    }

    /// One source that has evaluated so many.
    fn with(events: u64) -> Live {
        let mut live = seed::live(at(0));
        live.sources.truncate(1);
        live.sources[0].events = events;
        live.sources[0].watermark = Some(at(0));
        live
    }

    #[test]
    fn a_partition_has_a_rate_of_its_own_and_only_the_newest_looks_know_partitions() {
        let pace = Pace::default();
        let of = |events: u64| {
            let mut live = with(1_000);
            live.sources[0].partitions.truncate(2);
            (live.sources[0].partitions[0].events, live.sources[0].partitions[1].events) = (events, 7);
            live
        };
        for n in 0..LOOKS as u64 + 9 {
            pace.look(&of(n * 150), at(n as i64 * 15));
        }
        let last = LOOKS as u64 + 8;
        let live = of(last * 150);
        let rate =
            |number: usize| pace.partition_rate(&live.sources[0].partitions[number], at(last as i64 * 15));
        assert_eq!((rate(0), rate(1)), (Some(10.0), Some(0.0)));
        let looks = pace.0.lock().unwrap();
        assert_eq!(looks.iter().filter(|look| !look.partitions.is_empty()).count(), RECENT);
        assert_eq!(looks.len(), LOOKS);
    }

    #[test]
    fn what_moved_between_looks_is_told_and_a_counter_begins_anew() {
        let pace = Pace::default();
        assert!(pace.steps().is_empty());
        for (second, events) in [(0, 1_000), (15, 1_300), (30, 1_300), (45, 20)] {
            pace.look(&with(events), at(second));
        }
        let steps = pace.steps();
        assert_eq!(steps.iter().map(|step| step.events).collect::<Vec<_>>(), [300, 0, 20]);
        let first = steps.first().unwrap();
        assert_eq!((first.from, first.until, first.behind), (at(0), at(15), Some(Span::secs(15))));
    }

    #[test]
    fn a_rate_needs_a_minute() {
        let pace = Pace::default();
        pace.look(&with(1_000), at(0));
        let source = &with(1_600).sources[0];
        assert_eq!(pace.rate(source, at(59)), None);
        assert_eq!(pace.rate(source, at(60)), Some(10.0));
        for second in (15..120).step_by(15) {
            pace.look(&with(1_600), at(second));
        }
        assert_eq!(pace.rate(source, at(120)), Some(0.0), "the last minute, not the hour");
    }

    #[test]
    fn an_hour_is_held_and_no_more() {
        let pace = Pace::default();
        for n in 0..1_000 {
            pace.look(&Live::starting(Mode::Run, "0", at(0)), at(n * 15));
        }
        let steps = pace.steps();
        assert_eq!((steps.len(), steps[0].from), (LOOKS - 1, at((1_000 - 241) * 15)));
    }
}
