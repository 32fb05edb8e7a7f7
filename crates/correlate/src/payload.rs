//! What a tree keeps of an event while it waits: the rules matched and the cells of its slots, in a few bytes.
//!
//! In: cells of a batch, by [`crate::extract`]. Out: [`Payload`], keys, key groups, hashes of values.
//! Layout: the number of matched detections and each of them, then per slot its kind code and text, or [`HASHED`] and the
//! hashes of its values; of a single-event rule only the key: 0 for none, or 1, the number of the name, kind and text. Keys
//! are the same bytes, part after part.

use smallvec::SmallVec;
use vedette_event::{Cell, Kind, batch::number};

use crate::{
    GROUPS,
    codec::{KeyHasher, Reader, write_bytes, write_varint},
    plan::{From, Node, Tree},
};

/// In place of a kind: the hashes of a slot's values follow, which are all that is asked of a long text or list.
const HASHED: u8 = u8::MAX;

/// A payload, read in place.
#[derive(Debug, Default)]
pub struct Payload<'a> {
    /// Numbers of the detections matched.
    pub matched: SmallVec<[u16; 8]>,
    /// One encoded cell a slot.
    pub slots: SmallVec<[&'a [u8]; 8]>,
    /// The key of a single-event rule.
    pub entity: Option<&'a [u8]>,
}

