//! Triage: what analysts do with a row, apart from its revisions and with a version of its own.
//!
//! In: [`TriagePatch`]es, bulk changes, comments, each with its actor. Out: the row's new [`Triage`], the history.
//! Invariants: a change at another version than the stored one changes nothing; every change is in the audit log;
//! a row closed from an older revision than the newest comes back at once, marked as recurred.

use std::collections::{BTreeMap, btree_map::Entry};

use sqlx::{Row, any::AnyRow};
use vedette_event::Severity;

use crate::{
    alerts::severity_of,
    error::Error,
    filter::Select,
    kept_answers::Begun,
    model::{
        AuditEntry, BulkResult, BulkTarget, ChangeKind, Disposition, Filter, Made, Once, Status, Triage,
        TriagePatch,
    },
    store::Store,
    transaction::{Audit, SYSTEM, WriteTx},
};

/// Rows that one bulk change names at most; what it finds by a filter has no bound.
pub const MAX_BULK: usize = 1_000;

/// Rows of a bulk change in one transaction: publishing waits for some tens of milliseconds at most.
const AT_ONCE: usize = 512;

/// The newest entries of a history that are read at once.
const MAX_HISTORY: i64 = 1_000;

/// The columns of [`TriageRow::read`].
macro_rules! triage_columns {
    () => {
        "id, revision, severity, event_count, status, assignee, disposition, triage_version, recurred, \
         closed_severity, closed_count, closed_here, created_seq, revision_seq, triage_seq, covered_by, case_id, snooze_id"
    };
}

/// What a row was like when it was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closing {
    /// Its severity.
    pub(crate) severity: Severity,
    /// Its count.
    pub(crate) count: i64,
    /// False if a continuation took this over from its predecessor; what a notice had shown is its alert's own.
    pub(crate) here: bool,
}

/// The triage side of a row with what decides about its return to the queue.
#[derive(Debug, Clone)]
pub(crate) struct TriageRow {
    pub(crate) triage: Triage,
    pub(crate) revision: i64,
    pub(crate) severity: Severity,
    pub(crate) count: i64,
    pub(crate) recurred: bool,
    pub(crate) closing: Option<Closing>,
    /// The number with which the row appeared.
    pub(crate) created_seq: i64,
    pub(crate) revision_seq: i64,
    pub(crate) triage_seq: i64,
    covered_by: Option<String>,
    pub(crate) case: Option<i64>,
    pub(crate) snooze: Option<i64>,
}

impl TriageRow {
    /// That of a row that is not there yet.
    pub(crate) fn fresh(severity: Severity) -> Self {
        Self {
            triage: Triage { status: Status::New, assignee: None, disposition: None, version: 0 },
            revision: 0,
            severity,
            count: 0,
            recurred: false,
            closing: None,
            created_seq: 0,
            revision_seq: 0,
            triage_seq: 0,
            covered_by: None,
            case: None,
            snooze: None,
        }
    }

    /// Reads a row selected by `triage_columns!`.
    pub(crate) fn read(row: &AnyRow) -> Result<Self, Error> {
        let closing = match (row.try_get("closed_severity")?, row.try_get("closed_count")?) {
            (Some(severity), Some(count)) => Some(Closing {
                severity: severity_of(severity)?,
                count,
                here: row.try_get::<i64, _>("closed_here")? == 1,
            }),
            _ => None,
        };
        Ok(Self {
            triage: triage_of(row)?,
            revision: row.try_get("revision")?,
            severity: severity_of(row.try_get("severity")?)?,
            count: row.try_get("event_count")?,
            recurred: row.try_get::<i64, _>("recurred")? == 1,
            closing,
            created_seq: row.try_get("created_seq")?,
            revision_seq: row.try_get("revision_seq")?,
            triage_seq: row.try_get("triage_seq")?,
            covered_by: row.try_get("covered_by")?,
            case: row.try_get("case_id")?,
            snooze: row.try_get("snooze_id")?,
        })
    }

    /// Writes it to the row `id`.
    pub(crate) async fn store(&self, tx: &mut WriteTx, id: &str, seq: i64) -> Result<(), Error> {
        let update = sqlx::query(
            "update alerts set status = $2, assignee = $3, disposition = $4, triage_version = $5, recurred = $6, \
             closed_severity = $7, closed_count = $8, closed_here = $9, triage_seq = $10, seq = $10, \
             closed_at = case when $2 = 'closed' then coalesce(closed_at, $11) end where id = $1",
        )
        .bind(id)
        .bind(self.triage.status.name())
        .bind(self.triage.assignee.as_deref())
        .bind(self.triage.disposition.map(Disposition::name))
        .bind(self.triage.version)
        .bind(i64::from(self.recurred))
        .bind(self.closing.map(|closing| closing.severity as i64))
        .bind(self.closing.map(|closing| closing.count))
        .bind(i64::from(self.closing.is_some_and(|closing| closing.here)))
        .bind(seq)
        .bind(tx.now.0);
        tx.run(update).await.map(drop)
    }
}

