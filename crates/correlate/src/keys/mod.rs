//! The keys of one rule in one key group, and their state.
//!
//! In: key bytes with their hash. Out: a slot that holds the key's [`KeyState`].
//! Invariants: a key never moves while it lives; what a slot meant before is told by its birth; memory follows the number of keys down
//! as it followed it up.

mod key;

use hashbrown::HashTable;
use vedette_event::Micros;

pub use self::key::KeyBytes;
use crate::{
    codec::KeyHasher,
    over::budget::more,
    plan::Node,
    step::{episode::Phase, judged::Judged, window::Window},
};

/// Keys in one slab of memory: as many as a word has bits, which tell those that live. A group's last slab is half empty on
/// average, which is 4 kB for each rule and group; with 256 keys a slab it was four times that.
const SLAB: u32 = u64::BITS;

/// What is kept of one key.
#[derive(Debug)]
pub struct KeyState {
    /// The encoded key; empty for the key `{}`.
    pub key: KeyBytes,
    /// Time of its newest event.
    pub newest: Micros,
    /// Its window.
    pub window: AnyWindow,
    /// Its episode.
    pub phase: Phase,
    /// Tells it from what was in its slot before.
    pub birth: u32,
    /// Whether it is found by its key: not so for events without any entity, each its own episode.
    pub named: bool,
    /// It is charged for an open episode.
    open: bool,
    /// Entries that it is charged for beside its first.
    more: u16,
}

/// What a key holds beside its episode.
#[derive(Debug)]
pub enum AnyWindow {
    /// A sliding window.
    Sliding(Window),
    /// An aligned window.
    Judged(Box<Judged>),
}

/// Where a key is. Half of its hash stands beside it: other keys are told apart, and the table grows, without a look at the keys.
#[derive(Debug, Clone, Copy)]
struct Pointer {
    half: u32,
    slot: u32,
}

impl Pointer {
    const fn new(hash: u64, slot: u32) -> Self {
        Self { half: (hash >> 32) as u32, slot }
    }

