//! What a hunt found, for people: a table, figures of its fields, and how it lies in time.
//!
//! In: rows of values, what they rest on. Out: [`Found`]. Invariants: a value of any length and content is text; what is cut says so; figures of
//! fields are of the rows that were looked at, and say of how many.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;
use vedette_event::{Micros, Span};
use vedette_store::is_entity;

use super::{Narrow, Stamp, href_of};
use crate::{
    app::App,
    auth::Caller,
    console::{
        bars::{Picture, Point},
        events::{TELLING, entity_href},
        words,
    },
    desk::hunt::{self, HuntBody, text},
    hunting::HuntDocument,
    hunts::{Column, Form},
    metrics::now,
    problem::Problem,
};

/// Rows that are shown.
const SHOWN: usize = 100;
/// Columns that are shown of many.
const MAX_COLUMNS: usize = 8;
/// As many columns are all shown: somebody named them.
const ALL_COLUMNS: usize = 14;
/// Fields with figures.
const MAX_FIELDS: usize = 60;
/// Values of a field that are listed.
const TOP: usize = 5;
/// Characters of a value in a cell.
const IN_CELL: usize = 160;
/// Characters of a value that buttons and links may carry.
const IN_LINK: usize = 300;
/// Steps of time in a picture.
const STEPS: i64 = 90;
/// Lengths of a step, the shortest first.
const LENGTHS: [(&str, i64); 12] = [
    ("1s", 1),
    ("10s", 10),
    ("1m", 60),
    ("5m", 300),
    ("15m", 900),
    ("1h", 3_600),
    ("3h", 10_800),
    ("12h", 43_200),
    ("1d", 86_400),
    ("7d", 604_800),
    ("30d", 2_592_000),
    ("365d", 31_536_000),
];

/// A value with what can be done with it.
pub(super) struct Shown {
    pub text: String,
    pub number: bool,
    pub long: bool,
    /// What a button says that narrows to it; none where that cannot be said.
    pub only: Option<String>,
    pub without: Option<String>,
    pub entity: Option<String>,
}

/// A row of the table.
pub(super) struct Row {
    pub cells: Vec<Option<Shown>>,
    /// The event's own page.
    pub href: Option<String>,
}

/// A value of a field, with how often it occurs.
pub(super) struct Top {
    pub shown: Shown,
    pub rows: String,
    /// Of a hundred rows.
    pub share: u64,
}

/// Figures of a field.
pub(super) struct Figure {
    pub name: String,
    pub distinct: String,
    pub filled: u64,
    pub top: Vec<Top>,
}

/// The answer.
pub(super) struct Found {
    pub columns: Vec<String>,
    pub rows: Vec<Row>,
    pub fields: Vec<Figure>,
    /// How many rows there are, in words.
    pub told: String,
    /// Of how many the figures are.
    pub looked_at: String,
    /// Columns that the table leaves out.
    pub left_out: usize,
    pub through: Option<Stamp>,
    pub back_to: Option<Stamp>,
    pub missing: Vec<String>,
    pub cost: String,
    pub picture: Option<Picture>,
    pub id: i64,
}

/// How many rows there are by step of time, and in all.
pub(super) struct Course {
    points: Vec<Point>,
    rows: u64,
}

/// How all that a hunt finds lies in time: asked once more, since only the first rows are at hand.
pub(super) async fn course(
    app: &Arc<App>,
    caller: &Caller,
    body: &HuntBody,
    document: &HuntDocument,
) -> Result<Option<Course>, Problem> {
    // Where nothing is kept, nothing is shown.
    let from = document.since.max(document.reaches_back_to).unwrap_or_else(now);
    let until = document.until.unwrap_or_else(now).min(document.complete_through.unwrap_or(Micros::MAX));
    let (step, length) = step(until.since(from));
    let sql = text::over_time(&body.sql, step);
    let since = document.since.map(|since| since.to_string());
    let body = HuntBody { sql, since, limit: Some(10_000), ..body.clone() };
    let mut hunt = hunt::begin(app, &body, Form::Values, caller).await?;
    let (rows, _) = hunt.values().await?;
    let counted = rows.iter().filter_map(|row| {
        let at = Micros::parse_rfc3339(row.first()?.as_str()?)?;
        Some((at, row.get(1)?.as_u64()?))
    });
    let counts: BTreeMap<Micros, u64> = counted.collect();
    Ok(Some(Course {
        rows: rows.iter().filter_map(|row| row.get(1)?.as_u64()).sum(),
        points: points(&counts, length),
    }))
}

