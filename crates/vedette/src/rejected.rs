//! Refused rules and warnings, for people: file, line, column, what is wrong and what would be right.

use std::io::IsTerminal as _;

use vedette_sigma::{RuleSet, Style};

use crate::{content::RuleText, playbook::Playbooks, service::StartContent};

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

/// Prints refused playbooks to standard error.
pub fn print_refused_playbooks(playbooks: &Playbooks) {
    let style = Style { warning: false, color: colour_on(std::io::stderr().is_terminal()) };
    let rejected = &playbooks.set.rejected;
    for rejection in rejected.iter().take(SHOWN) {
        say!("{}", vedette_sigma::render(rejection, playbooks.text.text_of(&rejection.file), style));
    }
    if !rejected.is_empty() {
        say!("{} playbooks accepted, {} refused", playbooks.set.playbooks.len(), rejected.len());
    }
}

/// Prints what a start of the service refused.
pub fn print_refused(content: &StartContent) {
    let style = Style { warning: false, color: colour_on(std::io::stderr().is_terminal()) };
    let StartContent { refused, rules, texts, .. } = content;
    for refused in refused.iter().take(SHOWN) {
        // Of one that keeps what it said before, only that is at hand.
        let text = if refused.kept { "" } else { texts.text_of(&refused.what.file) };
        say!("{}", vedette_sigma::render(&refused.what, text, style));
        if refused.kept {
            say!("  what {} said before stays in force", refused.what.file);
        }
    }
    let rest = refused.len().saturating_sub(SHOWN);
    if rest > 0 {
        say!("… and {rest} more");
    }
    if !refused.is_empty() {
        say!("{} rules accepted, {} refused", rules.rules.len(), refused.len());
    }
}
