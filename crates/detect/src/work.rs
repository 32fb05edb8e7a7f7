//! What a record costs: a count of steps, by which one that is too dear is refused before any rule looks at it.
//!
//! In: the predicates of all rules, the cells of an event. Out: its steps ([`Work`]), and events beyond a budget ([`TooDear`]).
//! Invariants: the count is a function of the event and the rules alone. It is what every predicate of every rule that
//! applies would take over every text of its fields, with nothing remembered, sampled or left out, so that the same log
//! has the same dead letters whatever the batches, threads and memos; and what really happens never takes more than a
//! small multiple of it. An ordinary batch pays one multiplication a column, because its longest cells show that none of
//! its events can be too dear.
//!
//! # Prices
//!
//! A *step* is about one byte passed in the search for one text, a nanosecond at most. A cell's size is its bytes and 16
//! for each text in it (a list has one for each element). Each predicate costs so many sixteenths of a step a unit of size:
//!
//! | predicate | sixteenths | because |
//! |---|---|---|
//! | a text at the start, at the end or as a whole; numbers, booleans | 1, with case 4 | one lookup for all of them; with case the text is copied |
//! | a text of four bytes or more anywhere | 1 | one pass over the text finds all of them |
//! | a shorter one, one with case, one with several wildcards | 16 | a search of its own |
//! | one with `?` | 16 for each byte of it, and 16 | it may begin at each byte of the text |
//! | a regular expression | 32, 2 for each character in it and 64 for each one in a counted repetition | its automaton may have to be built anew at each byte, with as many states at once as repetitions can overlap |
//! | a comparison, a rule's first network for a field | 32 | each text is read as a number or an address |
//! | its others for that field | 4 for each further length of prefix | one lookup finds all of that length |
//! | another field | 256, `contains` 1024; of both fields | both are sorted; of all texts looked for an automaton is built |
//! | null, exists | 0 | |

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use ipnet::IpNet;
use regex_syntax::hir::{Hir, HirKind};
use vedette_event::{Cell, Column, EventBatch, Kind, RuleIx, SourceDef};
use vedette_sigma::{Detection, Leaf, Pattern, Piece, Relation, Test};

use crate::{
    class::{Names, applies},
    json,
    program::Program,
    relation::each_text,
};

/// Steps that one record may cost.
///
/// No record of 1 MiB costs more than 14.6 thousand million under all rules of SigmaHQ, whatever is in it (85 of 100 parts
/// of the budget): who could make a record too dear for ordinary rules could hide in it. It is the other records that have
/// to be protected, from rules that overlap a thousand counted repetitions: 17 s at worst, where it was hours. That is
/// less than the time after which a stage without a sign of life is taken for stuck, since nothing is told within a record.
/// It cannot be much lower, because four fifths of that figure are regular expressions with counted repetitions (`.{1000,}`
/// alone is a third), of which a cheaper price would not be true of each text that somebody can choose.
pub const BUDGET: u64 = 1 << 34;

/// Steps after which whoever evaluates a batch has to give a sign of life: four seconds at worst. All of SigmaHQ over an
/// ordinary batch takes less.
pub const PART: u64 = 1 << 32;

/// Sixteenths of a step.
const SIXTEENTHS: u64 = 16;
/// Sixteenths that one more length of prefix costs.
const LENGTH: u64 = 4;
/// What a text costs beside its bytes.
const TEXT: u64 = 16;

/// What an event costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// In all.
    pub steps: u64,
    /// The rule with the greatest share (the first of several), and its share.
    pub dearest: Option<(RuleIx, u64)>,
}

impl Work {
    /// Adds the sixteenths of one rule, which come in the order of the rules.
    pub(crate) fn add(&mut self, rule: RuleIx, sixteenths: u64) {
        let share = sixteenths / SIXTEENTHS;
        self.steps = self.steps.saturating_add(share);
        if self.dearest.is_none_or(|(_, most)| share > most) {
            self.dearest = Some((rule, share));
        }
    }
}

/// An event beyond the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooDear {
    /// Its row.
    pub row: u32,
    /// What it would cost.
    pub work: Work,
}

/// The size of a cell with so many texts.
pub(crate) fn size(bytes: usize, texts: usize) -> u64 {
    (bytes as u64).saturating_add(TEXT.saturating_mul(texts as u64))
}

/// No cell of so many bytes is larger: a list has at most one element for each two bytes.
fn largest(bytes: usize) -> u64 {
    size(bytes, bytes / 2 + 1)
}

/// Sixteenths of a step that a predicate costs for each unit of size.
pub(crate) fn price(test: &Test) -> u64 {
    match test {
        Test::Text { pattern, cased } => pattern_price(pattern, *cased),
        Test::Number(_) | Test::Bool(_) => 1,
        Test::Regex(text) => regex_syntax::parse(text).map_or(0, |hir| {
            let (single, repeated) = characters(&hir, false);
            repeated.saturating_mul(64).saturating_add(single.saturating_mul(2)).saturating_add(32)
        }),
        Test::Cidr(_) | Test::Compare(..) => 32,
        Test::Null | Test::Exists(_) => 0,
        Test::FieldRef { how: Relation::Contains, .. } => 1024,
        Test::FieldRef { .. } => 256,
        Test::Not(inner) => price(inner),
    }
}

