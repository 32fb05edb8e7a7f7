//! What enforcement points fetch: bouncers, external dynamic lists, rate limits.
//!
//! In: what is to be in force at each outlet, whole, whenever it changes; times as values. Out: the same for those who ask, and what
//! changed since they asked last. Invariants: before the first word nothing is answered, since an empty answer would lift everything;
//! nothing is told beyond its end; a bouncer is told each change at least once, and of what it need not do again it is told at most
//! what was deleted lately.

mod decisions;
mod filter;
mod lists;
mod pollers;
mod shown;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use bytes::Bytes;
use vedette_event::{Micros, time::SECOND};
use vedette_respond::{ConnectorKind, desired::InForce};

pub use self::{
    filter::{BadQuery, Filter, Lookup},
    lists::RATE,
    pollers::{Bouncer, Figure, MAX_BOUNCERS, MAX_FIGURES},
};
use self::{
    pollers::{Cursor, Pollers},
    shown::Shown,
};

/// A connector whose other side fetches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlet {
    /// As playbooks name it, such as `edl/perimeter`.
    pub name: Arc<str>,
    /// `crowdsec`, `edl` or `ratelimit`.
    pub kind: ConnectorKind,
    /// The most entries that the other side takes.
    pub capacity: usize,
}

/// Why nothing is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Silence {
    /// No such outlet is configured.
    #[error("no such outlet is configured")]
    NoOutlet,
    /// What is in force is not known yet; an empty answer would lift everything.
    #[error("what is in force is not known yet")]
    NotYet,
}

/// Who asks the bouncers' interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// What the bouncer's key is known by: the hash of its token.
    pub key: [u8; 32],
    /// From where.
    pub address: std::net::IpAddr,
    /// The token's name.
    pub name: Arc<str>,
    /// What it calls itself.
    pub agent: Arc<str>,
}

/// A body, and which it is.
#[derive(Debug, Clone)]
pub struct List {
    /// The body.
    pub body: Bytes,
    /// The same for the same body, different for a different one; with quotation marks, as a header takes it.
    pub etag: Arc<str>,
}

/// A part of the stream, and how far its reader is once it has it.
#[derive(Debug, Clone)]
pub struct Part {
    /// The body.
    pub body: Bytes,
    cursor: Cursor,
}

/// How much an outlet shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Entries shown.
    pub shown: usize,
    /// Entries for which there is no room at the other side.
    pub left_out: usize,
    /// Entries that the other side could do nothing with.
    pub unfit: usize,
}

/// All outlets.
#[derive(Debug, Clone)]
pub struct Board {
    outlets: Arc<[Outlet]>,
    rooms: Arc<[Room]>,
    pollers: Arc<Pollers>,
}

/// What one outlet shows.
#[derive(Default)]
struct Room {
    shown: RwLock<Arc<Shown>>,
    /// One change at a time.
    turn: Mutex<()>,
    /// What was written down last.
    written: Mutex<Option<Written>>,
}

/// All that is in force as a body, and as of when.
struct Written {
    version: u64,
    at: Micros,
    list: List,
    /// Where in the body the array of all decisions stands.
    all: std::ops::Range<usize>,
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("shown", &self.now().entries.len()).finish_non_exhaustive()
    }
}

impl Board {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(outlets: Vec<Outlet>) -> Self {
        let rooms = outlets.iter().map(|_| Room::default()).collect();
        Self { outlets: outlets.into(), rooms, pollers: Arc::default() }
    }

    /// The outlets there are.
    #[must_use]
    pub fn outlets(&self) -> &[Outlet] {
        &self.outlets
    }

    /// Shows what is to be in force at an outlet from now on: all of it, and nothing else. To be called when that changed,
    /// also because something ended. A hundred thousand take some tens of milliseconds. An outlet that is not there shows nothing.
    pub fn show(&self, outlet: &str, in_force: Vec<InForce>, now: Micros) {
        let Some((outlet, room)) = self.room(outlet) else { return };
        let _turn = lock(&room.turn);
        let next = room.now().next(outlet, in_force, now);
        room.put(next);
    }

    /// Says what ended early before this process began, by the record: bouncers that were not told before it did must let go, too.
    /// To be called before the first [`Board::show`], with what may still be held somewhere.
    pub fn ended(&self, outlet: &str, ended: Vec<InForce>, now: Micros) {
        let Some((outlet, room)) = self.room(outlet) else { return };
        let _turn = lock(&room.turn);
        let next = room.now().with_ended(outlet, ended, now);
        room.put(next);
    }

    /// How much an outlet shows; `None` before the first word.
    #[must_use]
    pub fn held(&self, outlet: &str) -> Option<Held> {
        let shown = self.room(outlet)?.1.now();
        shown.told.then_some(Held {
            shown: shown.entries.len(),
            left_out: shown.left_out,
            unfit: shown.unfit,
        })
    }

    /// The bouncers that asked lately, with what they counted: at most [`MAX_BOUNCERS`].
    #[must_use]
    pub fn bouncers(&self) -> Vec<Bouncer> {
        self.pollers.all()
    }

    /// Takes note of what a bouncer counted. What is no such document is refused.
    ///
    /// # Errors
    /// If the body is no JSON object.
    pub fn count(&self, asker: &Asker, body: &[u8], now: Micros) -> Result<(), BadQuery> {
        let figures = pollers::figures(body).ok_or(BadQuery("the body is no JSON object"))?;
        self.pollers.count(asker, figures, now);
        Ok(())
    }

