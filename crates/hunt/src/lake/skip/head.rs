//! The head of an index: of which file it is, which columns it knows, and where its filters are.
//!
//! In: these, or bytes that somebody read. Out: the other. Invariant: what is read is what was written, or nothing.

use arrow_schema::DataType;

use super::filter::{HASH, Shape};

const MAGIC: [u8; 8] = *b"vdskip\0\x01";
/// Bytes before columns and filters.
const FIXED: usize = 32;
/// Columns or filters at most, so that a wrong number is noticed before room is made for as many.
const MOST: u32 = 1 << 20;
/// How many cells a filter has of which nothing is known.
const UNKNOWN: u32 = u32::MAX;

/// What an index has of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// Nothing: it is of another type.
    Nothing = 0,
    /// Its texts.
    Texts = 1,
    /// The elements of its lists, which are texts.
    Lists = 2,
}

impl Held {
    /// Of a column of this type.
    pub(crate) fn of(kind: &DataType) -> Self {
        let text =
            |kind: &DataType| matches!(kind, DataType::Utf8View | DataType::Utf8 | DataType::LargeUtf8);
        match kind {
            kind if text(kind) => Self::Texts,
            DataType::List(element) if text(element.data_type()) => Self::Lists,
            _ => Self::Nothing,
        }
    }
}

/// A head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes of the file.
    pub(super) bytes: u64,
    /// Its events.
    pub(super) events: u64,
    /// Its columns by their hashes, sorted, with what is held of each.
    pub(super) columns: Vec<(u64, Held)>,
    /// The filter of the file and those of its blocks; none of which nothing is known.
    pub(super) filters: Vec<Option<Shape>>,
}

impl Head {
    /// Bytes of a head of this many columns and filters.
    fn length(columns: u32, filters: u32) -> usize {
        FIXED + columns as usize * 8 + filters as usize * 4 + HASH
    }

    /// How long the head is that begins so; none if nobody wrote it.
    pub(super) fn length_of(begin: &[u8]) -> Option<usize> {
        let begin = begin.get(..FIXED).filter(|begin| begin.starts_with(&MAGIC))?;
        let (columns, filters) = (number(begin, 24)?, number(begin, 28)?);
        (columns <= MOST && filters <= MOST).then(|| Self::length(columns, filters))
    }

    /// As it is written, and its hash.
    pub(super) fn written(&self) -> (Vec<u8>, blake3::Hash) {
        let mut out = MAGIC.to_vec();
        out.extend(self.bytes.to_le_bytes());
        out.extend(self.events.to_le_bytes());
        out.extend((self.columns.len() as u32).to_le_bytes());
        out.extend((self.filters.len() as u32).to_le_bytes());
        self.columns.iter().for_each(|(column, held)| out.extend((column | *held as u64).to_le_bytes()));
        let cells = |filter: &Option<Shape>| filter.map_or(UNKNOWN, Shape::cells);
        self.filters.iter().for_each(|filter| out.extend(cells(filter).to_le_bytes()));
        let hash = blake3::hash(&out);
        out.extend(hash.as_bytes());
        (out, hash)
    }

    /// From exactly its bytes, and its hash; none if they are not as they were written.
    pub(super) fn read(bytes: &[u8]) -> Option<(Self, blake3::Hash)> {
        if Self::length_of(bytes)? != bytes.len() {
            return None;
        }
        let (content, hash) = bytes.split_at_checked(bytes.len().checked_sub(HASH)?)?;
        let own = blake3::hash(content);
        if own.as_bytes() != hash {
            return None;
        }
        let columns = number(content, 24)? as usize;
        let (columns, filters) = content.get(FIXED..)?.split_at_checked(columns * 8)?;
        let columns = columns.chunks_exact(8).filter_map(|bytes| {
            let bytes = u64::from_le_bytes(bytes.try_into().ok()?);
            let held = match bytes & 3 {
                1 => Held::Texts,
                2 => Held::Lists,
                _ => Held::Nothing,
            };
            Some((bytes & !3, held))
        });
        let filters = filters.chunks_exact(4).filter_map(|bytes| number(bytes, 0));
        let head = Self {
            bytes: long(content, 8)?,
            events: long(content, 16)?,
            columns: columns.collect(),
            filters: filters.map(|cells| (cells != UNKNOWN).then(|| Shape::of_cells(cells))).collect(),
        };
        Some((head, own))
    }

    /// Where each filter begins, and where the last one ends.
    pub(super) fn places(&self) -> Vec<u64> {
        let begin = Self::length(self.columns.len() as u32, self.filters.len() as u32) as u64;
        let mut places = vec![begin];
        let mut end = begin;
        for filter in &self.filters {
            end += filter.map_or(0, Shape::bytes);
            places.push(end);
        }
        places
    }

    /// What is held of a column; none if the file does not have it.
    pub(super) fn held(&self, column: u64) -> Option<Held> {
        let at = self.columns.binary_search_by_key(&column, |of| of.0).ok()?;
        self.columns.get(at).map(|of| of.1)
    }
}

/// The hash of a page.
pub(super) fn page_hash(head: &blake3::Hash, filter: usize, page: u32, cells: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(head.as_bytes()).update(&(filter as u64).to_le_bytes()).update(&page.to_le_bytes());
    hasher.update(cells).finalize()
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}
