//! Retention: what is old and done with is removed, in small steps, and counted.
//!
//! In: [`Retention`], how long each kind is kept; where each partition's log begins. Out: [`Removed`] counts, by kind and by
//! rule, source or topic and day. Invariants: an alert or a notice that is not closed is never removed, nor one that may
//! still be revised, nor a notice that waits for its alert; age is that of a row, never of a record; an alert goes with everything that is its own (evidence, revisions, the notices it covers), its
//! audit entries stay; a placement is kept as long as its record is in the log, because `checkpoint reset` reads from
//! where reading began; no step touches more than a few hundred rows, and only steps that remove take the writer.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::Row;
use vedette_event::{Micros, Span, time::DAY};

use crate::{
    alerts::unsigned,
    bulk::Bulk,
    error::Error,
    kept_answers::KEPT,
    model::{LogStart, Removal, Retention},
    store::{Store, now},
    topics::{RECREATED, incarnation},
    transaction::WriteTx,
};

/// Rows that one step looks at.
const STEP: i64 = 256;
/// Alerts that one step removes: each has up to ten contents, its revisions and its notices.
const ALERTS: i64 = 64;
/// Cases that one step removes: each lets go of up to 500 alerts.
const CASES: i64 = 4;

const COUNT: Bulk = Bulk {
    head: "insert into removed (kind, subject, day, n) values ",
    columns: 4,
    tail: " on conflict (kind, subject, day) do update set n = removed.n + excluded.n",
};
/// In this order: what refers to a row goes before it.
const OF_ALERTS: [Bulk; 6] = [
    Bulk {
        head: "delete from alert_entities where created_seq in (select created_seq from alerts where id in (",
        columns: 1,
        tail: "))",
    },
    Bulk { head: "delete from evidence where id in (", columns: 1, tail: ")" },
    Bulk { head: "delete from alert_sources where id in (", columns: 1, tail: ")" },
    Bulk { head: "delete from alert_revisions where id in (", columns: 1, tail: ")" },
    Bulk {
        head: "delete from alert_bodies where created_seq in (select created_seq from alerts where id in (",
        columns: 1,
        tail: "))",
    },
    Bulk { head: "delete from alerts where id in (", columns: 1, tail: ")" },
];
const SUCCESSORS: Bulk = Bulk {
    head: "update alerts set predecessor = null where id in (select successor from alerts where id in (",
    columns: 1,
    tail: "))",
};
const PREDECESSORS: Bulk = Bulk {
    head: "with gone (gone_id) as (values ",
    columns: 1,
    tail: ") update alerts set successor = null from gone join alerts own on own.id = gone_id \
           where alerts.id = own.predecessor and alerts.successor = gone_id",
};
const COVERED: Bulk = Bulk { head: "select id from alerts where covered_by in (", columns: 1, tail: ")" };
/// All but what an operator's word on a topic of now rests on.
const OLD_HEALTH: &str = "select seq, kind from health where at < $1 and (substr(event_key, 1, length($2)) <> $2 \
    or exists (select 1 from topics where event_key <> $2 || name || '/' || incarnation \
    and substr(event_key, 1, length($2 || name || '/')) = $2 || name || '/')) order by at, seq limit $3";
/// Covered notices are of the rule of their alert, which has the set as long as they are there.
const UNUSED_SETS: &str = "select techniques from technique_sets s where not exists (select 1 from alerts a \
    where a.techniques = s.techniques and a.techniques <> '' and a.covered_by is null) limit $1";
const REMOVE_SET: &str = "delete from technique_sets where techniques = $1 and not exists (select 1 from alerts a \
    where a.techniques = $1 and a.techniques <> '' and a.covered_by is null)";
const HEALTH: Bulk = Bulk { head: "delete from health where seq in (", columns: 1, tail: ")" };
const LETTERS: Bulk = Bulk { head: "delete from dead_letters where seq in (", columns: 1, tail: ")" };
const LESS_BYTES: Bulk = Bulk {
    head: "with given (of_source, less) as (values ",
    columns: 2,
    tail: ") update dead_letter_bytes set bytes = bytes - less from given where source = of_source",
};

/// One walk over all that is stored. It goes on where the step before ended.
#[derive(Debug, Default)]
pub struct Sweep {
    kind: usize,
    /// The last revision looked at.
    revision: (String, i64),
    removed: u64,
}

impl Sweep {
    /// How much it has removed so far.
    #[must_use]
    pub fn removed(&self) -> u64 {
        self.removed
    }
}

