//! How texts are put into pages: no markup, and nothing that is obeyed instead of shown.
//!
//! In: any text of a template. Out: its HTML, in which marks for the direction of writing, control characters and characters without
//! a width are written as `\u{202e}`. Invariants: every place of every page goes through here (`askama.toml` names it for all
//! templates); what differs looks different. Because an attacker chooses what logs say: behind U+202E `cod.exe` reads `exe.doc`,
//! and a name with U+200B in it looks like another's. Letters that are written from right to left stay, and are kept from moving
//! what stands beside them by `unicode-bidi: isolate` in the style sheet.

use std::fmt;

use askama::filters::{Escaper, Html};

/// The escaper of all templates.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Visible;

impl Escaper for Visible {
    fn write_escaped_str<W: fmt::Write>(&self, mut dest: W, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((at, hidden)) = rest.char_indices().find(|(_, c)| is_hidden(*c)) {
            Html.write_escaped_str(&mut dest, &rest[..at])?;
            write!(dest, "{}", hidden.escape_unicode())?;
            rest = &rest[at + hidden.len_utf8()..];
        }
        Html.write_escaped_str(dest, rest)
    }
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
    fn what_would_be_obeyed_is_shown() {
        assert_eq!(shown("a\u{202e}cod.exe"), r"a\u{202e}cod.exe");
        assert_eq!(shown("\u{2067}x\u{2069}\u{200b}\u{feff}"), r"\u{2067}x\u{2069}\u{200b}\u{feff}");
        assert_eq!(shown("\u{1b}[2J\u{0}\r\n\tb\u{85}"), "\\u{1b}[2J\\u{0}\\u{d}\n\tb\\u{85}");
        assert_eq!(
            shown("<b \u{202e}a='1' c=\"&\">"),
            r"&#60;b \u{202e}a=&#39;1&#39; c=&#34;&#38;&#34;&#62;"
        );
        for text in ["", "Zoë", "שלום", "می\u{200c}خواهم", "👩\u{200d}💻", "1\u{202f}274", "a\u{a0}b"]
        {
            assert_eq!(shown(text), text);
        }
    }
}
