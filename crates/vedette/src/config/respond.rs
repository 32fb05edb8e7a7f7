//! By what playbooks act: connectors, and networks that nothing may hit.
//!
//! In: `respond`. Out: what `act` takes. Invariants: a connector's name begins with its kind; what it needs is there and what has no meaning
//! for it is refused, before anything starts; secrets come from files or the environment.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use anyhow::Result;
use serde::Deserialize;
use vedette_act::{
    Settings,
    settings::{ConnectorSettings, Mail, MailTls, Mailbox, Means, Secret, Topics},
};
use vedette_respond::{Connector, ConnectorKind, gate::Policy, network};

use super::{
    Config,
    check::{is_topic, no_topic},
    firewall,
    secret::SecretFrom,
};

/// Where PagerDuty takes events.
const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";
/// Entries that the other side fetches at most, unless it is said: what a mid-sized firewall takes of all its lists.
const CAPACITY: usize = 50_000;
/// What a decision stream was measured with.
const MAX_CAPACITY: usize = 150_000;

/// Countermeasures that a store, a board and its readers were measured with.
const MAX_LIVE: u32 = 100_000;
/// Where alerts are told, and where what is done about them, unless it is said.
const TOPICS: (&str, &str) = ("vedette.alerts", "vedette.actions");
/// Who gets one message at most.
const MAX_RECIPIENTS: usize = 50;

/// Response.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RespondConfig {
    /// Networks that no countermeasure may hit, beside those that people set.
    pub never_block: Vec<String>,
    /// Past these a person must approve.
    pub limits: LimitsConfig,
    /// By the names that playbooks use.
    pub connectors: BTreeMap<String, ConnectorConfig>,
}

/// The gate's caps.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Countermeasures for one rule in an hour.
    pub per_rule_hour: u32,
    /// Countermeasures in an hour.
    pub per_hour: u32,
    /// Countermeasures that are live at once.
    pub live: u32,
    /// Of the active users those that are hit at once, in per cent.
    pub share_percent: f64,
    /// So many authenticated users behind an address within a day make it a shared one.
    pub shared_users: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let Policy { per_rule_hour, per_hour, live, share, shared_users, .. } = Policy::default();
        Self { per_rule_hour, per_hour, live, share_percent: f64::from(share) / 1e4, shared_users }
    }
}

impl LimitsConfig {
    /// A key whose value makes no sense, and what would.
    fn wrong(&self) -> Option<(&'static str, String)> {
        let counts =
            [("per_rule_hour", self.per_rule_hour), ("per_hour", self.per_hour), ("live", self.live)];
        for (key, count) in counts {
            if !(1..=MAX_LIVE).contains(&count) {
                return Some((key, format!("`{count}` must lie between 1 and {MAX_LIVE}")));
            }
        }
        if !(0.0..=100.0).contains(&self.share_percent) {
            let what = format!("`{}` must lie between 0 and 100", self.share_percent);
            return Some(("share_percent", what));
        }
        (self.shared_users < 2)
            .then(|| ("shared_users", "must be 2 or more: one user shares with nobody".to_owned()))
    }

    fn policy(&self) -> Policy {
        let Self { per_rule_hour, per_hour, live, share_percent, shared_users } = *self;
        // Checked to lie between 0 and 100.
        let share = (share_percent * 1e4).round() as u32;
        Policy { per_rule_hour, per_hour, live, share, shared_users, ..Policy::default() }
    }
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
    /// The mail server.
    pub server: Option<String>,
    /// Its port.
    pub port: Option<u16>,
    /// How the connection to it is made safe.
    pub tls: Option<MailTls>,
    /// Who writes.
    pub from: Option<String>,
    /// To whom.
    pub to: Vec<String>,
    /// The topic of alerts and notices.
    pub alerts: Option<String>,
    /// The topic of actions.
    pub actions: Option<String>,
    /// The mail server's user.
    pub user: Option<SecretFrom>,
    /// The user's password.
    pub password: Option<SecretFrom>,
    /// It may be inside the network, and without TLS.
    pub private: bool,
    /// PEM of the authorities behind its certificate.
    pub ca_file: Option<PathBuf>,
    /// The most entries that the other side takes.
    pub capacity: Option<usize>,
    /// The URLs of a pair of firewalls, in place of one URL.
    pub hosts: Vec<String>,
    /// Of a firewall's XML interface.
    pub api_key: Option<SecretFrom>,
    /// What our tags on a firewall begin with.
    pub tag: Option<String>,
    /// A firewall's virtual system.
    pub vsys: Option<String>,
    /// The serial number of a firewall behind a Panorama.
    pub target: Option<String>,
}