impl Store {
    /// Takes one step; false when the walk is over. Between two steps others shall have their turn.
    pub async fn sweep(
        &self,
        sweep: &mut Sweep,
        retention: &Retention,
        starts: &[LogStart],
    ) -> Result<bool, Error> {
        let before = |kept: Span| now().minus(kept);
        let (removed, more) = match sweep.kind {
            0 => self.remove_alerts(before(retention.alerts)).await?,
            1 => self.remove_revisions(before(retention.revisions), &mut sweep.revision).await?,
            2 => self.remove_letters(before(retention.dead_letters)).await?,
            3 => self.remove_counts(before(retention.ledger)).await?,
            4 => self.remove_health(before(retention.ledger)).await?,
            5 => self.remove_placements(starts).await?,
            6 => self.forget_cases(before(retention.alerts), CASES).await?,
            7 => self.forget_snoozes(before(retention.ledger), STEP).await?,
            8 => self.forget_answers(before(KEPT), STEP).await?,
            9 => self.remove_technique_sets().await?,
            10 => self.forget_actions(before(retention.alerts), STEP).await?,
            11 => self.forget_rule_texts(before(retention.alerts)).await?,
            _ => return Ok(false),
        };
        sweep.removed += removed;
        if !more {
            sweep.kind += 1;
        }
        Ok(true)
    }

