//! Texts as Arrow views, without reading them twice. The only `unsafe` of the pure crates is here.
//!
//! In: `&str`s, most of them slices of one text in memory. Out: a [`StringViewArray`] over that memory.
//! Invariants: every view says where a whole `&str` lies, or holds it; nothing is copied but what is short enough for the
//! view (12 bytes) and what lies elsewhere.
//!
//! # Why unsafe
//!
//! [`StringViewArray::try_new`] looks at every byte again, because anybody may have made the views. Over web logs that takes a
//! third of the time of decoding, a tenth of that of decoding and detecting. What it would check holds of every view made
//! here:
//!
//! 1. *It is UTF-8.* A view is made of a `&str`. Its range is that `&str`'s own: within the raw text because of the
//!    address (the builder keeps that memory, so whatever else has an address in it borrows from it), or where it was just
//!    copied to.
//! 2. *It lies within its buffer, at a place that fits 32 bits.* That is what [`ViewsBuilder::set`] tests before it makes
//!    a view. Addresses are compared, never followed.
//! 3. *Length, prefix and padding are right.* [`make_view`] is Arrow's own, and [`view_of_raw`] is tested to give the same.
//! 4. *The bytes stay what they are.* A [`Buffer`] that has a second owner cannot be changed; the side text is owned until
//!    it becomes one.
//! 5. *There is a bit of validity for each view*, or no such bits: asserted.
//!
//! With debug assertions (in tests and under the fuzzer) Arrow's checks run all the same, over every array.
#![allow(unsafe_code)]

use std::sync::Arc;

use arrow_array::{StringViewArray, builder::make_view};
use arrow_buffer::{Buffer, NullBuffer, ScalarBuffer};

use crate::text::Text;

/// Which buffer views into the raw text name.
const RAW: u32 = 0;
/// Which buffer views into the side text name.
const SIDE: u32 = 1;
/// A view holds texts up to this many bytes itself (Arrow columnar format, "Variable-size Binary View Layout").
const INLINE_BYTES: usize = 12;
/// Room for side text, taken when the first one comes.
const SIDE_BYTES: usize = 4_096;

/// Builds the views of several columns, all over one raw text. They lie one after another in one piece of memory, as the
/// texts beside the raw text do: a dozen pieces a column, taken and given back, cost more than filling them.
#[derive(Debug)]
pub(crate) struct ViewsBuilder {
    raw: Buffer,
    /// Address of the raw text, and how much of it views can name.
    base: (usize, usize),
    /// Texts that do not lie in the raw text.
    side: String,
    /// How many rows each column has room for.
    room: usize,
    views: Vec<u128>,
}

impl ViewsBuilder {
    /// No columns yet, over a raw text; about so many will come, of at most `room` rows until it [grows](Self::grow).
    pub(crate) fn new(raw: &Text, columns: usize, room: usize) -> Self {
        let raw = raw.buffer();
        let base = (raw.as_ptr() as usize, raw.len().min(u32::MAX as usize));
        Self { raw, base, side: String::new(), room, views: Vec::with_capacity(columns * room) }
    }

    /// How many rows there is room for.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        self.room
    }

    /// One more column, of empty texts.
    pub(crate) fn add(&mut self) {
        self.views.resize(self.views.len() + self.room, 0);
    }

    /// Makes room for more rows in each of so many columns.
    #[cold]
    pub(crate) fn grow(&mut self, columns: usize, room: usize) {
        self.views = widen(&self.views, columns, self.room, room);
        self.room = room;
    }

    /// Sets a text. False if it lies elsewhere and there is no room (4 GiB) for a copy.
    #[inline]
    pub(crate) fn set(&mut self, column: usize, row: usize, text: &str) -> bool {
        let at = (text.as_ptr() as usize).wrapping_sub(self.base.0);
        let view = if at.checked_add(text.len()).is_some_and(|end| end <= self.base.1) {
            view_of_raw(&self.raw, at, text)
        } else {
            match self.place(text) {
                Some(at) => make_view(text.as_bytes(), SIDE, at),
                None => return false,
            }
        };
        self.views[column * self.room + row] = view;
        true
    }

    /// Where a text that lies elsewhere is from now on. A view holds short ones itself.
    fn place(&mut self, text: &str) -> Option<u32> {
        if text.len() <= INLINE_BYTES {
            return Some(0);
        }
        let at = u32::try_from(self.side.len()).ok()?;
        u32::try_from(self.side.len().checked_add(text.len())?).ok()?;
        if self.side.capacity() == 0 {
            self.side.reserve(SIDE_BYTES);
        }
        self.side.push_str(text);
        Some(at)
    }

    /// No more texts will come.
    pub(crate) fn finish(self) -> Views {
        let mut buffers = vec![self.raw];
        if !self.side.is_empty() {
            buffers.push(Buffer::from_vec(self.side.into_bytes()));
        }
        Views { views: ScalarBuffer::from(self.views), buffers: buffers.into(), room: self.room }
    }
}

