//! Alerts and notices: the bodies that leave the engine, as they are written, read and described everywhere.
//!
//! In: an episode's state, or a stored text. Out: [`Alert`] (one revision's body, reproducible byte for byte) and [`Notice`].
//! The envelope (seq, triage, content of the evidence) is the store's and is not here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    flags::Flags,
    order::{Incarnation, Order},
    rule::RuleIx,
    time::Micros,
    value::{Value, key_text},
};

/// Sigma's levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[schema(as = SeverityName)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// For context only.
    Informational,
    /// Low.
    Low,
    /// Medium.
    Medium,
    /// High.
    High,
    /// Critical.
    Critical,
}

impl Severity {
    /// All of them, from the lowest.
    pub const ALL: [Self; 5] = [Self::Informational, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Informational => "informational",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// The level of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }

    /// What an alert of this level adds to its entity's risk unless the rule says otherwise.
    #[must_use]
    pub const fn risk(self) -> u32 {
        match self {
            Self::Informational => 1,
            Self::Low => 10,
            Self::Medium => 30,
            Self::High => 60,
            Self::Critical => 90,
        }
    }
}

/// Whether an episode goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[schema(as = AlertState)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It may still be revised.
    Active,
    /// This is its last revision.
    Ended,
}

/// The rule as an alert names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuleRef {
    /// The rule's id.
    #[schema(value_type = String)]
    pub id: Arc<str>,
    /// Its title.
    #[schema(value_type = String)]
    pub title: Arc<str>,
    /// Its level.
    pub level: Severity,
    /// `single`, the correlation's type, or `hunt`.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub kind: Arc<str>,
    /// First 16 hexadecimal digits of the hash of its meaning.
    #[schema(value_type = String)]
    pub version: Arc<str>,
    /// Its tags, as written.
    #[schema(value_type = Vec<String>)]
    pub tags: Arc<[Arc<str>]>,
}

/// Whom an alert is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = EntityRef)]
pub struct Entity {
    /// The field's name.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub kind: Arc<str>,
    /// Its value: text, number or boolean.
    #[schema(value_type = serde_json::Value)]
    pub value: Value,
}

/// A reference to one event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = EvidenceRef)]
pub struct Evidence {
    /// Topic; the source's name for files.
    #[schema(value_type = String)]
    pub topic: Arc<str>,
    /// How often that topic had been accepted anew; not written for 0.
    #[serde(default, skip_serializing_if = "is_first")]
    pub incarnation: Incarnation,
    /// Partition; the file's number for files.
    pub partition: i32,
    /// Offset; the record's number for files.
    pub offset: i64,
    /// Index within the record.
    pub index: u32,
    /// The event's time, `ts_event`.
    #[schema(value_type = String, format = DateTime)]
    pub time: Micros,
    /// The event's flags.
    #[schema(value_type = Vec<String>)]
    pub flags: Flags,
}

/// Whether this is a topic's first incarnation. Hardly any topic is ever made anew, and bodies of all others say nothing of it.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_first(incarnation: &Incarnation) -> bool {
    *incarnation == 0
}

/// The body of one revision of an alert. Field order is the order in which it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = AlertBody)]
pub struct Alert {
    /// Lower-case hexadecimal blake3 of rule, meaning, key and crossing event.
    #[schema(value_type = String)]
    pub alert_id: Arc<str>,
    /// From 1.
    pub revision: u32,
    /// Active or ended.
    pub state: State,
    /// True if it goes on from an episode that midnight cut.
    pub continuation: bool,
    /// The rule.
    #[schema(value_type = RuleRef)]
    pub rule: Arc<RuleRef>,
    /// The group key: text, number or boolean by field.
    #[schema(value_type = BTreeMap<String, serde_json::Value>)]
    pub key: BTreeMap<Arc<str>, Value>,
    /// Whom it is about.
    #[schema(required = true)]
    pub entity: Option<Entity>,
    /// Time of the first event of the episode (witness included).
    #[schema(value_type = String, format = DateTime)]
    pub first_seen: Micros,
    /// Time of the crossing event.
    #[schema(value_type = String, format = DateTime)]
    pub crossed_at: Micros,
    /// Time of the last event of the episode.
    #[schema(value_type = String, format = DateTime)]
    pub last_seen: Micros,
    /// How many events.
    pub count: u64,
    /// What the condition measures.
    #[schema(value_type = f64)]
    pub value: Number,
    /// Current severity.
    pub severity: Severity,
    /// What it adds to the entity's risk.
    pub risk: u32,
    /// One line for an analyst.
    pub summary: String,
    /// The first and last five events, each once.
    pub evidence: Vec<Evidence>,
    /// Of how many events the evidence is a part.
    pub evidence_total: u64,
    /// The window, threshold and values that made it fire.
    pub explanation: Explanation,
    /// All events' flags, and the alert's own: `approximate`, `capped`, `cold`, `hunt`, `storm`, `clock=…`.
    #[schema(value_type = Vec<String>)]
    pub flags: Flags,
}

