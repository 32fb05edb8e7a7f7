//! `conditions:` of a playbook and `when:` of a step.
//!
//! In: the node. Out: [`Condition`]. One that can never hold by itself is refused.

use std::collections::{BTreeMap, BTreeSet};

use vedette_event::{Kind, Severity, Value};
use vedette_sigma::{
    fault::Fault,
    yaml::{self, Node, Resolved},
};

use super::{MAX_LIST, list, severity, texts};
use crate::condition::Condition;

/// Reads the map.
pub(super) fn read(node: &Node) -> Result<Condition, Fault> {
    const KEYS: [&str; 4] = ["severity", "count", "entity", "key"];
    let mut out = Condition::default();
    let entries = node.map("a condition")?;
    for entry in entries {
        match entry.key.as_str() {
            "severity" => out.severity = severities(&entry.value)?,
            "count" => out.count = counts(&entry.value)?,
            "entity" => out.entity = texts(entries, "entity")?.0.into_iter().collect(),
            "key" => out.key = parts(&entry.value)?,
            _ => return Err(entry.unknown("a condition", &KEYS, &[])),
        }
    }
    if out.severity.0 > out.severity.1 || out.count.0 > out.count.1 {
        return Err(Fault::new(node.at, "never-holds", "the condition can never hold")
            .help("the least is more than the most"));
    }
    Ok(out)
}

/// One level means at least that one.
fn severities(node: &Node) -> Result<(Severity, Severity), Fault> {
    let mut range = Condition::default().severity;
    let Ok(entries) = node.map("") else { return Ok((severity(node)?, range.1)) };
    for entry in entries {
        let level = severity(&entry.value)?;
        match entry.key.as_str() {
            "gte" => range.0 = level,
            "lte" => range.1 = level,
            "eq" => range = (level, level),
            _ => return Err(entry.unknown("severity", &["gte", "lte", "eq"], &[])),
        }
    }
    Ok(range)
}

/// One number means at least that many.
fn counts(node: &Node) -> Result<(u64, u64), Fault> {
    let mut range = Condition::default().count;
    let Ok(entries) = node.map("") else { return Ok((node.whole("`count`")?.max(1), range.1)) };
    for entry in entries {
        let n = entry.value.whole(&format!("`{}`", entry.key))?;
        match entry.key.as_str() {
            "gte" => range.0 = range.0.max(n),
            "gt" => range.0 = range.0.max(n.saturating_add(1)),
            "lte" => range.1 = range.1.min(n),
            "lt" => range.1 = range.1.min(n.saturating_sub(1)),
            "eq" => range = (range.0.max(n), range.1.min(n)),
            _ => return Err(entry.unknown("count", &["gte", "gt", "lte", "lt", "eq"], &[])),
        }
    }
    Ok(range)
}

fn parts(node: &Node) -> Result<BTreeMap<std::sync::Arc<str>, BTreeSet<Value>>, Fault> {
    let part = |entry: &yaml::Entry| {
        let values = list(&entry.value, "a part of the key", MAX_LIST)?.iter().map(scalar);
        Ok((entry.key.as_str().into(), values.collect::<Result<_, _>>()?))
    };
    node.map("`key`")?.iter().map(part).collect()
}

/// A value as a key of an alert has it.
pub(super) fn scalar(node: &Node) -> Result<Value, Fault> {
    if let yaml::Value::Scalar(scalar) = &node.value {
        match scalar.resolve() {
            Resolved::Text(text) => return Ok(Value::Text(text.into())),
            Resolved::Bool(value) => return Ok(Value::Bool(value)),
            Resolved::Number(Kind::Int | Kind::Float, text) => return Ok(Value::Number(text.into())),
            Resolved::Number(..) | Resolved::Ambiguous => {
                return Err(node
                    .wrong("a number", "one that every reader reads alike")
                    .help("quote it if it is text"));
            }
            Resolved::Null => {}
        }
    }
    Err(node.wrong("a part of a key", "text, a number or a boolean"))
}
