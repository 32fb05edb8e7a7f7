//! A playbook as CACAO 2.0 JSON, for others' tools.
//!
//! In: a playbook. Out: the JSON document. Invariants: the same playbook gives the same text, with UUIDs of version 5 below the
//! specification's namespace; times have three decimals; each step that is named is in the workflow.
//!
//! Steps are written as commands for people, since which device carries one out, and by what call, is this deployment's and no
//! other's; conditions are `if-condition` steps over variables that whoever imports the playbook fills from the alert.

use serde_json::{Map, Value as Json, json};
use sha1::{Digest as _, Sha1};
use uuid::Uuid;

use crate::{
    condition::Condition,
    deed::Deed,
    playbook::{Playbook, Step},
};

/// The namespace of the specification for identifiers that are made of their content.
const NAMESPACE: Uuid = Uuid::from_u128(0xaa7c_af3a_d55a_4e9a_b34e_0562_15fb_a56a);

/// Writes a playbook as CACAO 2.0.
#[must_use]
pub fn cacao(playbook: &Playbook) -> Json {
    let id = |kind: &str, part: &str| format!("{kind}--{}", uuid5(&format!("{kind}/{}/{part}", playbook.id)));
    let (start, end, agent) = (id("start", ""), id("end", ""), id("organization", ""));
    let mut workflow = Map::new();
    let mut next = end.clone();
    // From the last to the first, since each names what comes after it.
    for step in playbook.body.steps.iter().rev() {
        let action = id("action", &step.name);
        let after = if step.last { end.clone() } else { next.clone() };
        let command = json!({"type": "manual", "command": command(step)});
        let body = json!({"type": "action", "name": format!("{}: {}", step.name, step.deed.name()), "on_completion": after,
            "commands": [command], "agent": agent});
        workflow.insert(action.clone(), body);
        next = guarded(&step.when, action, &next, id("if-condition", &step.name), &mut workflow);
    }
    let first = guarded(&playbook.body.conditions, next, &end, id("if-condition", ""), &mut workflow);
    workflow.insert(start.clone(), json!({"type": "start", "on_completion": first}));
    workflow.insert(end, json!({"type": "end"}));
    let kinds = if playbook.body.steps.iter().any(|step| step.deed.action().is_some()) {
        "mitigation"
    } else {
        "notification"
    };
    let mut out = json!({
        "type": "playbook",
        "spec_version": "cacao-2.0",
        "id": id("playbook", ""),
        "name": &*playbook.title,
        "playbook_types": [kinds],
        "created_by": format!("identity--{}", uuid5("identity/vedette")),
        "created": time(&playbook.date),
        "modified": time(&playbook.modified),
        "labels": [&*playbook.name],
        "playbook_variables": variables(playbook),
        "workflow_start": start,
        "workflow": workflow,
        "agent_definitions": {agent: {"type": "organization", "name": "Security operations"}},
    });
    if let (Some(text), Some(map)) = (&playbook.description, out.as_object_mut()) {
        map.insert("description".to_owned(), Json::from(&**text));
    }
    out
}

/// Puts a condition before a step, if it asks for anything.
fn guarded(
    condition: &Condition,
    then: String,
    otherwise: &str,
    id: String,
    workflow: &mut Map<String, Json>,
) -> String {
    if *condition == Condition::default() {
        return then;
    }
    let body = json!({"type": "if-condition", "condition": expression(condition), "on_true": then, "on_false": otherwise});
    workflow.insert(id.clone(), body);
    id
}

/// What the step says to whoever carries it out.
fn command(step: &Step) -> String {
    let target = step.target.as_ref().map(|field| format!(" {}:value", variable(field))).unwrap_or_default();
    let wide = step.prefix.map(|p| format!(" widened to /{} (IPv6 /{})", p.ipv4, p.ipv6)).unwrap_or_default();
    let span = match step.deed {
        Deed::Impose(_, limit) if limit.growth > 1 => {
            format!(
                " for {}, {} times as long each time again, {} at most",
                limit.first, limit.growth, limit.ceiling
            )
        }
        Deed::Impose(_, limit) => format!(" for {}", limit.first),
        _ => String::new(),
    };
    let by: Vec<&str> = step.connectors.iter().map(|connector| &*connector.name).collect();
    format!("{}{target}{wide}{span} by {}", step.deed.name(), by.join(", "))
}

/// A variable of the playbook that stands for a field of the alert.
fn variable(field: &str) -> String {
    let plain: String = field.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("__{}__", plain.to_ascii_lowercase())
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A condition as a comparison of the STIX pattern language.
fn expression(condition: &Condition) -> String {
    let any = Condition::default();
    let one_of =
        |name: &str, values: Vec<String>| format!("{}:value IN ({})", variable(name), values.join(", "));
    let mut parts = Vec::new();
    if condition.severity != any.severity {
        let levels = vedette_event::Severity::ALL.into_iter();
        let levels = levels.filter(|level| (condition.severity.0..=condition.severity.1).contains(level));
        parts.push(one_of("severity", levels.map(|level| quoted(level.name())).collect()));
    }
    if condition.count.0 > any.count.0 {
        parts.push(format!("{}:value >= {}", variable("count"), condition.count.0));
    }
    if condition.count.1 < any.count.1 {
        parts.push(format!("{}:value <= {}", variable("count"), condition.count.1));
    }
    if !condition.entity.is_empty() {
        parts.push(one_of("entity_type", condition.entity.iter().map(|kind| quoted(kind)).collect()));
    }
    for (name, values) in &condition.key {
        parts.push(one_of(name, values.iter().map(|value| quoted(value.text())).collect()));
    }
    parts.join(" AND ")
}

/// The variables that the playbook's steps and conditions name, to be filled from the alert.
fn variables(playbook: &Playbook) -> Map<String, Json> {
    let any = Condition::default();
    let mut out = Map::new();
    let mut add = |field: &str, kind: &str, what: String| {
        out.insert(variable(field), json!({"type": kind, "description": what, "external": true}));
    };
    let conditions = playbook.body.steps.iter().map(|step| &step.when).chain([&playbook.body.conditions]);
    for condition in conditions {
        if condition.severity != any.severity {
            add("severity", "string", "severity of the alert".to_owned());
        }
        if condition.count != any.count {
            add("count", "integer", "events of the alert".to_owned());
        }
        if !condition.entity.is_empty() {
            add("entity_type", "string", "what the alert is about".to_owned());
        }
        for name in condition.key.keys() {
            add(name, "string", format!("`{name}` of the alert's key"));
        }
    }
    for field in playbook.body.steps.iter().filter_map(|step| step.target.as_ref()) {
        add(field, "string", format!("`{field}` of the alert's key"));
    }
    out
}

/// Midnight of a day, with the three decimals that the specification asks for.
fn time(day: &str) -> String {
    format!("{day}T00:00:00.000Z")
}

/// The UUID of version 5 of a name.
fn uuid5(name: &str) -> Uuid {
    let hash = Sha1::new().chain_update(NAMESPACE.as_bytes()).chain_update(name.as_bytes()).finalize();
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    uuid::Builder::from_sha1_bytes(bytes).into_uuid()
}
