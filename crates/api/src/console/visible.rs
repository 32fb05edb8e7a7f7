//! How texts are put into pages: no markup, and nothing that is obeyed instead of shown.
//!
//! In: any text of a template. Out: its HTML, in which marks for the direction of writing, control characters, characters without
//! a width and marks piled on one letter are written as `\u{202e}`, cut at [`MOST`] characters. Invariants: every place of every page goes through here (`askama.toml` names it for all
//! templates); what differs looks different. Because an attacker chooses what logs say: behind U+202E `cod.exe` reads `exe.doc`,
//! and a name with U+200B in it looks like another's, and sixty marks on a letter hide the lines above. Letters that are written from right to left stay, and are kept from moving
//! what stands beside them by `unicode-bidi: isolate` in the style sheet.

use std::fmt;

use askama::filters::{Escaper, Html};

/// The escaper of all templates.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Visible;

impl Escaper for Visible {
    fn write_escaped_str<W: fmt::Write>(&self, mut dest: W, text: &str) -> fmt::Result {
        let cut = if text.len() > MOST { text.char_indices().nth(MOST) } else { None };
        let text = cut.map_or(text, |(at, _)| &text[..at]);
        let (mut rest, mut marks) = (text, 0);
        while let Some((at, hidden)) = rest.char_indices().find(|(_, c)| is_written(*c, &mut marks)) {
            Html.write_escaped_str(&mut dest, &rest[..at])?;
            write!(dest, "{}", hidden.escape_unicode())?;
            rest = &rest[at + hidden.len_utf8()..];
        }
        Html.write_escaped_str(&mut dest, rest)?;
        if cut.is_some() { dest.write_char('…') } else { Ok(()) }
    }
}

/// Whether a text of any length is shown letter by letter, so that a form gives back what it was given.
pub(super) fn is_shown_as_it_is(text: &str) -> bool {
    let mut marks = 0;
    !text.chars().any(|c| is_written(c, &mut marks))
}

/// Whether a character is written as what it is, of which there were so many marks before.
fn is_written(c: char, marks: &mut u32) -> bool {
    *marks = if is_mark(c) { *marks + 1 } else { 0 };
    is_hidden(c) || *marks > MOST_MARKS
}

/// Characters of one text on a page; a comment has 4,000 at most.
const MOST: usize = 4_096;
/// Bytes of one that is looked at by itself: a rule's document, a record with its values.
const MOST_WHOLE: usize = 2 << 20;

/// A text that is looked at by itself, longer than others.
pub(super) struct Whole<T>(T);

/// For templates: the rule's document, the record.
pub(super) const fn whole<T: AsRef<str>>(text: T) -> Whole<T> {
    Whole(text)
}

impl<T: AsRef<str>> fmt::Display for Whole<T> {
    /// In pieces that are not cut.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.as_ref();
        let mut rest = &text[..text.floor_char_boundary(MOST_WHOLE)];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.floor_char_boundary(MOST));
            f.write_str(piece)?;
            rest = after;
        }
        if text.len() > MOST_WHOLE {
            write!(f, "… and {} bytes more", text.len() - MOST_WHOLE)
        } else {
            Ok(())
        }
    }
}

/// Marks on one letter that are shown as such. Vietnamese has two, Hebrew with vowels and cantillation three.
const MOST_MARKS: u32 = 4;

/// Whether it is drawn above or below the letter before it.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{591}'..='\u{5bd}' | '\u{610}'..='\u{61a}'
        | '\u{64b}'..='\u{65f}' | '\u{6d6}'..='\u{6ed}' | '\u{8d3}'..='\u{8ff}' | '\u{e31}' | '\u{e34}'..='\u{e3a}'
        | '\u{e47}'..='\u{e4e}' | '\u{eb1}' | '\u{eb4}'..='\u{ebc}' | '\u{ec8}'..='\u{ece}' | '\u{f71}'..='\u{f84}' | '\u{1ab0}'..='\u{1aff}'
        | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
}

/// Joiners (U+200C, U+200D) are not among them: Persian and many emoji are not written without.
fn is_hidden(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}' => true,
        '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => true,
        c => c.is_control(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn shown(text: &str) -> String {
        let mut html = String::new();
        Visible.write_escaped_str(&mut html, text).unwrap();
        html
    }

    #[test]
    fn texts_are_cut_but_those_that_are_looked_at_by_themselves() {
        let long = "<é>".repeat(MOST);
        assert_eq!(shown(&long).matches(['é', '…']).count(), MOST / 3 + 1);
        assert_eq!(shown(&"é".repeat(MOST)), "é".repeat(MOST));
        let pieces = whole(&long).to_string();
        assert!(pieces == long && pieces.len() > MOST);
        assert!(whole("é".repeat(MOST_WHOLE)).to_string().ends_with("é… and 2097152 bytes more"));
    }

    #[test]
    fn what_would_be_obeyed_is_shown() {
        assert_eq!(shown("a\u{202e}cod.exe"), r"a\u{202e}cod.exe");
        assert_eq!(shown("\u{2067}x\u{2069}\u{200b}\u{feff}"), r"\u{2067}x\u{2069}\u{200b}\u{feff}");
        assert_eq!(shown("\u{1b}[2J\u{0}\r\n\tb\u{85}"), "\\u{1b}[2J\\u{0}\\u{d}\n\tb\\u{85}");
        assert_eq!(
            shown("<b \u{202e}a='1' c=\"&\">"),
            r"&#60;b \u{202e}a=&#39;1&#39; c=&#34;&#38;&#34;&#62;"
        );
        assert_eq!(
            shown(&("a".to_owned() + &"\u{301}".repeat(6) + "b\u{301}")),
            "a\u{301}\u{301}\u{301}\u{301}\\u{301}\\u{301}b\u{301}"
        );
        for text in [
            "",
            "Zoë",
            "Việt Nam",
            "שָּׁ",
            "שלום",
            "می\u{200c}خواهم",
            "👩\u{200d}💻",
            "1\u{202f}274",
            "a\u{a0}b",
        ] {
            assert_eq!(shown(text), text);
            assert!(is_shown_as_it_is(text));
        }
        for text in ["a\u{202e}b", "\u{200b}", "\u{7f}", &("a".to_owned() + &"\u{301}".repeat(5))] {
            assert!(!is_shown_as_it_is(text), "{text:?}");
        }
    }
}