    /// The hash in the table: the half, spread over all bits.
    #[inline]
    const fn spread(self) -> u64 {
        (self.half as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// Memory for some keys.
#[derive(Debug, Default)]
struct Slab {
    keys: Vec<KeyState>,
    /// By place: whether a key lives there.
    live: u64,
}

/// All keys of one rule in one key group.
#[derive(Debug, Default)]
pub struct Keys {
    table: HashTable<Pointer>,
    slabs: Vec<Slab>,
    /// Pieces that have room, each once.
    roomy: Vec<u32>,
    len: u32,
    births: u32,
    /// Keys that have an open episode.
    open: u32,
    /// What all keys are charged for beside their first entries.
    more: usize,
}

impl Keys {
    /// The slot of a key.
    #[inline]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        let wanted = Pointer::new(hash, 0);
        let is = |known: &Pointer| {
            known.half == wanted.half && self.get(known.slot).is_some_and(|state| *state.key == *key)
        };
        self.table.find(wanted.spread(), is).map(|known| known.slot)
    }

    /// Reads the table where this hash probably leads to, so that it is in the cache when it is needed; the slot it found.
    #[inline]
    pub fn touch(&self, hash: u64) -> Option<u32> {
        let wanted = Pointer::new(hash, 0);
        self.table.find(wanted.spread(), |known| known.half == wanted.half).map(|known| known.slot)
    }

    /// Reads a little of a key's state, so that it is in the cache when it is needed.
    #[inline]
    pub fn touch_state(&self, slot: u32) -> u64 {
        self.get(slot).map_or(0, |state| {
            let mut read = state.newest.0 as u64 ^ u64::from(state.birth) ^ state.key.len() as u64;
            if let AnyWindow::Sliding(Window::Count { trail, .. }) = &state.window {
                read ^= u64::from(trail.touch());
            }
            read
        })
    }

    /// How many keys it holds.
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// What all keys are charged for.
    pub const fn entries(&self) -> usize {
        self.len as usize + self.more
    }

    /// How many keys have no open episode.
    pub const fn idle(&self) -> usize {
        self.len.saturating_sub(self.open) as usize
    }

    /// After a key changed: charges it for what it holds now.
    #[inline]
    pub fn recharge(&mut self, node: &Node, slot: u32) {
        let Some(state) = self.get_mut(slot) else { return };
        let (more, open) = (more(node, state), matches!(state.phase, Phase::Open(_)));
        let before = (std::mem::replace(&mut state.more, more), std::mem::replace(&mut state.open, open));
        self.more = self.more + usize::from(more) - usize::from(before.0);
        self.open = self.open + u32::from(open) - u32::from(before.1);
    }

    /// Whether it holds none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A new slot for a key that is not there.
    pub fn insert(&mut self, hash: u64, key: &[u8], named: bool, window: AnyWindow) -> u32 {
        self.births = self.births.wrapping_add(1);
        let state = KeyState {
            key: KeyBytes::new(key),
            newest: Micros::MIN,
            window,
            phase: Phase::None,
            birth: self.births,
            named,
            open: false,
            more: 0,
        };
        let at = self.roomy.last().copied().unwrap_or_else(|| {
            let at = self.slabs.len() as u32;
            self.slabs.push(Slab::default());
            self.roomy.push(at);
            at
        });
        // Small rules stay small: only the first slab grows.
        let alone = self.slabs.len() == 1;
        let mut slot = at * SLAB;
        if let Some(slab) = self.slabs.get_mut(at as usize) {
            let place = slab.live.trailing_ones();
            slot += place;
            slab.live |= 1 << place;
            match slab.keys.get_mut(place as usize) {
                Some(old) => *old = state,
                None => {
                    if slab.keys.len() == slab.keys.capacity() {
                        let more =
                            if alone { slab.keys.len().max(1) } else { SLAB as usize - slab.keys.len() };
                        slab.keys.reserve_exact(more);
                    }
                    slab.keys.push(state);
                }
            }
            if slab.live == u64::MAX {
                self.roomy.pop();
            }
        }
        self.len += 1;
        if named {
            let pointer = Pointer::new(hash, slot);
            self.table.insert_unique(pointer.spread(), pointer, |known| known.spread());
        }
        slot
    }

    /// Gives a slot away.
    pub fn remove(&mut self, hasher: &KeyHasher, slot: u32) {
        let at = slot / SLAB;
        let Some(slab) = self.slabs.get_mut(at as usize) else { return };
        let bit = 1 << (slot % SLAB);
        let Some(state) = slab.keys.get_mut((slot % SLAB) as usize).filter(|_| slab.live & bit != 0) else {
            return;
        };
        if state.named {
            let pointer = Pointer::new(hasher.hash(&state.key), slot);
            if let Ok(found) = self.table.find_entry(pointer.spread(), |known| known.slot == slot) {
                found.remove();
            }
        }
        state.key = KeyBytes::new(&[]);
        state.phase = Phase::None;
        state.window = AnyWindow::Sliding(Window::None);
        self.more -= usize::from(std::mem::take(&mut state.more));
        self.open -= u32::from(std::mem::take(&mut state.open));
        if slab.live == u64::MAX {
            self.roomy.push(at);
        }
        slab.live &= !bit;
        if slab.live == 0 {
            slab.keys = Vec::new();
        }
        self.len -= 1;
        if self.len == 0 {
            (self.table, self.slabs, self.roomy) = (HashTable::new(), Vec::new(), Vec::new());
        } else if self.table.capacity() > 64 && self.table.len() < self.table.capacity() / 4 {
            self.table.shrink_to(self.table.len() * 2, |known| known.spread());
        }
    }

    /// The key in a slot.
    #[inline]
    pub fn get(&self, slot: u32) -> Option<&KeyState> {
        let slab = self.slabs.get((slot / SLAB) as usize)?;
        let place = slot % SLAB;
        slab.keys.get(place as usize).filter(|_| slab.live & (1 << place) != 0)
    }

    /// The key in a slot.
    #[inline]
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut KeyState> {
        let slab = self.slabs.get_mut((slot / SLAB) as usize)?;
        let place = slot % SLAB;
        slab.keys.get_mut(place as usize).filter(|_| slab.live & (1 << place) != 0)
    }

    /// All slots in use.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &KeyState)> {
        let slabs = self.slabs.iter().zip((0..).step_by(SLAB as usize));
        slabs.flat_map(|(slab, first)| {
            let live = slab.keys.iter().zip(0..).filter(|(_, place)| slab.live & (1 << place) != 0);
            live.map(move |(state, place)| (first + place, state))
        })
    }

    /// Gives away what can be forgotten.
    pub fn sweep(&mut self, hasher: &KeyHasher, free: impl Fn(&KeyState) -> bool) {
        let gone: Vec<u32> = self.iter().filter(|(_, state)| free(state)).map(|(slot, _)| slot).collect();
        for slot in gone {
            self.remove(hasher, slot);
        }
    }

    /// Bytes set aside for keys, without what their windows and episodes hold beside them.
    #[cfg(test)]
    pub fn room(&self) -> usize {
        let slabs: usize = self.slabs.iter().map(|slab| slab.keys.capacity() * size_of::<KeyState>()).sum();
        slabs + self.table.capacity() * size_of::<Pointer>() + self.slabs.capacity() * size_of::<Slab>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_follows_the_number_of_keys_down() {
        let (hasher, mut keys) = (KeyHasher::new(&[7; 32]), Keys::default());
        let key = |n: u32| n.to_le_bytes();
        let insert = |keys: &mut Keys, n: u32| {
            keys.insert(hasher.hash(&key(n)), &key(n), true, AnyWindow::Sliding(Window::None))
        };
        let slots: Vec<_> = (0..10_000).map(|n| insert(&mut keys, n)).collect();
        let full = keys.room();
        slots.iter().take(9_900).for_each(|slot| keys.remove(&hasher, *slot));
        assert!(keys.room() < full / 10, "{} of {full}", keys.room());
        assert!((9_900..10_000).all(|n| keys.find(hasher.hash(&key(n)), &key(n)) == Some(slots[n as usize])));
        assert!((0..9_900).all(|n| keys.find(hasher.hash(&key(n)), &key(n)).is_none()));
        let again = insert(&mut keys, 1);
        assert_eq!(keys.iter().count(), 101);
        keys.remove(&hasher, again);
        slots.iter().for_each(|slot| keys.remove(&hasher, *slot));
        assert_eq!((keys.len(), keys.room()), (0, 0));
    }
}
