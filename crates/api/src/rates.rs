//! How often one caller may ask: so many requests a second, and more for a moment.
//!
//! In: who asks. Out: whether that is too often, and when it is not any more. Invariants: one caller's requests keep nobody else's out; who has not
//! been heard of for a while is forgotten.

use std::{num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::{Clock as _, MonotonicClock},
    middleware::NoOpMiddleware,
    state::keyed::HashMapStateStore,
};

/// Requests a second that one caller may go on with: several people's pages, exports and dashboards under one token.
pub(crate) const SUSTAINED: NonZeroU32 = NonZeroU32::new(200).unwrap();
/// Requests that may come at once: a script that looks at each of a thousand alerts.
const BURST: NonZeroU32 = NonZeroU32::new(2_000).unwrap();
/// Callers that are remembered before those are forgotten who have not asked for a while.
const REMEMBERED: usize = 10_000;

type Limiter =
    RateLimiter<String, HashMapStateStore<String>, MonotonicClock, NoOpMiddleware<std::time::Instant>>;

/// How often each caller has asked lately.
pub(crate) struct Rates(Limiter);

impl Rates {
    pub(crate) fn new() -> Self {
        let quota = Quota::per_second(SUSTAINED).allow_burst(BURST);
        Self(RateLimiter::new(quota, HashMapStateStore::default(), MonotonicClock))
    }

    /// Counts a request of a caller.
    ///
    /// # Errors
    /// How long it must wait, if it asks too often.
    pub(crate) fn count(&self, caller: &String) -> Result<(), Duration> {
        if self.0.len() > REMEMBERED {
            self.0.retain_recent();
        }
        self.0.check_key(caller).map_err(|not_until| not_until.wait_time_from(MonotonicClock.now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_too_often_waits_and_nobody_else_does() {
        let rates = Rates::new();
        let (busy, other) = ("busy".to_owned(), "other".to_owned());
        let passed = (0..2 * BURST.get()).take_while(|_| rates.count(&busy).is_ok()).count();
        // Some more while it is counted.
        assert!((2_000..2_500).contains(&passed), "{passed}");
        let wait = rates.count(&busy).err();
        assert!(wait.is_some_and(|wait| wait <= Duration::from_millis(10)), "{wait:?}");
        assert_eq!(rates.count(&other), Ok(()));
    }
}
