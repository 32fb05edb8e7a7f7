//! Kafka clients: their configuration, and what librdkafka says about the connection.
//!
//! In: [`IngestSettings`]. Out: configured clients whose [`Connection`] remembers the last complaint and a refused user.
//! Invariant: values of settings go to librdkafka and nowhere else; errors name keys only.

use std::{
    fs::File,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    Error,
    settings::{IngestSettings, Protocol, Security},
};
use rdkafka::{
    ClientConfig, ClientContext,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    consumer::{BaseConsumer, ConsumerContext},
    error::KafkaError,
    types::RDKafkaErrorCode,
};

/// The group named where none is asked for: librdkafka wants one, nothing is ever committed to it.
const NO_GROUP: &str = "vedette";

/// How long a partition that finds the queue full is not fetched, in milliseconds. With librdkafka's second the partition
/// that has just been fetched finds room again and the others do not, and a reader that empties the queue faster waits.
const QUEUE_BACKOFF: &str = "10";

/// What one fetch brings of a partition and of all, in bytes as they are stored. Compressed logs unpack to ten or twenty times
/// that, whatever the queue may hold: librdkafka's 50 MiB of all would be a gigabyte.
const FETCH_PARTITION: &str = "262144";
const FETCH_ALL: &str = "4194304";

/// What the clients of one cluster say about the connection.
pub(crate) struct Connection {
    brokers: String,
    user: Option<(&'static str, String)>,
    heard: Mutex<Heard>,
}

#[derive(Default)]
struct Heard {
    complaint: Option<String>,
    refused: Option<String>,
    /// True once the brokers have answered: then the user was welcome, and may be so again.
    welcome: bool,
}

impl Connection {
    pub fn new(brokers: &[String], security: &Security) -> Self {
        let user = security.sasl.as_ref().map(|s| (s.mechanism.name(), s.username.clone()));
        Self { brokers: brokers.join(","), user, heard: Mutex::default() }
    }

    fn hear(&self, code: RDKafkaErrorCode, reason: &str) {
        tracing::debug!(target: "kafka", ?code, reason, "client error");
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        match code {
            RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed
                if !heard.welcome =>
            {
                heard.refused = Some(reason.to_owned());
            }
            RDKafkaErrorCode::AllBrokersDown => {}
            _ => heard.complaint = Some(reason.to_owned()),
        }
    }

    /// Set once a broker has refused the user and none has ever answered.
    pub fn refused(&self) -> Option<Error> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = heard.refused.clone()?;
        let (mechanism, user) = self.user.clone().unwrap_or(("no SASL", "(none)".to_owned()));
        Some(Error::Credentials { brokers: self.brokers.clone(), mechanism, user, reason })
    }

    /// The error for a query that nobody answered, with the last complaint as the reason.
    pub fn unreachable(&self, answer: &KafkaError) -> Error {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = heard.complaint.clone().unwrap_or_else(|| answer.to_string());
        Error::Unreachable { brokers: self.brokers.clone(), reason }
    }

    /// The brokers answer: former complaints are void.
    pub fn answered(&self) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.complaint = None;
        heard.welcome = true;
    }
}

/// librdkafka's side of a [`Connection`].
#[derive(Clone)]
pub(crate) struct Listener(pub Arc<Connection>);

impl ClientContext for Listener {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Debug => tracing::trace!(target: "kafka", facility, message),
            // What matters comes as an error too, and repeats for ever while a broker is away.
            _ => tracing::debug!(target: "kafka", facility, message),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.0.hear(code, reason);
        }
    }
}

impl ConsumerContext for Listener {}

/// True if an error means that no broker answered.
pub(crate) fn no_answer(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::BrokerTransportFailure
                | Code::OperationTimedOut
                | Code::AllBrokersDown
                | Code::Resolve
                | Code::SSL
                | Code::RequestTimedOut
                | Code::TimedOutQueue
        )
    )
}

/// The settings that every client of a cluster shares.
pub(crate) fn connect(brokers: &[String], security: &Security) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::new();
    let mut set = |key: &str, value: &str| {
        if value.contains('\0') || value.is_empty() {
            let reason = "must not be empty or hold a zero byte".to_owned();
            return Err(Error::Setting { key: key.to_owned(), reason });
        }
        config.set(key, value);
        Ok(())
    };
    set("bootstrap.servers", &brokers.join(","))?;
    set("client.id", "vedette")?;
    set("security.protocol", security.protocol.name())?;
    let sasl = matches!(security.protocol, Protocol::SaslPlaintext | Protocol::SaslSsl);
    match (&security.sasl, sasl) {
        (Some(sasl), true) => {
            set("sasl.mechanism", sasl.mechanism.name())?;
            set("sasl.username", &sasl.username)?;
            set("sasl.password", sasl.password.reveal())?;
        }
        (None, true) => {
            let reason = format!("{} needs a mechanism, a user and a password", security.protocol.name());
            return Err(Error::Setting { key: "sasl.mechanism".to_owned(), reason });
        }
        (_, false) => {}
    }
    if let Some(file) = &security.ca_file {
        File::open(file).map_err(|e| Error::Setting {
            key: "ssl.ca.location".to_owned(),
            reason: format!("cannot read {}: {e}", file.display()),
        })?;
        set("ssl.ca.location", &file.to_string_lossy())?;
    } else if matches!(security.protocol, Protocol::Ssl | Protocol::SaslSsl) {
        // The OpenSSL within knows no system's folder of certificates; this looks in the usual places.
        set("ssl.ca.location", "probe")?;
    }
    set("reconnect.backoff.ms", "100")?;
    set("reconnect.backoff.max.ms", "2000")?;
    set("topic.metadata.refresh.interval.ms", "10000")?;
    config.set_log_level(RDKafkaLogLevel::Warning);
    Ok(config)
}

