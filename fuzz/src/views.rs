//! Batches made of texts that lie anywhere, against what was put in and against Arrow's own checks.
//!
//! In: bytes; what of them is text is the raw text, and they also say which pieces of it, and of a text elsewhere, become
//! cells. Invariants: each cell has the text that was put there; Arrow, which looks at every byte, accepts each array; the
//! arrays outlive the raw text.

use std::sync::Arc;

use arrow_array::{Array, StringViewArray, cast::AsArray};
use arrow_buffer::Buffer;
use vedette_event::{BatchBuilder, Cell, EventBatch, Kind, Partition, Projection, SourceIx, Text, TopicIx};

const COLUMNS: usize = 3;
/// What lies elsewhere: a little longer than a view holds, with characters of every length.
const ELSEWHERE: &str = "elsewhere: a\u{e9}\u{20ac}\u{1f600}, and more that does not fit a view";

/// Puts pieces of the text into a batch and reads them back.
pub fn check(data: &[u8]) {
    let Some((room, data)) = data.split_first() else { return };
    let (expected, batch) = fill(usize::from(*room), data);
    assert_eq!(batch.rows(), expected.len());
    for (row, cells) in expected.iter().enumerate() {
        for (column, text) in cells.iter().enumerate() {
            let cell = batch.columns()[column].cell(row);
            assert_eq!(cell.text, text.as_deref().unwrap_or_default());
            assert_eq!(cell.kind.is_value(), text.is_some());
        }
    }
    for (at, field) in batch.arrow().schema().fields().iter().enumerate() {
        if let Some(texts) = batch.arrow().column(at).as_string_view_opt() {
            let buffers: Arc<[Buffer]> = texts.data_buffers().into();
            let checked = StringViewArray::try_new(texts.views().clone(), buffers, texts.nulls().cloned());
            assert!(checked.is_ok(), "{}: {checked:?}", field.name());
        }
    }
}

/// The cells of each row, and the batch of them, whose raw text is gone.
fn fill(room: usize, data: &[u8]) -> (Vec<[Option<String>; COLUMNS]>, EventBatch) {
    let raw = String::from_utf8_lossy(data).into_owned();
    let raw = Text::new(Buffer::from_vec(raw.into_bytes())).expect("it is text");
    let mut batch = BatchBuilder::new(Projection::new(["a", "b", "c"].map(Arc::from)));
    batch.begin(&raw, room);
    let mut expected = Vec::new();
    for (row, step) in data.chunks_exact(3).enumerate() {
        let mut cells = [const { None }; COLUMNS];
        let text = if step[0] & 4 == 0 { raw.as_str() } else { ELSEWHERE };
        let ends = [step[1], step[2]].map(|at| text.floor_char_boundary(usize::from(at)));
        let piece = &text[ends[0].min(ends[1])..ends[0].max(ends[1])];
        if let Some(cell) = cells.get_mut(usize::from(step[0] & 3)) {
            *cell = Some(piece.to_owned());
            batch.put(usize::from(step[0] & 3), Cell { kind: Kind::Text, text: piece });
        }
        batch.keep_original(piece);
        batch.end_row(row as i64, 0, row as u32, None);
        expected.push(cells);
    }
    let partition = Partition { topic: TopicIx(0), number: 0 };
    (expected, batch.finish(SourceIx(0), partition))
}
