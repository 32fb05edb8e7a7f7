//! Alerts and notices: the bodies that leave the engine.
//!
//! In: an episode's state. Out: [`Alert`] (one revision's body, reproducible byte for byte) and [`Notice`].
//! The envelope (seq, triage, content of the evidence) is the store's and is not here.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    flags::Flags,
    order::{Incarnation, Order},
    rule::RuleIx,
    time::Micros,
    value::{Value, key_text},
};

/// Sigma's levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It may still be revised.
    Active,
    /// This is its last revision.
    Ended,
}

/// The rule as an alert names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleRef {
    /// The rule's id.
    pub id: Arc<str>,
    /// Its title.
    pub title: Arc<str>,
    /// Its level.
    pub level: Severity,
    /// `single`, or the correlation's type.
    #[serde(rename = "type")]
    pub kind: Arc<str>,
    /// First 16 hexadecimal digits of the hash of its meaning.
    pub version: Arc<str>,
    /// Its tags, as written.
    pub tags: Arc<[Arc<str>]>,
}

/// Whom an alert is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entity {
    /// The field's name.
    #[serde(rename = "type")]
    pub kind: Arc<str>,
    /// Its value.
    pub value: Value,
}

/// A reference to one event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Topic; the source's name for files.
    pub topic: Arc<str>,
    /// Which of the topics of that name; not written for the first, 0.
    #[serde(default, skip_serializing_if = "is_first")]
    pub incarnation: Incarnation,
    /// Partition; the file's number for files.
    pub partition: i32,
    /// Offset; the record's number for files.
    pub offset: i64,
    /// Index within the record.
    pub index: u32,
    /// `ts_event`.
    pub time: Micros,
    /// The event's flags.
    pub flags: Flags,
}

/// Whether this is a topic's first incarnation. Hardly any topic is ever made anew, and bodies of all others say nothing of it.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_first(incarnation: &Incarnation) -> bool {
    *incarnation == 0
}

/// The body of one revision of an alert. Field order is the order in which it is written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Alert {
    /// Lower-case hexadecimal blake3 of rule, meaning, key and crossing event.
    pub alert_id: Arc<str>,
    /// From 1.
    pub revision: u32,
    /// Active or ended.
    pub state: State,
    /// True if it goes on from an episode that midnight cut.
    pub continuation: bool,
    /// The rule.
    pub rule: Arc<RuleRef>,
    /// The group key.
    pub key: BTreeMap<Arc<str>, Value>,
    /// Whom it is about.
    pub entity: Option<Entity>,
    /// Time of the first event of the episode (witness included).
    pub first_seen: Micros,
    /// Time of the crossing event.
    pub crossed_at: Micros,
    /// Time of the last event of the episode.
    pub last_seen: Micros,
    /// How many events.
    pub count: u64,
    /// What the condition measures.
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
    pub explanation: serde_json::Map<String, serde_json::Value>,
    /// All events' flags, and the alert's own.
    pub flags: Flags,
}

/// An episode of a rule that an alert's rule refers to, as it was when it crossed: what made one event of the alert's. Its members
/// are named as those of an alert's body.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Child {
    /// The id that the episode's own alert bears; none if its rule raises no alerts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert_id: Option<Arc<str>>,
    /// The rule.
    pub rule: Arc<RuleRef>,
    /// Its group key.
    pub key: BTreeMap<Arc<str>, Value>,
    /// Time of its first event.
    pub first_seen: Micros,
    /// Time of its crossing event, which is the alert's event.
    pub crossed_at: Micros,
    /// Time of its last event then: the same.
    pub last_seen: Micros,
    /// How many events it had then.
    pub count: u64,
    /// What its condition measured then.
    pub value: Number,
    /// The first and last five of those events, each once.
    pub evidence: Vec<Evidence>,
    /// The same of its own evidence, if its rule refers to correlations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub children: Option<Vec<Child>>,
    /// All those events' flags, and the episode's own.
    pub flags: Flags,
}

/// A measured value: whole, or fixed-point with six decimals.
#[derive(Debug, Clone, Copy, PartialEq)]
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
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Notice {
    /// Hash of rule and key with the crossing event seen at the time.
    pub notice_id: Arc<str>,
    /// The rule in the rule set.
    #[serde(skip)]
    pub rule_ix: RuleIx,
    /// The rule.
    pub rule: Arc<RuleRef>,
    /// The group key.
    pub key: BTreeMap<Arc<str>, Value>,
    /// Whom it is about.
    pub entity: Option<Entity>,
    /// Time of the event that made the condition hold.
    pub crossed_at: Micros,
    /// How many events it rests on.
    pub count: u64,
    /// What the condition measured then.
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
    /// The group key.
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
