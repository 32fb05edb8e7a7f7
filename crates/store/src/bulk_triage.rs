//! One change of many rows, and taking changes back.
//!
//! In: a [`BulkTarget`] and a patch, or a change's id; who asks. Out: what came of each row. Invariants: each row succeeds or fails on
//! its own; nothing that was not seen is changed; the work goes in steps of [`BULK_STEP`] rows, each a transaction, between which
//! publishing has its turn; all entries of the audit log that one request makes bear one change id, by which what was done is taken
//! back, also where the work ended in the middle; what somebody changed since is never taken back.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::Row;

use crate::{
    bulk::Bulk,
    error::Error,
    filter::Select,
    kept_answers::{Begun, UnderWay},
    model::{BulkChange, BulkItem, BulkResult, BulkTarget, Filter, Made, Once, TriagePatch, Triaged},
    store::Store,
    transaction::WriteTx,
    triage::{Changing, Handled, TriageRow},
};

/// Rows that one bulk change names at most; what it finds by a filter has no bound.
pub const MAX_BULK: usize = 1_000;

/// Rows of one transaction: publishing waits for some tens of milliseconds at most.
pub const BULK_STEP: usize = 128;

/// Rows by their ids; of a covered notice the alert that covers it.
const NAMED: Bulk = Bulk {
    head: concat!(
        "select asked.name as name, ",
        triage_columns!(),
        " from (select id as name, coalesce(covered_by, id) as of_id from alerts where id in ("
    ),
    columns: 1,
    tail: ")) asked cross join alerts on id = of_id",
};

/// A row that a filter found.
struct Found {
    id: String,
    /// Whether it was in the list at the place in commit order that was seen.
    listed: Listed,
}

/// Whether a row was in the list at a place in commit order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listed {
    Was,
    WasNot,
    /// Somebody has triaged it since. That is a conflict, whatever it was then: each look into the past costs several statements, and
    /// a list in which all has been triaged since would take that for every row.
    Triaged,
}

/// What one request does, step by step. A step is committed when the next one begins, the last together with the answer.
struct Work<'a> {
    store: &'a Store,
    actor: &'a str,
    open: Option<(WriteTx, Vec<BulkResult>)>,
    done: BulkChange,
    failed: bool,
    _under_way: Option<UnderWay>,
}

impl Store {
    /// Changes many rows; each succeeds or fails on its own. Where the store fails in the middle, the answer says of which rows.
    pub async fn bulk_triage(
        &self,
        target: &BulkTarget,
        patch: &TriagePatch,
        actor: &str,
        once: Option<&Once<BulkChange>>,
    ) -> Result<Made<BulkChange>, Error> {
        let mut work = match self.begin_work(actor, once).await? {
            Ok(work) => work,
            Err(answer) => return Ok(Made::Again(answer)),
        };
        match target {
            BulkTarget::Items(items) if items.len() > MAX_BULK => {
                return Err(Error::TooMany { max: MAX_BULK });
            }
            BulkTarget::Items(items) => {
                for (at, some) in items.chunks(BULK_STEP).enumerate() {
                    let step = work.patch_named(some, patch).await;
                    let left = items.iter().skip(at * BULK_STEP).map(|item| &item.id);
                    if !work.goes_on(step, left)? {
                        break;
                    }
                }
            }
            BulkTarget::Matching { filter, as_of } => {
                // Looked for before the transactions, since that may mean reading every row.
                let found = self.existing_at(filter, *as_of).await?;
                for (at, some) in found.chunks(BULK_STEP).enumerate() {
                    let step = work.patch_found(filter, *as_of, some, patch).await;
                    let left = found.iter().skip(at * BULK_STEP).map(|found| &found.id);
                    if !work.goes_on(step, left)? {
                        break;
                    }
                }
            }
        }
        work.finish(once).await
    }