/// Why an alert fired: the window, threshold and values that made it, and what lies below it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// Of a rule over correlations: the episodes that made the events in `evidence`, and those below them; 128 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub children: Option<Vec<Child>>,
    /// How many there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub children_total: Option<u64>,
    /// By the rule's type.
    #[serde(flatten)]
    #[schema(value_type = BTreeMap<String, serde_json::Value>)]
    pub details: serde_json::Map<String, serde_json::Value>,
}

/// An episode of a rule that an alert's rule refers to, as it was when it crossed: what made one event of the alert's. Its members are named as in an alert's body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Child {
    /// The id that the episode's own alert bears; none if its rule raises no alerts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub alert_id: Option<Arc<str>>,
    /// The rule.
    #[schema(value_type = RuleRef)]
    pub rule: Arc<RuleRef>,
    /// Its group key.
    #[schema(value_type = BTreeMap<String, serde_json::Value>)]
    pub key: BTreeMap<Arc<str>, Value>,
    /// Time of its first event.
    #[schema(value_type = String, format = DateTime)]
    pub first_seen: Micros,
    /// Time of its crossing event, which is the alert's event.
    #[schema(value_type = String, format = DateTime)]
    pub crossed_at: Micros,
    /// Time of its last event then: the same.
    #[schema(value_type = String, format = DateTime)]
    pub last_seen: Micros,
    /// How many events it had then.
    pub count: u64,
    /// What its condition measured then.
    #[schema(value_type = f64)]
    pub value: Number,
    /// The first and last five of those events, each once.
    pub evidence: Vec<Evidence>,
    /// The same of its own evidence, if its rule refers to correlations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(no_recursion, nullable = false)]
    pub children: Option<Vec<Child>>,
    /// All those events' flags, and the episode's own.
    #[schema(value_type = Vec<String>)]
    pub flags: Flags,
}

/// A measured value: whole, or fixed-point with six decimals.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Number {
    /// A whole number.
    Int(u64),
    /// Any other.
    Float(f64),
}

impl Serialize for Number {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Int(n) => s.serialize_u64(*n),
            Self::Float(f) => s.serialize_f64(*f),
        }
    }
}

/// An early word that a monotone condition holds over the events read so far. Delivered at least once; never compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = NoticeBody)]
pub struct Notice {
    /// Hash of rule and key with the crossing event seen at the time.
    #[schema(value_type = String)]
    pub notice_id: Arc<str>,
    /// The rule in the rule set.
    #[serde(skip)]
    pub rule_ix: RuleIx,
    /// The rule.
    #[schema(value_type = RuleRef)]
    pub rule: Arc<RuleRef>,
    /// The group key: text, number or boolean by field.
    #[schema(value_type = BTreeMap<String, serde_json::Value>)]
    pub key: BTreeMap<Arc<str>, Value>,
    /// Whom it is about.
    #[schema(required = true)]
    pub entity: Option<Entity>,
    /// Time of the event that made the condition hold.
    #[schema(value_type = String, format = DateTime)]
    pub crossed_at: Micros,
    /// How many events it rests on.
    #[serde(default)]
    pub count: u64,
    /// What the condition measured then.
    #[schema(value_type = f64)]
    pub value: Number,
    /// The rule's level.
    pub severity: Severity,
    /// One line for an analyst.
    pub summary: String,
    /// That event.
    pub evidence: Vec<Evidence>,
}

/// What an alert's identity is made of.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// The rule's id.
    pub rule_id: &'a str,
    /// The hash of the rule's meaning.
    pub meaning: &'a [u8; 32],
    /// The group key: text, number or boolean by field.
    pub key: &'a BTreeMap<Arc<str>, Value>,
    /// The crossing event.
    pub crossing: Order,
    /// Its topic's name.
    pub topic: &'a str,
}

impl Identity<'_> {
    /// `alert_id`: blake3 in lower-case hexadecimal over, in this order, the rule id, the meaning (32 bytes), the key as
    /// JSON text, `ts_event` (i64), the topic, its incarnation (u32), partition (i32), offset (i64) and index (u32).
    /// Texts are preceded by their length in bytes (u32); integers are little-endian.
    #[must_use]
    pub fn alert_id(&self) -> Arc<str> {
        let key = key_text(self.key);
        let mut bytes = Vec::with_capacity(160);
        let text = |bytes: &mut Vec<u8>, text: &str| {
            bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        };
        text(&mut bytes, self.rule_id);
        bytes.extend_from_slice(self.meaning);
        text(&mut bytes, &key);
        bytes.extend_from_slice(&self.crossing.time.0.to_le_bytes());
        text(&mut bytes, self.topic);
        bytes.extend_from_slice(&u32::from(self.crossing.incarnation).to_le_bytes());
        bytes.extend_from_slice(&self.crossing.partition.to_le_bytes());
        bytes.extend_from_slice(&self.crossing.offset.to_le_bytes());
        bytes.extend_from_slice(&self.crossing.index.to_le_bytes());
        blake3::hash(&bytes).to_hex().as_str().into()
    }
}

/// References of one body whose events are fetched and shown: its own ten at most, and of what lies below it as many as leave the
/// contents of one alert within a megabyte and a half, each being 32 KiB at most.
pub const FETCHED: usize = 50;

