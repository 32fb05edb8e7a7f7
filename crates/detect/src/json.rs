//! JSON texts read in place: the elements of a list, and all strings of a record.
//!
//! In: raw JSON that a decoder has accepted. Out: calls with unescaped texts. Never panics or recurses; what is no JSON
//! ends the walk.

use vedette_event::cell::number;

/// Calls `each` with the text of every scalar element of a list: strings unescaped, numbers canonical.
pub(crate) fn elements(list: &str, scratch: &mut String, mut each: impl FnMut(&str)) {
    let bytes = list.as_bytes();
    let Some(mut at) = bytes.iter().position(|b| *b == b'[').map(|at| at + 1) else { return };
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                let Some(end) = string_end(bytes, at) else { return };
                each(unescape(list.get(at + 1..end).unwrap_or_default(), scratch));
                at = end + 1;
            }
            b'[' | b'{' => match nested_end(bytes, at) {
                Some(end) => at = end,
                None => return,
            },
            b']' => return,
            b',' | b' ' | b'\n' | b'\r' | b'\t' => at += 1,
            _ => {
                let rest = bytes.get(at..).unwrap_or_default();
                let len = rest.iter().position(|b| matches!(b, b',' | b']' | b' ' | b'\n' | b'\r' | b'\t'));
                let end = at + len.unwrap_or(rest.len());
                match list.get(at..end) {
                    Some(word @ ("true" | "false")) => each(word),
                    Some("null") | None => {}
                    Some(digits) => {
                        if let Some((_, text)) = number(digits) {
                            each(&text);
                        }
                    }
                }
                at = end;
            }
        }
    }
}

/// Calls `each` with every string value of a JSON text, at any depth; keys are no values.
pub(crate) fn strings(json: &str, scratch: &mut String, mut each: impl FnMut(&str)) {
    let bytes = json.as_bytes();
    let mut at = 0;
    while let Some(start) = memchr::memchr(b'"', bytes.get(at..).unwrap_or_default()).map(|to| at + to) {
        let Some(end) = string_end(bytes, start) else { return };
        at = end + 1;
        let after = bytes.get(at..).unwrap_or_default();
        let next = after.iter().find(|b| !matches!(b, b' ' | b'\n' | b'\r' | b'\t'));
        if next != Some(&b':') {
            each(unescape(json.get(start + 1..end).unwrap_or_default(), scratch));
        }
    }
}

/// The position of the quote that ends the string which starts at `start`.
fn string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

/// The position after the list or object that starts at `start`.
fn nested_end(bytes: &[u8], start: usize) -> Option<usize> {
    let (mut at, mut depth) = (start, 0_usize);
    loop {
        match bytes.get(at)? {
            b'"' => at = string_end(bytes, at)?,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

/// The text of a JSON string's inside. A lone surrogate becomes U+FFFD, an unknown escape stands for itself.
fn unescape<'t>(inside: &'t str, scratch: &'t mut String) -> &'t str {
    if memchr::memchr(b'\\', inside.as_bytes()).is_none() {
        return inside;
    }
    scratch.clear();
    let mut rest = inside;
    while let Some((before, escape)) = rest.split_once('\\') {
        scratch.push_str(before);
        let mut chars = escape.chars();
        let Some(c) = chars.next() else { return scratch };
        rest = chars.as_str();
        scratch.push(match c {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'u' => unicode(&mut rest),
            other => other,
        });
    }
    scratch.push_str(rest);
    scratch
}

/// The character of `\u` and what follows it; advances past the digits (and a second half).
fn unicode(rest: &mut &str) -> char {
    let unit = |text: &str| text.get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let Some(high) = unit(rest) else { return char::REPLACEMENT_CHARACTER };
    *rest = &rest[4..];
    if let 0xD800..0xDC00 = high
        && let Some(low @ 0xDC00..0xE000) = rest.strip_prefix("\\u").and_then(unit)
    {
        *rest = &rest[6..];
        return char::from_u32(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
            .unwrap_or(char::REPLACEMENT_CHARACTER);
    }
    char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// Whether the text holds an escape that may hide a plain character: `\u` or `\/`.
pub(crate) fn hides_characters(json: &str) -> bool {
    let mut rest = json.as_bytes();
    while let Some(at) = memchr::memchr(b'\\', rest) {
        if matches!(rest.get(at + 1), Some(b'u' | b'/')) {
            return true;
        }
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_strings(json: &str) -> Vec<String> {
        let mut found = Vec::new();
        strings(json, &mut String::new(), |text| found.push(text.to_owned()));
        found
    }

    #[test]
    fn strings_are_values_at_any_depth() {
        let json = r#"{"a":"x", "b" : {"c":["y\"\\", 5, "\u00e9\ud83d\ude00\/"]}, "d":""}"#;
        assert_eq!(all_strings(json), ["x", "y\"\\", "é😀/", ""]);
        assert_eq!(all_strings(r#"{"a":"unterminated\"#), Vec::<String>::new());
    }

    #[test]
    fn elements_are_scalars_of_the_list_itself() {
        let mut found = Vec::new();
        let list = r#" ["a]\n", 5.0, true, null, ["b"], {"c":"]"}, 1e400, -0.5]"#;
        elements(list, &mut String::new(), |text| found.push(text.to_owned()));
        assert_eq!(found, ["a]\n", "5", "true", "-0.5"]);
        for hostile in ["", "[", "[\"", "[\"\\", "[[", "[{\"", "]", "[\u{e9}", "[\"\\u12"] {
            elements(hostile, &mut String::new(), |_| {});
            strings(hostile, &mut String::new(), |_| {});
        }
    }

    #[test]
    fn only_u_and_slash_escapes_hide_characters() {
        assert!(hides_characters(r#""\u0041""#));
        assert!(hides_characters(r#""\\\/""#));
        assert!(!hides_characters(r#""C:\\users\\x\n""#));
    }
}
