//! Broker time: from a record's timestamp to `ts_log`.
//!
//! In: the timestamp, a stored placement if there is one, the clock. Out: [`Stamp`]. The clock is read through
//! [`now`] alone, and decides only where a timestamp is too far ahead of it.
//! Invariant: with [`TimeSource::Producer`], `ts_log` never decreases within a partition.

use std::time::{SystemTime, UNIX_EPOCH};

use vedette_event::{Flags, Micros, Span};

use crate::settings::TimeSource;

/// The wall clock.
pub(crate) fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
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

    /// The next record's stamp. `millis` is Kafka's timestamp (`None` if it has none), `stored` a former decision of the
    /// clock about this very record.
    pub fn stamp(&mut self, millis: Option<i64>, stored: Option<Micros>, now: impl Fn() -> Micros) -> Stamp {
        let claimed = millis.map(|ms| Micros(ms.saturating_mul(1_000)));
        let claimed = claimed.unwrap_or(self.max.unwrap_or_default());
        let mut stamp = Stamp { ts_log: claimed, flags: Flags::NONE, replaced: false };
        if let Some(stored) = stored {
            stamp.ts_log = stored;
            stamp.flags = Flags::CLOCK_BROKER;
        } else {
            let now = now();
            if claimed > now.plus(self.allowance) {
                stamp = Stamp { ts_log: now, flags: Flags::CLOCK_BROKER, replaced: true };
            }
        }
        let max = self.max.map_or(stamp.ts_log, |max| max.max(stamp.ts_log));
        self.max = Some(max);
        if self.source == TimeSource::Producer {
            stamp.ts_log = max;
        }
        stamp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Span = Span::secs(5);
    const NOW: Micros = Micros(1_000_000_000);

    fn stamps(source: TimeSource, max: Option<Micros>, millis: &[Option<i64>]) -> Vec<(i64, bool)> {
        let mut clock = LogClock::new(source, S, max);
        millis.iter().map(|ms| clock.stamp(*ms, None, || NOW)).map(|s| (s.ts_log.0, s.replaced)).collect()
    }

    #[test]
    fn broker_time_is_taken_as_it_is_up_to_the_allowance() {
        let seen = stamps(TimeSource::Broker, None, &[Some(5), Some(3), Some(1_005_000), Some(1_005_001)]);
        assert_eq!(seen, [(5_000, false), (3_000, false), (1_005_000_000, false), (NOW.0, true)]);
    }

    #[test]
    fn producer_time_never_decreases_and_survives_a_restart() {
        let all = [Some(5), Some(3), None, Some(8), Some(i64::MAX), Some(9), Some(-1)];
        let whole = stamps(TimeSource::Producer, None, &all);
        assert!(whole.is_sorted_by_key(|(ts, _)| *ts));
        assert_eq!(whole[..4], [(5_000, false), (5_000, false), (5_000, false), (8_000, false)]);
        let resumed = stamps(TimeSource::Producer, Some(Micros(5_000)), &all[1..]);
        assert_eq!(whole[1..], resumed);
    }

    #[test]
    fn a_stored_decision_stands_whatever_the_clock_says_now() {
        for source in [TimeSource::Broker, TimeSource::Producer] {
            let mut first = LogClock::new(source, S, None);
            let decided = first.stamp(Some(2_000_000), None, || NOW);
            assert_eq!(decided, Stamp { ts_log: NOW, flags: Flags::CLOCK_BROKER, replaced: true });
            let mut again = LogClock::new(source, S, None);
            let replayed = again.stamp(Some(2_000_000), Some(decided.ts_log), || Micros(9_000_000_000));
            assert_eq!(replayed, Stamp { replaced: false, ..decided });
        }
    }

    #[test]
    fn a_record_without_time_moves_nothing() {
        assert_eq!(stamps(TimeSource::Producer, None, &[None, Some(4)]), [(0, false), (4_000, false)]);
    }
}
