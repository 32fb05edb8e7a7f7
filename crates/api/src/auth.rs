//! Who is calling, and the bearer tokens of programs.
//!
//! In: an `Authorization` header and the stored hashes. Out: a [`Caller`].
//! Invariants: a token is never stored, logged or shown again; only its SHA-256 is kept, and it is compared in
//! constant time with every stored hash, so timing tells nothing about any of them.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use vedette_store::model::{Role, Token};

pub use crate::proof::{
    password::{acceptable as acceptable_password, hash as hash_password},
    totp::{create as create_authenticator, link as authenticator_link, written as written_authenticator},
};
use crate::{
    access::Permission,
    error::Error,
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
    let text = format!("{TOKEN_PREFIX}{}", random_hex::<RANDOM_BYTES>()?);
    let hash = hash_token(&text);
    Ok(NewToken { text, hash })
}

/// The SHA-256 under which a token is stored.
#[must_use]
pub fn hash_token(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// `N` random bytes of the operating system, in hexadecimal digits.
pub(crate) fn random_hex<const N: usize>() -> Result<String, Error> {
    let mut random = [0_u8; N];
    getrandom::fill(&mut random).map_err(|e| Error::Random(e.to_string()))?;
    Ok(hex(&random))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Who makes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user's or the token's name; `local` where nothing is needed.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// True if a browser could have been talked into the request: nothing was shown, or a cookie that it sends by itself.
    pub ambient: bool,
    /// What they came with.
    pub credential: Credential,
}

tokio::task_local! {
    static ASKING: Option<Caller>;
}

/// Answers a request on behalf of whoever asks, so that the frame around every page can say who that is without each page
/// handing it on.
pub(crate) async fn on_behalf_of<T>(caller: Option<Caller>, answer: impl Future<Output = T>) -> T {
    ASKING.scope(caller, answer).await
}

/// Who asks for what is being answered.
pub(crate) fn asking() -> Option<Caller> {
    ASKING.try_with(Clone::clone).ok().flatten()
}

/// What a caller came with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// Nothing, where nothing is needed.
    None,
    /// The token of this hash.
    Token([u8; 32]),
    /// A session.
    Session {
        /// Its hash.
        hash: [u8; 32],
        /// What lists call it.
        id: String,
        /// What its forms carry.
        csrf: String,
    },
}

impl Caller {
    /// The person at a loopback console that needs no token.
    #[must_use]
    pub fn local() -> Self {
        Self { name: "local".to_owned(), role: Role::Admin, ambient: true, credential: Credential::None }
    }

    /// What the forms of the caller's session carry.
    #[must_use]
    pub fn csrf(&self) -> Option<&str> {
        match &self.credential {
            Credential::Session { csrf, .. } => Some(csrf),
            _ => None,
        }
    }

    /// True if the caller has this permission.
    #[must_use]
    pub fn may(&self, permission: Permission) -> bool {
        self.role.includes(permission.least())
    }

    /// Refuses a role below `least`.
    ///
    /// # Errors
    /// A `forbidden` problem.
    pub fn require(&self, least: Role) -> Result<(), Problem> {
        if self.role.includes(least) {
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

/// The token in an `Authorization` header's value: as a bearer's, or as the password of any name, since firewalls know
/// nothing else.
///
/// # Errors
/// An `unauthenticated` problem if it is neither.
pub fn bearer_or_password(header: &str) -> Result<String, Problem> {
    let basic = header.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"));
    let Some((_, encoded)) = basic else { return bearer(header).map(str::to_owned) };
    let pair = (encoded.len() <= 1_024).then(|| STANDARD.decode(encoded.trim()).ok()).flatten();
    let pair = pair.and_then(|pair| String::from_utf8(pair).ok());
    let password = pair.as_deref().and_then(|pair| Some(pair.split_once(':')?.1.to_owned()));
    password.ok_or_else(|| {
        Problem::new(Kind::Unauthenticated, "The Authorization header is no name and password.")
    })
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
        let caller =
            Caller { name: "ann".into(), role: Role::Engineer, ambient: false, credential: Credential::None };
        assert!(caller.require(Role::Analyst).is_ok());
        assert!(caller.require(Role::Engineer).is_ok());
        assert!(caller.require(Role::Admin).is_err());
        // Those of programs stand beside them.
        assert!(caller.require(Role::Bouncer).is_ok() && caller.require(Role::Metrics).is_ok());
        let bouncer = Caller { role: Role::Bouncer, ..caller };
        assert!(bouncer.require(Role::Bouncer).is_ok());
        for other in [Role::Metrics, Role::Reader, Role::Admin] {
            assert!(bouncer.require(other).is_err(), "{other}");
        }
    }

    #[test]
    fn a_token_is_taken_as_a_password() {
        for (header, token) in [
            ("Bearer vdt_1", "vdt_1"),
            ("Basic cGFuLW9zOnZkdF8x", "vdt_1"),
            ("basic OnZkdF8x", "vdt_1"),
            ("Basic YTpiOmM=", "b:c"),
        ] {
            assert_eq!(bearer_or_password(header).unwrap(), token);
        }
        let long = format!("Basic {}", "QUFB".repeat(300));
        for wrong in ["Basic", "Basic ", "Basic !", "Basic YWJj", "Basic /w==", "Digest x", long.as_str()] {
            assert!(bearer_or_password(wrong).is_err(), "{wrong}");
        }
    }
}
