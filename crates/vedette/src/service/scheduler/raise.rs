//! From the rows that a scheduled hunt found to alerts.
//!
//! In: a schedule, its window, rows. Out: alerts, each once ended and of revision 1. Invariants: a pure function of rows and window but for what
//! says how they were found, so that a window that is run again gives the same ids; every row is in one alert; what is too much is
//! cut and says so.
//!
//! An alert is what one window has of one entity; rows without one, and all rows of a schedule that names none, are one alert with key `{}`. Beyond
//! the most of a run the rest is one alert with key `{}` and the flag `storm`. Its body is that of a judged rule, with these particulars: `rule.id` is `hunt:`
//! and the kept hunt's number, `rule.type` is `hunt`, `rule.version` the first 16 hexadecimal digits of the BLAKE3 hash of the text and the
//! entity's column, which stand for the meaning in `alert_id`; in place of a crossing event that has the window (time: its beginning, offset: its
//! end, index: 1 for what is beyond the most, no topic). Rows are told in order of time and place; those that have topic, partition and
//! offset are `evidence`, and the first ten are in `explanation.rows`, whatever they are.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::{Map, Value as Json, json};
use vedette_api::hunts::{Basis, Column};
use vedette_event::{
    Alert, Entity, Evidence, Flags, Micros, Order, RuleRef, Span, State, TopicIx, Value,
    alert::{Explanation, Identity, Number},
    key_part, key_text,
};
use vedette_store::model::{AlertRevision, HuntSchedule};

/// References in a body, from either end.
const ENDS: usize = 5;
/// Rows that a body has.
const ROWS: usize = 10;
/// Bytes of these, beyond the first.
const BYTES: usize = 16 << 10;
/// Columns of a row that a body has.
const COLUMNS: usize = 40;
/// Characters of a value.
const CHARS: usize = 500;
/// Characters of the text of the hunt.
const SQL: usize = 4_000;
/// Entities that are named where they have no alerts of their own.
const NAMED: usize = 20;
/// Lines that say what the lake has not.
const MISSING: usize = 5;

/// What a run found.
#[derive(Debug)]
pub struct Found<'a> {
    /// The schedule.
    pub schedule: &'a HuntSchedule,
    /// From when until before when the events are.
    pub window: (Micros, Micros),
    /// The answer's columns.
    pub columns: &'a [Column],
    /// The rows.
    pub rows: Vec<Vec<Json>>,
    /// There are more.
    pub more: bool,
    /// What they rest on.
    pub basis: &'a Basis,
    /// When it was asked.
    pub at: Micros,
    /// No event of the window is to come any more, as far as is known.
    pub complete: bool,
}

/// The version of a schedule's text, and what it means, hashed.
pub fn meaning(schedule: &HuntSchedule) -> ([u8; 32], String) {
    let entity = schedule.schedule.entity.as_deref().unwrap_or_default();
    let mut hash = blake3::Hasher::new();
    hash.update(&(entity.len() as u64).to_le_bytes()).update(entity.as_bytes());
    let hash = hash.update(schedule.sql.as_bytes()).finalize();
    (*hash.as_bytes(), hash.to_hex().as_str()[..16].to_owned())
}

/// What a row says of itself.
struct Row {
    values: Vec<Json>,
    time: Option<Micros>,
    reference: Option<Evidence>,
    source: Option<String>,
}

/// What makes a reference of a row.
struct Places<'a> {
    columns: &'a [Column],
    else_at: Micros,
}

impl Places<'_> {
    fn of<'v>(&self, values: &'v [Json], name: &str) -> Option<&'v Json> {
        let at = self.columns.iter().position(|column| column.name == name)?;
        values.get(at).filter(|value| !value.is_null())
    }

    fn row(&self, values: Vec<Json>) -> Row {
        let time = self.of(&values, "@timestamp").and_then(Json::as_str).and_then(Micros::parse_rfc3339);
        let reference = self.reference(&values, time);
        let source = self.of(&values, vedette_hunt::SOURCE).and_then(Json::as_str).map(str::to_owned);
        Row { values, time, reference, source }
    }

    fn reference(&self, values: &[Json], time: Option<Micros>) -> Option<Evidence> {
        let number = |name: &str| self.of(values, name).and_then(Json::as_i64);
        let clock = self.of(values, vedette_hunt::lake::CLOCK).and_then(Json::as_str).unwrap_or_default();
        let flags = clock.split(' ').filter_map(Flags::named).fold(Flags::NONE, Flags::with);
        Some(Evidence {
            topic: self.of(values, "vedette.topic")?.as_str()?.into(),
            incarnation: number("vedette.incarnation").and_then(|n| n.try_into().ok()).unwrap_or(0),
            partition: number("vedette.partition")?.try_into().ok()?,
            offset: number("vedette.offset")?,
            index: number("vedette.index").and_then(|n| n.try_into().ok()).unwrap_or(0),
            time: time.unwrap_or(self.else_at),
            flags,
        })
    }
}

