//! Canonical text by declared type: equal values become equal bytes.
//!
//! In: a cell as the record has it and the field's declared type. Out: the canonical cell, or nothing if the value
//! is not of that type (the field is then missing and the failure counted; the raw text stays in the original).

use std::{fmt::Write, net::IpAddr};

use vedette_event::{Cell, FieldType, Kind, cell::number};

use crate::claim;

/// Decimal numbers are written out to this many digits; longer ones are refused.
const MAX_DECIMAL_DIGITS: usize = 60;

/// Casts a cell to a declared type. `scratch` may receive the canonical text. Null and missing stay what they are.
#[must_use]
pub fn cast<'a>(declared: FieldType, cell: Cell<'a>, scratch: &'a mut String) -> Option<Cell<'a>> {
    if matches!(cell.kind, Kind::Missing | Kind::Null) {
        return Some(cell);
    }
    scratch.clear();
    match declared {
        FieldType::Text => match cell.kind {
            Kind::List | Kind::Object => None,
            _ => Some(Cell { kind: Kind::Text, text: cell.text }),
        },
        FieldType::U16 => whole(cell, scratch, 0, u16::MAX.into()),
        FieldType::U32 => whole(cell, scratch, 0, u32::MAX.into()),
        FieldType::U64 => whole(cell, scratch, 0, u64::MAX.into()),
        FieldType::I64 => whole(cell, scratch, i64::MIN.into(), i64::MAX.into()),
        FieldType::F64 => float(cell, scratch),
        FieldType::Decimal => decimal(cell, scratch),
        FieldType::Bool => boolean(cell),
        FieldType::Ip => ip(cell, scratch),
        FieldType::Time => time(cell, scratch),
        FieldType::List => list(cell, scratch),
        FieldType::Object => (cell.kind == Kind::Object).then_some(cell),
    }
}

/// True for a text that is a number as JSON writes it.
fn is_json_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let all_digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    all_digits(whole)
        && all_digits(fraction)
        && all_digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))
}

/// The whole number that at most 18 digits without sign and superfluous zero say.
fn plain(text: &str) -> Option<i64> {
    let canonical = (1..=18).contains(&text.len()) && (text == "0" || !text.starts_with('0'));
    if !canonical || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(text.bytes().fold(0, |n, b| n * 10 + i64::from(b - b'0')))
}

/// True for a fraction that surely is written as its nearest f64 is, shortest: without exponent or superfluous zero,
/// not too small, of so few digits that no other one means the same f64.
pub fn is_shortest(number: &str) -> bool {
    let digits = number.strip_prefix('-').unwrap_or(number);
    let Some((whole, fraction)) = digits.split_once('.') else { return false };
    let all_digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    whole.len() + fraction.len() <= 15
        && all_digits(whole)
        && all_digits(fraction)
        && !fraction.ends_with('0')
        && (!whole.starts_with('0') || whole == "0" && !fraction.starts_with("000"))
}

fn numeric(cell: Cell<'_>) -> Option<&str> {
    match cell.kind {
        Kind::Int | Kind::Float => Some(cell.text),
        Kind::Text if is_json_number(cell.text) => Some(cell.text),
        _ => None,
    }
}

fn whole<'a>(cell: Cell<'a>, scratch: &'a mut String, min: i128, max: i128) -> Option<Cell<'a>> {
    if let (Kind::Int | Kind::Text, Some(n)) = (cell.kind, plain(cell.text)) {
        let fits = (min..=max).contains(&i128::from(n));
        return fits.then_some(Cell { kind: Kind::Int, text: cell.text });
    }
    let text = numeric(cell)?;
    let n = match text.parse::<i128>() {
        Ok(n) => n,
        Err(_) => match number(text)? {
            (Kind::Int, canonical) => canonical.parse().ok()?,
            _ => return None,
        },
    };
    if !(min..=max).contains(&n) {
        return None;
    }
    let canonical = text.len() <= 20
        && !text.starts_with("-0")
        && (text == "0" || !text.starts_with('0'))
        && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    if canonical {
        return Some(Cell { kind: Kind::Int, text });
    }
    write!(scratch, "{n}").ok()?;
    Some(Cell { kind: Kind::Int, text: scratch })
}