impl ConnectorConfig {
    /// The keys that are given.
    fn given(&self) -> impl Iterator<Item = &'static str> {
        let all = [
            ("url", self.url.is_some()),
            ("secret", self.secret.is_some()),
            ("webhook_url", self.webhook_url.is_some()),
            ("routing_key", self.routing_key.is_some()),
            ("server", self.server.is_some()),
            ("port", self.port.is_some()),
            ("tls", self.tls.is_some()),
            ("from", self.from.is_some()),
            ("to", !self.to.is_empty()),
            ("alerts", self.alerts.is_some()),
            ("actions", self.actions.is_some()),
            ("user", self.user.is_some()),
            ("password", self.password.is_some()),
            ("private", self.private),
            ("ca_file", self.ca_file.is_some()),
            ("capacity", self.capacity.is_some()),
            ("hosts", !self.hosts.is_empty()),
            ("api_key", self.api_key.is_some()),
            ("tag", self.tag.is_some()),
            ("vsys", self.vsys.is_some()),
            ("target", self.target.is_some()),
        ];
        all.into_iter().filter_map(|(key, given)| given.then_some(key))
    }
}

/// The keys that a kind must have, and those that it may have.
fn keys(kind: ConnectorKind) -> (&'static [&'static str], &'static [&'static str]) {
    match kind {
        ConnectorKind::Crowdsec | ConnectorKind::Edl | ConnectorKind::Ratelimit => (&[], &["capacity"]),
        ConnectorKind::Webhook => (&["url", "secret"], &["private", "ca_file"]),
        ConnectorKind::Slack => (&["webhook_url"], &["private", "ca_file"]),
        ConnectorKind::Pagerduty => (&["routing_key"], &["url", "private", "ca_file"]),
        ConnectorKind::Dag => {
            (&["api_key"], &["url", "hosts", "tag", "vsys", "target", "capacity", "private", "ca_file"])
        }
        ConnectorKind::Email => {
            (&["server", "from", "to"], &["port", "tls", "user", "password", "private", "ca_file"])
        }
        ConnectorKind::Kafka => (&[], &["alerts", "actions"]),
    }
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
    let RespondConfig { never_block, limits, connectors } = &config.respond;
    if let Some((key, what)) = limits.wrong() {
        return Err(config.places.wrong(&format!("respond.limits.{key}"), what));
    }
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
        let (must, may) = keys(kind);
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
        let most = if kind == ConnectorKind::Dag { firewall::CAPACITY.1 } else { MAX_CAPACITY };
        if let Some(capacity) = of.capacity.filter(|n| !(1..=most).contains(n)) {
            return wrong(".capacity", format!("`{capacity}` must lie between 1 and {most}"));
        }
        if of.url.as_deref().is_some_and(|url| !goes(url, of.private)) {
            return wrong(".url", NO_URL.to_owned());
        }
        if let (ConnectorKind::Dag, Err((key, what))) = (kind, firewall::check(&config.respond, name, of)) {
            return wrong(key, what);
        }
        if let Err((key, what)) = mail(of).and_then(|()| topics(config, name, kind, of)) {
            return wrong(&key, what);
        }
        if let Some(file) = of.ca_file.as_ref().filter(|file| !file.is_file()) {
            return wrong(".ca_file", format!("there is no file `{}`", file.display()));
        }
    }
    Ok(())
}

