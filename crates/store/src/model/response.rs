//! What playbooks proposed and what became of it.

use std::fmt;

use serde::{Deserialize, Serialize};
use vedette_event::{Micros, Severity};

use super::{AlertRow, AuditEntry};

/// How far an action has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionState {
    /// Its playbook only says what it would do.
    DryRun,
    /// The gate refused it.
    Refused,
    /// People must approve it.
    Waiting,
    /// It may be done, and is done next.
    Due,
    /// Connectors are telling it.
    Telling,
    /// A countermeasure that is to be in force.
    Live,
    /// Told to everybody, or taken back what it was to take back.
    Done,
    /// A connector would not take it.
    Failed,
    /// A person rejected it.
    Rejected,
    /// Nobody approved it in time.
    Lapsed,
    /// Its time was over.
    Expired,
    /// It was taken back before its time.
    Reverted,
}
names!(ActionState {
    DryRun = "dry_run",
    Refused = "refused",
    Waiting = "waiting",
    Due = "due",
    Telling = "telling",
    Live = "live",
    Done = "done",
    Failed = "failed",
    Rejected = "rejected",
    Lapsed = "lapsed",
    Expired = "expired",
    Reverted = "reverted",
});

impl ActionState {
    /// True if something is still to come of it.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::Due | Self::Telling | Self::Live)
    }
}

/// What the enforcement points' own logs say of a countermeasure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effectiveness {
    /// They denied its target.
    Effective,
    /// They have not denied it within the time that this takes.
    Unconfirmed,
    /// Somebody legitimate ran into it.
    Wrong,
}
names!(Effectiveness { Effective = "effective", Unconfirmed = "unconfirmed", Wrong = "wrong" });

/// One action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionRow {
    /// Its number: the `seq` with which it appeared.
    pub id: i64,
    /// How far it has come.
    pub state: ActionState,
    /// The playbook's name.
    pub playbook: String,
    /// The step's name.
    pub step: String,
    /// What the step does, such as `block_address` or `notify`.
    pub deed: String,
    /// The countermeasure that it puts up or takes back.
    pub action: Option<String>,
    /// To whom, as people read it.
    pub target: Option<String>,
    /// The alert or notice.
    pub alert_id: String,
    /// Its rule.
    pub rule_id: String,
    /// Its severity when it was proposed.
    pub severity: Severity,
    /// The proposal as JSON.
    pub proposal: String,
    /// What the gate said last, a line each.
    pub reasons: Vec<String>,
    /// Who started it, if a person did.
    pub proposer: Option<String>,
    /// Who approved it, in order.
    pub approvals: Vec<String>,
    /// How many people it needs in all.
    pub people: u8,
    /// The gate's order as JSON, once it was given.
    pub order: Option<String>,
    /// When it was given.
    pub acted_at: Option<Micros>,
    /// Until when it stands.
    pub until: Option<Micros>,
    /// What the enforcement points say.
    pub effect: Option<Effectiveness>,
    /// Since when.
    pub effect_at: Option<Micros>,
    /// When it was proposed.
    pub proposed_at: Micros,
    /// When it changed last.
    pub changed_at: Micros,
    /// Rises by one with each change.
    pub version: i64,
    /// Its last change's place in the order of changes.
    pub seq: i64,
}

/// An action as it first appears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAction {
    /// The id that follows from what it is: the same again is not written again.
    pub proposal_id: String,
    /// The row, with numbers, times and version still to be given.
    pub row: ActionRow,
}

/// What becomes of an action.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActionChange {
    /// How far it has come now.
    pub state: Option<ActionState>,
    /// What the gate says.
    pub reasons: Option<Vec<String>>,
    /// Who approves it.
    pub approved_by: Option<String>,
    /// How many it needs.
    pub people: Option<u8>,
    /// The gate's order, with when it was given and until when it stands.
    pub order: Option<(String, Micros, Micros)>,
    /// What the enforcement points say.
    pub effect: Option<Effectiveness>,
    /// Since when, by their clock; now without it.
    pub effect_at: Option<Micros>,
    /// The connectors that are to tell it.
    pub tell: Vec<String>,
}

/// What is asked of the list of actions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActionQuery {
    /// In any of these states; empty for any.
    pub states: Vec<ActionState>,
    /// With this effect.
    pub effect: Option<Effectiveness>,
    /// For this alert or notice.
    pub alert: Option<String>,
    /// For the alerts of this case, and the notices that they cover.
    pub case: Option<i64>,
    /// Those with lower numbers.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: u32,
}

/// An alert or a notice that playbooks are to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToRespond {
    /// Its id.
    pub id: String,
    /// A notice.
    pub notice: bool,
    /// The body as published.
    pub body: String,
    /// The notices that it covers.
    pub covers: Vec<String>,
}

/// Something that happened, for who follows all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// An alert or a notice, as it was with its `seq`.
    Alert(Box<AlertRow>),
    /// A notice gave way to an alert.
    Covered {
        /// When, in commit order.
        seq: i64,
        /// The notice.
        notice: String,
        /// The alert.
        alert: String,
    },
    /// A step of an action, with the action as it is now unless it is removed; or, without one, what was set for all actions.
    Step(Box<(AuditEntry, Option<ActionRow>)>),
}

impl News {
    /// Its place in commit order.
    #[must_use]
    pub const fn seq(&self) -> i64 {
        match self {
            Self::Alert(row) => row.seq,
            Self::Covered { seq, .. } => *seq,
            Self::Step(step) => step.0.seq,
        }
    }
}

/// What holds for all actions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseState {
    /// Playbooks have looked at all up to this `seq`; `None` if they never have.
    pub position: Option<i64>,
    /// Nothing is done.
    pub kill_switch: bool,
    /// What nothing may hit, as JSON.
    pub never_block: String,
    /// Rises with each change of the two above.
    pub version: i64,
}

/// How far the telling of an action has come, for one connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// It is to be tried.
    Due,
    /// Taken.
    Done,
    /// Given up; a person can have it tried again.
    Dead,
}
names!(DeliveryState { Due = "due", Done = "done", Dead = "dead" });

/// What one connector is to tell, or has told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Of which action.
    pub action: i64,
    /// By which connector.
    pub connector: String,
    /// How far it has come.
    pub state: DeliveryState,
    /// How often it was tried.
    pub tries: u32,
    /// When it is tried next.
    pub next_at: Micros,
    /// What the other side, or the way there, said last.
    pub detail: Option<String>,
    /// When it changed last.
    pub changed_at: Micros,
}

/// How a try went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tried {
    /// It was taken.
    Done,
    /// It is to be tried again at this time.
    Again(Micros, String),
    /// It is given up.
    Dead(String),
}

/// How much a connector has before it, and what it gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectorFigures {
    /// Which.
    pub connector: String,
    /// How many wait.
    pub due: u64,
    /// How many were given up.
    pub dead: u64,
}

/// A countermeasure that a program or a device has said yes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// What, by its name.
    pub action: String,
    /// To whom, as JSON.
    pub target: String,
    /// Until when.
    pub until: Micros,
}
