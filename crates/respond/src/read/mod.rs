//! One document: a playbook as far as it can be read by itself.
//!
//! In: a YAML document. Out: a [`Draft`] with the places of what can only be checked against the rules. What it refers to is
//! resolved by [`crate::link`].

mod condition;
mod guards;
mod step;
mod test;

use std::sync::Arc;

use vedette_event::{Micros, Severity};
use vedette_sigma::{
    fault::{Fault, Place, did_you_mean, shown},
    yaml::{self, Document, Entry, Node},
};

use crate::{
    gate::Policy,
    playbook::{Body, Mode, On, Playbook, Trigger},
};

pub(crate) use step::StepMarks;
pub(crate) use test::TestMarks;

/// A playbook and where its parts stand.
#[derive(Debug)]
pub(crate) struct Draft {
    pub playbook: Playbook,
    pub marks: Marks,
}

/// Where parts stand that are checked against the rules.
#[derive(Debug)]
pub(crate) struct Marks {
    pub root: Place,
    pub id: Place,
    pub name: Place,
    pub trigger: TriggerMarks,
    pub conditions: Place,
    pub steps: Vec<StepMarks>,
    pub tests: Vec<TestMarks>,
}

/// Where parts of the trigger stand.
#[derive(Debug)]
pub(crate) struct TriggerMarks {
    pub at: Place,
    pub on: Place,
    pub severity: Place,
    pub rules: Vec<Place>,
    pub tags: Vec<Place>,
    pub entity: Vec<Place>,
}

const KEYS: [&str; 13] = [
    "title",
    "id",
    "name",
    "description",
    "author",
    "date",
    "modified",
    "mode",
    "trigger",
    "conditions",
    "steps",
    "guards",
    "tests",
];
/// Most entries of a list of the trigger, most steps, and most tests.
const MAX_LIST: usize = 256;
const MAX_STEPS: usize = 32;
const MAX_TESTS: usize = 200;
/// Longest name.
const MAX_NAME: usize = 64;

/// The playbook's name, for messages about the rest.
pub(crate) fn label(document: &Document) -> Option<Arc<str>> {
    let entries = document.root.map("").ok()?;
    yaml::find(entries, "name")?.value.text("").ok().map(Arc::from)
}

/// Reads a document.
pub(crate) fn read(document: &Document, file: &Arc<str>, policy: &Policy) -> Result<Draft, Fault> {
    let root = &document.root;
    let entries = root.map("a playbook")?;
    if let Some(entry) = entries.iter().find(|entry| !KEYS.contains(&entry.key.as_str())) {
        return Err(entry.unknown("a playbook", &KEYS, &[]));
    }
    let need = |key: &str| need(entries, root, "playbook", key);
    let text = |key: &str| -> Result<Arc<str>, Fault> {
        Ok(need(key)?.value.text(&format!("`{key}`"))?.trim().into())
    };
    let steps = need("steps")?;
    let title = text("title")?;
    let (name, id, date) = (name(need("name")?)?, uuid(need("id")?)?, day(need("date")?)?);
    let modified = find(entries, "modified").map(day).transpose()?.unwrap_or_else(|| date.clone());
    if modified < date {
        let entry = find(entries, "modified").unwrap_or(steps);
        return Err(Fault::new(entry.value.at, "bad-date", "`modified` lies before `date`")
            .help("write the day of the last change, or leave it out"));
    }
    let (trigger, trigger_marks) = trigger(need("trigger")?)?;
    let conditions = find(entries, "conditions");
    let (steps, step_marks): (Vec<_>, Vec<_>) = list(&steps.value, "`steps`", MAX_STEPS)?
        .iter()
        .enumerate()
        .map(|(at, node)| step::read(node, at, policy))
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .unzip();
    let body = Body {
        mode: find(entries, "mode").map(mode).transpose()?.unwrap_or_default(),
        trigger,
        conditions: conditions.map(|entry| condition::read(&entry.value)).transpose()?.unwrap_or_default(),
        guards: find(entries, "guards")
            .map(|e| guards::read(&e.value, policy))
            .transpose()?
            .unwrap_or_default(),
        steps,
    };
    step::names_differ(&body.steps, &step_marks)?;
    let tests = find(entries, "tests").map(|e| list(&e.value, "`tests`", MAX_TESTS)).transpose()?;
    let tests = tests.unwrap_or_default().iter().map(test::read).collect::<Result<Vec<_>, _>>()?;
    let (tests, test_marks) = tests.into_iter().unzip();
    let description = find(entries, "description").map(|e| e.value.text("`description`")).transpose()?;
    let marks = Marks {
        root: root.at,
        id: need("id")?.value.at,
        name: need("name")?.value.at,
        trigger: trigger_marks,
        conditions: conditions.map_or(root.at, |entry| entry.key_at),
        steps: step_marks,
        tests: test_marks,
    };
    let playbook = Playbook {
        id,
        name,
        title,
        description: description.map(|text| text.trim().into()),
        date,
        modified,
        version: "".into(),
        body,
        tests,
        file: file.clone(),
        line: root.at.line,
    };
    Ok(Draft { playbook, marks })
}

/// The entry of a key, unless it holds nothing.
fn find<'a>(entries: &'a [Entry], key: &str) -> Option<&'a Entry> {
    yaml::find(entries, key).filter(|entry| !entry.value.is_null())
}

