//! JSON string contents to text, and back.
//!
//! In: what stands between the quotes of a string that the scanner has accepted. Out: the text it means. Or a text as a string.

/// Appends the text of an escaped string to `out`. Escapes that are no escapes (the scanner refuses them) are kept as they are.
pub fn unescape(raw: &str, out: &mut String) {
    out.reserve(raw.len());
    let mut rest = raw;
    loop {
        let at = first(rest.as_bytes(), 0, |byte| byte == b'\\');
        if at == rest.len() {
            break;
        }
        out.push_str(&rest[..at]);
        let tail = &rest[at..];
        let (c, used) = escape(tail.as_bytes()).unwrap_or(('\\', 1));
        out.push(c);
        rest = &tail[used..];
    }
    out.push_str(rest);
}

/// Appends a text as a JSON string.
pub fn quote(text: &str, out: &mut String) {
    out.push('"');
    let (mut at, mut copied) = (0, 0);
    loop {
        at = first(text.as_bytes(), at, |byte| (byte == b'"') | (byte == b'\\') | (byte < 0x20));
        out.push_str(text.get(copied..at).unwrap_or_default());
        let Some(&special) = text.as_bytes().get(at) else { break };
        match special {
            b'"' | b'\\' => out.extend(['\\', char::from(special)]),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            control => {
                let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('0');
                out.push_str("\\u00");
                out.extend([digit(control >> 4), digit(control & 15)]);
            }
        }
        at += 1;
        copied = at;
    }
    out.push('"');
}

/// The first position from `at` on of a byte that is looked for, or the end.
#[inline]
pub fn first(bytes: &[u8], at: usize, wanted: impl Fn(u8) -> bool) -> usize {
    let mut at = at;
    // Sixteen at a time, in a shape that becomes vector instructions.
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<16>()) {
        let mut hits = [0_u8; 16];
        for (hit, &byte) in hits.iter_mut().zip(chunk) {
            *hit = if wanted(byte) { 0xFF } else { 0 };
        }
        let hits = u128::from_le_bytes(hits);
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 16;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|&byte| wanted(byte)).unwrap_or(rest.len())
}

/// Reads one escape at the start of `bytes`: the character it means and how many bytes it takes.
/// `None` if it is none, or half of a surrogate pair alone.
#[must_use]
pub fn escape(bytes: &[u8]) -> Option<(char, usize)> {
    let simple = match bytes.get(1)? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode_escape(bytes),
        _ => return None,
    };
    Some((simple, 2))
}

fn unicode_escape(bytes: &[u8]) -> Option<(char, usize)> {
    let first = hex4(bytes.get(2..6)?)?;
    if !(0xD800..0xDC00).contains(&first) {
        return char::from_u32(first).map(|c| (c, 6));
    }
    if bytes.get(6..8)? != b"\\u" {
        return None;
    }
    let second = hex4(bytes.get(8..12)?)?;
    if !(0xDC00..0xE000).contains(&second) {
        return None;
    }
    char::from_u32(0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00)).map(|c| (c, 12))
}

fn hex4(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |n, &b| Some(n * 16 + char::from(b).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn escapes_mean_what_json_says() {
        let raw = r#"a\"b\\c\/d\b\f\n\r\t\u00e9\uD83D\uDE00 end"#;
        let mut text = String::new();
        unescape(raw, &mut text);
        assert_eq!(text, serde_json::from_str::<String>(&format!("\"{raw}\"")).unwrap());
    }

    #[test]
    fn a_text_comes_back_from_its_string() {
        let all: String = (0..300).filter_map(char::from_u32).chain("\u{1f600}\"\\".chars()).collect();
        for text in [all.as_str(), "", "plain", "\""] {
            let mut quoted = String::new();
            quote(text, &mut quoted);
            assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), text);
        }
    }

    #[test]
    fn half_a_surrogate_pair_is_no_escape() {
        for raw in [r"\ud800", r"\udc00", r"\ud800\u0041", r"\ud800x", r"\x", r"\u12", r"\u12g4", r"\"] {
            assert_eq!(escape(raw.as_bytes()), None, "{raw}");
        }
    }
}
