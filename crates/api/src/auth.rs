//! Who is calling: bearer tokens and their roles.
//!
//! In: an `Authorization` header and the stored hashes. Out: a [`Caller`].
//! Invariants: a token is never stored, logged or shown again; only its SHA-256 is kept, and it is compared in
//! constant time with every stored hash, so timing tells nothing about any of them.

use std::{
    fmt::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use tokio::sync::RwLock;
use vedette_event::Span;
use vedette_store::{
    Store,
    model::{Role, Token},
};

use crate::{
    error::Error,
    metrics::now,
    problem::{Kind, Problem},
};

/// What every token starts with, so that a leaked one is recognised by scanners.
pub const TOKEN_PREFIX: &str = "vdt_";

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

    /// Refuses a role below `least`.
    ///
    /// # Errors
    /// A `forbidden` problem.
    pub fn require(&self, least: Role) -> Result<(), Problem> {
        if self.role >= least {
            return Ok(());
        }
        let detail = format!("This needs the role {}; the token has {}.", least.name(), self.role.name());
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

/// The stored tokens, read again when they are older than five seconds, so that a revoked one ends soon.
#[derive(Debug)]
pub(crate) struct Tokens {
    known: RwLock<(Instant, Arc<[Token]>)>,
}

const KEEP: Duration = Duration::from_secs(5);
const MINUTE: Span = Span::secs(60);

impl Tokens {
    /// Reads them for the first time.
    pub async fn load(store: &Store) -> Result<Self, Error> {
        let tokens = store.tokens().await?;
        Ok(Self { known: RwLock::new((Instant::now(), tokens.into())) })
    }

    /// True if one of them is not revoked.
    pub async fn any_in_force(&self) -> bool {
        self.known.read().await.1.iter().any(|token| token.revoked_at.is_none())
    }

    /// Whose token this is.
    pub async fn caller(&self, store: &Store, presented: &str) -> Result<Caller, Problem> {
        let known = self.fresh(store).await?;
        let Some(token) = find_token(presented, &known) else {
            return Err(Problem::new(Kind::Unauthenticated, "This token is not known or was revoked."));
        };
        if token.last_used_at.is_none_or(|last| now().since(last) >= MINUTE) {
            self.note_use(store, token).await;
        }
        Ok(Caller { name: token.name.clone(), role: token.role, ambient: false })
    }

    /// Notes in the store, and here, that a token was used: about once a minute.
    async fn note_use(&self, store: &Store, used: &Token) {
        for token in Arc::make_mut(&mut self.known.write().await.1) {
            if token.hash == used.hash {
                token.last_used_at = Some(now());
            }
        }
        if let Err(error) = store.token_used(used).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "a token's use could not be noted");
        }
    }

    async fn fresh(&self, store: &Store) -> Result<Arc<[Token]>, Problem> {
        let (read_at, known) = self.known.read().await.clone();
        if read_at.elapsed() < KEEP {
            return Ok(known);
        }
        let tokens: Arc<[Token]> = store.tokens().await?.into();
        *self.known.write().await = (Instant::now(), Arc::clone(&tokens));
        Ok(tokens)
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
