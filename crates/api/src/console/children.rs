//! The episodes below an alert, as blocks of its page: what "five refusals" were.
//!
//! In: a body's children, the alerts of which the store has. Out: [`Block`]s, those of a block right behind it.

use std::collections::BTreeSet;

use vedette_event::{Alert, alert::Child};

use super::{
    Stamp,
    events::{Contents, Table, entity_href},
    segment, words,
};

/// Deeper ones are drawn no further in.
const DEEPEST: usize = 4;

/// A part of a key, with a link to all that is about it.
pub(super) struct Part {
    pub name: String,
    pub value: String,
    pub href: String,
}

/// One episode.
pub(super) struct Block {
    pub depth: usize,
    pub title: String,
    pub rule_href: String,
    pub severity: &'static str,
    pub severity_label: String,
    /// Where its own alert is, if there is one.
    pub alert_href: Option<String>,
    pub key: Vec<Part>,
    pub first_seen: Stamp,
    pub crossed_at: Stamp,
    pub duration: String,
    pub measured: String,
    pub flags: Vec<String>,
    pub table: Table,
}

/// The ids that the children's own alerts would have.
pub(super) fn ids(body: &Alert) -> Vec<String> {
    let all = flat(body);
    all.into_iter().filter_map(|(_, child)| child.alert_id.as_ref().map(ToString::to_string)).collect()
}

/// All children with their depth, each before those below it.
fn flat(body: &Alert) -> Vec<(usize, &Child)> {
    fn add<'a>(children: &'a [Child], depth: usize, to: &mut Vec<(usize, &'a Child)>) {
        for child in children {
            to.push((depth, child));
            add(child.children.as_deref().unwrap_or_default(), depth + 1, to);
        }
    }
    let mut all = Vec::new();
    add(body.explanation.children.as_deref().unwrap_or_default(), 0, &mut all);
    all
}

/// The blocks of a body's children; `known` are the alerts that the store has.
pub(super) fn blocks(body: &Alert, known: &BTreeSet<String>, contents: &Contents) -> Vec<Block> {
    let block = |(number, (depth, child)): (usize, (usize, &Child))| Block {
        depth: depth.min(DEEPEST),
        title: words::cut(&child.rule.title),
        rule_href: segment("/rules/", &child.rule.id),
        severity: child.rule.level.name(),
        severity_label: words::label(child.rule.level.name()),
        alert_href: child
            .alert_id
            .as_deref()
            .filter(|id| known.contains(*id))
            .map(|id| segment("/alerts/", id)),
        key: child.key.iter().map(|(name, value)| part(name, value.text())).collect(),
        first_seen: Stamp::of(child.first_seen),
        crossed_at: Stamp::of(child.crossed_at),
        duration: words::lasted(child.first_seen, child.last_seen),
        measured: measured(child),
        flags: words::flags(child.flags),
        table: contents.table(&format!("child-{number}"), &child.evidence, child.count),
    };
    flat(body).into_iter().enumerate().map(block).collect()
}

fn part(name: &str, value: &str) -> Part {
    Part { name: name.to_owned(), value: value.to_owned(), href: entity_href(name, value) }
}

/// `5 events`, `12 distinct values in 40 events`.
fn measured(child: &Child) -> String {
    let events = match child.count {
        1 => "1 event".to_owned(),
        n => format!("{} events", words::number(n)),
    };
    let value = words::measured(child.value);
    match &*child.rule.kind {
        "value_count" => format!("{value} distinct values in {events}"),
        "temporal" => format!("{value} rules in {events}"),
        "temporal_ordered" => format!("{value} steps in {events}"),
        _ => events,
    }
}

/// How many there are, and how many of them are shown.
pub(super) fn note(body: &Alert, shown: usize) -> String {
    let total = body.explanation.children_total.unwrap_or_default();
    match total {
        1 => "1 episode".to_owned(),
        total if total <= shown as u64 => format!("{} episodes", words::number(total)),
        total => format!("the first {shown} of {} episodes", words::number(total)),
    }
}
