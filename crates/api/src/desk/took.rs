//! How long something took: most of the time, and at worst.
//!
//! In: spans. Out: the median and the ninety-ninth percentile, in seconds.

use serde::Serialize;
use utoipa::ToSchema;
use vedette_event::Span;

/// How long something took, of a number of times.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub(crate) struct Took {
    /// Of how many times.
    pub of: u64,
    /// Seconds that half of them took at most; null where there is none.
    #[schema(required = true)]
    pub p50_seconds: Option<f64>,
    /// Seconds that ninety-nine of a hundred took at most.
    #[schema(required = true)]
    pub p99_seconds: Option<f64>,
}

impl Took {
    /// Of these, in any order.
    pub fn of(mut took: Vec<Span>) -> Self {
        took.sort_unstable();
        let share = |hundredths: usize| {
            let at = (took.len() * hundredths).div_ceil(100).checked_sub(1)?;
            Some(took.get(at)?.0 as f64 / 1e6)
        };
        Self { of: took.len() as u64, p50_seconds: share(50), p99_seconds: share(99) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_and_nearly_all_are_told() {
        let of = |seconds: &[i64]| Took::of(seconds.iter().map(|s| Span::secs(*s)).collect());
        assert_eq!(of(&[]), Took { of: 0, p50_seconds: None, p99_seconds: None });
        assert_eq!(of(&[3, 1, 2]), Took { of: 3, p50_seconds: Some(2.0), p99_seconds: Some(3.0) });
        let hundred: Vec<i64> = (1..=100).rev().collect();
        assert_eq!(of(&hundred), Took { of: 100, p50_seconds: Some(50.0), p99_seconds: Some(99.0) });
    }
}
