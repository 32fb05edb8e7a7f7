//! What people read on a terminal: tables as wide as it is, and texts and JSON that it does not obey.
//!
//! In: what logs, rules and names of files say. Out: the same without what moves a cursor, changes colours or turns the direction of writing.
//! Invariant: JSON stays the same JSON, and goes to pipes and files byte for byte as it is.

use std::io::{self, IsTerminal as _, Write};

use comfy_table::{ContentArrangement, Table, TableComponent, presets};
use serde::Serialize;
use serde_json::Value;

/// A table with a head; texts as given, but for control characters.
pub fn of(heads: &[&str], rows: &[Vec<String>]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_style(TableComponent::HeaderLines, '─');
    table.set_style(TableComponent::MiddleHeaderIntersections, '─');
    table.set_header(heads);
    if io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    for row in rows {
        table.add_row(row.iter().map(|cell| plain(cell)));
    }
    table
}

/// A key as `name=value` pairs: `source.ip=10.0.0.1 user.name=bob`.
pub fn pairs(key: &Value) -> String {
    let pair = |(name, value): (&String, &Value)| match value {
        Value::String(text) => format!("{name}={text}"),
        value => format!("{name}={value}"),
    };
    key.as_object().map(|key| key.iter().map(pair).collect::<Vec<_>>().join(" ")).unwrap_or_default()
}

/// What logs and rules say must not move the cursor, change colours or the direction of writing.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if moves(c) { '\u{fffd}' } else { c }).collect()
}

/// The same of a text of several lines.
pub fn plain_lines(text: &str) -> String {
    text.lines().map(plain).collect::<Vec<_>>().join("\n")
}

/// Control characters (C0, DEL, C1), ends of lines and marks for the direction of writing.
fn moves(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Writes a value as JSON; to a terminal [`escaped`].
pub fn write_json(out: &mut impl Write, value: &impl Serialize, terminal: bool) -> io::Result<()> {
    if terminal {
        out.write_all(escaped(&serde_json::to_string(value)?).as_bytes())
    } else {
        Ok(serde_json::to_writer(out, value)?)
    }
}

/// The same JSON as a terminal may have it. What stands raw in JSON and moves something stands in a text there, but for the ends of lines
/// between values; so `\u202e` says the same.
pub fn escaped(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        if c != '\n' && moves(c) {
            // All of them are one unit of UTF-16.
            shown.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_a_line_and_holds_no_control_characters() {
        let key = serde_json::json!({"source.ip": "10.0.0.1", "port": 22, "user": "a\u{1b}[2J\u{202e}\nb"});
        let table = of(&["Key", "Events"], &[vec![pairs(&key), "3".into()]]).to_string();
        assert_eq!(table.lines().count(), 3, "{table}");
        assert!(table.contains("source.ip=10.0.0.1") && table.contains("port=22"), "{table}");
        assert!(!table.contains('\u{1b}'), "{table}");
    }

    #[test]
    fn json_for_a_terminal_is_the_same_json() -> serde_json::Result<()> {
        let all: String =
            ('\0'..='\u{ff}').chain('\u{600}'..='\u{61c}').chain('\u{2000}'..='\u{206f}').collect();
        let value = serde_json::json!({all.clone(): [all, "é", 1.5, null]});
        let shown = escaped(&serde_json::to_string_pretty(&value)?);
        assert!(!shown.chars().any(|c| c != '\n' && moves(c)), "{shown}");
        assert!(shown.contains("\\u009b") && shown.contains("\\u202e") && shown.contains('é'), "{shown}");
        assert_eq!(serde_json::from_str::<Value>(&shown)?, value);
        Ok(())
    }
}
