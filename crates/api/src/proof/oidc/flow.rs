//! One sign-in at the provider, from its beginning to its answer.
//!
//! In: random bytes, and where to go on. Out: a cookie, and state, nonce and PKCE's verifier, which follow from it.
//! Invariants: only the browser with the cookie can finish what it began; a cookie that was changed in any part fits no
//! answer; the server keeps nothing, so that strangers who begin thousands push nobody's out.

use sha2::{Digest as _, Sha256};
use vedette_event::{Micros, Span};

use crate::{
    auth::{hex, random_hex},
    error::Error,
    proof::seconds,
    session::same,
};

/// How long it may take to sign in at the provider, with a second factor that has to be fetched.
pub(crate) const LASTS: Span = Span::secs(600);
/// Bytes of a cookie that browsers keep.
const MAX_COOKIE: usize = 4_000;
/// Bytes of what stands in it before where to go on: the secret and the second, each with a dot.
const MARKS: usize = 64 + 1 + 20 + 1;

/// What the cookie holds.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Flow {
    cookie: String,
    /// Where to go on: a path, checked by who uses it.
    pub next: String,
}

impl Flow {
    /// Begins one.
    pub fn begin(next: &str, now: Micros) -> Result<Self, Error> {
        let encoded: String = form_urlencoded::byte_serialize(next.as_bytes()).collect();
        // Rather the queue than none at all.
        let (next, encoded) =
            if encoded.len() + MARKS <= MAX_COOKIE { (next, encoded) } else { ("/", "%2F".to_owned()) };
        let cookie = format!("{}.{}.{encoded}", random_hex::<32>()?, seconds(now));
        Ok(Self { cookie, next: next.to_owned() })
    }

    /// The one that this cookie is of; `None` if it is none, or too old.
    pub fn read(cookie: &str, now: Micros) -> Option<Self> {
        let mut parts = cookie.splitn(3, '.');
        let (secret, began, next) = (parts.next()?, parts.next()?.parse::<i64>().ok()?, parts.next()?);
        let age = seconds(now).checked_sub(began)?;
        if cookie.len() > MAX_COOKIE || secret.len() != 64 || !(0..LASTS.0 / 1_000_000).contains(&age) {
            return None;
        }
        let next = form_urlencoded::parse(next.as_bytes()).next()?.0.into_owned();
        Some(Self { cookie: cookie.to_owned(), next })
    }

    /// What the browser keeps.
    pub fn cookie(&self) -> &str {
        &self.cookie
    }

    /// What comes back with the answer.
    pub fn state(&self) -> String {
        self.derived("state")
    }

    /// What the token bears.
    pub fn nonce(&self) -> String {
        self.derived("nonce")
    }

    /// What shows, when the code is handed in, that it was asked for here (PKCE).
    pub fn verifier(&self) -> String {
        self.derived("verifier")
    }

    /// True if the answer is to this one.
    pub fn is_of(&self, state: &str) -> bool {
        same(&self.state(), state)
    }

    /// None of these gives another away, nor the cookie.
    fn derived(&self, what: &str) -> String {
        let mut hash = Sha256::new();
        for part in [what, " of the sign-in ", &self.cookie] {
            hash.update(part.as_bytes());
        }
        hex(&hash.finalize())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: Micros = Micros(1_769_860_800_000_000);

    fn later(seconds: i64) -> Micros {
        Micros(NOW.0 + seconds * 1_000_000)
    }

    #[test]
    fn what_was_begun_is_found_again_for_ten_minutes() {
        let flow = Flow::begin("/alerts/1?x=a.b;c", NOW).unwrap();
        assert!(flow.cookie().bytes().all(|b| b.is_ascii_alphanumeric() || b".%-_*+".contains(&b)));
        for at in [0, 1, 599] {
            let read = Flow::read(flow.cookie(), later(at)).unwrap();
            assert!(read == flow && read.next == "/alerts/1?x=a.b;c" && read.is_of(&flow.state()));
        }
        for at in [-1, 600, i64::MAX / 2_000_000] {
            assert!(Flow::read(flow.cookie(), later(at)).is_none(), "{at}");
        }
    }

    #[test]
    fn each_is_its_own_and_no_part_can_be_changed() {
        let (flow, other) = (Flow::begin("/", NOW).unwrap(), Flow::begin("/", NOW).unwrap());
        let parts = [flow.state(), flow.nonce(), flow.verifier(), other.state(), flow.cookie().to_owned()];
        for (at, part) in parts.iter().enumerate() {
            assert!(part.len() >= 43, "PKCE asks for as many");
            assert!(!parts[..at].contains(part));
        }
        assert!(!flow.is_of(&other.state()) && !flow.is_of(""));
        let [secret, began, _] = flow.cookie().split('.').collect::<Vec<_>>()[..] else { panic!() };
        let began: i64 = began.parse().unwrap();
        let zeros = "0".repeat(64);
        for changed in [
            format!("{secret}.{began}.%2Frules"),
            format!("{secret}.{}.%2F", began - 1),
            format!("{zeros}.{began}.%2F"),
        ] {
            assert!(!Flow::read(&changed, NOW).unwrap().is_of(&flow.state()), "{changed}");
        }
        for none in ["", ".", "..", "a.b.c", &format!("{secret}.{began}"), &format!("{secret}.x.%2F")] {
            assert!(Flow::read(none, NOW).is_none(), "{none}");
        }
    }

    #[test]
    fn a_cookie_always_fits() {
        for next in [format!("/{}", "&".repeat(1_023)), format!("/{}", "&".repeat(9_999))] {
            let flow = Flow::begin(&next, NOW).unwrap();
            assert!(flow.cookie().len() <= MAX_COOKIE);
            assert_eq!(flow.next.len(), if next.len() > 2_000 { 1 } else { next.len() });
            assert!(Flow::read(flow.cookie(), NOW).unwrap() == flow);
        }
    }
}
