//! `guards:` of a playbook: only stricter than the policy's.
//!
//! In: the node and the policy. Out: [`Guards`]. What is looser is refused, naming both.

use vedette_event::Span;
use vedette_sigma::{
    fault::{Fault, shown},
    yaml::{Entry, Node},
};

use super::{MAX_LIST, list};
use crate::{gate::Policy, playbook::Guards, target::network};

/// Reads the map.
pub(super) fn read(node: &Node, policy: &Policy) -> Result<Guards, Fault> {
    const KEYS: [&str; 7] = ["per_hour", "live", "share", "users", "people", "ceiling", "never_block"];
    let mut out = Guards::default();
    for entry in node.map("`guards`")? {
        match entry.key.as_str() {
            "per_hour" => out.per_hour = Some(at_most(entry, policy.per_rule_hour)?),
            "live" => out.live = Some(at_most(entry, policy.live)?),
            "share" => out.share = Some(share(entry, policy.share)?),
            "users" => out.users = Some(users(entry, policy.shared_users)?),
            "people" => {
                let n = entry.value.whole("`people`")?;
                let people = u8::try_from(n).ok().filter(|n| (1..=2).contains(n));
                out.people = Some(people.ok_or_else(|| entry.value.wrong("`people`", "1 or 2"))?);
            }
            "ceiling" => {
                let span = entry.value.span("`ceiling`")?;
                if span > policy.ceiling {
                    return Err(looser(entry, &span.to_string(), &policy.ceiling.to_string(), "at most"));
                }
                out.ceiling = Some(span);
            }
            "never_block" => {
                for node in list(&entry.value, "`never_block`", MAX_LIST)? {
                    let text = node.text("an entry of `never_block`")?;
                    let net = network(text)
                        .ok_or_else(|| node.wrong("an entry of `never_block`", "an address or a prefix"))?;
                    out.never_block.push(net);
                }
            }
            _ => return Err(entry.unknown("guards", &KEYS, &[])),
        }
    }
    Ok(out)
}

fn looser(entry: &Entry, own: &str, policy: &str, bound: &str) -> Fault {
    let message = format!("the guard `{}` of {} is looser than the policy's {policy}", entry.key, shown(own));
    Fault::new(entry.value.at, "looser-guard", message)
        .help(format!("a playbook's guards may only be stricter: write {bound} {policy}, or remove it"))
}

fn at_most(entry: &Entry, policy: u32) -> Result<u32, Fault> {
    let n = entry.value.whole(&format!("`{}`", entry.key))?;
    match u32::try_from(n) {
        Ok(n) if n <= policy => Ok(n),
        _ => Err(looser(entry, &n.to_string(), &policy.to_string(), "at most")),
    }
}

fn users(entry: &Entry, policy: u64) -> Result<u64, Fault> {
    match entry.value.whole("`users`")? {
        0 => Err(entry.value.wrong("`users`", "a whole number from 1")),
        n if n > policy => Err(looser(entry, &n.to_string(), &policy.to_string(), "at most")),
        n => Ok(n),
    }
}

/// A percentage with at most four decimals, in millionths.
fn share(entry: &Entry, policy: u32) -> Result<u32, Fault> {
    let text = entry.value.text("`share`")?.trim();
    let millionths = text.strip_suffix('%').and_then(|number| {
        let (whole, fraction) = number.trim().split_once('.').unwrap_or((number.trim(), ""));
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        (!whole.is_empty() && fraction.len() <= 4 && digits(whole) && digits(fraction)).then_some(())?;
        format!("{whole}{fraction:0<4}").parse::<u32>().ok()
    });
    let wrong = || entry.value.wrong("`share`", "a share of the active users, such as `0.05%`");
    let share = millionths.ok_or_else(wrong)?;
    if share > policy {
        return Err(looser(entry, text, &percent(policy), "at most"));
    }
    Ok(share)
}

/// Millionths as a percentage.
fn percent(millionths: u32) -> String {
    let text = format!("{}.{:04}", millionths / 10_000, millionths % 10_000);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Reads a length of time that no countermeasure's may exceed.
pub(super) fn limited(node: &Node, what: &str, policy: &Policy) -> Result<Span, Fault> {
    let zero = node.text(what)?.trim();
    if zero == "0" || Span::parse(zero) == Some(Span::ZERO) {
        return Err(Fault::new(
            node.at,
            "for-ever",
            format!("{what} is nothing, which devices take for “for ever”"),
        )
        .help("say how long it stands, such as `30m`"));
    }
    let span = node.span(what)?;
    if span > policy.ceiling {
        let message = format!("{what} is {span}, longer than the policy's ceiling of {}", policy.ceiling);
        return Err(Fault::new(node.at, "beyond-ceiling", message).help("shorten it"));
    }
    Ok(span)
}
