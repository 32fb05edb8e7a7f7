//! Events as an Arrow record batch: what the decoder writes and what rules and correlations read.
//!
//! In: cells and positions, row by row ([`BatchBuilder`]). Out: [`EventBatch`], a [`RecordBatch`] of at most [`MAX_ROWS`]
//! rows with a [`Projection`]'s schema.
//! Invariants: what is read by row and by column here are the arrays of the record batch, so nothing is ever converted; the
//! schema is made once for a projection; text is checked once a batch and pointed at where possible; a column without any
//! cell shares one array with all others like it.
//!
//! # The schema
//!
//! | column | type | |
//! |---|---|---|
//! | `vedette.offset` | Int64 | offset of the event's record |
//! | `vedette.index` | UInt32 | number of the event within its record |
//! | `ts_raw` | Timestamp(µs, UTC) | the claimed time; null where missing or unreadable |
//! | `event.original` | Utf8View | the event's text, its secrets masked; null where nobody searches it |
//! | `vedette.kinds` | Struct of UInt8 | for each field, what its cells are: the codes of [`Kind`](crate::Kind) |
//! | each field | Utf8View | its canonical text (raw JSON for lists and objects); null where missing or JSON null |
//!
//! Fields stand in the order of the projection. One that has the name of a column before it (a rule may ask a JSON record
//! for anything) is found by its place, not by its name. Source and partition are the same for all rows.
//!
//! Nulls are there for whoever asks in SQL, where an absent field is `NULL` and not `''`; rules see by the kind whether a cell is
//! missing or null. Kinds are a struct because names such as `<field>.kind` are fields of their own (`event.kind`).

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, Int64Array, RecordBatch, StringViewArray, StructArray, TimestampMicrosecondArray,
    UInt8Array, UInt32Array, builder::TimestampMicrosecondBuilder,
};
use arrow_buffer::ScalarBuffer;
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

use crate::{
    cell::{Cell, Kind},
    column::{CellsBuilder, Column},
    order::{Partition, SourceIx},
    text::Text,
    time::Micros,
};

/// Where the events' texts stand in the schema.
const ORIGINAL: usize = 3;
/// Where the kinds stand in the schema.
const KINDS: usize = 4;

/// Rows in a batch at most: it must stay in the L2 cache. Columns of 256 to 512 rows cost no more than a tenth over going row by row, and
/// of 4,000 to 8,000 up to six tenths, because each column then comes from memory again.
pub const MAX_ROWS: usize = 512;

/// Which fields of a source's events somebody needs, and the schema of batches of them.
#[derive(Debug)]
pub struct Projection {
    fields: Vec<Arc<str>>,
    schema: SchemaRef,
    kinds: Fields,
    time: DataType,
}

impl Projection {
    /// Of these canonical names, in this order.
    #[must_use]
    pub fn new(fields: impl IntoIterator<Item = Arc<str>>) -> Arc<Self> {
        let fields: Vec<Arc<str>> = fields.into_iter().collect();
        let kinds: Fields = fields.iter().map(|name| Field::new(&**name, DataType::UInt8, false)).collect();
        let codes = [("codes".to_owned(), Kind::CODES.to_owned())].into();
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let own = [
            Field::new("vedette.offset", DataType::Int64, false),
            Field::new("vedette.index", DataType::UInt32, false),
            Field::new("ts_raw", time.clone(), true),
            Field::new("event.original", DataType::Utf8View, true),
            Field::new("vedette.kinds", DataType::Struct(kinds.clone()), false).with_metadata(codes),
        ];
        let texts = fields.iter().map(|name| Field::new(&**name, DataType::Utf8View, true));
        let schema = Arc::new(Schema::new(own.into_iter().chain(texts).collect::<Vec<_>>()));
        Arc::new(Self { fields, schema, kinds, time })
    }

    /// The names of the columns, in order.
    #[must_use]
    pub fn fields(&self) -> &[Arc<str>] {
        &self.fields
    }

    /// The schema of all batches.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

/// Events of one partition, in order of offset and index.
#[derive(Debug, Clone)]
pub struct EventBatch {
    /// The source.
    pub source: SourceIx,
    /// The partition.
    pub partition: Partition,
    /// Which record of the raw batch each event came from.
    pub records: ScalarBuffer<u32>,
    projection: Arc<Projection>,
    arrow: RecordBatch,
    /// The arrays of `arrow` once more, by their types.
    columns: Vec<Column>,
    offsets: ScalarBuffer<i64>,
    indexes: ScalarBuffer<u32>,
    claimed: TimestampMicrosecondArray,
    original: Column,
}

impl EventBatch {
    /// The events as Arrow has them.
    #[must_use]
    pub fn arrow(&self) -> &RecordBatch {
        &self.arrow
    }

