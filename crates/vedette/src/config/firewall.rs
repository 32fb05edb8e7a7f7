//! A firewall's dynamic address groups, as they are configured.
//!
//! In: a connector of the kind `dag`. Out: what `act` takes. Invariants: it goes to one firewall or a pair, at an address without a key in it;
//! no two connectors have the same tags on one firewall, since each would take away what the other put there.

use std::sync::Arc;

use vedette_act::settings::{Firewall, Secret};

use super::respond::{ConnectorConfig, NO_URL, RespondConfig, goes};

/// Addresses that the smallest firewalls take, which counts where nothing is said, and the largest.
pub const CAPACITY: (usize, usize) = (1_000, 500_000);
/// Characters of what our tags begin with: of the 127 of a tag, some are ours.
const MAX_TAG: usize = 100;
/// What they begin with where nothing is said.
const TAG: &str = "vedette";

/// Checks what only a dynamic address group has.
///
/// # Errors
/// The key, with a full stop before it, and what is wrong with it.
pub fn check(all: &RespondConfig, name: &str, of: &ConnectorConfig) -> Result<(), (&'static str, String)> {
    let wrong = |key, what: &str| Err((key, what.to_owned()));
    match (&of.url, of.hosts.as_slice()) {
        (Some(_), []) | (None, [_, _]) => {}
        (None, []) => return wrong("", "dag needs `url`, or `hosts` with the two URLs of a pair"),
        (Some(_), _) => return wrong(".hosts", "stands in place of `url`: the two URLs of a pair"),
        (None, _) => return wrong(".hosts", "needs the two URLs of a pair; one firewall has `url`"),
    }
    if of.hosts.iter().any(|url| !goes(url, of.private)) {
        return wrong(".hosts", NO_URL);
    }
    if hosts(of).any(|url| url.contains(['@', '?', '#'])) {
        let key = if of.url.is_some() { ".url" } else { ".hosts" };
        return wrong(
            key,
            "must be the address alone, as https://firewall.example.com; `api_key` is the key",
        );
    }
    let named = |most, more: &'static [char]| {
        move |text: &String| {
            let plain = |c: char| c.is_ascii_alphanumeric() || more.contains(&c);
            (1..=most).contains(&text.len()) && text.chars().all(plain)
        }
    };
    if !of.tag.as_ref().is_none_or(named(MAX_TAG, &['-', '_', '.'])) {
        return wrong(".tag", "must be 1 to 100 letters, digits, `-`, `_` or `.`");
    }
    if !of.vsys.as_ref().is_none_or(named(31, &['-', '_'])) {
        return wrong(".vsys", "must be the name of a virtual system, such as vsys1");
    }
    if !of.target.as_ref().is_none_or(named(31, &[])) {
        return wrong(".target", "must be a firewall's serial number");
    }
    let mut others = all.connectors.iter().filter(|(other, _)| **other != *name);
    if let Some((other, _)) = others.find(|(_, other)| clash(of, other)) {
        let what = format!("{other} has the same tags on the same firewall: give each `tag` of its own");
        return wrong(if of.tag.is_some() { ".tag" } else { "" }, &what);
    }
    Ok(())
}

/// Whether two have the same tags at one place.
fn clash(one: &ConnectorConfig, other: &ConnectorConfig) -> bool {
    let either =
        |one: &Option<String>, other: &Option<String>| one.is_none() || other.is_none() || one == other;
    let host = |url: &String| url.trim_end_matches('/').to_ascii_lowercase();
    other.api_key.is_some()
        && tag(one) == tag(other)
        && one.target == other.target
        && either(&one.vsys, &other.vsys)
        && hosts(one).any(|url| hosts(other).any(|other| host(url) == host(other)))
}

fn hosts(of: &ConnectorConfig) -> impl Iterator<Item = &String> {
    of.url.iter().chain(&of.hosts)
}

fn tag(of: &ConnectorConfig) -> &str {
    of.tag.as_deref().unwrap_or(TAG)
}

/// The firewall of a checked connector.
pub fn of(of: &ConnectorConfig, key: Secret) -> Firewall {
    Firewall {
        hosts: hosts(of).map(|url| Arc::from(url.as_str())).collect(),
        key,
        tag: tag(of).into(),
        vsys: of.vsys.as_deref().map(Arc::from),
        target: of.target.as_deref().map(Arc::from),
        capacity: of.capacity.unwrap_or(CAPACITY.0),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{For, read};

    #[test]
    fn two_connectors_have_tags_of_their_own_on_one_firewall() {
        let said = |one: &str, other: &str| {
            let text = format!(
                "kafka: {{brokers: a:1, topics: [{{name: t, source: json}}]}}\nrespond:\n  connectors:\n    \
                 dag/a: {{api_key: {{env: X}}, {one}}}\n    dag/b: {{api_key: {{env: X}}, {other}}}\n"
            );
            read("v.yml", &text, For::Service, |_| None).map_err(|e| e.to_string()).err().unwrap_or_default()
        };
        let url = "url: 'https://fw'";
        let clash = "dag/b has the same tags on the same firewall: give each `tag` of its own";
        for (one, other, says) in [
            (url, url, clash),
            (url, "url: 'https://FW/', vsys: vsys2", clash),
            ("url: 'https://fw', tag: soc", "hosts: ['https://other', 'https://fw'], tag: soc", clash),
            (url, "url: 'https://fw', tag: soc", ""),
            (url, "url: 'https://other'", ""),
            ("url: 'https://fw', vsys: vsys1", "url: 'https://fw', vsys: vsys2", ""),
            ("url: 'https://panorama', target: '1'", "url: 'https://panorama', target: '2'", ""),
        ] {
            let said = said(one, other);
            assert!(
                if says.is_empty() { said.is_empty() } else { said.contains(says) },
                "{one} {other}: {said}"
            );
        }
    }
}
