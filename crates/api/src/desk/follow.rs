//! Following alerts: what becomes of those that match, at least once, in commit order.
//!
//! In: a filter, how the face writes, the last `seq` seen. Out: texts to be sent, a piece at a time, each with the `seq` to go on from.
//! Invariants: a row that stopped matching is named to readers that may know it, once; nothing is looked for before the piece before it
//! was taken, and a piece is at most [`PIECE`] bytes beside one row; a reader that has caught up takes what the relay holds for all, one
//! that has not reads by itself and is given the newest state of each row; one that the relay gave up is told from where to go on, and
//! ended; following ends when the token or session is over, when the server stops, and after an hour.

use std::{collections::HashMap, hash::BuildHasher as _, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use vedette_store::{Error, model::Filter};

use crate::{
    admission::Known as Admitted,
    app::App,
    auth::Caller,
    problem::{Kind, Problem},
    relay::{Bytes, Face, Followed, LOOK_AGAIN, Leaving, Looked, PIECE, Place, Relay, STEP, Taken, Touched},
    shares::Share,
};

/// Proxies give up connections on which nothing comes for 30 to 60 seconds, and a page that heard nothing for 30 says so.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a stream lasts. Its reader goes on with a new one, as browsers do by themselves; without an end, readers
/// that take nothing while nothing happens would hold their places for ever.
pub(crate) const MAX_TIME: Duration = Duration::from_secs(3_600);

/// Rows that a stream remembers while it catches up; then it begins anew, and rows from before may leave twice.
const MAX_KNOWN: usize = 1_024;

/// Which rows a reader may hold.
struct Known {
    /// Rows that were there at this `seq` may have been read before.
    before: i64,
    /// Since then, by the hash of the id: whether the row was sent last as one that matches.
    sent: HashMap<u64, bool>,
}

impl Known {
    /// Any row that was there at `seq`.
    fn before(seq: i64) -> Self {
        Self { before: seq, sent: HashMap::new() }
    }

    fn may_hold(&self, id: u64, created: i64) -> bool {
        self.sent.get(&id).copied().unwrap_or(created <= self.before)
    }
}

/// A place at the relay, and from which `seq` on.
#[derive(Clone, Copy)]
struct Joined {
    place: Place,
    at: i64,
}

/// One reader's place in the changes of matching alerts.
pub(crate) struct Follower {
    app: Arc<App>,
    caller: Caller,
    relay: Arc<Relay>,
    after: i64,
    known: Known,
    joined: Option<Joined>,
    /// How many changes it looks at when it reads by itself.
    step: u32,
    begun: bool,
    over: bool,
    ends: Instant,
    relayed: watch::Receiver<i64>,
    access: watch::Receiver<Arc<Admitted>>,
    stopping: watch::Receiver<bool>,
    _place: Share,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.part();
    }
}

impl Follower {
    /// Takes a place; from what came after `given`, or from now on.
    pub async fn take(
        app: Arc<App>,
        caller: Caller,
        filter: &Filter,
        face: &Face,
        given: Option<i64>,
    ) -> Result<Self, Problem> {
        let place = app.streams.take(&caller)?;
        let after = match given {
            Some(seq) => seq,
            None => app.store.newest_seq().await?,
        };
        let relay = app.relays.of(filter, face).await?;
        let failed =
            || Problem::new(Kind::Overloaded, "Streams cannot be followed just now. Try again in a moment.");
        Ok(Self {
            ends: Instant::now() + MAX_TIME,
            relayed: relay.watch().ok_or_else(failed)?,
            access: app.admission.changes(),
            stopping: app.stopping.clone(),
            app,
            caller,
            relay,
            after,
            known: Known::before(given.unwrap_or(i64::MIN)),
            joined: None,
            step: STEP,
            begun: false,
            over: false,
            _place: place,
        })
    }

