//! Exact predicates over one text: the truth behind every filter.
//!
//! In: a normal-form [`Test`]. Out: [`Matcher`], its kind chosen once, evaluated on a text and its folded copy.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use ipnet::IpNet;
use memchr::memmem::Finder;
use regex::{Regex, RegexBuilder};
use vedette_event::{Kind, cell::number};
use vedette_sigma::{Cmp, Pattern, Piece, Test};

use crate::fold::fold;

/// A predicate over one text.
#[derive(Debug)]
pub(crate) enum Matcher {
    /// True or false whatever the text.
    Constant(bool),
    /// A text pattern, over the folded text unless case counts.
    Text { shape: Shape, cased: bool },
    /// A regular expression is found.
    Regex(Box<Lazy>),
    /// An address inside the network.
    Cidr(IpNet),
    /// A number that compares.
    Compare(Cmp, f64),
    /// Does not hold.
    Not(Box<Matcher>),
}

/// Four times what the rule loader takes: it tells the size of long repetitions from shorter ones, and what it took is to be compiled here.
const MAX_REGEX_SIZE: usize = 40 << 20;

/// A regular expression, compiled when a text is first looked at with it. Most never are, since their rules have literals that no event
/// holds; compiling all of SigmaHQ's takes a seventh of a start, and their automata several megabytes.
#[derive(Debug)]
pub(crate) struct Lazy {
    pattern: Arc<str>,
    regex: OnceLock<Option<Regex>>,
}

impl Lazy {
    /// One that cannot be compiled matches nothing: the rule loader refuses such rules.
    fn is_match(&self, text: &str) -> bool {
        let regex = self
            .regex
            .get_or_init(|| RegexBuilder::new(&self.pattern).size_limit(MAX_REGEX_SIZE).build().ok());
        regex.as_ref().is_some_and(|regex| regex.is_match(text))
    }
}

/// The kinds of text pattern, cheapest first.
#[derive(Debug)]
pub(crate) enum Shape {
    Exact(Box<str>),
    Prefix(Box<str>),
    Suffix(Box<str>),
    Contains(Box<Finder<'static>>),
    Glob(Vec<Segment>),
}

/// What stands between two `*`.
#[derive(Debug)]
pub(crate) struct Segment(Vec<Unit>);

#[derive(Debug)]
enum Unit {
    Literal(Box<str>),
    One,
}

impl Matcher {
    /// The matcher of a predicate.
    pub(crate) fn new(test: &Test) -> Self {
        match test {
            Test::Text { pattern, cased } => Self::Text { shape: Shape::new(pattern, *cased), cased: *cased },
            Test::Number(text) => Self::Text { shape: Shape::Exact((**text).into()), cased: true },
            Test::Bool(truth) => Self::Text { shape: Shape::Exact(truth.to_string().into()), cased: false },
            Test::Regex(pattern) => {
                Self::Regex(Box::new(Lazy { pattern: pattern.clone(), regex: OnceLock::new() }))
            }
            Test::Cidr(net) => Self::Cidr(*net),
            Test::Compare(cmp, right) => Self::Compare(*cmp, right.0),
            Test::Null | Test::FieldRef { .. } => Self::Constant(false),
            Test::Exists(there) => Self::Constant(*there),
            Test::Not(inner) => Self::Not(Box::new(Self::new(inner))),
        }
    }

    /// The search in the folded text that the predicate amounts to, if it is one.
    pub(crate) fn plain_search(&self) -> Option<&Finder<'static>> {
        match self {
            Self::Text { shape: Shape::Contains(finder), cased: false } => Some(finder),
            _ => None,
        }
    }

    /// Whether it holds of a text; `folded` is its folded copy.
    pub(crate) fn matches(&self, raw: &str, folded: &str) -> bool {
        match self {
            Self::Constant(truth) => *truth,
            Self::Text { shape, cased } => shape.matches(if *cased { raw } else { folded }),
            Self::Regex(regex) => regex.is_match(raw),
            Self::Cidr(net) => address(raw)
                .is_some_and(|address| net.contains(&address) || net.contains(&address.to_canonical())),
            Self::Compare(cmp, right) => compares(*cmp, raw, *right),
            Self::Not(inner) => !inner.matches(raw, folded),
        }
    }
}

