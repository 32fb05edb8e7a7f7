//! The keys of one rule and their state.
//!
//! In: key bytes with their hash. Out: a slot that holds the key's [`Entry`].
//! Invariants: entries never move while they live; what a slot meant before is told by its generation; the number of keys of
//! each key group is known.

use std::collections::VecDeque;

use hashbrown::HashTable;
use smallvec::SmallVec;
use vedette_event::Micros;

use crate::{GROUPS, codec::KeyHasher, episode::Phase, judged::Judged, window::Window};

/// Entries in one piece of memory.
const CHUNK: usize = 256;

/// One key's state.
#[derive(Debug)]
pub struct Entry {
    /// The encoded key; empty for the key `{}`.
    pub key: SmallVec<[u8; 24]>,
    /// Time of its newest event.
    pub newest: Micros,
    /// Its window.
    pub state: State,
    /// Its episode.
    pub phase: Phase,
    /// Raised whenever the slot is given away.
    pub generation: u32,
    /// Its key group.
    pub group: u8,
    /// Whether it is found by its key: not so for events without any entity, each its own episode.
    pub named: bool,
    live: bool,
}

/// What a key holds beside its episode.
#[derive(Debug)]
pub enum State {
    /// A sliding window.
    Sliding(Window),
    /// An aligned window.
    Judged(Box<Judged>),
}

/// All keys of one rule.
#[derive(Debug, Default)]
pub struct Keys {
    table: HashTable<u32>,
    chunks: Vec<Vec<Entry>>,
    free: VecDeque<u32>,
    sizes: Option<Box<[u32; GROUPS as usize]>>,
    hand: u32,
    len: u32,
}

impl Keys {
    /// The slot of a key.
    #[inline]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        self.table
            .find(hash, |slot| self.get(*slot).is_some_and(|entry| entry.key.as_slice() == key))
            .copied()
    }

    /// Reads a little of what this hash probably leads to, so that it is in the cache when it is needed.
    #[inline]
    pub fn touch(&self, hash: u64) -> u64 {
        let mut read = 0;
        self.table.find(hash, |slot| {
            if let Some(entry) = at(&self.chunks, *slot) {
                read = entry.newest.0 as u64 ^ u64::from(entry.group);
                if let State::Sliding(Window::Count { trail, .. }) = &entry.state {
                    read ^= u64::from(trail.touch());
                }
            }
            true
        });
        read
    }

    /// How many slots there are.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// A new slot for a key that is not there.
    pub fn insert(
        &mut self,
        hasher: &KeyHasher,
        hash: u64,
        key: &[u8],
        group: u8,
        named: bool,
        state: State,
    ) -> u32 {
        let mut entry = Entry {
            key: SmallVec::from_slice(key),
            newest: Micros::MIN,
            state,
            phase: Phase::None,
            generation: 0,
            group,
            named,
            live: true,
        };
        let slot = self.free.pop_front().unwrap_or(self.len);
        if slot == self.len {
            if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
                // Small rules stay small; only the first piece grows.
                let room = if self.chunks.is_empty() { 1 } else { CHUNK };
                self.chunks.push(Vec::with_capacity(room));
            }
            if let Some(chunk) = self.chunks.last_mut() {
                chunk.push(entry);
            }
            self.len += 1;
        } else if let Some(old) = self.get_raw(slot) {
            entry.generation = old.generation.wrapping_add(1);
            *old = entry;
        }
        if let Some(size) = self.sizes.get_or_insert_with(|| Box::new([0; 64])).get_mut(usize::from(group)) {
            *size += 1;
        }
        if named {
            let chunks = &self.chunks;
            self.table.insert_unique(hash, slot, |slot| {
                at(chunks, *slot).map_or(0, |entry| hasher.hash(&entry.key))
            });
        }
        slot
    }

    /// Gives a slot away.
    pub fn remove(&mut self, hasher: &KeyHasher, slot: u32) {
        let Some(entry) = self.get_raw(slot).filter(|entry| entry.live) else { return };
        entry.live = false;
        entry.phase = Phase::None;
        entry.state = State::Sliding(Window::None);
        entry.generation = entry.generation.wrapping_add(1);
        let (hash, named, group) = (hasher.hash(&entry.key), entry.named, entry.group);
        entry.key = SmallVec::new();
        if named && let Ok(found) = self.table.find_entry(hash, |known| *known == slot) {
            found.remove();
        }
        if let Some(size) = self.sizes.as_mut().and_then(|sizes| sizes.get_mut(usize::from(group))) {
            *size -= 1;
        }
        self.free.push_back(slot);
    }

    /// The entry in a slot.
    #[inline]
    pub fn get(&self, slot: u32) -> Option<&Entry> {
        at(&self.chunks, slot).filter(|entry| entry.live)
    }

    /// The entry in a slot.
    #[inline]
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Entry> {
        self.get_raw(slot).filter(|entry| entry.live)
    }

    #[inline]
    fn get_raw(&mut self, slot: u32) -> Option<&mut Entry> {
        self.chunks.get_mut(slot as usize / CHUNK)?.get_mut(slot as usize % CHUNK)
    }

    /// How many keys of a group it holds.
    pub fn size(&self, group: u8) -> usize {
        self.sizes.as_ref().and_then(|sizes| sizes.get(usize::from(group))).map_or(0, |size| *size as usize)
    }

    /// All slots in use.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Entry)> {
        self.chunks
            .iter()
            .flatten()
            .enumerate()
            .filter(|(_, entry)| entry.live)
            .map(|(at, entry)| (at as u32, entry))
    }

    /// The next slot to look at for what can be forgotten.
    #[inline]
    pub fn turn(&mut self) -> u32 {
        self.hand = if self.hand + 1 < self.len { self.hand + 1 } else { 0 };
        self.hand
    }
}

#[inline]
fn at(chunks: &[Vec<Entry>], slot: u32) -> Option<&Entry> {
    chunks.get(slot as usize / CHUNK)?.get(slot as usize % CHUNK)
}
