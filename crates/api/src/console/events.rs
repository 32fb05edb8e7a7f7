//! Events on an alert's page, as tables: those that it refers to itself, and those of the episodes below it.
//!
//! In: references, the contents that were fetched, what the rules look for. Out: [`Table`]s for the templates. Invariants: a row
//! shows at most 300 characters of a value and a cell 4 KiB, with the rest one click away; what matched is marked; a value of
//! any length and content is text.

use std::collections::BTreeMap;

use serde_json::Value;
use vedette_event::{Evidence, Incarnation, alert::references};
use vedette_store::is_entity;

use super::{
    Stamp, href, hunt,
    marks::{self, Marks, Part},
    segment, words,
};
use crate::{
    desk::dossier::RECORD,
    wire::{ContentState, EventContent},
};

/// Fields that tell the most of an event, the first that it has; after those that a rule looked for.
pub(super) const TELLING: [&str; 18] = [
    "event.action",
    "event.outcome",
    "waf.action",
    "waf.attack_class",
    "user.name",
    "user.id",
    "client.ip",
    "source.ip",
    "destination.ip",
    "destination.port",
    "http.request.method",
    "url.path",
    "http.response.status_code",
    "api_key.id",
    "exchange.withdrawal.amount",
    "panw.threat_name",
    "rule.name",
    "host.name",
];
/// Columns besides the time.
const COLUMNS: usize = 5;
/// Bytes or so of a value in a cell of its own.
const IN_CELL: usize = 4_096;
/// Fields of one event that are listed on the alert's page.
const FIELDS: usize = 100;
/// Characters that a column makes room for.
const ON_A_LINE: usize = 24;
/// Characters of a value that links may carry.
const IN_LINK: usize = 300;

/// A field of an event.
pub(super) struct Cell {
    pub name: String,
    pub parts: Vec<Part>,
    /// Something is left out.
    pub cut: bool,
    /// Too long for one line of a table: it is broken anywhere.
    pub long: bool,
    /// All that concerns whom it names.
    pub entity: Option<String>,
    /// Show only events with this value, or only those without; all alerts that say it. None where it is too long.
    pub links: Option<Links>,
}

/// What can be asked of a value.
pub(super) struct Links {
    pub only: String,
    pub without: String,
    pub find: String,
}

/// An event with as much of it as is stored.
pub(super) struct Event {
    pub time: Stamp,
    pub place: String,
    pub flags: Vec<String>,
    /// A cell for each column, where it has that field.
    pub cells: Vec<Option<Cell>>,
    pub rest: Vec<Cell>,
    /// Its own page, with every field at full length.
    pub href: Option<String>,
    pub absent: Option<String>,
    /// Where the lake may have what is not here, for who may hunt.
    pub lake: Option<String>,
    pub gap_before: Option<String>,
}

/// Events with the fields that they have in common.
pub(super) struct Table {
    /// Tells its rows from those of others.
    pub of: String,
    pub columns: Vec<String>,
    pub events: Vec<Event>,
    /// Events that a filter of the page hides.
    pub hidden: usize,
}

/// Which events of a page are shown: those that have a value, or those that have it not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Only {
    pub field: String,
    pub value: String,
    pub without: bool,
}

impl Only {
    /// `field:value`, as links write it.
    pub fn parse(text: &str, without: bool) -> Option<Self> {
        let (field, value) = text.split_once(':')?;
        Some(Self { field: field.to_owned(), value: value.to_owned(), without })
    }

    fn shows(&self, fields: &[(String, String)]) -> bool {
        fields.iter().any(|(name, value)| *name == self.field && *value == self.value) != self.without
    }
}

/// Topic, incarnation, partition, offset, index.
type Place = (String, Incarnation, i32, i64, u32);

/// What an event page and the tables are made of.
pub(super) struct Contents {
    /// By reference: the number among those that are fetched, and what was.
    fetched: BTreeMap<Place, (usize, EventContent)>,
    id: String,
    /// The past that is shown.
    as_of: Option<String>,
    marks: Marks,
    only: Vec<Only>,
    /// Whether who looks may ask the lake.
    may_hunt: bool,
}