    /// What of the bouncers' interface an asker has not been told: all, if it starts or is not known.
    ///
    /// # Errors
    /// If there is nothing to tell from.
    pub fn stream(
        &self,
        asker: &Asker,
        startup: bool,
        filter: &Filter,
        now: Micros,
    ) -> Result<Part, Silence> {
        let (outlet, room) = self.only(ConnectorKind::Crowdsec)?;
        self.pollers.seen(asker, now);
        let known = if startup { None } else { self.pollers.cursor(asker) };
        if let Some(cursor) = known {
            let shown = room.told()?;
            let body = decisions::part(&shown, cursor, filter, now);
            return Ok(Part { body: body.into(), cursor: cursor.moved(shown.version, now) });
        }
        if filter.takes_all() {
            let (list, version, at, _) = room.written(outlet, now)?;
            return Ok(Part { body: list.body, cursor: Cursor::new(version, at) });
        }
        let shown = room.told()?;
        let body = decisions::whole(&shown, filter, now).0;
        Ok(Part { body: body.into(), cursor: Cursor::new(shown.version, now) })
    }

    /// Notes that an asker has this part.
    pub fn sent(&self, asker: &Asker, part: &Part) {
        self.pollers.moved(asker, part.cursor);
    }

    /// The decisions that a lookup finds: an array, or `null`.
    ///
    /// # Errors
    /// If there is nothing to tell from.
    pub fn look_up(&self, lookup: &Lookup, now: Micros) -> Result<Bytes, Silence> {
        let (outlet, room) = self.only(ConnectorKind::Crowdsec)?;
        if lookup.is_all() {
            let (list, .., all) = room.written(outlet, now)?;
            return Ok(if all.len() <= 2 { Bytes::from_static(b"null") } else { list.body.slice(all) });
        }
        Ok(decisions::found(&*room.told()?, lookup, now).into())
    }

    /// The external dynamic list of this name.
    ///
    /// # Errors
    /// If there is none, or nothing is known yet.
    pub fn edl(&self, list: &str, now: Micros) -> Result<List, Silence> {
        let (outlet, room) = self.room(&format!("edl/{list}")).ok_or(Silence::NoOutlet)?;
        if outlet.kind != ConnectorKind::Edl {
            return Err(Silence::NoOutlet);
        }
        Ok(room.written(outlet, now)?.0)
    }

    /// The rate limits as JSON.
    ///
    /// # Errors
    /// If there is no such outlet, or nothing is known yet.
    pub fn rate_limits(&self, now: Micros) -> Result<List, Silence> {
        let (outlet, room) = self.only(ConnectorKind::Ratelimit)?;
        Ok(room.written(outlet, now)?.0)
    }

    fn room(&self, name: &str) -> Option<(&Outlet, &Room)> {
        let at = self.outlets.iter().position(|outlet| &*outlet.name == name)?;
        Some((self.outlets.get(at)?, self.rooms.get(at)?))
    }

    /// The outlet that an address without a name means: the one called as its kind, or else the only one of it. What a playbook
    /// sends to one of several must not come out of another.
    fn only(&self, kind: ConnectorKind) -> Result<(&Outlet, &Room), Silence> {
        if let Some(found) = self.room(kind.name()).filter(|(outlet, _)| outlet.kind == kind) {
            return Ok(found);
        }
        let mut all = self.outlets.iter().zip(self.rooms.iter()).filter(|(outlet, _)| outlet.kind == kind);
        match (all.next(), all.next()) {
            (Some(only), None) => Ok(only),
            _ => Err(Silence::NoOutlet),
        }
    }
}

impl Room {
    fn now(&self) -> Arc<Shown> {
        Arc::clone(&self.shown.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, next: Shown) {
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
    }

    fn told(&self) -> Result<Arc<Shown>, Silence> {
        let shown = self.now();
        if shown.told { Ok(shown) } else { Err(Silence::NotYet) }
    }

    /// All of it as a body, written at most once a second however many ask: who comes meanwhile waits for the one who writes. What
    /// is younger is in the part that is asked for next, as the cursor says as of when this one is.
    fn written(
        &self,
        outlet: &Outlet,
        now: Micros,
    ) -> Result<(List, u64, Micros, std::ops::Range<usize>), Silence> {
        let shown = self.told()?;
        let mut written = lock(&self.written);
        let fresh = |w: &Written| {
            let age = now.since(w.at).0;
            // Lists go out only every few minutes, so that the newest is worth its milliseconds.
            (0..SECOND.0).contains(&age)
                && (outlet.kind == ConnectorKind::Crowdsec || w.version == shown.version)
        };
        if written.as_ref().is_none_or(|w| !fresh(w)) {
            let (body, all) = match outlet.kind {
                // As of a second later, since it may be read until then.
                ConnectorKind::Crowdsec => decisions::whole(&shown, &Filter::default(), now.plus(SECOND)),
                ConnectorKind::Edl => (lists::edl(&outlet.name, &shown, now), 0..0),
                _ => (lists::rate_limits(&shown, now), 0..0),
            };
            let etag = format!("\"{}\"", blake3::hash(&body).to_hex().get(..32).unwrap_or_default()).into();
            *written = Some(Written {
                version: shown.version,
                at: now,
                list: List { body: body.into(), etag },
                all,
            });
        }
        let w = written.as_ref().ok_or(Silence::NotYet)?;
        Ok((w.list.clone(), w.version, w.at, w.all.clone()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
