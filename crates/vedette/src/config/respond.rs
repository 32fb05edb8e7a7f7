//! By what playbooks act: connectors, and networks that nothing may hit.
//!
//! In: `respond`. Out: what `act` takes. Invariants: a connector's name begins with its kind; what it needs is there and what has no meaning
//! for it is refused, before anything starts; secrets come from files or the environment.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use anyhow::Result;
use serde::Deserialize;
use vedette_act::{
    Settings,
    settings::{ConnectorSettings, Means, Secret},
};
use vedette_respond::{Connector, ConnectorKind, network};

use super::{Config, secret::SecretFrom};

/// Where PagerDuty takes events.
const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";
/// Entries that the other side fetches at most, unless it is said: what a mid-sized firewall takes of all its lists.
const CAPACITY: usize = 50_000;
/// What a decision stream was measured with.
const MAX_CAPACITY: usize = 150_000;

/// Response.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RespondConfig {
    /// Networks that no countermeasure may hit, beside those that people set.
    pub never_block: Vec<String>,
    /// By the names that playbooks use.
    pub connectors: BTreeMap<String, ConnectorConfig>,
}

/// One connector; which keys it has follows from its kind.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectorConfig {
    /// Where requests go.
    pub url: Option<String>,
    /// What requests are signed with.
    pub secret: Option<SecretFrom>,
    /// Slack's incoming webhook, which is a secret as a whole.
    pub webhook_url: Option<SecretFrom>,
    /// PagerDuty's integration key.
    pub routing_key: Option<SecretFrom>,
    /// It may be inside the network, and without TLS.
    pub private: bool,
    /// PEM of the authorities behind its certificate.
    pub ca_file: Option<PathBuf>,
    /// The most entries that the other side takes.
    pub capacity: Option<usize>,
}

impl ConnectorConfig {
    /// The keys that are given.
    fn given(&self) -> impl Iterator<Item = &'static str> {
        let all = [
            ("url", self.url.is_some()),
            ("secret", self.secret.is_some()),
            ("webhook_url", self.webhook_url.is_some()),
            ("routing_key", self.routing_key.is_some()),
            ("private", self.private),
            ("ca_file", self.ca_file.is_some()),
            ("capacity", self.capacity.is_some()),
        ];
        all.into_iter().filter_map(|(key, given)| given.then_some(key))
    }
}

/// The keys that a kind must have, and those that it may have.
fn keys(kind: ConnectorKind) -> Option<(&'static [&'static str], &'static [&'static str])> {
    Some(match kind {
        ConnectorKind::Crowdsec | ConnectorKind::Edl | ConnectorKind::Ratelimit => (&[], &["capacity"]),
        ConnectorKind::Webhook => (&["url", "secret"], &["private", "ca_file"]),
        ConnectorKind::Slack => (&["webhook_url"], &["private", "ca_file"]),
        ConnectorKind::Pagerduty => (&["routing_key"], &["url", "private", "ca_file"]),
        ConnectorKind::Email | ConnectorKind::Kafka | ConnectorKind::Dag => return None,
    })
}

fn connector(name: &str) -> Option<Connector> {
    let (kind, which) = name.split_once('/').map_or((name, "-"), |(kind, which)| (kind, which));
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let valid = !which.is_empty() && which.chars().all(plain);
    let kind = ConnectorKind::parse(kind).filter(|_| valid)?;
    Some(Connector { kind, name: name.into() })
}

/// Checks the values; secrets are read when the service starts.
pub fn check(config: &Config) -> Result<()> {
    let RespondConfig { never_block, connectors } = &config.respond;
    for (at, text) in never_block.iter().enumerate() {
        if network(text).is_none() {
            let what = format!("`{text}` is neither an address nor a network such as 203.0.113.0/24");
            return Err(config.places.wrong(&format!("respond.never_block[{at}]"), what));
        }
    }
    for (name, of) in connectors {
        let path = format!("respond.connectors.{name}");
        let wrong = |key: &str, what: String| Err(config.places.wrong(&format!("{path}{key}"), what));
        let Some(kind) = connector(name).map(|connector| connector.kind) else {
            let kinds = ConnectorKind::ALL.map(ConnectorKind::name).join(", ");
            return wrong(
                "",
                format!("a connector is named by its kind ({kinds}), or kind and name as slack/soc"),
            );
        };
        let Some((must, may)) = keys(kind) else {
            return wrong("", format!("{} connectors cannot be configured yet", kind.name()));
        };
        if let Some(key) = of.given().find(|key| !must.contains(key) && !may.contains(key)) {
            let keys = [must, may].concat().join(", ");
            return wrong(
                &format!(".{key}"),
                format!("has no meaning for {}; it takes: {keys}", kind.name()),
            );
        }
        if let Some(key) = must.iter().find(|key| !of.given().any(|given| given == **key)) {
            return wrong("", format!("{} needs `{key}`", kind.name()));
        }
        if let Some(capacity) = of.capacity.filter(|n| !(1..=MAX_CAPACITY).contains(n)) {
            return wrong(".capacity", format!("`{capacity}` must lie between 1 and {MAX_CAPACITY}"));
        }
        let url = of.url.as_deref().filter(|url| !url.starts_with("https://"));
        if url.is_some_and(|url| !(of.private && url.starts_with("http://"))) {
            // Not quoted: it may hold a password.
            let what = "must begin with https:// (or http:// with `private: true`)";
            return wrong(".url", what.to_owned());
        }
        if let Some(file) = of.ca_file.as_ref().filter(|file| !file.is_file()) {
            return wrong(".ca_file", format!("there is no file `{}`", file.display()));
        }
    }
    Ok(())
}

