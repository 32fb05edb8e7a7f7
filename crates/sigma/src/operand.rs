//! The values of operators: regular expressions, networks, numbers to compare with, placeholders.
//!
//! In: text as written. Out: what the predicate holds, checked so that it can be run exactly and in linear time.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use regex_syntax::hir::{Capture, Hir, HirKind, Repetition};
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
/// So many repetitions are enough to tell how large an automaton with more would be.
const REPETITIONS: u32 = 4;

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
    if !fits(&text, &hir) {
        let message = format!("the regular expression needs more than {MAX_REGEX_SIZE} bytes when compiled");
        return Err(Fault::new(at, "regex-too-large", message).help("use smaller repetition counts"));
    }
    Ok(text)
}

/// Whether the automata of a regular expression take no more than [`MAX_REGEX_SIZE`].
///
/// Those of a long repetition take long to build and much memory: eleven milliseconds and 40 MB for one `\w{1,64}` of SigmaHQ, as much as a
/// hundred files without. They hold a copy of the repeated part for each time, so they need not be built where those of the same expression
/// with a few times are as many times smaller, and by half to be safe.
fn fits(text: &str, hir: &Hir) -> bool {
    let fits = |text: &str, size| regex::RegexBuilder::new(text).size_limit(size).build().is_ok();
    let (shorter, times) = shortened(hir);
    (times > 1 && fits(&shorter.to_string(), MAX_REGEX_SIZE / 2 / times)) || fits(text, MAX_REGEX_SIZE)
}

/// The same with [`REPETITIONS`] at most, and how many copies of any part the whole one has for one of it, at most. The depth is bounded by
/// the parser.
fn shortened(hir: &Hir) -> (Hir, usize) {
    let all = |parts: &[Hir]| -> (Vec<Hir>, usize) {
        let (parts, times): (Vec<_>, Vec<_>) = parts.iter().map(shortened).unzip();
        (parts, times.into_iter().max().unwrap_or(1))
    };
    match hir.kind() {
        HirKind::Repetition(repetition) => {
            let (sub, times) = shortened(&repetition.sub);
            let most = repetition.max.unwrap_or(repetition.min);
            let fewer = Repetition {
                min: repetition.min.min(REPETITIONS),
                max: repetition.max.map(|max| max.min(REPETITIONS)),
                sub: Box::new(sub),
                ..repetition.clone()
            };
            (Hir::repetition(fewer), times.saturating_mul(most.div_ceil(REPETITIONS).max(1) as usize))
        }
        HirKind::Capture(capture) => {
            let (sub, times) = shortened(&capture.sub);
            (Hir::capture(Capture { sub: Box::new(sub), ..capture.clone() }), times)
        }
        HirKind::Concat(parts) => {
            let (parts, times) = all(parts);
            (Hir::concat(parts), times)
        }
        HirKind::Alternation(parts) => {
            let (parts, times) = all(parts);
            (Hir::alternation(parts), times)
        }
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => (hir.clone(), 1),
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_told_from_fewer_repetitions_is_true() {
        let size = |text: &str| {
            let fits = |size: &usize| regex::RegexBuilder::new(text).size_limit(*size).build().is_ok();
            (5..31).map(|power| 1 << power).find(fits).unwrap()
        };
        let texts = [
            r"-k\s\w{1,64}(?:\s?(?:-p|-s))?",
            "(.){200,}",
            r"^(?i)(\w{3,9}\.){7}\d{7}$",
            "((a{1,20}){1,20}|é){1,20}?",
            "(x|[a-z]{0,100}y){30}",
            r"\b(?:[^é]{2,}z|(?<name>.{60})){9,}",
        ];
        for text in texts {
            let hir = regex_syntax::parse(text).unwrap();
            let (shorter, times) = shortened(&hir);
            assert!(times > 1, "{text}");
            let bound = size(&shorter.to_string()) * times * 2;
            assert!(size(text) <= bound, "{text}: {} is more than {bound}", size(text));
            assert!(fits(text, &hir), "{text}");
        }
        let twice = r"(\w{1,100}){1,40}";
        assert!(!fits(twice, &regex_syntax::parse(twice).unwrap()));
    }
}
