//! Tables for people: as wide as the terminal, plain elsewhere.

use std::io::{self, IsTerminal as _};

use comfy_table::{ContentArrangement, Table, presets};

/// A table with a head; numbers and texts as given.
pub fn of(heads: &[&str], rows: &[Vec<String>]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(heads);
    if io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    for row in rows {
        table.add_row(row);
    }
    table
}
