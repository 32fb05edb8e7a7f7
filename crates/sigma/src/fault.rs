//! What is wrong with a document, and where: the error every part of the parser returns.
//!
//! In: a place in the text and words. Out: [`Fault`], which the loader turns into a [`Rejection`].

use std::sync::Arc;

use crate::Rejection;

/// A place in a file: line and column (in characters), both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
}

/// Why a document is refused, or worth a second look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub at: Place,
    /// A stable kebab-case code, such as `unknown-modifier`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
}

impl Fault {
    /// A fault without advice.
    #[must_use]
    pub fn new(at: Place, code: &'static str, message: impl Into<String>) -> Self {
        Self { at, code, message: message.into(), help: None }
    }

    /// Adds what would be right.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The fault as the loader reports it.
    #[must_use]
    pub fn reject(self, file: &Arc<str>, rule_id: Option<Arc<str>>) -> Rejection {
        Rejection {
            file: file.clone(),
            line: self.at.line,
            column: self.at.column,
            rule_id,
            code: self.code,
            message: self.message,
            help: self.help,
        }
    }
}

/// Text from a rule as a message shows it: cut after 60 characters.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut chars = text.chars();
    let mut cut: String = chars.by_ref().take(60).collect();
    if chars.next().is_some() {
        cut.push('…');
    }
    format!("`{cut}`")
}

/// Advice for an unknown name: the nearest valid one, or all of them.
#[must_use]
pub fn did_you_mean(word: &str, valid: &[&str]) -> String {
    match nearest(word, valid) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("valid are: {}", valid.join(", ")),
    }
}

/// The valid name at the least edit distance, if that is at most a third of the word (at least one).
#[must_use]
pub fn nearest<'a>(word: &str, valid: &[&'a str]) -> Option<&'a str> {
    if word.len() > 64 {
        return None;
    }
    let length = word.chars().count();
    let limit = (length / 3).max(1);
    // The difference in length is the least distance, and far cheaper.
    let near = valid.iter().filter(|name| name.chars().take(100).count().abs_diff(length) <= limit);
    let scored = near.map(|name| (distance(word, name), *name));
    scored.min_by_key(|(d, _)| *d).filter(|(d, _)| *d <= limit).map(|(_, name)| name)
}

/// The least number of insertions, deletions, substitutions and swaps of neighbours that makes one word the other.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let (mut before, mut row): (Vec<usize>, Vec<usize>) = (Vec::new(), (0..=b.len()).collect());
    for i in 0..a.len() {
        let mut next = vec![i + 1];
        for j in 0..b.len() {
            let substituted = row[j] + usize::from(a[i] != b[j]);
            let mut least = substituted.min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                least = least.min(before[j - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_names_are_found_and_far_ones_are_not() {
        assert_eq!(nearest("contain", &["contains", "endswith"]), Some("contains"));
        assert_eq!(nearest("timespam", &["timespan"]), Some("timespan"));
        assert_eq!(nearest("hihg", &["low", "high"]), Some("high"));
        assert_eq!(nearest("xyz", &["contains", "endswith"]), None);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shown(&"é".repeat(61)), format!("`{}…`", "é".repeat(60)));
        assert_eq!(shown("short"), "`short`");
    }
}
