//! The one configuration file: YAML in, checked settings out.
//!
//! In: `vedette.yml` (every default is written in `vedette.example.yml`) and a few `VEDETTE_…` overrides.
//! Out: [`Config`]. Invariants: unknown keys are refused; every value is checked before anything starts; an error
//! names the file, the line, the key and what would be valid; secrets have no `Debug`.

use std::{fmt, net::SocketAddr, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned},
};
use serde_saphyr::{MessageFormatter as _, UserMessageFormatter};
use vedette_event::Span;

/// Files beyond this are no configuration.
const MAX_BYTES: usize = 1 << 20;

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder of the store.
    #[serde(default = "defaults::data")]
    pub data: PathBuf,
    /// Rule files and folders.
    #[serde(default = "defaults::rules")]
    pub rules: Vec<PathBuf>,
    /// Folder with `fields.yml` and `sources/`; the built-in one if absent.
    #[serde(default)]
    pub schemas: Option<PathBuf>,
    /// Where records come from.
    pub kafka: Kafka,
    /// The kernel.
    #[serde(default)]
    pub engine: Engine,
    /// HTTP.
    #[serde(default)]
    pub api: Api,
    /// What is logged.
    #[serde(default)]
    pub log: Log,
}

/// The brokers and topics.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kafka {
    /// Comma-separated `host:port`.
    pub brokers: String,
    /// Group whose offsets are written, for lag monitors only.
    #[serde(default)]
    pub group_id: Option<String>,
    /// How to talk to them.
    #[serde(default)]
    pub security: Security,
    /// The input topics.
    pub topics: Vec<Topic>,
    /// Topic that dead letters are copied to, if any.
    #[serde(default)]
    pub dead_letter_topic: Option<String>,
}

/// Encryption and credentials.
#[derive(Debug, Clone, PartialEq, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Security {
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
    pub password: Option<Secret>,
    /// PEM file of the authorities to trust; the system's if absent.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// Kafka's security protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Neither encryption nor credentials.
    #[default]
    Plaintext,
    /// TLS.
    Ssl,
    /// Credentials without encryption.
    SaslPlaintext,
    /// TLS and credentials.
    SaslSsl,
}

impl Protocol {
    /// Kafka's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Ssl => "ssl",
            Self::SaslPlaintext => "sasl_plaintext",
            Self::SaslSsl => "sasl_ssl",
        }
    }
}

/// SASL mechanisms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Mechanism {
    /// PLAIN.
    #[serde(rename = "PLAIN")]
    Plain,
    /// SCRAM-SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// SCRAM-SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

/// One input topic.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topic {
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

/// Whose clock `ts_log` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum TimeSource {
    /// The broker's LogAppendTime.
    #[default]
    Broker,
    /// The producer's CreateTime, made non-decreasing per partition: weaker.
    Producer,
}

/// Where a partition without a checkpoint starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum StartAt {
    /// At its log start.
    #[default]
    Earliest,
    /// At its end when first seen.
    Latest,
}

/// What to do about lost records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum OnLoss {
    /// Record the loss and go on.
    #[default]
    Continue,
    /// Stop that source.
    Stop,
}

/// The kernel.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Engine {
    /// `S`: allowance for clocks and replication.
    #[serde(default = "defaults::skew")]
    pub skew: Span,
    /// Whether notices are sent.
    #[serde(default = "defaults::yes")]
    pub notices: bool,
    /// State entries per rule and key group.
    #[serde(default = "defaults::state_budget")]
    pub state_budget: usize,
    /// Findings that may wait for their watermark before partitions ahead are paused.
    #[serde(default = "defaults::reorder_budget")]
    pub reorder_budget: usize,
}

/// HTTP.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// Address and port.
    #[serde(default = "defaults::listen", deserialize_with = "address")]
    pub listen: SocketAddr,
    /// TLS in this process.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// An explicit word that a proxy in front does TLS.
    #[serde(default)]
    pub proxy_tls: bool,
    /// Host names to answer to besides loopback's own; beyond loopback an empty list means any.
    #[serde(default)]
    pub hosts: Vec<String>,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file of the certificate chain, the server's own first.
    pub certificate: PathBuf,
    /// PEM file of its private key.
    pub key: PathBuf,
}

