//! What a field's filter found for values seen before.
//!
//! In: a value's kind and bytes. Out: what was found then. Invariants: the whole key is compared, so a forged collision
//! costs time but never truth; the number of slots and the length of a key are bounded; a field whose values seldom
//! return is left alone for a while.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use smallvec::SmallVec;
use vedette_event::Kind;

/// Slots of one field at most.
const MAX_SLOTS: usize = 8192;
/// Longer values are not remembered.
const MAX_KEY: usize = 512;
/// After so many lookups the share of hits is judged.
const PERIOD: u32 = 1024;
/// How many lookups a field is left alone for.
const PAUSE: u32 = 16 * PERIOD;

/// The results of one (class, field).
#[derive(Debug, Default)]
pub(crate) struct Memo {
    slots: Vec<Slot>,
    used: usize,
    lookups: u32,
    hits: u32,
    paused: u32,
}

#[derive(Debug, Default, Clone)]
struct Slot {
    /// Hash and kind; 0 for an empty slot.
    tag: u64,
    key: SmallVec<[u8; 24]>,
    found: SmallVec<[u32; 4]>,
}

impl Memo {
    /// The tag under which a value is remembered; `None` if it is not worth it.
    #[inline]
    pub(crate) fn tag(&mut self, seed: &FixedState, kind: Kind, text: &str) -> Option<u64> {
        if text.len() > MAX_KEY {
            return None;
        }
        if self.paused > 0 {
            self.paused -= 1;
            return None;
        }
        if self.lookups >= PERIOD {
            if self.hits < PERIOD / 6 {
                self.paused = PAUSE;
            }
            (self.lookups, self.hits) = (0, 0);
        }
        self.lookups += 1;
        let mut hasher = seed.build_hasher();
        hasher.write(text.as_bytes());
        Some((hasher.finish() & !7) | kind as u64)
    }

    /// What was found for the value.
    #[inline]
    pub(crate) fn get(&mut self, tag: u64, text: &str) -> Option<&[u32]> {
        let slot = self.slots.get(place(tag, self.slots.len()))?;
        if slot.tag == tag && slot.key.as_slice() == text.as_bytes() {
            self.hits += 1;
            Some(&slot.found)
        } else {
            None
        }
    }

    /// Remembers what was found, in place of an older value. `budget` counts the slots that all memos may still add.
    pub(crate) fn put(&mut self, tag: u64, text: &str, found: &[u32], budget: &mut usize) {
        if self.used * 2 >= self.slots.len() {
            self.grow(budget);
        }
        let at = place(tag, self.slots.len());
        if let Some(slot) = self.slots.get_mut(at) {
            self.used += usize::from(slot.tag == 0);
            slot.tag = tag;
            slot.key.clear();
            slot.key.extend_from_slice(text.as_bytes());
            slot.found.clear();
            slot.found.extend_from_slice(found);
        }
    }

    fn grow(&mut self, budget: &mut usize) {
        let larger = (self.slots.len() * 2).clamp(64, MAX_SLOTS);
        let added = larger - self.slots.len();
        if added == 0 || added > *budget {
            return;
        }
        *budget -= added;
        let old = std::mem::replace(&mut self.slots, vec![Slot::default(); larger]);
        self.used = 0;
        for slot in old.into_iter().filter(|slot| slot.tag != 0) {
            let at = place(slot.tag, larger);
            self.used += usize::from(self.slots[at].tag == 0);
            self.slots[at] = slot;
        }
    }
}

/// The slot of a tag among a power of two of them.
#[inline]
fn place(tag: u64, slots: usize) -> usize {
    (tag >> 3) as usize & slots.wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn values_of_another_kind_are_other_values() {
        let (mut memo, mut budget, seed) = (Memo::default(), 1 << 16, FixedState::with_seed(1));
        let text = memo.tag(&seed, Kind::Text, "5").unwrap();
        let int = memo.tag(&seed, Kind::Int, "5").unwrap();
        memo.put(text, "5", &[1, 2], &mut budget);
        assert_eq!(memo.get(text, "5"), Some(&[1, 2][..]));
        assert_eq!(memo.get(int, "5"), None);
        assert_eq!(memo.get(text, "6"), None);
    }

    #[test]
    fn slots_are_bounded_and_useless_memos_pause() {
        let (mut memo, mut budget, seed) = (Memo::default(), 1000, FixedState::with_seed(1));
        let mut remembered = 0;
        for n in 0..20_000 {
            let text = n.to_string();
            if let Some(tag) = memo.tag(&seed, Kind::Int, &text) {
                assert_eq!(memo.get(tag, &text), None);
                memo.put(tag, &text, &[], &mut budget);
                remembered += 1;
            }
        }
        assert!(memo.slots.len() <= 512 && remembered < 4000, "{} {remembered}", memo.slots.len());
        assert_eq!(memo.tag(&seed, Kind::Text, &"x".repeat(MAX_KEY + 1)), None);
    }
}
