//! Snoozes: a rule and an entity that stay out of the queue for a while.
//!
//! In: [`NewSnooze`], the passing of time, revisions. Out: alerts that bear a snooze's number while it hides them.
//! Invariants: a pair has one snooze in force at most, of [`LONGEST_SNOOZE`] at most; it hides the pair's open rows up to the
//! highest severity that its maker could see, also those that come later (a continuation, or the alert of a notice, is of the
//! same pair); a row whose severity rises above that is in the queue again with the same change; nothing is removed, and
//! lists that ask for them have them; no step touches more than [`STEP`] rows. A row bears the number, and no query
//! compares times: so an index leads to the queue, the change of each row has its place in the order of changes, and streams
//! see rows go and come.

use std::collections::BTreeMap;

use sqlx::{Row, any::AnyRow};
use vedette_event::{Micros, Severity, Span};

use crate::{
    alerts::{severity_of, unsigned},
    bulk::Bulk,
    error::Error,
    kept_answers::Begun,
    model::{ChangeKind, EntityRef, Made, NewSnooze, Once, Snooze, WouldHide},
    store::Store,
    transaction::{Audit, SYSTEM, WriteTx},
};

/// The longest that a snooze lasts.
pub const LONGEST_SNOOZE: Span = Span::secs(7 * 86_400);

/// Snoozes in force at once: each is looked at with every publication.
pub const MAX_SNOOZES: usize = 500;

/// Rows that one step hides or brings back.
const STEP: i64 = 500;

/// Ended ones that are listed.
const MAX_LISTED: i64 = 500;

const MARK: Bulk = Bulk {
    head: "with given (of_id, snooze, at_seq) as (values ",
    columns: 3,
    // 0 is none: a list of values has no null of a kind.
    tail: ") update alerts set snooze_id = case when snooze > 0 then snooze end, seq = at_seq from given where id = of_id",
};

const COLUMNS: &str = "select id, rule_id, rule_title, entity_type, entity_value, severity, reason, created_by, \
    created_at, until, ended_at, ended_by, (select count(*) from alerts where snooze_id = snoozes.id and covered_by is null \
    and status <> 'closed') as hidden from snoozes ";

/// The snoozes in force, by pair.
#[derive(Debug, Default)]
pub(crate) struct InForce(BTreeMap<(String, String, String), (i64, Severity)>);

impl InForce {
    /// The one that hides a row of this rule and entity at this severity.
    pub(crate) fn hiding(&self, rule: &str, entity: Option<&EntityRef>, severity: Severity) -> Option<i64> {
        if self.0.is_empty() {
            return None;
        }
        let entity = entity?;
        let (id, highest) = self.0.get(&(rule.to_owned(), entity.kind.clone(), entity.value.clone()))?;
        (severity <= *highest).then_some(*id)
    }
}

impl Store {
    /// Snoozes a rule and an entity that have, or had, an alert.
    pub async fn snooze(
        &self,
        new: &NewSnooze,
        actor: &str,
        once: Option<&Once<Snooze>>,
    ) -> Result<Made<Snooze>, Error> {
        let mut tx = match self.begin_once(once).await? {
            Begun::New(tx) => tx,
            Begun::Again(answer) => return Ok(Made::Again(answer)),
        };
        if new.until <= tx.now || new.until > tx.now.plus(LONGEST_SNOOZE) {
            let detail = "A snooze ends in the future, and at most 7 days from now.".to_owned();
            return Err(Error::Clash { detail });
        }
        tx.room_for(new).await?;
        let (severity, rule_title) = tx.shown(new).await?;
        let id = tx.number("snooze").await?;
        let insert = sqlx::query(
            "insert into snoozes (id, rule_id, rule_title, entity_type, entity_value, severity, reason, created_by, \
             created_at, until, settled) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0)",
        );
        let insert = insert.bind(id).bind(&new.rule_id).bind(&rule_title).bind(&new.entity.kind);
        let insert = insert.bind(&new.entity.value).bind(severity as i64).bind(&new.reason).bind(actor);
        tx.run(insert.bind(tx.now.0).bind(new.until.0)).await?;
        tx.hide(id).await?;
        let target = format!("snooze:{id}");
        let seq = tx.change(ChangeKind::Desk, &target);
        let after = serde_json::json!({"rule": new.rule_id, "entity": new.entity, "severity": severity,
            "until": new.until, "reason": new.reason});
        let entry =
            Audit { actor, action: "snoozed", target: &target, before: None, after: Some(after.to_string()) };
        tx.audit(seq, entry).await?;
        let made = tx.snooze(id).await?;
        tx.commit_once(once, made).await
    }