/// Not quoted: it may hold a password.
pub(super) const NO_URL: &str = "must begin with https:// (or http:// with `private: true`)";

/// Whether requests may go to a URL, as far as it says itself.
pub(super) fn goes(url: &str, private: bool) -> bool {
    url.starts_with("https://") || (private && url.starts_with("http://"))
}

/// Checks what a mail server needs; what is wrong, with its key.
fn mail(of: &ConnectorConfig) -> Result<(), (String, String)> {
    let wrong = |key: &str, what: String| Err((key.to_owned(), what));
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
    if let Some(server) = of.server.as_ref().filter(|server| server.is_empty() || !server.chars().all(named))
    {
        return wrong(".server", format!("`{server}` is no name of a server; its port goes into `port`"));
    }
    if of.port == Some(0) {
        return wrong(".port", "`0` is no port".to_owned());
    }
    if of.to.len() > MAX_RECIPIENTS {
        return wrong(
            ".to",
            format!("at most {MAX_RECIPIENTS} recipients; name a list of the mail server's"),
        );
    }
    let recipients = of.to.iter().enumerate().map(|(at, to)| (format!(".to[{at}]"), to));
    for (key, address) in of.from.iter().map(|from| (".from".to_owned(), from)).chain(recipients) {
        if mailbox(address).is_none() {
            return wrong(&key, format!("`{address}` is no address such as soc@example.com, in ASCII"));
        }
    }
    let clear = of.tls == Some(MailTls::None);
    if clear && !of.private {
        return wrong(".tls", "`none` is in the clear, and takes `private: true`".to_owned());
    }
    match (&of.user, &of.password) {
        (Some(_), Some(_)) if clear => {
            wrong(".user", "no password goes over a connection without TLS; leave `tls: none` out".to_owned())
        }
        (Some(_), None) => wrong(".user", "needs `password`".to_owned()),
        (None, Some(_)) => wrong(".password", "needs `user`".to_owned()),
        _ => Ok(()),
    }
}

/// Checks which topics a connector writes to: no other may be written or read there.
fn topics(
    config: &Config,
    name: &str,
    kind: ConnectorKind,
    of: &ConnectorConfig,
) -> Result<(), (String, String)> {
    if kind != ConnectorKind::Kafka {
        return Ok(());
    }
    let (alerts, actions) = written(of);
    let mut taken: Vec<(&str, String)> = Vec::new();
    taken.extend(
        config.kafka.topics.iter().map(|topic| (topic.name.as_str(), "is an input topic".to_owned())),
    );
    let letters = config.kafka.dead_letter_topic.iter();
    taken.extend(letters.map(|topic| (topic.as_str(), "is that of dead letters".to_owned())));
    for (other, of) in config.respond.connectors.iter().take_while(|(other, _)| other.as_str() < name) {
        if connector(other).is_some_and(|connector| connector.kind == ConnectorKind::Kafka) {
            let (alerts, actions) = written(of);
            taken.extend([alerts, actions].map(|topic| (topic, format!("is that of {other}"))));
        }
    }
    for (key, topic) in [(".alerts", alerts), (".actions", actions)] {
        if !is_topic(topic) {
            return Err((key.to_owned(), no_topic(topic)));
        }
        if let Some((_, whose)) = taken.iter().find(|(other, _)| *other == topic) {
            let what = format!("`{topic}` {whose}, too; name another, such as vedette.{}", &key[1..]);
            return Err((key.to_owned(), what));
        }
        taken.push((topic, "is that of alerts".to_owned()));
    }
    Ok(())
}

/// The topics of alerts and of actions.
fn written(of: &ConnectorConfig) -> (&str, &str) {
    (of.alerts.as_deref().unwrap_or(TOPICS.0), of.actions.as_deref().unwrap_or(TOPICS.1))
}