/// The references in the text of a body whose events are fetched: its own, then its children's, level by level, each once. None
/// if it lists none.
#[must_use]
pub fn references(body: &str) -> Vec<Evidence> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        evidence: Vec<Evidence>,
        #[serde(default)]
        explanation: Below,
    }
    #[derive(Deserialize, Default)]
    struct Below {
        #[serde(default)]
        children: Vec<Level>,
    }
    #[derive(Deserialize)]
    struct Level {
        evidence: Vec<Evidence>,
        #[serde(default)]
        children: Vec<Level>,
    }
    let Ok(Body { evidence, explanation }) = serde_json::from_str::<Body>(body) else { return Vec::new() };
    // The same event can bear other flags where it crossed something.
    let place = |of: &Evidence| (of.topic.clone(), of.incarnation, of.partition, of.offset, of.index);
    let mut seen: BTreeSet<_> = evidence.iter().map(place).collect();
    let mut fetched = evidence;
    let mut level = explanation.children;
    while !level.is_empty() {
        let mut below = Vec::new();
        for child in level {
            for event in child.evidence {
                if fetched.len() < FETCHED && seen.insert(place(&event)) {
                    fetched.push(event);
                }
            }
            below.extend(child.children);
        }
        level = below;
    }
    fetched
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value as Json, json};

    use super::*;

    fn at(offset: i64) -> Json {
        json!({"topic": "t", "partition": 0, "offset": offset, "index": 0, "time": "2026-01-01T00:00:00Z", "flags": []})
    }

    fn offsets(body: &Json) -> Vec<i64> {
        references(&body.to_string()).iter().map(|of| of.offset).collect()
    }

    #[test]
    fn what_is_fetched_is_the_alerts_own_then_level_by_level_each_once() {
        assert_eq!(offsets(&json!({"evidence": [at(4), at(9)], "explanation": {"type": "x"}})), [4, 9]);
        assert_eq!(offsets(&json!({"no": "references"})), [0; 0]);
        let below = json!([{"evidence": [at(1), at(2)]}, {"evidence": [at(2), at(3)]}]);
        let mut flagged = at(4);
        flagged["flags"] = json!(["approximate"]);
        let children = json!([{"evidence": [at(2), at(3), at(4)], "children": below}, {"evidence": [at(8)]}]);
        let body = json!({"evidence": [flagged, at(9)], "explanation": {"children": children}});
        assert_eq!(offsets(&body), [4, 9, 2, 3, 8, 1]);
    }

    #[test]
    fn what_is_fetched_is_bounded() {
        let child = |n: i64| json!({"evidence": (0..10).map(|i| at(10 * n + i)).collect::<Vec<_>>()});
        let children: Vec<_> = (1..100).map(child).collect();
        let own: Vec<_> = (0..10).map(at).collect();
        let body = json!({"evidence": own, "explanation": {"children": children}});
        assert_eq!(offsets(&body), (0..FETCHED as i64).collect::<Vec<_>>());
    }

    #[test]
    fn a_body_is_read_as_it_was_written() {
        let rule = Arc::new(RuleRef {
            id: "r".into(),
            title: "R".into(),
            level: Severity::Low,
            kind: "event_count".into(),
            version: "0".into(),
            tags: ["t".into()].into(),
        });
        let key: BTreeMap<Arc<str>, Value> = BTreeMap::from([
            ("a".into(), Value::Text("x".into())),
            ("b".into(), Value::Number("-0.25".into())),
            ("c".into(), Value::Bool(true)),
            ("d".into(), Value::Number("18446744073709551615".into())),
        ]);
        let evidence: Evidence = serde_json::from_value(at(7)).unwrap();
        let time = evidence.time;
        let child = Child {
            alert_id: None,
            rule: Arc::clone(&rule),
            key: key.clone(),
            first_seen: time,
            crossed_at: time,
            last_seen: time,
            count: 1,
            value: Number::Float(0.1 + 0.2),
            evidence: vec![evidence.clone()],
            children: Some(Vec::new()),
            flags: Flags::CAPPED,
        };
        let alert = Alert {
            alert_id: "i".into(),
            revision: 1,
            state: State::Active,
            continuation: false,
            rule,
            entity: Some(Entity { kind: "a".into(), value: Value::Text("x".into()) }),
            key,
            first_seen: time,
            crossed_at: time,
            last_seen: time,
            count: 1,
            value: Number::Int(u64::MAX),
            severity: Severity::Low,
            risk: 10,
            summary: "…".into(),
            evidence: vec![evidence],
            evidence_total: 1,
            explanation: Explanation {
                children: Some(vec![child]),
                children_total: Some(1),
                details: json!({"type": "event_count", "condition": {"gte": 1}}).as_object().unwrap().clone(),
            },
            flags: Flags::NONE,
        };
        let text = serde_json::to_string(&alert).unwrap();
        let again: Alert = serde_json::from_str(&text).unwrap();
        assert_eq!((serde_json::to_string(&again).unwrap(), &again), (text, &alert));
    }
}