    /// Snoozes in force, those that end first in front; with `ended`, the newest that have ended instead.
    pub async fn snoozes(&self, ended: bool) -> Result<Vec<Snooze>, Error> {
        let order = if ended {
            "where ended_at is not null order by ended_at desc, id desc limit $1"
        } else {
            "where ended_at is null order by until, id limit $1"
        };
        let select = sqlx::query(sqlx::AssertSqlSafe(format!("{COLUMNS}{order}"))).bind(MAX_LISTED);
        select.fetch_all(&self.inner.readers).await?.iter().map(snooze).collect()
    }

    /// The snooze of this number, in force or not.
    pub async fn snooze_of(&self, id: i64) -> Result<Option<Snooze>, Error> {
        let select = sqlx::query(sqlx::AssertSqlSafe(format!("{COLUMNS}where id = $1"))).bind(id);
        select.fetch_optional(&self.inner.readers).await?.as_ref().map(snooze).transpose()
    }

    /// Ends a snooze before its time; its rows are back at once, beyond [`STEP`] of them within seconds.
    pub async fn lift_snooze(&self, id: i64, actor: &str) -> Result<Snooze, Error> {
        let mut tx = self.begin().await?;
        tx.end_snooze(id, actor, "snooze_lifted").await?;
        let lifted = tx.snooze(id).await?;
        tx.commit().await?;
        Ok(lifted)
    }

    /// Ends the snoozes whose time is over and goes on with what is left to hide or to bring back, a step each. To be
    /// called every few seconds; true if there is more to do.
    pub async fn settle_snoozes(&self) -> Result<bool, Error> {
        let now = crate::store::now();
        let due = sqlx::query(
            "select id from snoozes where ended_at is null and until <= $1 order by until limit 16",
        );
        let due = due.bind(now.0).fetch_all(&self.inner.readers).await?;
        let left = sqlx::query("select id, ended_at from snoozes where settled = 0 order by id limit 16");
        let left = left.fetch_all(&self.inner.readers).await?;
        for row in &due {
            let mut tx = self.begin().await?;
            match tx.end_snooze(row.try_get("id")?, SYSTEM, "snooze_over").await {
                // Somebody lifted it meanwhile.
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
                Ok(()) => tx.commit().await.map(drop)?,
            }
        }
        for row in &left {
            let mut tx = self.begin().await?;
            let id = row.try_get("id")?;
            match row.try_get::<Option<i64>, _>("ended_at")? {
                None => tx.hide(id).await?,
                Some(_) => tx.bring_back(id).await?,
            }
            tx.commit().await?;
        }
        Ok(!due.is_empty() || !left.is_empty())
    }

    /// Forgets snoozes that ended before this and hide nothing any more; what the audit log says of them stays.
    pub(crate) async fn forget_snoozes(&self, before: Micros, limit: i64) -> Result<(u64, bool), Error> {
        let old =
            sqlx::query("select 1 from snoozes where ended_at < $1 and settled = 1 limit 1").bind(before.0);
        if old.fetch_optional(&self.inner.readers).await?.is_none() {
            return Ok((0, false));
        }
        let mut tx = self.begin_as_engine().await?;
        let delete = sqlx::query(
            "delete from snoozes where id in (select id from snoozes where ended_at < $1 and settled = 1 \
             order by ended_at, id limit $2)",
        );
        let removed = tx.run(delete.bind(before.0).bind(limit)).await?;
        tx.count_removed(
            "snoozes",
            [("ended".to_owned(), i64::try_from(removed).unwrap_or(i64::MAX))].into(),
        )
        .await?;
        tx.commit().await?;
        Ok((removed, true))
    }

