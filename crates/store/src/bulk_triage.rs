//! One change of many rows.
//!
//! In: a [`BulkTarget`] and a patch; who asks. Out: what came of each row. Invariants: each row succeeds or fails on
//! its own; nothing that was not seen is changed; the work goes in steps of [`BULK_STEP`] rows, each a transaction, between which
//! publishing has its turn; all entries of the audit log that one request makes bear one change id, by which what was done is taken
//! back, also where the work ended in the middle, and where the same request with its key went on with it.

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
    triage::{Changing, TriageRow},
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
pub(crate) struct Work<'a> {
    store: &'a Store,
    actor: &'a str,
    once: Option<&'a Once<BulkChange>>,
    open: Option<(WriteTx, Vec<BulkResult>)>,
    done: BulkChange,
    /// The rows that this request had changed when it was cut off.
    before: BTreeSet<String>,
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
                let items: Vec<_> = items.iter().filter(|item| !work.did(&item.id)).collect();
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
                let mut found = self.existing_at(filter, *as_of).await?;
                found.retain(|found| !work.did(&found.id));
                for (at, some) in found.chunks(BULK_STEP).enumerate() {
                    let step = work.patch_found(filter, *as_of, some, patch).await;
                    let left = found.iter().skip(at * BULK_STEP).map(|found| &found.id);
                    if !work.goes_on(step, left)? {
                        break;
                    }
                }
            }
        }
        work.finish().await
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

    /// Begins the work of a request, or gives what was answered to it before.
    pub(crate) async fn begin_work<'a>(
        &'a self,
        actor: &'a str,
        once: Option<&'a Once<BulkChange>>,
    ) -> Result<Result<Work<'a>, String>, Error> {
        let _under_way = once.map(|once| self.under_way(&once.key)).transpose()?;
        let change_id = match once {
            None => None,
            Some(_) => match self.begin_once(once).await? {
                Begun::Again(answer) => return Ok(Err(answer)),
                Begun::New(tx) => tx.change_id,
            },
        };
        let results = match change_id {
            Some(change) => self.done_of(change).await?,
            None => Vec::new(),
        };
        let before = results.iter().map(|result| result.id.clone()).collect();
        let done = BulkChange { change_id, results };
        Ok(Ok(Work { store: self, actor, once, open: None, done, before, failed: false, _under_way }))
    }
}

impl Work<'_> {
    /// Whether this request changed a row before it was cut off.
    pub(crate) fn did(&self, id: &str) -> bool {
        self.before.contains(id)
    }

    /// The next step's transaction; what the one before did is done.
    pub(crate) async fn next(&mut self) -> Result<WriteTx, Error> {
        if let Some((mut tx, results)) = self.open.take() {
            let change = tx.change_id;
            if let (Some(once), None, Some(change)) = (self.once, self.done.change_id, change) {
                tx.keep_begun(&once.key, change).await?;
            }
            tx.commit().await?;
            self.done.change_id = change;
            self.done.results.extend(results);
        }
        let mut tx = self.store.begin().await?;
        tx.change_id = self.done.change_id;
        Ok(tx)
    }

    /// Whether to go on after a step. Where the store failed after something was done, what is left is told to be.
    pub(crate) fn goes_on<'r>(
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
    pub(crate) async fn finish(mut self) -> Result<Made<BulkChange>, Error> {
        if self.failed {
            return Ok(Made::New(self.done));
        }
        let (mut tx, results) = match self.open.take() {
            Some(open) => open,
            None if self.once.is_none() => return Ok(Made::New(self.done)),
            None => (self.store.begin().await?, Vec::new()),
        };
        let last: Vec<String> = results.iter().map(|result| result.id.clone()).collect();
        let (before, told) = (self.done.change_id, self.done.results.len());
        self.done.change_id = tx.change_id.or(before);
        self.done.results.extend(results);
        let committed = match tx.keep_answer(self.once, &self.done).await {
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

    async fn patch_named(&mut self, items: &[&BulkItem], patch: &TriagePatch) -> Result<(), Error> {
        let plan = |item: &&BulkItem, id, row: TriageRow| {
            let seen_revision = item.seen_revision.or(patch.seen_revision);
            row.patched(id, item.version, &TriagePatch { seen_revision, ..patch.clone() })
        };
        let tx = self.next().await?;
        self.named(tx, items, |item| &item.id, plan).await
    }

    /// A step of rows that are named.
    pub(crate) async fn named<T>(
        &mut self,
        mut tx: WriteTx,
        items: &[T],
        name: impl Fn(&T) -> &String,
        plan: impl Fn(&T, String, TriageRow) -> Result<Changing, Error>,
    ) -> Result<(), Error> {
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
