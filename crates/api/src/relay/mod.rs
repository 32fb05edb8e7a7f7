//! Changes of matching alerts, read and written out once for all who follow the same rows.
//!
//! In: a filter, how a face writes what became of a row, the store's changes. Out: a [`Relay`] for each pair of these that somebody
//! follows. Invariants: a relay reads on by itself, and no peer can stop it: before it drops what a reader has yet to take it waits for
//! that reader, [`PATIENCE`] at most, and then gives it up; all relays together hold [`MOST_BYTES`], however many readers and filters there
//! are; all that streams read and write out takes one of a few permits, so that pages find the store free; a relay ends with its last reader.

mod ring;

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Duration,
};

use futures::future::BoxFuture;
pub(crate) use hyper::body::Bytes;
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::AbortHandle,
    time::{Instant, sleep, timeout_at},
};
use vedette_store::{
    Error, Store,
    model::{AlertRow, ChangeKind, Changes, Filter},
};

use self::ring::{Entry, Ring};
pub(crate) use self::ring::{Leaving, PIECE, Place, Taken};

/// Changes looked at in one step.
pub(crate) const STEP: u32 = 256;
/// Changes committed by another process do not wake us.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Bytes that all relays hold together.
pub(crate) const MOST_BYTES: usize = 32 << 20;
/// Of these, one at most, which a reader may be behind by: some hundred rows.
const MOST_OF_ONE: usize = 1 << 20;
/// How long a relay waits for readers that are behind by all that it holds. Meanwhile the others wait, too.
const PATIENCE: Duration = Duration::from_secs(2);
/// Rows of which a relay remembers how it met them last. Then it begins anew, and rows from before may leave twice.
const MOST_MET: usize = 2_048;

/// What became of an alert, or of a reader.
pub(crate) enum Followed {
    /// It matches: as it is now.
    Row { seq: i64, row: Box<AlertRow> },
    /// It does not match any more; for a covered notice, its alert follows.
    Leave { seq: i64, id: String },
    /// What was asked for is too old: read the list again, go on from here.
    Reset { seq: i64 },
    /// All up to here was told.
    Quiet { seq: i64 },
    /// The reader is too slow: this ends it, and it may go on from here.
    Slow { seq: i64 },
}

/// How a face writes it: one text for each, empty where there is none to send; `None` where the store failed.
pub(crate) type Write = Arc<dyn Fn(Vec<Followed>) -> BoxFuture<'static, Option<Vec<Bytes>>> + Send + Sync>;

/// A way of writing, by name: the same name writes the same.
#[derive(Clone)]
pub(crate) struct Face {
    pub name: &'static str,
    pub write: Write,
}

/// The newest change of one row among those looked at.
pub(crate) struct Touched {
    pub seq: i64,
    pub id: String,
    /// The row, if it matches.
    pub row: Option<AlertRow>,
    /// Otherwise, with which `seq` it appeared.
    pub created: i64,
}

/// What follows a `seq`.
pub(crate) enum Looked {
    Nothing,
    /// What was asked for is not kept any more.
    Reset(i64),
    /// The rows touched, in the order of their changes, and the last change looked at.
    Next(Vec<Touched>, i64),
}

/// All relays.
pub(crate) struct Relays {
    pub store: Store,
    /// One permit for each that reads the store for streams.
    pub reads: Semaphore,
    pub hasher: RandomState,
    open: Mutex<Vec<Weak<Relay>>>,
}

/// One of them.
pub(crate) struct Relay {
    filter: Filter,
    face: Face,
    ring: Mutex<Ring>,
    /// The last change in the ring; closed when the relay has failed.
    until: Mutex<Option<watch::Sender<i64>>>,
    /// A reader took something, or left.
    room: Notify,
    task: OnceLock<AbortHandle>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.get().inspect(|task| task.abort());
    }
}

impl Relays {
    pub fn new(store: Store, reads: usize) -> Arc<Self> {
        Arc::new(Self {
            store,
            reads: Semaphore::new(reads),
            hasher: RandomState::new(),
            open: Mutex::default(),
        })
    }

    /// The relay for these rows, begun if nobody follows them yet.
    pub async fn of(self: &Arc<Self>, filter: &Filter, face: &Face) -> Result<Arc<Relay>, Error> {
        let seq = self.store.newest_seq().await?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|relay| relay.strong_count() > 0);
        let same = |relay: &Arc<Relay>| {
            relay.face.name == face.name && relay.filter == *filter && relay.watch().is_some()
        };
        if let Some(relay) = open.iter().filter_map(Weak::upgrade).find(same) {
            return Ok(relay);
        }
        let relay = Arc::new(Relay {
            filter: filter.clone(),
            face: face.clone(),
            ring: Mutex::new(Ring::new(seq)),
            until: Mutex::new(Some(watch::Sender::new(seq))),
            room: Notify::new(),
            task: OnceLock::new(),
        });
        open.push(Arc::downgrade(&relay));
        drop(open);
        let task = tokio::spawn(run(Arc::clone(self), Arc::downgrade(&relay), seq));
        let _ = relay.task.set(task.abort_handle());
        Ok(relay)
    }

    /// How many bytes each may hold.
    fn share(&self) -> usize {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let n = open.iter().filter(|relay| relay.strong_count() > 0).count();
        (MOST_BYTES / n.max(1)).min(MOST_OF_ONE)
    }

    /// What follows `after`, of at most so many changes.
    pub async fn look(&self, filter: &Filter, after: i64, most: u32) -> Result<Looked, Error> {
        let changes = match self.store.changes(after, most).await? {
            Changes::Reset { seq } => return Ok(Looked::Reset(seq)),
            Changes::Next(changes) => changes,
        };
        let Some(last) = changes.last().map(|change| change.seq) else { return Ok(Looked::Nothing) };
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
        let rows = self.store.matching(filter, &ids).await?.into_iter();
        let mut rows: HashMap<String, AlertRow> = rows.map(|row| (row.id.clone(), row)).collect();
        let others: Vec<String> = ids.into_iter().filter(|id| !rows.contains_key(id)).collect();
        let created = self.store.created(&others).await?;
        let mut found: Vec<Touched> = touched
            .into_iter()
            .map(|(id, seq)| Touched {
                row: rows.remove(&id),
                created: created.get(&id).copied().unwrap_or(i64::MAX),
                seq,
                id,
            })
            .collect();
        found.sort_by_key(|touched| touched.seq);
        Ok(Looked::Next(found, last))
    }
}