/// Time, place, and the row's text where it has no place.
type InOrder = (Option<Micros>, Option<(Arc<str>, i32, i64, u32)>, String);

impl Row {
    /// What puts rows in an order that is the same in each run.
    fn order(&self) -> InOrder {
        let place = |of: &Evidence| (of.topic.clone(), of.partition, of.offset, of.index);
        let place = self.reference.as_ref().map(place);
        let text = if place.is_some() { String::new() } else { Json::from(self.values.clone()).to_string() };
        (self.time, place, text)
    }
}

/// What one alert is made of.
#[derive(Default)]
struct Group {
    key: BTreeMap<Arc<str>, Value>,
    rows: Vec<Row>,
    /// Of how many entities these are, where they are of those that have no alert of their own.
    rest: Option<Rest>,
}

#[derive(Default)]
struct Rest {
    entities: u64,
    named: Vec<Json>,
}

/// The alerts of a run.
///
/// # Errors
/// In a line for a person: if the answer has no such column as the schedule names, or a body cannot be written.
pub fn alerts(found: &mut Found<'_>) -> Result<Vec<AlertRevision>, String> {
    let rows = std::mem::take(&mut found.rows);
    let groups = groups(found, rows)?;
    let written = groups.into_iter().map(|group| {
        let sources: BTreeSet<String> = group.rows.iter().filter_map(|row| row.source.clone()).collect();
        let alert = alert(found, group);
        AlertRevision::of(&alert, sources.into_iter().collect(), alert.last_seen)
    });
    written.collect::<Result<_, _>>().map_err(|error| error.to_string())
}

fn groups(found: &Found<'_>, rows: Vec<Vec<Json>>) -> Result<Vec<Group>, String> {
    let Found { schedule, columns, window, .. } = found;
    let entity = schedule.schedule.entity.as_deref();
    let place = |name: &str| columns.iter().position(|column| column.name == name);
    let at = match entity {
        None => None,
        Some(name) => Some((name, place(name).ok_or_else(|| no_column(name, columns))?)),
    };
    let places = Places { columns, else_at: window.0 };
    let mut by_key: BTreeMap<String, Group> = BTreeMap::new();
    for values in rows {
        let part = at.and_then(|(name, at)| Some((Arc::from(name), scalar(values.get(at)?)?)));
        let key: BTreeMap<Arc<str>, Value> = part.into_iter().collect();
        let group = by_key.entry(key_text(&key)).or_insert_with(|| Group { key, ..Group::default() });
        group.rows.push(places.row(values));
    }
    // By key, since the order of rows is not always the same, and a run that is repeated must fold the same ones.
    let mut groups: Vec<Group> = by_key.into_values().collect();
    let most = schedule.schedule.most.max(1) as usize;
    if groups.len() > most {
        let folded = groups.split_off(most);
        let mut rest = Rest { entities: folded.len() as u64, named: Vec::new() };
        let names = folded.iter().filter_map(|group| group.key.values().next()).take(NAMED);
        rest.named = names.map(Value::json).collect();
        let rows = folded.into_iter().flat_map(|group| group.rows).collect();
        groups.push(Group { key: BTreeMap::new(), rows, rest: Some(rest) });
    }
    for group in &mut groups {
        group.rows.sort_by_cached_key(Row::order);
    }
    Ok(groups)
}

fn no_column(name: &str, columns: &[Column]) -> String {
    let known: Vec<&str> = columns.iter().take(COLUMNS).map(|column| &*column.name).collect();
    format!(
        "the answer has no column `{name}` that could say whom a row is about; it has: {}",
        known.join(", ")
    )
}

/// A value as a part of a key.
fn scalar(value: &Json) -> Option<Value> {
    match value {
        Json::String(text) if !text.is_empty() => Some(Value::Text(key_part(text).into())),
        Json::Number(number) => Some(Value::Number(number.to_string().into())),
        Json::Bool(value) => Some(Value::Bool(*value)),
        _ => None,
    }
}

