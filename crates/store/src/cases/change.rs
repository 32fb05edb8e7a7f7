//! What is said of a case: title, status, owner, disposition, floor; and closing its alerts with it.
//!
//! In: a [`CasePatch`] and the version that was seen. Out: the case now, and a result for each alert that was to be closed.
//! Invariants: a change at another version changes nothing; alerts are closed by triage, each as it was seen at `close_alerts`.

use sqlx::{Row, any::AnyRow};

use crate::{
    error::Error,
    model::{BulkResult, Case, CasePatch, CaseStatus, Disposition, PatchedCase, Status, TriagePatch},
    store::Store,
    transaction::WriteTx,
    triage::{Changing, TriageRow},
};

impl Store {
    /// Changes a case, if it still has this version.
    pub async fn patch_case(
        &self,
        id: i64,
        version: i64,
        patch: &CasePatch,
        actor: &str,
    ) -> Result<PatchedCase, Error> {
        let mut tx = self.begin().await?;
        let was = tx.case(id).await?;
        if was.version != version {
            return Err(Error::Stale { what: "case", id, version: was.version });
        }
        if let Some(into) = was.merged_into {
            return Err(Error::Clash {
                detail: format!("Case {id} was merged into case {into}; go on there."),
            });
        }
        let mut new = was.clone();
        if let Some(status) = patch.status {
            if was.status == CaseStatus::Closed && status != CaseStatus::Closed {
                new.disposition = None;
            }
            new.status = status;
        }
        if let Some(title) = &patch.title {
            new.title.clone_from(title);
        }
        if let Some(assignee) = &patch.assignee {
            new.assignee = Some(assignee.clone()).filter(|name| !name.is_empty());
        }
        new.disposition = patch.disposition.or(new.disposition);
        new.floor = patch.floor.unwrap_or(new.floor);
        if new.status == CaseStatus::Closed && new.disposition.is_none() {
            return Err(Error::Clash { detail: "Closing a case needs a `disposition`.".to_owned() });
        }
        let (mut alerts, mut change_id) = (Vec::new(), None);
        if let (Some(as_of), Some(disposition)) = (patch.close_alerts, new.disposition) {
            alerts = tx.close_alerts_of(id, as_of, disposition, actor).await?;
            change_id = tx.change_id;
        }
        if new != was {
            tx.store_case(&was, new, actor).await?;
        }
        let case = tx.case(id).await?;
        tx.commit().await?;
        Ok(PatchedCase { case, alerts, change_id })
    }
}

impl WriteTx {
    async fn store_case(&mut self, was: &Case, new: Case, actor: &str) -> Result<(), Error> {
        let say = |case: &Case| {
            let Case { title, status, assignee, disposition, floor, .. } = case;
            let text = serde_json::json!({"title": title, "status": status, "assignee": assignee,
                "disposition": disposition, "severity_floor": floor});
            Some(text.to_string())
        };
        self.note_of_case(was.id, actor, "case_changed", say(was), say(&new)).await?;
        let update = sqlx::query(
            "update cases set title = $1, status = $2, assignee = $3, disposition = $4, severity_floor = $5, \
             version = version + 1, closed_at = case when $2 = 'closed' then coalesce(closed_at, $6) end where id = $7",
        );
        let update = update.bind(new.title).bind(new.status.name()).bind(new.assignee);
        let update =
            update.bind(new.disposition.map(Disposition::name)).bind(new.floor.map(|floor| floor as i64));
        self.run(update.bind(self.now.0).bind(was.id)).await.map(drop)
    }

    /// Closes the open alerts of a case as a bulk change does: what was triaged since is a conflict, what was revised since
    /// comes back.
    async fn close_alerts_of(
        &mut self,
        case: i64,
        as_of: i64,
        disposition: Disposition,
        actor: &str,
    ) -> Result<Vec<BulkResult>, Error> {
        if as_of > self.seq {
            return Err(Error::Unseen { what: "seq", seen: as_of, newest: self.seq });
        }
        let select = sqlx::query(concat!(
            "select ",
            triage_columns!(),
            " from alerts where case_id = $1 and covered_by is null and status <> 'closed' order by created_seq"
        ));
        let patch = TriagePatch {
            status: Some(Status::Closed),
            disposition: Some(disposition),
            ..TriagePatch::default()
        };
        let plan = |row: &AnyRow| {
            let (id, row): (String, _) = (row.try_get("id")?, TriageRow::read(row)?);
            let plan = if row.triage_seq > as_of {
                Err(Error::Conflict { id: id.clone(), current: row.triage })
            } else {
                let unseen = row.revision_seq > as_of;
                Ok(Changing::by_patch(id.clone(), row, &patch, unseen))
            };
            Ok::<_, Error>((id, plan))
        };
        let rows = self.all(select.bind(case)).await?;
        let planned = rows.iter().map(plan).collect::<Result<_, _>>()?;
        self.carry_out(planned, actor).await.map(|(results, _)| results)
    }
}
