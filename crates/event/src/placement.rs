//! Placement: which time an event takes part at. A pure, total function of the record.
//!
//! In: claimed time, broker time, the source's bounds. Out: [`Placed`].
//! Invariant: `ts_log − D ≤ ts_event ≤ ts_log + F`, whatever the record claims.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    flags::Flags,
    time::{Micros, Span},
};

/// An event's time and how it came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// `ts_event`.
    pub time: Micros,
    /// Why it differs from the claim, if it does.
    pub flags: Flags,
}

/// Places an event: `claimed` is `ts_raw`, `log` is `ts_log`, `late` is `D`, `future` is `F`.
#[must_use]
pub fn place(claimed: Option<Micros>, log: Micros, late: Span, future: Span) -> Placed {
    match claimed {
        None => Placed { time: log, flags: Flags::CLOCK_MISSING },
        Some(t) if t > log.plus(future) => Placed { time: log, flags: Flags::CLOCK_FUTURE },
        Some(t) if t < log.minus(late) => Placed { time: log.minus(late), flags: Flags::CLOCK_LATE },
        Some(t) => Placed { time: t, flags: Flags::NONE },
    }
}

/// A placement that is no function of the record alone, stored before anything that follows from it is published.
///
/// `clock=broker` replaces the record's `ts_log` by `time`; `clock=overtaken` places its events no lower than `time`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPlacement {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition number.
    pub partition: i32,
    /// Offset of the record.
    pub offset: i64,
    /// `clock=broker` or `clock=overtaken`.
    pub flag: Flags,
    /// The replacing time.
    pub time: Micros,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: Span = Span::secs(60);
    const FUTURE: Span = Span::secs(10);

    #[test]
    fn bounds_are_inclusive_and_total() {
        let log = Micros(1_000_000_000);
        let at = |claimed| place(claimed, log, LATE, FUTURE);
        assert_eq!(at(None), Placed { time: log, flags: Flags::CLOCK_MISSING });
        assert_eq!(at(Some(log.plus(FUTURE))).flags, Flags::NONE);
        assert_eq!(at(Some(Micros(log.0 + FUTURE.0 + 1))), Placed { time: log, flags: Flags::CLOCK_FUTURE });
        assert_eq!(at(Some(log.minus(LATE))).flags, Flags::NONE);
        assert_eq!(at(Some(Micros::MIN)), Placed { time: log.minus(LATE), flags: Flags::CLOCK_LATE });
        assert_eq!(at(Some(Micros::MAX)).flags, Flags::CLOCK_FUTURE);
    }
}
