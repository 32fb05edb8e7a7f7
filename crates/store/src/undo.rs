//! Taking changes back.
//!
//! In: a change's id, who asks. Out: what came of each row, as of a bulk change, which it is. Invariants: a row becomes what it was
//! before where it is as the change left it, and is a conflict elsewhere: what somebody else changed since is never taken back. What takes a change
//! back says as which entry it leaves the row, so that changes are taken back one after the other, the last one first, whatever came
//! and was taken back in between; equal values alone say nothing, since two people can come to the same.

use std::collections::BTreeMap;

use sqlx::{Row, any::AnyRow};

use crate::{
    bulk::Bulk,
    bulk_triage::{BULK_STEP, MAX_BULK, Work},
    error::Error,
    model::{BulkChange, BulkResult, Effect, Made, Once, Triaged},
    store::Store,
    triage::{Changing, Handled, TriageRow},
};

/// Of rows, each with an entry: the last entry about its triage, and the last before that one.
const AROUND: Bulk = Bulk {
    head: "with asked (name, entry) as (values ",
    columns: 2,
    tail: ") select name, last.seq as last_seq, last.after as last_after, former.seq as former_seq, former.after as former_after \
           from asked left join audit last on last.seq = (select seq from audit of_row where of_row.target = name and \
           action = 'triage' order by seq desc limit 1) left join audit former on former.seq = (select seq from audit of_row \
           where of_row.target = name and action = 'triage' and of_row.seq < entry order by seq desc limit 1)",
};

impl Store {
    /// Takes a change back: each row that is as the change left it is again what it was before; a result for each. That is a change,
    /// too, and can be taken back.
    pub async fn undo_triage(
        &self,
        change: i64,
        actor: &str,
        once: Option<&Once<BulkChange>>,
    ) -> Result<Made<BulkChange>, Error> {
        let mut work = match self.begin_work(actor, once).await? {
            Ok(work) => work,
            Err(answer) => return Ok(Made::Again(answer)),
        };
        let missing = || Error::NotFound { what: "change of alerts", id: change.to_string() };
        let by = self.maker_of(change).await?.ok_or_else(missing)?;
        if by != actor {
            return Err(Error::OfOther { change, by });
        }
        let mut several = self.changed_several_times(change).await?;
        let mut after = i64::MIN;
        loop {
            let entries = self.triage_entries(change, after).await?;
            let Some(last) = entries.last() else { break };
            after = last.seq;
            let whole = |entry: Entry| match several.get_mut(&entry.target) {
                Some(of_row) => of_row.take(),
                None => Some(entry),
            };
            let entries = entries.into_iter().filter_map(whole).filter(|entry| !work.did(&entry.target));
            let entries: Vec<Entry> = entries.collect();
            if entries.is_empty() {
                continue;
            }
            let step = work.take_back(&entries).await;
            if !work.goes_on(step, entries.iter().map(|entry| &entry.target))? {
                break;
            }
        }
        work.finish().await
    }

    /// How many rows a change of alerts really changed, if this person made it and there is anything left of it that can be taken back:
    /// a row that is as the change left it. Of what was taken back as a whole nothing is. Looked for among the change's first
    /// [`MAX_BULK`] rows that others touched, too.
    pub async fn change_of(&self, change: i64, actor: &str) -> Result<Option<u64>, Error> {
        if self.maker_of(change).await?.is_none_or(|by| by != actor) || !self.is_left(change).await? {
            return Ok(None);
        }
        // Of an index alone. What came back at once has an entry for that, too.
        let count = sqlx::query(
            "select sum(case action when 'triage' then 1 when 'recurred' then -1 else 0 end) as n from audit where change_id = $1",
        );
        let row = count.bind(change).fetch_one(&self.inner.searchers).await?;
        Ok(Some(u64::try_from(row.try_get::<i64, _>("n")?).unwrap_or(0)))
    }

