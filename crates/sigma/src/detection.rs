//! Detections: search identifiers and their condition, lowered to predicates.
//!
//! In: the `detection:` node. Out: [`Lowered`], whose leaves are distinct and all used by its condition.
//! Invariants: everything written is checked, whether the condition uses it or not; the numbers of leaves and of
//! expression nodes are bounded.

use std::{collections::HashMap, sync::Arc};

use crate::{
    Expr, Leaf, Lists, Relation, Test,
    budget::FileBudget,
    condition::{self, Condition},
    fault::{Fault, Place, shown},
    modifiers::{self, Encoding, Matching, Modifiers, Operator},
    operand, pattern,
    yaml::{Entry, Node, Resolved, Scalar, Value},
};

/// Most leaves of one rule, and most expression nodes of its condition.
const MAX_LEAVES: usize = 50_000;
const MAX_EXPR: usize = 200_000;
/// Most search identifiers of one rule.
const MAX_SEARCHES: usize = 2000;
/// Most variants that `windash` or `expand` make of one value.
const MAX_VARIANTS: usize = 20_000;
/// What the fields begin with that say where a record came from.
const STAMPED: &str = "vedette.";
/// Longest name of a field.
const MAX_FIELD: usize = 512;

/// Where the values of placeholders come from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Placeholders<'a> {
    /// The lists.
    Lists(&'a Lists),
    /// The placeholder's own name, marked: what a rule means does not depend on what its lists hold.
    Symbolic,
}

/// A detection's predicates and condition.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lowered {
    pub condition: Expr,
    pub leaves: Vec<Leaf>,
    /// Search identifiers that the condition does not use.
    pub unused: Vec<(String, Place)>,
    /// Where the condition stands.
    pub condition_at: Place,
    /// Whether a placeholder was expanded.
    pub expanded: bool,
}

/// A search identifier's content: the shape of [`Expr`], with its leaves in place.
#[derive(Debug, Clone, PartialEq)]
enum Tree {
    All(Vec<Tree>),
    Any(Vec<Tree>),
    Leaf(Leaf),
}

struct Search<'a> {
    name: &'a str,
    at: Place,
    tree: Tree,
    /// What it was written out as where the condition named it first.
    written: Option<Expr>,
}

/// Lowers the `detection:` node.
pub(crate) fn lower(
    node: &Node,
    placeholders: Placeholders<'_>,
    budget: &mut FileBudget,
) -> Result<Lowered, Fault> {
    let entries = node.map("`detection`")?;
    let mut items = Items { placeholders, budget: &mut *budget, leaves: 0, expanded: false };
    let mut searches = Vec::new();
    let mut condition = None;
    for entry in entries {
        match entry.key.as_str() {
            "condition" => condition = Some(&entry.value),
            "timeframe" | "timespan" => {
                let message =
                    format!("{} means nothing in a detection, which looks at one event", shown(&entry.key));
                return Err(Fault::new(entry.key_at, "meaningless-key", message)
                    .help("write a correlation in a document of its own"));
            }
            name => {
                if searches.len() >= MAX_SEARCHES {
                    let message = format!("a detection has at most {MAX_SEARCHES} search identifiers");
                    return Err(Fault::new(entry.key_at, "too-many-leaves", message).help("split the rule"));
                }
                let tree = items.search(&entry.value)?;
                searches.push(Search { name, at: entry.key_at, tree, written: None });
            }
        }
    }
    let Some(condition) = condition else {
        return Err(Fault::new(node.at, "missing-condition", "the detection has no `condition`"));
    };
    let condition_at = condition.at;
    let condition = read_condition(condition)?;
    let expanded = items.expanded;
    let mut resolver = Resolver {
        position: searches.iter().enumerate().map(|(at, search)| (search.name, at)).collect(),
        searches,
        leaves: Vec::new(),
        index: HashMap::new(),
        nodes: 0,
        budget,
        at: condition_at,
    };
    let condition = resolver.resolve(&condition)?;
    let unused = resolver.searches.iter().filter(|s| s.written.is_none());
    let unused = unused.map(|s| (s.name.to_owned(), s.at)).collect();
    Ok(Lowered { condition, leaves: resolver.leaves, unused, condition_at, expanded })
}

/// Refuses a field that says where a record came from: no event has it while rules look at it.
pub(crate) fn not_stamped(field: &str, at: Place) -> Result<(), Fault> {
    if !field.starts_with(STAMPED) {
        return Ok(());
    }
    let message = format!("{} is set when an event is shown, and no rule can ask for it", shown(field));
    Err(Fault::new(at, "stamped-field", message).help("`logsource` says of which sources a rule is"))
}