fn pattern_price(pattern: &Pattern, cased: bool) -> u64 {
    match pattern.0.as_slice() {
        [] | [Piece::Literal(_)] | [Piece::Literal(_), Piece::Many] | [Piece::Many, Piece::Literal(_)] => {
            if cased {
                4
            } else {
                1
            }
        }
        [Piece::Many, Piece::Literal(text), Piece::Many] if !cased && text.len() >= 4 => 1,
        pieces if pieces.contains(&Piece::One) => {
            let bytes = pieces.iter().map(|piece| match piece {
                Piece::Literal(text) => text.len() as u64,
                Piece::One | Piece::Many => 1,
            });
            bytes.sum::<u64>() * 16 + 16
        }
        _ => 16,
    }
}

/// The characters and classes of an expression when it is written out: those outside and those inside counted repetitions.
fn characters(hir: &Hir, counted: bool) -> (u64, u64) {
    let one = |n: u64| if counted { (0, n) } else { (n, 0) };
    let sum = |(a, b): (u64, u64), (c, d): (u64, u64)| (a.saturating_add(c), b.saturating_add(d));
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => (0, 0),
        HirKind::Literal(literal) => one(literal.0.len() as u64),
        HirKind::Class(_) => one(1),
        HirKind::Capture(capture) => characters(&capture.sub, counted),
        HirKind::Repetition(repetition) => {
            let times = u64::from(repetition.max.unwrap_or(repetition.min).max(1));
            let (single, repeated) = characters(&repetition.sub, counted || times > 1);
            (single, repeated.saturating_mul(times))
        }
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().map(|part| characters(part, counted)).fold((0, 0), sum)
        }
    }
}

/// The field that a predicate compares with.
fn other_field(test: &Test) -> Option<&str> {
    match test {
        Test::FieldRef { other, .. } => Some(other),
        Test::Not(inner) => other_field(inner),
        _ => None,
    }
}

/// The network that a predicate looks for.
fn network(test: &Test) -> Option<&IpNet> {
    match test {
        Test::Cidr(network) => Some(network),
        Test::Not(inner) => network(inner),
        _ => None,
    }
}

/// Calls `each` with the names of the columns that a rule's predicates cost something for, and the price; `None` is the
/// text of the event.
pub(crate) fn prices(detection: &Detection, source: &SourceDef, each: &mut impl FnMut(Option<&str>, u64)) {
    let mut lengths: BTreeMap<&str, BTreeSet<(bool, u8)>> = BTreeMap::new();
    for leaf in &detection.leaves {
        let price = match (leaf.field.as_deref(), network(&leaf.test)) {
            (Some(field), Some(network)) => {
                let known = lengths.entry(field).or_default();
                let first = known.is_empty();
                let new = known.insert((network.addr().is_ipv6(), network.prefix_len()));
                if first { price(&leaf.test) } else { LENGTH * u64::from(new) }
            }
            _ => price(&leaf.test),
        };
        leaf_prices(leaf, price, source, each);
    }
}

/// The same of one predicate. A pair of columns costs for both.
fn leaf_prices(leaf: &Leaf, price: u64, source: &SourceDef, each: &mut impl FnMut(Option<&str>, u64)) {
    let (Some(field), true) = (&leaf.field, price > 0) else {
        if price > 0 && other_field(&leaf.test).is_none() {
            each(None, price);
        }
        return;
    };
    let columns = source.resolve(field);
    let Some(other) = other_field(&leaf.test) else {
        return columns.into_iter().for_each(|column| each(Some(column), price));
    };
    for left in columns {
        for right in source.resolve(other) {
            each(Some(left), price);
            each(Some(right), price);
        }
    }
}

/// What the rules of a program cost, by column.
#[derive(Debug, Default)]
pub(crate) struct Prices {
    /// Of all rules together: by column, and for the text of the event.
    columns: Vec<u64>,
    text: u64,
    rules: Vec<RulePrices>,
}

/// What one rule costs.
#[derive(Debug)]
struct RulePrices {
    ix: RuleIx,
    names: Names,
    columns: Vec<(u32, u64)>,
    text: u64,
}

impl Prices {
    pub(crate) fn new(columns: usize) -> Self {
        Self { columns: vec![0; columns], ..Self::default() }
    }

