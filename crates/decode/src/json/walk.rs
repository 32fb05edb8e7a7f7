//! Walking over JSON that the scanner has accepted: the parts of a list or an object.
//!
//! In: the raw text of a value. Out: where its parts lie in it. On text that is not valid the walk ends early.

use std::ops::Range;

use super::text::{first, unescape};

/// The elements of a list, as raw text.
pub fn elements(list: &str) -> impl Iterator<Item = &str> {
    ranges(list, b'[').filter_map(|range| list.get(range))
}

/// Where the elements of a list (`open` is `[`) or the names and values of an object (`{`), in turn, lie.
pub fn ranges(container: &str, open: u8) -> impl Iterator<Item = Range<usize>> {
    let bytes = container.as_bytes();
    let mut at = usize::from(bytes.first() == Some(&open));
    let valid = at == 1;
    std::iter::from_fn(move || {
        let start = next(bytes, at).filter(|_| valid)?;
        at = end(bytes, start);
        (at > start).then_some(start..at)
    })
}

/// Where the part begins that follows the one that ended at `at`, or the opening bracket; `None` after the last one.
#[must_use]
pub fn next(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at;
    while let Some(b' ' | b'\t' | b'\n' | b'\r' | b',' | b':') = bytes.get(at) {
        at += 1;
    }
    (!matches!(bytes.get(at)?, b']' | b'}')).then_some(at)
}

/// The next member of an object, from `at` on: where its name lies, without quotes, and where its value begins.
#[must_use]
pub fn next_member(bytes: &[u8], at: usize) -> Option<(Range<usize>, usize)> {
    let name = next(bytes, at).filter(|name| bytes.get(*name) == Some(&b'"'))?;
    let name_end = end(bytes, name);
    Some((name + 1..name_end.saturating_sub(1), next(bytes, name_end)?))
}

/// Where a list or an object ends whose last part ended at `at`.
#[must_use]
pub fn close(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    let bracket = rest.iter().position(|byte| matches!(byte, b']' | b'}'));
    bracket.map_or(bytes.len(), |bracket| at + bracket + 1)
}

/// Where the names (without quotes) and the values of an object lie.
pub fn members(object: &str) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let mut parts = ranges(object, b'{');
    std::iter::from_fn(move || {
        let (name, value) = (parts.next()?, parts.next()?);
        (name.len() >= 2).then(|| (name.start + 1..name.end - 1, value))
    })
}

/// The raw value of an object's last member of this name.
#[must_use]
pub fn member<'a>(object: &'a str, wanted: &str) -> Option<&'a str> {
    let (_, value) = members(object).filter(|(name, _)| object.get(name.clone()) == Some(wanted)).last()?;
    object.get(value)
}

/// The text of a raw string value; `None` for other values.
#[must_use]
pub fn text<'a>(value: &'a str, scratch: &'a mut String) -> Option<&'a str> {
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(inner);
    }
    scratch.clear();
    unescape(inner, scratch);
    Some(scratch)
}

/// The end of the value that begins at `at`.
#[must_use]
pub fn end(bytes: &[u8], at: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = at;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => at = string_end(bytes, at + 1),
            b'{' | b'[' => {
                depth += 1;
                at += 1;
                continue;
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' => {
                at += 1;
                continue;
            }
            _ => {
                while bytes.get(at).is_some_and(|b| !b", \t\r\n]}:\"[{".contains(b)) {
                    at += 1;
                }
            }
        }
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

/// The position after the closing quote of a string whose first byte is at `at`.
fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut at = at;
    loop {
        at = first(bytes, at, |byte| (byte == b'"') | (byte == b'\\'));
        match bytes.get(at) {
            Some(b'"') => return at + 1,
            Some(_) => at += 2,
            None => return bytes.len(),
        }
    }
}

/// Appends a value without the blanks between its parts; all else stays byte for byte.
pub fn compact(value: &str, out: &mut String) {
    let bytes = value.as_bytes();
    let (mut at, mut copied) = (0, 0);
    loop {
        at = first(bytes, at, |byte| (byte == b'"') | (byte <= b' '));
        match bytes.get(at) {
            Some(b'"') => at = string_end(bytes, at + 1),
            Some(_) => {
                out.push_str(value.get(copied..at).unwrap_or_default());
                while bytes.get(at).is_some_and(|byte| *byte <= b' ') {
                    at += 1;
                }
                copied = at;
            }
            None => break,
        }
    }
    out.push_str(value.get(copied..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn parts_are_found_at_their_level() {
        let list = r#"[ 1 , "a,]\"" ,[2,{"x":3}], {} ,null]"#;
        let parts: Vec<_> = elements(list).collect();
        assert_eq!(parts, ["1", r#""a,]\"""#, r#"[2,{"x":3}]"#, "{}", "null"]);
        let object = r#"{"a":1, "b" : {"a":2},"a":"\u0078"}"#;
        let mut scratch = String::new();
        assert_eq!(text(member(object, "a").unwrap(), &mut scratch), Some("x"));
        assert_eq!(member(object, "b"), Some(r#"{"a":2}"#));
        assert_eq!(member(object, "c"), None);
        assert_eq!(members("{}").count(), 0);
        assert_eq!(elements("[]").count(), 0);
    }

    #[test]
    fn invalid_text_ends_the_walk() {
        for text in ["", "x", "{", "[", "{\"a\"", "[1", "[\"a", "[\"\\", "[}", "{:,"] {
            let _ = (elements(text).count(), members(text).count());
        }
    }
}