impl Contents {
    pub fn new(
        (id, at): (&str, Option<i64>),
        fetched: Vec<EventContent>,
        marks: Marks,
        only: Vec<Only>,
    ) -> Self {
        let place = |of: &EventContent| (of.topic.clone(), of.incarnation, of.partition, of.offset, of.index);
        let fetched = fetched.into_iter().enumerate().map(|(n, of)| (place(&of), (n, of))).collect();
        let as_of = at.map(|at| at.to_string());
        Self { fetched, id: id.to_owned(), as_of, marks, only, may_hunt: false }
    }

    /// The same for who may ask the lake, where there is one.
    pub fn for_who_hunts(self, may_hunt: bool) -> Self {
        Self { may_hunt, ..self }
    }

    /// The events of some references, of which there are so many in all: the first five, and the last.
    pub fn table(&self, of: &str, evidence: &[Evidence], total: u64) -> Table {
        let missing = total.saturating_sub(evidence.len() as u64);
        let all: Vec<_> = evidence.iter().map(|reference| (reference, self.fields(reference))).collect();
        let columns =
            self.columns(all.iter().filter_map(|(_, found)| found.as_ref()).map(|(_, fields)| fields));
        let mut events = Vec::new();
        let mut gap = None;
        let mut hidden = 0;
        for (at, (reference, found)) in all.iter().enumerate() {
            if missing > 0 && at == evidence.len().min(5) {
                gap = Some(words::number(missing));
            }
            let fields = found.as_ref().map_or(&[][..], |(_, fields)| fields);
            if !self.only.iter().all(|only| only.shows(fields)) {
                hidden += 1;
                continue;
            }
            let number = found.as_ref().map(|(number, _)| *number);
            events.push(Event { gap_before: gap.take(), ..self.event(reference, number, fields, &columns) });
        }
        Table { of: of.to_owned(), columns, events, hidden }
    }

    fn fields(&self, reference: &Evidence) -> Option<(usize, Vec<(String, String)>)> {
        let (number, content) = self.found(reference)?;
        Some((*number, content.content.as_ref().map(fields).unwrap_or_default()))
    }

    fn found(&self, of: &Evidence) -> Option<&(usize, EventContent)> {
        self.fetched.get(&(of.topic.to_string(), of.incarnation, of.partition, of.offset, of.index))
    }

    /// The fields that are columns: those that a rule looked for, then those that tell the most, then any.
    fn columns<'a>(&self, events: impl Iterator<Item = &'a Vec<(String, String)>>) -> Vec<String> {
        let mut names: Vec<&str> = Vec::new();
        for fields in events {
            for (name, _) in fields {
                if !names.contains(&name.as_str()) && names.len() < FIELDS {
                    names.push(name);
                }
            }
        }
        let rank = |name: &&str| {
            let telling = TELLING.iter().position(|own| own == name).unwrap_or(TELLING.len());
            (!self.marks.concerns(name), telling)
        };
        names.sort_by_key(rank);
        names.into_iter().take(COLUMNS).map(str::to_owned).collect()
    }

    fn event(
        &self,
        reference: &Evidence,
        number: Option<usize>,
        fields: &[(String, String)],
        columns: &[String],
    ) -> Event {
        let Evidence { time, flags, .. } = reference;
        let cell = |name: &String| {
            let (name, value) = fields.iter().find(|(field, _)| field == name)?;
            Some(self.cell(name, value, words::IN_ROW))
        };
        let rest = fields.iter().filter(|(name, _)| !columns.contains(name)).take(FIELDS);
        let content = self.found(reference).map(|(_, content)| content);
        Event {
            time: Stamp::of(*time),
            place: place(reference),
            flags: words::flags(*flags),
            cells: columns.iter().map(cell).collect(),
            rest: rest.map(|(name, value)| self.cell(name, value, IN_CELL)).collect(),
            href: number
                .filter(|_| content.is_some_and(|content| content.content.is_some()))
                .map(|number| format!("{}/events/{number}", segment("/alerts/", &self.id))),
            absent: absent(content),
            lake: Some(reference).filter(|_| self.may_hunt && lacks(content)).map(in_the_lake),
            gap_before: None,
        }
    }

    /// A field, up to so many characters.
    pub fn cell(&self, name: &str, value: &str, most: usize) -> Cell {
        let (parts, cut) = marks::shorten(self.marks.parts(name, value), most);
        let short = value.chars().nth(IN_LINK).is_none() && !value.is_empty();
        let page = segment("/alerts/", &self.id);
        let pair = format!("{name}:{value}");
        let link = |name| {
            let mut pairs = vec![(name, pair.as_str())];
            pairs.extend(self.as_of.as_deref().map(|at| ("as_of", at)));
            format!("{}#evidence", href(&page, &pairs))
        };
        let links = short.then(|| Links {
            only: link("only"),
            without: link("without"),
            find: href("/", &[("status", "all"), ("q", value)]),
        });
        let entity = (short && is_entity(name, value)).then(|| entity_href(name, value));
        let long = value.chars().nth(ON_A_LINE).is_some();
        Cell { name: name.to_owned(), parts, cut, long, entity, links }
    }

    /// The event of this number with all its fields, and the record as it came.
    pub fn whole(&self, number: usize, body: &str) -> Option<(Evidence, Vec<Cell>, Option<String>)> {
        let reference = references(body).into_iter().nth(number)?;
        let (_, content) = self.found(&reference)?;
        let content = content.content.as_ref()?;
        let cells = fields(content).iter().map(|(name, value)| self.cell(name, value, usize::MAX)).collect();
        Some((reference, cells, record(content)))
    }
}