    /// Adds a rule; `column` finds a canonical name among the batch's columns.
    pub(crate) fn add(
        &mut self,
        (ix, names): (RuleIx, Names),
        detection: &Detection,
        source: &SourceDef,
        column: impl Fn(&str) -> Option<u32>,
    ) {
        let mut rule = RulePrices { ix, names, columns: Vec::new(), text: 0 };
        prices(detection, source, &mut |name, price| match name {
            None => rule.text = rule.text.saturating_add(price),
            Some(name) => rule.columns.extend(column(name).map(|at| (at, price))),
        });
        rule.columns.sort_unstable();
        rule.columns.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            kept.1 = if same { kept.1.saturating_add(next.1) } else { kept.1 };
            same
        });
        for (at, price) in &rule.columns {
            let sum = &mut self.columns[*at as usize];
            *sum = sum.saturating_add(*price);
        }
        self.text = self.text.saturating_add(rule.text);
        self.rules.push(rule);
    }

    /// Adds rules further behind.
    pub(crate) fn append(&mut self, behind: Self) {
        for (sum, more) in self.columns.iter_mut().zip(&behind.columns) {
            *sum = sum.saturating_add(*more);
        }
        self.text = self.text.saturating_add(behind.text);
        self.rules.extend(behind.rules);
    }

    /// What all rules would take over cells of these sizes.
    fn bound(&self, of_column: impl Fn(usize) -> u64, of_text: u64) -> u64 {
        let each = self.columns.iter().enumerate().filter(|(_, price)| **price > 0);
        let columns = each.map(|(at, price)| price.saturating_mul(of_column(at)));
        columns.fold(self.text.saturating_mul(of_text), u64::saturating_add) / SIXTEENTHS
    }
}

impl Program {
    /// The events of a batch that cost more steps than this.
    #[must_use]
    pub fn too_dear(&self, batch: &EventBatch, budget: u64) -> Vec<TooDear> {
        let longest = |at: usize| batch.columns().get(at).map_or(0, |column| largest(column.longest()));
        if self.prices.bound(longest, largest(batch.original().longest())) <= budget {
            return Vec::new();
        }
        let rows = (0..batch.rows()).filter(|row| {
            let cell = |at: usize| batch.columns().get(at).map_or(0, |column| roughly(column.cell(*row)));
            self.prices.bound(cell, largest(batch.original().cell(*row).text.len())) > budget
        });
        let worked = rows.map(|row| TooDear { row: row as u32, work: self.work(batch, row) });
        worked.filter(|event| event.work.steps > budget).collect()
    }

    /// The rows of a batch in parts, none of which costs more steps than this, but for one that is a single row.
    #[must_use]
    pub fn parts(&self, batch: &EventBatch, steps: u64) -> Vec<Range<usize>> {
        let rows = batch.rows();
        let all = |column: &Column| size(column.bytes(), column.bytes() / 2 + rows);
        let of_column = |at: usize| batch.columns().get(at).map_or(0, all);
        let cheap = self.prices.bound(of_column, all(batch.original())) <= steps;
        let mut parts = Vec::new();
        let (mut from, mut sum) = (0, 0_u64);
        for row in if cheap { 0..0 } else { 0..rows } {
            let cell = |at: usize| batch.columns().get(at).map_or(0, |column| roughly(column.cell(row)));
            let cost = self.prices.bound(cell, largest(batch.original().cell(row).text.len()));
            if row > from && sum.saturating_add(cost) > steps {
                parts.push(from..row);
                (from, sum) = (row, 0);
            }
            sum = sum.saturating_add(cost);
        }
        parts.push(from..rows);
        parts
    }

    /// What an event costs.
    #[must_use]
    pub fn work(&self, batch: &EventBatch, row: usize) -> Work {
        let names = self.names_of(batch, row);
        let mut scratch = String::new();
        let sizes: Vec<u64> = batch
            .columns()
            .iter()
            .zip(&self.prices.columns)
            .map(|(column, price)| if *price == 0 { 0 } else { exactly(column.cell(row), &mut scratch) })
            .collect();
        let original = batch.original().cell(row).text;
        let mut strings = usize::from(self.whole_record);
        if !self.whole_record && self.prices.text > 0 {
            json::strings(original, &mut scratch, |_| strings += 1);
        }
        let mut work = Work::default();
        for rule in self.prices.rules.iter().filter(|rule| applies(rule.names, names)) {
            let of = |(at, price): &(u32, u64)| {
                price.saturating_mul(sizes.get(*at as usize).copied().unwrap_or(0))
            };
            let columns = rule.columns.iter().map(of);
            let text = rule.text.saturating_mul(size(original.len(), strings));
            work.add(rule.ix, columns.fold(text, u64::saturating_add));
        }
        work
    }
}

/// At least the size of a cell.
fn roughly(cell: Cell<'_>) -> u64 {
    match cell.kind {
        Kind::Missing | Kind::Null | Kind::Object => 0,
        Kind::List => largest(cell.text.len()),
        Kind::Text | Kind::Int | Kind::Float | Kind::Bool => size(cell.text.len(), 1),
    }
}

/// The size of a cell.
fn exactly(cell: Cell<'_>, scratch: &mut String) -> u64 {
    let mut texts = 0;
    each_text(cell, scratch, |_| texts += 1);
    if texts == 0 { 0 } else { size(cell.text.len(), texts) }
}
