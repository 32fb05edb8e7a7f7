//! One write transaction: checks the lease, hands out `seq`, records changes.
//!
//! In: statements. Out: all of them committed, or none. Invariants: the `engine` row is locked from the first
//! statement to the commit, so numbers rise in commit order; after a failure of the disk nothing is written any more.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use sqlx::{Any, Row, Transaction, any::AnyArguments, any::AnyRow, query::Query};
use vedette_event::Micros;

use crate::{
    bulk::Bulk,
    error::Error,
    model::{ChangeKind, Written},
    seal::Seal,
    store::{Inner, Store, now},
};

const AUDIT: Bulk = Bulk {
    head: "insert into audit (seq, at, actor, action, target, before, after, change_id) values ",
    columns: 8,
    tail: "",
};
const CHANGES: Bulk = Bulk { head: "insert into changes (seq, kind, id) values ", columns: 3, tail: "" };

/// The minute of a time, counted from 1970.
pub(crate) const fn minute(time: Micros) -> i64 {
    time.0.div_euclid(60_000_000)
}

/// Counts what writing takes.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    statements: AtomicU64,
    transactions: AtomicU64,
    most_rows: AtomicU64,
    /// The minute of the last change.
    minute: AtomicI64,
}

/// Who acts when nobody does.
pub(crate) const SYSTEM: &str = "vedette";

/// A statement with its arguments.
pub(crate) type Statement<'q> = Query<'q, Any, AnyArguments>;

/// An open write transaction; dropped without [`WriteTx::commit`] it leaves no trace.
pub(crate) struct WriteTx {
    inner: Arc<Inner>,
    transaction: Transaction<'static, Any>,
    pub(crate) first_seq: i64,
    /// Written at the commit, all at once.
    changes: Vec<(i64, ChangeKind, String)>,
    rows: u64,
    /// The newest so far.
    pub(crate) seq: i64,
    /// The wall clock at its start.
    pub(crate) now: Micros,
    /// What all entries of the audit log are of that one request makes: the `seq` of the first. A request of several transactions
    /// hands it on.
    pub(crate) change_id: Option<i64>,
}

impl Store {
    /// What writing took since the store was opened.
    #[must_use]
    pub fn written(&self) -> Written {
        let Counter { statements, transactions, most_rows, .. } = &self.inner.counter;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Written { statements: read(statements), transactions: read(transactions), most_rows: read(most_rows) }
    }

    /// Begins a write transaction and checks that nobody has taken the lease from us.
    pub(crate) async fn begin(&self) -> Result<WriteTx, Error> {
        if self.inner.failed.load(Ordering::Acquire) {
            return Err(Error::Stopped);
        }
        let transaction = self.inner.writer.begin_with("begin immediate").await?;
        let mut tx = WriteTx {
            inner: Arc::clone(&self.inner),
            transaction,
            first_seq: 0,
            changes: Vec::new(),
            rows: 0,
            seq: 0,
            now: now(),
            change_id: None,
        };
        let row =
            tx.one(sqlx::query("update engine set seq = seq where id = 1 returning epoch, seq")).await?;
        let row = row.ok_or_else(|| Error::Corrupt { detail: "the engine's row is missing".to_owned() })?;
        let current: i64 = row.try_get("epoch")?;
        match self.inner.epoch {
            Some(ours) if ours != current => return Err(Error::LeaseLost { ours, current }),
            _ => {}
        }
        tx.seq = row.try_get("seq")?;
        tx.first_seq = tx.seq;
        Ok(tx)
    }

    /// As [`Store::begin`], for what only the active engine may do.
    pub(crate) async fn begin_as_engine(&self) -> Result<WriteTx, Error> {
        if self.inner.epoch.is_none() {
            return Err(Error::NotLeased);
        }
        self.begin().await
    }
}

impl Store {
    /// Whether a publication would be taken now: begins its transaction and takes it back.
    ///
    /// # Errors
    /// Those of publishing.
    pub async fn ping(&self) -> Result<(), Error> {
        let tx = self.begin_as_engine().await?;
        Ok(tx.transaction.rollback().await?)
    }
}

impl WriteTx {
    /// Runs a statement; how many rows it touched.
    pub(crate) async fn run(&mut self, statement: Statement<'_>) -> Result<u64, Error> {
        let result = statement.execute(&mut *self.transaction).await;
        let rows = self.checked(result)?.rows_affected();
        self.rows += rows;
        Ok(rows)
    }