/// An address, with or without a name. Those beyond ASCII would need servers all the way that take them.
fn mailbox(text: &str) -> Option<Mailbox> {
    text.parse().ok().filter(|mailbox: &Mailbox| mailbox.email.to_string().is_ascii())
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
            ConnectorKind::Dag => Means::Dag {
                firewall: firewall::of(of, secret("api_key", &of.api_key)?),
                private,
                authorities,
            },
            ConnectorKind::Email => {
                let tls = of.tls.unwrap_or_default();
                let Some(from) = of.from.as_deref().and_then(mailbox) else { continue };
                let login = match (&of.user, &of.password) {
                    (None, None) => None,
                    (user, password) => Some((secret("user", user)?, secret("password", password)?)),
                };
                Means::Email(Mail {
                    server: of.server.clone().unwrap_or_default(),
                    port: of.port.unwrap_or(tls.port()),
                    to: of.to.iter().filter_map(|to| mailbox(to)).collect(),
                    tls,
                    private,
                    authorities,
                    from,
                    login,
                })
            }
            ConnectorKind::Kafka => {
                let (alerts, actions) = written(of);
                Means::Kafka(Topics {
                    brokers: config.kafka.brokers(),
                    security: config.kafka.security.settings(),
                    alerts: alerts.into(),
                    actions: actions.into(),
                })
            }
            _ => Means::Fetched(of.capacity.unwrap_or(CAPACITY)),
        };
        connectors.push(ConnectorSettings { connector, means });
    }
    let console = config.api.public_url.as_deref().map(|url| Arc::from(url.trim_end_matches('/')));
    let never_block = config.respond.never_block.iter().filter_map(|text| network(text)).collect();
    let policy = config.respond.limits.policy();
    Ok(Settings { policy, never_block, connectors, console })
}

#[cfg(test)]
mod tests {
    use vedette_respond::ConnectorKind;

    use super::super::{For, read};

    fn said(respond: &str) -> String {
        let text =
            format!("kafka: {{brokers: a:1, topics: [{{name: t, source: json}}]}}\nrespond:\n{respond}");
        read("v.yml", &text, For::Service, |_| None).map_err(|e| e.to_string()).err().unwrap_or_default()
    }

    #[test]
    fn the_examples_comment_is_a_configuration() {
        let example = include_str!("../../../../vedette.example.yml");
        let lines = example.lines().skip_while(|line| !line.starts_with("  # connectors:"));
        let lines = lines.take_while(|line| line.starts_with("  # "));
        let text: String = lines.map(|line| format!("  {}\n", &line[4..])).collect();
        assert_eq!(said(&text), "");
        for kind in ConnectorKind::ALL {
            let named = |name: &str| text.contains(&format!("\n    {}{name}", kind.name()));
            assert!(named(":") || named("/"), "{} has no example", kind.name());
        }
    }

    fn of(name: &str, keys: &str) -> String {
        said(&format!("  connectors:\n    {name}: {{{keys}}}\n"))
    }

    #[test]
    fn a_connector_has_what_its_kind_needs() {
        for (name, keys) in [
            ("crowdsec", ""),
            ("edl/perimeter", "capacity: 1000"),
            ("webhook/soar", "url: 'https://a/b', secret: {file: x}"),
            ("webhook", "url: 'http://a/b', private: true, secret: {env: X}"),
            ("slack/soc", "webhook_url: {env: X}"),
            ("pagerduty", "routing_key: {file: x}"),
            ("dag/perimeter", "url: 'https://fw', api_key: {env: X}"),
            (
                "dag/pair",
                "hosts: ['https://a', 'https://b'], api_key: {file: x}, tag: soc, vsys: vsys2, target: '0123', capacity: 500000",
            ),
            ("email/soc", "server: mail.example.com, from: 'Vedette <v@example.com>', to: [soc@example.com]"),
            ("kafka", ""),
            ("kafka/soar", "alerts: soar.alerts, actions: soar.actions"),
            ("email", "server: '::1', from: a@b, to: [c@d], tls: none, private: true"),
            (
                "email",
                "server: a, port: 465, tls: implicit, from: a@b, to: [c@d], user: {env: U}, password: {file: p}",
            ),
        ] {
            assert_eq!(of(name, keys), "", "{name}");
        }
    }

