//! Following alerts: what becomes of those that match, at least once, in commit order.
//!
//! In: a filter and the last `seq` seen. Out: batches of rows that match now, of rows that stopped matching, a word where
//! the `seq` is too old, and one where nothing happened for a while. Invariants: a row that stopped matching is named to
//! readers that may know it, once; a reader that lags is given the newest state of each row, never a growing queue: nothing
//! is looked for before the batch before it was taken; following ends when the token or session is over, when the server
//! stops, and after an hour.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, sleep, sleep_until},
};
use vedette_store::{
    Error,
    model::{AlertRow, ChangeKind, Changes, Filter},
};

use crate::{
    admission::Known as Admitted,
    app::App,
    auth::Caller,
    problem::{Kind, Problem},
};

/// Changes looked at in one step.
const STEP: u32 = 256;
/// Proxies give up connections on which nothing comes for 30 to 60 seconds, and a page that heard nothing for 30 says so.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);
/// Changes committed by another process do not wake us.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How long a stream lasts. Its reader goes on with a new one, as browsers do by themselves; without an end, readers
/// that take nothing while nothing happens would hold their places for ever.
pub(crate) const MAX_TIME: Duration = Duration::from_secs(3_600);

/// What became of an alert.
pub(crate) enum Followed {
    /// It matches: as it is now.
    Row { seq: i64, row: Box<AlertRow> },
    /// It does not match any more; for a covered notice, its alert follows.
    Leave { seq: i64, id: String },
    /// What was asked for is too old: read the list again, go on from here.
    Reset { seq: i64 },
    /// Nothing happened for [`HEARTBEAT`].
    Quiet,
}

/// Rows that a stream remembers before it starts anew.
const MAX_KNOWN: usize = 16_384;

/// Which rows a reader may hold.
struct Known {
    /// Rows that were there at this `seq` may have been read before.
    before: i64,
    /// Since then, by the hash of the id: whether the row was sent last as one that matches.
    sent: HashMap<u64, bool>,
    hasher: RandomState,
}

impl Known {
    /// Any row that was there at `seq`.
    fn before(seq: i64) -> Self {
        Self { before: seq, sent: HashMap::new(), hasher: RandomState::new() }
    }

    /// Notes what is sent of a row.
    fn note(&mut self, id: &str, matches: bool) {
        self.sent.insert(self.hasher.hash_one(id), matches);
    }

    /// What was sent last of a row.
    fn last(&self, id: &str) -> Option<bool> {
        self.sent.get(&self.hasher.hash_one(id)).copied()
    }
}

/// One reader's place in the changes of matching alerts.
pub(crate) struct Follower {
    app: Arc<App>,
    caller: Caller,
    filter: Filter,
    after: i64,
    known: Known,
    ends: Instant,
    newest: watch::Receiver<i64>,
    access: watch::Receiver<Arc<Admitted>>,
    stopping: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    /// Takes a place; from what came after `given`, or from now on.
    pub async fn take(
        app: Arc<App>,
        caller: Caller,
        filter: Filter,
        given: Option<i64>,
    ) -> Result<Self, Problem> {
        let after = match given {
            Some(seq) => seq,
            None => app.store.newest_seq().await?,
        };
        let permit = Arc::clone(&app.streams).try_acquire_owned();
        let permit = permit.map_err(|_| Problem::new(Kind::TooManyRequests, "Too many streams are open."))?;
        Ok(Self {
            ends: Instant::now() + MAX_TIME,
            newest: app.store.watch(),
            access: app.admission.changes(),
            stopping: app.stopping.clone(),
            app,
            caller,
            filter,
            after,
            known: Known::before(given.unwrap_or(i64::MIN)),
            _permit: permit,
        })
    }

    /// What comes next, never without anything; `None` when the token or session is over, its time is over, the server stops or the
    /// store fails for good.
    pub async fn next(&mut self) -> Option<Vec<Followed>> {
        let quiet = Instant::now() + HEARTBEAT;
        loop {
            if *self.stopping.borrow() || self.revoked() || self.ends <= Instant::now() {
                return None;
            }
            self.newest.mark_unchanged();
            match self.step().await {
                Ok(Some(followed)) if followed.is_empty() => {}
                Ok(Some(followed)) => return Some(followed),
                Ok(None) if quiet <= Instant::now() => return Some(vec![Followed::Quiet]),
                Ok(None) => tokio::select! {
                    _ = self.newest.changed() => {}
                    _ = self.stopping.changed() => {}
                    _ = self.access.changed() => {}
                    () = sleep_until(self.ends.min(quiet)) => {}
                    () = sleep(LOOK_AGAIN) => {}
                },
                Err(error) if error.retryable() => sleep(LOOK_AGAIN).await,
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "an alert stream ended");
                    return None;
                }
            }
        }
    }

    /// True if the token or the session is not in force any more.
    fn revoked(&mut self) -> bool {
        self.access.mark_unchanged();
        !self.app.admission.still_lets_in(&self.caller)
    }

    /// Looks at the next changes; `None` if there are none.
    async fn step(&mut self) -> Result<Option<Vec<Followed>>, Error> {
        // Never closed.
        let _turn = self.app.stream_reads.acquire().await;
        let changes = match self.app.store.changes(self.after, STEP).await? {
            Changes::Reset { seq } => {
                self.after = seq;
                self.known = Known::before(seq);
                return Ok(Some(vec![Followed::Reset { seq }]));
            }
            Changes::Next(changes) => changes,
        };
        let Some(last) = changes.last().map(|change| change.seq) else { return Ok(None) };
        let mut touched: BTreeMap<String, i64> = BTreeMap::new();
        for change in changes {
            match change.kind {
                ChangeKind::Alert
                | ChangeKind::Notice
                | ChangeKind::Covered
                | ChangeKind::Withdrawn
                | ChangeKind::Triage => {
                    touched.insert(change.id, change.seq);
                }
                _ => {}
            }
        }
        let ids: Vec<String> = touched.keys().cloned().collect();
        let mut rows: BTreeMap<String, _> = self
            .app
            .store
            .matching(&self.filter, &ids)
            .await?
            .into_iter()
            .map(|row| (row.id.clone(), row))
            .collect();
        if self.known.sent.len() > MAX_KNOWN {
            self.known = Known::before(self.after);
        }
        let unsent = |id: &&String| !rows.contains_key(*id) && self.known.last(id).is_none();
        let unsent: Vec<String> = ids.iter().filter(unsent).cloned().collect();
        let older = self.app.store.there_at(&unsent, self.known.before).await?;
        let mut in_order: Vec<_> = touched.into_iter().collect();
        in_order.sort_by_key(|(_, seq)| *seq);
        let mut followed = Vec::new();
        for (id, seq) in in_order {
            let row = rows.remove(&id);
            if row.is_none() && !self.known.last(&id).unwrap_or_else(|| older.contains(&id)) {
                continue;
            }
            self.known.note(&id, row.is_some());
            followed.push(match row {
                Some(row) => Followed::Row { seq, row: Box::new(row) },
                None => Followed::Leave { seq, id },
            });
        }
        self.after = last;
        Ok(Some(followed))
    }
}
