//! YAML with the place of every key and value, within bounds.
//!
//! In: a file's text. Out: one [`Node`] for each document that is not empty, or the first [`Fault`] of the file.
//! Invariants: scalars keep their text and whether they were plain, so that `010`, `'5'` and `5` stay apart; size,
//! depth, node count and alias expansion are bounded while events are pulled, before anything large is built; a
//! mapping has no key twice. It pulls events from the parser itself, since a loader would build first and count later.
//!
//! saphyr, because it gives the raw text, the quoting and the place of every scalar. serde_yaml and its heirs let the last of two equal
//! keys win, and reading without types makes 8 or 10 of `010` and true of `yes`, which rules must not.

use std::collections::{BTreeMap, HashMap};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};
use vedette_event::{Kind, Span, cell::number};

use crate::fault::{Fault, Place, did_you_mean, shown};

/// Largest file.
pub(crate) const MAX_BYTES: usize = 4 << 20;
/// Deepest nesting.
const MAX_DEPTH: usize = 32;
/// Most keys and values in a file, those that aliases repeat included.
const MAX_NODES: usize = 200_000;
/// Longest length of time.
const MAX_SPAN: Span = Span(366 * 86_400_000_000);
/// What helps against nesting.
const FLATTER: &str = "nest fewer lists and maps in each other";
/// Most documents in a file.
const MAX_DOCUMENTS: usize = 10_000;

/// A value and where it starts.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it starts.
    pub at: Place,
    /// What it is.
    pub value: Value,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text, a number, a boolean or null.
    Scalar(Scalar),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order written; no key is in it twice.
    Map(Vec<Entry>),
}

/// A scalar as written.
#[derive(Debug, Clone, PartialEq)]
pub struct Scalar {
    /// Its text, without quotes.
    pub text: String,
    /// Not quoted, not a block, not tagged as a string: it may be a number, a boolean or null.
    pub plain: bool,
    /// For a scalar on one line, how far behind the node's column its text begins.
    pub inline: Option<usize>,
}

/// A key of a mapping with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_at: Place,
    /// Its value.
    pub value: Node,
}

/// A document that is not empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Position in the file from 1, empty documents counted.
    pub number: usize,
    /// All of it.
    pub root: Node,
}

/// A scalar's meaning by YAML 1.2's core schema.
#[derive(Debug, Clone, PartialEq)]
pub enum Resolved<'a> {
    /// Null, or nothing at all.
    Null,
    /// True or false.
    Bool(bool),
    /// Canonical kind and text.
    Number(Kind, String),
    /// Anything else.
    Text(&'a str),
    /// Plain text that YAML 1.1 and 1.2, or readers of the same version, read as different numbers.
    Ambiguous,
}

impl Scalar {
    /// What the scalar means.
    pub fn resolve(&self) -> Resolved<'_> {
        let text = self.text.as_str();
        if !self.plain {
            return Resolved::Text(text);
        }
        match text {
            "" | "~" | "null" | "Null" | "NULL" => Resolved::Null,
            "true" | "True" | "TRUE" => Resolved::Bool(true),
            "false" | "False" | "FALSE" => Resolved::Bool(false),
            _ => resolve_number(text),
        }
    }
}

/// A number, or text where it is none.
fn resolve_number(text: &str) -> Resolved<'_> {
    let hex = text.strip_prefix("0x").filter(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_hexdigit()));
    if let Some(digits) = hex {
        return u64::from_str_radix(digits, 16)
            .map_or(Resolved::Ambiguous, |n| Resolved::Number(Kind::Int, n.to_string()));
    }
    if text.strip_prefix("0o").is_some_and(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit())) {
        return Resolved::Ambiguous;
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let exponent_digits = exponent.map(|e| e.strip_prefix(['+', '-']).unwrap_or(e));
    let well_formed = digits(whole)
        && digits(fraction.unwrap_or(""))
        && whole.len() + fraction.unwrap_or("").len() > 0
        && exponent_digits.is_none_or(|e| !e.is_empty() && digits(e));
    if !well_formed {
        return Resolved::Text(text);
    }
    let leading_zero = whole.len() > 1 && whole.starts_with('0');
    if leading_zero || (exponent.is_some() && fraction.is_none()) {
        return Resolved::Ambiguous;
    }
    number(text).map_or(Resolved::Ambiguous, |(kind, text)| Resolved::Number(kind, text))
}

