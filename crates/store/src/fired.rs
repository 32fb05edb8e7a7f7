//! What fired in a stretch of time, and what became of it: to be held against what rules say of the same time now; and where detection had
//! placed what its record alone does not place.
//!
//! In: a stretch of times of crossing. Out: the alerts that are stored of it, page by page; all stored placements. Invariant: notices, and what another row covers or
//! was withdrawn, are none; closed alerts that retention has removed are not there any more.

use sqlx::{Row as _, any::AnyRow};
use vedette_event::{Flags, Incarnation, Micros, StoredPlacement};

use crate::{
    alerts::narrow,
    error::Error,
    model::{Disposition, FiredAlert, Status},
    store::Store,
};

impl Store {
    /// Stored placements of all incarnations of topics, in the order of incarnation, topic, partition, offset and flag; those after the one
    /// given, at most `limit`.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn placements_ever(
        &self,
        after: Option<&(Incarnation, StoredPlacement)>,
        limit: u32,
    ) -> Result<Vec<(Incarnation, StoredPlacement)>, Error> {
        let select = sqlx::query(
            "select incarnation, topic, partition_no, offset_no, flags, placed_at from placements \
             where (incarnation, topic, partition_no, offset_no, flags) > ($1, $2, $3, $4, $5) \
             order by incarnation, topic, partition_no, offset_no, flags limit $6",
        );
        let select = match after {
            None => select.bind(-1_i64).bind("").bind(-1_i64).bind(-1_i64).bind(-1_i64),
            Some((incarnation, after)) => select
                .bind(i64::from(*incarnation))
                .bind(&*after.topic)
                .bind(i64::from(after.partition))
                .bind(after.offset)
                .bind(i64::from(after.flag.0)),
        };
        let rows = select.bind(i64::from(limit)).fetch_all(&self.inner.readers).await?;
        let row = |row: &AnyRow| {
            let placement = StoredPlacement {
                topic: row.try_get::<String, _>("topic")?.into(),
                partition: narrow(row.try_get("partition_no")?),
                offset: row.try_get("offset_no")?,
                flag: Flags(narrow(row.try_get("flags")?)),
                time: Micros(row.try_get("placed_at")?),
            };
            Ok((narrow(row.try_get("incarnation")?), placement))
        };
        rows.iter().map(row).collect()
    }

    /// So many alerts at most that crossed in `[from, to)`, in the order of crossing and id, behind the one with this crossing and id.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn fired(
        &self,
        (from, to): (Micros, Micros),
        after: Option<(Micros, &str)>,
        limit: u32,
    ) -> Result<Vec<FiredAlert>, Error> {
        let select = sqlx::query(
            "select id, rule_id, rule_title, group_key, first_seen, crossed_at, last_seen, status, disposition from alerts \
             where covered_by is null and withdrawn is null and state in ('active', 'ended') and crossed_at >= $1 and crossed_at < $2 \
             and (crossed_at, id) > ($3, $4) order by crossed_at, id limit $5",
        );
        let (crossed, id) = after.unwrap_or((Micros::MIN, ""));
        let select = select.bind(from.0).bind(to.0).bind(crossed.0).bind(id).bind(i64::from(limit));
        let rows = select.fetch_all(&self.inner.readers).await?;
        let row = |row: &AnyRow| {
            let status: String = row.try_get("status")?;
            let disposition: Option<String> = row.try_get("disposition")?;
            Ok(FiredAlert {
                alert_id: row.try_get("id")?,
                rule_id: row.try_get("rule_id")?,
                rule_title: row.try_get("rule_title")?,
                key: row.try_get("group_key")?,
                first_seen: Micros(row.try_get("first_seen")?),
                crossed_at: Micros(row.try_get("crossed_at")?),
                last_seen: Micros(row.try_get("last_seen")?),
                closed: Status::parse(&status) == Some(Status::Closed),
                disposition: disposition.as_deref().and_then(Disposition::parse),
            })
        };
        rows.iter().map(row).collect()
    }
}