/// What is logged, to standard error.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
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

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
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
    pub fn state_budget() -> usize {
        1 << 20
    }
    pub fn reorder_budget() -> usize {
        4_000_000
    }
    pub fn listen() -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 8080).into()
    }
    pub fn level() -> String {
        "info".into()
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            skew: defaults::skew(),
            notices: true,
            state_budget: defaults::state_budget(),
            reorder_budget: defaults::reorder_budget(),
        }
    }
}

impl Default for Api {
    fn default() -> Self {
        Self { listen: defaults::listen(), tls: None, proxy_tls: false, hosts: Vec::new() }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: defaults::level(), format: LogFormat::Text }
    }
}

/// Reads and checks a configuration file.
///
/// # Errors
/// Naming the file, the line, the key and the remedy.
pub fn load(path: &std::path::Path, env: impl Fn(&str) -> Option<String>) -> Result<Config> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!("cannot read the configuration `{}`; start from vedette.example.yml", path.display())
    })?;
    let name = path.display().to_string();
    let mut config: Config = parse(&name, &text)?;
    override_from(&mut config, env)?;
    check(&name, &text, &config)?;
    Ok(config)
}

/// Parses YAML within bounds; an error names file, line and column, and quotes nothing else of the file.
pub fn parse<T: DeserializeOwned>(name: &str, text: &str) -> Result<T> {
    if text.len() > MAX_BYTES {
        bail!("{name}: longer than {MAX_BYTES} bytes");
    }
    let mut options = serde_saphyr::Options::default();
    let mut budget = serde_saphyr::Budget::default();
    (budget.max_nodes, budget.max_depth, budget.max_aliases) = (20_000, 32, 100);
    options.budget = Some(budget);
    options.with_snippet = false;
    serde_saphyr::from_str_with_options(text, options).map_err(|e| {
        let place = e.location().map_or(String::new(), |at| format!(":{}:{}", at.line(), at.column()));
        // Not with the lines around it: one of them may hold a password.
        anyhow::anyhow!("{name}{place}: {}", UserMessageFormatter.format_message(&e))
    })
}

/// An address and port, or what one looks like.
fn address<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(|_| {
        de::Error::custom(format!("`{text}` is no address and port; write for example 127.0.0.1:8080"))
    })
}

fn override_from(config: &mut Config, env: impl Fn(&str) -> Option<String>) -> Result<()> {
    if let Some(brokers) = env("VEDETTE_KAFKA_BROKERS") {
        config.kafka.brokers = brokers;
    }
    if let Some(user) = env("VEDETTE_KAFKA_USERNAME") {
        config.kafka.security.username = Some(user);
    }
    if let Some(password) = env("VEDETTE_KAFKA_PASSWORD") {
        config.kafka.security.password = Some(Secret(password));
    }
    if let Some(data) = env("VEDETTE_DATA") {
        config.data = data.into();
    }
    if let Some(level) = env("VEDETTE_LOG_LEVEL") {
        config.log.level = level;
    }
    if let Some(listen) = env("VEDETTE_API_LISTEN") {
        config.api.listen = listen.parse().with_context(|| {
            format!("VEDETTE_API_LISTEN: `{listen}` is no address and port, such as 127.0.0.1:8080")
        })?;
    }
    Ok(())
}

