//! Whom a row of the queue concerns, beyond the one entity that it is about.
//!
//! In: bodies and the contents of evidence. Out: entities with the part that they play. Invariants: so many a row at most, so
//! that an alert over a thousand accounts costs no more than one over ten; what is longer than a name is none.

use std::collections::BTreeSet;

use serde_json::Value;
use vedette_event::{Alert, Entity, Notice, alert::Child};

use crate::{
    bulk::Bulk,
    error::Error,
    model::{Concern, ConcernRole, EntityRef},
    transaction::WriteTx,
};

/// Entities of one row that are written down, and those of its evidence besides.
const MOST: usize = 24;
const MOST_OF_EVIDENCE: usize = 64;
/// Bytes of a value. A key part is at most so long; longer texts of records are no names.
const LONGEST: usize = 1_200;

const CONCERNS: Bulk = Bulk {
    head: "insert into alert_entities (value, kind, created_seq, role, seq) values ",
    columns: 5,
    tail: " on conflict (value, kind, created_seq) do nothing",
};

/// Whether a field names somebody or something that one would ask for: an address, a user, a key, a host, an account.
fn is_entity_field(field: &str) -> bool {
    const NAMES: [&str; 9] = [
        "ip",
        "user",
        "computer",
        "hostname",
        "username",
        "targetusername",
        "subjectusername",
        "email",
        "account",
    ];
    const ENDS: [&str; 13] = [
        ".ip",
        "_ip",
        "-ip",
        "user.name",
        "user.id",
        "user.email",
        "host.name",
        "host.id",
        "api_key.id",
        "account.id",
        "device.id",
        "withdrawal.address",
        "wallet.address",
    ];
    let field = field.to_ascii_lowercase();
    NAMES.contains(&field.as_str()) || ENDS.iter().any(|end| field.ends_with(end))
}

/// Whether a field and its value name somebody or something: a session without translation is from 0.0.0.0, which is nobody.
#[must_use]
pub fn is_entity(field: &str, value: &str) -> bool {
    is_entity_field(field) && !matches!(value, "" | "-" | "0.0.0.0" | "::")
}

/// Whom an alert's body names.
pub(crate) fn of_alert(alert: &Alert) -> Vec<Concern> {
    let mut found = Found::default();
    found.entity(alert.entity.as_ref());
    alert.key.iter().for_each(|(name, value)| found.field(name, value.text(), ConcernRole::Key));
    found.children(alert.explanation.children.as_deref().unwrap_or_default());
    found.all
}

/// Whom a notice's body names.
pub(crate) fn of_notice(notice: &Notice) -> Vec<Concern> {
    let mut found = Found::default();
    found.entity(notice.entity.as_ref());
    notice.key.iter().for_each(|(name, value)| found.field(name, value.text(), ConcernRole::Key));
    found.all
}

/// Whom an event's content names.
pub(crate) fn of_content(content: &str) -> Vec<Concern> {
    let mut found = Found { most: MOST_OF_EVIDENCE, ..Found::default() };
    let Ok(Value::Object(members)) = serde_json::from_str(content) else { return Vec::new() };
    for (name, value) in &members {
        match value {
            Value::Object(inner) => {
                inner.iter().for_each(|(own, value)| found.scalar(&format!("{name}.{own}"), value));
            }
            value => found.scalar(name, value),
        }
    }
    found.all
}

struct Found {
    all: Vec<Concern>,
    seen: BTreeSet<(String, String)>,
    most: usize,
}

impl Default for Found {
    fn default() -> Self {
        Self { all: Vec::new(), seen: BTreeSet::new(), most: MOST }
    }
}

impl Found {
    fn entity(&mut self, entity: Option<&Entity>) {
        if let Some(Entity { kind, value }) = entity {
            self.add(kind, value.text(), ConcernRole::Entity);
        }
    }

    fn field(&mut self, name: &str, value: &str, role: ConcernRole) {
        if is_entity(name, value) {
            self.add(name, value, role);
        }
    }

    fn scalar(&mut self, name: &str, value: &Value) {
        match value {
            Value::String(text) => self.field(name, text, ConcernRole::Evidence),
            Value::Number(n) => self.field(name, &n.to_string(), ConcernRole::Evidence),
            Value::Array(list) => list.iter().take(8).for_each(|element| {
                if let Value::String(text) = element {
                    self.field(name, text, ConcernRole::Evidence);
                }
            }),
            _ => {}
        }
    }

    /// A level before those below it, so that where there is no room for all the nearest are there.
    fn children(&mut self, level: &[Child]) {
        for child in level {
            child.key.iter().for_each(|(name, value)| self.field(name, value.text(), ConcernRole::Child));
        }
        for child in level {
            if self.all.len() < self.most {
                self.children(child.children.as_deref().unwrap_or_default());
            }
        }
    }

    fn add(&mut self, kind: &str, value: &str, role: ConcernRole) {
        let fits = !value.is_empty() && value.len() <= LONGEST && kind.len() <= LONGEST;
        if fits && self.all.len() < self.most && self.seen.insert((kind.to_owned(), value.to_owned())) {
            let entity = EntityRef { kind: kind.to_owned(), value: value.to_owned() };
            self.all.push(Concern { entity, role });
        }
    }
}

impl WriteTx {
    /// Notes whom rows concern; a row is named by the number with which it appeared.
    pub(crate) async fn write_concerns(&mut self, concerns: &[(i64, &Concern)]) -> Result<(), Error> {
        // Whatever else this transaction changes is behind that.
        let seq = self.first_seq + 1;
        self.run_bulk(CONCERNS, concerns, |insert, (created, Concern { entity, role })| {
            insert.bind(&entity.value).bind(&entity.kind).bind(created).bind(*role as i64).bind(seq)
        })
        .await
        .map(drop)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn fields_that_name_somebody_are_told_from_others() {
        for field in [
            "source.ip",
            "client.ip",
            "user.name",
            "source.user.name",
            "api_key.id",
            "Computer",
            "c-ip",
            "src_ip",
            "ip",
        ] {
            assert!(is_entity_field(field), "{field}");
        }
        for field in ["", "destination.port", "url.path", "waf.attack_class", "rule.name", "skip", "event.id"]
        {
            assert!(!is_entity_field(field), "{field}");
        }
    }

    #[test]
    fn an_event_names_so_many_at_most_and_only_what_is_a_name() {
        let content = serde_json::json!({"client.ip": "192.0.2.1", "user": {"name": "ann", "roles": ["x"]}, "url.path": "/",
            "related.ip": ["192.0.2.1", "192.0.2.2", 5], "source.nat.ip": "0.0.0.0", "client.user.name": "-", "host.name": "x".repeat(LONGEST + 1), "user.id": 7});
        let found = of_content(&content.to_string());
        let told: Vec<_> =
            found.iter().map(|of| (of.entity.kind.as_str(), of.entity.value.as_str())).collect();
        assert_eq!(
            told,
            [
                ("client.ip", "192.0.2.1"),
                ("related.ip", "192.0.2.1"),
                ("related.ip", "192.0.2.2"),
                ("user.name", "ann"),
                ("user.id", "7")
            ]
        );
        let many: serde_json::Map<_, _> =
            (0..500).map(|n| (format!("f{n}.ip"), "192.0.2.1".into())).collect();
        assert_eq!(of_content(&Value::Object(many).to_string()).len(), MOST_OF_EVIDENCE);
        assert!(of_content("no JSON").is_empty());
    }
}
