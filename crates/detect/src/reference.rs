//! The oracle: one rule against one event, slowly and obviously.
//!
//! In: a rule, a source definition, a lookup from canonical column to cell, and the event's text. Out: true or false, or
//! what it costs (the prices themselves are the program's).
//! Invariant: shares no machinery with [`crate::Program`]; it is written from the meaning of the rule language (see the
//! crate's documentation for the rulings), so that disagreement means that one of the two is wrong.

use std::{cell::RefCell, fmt, net::IpAddr};

use ipnet::IpNet;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use vedette_event::{Cell, Kind, LogSource, RuleIx, SourceDef, cell::number, source::Form};
use vedette_sigma::{Expr, Leaf, Pattern, Piece, Relation, RuleKind, RuleSet, Test};

use crate::work::{Work, prices, size};

/// Whether a detection rule matches an event. Correlations and unknown rules never do.
pub fn matches<'a>(
    rules: &RuleSet,
    rule: RuleIx,
    source: &SourceDef,
    cell: &dyn Fn(&str) -> Cell<'a>,
    original: &str,
) -> bool {
    let Some(RuleKind::Detection(detection)) = rules.rules.get(rule.0 as usize).map(|rule| &rule.kind) else {
        return false;
    };
    let event = Event { source, cell, original };
    detection.logsource.compatible(&event.logsource())
        && holds(&detection.condition, &|leaf| {
            detection.leaves.get(leaf).is_some_and(|leaf| event.satisfies(leaf))
        })
}

/// What an event costs ([`crate::work`]), predicate by predicate.
pub fn work<'a>(
    rules: &RuleSet,
    source: &SourceDef,
    cell: &dyn Fn(&str) -> Cell<'a>,
    original: &str,
) -> Work {
    let event = Event { source, cell, original };
    let mut work = Work::default();
    for (ix, rule) in rules.iter() {
        let RuleKind::Detection(detection) = &rule.kind else { continue };
        if !detection.logsource.compatible(&event.logsource()) {
            continue;
        }
        let mut sixteenths = 0;
        prices(detection, source, &mut |column, price| sixteenths += price * event.size(column));
        work.add(ix, sixteenths);
    }
    work
}

/// The value of a boolean expression.
fn holds(expr: &Expr, leaf: &dyn Fn(usize) -> bool) -> bool {
    match expr {
        Expr::And(parts) => parts.iter().all(|part| holds(part, leaf)),
        Expr::Or(parts) => parts.iter().any(|part| holds(part, leaf)),
        Expr::Not(part) => !holds(part, leaf),
        Expr::Leaf(at) => leaf(*at),
    }
}

/// One event, seen through its source.
struct Event<'e, 'a> {
    source: &'e SourceDef,
    cell: &'e dyn Fn(&str) -> Cell<'a>,
    original: &'e str,
}

/// A column's value as predicates see it.
enum Item {
    /// Missing or null.
    Absent,
    /// An object.
    Object,
    /// The texts of a list's scalar elements, or the one text of a scalar.
    Texts(Vec<String>),
}

impl Event<'_, '_> {
    fn logsource(&self) -> LogSource {
        if !self.source.own_logsource() {
            return self.source.logsource.clone();
        }
        let own = |name| {
            let cell = (self.cell)(name);
            (cell.kind == Kind::Text).then(|| cell.text.to_owned())
        };
        LogSource { product: own("product"), category: own("category"), service: own("service") }
    }

    /// The size of a column, or of the event's text.
    fn size(&self, column: Option<&str>) -> u64 {
        let Some(column) = column else { return size(self.original.len(), self.strings().len()) };
        let cell = (self.cell)(column);
        match item(cell) {
            Item::Texts(texts) if !texts.is_empty() => size(cell.text.len(), texts.len()),
            _ => 0,
        }
    }

    /// The strings that keywords see.
    fn strings(&self) -> Vec<String> {
        if self.source.form == Form::PanosCsv {
            vec![self.original.to_owned()]
        } else {
            strings_of(self.original)
        }
    }

    fn satisfies(&self, leaf: &Leaf) -> bool {
        match &leaf.field {
            Some(field) => self.field_holds(&leaf.test, field),
            None => self.keyword_holds(&leaf.test),
        }
    }

    fn items(&self, written: &str) -> Vec<Item> {
        self.source.resolve(written).into_iter().map(|column| item((self.cell)(column))).collect()
    }

    fn field_holds(&self, test: &Test, written: &str) -> bool {
        let items = self.items(written);
        let absent = items.iter().all(|item| matches!(item, Item::Absent));
        match test {
            Test::Null | Test::Exists(false) => absent,
            Test::Exists(true) => !absent,
            Test::Not(inner) => {
                let comparable = items.iter().any(|item| matches!(item, Item::Texts(_)));
                comparable && !self.field_holds(inner, written)
            }
            Test::FieldRef { other, how, cased } => {
                let others = texts(self.items(other));
                texts(items).iter().any(|a| others.iter().any(|b| related(a, b, *how, *cased)))
            }
            _ => texts(items).iter().any(|text| text_holds(test, text)),
        }
    }

    fn keyword_holds(&self, test: &Test) -> bool {
        let strings = self.strings();
        match test {
            Test::Not(inner) => !strings.is_empty() && !self.keyword_holds(inner),
            _ => strings.iter().any(|text| text_holds(test, text)),
        }
    }
}