/// The triage columns of any row.
pub(crate) fn triage_of(row: &AnyRow) -> Result<Triage, Error> {
    let bad = |text: String| Error::BadValue { what: "triage", id: text, detail: "unknown word".to_owned() };
    let status: String = row.try_get("status")?;
    let disposition: Option<String> = row.try_get("disposition")?;
    Ok(Triage {
        status: Status::parse(&status).ok_or_else(|| bad(status))?,
        assignee: row.try_get("assignee")?,
        disposition: match disposition {
            Some(word) => Some(Disposition::parse(&word).ok_or_else(|| bad(word))?),
            None => None,
        },
        version: row.try_get("triage_version")?,
    })
}

/// The triage side of the row `id`.
pub(crate) async fn load(tx: &mut WriteTx, id: &str) -> Result<TriageRow, Error> {
    let select = sqlx::query(concat!("select ", triage_columns!(), " from alerts where id = $1")).bind(id);
    match tx.one(select).await? {
        Some(row) => TriageRow::read(&row),
        None => Err(Error::NotFound { what: "alert", id: id.to_owned() }),
    }
}

/// As [`load`], going from a covered notice to the alert that covers it; with the id of that row.
pub(crate) async fn load_covering(tx: &mut WriteTx, id: &str) -> Result<(String, TriageRow), Error> {
    let row = load(tx, id).await?;
    match row.covered_by.clone() {
        Some(alert) => {
            let row = load(tx, &alert).await?;
            Ok((alert, row))
        }
        None => Ok((id.to_owned(), row)),
    }
}

/// Makes a closed row new again; the `seq` at which it is to be stored. Its version stays: revisions never change it.
pub(crate) async fn reopen(tx: &mut WriteTx, id: &str, row: &mut TriageRow) -> Result<i64, Error> {
    let before = serde_json::to_string(&row.triage)?;
    row.triage.status = Status::New;
    row.triage.disposition = None;
    row.recurred = true;
    row.closing = None;
    let seq = tx.change(ChangeKind::Triage, id);
    let after = Some(serde_json::to_string(&row.triage)?);
    let entry = Audit { actor: SYSTEM, action: "recurred", target: id, before: Some(before), after };
    tx.audit(seq, entry).await?;
    Ok(seq)
}

/// Applies a patch; `unseen` says that the newest revision came after what the analyst saw.
pub(crate) async fn apply(
    tx: &mut WriteTx,
    id: &str,
    row: TriageRow,
    patch: &TriagePatch,
    actor: &str,
    unseen: bool,
) -> Result<Triage, Error> {
    let mut new = row.clone();
    if let Some(status) = patch.status {
        if row.triage.status == Status::Closed && status != Status::Closed {
            new.triage.disposition = None;
        }
        new.triage.status = status;
    }
    if let Some(assignee) = &patch.assignee {
        new.triage.assignee = Some(assignee.clone()).filter(|name| !name.is_empty());
    }
    if let Some(disposition) = patch.disposition {
        new.triage.disposition = Some(disposition);
    }
    let closes = patch.status == Some(Status::Closed);
    if closes {
        new.closing = Some(Closing { severity: row.severity, count: row.count, here: true });
        new.recurred = false;
    } else if new.triage.status != Status::Closed {
        new.closing = None;
    }
    write(tx, id, &row, new, actor, closes && unseen).await
}

/// Writes what a row's triage has become, if that is anything new; `returns` says that it was closed from an older revision.
async fn write(
    tx: &mut WriteTx,
    id: &str,
    row: &TriageRow,
    mut new: TriageRow,
    actor: &str,
    returns: bool,
) -> Result<Triage, Error> {
    if new.triage == row.triage && new.closing == row.closing {
        return Ok(new.triage);
    }
    new.triage.version += 1;
    let mut seq = tx.change(ChangeKind::Triage, id);
    let entry = Audit {
        actor,
        action: "triage",
        target: id,
        before: Some(serde_json::to_string(&row.triage)?),
        after: Some(serde_json::to_string(&new.triage)?),
    };
    tx.audit(seq, entry).await?;
    if returns {
        seq = reopen(tx, id, &mut new).await?;
    }
    new.store(tx, id, seq).await?;
    Ok(new.triage)
}

