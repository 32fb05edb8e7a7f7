//! The keys of texts: what the index holds of a value, and what a query can ask of it.
//!
//! In: values of a column, or literals of a query. Out: 64-bit keys. Invariant: every key that is asked of a literal is among those of each value
//! that matches it. Case is ignored more than `match` ignores it, so that `ILIKE` can be asked, too.

use twox_hash::XxHash64;

use crate::words::fold;

/// Longer values are found by their words only.
pub(crate) const WHOLE: usize = 64;
/// So that a word and a value of the same letters are two.
const OF_WHOLES: u64 = 0x9e37_79b9_7f4a_7c15;

/// A column, as the index names it.
pub(crate) fn column(name: &str) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&blake3::hash(name.as_bytes()).as_bytes()[..8]);
    // The last two bits say what the index has of it.
    u64::from_le_bytes(bytes) & !3
}

/// The key of a folded word.
pub(crate) fn of_word(column: u64, folded: &str) -> u64 {
    XxHash64::oneshot(column, folded.as_bytes())
}

/// The key of a whole value; none where it has none.
pub(crate) fn of_whole(column: u64, value: &str) -> Option<u64> {
    let one_word = !value.is_empty() && value.chars().all(char::is_alphanumeric);
    (value.len() <= WHOLE && !one_word).then(|| XxHash64::oneshot(column ^ OF_WHOLES, value.as_bytes()))
}

/// Gives all keys of a value. `folded` is used to write words into.
pub(crate) fn of_value(column: u64, value: &str, folded: &mut String, mut take: impl FnMut(u64)) {
    words(value, folded, |word, _| take(of_word(column, word)));
    if let Some(key) = of_whole(column, value) {
        take(key);
    }
}

/// Gives each word of a text, folded, and where it stands.
pub(crate) fn words(text: &str, folded: &mut String, mut each: impl FnMut(&str, std::ops::Range<usize>)) {
    let mut begin = None;
    for (at, c) in text.char_indices() {
        if c.is_alphanumeric() {
            if begin.is_none() {
                begin = Some(at);
                folded.clear();
            }
            folded.push(wide(c));
        } else if let Some(begin) = begin.take() {
            each(folded, begin..at);
        }
    }
    if let Some(begin) = begin {
        each(folded, begin..text.len());
    }
}

/// As words are folded, and so that every letter that `ILIKE` takes for one of ASCII is that one.
fn wide(c: char) -> char {
    match fold(c) {
        'ſ' => 's',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words_of(text: &str) -> Vec<String> {
        let (mut all, mut folded) = (Vec::new(), String::new());
        words(text, &mut folded, |word, place| {
            assert!(text[place].chars().all(char::is_alphanumeric));
            all.push(word.to_owned());
        });
        all
    }

    #[test]
    fn words_are_those_of_match() {
        assert_eq!(words_of("/etc/Passwd?a=1"), ["etc", "passwd", "a", "1"]);
        assert_eq!(words_of("ÄPFEL\u{212a}ſ-x"), ["äpfelks", "x"]);
        assert_eq!(words_of(" - "), [""; 0]);
    }

    #[test]
    fn what_ilike_takes_for_a_letter_of_ascii_is_that_letter() {
        use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};
        let mut all = 0;
        for letter in 'a'..='z' {
            let mut alike = ClassUnicode::new([ClassUnicodeRange::new(letter, letter)]);
            alike.case_fold_simple();
            for c in alike.ranges().iter().flat_map(|range| range.start()..=range.end()) {
                assert!(wide(c) == letter && c.is_alphanumeric(), "{c:?} and {letter}");
                all += 1;
            }
        }
        assert_eq!(all, 54, "all letters in both cases, the sign for kelvin and the long s");
    }

    #[test]
    fn a_value_that_is_one_word_has_no_other_key() {
        assert_eq!(of_whole(4, "abc1"), None);
        assert_eq!(of_whole(4, &"a.".repeat(33)), None);
        assert!(of_whole(4, "").is_some() && of_whole(4, "a.b") != of_whole(4, "A.b"));
        assert_ne!(of_whole(4, "a.b"), of_whole(8, "a.b"));
        let mut keys = Vec::new();
        of_value(4, "a.b a", &mut String::new(), |key| keys.push(key));
        assert_eq!(keys.len(), 4);
        assert_ne!(column("a"), column("b"));
        assert_eq!(column("a") & 3, 0);
    }
}
