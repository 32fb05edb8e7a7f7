//! Fields of CSV (RFC 4180) that spreadsheets can open without harm.
//!
//! In: texts, as logs and people wrote them. Out: fields.
//! Invariants: no field starts a formula; each can be read back, without the apostrophe that stands in front of what would start one.

/// A field in quotes where it needs them, and with an apostrophe in front where a spreadsheet would take it for a formula: that is
/// what spreadsheets themselves write for a text, and a reader of the file takes it off. Signs behind blanks and control
/// characters count, since some programs drop these; so do full-width signs.
#[must_use]
pub fn field(text: &str) -> String {
    let dropped =
        |c: &char| c.is_whitespace() || c.is_control() || matches!(c, '\u{feff}' | '\u{200b}'..='\u{200f}');
    let first = text.chars().find(|c| !dropped(c));
    let formula = matches!(first, Some('=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠'))
        || text.starts_with(['\t', '\r', '\n']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains(['"', ',', '\r', '\n', '\'']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_field_starts_a_formula_and_all_can_be_read_back() {
        for (text, written) in [
            ("plain", "plain"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("two\r\nlines", "\"two\r\nlines\""),
            ("=cmd|' /C calc'!A0", "\"'=cmd|' /C calc'!A0\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            (" \t=1", "\"' \t=1\""),
            ("\u{feff}=1", "\"'\u{feff}=1\""),
            ("＝1", "\"'＝1\""),
            ("\rx", "\"'\rx\""),
            ("2026-01-31T11:00:00Z", "2026-01-31T11:00:00Z"),
        ] {
            assert_eq!(field(text), written, "{text:?}");
        }
    }
}
