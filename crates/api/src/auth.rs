//! Who is calling: bearer tokens and their roles.
//!
//! In: an `Authorization` header and the stored hashes. Out: a [`Caller`].
//! Invariants: a token is never stored, logged or shown again; only its SHA-256 is kept, and it is compared in
//! constant time with every stored hash, so timing tells nothing about any of them; letting somebody in waits for
//! nothing; a token made or revoked elsewhere counts within a second.

use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
};
use vedette_event::{Micros, Span};
use vedette_store::{
    Store,
    model::{Role, Token},
};

use crate::{
    access::Permission,
    error::Error,
    metrics::now,
    problem::{Kind, Problem},
};

/// What every token starts with, so that a leaked one is recognised by scanners.
pub const TOKEN_PREFIX: &str = "vdt_";

/// 256 bits: nobody guesses one, and so its hash needs no salt and no slowness.
const RANDOM_BYTES: usize = 32;

/// A new token: the text is shown once, the hash is stored.
pub struct NewToken {
    /// `vdt_` and 64 hexadecimal digits.
    pub text: String,
    /// SHA-256 of the text.
    pub hash: [u8; 32],
}

/// Makes a token from 32 random bytes of the operating system.
///
/// # Errors
/// [`Error::Random`] if the system gives none.
pub fn create_token() -> Result<NewToken, Error> {
    let mut random = [0_u8; RANDOM_BYTES];
    getrandom::fill(&mut random).map_err(|e| Error::Random(e.to_string()))?;
    let text = format!("{TOKEN_PREFIX}{}", hex(&random));
    let hash = hash_token(&text);
    Ok(NewToken { text, hash })
}

/// The SHA-256 under which a token is stored.
#[must_use]
pub fn hash_token(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Who makes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The token's name; `local` where no token is needed.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// True if no credential was shown, so that a browser could have been talked into the request.
    pub ambient: bool,
}

impl Caller {
    /// The person at a loopback console that needs no token.
    #[must_use]
    pub fn local() -> Self {
        Self { name: "local".to_owned(), role: Role::Admin, ambient: true }
    }

    /// True if the caller has this permission.
    #[must_use]
    pub fn may(&self, permission: Permission) -> bool {
        self.role >= permission.least()
    }

    /// Refuses a role below `least`.
    ///
    /// # Errors
    /// A `forbidden` problem.
    pub fn require(&self, least: Role) -> Result<(), Problem> {
        if self.role >= least {
            return Ok(());
        }
        let detail = format!("This needs the role {}; yours is {}.", least.name(), self.role.name());
        Err(Problem::new(Kind::Forbidden, detail))
    }
}

/// The token in force whose hash is that of `presented`. Every hash is compared, whatever the outcome.
#[must_use]
pub fn find_token<'a>(presented: &str, known: &'a [Token]) -> Option<&'a Token> {
    let presented = hash_token(presented);
    let mut at = u64::MAX;
    for (index, token) in known.iter().enumerate() {
        let same: Choice = presented.ct_eq(&token.hash);
        at = u64::conditional_select(&at, &(index as u64), same);
    }
    usize::try_from(at).ok().and_then(|at| known.get(at)).filter(|token| token.revoked_at.is_none())
}

/// The tokens in force, held in memory, so that no request reads or writes the store to be let in: a store that is
/// busy, full of searches or locked keeps nobody out. One task reads them again a few times a second, and a second one
/// notes their use.
#[derive(Debug)]
pub(crate) struct Tokens {
    known: watch::Receiver<Arc<[Token]>>,
    /// When each was last handed over to be noted.
    noted: Mutex<HashMap<[u8; 32], Micros>>,
    used: mpsc::Sender<Token>,
    tasks: [AbortHandle; 2],
}

/// How often they are read. A change counts within a second, and this is a quarter: reading a few rows takes less than
/// a millisecond, and tokens made or revoked by another process announce themselves in no other way.
const READ_AGAIN: Duration = Duration::from_millis(250);
/// Uses that may wait to be noted. More are dropped, and noted at the next use.
const USES: usize = 64;
const MINUTE: Span = Span::secs(60);

impl Tokens {
    /// Reads them, and keeps on reading.
    pub async fn follow(store: &Store) -> Result<Self, Error> {
        let (send, known) = watch::channel(Arc::from(store.tokens_in_force().await?));
        let (used, uses) = mpsc::channel(USES);
        let reading = tokio::spawn(read_again(store.clone(), send));
        let noting = tokio::spawn(note_uses(store.clone(), uses));
        let tasks = [reading.abort_handle(), noting.abort_handle()];
        Ok(Self { known, noted: Mutex::default(), used, tasks })
    }

    /// True if there is one.
    pub fn any(&self) -> bool {
        !self.known.borrow().is_empty()
    }