/// One condition, or the `or` of several.
fn read_condition(node: &Node) -> Result<Condition, Fault> {
    let mut parts = Vec::new();
    for item in node.items("`condition`")? {
        let text = item.text("a condition")?;
        let inline = match &item.value {
            Value::Scalar(scalar) => scalar.inline,
            _ => None,
        };
        let at = Place { line: item.at.line, column: item.at.column + inline.unwrap_or(0) };
        parts.push(condition::parse(text, at, inline.is_some())?);
    }
    match parts.len() {
        0 => Err(Fault::new(node.at, "missing-condition", "the list of conditions is empty")),
        1 => Ok(parts.remove(0)),
        _ => Ok(Condition::Or(parts)),
    }
}

/// Puts search identifiers in the places where the condition names them, each distinct leaf once.
struct Resolver<'a, 'b> {
    searches: Vec<Search<'a>>,
    /// By name.
    position: HashMap<&'a str, usize>,
    leaves: Vec<Leaf>,
    index: HashMap<Leaf, usize>,
    nodes: usize,
    budget: &'b mut FileBudget,
    at: Place,
}

impl Resolver<'_, '_> {
    fn resolve(&mut self, condition: &Condition) -> Result<Expr, Fault> {
        match condition {
            Condition::And(parts) => Ok(Expr::And(self.resolve_all(parts)?)),
            Condition::Or(parts) => Ok(Expr::Or(self.resolve_all(parts)?)),
            Condition::Not(inner) => Ok(Expr::Not(Box::new(self.resolve(inner)?))),
            Condition::Name(name, at) => {
                let Some(position) = self.position.get(name.as_str()).copied() else {
                    return Err(self.unknown(name, *at));
                };
                self.place(position)
            }
            Condition::Of { all, pattern, at } => {
                let hidden = pattern.starts_with('_');
                let covered = |s: &Search<'_>| {
                    condition::covers(pattern, s.name) && (hidden || !s.name.starts_with('_'))
                };
                let positions: Vec<usize> =
                    self.searches.iter().enumerate().filter(|(_, s)| covered(s)).map(|(at, _)| at).collect();
                if positions.is_empty() {
                    return Err(self.unknown(pattern, *at));
                }
                let parts = positions.into_iter().map(|p| self.place(p)).collect::<Result<Vec<_>, _>>()?;
                Ok(join(parts, if *all { Expr::And } else { Expr::Or }))
            }
        }
    }

    fn resolve_all(&mut self, parts: &[Condition]) -> Result<Vec<Expr>, Fault> {
        parts.iter().map(|part| self.resolve(part)).collect()
    }

    fn unknown(&self, name: &str, at: Place) -> Fault {
        let names: Vec<&str> = self.searches.iter().map(|s| s.name).take(20).collect();
        Fault::new(at, "unknown-identifier", format!("no search identifier is called {}", shown(name)))
            .help(crate::fault::did_you_mean(name, &names))
    }

    fn place(&mut self, position: usize) -> Result<Expr, Fault> {
        let Some(search) = self.searches.get_mut(position) else { return Ok(Expr::Or(Vec::new())) };
        if let Some(written) = &search.written {
            let (nodes, bytes) = size(&search.tree);
            let copy = written.clone();
            self.nodes += nodes;
            self.bounded()?;
            // Whatever reads the condition later (its meaning, a program for each source) passes every copy.
            self.budget.copies(1, bytes, self.at)?;
            return Ok(copy);
        }
        // Taken out while it is walked, so that the walk may add leaves.
        let tree = std::mem::replace(&mut search.tree, Tree::Any(Vec::new()));
        let expr = self.intern(&tree)?;
        if let Some(search) = self.searches.get_mut(position) {
            search.tree = tree;
            search.written = Some(expr.clone());
        }
        Ok(expr)
    }

    fn bounded(&self) -> Result<(), Fault> {
        if self.nodes <= MAX_EXPR {
            return Ok(());
        }
        let message = format!("the condition has more than {MAX_EXPR} parts when written out");
        Err(Fault::new(self.at, "too-many-leaves", message).help("split the rule"))
    }

    fn intern(&mut self, tree: &Tree) -> Result<Expr, Fault> {
        self.nodes += 1;
        self.bounded()?;
        match tree {
            Tree::All(parts) => Ok(join(self.intern_all(parts)?, Expr::And)),
            Tree::Any(parts) => Ok(join(self.intern_all(parts)?, Expr::Or)),
            Tree::Leaf(leaf) => {
                if let Some(at) = self.index.get(leaf) {
                    return Ok(Expr::Leaf(*at));
                }
                let at = self.leaves.len();
                self.index.insert(leaf.clone(), at);
                self.leaves.push(leaf.clone());
                Ok(Expr::Leaf(at))
            }
        }
    }

    fn intern_all(&mut self, parts: &[Tree]) -> Result<Vec<Expr>, Fault> {
        parts.iter().map(|part| self.intern(part)).collect()
    }
}

