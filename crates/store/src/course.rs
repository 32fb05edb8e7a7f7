//! The course of an alert: a point for each revision, and from each the way back to the body before it.
//!
//! In: revisions on their way into the store. Out: points with their place in commit order; bodies as they were at any `seq`.
//! Invariants: the first revision of an alert costs no more than its figures; what a later one keeps of the one before is what
//! that had otherwise; the newest body and the differences back are all that is needed, however many lie between.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sqlx::Row;
use vedette_event::Micros;

use crate::{
    alert_rows::signed,
    alerts::{narrow, severity_of, unsigned},
    bulk::Bulk,
    difference::{apply, difference},
    error::Error,
    model::{AlertRevision, RevisionPoint},
    store::Store,
    transaction::WriteTx,
};

const POINTS: Bulk = Bulk {
    head: "insert into alert_revisions (id, revision, last_seen, event_count, measured, severity, stored_at, seq, back) values ",
    columns: 9,
    tail: " on conflict do nothing",
};
const BODIES: Bulk = Bulk {
    head: "select id, body from alerts join alert_bodies using (created_seq) where id in (",
    columns: 1,
    tail: ")",
};

/// Points of one alert that are read at once, the newest.
const MOST_POINTS: i64 = 2_000;

/// Bodies that are about to be replaced, by id.
pub(crate) type Before = BTreeMap<String, String>;

impl WriteTx {
    /// The stored bodies of these alerts.
    pub(crate) async fn bodies(&mut self, ids: &[&str]) -> Result<Before, Error> {
        let rows = self.all_bulk(BODIES, ids, |select, id| select.bind(*id)).await?;
        rows.iter().map(|row| Ok((row.try_get("id")?, row.try_get("body")?))).collect()
    }

    /// Writes the points of revisions, given in order; `seqs` says where each alert's stand in commit order.
    pub(crate) async fn write_points(
        &mut self,
        points: &[&AlertRevision],
        seqs: &BTreeMap<&str, i64>,
        before: Before,
    ) -> Result<(), Error> {
        let mut known: BTreeMap<&str, Value> = BTreeMap::new();
        let parsed =
            before.iter().filter_map(|(id, body)| Some((id.as_str(), serde_json::from_str(body).ok()?)));
        known.extend(parsed);
        let mut rows = Vec::with_capacity(points.len());
        for point in points {
            let id = point.alert_id.as_str();
            let body: Value = serde_json::from_str(&point.body)?;
            // A body that says the same has a way back all the same, so that a missing one means: not known.
            let back = known.get(id).map(|old| difference(&body, old).unwrap_or_else(|| json!({"o": {}})));
            rows.push((*point, seqs.get(id).copied().unwrap_or_default(), back.map(|back| back.to_string())));
            known.insert(id, body);
        }
        let now = self.now.0;
        self.run_bulk(POINTS, &rows, |insert, (point, seq, back)| {
            insert
                .bind(&point.alert_id)
                .bind(i64::from(point.revision))
                .bind(point.last_seen.0)
                .bind(signed(point.count))
                .bind(point.measured.as_deref())
                .bind(point.severity as i64)
                .bind(now)
                .bind(seq)
                .bind(back.as_deref())
        })
        .await
        .map(drop)
    }
}

/// A body as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Past {
    /// The revision that was the newest.
    pub(crate) revision: u32,
    /// Its body; members are in the order of their names.
    pub(crate) body: String,
    /// False if the points from then are not kept any more, and this is the oldest that can be made.
    pub(crate) exact: bool,
}

impl Store {
    /// The body of an alert as it was at `seq`, or else that of the oldest point that is kept, from its newest revision and body;
    /// newer ones may have come since those were read.
    pub(crate) async fn body_at(&self, id: &str, newest: (u32, &str), seq: i64) -> Result<Past, Error> {
        let rows = sqlx::query(
            "select revision, seq, back from alert_revisions where id = $1 and revision <= $2 order by revision desc limit $3",
        )
        .bind(id)
        .bind(i64::from(newest.0))
        .bind(MOST_POINTS)
        .fetch_all(&self.inner.readers)
        .await?;
        let (mut revision, mut body) = (newest.0, serde_json::from_str::<Value>(newest.1)?);
        let mut exact = false;
        for (row, older) in rows.iter().zip(rows.iter().skip(1).map(Some).chain([None])) {
            let (of, at): (i64, i64) = (row.try_get("revision")?, row.try_get("seq")?);
            if of != i64::from(revision) {
                break;
            }
            if at <= seq {
                exact = true;
                break;
            }
            let Some(back) = row.try_get::<Option<String>, _>("back")? else { break };
            let Some(before) = apply(body.clone(), &serde_json::from_str(&back)?) else { break };
            let kept = older.map(|older| older.try_get::<i64, _>("revision")).transpose()?;
            let of = before.get("revision").and_then(Value::as_i64);
            if of.is_none() || kept != of {
                break;
            }
            body = before;
            revision = of.map_or(revision, narrow);
        }
        Ok(Past { revision, body: body.to_string(), exact })
    }
}

/// What a point says of an alert in a list.
pub(crate) fn point(row: &sqlx::any::AnyRow) -> Result<RevisionPoint, Error> {
    Ok(RevisionPoint {
        revision: narrow(row.try_get("revision")?),
        last_seen: Micros(row.try_get("last_seen")?),
        count: unsigned(row.try_get("event_count")?),
        measured: row.try_get("measured")?,
        severity: severity_of(row.try_get("severity")?)?,
        stored_at: Micros(row.try_get("stored_at")?),
    })
}