impl Store {
    /// Changes the triage of an alert or notice, if it still has this version. A covered notice stands for its alert.
    ///
    /// A change that changes nothing leaves the version as it is.
    pub async fn patch_triage(
        &self,
        id: &str,
        version: i64,
        patch: &TriagePatch,
        actor: &str,
    ) -> Result<Triage, Error> {
        let mut tx = self.begin().await?;
        let triage = tx.patch(id, version, patch, actor).await?;
        tx.commit().await?;
        Ok(triage)
    }

    /// Changes many rows; each succeeds or fails on its own. What a filter finds is changed in several transactions, so that
    /// nothing waits for all of it; after a failure some of it may be changed, and asking again changes the rest.
    pub async fn bulk_triage(
        &self,
        target: &BulkTarget,
        patch: &TriagePatch,
        actor: &str,
    ) -> Result<Vec<BulkResult>, Error> {
        match target {
            BulkTarget::Items(items) if items.len() > MAX_BULK => Err(Error::TooMany { max: MAX_BULK }),
            BulkTarget::Items(items) => {
                let mut tx = self.begin().await?;
                let mut results = Vec::new();
                for item in items {
                    let seen_revision = item.seen_revision.or(patch.seen_revision);
                    let patch = TriagePatch { seen_revision, ..patch.clone() };
                    let outcome = tx.patch(&item.id, item.version, &patch, actor).await;
                    results.push(BulkResult { id: item.id.clone(), outcome: tolerable(outcome)? });
                }
                tx.commit().await?;
                Ok(results)
            }
            BulkTarget::Matching { filter, as_of } => {
                let newest = self.newest_seq().await?;
                if *as_of > newest {
                    return Err(Error::Unseen { what: "seq", seen: *as_of, newest });
                }
                // Looked for before the transactions, since that may mean reading every row.
                let found = self.existing_at(filter, *as_of).await?;
                let mut results = Vec::with_capacity(found.len());
                for some in found.chunks(AT_ONCE) {
                    let mut tx = self.begin().await?;
                    for (id, row) in tx.matching(filter, some).await? {
                        let outcome = if row.triage_seq > *as_of {
                            Err(Error::Conflict { id: id.clone(), current: row.triage })
                        } else {
                            let unseen = row.revision_seq > *as_of;
                            apply(&mut tx, &id, row, patch, actor, unseen).await
                        };
                        results.push(BulkResult { id, outcome: tolerable(outcome)? });
                    }
                    tx.commit().await?;
                }
                Ok(results)
            }
        }
    }

    /// The rows that match and existed at `as_of`.
    async fn existing_at(&self, filter: &Filter, as_of: i64) -> Result<Vec<String>, Error> {
        let mut select = Select::uncapped("id", filter);
        select.and_int("created_seq <= ", as_of);
        select.push(" order by created_seq");
        let rows = select.statement().fetch_all(&self.inner.searchers).await?;
        rows.iter().map(|row| Ok(row.try_get("id")?)).collect()
    }

    /// Takes back what somebody changed from `after` (without it) to `until`: each row that nobody has changed since gets the
    /// status, owner and disposition that it had before the first of these changes; a result for each.
    pub async fn undo_triage(&self, after: i64, until: i64, actor: &str) -> Result<Vec<BulkResult>, Error> {
        let rows = sqlx::query(
            "select target, before, after from audit where seq > $1 and seq <= $2 and actor = $3 and action = 'triage' \
             order by seq",
        )
        .bind(after)
        .bind(until)
        .bind(actor)
        .fetch_all(&self.inner.searchers)
        .await?;
        let mut done: BTreeMap<String, (Triage, Triage)> = BTreeMap::new();
        for row in &rows {
            let (before, after): (Option<String>, Option<String>) =
                (row.try_get("before")?, row.try_get("after")?);
            let (Some(before), Some(after)) = (before, after) else { continue };
            let after: Triage = serde_json::from_str(&after)?;
            match done.entry(row.try_get("target")?) {
                Entry::Vacant(entry) => drop(entry.insert((serde_json::from_str(&before)?, after))),
                Entry::Occupied(mut entry) => entry.get_mut().1 = after,
            }
        }
        let done: Vec<(String, (Triage, Triage))> = done.into_iter().collect();
        let mut results = Vec::with_capacity(done.len());
        for some in done.chunks(AT_ONCE) {
            let mut tx = self.begin().await?;
            for (id, (before, after)) in some {
                let outcome = tx.restore(id, before, after.version, actor).await;
                results.push(BulkResult { id: id.clone(), outcome: tolerable(outcome)? });
            }
            tx.commit().await?;
        }
        Ok(results)
    }