/// Reads all documents of a file.
///
/// # Errors
/// With the first thing of the file that is no YAML 1.2 or beyond a bound.
pub fn documents(text: &str) -> Result<Vec<Document>, Fault> {
    if text.len() > MAX_BYTES {
        let message = format!("the file has {} bytes; the limit is {MAX_BYTES}", text.len());
        return Err(Fault::new(Place { line: 1, column: 1 }, "file-too-large", message)
            .help("split the file into several"));
    }
    let mut parser = Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    let mut builder = Builder::default();
    while let Some(next) = parser.next_event() {
        let (event, span) = next.map_err(|e| no_yaml(place(*e.marker()), e.info(), text))?;
        if matches!(event, Event::StreamEnd) {
            break;
        }
        let one_line = span.start.line() == span.end.line();
        builder.take(event, place(span.start), one_line)?;
    }
    Ok(builder.documents)
}

fn no_yaml(at: Place, what: &str, text: &str) -> Fault {
    let line = text.lines().nth(at.line - 1).unwrap_or_default();
    let indentation = line.split(|c: char| !c.is_whitespace()).next().unwrap_or_default();
    let help = if what.contains("recursion") {
        FLATTER
    } else if indentation.contains('\t') || what.contains("tab") {
        "indent with spaces; YAML takes no tabs there"
    } else {
        "quote text that holds `: ` or ` #`, or that begins with one of `[ ] { } , & * ! | > % @`; \
         close every quote and bracket; indent keys of one map alike"
    };
    Fault::new(at, "yaml-syntax", what).help(help)
}

fn place(marker: Marker) -> Place {
    Place { line: marker.line().max(1), column: marker.col() + 1 }
}

/// A collection under construction.
enum Open {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, seen: HashMap<String, Place>, key: Option<(String, Place)> },
}

