//! The keys of one rule and their state.
//!
//! In: key bytes with their hash. Out: a slot that holds the key's [`Entry`].
//! Invariants: entries never move while they live; what a slot meant before is told by its generation; the number of keys of
//! each key group is known.

use std::{collections::VecDeque, ops::Deref};

use hashbrown::HashTable;
use smallvec::SmallVec;
use vedette_event::Micros;

use crate::{GROUPS, codec::KeyHasher, episode::Phase, judged::Judged, window::Window};

/// Entries in one piece of memory.
const CHUNK: usize = 256;

/// Bytes of a key that need no memory of their own.
const SHORT: usize = 22;
/// Slots looked at together for what can be forgotten: their misses overlap.
pub const SWEEP: u32 = 16;

/// The bytes of a key.
#[derive(Debug, Clone)]
pub enum Key {
    /// So many, in place.
    Short(u8, [u8; SHORT]),
    /// More.
    Long(Box<[u8]>),
}

impl Key {
    /// A copy of some bytes.
    pub fn new(bytes: &[u8]) -> Self {
        let mut short = [0; SHORT];
        match short.get_mut(..bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                Self::Short(bytes.len() as u8, short)
            }
            None => Self::Long(bytes.into()),
        }
    }
}

impl Deref for Key {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Short(len, bytes) => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Long(bytes) => bytes,
        }
    }
}

/// One key's state.
#[derive(Debug)]
pub struct Entry {
    /// The encoded key; empty for the key `{}`.
    pub key: Key,
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

/// Where a key is. Half of its hash stands beside it: other keys are told apart, and the table grows, without a look at entries.
#[derive(Debug, Clone, Copy)]
struct Place {
    half: u32,
    slot: u32,
}

impl Place {
    const fn new(hash: u64, slot: u32) -> Self {
        Self { half: (hash >> 32) as u32, slot }
    }

    /// The hash in the table: the half, spread over all bits.
    #[inline]
    const fn spread(self) -> u64 {
        (self.half as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// All keys of one rule.
#[derive(Debug, Default)]
pub struct Keys {
    table: HashTable<Place>,
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
        let wanted = Place::new(hash, 0);
        let is = |place: &Place| {
            place.half == wanted.half && self.get(place.slot).is_some_and(|entry| *entry.key == *key)
        };
        self.table.find(wanted.spread(), is).map(|place| place.slot)
    }

    /// Reads the table where this hash probably leads to, so that it is in the cache when it is needed; the slot it found.
    #[inline]
    pub fn touch(&self, hash: u64) -> Option<u32> {
        let wanted = Place::new(hash, 0);
        self.table.find(wanted.spread(), |place| place.half == wanted.half).map(|place| place.slot)
    }

    /// Reads a little of an entry, so that it is in the cache when it is needed.
    #[inline]
    pub fn touch_entry(&self, slot: u32) -> u64 {
        at(&self.chunks, slot).map_or(0, |entry| {
            let mut read = entry.newest.0 as u64 ^ u64::from(entry.group) ^ entry.key.len() as u64;
            if let State::Sliding(Window::Count { trail, .. }) = &entry.state {
                read ^= u64::from(trail.touch());
            }
            read
        })
    }

    /// How many slots there are.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// A new slot for a key that is not there.
    pub fn insert(&mut self, hash: u64, key: &[u8], group: u8, named: bool, state: State) -> u32 {
        let mut entry = Entry {
            key: Key::new(key),
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
            let place = Place::new(hash, slot);
            self.table.insert_unique(place.spread(), place, |place| place.spread());
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
        entry.key = Key::new(&[]);
        if named
            && let Ok(found) =
                self.table.find_entry(Place::new(hash, slot).spread(), |known| known.slot == slot)
        {
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

    /// Looks at some more slots and gives away those that can be forgotten.
    pub fn sweep(&mut self, hasher: &KeyHasher, free: impl Fn(&Entry) -> bool) {
        let mut found: SmallVec<[u32; SWEEP as usize]> = SmallVec::new();
        let mut read = 0;
        for _ in 0..SWEEP.min(self.len) {
            self.hand = if self.hand + 1 < self.len { self.hand + 1 } else { 0 };
            if let Some(entry) = self.get(self.hand).filter(|entry| free(entry)) {
                read ^= self.touch(hasher.hash(&entry.key)).unwrap_or_default();
                found.push(self.hand);
            }
        }
        std::hint::black_box(read);
        for slot in found {
            self.remove(hasher, slot);
        }
    }
}

#[inline]
fn at(chunks: &[Vec<Entry>], slot: u32) -> Option<&Entry> {
    chunks.get(slot as usize / CHUNK)?.get(slot as usize % CHUNK)
}
