//! Writes records to topics and waits until they are there: what others are to hear of this service.
//!
//! In: records with keys. Out: nothing, once all of them are in all replicas that are in sync, or why not. Invariants: records of one key keep
//! their order, and the producer is idempotent, so that what it repeats by itself comes once; nothing of a call is on its way any more
//! when it returns, so that who sends again after a failure sends behind all that came of it; a client that has failed for good is made anew.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rdkafka::{
    ClientConfig,
    config::FromClientConfigAndContext,
    error::KafkaError,
    producer::{FutureProducer, FutureRecord, Producer as _},
    types::RDKafkaErrorCode,
};

use crate::{
    Error,
    client::{Connection, Listener, connect, no_answer, refused_setting},
    settings::Security,
};

/// Within so long a record is there, or has failed.
pub const RECORD_PATIENCE: Duration = Duration::from_secs(10);

/// A record to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecord {
    /// The topic.
    pub topic: Arc<str>,
    /// Records of one key keep their order.
    pub key: String,
    /// What it says.
    pub value: String,
}

/// Writes records and waits for them.
pub struct RecordProducer {
    config: ClientConfig,
    connection: Arc<Connection>,
    current: Mutex<FutureProducer<Listener>>,
}

impl RecordProducer {
    /// Connects; brokers need not be there yet.
    ///
    /// # Errors
    /// [`Error::Setting`] or [`Error::Client`] if librdkafka refuses a setting.
    pub fn connect(brokers: &[String], security: &Security) -> Result<Self, Error> {
        let mut config = connect(brokers, security)?;
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("compression.type", "lz4")
            .set("linger.ms", "5")
            // As Java's clients place keys, so that theirs and ours lie together.
            .set("partitioner", "murmur2_random")
            // Trouble shows within seconds: by default, a missing topic after 30 s, all else after 5 minutes.
            .set("topic.metadata.propagation.max.ms", "3000")
            .set("message.timeout.ms", RECORD_PATIENCE.as_millis().to_string());
        let connection = Arc::new(Connection::new(brokers, security));
        let current = Mutex::new(create(&config, &connection)?);
        Ok(Self { config, connection, current })
    }

    /// Writes these records, in this order.
    ///
    /// # Errors
    /// Why one of them is not there; others may be.
    pub async fn send(&self, records: &[NewRecord]) -> Result<(), Error> {
        let producer = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut failed = None;
        let mut sent = Vec::with_capacity(records.len());
        for record in records {
            let queued = FutureRecord::to(&record.topic).key(&record.key).payload(&record.value);
            match producer.send_result(queued) {
                Ok(delivery) => sent.push((record, delivery)),
                Err((error, _)) => {
                    failed = Some((&record.topic, error));
                    break;
                }
            }
        }
        for (record, delivery) in sent {
            let error = match delivery.await {
                Ok(Ok(_)) => continue,
                Ok(Err((error, _))) => error,
                Err(_) => KafkaError::Canceled,
            };
            failed.get_or_insert((&record.topic, error));
        }
        let Some((topic, error)) = failed else {
            // Without records nobody was asked: a user who is refused has not been welcome by that.
            if !records.is_empty() {
                self.connection.answered();
            }
            return Ok(());
        };
        if producer.client().fatal_error().is_some() {
            let anew = create(&self.config, &self.connection)?;
            *self.current.lock().unwrap_or_else(PoisonError::into_inner) = anew;
        }
        Err(self.why(topic, &error))
    }

    /// Why a record is not there, and what helps where that is known.
    fn why(&self, topic: &str, error: &KafkaError) -> Error {
        use RDKafkaErrorCode as Code;
        let code = error.rdkafka_error_code();
        let reason = match code {
            Some(Code::UnknownTopic | Code::UnknownTopicOrPartition) => {
                format!("there is no topic {topic}; make it")
            }
            Some(Code::MessageSizeTooLarge) => {
                format!("topic {topic} takes no record so large; raise its max.message.bytes")
            }
            Some(Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed) => {
                format!("the user may not write to topic {topic}; allow it to")
            }
            _ if code == Some(Code::MessageTimedOut) || no_answer(error) => {
                return self.connection.refused().unwrap_or_else(|| self.connection.unreachable(error));
            }
            _ => format!("topic {topic}: {error}"),
        };
        Error::Kafka { reason, fatal: false }
    }
}

fn create(config: &ClientConfig, connection: &Arc<Connection>) -> Result<FutureProducer<Listener>, Error> {
    let listener = Listener(connection.clone());
    FutureProducer::from_config_and_context(config, listener).map_err(refused_setting)
}
