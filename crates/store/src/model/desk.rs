//! Cases, snoozes, saved views, kept answers: what people make beside triage.

use std::fmt;

use serde::{Deserialize, Serialize};
use vedette_event::{Micros, Severity};

use super::{BulkResult, Disposition, EntityRef};

/// How far a case has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaseStatus {
    /// Nobody works on it yet.
    Open,
    /// Being worked on.
    InProgress,
    /// Done, or merged into another.
    Closed,
}
names!(CaseStatus { Open = "open", InProgress = "in_progress", Closed = "closed" });

/// A case, without its alerts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Its number.
    pub id: i64,
    /// One line.
    pub title: String,
    /// How far it has come.
    pub status: CaseStatus,
    /// Who handles it.
    pub assignee: Option<String>,
    /// What it turned out to be.
    pub disposition: Option<Disposition>,
    /// The highest that any of its alerts has ever had; `None` if it never had one.
    pub highest: Option<Severity>,
    /// What people say it is at least.
    pub floor: Option<Severity>,
    /// Rises by one with each change of what is said of it; alerts and notes leave it.
    pub version: i64,
    /// How many alerts it has.
    pub alerts: u64,
    /// How many of them are open.
    pub open_alerts: u64,
    /// How many notes it has.
    pub notes: u64,
    /// Who opened it.
    pub created_by: String,
    /// When.
    pub created_at: Micros,
    /// When anything of it changed last.
    pub changed_at: Micros,
    /// Since when it is closed.
    pub closed_at: Option<Micros>,
    /// The case that took its alerts.
    pub merged_into: Option<i64>,
    /// The case that its first alerts were in before.
    pub split_from: Option<i64>,
}

impl Case {
    /// The highest of its alerts' and what people say.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.highest.max(self.floor).unwrap_or(Severity::Informational)
    }
}

/// A case to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewCase {
    /// One line.
    pub title: String,
    /// Its first alerts or notices; may be empty.
    pub alerts: Vec<String>,
    /// Who handles it.
    pub assignee: Option<String>,
    /// What people say it is at least.
    pub floor: Option<Severity>,
}

/// A change of a case; `None` leaves a part as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CasePatch {
    /// New title.
    pub title: Option<String>,
    /// New status.
    pub status: Option<CaseStatus>,
    /// New owner; an empty text removes the owner.
    pub assignee: Option<String>,
    /// New disposition. Opening it again removes it.
    pub disposition: Option<Disposition>,
    /// New floor; `Some(None)` removes it.
    pub floor: Option<Option<Severity>>,
    /// Closes its open alerts with the disposition, too: as they were at this `seq`.
    pub close_alerts: Option<i64>,
}

/// A case after a change, and what became of the alerts that were to be closed with it.
#[derive(Debug)]
pub struct PatchedCase {
    /// As it is now.
    pub case: Case,
    /// One for each alert that was open.
    pub alerts: Vec<BulkResult>,
    /// By what the change of the alerts is taken back; none if none was changed.
    pub change_id: Option<i64>,
}

/// Which cases, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CaseQuery {
    /// Any of these; empty: all.
    pub status: Vec<CaseStatus>,
    /// This owner's; an empty text: nobody's.
    pub assignee: Option<String>,
    /// At least this severe.
    pub severity: Option<Severity>,
    /// A part of the title, ignoring case.
    pub q: Option<String>,
    /// At most so many.
    pub limit: u32,
    /// Those before this number.
    pub before: Option<i64>,
}

/// A rule and an entity that stay out of the queue for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snooze {
    /// Its number.
    pub id: i64,
    /// The rule's id.
    pub rule_id: String,
    /// The rule's title when it began.
    pub rule_title: String,
    /// Whom it is about.
    pub entity: EntityRef,
    /// The highest severity that was looked at: an alert above it is not hidden.
    pub severity: Severity,
    /// Why.
    pub reason: String,
    /// By whom.
    pub created_by: String,
    /// Since when.
    pub created_at: Micros,
    /// Until when at most.
    pub until: Micros,
    /// When it ended; `None` while it is in force.
    pub ended_at: Option<Micros>,
    /// Who ended it; `vedette` if its time was over.
    pub ended_by: Option<String>,
    /// How many open alerts it hides.
    pub hidden: u64,
}

/// A snooze to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSnooze {
    /// The rule's id.
    pub rule_id: String,
    /// Whom it is about.
    pub entity: EntityRef,
    /// Until when.
    pub until: Micros,
    /// Why.
    pub reason: String,
}

/// A view of the queue by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Its number.
    pub id: i64,
    /// Whose.
    pub owner: String,
    /// Its name; one owner has it once.
    pub name: String,
    /// The queue's query string.
    pub query: String,
    /// Shown to everybody.
    pub shared: bool,
    /// Since when.
    pub created_at: Micros,
}

/// A view to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewView {
    /// Its name.
    pub name: String,
    /// The queue's query string.
    pub query: String,
    /// Shown to everybody.
    pub shared: bool,
}

/// Which entries of the audit log, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditQuery {
    /// By this one.
    pub actor: Option<String>,
    /// Of this action.
    pub action: Option<String>,
    /// Of this alert, token, case and so on.
    pub target: Option<String>,
    /// At or after.
    pub since: Option<Micros>,
    /// Before.
    pub until: Option<Micros>,
    /// At most so many.
    pub limit: u32,
    /// Those before this one: its time and `seq`.
    pub before: Option<(i64, i64)>,
}

/// What makes a request one that is carried out once: whose it is, the key it came with, the hash of all it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Who asks.
    pub caller: String,
    /// The key that the caller chose.
    pub name: String,
    /// SHA-256 of method, path and body.
    pub request: [u8; 32],
}

/// A [`Key`] and how the answer is written, so that it is kept in the transaction that makes what it tells of.
pub struct Once<T> {
    /// The key.
    pub key: Key,
    /// What is answered.
    pub answer: fn(&T) -> serde_json::Result<String>,
}

/// What came of a request that makes something.
#[derive(Debug)]
pub enum Made<T> {
    /// It was made.
    New(T),
    /// It had been made already, and this was the answer.
    Again(String),
}

/// How many stored alerts of a rule and an entity an exception would have hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WouldHide {
    /// How many, at most [`WouldHide::MOST`].
    pub alerts: u64,
    /// How many of these were closed as true positives.
    pub true_positives: u64,
}

impl WouldHide {
    /// More are not counted.
    pub const MOST: u64 = 10_000;
}
