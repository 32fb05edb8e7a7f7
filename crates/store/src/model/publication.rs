//! What the engine publishes.

use serde::{Deserialize, Serialize};
use vedette_event::{Alert, Incarnation, Micros, Notice, Severity, State, StoredPlacement, order::Topics};

use super::{Concern, EntityRef, Withdrawal};
use crate::{concern, error::Error};

/// One revision of an alert on its way into the store.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertRevision {
    /// The alert.
    pub alert_id: String,
    /// From 1.
    pub revision: u32,
    /// Active or ended.
    pub state: State,
    /// True if it goes on from an episode that midnight cut.
    pub continuation: bool,
    /// The rule's id.
    pub rule_id: String,
    /// The rule's title.
    pub rule_title: String,
    /// The rule's tags, as written.
    pub tags: Vec<String>,
    /// Current severity.
    pub severity: Severity,
    /// The group key as JSON text.
    pub key: String,
    /// Whom it is about.
    pub entity: Option<EntityRef>,
    /// The sources that the rule reads; the list's `source` filter compares with them.
    pub sources: Vec<String>,
    /// Time of the episode's first event.
    pub first_seen: Micros,
    /// Time of the crossing event.
    pub crossed_at: Micros,
    /// Time of the episode's last event.
    pub last_seen: Micros,
    /// Open notices of the same rule and key, crossed from `first_seen` up to here, are covered: `last_seen + rearm`.
    pub covers_until: Micros,
    /// How many events.
    pub count: u64,
    /// What the condition measured, as a JSON number.
    pub measured: Option<String>,
    /// One line for an analyst.
    pub summary: String,
    /// Whom it concerns.
    pub concerns: Vec<Concern>,
    /// The body, kept byte for byte; its `evidence` says which contents are awaited.
    pub body: String,
}

impl AlertRevision {
    /// The revision with its body written once, here.
    pub fn of(alert: &Alert, sources: Vec<String>, covers_until: Micros) -> Result<Self, Error> {
        Ok(Self {
            alert_id: alert.alert_id.to_string(),
            revision: alert.revision,
            state: alert.state,
            continuation: alert.continuation,
            rule_id: alert.rule.id.to_string(),
            rule_title: alert.rule.title.to_string(),
            tags: alert.rule.tags.iter().map(ToString::to_string).collect(),
            severity: alert.severity,
            key: serde_json::to_string(&alert.key)?,
            entity: alert.entity.as_ref().map(entity_ref),
            sources,
            first_seen: alert.first_seen,
            crossed_at: alert.crossed_at,
            last_seen: alert.last_seen,
            covers_until,
            count: alert.count,
            measured: Some(serde_json::to_string(&alert.value)?),
            summary: alert.summary.clone(),
            concerns: concern::of_alert(alert),
            body: serde_json::to_string(alert)?,
        })
    }
}

/// A notice on its way into the store.
#[derive(Debug, Clone, PartialEq)]
pub struct NewNotice {
    /// The notice.
    pub notice_id: String,
    /// The rule's id.
    pub rule_id: String,
    /// The rule's title.
    pub rule_title: String,
    /// The rule's tags, as written.
    pub tags: Vec<String>,
    /// The rule's level.
    pub severity: Severity,
    /// The group key as JSON text.
    pub key: String,
    /// Whom it is about.
    pub entity: Option<EntityRef>,
    /// The sources that the rule reads.
    pub sources: Vec<String>,
    /// Time of the event that made the condition hold.
    pub crossed_at: Micros,
    /// How many events it rests on.
    pub count: u64,
    /// One line for an analyst.
    pub summary: String,
    /// Whom it concerns.
    pub concerns: Vec<Concern>,
    /// The body, kept byte for byte; its `evidence` says which contents are awaited.
    pub body: String,
}

impl NewNotice {
    /// The notice with its body written once, here.
    pub fn of(notice: &Notice, sources: Vec<String>) -> Result<Self, Error> {
        Ok(Self {
            notice_id: notice.notice_id.to_string(),
            rule_id: notice.rule.id.to_string(),
            rule_title: notice.rule.title.to_string(),
            tags: notice.rule.tags.iter().map(ToString::to_string).collect(),
            severity: notice.severity,
            key: serde_json::to_string(&notice.key)?,
            entity: notice.entity.as_ref().map(entity_ref),
            sources,
            crossed_at: notice.crossed_at,
            count: notice.count,
            summary: notice.summary.clone(),
            concerns: concern::of_notice(notice),
            body: serde_json::to_string(notice)?,
        })
    }
}

/// A rule that has passed a time: what it says of events before, it has said in this publication or in one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// The rule's id.
    pub rule_id: String,
    /// Of what crossed before, an alert has come, if any will.
    pub below: Micros,
    /// Of what took place before, so has the revision that takes it in.
    pub settled: Micros,
    /// Why notices before this time are withdrawn, if no alert covers them.
    pub reason: Withdrawal,
}

fn entity_ref(entity: &vedette_event::Entity) -> EntityRef {
    EntityRef { kind: entity.kind.to_string(), value: entity.value.text().to_owned() }
}

