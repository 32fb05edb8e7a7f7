//! Hunts that people keep by name, and those of them that are run again and again.

use vedette_event::{Micros, Severity, Span};

use super::{AlertRevision, HealthEvent};

/// A hunt to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSavedHunt {
    /// Its name.
    pub name: String,
    /// What it asks.
    pub sql: String,
    /// How far back it looks, as `24h`; as far as there is something without.
    pub span: Option<String>,
    /// Shown to everybody who may hunt.
    pub shared: bool,
}

/// A kept hunt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedHunt {
    /// Its number.
    pub id: i64,
    /// Whose.
    pub owner: String,
    /// What it is.
    pub hunt: NewSavedHunt,
    /// Since when.
    pub created_at: Micros,
}

/// A kept hunt that is to be run again and again, and to raise alerts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewHuntSchedule {
    /// The kept hunt, which others must see.
    pub hunt: i64,
    /// How often; each run looks at the events of one stretch of this length, see [`HuntSchedule::next_from`].
    pub every: Span,
    /// How severe its alerts are.
    pub severity: Severity,
    /// Their title.
    pub title: String,
    /// What they say beside whom they are about; the usual words without.
    pub summary: Option<String>,
    /// The column that says whom a row is about; without it an alert is about nobody.
    pub entity: Option<String>,
    /// Alerts of one run at most.
    pub most: u32,
}

impl NewHuntSchedule {
    /// Where the first window begins at this time: it is the last whole one before, so that one sees soon what the hunt finds.
    #[must_use]
    pub const fn first_window(&self, now: Micros) -> Micros {
        now.floor(self.every).minus(self.every)
    }
}

/// A kept hunt that is run again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HuntSchedule {
    /// Its number.
    pub id: i64,
    /// What it is.
    pub schedule: NewHuntSchedule,
    /// The hunt's name.
    pub name: String,
    /// What it asks.
    pub sql: String,
    /// It is not run for the time being.
    pub paused: bool,
    /// Who made it.
    pub created_by: String,
    /// Since when.
    pub created_at: Micros,
    /// Where the window begins that is looked at next. Windows are `[k·every, (k+1)·every)` since 1970-01-01 UTC, one after the other.
    pub next_from: Micros,
    /// How often that one was begun.
    pub tries: u32,
    /// The run that ended last.
    pub last: Option<HuntRun>,
    /// Why it does not get on, and since when.
    pub fault: Option<(String, Micros)>,
    /// Windows that nobody looked at.
    pub passed: PassedOver,
}

/// Windows that were passed over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PassedOver {
    /// How many, in all.
    pub windows: u64,
    /// From when until before when, the last time.
    pub last: Option<(Micros, Micros)>,
}

/// A run of a hunt that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HuntRun {
    /// When it ended.
    pub at: Micros,
    /// Where its window begins.
    pub from: Micros,
    /// Where its window ends.
    pub until: Micros,
    /// How long it took.
    pub took: Span,
    /// Rows that it found.
    pub rows: u64,
    /// There were more than are looked at.
    pub more: bool,
    /// Alerts that they came to.
    pub alerts: u64,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// All events that the broker took up to then were looked at.
    pub complete_through: Option<Micros>,
}

/// What a run came to, to be written at once.
#[derive(Debug, Clone, PartialEq)]
pub struct HuntOutcome {
    /// The schedule.
    pub schedule: i64,
    /// The version of the text, as the alerts name it.
    pub version: String,
    /// The run.
    pub run: HuntRun,
    /// What it found.
    pub alerts: Vec<AlertRevision>,
    /// What people must know of it besides.
    pub health: Vec<HealthEvent>,
}