fn alert(found: &Found<'_>, group: Group) -> Alert {
    let Found { schedule, window: (from, until), .. } = found;
    let (meaning, version) = meaning(schedule);
    let rule_id = format!("hunt:{}", schedule.schedule.hunt);
    let last = until.minus(Span(1));
    let within = |time: Micros| time.clamp(*from, last);
    let times = || group.rows.iter().filter_map(|row| row.time);
    let (first_seen, last_seen) = (times().min().map_or(*from, within), times().max().map_or(last, within));
    let crossing = Order {
        time: *from,
        topic: TopicIx(0),
        incarnation: 0,
        partition: 0,
        offset: until.0,
        index: u32::from(group.rest.is_some()),
    };
    let identity = Identity { rule_id: &rule_id, meaning: &meaning, key: &group.key, crossing, topic: "" };
    let references: Vec<&Evidence> = group.rows.iter().filter_map(|row| row.reference.as_ref()).collect();
    let flags = references.iter().fold(Flags::HUNT, |all, of| all.with(of.flags));
    let flags = if group.rest.is_some() { flags.with(Flags::STORM) } else { flags };
    let entity = group.key.iter().next();
    let entity = entity.map(|(kind, value)| Entity { kind: kind.clone(), value: value.clone() });
    let severity = schedule.schedule.severity;
    Alert {
        alert_id: identity.alert_id(),
        revision: 1,
        state: State::Ended,
        continuation: false,
        rule: Arc::new(RuleRef {
            id: rule_id.as_str().into(),
            title: schedule.schedule.title.as_str().into(),
            level: severity,
            kind: "hunt".into(),
            version: version.into(),
            tags: Arc::default(),
        }),
        entity,
        first_seen,
        crossed_at: last_seen,
        last_seen,
        count: group.rows.len() as u64,
        value: Number::Int(group.rows.len() as u64),
        severity,
        risk: severity.risk(),
        summary: summary(schedule, &group),
        evidence: ends(&references),
        evidence_total: references.len() as u64,
        explanation: Explanation { details: explanation(found, &group), ..Explanation::default() },
        key: group.key,
        flags,
    }
}

/// The first and the last, each once.
fn ends(all: &[&Evidence]) -> Vec<Evidence> {
    let last = all.len().saturating_sub(ENDS).max(ENDS.min(all.len()));
    let ends = all.iter().take(ENDS).chain(all.get(last..).unwrap_or_default());
    ends.map(|of| (*of).clone()).collect()
}

fn summary(schedule: &HuntSchedule, group: &Group) -> String {
    let of = &schedule.schedule;
    let rows = match group.rows.len() {
        1 => "1 row".to_owned(),
        n => format!("{n} rows"),
    };
    let told = of.summary.as_deref().unwrap_or("found by a scheduled hunt");
    let whom = match (&group.rest, group.key.values().next()) {
        (Some(rest), _) => format!("{} more, ", rest.entities),
        (None, Some(value)) => format!("{} ", cut(value.text(), CHARS)),
        (None, None) => String::new(),
    };
    format!("{}: {whom}{told}, {rows}", of.title)
}

fn explanation(found: &Found<'_>, group: &Group) -> Map<String, Json> {
    let Found { schedule, window: (from, until), columns, more, basis, at, complete, .. } = found;
    let mut details = json!({
        "type": "hunt",
        "hunt": schedule.name,
        "schedule": schedule.id,
        "every": schedule.schedule.every,
        "window_start": from,
        "window_end": until,
        "ran_at": at,
        "complete_through": basis.complete_through,
        "complete": complete,
        "missing": basis.missing.iter().take(MISSING).map(|line| cut(line, CHARS)).collect::<Vec<_>>(),
        "more": more,
        "sql": cut(&schedule.sql, SQL),
        "rows": told(&group.rows, columns),
        "rows_total": group.rows.len(),
    });
    if let Some(Rest { entities, named }) = &group.rest {
        details["entities_total"] = (*entities).into();
        details["entities"] = named.clone().into();
    }
    match details {
        Json::Object(details) => details,
        _ => Map::new(),
    }
}

/// The first rows, without what is null.
fn told(rows: &[Row], columns: &[Column]) -> Vec<Json> {
    let (mut told, mut bytes) = (Vec::new(), 0);
    for row in rows.iter().take(ROWS) {
        let filled = columns.iter().zip(&row.values).filter(|(_, value)| !value.is_null()).take(COLUMNS);
        let row: Map<String, Json> =
            filled.map(|(column, value)| (cut(&column.name, CHARS), short(value))).collect();
        let row = Json::Object(row);
        bytes += row.to_string().len();
        if bytes > BYTES && !told.is_empty() {
            break;
        }
        told.push(row);
    }
    told
}

fn short(value: &Json) -> Json {
    match value {
        Json::String(text) => cut(text, CHARS).into(),
        Json::Array(_) | Json::Object(_) => {
            let text = value.to_string();
            if text.len() > CHARS { cut(&text, CHARS).into() } else { value.clone() }
        }
        value => value.clone(),
    }
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
#[path = "raise_tests.rs"]
pub(super) mod tests;