fn need<'a>(entries: &'a [Entry], node: &Node, what: &str, key: &str) -> Result<&'a Entry, Fault> {
    let help = match key {
        "id" => "make one with `uuidgen`",
        "name" => "write a short name in small letters, digits and `-`",
        "date" => "write the day it was written, such as `2026-11-25`",
        "trigger" => "say what starts it, such as `{on: alert, rules: [bot-user-bruteforce]}`",
        "steps" => "say what it does, such as `- {do: notify, connectors: [slack]}`",
        "connectors" => "name what carries the step out, such as `[crowdsec]`",
        "target" => "name the field of the alert's key that is meant, such as `client.ip`",
        "for" => "say how long it stands, such as `30m`: nothing is for ever",
        _ => "add it",
    };
    find(entries, key)
        .ok_or_else(|| Fault::new(node.at, "missing-key", format!("the {what} has no `{key}`")).help(help))
}

/// The items of a list, of which there is at least one.
fn list<'a>(node: &'a Node, what: &str, most: usize) -> Result<&'a [Node], Fault> {
    let items = node.items(what)?;
    if items.is_empty() {
        return Err(Fault::new(node.at, "empty-list", format!("{what} holds nothing"))
            .help("write at least one entry, or remove the key"));
    }
    match items.get(most) {
        Some(beyond) => {
            Err(Fault::new(beyond.at, "too-many", format!("{what} holds more than {most} entries")))
        }
        None => Ok(items),
    }
}

fn name(entry: &Entry) -> Result<Arc<str>, Fault> {
    let text = entry.value.text("`name`")?;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    if text.is_empty() || text.len() > MAX_NAME || !text.chars().all(plain) {
        let wanted = "at most 64 small letters, digits, `-` and `_`";
        return Err(entry.value.wrong("`name`", wanted).help("it is part of the address of a route"));
    }
    Ok(text.into())
}

fn uuid(entry: &Entry) -> Result<Arc<str>, Fault> {
    let text = entry.value.text("`id`")?;
    let uuid = uuid::Uuid::try_parse(text)
        .map_err(|_| entry.value.wrong("`id`", "a UUID").help("make one with `uuidgen`"))?;
    Ok(uuid.hyphenated().to_string().into())
}

fn day(entry: &Entry) -> Result<Arc<str>, Fault> {
    let text = entry.value.text("a date")?;
    let valid = text.len() == 10 && Micros::parse_rfc3339(&format!("{text}T00:00:00Z")).is_some();
    if !valid {
        return Err(entry.value.wrong("a date", "a day").help("write for example `2026-11-25`"));
    }
    Ok(text.into())
}

fn mode(entry: &Entry) -> Result<Mode, Fault> {
    let text = entry.value.text("`mode`")?;
    let found = Mode::ALL.into_iter().find(|(_, name)| *name == text);
    found.map(|(mode, _)| mode).ok_or_else(|| {
        let message = format!("there is no mode {}", shown(text));
        Fault::new(entry.value.at, "unknown-mode", message)
            .help(did_you_mean(text, &Mode::ALL.map(|(_, name)| name)))
    })
}

fn trigger(entry: &Entry) -> Result<(Trigger, TriggerMarks), Fault> {
    const KEYS: [&str; 5] = ["on", "rules", "severity", "tags", "entity"];
    const ONS: [(&str, On); 4] =
        [("notice", On::Notice), ("alert", On::Alert), ("both", On::Both), ("hand", On::Hand)];
    let entries = entry.value.map("`trigger`")?;
    if let Some(entry) = entries.iter().find(|entry| !KEYS.contains(&entry.key.as_str())) {
        return Err(entry.unknown("trigger", &KEYS, &[]));
    }
    let on_entry = find(entries, "on").ok_or_else(|| {
        Fault::new(entry.value.at, "missing-key", "the trigger has no `on`")
            .help("write one of: notice, alert, both, hand")
    })?;
    let text = on_entry.value.text("`on`")?;
    let on = ONS.into_iter().find(|(name, _)| *name == text).map(|(_, on)| on).ok_or_else(|| {
        let message = format!("a playbook cannot start on {}", shown(text));
        Fault::new(on_entry.value.at, "unknown-trigger", message)
            .help(did_you_mean(text, &ONS.map(|(name, _)| name)))
    })?;
    let (rules, rules_at) = texts(entries, "rules")?;
    let (tags, tags_at) = texts(entries, "tags")?;
    let (entity, entity_at) = texts(entries, "entity")?;
    let severity_entry = find(entries, "severity");
    let marks = TriggerMarks {
        at: entry.key_at,
        on: on_entry.value.at,
        severity: severity_entry.map_or(entry.key_at, |entry| entry.value.at),
        rules: rules_at,
        tags: tags_at,
        entity: entity_at,
    };
    let severity = severity_entry.map(|entry| severity(&entry.value)).transpose()?;
    let trigger = Trigger { on, rules, severity: severity.unwrap_or(Severity::Informational), tags, entity };
    Ok((trigger, marks))
}

/// A list of different texts, with the place of each.
fn texts(entries: &[Entry], key: &str) -> Result<(Vec<Arc<str>>, Vec<Place>), Fault> {
    let Some(entry) = find(entries, key) else { return Ok((Vec::new(), Vec::new())) };
    let (mut texts, mut places): (Vec<Arc<str>>, Vec<Place>) = (Vec::new(), Vec::new());
    for node in list(&entry.value, &format!("`{key}`"), MAX_LIST)? {
        let text = node.text(&format!("an entry of `{key}`"))?.trim();
        if texts.iter().any(|known| **known == *text) {
            return Err(Fault::new(node.at, "listed-twice", format!("{} is here twice", shown(text)))
                .help("keep one of them"));
        }
        texts.push(text.into());
        places.push(node.at);
    }
    Ok((texts, places))
}

fn severity(node: &Node) -> Result<Severity, Fault> {
    let text = node.text("`severity`")?;
    Severity::parse(text).ok_or_else(|| {
        Fault::new(node.at, "unknown-severity", format!("there is no severity {}", shown(text)))
            .help(did_you_mean(text, &Severity::ALL.map(Severity::name)))
    })
}
