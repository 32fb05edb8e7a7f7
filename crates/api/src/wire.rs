//! Alerts and notices as they go over the wire: the body as published, the envelope beside it.
//!
//! In: rows of the store. Out: JSON objects whose body members are the published bytes, untouched; and, for pages and
//! schemas, the same as types. Invariant: what [`AlertDocument`] writes is what [`Alert`] and [`Notice`] describe.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer, ser::Error as _};
use serde_json::{Map, Value, value::RawValue};
use utoipa::{PartialSchema as _, ToSchema};
use vedette_event::{Evidence, Incarnation, Micros, Severity, alert::Number};
use vedette_store::model::{
    AlertRow, Content, Disposition, EvidenceContent, RevisionPoint, Status, Triage, Withdrawal,
};

/// An alert: one revision's body with its envelope.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub(crate) struct Alert {
    #[serde(flatten)]
    pub body: vedette_event::Alert,
    #[serde(flatten)]
    pub envelope: Envelope,
}

/// A notice: an early word that a condition holds, until an alert covers it.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub(crate) struct Notice {
    /// Always `notice`.
    pub state: NoticeState,
    /// Set once no alert can cover it any more; such a notice is closed, too.
    #[schema(required = true)]
    pub withdrawn: Option<WithdrawnNotice>,
    #[serde(flatten)]
    pub body: vedette_event::Notice,
    #[serde(flatten)]
    pub envelope: Envelope,
}

/// An item of a list: an alert or a notice.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, clippy::large_enum_variant, reason = "only its schema is used")]
pub(crate) enum AlertOrNotice {
    Alert(Alert),
    Notice(Notice),
}

/// The state of a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NoticeState {
    /// No alert covers it yet, or one that did is seen by asking for the notice itself.
    Notice,
}

/// That no alert can cover a notice any more.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub(crate) struct WithdrawnNotice {
    /// Why.
    #[schema(value_type = WithdrawalName)]
    pub reason: Withdrawal,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub at: Micros,
}

/// Why a notice is withdrawn.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) enum WithdrawalName {
    /// Its rule has passed this time, and no alert covers it: events came in another order, its key lost its room, or its
    /// episode is part of a storm alert.
    Uncovered,
    /// Its rule was changed or is not there any more.
    RuleChanged,
}

/// What the store knows besides the body.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub(crate) struct Envelope {
    /// Place of the row's last change in commit order.
    pub seq: i64,
    /// When the row first appeared.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Micros,
    /// The alert that this one continues after midnight.
    #[schema(required = true)]
    pub predecessor: Option<String>,
    /// The alert that continues this one.
    #[schema(required = true)]
    pub successor: Option<String>,
    /// Notices that this alert covers.
    pub covers: Vec<String>,
    /// The analysts' side.
    pub triage: TriageState,
    /// The case it is in.
    #[schema(required = true)]
    pub case_id: Option<i64>,
    /// The snooze that keeps it out of the queue.
    #[schema(required = true)]
    pub snooze_id: Option<i64>,
    /// The evidence's content; only where a single alert is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<EventContent>>,
    /// Time and count of each revision; only where a single alert is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revisions: Option<Vec<Revision>>,
}

/// The analysts' side of an alert.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub(crate) struct TriageState {
    /// How far the handling has come.
    #[schema(value_type = StatusName)]
    pub status: Status,
    /// Who handles it.
    #[schema(required = true)]
    pub assignee: Option<String>,
    /// What it turned out to be.
    #[schema(value_type = Option<DispositionName>, required = true)]
    pub disposition: Option<Disposition>,
    /// Rises with each change of triage, never with a revision; `ETag` and `If-Match` carry it.
    pub version: i64,
    /// True if it was closed and came back.
    pub recurred: bool,
    /// Events since it was closed; null while it is open.
    #[schema(required = true)]
    pub since_closed: Option<u64>,
}

/// Whether this is a topic's first incarnation, of which nothing is said.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
pub(crate) const fn is_first(incarnation: &Incarnation) -> bool {
    *incarnation == 0
}

/// The content of one event of the evidence.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub(crate) struct EventContent {
    /// Topic.
    pub topic: String,
    /// How often that topic had been accepted anew; missing for 0.
    #[serde(default, skip_serializing_if = "is_first")]
    pub incarnation: Incarnation,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Index within the record.
    pub index: u32,
    /// Whether the content is there.
    pub state: ContentState,
    /// The event's fields (an object) or its text, secrets masked; where something long is left out, `…` says so.
    pub content: Option<Value>,
    /// Why the record cannot be decoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// Whether an event's content is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ContentState {
    /// It is.
    Present,
    /// It has not been fetched yet.
    Pending,
    /// The broker has deleted it.
    Gone,
    /// The record is there and cannot be decoded; `fault` says why.
    Undecodable,
    /// Of an alert as it was: not kept any more, since its newest revision refers to other events.
    Left,
}