/// The shortest step by which so much time has few steps.
fn step(whole: Span) -> (&'static str, Span) {
    let seconds = whole.0 / 1_000_000;
    let fits = LENGTHS.iter().find(|(_, length)| seconds / length <= STEPS);
    let (name, length) = fits.copied().unwrap_or(("365d", 31_536_000));
    (name, Span::secs(length))
}

fn points(counts: &BTreeMap<Micros, u64>, length: Span) -> Vec<Point> {
    let told = |n: u64| if n == 1 { "1 row".to_owned() } else { format!("{} rows", words::number(n)) };
    counts.iter().map(|(at, n)| (*at, at.plus(length), *n, told(*n))).collect()
}

impl Found {
    /// Of the rows that are at hand.
    pub fn of(document: HuntDocument, rows: Vec<Vec<Value>>, course: Option<Course>) -> Self {
        let more = document.more == Some(true);
        let at_hand = rows.len() as u64;
        let told = match (&course, more) {
            (Some(course), true) if course.rows > at_hand => {
                let rest = words::number(course.rows - at_hand);
                format!("{} rows, {rest} more", words::number(at_hand))
            }
            (_, true) => format!("{} rows, and more", words::number(at_hand)),
            (_, false) if at_hand == 1 => "1 row".to_owned(),
            (_, false) => format!("{} rows", words::number(at_hand)),
        };
        let points = course.map_or_else(|| own_points(&document, &rows), |course| course.points);
        let columns = &document.columns;
        let chosen = chosen(columns, &rows);
        let filled = filled(columns, &rows);
        let shown = rows.iter().take(SHOWN).map(|row| Row {
            cells: chosen.iter().map(|at| cell(columns.get(*at)?, row.get(*at)?)).collect(),
            href: place(columns, row),
        });
        Self {
            rows: shown.collect(),
            fields: filled.iter().take(MAX_FIELDS).filter_map(|at| figure(columns, *at, &rows)).collect(),
            left_out: filled.len().saturating_sub(chosen.len()),
            columns: chosen.iter().filter_map(|at| Some(columns.get(*at)?.name.clone())).collect(),
            looked_at: words::number(at_hand),
            told,
            through: document.complete_through.map(Stamp::of),
            back_to: document.reaches_back_to.map(Stamp::of),
            cost: cost(&document),
            missing: document.missing,
            picture: Picture::of(&points, "Rows"),
            id: document.hunt_id,
        }
    }

    /// Rows that were found and are not in the table.
    pub fn unshown(&self) -> bool {
        self.rows.len() == SHOWN
    }
}

fn cost(document: &HuntDocument) -> String {
    let figures = &document.figures;
    let bytes = figures.bytes_read;
    let read = match bytes {
        0..=9_999 => format!("{} bytes", words::number(bytes)),
        10_000..=9_999_999 => format!("{} kB", words::number(bytes / 1_000)),
        _ => format!("{} MB", words::number(bytes / 1_000_000)),
    };
    format!(
        "{read} read in {:.2} s; {} of {} files opened, {} parts of them skipped",
        document.seconds,
        words::number(figures.files_read),
        words::number(document.files),
        words::number(figures.parts_skipped)
    )
}

/// All rows are at hand, so nothing more is asked.
fn own_points(document: &HuntDocument, rows: &[Vec<Value>]) -> Vec<Point> {
    let time =
        document.columns.iter().position(|column| column.name == "@timestamp" && column.kind == "time");
    let Some(time) = time else { return Vec::new() };
    let of = |row: &Vec<Value>| Micros::parse_rfc3339(row.get(time)?.as_str()?);
    let times: Vec<Micros> = rows.iter().filter_map(of).collect();
    let (Some(from), Some(until)) = (times.iter().min(), times.iter().max()) else { return Vec::new() };
    let (_, length) = step(until.since(*from));
    let mut counts: BTreeMap<Micros, u64> = BTreeMap::new();
    for time in times {
        *counts.entry(time.floor(length)).or_default() += 1;
    }
    points(&counts, length)
}

