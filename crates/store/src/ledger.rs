//! What replay and people must know besides alerts: placements, versions in force, lost intervals, health.
//!
//! In: parts of a publication. Out: the same, read back. Invariant: each is written once; a repetition changes nothing.

use std::collections::BTreeSet;

use sqlx::{Row, any::AnyRow};
use vedette_event::{Flags, Micros, StoredPlacement};

use crate::{
    alert_rows::signed,
    alerts::{narrow, severity_of, unsigned},
    bulk::Bulk,
    error::Error,
    model::{ChangeKind, HealthEvent, LostInterval, RuleVersion},
    store::Store,
    topics::{Incarnations, incarnation},
    transaction::{Audit, WriteTx},
};

const PLACEMENTS: Bulk = Bulk {
    head: "insert into placements (topic, incarnation, partition_no, offset_no, flags, placed_at) values ",
    columns: 6,
    tail: " on conflict do nothing returning topic",
};

impl WriteTx {
    pub(crate) async fn write_placements(
        &mut self,
        placements: &[StoredPlacement],
        of: &Incarnations,
    ) -> Result<(), Error> {
        let new = self.all_bulk(PLACEMENTS, placements, |insert, placement| {
            let insert = insert.bind(&*placement.topic).bind(incarnation(of, &placement.topic));
            let insert = insert.bind(i64::from(placement.partition)).bind(placement.offset);
            insert.bind(i64::from(placement.flag.0)).bind(placement.time.0)
        });
        let new = new.await?;
        let topics =
            new.iter().map(|row| Ok(row.try_get("topic")?)).collect::<Result<BTreeSet<String>, Error>>()?;
        for topic in topics {
            self.change(ChangeKind::Placement, &topic);
        }
        Ok(())
    }

    pub(crate) async fn write_rule_versions(&mut self, versions: &[RuleVersion]) -> Result<(), Error> {
        for version in versions {
            let insert = sqlx::query(
                "insert into rule_versions (version, in_force_from, content, number, texts) values ($1, $2, $3, $4, $5) \
                 on conflict do nothing",
            );
            let insert = insert.bind(&version.version).bind(version.in_force_from.0).bind(&version.content);
            let insert = insert.bind(signed(version.number)).bind(&version.texts);
            if self.run(insert).await? > 0 {
                let seq = self.change(ChangeKind::RuleVersion, &version.version);
                let place = sqlx::query(
                    "update rule_versions set seq = $1 where in_force_from = $2 and version = $3",
                );
                self.run(place.bind(seq).bind(version.in_force_from.0).bind(&version.version)).await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn write_lost(&mut self, lost: &[LostInterval]) -> Result<(), Error> {
        for lost in lost {
            let upsert = sqlx::query(
                "insert into lost (topic, incarnation, partition_no, from_offset, to_offset, noticed_at) \
                 values ($1, $2, $3, $4, $5, $6) on conflict (topic, incarnation, partition_no, from_offset) \
                 do update set to_offset = excluded.to_offset where lost.to_offset < excluded.to_offset",
            )
            .bind(&lost.topic)
            .bind(i64::from(lost.incarnation))
            .bind(i64::from(lost.partition))
            .bind(lost.from)
            .bind(lost.to)
            .bind(lost.noticed_at.0);
            if self.run(upsert).await? > 0 {
                self.change(ChangeKind::Lost, &lost.topic);
            }
        }
        Ok(())
    }

    pub(crate) async fn write_health(&mut self, events: &[HealthEvent]) -> Result<(), Error> {
        for event in events {
            let known = sqlx::query("select 1 from health where event_key = $1").bind(&event.key);
            if self.one(known).await?.is_some() {
                continue;
            }
            let seq = self.change(ChangeKind::Health, &event.key);
            let insert = sqlx::query(
                "insert into health (event_key, at, kind, severity, message, seq) values ($1, $2, $3, $4, $5, $6)",
            )
            .bind(&event.key)
            .bind(event.at.0)
            .bind(&event.kind)
            .bind(event.severity as i64)
            .bind(&event.message)
            .bind(seq);
            self.run(insert).await?;
        }
        Ok(())
    }
}

impl Store {
    /// Stored placements of the topics' present incarnations, by topic, partition, offset and flag; those after the one given,
    /// at most `limit`.
    pub async fn placements(
        &self,
        after: Option<&StoredPlacement>,
        limit: u32,
    ) -> Result<Vec<StoredPlacement>, Error> {
        let rows = sqlx::query(
            "select topic, partition_no, offset_no, flags, placed_at from placements where incarnation = \
             coalesce((select t.incarnation from topics t where t.name = placements.topic), 0) \
             and (topic, partition_no, offset_no, flags) > ($1, $2, $3, $4) \
             order by topic, partition_no, offset_no, flags limit $5",
        )
        .bind(after.map_or("", |after| &after.topic))
        .bind(after.map_or(-1, |after| i64::from(after.partition)))
        .bind(after.map_or(-1, |after| after.offset))
        .bind(after.map_or(-1, |after| i64::from(after.flag.0)))
        .bind(i64::from(limit))
        .fetch_all(&self.inner.readers)
        .await?;
        rows.iter()
            .map(|row| {
                let topic: String = row.try_get("topic")?;
                Ok(StoredPlacement {
                    topic: topic.into(),
                    partition: narrow(row.try_get("partition_no")?),
                    offset: row.try_get("offset_no")?,
                    flag: Flags(narrow(row.try_get("flags")?)),
                    time: Micros(row.try_get("placed_at")?),
                })
            })
            .collect()
    }

    /// All versions, in the order in which they were stored; those that are still needed with what they were compiled from.
    pub async fn rule_versions(&self) -> Result<Vec<RuleVersion>, Error> {
        let rows = sqlx::query(
            "select number, version, in_force_from, content, texts from rule_versions order by number",
        )
        .fetch_all(&self.inner.readers)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(RuleVersion {
                    number: unsigned(row.try_get("number")?),
                    texts: row.try_get::<Option<Vec<u8>>, _>("texts")?.unwrap_or_default(),
                    version: row.try_get("version")?,
                    in_force_from: Micros(row.try_get("in_force_from")?),
                    content: row.try_get("content")?,
                })
            })
            .collect()
    }

    /// Says of versions, known by their numbers, that they are in force from earlier on than was stored; what they were compiled from
    /// stays.
    ///
    /// # Errors
    /// If it is not stored.
    pub async fn put_versions_earlier(&self, versions: &[RuleVersion]) -> Result<(), Error> {
        let mut tx = self.begin_as_engine().await?;
        for RuleVersion { number, version, in_force_from, content, .. } in versions {
            let seq = tx.change(ChangeKind::RuleVersion, version);
            let update = sqlx::query(
                "update rule_versions set version = $1, in_force_from = $2, content = $3, seq = $4 where number = $5",
            );
            let update = update.bind(version).bind(in_force_from.0).bind(content).bind(seq);
            tx.run(update.bind(signed(*number))).await?;
        }
        tx.commit().await.map(drop)
    }

    /// Forgets what versions before this one held: they are known by number and time only.
    pub(crate) async fn forget_versions_before(&self, number: u64) -> Result<(), Error> {
        let mut tx = self.begin_as_engine().await?;
        let forget =
            "update rule_versions set texts = null, content = '' where number < $1 and texts is not null";
        tx.run(sqlx::query(forget).bind(signed(number))).await?;
        tx.commit().await.map(drop)
    }

    /// Notes in the audit log that somebody had the rules read again.
    pub async fn note_reload(&self, actor: &str) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        let seq = tx.change(ChangeKind::Admin, "rules");
        let entry = Audit { actor, action: "rules_reloaded", target: "rules", before: None, after: None };
        tx.audit(seq, entry).await?;
        tx.commit().await.map(drop)
    }