impl Shape {
    fn new(pattern: &Pattern, cased: bool) -> Self {
        let spell = |text: &str| -> Box<str> { if cased { text.into() } else { fold(text).into() } };
        match pattern.0.as_slice() {
            [] => Self::Exact("".into()),
            [Piece::Literal(text)] => Self::Exact(spell(text)),
            [Piece::Literal(text), Piece::Many] => Self::Prefix(spell(text)),
            [Piece::Many, Piece::Literal(text)] => Self::Suffix(spell(text)),
            [Piece::Many, Piece::Literal(text), Piece::Many] => {
                Self::Contains(Box::new(Finder::new(spell(text).as_bytes()).into_owned()))
            }
            pieces => {
                let segments = pieces.split(|piece| *piece == Piece::Many).map(|units| {
                    let unit = |piece: &Piece| match piece {
                        Piece::Literal(text) => Unit::Literal(spell(text)),
                        Piece::One | Piece::Many => Unit::One,
                    };
                    Segment(units.iter().map(unit).collect())
                });
                Self::Glob(segments.collect())
            }
        }
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(wanted) => **wanted == *text,
            Self::Prefix(wanted) => text.starts_with(&**wanted),
            Self::Suffix(wanted) => text.ends_with(&**wanted),
            Self::Contains(finder) => finder.find(text.as_bytes()).is_some(),
            Self::Glob(segments) => glob(segments, text),
        }
    }
}

/// Anchored first and last segment, the others leftmost first: as each has a fixed number of characters, greed is right.
fn glob(segments: &[Segment], text: &str) -> bool {
    let (first, last, middle) = match segments {
        [] => return text.is_empty(),
        [only] => return only.strip_start(text) == Some(""),
        [first, middle @ .., last] => (first, last, middle),
    };
    let Some(mut rest) = first.strip_start(text) else { return false };
    for segment in middle {
        match segment.strip_through(rest) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    last.ends(rest)
}

impl Segment {
    /// What follows the segment at the start of the text.
    fn strip_start<'t>(&self, text: &'t str) -> Option<&'t str> {
        self.0.iter().try_fold(text, |rest, unit| match unit {
            Unit::Literal(wanted) => rest.strip_prefix(&**wanted),
            Unit::One => {
                let mut chars = rest.chars();
                chars.next()?;
                Some(chars.as_str())
            }
        })
    }

    /// What follows the leftmost occurrence of the segment.
    fn strip_through<'t>(&self, text: &'t str) -> Option<&'t str> {
        let mut rest = text;
        loop {
            if let Some(Unit::Literal(wanted)) = self.0.first() {
                rest = rest.get(rest.find(&**wanted)?..)?;
            }
            if let Some(after) = self.strip_start(rest) {
                return Some(after);
            }
            let mut chars = rest.chars();
            chars.next()?;
            rest = chars.as_str();
        }
    }

    /// Whether the text ends with the segment.
    fn ends(&self, text: &str) -> bool {
        let rest = self.0.iter().rev().try_fold(text, |rest, unit| match unit {
            Unit::Literal(wanted) => rest.strip_suffix(&**wanted),
            Unit::One => {
                let mut chars = rest.chars();
                chars.next_back()?;
                Some(chars.as_str())
            }
        });
        rest.is_some()
    }
}

/// The address that a text spells.
pub(crate) fn address(text: &str) -> Option<IpAddr> {
    let plausible = text.len() <= 45 && text.bytes().next()?.is_ascii_hexdigit() | text.starts_with(':');
    if plausible { text.parse().ok() } else { None }
}

/// Whether a comparison holds of the number that a text spells, integers exactly.
fn compares(cmp: Cmp, text: &str, right: f64) -> bool {
    if text.len() <= 15 && text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse::<u64>().is_ok_and(|left| cmp.holds(&(left as f64), &right));
    }
    let [b'-' | b'+' | b'.' | b'0'..=b'9', ..] = text.as_bytes() else { return false };
    let Some((kind, left)) = number(text) else { return false };
    // An integer that a float cannot hold is far from every fraction, but not from every whole number.
    if kind == Kind::Int && right.fract() == 0.0 {
        return left.parse::<i128>().is_ok_and(|left| cmp.holds(&left, &(right as i128)));
    }
    left.parse::<f64>().is_ok_and(|left| cmp.holds(&left, &right))
}