/// The columns that have a value in some row.
fn filled(columns: &[Column], rows: &[Vec<Value>]) -> Vec<usize> {
    let has = |at: &usize| rows.iter().any(|row| row.get(*at).is_some_and(|value| !value.is_null()));
    (0..columns.len()).filter(has).collect()
}

/// The columns of the table: all of few, else those that tell the most.
fn chosen(columns: &[Column], rows: &[Vec<Value>]) -> Vec<usize> {
    if columns.len() <= ALL_COLUMNS {
        return (0..columns.len()).collect();
    }
    let rank = |at: &usize| {
        let name = columns.get(*at).map_or("", |column| &*column.name);
        match name {
            "@timestamp" => 0,
            "vedette.source" => 1,
            name if name.starts_with("vedette.") || name.starts_with("event.ingested") => 1_000,
            name => 2 + TELLING.iter().position(|own| *own == name).unwrap_or(TELLING.len()),
        }
    };
    let mut filled = filled(columns, rows);
    filled.sort_by_key(rank);
    filled.truncate(MAX_COLUMNS);
    filled
}

/// The page of a row's event, where the row says where that stands in the log.
fn place(columns: &[Column], row: &[Value]) -> Option<String> {
    let of = |name: &str| {
        let at = columns.iter().position(|column| column.name == name)?;
        row.get(at).map(words::scalar)
    };
    let (topic, partition) = (of("vedette.topic")?, of("vedette.partition")?);
    let (offset, index) = (of("vedette.offset")?, of("vedette.index")?);
    let at = of("@timestamp").unwrap_or_default();
    Some(href_of([&topic, &partition, &offset, &index, &at]))
}

fn cell(column: &Column, value: &Value) -> Option<Shown> {
    (!value.is_null()).then(|| shown(column, value))
}

/// A value as it is shown, with what can be asked of it.
pub(super) fn shown(column: &Column, value: &Value) -> Shown {
    let whole = words::scalar(value);
    let long = whole.chars().nth(IN_CELL).is_some();
    let text: String =
        if long { whole.chars().take(IN_CELL).chain(['…']).collect() } else { whole.clone() };
    let short = whole.chars().nth(IN_LINK).is_none();
    let button = |has: bool| {
        text::condition(column, value, has)?;
        let narrow =
            Narrow { column: column.name.clone(), kind: column.kind.clone(), value: value.clone(), has };
        serde_json::to_string(&narrow).ok().map(|text| ascii(&text))
    };
    let entity = (short && !whole.is_empty() && is_entity(&column.name, &whole))
        .then(|| entity_href(&column.name, &whole));
    Shown {
        number: value.is_number(),
        long: text.chars().nth(40).is_some(),
        only: short.then(|| button(true)).flatten(),
        without: short.then(|| button(false)).flatten(),
        text,
        entity,
    }
}

/// JSON in which nothing is left that a page would write otherwise.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() && c != '\u{7f}' {
            text.push(c);
        } else {
            let mut units = [0; 2];
            text.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    text
}

/// What a field holds in these rows: how many different values, and the most frequent of them.
fn figure(columns: &[Column], at: usize, rows: &[Vec<Value>]) -> Option<Figure> {
    let column = columns.get(at)?;
    let mut counts: BTreeMap<String, (u64, &Value)> = BTreeMap::new();
    for value in rows.iter().filter_map(|row| row.get(at)).filter(|value| !value.is_null()) {
        counts.entry(value.to_string()).or_insert((0, value)).0 += 1;
    }
    let filled: u64 = counts.values().map(|(n, _)| n).sum();
    let distinct = words::number(counts.len() as u64);
    let mut most: Vec<(u64, &Value)> = counts.into_values().collect();
    most.sort_by_key(|(n, _)| std::cmp::Reverse(*n));
    let all = rows.len().max(1) as u64;
    let top = most.into_iter().take(TOP).map(|(n, value)| Top {
        shown: shown(column, value),
        rows: words::number(n),
        share: n * 100 / all,
    });
    Some(Figure { name: column.name.clone(), distinct, filled: filled * 100 / all, top: top.collect() })
}
