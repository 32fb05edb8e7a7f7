//! Wire formats: raw records in, Arrow event batches and dead letters out.
//!
//! In: [`RawBatch`]es of one source, its [`SourceDef`] and the list of fields somebody needs. Out: [`EventBatch`]es
//! with exactly these columns, and a [`DeadLetter`] for each record that cannot be read.
//! Invariants: every record ends in events or in exactly one dead letter; nothing panics on any bytes; nothing is
//! allocated per row once warm; no I/O, no clock, no randomness.

mod aws_waf;
mod cast;
mod claim;
mod columns;
mod detect;
mod exact;
mod inspect;
mod json;
mod panos;
mod record;
mod secret;
mod unmapped;
mod url;

use std::sync::Arc;

use arrow_buffer::Buffer;
use chrono_tz::Tz;
use vedette_event::{
    DeadLetter, DeadReason, EventBatch, Fields, MAX_ROWS, Micros, Projection, RawBatch, RawRecord, SourceDef,
    Text, raw::MAX_RECORD_BYTES, source::Form,
};

use crate::{columns::Columns, panos::PanosLines, record::JsonRecords, secret::Secrets};
pub use crate::{
    detect::detect,
    inspect::{Inspector, field_names},
    unmapped::{UNMAPPED, all_fields},
};

/// Why a source cannot be decoded at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The source's time zone has no such name.
    #[error("source `{source_name}`: `{zone}` is no IANA time zone; write for example Europe/Berlin or UTC")]
    TimeZone {
        /// The source.
        source_name: Arc<str>,
        /// What its `time_zone` says.
        zone: String,
    },
}

/// Why a record ends as a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRecord {
    /// The stable reason.
    pub reason: DeadReason,
    /// What exactly was wrong; never holds a value of the record.
    pub detail: Arc<str>,
}