    /// What has been removed since then (to the day).
    pub async fn removals(&self, since: Micros) -> Result<Vec<Removal>, Error> {
        let rows = sqlx::query(
            "select kind, subject, day, n from removed where day >= $1 order by day desc, kind, subject",
        )
        .bind(since.floor(DAY).0)
        .fetch_all(&self.inner.readers)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Removal {
                    kind: row.try_get("kind")?,
                    subject: row.try_get("subject")?,
                    day: Micros(row.try_get("day")?),
                    count: unsigned(row.try_get("n")?),
                })
            })
            .collect()
    }

    async fn remove_alerts(&self, before: Micros) -> Result<(u64, bool), Error> {
        let rows = sqlx::query(
            "select id, rule_id from alerts where closed_at < $1 and state <> 'active' and last_seen < $1 \
             and case_id is null and covered_by is null and (state <> 'notice' or withdrawn is not null) order by closed_at, id limit $2",
        )
        .bind(before.0)
        .bind(ALERTS)
        .fetch_all(&self.inner.readers)
        .await?;
        if rows.is_empty() {
            return Ok((0, false));
        }
        let ids = rows.iter().map(|row| Ok(row.try_get("id")?)).collect::<Result<Vec<String>, Error>>()?;
        let mut tx = self.begin_as_engine().await?;
        // Somebody may have opened one again since.
        let still = Bulk {
            head: "select id, rule_id, created_seq from alerts where closed_at is not null and case_id is null and id in (",
            columns: 1,
            tail: ")",
        };
        let rows = tx.all_bulk(still, &ids, |select, id| select.bind(id)).await?;
        let mut rules: BTreeMap<String, i64> = BTreeMap::new();
        let (mut ids, mut numbers) = (Vec::new(), Vec::new());
        for row in &rows {
            *rules.entry(row.try_get("rule_id")?).or_default() += 1;
            ids.push(row.try_get::<String, _>("id")?);
            numbers.push(row.try_get::<i64, _>("created_seq")?);
        }
        let covered = tx.all_bulk(COVERED, &ids, |select, id| select.bind(id)).await?;
        tx.run_bulk(PREDECESSORS, &ids, |update, id| update.bind(id)).await?;
        tx.run_bulk(SUCCESSORS, &ids, |update, id| update.bind(id)).await?;
        for row in &covered {
            ids.push(row.try_get("id")?);
        }
        // The words of what is covered went when it was.
        tx.forget_words(&numbers).await?;
        for statement in OF_ALERTS {
            tx.run_bulk(statement, &ids, |delete, id| delete.bind(id)).await?;
        }
        tx.count_removed("alerts", rules).await?;
        tx.commit().await?;
        Ok((rows.len() as u64, true))
    }

    /// Old points of an alert's course, but for its newest.
    async fn remove_revisions(&self, before: Micros, last: &mut (String, i64)) -> Result<(u64, bool), Error> {
        let rows = sqlx::query(
            "select r.id, r.revision, r.stored_at < $1 and r.revision < a.revision as old from alert_revisions r \
             join alerts a on a.id = r.id where (r.id, r.revision) > ($2, $3) order by r.id, r.revision limit $4",
        )
        .bind(before.0)
        .bind(&last.0)
        .bind(last.1)
        .bind(STEP)
        .fetch_all(&self.inner.readers)
        .await?;
        let Some(end) = rows.last() else { return Ok((0, false)) };
        let end: (String, i64) = (end.try_get("id")?, end.try_get("revision")?);
        let mut old = false;
        for row in &rows {
            old |= row.try_get::<i64, _>("old")? == 1;
        }
        let mut removed = 0;
        if old {
            let mut tx = self.begin_as_engine().await?;
            let delete = sqlx::query(
                "delete from alert_revisions where (id, revision) > ($1, $2) and (id, revision) <= ($3, $4) \
                 and stored_at < $5 and revision < (select revision from alerts where alerts.id = alert_revisions.id) \
                 returning (select rule_id from alerts where alerts.id = alert_revisions.id) as rule_id",
            );
            let delete = delete.bind(&last.0).bind(last.1).bind(&end.0).bind(end.1).bind(before.0);
            let mut rules: BTreeMap<String, i64> = BTreeMap::new();
            for row in tx.all(delete).await? {
                *rules.entry(row.try_get("rule_id")?).or_default() += 1;
                removed += 1;
            }
            tx.count_removed("revisions", rules).await?;
            tx.commit().await?;
        }
        *last = end;
        Ok((removed, true))
    }

    /// The text of old dead letters. Their counts stay.
    async fn remove_letters(&self, before: Micros) -> Result<(u64, bool), Error> {
        let rows = sqlx::query(
            "select seq, source, length(payload) as bytes from dead_letters where stored_at < $1 \
             order by stored_at, seq limit $2",
        )
        .bind(before.0)
        .bind(STEP)
        .fetch_all(&self.inner.readers)
        .await?;
        let mut seqs: Vec<i64> = Vec::new();
        let (mut counts, mut bytes) = (BTreeMap::new(), BTreeMap::new());
        for row in &rows {
            let source: String = row.try_get("source")?;
            *bytes.entry(source.clone()).or_insert(0_i64) += row.try_get::<i64, _>("bytes")?;
            *counts.entry(source).or_insert(0_i64) += 1;
            seqs.push(row.try_get("seq")?);
        }
        if seqs.is_empty() {
            return Ok((0, false));
        }
        let mut tx = self.begin_as_engine().await?;
        tx.run_bulk(LETTERS, &seqs, |delete, seq| delete.bind(seq)).await?;
        let bytes: Vec<_> = bytes.into_iter().collect();
        tx.run_bulk(LESS_BYTES, &bytes, |update, (source, less)| update.bind(source).bind(less)).await?;
        tx.count_removed("dead_letters", counts).await?;
        tx.commit().await?;
        Ok((seqs.len() as u64, true))
    }

    /// The counts of dead letters that nothing was added to for too long.
    async fn remove_counts(&self, before: Micros) -> Result<(u64, bool), Error> {
        let old = sqlx::query("select 1 from dead_letter_counts where stored_at < $1 limit 1").bind(before.0);
        if old.fetch_optional(&self.inner.readers).await?.is_none() {
            return Ok((0, false));
        }
        let mut tx = self.begin_as_engine().await?;
        let delete = sqlx::query(
            "delete from dead_letter_counts where (source, reason, hour, topic, incarnation, partition_no) in (\
             select source, reason, hour, topic, incarnation, partition_no from dead_letter_counts \
             where stored_at < $1 order by stored_at limit $2) returning source",
        );
        let mut sources: BTreeMap<String, i64> = BTreeMap::new();
        for row in tx.all(delete.bind(before.0).bind(STEP)).await? {
            *sources.entry(row.try_get("source")?).or_default() += 1;
        }
        let removed = sources.values().sum();
        tx.count_removed("dead_letter_counts", sources).await?;
        tx.commit().await?;
        Ok((unsigned(removed), true))
    }

    async fn remove_health(&self, before: Micros) -> Result<(u64, bool), Error> {
        let rows = sqlx::query(OLD_HEALTH)
            .bind(before.0)
            .bind(RECREATED)
            .bind(STEP)
            .fetch_all(&self.inner.readers)
            .await?;
        let mut kinds: BTreeMap<String, i64> = BTreeMap::new();
        let mut seqs: Vec<i64> = Vec::new();
        for row in &rows {
            seqs.push(row.try_get("seq")?);
            *kinds.entry(row.try_get("kind")?).or_default() += 1;
        }
        if seqs.is_empty() {
            return Ok((0, false));
        }
        let removed = kinds.values().sum();
        let mut tx = self.begin_as_engine().await?;
        tx.run_bulk(HEALTH, &seqs, |delete, seq| delete.bind(seq)).await?;
        tx.count_removed("health", kinds).await?;
        tx.commit().await?;
        Ok((unsigned(removed), true))
    }

    /// Placements of records that are no longer in the log, or that belong to a topic before the present one; but those stay that lie in the
    /// lake's time, where events are placed by them once more.
    async fn remove_placements(&self, starts: &[LogStart]) -> Result<(u64, bool), Error> {
        let oldest = sqlx::query("select min(earliest) as oldest from lake_files");
        let oldest = oldest.fetch_one(&self.inner.readers).await?.try_get::<Option<i64>, _>("oldest")?;
        let oldest = oldest.unwrap_or(i64::MAX);
        let incarnations = self.incarnations().await?;
        let mut topics: BTreeSet<&str> = BTreeSet::new();
        for start in starts {
            let of = incarnation(&incarnations, &start.topic);
            topics.insert(&start.topic);
            let gone = sqlx::query(
                "select offset_no from placements where topic = $1 and incarnation = $2 and partition_no = $3 \
                 and offset_no < $4 and placed_at < $6 order by offset_no limit $5",
            );
            let gone = gone.bind(&start.topic).bind(of).bind(i64::from(start.partition)).bind(start.offset);
            let rows = gone.bind(STEP).bind(oldest).fetch_all(&self.inner.readers).await?;
            let Some(last) = rows.last() else { continue };
            let delete = sqlx::query(
                "delete from placements where topic = $1 and incarnation = $2 and partition_no = $3 and offset_no <= $4 \
                 and placed_at < $5",
            );
            let delete = delete.bind(&start.topic).bind(of).bind(i64::from(start.partition));
            let delete = delete.bind(last.try_get::<i64, _>("offset_no")?).bind(oldest);
            return self.remove_of(&start.topic, delete).await;
        }
        for topic in topics {
            let of = incarnation(&incarnations, topic);
            let gone = sqlx::query(
                "select incarnation, partition_no, offset_no from placements where topic = $1 and incarnation < $2 \
                 and placed_at < $4 order by incarnation, partition_no, offset_no limit $3",
            );
            let rows =
                gone.bind(topic).bind(of).bind(STEP).bind(oldest).fetch_all(&self.inner.readers).await?;
            let Some(last) = rows.last() else { continue };
            let delete = sqlx::query(
                "delete from placements where topic = $1 and (incarnation, partition_no, offset_no) <= ($2, $3, $4) \
                 and placed_at < $5",
            );
            let delete = delete
                .bind(topic)
                .bind(last.try_get::<i64, _>("incarnation")?)
                .bind(last.try_get::<i64, _>("partition_no")?)
                .bind(last.try_get::<i64, _>("offset_no")?)
                .bind(oldest);
            return self.remove_of(topic, delete).await;
        }
        Ok((0, false))
    }

    /// The sets of techniques that no row has any more.
    async fn remove_technique_sets(&self) -> Result<(u64, bool), Error> {
        let unused = sqlx::query(UNUSED_SETS).bind(STEP).fetch_all(&self.inner.readers).await?;
        let mut sets: BTreeSet<String> = BTreeSet::new();
        for row in &unused {
            sets.insert(row.try_get("techniques")?);
        }
        if sets.is_empty() {
            return Ok((0, false));
        }
        let mut tx = self.begin_as_engine().await?;
        let mut removed = 0;
        for set in &sets {
            // A row may have come with it meanwhile.
            removed += tx.run(sqlx::query(REMOVE_SET).bind(set)).await?;
        }
        tx.commit().await?;
        // Names of groups are nothing that anybody misses: they are not counted.
        Ok((0, removed > 0))
    }

    async fn remove_of(
        &self,
        topic: &str,
        delete: crate::transaction::Statement<'_>,
    ) -> Result<(u64, bool), Error> {
        let mut tx = self.begin_as_engine().await?;
        let removed = tx.run(delete).await?;
        let count = i64::try_from(removed).unwrap_or(i64::MAX);
        tx.count_removed("placements", BTreeMap::from([(topic.to_owned(), count)])).await?;
        tx.commit().await?;
        Ok((removed, true))
    }
}

impl WriteTx {
    pub(crate) async fn count_removed(
        &mut self,
        kind: &'static str,
        subjects: BTreeMap<String, i64>,
    ) -> Result<(), Error> {
        let subjects: Vec<(String, i64)> = subjects.into_iter().filter(|(_, n)| *n > 0).collect();
        let day = self.now.floor(DAY).0;
        self.run_bulk(COUNT, &subjects, |upsert, (subject, n)| {
            upsert.bind(kind).bind(subject).bind(day).bind(n)
        })
        .await?;
        Ok(())
    }
}
