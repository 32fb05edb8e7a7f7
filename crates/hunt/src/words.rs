//! Which words a text holds: what `match` means.
//!
//! In: two texts. Out: whether all words of the one are words of the other.
//! Invariants: a word is a run of letters and digits (Unicode's alphanumeric characters) that is as long as it can be; case is ignored as
//! rules ignore it, character by character by the first one of its lower-case mapping; a text without any word is in every text.

/// The words that are looked for, folded, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Words(Vec<Vec<char>>);

impl Words {
    /// Those of a text.
    pub(crate) fn of(text: &str) -> Self {
        let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        let mut words: Vec<Vec<char>> = words.map(|word| word.chars().map(fold).collect()).collect();
        words.sort_unstable();
        words.dedup();
        Self(words)
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a text has all of them.
    pub(crate) fn are_in(&self, text: &str) -> bool {
        self.0.iter().all(|word| has(text, word))
    }
}

/// Whether some word of a text is this one. The text is folded as it is read, so nothing is allocated.
fn has(text: &str, wanted: &[char]) -> bool {
    let mut chars = text.chars();
    loop {
        let Some(first) = chars.by_ref().find(|c| c.is_alphanumeric()) else { return false };
        let mut left = wanted.iter();
        let mut same = left.next() == Some(&fold(first));
        for c in chars.by_ref() {
            if !c.is_alphanumeric() {
                break;
            }
            same = same && left.next() == Some(&fold(c));
        }
        if same && left.next().is_none() {
            return true;
        }
    }
}

/// As words are compared.
pub(crate) fn fold(c: char) -> char {
    if c.is_ascii() { c.to_ascii_lowercase() } else { c.to_lowercase().next().unwrap_or(c) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("/etc/passwd", "passwd", true)]
    #[case("/etc/passwd", "PASSWD etc", true)]
    #[case("/etc/passwd2", "passwd", false)]
    #[case("/etc/passwd", "pass", false)]
    #[case("a b", "", true)]
    #[case("", "a", false)]
    #[case("", " - ", true)]
    #[case("Straße", "STRASSE", false)]
    #[case("\u{212a}elvin", "kelvin", true)]
    #[case("ÄPFEL und Birnen", "äpfel", true)]
    #[case("aXb", "x", false)]
    #[case("x_y", "x", true)]
    #[case("10.0.0.1", "0 10", true)]
    #[case("aab aa", "aa", true)]
    fn words_are_whole_and_case_is_ignored(#[case] text: &str, #[case] words: &str, #[case] expected: bool) {
        assert_eq!(Words::of(words).are_in(text), expected);
    }

    fn slowly(text: &str) -> BTreeSet<String> {
        let folded: String = text.chars().map(|c| c.to_lowercase().next().unwrap_or(c)).collect();
        // Which characters are letters is asked of the text itself: folding may change it.
        let mut words = BTreeSet::new();
        let mut word = String::new();
        for (c, f) in text.chars().zip(folded.chars()).chain([(' ', ' ')]) {
            if c.is_alphanumeric() {
                word.push(f);
            } else if !word.is_empty() {
                words.insert(std::mem::take(&mut word));
            }
        }
        words
    }

    proptest! {
        #[test]
        fn words_are_found_as_in_sets_of_words(
            text in "[aAbBéÉ١ǅİ\u{212a} ._-]{0,12}",
            words in "[aAbBéÉ١ǅİ\u{212a} ._-]{0,4}",
        ) {
            prop_assert_eq!(Words::of(&words).are_in(&text), slowly(&words).is_subset(&slowly(&text)));
        }
    }
}
