//! The order of keys: which key followed which one in the records before.
//!
//! In: the keys of wanted objects as they come. Out: a guess of the next one with what is wanted of it, so that a
//! comparison stands for finding the key's end and hashing it.
//! Invariants: a guess is only ever compared, so results never depend on what came before; at most [`MAX_KEYS`] keys
//! are remembered, and they are found by a keyed hash.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::select::Selection;

/// Keys remembered at most.
const MAX_KEYS: usize = 4_096;
/// Longer keys are not remembered.
const MAX_KEY_BYTES: usize = 128;
/// No key, or nothing wanted.
const NONE: u32 = u32::MAX;

/// One key of one wanted object.
#[derive(Debug)]
struct Key {
    /// As it stands in a record that has no blank before the colon, from after the first quote: `name":`.
    spelling: Box<str>,
    /// The entry of the selection.
    entry: u32,
    /// The key that came after it the last time.
    next: u32,
}

/// What was learned of a source's records.
#[derive(Debug)]
pub struct KeyOrder {
    /// First a nameless one for the beginning of each node's object, then keys.
    keys: Vec<Key>,
    /// By node.
    found: Vec<HashMap<Box<str>, u32, FixedState>>,
}

impl KeyOrder {
    /// Nothing is known yet; `seed` keys the hashes.
    #[must_use]
    pub fn new(selection: &Selection, seed: u64) -> Self {
        let begin = || Key { spelling: "".into(), entry: NONE, next: NONE };
        Self {
            keys: (0..selection.nodes()).map(|_| begin()).collect(),
            found: (0..selection.nodes())
                .map(|_| HashMap::with_hasher(FixedState::with_seed(seed)))
                .collect(),
        }
    }

    /// How many bytes the guessed key with quote and colon takes and what is wanted of it, if it is what comes;
    /// `last` is the key before (at the beginning the node) and becomes this one.
    #[inline]
    pub fn guess(&self, last: &mut u32, rest: &[u8]) -> Option<(usize, Option<u32>)> {
        let next = self.keys.get(*last as usize)?.next;
        let key = self.keys.get(next as usize)?;
        let spelling = key.spelling.as_bytes();
        if rest.get(..spelling.len())? != spelling {
            return None;
        }
        *last = next;
        Some((spelling.len(), (key.entry != NONE).then_some(key.entry)))
    }

    /// What is wanted of a key that was not guessed; it is remembered for the next time if `plain`ly spelled.
    pub fn look_up(
        &mut self,
        selection: &Selection,
        node: u32,
        name: &str,
        plain: bool,
        last: &mut u32,
    ) -> Option<u32> {
        let known = self.found.get(node as usize).and_then(|keys| keys.get(name).copied());
        let at = match known {
            Some(at) => at,
            None if plain && name.len() <= MAX_KEY_BYTES && self.keys.len() < MAX_KEYS => {
                let entry = selection.entry(node, name).unwrap_or(NONE);
                let at = self.keys.len() as u32;
                self.keys.push(Key { spelling: format!("{name}\":").into(), entry, next: NONE });
                if let Some(keys) = self.found.get_mut(node as usize) {
                    keys.insert(name.into(), at);
                }
                at
            }
            None => return selection.entry(node, name),
        };
        if let Some(before) = self.keys.get_mut(*last as usize) {
            before.next = at;
        }
        *last = at;
        self.keys.get(at as usize).map(|key| key.entry).filter(|entry| *entry != NONE)
    }
}