/// Time and count of one revision.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, ToSchema)]
pub(crate) struct Revision {
    /// From 1.
    pub revision: u32,
    /// Time of the last event then.
    #[schema(value_type = String, format = DateTime)]
    pub last_seen: Micros,
    /// How many events then.
    pub count: u64,
    /// What the condition measured then; null of revisions from before it was kept.
    #[schema(value_type = Option<f64>, required = true)]
    pub value: Option<Number>,
    /// Severity then.
    pub severity: Severity,
    /// When it was stored.
    #[schema(value_type = String, format = DateTime)]
    pub stored_at: Micros,
}

/// How far the handling has come.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) enum StatusName {
    New,
    Acknowledged,
    InProgress,
    Closed,
}

/// What an alert turned out to be.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) enum DispositionName {
    TruePositive,
    Benign,
    FalsePositive,
    Duplicate,
}

impl Envelope {
    /// The envelope of a row, without content and revisions.
    pub fn of(row: &AlertRow) -> Self {
        Self {
            seq: row.seq,
            created_at: row.created_at,
            predecessor: row.predecessor.clone(),
            successor: row.successor.clone(),
            covers: row.covers.clone(),
            triage: TriageState::of(&row.triage, row.recurred, row.since_closed),
            case_id: row.case,
            snooze_id: row.snooze,
            events: None,
            revisions: None,
        }
    }
}

impl TriageState {
    pub fn of(triage: &Triage, recurred: bool, since_closed: Option<u64>) -> Self {
        Self {
            status: triage.status,
            assignee: triage.assignee.clone(),
            disposition: triage.disposition,
            version: triage.version,
            recurred,
            since_closed,
        }
    }
}

impl From<RevisionPoint> for Revision {
    fn from(point: RevisionPoint) -> Self {
        let RevisionPoint { revision, last_seen, count, measured, severity, stored_at } = point;
        let value = measured.and_then(|text| serde_json::from_str(&text).ok());
        Self { revision, last_seen, count, value, severity, stored_at }
    }
}

/// The contents for the references of a body, in their order.
pub(crate) fn contents(evidence: &[Evidence], stored: Vec<EvidenceContent>) -> Vec<EventContent> {
    let of = |at: &Evidence| {
        let found = stored.iter().find(|found| {
            (found.topic.as_str(), found.incarnation, found.partition, found.offset, found.index)
                == (&*at.topic, at.incarnation, at.partition, at.offset, at.index)
        });
        let (state, content, fault) = match found.map(|found| &found.content) {
            None => (ContentState::Pending, None, None),
            Some(Content::Gone) => (ContentState::Gone, None, None),
            Some(Content::Undecodable(fault)) => (ContentState::Undecodable, None, Some(fault.clone())),
            Some(Content::Present(text)) => {
                let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone()));
                (ContentState::Present, Some(value), None)
            }
        };
        let Evidence { topic, incarnation, partition, offset, index, .. } = at;
        EventContent {
            topic: topic.to_string(),
            incarnation: *incarnation,
            partition: *partition,
            offset: *offset,
            index: *index,
            state,
            content,
            fault,
        }
    };
    evidence.iter().map(of).collect()
}

/// A row on its way out: the members of the body as published, then those of the envelope.
#[derive(Debug, Clone)]
pub(crate) struct AlertDocument {
    pub row: AlertRow,
    pub envelope: Envelope,
}

impl AlertDocument {
    /// A row without content and revisions.
    pub fn of(row: AlertRow) -> Self {
        let envelope = Envelope::of(&row);
        Self { row, envelope }
    }
}

impl Serialize for AlertDocument {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw =
            self.row.document(&self.envelope).and_then(RawValue::from_string).map_err(S::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// The JSON schema of an alert or a notice, envelope included (`schemas/alert.schema.json`).
#[must_use]
pub fn alert_schema() -> Value {
    let mut schemas = vec![(AlertOrNotice::name().into_owned(), AlertOrNotice::schema())];
    AlertOrNotice::schemas(&mut schemas);
    let mut definitions = BTreeMap::new();
    for (name, schema) in schemas {
        definitions.insert(name, serde_json::to_value(schema).unwrap_or_default());
    }
    let root = definitions.remove(&*AlertOrNotice::name()).unwrap_or_default();
    let mut document = Map::new();
    document.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    document.insert("$id".into(), "urn:vedette:schema:alert".into());
    document.insert("title".into(), "An alert or a notice of Vedette".into());
    if let Value::Object(root) = root {
        document.extend(root);
    }
    document.insert("$defs".into(), definitions.into_iter().collect::<Map<_, _>>().into());
    let mut document = Value::Object(document);
    redirect(&mut document);
    document
}

/// Points references at `$defs`.
fn redirect(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(target)) = members.get_mut("$ref") {
                *target = target.replace("#/components/schemas/", "#/$defs/");
            }
            members.values_mut().for_each(redirect);
        }
        Value::Array(items) => items.iter_mut().for_each(redirect),
        _ => {}
    }
}
