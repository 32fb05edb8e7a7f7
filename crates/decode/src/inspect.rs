//! Everything of one record, for a person: `vedette decode`, and the content of an alert's evidence.
//!
//! In: a record. Out: flat JSON objects of canonical fields and of what else JSON has, by its path; or of canonical fields
//! and `event.unmapped`; or the record's text with its secrets masked.
//! Invariant: values come from a [`Decoder`] whose projection is all that the record has, so both agree by
//! construction.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Map, Value};
use vedette_event::{
    Cell, Fields, Flags, Kind, Partition, Projection, RawBatchBuilder, SourceDef, SourceIx, TopicIx,
    source::Form,
};

use crate::{
    Decoder, Error, RefusedRecord, aws_waf,
    json::{
        scan::{Captures, scan},
        select::Selection,
        walk,
    },
    panos, record,
    secret::Secrets,
    unmapped::{UNMAPPED, all_fields},
};

/// Fields shown of one record at most.
const MAX_FIELDS: usize = 4_096;

/// Shows records of one source as flat JSON objects.
pub struct Inspector {
    def: SourceDef,
    fields: Fields,
    key: [u8; 32],
    secrets: Secrets,
    projection: Arc<Projection>,
    decoder: Decoder,
    /// What no field took is shown as one object, not by its paths.
    unmapped: bool,
}

impl Inspector {
    /// For a source; `secret` keys the hashes of secrets, as in [`Decoder::new`].
    ///
    /// # Errors
    /// If the definition names an unknown time zone.
    pub fn new(def: &SourceDef, fields: &Fields, secret: [u8; 32]) -> Result<Self, Error> {
        let projection = Projection::new([]);
        Ok(Self {
            decoder: Decoder::new(def, fields, &projection, secret)?,
            def: def.clone(),
            fields: fields.clone(),
            key: secret,
            secrets: Secrets::new(def, secret),
            projection,
            unmapped: false,
        })
    }

    /// Shows what no canonical field took in `event.unmapped`, as it is in batches, instead of JSON's by its paths.
    #[must_use]
    pub fn unmapped(mut self) -> Self {
        self.unmapped = true;
        self
    }

    /// The events of a record, in order of their index: canonical fields sorted by name, `vedette.source` and
    /// `vedette.offset` among them. `payload` is `None` for a null payload.
    ///
    /// # Errors
    /// The reason and the detail of the dead letter that the record is.
    pub fn inspect(
        &mut self,
        offset: i64,
        payload: Option<&[u8]>,
    ) -> Result<Vec<Map<String, Value>>, RefusedRecord> {
        let text = payload.and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
        let names = if self.unmapped { all_fields(&self.def, &self.fields) } else { names(&self.def, text) };
        self.project(names);
        let partition = Partition { topic: TopicIx(0), number: 0 };
        let mut raw = RawBatchBuilder::new(SourceIx(0), partition);
        raw.push(offset, None, Flags::NONE, payload);
        let (mut out, mut dead) = (Vec::new(), Vec::new());
        self.decoder.decode(&raw.take(), &mut out, &mut dead);
        if let Some(letter) = dead.pop() {
            return Err(RefusedRecord { reason: letter.reason, detail: letter.detail });
        }
        let mut events = Vec::new();
        for batch in &out {
            for row in 0..batch.rows() {
                let cells = self.projection.fields().iter().zip(batch.columns());
                let mut event: Map<String, Value> = cells
                    .filter_map(|(name, column)| Some((name.to_string(), json(column.cell(row))?)))
                    .collect();
                if !self.unmapped && !self.def.own_logsource() {
                    drop_mapped(&self.def, &mut event);
                }
                event.insert("vedette.source".to_owned(), (*self.def.name).into());
                event.insert("vedette.offset".to_owned(), offset.into());
                events.push(event);
            }
        }
        Ok(events)
    }

    /// The record's text as it may be shown: its secrets replaced by their hashes, all else as it came.
    #[must_use]
    pub fn mask(&self, payload: &str) -> String {
        if self.secrets.is_empty() {
            return payload.to_owned();
        }
        if self.def.form == Form::PanosCsv {
            return self.secrets.mask_record(self.def.form, payload);
        }
        let selection = Selection::new(Vec::<Vec<&str>>::new());
        let mut captures = Captures::new(&selection, 0);
        match scan(payload, &selection, &mut captures, &mut String::new()) {
            Ok(()) => self.secrets.mask_record(self.def.form, payload),
            Err(_) => self.secrets.mask_parameters(payload).unwrap_or_else(|| payload.to_owned()),
        }
    }

