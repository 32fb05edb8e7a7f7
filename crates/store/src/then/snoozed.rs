//! Which snoozes were in force at a `seq`, and which rows they hid.
//!
//! In: the audit log, which keeps what was snoozed when snoozes themselves are forgotten. Out: the one that hid a row. Invariants: a
//! pair has one in force at most; a row was hidden if it was open when the snooze began, or if it was written since: that is what
//! the present does. Beyond its first 500 rows a snooze takes a step each two seconds, which is not told apart here.

use std::collections::BTreeMap;

use serde::Deserialize;
use sqlx::{AnyConnection, Row};
use vedette_event::{Micros, Severity, Span};

use crate::{error::Error, model::EntityRef, snoozes::LONGEST_SNOOZE};

/// A process that was down ends its snoozes when it is back: so much longer than the longest one is looked back.
const LATE: Span = Span::secs(30 * 86_400);

/// One that was in force.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Began {
    pub(crate) id: i64,
    severity: Severity,
    /// The place of its first word.
    pub(crate) seq: i64,
}

/// Those in force at a place in commit order, by rule, type and value.
#[derive(Debug, Default)]
pub(crate) struct Snoozed(BTreeMap<(String, String, String), Began>);

/// What the audit log says of a snooze when it begins.
#[derive(Deserialize)]
struct Said {
    rule: String,
    entity: EntityRef,
    severity: Severity,
}

impl Snoozed {
    /// Those in force at `seq`.
    pub(crate) async fn read(connection: &mut AnyConnection, seq: i64) -> Result<Self, Error> {
        let newest = sqlx::query("select at from audit where seq <= $1 order by seq desc limit 1").bind(seq);
        let Some(newest) = newest.fetch_optional(&mut *connection).await? else { return Ok(Self::default()) };
        let from = Micros(newest.try_get("at")?).minus(LONGEST_SNOOZE).minus(LATE);
        let entries = sqlx::query(
            "select seq, action, target, after from audit where action in ('snoozed', 'snooze_lifted', 'snooze_over') \
             and at >= $1 and seq <= $2 order by seq",
        );
        let mut begun: BTreeMap<String, (Said, i64)> = BTreeMap::new();
        for row in entries.bind(from.0).bind(seq).fetch_all(connection).await? {
            let (action, target): (String, String) = (row.try_get("action")?, row.try_get("target")?);
            let after: Option<String> = row.try_get("after")?;
            match after.as_deref().map(serde_json::from_str::<Said>) {
                Some(Ok(said)) if action == "snoozed" => {
                    begun.insert(target, (said, row.try_get("seq")?));
                }
                _ => {
                    begun.remove(&target);
                }
            }
        }
        let one = |(target, (said, seq)): (String, (Said, i64))| {
            let id = target.strip_prefix("snooze:").and_then(|id| id.parse().ok()).unwrap_or_default();
            ((said.rule, said.entity.kind, said.entity.value), Began { id, severity: said.severity, seq })
        };
        Ok(Self(begun.into_iter().map(one).collect()))
    }

    /// The one that may hide a row of this rule and entity at this severity.
    pub(crate) fn of(&self, rule: &str, entity: Option<&EntityRef>, severity: Severity) -> Option<Began> {
        if self.0.is_empty() {
            return None;
        }
        let entity = entity?;
        let began = self.0.get(&(rule.to_owned(), entity.kind.clone(), entity.value.clone()))?;
        (severity <= began.severity).then_some(*began)
    }
}