fn float<'a>(cell: Cell<'a>, scratch: &'a mut String) -> Option<Cell<'a>> {
    let text = numeric(cell)?;
    if is_shortest(text) {
        return Some(Cell { kind: Kind::Float, text });
    }
    let f: f64 = text.parse().ok()?;
    let (kind, text) = number(&serde_json::to_string(&f).ok()?)?;
    scratch.push_str(&text);
    Some(Cell { kind, text: scratch })
}

/// Exact decimal: no exponent, no superfluous zero.
fn decimal<'a>(cell: Cell<'a>, scratch: &'a mut String) -> Option<Cell<'a>> {
    let text = numeric(cell)?;
    if plain(text).is_some() {
        return Some(Cell { kind: Kind::Int, text });
    }
    if is_shortest(text) {
        return Some(Cell { kind: Kind::Float, text });
    }
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent: i64 = exponent.parse().ok()?;
    let all: String = format!("{whole}{fraction}");
    let leading = all.len() - all.trim_start_matches('0').len();
    let significant = all.trim_matches('0');
    if significant.is_empty() {
        return Some(Cell { kind: Kind::Int, text: "0" });
    }
    // The value is 0.<significant> times ten to the power of `point`.
    let point = i64::try_from(whole.len()).ok()?.checked_sub(i64::try_from(leading).ok()?)?;
    let point = point.checked_add(exponent)?;
    let length = i64::try_from(significant.len()).ok()?;
    let bound = MAX_DECIMAL_DIGITS as i64;
    if length > bound || !(-bound..=bound).contains(&point) {
        return None;
    }
    if negative {
        scratch.push('-');
    }
    if point <= 0 {
        scratch.push_str("0.");
        scratch.extend(std::iter::repeat_n('0', point.unsigned_abs() as usize));
        scratch.push_str(significant);
    } else if point >= length {
        scratch.push_str(significant);
        scratch.extend(std::iter::repeat_n('0', (point - length) as usize));
    } else {
        let (before, after) = significant.split_at_checked(point as usize)?;
        scratch.push_str(before);
        scratch.push('.');
        scratch.push_str(after);
    }
    let integer = scratch.parse::<i64>().is_ok() || scratch.parse::<u64>().is_ok();
    Some(Cell { kind: if integer { Kind::Int } else { Kind::Float }, text: scratch })
}

