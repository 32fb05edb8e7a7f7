//! A seeded day at a cryptocurrency exchange, in the wire formats of its real sources.
//!
//! In: a seed, a start time and a rate. Out: [`Record`]s in order of time: background traffic of customers and, mixed
//! into it, attacks with the label of what they are.
//! Invariant: the same seed, start and rate give the same records, byte for byte, on every machine; that is why the
//! random numbers are our own (SplitMix64) and not a library's, whose streams change between versions.

mod attacks;
mod background;
mod random;
mod wire;

use std::collections::BTreeMap;

use vedette_event::{Micros, Span};

pub use random::Random;

/// Which source a record belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Feed {
    /// PAN-OS CSV in a syslog envelope.
    Firewall,
    /// AWS WAF JSON.
    Waf,
    /// The exchange's own API log, JSON.
    Api,
}

impl Feed {
    /// All feeds.
    pub const ALL: [Self; 3] = [Self::Firewall, Self::Waf, Self::Api];

    /// The topic that the demo writes it to.
    #[must_use]
    pub const fn topic(self) -> &'static str {
        match self {
            Self::Firewall => "firewall",
            Self::Waf => "waf",
            Self::Api => "api",
        }
    }

    /// The source definition that reads it.
    #[must_use]
    pub const fn source(self) -> &'static str {
        match self {
            Self::Firewall => "paloalto",
            Self::Waf => "aws_waf",
            Self::Api => "exchange_api",
        }
    }
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When it happens; the record claims this time in its own format.
    pub time: Micros,
    /// The source.
    pub feed: Feed,
    /// The record.
    pub line: String,
    /// The rule that it is made for, if it is part of an attack.
    pub label: Option<&'static str>,
    /// Whom it is from: an address.
    pub source: String,
}

impl Record {
    /// The same as the enforcement point writes it that lets its sender through no more.
    #[must_use]
    pub fn denied(self) -> Self {
        Self { line: wire::denied(self.feed, &self.line), ..self }
    }
}

/// The day, record by record.
#[derive(Debug)]
pub struct Simulator {
    random: Random,
    gap: Span,
    background: Micros,
    /// Records of attacks under way, by time and number.
    scheduled: BTreeMap<(Micros, u64), Record>,
    /// When each attack comes next.
    due: Vec<Micros>,
    number: u64,
}

impl Simulator {
    /// A day that starts at `start` with `rate` background records a second (at least 1).
    ///
    /// Each attack comes once within the first 40 seconds, and then every few minutes.
    #[must_use]
    pub fn new(seed: u64, start: Micros, rate: u32) -> Self {
        let first = |at: usize| start.plus(Span(1_000_000 + at as i64 * 3_500_000));
        Self {
            random: Random::new(seed),
            gap: Span(1_000_000 / i64::from(rate.max(1))),
            background: start,
            scheduled: BTreeMap::new(),
            due: (0..attacks::ALL.len()).map(first).collect(),
            number: 0,
        }
    }

    /// The next record. There is no end.
    pub fn next_record(&mut self) -> Record {
        for (attack, due) in attacks::ALL.iter().zip(&mut self.due) {
            if *due <= self.background {
                for record in attack(&mut self.random, *due) {
                    self.number += 1;
                    self.scheduled.insert((record.time, self.number), record);
                }
                let pause = 120 + self.random.below(300) as i64;
                *due = due.plus(Span::secs(pause));
            }
        }
        if let Some(first) = self.scheduled.first_entry()
            && first.key().0 <= self.background
        {
            return first.remove();
        }
        let record = background::record(&mut self.random, self.background);
        self.background = self.background.plus(self.gap.max(Span(1)));
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Micros = Micros(1_767_268_800_000_000);

    fn first(seed: u64, n: usize) -> Vec<Record> {
        let mut simulator = Simulator::new(seed, START, 100);
        (0..n).map(|_| simulator.next_record()).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_day() {
        assert_eq!(first(7, 3_000), first(7, 3_000));
        assert_ne!(first(7, 100), first(8, 100));
    }

    #[test]
    fn records_come_in_order_and_every_attack_within_a_minute() {
        let records = first(1, 8_000);
        assert!(records.is_sorted_by_key(|r| r.time));
        let minute = records.iter().filter(|r| r.time < START.plus(Span::secs(60)));
        let labels: std::collections::BTreeSet<_> = minute.filter_map(|r| r.label).collect();
        assert_eq!(labels.len(), attacks::ALL.len(), "{labels:?}");
    }

    #[test]
    fn every_feed_has_records() {
        let records = first(3, 2_000);
        for feed in Feed::ALL {
            assert!(records.iter().any(|r| r.feed == feed), "{feed:?}");
        }
    }
}