/// The page of an entity.
pub(super) fn entity_href(kind: &str, value: &str) -> String {
    segment(&format!("{}/", segment("/entities/", kind)), value)
}

/// Where an event stands in the log.
pub(super) fn place(reference: &Evidence) -> String {
    let Evidence { topic, incarnation, partition, offset, index, .. } = reference;
    let index = if *index > 0 { format!("#{index}") } else { String::new() };
    let again = if *incarnation > 0 { format!(" (incarnation {incarnation})") } else { String::new() };
    format!("{topic}/{partition}/{offset}{index}{again}")
}

/// Why there is nothing to show of an event.
fn absent(content: Option<&EventContent>) -> Option<String> {
    let Some(content) = content else {
        return Some("not fetched: an alert keeps what fifty events say".to_owned());
    };
    match content.state {
        ContentState::Gone => Some("gone: the broker has deleted this record".to_owned()),
        ContentState::Pending => Some("being fetched".to_owned()),
        ContentState::Left => Some("not kept: the alert went on, and refers to other events".to_owned()),
        ContentState::Present => content.content.is_none().then(|| "empty".to_owned()),
        ContentState::Undecodable => {
            Some(format!("cannot be decoded: {}", content.fault.as_deref().unwrap_or_default()))
        }
    }
}

/// Whether what an event says is not here, and will not come.
fn lacks(content: Option<&EventContent>) -> bool {
    content.is_none_or(|content| matches!(content.state, ContentState::Gone | ContentState::Left))
}

/// The page of an event by its place in the log.
fn in_the_lake(of: &Evidence) -> String {
    let numbers =
        [of.partition.to_string(), of.offset.to_string(), of.index.to_string(), of.time.to_string()];
    let [partition, offset, index, at] = &numbers;
    hunt::href_of([&of.topic, partition, offset, index, at])
}

/// The record's text, where an event has one.
fn record(content: &Value) -> Option<String> {
    match content {
        Value::Object(members) => members.get(RECORD).map(words::scalar),
        other => Some(words::scalar(other)),
    }
}

/// An event's content as fields, but for the record's text.
fn fields(content: &Value) -> Vec<(String, String)> {
    let Value::Object(members) = content else { return Vec::new() };
    let mut fields = Vec::new();
    for (name, value) in members.iter().filter(|(name, _)| *name != RECORD) {
        match value {
            Value::Object(inner) => {
                let inner = inner.iter().map(|(own, value)| (format!("{name}.{own}"), words::scalar(value)));
                fields.extend(inner);
            }
            value => fields.push((name.clone(), words::scalar(value))),
        }
    }
    fields
}
