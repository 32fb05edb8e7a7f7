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

/// What logs and rules say must not move the cursor or change colours.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_a_line_and_holds_no_control_characters() {
        let key = serde_json::json!({"source.ip": "10.0.0.1", "port": 22, "user": "a\u{1b}[2J\nb"});
        let table = of(&["Key", "Events"], &[vec![pairs(&key), "3".into()]]).to_string();
        assert_eq!(table.lines().count(), 3, "{table}");
        assert!(table.contains("source.ip=10.0.0.1") && table.contains("port=22"), "{table}");
        assert!(!table.contains('\u{1b}'), "{table}");
    }
}
