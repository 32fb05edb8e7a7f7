//! Literals that a text must hold for a predicate to be true of it.
//!
//! In: a [`Test`]. Out: a [`Probe`]: where to look for which folded literals, and whether finding one is proof.
//! Invariant: a probe may only over-approximate. Probes of regular expressions hold for ASCII texts alone.

use ipnet::IpNet;
use regex_syntax::hir::{Class, Hir, HirKind};
use vedette_sigma::{Pattern, Piece, Test};

use crate::fold::fold;

/// Literals that gate one regular expression, at most.
const MAX_GATES: usize = 24;

/// Where a literal must stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Site {
    /// The text equals the literal.
    Whole,
    /// It starts with it.
    Start,
    /// It ends with it.
    End,
    /// It contains it.
    Anywhere,
}

impl Site {
    /// What a text does with a literal there.
    pub(crate) const fn verb(&self) -> &'static str {
        match self {
            Self::Whole => "is",
            Self::Start => "starts with",
            Self::End => "ends with",
            Self::Anywhere => "contains",
        }
    }
}

/// What must be found, all literals folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Probe {
    /// Nothing is known: the predicate must be tried.
    Always,
    /// One of these literals at that site.
    Literals {
        site: Site,
        any_of: Vec<String>,
        /// Finding one proves the predicate.
        proof: bool,
        /// Holds for ASCII texts only.
        ascii_only: bool,
    },
    /// It spells an address inside this network, which proves the predicate.
    Network(IpNet),
}

impl Probe {
    /// The best probe for a predicate.
    pub(crate) fn of(test: &Test) -> Self {
        match test {
            Test::Text { pattern, cased } => of_pattern(pattern, *cased),
            Test::Number(text) => one(Site::Whole, text, false),
            Test::Bool(truth) => one(Site::Whole, if *truth { "true" } else { "false" }, true),
            Test::Regex(pattern) => match of_regex(pattern) {
                Some(any_of) => {
                    Self::Literals { site: Site::Anywhere, any_of, proof: false, ascii_only: true }
                }
                None => Self::Always,
            },
            Test::Cidr(network) => Self::Network(*network),
            _ => Self::Always,
        }
    }
}

fn one(site: Site, literal: &str, proof: bool) -> Probe {
    Probe::Literals { site, any_of: vec![fold(literal)], proof, ascii_only: false }
}

fn score(any_of: &[String]) -> usize {
    let shortest = any_of.iter().map(String::len).min().unwrap_or(0);
    shortest * 16 / (15 + any_of.len())
}

fn of_pattern(pattern: &Pattern, cased: bool) -> Probe {
    let pieces = pattern.0.as_slice();
    match pieces {
        [] => return one(Site::Whole, "", true),
        [Piece::Literal(text)] => return one(Site::Whole, text, !cased),
        [Piece::Literal(text), Piece::Many] => return one(Site::Start, text, !cased),
        [Piece::Many, Piece::Literal(text)] => return one(Site::End, text, !cased),
        [Piece::Many, Piece::Literal(text), Piece::Many] => return one(Site::Anywhere, text, !cased),
        _ => {}
    }
    let last = pieces.len() - 1;
    let literals = pieces.iter().enumerate().filter_map(|(at, piece)| match piece {
        Piece::Literal(text) if at == 0 => Some((Site::Start, text)),
        Piece::Literal(text) if at == last => Some((Site::End, text)),
        Piece::Literal(text) => Some((Site::Anywhere, text)),
        Piece::One | Piece::Many => None,
    });
    match literals.max_by_key(|(_, text)| text.len()) {
        Some((site, text)) => one(site, text, false),
        None => Probe::Always,
    }
}

/// Literals of which one must be in every ASCII text in which the expression is found.
fn of_regex(pattern: &str) -> Option<Vec<String>> {
    let hir = regex_syntax::parse(pattern).ok()?;
    let mut gates = required(&hir)?;
    gates.sort();
    gates.dedup();
    (score(&gates) >= 2).then_some(gates)
}

/// The best OR-set of literals required by a part of an expression.
fn required(hir: &Hir) -> Option<Vec<String>> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => None,
        HirKind::Literal(_) | HirKind::Class(_) => run(std::slice::from_ref(hir)),
        HirKind::Repetition(repetition) if repetition.min > 0 => required(&repetition.sub),
        HirKind::Repetition(_) => None,
        HirKind::Capture(capture) => required(&capture.sub),
        HirKind::Concat(parts) => {
            let runs = parts.split(|part| spelled(part).is_none()).filter_map(run);
            let inner = parts.iter().filter(|part| spelled(part).is_none()).filter_map(required);
            runs.chain(inner).max_by_key(|any_of| score(any_of))
        }
        HirKind::Alternation(parts) => {
            let mut all = Vec::new();
            for part in parts {
                all.extend(required(part)?);
            }
            (all.len() <= MAX_GATES).then_some(all)
        }
    }
}

/// A run of parts that each stand for fixed text.
fn run(parts: &[Hir]) -> Option<Vec<String>> {
    let text: String = parts.iter().filter_map(spelled).collect();
    (!text.is_empty()).then(|| vec![text])
}

/// The folded text that a part stands for in an ASCII text; assertions stand for none.
fn spelled(hir: &Hir) -> Option<String> {
    match hir.kind() {
        HirKind::Literal(literal) => std::str::from_utf8(&literal.0).ok().map(fold),
        HirKind::Look(_) => Some(String::new()),
        HirKind::Capture(capture) => spelled(&capture.sub),
        HirKind::Concat(parts) => parts.iter().map(spelled).collect(),
        HirKind::Class(Class::Unicode(class)) => {
            let ascii = class.ranges().iter().filter(|range| range.start().is_ascii());
            let mut folded = ascii.flat_map(|range| range.start()..=range.end().min('\x7f'));
            let first = folded.next()?.to_ascii_lowercase();
            folded.all(|c| c.to_ascii_lowercase() == first).then(|| first.to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regexes_give_the_literals_they_require() {
        let gates = |pattern: &str| of_regex(pattern).map(|gates| gates.join("|"));
        assert_eq!(gates(r"(?i)\bWhoami\s+/all").as_deref(), Some("whoami"));
        assert_eq!(gates("(?i)a+(cmd|powershell)x*").as_deref(), Some("cmd|powershell"));
        assert_eq!(gates("[0-9]+"), None);
        assert_eq!(gates("(abc)?d").as_deref(), None);
        assert_eq!(gates(r"\\\\[a-z]+\\pipe").as_deref(), Some(r"\pipe"));
    }
}
