//! The intermediate representation of checked rules: what detection and correlation compile from.
//!
//! In: parsed documents, every key checked. Out: [`RuleSet`], immutable.
//! Invariants: a [`RuleIx`] indexes [`RuleSet::rules`]; a correlation comes after all rules it refers to; everything
//! in here is honoured exactly or the rule was rejected; field names are as written in the rule, and each source's
//! taxonomy resolves them ([`vedette_event::SourceDef::resolve`]) when a program is compiled.

use std::sync::Arc;

use ipnet::IpNet;
use vedette_event::{LogSource, RuleIx, Severity, Span};

/// All rules of one version.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    /// Accepted rules; a correlation stands after those it refers to.
    pub rules: Vec<Rule>,
    /// Refused documents, by file and line.
    pub rejected: Vec<Rejection>,
    /// Things worth a second look that do not stop a rule.
    pub warnings: Vec<Rejection>,
}

/// A refused document (or a warning), with its place: the error of this crate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message} [{code}]")]
pub struct Rejection {
    /// The file, as given.
    pub file: Arc<str>,
    /// Line from 1.
    pub line: usize,
    /// Column from 1.
    pub column: usize,
    /// The rule's id, where it could be read.
    pub rule_id: Option<Arc<str>>,
    /// A stable kebab-case code, such as `unknown-modifier`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
}

/// One accepted rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its `id`, else its `name`, else `<path>#<document number>`.
    pub id: Arc<str>,
    /// Its `name`, by which correlations may refer to it.
    pub name: Option<Arc<str>>,
    /// Its title.
    pub title: Arc<str>,
    /// Its description.
    pub description: Option<Arc<str>>,
    /// Its level; `medium` where the rule gives none.
    pub level: Severity,
    /// Its tags, as written.
    pub tags: Arc<[Arc<str>]>,
    /// Its known false positives.
    pub false_positives: Vec<Arc<str>>,
    /// The file it came from, as given, and the line of its document.
    pub file: Arc<str>,
    /// Line from 1.
    pub line: usize,
    /// Whether it raises alerts itself (false for a rule that only serves a correlation of its file).
    pub emits: bool,
    /// What it looks for.
    pub kind: RuleKind,
    /// Emission, entity and risk.
    pub extras: Extras,
    /// blake3 of the rule's canonical form with those it refers to and their field mapping. Titles and list contents are not in it.
    pub meaning: [u8; 32],
    /// Its inline tests.
    pub tests: Vec<RuleTest>,
    /// Its document as it stands in the file; what is longer than [`MAX_TEXT`] is cut.
    pub text: Arc<str>,
}

/// Bytes of a rule's text that are kept for people: with thousands of rules they are megabytes, and no ordinary rule is longer.
pub const MAX_TEXT: usize = 16 * 1024;

/// The two sorts of rule.
#[derive(Debug, Clone)]
pub enum RuleKind {
    /// Looks at one event.
    Detection(Detection),
    /// Looks at what other rules found.
    Correlation(Correlation),
}

impl RuleKind {
    /// `single`, or the correlation's type.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Detection(_) => "single",
            Self::Correlation(correlation) => correlation.kind.name(),
        }
    }
}

/// What `vedette:` adds to a rule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extras {
    /// `emit.rearm`: when an episode ends; by default the timespan, or 1 h for a single event.
    pub rearm: Option<Span>,
    /// `emit.update`: how often an episode is revised; 1 m by default.
    pub update: Option<Span>,
    /// `entity`: replaces the source's entity list (single events), or names the key part the alert is about.
    pub entity: Option<Arc<str>>,
    /// `risk.score`: replaces the level's.
    pub risk: Option<u32>,
    /// `summary`: a template with `{field}` of the key, `{count}`, `{value}`, `{title}`.
    pub summary: Option<Arc<str>>,
    /// `next_steps`: what an analyst does first, one line each.
    pub next_steps: Vec<Arc<str>>,
}