    /// The change of this row's triage that stands last, if this person made it and it is of this row alone.
    pub async fn own_last_change(&self, id: &str, actor: &str) -> Result<Option<i64>, Error> {
        let last = sqlx::query(
            "select last.seq as seq, last.after as after, alerts.triage_version as version from alerts join audit last on \
             last.seq = (select seq from audit of_row where of_row.target = alerts.id and of_row.action = 'triage' \
             order by seq desc limit 1) where alerts.id = $1 and withdrawn is null and covered_by is null",
        );
        let Some(row) = last.bind(id).fetch_optional(&self.inner.readers).await? else { return Ok(None) };
        let after: Handled = serde_json::from_str(row.try_get("after")?)?;
        let left = Left::of(row.try_get("seq")?, &after);
        if left.version != row.try_get::<i64, _>("version")? {
            return Ok(None);
        }
        let change = sqlx::query(
            "select change_id from audit own where seq = $1 and target = $2 and actor = $3 and change_id is not null and not exists \
             (select 1 from audit other where other.change_id = own.change_id and other.action = 'triage' and other.target <> $2)",
        );
        let change = change.bind(left.as_of).bind(id).bind(actor).fetch_optional(&self.inner.readers).await?;
        Ok(change.map(|row| row.try_get("change_id")).transpose()?)
    }

