//! The plain types that go into the store and come out of it.
//!
//! In: what the engine publishes ([`Publication`]) and what analysts change ([`TriagePatch`]). Out: rows for
//! the API ([`AlertRow`], [`Change`], [`AuditEntry`], …). Invariants: bodies are the exact bytes given; times are
//! whole microseconds; every change of a row carries a `seq` that rises in commit order.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Gives an enum its stable names: `name`, `parse`, `ALL` and [`fmt::Display`].
macro_rules! names {
    ($type:ident { $($variant:ident = $name:literal),+ $(,)? }) => {
        impl $type {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// The one of this name.
            #[must_use]
            pub fn parse(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

/// How far the handling of an alert has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Nobody has touched it, or it came back.
    New,
    /// Seen.
    Acknowledged,
    /// Being worked on.
    InProgress,
    /// Done.
    Closed,
}
names!(Status { New = "new", Acknowledged = "acknowledged", InProgress = "in_progress", Closed = "closed" });

/// What an alert turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    /// An attack or a breach of policy.
    TruePositive,
    /// What the rule describes, for a legitimate reason.
    Benign,
    /// Not what the rule describes.
    FalsePositive,
    /// Handled elsewhere.
    Duplicate,
}
names!(Disposition {
    TruePositive = "true_positive",
    Benign = "benign",
    FalsePositive = "false_positive",
    Duplicate = "duplicate",
});

/// What a row of the queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowState {
    /// An early word that no alert covers yet.
    Notice,
    /// An alert that may still be revised.
    Active,
    /// An alert's last revision.
    Ended,
}
names!(RowState { Notice = "notice", Active = "active", Ended = "ended" });

/// Why a notice is withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Withdrawal {
    /// Its rule has passed this time, and no alert covers it.
    Uncovered,
    /// Its rule was changed or is not there any more.
    RuleChanged,
}
names!(Withdrawal { Uncovered = "uncovered", RuleChanged = "rule_changed" });

/// What a caller may do; of people's roles each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads `/metrics`, and nothing else.
    Metrics,
    /// Fetches what is to be enforced, and nothing else.
    Bouncer,
    /// Sees what analysts see, but for records as they came, and changes nothing.
    Reader,
    /// Triages, and sees records as they came.
    Analyst,
    /// Also changes what is watched, and sees the records of dead letters.
    Engineer,
    /// Also manages people, tokens and the sessions of others.
    Admin,
}
names!(Role {
    Metrics = "metrics",
    Bouncer = "bouncer",
    Reader = "reader",
    Analyst = "analyst",
    Engineer = "engineer",
    Admin = "admin",
});

impl Role {
    /// Whether whoever has this role may do what another one may. Roles of programs include nothing but themselves.
    #[must_use]
    pub fn includes(self, other: Self) -> bool {
        self == other || (self >= Self::Reader && self >= other)
    }
}

/// Whom a row is about, as text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EntityRef {
    /// The field's name.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its value's text.
    pub value: String,
}

/// The analysts' side of a row. Revisions never change its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Triage {
    /// How far the handling has come.
    pub status: Status,
    /// Who handles it.
    pub assignee: Option<String>,
    /// What it turned out to be.
    pub disposition: Option<Disposition>,
    /// Rises by one with each change; 0 while nobody has touched it.
    pub version: i64,
}

impl Triage {
    /// That of a row that nobody has touched.
    pub(crate) const fn fresh() -> Self {
        Self { status: Status::New, assignee: None, disposition: None, version: 0 }
    }
}

mod desk;
mod evidence;
mod fired;
mod hunts;
mod lake;
mod people;
mod publication;
mod query;
mod response;
mod retention;
mod rows;

pub use desk::*;
pub use evidence::*;
pub use fired::*;
pub use hunts::*;
pub use lake::*;
pub use people::*;
pub use publication::*;
pub use query::*;
pub use response::*;
pub use retention::*;
pub use rows::*;
