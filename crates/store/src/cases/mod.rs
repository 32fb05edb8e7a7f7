//! Cases: alerts that are looked at together. A case is ids of alerts, notes and actions, and no second model of anything.
//!
//! In: selections of alerts, patches, notes, merges, splits, each with its actor. Out: [`Case`]s and their history.
//! Invariants: an alert is in one case at most (`alerts.case_id`); notes and actions are entries of the audit log, so
//! nothing of them is ever lost or changed; the highest severity that any alert of a case has had stays, also when that
//! alert leaves; a case closes alerts by triage and by nothing else; a case that is merged into another is closed and keeps
//! its own trail, which the other's history includes.
//!
//! Retention: alerts of a case stay as long as the case does. A case that has been closed for as long as closed alerts
//! are kept goes, and lets its alerts go; one that was merged stays as long as the case it went into. What the audit log
//! says of either stays.

mod alerts;
mod change;
mod trail;

pub(crate) use alerts::CaseNews;

use sqlx::{Row, any::AnyRow};
use vedette_event::{Micros, Severity};

use crate::{
    alerts::{severity_of, unsigned},
    error::Error,
    filter::like,
    kept_answers::Begun,
    model::{Case, CaseQuery, CaseStatus, ChangeKind, Disposition, Made, NewCase, Once, Page},
    store::Store,
    transaction::{Audit, WriteTx},
};

/// Alerts of one case: what fits into one change.
pub const MAX_CASE_ALERTS: usize = 500;

/// Notes of one case.
pub const MAX_CASE_NOTES: usize = 1_000;

macro_rules! case_columns {
    () => {
        "select id, title, status, assignee, disposition, severity, severity_floor, version, notes, created_by, created_at, \
         changed_at, closed_at, merged_into, split_from, (select count(*) from alerts where case_id = cases.id \
         and covered_by is null) as alerts, (select count(*) from alerts where case_id = cases.id and covered_by is null \
         and status <> 'closed') as open_alerts from cases "
    };
}

impl Store {
    /// Opens a case with its first alerts, all of them or none.
    pub async fn create_case(
        &self,
        new: &NewCase,
        actor: &str,
        once: Option<&Once<Case>>,
    ) -> Result<Made<Case>, Error> {
        let mut tx = match self.begin_once(once).await? {
            Begun::New(tx) => tx,
            Begun::Again(answer) => return Ok(Made::Again(answer)),
        };
        let id = tx.open_case(new, actor, None).await?;
        tx.add_to_case(id, &new.alerts, actor).await?;
        let case = tx.case(id).await?;
        tx.commit_once(once, case).await
    }

    /// The case of this number.
    pub async fn case(&self, id: i64) -> Result<Option<Case>, Error> {
        let select = sqlx::query(concat!(case_columns!(), "where id = $1")).bind(id);
        select.fetch_optional(&self.inner.readers).await?.as_ref().map(case_of).transpose()
    }

    /// One page of cases, newest first. Its cursor is the last one's number.
    pub async fn cases(&self, query: &CaseQuery) -> Result<Page<Case>, Error> {
        // Four statuses' names at most, each an argument, so that one statement stays prepared.
        let status =
            |at: usize| query.status.get(at).or(query.status.first()).map_or("", |status| status.name());
        let select = sqlx::query(concat!(
            case_columns!(),
            "where id < $1 and ($2 = '' or status in ($2, $3, $4)) and ($5 = 0 or coalesce(assignee, '') = $6) \
             and (coalesce(severity, 0) >= $7 or coalesce(severity_floor, 0) >= $7) \
             and ($8 = '' or lower(title) like $8 escape '\\') order by id desc limit $9"
        ));
        let select = select.bind(query.before.unwrap_or(i64::MAX)).bind(status(0)).bind(status(1));
        let select = select.bind(status(2)).bind(i64::from(query.assignee.is_some()));
        let select = select.bind(query.assignee.as_deref().unwrap_or_default());
        let select = select.bind(query.severity.map_or(0, |severity| severity as i64));
        let select = select.bind(query.q.as_deref().map(like).unwrap_or_default());
        let limit = query.limit.max(1);
        let rows = select.bind(i64::from(limit) + 1).fetch_all(&self.inner.searchers).await?;
        let mut items = rows.iter().map(case_of).collect::<Result<Vec<_>, _>>()?;
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        let next_cursor = items.last().filter(|_| more).map(|last| last.id.to_string());
        Ok(Page { items, next_cursor })
    }

