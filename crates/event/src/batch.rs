//! Events as columns: what the decoder writes and what rules and correlations read.
//!
//! In: cells appended row by row ([`ColumnBuilder`]). Out: [`EventBatch`], Arrow arrays of at most [`MAX_ROWS`] rows.
//! Invariants: every column is a text view (over the raw bytes where possible) beside a kind, so typed and
//! untyped sources look alike; a cell's text is canonical for its kind and for its field's type (addresses and
//! numbers in one spelling), so that equal values are equal bytes; missing and null cells have an empty text.

use std::{ptr, sync::Arc};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringViewArray, UInt8Array, UInt32Array};
use arrow_buffer::{Buffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, Field, Schema};

use crate::{
    order::{Partition, SourceIx},
    time::Micros,
};

/// Rows in a batch at most: it must stay in the L2 cache.
pub const MAX_ROWS: usize = 512;

/// What a cell holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// The event has no such field.
    Missing = 0,
    /// JSON null.
    Null = 1,
    /// Text, unescaped.
    Text = 2,
    /// A whole number within i64 or u64: decimal digits, `-` only below zero.
    Int = 3,
    /// Any other number, as the nearest f64 written shortest.
    Float = 4,
    /// `true` or `false`.
    Bool = 5,
    /// A JSON list, as its raw text.
    List = 6,
    /// A JSON object, as its raw text.
    Object = 7,
}

impl Kind {
    const ALL: [Self; 8] =
        [Self::Missing, Self::Null, Self::Text, Self::Int, Self::Float, Self::Bool, Self::List, Self::Object];

    /// The kind with this code; unknown codes are missing.
    #[must_use]
    pub fn from_code(code: u8) -> Self {
        Self::ALL.get(usize::from(code)).copied().unwrap_or(Self::Missing)
    }
}

/// One value in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cell<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its canonical text; raw JSON for lists and objects.
    pub text: &'a str,
}

impl Cell<'_> {
    /// The event has no such field.
    pub const MISSING: Cell<'static> = Cell { kind: Kind::Missing, text: "" };
}

/// One field of all rows of a batch.
#[derive(Debug, Clone)]
pub struct Column {
    text: StringViewArray,
    kinds: ScalarBuffer<u8>,
}

impl Column {
    /// The cell of a row.
    #[must_use]
    #[inline]
    pub fn cell(&self, row: usize) -> Cell<'_> {
        Cell { kind: Kind::from_code(self.kinds[row]), text: self.text.value(row) }
    }

    /// The kind codes ([`Kind`] as u8), one a row.
    #[must_use]
    pub fn kinds(&self) -> &[u8] {
        &self.kinds
    }

    /// The texts, one a row.
    #[must_use]
    pub fn texts(&self) -> &StringViewArray {
        &self.text
    }

    /// How many rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// True without rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// A column of `rows` missing cells.
    #[must_use]
    pub fn missing(rows: usize) -> Self {
        let mut builder = ColumnBuilder::new(Buffer::from_vec(Vec::<u8>::new()));
        builder.pad(rows);
        builder.finish()
    }

    /// The rows `from..from + rows` (cut to what is there), sharing memory.
    #[must_use]
    pub fn slice(&self, from: usize, rows: usize) -> Self {
        let from = from.min(self.len());
        let rows = rows.min(self.len() - from);
        Self { text: self.text.slice(from, rows), kinds: self.kinds.slice(from, rows) }
    }
}

/// Builds a [`Column`]: texts that lie in the batch's raw bytes become views, others are copied to the side.
#[derive(Debug)]
pub struct ColumnBuilder {
    raw: Buffer,
    side: Vec<u8>,
    views: Vec<u128>,
    kinds: Vec<u8>,
}

impl ColumnBuilder {
    /// An empty column over `raw` (less than 4 GiB), into which texts may point.
    #[must_use]
    pub fn new(raw: Buffer) -> Self {
        Self {
            raw,
            side: Vec::new(),
            views: Vec::with_capacity(MAX_ROWS),
            kinds: Vec::with_capacity(MAX_ROWS),
        }
    }