    fn project(&mut self, names: Vec<Arc<str>>) {
        if names == self.projection.fields() {
            return;
        }
        let projection = Projection::new(names);
        // The definition made a decoder before, so it makes one again.
        if let Ok(decoder) = Decoder::new(&self.def, &self.fields, &projection, self.key) {
            self.decoder = decoder;
            self.projection = projection;
        }
    }
}

/// All names that a record of the source can have a value under.
fn names(def: &SourceDef, record: &str) -> Vec<Arc<str>> {
    let mut names: Vec<Arc<str>> = Vec::new();
    match def.form {
        Form::PanosCsv => {
            if let Ok((log, ..)) = panos::parse(record, &mut Vec::new()) {
                names.extend(log.fields().map(Arc::from));
            }
        }
        Form::Json => {}
        Form::ApiJson | Form::AwsWaf => {
            names.extend(def.fields.keys().map(|name| Arc::from(&**name)));
            names.extend(record::derived_names().map(Arc::from));
        }
    }
    if def.form == Form::AwsWaf {
        names.extend(aws_waf::names().map(Arc::from));
        names.extend(aws_waf::headers(record).map(Arc::from));
    }
    if def.form != Form::PanosCsv {
        leaves(record, &mut String::new(), &mut names, 0);
    }
    names.sort_unstable();
    names.dedup();
    names
}

/// The fields that events of a source can have, by their canonical names: those of [`all_fields`], and what these records have beside
/// them under a name that `fields.yml` declares (a header, say); in form `json` all that these records have, and `event.unmapped`.
#[must_use]
pub fn field_names<'a>(
    def: &SourceDef,
    fields: &Fields,
    records: impl IntoIterator<Item = &'a [u8]>,
) -> BTreeSet<Arc<str>> {
    let json = def.form == Form::Json;
    let mut all: BTreeSet<Arc<str>> =
        if json { [UNMAPPED.into()].into() } else { all_fields(def, fields).into_iter().collect() };
    if def.form == Form::PanosCsv {
        return all;
    }
    for record in records {
        if all.len() < MAX_FIELDS {
            let names = names(def, std::str::from_utf8(record).unwrap_or_default());
            all.extend(names.into_iter().filter(|name| json || fields.kind(name).is_some()));
        }
    }
    all
}

/// The paths of all members that are no objects, or empty ones.
fn leaves(object: &str, path: &mut String, names: &mut Vec<Arc<str>>, depth: u32) {
    let mut scratch = String::new();
    let length = path.len();
    for (name, value) in walk::members(object.trim_ascii()) {
        if names.len() >= MAX_FIELDS || depth > crate::json::scan::MAX_DEPTH {
            return;
        }
        let quoted = object.trim_ascii().get(name.start - 1..=name.end).unwrap_or_default();
        let value = object.trim_ascii().get(value).unwrap_or_default();
        if length > 0 {
            path.push('.');
        }
        path.push_str(walk::text(quoted, &mut scratch).unwrap_or_default());
        if value.starts_with('{') && walk::members(value).next().is_some() {
            leaves(value, path, names, depth + 1);
        } else {
            names.push(path.as_str().into());
        }
        path.truncate(length);
    }
}

/// Leaves out what a canonical field of the event already says.
fn drop_mapped(def: &SourceDef, event: &mut Map<String, Value>) {
    let said: Vec<&String> = def
        .fields
        .iter()
        .filter(|(name, _)| event.contains_key(*name))
        .flat_map(|(_, paths)| paths.names())
        .filter(|path| !def.fields.contains_key(*path))
        .collect();
    for path in said {
        event.remove(path);
    }
    if def.form == Form::AwsWaf {
        for path in aws_waf::consumed(|name| event.contains_key(name)) {
            event.remove(path);
        }
    }
}

/// A cell as JSON; `None` if it is missing.
fn json(cell: Cell<'_>) -> Option<Value> {
    Some(match cell.kind {
        Kind::Missing => return None,
        Kind::Null => Value::Null,
        Kind::Text => Value::from(cell.text),
        Kind::Bool => Value::from(cell.text == "true"),
        // Not by serde_json, which may read the neighbour of the nearest f64.
        Kind::Float => cell.text.parse::<f64>().map_or(Value::Null, Value::from),
        Kind::Int | Kind::List | Kind::Object => {
            serde_json::from_str(cell.text).unwrap_or_else(|_| Value::from(cell.text))
        }
    })
}
