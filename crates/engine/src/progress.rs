//! How far sources have come, who waits for whom, and who is paused for that.
//!
//! In: partitions' states, what ingest says of topics. Out: watermarks, releases, partitions to pause.
//! Invariants: a watermark never falls; the partition that is furthest behind of those that a crowded set of sources reads is
//! never paused for it, so pausing cannot stand in the way of the release that ends it: of all partitions of crowded sets the one
//! furthest behind is the slowest in each set that reads it.

use std::collections::BTreeSet;

use vedette_correlate::Hands;
use vedette_event::{Micros, Partition, SourceIx, TopicIx};

use crate::{Engine, Output, TopicStanding, partition::PartitionState};

/// Records that a restart may have to read again for what waits for a source that stands still, for each finding of the
/// reorder budget: 64 million by default, some minutes of reading. Further back lie findings that are given up: an hour of
/// reading again after a restart would be an outage for all rules, and they would wait for some of one.
const READ_AGAIN: usize = 16;

impl Engine {
    /// Says that a source will be read from this topic, too: nothing of it is released before it is known which partitions
    /// there are.
    pub fn expect(&mut self, topic: TopicIx, source: SourceIx) {
        self.standing.expect(topic, source);
    }

    /// Says whether a topic has partitions that could not be begun yet. Their source waits for them, as it does for one that was
    /// begun and is not led just now: nothing is known of when what they hold was.
    pub fn await_partitions(&mut self, topic: TopicIx, source: SourceIx, some: bool, out: &mut Output) {
        if some {
            self.awaited.insert(topic, source);
        } else if self.awaited.remove(&topic).is_some() {
            self.release(out);
        }
    }

    /// Sources of which nothing is known yet of some topic or partition.
    fn unknown(&self) -> impl Iterator<Item = SourceIx> {
        let awaited = self.awaited.iter().filter(|(topic, _)| self.standing.waits_for(**topic));
        self.standing.unknown().chain(awaited.map(|(_, source)| *source))
    }

    /// Says what has become of an expected topic; that it is read after its partitions have been assigned.
    pub fn set_topic(&mut self, topic: TopicIx, state: TopicStanding, out: &mut Output) {
        let furthest = self.waited_for().map(|(_, state)| self.reached(state)).max().unwrap_or(Micros::MIN);
        if self.standing.set(topic, state, furthest) {
            self.correlator.stand(|source| self.standing.still(source));
        }
        self.release(out);
    }

    /// The partitions for which their sources wait.
    fn waited_for(&self) -> impl Iterator<Item = (&Partition, &PartitionState)> {
        self.partitions.iter().filter(|(partition, _)| self.standing.waits_for(partition.topic))
    }

    /// Releases nothing from now on, or again what has become due. For a store that does not keep up: what is read meanwhile
    /// is evaluated and looked at for notices, and waits. Watermarks decide when, never what.
    pub fn hold(&mut self, held: bool, out: &mut Output) {
        let let_go = self.held && !held;
        self.held = held;
        if let_go {
            self.let_go(out);
        }
    }

    /// Goes on with a release that has stopped at [`crate::EngineSettings::alerts_at_once`]; false if there was none.
    pub fn go_on(&mut self, out: &mut Output) -> bool {
        let goes_on = self.unfinished && !self.held;
        if goes_on {
            self.let_go(out);
        }
        goes_on
    }

    /// True if so much waits that no more should be read while releases are held: a quarter of what may wait before partitions
    /// are paused, which leaves room for what waits for other reasons.
    #[must_use]
    pub fn holds_enough(&self) -> bool {
        let (waiting, budget) = self.correlator.waiting();
        waiting >= budget / 4
    }

    /// From now on, lets key groups through on several threads where there is enough to do.
    pub fn share(&mut self, hands: Hands) {
        self.correlator.share(hands);
    }

