//! What is read back: rows of the queue, changes, audit entries, dead letters.

use std::fmt;

use serde::{Deserialize, Serialize};
use vedette_event::{Micros, Severity};

use super::{Disposition, EntityRef, RowState, Triage, Withdrawal};

/// One alert or notice with its envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertRow {
    /// `alert_id` or `notice_id`.
    pub id: String,
    /// Notice, active or ended.
    pub state: RowState,
    /// The stored revision; 0 for a notice.
    pub revision: u32,
    /// Place of the row's last change in commit order.
    pub seq: i64,
    /// When the row first appeared.
    pub created_at: Micros,
    /// The rule's id.
    pub rule_id: String,
    /// The rule's title.
    pub rule_title: String,
    /// The ATT&CK techniques that the rule names, in order.
    pub techniques: Vec<String>,
    /// Current severity.
    pub severity: Severity,
    /// Whom it is about.
    pub entity: Option<EntityRef>,
    /// Time of the crossing event.
    pub crossed_at: Micros,
    /// Time of the last event.
    pub last_seen: Micros,
    /// How many events.
    pub count: u64,
    /// One line for an analyst.
    pub summary: String,
    /// The body, byte for byte as published.
    pub body: String,
    /// The alert that this one continues after midnight.
    pub predecessor: Option<String>,
    /// The alert that continues this one.
    pub successor: Option<String>,
    /// Notices that this alert covers.
    pub covers: Vec<String>,
    /// The analysts' side.
    pub triage: Triage,
    /// True if it was closed and came back.
    pub recurred: bool,
    /// Events since it was closed; `None` while it is open.
    pub since_closed: Option<u64>,
    /// A notice that no alert can cover any more.
    pub withdrawn: Option<Withdrawn>,
    /// The case it is in.
    pub case: Option<i64>,
    /// The snooze that keeps it out of the queue.
    pub snooze: Option<i64>,
}

impl AlertRow {
    /// The row as one JSON object: of a notice its state and whether it is withdrawn, the body's members byte for byte as they were published,
    /// then those of an envelope.
    ///
    /// # Errors
    /// If body or envelope are no JSON object.
    pub fn document(&self, envelope: &impl Serialize) -> Result<String, serde_json::Error> {
        let envelope = serde_json::to_string(envelope)?;
        let members = |object: &str| {
            object.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).map(str::to_owned)
        };
        let state = match self.state {
            RowState::Notice => {
                format!("\"state\":\"notice\",\"withdrawn\":{},", serde_json::to_string(&self.withdrawn)?)
            }
            RowState::Active | RowState::Ended => String::new(),
        };
        match (members(&self.body), members(&envelope)) {
            (Some(body), Some(envelope)) => Ok(format!("{{{state}{body},{envelope}}}")),
            _ => Err(serde::ser::Error::custom("a stored body is no JSON object")),
        }
    }
}

/// Why a notice is withdrawn, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawn {
    /// Why.
    pub reason: Withdrawal,
    /// Since when.
    pub at: Micros,
}

/// Time and count of one revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RevisionPoint {
    /// From 1.
    pub revision: u32,
    /// Time of the last event then.
    pub last_seen: Micros,
    /// How many events then.
    pub count: u64,
    /// What the condition measured then, as a JSON number; none of points from before it was kept.
    pub measured: Option<String>,
    /// Severity then.
    pub severity: Severity,
    /// When it was stored.
    pub stored_at: Micros,
}

/// A kept dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetterRow {
    /// Its place in commit order.
    pub seq: i64,
    /// When it was stored.
    pub stored_at: Micros,
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
    /// Broker time, where known.
    pub ts_log: Option<Micros>,
    /// The stable reason.
    pub reason: String,
    /// What exactly was wrong.
    pub detail: String,
    /// The record's first 16,384 bytes; [`crate::Store::dead_letter_payload`] gives the whole.
    #[serde(skip)]
    pub start: Vec<u8>,
    /// How many bytes it has.
    pub bytes: u64,
}

/// How many records of a source ended for one reason in one hour, kept or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetterCount {
    /// The source's name.
    pub source: String,
    /// The stable reason.
    pub reason: String,
    /// Start of the hour (of broker time, else of storing).
    pub hour: Micros,
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// How many are kept with their text.
    pub kept: u64,
    /// How many more are known by number only.
    pub folded: u64,
    /// Lowest offset of the folded ones.
    pub first_offset: Option<i64>,
    /// Highest offset of the folded ones.
    pub last_offset: Option<i64>,
}