    /// Which fields the columns are.
    #[must_use]
    pub fn projection(&self) -> &Arc<Projection> {
        &self.projection
    }

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
            records: self.records.slice(from, rows),
            projection: Arc::clone(&self.projection),
            arrow: self.arrow.slice(from, rows),
            columns: self.columns.iter().map(|column| column.slice(from, rows)).collect(),
            offsets: self.offsets.slice(from, rows),
            indexes: self.indexes.slice(from, rows),
            claimed: self.claimed.slice(from, rows),
            original: self.original.slice(from, rows),
        }
    }

    /// Offset of each event's record.
    #[must_use]
    pub fn offsets(&self) -> &[i64] {
        &self.offsets
    }

    /// Number of each event within its record.
    #[must_use]
    pub fn indexes(&self) -> &[u32] {
        &self.indexes
    }

    /// `ts_raw`, the claimed time of a row; `None` where missing or unreadable.
    #[must_use]
    pub fn claimed(&self, row: usize) -> Option<Micros> {
        self.claimed.is_valid(row).then(|| Micros(self.claimed.value(row)))
    }

    /// The projected fields, in the order of the projection.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The texts of a projected field as Arrow has them; nothing beyond the last field.
    #[must_use]
    pub fn texts(&self, column: usize) -> Option<&ArrayRef> {
        self.columns.get(column).map(|_| self.arrow.column(KINDS + 1 + column))
    }

    /// The events' texts as Arrow has them, see [`EventBatch::original`].
    #[must_use]
    pub fn originals(&self) -> &ArrayRef {
        self.arrow.column(ORIGINAL)
    }

    /// The event's text, its secrets masked: the whole record, or its part of one that was split. Missing where no rule
    /// searches it.
    #[must_use]
    pub fn original(&self) -> &Column {
        &self.original
    }
}

/// Builds [`EventBatch`]es of one projection, one after another.
#[derive(Debug)]
pub struct BatchBuilder {
    projection: Arc<Projection>,
    cells: CellsBuilder,
    /// By projected field, then for the event's text: its number among the cells' columns, [`NO_CELL`] until its first cell comes.
    begun: Vec<u32>,
    /// How many columns the batch before had cells in.
    usual: usize,
    offsets: Vec<i64>,
    indexes: Vec<u32>,
    records: Vec<u32>,
    claimed: TimestampMicrosecondBuilder,
}

/// No cell has come.
const NO_CELL: u32 = u32::MAX;

impl BatchBuilder {
    /// For batches of a projection; the first one has no raw text.
    #[must_use]
    pub fn new(projection: Arc<Projection>) -> Self {
        Self {
            cells: CellsBuilder::new(&Text::default(), 0, 0),
            begun: vec![NO_CELL; projection.fields.len() + 1],
            projection,
            usual: 0,
            offsets: Vec::new(),
            indexes: Vec::new(),
            records: Vec::new(),
            claimed: TimestampMicrosecondBuilder::new(),
        }
    }

    /// Begins a batch over this raw text, slices of which are not copied, with room for so many rows. What an earlier one
    /// left unfinished is dropped: after a panic in its midst the cells there would come out as those of the next batch's rows.
    pub fn begin(&mut self, raw: &Text, room: usize) {
        self.begun.fill(NO_CELL);
        self.cells = CellsBuilder::new(raw, self.usual, room);
        self.offsets = Vec::with_capacity(room);
        self.indexes = Vec::with_capacity(room);
        self.records = Vec::with_capacity(room);
        self.claimed = TimestampMicrosecondBuilder::with_capacity(room);
    }

