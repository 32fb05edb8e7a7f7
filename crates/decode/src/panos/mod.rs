//! PAN-OS CSV: TRAFFIC and THREAT logs in any syslog envelope.
//!
//! In: a record's text. Out: its cells in the columns and its claimed time, or why it is refused.
//! Empty cells and `-` are missing. The claimed time is the high-resolution one, else the generated, else the
//! received one; times without offset are in the source's time zone.

pub mod csv;
pub mod layout;
pub mod names;
mod rest;

use std::{fmt::Write, sync::Arc};

use chrono::NaiveDate;
use chrono_tz::Tz;
use vedette_event::{Cell, DeadReason, Kind, Micros};

use crate::{
    RefusedRecord, claim,
    columns::{Columns, Held},
    exact,
    secret::Secrets,
    unmapped::UNMAPPED,
    url::{self, decode_query},
};
use csv::CellSpan;
use layout::{FieldSource, GENERATED, LogType, RECEIVED, SUBTYPE, TYPE, UrlPiece};
use rest::LineRest;

/// Subtypes of THREAT whose first own column names a file.
const FILE_SUBTYPES: [&str; 7] = ["file", "virus", "ml-virus", "wildfire", "wildfire-virus", "data", "dlp"];

/// Actions that let the traffic pass.
const PASSING: [&str; 6] = ["allow", "alert", "continue", "override", "syncookie-sent", "forward"];

/// Decodes PAN-OS lines with one projection.
pub struct PanosLines {
    traffic: Vec<(usize, FieldSource)>,
    threat: Vec<(usize, FieldSource)>,
    rest: Option<LineRest>,
    zone: Tz,
    secrets: Secrets,
    cells: Vec<CellSpan>,
    text: String,
    scratch: String,
}

/// The cells of one line.
struct Line<'a> {
    record: &'a str,
    header: &'a str,
    cells: &'a [CellSpan],
    claimed: Option<Micros>,
}

impl<'a> Line<'a> {
    /// The text of a cell, or `None` if it is missing.
    fn get(&self, column: usize) -> Option<&'a str> {
        let text = self.cells.get(column)?.of(self.record);
        (!text.is_empty() && text != "-").then_some(text)
    }

    /// The same with doubled quotes made single.
    fn plain<'s>(&self, column: usize, scratch: &'s mut String) -> Option<&'s str>
    where
        'a: 's,
    {
        let text = self.get(column)?;
        if !self.cells.get(column)?.doubled {
            return Some(text);
        }
        scratch.clear();
        let mut pieces = text.split("\"\"");
        scratch.push_str(pieces.next().unwrap_or_default());
        for piece in pieces {
            scratch.push('"');
            scratch.push_str(piece);
        }
        Some(scratch)
    }

    fn about_files(&self) -> bool {
        self.get(SUBTYPE).is_some_and(|subtype| FILE_SUBTYPES.contains(&subtype))
    }
}

impl PanosLines {
    /// For the columns and the hidden fields; `zone` is that of times without offset.
    pub fn new((projection, hidden): (&[Arc<str>], &[Arc<str>]), zone: Tz, secrets: Secrets) -> Self {
        let places = |log: LogType| {
            let place = |(column, name): (usize, &Arc<str>)| Some((column, log.field(name)?));
            let shown = |(column, from): &(usize, FieldSource)| *column < projection.len() || from.takes();
            let names = projection.iter().chain(hidden).enumerate();
            names.filter_map(place).filter(shown).collect()
        };
        let rest = projection.iter().position(|name| **name == *UNMAPPED);
        Self {
            traffic: places(LogType::Traffic),
            threat: places(LogType::Threat),
            rest: rest.map(|column| LineRest::new(column, &secrets)),
            zone,
            secrets,
            cells: Vec::new(),
            text: String::new(),
            scratch: String::new(),
        }
    }

    /// Decodes one record into the row at hand.
    pub fn decode(&mut self, record: &str, columns: &mut Columns) -> Result<Option<Micros>, RefusedRecord> {
        let (log, header, behind) = parse(record, &mut self.cells)?;
        let mut line = Line { record, header, cells: &self.cells, claimed: None };
        let claimed = claimed(&line, log, self.zone);
        line.claimed = claimed.map(|(time, _)| time);
        let places = match log {
            LogType::Traffic => &self.traffic,
            LogType::Threat => &self.threat,
        };
        if let Some(rest) = &mut self.rest {
            rest.begin(claimed.map(|(_, at)| at));
            let text = claimed.and_then(|(_, at)| line.get(at)).unwrap_or_default();
            columns.altered = !exact::time(Cell { kind: Kind::Text, text });
        }
        for &(column, from) in places {
            let found = value(&line, from, &self.secrets, &mut self.text, &mut self.scratch);
            if let Some(cell) = found {
                let held = columns.put(column, cell);
                if let Some(rest) = &mut self.rest
                    && held != Held::Nothing
                {
                    rest.take(from, &line);
                    columns.altered |= held == Held::Part;
                }
            }
        }
        if let Some(rest) = &mut self.rest {
            let column = rest.column;
            if let Some(text) = rest.write(log, &line, behind, &self.secrets, &mut self.text) {
                columns.batch.put(column, Cell { kind: Kind::Object, text });
            }
        }
        Ok(line.claimed)
    }
}

