//! What a tree keeps of an event while it waits: the rules matched and the cells of its slots, in a few bytes.
//!
//! In: cells of a batch, by [`super::columns`]. Out: [`Payload`], keys.
//! Layout: the number of matched detections and each of them, then per slot its kind code and text, or
//! [`HASHED`](super::values::HASHED) and the hashes of its values; of a single-event rule only the key: 0 for none, or 1, the
//! number of the name, kind and text. Keys are the same bytes, part after part.

use smallvec::SmallVec;
use vedette_event::Kind;

use crate::{
    codec::{ByteReader, write_bytes, write_varint},
    plan::Tree,
};

/// A payload, read in place.
#[derive(Debug, Default)]
pub struct Payload<'a> {
    /// Numbers of the detections matched.
    pub matched: SmallVec<[u16; 8]>,
    /// What follows them.
    pub rest: &'a [u8],
    /// One encoded cell a slot.
    pub slots: SmallVec<[&'a [u8]; 8]>,
    /// The key of a single-event rule.
    pub entity: Option<&'a [u8]>,
}

impl<'a> Payload<'a> {
    /// Reads what [`super::columns`] wrote for this tree.
    #[inline]
    pub fn read(bytes: &'a [u8], tree: &Tree) -> Self {
        let mut payload = Self::default();
        let mut reader = ByteReader::new(bytes);
        if tree.single() {
            if reader.byte() == Some(1) {
                let key = &bytes[1..];
                let _ = (reader.varint(), reader.byte(), reader.bytes());
                payload.entity = key.get(..key.len() - reader.left());
            }
            return payload;
        }
        for _ in 0..reader.varint().unwrap_or_default() {
            payload.matched.extend(reader.varint().map(|bit| bit as u16));
        }
        payload.rest = &bytes[bytes.len() - reader.left()..];
        for _ in 0..tree.slots.len() {
            let (before, start) = (reader.left(), bytes.len() - reader.left());
            let _ = (reader.byte(), reader.bytes());
            payload.slots.extend(bytes.get(start..start + before - reader.left()));
        }
        payload
    }

    /// Appends the key that a recipe gives; `None` if a part is missing.
    #[inline]
    pub fn key(&self, recipe: &[usize], into: &mut Vec<u8>) -> Option<()> {
        for slot in recipe {
            let cell = self.slots.get(*slot).filter(|cell| cell.first().is_some_and(|kind| *kind != 0))?;
            into.extend_from_slice(cell);
        }
        Some(())
    }
}

/// Appends a cell.
#[inline]
pub fn write_cell(out: &mut Vec<u8>, kind: Kind, text: &str) {
    out.push(kind as u8);
    write_bytes(out, text.as_bytes());
}

/// Appends the number of matched detections and each of them.
pub fn write_matched(out: &mut Vec<u8>, bits: impl ExactSizeIterator<Item = u16>) {
    write_varint(out, bits.len() as u64);
    for bit in bits {
        write_varint(out, u64::from(bit));
    }
}
