//! Text values of rules: wildcards and escapes, dash variants, encodings.
//!
//! In: text as written. Out: [`Pattern`]s and, for encodings, bytes. All pure, none recursive.

use std::sync::Arc;

use crate::{Pattern, Piece};

/// Collects pieces; merges neighbouring literals and neighbouring `Many`.
#[derive(Default)]
pub(crate) struct PatternBuilder {
    pieces: Vec<Piece>,
    literal: String,
}

impl PatternBuilder {
    fn flush(&mut self) {
        if !self.literal.is_empty() {
            self.pieces.push(Piece::Literal(Arc::from(self.literal.as_str())));
            self.literal.clear();
        }
    }

    /// Adds literal text.
    pub fn literal(&mut self, text: &str) {
        self.literal.push_str(text);
    }

    /// Adds a wildcard.
    pub fn wildcard(&mut self, piece: Piece) {
        self.flush();
        if piece != Piece::Many || self.pieces.last() != Some(&Piece::Many) {
            self.pieces.push(piece);
        }
    }

    /// Adds all pieces of another pattern.
    pub fn pattern(&mut self, pattern: &Pattern) {
        for piece in &pattern.0 {
            match piece {
                Piece::Literal(text) => self.literal(text),
                wildcard => self.wildcard(wildcard.clone()),
            }
        }
    }

    /// The pattern.
    pub fn finish(mut self) -> Pattern {
        self.flush();
        Pattern(self.pieces)
    }
}

/// Reads text as written in a rule: `*` and `?` are wildcards, `\` escapes a wildcard or a backslash and is itself before anything else.
pub(crate) fn parse(text: &str) -> Pattern {
    let mut out = PatternBuilder::default();
    let mut chars = text.chars();
    let mut buffer = [0; 4];
    while let Some(c) = chars.next() {
        match c {
            '*' => out.wildcard(Piece::Many),
            '?' => out.wildcard(Piece::One),
            '\\' => match chars.clone().next() {
                Some(next @ ('*' | '?' | '\\')) => {
                    chars.next();
                    out.literal(next.encode_utf8(&mut buffer));
                }
                _ => out.literal("\\"),
            },
            other => out.literal(other.encode_utf8(&mut buffer)),
        }
    }
    out.finish()
}

/// A pattern of one literal.
pub(crate) fn literal(text: &str) -> Pattern {
    let mut out = PatternBuilder::default();
    out.literal(text);
    out.finish()
}

/// The pattern with `Many` before and after it as asked.
pub(crate) fn surround(pattern: &Pattern, before: bool, after: bool) -> Pattern {
    let mut out = PatternBuilder::default();
    if before {
        out.wildcard(Piece::Many);
    }
    out.pattern(pattern);
    if after {
        out.wildcard(Piece::Many);
    }
    out.finish()
}

/// The text of a pattern without wildcards.
pub(crate) fn plain_text(pattern: &Pattern) -> Option<String> {
    let mut text = String::new();
    for piece in &pattern.0 {
        match piece {
            Piece::Literal(part) => text.push_str(part),
            Piece::One | Piece::Many => return None,
        }
    }
    Some(text)
}

/// The characters that Windows programs take for the dash of an option.
const DASHES: [&str; 5] = ["-", "/", "–", "—", "―"];

/// A stretch of a pattern between two dashes of options.
enum Stretch<'a> {
    Text(&'a str),
    Wildcard(&'a Piece),
    Dash,
}

/// How many variants [`windash`] makes, if that is a number.
pub(crate) fn windash_variants(pattern: &Pattern) -> Option<usize> {
    let dashes = stretches(pattern).iter().filter(|s| matches!(s, Stretch::Dash)).count();
    DASHES.len().checked_pow(u32::try_from(dashes).ok()?)
}

/// The pattern with each `-` or `/` that begins a word after no word replaced by each of the five dashes, in all combinations.
///
/// Check [`windash_variants`] first.
pub(crate) fn windash(pattern: &Pattern) -> Vec<Pattern> {
    let stretches = stretches(pattern);
    let variant = |mut n: usize| {
        let mut out = PatternBuilder::default();
        for stretch in &stretches {
            match stretch {
                Stretch::Text(text) => out.literal(text),
                Stretch::Wildcard(piece) => out.wildcard((*piece).clone()),
                Stretch::Dash => {
                    out.literal(DASHES[n % DASHES.len()]);
                    n /= DASHES.len();
                }
            }
        }
        out.finish()
    };
    (0..windash_variants(pattern).unwrap_or(0)).map(variant).collect()
}

fn stretches(pattern: &Pattern) -> Vec<Stretch<'_>> {
    let mut stretches = Vec::new();
    for piece in &pattern.0 {
        match piece {
            Piece::Literal(text) => split_at_dashes(text, &mut stretches),
            wildcard => stretches.push(Stretch::Wildcard(wildcard)),
        }
    }
    stretches
}

