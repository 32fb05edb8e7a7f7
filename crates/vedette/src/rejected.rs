//! Refused rules and warnings, for people: file, line, column, what is wrong and what would be right.

use std::io::IsTerminal as _;

use vedette_sigma::{RuleSet, Style};

use crate::content::RuleText;

/// At most this many refusals are shown with their text; the rest are counted.
const SHOWN: usize = 50;

/// Colour on a terminal, unless `NO_COLOR` is set.
pub fn colour_on(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none()
}

/// Prints refused documents to standard error.
pub fn print_rejected(rules: &RuleSet, text: &RuleText) {
    let style = Style { warning: false, color: colour_on(std::io::stderr().is_terminal()) };
    for rejection in rules.rejected.iter().take(SHOWN) {
        say!("{}", vedette_sigma::render(rejection, text.text_of(&rejection.file), style));
    }
    let rest = rules.rejected.len().saturating_sub(SHOWN);
    if rest > 0 {
        say!("… and {rest} more");
    }
    if !rules.rejected.is_empty() {
        say!("{} rules accepted, {} refused", rules.rules.len(), rules.rejected.len());
    }
}
