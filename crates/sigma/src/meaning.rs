//! What a rule means, as a hash: equal for rules that fire alike, whatever they are called.
//!
//! In: lowered rules, the meanings of those they refer to, source definitions. Out: 32 bytes of blake3.
//! Invariants: every part is preceded by a tag and every text by its length, so different rules have different
//! encodings; titles, ids, levels and the contents of lists are not in it. A field's mapping is in it where it says
//! more than the field's own name.

use std::collections::{BTreeMap, BTreeSet};

use vedette_event::{RuleIx, SourceDef, SourceIx, Sources, Span};

use crate::{
    Cmp, Correlation, CorrelationKind, Detection, Expr, Extras, Leaf, Pattern, Piece, Relation, Test,
};

/// The sources by which a rule's fields are resolved.
pub(crate) struct Meaning<'a> {
    sources: &'a Sources,
    defs: Vec<&'a SourceDef>,
}

impl<'a> Meaning<'a> {
    /// The mapping by these sources.
    pub fn new(sources: &'a Sources, applicable: &BTreeSet<SourceIx>) -> Self {
        Self { sources, defs: applicable.iter().map(|ix| sources.get(*ix)).collect() }
    }
}

/// What a detection means.
pub(crate) fn detection(detection: &Detection, extras: &Extras, mapping: &Meaning<'_>) -> [u8; 32] {
    let mut out = Encoder::default();
    out.text("vedette detection 1");
    for key in [&detection.logsource.product, &detection.logsource.category, &detection.logsource.service] {
        out.option(key.as_ref(), |out, key| out.text(&key.to_lowercase()));
    }
    out.expr(&detection.condition, &detection.leaves);
    out.extras(extras);
    let mut fields: BTreeSet<&str> = BTreeSet::new();
    for leaf in &detection.leaves {
        fields.extend(leaf.field.as_deref());
        fields.extend(other_field(&leaf.test));
    }
    fields.extend(extras.entity.as_deref());
    out.mapping(&fields, mapping);
    out.finish()
}