    /// What comes next, never without anything; `None` when the token or session is over, its time is over, it was given up, the server
    /// stops or the store fails for good.
    pub async fn next(&mut self) -> Option<Vec<Bytes>> {
        let quiet = Instant::now() + HEARTBEAT;
        loop {
            if self.over || *self.stopping.borrow() || self.revoked() || self.ends <= Instant::now() {
                return None;
            }
            self.relayed.mark_unchanged();
            let found = match self.look().await {
                Ok(found) => found,
                Err(error) if error.retryable() => {
                    sleep(LOOK_AGAIN).await;
                    continue;
                }
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "an alert stream ended");
                    return None;
                }
            };
            match found {
                Some(texts) if texts.iter().all(Bytes::is_empty) => {}
                Some(texts) => return Some(texts),
                // At once after it began, so that a reader knows where to go on before anything happened.
                None if !std::mem::replace(&mut self.begun, true) || quiet <= Instant::now() => {
                    return self.relay.write(vec![Followed::Quiet { seq: self.after }]).await;
                }
                None => tokio::select! {
                    changed = self.relayed.changed() => if changed.is_err() { return None },
                    _ = self.stopping.changed() => {}
                    _ = self.access.changed() => {}
                    () = sleep_until(self.ends.min(quiet)) => {}
                },
            }
        }
    }

    /// True if the token or the session is not in force any more.
    fn revoked(&mut self) -> bool {
        self.access.mark_unchanged();
        !self.app.admission.still_lets_in(&self.caller)
    }

    /// What comes next, perhaps nothing of it for this reader; `None` if nothing does.
    async fn look(&mut self) -> Result<Option<Vec<Bytes>>, Error> {
        let Some(joined) = self.joined else { return self.catch_up().await };
        match self.relay.take(joined.place, |leaving| self.may_hold(joined.at, leaving)) {
            Taken::Nothing => Ok(None),
            Taken::Piece { texts, until } => {
                self.after = until;
                Ok(Some(texts))
            }
            Taken::Apart => {
                self.part();
                self.known = Known::before(self.after);
                Ok(Some(Vec::new()))
            }
            Taken::Slow => {
                self.over = true;
                Ok(self.relay.write(vec![Followed::Slow { seq: self.after }]).await)
            }
        }
    }

    /// Whether a row that leaves may be held by who reads here, whose place at the relay began `at`.
    fn may_hold(&self, at: i64, leaving: &Leaving) -> bool {
        match leaving.before {
            Some((seq, matched)) if seq > at => matched,
            // The relay does not know any more what it sent.
            _ if leaving.knows_from > at => leaving.created <= leaving.knows_from,
            _ => self.known.may_hold(leaving.id, leaving.created),
        }
    }

    /// Takes a place at the relay, if that holds all that follows.
    fn join(&mut self) -> bool {
        self.joined = self.relay.join(self.after).map(|place| Joined { place, at: self.after });
        self.joined.is_some()
    }

    fn part(&mut self) {
        if let Some(joined) = self.joined.take() {
            self.relay.leave(joined.place);
        }
    }

    /// Reads by itself, until it is where the relay goes on.
    async fn catch_up(&mut self) -> Result<Option<Vec<Bytes>>, Error> {
        if self.after <= *self.relayed.borrow() && self.join() {
            return Ok(Some(Vec::new()));
        }
        let app = Arc::clone(&self.app);
        // Never closed.
        let _turn = app.relays.reads.acquire().await;
        let (touched, last) = match app.relays.look(self.relay.filter(), self.after, self.step).await? {
            Looked::Nothing => {
                // What was committed since it looked, the relay has or comes to.
                self.join();
                return Ok(None);
            }
            Looked::Reset(seq) => {
                self.after = seq;
                self.known = Known::before(seq);
                return Ok(self.relay.write(vec![Followed::Reset { seq }]).await);
            }
            Looked::Next(touched, last) => (touched, last),
        };
        if self.known.sent.len() > MAX_KNOWN {
            self.known = Known::before(self.after);
        }
        let mut told = Vec::with_capacity(touched.len());
        let mut followed = Vec::with_capacity(touched.len());
        for Touched { seq, id, row, created } in touched {
            let hash = app.relays.hasher.hash_one(&id);
            if row.is_none() && !self.known.may_hold(hash, created) {
                continue;
            }
            told.push((hash, seq, row.is_some()));
            followed.push(match row {
                Some(row) => Followed::Row { seq, row: Box::new(row) },
                None => Followed::Leave { seq, id },
            });
        }
        let Some(texts) = self.relay.write(followed).await else {
            self.over = true;
            return Ok(Some(Vec::new()));
        };
        let (mut bytes, mut piece) = (0, Vec::new());
        self.after = last;
        for ((hash, seq, matches), text) in told.into_iter().zip(texts) {
            if bytes > 0 && bytes + text.len() > PIECE {
                // All before this one; the rest is looked at again when that was taken.
                self.after = seq - 1;
                break;
            }
            self.known.sent.insert(hash, matches);
            bytes += text.len();
            piece.push(text);
        }
        self.step = if self.after < last { self.step / 2 } else { self.step * 2 }.clamp(1, STEP);
        Ok(Some(piece))
    }
}