/// The view of a text that lies in the raw text. Most are short there, and most of those have more bytes behind them: one word is
/// read and cut, where [`make_view`] takes a jump that the processor cannot foresee.
#[inline]
fn view_of_raw(raw: &[u8], at: usize, text: &str) -> u128 {
    let len = text.len();
    if len <= INLINE_BYTES
        && let Some(word) = raw.get(at..).and_then(<[u8]>::first_chunk)
    {
        let kept = u128::from_le_bytes(*word) & ((1 << (8 * len)) - 1);
        return (kept << 32) | len as u128;
    }
    make_view(text.as_bytes(), RAW, at as u32)
}

/// The same cells with room for more rows in each of so many columns.
pub(crate) fn widen<T: Copy + Default>(cells: &[T], columns: usize, from: usize, to: usize) -> Vec<T> {
    let mut wide = vec![T::default(); columns * to];
    if from > 0 {
        for (cells, wide) in cells.chunks(from).zip(wide.chunks_mut(to)) {
            wide[..from].copy_from_slice(cells);
        }
    }
    wide
}

/// The views of several columns.
#[derive(Debug)]
pub(crate) struct Views {
    views: ScalarBuffer<u128>,
    buffers: Arc<[Buffer]>,
    room: usize,
}

impl Views {
    /// The first rows of a column as an array.
    ///
    /// # Panics
    /// If there are not as many rows, or bits of validity, but not as many as rows.
    pub(crate) fn array(&self, column: usize, rows: usize, nulls: Option<NullBuffer>) -> StringViewArray {
        assert!(rows <= self.room, "no row is another column's");
        assert!(nulls.as_ref().is_none_or(|nulls| nulls.len() == rows), "a bit for each view");
        let views = self.views.slice(column * self.room, rows);
        let buffers = Arc::clone(&self.buffers);
        debug_assert!(StringViewArray::try_new(views.clone(), buffers.clone(), nulls.clone()).is_ok());
        // SAFETY: `try_new` would not refuse them; see above, point by point.
        unsafe { StringViewArray::new_unchecked(views, buffers, nulls) }
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::Array;
    use arrow_buffer::BooleanBuffer;
    use proptest::prelude::*;

    use super::*;

    fn text(bytes: &str) -> Text {
        Text::new(Buffer::from_vec(bytes.as_bytes().to_vec())).unwrap()
    }

    /// What Arrow says of an array that was made without its checks.
    fn checked(array: &StringViewArray) -> StringViewArray {
        let buffers: Arc<[Buffer]> = array.data_buffers().into();
        StringViewArray::try_new(array.views().clone(), buffers, array.nulls().cloned()).unwrap()
    }

    /// One column of these texts.
    fn column(raw: &Text, texts: &[&str]) -> StringViewArray {
        let mut views = ViewsBuilder::new(raw, 1, texts.len());
        views.add();
        assert!(texts.iter().enumerate().all(|(row, text)| views.set(0, row, text)));
        checked(&views.finish().array(0, texts.len(), None))
    }

    #[test]
    fn texts_in_the_raw_text_are_pointed_at_and_others_copied_unless_they_are_short() {
        let raw = text("a long text that does not fit a view");
        let texts =
            [&raw.as_str()[2..30], "short", "another long text from elsewhere", "", &raw.as_str()[7..11]];
        let array = column(&raw, &texts);
        assert_eq!(array.iter().flatten().collect::<Vec<_>>(), texts);
        assert_eq!(array.value(0).as_ptr(), texts[0].as_ptr());
        let lengths: Vec<_> = array.data_buffers().iter().map(Buffer::len).collect();
        assert_eq!(lengths, [raw.as_str().len(), texts[2].len()]);
    }

    #[test]
    fn a_view_of_the_raw_text_is_what_arrow_makes() {
        let raw = text("0123456789abcdefghijklmnopqrstuvwxyz");
        for (from, to) in (0..=36).flat_map(|from| (from..=36).map(move |to| (from, to))) {
            let piece = &raw.as_str()[from..to];
            let expected = make_view(piece.as_bytes(), RAW, from as u32);
            assert_eq!(view_of_raw(raw.as_str().as_bytes(), from, piece), expected, "{from}..{to}");
        }
    }

    #[test]
    fn the_array_keeps_its_memory() {
        let raw = text("a long text that does not fit a view");
        let array = column(&raw, &[raw.as_str()]);
        drop(raw);
        assert_eq!(array.value(0), "a long text that does not fit a view");
    }

    #[test]
    fn what_ends_at_the_last_byte_lies_within_and_what_begins_there_is_copied() {
        // Two texts, one beside the other in one allocation, of which only the first is the raw text.
        let whole = text("the first half is raw, the second half is not, though it follows at once");
        let raw = Text::new(whole.buffer().slice_with_length(0, 22)).unwrap();
        let texts = [&whole.as_str()[4..22], &whole.as_str()[4..23], &whole.as_str()[22..]];
        let array = column(&raw, &texts);
        assert_eq!(array.iter().flatten().collect::<Vec<_>>(), texts);
        let buffers: Vec<_> = array.views().iter().map(|view| (*view >> 64) as u32).collect();
        assert_eq!(buffers, [RAW, SIDE, SIDE]);
    }

    #[test]
    fn what_a_view_cannot_name_is_copied() {
        let raw = text("a long text that does not fit a view");
        let mut views = ViewsBuilder::new(&raw, 1, 1);
        views.add();
        // As if the raw text were longer than 4 GiB, from its fifth byte on.
        views.base.1 = 4;
        assert!(views.set(0, 0, &raw.as_str()[2..]));
        assert_eq!(views.place(&"x".repeat(20)), Some(34));
        assert_eq!(checked(&views.finish().array(0, 1, None)).value(0), &raw.as_str()[2..]);
    }

    #[test]
    fn columns_lie_side_by_side_and_grow() {
        let mut views = ViewsBuilder::new(&Text::default(), 0, 2);
        views.add();
        views.set(0, 0, "one");
        views.add();
        views.set(1, 1, "a text of another column, which is long");
        views.grow(2, 3);
        views.set(0, 2, "two");
        let views = views.finish();
        let nulls = NullBuffer::new(BooleanBuffer::from(vec![true, false, true]));
        let array = checked(&views.array(0, 3, Some(nulls)));
        assert_eq!(array.iter().collect::<Vec<_>>(), [Some("one"), None, Some("two")]);
        let array = checked(&views.array(1, 2, None));
        assert_eq!(
            array.iter().flatten().collect::<Vec<_>>(),
            ["", "a text of another column, which is long"]
        );
    }

    #[test]
    #[should_panic(expected = "a bit for each view")]
    fn bits_of_validity_that_do_not_fit_are_refused() {
        let _ =
            ViewsBuilder::new(&Text::default(), 0, 0).finish().array(0, 0, Some(NullBuffer::new_valid(1)));
    }

    #[test]
    #[should_panic(expected = "no row is another column's")]
    fn rows_of_the_next_column_are_refused() {
        let mut views = ViewsBuilder::new(&Text::default(), 2, 1);
        (0..2).for_each(|_| views.add());
        let _ = views.finish().array(0, 2, None);
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_and_arrow_agrees(
            raw in "[aé€😀\"\\\\]{0,80}",
            pieces in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), "[xß]{0,30}"), 0..20),
        ) {
            let raw = text(&raw);
            let boundaries: Vec<usize> =
                (0..=raw.as_str().len()).filter(|at| raw.as_str().is_char_boundary(*at)).collect();
            let mut texts = Vec::new();
            for (one, other, elsewhere) in &pieces {
                let (one, other) = (*one.get(&boundaries), *other.get(&boundaries));
                texts.extend([&raw.as_str()[one.min(other)..one.max(other)], &**elsewhere]);
            }
            let array = column(&raw, &texts);
            prop_assert_eq!(array.iter().flatten().collect::<Vec<_>>(), texts);
        }
    }
}
