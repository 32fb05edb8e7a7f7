//! `tests:` of a playbook: an alert or a notice in, the proposals that must come out.
//!
//! In: the node of one test. Out: [`PlaybookTest`] and where its parts stand.

use std::sync::Arc;

use vedette_sigma::{
    fault::{Fault, Place, did_you_mean, shown},
    yaml::{Entry, Node, Value as Yaml},
};

use super::{MAX_STEPS, condition::scalar, find, need, severity};
use crate::{
    deed::Deed,
    playbook::{Expected, PlaybookTest},
};

/// Where parts of a test stand.
#[derive(Debug)]
pub(crate) struct TestMarks {
    pub at: Place,
    pub rule: Place,
    pub entity: Place,
    pub key: Vec<(Arc<str>, Place)>,
}

/// Reads a test.
pub(super) fn read(node: &Node) -> Result<(PlaybookTest, TestMarks), Fault> {
    const KEYS: [&str; 4] = ["name", "alert", "notice", "expect"];
    let entries = node.map("a test")?;
    if let Some(entry) = entries.iter().find(|entry| !KEYS.contains(&entry.key.as_str())) {
        return Err(entry.unknown("tests", &KEYS, &[]));
    }
    let name = need(entries, node, "test", "name")?.value.text("`name`")?.trim().into();
    let (of, notice) = match (find(entries, "alert"), find(entries, "notice")) {
        (Some(alert), None) => (alert, false),
        (None, Some(notice)) => (notice, true),
        _ => {
            return Err(Fault::new(node.at, "missing-key", "a test has either `alert` or `notice`")
                .help("write for example `alert: {rule: bot-user-bruteforce, key: {user.name: alice}}`"));
        }
    };
    let (mut test, marks) = subject(of, node.at)?;
    let Some(expect) = entries.iter().find(|entry| entry.key == "expect") else {
        return Err(Fault::new(node.at, "missing-key", "the test has no `expect`")
            .help("list the proposals, or write `[]` where none is to come"));
    };
    let Yaml::List(expected) = &expect.value.value else {
        return Err(expect.value.wrong("`expect`", "a list of proposals, `[]` for none"));
    };
    if let Some(beyond) = expected.get(MAX_STEPS) {
        return Err(Fault::new(
            beyond.at,
            "too-many",
            format!("`expect` holds more than {MAX_STEPS} entries"),
        ));
    }
    test.expect = expected.iter().map(proposal).collect::<Result<_, _>>()?;
    Ok((PlaybookTest { name, notice, ..test }, marks))
}

fn subject(entry: &Entry, at: Place) -> Result<(PlaybookTest, TestMarks), Fault> {
    const KEYS: [&str; 5] = ["rule", "key", "entity", "severity", "count"];
    let entries = entry.value.map("an alert")?;
    if let Some(entry) = entries.iter().find(|entry| !KEYS.contains(&entry.key.as_str())) {
        return Err(entry.unknown("an alert", &KEYS, &[]));
    }
    let rule = need(entries, &entry.value, "alert", "rule")?;
    let entity = find(entries, "entity");
    let keys = find(entries, "key").map(|entry| entry.value.map("`key`")).transpose()?.unwrap_or_default();
    let count = find(entries, "count").map(|entry| entry.value.whole("`count`")).transpose()?;
    let test = PlaybookTest {
        name: "".into(),
        line: at.line,
        notice: false,
        rule: rule.value.text("`rule`")?.trim().into(),
        severity: find(entries, "severity").map(|entry| severity(&entry.value)).transpose()?,
        entity: entity.map(|entry| entry.value.text("`entity`")).transpose()?.map(|text| text.trim().into()),
        key: keys
            .iter()
            .map(|entry| Ok((entry.key.as_str().into(), scalar(&entry.value)?)))
            .collect::<Result<_, Fault>>()?,
        count: count.unwrap_or(1).max(1),
        expect: Vec::new(),
    };
    let marks = TestMarks {
        at,
        rule: rule.value.at,
        entity: entity.map_or(at, |entry| entry.value.at),
        key: keys.iter().map(|entry| (entry.key.as_str().into(), entry.key_at)).collect(),
    };
    Ok((test, marks))
}

fn proposal(node: &Node) -> Result<Expected, Fault> {
    const KEYS: [&str; 3] = ["do", "target", "for"];
    let entries = node.map("a proposal")?;
    if let Some(entry) = entries.iter().find(|entry| !KEYS.contains(&entry.key.as_str())) {
        return Err(entry.unknown("expect", &KEYS, &[]));
    }
    let what = &need(entries, node, "proposal", "do")?.value;
    let text = what.text("`do`")?;
    let names = Deed::names();
    let deed = names.iter().find(|name| **name == text).ok_or_else(|| {
        Fault::new(what.at, "unknown-step", format!("there is no step {}", shown(text)))
            .help(did_you_mean(text, &names))
    })?;
    Ok(Expected {
        deed,
        target: find(entries, "target").map(|entry| entry.value.text("`target`")).transpose()?.map(Arc::from),
        span: find(entries, "for").map(|entry| entry.value.span("`for`")).transpose()?,
    })
}