/// A dead letter on its way into the store. Within one reason and partition they come in order of offset and index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDeadLetter {
    /// The source's name.
    pub source: String,
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// The event within the record; `None` if the record as a whole.
    pub index: Option<u32>,
    /// Broker time, where known; it decides the hour.
    pub ts_log: Option<Micros>,
    /// The stable reason.
    pub reason: String,
    /// What exactly was wrong.
    pub detail: String,
    /// The record as it came.
    pub payload: Vec<u8>,
}

impl NewDeadLetter {
    /// The engine's dead letter with names for its numbers.
    #[must_use]
    pub fn of(letter: vedette_event::DeadLetter, source: &str, topics: &Topics) -> Self {
        Self {
            source: source.to_owned(),
            topic: topics.name(letter.partition.topic).to_string(),
            partition: letter.partition.number,
            offset: letter.offset,
            index: letter.index,
            ts_log: letter.ts_log,
            reason: letter.reason.name().to_owned(),
            detail: letter.detail.to_string(),
            payload: letter.payload,
        }
    }
}

/// Rules, mappings and lists, in force from a log time on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleVersion {
    /// Its number, counted from 1.
    pub number: u64,
    /// Hash of its content.
    pub version: String,
    /// `T_v`; [`Micros::MIN`] for the first version.
    pub in_force_from: Micros,
    /// Its rules: what each means, and since when. Empty once nothing needs it any more.
    pub content: String,
    /// What it is compiled from, packed; empty once nothing below the next version will be read again.
    pub texts: Vec<u8>,
}

/// What a version of one rule says, as its alerts name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleText {
    /// The rule's id.
    pub rule_id: String,
    /// Its version, as in the alert's body.
    pub version: String,
    /// Its text as it was read.
    pub text: std::sync::Arc<str>,
}

/// Records the log deleted before they were read: `[from, to)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostInterval {
    /// Topic.
    pub topic: String,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Partition.
    pub partition: i32,
    /// First lost offset.
    pub from: i64,
    /// First offset after the gap.
    pub to: i64,
    /// When it was noticed.
    pub noticed_at: Micros,
}

/// Something about the system itself that people must know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthEvent {
    /// Names the occurrence; the same key again changes nothing.
    pub key: String,
    /// When.
    pub at: Micros,
    /// A stable word such as `lost` or `clock_overtaken`.
    pub kind: String,
    /// How bad.
    pub severity: Severity,
    /// One line for a person.
    pub message: String,
}

/// The state of one key group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The key group.
    pub group: u8,
    /// Its state.
    pub bytes: Vec<u8>,
}

/// A topic that is another one from here on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewIncarnation {
    /// The topic.
    pub topic: String,
    /// Its incarnation now.
    pub incarnation: Incarnation,
}

/// What the engine has to say since it last said something.
#[derive(Debug, Clone, Default)]
pub struct Publication {
    /// Placements that are no function of the record alone.
    pub placements: Vec<StoredPlacement>,
    /// Versions that come into force.
    pub rule_versions: Vec<RuleVersion>,
    /// What the rules say that are new or changed in them.
    pub rule_texts: Vec<RuleText>,
    /// How far reading has come: everything up to there is placed. It goes with the placements or after them, and before
    /// alerts that rest on them.
    pub positions: Option<Checkpoint>,
    /// Gaps in the log.
    pub lost: Vec<LostInterval>,
    /// Health events.
    pub health: Vec<HealthEvent>,
    /// Early words.
    pub notices: Vec<NewNotice>,
    /// Rules that have passed times at which they had given early words. It goes last.
    pub passed: Vec<Passed>,
    /// Alerts' revisions, in the order in which the engine gave them.
    pub alerts: Vec<AlertRevision>,
    /// Dead letters.
    pub dead_letters: Vec<NewDeadLetter>,
    /// Checkpoints of what lies below this publication.
    pub checkpoints: Vec<Checkpoint>,
    /// Nothing below the version of this number will be read again. It goes last.
    pub oldest_version: Option<u64>,
    /// Topics that are accepted as new incarnations; all else here is of the ones before.
    pub incarnations: Vec<NewIncarnation>,
}

impl Publication {
    /// True if there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.placements.is_empty()
            && self.rule_versions.is_empty()
            && self.rule_texts.is_empty()
            && self.positions.is_none()
            && self.lost.is_empty()
            && self.health.is_empty()
            && self.notices.is_empty()
            && self.passed.is_empty()
            && self.alerts.is_empty()
            && self.dead_letters.is_empty()
            && self.checkpoints.is_empty()
            && self.oldest_version.is_none()
            && self.incarnations.is_empty()
    }
}

/// What a publication changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PublishOutcome {
    /// The newest `seq` after it.
    pub seq: i64,
    /// Revisions, notices and dead letters that were new.
    pub applied: u64,
    /// Those that were there already (a replay), or notices that an alert covers.
    pub ignored: u64,
}

/// What writing took since the store was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Statements of write transactions.
    pub statements: u64,
    /// Committed transactions.
    pub transactions: u64,
    /// Rows that the largest of them touched.
    pub most_rows: u64,
}