    /// Takes a change back: each row that nobody has changed since is again what it was before; a result for each. That is a change,
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
            let entries: Vec<Entry> = entries.into_iter().filter_map(whole).collect();
            if entries.is_empty() {
                continue;
            }
            let step = work.take_back(&entries).await;
            if !work.goes_on(step, entries.iter().map(|entry| &entry.target))? {
                break;
            }
        }
        work.finish(once).await
    }

    /// How many rows a change of alerts really changed, if this person made it and there is anything left of it that can be taken back:
    /// a row that nobody has triaged since. Of what was taken back as a whole nothing is.
    pub async fn change_of(&self, change: i64, actor: &str) -> Result<Option<u64>, Error> {
        if self.maker_of(change).await?.is_none_or(|by| by != actor) {
            return Ok(None);
        }
        // One such row ends it, mostly the first.
        let left = sqlx::query(
            "select 1 from audit done where change_id = $1 and action = 'triage' and not exists (select 1 from audit since \
             where since.target = done.target and since.seq > done.seq and since.action = 'triage') limit 1",
        );
        if left.bind(change).fetch_optional(&self.inner.searchers).await?.is_none() {
            return Ok(None);
        }
        // Of an index alone. What came back at once has an entry for that, too.
        let count = sqlx::query(
            "select sum(case action when 'triage' then 1 when 'recurred' then -1 else 0 end) as n from audit where change_id = $1",
        );
        let row = count.bind(change).fetch_one(&self.inner.searchers).await?;
        Ok(Some(u64::try_from(row.try_get::<i64, _>("n")?).unwrap_or(0)))
    }

    /// Who made a change of alerts' triage; none if there is no such change.
    async fn maker_of(&self, change: i64) -> Result<Option<String>, Error> {
        let by = sqlx::query(
            "select actor from audit where change_id = $1 and action = 'triage' order by seq limit 1",
        );
        let by = by.bind(change).fetch_optional(&self.inner.readers).await?;
        Ok(by.map(|row| row.try_get("actor")).transpose()?)
    }

    /// The rows that match now and were in the list at `as_of`, in the order in which they appeared; an error if they are more.
    pub async fn listed_at(&self, filter: &Filter, as_of: i64, most: usize) -> Result<Vec<String>, Error> {
        let found = self.existing_at(filter, as_of).await?;
        let mut listed = Vec::new();
        for Found { id, listed: then } in found {
            let was = match then {
                Listed::Was => true,
                Listed::WasNot => false,
                Listed::Triaged => self.was_listed(filter, as_of, &id).await?,
            };
            if was {
                listed.push(id);
            }
            if listed.len() > most {
                return Err(Error::TooMany { max: most });
            }
        }
        Ok(listed)
    }

    /// The rows that match and existed at `as_of`, and whether they were in the list then. What has not changed since was, nor does
    /// a revision alone give a row another status or owner; of others it is asked what they were: one can match now because its
    /// snooze ended, or because it is in a case or more severe since.
    async fn existing_at(&self, filter: &Filter, as_of: i64) -> Result<Vec<Found>, Error> {
        let newest = self.newest_seq().await?;
        if as_of > newest {
            return Err(Error::Unseen { what: "seq", seen: as_of, newest });
        }
        let mut select = Select::uncapped("id, seq, triage_seq", filter);
        select.and_int("created_seq <= ", as_of);
        select.push(" order by created_seq");
        let rows = select.statement().fetch_all(&self.inner.searchers).await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            let (id, seq): (String, i64) = (row.try_get("id")?, row.try_get("seq")?);
            let listed = if seq <= as_of || !filter.changes() {
                Listed::Was
            } else if row.try_get::<i64, _>("triage_seq")? > as_of {
                Listed::Triaged
            } else if !filter.changes_without_triage() || self.was_listed(filter, as_of, &id).await? {
                Listed::Was
            } else {
                Listed::WasNot
            };
            found.push(Found { id, listed });
        }
        Ok(found)
    }

    async fn was_listed(&self, filter: &Filter, as_of: i64, id: &str) -> Result<bool, Error> {
        let Some(row) = self.own_row(id).await? else { return Ok(false) };
        let past = self.as_it_was(row, as_of).await?;
        let known = past.exact || (filter.severity.is_empty() && filter.state.is_empty());
        Ok(known && filter.holds(&past.row))
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

    /// Begins the work of a request, or gives what was answered to it before.
    async fn begin_work<'a>(
        &'a self,
        actor: &'a str,
        once: Option<&Once<BulkChange>>,
    ) -> Result<Result<Work<'a>, String>, Error> {
        let under_way = once.map(|once| self.under_way(&once.key)).transpose()?;
        if once.is_some()
            && let Begun::Again(answer) = self.begin_once(once).await?
        {
            return Ok(Err(answer));
        }
        let done = BulkChange { change_id: None, results: Vec::new() };
        Ok(Ok(Work { store: self, actor, open: None, done, failed: false, _under_way: under_way }))
    }
}

