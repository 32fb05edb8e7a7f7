//! The trail of a case: notes, merging, splitting, history.
//!
//! In: texts, numbers of cases, selections. Out: entries of the audit log. Invariants: the trail of both sides is kept: a
//! merged case keeps its entries, and the history of the case that took its alerts has them, too; both sides of a split
//! name the other and the alerts.

use super::{MAX_CASE_ALERTS, MAX_CASE_NOTES, alerts::ids, target};
use crate::{
    error::Error,
    kept_answers::Begun,
    model::{AuditEntry, Case, Made, NewCase, Once},
    store::Store,
    triage::audit_entry,
};

/// Entries of a history that are read at once, the newest.
const MAX_HISTORY: i64 = 2_000;

impl Store {
    /// Adds a note; the version stays. Closed cases take notes, too.
    pub async fn note_case(
        &self,
        id: i64,
        text: &str,
        actor: &str,
        once: Option<&Once<AuditEntry>>,
    ) -> Result<Made<AuditEntry>, Error> {
        let mut tx = match self.begin_once(once).await? {
            Begun::New(tx) => tx,
            Begun::Again(answer) => return Ok(Made::Again(answer)),
        };
        let case = tx.case(id).await?;
        if let Some(into) = case.merged_into {
            return Err(Error::Clash {
                detail: format!("Case {id} was merged into case {into}; go on there."),
            });
        }
        if case.notes >= MAX_CASE_NOTES as u64 {
            return Err(Error::Full { what: "notes of one case", max: MAX_CASE_NOTES });
        }
        let to = Some(serde_json::to_string(text)?);
        let seq = tx.note_of_case(id, actor, "case_note", None, to.clone()).await?;
        tx.run(sqlx::query("update cases set notes = notes + 1 where id = $1").bind(id)).await?;
        let entry = AuditEntry {
            seq,
            at: tx.now,
            actor: actor.to_owned(),
            action: "case_note".to_owned(),
            target: target(id),
            from: None,
            to,
            change_id: tx.change_id,
        };
        tx.commit_once(once, entry).await
    }

    /// Takes another case's alerts into this one and closes the other.
    pub async fn merge_cases(&self, id: i64, other: i64, actor: &str) -> Result<Case, Error> {
        if id == other {
            return Err(Error::Clash { detail: format!("Case {id} cannot be merged into itself.") });
        }
        let mut tx = self.begin().await?;
        let into = tx.open_one(id).await?;
        let from = tx.case(other).await?;
        if let Some(into) = from.merged_into {
            return Err(Error::Clash { detail: format!("Case {other} was merged into case {into} before.") });
        }
        if into.alerts + from.alerts > MAX_CASE_ALERTS as u64 {
            return Err(Error::Full { what: "alerts of one case", max: MAX_CASE_ALERTS });
        }
        let alerts = tx.alerts_of(other).await?;
        tx.move_alerts(&alerts, Some(id), actor).await?;
        let of = |what: &str, case: &Case| {
            let Case { id, title, status, assignee, .. } = case;
            Some(
                serde_json::json!({what: id, "title": title, "status": status, "assignee": assignee,
                "alerts": ids(&alerts)})
                .to_string(),
            )
        };
        tx.note_of_case(other, actor, "case_merged", None, of("into", &into)).await?;
        tx.note_of_case(id, actor, "case_merged", None, of("from", &from)).await?;
        let close = sqlx::query(
            "update cases set status = 'closed', merged_into = $1, version = version + 1, \
             closed_at = coalesce(closed_at, $2) where id = $3",
        );
        tx.run(close.bind(id).bind(tx.now.0).bind(other)).await?;
        // What the other's alerts once were, this one's have been, too; and what people said of it holds on.
        let keep = sqlx::query(
            "update cases set version = version + 1, severity = case when coalesce(severity, -1) < $1 then $1 else severity end, \
             severity_floor = case when coalesce(severity_floor, -1) < $2 then $2 else severity_floor end where id = $3",
        );
        // -2 is below everything: it changes nothing.
        let level =
            |severity: Option<vedette_event::Severity>| severity.map_or(-2, |severity| severity as i64);
        tx.run(keep.bind(level(from.highest)).bind(level(from.floor)).bind(id)).await?;
        let case = tx.case(id).await?;
        tx.commit().await?;
        Ok(case)
    }

    /// Makes a case of its own of some of a case's alerts.
    pub async fn split_case(
        &self,
        id: i64,
        new: &NewCase,
        actor: &str,
        once: Option<&Once<Case>>,
    ) -> Result<Made<Case>, Error> {
        let mut tx = match self.begin_once(once).await? {
            Begun::New(tx) => tx,
            Begun::Again(answer) => return Ok(Made::Again(answer)),
        };
        tx.open_one(id).await?;
        let alerts = tx.chosen_of(id, &new.alerts).await?;
        if alerts.is_empty() {
            return Err(Error::Clash { detail: "A split needs at least one alert of the case.".to_owned() });
        }
        let part = tx.open_case(new, actor, Some(id)).await?;
        tx.move_alerts(&alerts, Some(part), actor).await?;
        let say =
            |what: &str, case: i64| Some(serde_json::json!({what: case, "alerts": ids(&alerts)}).to_string());
        tx.note_of_case(id, actor, "case_split", None, say("to", part)).await?;
        tx.note_of_case(part, actor, "case_split", None, say("from", id)).await?;
        let case = tx.case(part).await?;
        tx.commit_once(once, case).await
    }

    /// Who did what to a case and to those that were merged into it, oldest first; the newest entries.
    pub async fn case_history(&self, id: i64) -> Result<Vec<AuditEntry>, Error> {
        let rows = sqlx::query(
            "with recursive trail (id) as (select id from cases where id = $1 union select cases.id from cases join trail \
             on cases.merged_into = trail.id) select seq, at, actor, action, target, before, after, change_id from audit \
             where target in (select 'case:' || id from trail) and action like 'case%' order by seq desc limit $2",
        );
        let rows = rows.bind(id).bind(MAX_HISTORY).fetch_all(&self.inner.readers).await?;
        rows.iter().rev().map(audit_entry).collect()
    }
}
