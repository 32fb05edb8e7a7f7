//! Tables for people: as wide as the terminal, plain elsewhere.

use std::io::{self, IsTerminal as _};

use comfy_table::{ContentArrangement, Table, TableComponent, presets};
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
    let moves = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if moves(c) { '\u{fffd}' } else { c }).collect()
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
}