fn boolean(cell: Cell<'_>) -> Option<Cell<'_>> {
    let value = match cell.kind {
        Kind::Bool | Kind::Text if cell.text.eq_ignore_ascii_case("true") => "true",
        Kind::Bool | Kind::Text if cell.text.eq_ignore_ascii_case("false") => "false",
        _ => return None,
    };
    Some(Cell { kind: Kind::Bool, text: value })
}

fn ip<'a>(cell: Cell<'a>, scratch: &'a mut String) -> Option<Cell<'a>> {
    if cell.kind != Kind::Text {
        return None;
    }
    let address: IpAddr = cell.text.parse().ok()?;
    if address.is_ipv4() {
        return Some(cell);
    }
    write!(scratch, "{}", address.to_canonical()).ok()?;
    Some(Cell { kind: Kind::Text, text: if *scratch == cell.text { cell.text } else { scratch } })
}

fn time<'a>(cell: Cell<'a>, scratch: &'a mut String) -> Option<Cell<'a>> {
    claim::append(claim::instant(cell)?, scratch);
    Some(Cell { kind: Kind::Text, text: scratch })
}

fn list<'a>(cell: Cell<'a>, scratch: &'a mut String) -> Option<Cell<'a>> {
    match cell.kind {
        Kind::List => return Some(cell),
        Kind::Object => return None,
        _ => {}
    }
    scratch.push('[');
    scratch.push_str(&serde_json::to_string(cell.text).ok()?);
    scratch.push(']');
    Some(Cell { kind: Kind::List, text: scratch })
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
        fn what_looks_shortest_is(text in "-?(0|[0-9]{1,9})\\.[0-9]{1,9}") {
            if is_shortest(&text) {
                prop_assert_eq!(number(&text), Some((Kind::Float, text)));
            }
        }

        #[test]
        fn plain_numbers_are_what_they_say(text in "[0-9]{1,20}") {
            if let Some(n) = plain(&text) {
                prop_assert_eq!(n.to_string(), text);
            }
        }
    }

    #[rstest]
    #[case(FieldType::U16, Kind::Text, "443", "Int 443")]
    #[case(FieldType::U16, Kind::Text, "00443", "Int 443")]
    #[case(FieldType::U16, Kind::Text, "65536", "-")]
    #[case(FieldType::U16, Kind::Int, "443", "Int 443")]
    #[case(FieldType::U16, Kind::Text, "+443", "-")]
    #[case(FieldType::U64, Kind::Text, "18446744073709551615", "Int 18446744073709551615")]
    #[case(FieldType::U64, Kind::Text, "18446744073709551616", "-")]
    #[case(FieldType::U64, Kind::Int, "-1", "-")]
    #[case(FieldType::I64, Kind::Text, "-0", "Int 0")]
    #[case(FieldType::I64, Kind::Float, "1.5", "-")]
    #[case(FieldType::I64, Kind::Text, "1e2", "Int 100")]
    #[case(FieldType::F64, Kind::Int, "9007199254740993", "Int 9007199254740992")]
    #[case(FieldType::F64, Kind::Text, "0.10", "Float 0.1")]
    #[case(FieldType::F64, Kind::Text, "NaN", "-")]
    #[case(FieldType::F64, Kind::Text, "-1.5", "Float -1.5")]
    #[case(FieldType::F64, Kind::Text, "01.5", "Float 1.5")]
    #[case(FieldType::F64, Kind::Text, "12.0", "Int 12")]
    #[case(FieldType::Decimal, Kind::Text, "12345678.12345678", "Float 12345678.12345678")]
    #[case(FieldType::Decimal, Kind::Text, "-0.25", "Float -0.25")]
    #[case(FieldType::Decimal, Kind::Text, "0.10", "Float 0.1")]
    #[case(FieldType::Decimal, Kind::Text, "001.500", "Float 1.5")]
    #[case(FieldType::Decimal, Kind::Float, "1.5e3", "Int 1500")]
    #[case(FieldType::Decimal, Kind::Text, "-0.000", "Int 0")]
    #[case(FieldType::Decimal, Kind::Text, "1e-3", "Float 0.001")]
    #[case(FieldType::Decimal, Kind::Text, "100", "Int 100")]
    #[case(
        FieldType::Decimal,
        Kind::Text,
        "123456789.123456789123456789",
        "Float 123456789.123456789123456789"
    )]
    #[case(FieldType::Decimal, Kind::Text, "1e99999999999", "-")]
    #[case(FieldType::Bool, Kind::Text, "True", "Bool true")]
    #[case(FieldType::Bool, Kind::Int, "1", "-")]
    #[case(FieldType::Ip, Kind::Text, "192.0.2.1", "Text 192.0.2.1")]
    #[case(FieldType::Ip, Kind::Text, "::ffff:192.0.2.1", "Text 192.0.2.1")]
    #[case(FieldType::Ip, Kind::Text, "2001:DB8:0:0::1", "Text 2001:db8::1")]
    #[case(FieldType::Ip, Kind::Text, "192.0.2.1:80", "-")]
    #[case(FieldType::Ip, Kind::Text, "192.0.2.01", "-")]
    #[case(FieldType::Time, Kind::Text, "2026-01-01T00:00:00+01:00", "Text 2025-12-31T23:00:00.000000Z")]
    #[case(FieldType::Time, Kind::Int, "0", "Text 1970-01-01T00:00:00.000000Z")]
    #[case(FieldType::Time, Kind::Text, "0", "-")]
    #[case(FieldType::Text, Kind::Int, "5", "Text 5")]
    #[case(FieldType::Text, Kind::Object, "{}", "-")]
    #[case(FieldType::List, Kind::Text, "a\"b", r#"List ["a\"b"]"#)]
    #[case(FieldType::List, Kind::List, "[1]", "List [1]")]
    #[case(FieldType::Object, Kind::Object, "{}", "Object {}")]
    #[case(FieldType::Object, Kind::Text, "{}", "-")]
    #[case(FieldType::U16, Kind::Null, "", "Null ")]
    fn casts(#[case] declared: FieldType, #[case] kind: Kind, #[case] text: &str, #[case] expected: &str) {
        let mut scratch = String::new();
        let got = cast(declared, Cell { kind, text }, &mut scratch)
            .map_or_else(|| "-".to_owned(), |cell| format!("{:?} {}", cell.kind, cell.text));
        assert_eq!(got, expected);
    }
}