/// What a correlation means, given the rules it refers to, their meanings and mappings.
pub(crate) fn correlation(
    correlation: &Correlation,
    extras: &Extras,
    children: &[(RuleIx, [u8; 32], Meaning<'_>)],
) -> [u8; 32] {
    let mut out = Encoder::default();
    out.text("vedette correlation 1");
    out.text(correlation.kind.name());
    let counted: &[_] = match &correlation.kind {
        CorrelationKind::ValueCount(fields) => fields,
        _ => &[],
    };
    out.number(counted.len() as u64);
    counted.iter().for_each(|field| out.text(field));
    out.number(correlation.timespan.0 as u64);
    out.number(correlation.condition.len() as u64);
    for (cmp, n) in &correlation.condition {
        out.tag(compare_tag(*cmp));
        out.number(*n);
    }
    out.number(correlation.group_by.len() as u64);
    correlation.group_by.iter().for_each(|part| out.text(&part.name));
    out.extras(extras);
    out.number(children.len() as u64);
    for (child, meaning, mapping) in children {
        out.0.extend_from_slice(meaning);
        let mut fields: BTreeSet<&str> = counted.iter().map(|field| &**field).collect();
        for part in &correlation.group_by {
            let field = part.field_of(*child);
            out.text(field);
            fields.insert(field);
        }
        out.mapping(&fields, mapping);
    }
    out.finish()
}

fn other_field(test: &Test) -> Option<&str> {
    match test {
        Test::FieldRef { other, .. } => Some(other),
        Test::Not(inner) => other_field(inner),
        _ => None,
    }
}

fn compare_tag(cmp: Cmp) -> u8 {
    match cmp {
        Cmp::Lt => 1,
        Cmp::Lte => 2,
        Cmp::Gt => 3,
        Cmp::Gte => 4,
        Cmp::Eq => 5,
        Cmp::Neq => 6,
    }
}

/// Writes parts unambiguously, to be hashed at once: handed to the hash one by one, as short as they are, they cost three
/// times as much as the hash itself.
#[derive(Default)]
struct Encoder(Vec<u8>);

impl Encoder {
    fn finish(self) -> [u8; 32] {
        *blake3::hash(&self.0).as_bytes()
    }

    fn tag(&mut self, tag: u8) {
        self.0.push(tag);
    }

    fn number(&mut self, n: u64) {
        self.0.extend_from_slice(&n.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.tag(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }

    fn extras(&mut self, extras: &Extras) {
        let span = |out: &mut Self, span: Span| out.number(span.0 as u64);
        self.option(extras.rearm, span);
        self.option(extras.update, span);
        self.option(extras.entity.as_deref(), Self::text);
    }

    fn expr(&mut self, expr: &Expr, leaves: &[Leaf]) {
        let (tag, parts) = match expr {
            Expr::And(parts) => (1, parts.as_slice()),
            Expr::Or(parts) => (2, parts.as_slice()),
            Expr::Not(inner) => (3, std::slice::from_ref(&**inner)),
            Expr::Leaf(at) => {
                self.tag(4);
                if let Some(leaf) = leaves.get(*at) {
                    self.option(leaf.field.as_deref(), Self::text);
                    self.test(&leaf.test);
                }
                return;
            }
        };
        self.tag(tag);
        self.number(parts.len() as u64);
        parts.iter().for_each(|part| self.expr(part, leaves));
    }

    fn test(&mut self, test: &Test) {
        match test {
            Test::Text { pattern, cased } => {
                self.tag(1);
                self.pattern(pattern);
                self.tag(u8::from(*cased));
            }
            Test::Number(text) => {
                self.tag(2);
                self.text(text);
            }
            Test::Bool(value) => {
                self.tag(3);
                self.tag(u8::from(*value));
            }
            Test::Regex(text) => {
                self.tag(4);
                self.text(text);
            }
            Test::Cidr(net) => {
                self.tag(5);
                self.text(&net.to_string());
            }
            Test::Compare(cmp, value) => {
                self.tag(6);
                self.tag(compare_tag(*cmp));
                self.number(value.0.to_bits());
            }
            Test::Null => self.tag(7),
            Test::Exists(value) => {
                self.tag(8);
                self.tag(u8::from(*value));
            }
            Test::FieldRef { other, how, cased } => {
                self.tag(9);
                self.text(other);
                self.tag(match how {
                    Relation::Equal => 1,
                    Relation::Contains => 2,
                    Relation::StartsWith => 3,
                    Relation::EndsWith => 4,
                });
                self.tag(u8::from(*cased));
            }
            Test::Not(inner) => {
                self.tag(10);
                self.test(inner);
            }
        }
    }

    fn pattern(&mut self, pattern: &Pattern) {
        self.number(pattern.0.len() as u64);
        for piece in &pattern.0 {
            match piece {
                Piece::Literal(text) => {
                    self.tag(1);
                    self.text(text);
                }
                Piece::One => self.tag(2),
                Piece::Many => self.tag(3),
            }
        }
    }

    /// The canonical columns of fields by source, where they are not the field's own name, and their declared types.
    fn mapping(&mut self, fields: &BTreeSet<&str>, mapping: &Meaning<'_>) {
        let mut kinds: BTreeMap<&str, u8> = BTreeMap::new();
        for field in fields {
            for def in &mapping.defs {
                let columns = def.resolve(field);
                for column in &columns {
                    if let Some(kind) = mapping.sources.fields.kind(column) {
                        kinds.insert(column, kind as u8);
                    }
                }
                if columns != [*field] {
                    self.tag(1);
                    self.text(field);
                    self.text(&def.name);
                    self.number(columns.len() as u64);
                    columns.iter().for_each(|column| self.text(column));
                }
            }
        }
        for (column, kind) in kinds {
            self.tag(2);
            self.text(column);
            self.tag(kind);
        }
        self.tag(0);
    }
}
