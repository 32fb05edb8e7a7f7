//! Walking over JSON that the scanner has accepted: the parts of a list or an object.
//!
//! In: the raw text of a value. Out: where its parts lie in it. On text that is not valid the walk ends early.

use std::ops::Range;

use super::text::unescape;

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
        while let Some(b' ' | b'\t' | b'\n' | b'\r' | b',' | b':') = bytes.get(at) {
            at += 1;
        }
        if !valid || matches!(bytes.get(at)?, b']' | b'}') {
            return None;
        }
        let start = at;
        at = end(bytes, at);
        (at > start).then_some(start..at)
    })
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
fn end(bytes: &[u8], at: usize) -> usize {
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
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
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
