//! The one configuration file: YAML in, checked settings out.
//!
//! In: `vedette.yml` (every default is written in `vedette.example.yml`) and a few `VEDETTE_…` overrides.
//! Out: [`Config`]. Invariants: unknown keys are refused; every value is checked before anything starts; an error
//! names the file, the line, the key and what would be valid; secrets have no `Debug`.

mod access;
pub mod bytes;
mod check;
mod firewall;
mod kafka;
pub mod lake;
pub mod memory;
pub mod oidc;
pub mod respond;
mod secret;
mod store;

use std::{net::SocketAddr, path::PathBuf};

use anyhow::{Result, anyhow, bail};
use serde::{Deserialize, Deserializer, de};
use vedette_event::Span;
use vedette_ingest::{Mechanism, OnLoss, Password, Protocol, StartAt, TimeSource};

use self::bytes::Bytes;
use crate::yaml::{self, Places};

/// The most that `D` and `F` may be: with more, no alert of a day would be final within the next.
pub const MAX_DISORDER: Span = Span::secs(86_400);

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder of the store.
    #[serde(default = "defaults::data")]
    pub data: PathBuf,
    /// Rule files and folders.
    #[serde(default = "defaults::rules", deserialize_with = "paths")]
    pub rules: Vec<PathBuf>,
    /// Folder with `fields.yml` and `sources/`; the built-in one if absent.
    #[serde(default)]
    pub schemas: Option<PathBuf>,
    /// Where records come from.
    pub kafka: KafkaConfig,
    /// The kernel.
    #[serde(default)]
    pub engine: EngineConfig,
    /// The store.
    #[serde(default)]
    pub store: store::StoreConfig,
    /// All events, for hunts.
    #[serde(default)]
    pub lake: lake::LakeConfig,
    /// HTTP.
    #[serde(default)]
    pub api: ApiConfig,
    /// What playbooks act by.
    #[serde(default)]
    pub respond: respond::RespondConfig,
    /// What is logged.
    #[serde(default)]
    pub log: LogConfig,
    /// Where each value stands.
    #[serde(skip)]
    pub places: Places,
}

/// The brokers and topics.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Comma-separated `host:port`.
    pub brokers: String,
    /// Group whose offsets are written, for lag monitors only.
    #[serde(default)]
    pub group_id: Option<String>,
    /// How to talk to them.
    #[serde(default)]
    pub security: SecurityConfig,
    /// The input topics.
    pub topics: Vec<TopicConfig>,
    /// Topic that dead letters are copied to, if any.
    #[serde(default)]
    pub dead_letter_topic: Option<String>,
}

/// Encryption and credentials.
#[derive(Debug, Clone, PartialEq, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct SecurityConfig {
    /// The protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// SASL mechanism.
    #[serde(default)]
    pub mechanism: Option<Mechanism>,
    /// SASL user.
    #[serde(default)]
    pub username: Option<String>,
    /// SASL password; better given as `VEDETTE_KAFKA_PASSWORD`.
    #[serde(default)]
    pub password: Option<Password>,
    /// PEM file of the authorities to trust; the system's if absent.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// One input topic.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicConfig {
    /// Its name.
    pub name: String,
    /// The source its records belong to.
    pub source: String,
    /// Whose clock `ts_log` is.
    #[serde(default)]
    pub time_source: TimeSource,
    /// Where a partition without a checkpoint starts.
    #[serde(default)]
    pub start: StartAt,
    /// What to do when Kafka deleted records that were not read.
    #[serde(default)]
    pub on_loss: OnLoss,
    /// Replaces the source's `D`.
    #[serde(default)]
    pub disorder: Option<Span>,
    /// Replaces the source's `F`.
    #[serde(default)]
    pub future: Option<Span>,
}

/// The kernel.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineConfig {
    /// `S`: allowance for clocks and replication.
    #[serde(default = "defaults::skew")]
    pub skew: Span,
    /// Whether notices are sent.
    #[serde(default = "defaults::yes")]
    pub notices: bool,
    /// Threads that compute; as many as there are cores without it.
    #[serde(default)]
    pub threads: Option<u16>,
    /// Bytes for the process; half of the machine's, or of its control group's, without it.
    #[serde(default)]
    pub memory: Option<Bytes>,
}

