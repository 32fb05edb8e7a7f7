//! Who is let in at this moment: tokens in force, users, sessions, held in memory.
//!
//! In: what the store admits, read again a few times a second. Out: the [`Caller`] of a token or a session. Invariants:
//! letting somebody in waits for nothing, so a store that is busy, full of searches or locked keeps nobody out; what was
//! made, revoked or disabled elsewhere counts within a second; a session ends when it was not used for long, and at its
//! greatest age whatever is done with it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
};
use vedette_event::{Micros, Span};
use vedette_store::{
    Store,
    model::{Admitted, Session, Token, User},
};

use crate::{
    auth::{Caller, Credential, find_token},
    error::Error,
    metrics::now,
    problem::{Kind, Problem},
    session,
};

/// How often the store is asked whether anything changed. A change counts within a second, and this is a quarter: that is
/// one row, and changes made by another process announce themselves in no other way.
const READ_AGAIN: Duration = Duration::from_millis(250);
/// Sessions that nobody can use any more are removed as often.
const REMOVE_EVERY: Duration = Duration::from_secs(600);
/// Uses that may wait to be noted. More are dropped, and noted at the next use.
const USES: usize = 64;
const MINUTE: Span = Span::secs(60);

/// How long a session lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// Without being used.
    pub idle: Span,
    /// In all.
    pub longest: Span,
}

impl SessionLimits {
    /// Those of a shift and of a week.
    pub const USUAL: Self = Self { idle: Span::secs(12 * 3_600), longest: Span::secs(7 * 86_400) };
}

/// What is known, with its indexes.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub admitted: Admitted,
    users: HashMap<String, usize>,
    sessions: HashMap<[u8; 32], usize>,
}

impl Known {
    fn of(admitted: Admitted) -> Self {
        let users = admitted.users.iter().enumerate().map(|(at, user)| (user.name.clone(), at)).collect();
        let sessions = admitted.sessions.iter().enumerate().map(|(at, session)| (session.hash, at)).collect();
        Self { admitted, users, sessions }
    }

    fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name).and_then(|at| self.admitted.users.get(*at))
    }

    fn session(&self, hash: &[u8; 32]) -> Option<&Session> {
        self.sessions.get(hash).and_then(|at| self.admitted.sessions.get(*at))
    }

    /// True if both let in the same callers with the same roles; when they came says nothing.
    fn lets_in_the_same(&self, other: &Self) -> bool {
        let tokens =
            |known: &Self| known.admitted.tokens.iter().map(|t| (t.hash, t.role)).collect::<Vec<_>>();
        let users = |known: &Self| {
            let part = |user: &User| (user.name.clone(), user.role, user.disabled_at.is_some());
            known.admitted.users.iter().map(part).collect::<Vec<_>>()
        };
        let sessions = |known: &Self| known.admitted.sessions.iter().map(|s| s.hash).collect::<Vec<_>>();
        tokens(self) == tokens(other) && users(self) == users(other) && sessions(self) == sessions(other)
    }
}

/// What was used.
enum Use {
    Token(Token),
    Session([u8; 32]),
}

/// Follows the store.
pub(crate) struct Admission {
    known: watch::Receiver<Arc<Known>>,
    reading: Arc<Reading>,
    limits: SessionLimits,
    /// When each was last handed over to be noted.
    noted: Mutex<HashMap<[u8; 32], Micros>>,
    used: mpsc::Sender<Use>,
    tasks: [AbortHandle; 2],
}

/// Reads, one after the other, so that nothing older takes the place of something newer.
struct Reading {
    store: Store,
    known: tokio::sync::Mutex<watch::Sender<Arc<Known>>>,
}

impl Reading {
    async fn again(&self) -> Result<(), vedette_store::Error> {
        let known = self.known.lock().await;
        if self.store.access_version().await? == known.borrow().admitted.version {
            return Ok(());
        }
        let new = Known::of(self.store.admitted().await?);
        known.send_if_modified(|known| {
            let changed = !known.lets_in_the_same(&new);
            *known = Arc::new(new);
            changed
        });
        Ok(())
    }
}

impl Admission {
    /// Reads what the store admits, and keeps on reading.
    pub async fn follow(store: &Store, limits: SessionLimits) -> Result<Self, Error> {
        let (send, known) = watch::channel(Arc::new(Known::of(store.admitted().await?)));
        let reading = Arc::new(Reading { store: store.clone(), known: tokio::sync::Mutex::new(send) });
        let (used, uses) = mpsc::channel(USES);
        let following = tokio::spawn(follow(Arc::clone(&reading), limits));
        let noting = tokio::spawn(note_uses(store.clone(), uses));
        let tasks = [following.abort_handle(), noting.abort_handle()];
        Ok(Self { known, reading, limits, noted: Mutex::default(), used, tasks })
    }