    /// How many rows are ended.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.offsets.len()
    }

    /// How many columns there are.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.projection.fields.len()
    }

    /// Sets a cell of the row that is not ended yet; of a row and column the first cell counts. Cells of columns that there are
    /// not are dropped.
    #[inline]
    pub fn put(&mut self, column: usize, cell: Cell<'_>) {
        if column < self.projection.fields.len() {
            self.set(column, cell);
        }
    }

    /// Keeps the text of the event whose row is not ended yet.
    pub fn keep_original(&mut self, text: &str) {
        self.set(self.projection.fields.len(), Cell { kind: Kind::Text, text });
    }

    // Always, because else compilers take it for too long once a decoder has a few loops over cells: 3 % of decoding.
    #[inline(always)]
    fn set(&mut self, at: usize, cell: Cell<'_>) {
        let Some(begun) = self.begun.get_mut(at) else { return };
        if *begun == NO_CELL {
            *begun = self.cells.add();
        }
        self.cells.put(*begun, self.offsets.len(), cell);
    }

    /// Ends a row: where its event is, which record of the raw batch it came from, and `ts_raw`.
    pub fn end_row(&mut self, offset: i64, index: u32, record: u32, claimed: Option<Micros>) {
        self.offsets.push(offset);
        self.indexes.push(index);
        self.records.push(record);
        self.claimed.append_option(claimed.map(|time| time.0));
    }

    /// The batch of the rows ended so far.
    pub fn finish(&mut self, source: SourceIx, partition: Partition) -> EventBatch {
        let (projection, rows) = (Arc::clone(&self.projection), self.rows());
        let offsets = ScalarBuffer::from(std::mem::take(&mut self.offsets));
        let indexes = ScalarBuffer::from(std::mem::take(&mut self.indexes));
        let claimed = self.claimed.finish().with_data_type(projection.time.clone());
        self.usual = self.cells.columns();
        let cells = std::mem::replace(&mut self.cells, CellsBuilder::new(&Text::default(), 0, 0));
        let mut cells: Vec<_> = cells.finish(rows).into_iter().map(Some).collect();
        let mut column = |begun: &mut u32| {
            let cells = cells.get_mut(std::mem::replace(begun, NO_CELL) as usize).and_then(Option::take);
            Column { cells }
        };
        let (original, begun) = match self.begun.split_last_mut() {
            Some((original, begun)) => (column(original), begun),
            None => (Column { cells: None }, Default::default()),
        };
        let absent = Absent::new(rows);
        let mut columns = Vec::with_capacity(begun.len());
        let mut kinds = Vec::with_capacity(begun.len());
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(projection.schema.fields().len());
        arrays.push(Arc::new(Int64Array::new(offsets.clone(), None)));
        arrays.push(Arc::new(UInt32Array::new(indexes.clone(), None)));
        arrays.push(Arc::new(claimed.clone()));
        arrays.push(absent.arrays(&original).0);
        arrays.push(Arc::clone(&absent.kinds));
        for begun in begun {
            let column = column(begun);
            let (texts, codes) = absent.arrays(&column);
            arrays.push(texts);
            kinds.push(codes);
            columns.push(column);
        }
        let kinds = StructArray::try_new_with_length(projection.kinds.clone(), kinds, None, rows);
        let arrow = kinds.and_then(|kinds| {
            arrays[KINDS] = Arc::new(kinds);
            RecordBatch::try_new(Arc::clone(&projection.schema), arrays)
        });
        let arrow = arrow.unwrap_or_else(|e| unreachable!("the arrays are those of the schema: {e}"));
        EventBatch {
            source,
            partition,
            records: ScalarBuffer::from(std::mem::take(&mut self.records)),
            projection,
            arrow,
            columns,
            offsets,
            indexes,
            claimed,
            original,
        }
    }
}

/// What all columns of a batch share that have no cell.
struct Absent {
    texts: ArrayRef,
    kinds: ArrayRef,
}

impl Absent {
    fn new(rows: usize) -> Self {
        Self {
            texts: Arc::new(StringViewArray::new_null(rows)),
            kinds: Arc::new(UInt8Array::from(vec![Kind::Missing as u8; rows])),
        }
    }