/// HTTP.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiConfig {
    /// Address and port.
    #[serde(default = "defaults::listen", deserialize_with = "address")]
    pub listen: SocketAddr,
    /// TLS in this process.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// An explicit word that a proxy in front does TLS.
    #[serde(default)]
    pub proxy_tls: bool,
    /// Host names to answer to besides loopback's own; beyond loopback an empty list means any.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Under which address browsers reach the console.
    #[serde(default)]
    pub public_url: Option<String>,
    /// Single sign-on.
    #[serde(default)]
    pub oidc: Option<oidc::OidcConfig>,
    /// How long people stay signed in.
    #[serde(default)]
    pub sessions: access::SessionConfig,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file of the certificate chain, the server's own first.
    pub certificate: PathBuf,
    /// PEM file of its private key.
    pub key: PathBuf,
}

/// What is logged, to standard error.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,vedette_ingest=debug`.
    #[serde(default = "defaults::level")]
    pub level: String,
    /// `text` or `json`.
    #[serde(default)]
    pub format: LogFormat,
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

mod defaults {
    use std::{
        net::{Ipv4Addr, SocketAddr},
        path::PathBuf,
    };

    use vedette_event::Span;

    pub fn data() -> PathBuf {
        "data".into()
    }
    pub fn rules() -> Vec<PathBuf> {
        vec!["detections".into()]
    }
    pub fn skew() -> Span {
        Span::secs(5)
    }
    pub fn yes() -> bool {
        true
    }
    pub fn listen() -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 8080).into()
    }
    pub fn level() -> String {
        "info".into()
    }
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { skew: defaults::skew(), notices: true, threads: None, memory: None }
    }
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            listen: defaults::listen(),
            tls: None,
            proxy_tls: false,
            hosts: Vec::new(),
            public_url: None,
            oidc: None,
            sessions: access::SessionConfig::default(),
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: defaults::level(), format: LogFormat::Text }
    }
}

/// What a configuration is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// The service: all of it.
    Service,
    /// Work on the data folder alone, by who need not know the password for Kafka.
    Folder,
}

/// Reads and checks a configuration file; the environment overrides it.
///
/// # Errors
/// Naming the file, the line, the key and the remedy.
pub fn load(path: &std::path::Path, purpose: For) -> Result<Config> {
    const MODEL: &str = "start from vedette.example.yml";
    let text = yaml::read(path, yaml::MAX_BYTES).map_err(|e| anyhow!("configuration {e}; {MODEL}"))?;
    let name = path.display().to_string();
    if text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#')) {
        bail!("{name}: the configuration is empty; {MODEL}");
    }
    read(&name, &text, purpose, |name| std::env::var(name).ok())
}

fn read(name: &str, text: &str, purpose: For, env: impl Fn(&str) -> Option<String>) -> Result<Config> {
    let places = || Places::of(name, text);
    let mut config: Config = yaml::parse(name, text).map_err(|fault| places().named(fault))?;
    config.places = places();
    override_from(&mut config, env)?;
    check::check(&config, purpose)?;
    Ok(config)
}

/// An address and port, or what one looks like.
fn address<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(|_| de::Error::custom(no_address(&text)))
}

/// A list of paths, or what one looks like.
fn paths<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PathBuf>, D::Error> {
    struct List;

    impl<'de> de::Visitor<'de> for List {
        type Value = Vec<PathBuf>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list of paths such as [detections]")
        }

        fn visit_str<E: de::Error>(self, path: &str) -> Result<Self::Value, E> {
            Err(E::custom(format!("`{path}` is no list; write [{path}]")))
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut paths = Vec::new();
            while let Some(path) = list.next_element()? {
                paths.push(path);
            }
            Ok(paths)
        }
    }

    from.deserialize_any(List)
}

fn no_address(text: &str) -> String {
    format!("api.listen: `{text}` is no address and port; write for example 127.0.0.1:8080")
}