/// Builds documents from events, counting as it goes.
#[derive(Default)]
struct Builder {
    documents: Vec<Document>,
    number: usize,
    nodes: usize,
    stack: Vec<(Open, Place, usize)>,
    anchors: BTreeMap<usize, (Node, usize)>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, at: Place, one_line: bool) -> Result<(), Fault> {
        match event {
            Event::DocumentStart(_) => {
                self.number += 1;
                self.anchors.clear();
                if self.number > MAX_DOCUMENTS {
                    let message = format!("more than {MAX_DOCUMENTS} documents in one file");
                    return Err(
                        Fault::new(at, "too-many-documents", message).help("split the file into several")
                    );
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let inline = match style {
                    ScalarStyle::Plain if one_line && tag.is_none() => Some(0),
                    ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted if one_line && tag.is_none() => {
                        Some(1)
                    }
                    _ => None,
                };
                let scalar =
                    Scalar { plain: plain(style, tag.as_deref(), at)?, text: text.into_owned(), inline };
                self.count(1, at)?;
                self.close(Node { at, value: Value::Scalar(scalar) }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.open(Open::List(Vec::new()), at, anchor, tag.as_deref())
            }
            Event::MappingStart(anchor, tag) => {
                let map = Open::Map { entries: Vec::new(), seen: HashMap::new(), key: None };
                self.open(map, at, anchor, tag.as_deref())
            }
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop() {
                Some((Open::List(items), start, anchor)) => {
                    self.close(Node { at: start, value: Value::List(items) }, anchor)
                }
                Some((Open::Map { entries, .. }, start, anchor)) => {
                    self.close(Node { at: start, value: Value::Map(entries) }, anchor)
                }
                None => Ok(()),
            },
            Event::Alias(anchor) => {
                let Some((node, size)) = self.anchors.get(&anchor) else {
                    return Err(Fault::new(
                        at,
                        "unknown-alias",
                        "the alias names no complete value before it",
                    ));
                };
                let (mut node, size) = (node.clone(), *size);
                if self.stack.len() + depth(&node) > MAX_DEPTH {
                    return Err(too_deep(at));
                }
                self.count(size, at)?;
                node.at = at;
                self.insert(node, 0, size)
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn count(&mut self, more: usize, at: Place) -> Result<(), Fault> {
        self.nodes += more;
        if self.nodes > MAX_NODES {
            let message = format!("more than {MAX_NODES} keys and values, aliases expanded");
            return Err(
                Fault::new(at, "too-many-nodes", message).help("split the file, or write fewer aliases")
            );
        }
        Ok(())
    }

    fn open(&mut self, open: Open, at: Place, anchor: usize, tag: Option<&Tag>) -> Result<(), Fault> {
        if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema()) {
            return Err(unknown_tag(tag, at));
        }
        if let Some((Open::Map { key: None, .. }, ..)) = self.stack.last() {
            return Err(Fault::new(at, "key-not-text", "a list or a map cannot be a key"));
        }
        if self.stack.len() >= MAX_DEPTH {
            return Err(too_deep(at));
        }
        self.count(1, at)?;
        self.stack.push((open, at, anchor));
        Ok(())
    }

    fn close(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        let size = if anchor > 0 { size(&node) } else { 0 };
        self.insert(node, anchor, size)
    }

    fn insert(&mut self, node: Node, anchor: usize, size: usize) -> Result<(), Fault> {
        if anchor > 0 {
            // The copy counts as well: it takes memory before any alias uses it.
            self.count(size, node.at)?;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        let Some((parent, ..)) = self.stack.last_mut() else {
            let empty = matches!(&node.value, Value::Scalar(s) if s.resolve() == Resolved::Null);
            if !empty {
                self.documents.push(Document { number: self.number, root: node });
            }
            return Ok(());
        };
        match parent {
            Open::List(items) => items.push(node),
            Open::Map { entries, seen, key } => match key.take() {
                Some((name, key_at)) => entries.push(Entry { key: name, key_at, value: node }),
                None => {
                    let Value::Scalar(scalar) = node.value else {
                        return Err(Fault::new(node.at, "key-not-text", "a list or a map cannot be a key"));
                    };
                    if scalar.plain && scalar.text == "<<" {
                        return Err(Fault::new(node.at, "merge-key", "merge keys are not part of YAML 1.2")
                            .help("write the keys out, or use an alias for the whole value"));
                    }
                    if let Some(first) = seen.insert(scalar.text.clone(), node.at) {
                        let message = format!("the key {} is here twice", shown(&scalar.text));
                        let help = format!("it is in line {} already; keep one of them", first.line);
                        return Err(Fault::new(node.at, "duplicate-key", message).help(help));
                    }
                    *key = Some((scalar.text, node.at));
                }
            },
        }
        Ok(())
    }
}

fn too_deep(at: Place) -> Fault {
    Fault::new(at, "too-deep", format!("nested deeper than {MAX_DEPTH} levels")).help(FLATTER)
}

fn unknown_tag(tag: &Tag, at: Place) -> Fault {
    Fault::new(at, "unknown-tag", format!("the tag {} means nothing here", shown(&tag.to_string())))
        .help("remove it, or quote the value if it should be text")
}

/// Whether a scalar's text may mean something else than itself.
fn plain(style: ScalarStyle, tag: Option<&Tag>, at: Place) -> Result<bool, Fault> {
    match tag {
        None => Ok(style == ScalarStyle::Plain),
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => Ok(false),
        Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => Ok(false),
        Some(tag) => Err(unknown_tag(tag, at)),
    }
}

/// What a copy of the node counts: its keys and values, and its text.
fn size(node: &Node) -> usize {
    let text = |text: &str| 1 + text.len() / 64;
    match &node.value {
        Value::Scalar(scalar) => text(&scalar.text),
        Value::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|e| text(&e.key) + size(&e.value)).sum::<usize>(),
    }
}

fn depth(node: &Node) -> usize {
    match &node.value {
        Value::Scalar(_) => 0,
        Value::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Map(entries) => 1 + entries.iter().map(|e| depth(&e.value)).max().unwrap_or(0),
    }
}

impl Node {
    /// The entries of a mapping.
    pub fn map(&self, what: &str) -> Result<&[Entry], Fault> {
        match &self.value {
            Value::Map(entries) => Ok(entries),
            _ => Err(self.wrong(what, "a map")),
        }
    }

    /// The text of a scalar that is not null, whatever it resolves to.
    pub fn text(&self, what: &str) -> Result<&str, Fault> {
        match &self.value {
            Value::Scalar(scalar) if scalar.resolve() != Resolved::Null => Ok(&scalar.text),
            _ => Err(self.wrong(what, "text")),
        }
    }

    /// The items of a list; one scalar is a list of one.
    pub fn items(&self, what: &str) -> Result<&[Node], Fault> {
        match &self.value {
            Value::List(items) => Ok(items),
            Value::Scalar(scalar) if scalar.resolve() != Resolved::Null => Ok(std::slice::from_ref(self)),
            _ => Err(self.wrong(what, "a list")),
        }
    }

    /// A whole number from 0.
    pub fn whole(&self, what: &str) -> Result<u64, Fault> {
        if let Value::Scalar(scalar) = &self.value
            && let Resolved::Number(Kind::Int, text) = scalar.resolve()
            && let Ok(n) = text.parse()
        {
            return Ok(n);
        }
        Err(self.wrong(what, &format!("a whole number from 0 to {}", u64::MAX)))
    }

    /// True or false.
    pub fn boolean(&self, what: &str) -> Result<bool, Fault> {
        match &self.value {
            Value::Scalar(scalar) => match scalar.resolve() {
                Resolved::Bool(value) => Ok(value),
                _ => Err(self.wrong(what, "`true` or `false`")),
            },
            _ => Err(self.wrong(what, "`true` or `false`")),
        }
    }

    /// A length of time that is not zero.
    pub fn span(&self, what: &str) -> Result<Span, Fault> {
        match Span::parse(self.text(what)?.trim()) {
            Some(span) if span > Span::ZERO && span <= MAX_SPAN => Ok(span),
            _ => Err(self
                .wrong(what, "a length of time up to one year")
                .help("write for example `30s`, `5m`, `1h`, `1d`")),
        }
    }

    /// True for null and for an empty scalar.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.resolve() == Resolved::Null)
    }

    /// The fault of a value of the wrong kind.
    pub fn wrong(&self, what: &str, wanted: &str) -> Fault {
        let is = match &self.value {
            Value::Scalar(scalar) if scalar.resolve() == Resolved::Null => "nothing".to_owned(),
            Value::Scalar(scalar) => shown(&scalar.text),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        };
        Fault::new(self.at, "wrong-type", format!("{what} must be {wanted}, but it is {is}"))
    }
}

impl Entry {
    /// The fault of a key that the map `home` does not have; those in `later` are planned.
    #[must_use]
    pub fn unknown(&self, home: &str, valid: &[&str], later: &[&str]) -> Fault {
        if later.contains(&self.key.as_str()) {
            let message = format!("{} in `{home}` is not supported yet", shown(&self.key));
            return Fault::new(self.key_at, "not-supported", message)
                .help(format!("supported are: {}", valid.join(", ")));
        }
        let message = format!("{} is no key of `{home}`", shown(&self.key));
        Fault::new(self.key_at, "unknown-key", message).help(did_you_mean(&self.key, valid))
    }
}

/// The entry of a key.
pub fn find<'a>(entries: &'a [Entry], key: &str) -> Option<&'a Entry> {
    entries.iter().find(|entry| entry.key == key)
}
