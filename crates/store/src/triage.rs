//! Triage: what analysts do with a row, apart from its revisions and with a version of its own.
//!
//! In: [`TriagePatch`]es, comments, each with its actor; what many rows become ([`Changing`]). Out: the row's new [`Triage`], the
//! history. Invariants: a change at another version than the stored one changes nothing; every change is in the audit log, with all
//! that it takes to take it back; a row closed from an older revision than the newest comes back at once, marked as recurred.

use serde::{Deserialize, Serialize};
use sqlx::{Row, any::AnyRow};
use vedette_event::{Micros, Severity};

use crate::{
    alerts::severity_of,
    bulk::Bulk,
    error::Error,
    kept_answers::Begun,
    model::{
        AuditEntry, ChangeKind, Disposition, Effect, Made, Once, PatchedTriage, Status, Triage, TriagePatch,
    },
    store::Store,
    transaction::{Audit, SYSTEM, WriteTx},
};

/// The newest entries of a history that are read at once.
const MAX_HISTORY: i64 = 1_000;

/// The columns of [`TriageRow::read`].
macro_rules! triage_columns {
    () => {
        "id, revision, severity, event_count, status, assignee, disposition, triage_version, recurred, \
         closed_severity, closed_count, closed_here, closed_at, created_seq, revision_seq, triage_seq, covered_by, withdrawn, \
         case_id, snooze_id"
    };
}

/// Stands for none in a list of values, which has no null of a kind.
const NONE: i64 = i64::MIN;

const TRIAGE: Bulk = Bulk {
    head: "with given (of_id, new_status, owner, verdict, new_version, back, level, events, own, since, at_seq) as (values ",
    columns: 11,
    tail: ") update alerts set status = new_status, assignee = nullif(owner, ''), disposition = nullif(verdict, ''), \
           triage_version = new_version, recurred = back, closed_severity = nullif(level, -9223372036854775808), \
           closed_count = nullif(events, -9223372036854775808), closed_here = own, \
           closed_at = nullif(since, -9223372036854775808), triage_seq = at_seq, seq = at_seq from given where id = of_id",
};

/// What a row was like when it was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Closing {
    /// Its severity.
    pub(crate) severity: Severity,
    /// Its count.
    pub(crate) count: i64,
    /// False if a continuation took this over from its predecessor; what a notice had shown is its alert's own.
    pub(crate) here: bool,
}

impl Closing {
    /// True if a row has become so much worse since that it is new again.
    pub(crate) fn outgrown(self, severity: Severity, count: i64) -> bool {
        severity > self.severity || count >= self.count.saturating_mul(10)
    }
}

/// What the audit log says of a row before or after a change of its triage.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Handled {
    #[serde(flatten)]
    pub(crate) triage: Triage,
    /// None in entries of earlier builds.
    #[serde(default)]
    pub(crate) recurred: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) closing: Option<Closing>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) closed_at: Option<Micros>,
    /// After a change was taken back: the `seq` of the entry that had left the row as it is again; 0 is the row as it appeared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) again: Option<i64>,
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
    pub(crate) closed_at: Option<Micros>,
    /// The number with which the row appeared.
    pub(crate) created_seq: i64,
    pub(crate) revision_seq: i64,
    pub(crate) triage_seq: i64,
    covered_by: Option<String>,
    pub(crate) withdrawn: bool,
    pub(crate) case: Option<i64>,
    pub(crate) snooze: Option<i64>,
}

