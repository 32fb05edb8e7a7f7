//! `event.unmapped` of PAN-OS lines.
//!
//! In: a line and which fields hold which of its cells ([`LineRest::take`]). Out: an object of all other cells that are not missing,
//! as texts under PAN-OS's own names, of what stands before the CSV (`syslog_header`), and of what lies behind the last cell
//! that is told apart (as the cell after it); secrets hidden.
//! Invariants: each cell is in a column, or here, or missing; the work is linear in the line.

use super::{
    Line,
    csv::MAX_CELLS,
    layout::{FieldSource, LogType},
    names, threat,
};
use crate::{json::text::quote, secret::Secrets};

/// What stands before the CSV.
const HEADER: &str = "syslog_header";

/// Writes what is left of one line after another.
pub struct LineRest {
    /// The column that it is.
    pub column: usize,
    /// By log type.
    names: [Vec<CellName>; 2],
    /// One bit for each cell.
    taken: [u64; MAX_CELLS / 64],
    /// How many parts of a threat's cell fields hold, and which cell that is.
    threat: (usize, usize),
    out: String,
}

/// What a cell is called.
struct CellName {
    /// As a JSON name, with its colon.
    key: String,
    /// A field that is a secret comes from it.
    secret: bool,
}

/// The cells that a field's value comes from.
fn cells(from: FieldSource) -> [Option<usize>; 2] {
    match from {
        FieldSource::Cell(at)
        | FieldSource::Nanoseconds(at)
        | FieldSource::ThreatId(at)
        | FieldSource::ThreatName(at)
        | FieldSource::Url(at)
        | FieldSource::File(at)
        | FieldSource::UrlPart(at, _)
        | FieldSource::Blocked(at)
        | FieldSource::Host(at) => [Some(at), None],
        FieldSource::Either(first, second) => [Some(first), Some(second)],
        FieldSource::Fixed(_) | FieldSource::Time => [None, None],
    }
}

impl LineRest {
    /// For the column.
    pub fn new(column: usize, secrets: &Secrets) -> Self {
        let name = |log: LogType, at: usize| {
            let name = names::name(log, at);
            let of_cell = |field: &&str| log.field(field).is_some_and(|from| cells(from).contains(&Some(at)));
            let secret = secrets.covers(&name) || log.fields().filter(of_cell).any(|f| secrets.covers(f));
            CellName { key: format!("\"{name}\":"), secret }
        };
        Self {
            column,
            names: LogType::ALL.map(|log| (0..=MAX_CELLS).map(|at| name(log, at)).collect()),
            taken: [0; MAX_CELLS / 64],
            threat: (0, 0),
            out: String::new(),
        }
    }

    /// Begins a line, and forgets the one before; one of its cells may be the claimed time.
    pub fn begin(&mut self, time: Option<usize>) {
        self.taken = [0; MAX_CELLS / 64];
        self.threat = (0, 0);
        time.into_iter().for_each(|at| self.take_cell(at));
    }

    /// A field holds what its cell says.
    pub fn take(&mut self, from: FieldSource, line: &Line<'_>) {
        match from {
            FieldSource::Cell(at)
            | FieldSource::Nanoseconds(at)
            | FieldSource::Url(at)
            | FieldSource::File(at)
            | FieldSource::Host(at) => self.take_cell(at),
            FieldSource::Either(first, second) => {
                self.take_cell(if line.get(first).is_some() { first } else { second });
            }
            FieldSource::ThreatId(at) | FieldSource::ThreatName(at) => {
                self.threat = (self.threat.0 + 1, at);
            }
            FieldSource::UrlPart(..)
            | FieldSource::Blocked(_)
            | FieldSource::Fixed(_)
            | FieldSource::Time => {}
        }
    }

    /// A cell is said elsewhere.
    fn take_cell(&mut self, at: usize) {
        if let Some(word) = self.taken.get_mut(at / 64) {
            *word |= 1 << (at % 64);
        }
    }

    /// The object of all that was not taken of a line; `behind` is what its cells end before. `None` if nothing is left.
    pub fn write(
        &mut self,
        log: LogType,
        line: &Line<'_>,
        behind: &str,
        secrets: &Secrets,
        scratch: &mut String,
    ) -> Option<&str> {
        self.take_threat(line);
        self.out.clear();
        let header = line.header.trim_ascii();
        if !header.is_empty() {
            self.out.push_str("{\"");
            self.out.push_str(HEADER);
            self.out.push_str("\":");
            value(header, false, secrets, &mut self.out);
        }
        let names = &self.names[log as usize];
        for (at, name) in names.iter().enumerate().take(line.cells.len()) {
            if self.taken.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1) {
                continue;
            }
            if let Some(text) = line.plain(at, scratch) {
                self.out.push(if self.out.is_empty() { '{' } else { ',' });
                self.out.push_str(&name.key);
                value(text, name.secret, secrets, &mut self.out);
            }
        }
        if let Some(name) = names.last().filter(|_| !behind.is_empty()) {
            self.out.push(if self.out.is_empty() { '{' } else { ',' });
            self.out.push_str(&name.key);
            value(behind, name.secret, secrets, &mut self.out);
        }
        if self.out.is_empty() {
            return None;
        }
        self.out.push('}');
        Some(&self.out)
    }

    /// The cell of a threat is taken if fields hold all its parts.
    fn take_threat(&mut self, line: &Line<'_>) {
        let (held, at) = self.threat;
        if held > 0
            && let Some(text) = line.get(at)
        {
            let (name, id) = threat(text);
            if held == usize::from(!name.is_empty()) + usize::from(id.is_some()) {
                self.take_cell(at);
            }
        }
    }
}

/// Appends a cell's text as a JSON string, its secrets hidden.
fn value(text: &str, secret: bool, secrets: &Secrets, out: &mut String) {
    if secret {
        out.push('"');
        secrets.hide(text, out);
        out.push('"');
    } else {
        quote(&secrets.masked(text), out);
    }
}
