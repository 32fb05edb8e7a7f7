//! Claimed times: what a record says about when it happened.
//!
//! In: a cell (RFC 3339 text or a Unix number) or a naive local time and a time zone. Out: [`Micros`], digits beyond
//! microseconds cut, or nothing if it is no time. Digits inside a text are no time.

use chrono::{NaiveDateTime, TimeZone};
use chrono_tz::Tz;
use vedette_event::{Cell, Kind, Micros};

/// The last microsecond of the year 9999; later numbers are no times.
const MAX_MICROS: i128 = 253_402_300_799_999_999;
/// The first microsecond of the year 1.
const MIN_MICROS: i128 = -62_135_596_800_000_000;

/// The time in a cell: RFC 3339, or a Unix number below 1e11 in seconds, 1e14 in milliseconds, 1e17 in microseconds,
/// else in nanoseconds.
#[must_use]
pub fn instant(cell: Cell<'_>) -> Option<Micros> {
    match cell.kind {
        Kind::Text => Micros::parse_rfc3339(cell.text),
        Kind::Int | Kind::Float => unix(cell.text),
        _ => None,
    }
}

/// As [`instant`], and a text without offset is local time of `zone`: date and time with a blank or `T` between them.
#[must_use]
pub fn instant_in(cell: Cell<'_>, zone: Tz) -> Option<Micros> {
    instant(cell).or_else(|| match cell.kind {
        Kind::Text => ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"]
            .into_iter()
            .find_map(|format| NaiveDateTime::parse_from_str(cell.text, format).ok())
            .and_then(|naive| local(naive, zone)),
        _ => None,
    })
}

/// A local time in its zone. Of an hour that happens twice the first counts; one that never happens is no time.
#[must_use]
pub fn local(naive: NaiveDateTime, zone: Tz) -> Option<Micros> {
    let micros = zone.from_local_datetime(&naive).earliest()?.timestamp_micros();
    (MIN_MICROS..=MAX_MICROS).contains(&i128::from(micros)).then_some(Micros(micros))
}

/// A Unix number by magnitude, exactly.
fn unix(text: &str) -> Option<Micros> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    // In units of 1e-15, so that nanoseconds cut to whole ones and microseconds of seconds are exact.
    const SCALE: usize = 15;
    let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent: i64 = exponent.parse().ok()?;
    if whole.len() + fraction.len() > 400 || !(-400..=400).contains(&exponent) {
        return None;
    }
    let keep = whole.len() as i64 + exponent + SCALE as i64;
    let mut scaled: i128 = 0;
    let mut all = whole.bytes().chain(fraction.bytes());
    for _ in 0..keep {
        let digit = all.next().map_or(0, |b| i128::from(b.wrapping_sub(b'0')));
        scaled = scaled.checked_mul(10)?.checked_add(digit)?;
    }
    let one = 10_i128.pow(SCALE as u32);
    let scaled = if negative { -scaled } else { scaled };
    let size = scaled.unsigned_abs() / one.unsigned_abs();
    let micros = match size {
        ..100_000_000_000 => scaled.checked_mul(1_000_000)?.div_euclid(one),
        100_000_000_000..100_000_000_000_000 => scaled.checked_mul(1_000)?.div_euclid(one),
        100_000_000_000_000..100_000_000_000_000_000 => scaled.div_euclid(one),
        _ => scaled.div_euclid(one.checked_mul(1_000)?),
    };
    (MIN_MICROS..=MAX_MICROS).contains(&micros).then_some(Micros(micros as i64))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("0", Some(0))]
    #[case("99999999999", Some(99_999_999_999_000_000))]
    #[case("100000000000", Some(100_000_000_000_000))]
    #[case("1748208718574", Some(1_748_208_718_574_000))]
    #[case("1748208718.574", Some(1_748_208_718_574_000))]
    #[case("1748208718.1234569", Some(1_748_208_718_123_456))]
    #[case("1.7e9", Some(1_700_000_000_000_000))]
    #[case("17e-1", Some(1_700_000))]
    #[case("99999999999999999", Some(99_999_999_999_999_999))]
    #[case("100000000000000000", Some(100_000_000_000_000))]
    #[case("1748208718574123999", Some(1_748_208_718_574_123))]
    #[case("-1", Some(-1_000_000))]
    #[case("1e300", None)]
    #[case("1e40", None)]
    #[case("1e-300", Some(0))]
    fn unix_numbers_go_by_magnitude(#[case] text: &str, #[case] expected: Option<i64>) {
        assert_eq!(unix(text), expected.map(Micros));
    }

    #[test]
    fn digits_inside_a_text_are_no_time() {
        assert_eq!(instant(Cell { kind: Kind::Text, text: "1748208718" }), None);
        assert_eq!(instant(Cell { kind: Kind::Bool, text: "true" }), None);
    }

    #[test]
    fn local_times_take_the_zone() {
        let zone: Tz = "Europe/Berlin".parse().unwrap();
        let at = |text| instant_in(Cell { kind: Kind::Text, text }, zone).map(|t| t.to_string());
        assert_eq!(at("2026-07-01 12:00:00").unwrap(), "2026-07-01T10:00:00.000000Z");
        assert_eq!(at("2026-07-01T12:00:00.1234567").unwrap(), "2026-07-01T10:00:00.123456Z");
        assert_eq!(at("2026-10-25 02:30:00").unwrap(), "2026-10-25T00:30:00.000000Z");
        assert_eq!(at("2026-03-29 02:30:00"), None);
        assert_eq!(at("2026-07-01T12:00:00Z").unwrap(), "2026-07-01T12:00:00.000000Z");
    }
}
