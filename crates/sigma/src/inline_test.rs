//! `vedette: tests:`: events in, expected alerts out.
//!
//! In: the node. Out: [`RuleTest`]s whose events are in order of time. `events` is a block (`template` or `list`), or a list
//! of blocks and single events, which follow one another: each event stands at the clock, which then goes on by the
//! block's `every` (1 s); an `at` sets the clock, counted from the start of the test. `{n}` in a text of a template is the
//! event's number in its block, from 1.

use serde_json::{Map, Value as Json};
use vedette_event::{Kind, Span};

use crate::{
    RuleTest,
    budget::FileBudget,
    fault::Fault,
    yaml::{self, Entry, Node, Resolved, Scalar, Value},
};

/// Most tests of a rule.
const MAX_TESTS: usize = 200;
/// Length of the step from one event to the next where a block says nothing.
const STEP: Span = Span::secs(1);

type Event = (Span, Map<String, Json>);

/// Reads the list of tests.
pub(crate) fn read(node: &Node, budget: &mut FileBudget) -> Result<Vec<RuleTest>, Fault> {
    let Value::List(items) = &node.value else { return Err(node.wrong("`tests`", "a list")) };
    if items.len() > MAX_TESTS {
        return Err(Fault::new(node.at, "too-many-tests", format!("a rule has at most {MAX_TESTS} tests")));
    }
    items.iter().map(|item| test(item, budget)).collect()
}

fn test(node: &Node, budget: &mut FileBudget) -> Result<RuleTest, Fault> {
    let entries = node.map("a test")?;
    let valid = ["name", "events", "expect"];
    if let Some(entry) = entries.iter().find(|e| !valid.contains(&e.key.as_str())) {
        return Err(entry.unknown("tests", &valid, &[]));
    }
    let need = |key: &str| {
        yaml::find(entries, key)
            .ok_or_else(|| Fault::new(node.at, "missing-key", format!("the test has no `{key}`")))
    };
    let name = need("name")?.value.text("`name`")?.trim().into();
    let events = &need("events")?.value;
    let mut timeline = Timeline { clock: Span::ZERO, events: Vec::new(), budget };
    match &events.value {
        Value::List(parts) => parts.iter().try_for_each(|part| timeline.part(part))?,
        _ => timeline.block(events)?,
    }
    let mut events = timeline.events;
    events.sort_by_key(|(at, _)| *at);
    let mut test = RuleTest { name, line: node.at.line, events, alerts: 0, group: Map::new(), count: None };
    expect(need("expect")?, &mut test)?;
    Ok(test)
}

fn expect(entry: &Entry, test: &mut RuleTest) -> Result<(), Fault> {
    let entries = entry.value.map("`expect`")?;
    let mut alerts = None;
    for item in entries {
        match item.key.as_str() {
            "alerts" => {
                let n = item.value.whole("`alerts`")?;
                alerts =
                    Some(usize::try_from(n).map_err(|_| item.value.wrong("`alerts`", "a small number"))?);
            }
            "group" => test.group = object(&item.value, "`group`")?,
            "count" => test.count = Some(item.value.whole("`count`")?),
            _ => return Err(item.unknown("expect", &["alerts", "group", "count"], &[])),
        }
    }
    test.alerts =
        alerts.ok_or_else(|| Fault::new(entry.value.at, "missing-key", "`expect` has no `alerts`"))?;
    if test.alerts == 0
        && let Some(item) = entries.iter().find(|e| e.key != "alerts")
    {
        let message = format!("`{}` means nothing where no alert is expected", item.key);
        return Err(Fault::new(item.key_at, "meaningless-key", message).help("remove it"));
    }
    Ok(())
}

/// Events as they are written, at the times they are to have.
struct Timeline<'a> {
    clock: Span,
    events: Vec<Event>,
    budget: &'a mut FileBudget,
}