/// One inline test of a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleTest {
    /// Its name.
    pub name: Arc<str>,
    /// Line from 1.
    pub line: usize,
    /// The events in order of time, each a flat JSON object of canonical fields, with the time from the start of the test.
    pub events: Vec<(Span, serde_json::Map<String, serde_json::Value>)>,
    /// How many alerts of this rule must come.
    pub alerts: usize,
    /// Key parts that every alert must have.
    pub group: serde_json::Map<String, serde_json::Value>,
    /// The count that an alert must have, if given.
    pub count: Option<u64>,
}

/// A single-event rule.
#[derive(Debug, Clone)]
pub struct Detection {
    /// Which events it applies to.
    pub logsource: LogSource,
    /// The condition over `leaves`.
    pub condition: Expr,
    /// The distinct predicates of this rule.
    pub leaves: Vec<Leaf>,
}

/// A boolean expression. Two-valued: a leaf over a missing field is false (but for `null` and `exists: false`), and `not` of it is true.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// All hold; true if empty.
    And(Vec<Expr>),
    /// Any holds; false if empty.
    Or(Vec<Expr>),
    /// Does not hold.
    Not(Box<Expr>),
    /// Index into [`Detection::leaves`].
    Leaf(usize),
}

/// One predicate over one field, or over every string of the event.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Leaf {
    /// The field as written; `None` is a keyword search over all strings, nested ones included. A keyword's pattern already
    /// has `Many` at both ends: the predicate is to hold of the whole of some string.
    pub field: Option<Arc<str>>,
    /// The predicate.
    pub test: Test,
}

/// A predicate over a value. Over a list it holds if it holds for any element; objects satisfy only `Exists(true)`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Test {
    /// Matches text, and the canonical decimal text of a number or boolean.
    Text {
        /// The pattern.
        pattern: Pattern,
        /// Case counts.
        cased: bool,
    },
    /// Equals a number (canonical text, see [`vedette_event::cell::number`]); also true of a text with that decimal text.
    Number(Arc<str>),
    /// Equals a boolean; also true of the text `true` or `false`, ignoring case.
    Bool(bool),
    /// A regular expression is found in the text. `(?i)`, `(?m)`, `(?s)` are in the pattern already.
    Regex(Arc<str>),
    /// An address inside the network.
    Cidr(IpNet),
    /// Numerically compares: the field on the left; a text counts if it is a number.
    Compare(Cmp, Decimal),
    /// The field is missing or null. Not true of a list that holds null.
    Null,
    /// The field is there and not null, or (false) the opposite.
    Exists(bool),
    /// Compares with another field of the same event; false if either is missing.
    FieldRef {
        /// The other field, as written.
        other: Arc<str>,
        /// How.
        how: Relation,
        /// Case counts.
        cased: bool,
    },
    /// Not equal to what the inner predicate says; false on a missing field. Over a list: there is no element of which the inner one holds.
    Not(Box<Test>),
}

impl Test {
    /// How many bytes of text it holds.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Text { pattern, .. } => {
                let literals = pattern.0.iter().map(|piece| match piece {
                    Piece::Literal(text) => text.len(),
                    Piece::One | Piece::Many => 1,
                });
                literals.sum()
            }
            Self::Number(text) | Self::Regex(text) | Self::FieldRef { other: text, .. } => text.len(),
            Self::Not(inner) => inner.bytes(),
            Self::Bool(_) | Self::Cidr(_) | Self::Compare(..) | Self::Null | Self::Exists(_) => 8,
        }
    }
}

/// A finite number with total equality, for comparisons.
#[derive(Debug, Clone, Copy)]
pub struct Decimal(pub f64);

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}
impl Eq for Decimal {}
impl std::hash::Hash for Decimal {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// How two fields compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Relation {
    /// Same text.
    Equal,
    /// The first contains the second.
    Contains,
    /// The first starts with the second.
    StartsWith,
    /// The first ends with the second.
    EndsWith,
}

