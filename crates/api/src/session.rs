//! A session's secret: made, kept in a cookie, known by its hash, and what forms carry beside it.
//!
//! In: random bytes of the system, request headers. Out: the cookie and the form token. Invariants: only the hash of the
//! secret is ever stored; the cookie is out of reach of scripts and of other sites' requests, and where there is TLS it is
//! bound to this host (`__Host-`); the form token follows from the secret and does not give it away.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use vedette_event::Span;

use crate::{auth::random_hex, error::Error};

/// The field of a form, and the header of a script, that carries the form token.
pub(crate) const CSRF_FIELD: &str = "csrf";
pub(crate) const CSRF_HEADER: &str = "x-csrf-token";

/// Names of the cookies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cookie {
    /// The session.
    Session,
    /// A sign-in under way at the identity provider.
    SignIn,
}

impl Cookie {
    fn name(self, secure: bool) -> &'static str {
        match (self, secure) {
            (Self::Session, true) => "__Host-vedette",
            (Self::Session, false) => "vedette",
            (Self::SignIn, true) => "__Host-vedette-sign-in",
            (Self::SignIn, false) => "vedette-sign-in",
        }
    }

    /// The value that a request bears. Where it bears several of one name, the first.
    pub fn read(self, headers: &HeaderMap, secure: bool) -> Option<&str> {
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, _)| *name == self.name(secure)).map(|(_, value)| value)
    }

    /// The header that sets it. `Lax`, because a browser that comes back from an identity provider comes from another
    /// site, and would meet the sign-in page again; what changes something bears the form token besides.
    pub fn set(self, value: &str, lasts: Span, secure: bool) -> Option<HeaderValue> {
        let (name, seconds) = (self.name(secure), lasts.0 / 1_000_000);
        let secure = if secure { "; Secure" } else { "" };
        let text = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
        HeaderValue::from_str(&text).ok()
    }

    /// The header that takes it away.
    pub fn clear(self, secure: bool) -> Option<HeaderValue> {
        self.set("", Span::ZERO, secure)
    }
}

/// A new session.
pub(crate) struct NewSecret {
    /// 64 hexadecimal digits, for the cookie.
    pub text: String,
    /// What is stored.
    pub hash: [u8; 32],
    /// What lists call it; independent of the secret.
    pub id: String,
}

/// Makes the secret of a session.
pub(crate) fn create() -> Result<NewSecret, Error> {
    let text = random_hex::<32>()?;
    Ok(NewSecret { hash: hash(&text), text, id: random_hex::<8>()? })
}

/// What is sent along where somebody is signed out. Chromium keeps pages whole to go back to them at once, also those that
/// nobody may store, and shows them to who sits there next (measured: one step back showed the page, without a request).
pub(crate) fn forget_pages() -> (HeaderName, HeaderValue) {
    (HeaderName::from_static("clear-site-data"), HeaderValue::from_static("\"cache\""))
}

/// What a session's secret is known by: 256 random bits need neither salt nor slowness.
pub(crate) fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// What forms of this session carry.
pub(crate) fn csrf(secret: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(b"form token of ");
    hash.update(secret.as_bytes());
    crate::auth::hex(&hash.finalize())
}

/// True if both are the same, compared in constant time.
pub(crate) fn same(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

/// Where to go after signing in: a path of this server, else the queue. A browser takes `//host` and `/\host` for other
/// hosts, and drops tabs and line ends before it looks.
pub(crate) fn checked_path(path: &str) -> &str {
    let plain = path.bytes().all(|b| (b'!'..=b'~').contains(&b) && b != b'\\');
    let here = path.starts_with('/') && !path.starts_with("//") && path.len() <= 1_024;
    // Going back to where one signs in or out would go round in circles.
    let around = path.starts_with("/sign-in") || path.starts_with("/sign-out");
    if plain && here && !around { path } else { "/" }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn secrets_are_random_and_give_nothing_away() {
        let (a, b) = (create().unwrap(), create().unwrap());
        assert_eq!(a.text.len(), 64);
        assert!(a.text != b.text && a.id != b.id && !a.text.contains(&a.id));
        assert_eq!(a.hash, hash(&a.text));
        assert_ne!(csrf(&a.text), csrf(&b.text));
        assert_ne!(csrf(&a.text), crate::auth::hex(&a.hash));
    }

    #[test]
    fn cookies_are_out_of_reach() {
        let set = |secure| {
            let header = Cookie::Session.set("x", Span::secs(60), secure).unwrap();
            header.to_str().unwrap().to_owned()
        };
        assert_eq!(set(true), "__Host-vedette=x; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure");
        assert_eq!(set(false), "vedette=x; Path=/; Max-Age=60; HttpOnly; SameSite=Lax");
        let mut headers = HeaderMap::new();
        headers
            .insert(header::COOKIE, HeaderValue::from_static("a=b; vedette=1;__Host-vedette=2; vedette=3"));
        assert_eq!(Cookie::Session.read(&headers, false), Some("1"));
        assert_eq!(Cookie::Session.read(&headers, true), Some("2"));
        assert_eq!(Cookie::SignIn.read(&headers, true), None);
        let cleared = Cookie::SignIn.clear(true).unwrap();
        let expected = "__Host-vedette-sign-in=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure";
        assert_eq!(cleared.to_str().unwrap(), expected);
    }

    #[test]
    fn nobody_is_sent_to_another_host() {
        for path in ["/", "/alerts/1?x=a%20b", "/?q=//evil.example", "/alerts//x"] {
            assert_eq!(checked_path(path), path);
        }
        for path in [
            "",
            "//evil.example",
            "/\\evil.example",
            "/\t/evil.example",
            "\t//evil.example",
            "https://evil.example",
            "evil",
            "javascript:alert(1)",
            "/a\r\nSet-Cookie: x=y",
            "/sign-in?next=/",
            "/sign-out",
            "/ä",
            "/a b",
            "/%",
        ] {
            let expected = if path == "/%" { "/%" } else { "/" };
            assert_eq!(checked_path(path), expected, "{path:?}");
        }
    }
}