fn override_from(config: &mut Config, env: impl Fn(&str) -> Option<String>) -> Result<()> {
    let mut given = |variable: &str, path: &str| {
        let value = env(variable)?;
        config.places.replace(path, variable);
        Some(value)
    };
    if let Some(brokers) = given("VEDETTE_KAFKA_BROKERS", "kafka.brokers") {
        config.kafka.brokers = brokers;
    }
    if let Some(user) = given("VEDETTE_KAFKA_USERNAME", "kafka.security.username") {
        config.kafka.security.username = Some(user);
    }
    if let Some(password) = given("VEDETTE_KAFKA_PASSWORD", "kafka.security.password") {
        config.kafka.security.password = Some(Password::new(password));
    }
    if let Some(secret) = given(oidc::VARIABLE, "api.oidc.client_secret_file") {
        let Some(of) = &mut config.api.oidc else {
            bail!("{}: has no meaning without api.oidc", oidc::VARIABLE)
        };
        of.secret = Some(oidc::Secret(secret));
    }
    if let Some(data) = given("VEDETTE_DATA", "data") {
        config.data = data.into();
    }
    if let Some(level) = given("VEDETTE_LOG_LEVEL", "log.level") {
        config.log.level = level;
    }
    if let Some(listen) = given("VEDETTE_API_LISTEN", "api.listen") {
        let Ok(listen) = listen.parse() else { bail!("VEDETTE_API_LISTEN: {}", no_address(&listen)) };
        config.api.listen = listen;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const EXAMPLE: &str = include_str!("../../../vedette.example.yml");

    #[test]
    fn the_example_writes_every_default() {
        let written: Config = yaml::parse("vedette.example.yml", EXAMPLE).unwrap();
        let topics: String = written
            .kafka
            .topics
            .iter()
            .map(|t| format!("    - {{name: {}, source: {}}}\n", t.name, t.source))
            .collect();
        let short = format!("kafka:\n  brokers: {}\n  topics:\n{topics}", written.kafka.brokers);
        assert_eq!(written, yaml::parse("short", &short).unwrap());
        read("vedette.example.yml", EXAMPLE, For::Service, |_| None).unwrap();
    }

    #[test]
    fn errors_name_file_line_key_and_remedy() {
        const TOPICS: &str = "topics: [{name: t, source: json}]";
        let message = |text: &str| read("v.yml", text, For::Service, |_| None).unwrap_err().to_string();
        let says = |text: &str, start: &str| {
            let said = message(text);
            assert!(said.starts_with(start), "{said}");
        };
        says(
            &format!("kafka:\n  brokers: a:1\n  {TOPICS}\n  brokerz: x\n"),
            "v.yml:4:3: unknown field `brokerz`, expected",
        );
        assert_eq!(
            message("kafka:\n  brokers: a:1\n  brokers: b:1\n"),
            "v.yml:3:3: duplicate mapping key `brokers` is not allowed here"
        );
        let with = |rest: &str| format!("kafka: {{brokers: a:1, {TOPICS}}}\n{rest}\n");
        says(&with("api: {listen: everywhere}"), "v.yml:2:15: api.listen: `everywhere` is no address");
        says(&with("engine: {skew: 20m}"), "v.yml:2:16: engine.skew: `20m` must lie between 0s and 10m");
        says(
            &with("engine:\n  memory: 4 GB"),
            "v.yml:3:11: engine.memory: `4 GB` is no size; write for example 512MiB",
        );
        says(&with("lake: {keep: 1h}"), "v.yml:2:14: lake.keep: `1h` must lie between 1d and 36500d");
        says(
            &with("lake: {keep_by_source: {json: 1h}}"),
            "v.yml:2:31: lake.keep_by_source.json: `1h` must lie between 1d and 36500d",
        );
        says(&with("lake: {size: 5}"), "v.yml:2:14: lake.size: `5B` must be at least 64MiB");
        says(&with("lake: {flush: 1h}"), "v.yml:2:15: lake.flush: `1h` must lie between 1s and 5m");
        says(&with("engine: {threads: 0}"), "v.yml:2:19: engine.threads: 0 must lie between 1 and 256");
        says(&with("engine: {memory: 5}"), "v.yml:2:18: engine.memory: `5B` must be at least 256MiB");
        says(
            &with("store: {retention: {alerts: 5m}}"),
            "v.yml:2:29: store.retention.alerts: `5m` must lie between 1d and 36500d",
        );
        says(
            &with("store: {retention: {ledger: 1d}}"),
            "v.yml:2:29: store.retention.ledger: `1d` is less than dead_letters, `30d`: counts would go before the letters \
             that they count; write at least `30d`, or less for store.retention.dead_letters",
        );
        says(
            &with("store: {retention: {dead_letters: 500d}}"),
            "v.yml:2:20: store.retention.ledger: `400d` is less than dead_letters, `500d`",
        );
        let short = with("store: {retention: {ledger: 1d, dead_letters: 1d}}");
        assert!(read("v.yml", &short, For::Service, |_| None).is_ok());
        says(
            &with("store: {dead_letter_bytes: 5}"),
            "v.yml:2:28: store.dead_letter_bytes: `5B` must be at least 16MiB",
        );
        says(
            &with("api: {sessions: {idle: 1m}}"),
            "v.yml:2:24: api.sessions.idle: `1m` must lie between 5m and 90d",
        );
        says(
            &with("api: {sessions: {idle: 8d}}"),
            "v.yml:2:24: api.sessions.idle: `8d` is more than longest, `7d`",
        );
        says(
            &with("api: {tls: {certificate: no.pem, key: no.pem}}"),
            "v.yml:2:26: api.tls.certificate: there is no file `no.pem`",
        );
        let kafka = |rest: &str| format!("kafka:\n  brokers: a:1\n  {TOPICS}\n  {rest}\n");
        says(
            &kafka("security:\n    ca_file: /no/such.pem"),
            "v.yml:5:14: kafka.security.ca_file: there is no file `/no/such.pem`",
        );
        says(
            &format!("kafka: {{brokers: nowhere, {TOPICS}}}"),
            "v.yml:1:18: kafka.brokers: `nowhere` is no list",
        );
        assert!(message(&kafka("security: {protocol: sasl_ssl}")).contains("VEDETTE_KAFKA_PASSWORD"));
        for key in ["username", "password"] {
            let key = format!("security: {{{key}: x}}");
            says(&kafka(&key), "v.yml:4:");
            assert!(message(&kafka(&key)).contains("no meaning without a sasl_"));
        }
    }

    #[test]
    fn a_value_of_another_kind_is_named_by_its_key() {
        let says = |text: &str, start: &str| {
            let said = read("v.yml", text, For::Service, |_| None).unwrap_err().to_string();
            assert!(said.starts_with(start), "{said}");
        };
        let with =
            |rest: &str| format!("kafka: {{brokers: a:1, topics: [{{name: t, source: json}}]}}\n{rest}\n");
        says(
            &with("store: {retention: {alerts: 90}}"),
            "v.yml:2:29: store.retention.alerts: `90` is no length of time; write for example",
        );
        says(&with("store: {retention: 90}"), "v.yml:2:20: store.retention: ");
        says(&with("rules: /etc/rules"), "v.yml:2:8: rules: `/etc/rules` is no list; write [/etc/rules]");
        says(&with("rules: [{a: b}]"), "v.yml:2:9: rules[0]: ");
        says(&with("engine: {notices: maybe}"), "v.yml:2:19: engine.notices: ");
        says(&with("log: {format: xml}"), "v.yml:2:15: log.format: ");
        says(
            "kafka:\n  brokers: a:1\n  topics:\n    - {name: t, source: json, time_source: moon}\n",
            "v.yml:4:44: kafka.topics[0].time_source: ",
        );
        says(&with("api: {oidc: {issuer: 7, colour: red}}"), "v.yml:2:");
    }

    #[test]
    fn what_can_never_work_is_refused() {
        let message = |kafka: &str| {
            let text = format!("kafka:\n  brokers: a:1\n{kafka}");
            read("v.yml", &text, For::Service, |_| None).map_err(|e| e.to_string()).err().unwrap_or_default()
        };
        let topics = |topics: &str| message(&format!("  topics: [{topics}]\n"));
        assert_eq!(topics("{name: a.b-c_D9, source: json, disorder: 1d, future: 1d}"), "");
        for name in ["''", "'a b'", "a/b", "..", &"a".repeat(250)] {
            let said = topics(&format!("{{name: {name}, source: json}}"));
            assert!(said.starts_with("v.yml:3:19: kafka.topics[0].name: "), "{said}");
            assert!(said.contains("letters, digits, `.`, `_` and `-`"), "{said}");
        }
        for key in ["disorder", "future"] {
            let said = topics(&format!("{{name: t, source: json, {key}: 99999d}}"));
            let wanted = format!("kafka.topics[0].{key}: `99999d` is more than 1d");
            assert!(said.contains(&wanted), "{said}");
        }
        let said = topics("{name: t, source: json}, {name: t, source: json}");
        assert!(said.starts_with("v.yml:3:44: kafka.topics[1].name: topic `t` is listed twice"), "{said}");
        assert!(topics("").starts_with("v.yml:3:11: kafka.topics: no topic is listed"));
        let dead = |dead: &str| {
            message(&format!(
                "  topics: [{{name: t, source: json}}, {{name: u, source: json}}]\n  dead_letter_topic: {dead}\n"
            ))
        };
        assert_eq!(dead("vedette.dead-letters"), "");
        let said = dead("u");
        assert!(said.starts_with("v.yml:4:22: kafka.dead_letter_topic: `u` is an input topic too"), "{said}");
        assert!(dead("'a b'").starts_with("v.yml:4:22: kafka.dead_letter_topic: `a b` is no name"));
    }

    #[test]
    fn work_on_the_folder_needs_no_password() {
        let security = "{protocol: sasl_ssl, mechanism: PLAIN, username: vedette}";
        let text = format!(
            "kafka: {{brokers: a:1, security: {security}, topics: [{{name: t, source: json}}]}}\ndata: here\n"
        );
        let config = read("v.yml", &text, For::Folder, |_| None).unwrap();
        assert_eq!(config.data, PathBuf::from("here"));
        let said = read("v.yml", &text, For::Service, |_| None).unwrap_err().to_string();
        assert!(said.contains("a password (VEDETTE_KAFKA_PASSWORD)"), "{said}");
        // All else is wrong for everybody.
        let wrong = text.replace("sasl_ssl", "plaintext");
        assert!(read("v.yml", &wrong, For::Folder, |_| None).is_err());
    }

    #[test]
    fn a_level_is_a_level() {
        let message = |level: &str| {
            let text = format!(
                "kafka: {{brokers: a:1, topics: [{{name: t, source: json}}]}}\nlog: {{level: {level}}}"
            );
            read("v.yml", &text, For::Service, |_| None).map_err(|e| e.to_string()).err().unwrap_or_default()
        };
        for level in ["info", "WARN", "'off'", "'info,vedette_ingest=debug'"] {
            assert_eq!(message(level), "");
        }
        for level in ["verbose", "''", "'info,verbose'", "'info,'", "'verbose,,='", "'vedette=verbose'"] {
            let said = message(level);
            assert!(said.starts_with("v.yml:2:14: log.level: `"), "{level}: {said}");
            assert!(said.contains("error, warn, info, debug, trace"), "{said}");
        }
    }

    #[test]
    fn a_variable_that_is_wrong_is_named() {
        let text = "kafka: {brokers: a:1, topics: [{name: t, source: json}]}\nlog: {level: info}\n";
        for (variable, value, says) in [
            ("VEDETTE_KAFKA_BROKERS", "nowhere", "kafka.brokers: `nowhere`"),
            ("VEDETTE_KAFKA_PASSWORD", "hunter2", "kafka.security.password: has no meaning"),
            ("VEDETTE_LOG_LEVEL", "", "log.level: `` is no level"),
            ("VEDETTE_API_LISTEN", "x", "api.listen: `x`"),
            ("VEDETTE_DATA", "", "data: names no folder"),
        ] {
            let given = |name: &str| (name == variable).then(|| value.to_owned());
            let said = read("v.yml", text, For::Service, given).unwrap_err().to_string();
            assert!(said.starts_with(&format!("{variable}: {says}")), "{said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn no_configuration_at_all_has_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.yml");
        let said = || format!("{:#}", load(&path, For::Folder).unwrap_err());
        assert!(said().contains("start from vedette.example.yml"), "{}", said());
        std::fs::write(&path, "\n# nothing\n").unwrap();
        assert!(
            said().ends_with("v.yml: the configuration is empty; start from vedette.example.yml"),
            "{}",
            said()
        );
    }

    #[test]
    fn a_password_is_never_printed() {
        let text = "brokers: a:1\nsecurity: {password: hunter2}\ntopics: []\n";
        let kafka: KafkaConfig = yaml::parse("k", text).unwrap();
        assert!(!format!("{kafka:?}").contains("hunter2"));
        let broken = format!("{text}topicz: 1\n");
        let error = yaml::parse::<KafkaConfig>("k", &broken).unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}
