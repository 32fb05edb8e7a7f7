//! The distinct values that an event brings to `value_count`.
//!
//! In: encoded cells. Out: keyed hashes of their values.
//! Invariant: text that is equal and numbers that are equal are one value, text and numbers never; a product is bounded.

use smallvec::SmallVec;
use vedette_event::{Cell, Kind, cell::number};

use crate::codec::{ByteReader, KeyHasher, write_varint};

/// In place of a kind: the hashes of a slot's values follow, which are all that is asked of a long text or list.
pub const HASHED: u8 = u8::MAX;

/// Appends the hashes of a cell's values, each once, no more than `most`.
pub fn write_values(out: &mut Vec<u8>, cell: Cell<'_>, hasher: &KeyHasher, most: usize) {
    let values = distinct(elements(cell.kind, cell.text, hasher));
    let values = values.get(..most).unwrap_or(&values);
    out.push(HASHED);
    write_varint(out, size_of_val(values) as u64);
    values.iter().for_each(|value| out.extend(value.to_le_bytes()));
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
    let mut reader = ByteReader::new(cell);
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
    use crate::intake::payload::write_cell;

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