    /// Adds a comment; the triage version stays.
    pub async fn comment(
        &self,
        id: &str,
        text: &str,
        actor: &str,
        once: Option<&Once<AuditEntry>>,
    ) -> Result<Made<AuditEntry>, Error> {
        let mut tx = match self.begin_once(once).await? {
            Begun::New(tx) => tx,
            Begun::Again(answer) => return Ok(Made::Again(answer)),
        };
        let (id, _) = load_covering(&mut tx, id).await?;
        let seq = tx.change(ChangeKind::Triage, &id);
        tx.run(sqlx::query("update alerts set seq = $1 where id = $2").bind(seq).bind(&id)).await?;
        let after = Some(serde_json::to_string(text)?);
        let entry = Audit { actor, action: "comment", target: &id, before: None, after: after.clone() };
        tx.audit(seq, entry).await?;
        let made = AuditEntry {
            seq,
            at: tx.now,
            actor: actor.to_owned(),
            action: "comment".to_owned(),
            target: id,
            from: None,
            to: after,
        };
        tx.commit_once(once, made).await
    }

    /// Who changed what about an alert (and the notices it covers), oldest first; the newest thousand entries.
    pub async fn history(&self, id: &str) -> Result<Vec<AuditEntry>, Error> {
        let rows = sqlx::query(
            "select seq, at, actor, action, target, before, after from audit where target in (select id from alerts \
             where id = $1 or id = (select covered_by from alerts where id = $1) or covered_by = $1 or covered_by = \
             (select covered_by from alerts where id = $1)) order by seq desc limit $2",
        )
        .bind(id)
        .bind(MAX_HISTORY)
        .fetch_all(&self.inner.readers)
        .await?;
        rows.iter().rev().map(audit_entry).collect()
    }
}

impl WriteTx {
    async fn patch(
        &mut self,
        id: &str,
        version: i64,
        patch: &TriagePatch,
        actor: &str,
    ) -> Result<Triage, Error> {
        let (id, row) = load_covering(self, id).await?;
        if row.triage.version != version {
            return Err(Error::Conflict { id, current: row.triage });
        }
        let seen = patch.seen_revision.map_or(row.revision, i64::from);
        if seen > row.revision {
            return Err(Error::Unseen { what: "revision", seen, newest: row.revision });
        }
        let unseen = seen < row.revision;
        apply(self, &id, row, patch, actor, unseen).await
    }

    /// Gives a row back the triage that it had, if it still has this version.
    async fn restore(
        &mut self,
        id: &str,
        before: &Triage,
        version: i64,
        actor: &str,
    ) -> Result<Triage, Error> {
        let (id, row) = load_covering(self, id).await?;
        if row.triage.version != version {
            return Err(Error::Conflict { id, current: row.triage });
        }
        let mut new = row.clone();
        new.triage = Triage { version, ..before.clone() };
        new.closing = match before.status {
            // Closed again, as it is now.
            Status::Closed => Some(Closing { severity: row.severity, count: row.count, here: true }),
            _ => None,
        };
        write(self, &id, &row, new, actor, false).await
    }

    /// Those of these rows that match now, oldest first. What words they hold does not change.
    async fn matching(
        &mut self,
        filter: &Filter,
        found: &[String],
    ) -> Result<Vec<(String, TriageRow)>, Error> {
        let mut select = Select::new(triage_columns!(), &Filter { q: None, ..filter.clone() });
        select.ids(found);
        select.push(" order by created_seq");
        let rows = self.all(select.statement()).await?;
        rows.iter().map(|row| Ok((row.try_get("id")?, TriageRow::read(row)?))).collect()
    }
}

/// Conflicts, unknown ids and unknown revisions concern one row; anything else fails the whole change.
pub(crate) fn tolerable(outcome: Result<Triage, Error>) -> Result<Result<Triage, Error>, Error> {
    match outcome {
        Err(error @ (Error::Conflict { .. } | Error::NotFound { .. } | Error::Unseen { .. })) => {
            Ok(Err(error))
        }
        Err(error) => Err(error),
        Ok(triage) => Ok(Ok(triage)),
    }
}

pub(crate) fn audit_entry(row: &AnyRow) -> Result<AuditEntry, Error> {
    Ok(AuditEntry {
        seq: row.try_get("seq")?,
        at: vedette_event::Micros(row.try_get("at")?),
        actor: row.try_get("actor")?,
        action: row.try_get("action")?,
        target: row.try_get("target")?,
        from: row.try_get("before")?,
        to: row.try_get("after")?,
    })
}
