//! Events as columns: what the decoder writes and what rules and correlations read.
//!
//! In: cells appended row by row ([`ColumnBuilder`]). Out: [`EventBatch`], columns of at most [`MAX_ROWS`] rows.
//! Invariants: every cell is a kind and a place in the batch's text (in the raw bytes where possible), so typed and
//! untyped sources look alike, text is checked once a batch, and Arrow views are made without copying it; a cell's
//! text is canonical for its kind and for its field's type (addresses and numbers in one spelling), so that equal
//! values are equal bytes; missing and null cells have an empty text; a column without values costs nothing.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringViewArray, UInt8Array, UInt32Array};
use arrow_buffer::ScalarBuffer;
use arrow_schema::{ArrowError, DataType, Field, Schema};

use crate::{
    order::{Partition, SourceIx},
    text::{Text, TextBuilder},
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
    /// Nothing if every cell is missing.
    cells: Option<Arc<Cells>>,
    from: usize,
    rows: usize,
}

/// The cells of a column, and the two texts they lie in.
#[derive(Debug)]
struct Cells {
    raw: Text,
    side: Text,
    spots: Vec<Spot>,
    /// Some cell is neither missing nor null.
    valued: bool,
    /// Bytes of the longest cell.
    longest: usize,
    /// Bytes of all cells.
    bytes: usize,
}

/// Where a cell's text lies.
#[derive(Debug, Clone, Copy)]
struct Spot {
    start: u32,
    len: u32,
    kind: Kind,
    /// In the text at the side, not in the raw bytes.
    aside: bool,
}

impl Spot {
    const MISSING: Self = Self { start: 0, len: 0, kind: Kind::Missing, aside: false };
}

impl Column {
    /// The cell of a row; missing beyond the last one.
    #[must_use]
    #[inline]
    pub fn cell(&self, row: usize) -> Cell<'_> {
        let Some(cells) = self.cells.as_ref().filter(|_| row < self.rows) else { return Cell::MISSING };
        let Some(spot) = cells.spots.get(self.from + row) else { return Cell::MISSING };
        let text = if spot.aside { &cells.side } else { &cells.raw };
        let start = spot.start as usize;
        Cell {
            kind: spot.kind,
            text: text.as_str().get(start..start + spot.len as usize).unwrap_or_default(),
        }
    }

    /// How many rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// True without rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// False if every cell is missing or null. (Of a slice it tells of the whole.)
    #[must_use]
    pub fn has_values(&self) -> bool {
        self.cells.as_ref().is_some_and(|cells| cells.valued)
    }

    /// No cell has more bytes than this. (Of a slice it tells of the whole.)
    #[must_use]
    pub fn longest(&self) -> usize {
        self.cells.as_ref().map_or(0, |cells| cells.longest)
    }

    /// Bytes of all cells. (Of a slice it tells of the whole.)
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.cells.as_ref().map_or(0, |cells| cells.bytes)
    }

    /// A column of `rows` missing cells.
    #[must_use]
    pub const fn missing(rows: usize) -> Self {
        Self { cells: None, from: 0, rows }
    }

    /// The rows `from..from + rows` (cut to what is there), sharing memory.
    #[must_use]
    pub fn slice(&self, from: usize, rows: usize) -> Self {
        let from = from.min(self.rows);
        Self { cells: self.cells.clone(), from: self.from + from, rows: rows.min(self.rows - from) }
    }

    /// The texts as Arrow views, without copying any of them, and the kinds ([`Kind`] as u8).
    ///
    /// # Errors
    /// Never for columns of a [`ColumnBuilder`].
    pub fn to_arrow(&self) -> Result<(StringViewArray, UInt8Array), ArrowError> {
        let buffers = self.cells.as_ref().map(|cells| vec![cells.raw.buffer(), cells.side.buffer()]);
        let mut views = vec![0_u128; self.rows];
        let mut kinds = vec![Kind::Missing as u8; self.rows];
        let spots = self.cells.iter().flat_map(|cells| cells.spots.iter().skip(self.from));
        for (row, (spot, (view, kind))) in spots.zip(views.iter_mut().zip(&mut kinds)).enumerate() {
            *view = pack(self.cell(row).text.as_bytes(), u32::from(spot.aside), spot.start);
            *kind = spot.kind as u8;
        }
        let texts = StringViewArray::try_new(ScalarBuffer::from(views), buffers.unwrap_or_default(), None)?;
        Ok((texts, UInt8Array::new(ScalarBuffer::from(kinds), None)))
    }
}

/// Builds a [`Column`]: texts that lie in the batch's raw text are pointed at, others are copied to the side.
#[derive(Debug)]
pub struct ColumnBuilder {
    raw: Text,
    /// Address and length of the raw text.
    base: (usize, usize),
    side: TextBuilder,
    spots: Vec<Spot>,
    longest: usize,
    bytes: usize,
}

impl ColumnBuilder {
    /// An empty column over `raw` (less than 4 GiB), into which texts may point.
    #[must_use]
    pub fn new(raw: Text) -> Self {
        let text = raw.as_str();
        let base = (text.as_ptr() as usize, text.len());
        let spots = Vec::with_capacity(MAX_ROWS);
        Self { raw, base, side: TextBuilder::default(), spots, longest: 0, bytes: 0 }
    }

    /// Appends a cell. A text that is a slice of the raw text is not copied.
    #[inline]
    pub fn push(&mut self, kind: Kind, text: &str) {
        let len = text.len();
        self.longest = self.longest.max(len);
        self.bytes += len;
        let at = (text.as_ptr() as usize).wrapping_sub(self.base.0);
        let spot = if at.checked_add(len).is_some_and(|end| end <= self.base.1) {
            Spot { start: at as u32, len: len as u32, kind, aside: false }
        } else if len == 0 {
            Spot { kind, ..Spot::MISSING }
        } else {
            self.copy(kind, text)
        };
        self.spots.push(spot);
    }

