//! Points in time and lengths of time, both whole microseconds.
//!
//! In: numbers and RFC 3339 text. Out: [`Micros`] (since 1970-01-01 UTC) and [`Span`].
//! Invariant: arithmetic saturates, so no absurd input can overflow.

use std::fmt;

use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A point in time: microseconds since 1970-01-01T00:00:00Z. Serialises as RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Micros(pub i64);

/// A length of time in microseconds. Serialises as a text such as `5m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub i64);

/// One day, the longest an episode can run without being cut.
pub const DAY: Span = Span(86_400_000_000);
/// One hour.
pub const HOUR: Span = Span(3_600_000_000);
/// One second.
pub const SECOND: Span = Span(1_000_000);

/// 9999-12-31T23:59:59.999999Z: the last time that RFC 3339 can write.
const MAX_PRINTABLE: i64 = 253_402_300_799_999_999;
/// 0001-01-01T00:00:00Z.
const MIN_PRINTABLE: i64 = -62_135_596_800_000_000;

impl Micros {
    /// Before every event.
    pub const MIN: Self = Self(i64::MIN);
    /// After every event.
    pub const MAX: Self = Self(i64::MAX);

    /// The time `span` later, saturating.
    #[must_use]
    pub const fn plus(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// The time `span` earlier, saturating.
    #[must_use]
    pub const fn minus(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.0))
    }

    /// The length from `earlier` to `self`, saturating.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }

    /// The start of the aligned interval of length `span` (positive) that holds `self`.
    #[must_use]
    pub const fn floor(self, span: Span) -> Self {
        Self(self.0.saturating_sub(self.0.rem_euclid(span.0)))
    }

    /// The 00:00 UTC at or before `self`.
    #[must_use]
    pub const fn midnight(self) -> Self {
        self.floor(DAY)
    }

    /// Reads RFC 3339 (`T`, `t` or a blank between date and time); digits beyond microseconds are cut.
    ///
    /// Returns `None` for anything else, and for years outside 1 to 9999.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let t = DateTime::parse_from_rfc3339(text).ok()?;
        let micros = t.timestamp_micros();
        (MIN_PRINTABLE..=MAX_PRINTABLE).contains(&micros).then_some(Self(micros))
    }
}

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// `n` seconds.
    #[must_use]
    pub const fn secs(n: i64) -> Self {
        Self(n.saturating_mul(SECOND.0))
    }

    /// Reads `<whole number><unit>` with unit `us`, `ms`, `s`, `m`, `h`, `d`, `w`, `M` (30 days) or `y` (365 days).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let n: i64 = text.get(..digits)?.parse().ok()?;
        let unit = match text.get(digits..)? {
            "us" => 1,
            "ms" => 1_000,
            "s" => SECOND.0,
            "m" => 60 * SECOND.0,
            "h" => HOUR.0,
            "d" => DAY.0,
            "w" => 7 * DAY.0,
            "M" => 30 * DAY.0,
            "y" => 365 * DAY.0,
            _ => return None,
        };
        n.checked_mul(unit).map(Self)
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clamped = self.0.clamp(MIN_PRINTABLE, MAX_PRINTABLE);
        match DateTime::from_timestamp_micros(clamped) {
            Some(t) => f.write_str(&t.to_rfc3339_opts(SecondsFormat::Micros, true)),
            None => write!(f, "{clamped}us"),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n, unit) = [(DAY.0, "d"), (HOUR.0, "h"), (60 * SECOND.0, "m"), (SECOND.0, "s"), (1_000, "ms")]
            .into_iter()
            .find(|(size, _)| self.0 != 0 && self.0 % size == 0)
            .map_or((self.0, "us"), |(size, unit)| (self.0 / size, unit));
        write!(f, "{n}{unit}")
    }
}

impl Serialize for Micros {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Micros {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Self::parse_rfc3339(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is no RFC 3339 time")))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Self::parse(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "`{text}` is no length of time; write for example 500ms, 10s, 5m, 1h, 1d"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_round_trip_and_are_cut_to_microseconds() {
        let t = Micros::parse_rfc3339("2026-01-02T03:04:05.1234567+01:00").unwrap();
        assert_eq!(t.to_string(), "2026-01-02T02:04:05.123456Z");
        assert_eq!(Micros::parse_rfc3339("yesterday"), None);
        assert_eq!(Micros::parse_rfc3339("+12026-01-02T03:04:05Z"), None);
    }

    #[test]
    fn spans_read_and_write_the_same() {
        for text in ["5m", "10s", "1h", "2d", "250ms", "7us"] {
            assert_eq!(Span::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "5", "m", "-5m", "5 m", "99999999999999d"] {
            assert_eq!(Span::parse(text), None, "{text}");
        }
    }

    #[test]
    fn floors_are_aligned_before_the_epoch_too() {
        assert_eq!(Micros(-1).midnight(), Micros(-DAY.0));
        assert_eq!(Micros(0).midnight(), Micros(0));
    }
}