/// What `act` takes of a checked configuration.
pub fn settings(config: &Config) -> Result<Settings> {
    let mut connectors = Vec::new();
    for (name, of) in &config.respond.connectors {
        let Some(connector) = connector(name) else { continue };
        let secret = |key: &str, from: &Option<SecretFrom>| {
            let read = from.as_ref().ok_or_else(|| "is missing".to_owned()).and_then(SecretFrom::read);
            let read =
                read.map_err(|what| config.places.wrong(&format!("respond.connectors.{name}.{key}"), what))?;
            anyhow::Ok(Secret::new(read))
        };
        let (private, authorities) = (of.private, of.ca_file.clone());
        let means = match connector.kind {
            ConnectorKind::Webhook => {
                let url = Secret::new(of.url.as_deref().unwrap_or_default());
                Means::Webhook { url, secret: secret("secret", &of.secret)?, private, authorities }
            }
            ConnectorKind::Slack => {
                Means::Slack { url: secret("webhook_url", &of.webhook_url)?, private, authorities }
            }
            ConnectorKind::Pagerduty => {
                let url = Secret::new(of.url.as_deref().unwrap_or(PAGERDUTY));
                let routing_key = secret("routing_key", &of.routing_key)?;
                Means::Pagerduty { url, routing_key, private, authorities }
            }
            _ => Means::Fetched(of.capacity.unwrap_or(CAPACITY)),
        };
        connectors.push(ConnectorSettings { connector, means });
    }
    let console = config.api.public_url.as_deref().map(|url| Arc::from(url.trim_end_matches('/')));
    let never_block = config.respond.never_block.iter().filter_map(|text| network(text)).collect();
    Ok(Settings { never_block, connectors, console, ..Settings::default() })
}

#[cfg(test)]
mod tests {
    use super::super::{For, read};

    fn said(respond: &str) -> String {
        let text =
            format!("kafka: {{brokers: a:1, topics: [{{name: t, source: json}}]}}\nrespond:\n{respond}");
        read("v.yml", &text, For::Service, |_| None).map_err(|e| e.to_string()).err().unwrap_or_default()
    }

    #[test]
    fn a_connector_has_what_its_kind_needs_and_nothing_else() {
        let of = |name: &str, keys: &str| said(&format!("  connectors:\n    {name}: {{{keys}}}\n"));
        for (name, keys) in [
            ("crowdsec", ""),
            ("edl/perimeter", "capacity: 1000"),
            ("webhook/soar", "url: 'https://a/b', secret: {file: x}"),
            ("webhook", "url: 'http://a/b', private: true, secret: {env: X}"),
            ("slack/soc", "webhook_url: {env: X}"),
            ("pagerduty", "routing_key: {file: x}"),
        ] {
            assert_eq!(of(name, keys), "", "{name}");
        }
        for (name, keys, says) in [
            (
                "sms",
                "",
                "v.yml:4:10: respond.connectors.sms: a connector is named by its kind (webhook, slack,",
            ),
            ("slack/", "webhook_url: {env: X}", "a connector is named by its kind"),
            (
                "crowdsec",
                "url: 'https://a'",
                "v.yml:4:21: respond.connectors.crowdsec.url: has no meaning for crowdsec; it takes: capacity",
            ),
            ("webhook", "url: 'https://a'", "respond.connectors.webhook: webhook needs `secret`"),
            (
                "webhook",
                "url: 'http://a', secret: {env: X}",
                "respond.connectors.webhook.url: must begin with https://",
            ),
            ("edl/x", "capacity: 0", "`0` must lie between 1 and 150000"),
            ("dag/x", "", "dag connectors cannot be configured yet"),
        ] {
            assert!(of(name, keys).contains(says), "{name}: {}", of(name, keys));
        }
        let never = said("  never_block: [203.0.113.0/24, partner]\n");
        assert!(never.starts_with("v.yml:3:33: respond.never_block[1]: `partner` is neither"), "{never}");
    }
}