    #[test]
    fn what_a_kind_does_not_take_is_refused_with_its_key() {
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
            ("dag/x", "", "respond.connectors.dag/x: dag needs `api_key`"),
            ("dag/x", "api_key: {env: X}", "respond.connectors.dag/x: dag needs `url`, or `hosts`"),
            ("dag/x", "api_key: {env: X}, hosts: ['https://a']", ".hosts: needs the two URLs of a pair"),
            (
                "dag/x",
                "api_key: {env: X}, hosts: ['http://a', 'https://b']",
                ".hosts: must begin with https://",
            ),
            ("dag/x", "api_key: {env: X}, url: 'https://u:p@a'", ".url: must be the address alone"),
            ("dag/x", "api_key: {env: X}, url: 'https://a', tag: 'a b'", ".tag: must be 1 to 100 letters"),
            ("dag/x", "api_key: {env: X}, url: 'https://a', capacity: 500001", "between 1 and 500000"),
            ("edl/x", "tag: a", "has no meaning for edl; it takes: capacity"),
            ("email", "server: a, from: a@b", "respond.connectors.email: email needs `to`"),
            ("email", "server: 'a/b', from: a@b, to: [c@d]", "email.server: `a/b` is no name of a server"),
            (
                "email",
                "server: a, from: a@b, to: [c@d, nobody]",
                "email.to[1]: `nobody` is no address such as",
            ),
            ("email", "server: a, from: 'b@bücher.example', to: [c@d]", "is no address such as"),
            ("email", "server: a, from: a@b, to: [c@d], tls: none", "email.tls: `none` is in the clear"),
            ("email", "server: a, from: a@b, to: [c@d], user: {env: U}", "email.user: needs `password`"),
            (
                "email",
                "server: a, from: a@b, to: [c@d], user: {env: U}, password: {env: P}, tls: none, private: true",
                "no password goes over a connection without TLS",
            ),
            ("slack/x", "webhook_url: {env: X}, to: [a@b]", "slack/x.to: has no meaning for slack"),
            (
                "kafka",
                "actions: t",
                "kafka.actions: `t` is an input topic, too; name another, such as vedette.actions",
            ),
            ("kafka", "alerts: x, actions: x", "kafka.actions: `x` is that of alerts, too"),
            ("kafka", "alerts: 'a b'", "kafka.alerts: `a b` is no name of a topic"),
            ("kafka", "url: 'https://a'", "has no meaning for kafka; it takes: alerts, actions"),
        ] {
            assert!(of(name, keys).contains(says), "{name}: {}", of(name, keys));
        }
        let twice = said("  connectors:\n    kafka: {}\n    kafka/soar: {alerts: a}\n");
        assert!(twice.contains("kafka/soar.actions: `vedette.actions` is that of kafka, too"), "{twice}");
        let never = said("  never_block: [203.0.113.0/24, partner]\n");
        assert!(never.starts_with("v.yml:3:33: respond.never_block[1]: `partner` is neither"), "{never}");
    }

    #[test]
    fn caps_lie_within_what_makes_sense() {
        for (limits, says) in [
            ("live: 0", "v.yml:3:18: respond.limits.live: `0` must lie between 1 and 100000"),
            ("share_percent: 101", "respond.limits.share_percent: `101` must lie between 0 and 100"),
            ("shared_users: 1", "one user shares with nobody"),
            ("per_hour: 5, share_percent: 0.5", ""),
        ] {
            let said = said(&format!("  limits: {{{limits}}}\n"));
            assert!(said.contains(says) && says.is_empty() == said.is_empty(), "{limits}: {said}");
        }
    }
}
