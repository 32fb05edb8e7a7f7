//! Single sign-on by OpenID Connect: authorization code with PKCE, at one provider.
//!
//! In: [`OidcSettings`], and what browsers bring back. Out: where to send a browser, and whom the provider vouches for.
//! Invariants: signature, issuer, audience, times and nonce of a token are checked by the library, with the provider's
//! public keys alone (no `none`, no secret as a key); addresses come from the settings and from the provider, never from a request;
//! a provider that is away holds up no start and no page, and is asked again at the next use; secret, codes and tokens are in no log.

mod claims;
mod fetch;
mod flow;
mod provider;

use std::{fmt, path::PathBuf};

pub use self::claims::RoleMapping;
pub(crate) use self::{
    flow::{Flow, LASTS},
    provider::{Provider, Returned, Vouched},
};
pub use openidconnect::ClientSecret;

/// Where the provider sends browsers back to.
pub(crate) const CALLBACK: &str = "/sign-in/callback";

/// How to have people sign in at a provider.
#[derive(Clone)]
pub struct OidcSettings {
    /// What people know the provider as.
    pub name: String,
    /// Its issuer, as its tokens bear it.
    pub issuer: String,
    /// What it knows this service as.
    pub client_id: String,
    /// By which this service proves that it is the one.
    pub client_secret: ClientSecret,
    /// Under which address browsers reach this service, without a path.
    pub public_url: String,
    /// What to ask for beside `openid`.
    pub scopes: Vec<String>,
    /// Who gets which role.
    pub roles: RoleMapping,
    /// PEM file of the authorities to trust with the provider's certificate; without it those that browsers trust.
    pub ca_file: Option<PathBuf>,
}

impl fmt::Debug for OidcSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OidcSettings").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// True of an address under which a provider may be asked: TLS, or on this machine.
#[must_use]
pub fn may_be_asked(url: &str) -> bool {
    url.parse().is_ok_and(|uri| fetch::allowed(&uri))
}

/// True of what can be an issuer: an address that may be asked, without a query, a part or a user.
#[must_use]
pub fn is_issuer(url: &str) -> bool {
    may_be_asked(url) && !url.contains(['?', '#', '@'])
}

/// What browsers see of this service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicAddress {
    /// It begins with `https`.
    pub secure: bool,
    /// The host's name, without the port.
    pub host: String,
}

impl PublicAddress {
    /// Reads `https://host` or `http://host`, with a port or without; `None` for all else, also where a path follows.
    #[must_use]
    pub fn read(url: &str) -> Option<Self> {
        let uri: hyper::Uri = url.parse().ok()?;
        let plain = uri.path() == "/" && !url.contains(['?', '#', '@']);
        let secure = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let host = uri.host().filter(|host| plain && !host.is_empty())?.to_owned();
        Some(Self { secure, host })
    }

    /// True if it names this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        may_be_asked(&format!("http://{}", self.host))
    }
}

/// Why somebody was not signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The provider does not answer.
    Away,
    /// This browser did not begin it, or too long ago.
    NotBegun,
    /// The provider's own words.
    Said(String),
    /// The provider does not take the code.
    Code,
    /// The provider's word cannot be trusted.
    Token,
    /// No role follows from what the provider says: of whom, and what had to be there.
    NoRole { identity: vedette_store::model::Identity, missing: String },
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_public_address_is_scheme_and_host() {
        for (url, secure, host) in [
            ("https://vedette.example", true, "vedette.example"),
            ("https://vedette.example:8443/", true, "vedette.example"),
            ("http://127.0.0.1:8080", false, "127.0.0.1"),
            ("http://[::1]:8080", false, "[::1]"),
        ] {
            let expected = PublicAddress { secure, host: host.to_owned() };
            assert_eq!(PublicAddress::read(url).unwrap(), expected);
            assert_eq!(expected.is_local(), !secure, "{url}");
        }
        for url in [
            "",
            "vedette.example",
            "https://",
            "https://a/b",
            "https://a?b",
            "https://a#b",
            "https://u@a",
            "ftp://a",
        ] {
            assert!(PublicAddress::read(url).is_none(), "{url}");
        }
    }

    #[test]
    fn an_issuer_is_an_address_that_may_be_asked() {
        for url in ["https://id.example/realms/soc", "https://id.example", "http://127.0.0.1:3000"] {
            assert!(is_issuer(url), "{url}");
        }
        for url in [
            "",
            "id.example",
            "http://id.example",
            "https://id.example?x",
            "https://id.example#x",
            "https://a@b",
        ] {
            assert!(!is_issuer(url), "{url}");
        }
    }
}
