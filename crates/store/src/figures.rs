//! Figures over time: when alerts came, how many of which rule, where dead letters came from.
//!
//! In: since when. Out: counts, put together when asked. Invariants: a figure is counted from the rows that a list would show, never
//! kept beside them; each is one statement over an index that holds all it needs; how much comes back has a bound.

use std::collections::BTreeMap;

use sqlx::Row;
use vedette_event::{Micros, Span, time::HOUR};

use crate::{
    alerts::{narrow, unsigned},
    error::Error,
    store::Store,
};

/// Rows that dead letters are told in: sources, reasons and partitions are few, unless somebody makes them many.
pub const MAX_TOTALS: u32 = 500;

/// The alerts and notices of one rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleAlerts {
    /// When the condition of the newest was met.
    pub last: Micros,
    /// How many since then.
    pub count: u64,
}

/// Dead letters of one source, reason and partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterTotal {
    /// The source's name.
    pub source: String,
    /// The stable reason.
    pub reason: String,
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// How many.
    pub count: u64,
    /// When the newest was stored.
    pub last: Micros,
}

impl Store {
    /// How long after the event that met its condition each alert was first heard of, by its notice or else by itself: of those heard
    /// of since then the newest, at most so many.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn first_words(&self, since: Micros, limit: u32) -> Result<Vec<Span>, Error> {
        let rows = sqlx::query(
            "select created_at - crossed_at as took from (select id, created_at, crossed_at from alerts \
             order by created_seq desc limit $1) as a where created_at >= $2 \
             and not exists (select 1 from alerts n where n.covered_by = a.id)",
        );
        let rows = rows.bind(i64::from(limit)).bind(since.0).fetch_all(&self.inner.readers).await?;
        rows.iter().map(|row| Ok(Span(row.try_get("took")?))).collect()
    }

    /// Alerts and notices whose condition was met in `[since, until)`, by steps from `since` on; steps without one are left out.
    /// Covered notices are not counted: their alert is.
    pub async fn alert_counts(
        &self,
        since: Micros,
        until: Micros,
        step: Span,
    ) -> Result<BTreeMap<Micros, u64>, Error> {
        let step = step.0.max(1);
        let rows = sqlx::query(
            "select (crossed_at - $1) / $2 as slot, count(*) as n from alerts where covered_by is null \
             and crossed_at >= $3 and crossed_at < $4 group by slot",
        )
        .bind(since.0)
        .bind(step)
        .bind(since.0)
        .bind(until.0)
        .fetch_all(&self.inner.searchers)
        .await?;
        let slot = |row: &sqlx::any::AnyRow| -> Result<_, Error> {
            let slot: i64 = row.try_get("slot")?;
            Ok((since.plus(Span(slot * step)), unsigned(row.try_get("n")?)))
        };
        rows.iter().map(slot).collect()
    }

    /// When the newest alert or notice of each rule came, and how many did since then. Rules without one are left out.
    pub async fn rule_alerts(&self, since: Micros) -> Result<BTreeMap<String, RuleAlerts>, Error> {
        let rows = sqlx::query(
            "select rule_id, max(crossed_at) as last, sum(case when crossed_at >= $1 then 1 else 0 end) as n \
             from alerts where covered_by is null group by rule_id",
        )
        .bind(since.0)
        .fetch_all(&self.inner.searchers)
        .await?;
        let one = |row: &sqlx::any::AnyRow| -> Result<_, Error> {
            let (last, count) = (Micros(row.try_get("last")?), unsigned(row.try_get("n")?));
            Ok((row.try_get("rule_id")?, RuleAlerts { last, count }))
        };
        rows.iter().map(one).collect()
    }

    /// Where dead letters came from since then (to the hour), those of the most first; at most [`MAX_TOTALS`].
    pub async fn dead_letter_totals(&self, since: Micros) -> Result<Vec<DeadLetterTotal>, Error> {
        let rows = sqlx::query(
            "select source, reason, topic, partition_no, sum(kept + folded) as n, max(stored_at) as last \
             from dead_letter_counts where hour >= $1 group by source, reason, topic, partition_no \
             order by n desc, source, reason, topic, partition_no limit $2",
        )
        .bind(since.floor(HOUR).0)
        .bind(i64::from(MAX_TOTALS))
        .fetch_all(&self.inner.readers)
        .await?;
        let total = |row: &sqlx::any::AnyRow| -> Result<_, Error> {
            Ok(DeadLetterTotal {
                source: row.try_get("source")?,
                reason: row.try_get("reason")?,
                topic: row.try_get("topic")?,
                partition: narrow(row.try_get("partition_no")?),
                count: unsigned(row.try_get("n")?),
                last: Micros(row.try_get("last")?),
            })
        };
        rows.iter().map(total).collect()
    }
}
