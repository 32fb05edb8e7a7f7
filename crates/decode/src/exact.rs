//! Whether what a field holds is all that its value says.
//!
//! In: a value as its record has it, and the canonical cell that became of it. Out: yes or no. Canonical texts are spelled anew
//! (`1.50` is `1.5`, `00443` is `443`, `+01:00` is UTC) and say the same; digits that a 64-bit float or a microsecond has no room for are gone.
//! Invariant: yes only where nothing is gone; what would be costly to tell is no.

use vedette_event::{Cell, FieldType, Kind};

/// True if the cell `after` says all that `before` does, as a value of its declared type.
pub fn says(declared: FieldType, before: Cell<'_>, after: Cell<'_>) -> bool {
    if before.text == after.text {
        return true;
    }
    match declared {
        FieldType::U16
        | FieldType::U32
        | FieldType::U64
        | FieldType::I64
        | FieldType::F64
        | FieldType::Decimal => number(before.text, after.text),
        FieldType::Time => time(before),
        FieldType::Text | FieldType::Ip | FieldType::Bool | FieldType::List | FieldType::Object => true,
    }
}

/// True if two texts are one number, whatever its size.
pub fn number(one: &str, other: &str) -> bool {
    one == other || matches!((digits(one), digits(other)), (Some(one), Some(other)) if one == other)
}

/// Sign, digits without superfluous zeros, and the power of ten of the last one.
fn digits(text: &str) -> Option<(bool, String, i64)> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    if all.is_empty() || !all.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let significant = all.trim_end_matches('0');
    let zeros = i64::try_from(all.len() - significant.len()).ok()?;
    let power = exponent.parse::<i64>().ok()?.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let significant = significant.trim_start_matches('0');
    if significant.is_empty() {
        return Some((false, String::new(), 0));
    }
    Some((negative, significant.to_owned(), power.checked_add(zeros)?))
}

/// True if a time has no digit beyond its microseconds.
pub fn time(cell: Cell<'_>) -> bool {
    if cell.kind != Kind::Text {
        return unix(cell.text);
    }
    // A leap second is written as the one after it.
    if cell.text.contains(":60") {
        return false;
    }
    let Some((_, fraction)) = cell.text.split_once(['.', ',']) else { return true };
    let digits = fraction.bytes().take_while(u8::is_ascii_digit);
    digits.skip(6).all(|digit| digit == b'0')
}

/// The same of a Unix number, whose size says its unit.
fn unix(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        // With an exponent.
        return false;
    }
    let room = match whole.trim_start_matches('0').len() {
        ..=11 => 6,
        12..=14 => 3,
        15..=17 => 0,
        _ => return whole.ends_with("000") && fraction.bytes().all(|digit| digit == b'0'),
    };
    fraction.bytes().skip(room).all(|digit| digit == b'0')
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("1.50", "1.5", true)]
    #[case("00443", "443", true)]
    #[case("15e2", "1500", true)]
    #[case("-0.0", "0", true)]
    #[case("-1", "1", false)]
    #[case("0.001", "1e-3", true)]
    #[case("9007199254740993", "9007199254740992", false)]
    #[case("0.12345678901234567890", "0.12345678901234568", false)]
    #[case("x", "x", true)]
    #[case("x", "0", false)]
    fn numbers_are_compared_by_all_their_digits(#[case] one: &str, #[case] other: &str, #[case] same: bool) {
        assert_eq!(number(one, other), same);
        assert_eq!(number(other, one), same);
    }

    #[rstest]
    #[case(Kind::Text, "2026-01-02T03:04:05Z", true)]
    #[case(Kind::Text, "2026-01-02T03:04:05.123456Z", true)]
    #[case(Kind::Text, "2026-01-02T03:04:05.123456000+01:00", true)]
    #[case(Kind::Text, "2026-01-02T03:04:05.1234567Z", false)]
    #[case(Kind::Text, "2026-12-31T23:59:60Z", false)]
    #[case(Kind::Int, "1767225600", true)]
    #[case(Kind::Float, "1767225600.123456", true)]
    #[case(Kind::Float, "1767225600.1234567", false)]
    #[case(Kind::Int, "1767225600123", true)]
    #[case(Kind::Float, "1767225600123.1234", false)]
    #[case(Kind::Int, "1767225600123456", true)]
    #[case(Kind::Int, "1767225600123456000", true)]
    #[case(Kind::Int, "1767225600123456789", false)]
    #[case(Kind::Float, "1.7672256e9", false)]
    fn times_are_whole_up_to_microseconds(#[case] kind: Kind, #[case] text: &str, #[case] whole: bool) {
        assert_eq!(time(Cell { kind, text }), whole);
    }
}