    /// Forgets cases that were closed before this; their alerts are as any others then.
    pub(crate) async fn forget_cases(&self, before: Micros, limit: i64) -> Result<(u64, bool), Error> {
        const OLD: &str = "select id from cases where closed_at < $1 and not exists (select 1 from cases into_one \
            where into_one.id = cases.merged_into) order by closed_at, id limit $2";
        let old = sqlx::query(OLD).bind(before.0).bind(limit).fetch_all(&self.inner.readers).await?;
        if old.is_empty() {
            return Ok((0, false));
        }
        let mut tx = self.begin_as_engine().await?;
        let mut removed = 0;
        for row in &old {
            let id: i64 = row.try_get("id")?;
            // Somebody may have opened it again since.
            let delete = sqlx::query("delete from cases where id = $1 and closed_at < $2").bind(id);
            if tx.run(delete.bind(before.0)).await? == 1 {
                tx.run(sqlx::query("update alerts set case_id = null where case_id = $1").bind(id)).await?;
                removed += 1;
            }
        }
        tx.count_removed("cases", [("closed".to_owned(), removed)].into()).await?;
        tx.commit().await?;
        Ok((unsigned(removed), true))
    }
}

impl WriteTx {
    /// Makes a case without alerts; its number.
    pub(crate) async fn open_case(
        &mut self,
        new: &NewCase,
        actor: &str,
        split_from: Option<i64>,
    ) -> Result<i64, Error> {
        let id = self.number("case").await?;
        let seq = self.change(ChangeKind::Desk, &target(id));
        let insert = sqlx::query(
            "insert into cases (id, title, status, assignee, severity_floor, version, notes, created_by, created_at, \
             changed_at, split_from, seq) values ($1, $2, $3, $4, $5, 0, 0, $6, $7, $7, $8, $9)",
        );
        let insert = insert.bind(id).bind(&new.title).bind(CaseStatus::Open.name());
        let insert = insert.bind(new.assignee.as_deref()).bind(new.floor.map(|floor| floor as i64));
        self.run(insert.bind(actor).bind(self.now.0).bind(split_from).bind(seq)).await?;
        let after = serde_json::json!({"title": new.title, "status": CaseStatus::Open, "assignee": new.assignee,
            "severity_floor": new.floor, "split_from": split_from});
        let target = target(id);
        let entry = Audit {
            actor,
            action: "case_opened",
            target: &target,
            before: None,
            after: Some(after.to_string()),
        };
        self.audit(seq, entry).await?;
        Ok(id)
    }

    /// The case of this number.
    pub(crate) async fn case(&mut self, id: i64) -> Result<Case, Error> {
        let select = sqlx::query(concat!(case_columns!(), "where id = $1")).bind(id);
        match self.one(select).await? {
            Some(row) => case_of(&row),
            None => Err(Error::NotFound { what: "case", id: id.to_string() }),
        }
    }

    /// As [`WriteTx::case`], of one that is not closed.
    pub(crate) async fn open_one(&mut self, id: i64) -> Result<Case, Error> {
        let case = self.case(id).await?;
        match case.merged_into {
            Some(into) => {
                Err(Error::Clash { detail: format!("Case {id} was merged into case {into}; go on there.") })
            }
            None if case.status == CaseStatus::Closed => {
                Err(Error::Clash { detail: format!("Case {id} is closed; open it again first.") })
            }
            None => Ok(case),
        }
    }

    /// Writes an action into a case's trail.
    pub(crate) async fn note_of_case(
        &mut self,
        id: i64,
        actor: &str,
        action: &'static str,
        before: Option<String>,
        after: Option<String>,
    ) -> Result<i64, Error> {
        let target = target(id);
        let seq = self.change(ChangeKind::Desk, &target);
        self.audit(seq, Audit { actor, action, target: &target, before, after }).await?;
        let touch = sqlx::query("update cases set changed_at = $1, seq = $2 where id = $3");
        self.run(touch.bind(self.now.0).bind(seq).bind(id)).await?;
        Ok(seq)
    }
}

/// What the audit log and the changes call a case.
pub(crate) fn target(id: i64) -> String {
    format!("case:{id}")
}

fn case_of(row: &AnyRow) -> Result<Case, Error> {
    let id: i64 = row.try_get("id")?;
    let bad = |word: String| Error::BadValue { what: "case", id: word, detail: "unknown word".to_owned() };
    let status: String = row.try_get("status")?;
    let disposition: Option<String> = row.try_get("disposition")?;
    let level = |column: &str| -> Result<Option<Severity>, Error> {
        row.try_get::<Option<i64>, _>(column)?.map(severity_of).transpose()
    };
    Ok(Case {
        id,
        title: row.try_get("title")?,
        status: CaseStatus::parse(&status).ok_or_else(|| bad(status))?,
        assignee: row.try_get("assignee")?,
        disposition: match disposition {
            Some(word) => Some(Disposition::parse(&word).ok_or_else(|| bad(word))?),
            None => None,
        },
        highest: level("severity")?,
        floor: level("severity_floor")?,
        version: row.try_get("version")?,
        alerts: unsigned(row.try_get("alerts")?),
        open_alerts: unsigned(row.try_get("open_alerts")?),
        notes: unsigned(row.try_get("notes")?),
        created_by: row.try_get("created_by")?,
        created_at: Micros(row.try_get("created_at")?),
        changed_at: Micros(row.try_get("changed_at")?),
        closed_at: row.try_get::<Option<i64>, _>("closed_at")?.map(Micros),
        merged_into: row.try_get("merged_into")?,
        split_from: row.try_get("split_from")?,
    })
}