    /// The texts and the kinds of a column.
    fn arrays(&self, column: &Column) -> (ArrayRef, ArrayRef) {
        match &column.cells {
            Some(cells) => (Arc::clone(&cells.texts) as ArrayRef, Arc::clone(&cells.kinds) as ArrayRef),
            None => (Arc::clone(&self.texts), Arc::clone(&self.kinds)),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Int64Type, TimestampMicrosecondType, UInt8Type, UInt32Type};
    use arrow_buffer::Buffer;

    use super::*;
    use crate::order::TopicIx;

    const PARTITION: Partition = Partition { topic: TopicIx(0), number: 0 };
    const LONG: &str = "a long text that does not fit inline";

    fn names(names: &[&str]) -> Arc<Projection> {
        Projection::new(names.iter().map(|name| Arc::from(*name)))
    }

    fn put(batch: &mut BatchBuilder, column: usize, kind: Kind, text: &str) {
        batch.put(column, Cell { kind, text });
    }

    /// Three events: `a` has a value, nothing and null, `b` nothing, `c` a value each.
    fn three(projection: &Arc<Projection>) -> (Text, EventBatch) {
        let raw = Text::new(Buffer::from_vec(LONG.as_bytes().to_vec())).unwrap();
        let mut batch = BatchBuilder::new(projection.clone());
        batch.begin(&raw, 3);
        put(&mut batch, 0, Kind::Text, &raw.as_str()[2..30]);
        put(&mut batch, 0, Kind::Text, "of one row the first cell counts");
        put(&mut batch, 2, Kind::Int, "1");
        batch.keep_original(raw.as_str());
        batch.end_row(7, 0, 0, Some(Micros(5)));
        put(&mut batch, 2, Kind::Text, "another long text from elsewhere");
        batch.keep_original("masked");
        batch.end_row(8, 0, 2, None);
        put(&mut batch, 0, Kind::Null, "");
        put(&mut batch, 2, Kind::List, "[]");
        batch.keep_original("");
        batch.end_row(8, 1, 2, Some(Micros(6)));
        (raw, batch.finish(SourceIx(0), PARTITION))
    }

    #[test]
    fn a_batch_is_a_record_batch_of_the_schema_of_its_projection() {
        let projection = names(&["a", "b", "c"]);
        let (raw, batch) = three(&projection);
        let arrow = batch.arrow();
        assert!(Arc::ptr_eq(&arrow.schema(), projection.schema()));
        let names: Vec<_> = projection.schema().fields().iter().map(|field| field.name().as_str()).collect();
        let own = ["vedette.offset", "vedette.index", "ts_raw", "event.original", "vedette.kinds"];
        assert_eq!(names, [&own[..], &["a", "b", "c"]].concat());
        assert_eq!(arrow["vedette.offset"].as_primitive::<Int64Type>().values(), batch.offsets());
        assert_eq!(arrow["vedette.index"].as_primitive::<UInt32Type>().values(), batch.indexes());
        let times: Vec<_> = arrow["ts_raw"].as_primitive::<TimestampMicrosecondType>().iter().collect();
        assert_eq!(times, [Some(5), None, Some(6)]);
        assert_eq!((0..3).map(|row| batch.claimed(row).map(|t| t.0)).collect::<Vec<_>>(), times);
        let texts = |name: &str| arrow[name].as_string_view().iter().collect::<Vec<_>>();
        assert_eq!(texts("event.original"), [Some(LONG), Some("masked"), Some("")]);
        assert_eq!(texts("a"), [Some(&LONG[2..30]), None, None]);
        assert_eq!(texts("b"), [None; 3]);
        assert_eq!(texts("c"), [Some("1"), Some("another long text from elsewhere"), Some("[]")]);
        let kinds = arrow["vedette.kinds"].as_struct();
        let codes = |column: usize| kinds.column(column).as_primitive::<UInt8Type>().values().to_vec();
        assert_eq!((codes(0), codes(1), codes(2)), (vec![2, 0, 1], vec![0; 3], vec![3, 2, 6]));
        assert_eq!(arrow["a"].as_string_view().value(0).as_ptr(), raw.as_str()[2..].as_ptr());
    }

    #[test]
    fn cells_are_read_from_the_arrays_of_the_record_batch() {
        let (_, batch) = three(&names(&["a", "b", "c"]));
        for (at, column) in batch.columns().iter().enumerate() {
            let texts = batch.arrow().column(KINDS + 1 + at).as_string_view();
            let kinds = batch.arrow().column(KINDS).as_struct().column(at).as_primitive::<UInt8Type>();
            for row in 0..3 {
                let cell = column.cell(row);
                assert_eq!((cell.text, cell.kind as u8), (texts.value(row), kinds.value(row)));
                assert_eq!(texts.is_valid(row), cell.kind.is_value());
                // The same memory, also of what a view holds itself; what all columns without a cell share is no column's.
                assert!(cell.kind == Kind::Missing || cell.text.as_ptr() == texts.value(row).as_ptr());
            }
            assert_eq!(column.cell(3), Cell::MISSING);
            assert!(Arc::ptr_eq(batch.texts(at).unwrap(), batch.arrow().column(KINDS + 1 + at)));
        }
        assert!(batch.texts(3).is_none());
        assert_eq!(batch.original().cell(1).text, "masked");
    }

    #[test]
    fn what_a_reader_wants_to_know_of_a_whole_column_is_known() {
        let (_, batch) = three(&names(&["a", "b", "c"]));
        let facts: Vec<_> =
            batch.columns().iter().map(|c| (c.has_values(), c.longest(), c.bytes())).collect();
        assert_eq!(facts, [(true, 28, 28), (false, 0, 0), (true, 32, 35)]);
        assert_eq!(batch.original().longest(), LONG.len());
        let mut nulls = BatchBuilder::new(names(&["a"]));
        put(&mut nulls, 0, Kind::Null, "");
        nulls.end_row(0, 0, 0, None);
        let nulls = nulls.finish(SourceIx(0), PARTITION);
        assert!(!nulls.columns()[0].has_values());
        assert_eq!(nulls.columns()[0].cell(0).kind, Kind::Null);
        assert!(nulls.arrow()["a"].is_null(0));
    }

    #[test]
    fn columns_without_any_cell_share_their_arrays() {
        let mut batch = BatchBuilder::new(names(&["a", "b"]));
        batch.end_row(0, 0, 0, None);
        let batch = batch.finish(SourceIx(0), PARTITION);
        let arrow = batch.arrow();
        assert!(Arc::ptr_eq(arrow.column(KINDS + 1), arrow.column(KINDS + 2)));
        assert!(Arc::ptr_eq(arrow.column(KINDS + 1), arrow.column(KINDS - 1)));
        let kinds = arrow.column(KINDS).as_struct();
        assert!(Arc::ptr_eq(kinds.column(0), kinds.column(1)));
    }

    #[test]
    fn a_batch_without_fields_and_one_without_rows_are_record_batches_too() {
        let mut batch = BatchBuilder::new(names(&[]));
        assert_eq!(batch.finish(SourceIx(0), PARTITION).arrow().num_rows(), 0);
        batch.end_row(0, 0, 0, None);
        assert_eq!(batch.finish(SourceIx(0), PARTITION).arrow().num_rows(), 1);
    }

    #[test]
    fn a_slice_points_into_the_same_memory_and_is_cut_to_what_is_there() {
        let (raw, batch) = three(&names(&["a", "b", "c"]));
        let slice = batch.slice(0, 2);
        assert_eq!(slice.arrow()["a"].as_string_view().value(0).as_ptr(), raw.as_str()[2..].as_ptr());
        let last = batch.slice(2, 9);
        assert_eq!((last.rows(), last.arrow().num_rows()), (1, 1));
        assert_eq!((last.offsets(), last.indexes(), last.claimed(0)), (&[8][..], &[1][..], Some(Micros(6))));
        assert_eq!(last.columns()[2].cell(0).text, "[]");
        assert_eq!(last.columns()[2].cell(1), Cell::MISSING);
        assert_eq!(last.arrow()["c"].as_string_view().value(0), "[]");
        assert_eq!((last.original().cell(0).kind, last.records.as_ref()), (Kind::Text, &[2][..]));
        assert_eq!(batch.slice(7, 1).rows(), 0);
    }

    #[test]
    fn cells_of_a_row_that_was_never_ended_are_not_in_the_batch() {
        let mut batch = BatchBuilder::new(names(&["a"]));
        batch.end_row(0, 0, 0, None);
        put(&mut batch, 0, Kind::Text, "x");
        batch.end_row(1, 0, 1, None);
        put(&mut batch, 0, Kind::Text, "y");
        let batch = batch.finish(SourceIx(0), PARTITION);
        assert_eq!(batch.arrow()["a"].as_string_view().iter().collect::<Vec<_>>(), [None, Some("x")]);
    }

    #[test]
    fn a_field_with_the_name_of_another_column_is_found_by_its_place() {
        let mut batch = BatchBuilder::new(names(&["vedette.offset", "event.kind", "event"]));
        put(&mut batch, 0, Kind::Int, "9");
        put(&mut batch, 1, Kind::Text, "alert");
        batch.end_row(7, 0, 0, None);
        let batch = batch.finish(SourceIx(0), PARTITION);
        assert_eq!(batch.arrow()["vedette.offset"].as_primitive::<Int64Type>().value(0), 7);
        assert_eq!(batch.arrow().column(KINDS + 1).as_string_view().value(0), "9");
        assert_eq!(batch.columns()[1].cell(0).text, "alert");
    }

    #[test]
    fn the_schema_names_the_codes_of_the_kinds() {
        let projection = names(&[]);
        let codes = projection.schema().field(KINDS).metadata()["codes"].clone();
        let named = codes.split(',').zip(0..).map(|(name, code)| (name.to_owned(), Kind::from_code(code)));
        for (name, kind) in named {
            assert_eq!(name, format!("{kind:?}").to_lowercase());
        }
        assert_eq!(codes.split(',').count(), Kind::ALL.len());
    }
}