    /// Notes in the audit log that somebody tries rules, and which, on the events of the past.
    pub async fn note_backtest(&self, actor: &str, rules: &str) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        let seq = tx.change(ChangeKind::Admin, "rules");
        let entry = Audit {
            actor,
            action: "backtest",
            target: "rules",
            before: None,
            after: Some(serde_json::json!({"rules": rules}).to_string()),
        };
        tx.audit(seq, entry).await?;
        tx.commit().await.map(drop)
    }

    /// The lost intervals, by topic, incarnation, partition and offset.
    pub async fn lost_intervals(&self) -> Result<Vec<LostInterval>, Error> {
        let rows = sqlx::query(
            "select topic, incarnation, partition_no, from_offset, to_offset, noticed_at from lost \
             order by topic, incarnation, partition_no, from_offset",
        )
        .fetch_all(&self.inner.readers)
        .await?;
        rows.iter().map(lost_interval).collect()
    }

    /// True if there was a health event of this key.
    pub async fn has_health(&self, key: &str) -> Result<bool, Error> {
        let known = sqlx::query("select 1 from health where event_key = $1").bind(key);
        Ok(known.fetch_optional(&self.inner.readers).await?.is_some())
    }

    /// The newest health events, newest first.
    pub async fn health_events(&self, limit: u32) -> Result<Vec<HealthEvent>, Error> {
        let rows = sqlx::query(
            "select event_key, at, kind, severity, message from health order by seq desc limit $1",
        )
        .bind(i64::from(limit))
        .fetch_all(&self.inner.readers)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(HealthEvent {
                    key: row.try_get("event_key")?,
                    at: Micros(row.try_get("at")?),
                    kind: row.try_get("kind")?,
                    severity: severity_of(row.try_get("severity")?)?,
                    message: row.try_get("message")?,
                })
            })
            .collect()
    }
}

/// An interval, by the columns that `lost` and `lake_lost` have in common.
pub(crate) fn lost_interval(row: &AnyRow) -> Result<LostInterval, Error> {
    Ok(LostInterval {
        topic: row.try_get("topic")?,
        incarnation: narrow(row.try_get("incarnation")?),
        partition: narrow(row.try_get("partition_no")?),
        from: row.try_get("from_offset")?,
        to: row.try_get("to_offset")?,
        noticed_at: Micros(row.try_get("noticed_at")?),
    })
}
