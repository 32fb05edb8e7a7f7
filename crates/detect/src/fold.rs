//! Case folding: each character's simple lower-case mapping.
//!
//! In: text. Out: text with as many characters. Folding a text twice changes nothing more.

/// The simple lower-case mapping of a character.
pub(crate) fn fold_char(c: char) -> char {
    if c.is_ascii() { c.to_ascii_lowercase() } else { c.to_lowercase().next().unwrap_or(c) }
}

/// A folded copy.
pub(crate) fn fold(text: &str) -> String {
    let mut folded = String::new();
    fold_into(text, &mut folded);
    folded
}

/// Replaces `folded` by the folded text; returns whether the text was ASCII (then byte positions agree).
#[inline]
pub(crate) fn fold_into(text: &str, folded: &mut String) -> bool {
    folded.clear();
    if text.is_ascii() {
        folded.push_str(text);
        folded.make_ascii_lowercase();
        true
    } else {
        folded.extend(text.chars().map(fold_char));
        false
    }
}

/// Appends the folded text.
pub(crate) fn fold_onto(text: &str, folded: &mut String) {
    let start = folded.len();
    if text.is_ascii() {
        folded.push_str(text);
        folded.get_mut(start..).unwrap_or_default().make_ascii_lowercase();
    } else {
        folded.extend(text.chars().map(fold_char));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_folds_to_one_that_stays() {
        for c in '\0'..=char::MAX {
            let folded = fold_char(c);
            assert_eq!(fold_char(folded), folded, "{c:?}");
            if folded.is_ascii() && !c.is_ascii() {
                assert!(matches!(c, '\u{212a}' | '\u{130}'), "the raw filter must know {c:?}");
            }
        }
    }
}
