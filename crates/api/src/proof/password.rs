//! Passwords: argon2id, a few at a time.
//!
//! In: a password and perhaps the string it is known by. Out: whether they belong together. Invariants: who does not exist
//! costs the same as who does; at most two are hashed at once, on threads that answer nobody, since each takes 19 MiB and
//! tens of milliseconds.

use argon2::{
    Argon2, PasswordHash, PasswordHasher as _, PasswordVerifier as _,
    password_hash::{Salt, SaltString},
};
use tokio::sync::Semaphore;

use crate::{
    error::Error,
    problem::{Kind, Problem},
};

/// Hashed at once: more would take cores from detection, and people sign in a few times a day.
const AT_ONCE: usize = 2;
/// Characters: NIST asks for 8 and for no rules beside length; what analysts can do here asks for more.
pub(crate) const LENGTH: std::ops::RangeInclusive<usize> = 12..=128;
/// No password belongs to it, and checking one takes the same work as any other.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5bm9ib2R5bm9ib2R5$\
                      bm9ib2R5bm9ib2R5bm9ib2R5bm9ib2R5bm9ib2R5bm8";

/// Permits.
#[derive(Debug)]
pub(crate) struct Passwords(Semaphore);

impl Default for Passwords {
    fn default() -> Self {
        Self(Semaphore::new(AT_ONCE))
    }
}

impl Passwords {
    /// True if the password is the one of this string; `None` is nobody's, and takes as long.
    pub async fn verify(&self, password: &str, known: Option<&str>) -> Result<bool, Problem> {
        let (password, known) = (password.to_owned(), known.unwrap_or(NOBODY).to_owned());
        self.work(move || verify(&password, &known)).await
    }

    /// The string by which a password is known.
    pub async fn hash(&self, password: &str) -> Result<String, Problem> {
        let password = password.to_owned();
        self.work(move || hash(&password)).await?.map_err(super::no_random)
    }

    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
        // Never closed. Who waits has one of the few permits of the guard for this kind of work.
        let _permit = self.0.acquire().await;
        tokio::task::spawn_blocking(work).await.map_err(|_| {
            tracing::error!("checking a password panicked");
            Problem::new(Kind::Internal, "This request hit a fault in Vedette; the log says more.")
        })
    }
}

fn verify(password: &str, known: &str) -> bool {
    PasswordHash::new(known)
        .is_ok_and(|known| Argon2::default().verify_password(password.as_bytes(), &known).is_ok())
}

/// The argon2id string of a password: OWASP's first choice, 19 MiB and two passes.
///
/// # Errors
/// [`Error::Random`] if the system gives no salt.
pub fn hash(password: &str) -> Result<String, Error> {
    let mut random = [0_u8; Salt::RECOMMENDED_LENGTH];
    getrandom::fill(&mut random).map_err(|e| Error::Random(e.to_string()))?;
    let bad = |e: argon2::password_hash::Error| Error::Random(e.to_string());
    let salt = SaltString::encode_b64(&random).map_err(bad)?;
    Ok(Argon2::default().hash_password(password.as_bytes(), &salt).map_err(bad)?.to_string())
}

/// Says what is wrong with a new password, if anything is.
///
/// # Errors
/// What to do better.
pub fn acceptable(name: &str, password: &str) -> Result<(), String> {
    let (least, most) = (LENGTH.start(), LENGTH.end());
    if !LENGTH.contains(&password.chars().count()) {
        return Err(format!("a password has {least} to {most} characters; a few words are best"));
    }
    if password.chars().any(char::is_control) {
        return Err("a password has no control characters".to_owned());
    }
    let (lower, mut seen) = (password.to_lowercase(), std::collections::BTreeSet::new());
    seen.extend(lower.chars());
    if seen.len() < 5 || (name.chars().count() > 3 && lower.contains(&name.to_lowercase())) {
        return Err(
            "this password is easy to guess; take a few words that have nothing to do with you".to_owned()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_password_is_known_by_its_own_string_only() {
        let known = hash("correct horse battery").unwrap();
        assert!(known.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{known}");
        assert_ne!(known, hash("correct horse battery").unwrap());
        assert!(verify("correct horse battery", &known));
        assert!(!verify("correct horse batterz", &known));
        assert!(!verify("", &known) && !verify("x", "no string"));
    }

    /// The same parameters, so the same work.
    #[test]
    fn nobody_costs_as_much_as_somebody() {
        let nobody = PasswordHash::new(NOBODY).unwrap();
        let known = hash("correct horse battery").unwrap();
        let somebody = PasswordHash::new(&known).unwrap();
        assert_eq!((nobody.algorithm, nobody.version), (somebody.algorithm, somebody.version));
        assert_eq!(nobody.params, somebody.params);
        assert_eq!(nobody.hash.unwrap().len(), somebody.hash.unwrap().len());
        assert!(!verify("nobody", NOBODY));
    }

    #[test]
    fn short_and_obvious_passwords_are_refused() {
        assert_eq!(acceptable("ann", "correct horse battery"), Ok(()));
        for wrong in
            ["", "elevenchars", &"x".repeat(129), "aaaaaaaaaaaaaaa", "anna.meier 2026", "tab\tin the middle"]
        {
            assert!(acceptable("Anna.Meier", wrong).is_err(), "{wrong}");
        }
    }
}
