//! JSON forms: one record, one event.
//!
//! In: a record's text. Out: its cells in the columns and its claimed time, or why it is refused.

use std::sync::Arc;

use chrono_tz::Tz;
use vedette_event::{Cell, DeadReason, Fields, Kind, Micros, SourceDef, cell::number, source::Form};

use crate::{
    RefusedRecord,
    aws_waf::{self, AwsWaf},
    cast::is_shortest,
    claim,
    columns::{Columns, Held},
    exact,
    json::{
        rest::Remainder,
        scan::{Captures, Extent, MAX_DEPTH, Refusal, scan, scan_noting},
        select::Selection,
        text::unescape,
    },
    secret::Secrets,
    unmapped::{UNMAPPED, all_fields},
    url,
};

/// Where the claimed time is looked for unless the source says otherwise.
const TIME_PATHS: [&str; 3] = ["@timestamp", "timestamp", "time"];

/// A field made from another one, if the record does not have it itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Derived {
    /// The claimed time.
    Time,
    /// `url.query`, decoded once.
    QueryDecoded,
    /// What follows the last dot of `url.path`.
    Extension,
    /// Path of `url.original`.
    Path,
    /// Query of `url.original`.
    Query,
    /// Path and query in one.
    Original,
}

const DERIVED: [(&str, Derived); 6] = [
    ("@timestamp", Derived::Time),
    ("url.query_decoded", Derived::QueryDecoded),
    ("url.extension", Derived::Extension),
    ("url.path", Derived::Path),
    ("url.query", Derived::Query),
    ("url.original", Derived::Original),
];

/// The canonical names of fields that are made from others in mapped forms.
pub fn derived_names() -> impl Iterator<Item = &'static str> {
    DERIVED.iter().map(|(name, _)| *name)
}

/// The paths of a canonical name: those it is mapped to, then its own.
pub fn paths(def: &SourceDef, name: &str) -> Vec<String> {
    let mapped = def.fields.get(name).map(|paths| paths.names().to_vec()).unwrap_or_default();
    mapped.into_iter().chain([name.to_owned()]).collect()
}

/// Targets of the URL's parts, for fields made from them.
struct UrlTargets {
    original: usize,
    path: usize,
    query: usize,
}

/// What `event.unmapped` needs.
struct Rest {
    /// The column it is.
    column: usize,
    /// By column and hidden field: whether what it holds is not left.
    takes: Vec<bool>,
    remainder: Remainder,
}

/// Decodes one JSON form with one projection.
pub struct JsonRecords {
    selection: Selection,
    captures: Captures,
    /// Columns and hidden fields: the first targets.
    columns: usize,
    times: std::ops::Range<usize>,
    zone: Option<Tz>,
    derived: Vec<(usize, Derived)>,
    url: UrlTargets,
    aws: Option<(AwsWaf, usize)>,
    rest: Option<Rest>,
    secrets: Secrets,
    /// Room for the texts of [`UrlTargets`].
    parts: [String; 3],
    text: String,
    scratch: String,
}

impl Rest {
    /// Fills the columns, and takes what they hold; `text` is room for texts.
    fn fill(&mut self, record: &str, captures: &Captures, columns: &mut Columns, text: &mut String) {
        self.remainder.clear();
        for &target in captures.touched() {
            let target = target as usize;
            if let Some(takes) = self.takes.get(target)
                && let Some(place) = captures.get(target)
            {
                let cell = cell(record, place, text);
                let held = columns.put(target, cell);
                if held != Held::Nothing && *takes {
                    self.remainder.take(place);
                    let exact = place.kind != Kind::Float || exact::number(place.of(record), cell.text);
                    columns.altered |= held == Held::Part || !exact;
                }
            }
        }
    }
}

