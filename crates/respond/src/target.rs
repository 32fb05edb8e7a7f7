//! Whom a countermeasure is against: an address or prefix, an autonomous system, a country, or something with a name.
//!
//! In: a field of an alert's key and its value. Out: [`Target`], or the word that the value cannot be one. Invariant: two spellings
//! of one address are one target (an IPv4 address mapped into IPv6 is the IPv4 address; bits behind a prefix are cut).

use std::{fmt, net::IpAddr, sync::Arc};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};
use vedette_event::Value;

/// What a field of an alert names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// An address or a prefix.
    Address,
    /// An autonomous system.
    Asn,
    /// A country.
    Country,
    /// A customer or member of staff.
    User,
    /// An API key.
    Key,
    /// A session.
    Session,
    /// A host by its name.
    Host,
    /// An address on a blockchain.
    Wallet,
}

impl Sort {
    /// What a field names, by the last parts of its name. Nothing can be done about what any other field names.
    #[must_use]
    pub fn of(field: &str) -> Option<Self> {
        let ends =
            |end: &str| field.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        let sort = match field {
            "src_ip" | "dst_ip" | "c-ip" => Self::Address,
            "Computer" => Self::Host,
            _ if ends("user.name") || ends("user.id") || ends("user.email") => Self::User,
            _ if ends("ip") => Self::Address,
            _ if ends("as.number") => Self::Asn,
            _ if ends("geo.country_iso_code") => Self::Country,
            _ if ends("api_key.id") => Self::Key,
            _ if ends("session.id") => Self::Session,
            _ if ends("host.name") => Self::Host,
            _ if ends("withdrawal.address") => Self::Wallet,
            _ => return None,
        };
        Some(sort)
    }

    /// How messages call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Address => "an address",
            Self::Asn => "an autonomous system",
            Self::Country => "a country",
            Self::User => "a user",
            Self::Key => "an API key",
            Self::Session => "a session",
            Self::Host => "a host",
            Self::Wallet => "a wallet's address",
        }
    }
}

/// How far an address is widened to the network it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefix {
    /// Bits of an IPv4 network.
    pub ipv4: u8,
    /// Bits of an IPv6 network.
    pub ipv6: u8,
}

/// Whom a countermeasure is against.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// An address (as a network of one) or a prefix.
    Network(IpNet),
    /// An autonomous system.
    Asn(u32),
    /// A country, in two capital letters.
    Country(Arc<str>),
    /// What a field names by this value.
    Named {
        /// The field.
        field: Arc<str>,
        /// Its value.
        value: Arc<str>,
    },
}

/// Why a value cannot be a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoTarget {
    /// The field names nothing that anything can be done about.
    #[error("nothing can be done about what `{0}` names")]
    Field(Arc<str>),
    /// The value is not what its field should hold.
    #[error("`{value}` in `{field}` is not {wanted}")]
    Value {
        /// The field.
        field: Arc<str>,
        /// Its value, cut after 60 characters.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
}

impl Target {
    /// The target that a field names, an address widened to its network where that is asked for.
    ///
    /// # Errors
    /// If the field or the value names none.
    pub fn of(field: &Arc<str>, value: &Value, prefix: Option<Prefix>) -> Result<Self, NoTarget> {
        let sort = Sort::of(field).ok_or_else(|| NoTarget::Field(field.clone()))?;
        let text = value.text();
        let wrong =
            |wanted| NoTarget::Value { field: field.clone(), value: text.chars().take(60).collect(), wanted };
        Ok(match sort {
            Sort::Address => {
                let net = network(text).ok_or_else(|| wrong("an address or a prefix"))?;
                Self::Network(widened(net, prefix))
            }
            Sort::Asn => {
                let digits = text.strip_prefix("AS").unwrap_or(text);
                Self::Asn(digits.parse().map_err(|_| wrong("the number of an autonomous system"))?)
            }
            Sort::Country => match text.as_bytes() {
                [a, b] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() => {
                    Self::Country(text.to_ascii_uppercase().into())
                }
                _ => return Err(wrong("a country's two letters")),
            },
            _ if text.trim().is_empty() => return Err(wrong("a name")),
            _ => Self::Named { field: field.clone(), value: text.into() },
        })
    }