    /// Releases what has become due and has waited for more to come with it ([`crate::EngineSettings::release_after`]).
    pub fn catch_up(&mut self, out: &mut Output) {
        if self.behind {
            self.let_go(out);
        }
    }

    /// Watermarks may have risen: releases what lies below, if enough has come for that.
    pub(crate) fn release(&mut self, out: &mut Output) {
        self.behind = true;
        if self.correlator.fresh() >= self.settings.release_after || self.unfinished {
            self.let_go(out);
        }
    }

    /// Raises the sources' watermarks as far as their partitions allow and releases what lies below.
    fn let_go(&mut self, out: &mut Output) {
        if self.held {
            return;
        }
        self.behind = false;
        let mut lowest: Vec<Option<Micros>> = vec![None; self.watermarks.len()];
        for source in self.unknown() {
            lowest[usize::from(source.0)] = Some(Micros::MIN);
        }
        for (_, state) in self.waited_for() {
            let watermark = self.reached(state);
            let low = &mut lowest[usize::from(state.source.0)];
            *low = Some(low.map_or(watermark, |low| low.min(watermark)));
        }
        let mut moved = false;
        for (watermark, low) in self.watermarks.iter_mut().zip(lowest) {
            let reached = low.unwrap_or(Micros::MIN);
            moved |= reached > *watermark;
            *watermark = reached.max(*watermark);
        }
        if moved || self.unfinished {
            let most = self.settings.alerts_at_once;
            self.unfinished = !self.correlator.release(&self.watermarks, most, &mut out.correlated);
        }
        if self.standing.reached(&self.watermarks) {
            self.correlator.stand(|source| self.standing.still(source));
        }
    }

    /// How far a partition has come.
    pub(crate) fn reached(&self, state: &PartitionState) -> Micros {
        let disorder = self.compiled.disorder(state.source);
        state.reached(state.max_log, disorder, self.settings.skew)
    }

    /// How far the other partitions of a source have come.
    pub(crate) fn reached_by_others(&self, source: SourceIx, but: Partition) -> Micros {
        if self.unknown().any(|unknown| unknown == source) {
            return Micros::MIN;
        }
        let others = self.waited_for().filter(|(p, state)| state.source == source && **p != but);
        others.map(|(_, state)| self.reached(state)).min().unwrap_or(Micros::MAX)
    }

    /// Partitions to pause: of the sources that a crowded rule reads, those ahead of the slowest. Level partitions are not
    /// paused: only reading on moves their watermark.
    #[must_use]
    pub fn ahead(&self) -> Vec<Partition> {
        let mut ahead = BTreeSet::new();
        for sources in self.correlator.crowded() {
            let known = !self.unknown().any(|source| sources.contains(&source));
            let of_set = || {
                let of_set = self.waited_for().filter(|(_, s)| !s.ended && sources.contains(&s.source));
                of_set.map(|(partition, state)| (*partition, self.reached(state)))
            };
            // What is not known may begin anywhere.
            let slowest = of_set().map(|(_, reached)| reached).min().filter(|_| known).unwrap_or(Micros::MIN);
            let level = slowest.plus(self.settings.skew);
            ahead.extend(of_set().filter(|(_, reached)| *reached > level).map(|(partition, _)| partition));
        }
        ahead.into_iter().collect()
    }

    /// Gives up what waits for sources that stand still, where a restart would have too much to read again for it.
    pub(crate) fn bound_reading_again(&mut self, records: usize, out: &mut Output) {
        let most = self.settings.waiting.pause.saturating_mul(READ_AGAIN);
        self.unlooked = self.unlooked.saturating_add(records);
        if self.unlooked < most / 8 {
            return;
        }
        self.unlooked = 0;
        let topics = &self.compiled.topics;
        let read = self.partitions.iter().map(|(p, s)| ((*p, topics.incarnation(p.topic)), s.next()));
        let read = read.collect();
        self.correlator.give_up(&read, READ_AGAIN, &mut out.correlated);
    }
}
