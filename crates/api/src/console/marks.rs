//! Which parts of an event's values a rule looked for.
//!
//! In: the predicates of the rules that an alert rests on. Out: a value cut into parts, each marked or not. Invariants: a
//! part is marked only where the predicate holds of the value; what excludes is never marked; work is bounded by the
//! number of predicates that are taken and by the length of the values that are shown.

use std::{collections::BTreeSet, net::IpAddr, ops::Range};

use regex::{Regex, RegexBuilder};
use vedette_sigma::{Cmp, Leaf, Pattern, Piece, Test};

use crate::live::Live;

/// Predicates that are tried, and rules they are taken from.
const MOST: usize = 512;
const RULES: usize = 64;
/// Places of one expression in one value.
const PLACES: usize = 16;
/// Bytes that a compiled expression may take.
const REGEX_BYTES: usize = 1 << 20;

/// A part of a value, and whether a rule looked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub text: String,
    pub marked: bool,
}

/// What the rules of an alert look for.
#[derive(Debug, Default)]
pub(super) struct Marks {
    leaves: Vec<(Leaf, Option<Regex>)>,
}

impl Marks {
    /// What a rule and those that it refers to look for.
    pub fn of(live: &Live, rule: &str) -> Self {
        let mut marks = Self::default();
        let (mut todo, mut seen) = (vec![rule.to_owned()], BTreeSet::new());
        while let Some(id) = todo.pop() {
            if seen.len() >= RULES || !seen.insert(id.clone()) {
                continue;
            }
            let Some(rule) = live.rule(&id) else { continue };
            todo.extend(rule.refers_to.iter().cloned());
            rule.looks_for.iter().for_each(|leaf| marks.add(leaf));
        }
        marks
    }

    fn add(&mut self, leaf: &Leaf) {
        if self.leaves.len() >= MOST || self.leaves.iter().any(|(known, _)| known == leaf) {
            return;
        }
        let regex = match &leaf.test {
            Test::Regex(text) => RegexBuilder::new(text).size_limit(REGEX_BYTES).build().ok(),
            _ => None,
        };
        self.leaves.push((leaf.clone(), regex));
    }

    /// Whether any predicate is about this field.
    pub fn concerns(&self, field: &str) -> bool {
        self.leaves.iter().any(|(leaf, _)| leaf.field.as_deref() == Some(field))
    }

    /// A value in parts.
    pub fn parts(&self, field: &str, value: &str) -> Vec<Part> {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for (leaf, regex) in &self.leaves {
            if leaf.field.as_deref().is_none_or(|own| own == field) {
                places(&leaf.test, regex.as_ref(), value, &mut ranges);
            }
        }
        cut(value, ranges)
    }
}

/// Where a predicate holds of a value.
fn places(test: &Test, regex: Option<&Regex>, value: &str, to: &mut Vec<Range<usize>>) {
    let whole = |holds: bool, to: &mut Vec<Range<usize>>| {
        if holds {
            to.push(0..value.len());
        }
    };
    match test {
        Test::Text { pattern, cased } => literals(pattern, *cased, value, to),
        Test::Regex(_) => {
            let found = regex.into_iter().flat_map(|regex| regex.find_iter(value));
            to.extend(found.take(PLACES).map(|found| found.range()));
        }
        Test::Number(text) => whole(**text == *value, to),
        Test::Bool(wanted) => whole(value.eq_ignore_ascii_case(&wanted.to_string()), to),
        Test::Cidr(net) => whole(value.parse::<IpAddr>().is_ok_and(|address| net.contains(&address)), to),
        Test::Compare(cmp, bound) => whole(value.parse().is_ok_and(|n: f64| holds(*cmp, n, bound.0)), to),
        Test::Null | Test::Exists(_) | Test::FieldRef { .. } | Test::Not(_) => {}
    }
}

fn holds(cmp: Cmp, left: f64, right: f64) -> bool {
    cmp.holds(&left, &right)
}

/// The literal pieces of a pattern, in order, if all of them are there where they have to be.
fn literals(pattern: &Pattern, cased: bool, value: &str, to: &mut Vec<Range<usize>>) {
    let fold = |text: &str| if cased { text.to_owned() } else { text.to_ascii_lowercase() };
    let (value, pieces) = (fold(value), &pattern.0);
    let mut found = Vec::new();
    let mut from = 0;
    for (n, piece) in pieces.iter().enumerate() {
        let Piece::Literal(text) = piece else { continue };
        let text = fold(text);
        let rest = value.get(from..).unwrap_or_default();
        let at = match (n == 0, n + 1 == pieces.len()) {
            (true, true) => (rest == text).then_some(0),
            (true, false) => rest.starts_with(&text).then_some(0),
            (false, true) => rest.ends_with(&text).then(|| rest.len() - text.len()),
            (false, false) => rest.find(&text),
        };
        let Some(at) = at else { return };
        found.push(from + at..from + at + text.len());
        from += at + text.len();
    }
    to.extend(found.into_iter().filter(|range| !range.is_empty()));
}

