//! The values of operators: regular expressions, networks, numbers to compare with, placeholders.
//!
//! In: text as written. Out: what the predicate holds, checked so that it can be run exactly and in linear time.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use vedette_event::Kind;

use crate::{
    Decimal,
    budget::FileBudget,
    fault::{Fault, Place, shown},
    yaml::{Node, Resolved, Scalar},
};

/// Longest regular expression, and the most memory its automaton may take.
const MAX_REGEX_BYTES: usize = 8192;
/// The bound that the crate `regex` has by itself, so that what other tools compile is compiled here.
const MAX_REGEX_SIZE: usize = 10 << 20;

/// A regular expression with its flags.
pub(crate) fn regex(flags: &str, text: &str, at: Place, budget: &mut FileBudget) -> Result<String, Fault> {
    if text.len() > MAX_REGEX_BYTES {
        let message = format!("a regular expression has at most {MAX_REGEX_BYTES} bytes");
        return Err(Fault::new(at, "regex-too-large", message));
    }
    let text = if flags.is_empty() { text.to_owned() } else { format!("(?{flags}){text}") };
    let hir = regex_syntax::parse(&text).map_err(|error| {
        let reason = match error {
            regex_syntax::Error::Parse(error) => error.kind().to_string(),
            regex_syntax::Error::Translate(error) => error.kind().to_string(),
            other => other.to_string(),
        };
        Fault::new(at, "bad-regex", format!("the regular expression cannot be run: {reason}"))
            .help("regular expressions run in linear time: no look-around, no back-references")
    })?;
    budget.regex(&hir, at)?;
    if regex::RegexBuilder::new(&text).size_limit(MAX_REGEX_SIZE).build().is_err() {
        let message = format!("the regular expression needs more than {MAX_REGEX_SIZE} bytes when compiled");
        return Err(Fault::new(at, "regex-too-large", message).help("use smaller repetition counts"));
    }
    Ok(text)
}

/// The first `%name%` of a text: what is before it, the name, what is after it.
pub(crate) fn placeholder(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    while let Some(start) = text.get(from..)?.find('%').map(|at| from + at) {
        let tail = text.get(start + 1..)?;
        let length = tail.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(tail.len());
        if length > 0 && tail.get(length..)?.starts_with('%') {
            return Some((text.get(..start)?, tail.get(..length)?, tail.get(length + 1..)?));
        }
        from = start + 1;
    }
    None
}

/// A number to compare with, exact.
pub(crate) fn decimal(scalar: &Scalar, node: &Node) -> Result<Decimal, Fault> {
    let plain = Scalar { text: scalar.text.trim().to_owned(), plain: true, inline: None };
    let Resolved::Number(kind, text) = plain.resolve() else {
        return Err(node.wrong("the value of a comparison", "a number"));
    };
    let value: f64 = text.parse().map_err(|_| node.wrong("the value of a comparison", "a number"))?;
    if kind == Kind::Int && text.parse::<i128>().ok() != Some(value as i128) {
        let message = format!("{} is too large to be compared exactly", shown(&text));
        return Err(
            Fault::new(node.at, "inexact-number", message).help("the limit is 2^53 = 9007199254740992")
        );
    }
    Ok(Decimal(value))
}

/// A network, or an address as the network of itself alone. IPv4 mapped into IPv6 is IPv4.
pub(crate) fn network(text: &str, at: Place) -> Result<IpNet, Fault> {
    let parsed = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let Some(net) = parsed else {
        return Err(Fault::new(at, "bad-network", format!("{} is no network", shown(text)))
            .help("write for example `10.0.0.0/8` or `2001:db8::/32`"));
    };
    if net.addr() != net.network() {
        let message = format!("{} has bits set behind its prefix", shown(text));
        return Err(Fault::new(at, "bad-network", message).help(format!("write `{}`", net.trunc())));
    }
    Ok(match net {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.addr().to_ipv4_mapped() {
            Some(v4) => Ipv4Net::new(v4, v6.prefix_len() - 96).map_or(net, IpNet::V4),
            None => net,
        },
        _ => net,
    })
}