fn split_at_dashes<'a>(text: &'a str, out: &mut Vec<Stretch<'a>>) {
    let mut start = 0;
    let mut previous = None;
    for (at, c) in text.char_indices() {
        let next = text.get(at + c.len_utf8()..).and_then(|tail| tail.chars().next());
        if matches!(c, '-' | '/') && !previous.is_some_and(word) && next.is_some_and(word) {
            out.push(Stretch::Text(text.get(start..at).unwrap_or("")));
            out.push(Stretch::Dash);
            start = at + 1;
        }
        previous = Some(c);
    }
    out.push(Stretch::Text(text.get(start..).unwrap_or("")));
}

fn word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// UTF-16 in one of its byte orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Utf16 {
    /// Little-endian behind a byte order mark.
    Marked,
    /// Little-endian.
    Little,
    /// Big-endian.
    Big,
}

/// The text's bytes in UTF-16.
pub(crate) fn utf16(text: &str, order: Utf16) -> Vec<u8> {
    let mark = if order == Utf16::Marked { vec![0xff, 0xfe] } else { Vec::new() };
    let units = text.encode_utf16().flat_map(|unit| match order {
        Utf16::Big => unit.to_be_bytes(),
        Utf16::Marked | Utf16::Little => unit.to_le_bytes(),
    });
    mark.into_iter().chain(units).collect()
}

/// Base64 with padding (RFC 4648, section 4).
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let symbol = ALPHABET[(group >> (18 - 6 * at) & 63) as usize];
            out.push(if at > chunk.len() { '=' } else { char::from(symbol) });
        }
    }
    out
}

/// The three texts of which one is in every base64 text whose content holds these bytes: only the symbols that the bytes alone decide.
pub(crate) fn base64_offsets(bytes: &[u8]) -> Vec<String> {
    const START: [usize; 3] = [0, 2, 3];
    const END: [usize; 3] = [0, 3, 2];
    (0..3)
        .map(|offset| {
            let mut shifted = vec![b' '; offset];
            shifted.extend_from_slice(bytes);
            let whole = base64(&shifted);
            let end = whole.len() - END[(bytes.len() + offset) % 3];
            whole.get(START[offset]..end).unwrap_or("").to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rstest::rstest;

    use super::*;

    fn show(pattern: &Pattern) -> String {
        let piece = |p: &Piece| match p {
            Piece::Literal(text) => format!("[{text}]"),
            Piece::One => "?".to_owned(),
            Piece::Many => "*".to_owned(),
        };
        pattern.0.iter().map(piece).collect()
    }

    #[rstest]
    #[case("", "")]
    #[case("abc", "[abc]")]
    #[case("a*b?c", "[a]*[b]?[c]")]
    #[case("**a", "*[a]")]
    #[case(r"\*", "[*]")]
    #[case(r"\\*", r"[\]*")]
    #[case(r"\\\*", r"[\*]")]
    #[case(r"C:\Windows\x", r"[C:\Windows\x]")]
    #[case(r"\\server", r"[\server]")]
    #[case(r"\\\server", r"[\\server]")]
    #[case(r"\\\\server", r"[\\server]")]
    #[case(r"end\", r"[end\]")]
    fn wildcards_and_escapes(#[case] written: &str, #[case] pieces: &str) {
        assert_eq!(show(&parse(written)), pieces);
    }

    #[test]
    fn windash_replaces_the_dash_of_an_option_only() {
        let shown = |text| -> Vec<String> { windash(&parse(text)).iter().map(show).collect() };
        assert_eq!(shown(" -f "), ["[ -f ]", "[ /f ]", "[ –f ]", "[ —f ]", "[ ―f ]"]);
        assert_eq!(shown("a-b"), ["[a-b]"]);
        assert_eq!(shown("- "), ["[- ]"]);
        assert_eq!(shown("*-x").len(), 5);
        assert_eq!(shown("--x"), ["[--x]", "[-/x]", "[-–x]", "[-—x]", "[-―x]"]);
        assert_eq!(shown("-a é -b").len(), 25);
        assert_eq!(windash_variants(&parse("-a -b -c")), Some(125));
        assert_eq!(windash_variants(&parse(&"-a ".repeat(100))), None);
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        let pairs = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")];
        for (plain, encoded) in pairs {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(base64(&utf16("Test", Utf16::Little)), "VABlAHMAdAA=");
        assert_eq!(base64(&utf16("AB", Utf16::Big)), "AEEAQg==");
        assert_eq!(utf16("A", Utf16::Marked), [0xff, 0xfe, 0x41, 0]);
    }

    #[test]
    fn one_offset_is_found_wherever_the_bytes_stand() {
        for text in ["http://", "IEX", "ab", "sleep 1"] {
            let offsets = base64_offsets(text.as_bytes());
            for before in ["", "x", "xy", "xyz", "é"] {
                for after in ["", "1", "12", "123"] {
                    let encoded = base64(format!("{before}{text}{after}").as_bytes());
                    assert!(offsets.iter().any(|o| encoded.contains(o.as_str())), "{before}{text}{after}");
                }
            }
        }
    }
}
