//! What is asked for and what is to be changed: filters, orders, patches.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};
use vedette_event::{Micros, Severity};

use super::{AlertRow, Disposition, RowState, Status, Triage};
use crate::error::Error;

/// Which rows; an empty list or `None` leaves that side open.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Any of these.
    pub status: BTreeSet<Status>,
    /// Any of these.
    pub state: BTreeSet<RowState>,
    /// Any of these.
    pub severity: BTreeSet<Severity>,
    /// Any of these rules' ids.
    pub rule: BTreeSet<String>,
    /// The entity's type.
    pub entity_type: Option<String>,
    /// The entity's value, exactly.
    pub entity: Option<String>,
    /// A source that the rule reads.
    pub source: Option<String>,
    /// Who handles it; an empty text: nobody.
    pub assignee: Option<String>,
    /// Any of these ATT&CK techniques, as in `T1110` or `T1110.001`; the first finds the second, too.
    pub technique: BTreeSet<String>,
    /// Crossed at or after.
    pub since: Option<Micros>,
    /// Crossed before.
    pub until: Option<Micros>,
    /// Words that all must be there, in the title, entity, key, rule id, tags or techniques, ignoring case: each a word, the
    /// beginning of one, or of a part of one. Or the beginning of an id.
    pub q: Option<String>,
    /// Of this case.
    pub case: Option<i64>,
    /// Only what a snooze hides, or only what none hides.
    pub snoozed: Option<bool>,
}

impl Filter {
    /// True if no index leads to its rows, so that they are read one by one.
    #[must_use]
    pub fn searches(&self) -> bool {
        self.q.is_some() || self.source.is_some() || (self.entity_type.is_some() && self.entity.is_none())
    }

    /// True if it asks for something that becomes of rows.
    pub(crate) fn changes(&self) -> bool {
        let Self { status, state, severity, assignee, case, snoozed, .. } = self;
        !(status.is_empty() && state.is_empty() && severity.is_empty())
            || assignee.is_some()
            || case.is_some()
            || snoozed.is_some()
    }

    /// True if it asks for something that becomes of rows though nobody triages them.
    pub(crate) fn changes_without_triage(&self) -> bool {
        let Self { state, severity, case, snoozed, .. } = self;
        !(state.is_empty() && severity.is_empty()) || case.is_some() || snoozed.is_some()
    }

    /// Whether a row is what the filter asks of what becomes of it: status, state, severity, owner, case, snooze.
    pub(crate) fn holds(&self, row: &AlertRow) -> bool {
        let became = Became {
            status: row.triage.status,
            state: row.state,
            severity: row.severity,
            assignee: row.triage.assignee.as_deref(),
            case: row.case,
            snoozed: row.snooze.is_some(),
        };
        became.is(self)
    }
}

/// What becomes of a row.
pub(crate) struct Became<'a> {
    pub(crate) status: Status,
    pub(crate) state: RowState,
    pub(crate) severity: Severity,
    pub(crate) assignee: Option<&'a str>,
    pub(crate) case: Option<i64>,
    pub(crate) snoozed: bool,
}

impl Became<'_> {
    /// Whether it is what a filter asks for.
    pub(crate) fn is(&self, of: &Filter) -> bool {
        fn any<T: Ord>(asked: &BTreeSet<T>, own: &T) -> bool {
            asked.is_empty() || asked.contains(own)
        }
        any(&of.status, &self.status)
            && any(&of.state, &self.state)
            && any(&of.severity, &self.severity)
            && of.assignee.as_ref().is_none_or(|name| self.assignee.unwrap_or_default() == name)
            && of.case.is_none_or(|case| self.case == Some(case))
            && of.snoozed.is_none_or(|snoozed| self.snoozed == snoozed)
    }
}

/// What a list is sorted by; ties are broken by time of crossing and id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SortKey {
    /// Time of the crossing event.
    CrossedAt,
    /// Time of the last event.
    LastSeen,
    /// Severity, then time of crossing.
    Severity,
    /// Number of events.
    Count,
    /// Order of appearance in the store; never changes.
    Created,
}
names!(SortKey {
    CrossedAt = "crossed_at",
    LastSeen = "last_seen",
    Severity = "severity",
    Count = "count",
    Created = "created",
});