/// The consumer that reads records.
pub(crate) fn reader(settings: &IngestSettings, listener: Listener) -> Result<BaseConsumer<Listener>, Error> {
    let mut config = connect(&settings.brokers, &settings.security)?;
    config
        .set("group.id", settings.group.as_deref().unwrap_or(NO_GROUP))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", settings.fetch_wait.as_millis().max(1).to_string())
        .set("fetch.error.backoff.ms", "100")
        .set("fetch.queue.backoff.ms", QUEUE_BACKOFF)
        .set("fetch.message.max.bytes", FETCH_PARTITION)
        .set("fetch.max.bytes", FETCH_ALL)
        .set("queued.max.messages.kbytes", "32768");
    create(&config, listener)
}

/// The client that asks for metadata and end offsets.
pub(crate) fn prober(settings: &IngestSettings, listener: Listener) -> Result<BaseConsumer<Listener>, Error> {
    let mut config = connect(&settings.brokers, &settings.security)?;
    config.set("isolation.level", "read_uncommitted");
    create(&config, listener)
}

/// A consumer that reads single records back.
pub(crate) fn verifier(
    settings: &IngestSettings,
    listener: Listener,
) -> Result<BaseConsumer<Listener>, Error> {
    let mut config = connect(&settings.brokers, &settings.security)?;
    config
        .set("group.id", NO_GROUP)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_uncommitted")
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "10")
        .set("fetch.queue.backoff.ms", QUEUE_BACKOFF)
        .set("fetch.message.max.bytes", FETCH_PARTITION)
        .set("queued.max.messages.kbytes", "1024");
    create(&config, listener)
}

fn create(config: &ClientConfig, listener: Listener) -> Result<BaseConsumer<Listener>, Error> {
    BaseConsumer::from_config_and_context(config, listener).map_err(refused_setting)
}

/// Keeps the key and the reason of a refused setting, and drops its value.
pub(crate) fn refused_setting(error: KafkaError) -> Error {
    match error {
        KafkaError::ClientConfig(_, reason, key, value) => {
            let reason = if value.is_empty() { reason } else { reason.replace(&value, "…") };
            Error::Setting { key, reason }
        }
        KafkaError::Nul(_) => Error::Client { reason: "a setting holds a zero byte".to_owned() },
        KafkaError::ClientCreation(reason) => Error::Client { reason },
        other => Error::Client { reason: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::settings::{Mechanism, Password, Sasl};

    fn security(password: &str) -> Security {
        let password = Password::new(password);
        let sasl = Sasl { mechanism: Mechanism::Plain, username: "vedette".to_owned(), password };
        Security { protocol: Protocol::SaslSsl, sasl: Some(sasl), ca_file: None }
    }

    #[test]
    fn a_password_shows_nowhere() {
        let security = security("hunter2hunter2");
        assert!(!format!("{security:?}").contains("hunter2"));
        let config = connect(&["127.0.0.1:9".to_owned()], &security).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        let refused = KafkaError::ClientConfig(
            rdkafka::types::RDKafkaConfRes::RD_KAFKA_CONF_INVALID,
            "Invalid value hunter2 for it".to_owned(),
            "sasl.password".to_owned(),
            "hunter2".to_owned(),
        );
        let error = refused_setting(refused);
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }

    #[test]
    fn settings_that_cannot_work_are_refused_by_name() {
        let brokers = ["127.0.0.1:9".to_owned()];
        let error = connect(&brokers, &security("nul\0nul")).unwrap_err();
        assert!(error.to_string().contains("sasl.password") && !error.to_string().contains("nul\0"));
        let error = connect(&brokers, &Security { sasl: None, ..security("x") }).unwrap_err();
        assert!(error.to_string().contains("sasl.mechanism") && !error.retryable());
        let error = connect(&[], &Security::default()).unwrap_err();
        assert!(error.to_string().contains("bootstrap.servers"));
    }

    #[test]
    fn only_a_user_who_was_never_welcome_is_refused_for_good() {
        let brokers = ["127.0.0.1:9".to_owned()];
        let never = Connection::new(&brokers, &security("x"));
        never.hear(RDKafkaErrorCode::Authentication, "wrong password");
        let error = never.refused().unwrap();
        assert_eq!(error.to_string(), "Kafka at 127.0.0.1:9 refuses user vedette (PLAIN): wrong password");
        let once = Connection::new(&brokers, &security("x"));
        once.answered();
        once.hear(RDKafkaErrorCode::Authentication, "wrong password");
        assert!(once.refused().is_none());
        assert!(once.unreachable(&KafkaError::Canceled).to_string().ends_with("wrong password"));
    }

    #[test]
    fn a_missing_certificate_file_is_refused() {
        let security = Security { ca_file: Some("/nonexistent/ca.pem".into()), ..security("x") };
        let error = connect(&["127.0.0.1:9".to_owned()], &security).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/ca.pem"), "{error}");
    }
}
