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
        Kind::Text => utc(cell.text).or_else(|| Micros::parse_rfc3339(cell.text)),
        Kind::Int | Kind::Float => unix(cell.text),
        _ => None,
    }
}

/// The commonest spelling of a time, `YYYY-MM-DDTHH:MM:SS[.digits]Z`; of any other one nothing is said.
fn utc(text: &str) -> Option<Micros> {
    let bytes = text.strip_suffix('Z')?.as_bytes();
    let (seconds, fraction) = bytes.split_first_chunk::<19>()?;
    let shape = b"0000-00-00T00:00:00";
    if !seconds.iter().zip(shape).all(|(b, &s)| if s == b'0' { b.is_ascii_digit() } else { *b == s }) {
        return None;
    }
    let digit = |at: usize| i64::from(seconds[at] - b'0');
    let pair = |at: usize| digit(at) * 10 + digit(at + 1);
    let (year, month, day) = (pair(0) * 100 + pair(2), pair(5), pair(8));
    let (hour, minute, second) = (pair(11), pair(14), pair(17));
    if year == 0 || !(1..=12).contains(&month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    if !(1..=month_length(year, month)).contains(&day) {
        return None;
    }
    let micros = match fraction.split_first() {
        None => 0,
        Some((b'.', digits)) if (1..=9).contains(&digits.len()) => {
            let mut micros = 0;
            for at in 0..digits.len().max(6) {
                let digit = digits.get(at).copied().unwrap_or(b'0');
                if !digit.is_ascii_digit() {
                    return None;
                }
                if at < 6 {
                    micros = micros * 10 + i64::from(digit - b'0');
                }
            }
            micros
        }
        Some(_) => return None,
    };
    // Days since 1970-01-01, years beginning in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 719_469;
    Some(Micros((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + micros))
}

/// Appends a time as [`Micros`] displays it.
pub fn append(time: Micros, out: &mut String) {
    let micros = time.0.clamp(MIN_MICROS as i64, MAX_MICROS as i64);
    let (seconds, fraction) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let (days, second) = (seconds.div_euclid(86_400) + 719_468, seconds.rem_euclid(86_400));
    // Eras of 400 years, years beginning in March.
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = (year + era * 400, month + 1);
    let (year, month) = if month > 10 { (year + 1, month - 10) } else { (year, month + 2) };
    let groups = [
        (year / 100, ""),
        (year % 100, "-"),
        (month, "-"),
        (day, "T"),
        (second / 3_600, ":"),
        (second / 60 % 60, ":"),
        (second % 60, "."),
        (fraction / 10_000, ""),
        (fraction / 100 % 100, ""),
        (fraction % 100, "Z"),
    ];
    for (two, after) in groups {
        out.push(char::from(b'0' + (two / 10) as u8));
        out.push(char::from(b'0' + (two % 10) as u8));
        out.push_str(after);
    }
}

fn month_length(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
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
    let micros = match zone {
        Tz::UTC => naive.and_utc().timestamp_micros(),
        zone => zone.from_local_datetime(&naive).earliest()?.timestamp_micros(),
    };
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
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn the_short_way_to_a_time_is_the_long_one(
            micros in MIN_MICROS as i64..=MAX_MICROS as i64,
            damaged in any::<prop::sample::Index>(),
            byte in prop::sample::select(&b"0123456789-:.TZtz +"[..]),
            tail in "[0-9]{0,4}",
        ) {
            let mut written = String::new();
            append(Micros(micros), &mut written);
            prop_assert_eq!(&written, &Micros(micros).to_string());
            let text = written.replace('Z', &format!("{tail}Z"));
            prop_assert_eq!(utc(&text).map(|t| t.0), (tail.len() <= 3).then_some(micros));
            let mut bytes = text.into_bytes();
            let at = damaged.index(bytes.len());
            bytes[at] = byte;
            let text = String::from_utf8(bytes).unwrap();
            if let Some(time) = utc(&text) {
                prop_assert_eq!(Some(time), Micros::parse_rfc3339(&text), "{}", text);
            }
        }
    }

    #[test]
    fn days_that_are_in_no_calendar_are_no_times() {
        for text in ["2026-02-29", "2100-02-29", "2026-04-31", "2026-13-01", "2026-00-01", "2026-01-00"] {
            assert_eq!(utc(&format!("{text}T00:00:00Z")), None, "{text}");
        }
        for text in ["2024-02-29", "2000-02-29", "1970-01-01", "0001-01-01", "9999-12-31", "2026-03-01"] {
            let text = format!("{text}T23:59:59.5Z");
            assert_eq!(utc(&text), Micros::parse_rfc3339(&text), "{text}");
            assert!(utc(&text).is_some());
        }
    }

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