    async fn is_left(&self, change: i64) -> Result<bool, Error> {
        // One row that nobody has changed since ends it, mostly the first.
        let untouched = sqlx::query(
            "select 1 from audit done where change_id = $1 and action = 'triage' and not exists (select 1 from audit since \
             where since.target = done.target and since.seq > done.seq and since.action = 'triage') limit 1",
        );
        if untouched.bind(change).fetch_optional(&self.inner.searchers).await?.is_some() {
            return Ok(true);
        }
        let last = sqlx::query(
            "select done.seq as seq, done.target as target, done.before as before, done.after as after, last.seq as last_seq, \
             last.after as last_after from (select seq, target, before, after from audit where change_id = $1 and action = 'triage' \
             order by seq limit $2) done join audit last on last.seq = (select seq from audit since where \
             since.target = done.target and since.action = 'triage' order by seq desc limit 1)",
        );
        let rows = last.bind(change).bind(MAX_BULK as i64).fetch_all(&self.inner.searchers).await?;
        for row in &rows {
            let after: Handled = serde_json::from_str(row.try_get("last_after")?)?;
            if Left::of(row.try_get("last_seq")?, &after).as_of == Entry::read(row)?.left().as_of {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What a change that was cut off has done: a result for each row, as it left it.
    pub(crate) async fn done_of(&self, change: i64) -> Result<Vec<BulkResult>, Error> {
        let rows = sqlx::query(
            "select target, action, after from audit where change_id = $1 and action in ('triage', 'recurred') order by seq",
        );
        let rows = rows.bind(change).fetch_all(&self.inner.readers).await?;
        let mut done: Vec<BulkResult> = Vec::with_capacity(rows.len());
        let mut places = BTreeMap::new();
        for row in &rows {
            let effect = match row.try_get("action")? {
                "triage" => Effect::Changed,
                _ => Effect::Returned,
            };
            let after: Handled = serde_json::from_str(row.try_get("after")?)?;
            let outcome = Ok(Triaged { triage: after.triage, effect });
            let id: String = row.try_get("target")?;
            match places.get(&id).and_then(|at: &usize| done.get_mut(*at)) {
                Some(told) => told.outcome = outcome,
                None => {
                    places.insert(id.clone(), done.len());
                    done.push(BulkResult { id, outcome });
                }
            }
        }
        Ok(done)
    }

    /// Who made a change of alerts' triage; none if there is no such change.
    async fn maker_of(&self, change: i64) -> Result<Option<String>, Error> {
        let by = sqlx::query(
            "select actor from audit where change_id = $1 and action = 'triage' order by seq limit 1",
        );
        let by = by.bind(change).fetch_optional(&self.inner.readers).await?;
        Ok(by.map(|row| row.try_get("actor")).transpose()?)
    }

    /// What a change did to rows' triage, in order, some at a time.
    async fn triage_entries(&self, change: i64, after: i64) -> Result<Vec<Entry>, Error> {
        let rows = sqlx::query(
            "select seq, target, before, after from audit where change_id = $1 and seq > $2 and action = 'triage' \
             order by seq limit $3",
        );
        let rows =
            rows.bind(change).bind(after).bind(BULK_STEP as i64).fetch_all(&self.inner.readers).await?;
        rows.iter().map(Entry::read).collect()
    }

    /// What a change did in all to the rows that it changed several times, since they were named so: at most [`MAX_BULK`] entries.
    /// Taking back one after the other would end at what was there before the last.
    async fn changed_several_times(&self, change: i64) -> Result<BTreeMap<String, Option<Entry>>, Error> {
        let rows = sqlx::query(
            "select seq, target, before, after from audit where change_id = $1 and action = 'triage' and target in \
             (select target from audit where change_id = $1 and action = 'triage' group by target having count(*) > 1) \
             order by seq",
        );
        let rows = rows.bind(change).fetch_all(&self.inner.readers).await?;
        let mut several: BTreeMap<String, Option<Entry>> = BTreeMap::new();
        for row in &rows {
            let next = Entry::read(row)?;
            match several.get_mut(&next.target) {
                None => drop(several.insert(next.target.clone(), Some(next))),
                // Where somebody else came in between, only what came after that is this change's to take back.
                Some(Some(all)) if all.after.triage.version == next.before.triage.version => {
                    (all.seq, all.after) = (next.seq, next.after);
                }
                Some(all) => *all = Some(next),
            }
        }
        Ok(several)
    }
}

/// What a change did to one row.
struct Entry {
    seq: i64,
    /// Of a row that the change changed several times the first, else the same.
    first: i64,
    target: String,
    before: Handled,
    after: Handled,
}

impl Entry {
    fn read(row: &AnyRow) -> Result<Self, Error> {
        let (before, after): (&str, &str) = (row.try_get("before")?, row.try_get("after")?);
        let seq = row.try_get("seq")?;
        Ok(Self {
            seq,
            first: seq,
            target: row.try_get("target")?,
            before: serde_json::from_str(before)?,
            after: serde_json::from_str(after)?,
        })
    }

    fn left(&self) -> Left {
        Left::of(self.seq, &self.after)
    }
}

/// How an entry left its row.
#[derive(Debug, Clone, Copy)]
struct Left {
    version: i64,
    /// The `seq` of the first entry that left it so: what takes a change back leaves it as an earlier entry had, and says which.
    as_of: i64,
}

impl Left {
    fn of(seq: i64, after: &Handled) -> Self {
        Self { version: after.triage.version, as_of: after.again.unwrap_or(seq) }
    }
}

/// What was done to a row's triage last, and last before an entry.
struct Around {
    last: Option<Left>,
    before: Option<Left>,
}

impl Around {
    fn read(row: &AnyRow) -> Result<Self, Error> {
        let left = |seq: &str, after: &str| -> Result<Option<Left>, Error> {
            let Some(seq) = row.try_get::<Option<i64>, _>(seq)? else { return Ok(None) };
            let after: Handled = serde_json::from_str(row.try_get(after)?)?;
            Ok(Some(Left::of(seq, &after)))
        };
        Ok(Self { last: left("last_seq", "last_after")?, before: left("former_seq", "former_after")? })
    }

    /// Whether the row, which has this version, is as an entry left it: nobody has changed it since, or all that was changed since has
    /// been taken back.
    fn stands(&self, entry: &Entry, version: i64) -> bool {
        self.last.is_some_and(|last| last.version == version && last.as_of == entry.left().as_of)
    }

    /// Which entry had left the row as it was before an entry; none where something that is no such entry changed it in between.
    fn before(&self, entry: &Entry) -> Option<i64> {
        match self.before {
            None => Some(0),
            Some(before) => Some(before.as_of).filter(|_| before.version == entry.before.triage.version),
        }
    }
}

impl Work<'_> {
    async fn take_back(&mut self, entries: &[Entry]) -> Result<(), Error> {
        let mut tx = self.next().await?;
        let mut around = BTreeMap::new();
        let found = tx.all_bulk(AROUND, entries, |ask, entry| ask.bind(&entry.target).bind(entry.first));
        for row in found.await? {
            around.insert(row.try_get::<String, _>("name")?, Around::read(&row)?);
        }
        let plan = |entry: &Entry, id: String, row: TriageRow| {
            let around = around.get(&entry.target);
            // A notice that an alert covers by now stands for that alert, whose version says nothing of the notice's changes: what it
            // has may be another person's verdict.
            let stands =
                id == entry.target && around.is_some_and(|around| around.stands(entry, row.triage.version));
            if !stands || row.withdrawn {
                return Err(Error::Conflict { id, current: row.triage });
            }
            let again = around.and_then(|around| around.before(entry));
            Ok(Changing::back(id, row, entry.before.clone(), again))
        };
        self.named(tx, entries, |entry| &entry.target, plan).await
    }
}
