//! One field of all events of a batch: Arrow arrays, read by row.
//!
//! In: cells, of each column in ascending order of row ([`CellsBuilder`]). Out: [`Column`], the text and the kind of each.
//! Invariants: a text is null in Arrow where its cell is missing or null, and the kind tells the two apart; texts in the raw
//! bytes are pointed at; what a reader wants to know of the whole column (whether it has values, its longest text) is known
//! without a walk; a column without any cell has no arrays of its own.

use std::sync::Arc;

use arrow_array::{StringViewArray, UInt8Array};
use arrow_buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};

use crate::{
    cell::{Cell, Kind},
    text::Text,
    views::{ViewsBuilder, widen},
};

/// One field of all rows of a batch.
#[derive(Debug, Clone)]
pub struct Column {
    /// Nothing if every cell is missing.
    pub(crate) cells: Option<Cells>,
}

/// The arrays of a column: the very ones of the batch's record batch.
#[derive(Debug, Clone)]
pub(crate) struct Cells {
    pub(crate) texts: Arc<StringViewArray>,
    pub(crate) kinds: Arc<UInt8Array>,
    /// Some cell is neither missing nor null.
    valued: bool,
    /// Bytes of the longest text.
    longest: usize,
    /// Bytes of all texts.
    bytes: usize,
}

impl Column {
    /// The cell of a row; missing beyond the last one.
    #[must_use]
    #[inline]
    pub fn cell(&self, row: usize) -> Cell<'_> {
        let Some(cells) = &self.cells else { return Cell::MISSING };
        let Some(kind) = cells.kinds.values().get(row) else { return Cell::MISSING };
        // The text of a missing or null cell is empty.
        Cell { kind: Kind::from_code(*kind), text: cells.texts.value(row) }
    }

    /// False if every cell is missing or null. (Of a slice it tells of the whole.)
    #[must_use]
    pub fn has_values(&self) -> bool {
        self.cells.as_ref().is_some_and(|cells| cells.valued)
    }

    /// No text has more bytes than this. (Of a slice it tells of the whole.)
    #[must_use]
    pub fn longest(&self) -> usize {
        self.cells.as_ref().map_or(0, |cells| cells.longest)
    }

    /// Bytes of all texts. (Of a slice it tells of the whole.)
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.cells.as_ref().map_or(0, |cells| cells.bytes)
    }

    /// So many rows from this one on, all of which there are; nothing is copied.
    pub(crate) fn slice(&self, from: usize, rows: usize) -> Self {
        let slice = |cells: &Cells| Cells {
            texts: Arc::new(cells.texts.slice(from, rows)),
            kinds: Arc::new(cells.kinds.slice(from, rows)),
            ..*cells
        };
        Self { cells: self.cells.as_ref().map(slice) }
    }
}

/// Builds columns side by side, each begun when its first cell comes.
#[derive(Debug)]
pub(crate) struct CellsBuilder {
    texts: ViewsBuilder,
    /// Column by column, as the views.
    kinds: Vec<u8>,
    columns: Vec<Facts>,
}

/// What is known of a column so far.
#[derive(Debug, Clone, Copy, Default)]
struct Facts {
    /// The row after the last one that was set.
    next: usize,
    /// How many cells are neither missing nor null.
    values: usize,
    longest: usize,
    bytes: usize,
}

impl CellsBuilder {
    /// No column, over a raw text; about so many will come, of about so many rows.
    pub(crate) fn new(raw: &Text, columns: usize, rows: usize) -> Self {
        Self {
            texts: ViewsBuilder::new(raw, columns, rows),
            kinds: Vec::with_capacity(columns * rows),
            columns: Vec::with_capacity(columns),
        }
    }

    /// How many columns were begun.
    pub(crate) fn columns(&self) -> usize {
        self.columns.len()
    }

    /// Begins a column and gives its number.
    pub(crate) fn add(&mut self) -> u32 {
        self.columns.push(Facts::default());
        self.texts.add();
        self.kinds.resize(self.kinds.len() + self.texts.room(), Kind::Missing as u8);
        self.columns.len() as u32 - 1
    }

    /// Sets a cell, unless this row or a later one of the column has one; what is never set is missing. So is a cell for whose
    /// text there is no room.
    #[inline]
    pub(crate) fn put(&mut self, column: u32, row: usize, cell: Cell<'_>) {
        let (at, columns) = (column as usize, self.columns.len());
        let Some(facts) = self.columns.get_mut(at) else { return };
        if row < facts.next {
            return;
        }
        facts.next = row + 1;
        if row >= self.texts.room() {
            make_room(&mut self.texts, &mut self.kinds, columns, row + 1);
        }
        if cell.kind.is_value() {
            if !self.texts.set(at, row, cell.text) {
                return;
            }
            facts.longest = facts.longest.max(cell.text.len());
            facts.bytes += cell.text.len();
            facts.values += 1;
        }
        self.kinds[at * self.texts.room() + row] = cell.kind as u8;
    }

    /// The columns, of so many rows.
    pub(crate) fn finish(mut self, rows: usize) -> Vec<Cells> {
        if rows > self.texts.room() {
            make_room(&mut self.texts, &mut self.kinds, self.columns.len(), rows);
        }
        let room = self.texts.room();
        for (facts, kinds) in self.columns.iter_mut().zip(self.kinds.chunks(room.max(1))) {
            if facts.next > rows {
                facts.values = kinds[..rows].iter().filter(|kind| Kind::from_code(**kind).is_value()).count();
            }
        }
        let bits = values(&self.kinds);
        let (views, kinds) = (self.texts.finish(), ScalarBuffer::from(self.kinds));
        let cells = |(column, facts): (usize, Facts)| {
            let nulls = (facts.values < rows).then(|| NullBuffer::new(bits.slice(column * room, rows)));
            Cells {
                texts: Arc::new(views.array(column, rows, nulls)),
                kinds: Arc::new(UInt8Array::new(kinds.slice(column * room, rows), None)),
                valued: facts.values > 0,
                longest: facts.longest,
                bytes: facts.bytes,
            }
        };
        self.columns.into_iter().enumerate().map(cells).collect()
    }
}

/// Makes room for so many rows at least in each of so many columns.
#[cold]
fn make_room(texts: &mut ViewsBuilder, kinds: &mut Vec<u8>, columns: usize, rows: usize) {
    let room = rows.max(2 * texts.room());
    *kinds = widen(kinds, columns, texts.room(), room);
    texts.grow(columns, room);
}

/// One bit for each kind: whether it is a value. Eight at once: this looks at all cells of a batch.
fn values(kinds: &[u8]) -> BooleanBuffer {
    let bits = kinds.chunks(8).map(|chunk| {
        let mut eight = [0; 8];
        eight[..chunk.len()].copy_from_slice(chunk);
        // The highest bit of a byte is set from 2 on (codes are less than 8, so nothing is carried); the factor moves that of
        // byte `i` to bit `i` of the highest byte.
        let set = (u64::from_le_bytes(eight) + 0x7e7e_7e7e_7e7e_7e7e) & 0x8080_8080_8080_8080;
        ((set >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
    });
    BooleanBuffer::new(bits.collect::<Vec<u8>>().into(), 0, kinds.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_and_null_cells_have_no_bit() {
        for rows in 0..40 {
            let kinds: Vec<u8> = (0..rows).map(|row| (row * row % 11 % 8) as u8).collect();
            let expected: Vec<bool> = kinds.iter().map(|kind| Kind::from_code(*kind).is_value()).collect();
            assert_eq!(values(&kinds).iter().collect::<Vec<_>>(), expected);
        }
    }
}
