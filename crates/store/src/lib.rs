//! Durability: alerts, triage, notices, dead letters, placements, checkpoints and the lease, in SQLite.
//!
//! In: publications of the engine and changes by analysts. Out: rows, pages and changes for the API.
//! Invariants:
//! - a publication is cut into transactions of a bounded size, in an order in which a crash between two of them is
//!   safe (see `publish`); a change that is reported done is on disk (`synchronous = full`);
//! - every write transaction first locks the `engine` row and checks the epoch, so an engine that lost its lease
//!   changes nothing, and `seq` rises in commit order;
//! - revisions never touch the triage version, and triage never touches a body;
//! - one SQL text for SQLite and PostgreSQL: `$n`, bigint for booleans, `on conflict`, row values;
//! - readers never block the writer, nor the writer readers (write-ahead log).
//!
//! sqlx, because one text ran on SQLite and on PostgreSQL alike: upserts with a condition, paging by row values, migrations. Its `Any`
//! driver cannot read SQLite's booleans, hence bigint, and its query builder writes `?`, hence `$n`. Stores of keys and values
//! (redb, fjall) were looked at and have no other server to grow to.

#[macro_use]
mod triage;
mod alert_rows;
mod alerts;
mod audit;
mod backup;
mod bulk;
mod bulk_triage;
mod cases;
mod changes;
mod checkpoint;
mod concern;
mod course;
mod database_files;
mod dead_letters;
mod difference;
mod entities;
mod error;
mod evidence;
mod figures;
mod filter;
mod fired;
mod hunt_schedules;
mod hunts;
mod kept_answers;
mod lake;
mod lease;
mod ledger;
pub mod model;
mod notice_rows;
mod past;
mod people;
mod publish;
mod response;
mod retention;
mod rule_texts;
mod seal;
mod search;
mod sessions;
mod snoozes;
mod store;
mod techniques;
mod then;
mod tokens;
mod topics;
mod transaction;
mod undo;
mod verdicts;
mod views;
mod withdrawal;

#[cfg(test)]
mod tests;

pub use alerts::MAX_GROUPS;
pub use bulk_triage::{BULK_STEP, MAX_BULK};
pub use cases::{MAX_CASE_ALERTS, MAX_CASE_NOTES};
pub use concern::is_entity;
pub use database_files::Sizes;
pub use error::Error;
pub use figures::{DeadLetterTotal, MAX_TOTALS, RuleAlerts};
pub use filter::MAX_PAGE;
pub use hunt_schedules::MAX_HUNT_SCHEDULES;
pub use hunts::{HUNT_BEGUN, HUNT_ENDED, MAX_SAVED_HUNTS};
pub use people::MAX_USERS;
pub use publish::MAX_ROWS;
pub use response::{MAX_ACTIONS, Setting};
pub use retention::Sweep;
pub use search::MAX_FOUND;
pub use sessions::{MAX_SESSIONS, NewSession};
pub use snoozes::{LONGEST_SNOOZE, MAX_SNOOZES};
pub use store::{Access, Store, StoreSettings};
pub use techniques::is_technique;
pub use then::{MAX_CHANGED, Then};
pub use topics::recreated;
pub use verdicts::{MAX_COUNTED, Verdicts};
pub use views::MAX_VIEWS;
