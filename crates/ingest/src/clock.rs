//! Broker time: from a record's timestamp to `ts_log`.
//!
//! In: the timestamp, what was decided about it before, the clock. Out: [`Stamp`]. The clock is read through
//! [`now`] alone, and decides only where a timestamp is too far ahead of it.
//! Invariants: producers' times never decrease within a partition; the clock decides about a record the first time it is
//! read, and never again, since bodies that rest on it may have been published.

use std::time::{SystemTime, UNIX_EPOCH};

use rdkafka::Timestamp;
use vedette_event::{Flags, Micros, Span};

use crate::{ingested::Clock, settings::TimeSource};

/// The wall clock.
pub(crate) fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Whose clock a timestamp is.
pub(crate) const fn whose(timestamp: Timestamp) -> Clock {
    match timestamp {
        Timestamp::LogAppendTime(_) => Clock::Broker,
        Timestamp::CreateTime(_) | Timestamp::NotAvailable => Clock::Producer,
    }
}

/// What was decided about a record when it was read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decided {
    /// Nothing: it is read the first time.
    None,
    /// Its own time was taken.
    Kept,
    /// The clock's time of then was taken.
    Replaced(Micros),
}

/// A record's place in broker time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub ts_log: Micros,
    pub flags: Flags,
    /// True if the clock decided just now, so that the decision must be stored.
    pub replaced: bool,
}

/// Gives the records of one partition their `ts_log`.
#[derive(Debug, Clone)]
pub(crate) struct LogClock {
    source: TimeSource,
    allowance: Span,
    max: Option<Micros>,
}

impl LogClock {
    /// `max` is the running maximum before the first record.
    pub fn new(source: TimeSource, allowance: Span, max: Option<Micros>) -> Self {
        Self { source, allowance, max }
    }

    /// The next record's stamp.
    pub fn stamp(&mut self, timestamp: Timestamp, former: Decided, now: impl Fn() -> Micros) -> Stamp {
        let claimed = timestamp.to_millis().map(|ms| Micros(ms.saturating_mul(1_000)));
        let claimed = claimed.unwrap_or(self.max.unwrap_or_default());
        let mut stamp = match former {
            Decided::Replaced(then) => Stamp { ts_log: then, flags: Flags::CLOCK_BROKER, replaced: false },
            Decided::Kept => Stamp { ts_log: claimed, flags: Flags::NONE, replaced: false },
            Decided::None => match now() {
                now if claimed > now.plus(self.allowance) => {
                    Stamp { ts_log: now, flags: Flags::CLOCK_BROKER, replaced: true }
                }
                _ => Stamp { ts_log: claimed, flags: Flags::NONE, replaced: false },
            },
        };
        let max = self.max.map_or(stamp.ts_log, |max| max.max(stamp.ts_log));
        self.max = Some(max);
        let as_it_is = match self.source {
            TimeSource::Auto => whose(timestamp) == Clock::Broker,
            TimeSource::Broker => true,
            TimeSource::Producer => false,
        };
        if !as_it_is {
            stamp.ts_log = max;
        }
        stamp
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::Timestamp::{CreateTime, LogAppendTime, NotAvailable};

    use super::*;

    const S: Span = Span::secs(5);
    const NOW: Micros = Micros(1_000_000_000);

    fn stamps(source: TimeSource, max: Option<Micros>, all: &[Timestamp]) -> Vec<(i64, bool)> {
        let mut clock = LogClock::new(source, S, max);
        let stamps = all.iter().map(|t| clock.stamp(*t, Decided::None, || NOW));
        stamps.map(|s| (s.ts_log.0, s.replaced)).collect()
    }

    #[test]
    fn broker_time_is_taken_as_it_is_up_to_the_allowance() {
        let all = [5, 3, 1_005_000, 1_005_001].map(LogAppendTime);
        for source in [TimeSource::Broker, TimeSource::Auto] {
            let seen = stamps(source, None, &all);
            assert_eq!(seen, [(5_000, false), (3_000, false), (1_005_000_000, false), (NOW.0, true)]);
        }
    }

    #[test]
    fn producer_time_never_decreases_and_survives_a_restart() {
        let all = [
            CreateTime(5),
            CreateTime(3),
            NotAvailable,
            CreateTime(8),
            CreateTime(i64::MAX),
            CreateTime(9),
            CreateTime(-1),
        ];
        for source in [TimeSource::Producer, TimeSource::Auto] {
            let whole = stamps(source, None, &all);
            assert!(whole.is_sorted_by_key(|(ts, _)| *ts));
            assert_eq!(whole[..5], [5_000, 5_000, 5_000, 8_000, NOW.0].map(|t| (t, t == NOW.0)));
            let resumed = stamps(source, Some(Micros(5_000)), &all[1..]);
            assert_eq!(whole[1..], resumed);
        }
    }

    #[test]
    fn a_topic_that_is_switched_goes_by_the_type_of_each_record() {
        let all = [
            LogAppendTime(5),
            CreateTime(3),
            CreateTime(9),
            LogAppendTime(7),
            CreateTime(8),
            LogAppendTime(6),
        ];
        let times =
            |source| stamps(source, None, &all).into_iter().map(|(ts, _)| ts / 1_000).collect::<Vec<_>>();
        assert_eq!(times(TimeSource::Auto), [5, 5, 9, 7, 9, 6]);
        assert_eq!(times(TimeSource::Producer), [5, 5, 9, 9, 9, 9]);
    }

    #[test]
    fn a_stored_decision_stands_whatever_the_clock_says_now() {
        for source in [TimeSource::Auto, TimeSource::Broker, TimeSource::Producer] {
            let mut first = LogClock::new(source, S, None);
            let decided = first.stamp(LogAppendTime(2_000_000), Decided::None, || NOW);
            assert_eq!(decided, Stamp { ts_log: NOW, flags: Flags::CLOCK_BROKER, replaced: true });
            let mut again = LogClock::new(source, S, None);
            let stored = Decided::Replaced(decided.ts_log);
            let replayed = again.stamp(LogAppendTime(2_000_000), stored, || Micros(9_000_000_000));
            assert_eq!(replayed, Stamp { replaced: false, ..decided });
            // And the clock that has stepped back since takes nothing back.
            let kept = again.stamp(LogAppendTime(1_000_000), Decided::Kept, || Micros(0));
            assert_eq!((kept.flags, kept.replaced), (Flags::NONE, false));
        }
    }

    #[test]
    fn a_record_without_time_moves_nothing() {
        assert_eq!(
            stamps(TimeSource::Producer, None, &[NotAvailable, CreateTime(4)]),
            [(0, false), (4_000, false)]
        );
    }
}