    /// Whether snoozes hide anything at all: one look at an index. To count what of a filter they hide walks over all that is open.
    pub async fn hides_any(&self) -> Result<bool, Error> {
        let one = sqlx::query("select 1 from alerts where snooze_id is not null limit 1");
        Ok(one.fetch_optional(&self.inner.readers).await?.is_some())
    }

    /// How many stored alerts of a rule and an entity, that crossed since then, an exception would have hidden.
    pub async fn would_hide(
        &self,
        rule: &str,
        entity: &EntityRef,
        since: Micros,
    ) -> Result<WouldHide, Error> {
        let count = sqlx::query(
            "select count(*) as n, coalesce(sum(true_one), 0) as true_ones from (select case when disposition = 'true_positive' \
             then 1 else 0 end as true_one from alerts where rule_id = $1 and entity_value = $2 and entity_type = $3 \
             and crossed_at >= $4 and covered_by is null order by crossed_at desc limit $5) as found",
        );
        let count = count.bind(rule).bind(&entity.value).bind(&entity.kind).bind(since.0);
        let count = count.bind(WouldHide::MOST as i64).fetch_one(&self.inner.searchers).await?;
        Ok(WouldHide {
            alerts: unsigned(count.try_get("n")?),
            true_positives: unsigned(count.try_get("true_ones")?),
        })
    }
}

impl WriteTx {
    /// The snoozes in force, whose number is bounded.
    pub(crate) async fn snoozes_in_force(&mut self) -> Result<InForce, Error> {
        let rows = sqlx::query(
            "select id, rule_id, entity_type, entity_value, severity from snoozes where ended_at is null",
        );
        let mut pairs = BTreeMap::new();
        for row in self.all(rows).await? {
            let pair = (row.try_get("rule_id")?, row.try_get("entity_type")?, row.try_get("entity_value")?);
            pairs.insert(pair, (row.try_get("id")?, severity_of(row.try_get("severity")?)?));
        }
        Ok(InForce(pairs))
    }

    /// Gives rows their snoozes, or none, at these places in the order of changes.
    pub(crate) async fn mark_snoozed(&mut self, rows: &[(String, Option<i64>, i64)]) -> Result<(), Error> {
        self.run_bulk(MARK, rows, |update, (id, snooze, seq)| {
            update.bind(id).bind(snooze.unwrap_or(0)).bind(seq)
        })
        .await
        .map(drop)
    }

    async fn room_for(&mut self, new: &NewSnooze) -> Result<(), Error> {
        let count = sqlx::query("select count(*) as n from snoozes where ended_at is null");
        let count = self.one(count).await?.map(|row| row.try_get::<i64, _>("n")).transpose()?;
        if count.is_some_and(|n| unsigned(n) >= MAX_SNOOZES as u64) {
            return Err(Error::Full { what: "snoozes in force", max: MAX_SNOOZES });
        }
        let same = sqlx::query(
            "select id from snoozes where rule_id = $1 and entity_type = $2 and entity_value = $3 and ended_at is null",
        );
        let same = same.bind(&new.rule_id).bind(&new.entity.kind).bind(&new.entity.value);
        match self.one(same).await? {
            None => Ok(()),
            Some(row) => {
                let id: i64 = row.try_get("id")?;
                let detail = format!("Snooze {id} is in force for this rule and entity; lift it first.");
                Err(Error::Clash { detail })
            }
        }
    }

    /// The highest severity that the pair has shown, and the rule's title then: open rows if there are any, else all.
    async fn shown(&mut self, new: &NewSnooze) -> Result<(Severity, String), Error> {
        let row = sqlx::query(
            "select severity, rule_title from alerts where rule_id = $1 and entity_value = $2 and entity_type = $3 \
             order by case when status <> 'closed' then 0 else 1 end, severity desc, crossed_at desc limit 1",
        );
        let row = row.bind(&new.rule_id).bind(&new.entity.value).bind(&new.entity.kind);
        match self.one(row).await? {
            Some(row) => Ok((severity_of(row.try_get("severity")?)?, row.try_get("rule_title")?)),
            None => Err(Error::NotFound {
                what: "alert of this rule and entity",
                id: format!("{} {}", new.rule_id, new.entity.value),
            }),
        }
    }