impl TriageRow {
    /// That of a row that is not there yet.
    pub(crate) fn fresh(severity: Severity) -> Self {
        Self {
            triage: Triage::fresh(),
            revision: 0,
            severity,
            count: 0,
            recurred: false,
            closing: None,
            closed_at: None,
            created_seq: 0,
            revision_seq: 0,
            triage_seq: 0,
            covered_by: None,
            withdrawn: false,
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
            closed_at: row.try_get::<Option<i64>, _>("closed_at")?.map(Micros),
            created_seq: row.try_get("created_seq")?,
            revision_seq: row.try_get("revision_seq")?,
            triage_seq: row.try_get("triage_seq")?,
            covered_by: row.try_get("covered_by")?,
            withdrawn: row.try_get::<Option<String>, _>("withdrawn")?.is_some(),
            case: row.try_get("case_id")?,
            snooze: row.try_get("snooze_id")?,
        })
    }

    /// What a patch makes of it, if it has this version.
    pub(crate) fn patched(self, id: String, version: i64, patch: &TriagePatch) -> Result<Changing, Error> {
        if self.triage.version != version {
            return Err(Error::Conflict { id, current: self.triage });
        }
        let seen = patch.seen_revision.map_or(self.revision, i64::from);
        if seen > self.revision {
            return Err(Error::Unseen { what: "revision", seen, newest: self.revision });
        }
        let unseen = seen < self.revision;
        Ok(Changing::by_patch(id, self, patch, unseen))
    }

    /// What the audit log says of it.
    pub(crate) fn says(&self) -> Result<String, Error> {
        self.says_again(None)
    }

    /// The same after a change was taken back, and which entry had left it so before.
    fn says_again(&self, again: Option<i64>) -> Result<String, Error> {
        let Self { triage, recurred, closing, closed_at, .. } = self.clone();
        Ok(serde_json::to_string(&Handled { triage, recurred: Some(recurred), closing, closed_at, again })?)
    }

    /// Makes a closed row new again. Its version stays: revisions never change it.
    fn reopen(&mut self) {
        self.triage.status = Status::New;
        self.triage.disposition = None;
        self.recurred = true;
        (self.closing, self.closed_at) = (None, None);
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

/// Makes a closed row new again, for a publication that stores it; the `seq` at which it is to be stored.
pub(crate) async fn reopen(tx: &mut WriteTx, id: &str, row: &mut TriageRow) -> Result<i64, Error> {
    let before = Some(row.says()?);
    row.reopen();
    let seq = tx.change(ChangeKind::Triage, id);
    let entry = Audit { actor: SYSTEM, action: "recurred", target: id, before, after: Some(row.says()?) };
    tx.audit(seq, entry).await?;
    Ok(seq)
}

/// What a change makes of a row.
pub(crate) struct Changing {
    pub(crate) id: String,
    pub(crate) before: TriageRow,
    pub(crate) after: TriageRow,
    /// It was closed from an older revision, or is worse than it was at closing.
    pub(crate) returns: bool,
    /// As [`Handled::again`].
    again: Option<i64>,
}

impl Changing {
    /// By a patch; `unseen` says that the newest revision came after what the analyst saw.
    pub(crate) fn by_patch(id: String, row: TriageRow, patch: &TriagePatch, unseen: bool) -> Self {
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
        Self { id, before: row, after: new, returns: closes && unseen, again: None }
    }

    /// Back to what an entry of the audit log says was there before, as the entry `again` had left it.
    pub(crate) fn back(id: String, row: TriageRow, was: Handled, again: Option<i64>) -> Self {
        let mut new = row.clone();
        new.triage = Triage { version: row.triage.version, ..was.triage };
        new.recurred = was.recurred.unwrap_or(false);
        (new.closing, new.closed_at) = (was.closing, was.closed_at);
        // What came in between counts as if it had stayed closed.
        let returns = new.closing.is_some_and(|closing| closing.outgrown(row.severity, row.count));
        Self { id, before: row, after: new, returns, again }
    }

    fn nothing(&self) -> bool {
        let of = |row: &TriageRow| (row.triage.clone(), row.recurred, row.closing);
        of(&self.before) == of(&self.after)
    }
}

impl WriteTx {
    /// Writes what rows become, each named once, with an entry of the audit log for each that becomes anything new; what came of each.
    pub(crate) async fn write_triage(
        &mut self,
        changing: Vec<Changing>,
        actor: &str,
    ) -> Result<Vec<(TriageRow, Effect)>, Error> {
        let mut done = Vec::with_capacity(changing.len());
        let (mut entries, mut rows) = (Vec::new(), Vec::new());
        for one in changing {
            if one.nothing() {
                done.push((one.after, Effect::Unchanged));
                continue;
            }
            let (id, mut new) = (one.id, one.after);
            new.triage.version += 1;
            new.closed_at = match new.triage.status {
                Status::Closed => new.closed_at.or(Some(self.now)),
                _ => None,
            };
            let mut seq = self.change(ChangeKind::Triage, &id);
            entries.push((seq, actor, "triage", id.clone(), one.before.says()?, new.says_again(one.again)?));
            if one.returns {
                let before = new.says()?;
                new.reopen();
                seq = self.change(ChangeKind::Triage, &id);
                entries.push((seq, SYSTEM, "recurred", id.clone(), before, new.says()?));
            }
            let effect = if one.returns { Effect::Returned } else { Effect::Changed };
            done.push((new.clone(), effect));
            rows.push((id, new, seq));
        }
        let entries = entries.iter().map(|(seq, actor, action, target, before, after)| {
            let (before, after) = (Some(before.clone()), Some(after.clone()));
            (*seq, Audit { actor, action, target, before, after })
        });
        self.audit_all(&entries.collect::<Vec<_>>()).await?;
        self.store_triage(&rows).await?;
        Ok(done)
    }

    /// Writes rows' triage as it is, each at its `seq`.
    pub(crate) async fn store_triage(&mut self, rows: &[(String, TriageRow, i64)]) -> Result<(), Error> {
        self.run_bulk(TRIAGE, rows, |update, (id, row, seq)| {
            let TriageRow { triage, recurred, closing, closed_at, .. } = row;
            update
                .bind(id)
                .bind(triage.status.name())
                .bind(triage.assignee.as_deref().unwrap_or_default())
                .bind(triage.disposition.map_or("", Disposition::name))
                .bind(triage.version)
                .bind(i64::from(*recurred))
                .bind(closing.map_or(NONE, |closing| closing.severity as i64))
                .bind(closing.map_or(NONE, |closing| closing.count))
                .bind(i64::from(closing.is_some_and(|closing| closing.here)))
                .bind(closed_at.map_or(NONE, |at| at.0))
                .bind(seq)
        })
        .await
        .map(drop)
    }
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
    ) -> Result<PatchedTriage, Error> {
        let mut tx = self.begin().await?;
        let (id, row) = load_covering(&mut tx, id).await?;
        let changing = row.patched(id, version, patch)?;
        let done = tx.write_triage(vec![changing], actor).await?.pop();
        let change_id = tx.change_id;
        tx.commit().await?;
        let (TriageRow { triage, .. }, effect) =
            done.ok_or_else(|| Error::Corrupt { detail: "a change without an outcome".to_owned() })?;
        Ok(PatchedTriage { triage, effect, change_id })
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
            change_id: tx.change_id,
        };
        tx.commit_once(once, made).await
    }

    /// Who changed what about an alert (and the notices it covers), oldest first; the newest thousand entries.
    pub async fn history(&self, id: &str) -> Result<Vec<AuditEntry>, Error> {
        let rows = sqlx::query(
            "select seq, at, actor, action, target, before, after, change_id from audit where target in (select id from alerts \
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

pub(crate) fn audit_entry(row: &AnyRow) -> Result<AuditEntry, Error> {
    Ok(AuditEntry {
        seq: row.try_get("seq")?,
        at: vedette_event::Micros(row.try_get("at")?),
        actor: row.try_get("actor")?,
        action: row.try_get("action")?,
        target: row.try_get("target")?,
        from: row.try_get("before")?,
        to: row.try_get("after")?,
        change_id: row.try_get("change_id")?,
    })
}