impl RefusedRecord {
    fn new(reason: DeadReason, detail: impl Into<Arc<str>>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// Turns the records of one source into columns.
pub struct Decoder {
    columns: Columns,
    records: Records,
    /// Whether records' texts are kept.
    originals: Option<Originals>,
}

/// Which records' texts are kept, and what is hidden in them.
struct Originals {
    form: Form,
    secrets: Secrets,
    /// Only those whose events say less than they do.
    altered: bool,
}

/// How one record becomes cells.
enum Records {
    Json(Box<JsonRecords>),
    Panos(Box<PanosLines>),
}

impl Decoder {
    /// A decoder for a source: batches are of `projection`; `secret` keys the hashes of secrets.
    ///
    /// # Errors
    /// If the definition names an unknown time zone.
    pub fn new(
        def: &SourceDef,
        fields: &Fields,
        projection: &Arc<Projection>,
        secret: [u8; 32],
    ) -> Result<Self, Error> {
        let zone: Tz = def
            .time_zone
            .parse()
            .map_err(|_| Error::TimeZone { source_name: def.name.clone(), zone: def.time_zone.clone() })?;
        let secrets = Secrets::new(def, secret);
        let hidden = unmapped::hidden_fields(def, fields, projection.fields());
        let names = (projection.fields(), &*hidden);
        let records = match def.form {
            Form::PanosCsv => Records::Panos(Box::new(PanosLines::new(names, zone, secrets.clone()))),
            Form::AwsWaf | Form::ApiJson | Form::Json => {
                Records::Json(Box::new(JsonRecords::new(def, fields, names, zone, secrets.clone())))
            }
        };
        let typed = def.form != Form::Json;
        let columns = Columns::new(projection, &hidden, fields, typed, secrets);
        Ok(Self { columns, records, originals: None })
    }

    /// Keeps the records' texts for rules that search them for keywords, their secrets hidden.
    #[must_use]
    pub fn searched(mut self, def: &SourceDef, secret: [u8; 32]) -> Self {
        self.originals =
            Some(Originals { form: def.form, secrets: Secrets::new(def, secret), altered: false });
        self
    }

    /// Keeps the texts of those records alone whose events say less than they do, their secrets hidden. With `event.unmapped` in
    /// the projection an event says every value of its record but what its type has no room for: digits beyond a microsecond, or
    /// beyond a 64-bit float. How it was written (blanks, order, quotes, spelling) is no part of that, nor is whether a member was null or not there.
    #[must_use]
    pub fn keeping_altered(mut self, def: &SourceDef, secret: [u8; 32]) -> Self {
        self.originals =
            Some(Originals { form: def.form, secrets: Secrets::new(def, secret), altered: true });
        self
    }

    /// Decodes a batch: appends its events to `out` and the records that cannot be read to `dead`.
    pub fn decode(&mut self, raw: &RawBatch, out: &mut Vec<EventBatch>, dead: &mut Vec<DeadLetter>) {
        let texts = Texts::new(raw);
        let mut finish = |columns: &mut Columns| out.push(columns.batch.finish(raw.source, raw.partition));
        self.columns.batch.begin(&texts.all, raw.records.len().min(MAX_ROWS));
        for (number, record) in raw.records.iter().enumerate() {
            let text = texts.of(raw, record);
            let event = text.and_then(|text| Ok((text, self.record(text)?)));
            match event {
                Ok((text, claimed)) => {
                    let batch = &mut self.columns.batch;
                    match &self.originals {
                        None => {}
                        Some(kept) if kept.altered && !self.columns.altered => {}
                        Some(kept) if kept.secrets.is_empty() => batch.keep_original(text),
                        Some(kept) => batch.keep_original(&kept.secrets.mask_record(kept.form, text)),
                    }
                    batch.end_row(record.offset, 0, number as u32, claimed);
                }
                Err(refused) => dead.push(DeadLetter::of(raw, record, refused.reason, refused.detail)),
            }
            if self.columns.batch.rows() == MAX_ROWS {
                finish(&mut self.columns);
                self.columns.batch.begin(&texts.all, (raw.records.len() - number - 1).min(MAX_ROWS));
            }
        }
        if self.columns.batch.rows() > 0 {
            finish(&mut self.columns);
        }
    }

    fn record(&mut self, text: &str) -> Result<Option<Micros>, RefusedRecord> {
        self.columns.altered = false;
        match &mut self.records {
            Records::Json(records) => records.decode(text, &mut self.columns),
            Records::Panos(lines) => lines.decode(text, &mut self.columns),
        }
    }

    /// How many values so far were not of their field's declared type, by field; fields without are left out.
    pub fn cast_failures(&self) -> impl Iterator<Item = (&Arc<str>, u64)> {
        self.columns.failures()
    }
}

/// The records of a batch as text.
struct Texts {
    /// From the first record's first byte to the last one's last.
    all: Text,
    /// Where it begins in the batch.
    base: usize,
    /// In `all`, records that are not UTF-8 are blank.
    patched: bool,
}

impl Texts {
    fn new(raw: &RawBatch) -> Self {
        let end = |record: &RawRecord| record.start as usize + record.len.unwrap_or_default() as usize;
        let base = raw.records.iter().map(|r| r.start as usize).min().unwrap_or_default();
        let base = base.min(raw.data.len());
        let end = raw.records.iter().map(end).max().unwrap_or_default().clamp(base, raw.data.len());
        let bytes = raw.data.slice_with_length(base, end - base);
        match Text::new(bytes) {
            Some(all) => Self { all, base, patched: false },
            None => Self { all: patch(raw, base, end), base, patched: true },
        }
    }

    /// The text of a record, or why it has none.
    fn of(&self, raw: &RawBatch, record: &RawRecord) -> Result<&str, RefusedRecord> {
        let Some(bytes) = raw.payload(record) else {
            return Err(RefusedRecord::new(DeadReason::NullPayload, "the payload is null"));
        };
        if bytes.len() > MAX_RECORD_BYTES {
            return Err(RefusedRecord::new(DeadReason::Oversized, "the record is longer than 1 MiB"));
        }
        let start = (record.start as usize).saturating_sub(self.base);
        let text = self.all.as_str().get(start..start + bytes.len());
        let text = text.filter(|_| !self.patched || simdutf8::basic::from_utf8(bytes).is_ok());
        let text =
            text.ok_or_else(|| RefusedRecord::new(DeadReason::InvalidUtf8, "the record is not UTF-8"))?;
        if text.bytes().all(|b| b.is_ascii_whitespace()) {
            return Err(RefusedRecord::new(DeadReason::Malformed, "the record is blank"));
        }
        Ok(text)
    }
}

/// A copy of the batch's bytes in which all is blank but the records that are UTF-8.
#[cold]
fn patch(raw: &RawBatch, base: usize, end: usize) -> Text {
    let mut bytes = vec![b' '; end - base];
    for record in &raw.records {
        let payload = raw.payload(record).filter(|payload| simdutf8::basic::from_utf8(payload).is_ok());
        let start = (record.start as usize).saturating_sub(base);
        let room = payload.and_then(|payload| bytes.get_mut(start..start + payload.len()));
        if let (Some(payload), Some(room)) = (payload, room) {
            room.copy_from_slice(payload);
        }
    }
    Text::new(Buffer::from_vec(bytes)).unwrap_or_default()
}

#[cfg(test)]
mod exact_tests;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod unmapped_tests;