    /// True if there is a token or a user who may come in.
    pub fn any(&self) -> bool {
        let known = self.known.borrow();
        !known.admitted.tokens.is_empty()
            || known.admitted.users.iter().any(|user| user.disabled_at.is_none())
    }

    /// How long sessions last.
    pub fn limits(&self) -> SessionLimits {
        self.limits
    }

    /// What is known now.
    pub fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.borrow())
    }

    /// Ready at each change, for streams.
    pub fn changes(&self) -> watch::Receiver<Arc<Known>> {
        self.known.clone()
    }

    /// Reads at once what was just changed here, so that the next request meets it.
    pub async fn catch_up(&self) -> Result<(), vedette_store::Error> {
        self.reading.again().await
    }

    /// Whose token this is. Never waits.
    pub fn token(&self, presented: &str) -> Result<Caller, Problem> {
        let known = self.known();
        let Some(token) = find_token(presented, &known.admitted.tokens) else {
            return Err(Problem::new(Kind::Unauthenticated, "This token is not known or was revoked."));
        };
        if self.is_to_note(token.hash, token.last_used_at, &known) {
            let _ = self.used.try_send(Use::Token(token.clone()));
        }
        let credential = Credential::Token(token.hash);
        Ok(Caller { name: token.name.clone(), role: token.role, ambient: false, credential })
    }

    /// Whose session this is; `None` if it is over. Never waits.
    pub fn session(&self, secret: &str) -> Option<Caller> {
        let (known, hash) = (self.known(), session::hash(secret));
        let (session, user) = self.running(&known, &hash)?;
        if self.is_to_note(hash, Some(session.last_used_at), &known) {
            let _ = self.used.try_send(Use::Session(hash));
        }
        let credential = Credential::Session { hash, id: session.id.clone(), csrf: session::csrf(secret) };
        Some(Caller { name: user.name.clone(), role: user.role, ambient: true, credential })
    }

    /// True if what the caller came with lets in still, with the same role.
    pub fn still_lets_in(&self, caller: &Caller) -> bool {
        let known = self.known();
        match &caller.credential {
            Credential::None => true,
            Credential::Token(hash) => {
                known.admitted.tokens.iter().any(|token| token.hash == *hash && token.role == caller.role)
            }
            Credential::Session { hash, .. } => {
                self.running(&known, hash).is_some_and(|(_, user)| user.role == caller.role)
            }
        }
    }

    /// A session that is not over, and its user.
    fn running<'a>(&self, known: &'a Known, hash: &[u8; 32]) -> Option<(&'a Session, &'a User)> {
        let session = known.session(hash)?;
        let user = known.user(&session.user).filter(|user| user.disabled_at.is_none())?;
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner).get(hash).copied();
        let (now, used) = (now(), noted.max(Some(session.last_used_at))?);
        let over =
            now.since(used) >= self.limits.idle || now.since(session.created_at) >= self.limits.longest;
        (!over).then_some((session, user))
    }

    /// True about once a minute for each; remembers it.
    fn is_to_note(&self, hash: [u8; 32], last: Option<Micros>, known: &Known) -> bool {
        let now = now();
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let last = noted.get(&hash).copied().max(last);
        if last.is_some_and(|last| now.since(last) < MINUTE) {
            return false;
        }
        let there = |hash: &[u8; 32]| {
            known.sessions.contains_key(hash) || known.admitted.tokens.iter().any(|token| token.hash == *hash)
        };
        noted.retain(|hash, _| there(hash));
        noted.insert(hash, now);
        true
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// Reads again and again. A store that does not answer changes nothing: it makes and revokes nothing.
async fn follow(reading: Arc<Reading>, limits: SessionLimits) {
    let (mut failing, mut removed) = (false, tokio::time::Instant::now());
    loop {
        tokio::time::sleep(READ_AGAIN).await;
        match reading.again().await {
            Ok(()) => failing = false,
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "users and tokens cannot be read; those known stay in force until they can"
                    );
                }
            }
        }
        if removed.elapsed() >= REMOVE_EVERY {
            removed = tokio::time::Instant::now();
            let (now, before) = (now(), |span: Span| Micros(now().0 - span.0));
            if let Err(error) =
                reading.store.remove_sessions(before(limits.idle), before(limits.longest)).await
            {
                tracing::warn!(%now, error = &error as &dyn std::error::Error, "old sessions were not removed");
            }
        }
    }
}

/// Notes uses, one write after the other, as slow as the store may be.
async fn note_uses(store: Store, mut uses: mpsc::Receiver<Use>) {
    while let Some(used) = uses.recv().await {
        let noted = match used {
            Use::Token(token) => store.token_used(&token).await,
            Use::Session(hash) => store.session_used(hash).await,
        };
        if let Err(error) = noted {
            tracing::warn!(error = &error as &dyn std::error::Error, "a use could not be noted");
        }
    }
}