impl JsonRecords {
    /// For a source definition, the columns and the hidden fields; `zone` is that of times without offset.
    pub fn new(
        def: &SourceDef,
        fields: &Fields,
        (projection, hidden): (&[Arc<str>], &[Arc<str>]),
        zone: Tz,
        secrets: Secrets,
    ) -> Self {
        let typed = def.form != Form::Json;
        let own = |name: &Arc<str>| match &**name {
            // The canonical time is the claimed time, not what stands in one member.
            "@timestamp" if typed => Vec::new(),
            UNMAPPED => Vec::new(),
            name => paths(def, name),
        };
        let mut targets: Vec<Vec<String>> = projection.iter().chain(hidden).map(own).collect();
        let mut target = |paths: Vec<String>| {
            targets.push(paths);
            targets.len() - 1
        };
        let times: Vec<String> = match def.fields.get("@timestamp") {
            Some(paths) => paths.names().to_vec(),
            None => TIME_PATHS.map(str::to_owned).to_vec(),
        };
        let first = projection.len() + hidden.len();
        let times = first..first + times.into_iter().map(|path| target(vec![path])).count();
        let wanted = |(column, name): (usize, &Arc<str>)| {
            let (_, what) = DERIVED.iter().find(|(field, _)| *field == &**name)?;
            Some((column, *what))
        };
        let derived: Vec<_> =
            if typed { projection.iter().enumerate().filter_map(wanted).collect() } else { Vec::new() };
        let mut part = |name: &str| if derived.is_empty() { usize::MAX } else { target(paths(def, name)) };
        let url =
            UrlTargets { original: part("url.original"), path: part("url.path"), query: part("url.query") };
        let aws = (def.form == Form::AwsWaf).then(|| {
            let paths = aws_waf::PATHS.iter().chain([&aws_waf::LABELS]);
            let first = paths.map(|path| target(vec![(*path).to_owned()])).min().unwrap_or_default();
            (AwsWaf::new(projection), first)
        });
        let rest = projection.iter().position(|name| **name == *UNMAPPED).map(|column| {
            let taking = if typed { all_fields(def, fields) } else { Vec::new() };
            let takes = projection.iter().chain(hidden).map(|name| taking.contains(name)).collect();
            Rest { column, takes, remainder: Remainder::default() }
        });
        let selection = Selection::new(targets.iter().map(|paths| paths.iter().map(String::as_str)));
        Self {
            captures: Captures::new(&selection, secrets.seed()),
            selection,
            columns: projection.len() + hidden.len(),
            times,
            zone: typed.then_some(zone),
            derived,
            url,
            aws,
            rest,
            secrets,
            parts: Default::default(),
            text: String::new(),
            scratch: String::new(),
        }
    }

    /// Decodes one record into the row at hand.
    pub fn decode(&mut self, record: &str, columns: &mut Columns) -> Result<Option<Micros>, RefusedRecord> {
        match &mut self.rest {
            None => {
                scan(record, &self.selection, &mut self.captures, &mut self.scratch).map_err(explain)?;
                for &target in self.captures.touched() {
                    let target = target as usize;
                    if target < self.columns
                        && let Some(place) = self.captures.get(target)
                    {
                        columns.put(target, cell(record, place, &mut self.text));
                    }
                }
            }
            Some(rest) => {
                scan_noting(record, &self.selection, &mut self.captures, &mut self.scratch)
                    .map_err(explain)?;
                rest.fill(record, &self.captures, columns, &mut self.text);
            }
        }
        let claimed = self.claimed(record, columns);
        if let Some((aws, first)) = &mut self.aws {
            let captures = &self.captures;
            let raw = |target: usize| captures.get(target).map(|p| p.raw(record)).unwrap_or_default();
            let mut parts =
                aws_waf::Parts { labels: raw(*first + aws_waf::PATHS.len()), ..Default::default() };
            for (at, part) in parts.paths.iter_mut().enumerate() {
                *part = raw(*first + at);
            }
            aws.fill(&parts, columns);
        }
        if !self.derived.is_empty() {
            self.derive(record, claimed, columns);
        }
        if let Some(rest) = &mut self.rest {
            match (self.zone, rest.remainder.write(record, self.captures.notes(), &self.secrets)) {
                (_, None) => {}
                // Nothing is taken: it is the record, to the last blank, so that it can be decoded once more.
                (None, Some(_)) if self.secrets.is_empty() => columns.batch.put(rest.column, object(record)),
                (None, Some(_)) => {
                    columns.batch.put(rest.column, object(&self.secrets.mask_json("", record)));
                }
                (Some(_), Some(text)) => columns.batch.put(rest.column, object(text)),
            }
        }
        Ok(claimed)
    }

