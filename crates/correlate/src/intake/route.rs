//! To which key groups an event goes for a tree.
//!
//! In: a payload. Out: key groups, each with what of the payload concerns it.
//! Invariants: events that may meet at a key go to one group; an event goes to a group once, with all the rules it matched whose keys
//! lie there; one without any whole key goes to none.

use smallvec::SmallVec;

use super::payload::{Payload, write_matched};
use crate::{
    GROUPS,
    codec::KeyHasher,
    plan::{NodeInput, Route, Tree},
};

/// A key group that an event goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    pub group: u8,
    /// Hash of the key, if it is known to be the only one there.
    pub hash: Option<u64>,
    /// The matched rules that have a key there; `None` for all.
    pub matched: Option<SmallVec<[u16; 4]>>,
}

/// Key group of what has this hash.
#[inline]
pub const fn group_of(hash: u64) -> u8 {
    ((hash >> 40) % GROUPS as u64) as u8
}

/// Where an event goes. `key` is memory to work in.
#[inline]
pub fn destinations(
    hasher: &KeyHasher,
    tree: &Tree,
    bytes: &[u8],
    key: &mut Vec<u8>,
) -> SmallVec<[Destination; 1]> {
    let payload = Payload::read(bytes, tree);
    if tree.single() {
        let hash = hasher.hash(payload.entity.unwrap_or_default());
        return smallvec::smallvec![Destination { group: group_of(hash), hash: Some(hash), matched: None }];
    }
    match &tree.route {
        Route::Key => by_keys(hasher, tree, &payload, key),
        Route::Shared(slots) => {
            let mut recipes = tree.nodes.iter().flat_map(|node| &node.recipes);
            let whole = recipes.any(|recipe| {
                key.clear();
                payload.key(recipe, key).is_some()
            });
            key.clear();
            if !whole || payload.key(slots, key).is_none() {
                return SmallVec::new();
            }
            let group = group_of(hasher.hash(key));
            smallvec::smallvec![Destination { group, hash: None, matched: None }]
        }
    }
}

/// Each key that a matched rule gives in a tree of one rule.
fn by_keys(
    hasher: &KeyHasher,
    tree: &Tree,
    payload: &Payload<'_>,
    key: &mut Vec<u8>,
) -> SmallVec<[Destination; 1]> {
    let mut found: SmallVec<[Destination; 1]> = SmallVec::new();
    let Some(node) = tree.nodes.first() else { return found };
    for (at, recipe) in node.recipes.iter().enumerate() {
        let of_recipe = node.refs.iter().filter(|r| r.recipe == at);
        let mut bits = of_recipe.filter_map(|r| match r.from {
            NodeInput::Detection(bit) if payload.matched.contains(&bit) => Some(bit),
            _ => None,
        });
        key.clear();
        let Some(first) = bits.next().filter(|_| payload.key(recipe, key).is_some()) else { continue };
        let hash = hasher.hash(key);
        let group = group_of(hash);
        if node.recipes.len() == 1 {
            found.push(Destination { group, hash: Some(hash), matched: None });
            return found;
        }
        let bits = std::iter::once(first).chain(bits);
        match found.iter_mut().find(|known| known.group == group) {
            Some(known) => {
                known.matched.get_or_insert_default().extend(bits);
            }
            None => found.push(Destination { group, hash: None, matched: Some(bits.collect()) }),
        }
    }
    if let [only] = &mut found[..] {
        only.matched = None;
    }
    for known in &mut found {
        known.matched.iter_mut().for_each(|bits| bits.sort_unstable());
    }
    found
}

/// Writes the payload of an event for a group that not all of its rules have a key in.
pub fn write_part(payload: &[u8], tree: &Tree, matched: &[u16], out: &mut Vec<u8>) {
    out.clear();
    write_matched(out, matched.iter().copied());
    out.extend_from_slice(Payload::read(payload, tree).rest);
}