/// A value cut at the ends of ranges, which may overlap.
fn cut(value: &str, mut ranges: Vec<Range<usize>>) -> Vec<Part> {
    ranges.sort_by_key(|range| (range.start, range.end));
    let mut parts = Vec::new();
    let mut at = 0;
    let mut push = |range: Range<usize>, marked| {
        if let Some(text) = value.get(range).filter(|text| !text.is_empty()) {
            parts.push(Part { text: text.to_owned(), marked });
        }
    };
    let mut ranges = ranges.into_iter().peekable();
    while let Some(mut range) = ranges.next() {
        while let Some(next) = ranges.next_if(|next| next.start <= range.end) {
            range.end = range.end.max(next.end);
        }
        push(at..range.start, false);
        at = range.end;
        push(range, true);
    }
    push(at..value.len(), false);
    parts
}

/// Parts up to so many characters; whether something is left out.
pub(super) fn shorten(parts: Vec<Part>, most: usize) -> (Vec<Part>, bool) {
    let mut left = most;
    let mut shown = Vec::new();
    for Part { text, marked } in parts {
        if left == 0 {
            return (shown, true);
        }
        match text.char_indices().nth(left) {
            Some((end, _)) => {
                shown.push(Part { text: text.get(..end).unwrap_or_default().to_owned(), marked });
                return (shown, true);
            }
            None => {
                left -= text.chars().count();
                shown.push(Part { text, marked });
            }
        }
    }
    (shown, false)
}

/// A leaf that looks for a text in a field, for tests of this and of pages.
#[cfg(test)]
pub(super) fn looks_for(field: &str, test: Test) -> Marks {
    let mut marks = Marks::default();
    marks.add(&Leaf { field: Some(field.into()), test });
    marks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Test {
        let mut pieces = Vec::new();
        for (n, literal) in text.split('*').enumerate() {
            if n > 0 {
                pieces.push(Piece::Many);
            }
            if !literal.is_empty() {
                pieces.push(Piece::Literal(literal.into()));
            }
        }
        Test::Text { pattern: Pattern(pieces), cased: false }
    }

    /// The value with brackets around what is marked.
    fn marked(test: Test, value: &str) -> String {
        let parts = looks_for("f", test).parts("f", value);
        parts
            .iter()
            .map(|part| if part.marked { format!("[{}]", part.text) } else { part.text.clone() })
            .collect()
    }

    #[test]
    fn what_a_rule_looked_for_is_marked_where_it_is() {
        assert_eq!(marked(pattern("deny"), "Deny"), "[Deny]");
        assert_eq!(marked(pattern("deny"), "denied"), "denied");
        assert_eq!(
            marked(pattern("*union*select*"), "id=1 UNION ALL SELECT 2"),
            "id=1 [UNION] ALL [SELECT] 2"
        );
        assert_eq!(marked(pattern("*union*select*"), "select union"), "select union");
        assert_eq!(marked(pattern("/api/*"), "/api/x"), "[/api/]x");
        assert_eq!(marked(pattern("*.exe"), "a.exe.exe"), "a.exe[.exe]");
        assert_eq!(marked(Test::Regex("(?i)a+".into()), "xAay"), "x[Aa]y");
        assert_eq!(marked(Test::Regex("(".into()), "("), "(");
        assert_eq!(marked(Test::Number("443".into()), "443"), "[443]");
        assert_eq!(marked(Test::Cidr("10.0.0.0/8".parse().expect("a net")), "10.1.2.3"), "[10.1.2.3]");
        assert_eq!(marked(Test::Compare(Cmp::Gt, vedette_sigma::Decimal(5.0)), "5"), "5");
        assert_eq!(marked(Test::Not(Box::new(pattern("a"))), "b"), "b");
        assert_eq!(marked(pattern("*é*"), "caf\u{e9}!"), "caf[é]!");
        assert!(looks_for("f", pattern("a")).parts("g", "a").iter().all(|part| !part.marked));
    }

    #[test]
    fn overlaps_are_one_and_long_values_are_cut_at_characters() {
        let parts = cut("abcdef", vec![3..5, 1..4, 5..5]);
        let told: Vec<_> = parts.iter().map(|part| (part.text.as_str(), part.marked)).collect();
        assert_eq!(told, [("a", false), ("bcde", true), ("f", false)]);
        let (short, more) = shorten(cut("ééééé", Vec::from([2..4, 3..4])), 3);
        assert_eq!(
            (short.iter().map(|part| part.text.as_str()).collect::<String>(), more),
            ("ééé".to_owned(), true)
        );
        assert!(!shorten(cut("éé", Vec::new()), 2).1);
    }
}
