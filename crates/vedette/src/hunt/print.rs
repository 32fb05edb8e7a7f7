//! The rows of an answer on standard output.
//!
//! In: rows of values. Out: a table, NDJSON or CSV.
//! Invariants: what a terminal shows, it does not obey; no field of CSV starts a formula; rows are written as they come, but for a
//! table, whose columns are as wide as their values.

use std::io::{self, BufWriter, Write as _};

use serde_json::Value;
use vedette_api::csv;
use vedette_hunt::Rows;

use crate::table;

/// More columns than this are shown below each other, row by row.
const MAX_COLUMNS: usize = 12;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// One JSON object a row.
    Ndjson,
    /// For spreadsheets, with a line of names.
    Csv,
}

/// Writes rows.
pub struct Printer {
    out: BufWriter<io::StdoutLock<'static>>,
    format: Format,
    terminal: bool,
    names: Vec<String>,
    /// Of a table: all rows.
    rows: Vec<Vec<Value>>,
    begun: bool,
}

impl Printer {
    /// Of columns with these names.
    pub fn new(format: Format, terminal: bool, names: &[String]) -> Self {
        Self {
            out: BufWriter::with_capacity(1 << 16, io::stdout().lock()),
            format,
            terminal,
            names: distinct(names),
            rows: Vec::new(),
            begun: false,
        }
    }

    /// Writes some rows.
    pub fn rows(&mut self, rows: &Rows) -> io::Result<()> {
        let mut columns: Vec<_> = (0..self.names.len()).map(|at| rows.column(at)).collect();
        for _ in 0..rows.len() {
            let row = columns.iter_mut().map(|column| column.next().unwrap_or_default()).collect();
            self.row(row)?;
        }
        if self.format != Format::Table {
            // Who reads a pipe sees what was found so far.
            self.out.flush()?;
        }
        Ok(())
    }

    /// Writes one row.
    pub fn row(&mut self, row: Vec<Value>) -> io::Result<()> {
        match self.format {
            Format::Table => self.rows.push(row),
            Format::Ndjson => {
                let members = self.names.iter().zip(row).filter(|(_, value)| !value.is_null());
                let object: serde_json::Map<String, Value> =
                    members.map(|(name, value)| (name.clone(), value)).collect();
                table::write_json(&mut self.out, &object, self.terminal)?;
                self.out.write_all(b"\n")?;
            }
            Format::Csv => {
                self.heads()?;
                let fields: Vec<String> = row.iter().map(field).collect();
                self.line(&fields)?;
            }
        }
        Ok(())
    }

    /// Writes what is left.
    pub fn finish(&mut self) -> io::Result<()> {
        match self.format {
            Format::Table => self.table()?,
            Format::Csv => self.heads()?,
            Format::Ndjson => {}
        }
        self.out.flush()
    }

    /// The line of names, once.
    fn heads(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.begun, true) {
            return Ok(());
        }
        let names: Vec<String> = self.names.iter().map(|name| csv::field(name)).collect();
        self.line(&names)
    }

    fn line(&mut self, fields: &[String]) -> io::Result<()> {
        let line = fields.join(",");
        let line = if self.terminal { table::plain(&line) } else { line };
        write!(self.out, "{line}\r\n")
    }

    fn table(&mut self) -> io::Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let valued =
            |at: &usize| self.rows.iter().any(|row| row.get(*at).is_some_and(|value| !value.is_null()));
        let all: Vec<usize> = (0..self.names.len()).collect();
        if all.len() <= MAX_COLUMNS {
            let heads: Vec<&str> = self.names.iter().map(String::as_str).collect();
            let rows: Vec<Vec<String>> = self.rows.iter().map(|row| row.iter().map(text).collect()).collect();
            return writeln!(self.out, "{}", table::of(&heads, &rows));
        }
        // Most columns of all are null in most logs.
        let shown: Vec<usize> = all.into_iter().filter(valued).collect();
        for (number, row) in self.rows.iter().enumerate() {
            let members = shown.iter().filter_map(|at| Some((self.names.get(*at)?, row.get(*at)?)));
            let members = members.filter(|(_, value)| !value.is_null());
            let lines: Vec<Vec<String>> =
                members.map(|(name, value)| vec![name.clone(), text(value)]).collect();
            let head = format!("row {}", number + 1);
            writeln!(self.out, "{}", table::of(&[&head, ""], &lines))?;
        }
        Ok(())
    }
}

/// Rows as lines of text, piece by piece.
pub struct Lines {
    names: Vec<String>,
    csv: bool,
    begun: bool,
}

impl Lines {
    /// One JSON object a row, without what is null.
    pub fn ndjson(names: &[String]) -> Self {
        Self { names: distinct(names), csv: false, begun: true }
    }

    /// CSV with a line of names.
    pub fn csv(names: &[String]) -> Self {
        Self { names: distinct(names), csv: true, begun: false }
    }

    /// One row more, at the end of a text.
    pub fn row(&mut self, text: &mut String, row: impl Iterator<Item = Value>) {
        text.push_str(&self.heads());
        if self.csv {
            let fields: Vec<String> = row.map(|value| field(&value)).collect();
            text.push_str(&fields.join(","));
            text.push_str("\r\n");
        } else {
            text.push_str(&object(&self.names, row));
            text.push('\n');
        }
    }

    /// What is left to say after the last row.
    pub fn end(mut self) -> Vec<u8> {
        self.heads().into_bytes()
    }

    /// The line of names, once.
    fn heads(&mut self) -> String {
        if std::mem::replace(&mut self.begun, true) {
            return String::new();
        }
        let names: Vec<String> = self.names.iter().map(|name| csv::field(name)).collect();
        names.join(",") + "\r\n"
    }
}

/// A row as a JSON object, without what is null.
fn object(names: &[String], row: impl Iterator<Item = Value>) -> String {
    let members = names.iter().zip(row).filter(|(_, value)| !value.is_null());
    let object: serde_json::Map<String, Value> = members.map(|(name, value)| (name.clone(), value)).collect();
    Value::Object(object).to_string()
}

/// Names that differ, so that no member of an object hides another.
fn distinct(names: &[String]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for name in names {
        let mut own = name.clone();
        let mut number = 2;
        while all.contains(&own) {
            own = format!("{name} ({number})");
            number += 1;
        }
        all.push(own);
    }
    all
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(elements)
            if elements.iter().all(|element| !element.is_array() && !element.is_object()) =>
        {
            elements.iter().map(text).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// A field of CSV. A number below zero is no formula.
fn field(value: &Value) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        other => csv::field(&text(other)),
    }
}
