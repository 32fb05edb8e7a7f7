//! Which alerts a case has.
//!
//! In: ids of alerts or notices. Out: `alerts.case_id`. Invariants: a covered notice stands for its alert; all of a
//! selection or none of it; each alert's own history says which case it came into or left, and when; what joins by
//! itself (the alert of a notice, a continuation) joins open cases that have room, and is recorded like the rest.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::Row;
use vedette_event::Severity;

use super::MAX_CASE_ALERTS;
use crate::{
    alerts::{severity_of, unsigned},
    bulk::Bulk,
    error::Error,
    model::{Case, CaseStatus, ChangeKind},
    store::Store,
    transaction::{Audit, SYSTEM, WriteTx},
};

const FOUND: Bulk = Bulk {
    head: "select own.id as asked, a.id as id, a.case_id as case_id, a.severity as severity from alerts own \
           join alerts a on a.id = coalesce(own.covered_by, own.id) where own.id in (",
    columns: 1,
    tail: ")",
};
const MOVE: Bulk = Bulk {
    head: "with given (of_id, case_no, at_seq) as (values ",
    columns: 3,
    // 0 is none: a list of values has no null of a kind.
    tail: ") update alerts set case_id = case when case_no > 0 then case_no end, seq = at_seq from given where id = of_id",
};

/// An alert of a selection.
pub(super) struct Chosen {
    pub(super) id: String,
    pub(super) case: Option<i64>,
    severity: Severity,
}

/// What becomes of the cases of rows that publications write.
#[derive(Debug, Default)]
pub(crate) struct CaseNews {
    /// By case: the highest severity that any of its rows has now.
    pub(crate) highest: BTreeMap<i64, Severity>,
}

impl Store {
    /// Adds alerts to an open case. Those that are in it already change nothing.
    pub async fn add_to_case(&self, id: i64, alerts: &[String], actor: &str) -> Result<Case, Error> {
        let mut tx = self.begin().await?;
        tx.open_one(id).await?;
        tx.add_to_case(id, alerts, actor).await?;
        let case = tx.case(id).await?;
        tx.commit().await?;
        Ok(case)
    }

    /// Takes alerts out of a case; they are in none then. The case's severity stays.
    pub async fn remove_from_case(&self, id: i64, alerts: &[String], actor: &str) -> Result<Case, Error> {
        let mut tx = self.begin().await?;
        tx.case(id).await?;
        let chosen = tx.chosen_of(id, alerts).await?;
        tx.move_alerts(&chosen, None, actor).await?;
        let after = serde_json::json!({"removed": ids(&chosen)});
        tx.note_of_case(id, actor, "case_alerts", None, Some(after.to_string())).await?;
        let case = tx.case(id).await?;
        tx.commit().await?;
        Ok(case)
    }
}

impl WriteTx {
    /// Adds alerts to a case.
    pub(super) async fn add_to_case(&mut self, id: i64, alerts: &[String], actor: &str) -> Result<(), Error> {
        let mut chosen = self.chosen(alerts).await?;
        chosen.retain(|alert| alert.case != Some(id));
        if let Some(taken) = chosen.iter().find_map(|alert| alert.case.map(|case| (&alert.id, case))) {
            let (alert, case) = taken;
            let detail =
                format!("Alert {alert} is in case {case}; take it out there, or split or merge that case.");
            return Err(Error::Clash { detail });
        }
        if chosen.is_empty() {
            return Ok(());
        }
        let has = self.case(id).await?.alerts;
        if has + chosen.len() as u64 > MAX_CASE_ALERTS as u64 {
            return Err(Error::Full { what: "alerts of one case", max: MAX_CASE_ALERTS });
        }
        self.move_alerts(&chosen, Some(id), actor).await?;
        let after = serde_json::json!({"added": ids(&chosen)});
        self.note_of_case(id, actor, "case_alerts", None, Some(after.to_string())).await.map(drop)
    }

    /// The alerts of a selection, each once; an error if one is not there.
    pub(super) async fn chosen(&mut self, alerts: &[String]) -> Result<Vec<Chosen>, Error> {
        if alerts.len() > MAX_CASE_ALERTS {
            return Err(Error::Full { what: "alerts of one case", max: MAX_CASE_ALERTS });
        }
        let rows = self.all_bulk(FOUND, alerts, |select, id| select.bind(id)).await?;
        let mut asked = BTreeSet::new();
        let mut found = BTreeMap::new();
        for row in rows {
            asked.insert(row.try_get::<String, _>("asked")?);
            let chosen = Chosen {
                id: row.try_get("id")?,
                case: row.try_get("case_id")?,
                severity: severity_of(row.try_get("severity")?)?,
            };
            found.insert(chosen.id.clone(), chosen);
        }
        match alerts.iter().find(|id| !asked.contains(*id)) {
            Some(id) => Err(Error::NotFound { what: "alert", id: id.clone() }),
            None => Ok(found.into_values().collect()),
        }
    }