    /// Appends a cell. A text that is a slice of the raw buffer is not copied.
    #[inline]
    pub fn push(&mut self, kind: Kind, text: &str) {
        self.kinds.push(kind as u8);
        self.views.push(self.view(text));
        if let Some(view) = self.views.last_mut()
            && text.len() > 12
            && *view == 0
        {
            let offset = self.side.len() as u32;
            self.side.extend_from_slice(text.as_bytes());
            *view = pack(text.as_bytes(), 1, offset);
        }
    }

    /// Appends a missing cell.
    #[inline]
    pub fn push_missing(&mut self) {
        self.kinds.push(Kind::Missing as u8);
        self.views.push(0);
    }

    /// Appends missing cells until there are `rows` rows.
    pub fn pad(&mut self, rows: usize) {
        if rows > self.kinds.len() {
            self.kinds.resize(rows, Kind::Missing as u8);
            self.views.resize(rows, 0);
        }
    }

    /// Replaces the cell of the last row (a later duplicate of the same key, say).
    pub fn replace_last(&mut self, kind: Kind, text: &str) {
        self.kinds.pop();
        self.views.pop();
        self.push(kind, text);
    }

    /// How many rows so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// True without rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// The column.
    ///
    /// # Panics
    /// Never for texts pushed as `&str`: they are valid UTF-8 by type.
    #[must_use]
    pub fn finish(self) -> Column {
        let buffers = vec![self.raw, Buffer::from_vec(self.side)];
        let text = StringViewArray::try_new(ScalarBuffer::from(self.views), buffers, None)
            .expect("every view was packed from a &str inside one of the two buffers");
        Column { text, kinds: ScalarBuffer::from(self.kinds) }
    }

    /// The view of a short text or of one inside the raw buffer; 0 if the text must be copied.
    #[inline]
    fn view(&self, text: &str) -> u128 {
        if text.len() <= 12 {
            let mut bytes = [0_u8; 16];
            bytes[..4].copy_from_slice(&(text.len() as u32).to_le_bytes());
            bytes[4..4 + text.len()].copy_from_slice(text.as_bytes());
            return u128::from_le_bytes(bytes);
        }
        let (base, at) = (self.raw.as_ptr() as usize, ptr::from_ref(text).cast::<u8>() as usize);
        if at >= base && at + text.len() <= base + self.raw.len() {
            pack(text.as_bytes(), 0, (at - base) as u32)
        } else {
            0
        }
    }
}

/// The view of a text longer than 12 bytes (Arrow columnar format, "Variable-size Binary View Layout").
fn pack(text: &[u8], buffer: u32, offset: u32) -> u128 {
    let mut bytes = [0_u8; 16];
    bytes[..4].copy_from_slice(&(text.len() as u32).to_le_bytes());
    bytes[4..8].copy_from_slice(&text[..4]);
    bytes[8..12].copy_from_slice(&buffer.to_le_bytes());
    bytes[12..].copy_from_slice(&offset.to_le_bytes());
    u128::from_le_bytes(bytes)
}

/// Events of one partition, in order of offset and index. Columns stand in the order of the decoder's projection.
#[derive(Debug, Clone)]
pub struct EventBatch {
    /// The source.
    pub source: SourceIx,
    /// The partition.
    pub partition: Partition,
    /// Offset of each event's record.
    pub offsets: ScalarBuffer<i64>,
    /// Index of each event within its record.
    pub indexes: ScalarBuffer<u32>,
    /// `ts_raw`, the claimed time in microseconds; [`EventBatch::NO_TIME`] where missing or unreadable.
    pub claimed: ScalarBuffer<i64>,
    /// Which record of the raw batch each event came from.
    pub records: ScalarBuffer<u32>,
    /// The projected fields.
    pub columns: Vec<Column>,
    /// The event's text: the whole record, or its part of one that was split. Unmasked: never leaves the engine.
    pub original: Column,
}

impl EventBatch {
    /// No claimed time.
    pub const NO_TIME: i64 = i64::MIN;