/// Reads on for a relay as long as somebody follows it.
async fn run(relays: Arc<Relays>, relay: Weak<Relay>, seq: i64) {
    let mut newest = relays.store.watch();
    let mut met = Met { from: seq, rows: HashMap::new() };
    loop {
        newest.mark_unchanged();
        let Some(relay) = relay.upgrade() else { return };
        match relay.step(&relays, &mut met).await {
            Ok(true) => {}
            Ok(false) => {
                drop(relay);
                tokio::select! {
                    // The store lives as long as `relays`.
                    _ = newest.changed() => {}
                    () = sleep(LOOK_AGAIN) => {}
                }
            }
            Err(error) if error.retryable() => {
                drop(relay);
                sleep(LOOK_AGAIN).await;
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "alert streams ended");
                relay.until.lock().unwrap_or_else(PoisonError::into_inner).take();
                return;
            }
        }
    }
}

/// How rows were met last, by the hash of their ids.
struct Met {
    from: i64,
    rows: HashMap<u64, (i64, bool)>,
}

impl Relay {
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// What is written of this.
    pub async fn write(&self, followed: Vec<Followed>) -> Option<Vec<Bytes>> {
        (self.face.write)(followed).await
    }

    /// The last change that it has read, as it goes on; `None` if it has failed.
    pub fn watch(&self) -> Option<watch::Receiver<i64>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(watch::Sender::subscribe)
    }

    /// A place for a reader that has seen all up to `after`; `None` if it has to catch up first.
    pub fn join(&self, after: i64) -> Option<Place> {
        self.ring().join(after)
    }

    pub fn leave(&self, place: Place) {
        self.ring().leave(place);
        self.room.notify_one();
    }

    /// What comes next for a reader. `knows` says whether it may know a row that leaves.
    pub fn take(&self, place: Place, knows: impl Fn(&Leaving) -> bool) -> Taken {
        let taken = self.ring().take(place, knows);
        if taken != Taken::Nothing {
            self.room.notify_one();
        }
        taken
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads on; false if there is nothing new.
    async fn step(&self, relays: &Relays, met: &mut Met) -> Result<bool, Error> {
        let after = self.ring().until();
        // Never closed. Given back before anybody is waited for.
        let turn = relays.reads.acquire().await;
        let (touched, last) = match relays.look(&self.filter, after, STEP).await? {
            Looked::Nothing => return Ok(false),
            Looked::Reset(seq) => {
                *met = Met { from: seq, rows: HashMap::new() };
                self.ring().begin_anew(seq);
                self.told(seq);
                return Ok(true);
            }
            Looked::Next(touched, last) => (touched, last),
        };
        if met.rows.len() + touched.len() > MOST_MET {
            *met = Met { from: after, rows: HashMap::new() };
        }
        let (mut heads, mut followed) = (Vec::new(), Vec::new());
        for Touched { seq, id, row, created } in touched {
            let hash = relays.hasher.hash_one(&id);
            let before = met.rows.insert(hash, (seq, row.is_some()));
            let leaving = Leaving { id: hash, created, before, knows_from: met.from };
            heads.push((seq, row.is_none().then_some(leaving)));
            followed.push(match row {
                Some(row) => Followed::Row { seq, row: Box::new(row) },
                None => Followed::Leave { seq, id },
            });
        }
        let texts = self.write(followed).await;
        drop(turn);
        let Some(texts) = texts else {
            // Its readers read by themselves what was not written here.
            *met = Met { from: last, rows: HashMap::new() };
            self.ring().begin_anew(last);
            self.told(last);
            return Ok(true);
        };
        let most = relays.share();
        for ((seq, leaving), text) in heads.into_iter().zip(texts) {
            self.hold(Entry { seq, leaving, text }, most).await;
        }
        self.ring().pass(last);
        self.told(last);
        Ok(true)
    }

    /// Puts an entry into the ring, once those who are behind have made room for it or were given up.
    async fn hold(&self, mut entry: Entry, most: usize) {
        let seq = entry.seq;
        let mut until = None;
        loop {
            let pushed = self.ring().push(entry, most);
            let Err(refused) = pushed else { return };
            entry = refused;
            // They are to know what there is.
            self.told(seq - 1);
            let until = *until.get_or_insert_with(|| Instant::now() + PATIENCE);
            if timeout_at(until, self.room.notified()).await.is_err() {
                self.ring().give_up_slow();
            }
        }
    }

    fn told(&self, seq: i64) {
        if let Some(until) = &*self.until.lock().unwrap_or_else(PoisonError::into_inner) {
            // Once, so that nobody is woken in vain.
            until.send_if_modified(|told| std::mem::replace(told, seq) != seq);
        }
    }
}
