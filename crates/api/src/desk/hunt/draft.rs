//! A rule that begins with an event: a draft with the event as its test.
//!
//! In: an event's fields, what its source is to rules. Out: [`Draft`]. Invariants: every value is written as JSON, which YAML reads as itself;
//! nothing is loaded or stored; what the draft looks for is a person's to change.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::Value;

use crate::{auth::random_hex, hunts::Column};

/// Fields that say what happened, the most telling first.
const WHAT: [&str; 12] = [
    "event.action",
    "event.outcome",
    "waf.action",
    "waf.attack_class",
    "panw.type",
    "panw.subtype",
    "panw.threat_name",
    "http.request.method",
    "http.response.status_code",
    "destination.port",
    "rule.name",
    "url.path",
];
/// Fields that a draft looks for.
const MOST: usize = 4;
/// Fields that say whom it is about, in order of preference.
const WHOM: [&str; 6] = ["user.name", "client.ip", "source.ip", "user.id", "api_key.id", "host.name"];
/// Characters of a value in a draft.
const LONGEST: usize = 200;

/// A draft of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Draft {
    /// The document.
    pub yaml: String,
}

/// The draft for an event; none if it says nothing that a rule could look for.
pub(crate) fn of(event: &[(Column, Value)], logsource: &BTreeMap<String, String>) -> Option<Draft> {
    let usable = |value: &Value| match value {
        Value::String(text) => text.chars().nth(LONGEST).is_none() && !text.chars().any(char::is_control),
        Value::Number(_) | Value::Bool(_) => true,
        _ => false,
    };
    let said = |name: &str| {
        let found = event.iter().find(|(column, _)| column.name == name);
        found.filter(|(_, value)| usable(value)).map(|(column, value)| (&*column.name, value))
    };
    let mut what: Vec<(&str, &Value)> = WHAT.iter().filter_map(|name| said(name)).take(MOST).collect();
    if what.is_empty() {
        let any = event.iter().filter(|(column, value)| {
            column.kind == "text" && !column.name.starts_with("vedette.") && usable(value)
        });
        what = any.map(|(column, value)| (&*column.name, value)).take(2).collect();
    }
    let whom = WHOM.iter().find_map(|name| said(name));
    if what.is_empty() || logsource.is_empty() {
        return None;
    }
    let hex = random_hex::<16>().ok()?;
    let id = format!(
        "{}-{}-4{}-8{}-{}",
        hex.get(..8)?,
        hex.get(8..12)?,
        hex.get(13..16)?,
        hex.get(17..20)?,
        hex.get(20..32)?
    );
    let source: Vec<String> =
        logsource.iter().map(|(part, value)| format!("    {part}: {}\n", json(value))).collect();
    let mut yaml = format!(
        "title: Draft from a hunt\nid: {id}\nstatus: experimental\ndescription: What it finds, and why that matters\n\
         logsource:\n{}detection:\n    selection:\n",
        source.concat()
    );
    for (name, value) in &what {
        let _ = writeln!(yaml, "        {}: {}", json(name), literal(value));
    }
    yaml.push_str("    condition: selection\nlevel: medium\nvedette:\n");
    if let Some((name, _)) = whom {
        let _ = writeln!(yaml, "    entity: {}", json(name));
    }
    let members = what.iter().chain(whom.as_ref()).map(|(name, value)| format!("{}: {value}", json(name)));
    let template = members.collect::<Vec<_>>().join(", ");
    let _ = write!(
        yaml,
        "    tests:\n        - name: the event that it was made of\n          events:\n              - {{template: {{{template}}}}}\n          \
         expect: {{alerts: 1}}\n"
    );
    Some(Draft { yaml })
}

fn json(text: &str) -> String {
    Value::from(text).to_string()
}

/// A value that is looked for; what rules take for wildcards is taken for itself.
fn literal(value: &Value) -> String {
    match value {
        Value::String(text) => json(&text.replace('\\', "\\\\").replace('*', "\\*").replace('?', "\\?")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn event(fields: &[(&str, Value)]) -> Vec<(Column, Value)> {
        let column = |name: &str| Column { name: name.to_owned(), kind: "text".to_owned() };
        fields.iter().map(|(name, value)| (column(name), value.clone())).collect()
    }

    #[test]
    fn a_draft_is_a_rule_whatever_the_event_says() {
        let logsource = [("category".to_owned(), "waf".to_owned())].into();
        for hostile in ["x", "a: b\" - c", "'", "#", "*?\\", "{{}}", "- &a *b", "\u{202e}é🦀", "null", "1"]
        {
            let event = event(&[
                ("event.action", json!(hostile)),
                ("url.path", json!(format!("/{hostile}"))),
                ("destination.port", json!(443)),
                ("client.ip", json!("203.0.113.9")),
                ("message", json!("a\nb")),
            ]);
            let draft = of(&event, &logsource).unwrap();
            let file = vedette_sigma::RuleFile { path: "draft.yml".into(), text: draft.yaml.clone() };
            let sources = vedette_event::Sources::default();
            let set = vedette_sigma::load(&[file], &vedette_sigma::Lists::new(), &sources);
            assert!(set.rejected.is_empty(), "{:?}\n{}", set.rejected, draft.yaml);
            assert_eq!(set.rules.len(), 1);
        }
        assert_eq!(of(&event(&[("message", json!("a\nb"))]), &logsource), None);
    }
}
