//! What can keep the server from starting or running.

use std::{io, net::SocketAddr};

/// An error of this crate. Refused requests are [`crate::Problem`]s instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system gives no random bytes.
    #[error("the operating system gave no random bytes: {0}")]
    Random(String),
    /// Beyond loopback while nobody may come in.
    #[error(
        "refusing to listen on {0}, which others can reach, while there is no user and no token; \
         make the first one with `vedette user add --name NAME --role admin`, or listen on 127.0.0.1"
    )]
    Nobody(SocketAddr),
    /// Beyond loopback without TLS.
    #[error(
        "refusing to listen on {0}, which others can reach, without TLS; \
         give a certificate and key, or set `proxy_tls: true` if a proxy in front of it does TLS"
    )]
    NoTls(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The certificate or key cannot be used.
    #[error("cannot use the TLS certificate and key: {0}")]
    Tls(String),
    /// Single sign-on cannot be set up.
    #[error("cannot set up single sign-on: {0}")]
    Oidc(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] vedette_store::Error),
}