    /// The first row of a statement's result, if it has one.
    pub(crate) async fn one(&mut self, statement: Statement<'_>) -> Result<Option<AnyRow>, Error> {
        let result = statement.fetch_optional(&mut *self.transaction).await;
        self.checked(result)
    }

    /// All rows of a statement's result.
    pub(crate) async fn all(&mut self, statement: Statement<'_>) -> Result<Vec<AnyRow>, Error> {
        let result = statement.fetch_all(&mut *self.transaction).await;
        self.checked(result)
    }

    /// What seals secrets.
    pub(crate) fn seal(&self) -> &Seal {
        &self.inner.seal
    }

    /// What the text of a source's dead letters may take.
    pub(crate) fn dead_letter_bytes(&self) -> i64 {
        self.inner.dead_letter_bytes
    }

    /// Records a change and gives its `seq`.
    pub(crate) fn change(&mut self, kind: ChangeKind, id: &str) -> i64 {
        self.seq += 1;
        self.changes.push((self.seq, kind, id.to_owned()));
        self.seq
    }

    /// Writes an entry of the audit log for the change of this `seq`.
    pub(crate) async fn audit(&mut self, seq: i64, entry: Audit<'_>) -> Result<(), Error> {
        self.audit_all(&[(seq, entry)]).await
    }

    /// Writes entries of the audit log, each for the change of its `seq`.
    pub(crate) async fn audit_all(&mut self, entries: &[(i64, Audit<'_>)]) -> Result<(), Error> {
        let Some((first, _)) = entries.first() else { return Ok(()) };
        let (change, now) = (*self.change_id.get_or_insert(*first), self.now.0);
        self.run_bulk(AUDIT, entries, |insert, (seq, entry)| {
            let Audit { actor, action, target, before, after } = entry;
            let insert = insert.bind(seq).bind(now).bind(*actor).bind(*action).bind(*target);
            insert.bind(before.as_deref()).bind(after.as_deref()).bind(change)
        })
        .await
        .map(drop)
    }

    /// Commits; the newest `seq`.
    pub(crate) async fn commit(mut self) -> Result<i64, Error> {
        if self.seq > self.first_seq {
            let changes = std::mem::take(&mut self.changes);
            self.run_bulk(CHANGES, &changes, |insert, (seq, kind, id)| {
                insert.bind(seq).bind(kind.name()).bind(id)
            })
            .await?;
            self.note_minute().await?;
            self.run(sqlx::query("update engine set seq = $1 where id = 1").bind(self.seq)).await?;
            self.forget_old_changes().await?;
        }
        let Self { inner, transaction, seq, rows, first_seq, now, .. } = self;
        if let Err(error) = transaction.commit().await {
            return Err(inner.noted(Error::from(error)));
        }
        if seq > first_seq {
            inner.counter.minute.store(minute(now), Ordering::Relaxed);
        }
        inner.counter.transactions.fetch_add(1, Ordering::Relaxed);
        inner.counter.most_rows.fetch_max(rows, Ordering::Relaxed);
        inner.newest.send_if_modified(|newest| std::mem::replace(newest, seq) != seq);
        Ok(seq)
    }

    /// True if something changed in this minute before, as far as this process knows.
    pub(crate) fn minute_noted(&self) -> bool {
        self.inner.counter.minute.load(Ordering::Relaxed) == minute(self.now)
    }

    /// Drops the oldest changes, an eighth of what is kept at a time.
    async fn forget_old_changes(&mut self) -> Result<(), Error> {
        let kept = self.inner.changes_kept;
        let step = (kept / 8).max(1);
        if self.seq / step == self.first_seq / step || self.seq <= kept {
            return Ok(());
        }
        let oldest = self.seq - kept;
        self.run(sqlx::query("delete from changes where seq <= $1").bind(oldest)).await?;
        self.run(sqlx::query("update engine set oldest_change = $1 where id = 1").bind(oldest)).await?;
        Ok(())
    }

    fn checked<T>(&self, result: Result<T, sqlx::Error>) -> Result<T, Error> {
        self.inner.counter.statements.fetch_add(1, Ordering::Relaxed);
        result.map_err(|error| self.inner.noted(Error::from(error)))
    }
}

/// What an entry of the audit log says besides its time.
pub(crate) struct Audit<'a> {
    /// Who.
    pub(crate) actor: &'a str,
    /// Did what.
    pub(crate) action: &'static str,
    /// To what.
    pub(crate) target: &'a str,
    /// JSON before.
    pub(crate) before: Option<String>,
    /// JSON after.
    pub(crate) after: Option<String>,
}