/// A text pattern: pieces in order, unescaped. `*` crosses newlines.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern(pub Vec<Piece>);

/// A piece of a [`Pattern`]. Neighbouring literals and neighbouring `Many` are merged.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Piece {
    /// This text.
    Literal(Arc<str>),
    /// Exactly one character.
    One,
    /// Any number of characters.
    Many,
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cmp {
    /// Less.
    Lt,
    /// Less or equal.
    Lte,
    /// Greater.
    Gt,
    /// Greater or equal.
    Gte,
    /// Equal.
    Eq,
    /// Not equal.
    Neq,
}

impl Cmp {
    /// Whether `left <cmp> right` holds.
    #[must_use]
    pub fn holds<T: PartialOrd>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Lt => left < right,
            Self::Lte => left <= right,
            Self::Gt => left > right,
            Self::Gte => left >= right,
            Self::Eq => left == right,
            Self::Neq => left != right,
        }
    }
}

/// A correlation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correlation {
    /// Its type.
    pub kind: CorrelationKind,
    /// The rules it refers to, in the order written, each once. All are detections, or (a chain) some are correlations.
    pub rules: Vec<RuleIx>,
    /// The key's parts, in the order written.
    pub group_by: Vec<KeyPart>,
    /// The window.
    pub timespan: Span,
    /// All comparisons must hold. For `temporal` the default is `gte` the number of rules; empty for `temporal_ordered`.
    pub condition: Vec<(Cmp, u64)>,
}

impl Correlation {
    /// True if any of `lt`, `lte`, `eq`, `neq` is in the condition: aligned windows, judged when they end.
    #[must_use]
    pub fn judged(&self) -> bool {
        self.condition.iter().any(|(cmp, _)| matches!(cmp, Cmp::Lt | Cmp::Lte | Cmp::Eq | Cmp::Neq))
    }

    /// The least measured value at which a condition of `gt` and `gte` alone holds; at least 1.
    #[must_use]
    pub fn threshold(&self) -> u64 {
        let least = self.condition.iter().map(|(cmp, n)| match cmp {
            Cmp::Gt => n.saturating_add(1),
            _ => *n,
        });
        least.max().unwrap_or(1).max(1)
    }
}

/// The types of correlation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorrelationKind {
    /// Weighted number of events.
    EventCount,
    /// Number of distinct values (tuples) of these fields, as written.
    ValueCount(Vec<Arc<str>>),
    /// Number of distinct rules matched.
    Temporal,
    /// All rules in the order written.
    TemporalOrdered,
}

impl CorrelationKind {
    /// The name in Sigma.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::EventCount => "event_count",
            Self::ValueCount(_) => "value_count",
            Self::Temporal => "temporal",
            Self::TemporalOrdered => "temporal_ordered",
        }
    }
}

/// One part of a group key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPart {
    /// The name written in `group-by`: a field or an alias. The key bears it.
    pub name: Arc<str>,
    /// Per referenced rule that the alias names, the field it stands for; other rules use `name` as a plain field.
    pub fields: Vec<(RuleIx, Arc<str>)>,
}

impl KeyPart {
    /// The field, as written, that gives this part for a referenced rule.
    #[must_use]
    pub fn field_of(&self, rule: RuleIx) -> &Arc<str> {
        self.fields.iter().find(|(r, _)| *r == rule).map_or(&self.name, |(_, field)| field)
    }
}

impl RuleSet {
    /// A rule of this set.
    #[must_use]
    pub fn get(&self, ix: RuleIx) -> &Rule {
        &self.rules[ix.0 as usize]
    }

    /// All rules with their index.
    pub fn iter(&self) -> impl Iterator<Item = (RuleIx, &Rule)> {
        self.rules.iter().enumerate().map(|(at, rule)| (RuleIx(at as u32), rule))
    }
}