    /// As [`WriteTx::chosen`], all of them of this case.
    pub(super) async fn chosen_of(&mut self, case: i64, alerts: &[String]) -> Result<Vec<Chosen>, Error> {
        let chosen = self.chosen(alerts).await?;
        match chosen.iter().find(|alert| alert.case != Some(case)) {
            Some(other) => Err(Error::NotFound { what: "alert in the case", id: other.id.clone() }),
            None => Ok(chosen),
        }
    }

    /// All alerts of a case.
    pub(super) async fn alerts_of(&mut self, case: i64) -> Result<Vec<Chosen>, Error> {
        let select = sqlx::query(
            "select id, case_id, severity from alerts where case_id = $1 and covered_by is null order by created_seq",
        );
        let rows = self.all(select.bind(case)).await?;
        let chosen = |row: &sqlx::any::AnyRow| {
            Ok(Chosen {
                id: row.try_get("id")?,
                case: row.try_get("case_id")?,
                severity: severity_of(row.try_get("severity")?)?,
            })
        };
        rows.iter().map(chosen).collect()
    }

    /// Moves alerts to a case or out of theirs; the case is at least as severe as they are.
    pub(super) async fn move_alerts(
        &mut self,
        alerts: &[Chosen],
        to: Option<i64>,
        actor: &str,
    ) -> Result<(), Error> {
        let mut moves = Vec::new();
        for alert in alerts {
            let seq = self.joins(&alert.id, alert.case, to, actor).await?;
            moves.push((&alert.id, to.unwrap_or(0), seq));
        }
        self.run_bulk(MOVE, &moves, |update, (id, case, seq)| update.bind(*id).bind(case).bind(seq)).await?;
        match (to, alerts.iter().map(|alert| alert.severity).max()) {
            (Some(case), Some(highest)) => self.raise_case(case, highest, None).await,
            _ => Ok(()),
        }
    }

    /// Writes into an alert's history that it comes into a case, or leaves one.
    async fn joins(
        &mut self,
        id: &str,
        from: Option<i64>,
        to: Option<i64>,
        actor: &str,
    ) -> Result<i64, Error> {
        let seq = self.change(ChangeKind::Triage, id);
        let say = |case: Option<i64>| Some(serde_json::json!({"case": case}).to_string());
        let entry = Audit { actor, action: "case", target: id, before: say(from), after: say(to) };
        self.audit(seq, entry).await?;
        Ok(seq)
    }

    /// A case is at least this severe from now on. `told` is who says it where that is worth an entry of its own.
    async fn raise_case(&mut self, id: i64, to: Severity, told: Option<&str>) -> Result<(), Error> {
        let was = sqlx::query("select severity from cases where id = $1").bind(id);
        let Some(row) = self.one(was).await? else { return Ok(()) };
        let was: Option<i64> = row.try_get("severity")?;
        if was.is_some_and(|was| was >= to as i64) {
            return Ok(());
        }
        let raise = sqlx::query("update cases set severity = $1 where id = $2").bind(to as i64).bind(id);
        self.run(raise).await?;
        let Some(actor) = told else { return Ok(()) };
        let before = was.map(severity_of).transpose()?;
        let say = |severity: Option<Severity>| Some(serde_json::json!({"severity": severity}).to_string());
        self.note_of_case(id, actor, "case_severity", say(before), say(Some(to))).await.map(drop)
    }

    /// The cases that rows found by a publication bring it news of grow as severe as these rows are.
    pub(crate) async fn tell_cases(&mut self, news: CaseNews) -> Result<(), Error> {
        for (case, highest) in news.highest {
            self.raise_case(case, highest, Some(SYSTEM)).await?;
        }
        Ok(())
    }

    /// The case that a new row takes over from the row it goes on from: an open one with room. Recorded.
    pub(crate) async fn inherit_case(&mut self, id: &str, case: i64) -> Result<Option<i64>, Error> {
        let row = sqlx::query(
            "select status, (select count(*) from alerts where case_id = cases.id and covered_by is null) as alerts \
             from cases where id = $1",
        );
        let Some(row) = self.one(row.bind(case)).await? else { return Ok(None) };
        let open = row.try_get::<&str, _>("status")? != CaseStatus::Closed.name();
        if !open || unsigned(row.try_get("alerts")?) >= MAX_CASE_ALERTS as u64 {
            return Ok(None);
        }
        self.joins(id, None, Some(case), SYSTEM).await?;
        Ok(Some(case))
    }
}

pub(super) fn ids(alerts: &[Chosen]) -> Vec<&str> {
    alerts.iter().map(|alert| alert.id.as_str()).collect()
}