    /// Copies a text to the side. Beyond 4 GiB there is no room: the cell is missing.
    fn copy(&mut self, kind: Kind, text: &str) -> Spot {
        let start = self.side.len();
        match (u32::try_from(start), u32::try_from(start + text.len())) {
            (Ok(start), Ok(_)) => {
                self.side.push_str(text);
                Spot { start, len: text.len() as u32, kind, aside: true }
            }
            _ => Spot::MISSING,
        }
    }

    /// Appends a missing cell.
    #[inline]
    pub fn push_missing(&mut self) {
        self.spots.push(Spot::MISSING);
    }

    /// Appends missing cells until there are `rows` rows.
    #[inline]
    pub fn pad(&mut self, rows: usize) {
        if rows > self.spots.len() {
            self.spots.resize(rows, Spot::MISSING);
        }
    }

    /// How many rows so far.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.spots.len()
    }

    /// True without rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spots.is_empty()
    }

    /// The column.
    #[must_use]
    pub fn finish(self) -> Column {
        let Self { raw, side, spots, longest, bytes, .. } = self;
        let valued = spots.iter().any(|spot| spot.kind > Kind::Null);
        let rows = spots.len();
        let cells = Cells { raw, side: side.finish(), spots, valued, longest, bytes };
        Column { cells: Some(Arc::new(cells)), from: 0, rows }
    }
}

/// The view of a text (Arrow columnar format, "Variable-size Binary View Layout").
fn pack(text: &[u8], buffer: u32, offset: u32) -> u128 {
    let mut bytes = [0_u8; 16];
    bytes[..4].copy_from_slice(&(text.len() as u32).to_le_bytes());
    if text.len() <= 12 {
        bytes[4..4 + text.len()].copy_from_slice(text);
        return u128::from_le_bytes(bytes);
    }
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
    /// The event's text, its secrets masked: the whole record, or its part of one that was split. Missing where no rule
    /// searches it.
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

    /// So many rows from this one on; nothing is copied.
    #[must_use]
    pub fn slice(&self, from: usize, rows: usize) -> Self {
        let from = from.min(self.rows());
        let rows = rows.min(self.rows() - from);
        Self {
            source: self.source,
            partition: self.partition,
            offsets: self.offsets.slice(from, rows),
            indexes: self.indexes.slice(from, rows),
            claimed: self.claimed.slice(from, rows),
            records: self.records.slice(from, rows),
            columns: self.columns.iter().map(|column| column.slice(from, rows)).collect(),
            original: self.original.slice(from, rows),
        }
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
            let (texts, kinds) = column.to_arrow()?;
            arrays.push(Arc::new(texts));
            arrays.push(Arc::new(kinds));
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
    use arrow_array::Array;
    use arrow_buffer::Buffer;

    use super::*;

    #[test]
    fn texts_in_the_raw_bytes_are_pointed_at_and_others_are_copied() {
        let raw = Text::new(Buffer::from_vec(b"a long text that does not fit inline".to_vec())).unwrap();
        let mut builder = ColumnBuilder::new(raw.clone());
        builder.push(Kind::Text, &raw.as_str()[2..30]);
        builder.push(Kind::Text, "short");
        builder.push(Kind::Text, "another long text from elsewhere");
        builder.push_missing();
        builder.push(Kind::Null, "");
        assert_eq!(builder.side.len(), "shortanother long text from elsewhere".len());
        let column = builder.finish();
        let texts = ["long text that does not fit ", "short", "another long text from elsewhere", "", ""];
        let kinds = [Kind::Text, Kind::Text, Kind::Text, Kind::Missing, Kind::Null];
        for (row, (text, kind)) in texts.into_iter().zip(kinds).enumerate() {
            assert_eq!(column.cell(row), Cell { kind, text });
        }
        assert_eq!(column.cell(5), Cell::MISSING);
        let (views, codes) = column.slice(0, 5).to_arrow().unwrap();
        assert_eq!(views.iter().flatten().collect::<Vec<_>>(), texts);
        assert_eq!(views.value(0).as_ptr(), raw.as_str()[2..].as_ptr());
        assert_eq!(codes.values().to_vec(), kinds.map(|kind| kind as u8));
    }

    #[test]
    fn a_slice_shares_cells_and_is_cut_to_what_is_there() {
        let mut builder = ColumnBuilder::new(Text::default());
        ["a", "b", "c"].into_iter().for_each(|text| builder.push(Kind::Text, text));
        let column = builder.finish();
        assert_eq!((column.longest(), Column::missing(2).longest()), (1, 0));
        assert_eq!(column.bytes(), (0..column.len()).map(|row| column.cell(row).text.len()).sum::<usize>());
        let slice = column.slice(1, 9);
        assert_eq!((slice.len(), slice.cell(0).text, slice.cell(1).text), (2, "b", "c"));
        assert_eq!(column.slice(0, 1).cell(1), Cell::MISSING);
        assert_eq!(slice.to_arrow().unwrap().0.value(0), "b");
        assert_eq!(column.slice(7, 1).len(), 0);
    }

    #[test]
    fn a_column_without_values_says_so() {
        let mut builder = ColumnBuilder::new(Text::default());
        builder.pad(1);
        builder.push(Kind::Null, "");
        let nulls = builder.finish();
        assert!(!nulls.has_values() && !Column::missing(2).has_values());
        assert_eq!((nulls.len(), nulls.cell(1).kind), (2, Kind::Null));
        assert_eq!(Column::missing(2).cell(1), Cell::MISSING);
        assert_eq!(Column::missing(2).to_arrow().unwrap().0.len(), 2);
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