/// Checks what the types cannot.
fn check(name: &str, text: &str, config: &Config) -> Result<()> {
    let refuse = |key: &str, what: String| -> Result<()> {
        let line = text.lines().position(|l| l.trim_start().trim_start_matches("- ").starts_with(key));
        let line = line.map_or(String::new(), |at| format!("{}:", at + 1));
        bail!("{name}:{line} {what}")
    };
    let security = &config.kafka.security;
    let sasl = matches!(security.protocol, Protocol::SaslPlaintext | Protocol::SaslSsl);
    let is_broker = |text: &str| {
        text.trim()
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    };
    if !config.kafka.brokers.split(',').all(is_broker) {
        let given = &config.kafka.brokers;
        return refuse(
            "brokers",
            format!("kafka.brokers: `{given}` is no list of host:port, such as kafka-1:9092,kafka-2:9092"),
        );
    }
    for (key, file) in [
        ("ca_file", security.ca_file.as_ref()),
        ("certificate", config.api.tls.as_ref().map(|tls| &tls.certificate)),
        ("key", config.api.tls.as_ref().map(|tls| &tls.key)),
    ] {
        if let Some(file) = file.filter(|file| !file.is_file()) {
            return refuse(key, format!("{key}: there is no file `{}`", file.display()));
        }
    }
    if config.kafka.topics.is_empty() {
        return refuse("topics", "kafka.topics: no topic is listed; list at least one".into());
    }
    for (at, topic) in config.kafka.topics.iter().enumerate() {
        if config.kafka.topics[..at].iter().any(|t| t.name == topic.name) {
            return refuse("topics", format!("kafka.topics: topic `{}` is listed twice", topic.name));
        }
    }
    if sasl && (security.mechanism.is_none() || security.username.is_none() || security.password.is_none()) {
        return refuse(
            "protocol",
            format!(
                "kafka.security: protocol {} needs mechanism, username and a password (VEDETTE_KAFKA_PASSWORD)",
                security.protocol.name()
            ),
        );
    }
    if !sasl && (security.mechanism.is_some() || security.username.is_some()) {
        return refuse(
            "security",
            "kafka.security: mechanism and username have no meaning without a sasl_… protocol".into(),
        );
    }
    if !(Span::ZERO..=Span::secs(600)).contains(&config.engine.skew) {
        return refuse("skew", "engine.skew: must lie between 0s and 10m".into());
    }
    if config.engine.state_budget < 64 || config.engine.reorder_budget < 1_000 {
        return refuse(
            "state_budget",
            "engine: state_budget must be at least 64, reorder_budget at least 1000".into(),
        );
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
        let written: Config = parse("vedette.example.yml", EXAMPLE).unwrap();
        let topics: String = written
            .kafka
            .topics
            .iter()
            .map(|t| format!("    - {{name: {}, source: {}}}\n", t.name, t.source))
            .collect();
        let short = format!("kafka:\n  brokers: {}\n  topics:\n{topics}", written.kafka.brokers);
        assert_eq!(written, parse("short", &short).unwrap());
    }

    #[test]
    fn errors_name_file_line_key_and_remedy() {
        let message = |text: &str| {
            let parsed: Result<Config> = parse("vedette.yml", text);
            let checked = parsed.and_then(|config| check("vedette.yml", text, &config));
            checked.unwrap_err().to_string()
        };
        let unknown = message("kafka:\n  brokers: a:1\n  topics: [{name: t, source: json}]\n  brokerz: x\n");
        assert!(unknown.starts_with("vedette.yml:4:3: unknown field `brokerz`, expected"), "{unknown}");
        let twice = message("kafka:\n  brokers: a:1\n  brokers: b:1\n");
        assert_eq!(twice, "vedette.yml:3:3: duplicate mapping key `brokers` is not allowed here");
        let listen =
            message("kafka: {brokers: a:1, topics: [{name: t, source: json}]}\napi: {listen: everywhere}\n");
        assert!(listen.starts_with("vedette.yml:2:15: `everywhere` is no address"), "{listen}");
        let ca = message(
            "kafka:\n  brokers: a:1\n  topics: [{name: t, source: json}]\n  security:\n    ca_file: /no/such.pem\n",
        );
        assert_eq!(ca, "vedette.yml:5: ca_file: there is no file `/no/such.pem`");
        let broker = message("kafka:\n  brokers: nowhere\n  topics: [{name: t, source: json}]\n");
        assert!(broker.starts_with("vedette.yml:2: kafka.brokers: `nowhere`"), "{broker}");
        let sasl = message(
            "kafka:\n  brokers: a:1\n  security: {protocol: sasl_ssl}\n  topics: [{name: t, source: json}]\n",
        );
        assert!(sasl.contains("VEDETTE_KAFKA_PASSWORD"), "{sasl}");
    }

    #[test]
    fn a_password_is_never_printed() {
        let text = "brokers: a:1\nsecurity: {password: hunter2}\ntopics: []\n";
        let kafka: Kafka = parse("k", text).unwrap();
        assert!(!format!("{kafka:?}").contains("hunter2"));
        let broken = format!("{text}topicz: 1\n");
        let error = parse::<Kafka>("k", &broken).unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}