    /// Ready at each change, for streams.
    pub fn changes(&self) -> watch::Receiver<Arc<[Token]>> {
        self.known.clone()
    }

    /// Whose token this is. Never waits.
    pub fn caller(&self, presented: &str) -> Result<Caller, Problem> {
        let known = Arc::clone(&self.known.borrow());
        let Some(token) = find_token(presented, &known) else {
            return Err(Problem::new(Kind::Unauthenticated, "This token is not known or was revoked."));
        };
        self.note_use(token, &known);
        Ok(Caller { name: token.name.clone(), role: token.role, ambient: false })
    }

    /// Hands a use over to be noted, about once a minute for each token.
    fn note_use(&self, token: &Token, known: &[Token]) {
        let now = now();
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let last = noted.get(&token.hash).copied().max(token.last_used_at);
        if last.is_some_and(|last| now.since(last) < MINUTE) {
            return;
        }
        if self.used.try_send(token.clone()).is_ok() {
            noted.retain(|hash, _| known.iter().any(|token| token.hash == *hash));
            noted.insert(token.hash, now);
        }
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// Reads the tokens again and again. A store that does not answer changes nothing: it makes and revokes none.
async fn read_again(store: Store, known: watch::Sender<Arc<[Token]>>) {
    let mut failing = false;
    loop {
        tokio::time::sleep(READ_AGAIN).await;
        match store.tokens_in_force().await {
            Ok(tokens) => {
                failing = false;
                known.send_if_modified(|known| {
                    let changed = !same(known, &tokens);
                    *known = tokens.into();
                    changed
                });
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "tokens cannot be read; those known stay in force until they can"
                    );
                }
            }
        }
    }
}

/// True if both let in the same tokens with the same roles; when they were used says nothing.
fn same(a: &[Token], b: &[Token]) -> bool {
    let part = |token: &Token| (token.hash, token.role);
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| part(a) == part(b))
}

/// Notes the use of tokens, one write after the other, as slow as the store may be.
async fn note_uses(store: Store, mut uses: mpsc::Receiver<Token>) {
    while let Some(token) = uses.recv().await {
        if let Err(error) = store.token_used(&token).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "a token's use could not be noted");
        }
    }
}

/// The token in an `Authorization` header's value.
///
/// # Errors
/// An `unauthenticated` problem if it is no bearer token.
pub fn bearer(header: &str) -> Result<&str, Problem> {
    let token = header.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    token.map(|(_, token)| token.trim()).filter(|token| token.len() <= 256).ok_or_else(|| {
        Problem::new(Kind::Unauthenticated, "The Authorization header must read `Bearer vdt_…`.")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use vedette_event::Micros;

    use super::*;

    fn known(name: &str, text: &str) -> Token {
        Token {
            name: name.to_owned(),
            role: Role::Analyst,
            hash: hash_token(text),
            created_at: Micros(0),
            revoked_at: None,
            last_used_at: None,
        }
    }

    #[test]
    fn tokens_are_random_prefixed_and_stored_as_a_hash() {
        let (a, b) = (create_token().unwrap(), create_token().unwrap());
        assert_ne!(a.text, b.text);
        assert!(a.text.starts_with(TOKEN_PREFIX));
        assert_eq!(a.text.len(), 4 + 64);
        assert_eq!(a.hash, hash_token(&a.text));
    }

    #[test]
    fn the_matching_token_is_found_wherever_it_stands() {
        let mut tokens = [known("ann", "vdt_a"), known("eve", "vdt_e"), known("ada", "vdt_x")];
        assert_eq!(find_token("vdt_a", &tokens).unwrap().name, "ann");
        assert_eq!(find_token("vdt_x", &tokens).unwrap().name, "ada");
        assert_eq!(find_token("vdt_", &tokens), None);
        tokens[0].revoked_at = Some(Micros(1));
        assert_eq!(find_token("vdt_a", &tokens), None);
        assert_eq!(find_token("vdt_a", &[]), None);
    }

    #[test]
    fn only_bearer_tokens_are_read() {
        assert_eq!(bearer("Bearer vdt_1").unwrap(), "vdt_1");
        assert_eq!(bearer("bearer vdt_1").unwrap(), "vdt_1");
        for wrong in ["vdt_1", "Basic dXNlcg==", "Bearer", &format!("Bearer {}", "x".repeat(300))] {
            assert!(bearer(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn roles_are_ordered() {
        let caller = Caller { name: "ann".into(), role: Role::Engineer, ambient: false };
        assert!(caller.require(Role::Analyst).is_ok());
        assert!(caller.require(Role::Engineer).is_ok());
        assert!(caller.require(Role::Admin).is_err());
    }
}