/// How many nodes a search identifier's content has, and bytes of text.
fn size(tree: &Tree) -> (usize, usize) {
    match tree {
        Tree::All(parts) | Tree::Any(parts) => {
            parts.iter().map(size).fold((1, 0), |(nodes, bytes), part| (nodes + part.0, bytes + part.1))
        }
        Tree::Leaf(leaf) => (1, leaf.field.as_deref().map_or(0, str::len) + leaf.test.bytes()),
    }
}

fn join(mut parts: Vec<Expr>, join: fn(Vec<Expr>) -> Expr) -> Expr {
    if parts.len() == 1 { parts.remove(0) } else { join(parts) }
}

/// Lowers search identifiers, counting what they cost.
struct Items<'a> {
    placeholders: Placeholders<'a>,
    budget: &'a mut FileBudget,
    leaves: usize,
    expanded: bool,
}

/// Whose value is lowered.
#[derive(Clone, Copy)]
struct Target<'a> {
    field: Option<&'a str>,
    modifiers: &'a Modifiers,
}

impl Items<'_> {
    fn search(&mut self, node: &Node) -> Result<Tree, Fault> {
        match &node.value {
            Value::Map(entries) => self.map(entries, node.at),
            Value::List(items) if items.is_empty() => Err(empty(node.at)),
            Value::List(items) => {
                let parts = items.iter().map(|item| match &item.value {
                    Value::Map(entries) => self.map(entries, item.at),
                    _ => self.keyword(item),
                });
                Ok(Tree::Any(parts.collect::<Result<_, _>>()?))
            }
            Value::Scalar(_) => self.keyword(node),
        }
    }

    fn keyword(&mut self, node: &Node) -> Result<Tree, Fault> {
        self.value(Target { field: None, modifiers: &Modifiers::default() }, node)
    }

    fn map(&mut self, entries: &[Entry], at: Place) -> Result<Tree, Fault> {
        if entries.is_empty() {
            return Err(empty(at));
        }
        Ok(Tree::All(entries.iter().map(|entry| self.item(entry)).collect::<Result<_, _>>()?))
    }

    fn item(&mut self, entry: &Entry) -> Result<Tree, Fault> {
        let (field, modifiers) = modifiers::parse(&entry.key, entry.key_at)?;
        if field.len() > MAX_FIELD {
            let message = format!("the name of a field has at most {MAX_FIELD} bytes");
            return Err(Fault::new(entry.key_at, "field-too-long", message));
        }
        not_stamped(field, entry.key_at)?;
        let field = (!field.is_empty()).then_some(field);
        let target = Target { field, modifiers: &modifiers };
        if field.is_none() && entry.key.is_empty() {
            return Err(Fault::new(entry.key_at, "missing-field", "the name of the field is empty"));
        }
        let text_only =
            matches!(modifiers.operator, None | Some(Operator::Regex { .. })) && !modifiers.negated;
        if field.is_none() && !text_only {
            return Err(Fault::new(entry.key_at, "missing-field", "this modifier needs a field before it")
                .help("keywords take contains, startswith, endswith, cased, re, windash, expand, base64 and all"));
        }
        let nodes = match &entry.value.value {
            Value::List(items) if items.is_empty() => return Err(empty(entry.value.at)),
            Value::List(items) => items.as_slice(),
            Value::Scalar(_) => std::slice::from_ref(&entry.value),
            Value::Map(_) => {
                return Err(entry
                    .value
                    .wrong("the value of a field", "text, a number, a boolean, null or a list")
                    .help("write a field inside an object as `outer.inner`"));
            }
        };
        let parts = nodes.iter().map(|node| self.value(target, node)).collect::<Result<Vec<_>, _>>()?;
        Ok(if modifiers.all || modifiers.negated { Tree::All(parts) } else { Tree::Any(parts) })
    }

    fn leaf(&mut self, target: Target<'_>, test: Test, at: Place) -> Result<Tree, Fault> {
        self.leaves += 1;
        if self.leaves > MAX_LEAVES {
            let message = format!("the rule has more than {MAX_LEAVES} values");
            return Err(Fault::new(at, "too-many-leaves", message).help("split the rule"));
        }
        let test = match test {
            test if !target.modifiers.negated => test,
            Test::Null => Test::Exists(true),
            test => Test::Not(Box::new(test)),
        };
        Ok(Tree::Leaf(Leaf { field: target.field.map(Arc::from), test }))
    }

    fn value(&mut self, target: Target<'_>, node: &Node) -> Result<Tree, Fault> {
        let Value::Scalar(scalar) = &node.value else {
            return Err(node.wrong("a value in a list", "text, a number, a boolean or null"));
        };
        let test = match target.modifiers.operator {
            None => return self.matched(target, scalar, node.at),
            Some(Operator::Cidr) => return self.networks(target, scalar, node),
            Some(Operator::Regex { ignore_case, multi_line, dot_all }) => {
                let flags: String = [(ignore_case, 'i'), (multi_line, 'm'), (dot_all, 's')]
                    .into_iter()
                    .filter_map(|(on, flag)| on.then_some(flag))
                    .collect();
                Test::Regex(operand::regex(&flags, &scalar.text, node.at, self.budget)?.into())
            }
            Some(Operator::Compare(cmp)) => Test::Compare(cmp, operand::decimal(scalar, node)?),
            Some(Operator::Exists) => match (scalar.resolve(), scalar.text.as_str()) {
                (Resolved::Bool(value), _) => Test::Exists(value),
                (_, "true") => Test::Exists(true),
                (_, "false") => Test::Exists(false),
                _ => return Err(node.wrong("the value of `exists`", "`true` or `false`")),
            },
            Some(Operator::FieldRef) => {
                let how = match target.modifiers.matching {
                    Matching::Equals => Relation::Equal,
                    Matching::Contains => Relation::Contains,
                    Matching::StartsWith => Relation::StartsWith,
                    Matching::EndsWith => Relation::EndsWith,
                };
                let other = node.text("the value of `fieldref`")?;
                Test::FieldRef { other: other.into(), how, cased: target.modifiers.cased }
            }
        };
        self.leaf(target, test, node.at)
    }

    /// A value to be matched as it is: null, a boolean, a number or text.
    fn matched(&mut self, target: Target<'_>, scalar: &Scalar, at: Place) -> Result<Tree, Fault> {
        let modifiers = target.modifiers;
        let as_text = target.field.is_none()
            || modifiers.matching != Matching::Equals
            || modifiers.windash
            || modifiers.expand
            || modifiers.cased
            || !modifiers.encodings.is_empty();
        let test = match scalar.resolve() {
            Resolved::Null if as_text => {
                return Err(Fault::new(at, "null-as-text", "null cannot be looked for as text")
                    .help("write `field: null` without modifiers, or quote the text"));
            }
            Resolved::Null => Test::Null,
            Resolved::Bool(value) if !as_text => Test::Bool(value),
            Resolved::Number(_, text) if !as_text => Test::Number(text.into()),
            Resolved::Ambiguous if !as_text => {
                let message =
                    format!("{} is read as different numbers by different readers", shown(&scalar.text));
                return Err(Fault::new(at, "ambiguous-number", message).help(
                    "quote it if it is text, or write it in decimal without leading zeros or exponent",
                ));
            }
            _ => return self.texts(target, &scalar.text, at),
        };
        self.leaf(target, test, at)
    }

    fn texts(&mut self, target: Target<'_>, text: &str, at: Place) -> Result<Tree, Fault> {
        let modifiers = target.modifiers;
        let mut variants = Vec::new();
        for text in self.expand(modifiers, text, at)? {
            let pattern = pattern::parse(&text);
            if modifiers.windash {
                let count = pattern::windash_variants(&pattern).filter(|n| *n <= MAX_VARIANTS);
                self.budget.copies(count.ok_or_else(|| too_many_variants("windash", at))?, text.len(), at)?;
                variants.extend(pattern::windash(&pattern));
            } else {
                variants.push(pattern);
            }
        }
        let keyword = target.field.is_none() && modifiers.matching == Matching::Equals;
        let before = keyword || matches!(modifiers.matching, Matching::Contains | Matching::EndsWith);
        let after = keyword || matches!(modifiers.matching, Matching::Contains | Matching::StartsWith);
        let mut parts = Vec::new();
        for variant in variants {
            for pattern in encoded(variant, &modifiers.encodings, at)? {
                let pattern = pattern::surround(&pattern, before, after);
                parts.push(self.leaf(target, Test::Text { pattern, cased: modifiers.cased }, at)?);
            }
        }
        Ok(self.variants(target, parts))
    }

    /// Variants of one value: any of them, or, of a negated one, none of them (but the field is there).
    fn variants(&self, target: Target<'_>, mut parts: Vec<Tree>) -> Tree {
        match (target.modifiers.negated, parts.len()) {
            (_, 1) => parts.remove(0),
            (true, 0) => Tree::Leaf(Leaf { field: target.field.map(Arc::from), test: Test::Exists(true) }),
            (true, _) => Tree::All(parts),
            (false, _) => Tree::Any(parts),
        }
    }

    /// The value with every `%name%` replaced by each entry of that list.
    fn expand(&mut self, modifiers: &Modifiers, text: &str, at: Place) -> Result<Vec<String>, Fault> {
        if !modifiers.expand {
            return Ok(vec![text.to_owned()]);
        }
        let mut texts = vec![String::new()];
        let mut rest = text;
        let mut found = false;
        while let Some((before, name, after)) = operand::placeholder(rest) {
            found = true;
            let symbol;
            let entries: &[String] = match self.placeholders {
                Placeholders::Symbolic => {
                    symbol = [format!("\0{name}\0")];
                    &symbol
                }
                Placeholders::Lists(lists) => lists.get(name).ok_or_else(|| {
                    Fault::new(
                        at,
                        "unknown-list",
                        format!("the placeholder `%{name}%` names no list that could be read"),
                    )
                    .help(format!("add `lists/{name}.yml` beside the rules, or mend it if it was refused"))
                })?,
            };
            if texts.len().saturating_mul(entries.len()) > MAX_VARIANTS {
                return Err(too_many_variants("expand", at));
            }
            let longest = entries.iter().map(String::len).max().unwrap_or(0) + before.len();
            let head = texts.iter().map(String::len).max().unwrap_or(0);
            self.budget.copies(texts.len() * entries.len(), head + longest, at)?;
            let with = |head: &String| {
                entries.iter().map(|entry| format!("{head}{before}{entry}")).collect::<Vec<_>>()
            };
            texts = texts.iter().flat_map(with).collect();
            rest = after;
        }
        if !found {
            return Err(Fault::new(at, "no-placeholder", "`expand` needs a placeholder such as `%name%`"));
        }
        let head = texts.iter().map(String::len).max().unwrap_or(0);
        self.budget.copies(texts.len(), head + rest.len(), at)?;
        self.expanded = true;
        texts.iter_mut().for_each(|head| head.push_str(rest));
        Ok(texts)
    }

    fn networks(&mut self, target: Target<'_>, scalar: &Scalar, node: &Node) -> Result<Tree, Fault> {
        if node.is_null() {
            return Err(node.wrong("the value of `cidr`", "a network"));
        }
        let mut parts = Vec::new();
        for text in self.expand(target.modifiers, &scalar.text, node.at)? {
            let test = if text.starts_with('\0') && matches!(self.placeholders, Placeholders::Symbolic) {
                Test::Text { pattern: pattern::literal(&text), cased: true }
            } else {
                Test::Cidr(operand::network(&text, node.at)?)
            };
            parts.push(self.leaf(target, test, node.at)?);
        }
        Ok(self.variants(target, parts))
    }
}