/// What kind of thing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// An alert: new, revised, joined to another; or evidence of an alert or a notice.
    Alert,
    /// A notice appeared.
    Notice,
    /// A notice gave way to the alert that covers it.
    Covered,
    /// A notice that no alert can cover any more was withdrawn.
    Withdrawn,
    /// Triage or a comment of an alert or a notice.
    Triage,
    /// Dead letters of a source (id: its name).
    DeadLetters,
    /// A stored placement (id: topic).
    Placement,
    /// A version came into force (id: the version).
    RuleVersion,
    /// A lost interval (id: topic).
    Lost,
    /// A health event (id: its key).
    Health,
    /// A topic's new incarnation, a token, a value of `meta` (id: its name).
    Admin,
    /// A case, a snooze or a saved view (id: `case:7`, `snooze:7`, `view:7`).
    Desk,
    /// What a playbook or a person proposed, or what became of it (id: its number).
    Action,
    /// What holds for all actions: the never-block set, the kill switch.
    Response,
}
names!(ChangeKind {
    Alert = "alert",
    Notice = "notice",
    Covered = "covered",
    Withdrawn = "withdrawn",
    Triage = "triage",
    DeadLetters = "dead_letters",
    Placement = "placement",
    RuleVersion = "rule_version",
    Lost = "lost",
    Health = "health",
    Admin = "admin",
    Desk = "desk",
    Action = "action",
    Response = "response",
});

/// One change in commit order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its place.
    pub seq: i64,
    /// Of what.
    pub kind: ChangeKind,
    /// Of which.
    pub id: String,
}

/// The changes after a `seq`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// In order; empty if there are none.
    Next(Vec<Change>),
    /// The `seq` asked for is older than what is kept (or not of this store): read the list again, go on from here.
    Reset {
        /// The newest `seq`.
        seq: i64,
    },
}

/// One entry of the audit log; an alert's history is those that name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditEntry {
    /// Its place in commit order.
    pub seq: i64,
    /// When.
    pub at: Micros,
    /// Who; `vedette` for the system itself.
    pub actor: String,
    /// `triage`, `comment`, `recurred`, `inherited`, `case`; `case_opened`, `case_changed`, `case_note`, `case_alerts`,
    /// `case_merged`, `case_split`, `case_severity`; `snoozed`, `snooze_lifted`, `snooze_over`; `view_saved`, `view_removed`;
    /// `token_created`, `token_revoked`, `incarnation`; and those of people and sessions.
    pub action: String,
    /// The alert, notice, token or topic; `case:7`, `snooze:7`, `view:7`.
    pub target: String,
    /// State before, as JSON; `None` if there was none.
    pub from: Option<String>,
    /// State after, as JSON; for a comment its text as a JSON string.
    pub to: Option<String>,
    /// What all entries have in common that one request made: the first one's `seq`. None in entries of earlier builds.
    pub change_id: Option<i64>,
}

/// What part an entity plays in a row of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConcernRole {
    /// The row is about it.
    Entity,
    /// It is a part of the key.
    Key,
    /// It is a part of the key of an episode below.
    Child,
    /// An event of the evidence names it.
    Evidence,
}

impl ConcernRole {
    /// All of them, as they are stored.
    pub const ALL: [Self; 4] = [Self::Entity, Self::Key, Self::Child, Self::Evidence];
}

/// An entity that a row concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concern {
    /// Which.
    pub entity: EntityRef,
    /// What part it plays.
    pub role: ConcernRole,
}

/// Rows that concern an entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityRows {
    /// The newest first, each with the part that the entity plays.
    pub rows: Vec<(AlertRow, ConcernRole)>,
    /// From before which number the next page goes on; none on the last.
    pub next: Option<i64>,
}

/// Another entity in the same rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Which.
    pub entity: EntityRef,
    /// In how many rows of those looked at.
    pub alerts: u64,
}

/// A verdict on an earlier row of the same rule about the same entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarlierVerdict {
    /// The row.
    pub id: String,
    /// When its condition was met.
    pub crossed_at: Micros,
    /// When it was closed.
    pub closed_at: Micros,
    /// How many events it had.
    pub count: u64,
    /// As what it was closed.
    pub disposition: Disposition,
    /// By whom.
    pub by: Option<String>,
    /// The last comment on it.
    pub reason: Option<String>,
}

/// A notice that an alert covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Covered {
    /// The notice.
    pub id: String,
    /// When it was announced.
    pub created_at: Micros,
    /// Its place in commit order then.
    pub created_seq: i64,
}

/// A row as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastRow {
    /// The row.
    pub row: AlertRow,
    /// False if its course from then is not kept any more, and this is the oldest that can be made.
    pub exact: bool,
}