    /// Hides some of the pair's open rows.
    async fn hide(&mut self, id: i64) -> Result<(), Error> {
        let rows = sqlx::query(
            "select a.id from snoozes s join alerts a on a.rule_id = s.rule_id and a.entity_value = s.entity_value \
             and a.entity_type = s.entity_type where s.id = $1 and s.ended_at is null and a.severity <= s.severity \
             and (a.snooze_id is null or a.snooze_id <> s.id) and a.covered_by is null and a.status <> 'closed' \
             order by a.crossed_at desc limit $2",
        );
        let rows = self.all(rows.bind(id).bind(STEP)).await?;
        self.settle(id, Some(id), &rows).await
    }

    /// Brings some of the rows back that a snooze has hidden.
    async fn bring_back(&mut self, id: i64) -> Result<(), Error> {
        let rows = sqlx::query("select id from alerts where snooze_id = $1 order by created_seq limit $2");
        let rows = self.all(rows.bind(id).bind(STEP)).await?;
        self.settle(id, None, &rows).await
    }

    async fn settle(&mut self, id: i64, to: Option<i64>, rows: &[AnyRow]) -> Result<(), Error> {
        let mut marks = Vec::new();
        for row in rows {
            let alert: String = row.try_get("id")?;
            let seq = self.change(ChangeKind::Triage, &alert);
            marks.push((alert, to, seq));
        }
        self.mark_snoozed(&marks).await?;
        let done = (marks.len() as i64) < STEP;
        self.run(sqlx::query("update snoozes set settled = $1 where id = $2").bind(i64::from(done)).bind(id))
            .await
            .map(drop)
    }

    async fn end_snooze(&mut self, id: i64, actor: &str, action: &'static str) -> Result<(), Error> {
        let end = sqlx::query(
            "update snoozes set ended_at = $1, ended_by = $2, settled = 0 where id = $3 and ended_at is null \
             returning until",
        );
        let Some(row) = self.one(end.bind(self.now.0).bind(actor).bind(id)).await? else {
            return Err(Error::NotFound { what: "snooze in force", id: id.to_string() });
        };
        let until = Micros(row.try_get("until")?);
        let target = format!("snooze:{id}");
        let seq = self.change(ChangeKind::Desk, &target);
        let (before, after) =
            (serde_json::json!({"until": until}), serde_json::json!({"until": self.now.min(until)}));
        let (before, after) = (Some(before.to_string()), Some(after.to_string()));
        self.audit(seq, Audit { actor, action, target: &target, before, after }).await?;
        self.bring_back(id).await
    }

    async fn snooze(&mut self, id: i64) -> Result<Snooze, Error> {
        let select = sqlx::query(sqlx::AssertSqlSafe(format!("{COLUMNS}where id = $1"))).bind(id);
        let row = self.one(select).await?;
        let row = row.ok_or_else(|| Error::NotFound { what: "snooze", id: id.to_string() })?;
        snooze(&row)
    }
}

fn snooze(row: &AnyRow) -> Result<Snooze, Error> {
    Ok(Snooze {
        id: row.try_get("id")?,
        rule_id: row.try_get("rule_id")?,
        rule_title: row.try_get("rule_title")?,
        entity: EntityRef { kind: row.try_get("entity_type")?, value: row.try_get("entity_value")? },
        severity: severity_of(row.try_get("severity")?)?,
        reason: row.try_get("reason")?,
        created_by: row.try_get("created_by")?,
        created_at: Micros(row.try_get("created_at")?),
        until: Micros(row.try_get("until")?),
        ended_at: row.try_get::<Option<i64>, _>("ended_at")?.map(Micros),
        ended_by: row.try_get("ended_by")?,
        hidden: unsigned(row.try_get("hidden")?),
    })
}
