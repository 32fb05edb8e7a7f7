//! What the types cannot check of a configuration.
//!
//! In: a parsed [`Config`]. Out: nothing, or what is wrong with one value, with its place and what would be right.

use anyhow::Result;
use vedette_event::Span;

use super::{Config, For, MAX_DISORDER, Protocol, bytes::Bytes, memory::LEAST};
use crate::{pipeline::MAX_THREADS, telemetry};

/// The allowance for clocks must stay one.
const MAX_SKEW: Span = Span::secs(600);

/// Checks every value.
pub fn check(config: &Config, purpose: For) -> Result<()> {
    if config.data.as_os_str().is_empty() {
        return Err(config.places.wrong("data", "names no folder; write for example data"));
    }
    if let Err(what) = telemetry::filter(&config.log.level) {
        return Err(config.places.wrong("log.level", what));
    }
    files(config)?;
    brokers_and_credentials(config, purpose)?;
    topics(config)?;
    engine(config)?;
    super::access::check(config)?;
    super::oidc::check(config, purpose)?;
    super::lake::check(config, purpose)?;
    super::respond::check(config)?;
    super::store::check(config)
}

fn files(config: &Config) -> Result<()> {
    let tls = config.api.tls.as_ref();
    for (path, file) in [
        ("kafka.security.ca_file", config.kafka.security.ca_file.as_ref()),
        ("api.tls.certificate", tls.map(|tls| &tls.certificate)),
        ("api.tls.key", tls.map(|tls| &tls.key)),
    ] {
        if let Some(file) = file.filter(|file| !file.is_file()) {
            return Err(config.places.wrong(path, format!("there is no file `{}`", file.display())));
        }
    }
    Ok(())
}

fn brokers_and_credentials(config: &Config, purpose: For) -> Result<()> {
    let wrong = |path: &str, what: String| Err(config.places.wrong(path, what));
    let is_broker = |text: &str| {
        text.trim()
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    };
    let brokers = &config.kafka.brokers;
    if !brokers.split(',').all(is_broker) {
        let what = format!("`{brokers}` is no list of host:port, such as kafka-1:9092,kafka-2:9092");
        return wrong("kafka.brokers", what);
    }
    let security = &config.kafka.security;
    let given = [
        ("mechanism", security.mechanism.is_some()),
        ("username", security.username.is_some()),
        ("password", security.password.is_some()),
    ];
    match security.protocol {
        Protocol::SaslPlaintext | Protocol::SaslSsl
            if purpose == For::Service && given.iter().any(|(_, given)| !given) =>
        {
            let name = security.protocol.name().to_lowercase();
            let what = format!("{name} needs mechanism, username and a password (VEDETTE_KAFKA_PASSWORD)");
            wrong("kafka.security.protocol", what)
        }
        Protocol::Plaintext | Protocol::Ssl => match given.iter().find(|(_, given)| *given) {
            Some((key, _)) => wrong(
                &format!("kafka.security.{key}"),
                "has no meaning without a sasl_… protocol; set kafka.security.protocol, or leave it out"
                    .into(),
            ),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

fn topics(config: &Config) -> Result<()> {
    let wrong = |path: &str, what: String| Err(config.places.wrong(path, what));
    let topics = &config.kafka.topics;
    if topics.is_empty() {
        return wrong("kafka.topics", "no topic is listed; list at least one".into());
    }
    for (at, topic) in topics.iter().enumerate() {
        let path = |key: &str| format!("kafka.topics[{at}].{key}");
        if !is_topic(&topic.name) {
            return wrong(&path("name"), no_topic(&topic.name));
        }
        if topics[..at].iter().any(|t| t.name == topic.name) {
            return wrong(&path("name"), format!("topic `{}` is listed twice", topic.name));
        }
        for (key, span) in [("disorder", topic.disorder), ("future", topic.future)] {
            if let Some(span) = span.filter(|span| *span > MAX_DISORDER) {
                return wrong(&path(key), format!("`{span}` is more than {MAX_DISORDER}"));
            }
        }
    }
    match &config.kafka.dead_letter_topic {
        Some(name) if !is_topic(name) => wrong("kafka.dead_letter_topic", no_topic(name)),
        // Its dead letters would be read, refused and copied to it again, without end.
        Some(name) if topics.iter().any(|t| t.name == *name) => wrong(
            "kafka.dead_letter_topic",
            format!("`{name}` is an input topic too; name another, such as vedette.dead-letters"),
        ),
        _ => Ok(()),
    }
}

/// What is wrong with a name that is none of a topic.
pub fn no_topic(name: &str) -> String {
    format!("`{name}` is no name of a topic: 1 to 249 letters, digits, `.`, `_` and `-`, but not `.` or `..`")
}

/// What Kafka takes for a topic's name.
pub fn is_topic(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=249).contains(&name.len()) && name.bytes().all(fits) && name != "." && name != ".."
}

fn engine(config: &Config) -> Result<()> {
    let engine = &config.engine;
    if !(Span::ZERO..=MAX_SKEW).contains(&engine.skew) {
        let what = format!("`{}` must lie between 0s and {MAX_SKEW}", engine.skew);
        return Err(config.places.wrong("engine.skew", what));
    }
    if let Some(threads) = engine.threads.filter(|threads| !(1..=MAX_THREADS).contains(threads)) {
        let what = format!("{threads} must lie between 1 and {MAX_THREADS}");
        return Err(config.places.wrong("engine.threads", what));
    }
    if let Some(few) = engine.memory.filter(|memory| memory.0 < LEAST) {
        let what = format!("`{few}` must be at least {}", Bytes(LEAST));
        return Err(config.places.wrong("engine.memory", what));
    }
    Ok(())
}