    /// How many events.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.offsets.len()
    }

    /// The claimed time of a row.
    #[must_use]
    pub fn claimed(&self, row: usize) -> Option<Micros> {
        let t = self.claimed[row];
        (t != Self::NO_TIME).then_some(Micros(t))
    }

    /// The batch as an Arrow record batch: `vedette.offset`, `vedette.index`, `ts_raw`, then each field and `<field>.kind`. No text is copied.
    ///
    /// # Errors
    /// If `fields` is not as long as the columns.
    pub fn to_arrow(&self, fields: &[Arc<str>]) -> Result<RecordBatch, ArrowError> {
        let mut schema = vec![
            Field::new("vedette.offset", DataType::Int64, false),
            Field::new("vedette.index", DataType::UInt32, false),
            Field::new("ts_raw", DataType::Int64, false),
        ];
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::new(self.offsets.clone(), None)),
            Arc::new(UInt32Array::new(self.indexes.clone(), None)),
            Arc::new(Int64Array::new(self.claimed.clone(), None)),
        ];
        if fields.len() != self.columns.len() {
            return Err(ArrowError::SchemaError(format!(
                "{} names for {} columns",
                fields.len(),
                self.columns.len()
            )));
        }
        for (name, column) in fields.iter().zip(&self.columns) {
            schema.push(Field::new(&**name, DataType::Utf8View, false));
            schema.push(Field::new(format!("{name}.kind"), DataType::UInt8, false));
            arrays.push(Arc::new(column.text.clone()));
            arrays.push(Arc::new(UInt8Array::new(column.kinds.clone(), None)));
        }
        RecordBatch::try_new(Arc::new(Schema::new(schema)), arrays)
    }
}

/// The canonical kind and text of a JSON number: an integer within i64 or u64 (`5`, and `5.0` too), else the nearest f64 written shortest.
///
/// Returns `None` if the text is no JSON number or its nearest f64 is infinite.
#[must_use]
pub fn number(text: &str) -> Option<(Kind, String)> {
    if let Ok(n) = text.parse::<i64>() {
        return Some((Kind::Int, n.to_string()));
    }
    if let Ok(n) = text.parse::<u64>() {
        return Some((Kind::Int, n.to_string()));
    }
    let f: f64 = text.parse().ok()?;
    if !f.is_finite() || !text.bytes().any(|b| b.is_ascii_digit()) {
        return None;
    }
    #[expect(clippy::float_cmp, reason = "the question is whether the value is exactly whole")]
    if f.trunc() == f && f >= -(2_f64.powi(63)) && f < 2_f64.powi(64) {
        return Some((Kind::Int, (f as i128).to_string()));
    }
    serde_json::to_string(&f).ok().map(|text| (Kind::Float, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_in_the_raw_bytes_are_views_and_others_are_copied() {
        let raw = Buffer::from_vec(b"a long text that does not fit inline".to_vec());
        let inside = std::str::from_utf8(&raw.as_slice()[2..30]).unwrap().to_owned();
        let mut builder = ColumnBuilder::new(raw.clone());
        builder.push(Kind::Text, std::str::from_utf8(&raw.as_slice()[2..30]).unwrap());
        builder.push(Kind::Text, "short");
        builder.push(Kind::Text, "another long text from elsewhere");
        builder.push_missing();
        assert_eq!(builder.side.len(), "another long text from elsewhere".len());
        let column = builder.finish();
        assert_eq!(column.cell(0), Cell { kind: Kind::Text, text: &inside });
        assert_eq!(column.cell(1).text, "short");
        assert_eq!(column.cell(2).text, "another long text from elsewhere");
        assert_eq!(column.cell(3), Cell::MISSING);
    }

    #[test]
    fn numbers_have_one_spelling() {
        let canonical = |text| number(text).map(|(kind, text)| format!("{kind:?} {text}"));
        assert_eq!(canonical("5"), canonical("5.0"));
        assert_eq!(canonical("5"), canonical("50e-1"));
        assert_eq!(canonical("-0.0").unwrap(), "Int 0");
        assert_eq!(canonical("18446744073709551615").unwrap(), "Int 18446744073709551615");
        assert_eq!(canonical("0.1").unwrap(), "Float 0.1");
        assert_eq!(canonical("1e400"), None);
        assert_eq!(canonical("abc"), None);
        assert_eq!(canonical("inf"), None);
    }
}