fn texts(items: Vec<Item>) -> Vec<String> {
    let mut all = Vec::new();
    for item in items {
        if let Item::Texts(texts) = item {
            all.extend(texts);
        }
    }
    all
}

fn item(cell: Cell<'_>) -> Item {
    match cell.kind {
        Kind::Missing | Kind::Null => Item::Absent,
        Kind::Object => Item::Object,
        Kind::Text | Kind::Int | Kind::Float | Kind::Bool => Item::Texts(vec![cell.text.to_owned()]),
        Kind::List => {
            let elements: Vec<serde_json::Value> = serde_json::from_str(cell.text).unwrap_or_default();
            Item::Texts(elements.iter().filter_map(element).collect())
        }
    }
}

fn element(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Bool(truth) => Some(truth.to_string()),
        serde_json::Value::Number(n) => number(&n.to_string()).map(|(_, text)| text),
        _ => None,
    }
}

/// Whether a predicate holds of one text (a number's and a boolean's is their canonical text).
fn text_holds(test: &Test, text: &str) -> bool {
    match test {
        Test::Text { pattern, cased } => like(pattern, text, *cased),
        Test::Number(n) => **n == *text,
        Test::Bool(truth) => text.eq_ignore_ascii_case(if *truth { "true" } else { "false" }),
        Test::Regex(pattern) => regex::Regex::new(pattern).is_ok_and(|regex| regex.is_match(text)),
        Test::Cidr(net) => text.parse().is_ok_and(|address| inside(address, *net)),
        Test::Compare(cmp, right) => {
            let Some((kind, left)) = number(text) else { return false };
            match (kind, left.parse::<i128>(), left.parse::<f64>()) {
                (Kind::Int, Ok(left), _) if right.0.trunc() == right.0 => {
                    cmp.holds(&left, &(right.0 as i128))
                }
                (_, _, Ok(left)) => cmp.holds(&left, &right.0),
                _ => false,
            }
        }
        Test::Null | Test::FieldRef { .. } => false,
        Test::Exists(there) => *there,
        Test::Not(inner) => !text_holds(inner, text),
    }
}

fn lower(c: char) -> char {
    c.to_lowercase().next().unwrap_or(c)
}

/// Wildcard matching by the table `reached[i]`: the pieces so far can match exactly the first `i` characters.
fn like(pattern: &Pattern, text: &str, cased: bool) -> bool {
    let same = |a: char, b: char| if cased { a == b } else { lower(a) == lower(b) };
    let text: Vec<char> = text.chars().collect();
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    let step = |reached: &[bool], accepts: &dyn Fn(char) -> bool| {
        let mut next = vec![false; reached.len()];
        for (at, c) in text.iter().enumerate() {
            next[at + 1] = reached[at] && accepts(*c);
        }
        next
    };
    for piece in &pattern.0 {
        match piece {
            Piece::Literal(literal) => {
                for wanted in literal.chars() {
                    reached = step(&reached, &|c| same(c, wanted));
                }
            }
            Piece::One => reached = step(&reached, &|_| true),
            Piece::Many => {
                let first = reached.iter().position(|here| *here).unwrap_or(reached.len());
                reached.iter_mut().enumerate().for_each(|(at, here)| *here = at >= first);
            }
        }
    }
    reached.last() == Some(&true)
}

fn related(a: &str, b: &str, how: Relation, cased: bool) -> bool {
    let spell =
        |text: &str| -> Vec<char> { text.chars().map(|c| if cased { c } else { lower(c) }).collect() };
    let (a, b) = (spell(a), spell(b));
    match how {
        Relation::Equal => a == b,
        Relation::Contains => b.is_empty() || a.windows(b.len()).any(|window| window == b),
        Relation::StartsWith => a.starts_with(&b),
        Relation::EndsWith => a.ends_with(&b),
    }
}

/// An IPv4-mapped IPv6 address is also the IPv4 address.
fn inside(address: IpAddr, net: IpNet) -> bool {
    let leading_bits_agree = |a: u128, b: u128, width: u32| {
        let len = u32::from(net.prefix_len());
        len == 0 || (a ^ b) >> (width - len) == 0
    };
    match (address, net.addr()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => leading_bits_agree(a.to_bits().into(), b.to_bits().into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => leading_bits_agree(a.to_bits(), b.to_bits(), 128),
        (IpAddr::V6(a), IpAddr::V4(_)) => a.to_ipv4_mapped().is_some_and(|a| inside(IpAddr::V4(a), net)),
        (IpAddr::V4(_), IpAddr::V6(_)) => false,
    }
}

/// Every string value of a JSON text, nested ones included, keys not; none if it is no JSON.
fn strings_of(json: &str) -> Vec<String> {
    let found = RefCell::new(Vec::new());
    let mut reader = serde_json::Deserializer::from_str(json);
    match Strings(&found).deserialize(&mut reader).and_then(|()| reader.end()) {
        Ok(()) => found.into_inner(),
        Err(_) => Vec::new(),
    }
}

#[derive(Clone, Copy)]
struct Strings<'f>(&'f RefCell<Vec<String>>);

impl<'de> DeserializeSeed<'de> for Strings<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strings<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }
    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.borrow_mut().push(text.to_owned());
        Ok(())
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(self)?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        while object.next_key::<serde::de::IgnoredAny>()?.is_some() {
            object.next_value_seed(self)?;
        }
        Ok(())
    }
}
