//! Where the server may listen: beyond loopback only where somebody may come in, and with TLS by someone's word.
//!
//! In: the address and what protects it. Out: yes, or an error that says what is missing.

use std::net::{IpAddr, SocketAddr};

use crate::error::Error;

/// Checks that an address may be listened on.
///
/// `anybody` is true if there is a user or a token, `tls` if this process does TLS itself, `proxy_tls` if the operator says that a proxy in front of it does.
///
/// # Errors
/// [`Error::Nobody`] or [`Error::NoTls`] for an address beyond loopback without them.
pub fn bind_policy(address: SocketAddr, anybody: bool, tls: bool, proxy_tls: bool) -> Result<(), Error> {
    if is_loopback(address.ip()) {
        return Ok(());
    }
    if !anybody {
        return Err(Error::Nobody(address));
    }
    if !tls && !proxy_tls {
        return Err(Error::NoTls(address));
    }
    Ok(())
}

/// True for 127.0.0.0/8, `::1` and IPv4 loopback written as IPv6.
#[must_use]
pub fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn loopback_needs_nothing() {
        for address in ["127.0.0.1:8080", "127.9.9.9:1", "[::1]:8080", "[::ffff:127.0.0.1]:8080"] {
            assert!(bind_policy(address.parse().unwrap(), false, false, false).is_ok(), "{address}");
        }
    }

    #[test]
    fn beyond_loopback_needs_somebody_and_tls() {
        for address in ["0.0.0.0:8080", "[::]:8080", "10.0.0.1:8080", "[::ffff:10.0.0.1]:8080"] {
            let address = address.parse().unwrap();
            assert!(matches!(bind_policy(address, false, true, true), Err(Error::Nobody(_))));
            assert!(matches!(bind_policy(address, true, false, false), Err(Error::NoTls(_))));
            assert!(bind_policy(address, true, true, false).is_ok());
            assert!(bind_policy(address, true, false, true).is_ok());
        }
    }
}