    /// The first time that is present and not null decides.
    fn claimed(&mut self, record: &str, columns: &mut Columns) -> Option<Micros> {
        let mut places = self.times.clone().filter_map(|target| self.captures.get(target));
        let place = places.find(|place| place.kind != Kind::Null)?;
        let cell = cell(record, place, &mut self.text);
        let Some(zone) = self.zone else { return claim::instant(cell) };
        let claimed = claim::instant_in(cell, zone)?;
        if let Some(rest) = &mut self.rest {
            rest.remainder.take(place);
            // A number as it was written: its nearest 64-bit float has fewer digits.
            let text = if place.kind == Kind::Float { place.of(record) } else { cell.text };
            columns.altered |= !exact::time(Cell { text, ..cell });
        }
        Some(claimed)
    }

    /// Fills the fields made from others.
    fn derive(&mut self, record: &str, claimed: Option<Micros>, columns: &mut Columns) {
        let [mut original, mut path, mut query] = std::mem::take(&mut self.parts);
        for part in [&mut original, &mut path, &mut query] {
            part.clear();
        }
        let text = |target: usize, out: &mut String| {
            let place = self.captures.get(target).filter(|place| place.kind == Kind::Text);
            place.map(|place| unescape(place.of(record), out)).is_some()
        };
        let has_original = text(self.url.original, &mut original);
        let (has_path, has_query) = (text(self.url.path, &mut path), text(self.url.query, &mut query));
        if has_original {
            let parts = url::split(&original);
            if !has_path {
                path.push_str(parts.path);
            }
            if !has_query {
                query.push_str(parts.query);
            }
        }
        for &(column, what) in &self.derived {
            let out = &mut self.text;
            out.clear();
            match what {
                Derived::Time => claimed.into_iter().for_each(|time| claim::append(time, out)),
                Derived::Path => out.push_str(&path),
                Derived::Query => out.push_str(&query),
                Derived::Extension => out.push_str(url::extension(&path)),
                Derived::QueryDecoded => match self.secrets.mask_parameters(&query) {
                    Some(masked) => url::decode_query(&masked, out),
                    None => url::decode_query(&query, out),
                },
                Derived::Original if query.is_empty() => out.push_str(&path),
                Derived::Original => out.extend([&path, "?", &query]),
            }
            if !out.is_empty() {
                columns.put(column, Cell { kind: Kind::Text, text: out });
            }
        }
        self.parts = [original, path, query];
    }
}

const fn object(text: &str) -> Cell<'_> {
    Cell { kind: Kind::Object, text }
}

/// The cell at a place of a record.
#[inline]
pub fn cell<'a>(record: &'a str, place: Extent, scratch: &'a mut String) -> Cell<'a> {
    let raw = place.of(record);
    match place.kind {
        Kind::Text if place.escaped => {
            scratch.clear();
            unescape(raw, scratch);
            Cell { kind: Kind::Text, text: scratch }
        }
        Kind::Float if is_shortest(raw) => Cell { kind: Kind::Float, text: raw },
        Kind::Float => match number(raw) {
            Some((kind, text)) => {
                scratch.clear();
                scratch.push_str(&text);
                Cell { kind, text: scratch }
            }
            None => Cell::MISSING,
        },
        Kind::Missing | Kind::Null => Cell { kind: place.kind, text: "" },
        kind => Cell { kind, text: raw },
    }
}

/// The stable reason and the detail of a refusal.
pub fn explain(refusal: Refusal) -> RefusedRecord {
    match refusal {
        Refusal::Malformed(at, what) => {
            RefusedRecord::new(DeadReason::Malformed, format!("at byte {at}: {what}"))
        }
        Refusal::TooDeep => RefusedRecord::new(
            DeadReason::TooDeep,
            format!("objects and lists nest deeper than {MAX_DEPTH} levels"),
        ),
        Refusal::NumberRange(at) => RefusedRecord::new(
            DeadReason::NumberRange,
            format!("at byte {at}: a number beyond the range of 64-bit floats"),
        ),
    }
}
