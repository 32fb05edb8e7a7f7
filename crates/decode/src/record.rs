//! JSON forms: one record, one event.
//!
//! In: a record's text. Out: its cells in the columns and its claimed time, or why it is refused.

use std::sync::Arc;

use chrono_tz::Tz;
use vedette_event::{Cell, DeadReason, Kind, Micros, SourceDef, batch::number};

use crate::{
    claim,
    columns::Columns,
    json::{
        scan::{Captures, MAX_DEPTH, Place, Refusal, scan},
        select::Selection,
        text::unescape,
    },
};

/// Where the claimed time is looked for unless the source says otherwise.
const TIME_PATHS: [&str; 3] = ["@timestamp", "timestamp", "time"];

/// Decodes one JSON form with one projection.
pub struct JsonRecords {
    selection: Selection,
    captures: Captures,
    /// The targets from here on are those of the claimed time, in order of preference.
    times: usize,
    zone: Option<Tz>,
    text: String,
    scratch: String,
}

impl JsonRecords {
    /// For a source definition; `zone` is that of times without offset, if they are times at all.
    pub fn new(def: &SourceDef, projection: &[Arc<str>], zone: Option<Tz>) -> Self {
        let own = |name: &Arc<str>| {
            let mapped = def.fields.get(&**name).map(|paths| paths.names().to_vec()).unwrap_or_default();
            mapped.into_iter().chain([name.to_string()]).collect::<Vec<_>>()
        };
        let times: Vec<String> = match def.fields.get("@timestamp") {
            Some(paths) => paths.names().to_vec(),
            None => TIME_PATHS.map(str::to_owned).to_vec(),
        };
        let mut targets: Vec<Vec<String>> = projection.iter().map(own).collect();
        targets.extend(times.into_iter().map(|path| vec![path]));
        let selection = Selection::new(targets.iter().map(|paths| paths.iter().map(String::as_str)));
        Self {
            captures: Captures::new(&selection),
            selection,
            times: projection.len(),
            zone,
            text: String::new(),
            scratch: String::new(),
        }
    }

    /// Decodes one record into row `row`.
    pub fn decode(
        &mut self,
        record: &str,
        row: usize,
        columns: &mut Columns,
    ) -> Result<Option<Micros>, (DeadReason, String)> {
        scan(record, &self.selection, &mut self.captures, &mut self.scratch).map_err(explain)?;
        for &target in self.captures.touched() {
            let target = target as usize;
            if target < self.times
                && let Some(place) = self.captures.get(target)
            {
                columns.put(target, row, cell(record, place, &mut self.text));
            }
        }
        Ok(self.claimed(record))
    }

    /// The first time that is present and not null decides.
    fn claimed(&mut self, record: &str) -> Option<Micros> {
        let places = (self.times..self.selection.targets()).filter_map(|target| self.captures.get(target));
        let place = places.into_iter().find(|place| place.kind != Kind::Null)?;
        let cell = cell(record, place, &mut self.text);
        match self.zone {
            Some(zone) => claim::instant_in(cell, zone),
            None => claim::instant(cell),
        }
    }
}

/// The cell at a place of a record.
#[inline]
pub fn cell<'a>(record: &'a str, place: Place, scratch: &'a mut String) -> Cell<'a> {
    let raw = place.of(record);
    match place.kind {
        Kind::Text if place.escaped => {
            scratch.clear();
            unescape(raw, scratch);
            Cell { kind: Kind::Text, text: scratch }
        }
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
pub fn explain(refusal: Refusal) -> (DeadReason, String) {
    match refusal {
        Refusal::Malformed(at, what) => (DeadReason::Malformed, format!("at byte {at}: {what}")),
        Refusal::TooDeep => {
            (DeadReason::TooDeep, format!("objects and lists nest deeper than {MAX_DEPTH} levels"))
        }
        Refusal::NumberRange(at) => {
            (DeadReason::NumberRange, format!("at byte {at}: a number beyond the range of 64-bit floats"))
        }
    }
}