/// A key and a direction, written `crossed_at` or `-crossed_at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sort {
    /// By what.
    pub key: SortKey,
    /// Highest first.
    pub descending: bool,
}

impl Default for Sort {
    fn default() -> Self {
        Self { key: SortKey::CrossedAt, descending: true }
    }
}

impl Sort {
    /// Reads `key` or `-key`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (key, descending) = match text.strip_prefix('-') {
            Some(key) => (key, true),
            None => (text, false),
        };
        SortKey::parse(key).map(|key| Self { key, descending })
    }
}

/// One page of the list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListQuery {
    /// Which rows.
    pub filter: Filter,
    /// In which order.
    pub sort: Sort,
    /// At most so many: 1 to [`crate::MAX_PAGE`]; others are brought into that range.
    pub limit: u32,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

/// A page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page starts; `None` on the last.
    pub next_cursor: Option<String>,
}

/// What a summary counts by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SummaryBy {
    /// Severity.
    Severity,
    /// Status.
    Status,
    /// Rule id.
    Rule,
    /// Notice, active, ended.
    State,
    /// Entity.
    Entity,
    /// ATT&CK technique; a row counts for each that its rule names, and for those that they are parts of.
    Technique,
}
names!(SummaryBy {
    Severity = "severity",
    Status = "status",
    Rule = "rule",
    State = "state",
    Entity = "entity",
    Technique = "technique",
});

/// How many rows have a thing in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What they have in common: a severity, a rule's id, an entity's value; empty where rows have none.
    pub name: String,
    /// Of entities, the type.
    pub entity_type: Option<String>,
    /// How many rows.
    pub count: u64,
    /// The highest severity among them.
    pub severity: Severity,
}

/// A summary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The groups; entities and techniques with the most rows first, others by name.
    pub groups: Vec<Group>,
    /// There are more groups than [`crate::MAX_GROUPS`]; the smallest were left out.
    pub more: bool,
    /// More rows hold the words than a search looks at ([`crate::MAX_FOUND`]): older ones were left out.
    pub capped: bool,
}

/// A change of triage; `None` leaves a part as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TriagePatch {
    /// New status.
    pub status: Option<Status>,
    /// New owner; an empty text removes the owner.
    pub assignee: Option<String>,
    /// New disposition. Reopening removes it.
    pub disposition: Option<Disposition>,
    /// The revision that the analyst saw; `None` means the newest.
    pub seen_revision: Option<u32>,
}

/// One row of a bulk change by ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkItem {
    /// Alert or notice.
    pub id: String,
    /// The triage version that the analyst saw.
    pub version: i64,
    /// The revision that the analyst saw; `None` means that of the change.
    pub seen_revision: Option<u32>,
}

/// Which rows a bulk change is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BulkTarget {
    /// These, at these versions.
    Items(Vec<BulkItem>),
    /// All that match, and did at that `seq`; triage changed since is a conflict, a revision since counts as unseen.
    Matching {
        /// Which rows.
        filter: Box<Filter>,
        /// The `seq` that the analyst saw.
        as_of: i64,
    },
}

/// What a change did to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It is what was asked for.
    Changed,
    /// It was what was asked for already.
    Unchanged,
    /// It was closed and is back in the queue, since more had come than was seen.
    Returned,
}
names!(Effect { Changed = "changed", Unchanged = "unchanged", Returned = "returned" });

/// A row's triage after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Triaged {
    /// As it is now.
    pub triage: Triage,
    /// What the change did.
    pub effect: Effect,
}

/// What became of one row that a request names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatchedTriage {
    /// As it is now.
    pub triage: Triage,
    /// What the change did.
    pub effect: Effect,
    /// By what the change is taken back; none if nothing was changed.
    pub change_id: Option<i64>,
}

/// What became of one row of a bulk change.
#[derive(Debug)]
pub struct BulkResult {
    /// Alert or notice.
    pub id: String,
    /// What came of it, or why it was not changed.
    pub outcome: Result<Triaged, Error>,
}

/// What became of a change of many rows.
#[derive(Debug)]
pub struct BulkChange {
    /// By what it is taken back; none if nothing was changed.
    pub change_id: Option<i64>,
    /// One for each row.
    pub results: Vec<BulkResult>,
}