impl Timeline<'_> {
    /// A block, or one event by itself.
    fn part(&mut self, node: &Node) -> Result<(), Fault> {
        let block =
            node.map("an event or a block of events")?.iter().any(|e| e.key == "template" || e.key == "list");
        if block { self.block(node) } else { self.listed(node, STEP) }
    }

    fn block(&mut self, node: &Node) -> Result<(), Fault> {
        let valid = ["template", "list", "count", "every", "at"];
        let (mut template, mut list, mut count, mut every) = (None, None, None, STEP);
        for entry in node.map("a block of events")? {
            match entry.key.as_str() {
                "template" => template = Some(object(&entry.value, "`template`")?),
                "list" => list = Some(&entry.value),
                "count" => count = Some((entry.value.whole("`count`")?, entry)),
                "every" => every = offset(&entry.value, "`every`")?,
                "at" => self.clock = offset(&entry.value, "`at`")?,
                _ => return Err(entry.unknown("events", &valid, &[])),
            }
        }
        match (template, list, count) {
            (Some(template), None, count) => {
                for n in 1..=count.map_or(1, |(n, _)| n) {
                    self.push(numbered(&template, n), every, node)?;
                }
                Ok(())
            }
            (None, Some(list), None) => {
                let Value::List(items) = &list.value else {
                    return Err(list.wrong("`list`", "a list of events"));
                };
                for item in items {
                    self.listed(item, every)?;
                }
                Ok(())
            }
            (None, Some(_), Some((_, count))) => {
                let message = "`count` means nothing beside `list`";
                Err(Fault::new(count.key_at, "meaningless-key", message).help("it repeats a `template`"))
            }
            _ => Err(Fault::new(node.at, "missing-key", "a block of events has either `template` or `list`")),
        }
    }

    /// One event as written; its own `at` sets the clock.
    fn listed(&mut self, node: &Node, every: Span) -> Result<(), Fault> {
        if let Some(at) = yaml::find(node.map("an event")?, "at") {
            self.clock = offset(&at.value, "`at`")?;
        }
        let mut event = object(node, "an event")?;
        event.remove("at");
        self.push(event, every, node)
    }

    fn push(&mut self, event: Map<String, Json>, every: Span, node: &Node) -> Result<(), Fault> {
        let length = |value: &Json| match value {
            Json::String(text) => text.len(),
            Json::Array(items) => items.len() * 64,
            _ => 0,
        };
        let bytes: usize = event.iter().map(|(key, value)| 64 + key.len() + length(value)).sum();
        self.budget.copies(1, bytes, node.at)?;
        self.events.push((self.clock, event));
        self.clock = Span(self.clock.0.saturating_add(every.0));
        Ok(())
    }
}

/// A length of time, zero included.
fn offset(node: &Node, what: &str) -> Result<Span, Fault> {
    let zero = matches!(&node.value, Value::Scalar(s) if Span::parse(s.text.trim()) == Some(Span::ZERO));
    if zero { Ok(Span::ZERO) } else { node.span(what) }
}

/// The template with the event's number in place of `{n}`; a text of nothing else becomes that number.
fn numbered(template: &Map<String, Json>, n: u64) -> Map<String, Json> {
    let value = |value: &Json| match value {
        Json::String(text) if text == "{n}" => Json::from(n),
        Json::String(text) if text.contains("{n}") => Json::from(text.replace("{n}", &n.to_string())),
        other => other.clone(),
    };
    template.iter().map(|(key, old)| (key.clone(), value(old))).collect()
}

/// A flat JSON object: scalars and lists of scalars by field.
fn object(node: &Node, what: &str) -> Result<Map<String, Json>, Fault> {
    let field = |entry: &Entry| {
        let value = match &entry.value.value {
            Value::Scalar(scalar) => json(scalar, &entry.value)?,
            Value::List(items) => {
                let item = |item: &Node| match &item.value {
                    Value::Scalar(scalar) => json(scalar, item),
                    _ => Err(item.wrong("an element of a list", "text, a number, a boolean or null")),
                };
                Json::Array(items.iter().map(item).collect::<Result<_, _>>()?)
            }
            Value::Map(_) => {
                return Err(entry
                    .value
                    .wrong("a field", "a value or a list of values")
                    .help("write a field inside an object as `outer.inner`"));
            }
        };
        Ok((entry.key.clone(), value))
    };
    node.map(what)?.iter().map(field).collect()
}

fn json(scalar: &Scalar, node: &Node) -> Result<Json, Fault> {
    Ok(match scalar.resolve() {
        Resolved::Null => Json::Null,
        Resolved::Bool(value) => Json::Bool(value),
        Resolved::Text(text) => Json::from(text),
        Resolved::Number(Kind::Int, text) => match (text.parse::<i64>(), text.parse::<u64>()) {
            (Ok(n), _) => Json::from(n),
            (_, Ok(n)) => Json::from(n),
            _ => return Err(ambiguous(node)),
        },
        Resolved::Number(_, text) => text.parse::<f64>().map(Json::from).map_err(|_| ambiguous(node))?,
        Resolved::Ambiguous => return Err(ambiguous(node)),
    })
}

fn ambiguous(node: &Node) -> Fault {
    node.wrong("a number", "one that every reader reads alike").help("quote it if it is text")
}