    /// The network, if it is one.
    #[must_use]
    pub const fn network(&self) -> Option<IpNet> {
        match self {
            Self::Network(net) => Some(*net),
            _ => None,
        }
    }

    /// What it is.
    #[must_use]
    pub fn sort(&self) -> Option<Sort> {
        match self {
            Self::Network(_) => Some(Sort::Address),
            Self::Asn(_) => Some(Sort::Asn),
            Self::Country(_) => Some(Sort::Country),
            Self::Named { field, .. } => Sort::of(field),
        }
    }
}

/// An address or a prefix as a network: bits behind the prefix cut, an IPv4 address that is mapped into IPv6 taken out of it.
#[must_use]
pub fn network(text: &str) -> Option<IpNet> {
    let net = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().ok()?.trunc(),
    };
    Some(unmapped(net))
}

/// The IPv4 network that an IPv6 one stands for, where it stands for one.
pub(crate) fn unmapped(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let inside = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    inside.and_then(|(v4, bits)| Ipv4Net::new(v4, bits).ok()).map_or(net, IpNet::V4)
}

fn widened(net: IpNet, prefix: Option<Prefix>) -> IpNet {
    let Some(prefix) = prefix else { return net };
    let bits = if matches!(net, IpNet::V4(_)) { prefix.ipv4 } else { prefix.ipv6 };
    // One that is wider already stays as it is.
    IpNet::new(net.addr(), bits.min(net.prefix_len())).map_or(net, |wide| wide.trunc())
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(net) if net.prefix_len() == net.max_prefix_len() => write!(f, "{}", net.addr()),
            Self::Network(net) => write!(f, "{net}"),
            Self::Asn(number) => write!(f, "AS{number}"),
            Self::Country(code) => write!(f, "country {code}"),
            Self::Named { field, value } => write!(f, "{field} {value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(field: &str, value: &str, prefix: Option<Prefix>) -> String {
        let value = Value::Text(value.into());
        Target::of(&field.into(), &value, prefix).map_or_else(|e| e.to_string(), |t| t.to_string())
    }

    #[test]
    fn a_target_has_one_spelling() {
        let wide = Some(Prefix { ipv4: 24, ipv6: 48 });
        for (field, value, prefix, shown) in [
            ("client.ip", "203.0.113.7", None, "203.0.113.7"),
            ("client.ip", "::ffff:203.0.113.7", None, "203.0.113.7"),
            ("client.ip", "::ffff:203.0.113.0/120", None, "203.0.113.0/24"),
            ("source.ip", "203.0.113.7", wide, "203.0.113.0/24"),
            ("source.ip", "2001:db8:1:2::/64", wide, "2001:db8:1::/48"),
            ("source.ip", "203.0.0.0/16", wide, "203.0.0.0/16"),
            ("source.ip", "2001:DB8::1", None, "2001:db8::1"),
            ("source.as.number", "64500", None, "AS64500"),
            ("client.geo.country_iso_code", "kp", None, "country KP"),
            ("user.name", "alice", None, "user.name alice"),
            ("client.ip", "nobody", None, "`nobody` in `client.ip` is not an address or a prefix"),
            ("client.ip", "10.0.0.0/33", None, "`10.0.0.0/33` in `client.ip` is not an address or a prefix"),
            ("user.name", " ", None, "` ` in `user.name` is not a name"),
            (
                "source.as.number",
                "-1",
                None,
                "`-1` in `source.as.number` is not the number of an autonomous system",
            ),
            (
                "client.geo.country_iso_code",
                "Reserved",
                None,
                "`Reserved` in `client.geo.country_iso_code` is not a country's two letters",
            ),
            ("url.path", "/", None, "nothing can be done about what `url.path` names"),
            ("skip", "x", None, "nothing can be done about what `skip` names"),
        ] {
            assert_eq!(of(field, value, prefix), shown);
        }
    }
}