/// What a change did to one row.
struct Entry {
    seq: i64,
    target: String,
    before: Handled,
    after: Handled,
}

impl Entry {
    fn read(row: &sqlx::any::AnyRow) -> Result<Self, Error> {
        let (before, after): (&str, &str) = (row.try_get("before")?, row.try_get("after")?);
        Ok(Self {
            seq: row.try_get("seq")?,
            target: row.try_get("target")?,
            before: serde_json::from_str(before)?,
            after: serde_json::from_str(after)?,
        })
    }
}

impl Work<'_> {
    /// The next step's transaction; what the one before did is done.
    async fn next(&mut self) -> Result<WriteTx, Error> {
        if let Some((tx, results)) = self.open.take() {
            let change = tx.change_id;
            tx.commit().await?;
            self.done.change_id = change;
            self.done.results.extend(results);
        }
        let mut tx = self.store.begin().await?;
        tx.change_id = self.done.change_id;
        Ok(tx)
    }

    /// Whether to go on after a step. Where the store failed after something was done, what is left is told to be.
    fn goes_on<'r>(
        &mut self,
        step: Result<(), Error>,
        left: impl Iterator<Item = &'r String>,
    ) -> Result<bool, Error> {
        match step {
            Ok(()) => Ok(true),
            Err(error) if self.done.change_id.is_none() => Err(error),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a change of many alerts ended early"
                );
                let results = &mut self.done.results;
                let told: BTreeSet<String> = results.iter().map(|result| result.id.clone()).collect();
                let left = left.filter(|id| !told.contains(*id));
                results.extend(left.map(|id| BulkResult { id: id.clone(), outcome: Err(Error::Unreached) }));
                self.failed = true;
                Ok(false)
            }
        }
    }

    /// Commits the last step, and with it the answer, if that is to be kept.
    async fn finish(mut self, once: Option<&Once<BulkChange>>) -> Result<Made<BulkChange>, Error> {
        if self.failed {
            return Ok(Made::New(self.done));
        }
        let (mut tx, results) = match self.open.take() {
            Some(open) => open,
            None if once.is_none() => return Ok(Made::New(self.done)),
            None => (self.store.begin().await?, Vec::new()),
        };
        let last: Vec<String> = results.iter().map(|result| result.id.clone()).collect();
        let (before, told) = (self.done.change_id, self.done.results.len());
        self.done.change_id = tx.change_id.or(before);
        self.done.results.extend(results);
        let committed = match tx.keep_answer(once, &self.done).await {
            Ok(()) => tx.commit().await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = committed {
            self.done.change_id = before;
            self.done.results.truncate(told);
            self.goes_on(Err(error), last.iter())?;
        }
        Ok(Made::New(self.done))
    }

    async fn patch_named(&mut self, items: &[BulkItem], patch: &TriagePatch) -> Result<(), Error> {
        let plan = |item: &BulkItem, id, row: TriageRow| {
            let seen_revision = item.seen_revision.or(patch.seen_revision);
            row.patched(id, item.version, &TriagePatch { seen_revision, ..patch.clone() })
        };
        self.named(items, |item| &item.id, plan).await
    }

    async fn take_back(&mut self, entries: &[Entry]) -> Result<(), Error> {
        let plan = |entry: &Entry, id, row: TriageRow| {
            // A notice that an alert covers by now stands for that alert, whose version says nothing of the notice's changes: what it
            // has may be another person's verdict.
            let moved = id != entry.target || row.triage.version != entry.after.triage.version;
            if moved || row.withdrawn {
                return Err(Error::Conflict { id, current: row.triage });
            }
            Ok(Changing::back(id, row, entry.before.clone()))
        };
        self.named(entries, |entry| &entry.target, plan).await
    }

    /// A step of rows that are named.
    async fn named<T>(
        &mut self,
        items: &[T],
        name: impl Fn(&T) -> &String,
        plan: impl Fn(&T, String, TriageRow) -> Result<Changing, Error>,
    ) -> Result<(), Error> {
        let mut tx = self.next().await?;
        let names: Vec<&String> = items.iter().map(&name).collect();
        let mut rows = BTreeMap::new();
        let mut ids = BTreeMap::new();
        for row in tx.all_bulk(NAMED, &names, |select, name| select.bind(*name)).await? {
            let id: String = row.try_get("id")?;
            ids.insert(row.try_get::<String, _>("name")?, id.clone());
            rows.insert(id, TriageRow::read(&row)?);
        }
        let (mut results, mut rest) = (Vec::with_capacity(items.len()), items);
        while !rest.is_empty() {
            // What is named again is changed after what it was named for first.
            let mut once = BTreeSet::new();
            let again = |item: &T| ids.get(name(item)).is_some_and(|id| !once.insert(id.as_str()));
            let (now, later) = rest.split_at(rest.iter().position(again).unwrap_or(rest.len()));
            let planned = now.iter().map(|item| {
                let (name, missing) =
                    (name(item), || Error::NotFound { what: "alert", id: name(item).clone() });
                let row = ids.get(name).and_then(|id| Some((id.clone(), rows.get(id)?.clone())));
                (name.clone(), row.ok_or_else(missing).and_then(|(id, row)| plan(item, id, row)))
            });
            let planned = planned.collect();
            let (done, changed) = tx.carry_out(planned, self.actor).await?;
            results.extend(done);
            rows.extend(changed);
            rest = later;
        }
        self.open = Some((tx, results));
        Ok(())
    }

    async fn patch_found(
        &mut self,
        filter: &Filter,
        as_of: i64,
        found: &[Found],
        patch: &TriagePatch,
    ) -> Result<(), Error> {
        let mut tx = self.next().await?;
        let strangers: BTreeSet<&str> = found
            .iter()
            .filter(|found| found.listed == Listed::WasNot)
            .map(|found| found.id.as_str())
            .collect();
        let ids: Vec<String> = found.iter().map(|found| found.id.clone()).collect();
        let plan = |(id, row): (String, TriageRow)| {
            let plan = if strangers.contains(id.as_str()) {
                Err(Error::NotListed { id: id.clone() })
            } else if row.triage_seq > as_of {
                Err(Error::Conflict { id: id.clone(), current: row.triage })
            } else {
                let unseen = row.revision_seq > as_of;
                Ok(Changing::by_patch(id.clone(), row, patch, unseen))
            };
            (id, plan)
        };
        let planned = tx.matching(filter, &ids).await?.into_iter().map(plan).collect();
        let (results, _) = tx.carry_out(planned, self.actor).await?;
        self.open = Some((tx, results));
        Ok(())
    }
}

impl WriteTx {
    /// Carries out what is planned of rows, each named once: a result for each, in order, and the rows as they are then.
    pub(crate) async fn carry_out(
        &mut self,
        planned: Vec<(String, Result<Changing, Error>)>,
        actor: &str,
    ) -> Result<(Vec<BulkResult>, Vec<(String, TriageRow)>), Error> {
        let (mut changing, mut refused) = (Vec::new(), Vec::new());
        for (name, plan) in planned {
            refused.push((name, plan.map(|plan| changing.push(plan)).err()));
        }
        let ids: Vec<String> = changing.iter().map(|plan| plan.id.clone()).collect();
        let mut done = self.write_triage(changing, actor).await?.into_iter().zip(ids);
        let (mut results, mut rows) = (Vec::with_capacity(refused.len()), Vec::new());
        for (name, error) in refused {
            let outcome = match error {
                Some(error) => Err(error),
                None => {
                    let Some(((row, effect), id)) = done.next() else { continue };
                    let triage = row.triage.clone();
                    rows.push((id, row));
                    Ok(Triaged { triage, effect })
                }
            };
            results.push(BulkResult { id: name, outcome });
        }
        Ok((results, rows))
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