impl<'a> Payload<'a> {
    /// Reads what `crate::extract` wrote for this tree.
    #[inline]
    pub fn read(bytes: &'a [u8], tree: &Tree) -> Self {
        let mut payload = Self::default();
        let mut reader = Reader::new(bytes);
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

/// Appends the hashes of a cell's values, each once, no more than `most`.
pub fn write_values(out: &mut Vec<u8>, cell: Cell<'_>, hasher: &KeyHasher, most: usize) {
    let values = distinct(elements(cell.kind, cell.text, hasher));
    let values = values.get(..most).unwrap_or(&values);
    out.push(HASHED);
    write_varint(out, size_of_val(values) as u64);
    values.iter().for_each(|value| out.extend(value.to_le_bytes()));
}

/// Appends the number of matched detections and each of them.
pub fn write_matched(out: &mut Vec<u8>, bits: impl ExactSizeIterator<Item = u16>) {
    write_varint(out, bits.len() as u64);
    for bit in bits {
        write_varint(out, u64::from(bit));
    }
}

/// The key group of a key with this hash.
#[inline]
pub fn group(hasher: &KeyHasher, node: &Node, key: &[u8], hash: u64) -> u8 {
    let hash = match &node.route {
        None => hash,
        Some(route) => {
            let mut reader = Reader::new(key);
            let mut parts = SmallVec::<[&[u8]; 4]>::new();
            while reader.left() > 0 {
                let start = key.len() - reader.left();
                if reader.byte().is_none() || reader.bytes().is_none() {
                    break;
                }
                parts.extend(key.get(start..key.len() - reader.left()));
            }
            let mut bytes = SmallVec::<[u8; 64]>::new();
            for part in route.iter().filter_map(|at| parts.get(*at)) {
                bytes.extend_from_slice(part);
            }
            hasher.hash(&bytes)
        }
    };
    ((hash >> 40) % u64::from(GROUPS)) as u8
}

/// The key groups an event can concern (none if every key lacks a part), and the hash of the last key.
pub fn groups(hasher: &KeyHasher, tree: &Tree, bytes: &[u8], key: &mut Vec<u8>) -> (SmallVec<[u8; 2]>, u64) {
    let payload = Payload::read(bytes, tree);
    let mut found = SmallVec::new();
    let mut last = 0;
    let mut add = |node: &Node, key: &[u8]| {
        last = hasher.hash(key);
        let group = group(hasher, node, key, last);
        if !found.contains(&group) {
            found.push(group);
        }
    };
    if let [node] = &tree.nodes[..] {
        if tree.single() {
            add(node, payload.entity.unwrap_or_default());
            return (found, last);
        }
        for (at, recipe) in node.recipes.iter().enumerate() {
            let gives = |r: &crate::plan::Ref| {
                r.recipe == at && matches!(r.from, From::Detection(bit) if payload.matched.contains(&bit))
            };
            key.clear();
            if node.refs.iter().any(gives) && payload.key(recipe, key).is_some() {
                add(node, key);
            }
        }
        return (found, last);
    }
    // All nodes share the fields that decide the group: whichever key is whole tells.
    for node in &tree.nodes {
        let whole = node.recipes.iter().any(|recipe| {
            key.clear();
            payload.key(recipe, key).is_some()
        });
        if whole {
            add(node, key);
            return (found, last);
        }
    }
    (found, last)
}

/// Hashes of an event's values, each once: elements of lists, products of fields. No more than `most`, which is more than
/// the condition or the body can tell apart.
pub fn values<'a>(
    cells: impl Iterator<Item = &'a &'a [u8]>,
    hasher: &KeyHasher,
    most: usize,
    out: &mut Vec<u64>,
) {
    let mut tuples: SmallVec<[u64; 4]> = SmallVec::new();
    for (at, cell) in cells.enumerate() {
        let of_field = of_cell(cell, hasher);
        if of_field.is_empty() {
            return;
        }
        if at == 0 {
            tuples = of_field;
            continue;
        }
        let pairs = tuples.iter().flat_map(|tuple| of_field.iter().map(move |element| (tuple, element)));
        let product = pairs.take(most).map(|(tuple, element)| {
            let mut pair = [0; 16];
            pair[..8].copy_from_slice(&tuple.to_le_bytes());
            pair[8..].copy_from_slice(&element.to_le_bytes());
            hasher.hash(&pair)
        });
        tuples = product.collect();
    }
    out.extend(tuples.iter().take(most));
}

/// Each value once.
fn distinct(mut values: SmallVec<[u64; 4]>) -> SmallVec<[u64; 4]> {
    if values.len() > 1 {
        let mut seen = hashbrown::HashTable::with_capacity(values.len());
        values.retain(|value| {
            let known = seen.find(*value, |other| other == value).is_some();
            if !known {
                seen.insert_unique(*value, *value, |value| *value);
            }
            !known
        });
    }
    values
}

/// Hashes of the values in a slot, each once.
fn of_cell(cell: &[u8], hasher: &KeyHasher) -> SmallVec<[u64; 4]> {
    let mut reader = Reader::new(cell);
    let code = reader.byte().unwrap_or_default();
    let bytes = reader.bytes().unwrap_or_default();
    if code == HASHED {
        return bytes.as_chunks().0.iter().map(|hash| u64::from_le_bytes(*hash)).collect();
    }
    distinct(elements(Kind::from_code(code), std::str::from_utf8(bytes).unwrap_or_default(), hasher))
}

/// Hashes of the values of one field of an event.
fn elements(kind: Kind, text: &str, hasher: &KeyHasher) -> SmallVec<[u64; 4]> {
    let hash = |kind: Kind, text: &str| {
        let class = if kind == Kind::Float { Kind::Int } else { kind };
        let mut bytes: SmallVec<[u8; 64]> = SmallVec::new();
        bytes.push(class as u8);
        bytes.extend_from_slice(text.as_bytes());
        hasher.hash(&bytes)
    };
    match kind {
        Kind::Missing | Kind::Null | Kind::Object => SmallVec::new(),
        Kind::Text | Kind::Int | Kind::Float | Kind::Bool => smallvec::smallvec![hash(kind, text)],
        Kind::List => split(text)
            .into_iter()
            .filter_map(|element| match element.as_bytes().first()? {
                b'"' => serde_json::from_str::<String>(element).ok().map(|text| hash(Kind::Text, &text)),
                b't' | b'f' => Some(hash(Kind::Bool, element)),
                b'-' | b'0'..=b'9' => number(element).map(|(kind, text)| hash(kind, &text)),
                _ => None,
            })
            .collect(),
    }
}

/// The elements of a JSON list, as they are written.
fn split(list: &str) -> Vec<&str> {
    let Some(inner) = list.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else {
        return Vec::new();
    };
    let (mut found, mut start, mut depth, mut quoted, mut escaped) = (Vec::new(), 0, 0_usize, false, false);
    for (at, byte) in inner.bytes().enumerate() {
        if quoted {
            (quoted, escaped) = (escaped || byte != b'"', !escaped && byte == b'\\');
            continue;
        }
        match byte {
            b'"' => quoted = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                found.push(inner[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(inner[start..].trim());
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 1_001;

    fn count(fields: &[(Kind, &str)]) -> usize {
        let cells: Vec<Vec<u8>> = fields
            .iter()
            .map(|(kind, text)| {
                let mut cell = Vec::new();
                write_cell(&mut cell, *kind, text);
                cell
            })
            .collect();
        let cells: Vec<&[u8]> = cells.iter().map(Vec::as_slice).collect();
        let mut out = Vec::new();
        values(cells.iter(), &KeyHasher::new(&[7; 32]), MOST, &mut out);
        out.len()
    }

    #[test]
    fn lists_give_their_elements_and_several_fields_their_product() {
        assert_eq!(count(&[(Kind::Text, "a")]), 1);
        assert_eq!(count(&[(Kind::List, r#"["a", "b,]", "a", null, {"x": [1, 2]}, 5, 5.0, true]"#)]), 4);
        assert_eq!(count(&[(Kind::List, "[1,2,3]"), (Kind::List, r#"["x\"","y"]"#)]), 6);
        assert_eq!(count(&[(Kind::List, "[1,2]"), (Kind::Null, "")]), 0);
        assert_eq!(count(&[(Kind::List, "[]")]), 0);
        assert_eq!(count(&[(Kind::List, "[null]")]), 0);
        assert_eq!(count(&[(Kind::Object, r#"{"a":1}"#)]), 0);
    }

    #[test]
    fn a_product_is_bounded() {
        let list = serde_json::to_string(&(0..200).collect::<Vec<_>>()).unwrap_or_default();
        assert_eq!(count(&[(Kind::List, &list), (Kind::List, &list)]), MOST);
    }

    #[test]
    fn hashes_say_what_long_values_say() {
        let hasher = KeyHasher::new(&[7; 32]);
        let text = "x".repeat(5_000);
        let list = serde_json::to_string(&[text.as_str(), "a", "b", "a"]).unwrap_or_default();
        for (kind, text, most, n) in
            [(Kind::Text, &text, MOST, 1), (Kind::List, &list, MOST, 3), (Kind::List, &list, 2, 2)]
        {
            let (mut written, mut hashed) = (Vec::new(), Vec::new());
            write_cell(&mut written, kind, text);
            write_values(&mut hashed, Cell { kind, text }, &hasher, most);
            assert_eq!(hashed.len(), 2 + 8 * n);
            assert_eq!(of_cell(&hashed, &hasher).as_slice(), &of_cell(&written, &hasher)[..n]);
        }
        // A long text is one value, alone or in a list.
        assert_eq!(elements(Kind::Text, &text, &hasher)[0], elements(Kind::List, &list, &hasher)[0]);
    }

    #[test]
    fn padding_hides_no_value() {
        let mut list = vec!["a"; 5_000];
        list.push("b");
        assert_eq!(count(&[(Kind::List, &serde_json::to_string(&list).unwrap_or_default())]), 2);
    }

    #[test]
    fn numbers_and_text_are_never_one_value() {
        let hasher = KeyHasher::new(&[7; 32]);
        let one = |kind, text| elements(kind, text, &hasher);
        assert_ne!(one(Kind::Int, "5"), one(Kind::Text, "5"));
        assert_eq!(one(Kind::List, "[5.0]"), one(Kind::Int, "5"));
    }
}