fn empty(at: Place) -> Fault {
    Fault::new(at, "empty-selection", "an empty selection would match nothing or everything")
        .help("remove it, or write `field: null` for a field that is missing")
}

fn too_many_variants(modifier: &str, at: Place) -> Fault {
    Fault::new(
        at,
        "too-many-leaves",
        format!("`{modifier}` makes more than {MAX_VARIANTS} values of this one"),
    )
}

/// The pattern after all encodings.
fn encoded(pattern: crate::Pattern, encodings: &[Encoding], at: Place) -> Result<Vec<crate::Pattern>, Fault> {
    if encodings.is_empty() {
        return Ok(vec![pattern]);
    }
    let Some(text) = pattern::plain_text(&pattern) else {
        return Err(Fault::new(at, "wildcard-encoded", "a value with wildcards cannot be encoded")
            .help(r"escape them: `\*`, `\?`"));
    };
    let mut bytes = text.clone().into_bytes();
    for encoding in encodings {
        match encoding {
            Encoding::Utf16(order) => bytes = pattern::utf16(&text, *order),
            Encoding::Base64 => return Ok(vec![pattern::literal(&pattern::base64(&bytes))]),
            Encoding::Base64Offset => {
                let offsets = pattern::base64_offsets(&bytes);
                if offsets.iter().any(String::is_empty) {
                    return Err(Fault::new(
                        at,
                        "too-short",
                        "this value is too short to be found inside Base64",
                    ));
                }
                return Ok(offsets.iter().map(|text| pattern::literal(text)).collect());
            }
        }
    }
    Ok(Vec::new())
}