/// Splits a record into cells and tells its log type, what stands before the CSV, and what lies behind the last cell.
pub fn parse<'a>(
    record: &'a str,
    cells: &mut Vec<CellSpan>,
) -> Result<(LogType, &'a str, &'a str), RefusedRecord> {
    let Some(begin) = csv::begin(record) else {
        return Err(RefusedRecord::new(
            DeadReason::Malformed,
            "no PAN-OS CSV: no receive time followed by a log type",
        ));
    };
    let behind = csv::split(record, begin, cells);
    let name = cells.get(TYPE).map(|cell| cell.of(record)).unwrap_or_default();
    let header = record.get(..begin).unwrap_or_default();
    LogType::parse(name).map(|log| (log, header, behind)).ok_or_else(|| {
        let name: String = name.chars().take(40).collect();
        RefusedRecord::new(
            DeadReason::Unsupported,
            format!("PAN-OS log type {name} is not supported; TRAFFIC and THREAT are"),
        )
    })
}

/// The claimed time of a line, and the column that it stands in.
fn claimed(line: &Line<'_>, log: LogType, zone: Tz) -> Option<(Micros, usize)> {
    let at = log.high_resolution();
    let precise = line.get(at).and_then(|text| claim::instant_in(Cell { kind: Kind::Text, text }, zone));
    let second = |at: usize| Some((second(line.get(at)?, zone)?, at));
    precise.map(|time| (time, at)).or_else(|| [GENERATED, RECEIVED].into_iter().find_map(second))
}

/// Reads `YYYY/MM/DD HH:MM:SS`.
fn second(text: &str, zone: Tz) -> Option<Micros> {
    let bytes: &[u8; 19] = text.as_bytes().try_into().ok()?;
    let number = |from: usize, to: usize| {
        bytes
            .get(from..to)?
            .iter()
            .try_fold(0_u32, |n, b| b.is_ascii_digit().then(|| n * 10 + u32::from(b - b'0')))
    };
    let separators = [(4, b'/'), (7, b'/'), (10, b' '), (13, b':'), (16, b':')];
    if separators.iter().any(|&(at, separator)| bytes[at] != separator) {
        return None;
    }
    let date = NaiveDate::from_ymd_opt(number(0, 4)? as i32, number(5, 7)?, number(8, 10)?)?;
    let naive = date.and_hms_opt(number(11, 13)?, number(14, 16)?, number(17, 19)?)?;
    claim::local(naive, zone)
}

/// The cell of one field.
fn value<'s>(
    line: &Line<'s>,
    from: FieldSource,
    secrets: &Secrets,
    text: &'s mut String,
    scratch: &'s mut String,
) -> Option<Cell<'s>> {
    let texts = |text: &'s str| Some(Cell { kind: Kind::Text, text });
    match from {
        FieldSource::Cell(at) => texts(line.plain(at, text)?),
        FieldSource::Either(first, second) => {
            let at = if line.get(first).is_some() { first } else { second };
            texts(line.plain(at, text)?)
        }
        FieldSource::Nanoseconds(at) => {
            let seconds: u64 = line.get(at)?.parse().ok()?;
            text.clear();
            write!(text, "{}", seconds.checked_mul(1_000_000_000)?).ok()?;
            Some(Cell { kind: Kind::Int, text })
        }
        FieldSource::ThreatId(at) => texts(threat(line.get(at)?).1?),
        FieldSource::ThreatName(at) => {
            texts(threat(line.plain(at, text)?).0).filter(|cell| !cell.text.is_empty())
        }
        FieldSource::Url(at) => (!line.about_files()).then(|| texts(line.plain(at, text)?)).flatten(),
        FieldSource::File(at) => line.about_files().then(|| texts(line.plain(at, text)?)).flatten(),
        FieldSource::UrlPart(at, part) => {
            if line.about_files() {
                return None;
            }
            let is_file = line.get(SUBTYPE) != Some("url");
            let part = url_part(line.plain(at, text)?, part, is_file, secrets, scratch);
            texts(part).filter(|cell| !cell.text.is_empty())
        }
        FieldSource::Blocked(at) => {
            let passes = PASSING.contains(&line.get(at)?);
            Some(Cell { kind: Kind::Bool, text: if passes { "false" } else { "true" } })
        }
        FieldSource::Host(at) => texts(match line.get(at) {
            Some(_) => line.plain(at, text)?,
            None => csv::host(line.header)?,
        }),
        FieldSource::Fixed(word) => texts(word),
        FieldSource::Time => {
            text.clear();
            claim::append(line.claimed?, text);
            texts(text)
        }
    }
}

/// Part of a URL; a query is decoded only after its secrets are hidden. Attack logs may name a file alone (`is_file`), without host.
fn url_part<'s>(
    url: &'s str,
    part: UrlPiece,
    is_file: bool,
    secrets: &Secrets,
    scratch: &'s mut String,
) -> &'s str {
    let mut parts = url::split(url);
    if is_file && !parts.domain.is_empty() && parts.path.is_empty() {
        (parts.domain, parts.path) = ("", parts.domain);
    }
    match part {
        UrlPiece::Domain => parts.domain,
        UrlPiece::Path => parts.path,
        UrlPiece::Query => parts.query,
        UrlPiece::Extension => url::extension(parts.path),
        UrlPiece::QueryDecoded => {
            scratch.clear();
            match secrets.mask_parameters(parts.query) {
                Some(masked) => decode_query(&masked, scratch),
                None => decode_query(parts.query, scratch),
            }
            scratch
        }
    }
}

/// Name and number of `name(number)`; the whole text is the name if no number follows.
fn threat(text: &str) -> (&str, Option<&str>) {
    let split = text.strip_suffix(')').and_then(|open| open.rsplit_once('('));
    match split {
        Some((name, id)) if !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()) => {
            (name.trim_ascii_end(), Some(id))
        }
        _ if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => ("", Some(text)),
        _ => (text, None),
    }
}
