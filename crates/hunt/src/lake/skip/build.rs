//! The index of a file is made while its events are written.
//!
//! In: events in the order of the file. Out: the index's bytes. Invariants: blocks are of [`BLOCK`] rows, as those of the file; what is held
//! meanwhile is bounded, and a block or file with more keys is one of which nothing is known.

use arrow_array::{Array, RecordBatch, cast::AsArray as _};
use arrow_schema::{DataType, Schema};
use foldhash::fast::RandomState;
use hashbrown::HashSet;

use super::{
    BLOCK,
    filter::{self, Shape},
    head::{Head, Held, page_hash},
    keys,
};

/// Keys of a block at most: 32 MiB while it is made, 2.5 MB in the index. A block of events of 30,000 different words each may have more.
const MOST_OF_BLOCK: usize = 1 << 21;
/// Keys of a file at most. One with more is one whose blocks are looked at one by one.
const MOST_OF_FILE: usize = 1 << 22;

/// The keys of something; none where they are too many.
type Keys = Option<HashSet<u64, RandomState>>;

/// The cells of a filter; none where keys were too many.
type Filter = Option<(Shape, Vec<u32>)>;

/// Makes the index of one file.
#[derive(Debug)]
pub struct Builder {
    columns: Vec<(u64, Held)>,
    file: Keys,
    block: Keys,
    /// The filters of those before; none where they would have been too many.
    blocks: Vec<Filter>,
    /// Rows of the block so far.
    rows: usize,
    events: u64,
}

impl Builder {
    /// Of a file with these columns.
    #[must_use]
    pub fn new(schema: &Schema) -> Self {
        let column =
            |field: &arrow_schema::FieldRef| (keys::column(field.name()), Held::of(field.data_type()));
        let columns = schema.fields().iter().map(column).collect();
        Self {
            columns,
            file: Some(HashSet::default()),
            block: Some(HashSet::default()),
            blocks: Vec::new(),
            rows: 0,
            events: 0,
        }
    }

    /// Takes the next events of the file, which have its columns.
    pub fn push(&mut self, events: &RecordBatch) {
        let mut from = 0;
        while from < events.num_rows() {
            let rows = (BLOCK - self.rows).min(events.num_rows() - from);
            self.take(&events.slice(from, rows));
            from += rows;
            self.rows += rows;
            self.events += rows as u64;
            if self.rows == BLOCK {
                self.end_block();
            }
        }
    }

    /// Takes events of one block.
    fn take(&mut self, events: &RecordBatch) {
        let mut folded = String::new();
        for ((column, held), values) in self.columns.iter().zip(events.columns()) {
            let Some(block) = &mut self.block else { return };
            let elements;
            let values = match held {
                Held::Nothing => continue,
                Held::Texts => values,
                Held::Lists => {
                    let lists = values.as_list::<i32>();
                    let ends = [lists.value_offsets().first(), lists.value_offsets().last()];
                    let [first, last] = ends.map(|end| end.map_or(0, |end| *end as usize));
                    elements = lists.values().slice(first, last - first);
                    &elements
                }
            };
            // Most columns hold few different values.
            let mut seen: HashSet<&str, RandomState> = HashSet::default();
            for text in texts(values).filter(|text| seen.insert(text)) {
                keys::of_value(*column, text, &mut folded, |key| {
                    block.insert(key);
                });
            }
            if block.len() > MOST_OF_BLOCK {
                self.block = None;
            }
        }
    }

    fn end_block(&mut self) {
        let block = self.block.replace(HashSet::default());
        self.file = match (self.file.take(), &block) {
            (Some(mut file), Some(block)) if file.len() + block.len() <= MOST_OF_FILE => {
                file.extend(block);
                Some(file)
            }
            _ => None,
        };
        self.blocks.push(filter_of(block));
        self.rows = 0;
    }

    /// The index of the file, which has this many bytes.
    #[must_use]
    pub fn finish(mut self, bytes: u64) -> Vec<u8> {
        if self.rows > 0 {
            self.end_block();
        }
        // Of one block the file's filter would say the same.
        let file = if self.blocks.len() > 1 { filter_of(self.file) } else { None };
        self.columns.sort_unstable_by_key(|of| of.0);
        let filters: Vec<Filter> = std::iter::once(file).chain(self.blocks).collect();
        let shapes = filters.iter().map(|filter| filter.as_ref().map(|of| of.0)).collect();
        let head = Head { bytes, events: self.events, columns: self.columns, filters: shapes };
        let (mut out, hash) = head.written();
        for (number, filter) in filters.iter().enumerate() {
            if let Some((shape, cells)) = filter {
                let hash = |page, cells: &[u8]| page_hash(&hash, number, page, cells);
                filter::write(*shape, cells, &mut out, hash);
            }
        }
        out
    }
}

fn filter_of(keys: Keys) -> Filter {
    let keys = keys?;
    let shape = Shape::of_keys(keys.len());
    Some((shape, filter::cells(shape, keys.into_iter())))
}

/// The texts of a column of them that are there.
fn texts(values: &dyn Array) -> Box<dyn Iterator<Item = &str> + '_> {
    match values.data_type() {
        DataType::Utf8View => Box::new(values.as_string_view().iter().flatten()),
        DataType::Utf8 => Box::new(values.as_string::<i32>().iter().flatten()),
        DataType::LargeUtf8 => Box::new(values.as_string::<i64>().iter().flatten()),
        _ => Box::new(std::iter::empty()),
    }
}
