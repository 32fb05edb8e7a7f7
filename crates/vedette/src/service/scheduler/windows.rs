//! Which window of a scheduled hunt is looked at next, and up to when events can be looked at.
//!
//! In: where a schedule stands, how far the lake is complete, the time. Out: [`Next`], [`Reached`]. Invariants: windows follow one another without a
//! gap, and each is looked at once or passed over, which is said; no clock is read here.
//!
//! A window is a stretch of event time, `[k·every, (k+1)·every)` since 1970-01-01 UTC, as the windows of judged rules are. That nothing falls
//! between two runs follows from how events are placed: one that the broker takes after T is placed above T − `D`. So once the lake is complete
//! through T, no event below T − `D` − `S` is to come any more (`S`: what clocks of brokers may differ by), and a window that ends there has
//! all that it ever will. To go by when events came into the lake would need no such wait, but windows would be of no meaning to who reads
//! them, would differ from run to run, and a query could skip no file by time.
//!
//! What comes below all the same is what detection calls `clock=overtaken` and announces: a producer whose clock is behind, where the topic's
//! times are its producers'; a broker's clock that stepped back; a topic that is found late. Scheduled hunts miss such events.

use vedette_event::{
    Micros, Span,
    time::{DAY, HOUR},
};

/// Windows that ended no longer ago are made up for.
pub const MAKE_UP: Span = DAY;
/// And always so many.
const LEAST: i64 = 3;
/// For so long a lake that does not get on is waited for: one source that stands still must not blind hunts over all others.
pub const PATIENCE: Span = HOUR;

/// What is to be done about a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Its next window has not all its events yet.
    Wait,
    /// This window is to be looked at.
    Run {
        /// Its beginning.
        from: Micros,
        /// Its end, which does not belong to it.
        until: Micros,
    },
    /// These are too long ago, and are looked at no more.
    PassOver {
        /// The beginning of the first.
        from: Micros,
        /// The end of the last.
        until: Micros,
        /// How many.
        windows: u64,
    },
}

/// What is next for a schedule whose next window begins at `from`, where all events below `reached` can be looked at.
pub fn next(from: Micros, every: Span, reached: Micros) -> Next {
    let newest = reached.floor(every);
    if newest.since(from) < every {
        return Next::Wait;
    }
    let back = MAKE_UP.max(Span(every.0.saturating_mul(LEAST)));
    let oldest = newest.minus(back).floor(every);
    if from < oldest {
        let windows = oldest.since(from).0 / every.0;
        return Next::PassOver { from, until: oldest, windows: windows.unsigned_abs() };
    }
    Next::Run { from, until: from.plus(every) }
}

/// Up to when events can be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// Those below this time.
    pub below: Micros,
    /// Of those below this time none is to come any more.
    pub complete: Micros,
}

/// How the lake gets on.
#[derive(Debug, Default)]
pub struct Progress(Option<(Option<Micros>, Micros)>);

impl Progress {
    /// Up to when events can be looked at now, where the lake is complete through this time. `slack` is `D` + `S`.
    pub fn reached(&mut self, through: Option<Micros>, slack: Span, now: Micros) -> Reached {
        let since = match self.0 {
            Some((before, since)) if before == through => since,
            _ => now,
        };
        self.0 = Some((through, since));
        let complete = through.map_or(Micros::MIN, |through| through.minus(slack));
        let stands = now.since(since) >= PATIENCE;
        let below = if stands { complete.max(now.minus(slack).minus(PATIENCE)) } else { complete };
        Reached { below, complete }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;
    const EVERY: Span = Span(5 * MINUTE);

    fn at(minutes: i64) -> Micros {
        Micros(1_767_225_600_000_000 + minutes * MINUTE)
    }

    /// All that is done from here on, in order, as the lake gets on in these steps.
    fn done(mut from: Micros, every: Span, steps: &[Micros]) -> (Vec<(Micros, Micros)>, u64) {
        let (mut ran, mut passed) = (Vec::new(), 0);
        for reached in steps {
            loop {
                from = match next(from, every, *reached) {
                    Next::Wait => break,
                    Next::Run { from, until } => {
                        ran.push((from, until));
                        until
                    }
                    Next::PassOver { until, windows, .. } => {
                        passed += windows;
                        until
                    }
                };
            }
        }
        (ran, passed)
    }

    #[test]
    fn windows_follow_one_another_without_gap_and_overlap() {
        let (ran, passed) = done(at(0), EVERY, &[at(4), at(5), at(5), at(9), at(31), at(60)]);
        assert_eq!(passed, 0);
        assert_eq!((ran.len(), ran.first().map(|of| of.0)), (12, Some(at(0))));
        assert!(ran.windows(2).all(|two| two[0].1 == two[1].0), "{ran:?}");
        assert!(ran.iter().all(|(from, until)| until.since(*from) == EVERY));
    }

    #[test]
    fn a_window_waits_for_its_last_event() {
        assert_eq!(next(at(0), EVERY, at(5).minus(Span(1))), Next::Wait);
        assert_eq!(next(at(0), EVERY, at(5)), Next::Run { from: at(0), until: at(5) });
        // A schedule ahead of the lake, as after a restore of an older one.
        assert_eq!(next(at(60), EVERY, at(0)), Next::Wait);
        assert_eq!(next(at(0), EVERY, Micros::MIN), Next::Wait);
    }

    #[test]
    fn what_was_not_run_is_made_up_for_within_a_day_and_counted_beyond() {
        let days = |n: i64| at(n * 24 * 60);
        // Down for three days: two are passed over, one is made up for.
        let (ran, passed) = done(at(0), EVERY, &[days(3)]);
        assert_eq!((ran.len(), passed), (288, 2 * 288));
        assert_eq!((ran[0].0, ran[287].1), (days(2), days(3)));
        // To the microsecond a day is all made up for.
        assert_eq!(done(at(0), EVERY, &[days(1)]).1, 0);
        // Of long windows three.
        let week = Span(7 * DAY.0);
        let first = at(0).floor(week);
        let (ran, passed) = done(first, week, &[first.plus(Span(week.0 * 5))]);
        assert_eq!((ran.len(), passed), (3, 2));
    }

    #[test]
    fn what_stands_still_is_waited_for_an_hour_and_no_longer() {
        let (slack, mut progress) = (Span::secs(65), Progress::default());
        let through = at(0);
        let whole = through.minus(slack);
        assert_eq!(progress.reached(Some(through), slack, at(1)), Reached { below: whole, complete: whole });
        assert_eq!(progress.reached(Some(through), slack, at(60)).below, whole);
        let late = progress.reached(Some(through), slack, at(61));
        assert_eq!(late, Reached { below: at(1).minus(slack), complete: whole });
        // It gets on: what is missing is waited for again.
        let on = at(2);
        assert_eq!(progress.reached(Some(on), slack, at(62)).below, on.minus(slack));
        // Nothing is known of a partition.
        let mut none = Progress::default();
        assert_eq!(none.reached(None, slack, at(0)).below, Micros::MIN);
        assert_eq!(none.reached(None, slack, at(60)).below, at(0).minus(slack));
    }
}
