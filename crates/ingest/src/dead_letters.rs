//! Copies of dead letters on a topic of ours, for who wants them there; the store remains their place.
//!
//! In: [`DeadLetter`]s. Out: records with the source as key, the record as it came as value, and headers that say
//! where it came from and why it is here. Invariant: sending never blocks, and what does not arrive is counted.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rdkafka::{
    ClientContext,
    config::FromClientConfigAndContext,
    error::KafkaError,
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext},
    types::RDKafkaErrorCode,
};
use vedette_event::DeadLetter;

use crate::{
    Error,
    client::{connect, refused_setting},
    settings::Security,
};

/// The topic's name unless another is asked for.
pub const DEAD_LETTER_TOPIC: &str = "vedette.dead-letters";

/// Counts what did not reach the topic.
#[derive(Default)]
struct Missed(AtomicU64);

impl ClientContext for Missed {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "kafka", %error, reason, "dead-letter producer");
    }
}

impl ProducerContext for Missed {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes dead letters to a topic.
pub struct DeadLetterTopic {
    producer: BaseProducer<Missed>,
    topic: String,
}

impl DeadLetterTopic {
    /// Connects; brokers need not be there yet.
    ///
    /// # Errors
    /// [`Error::Setting`] or [`Error::Client`] if librdkafka refuses a setting.
    pub fn connect(brokers: &[String], security: &Security, topic: &str) -> Result<Self, Error> {
        let mut config = connect(brokers, security)?;
        config
            .set("enable.idempotence", "true")
            .set("compression.type", "lz4")
            .set("message.max.bytes", "2097152")
            .set("queue.buffering.max.kbytes", "65536");
        let producer =
            BaseProducer::from_config_and_context(&config, Missed::default()).map_err(refused_setting)?;
        Ok(Self { producer, topic: topic.to_owned() })
    }

    /// Queues one; `source` and `from` are the names of its source and topic. False if the queue is full or the letter
    /// can never be sent.
    ///
    /// # Errors
    /// [`Error::Kafka`] if the client has given up.
    pub fn send(&self, source: &str, from: &str, letter: &DeadLetter) -> Result<bool, Error> {
        let partition = letter.partition.number.to_string();
        let offset = letter.offset.to_string();
        let headers = [
            ("topic", from),
            ("partition", &partition),
            ("offset", &offset),
            ("reason", letter.reason.name()),
        ];
        let headers = headers.into_iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value) })
        });
        let record = BaseRecord::to(&self.topic).key(source).payload(&letter.payload).headers(headers);
        let queued = self.producer.send(record);
        self.producer.poll(Duration::ZERO);
        match queued {
            Ok(()) => Ok(true),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::Fatal), _)) => {
                let reason = "the producer of dead letters has given up".to_owned();
                Err(Error::Kafka { reason, fatal: true })
            }
            Err((error, _)) => {
                tracing::debug!(target: "kafka", %error, "dead letter not queued");
                self.producer.context().0.fetch_add(1, Ordering::Relaxed);
                Ok(false)
            }
        }
    }

    /// How many did not reach the topic.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.producer.context().0.load(Ordering::Relaxed)
    }

    /// Waits until everything queued is sent, at most this long.
    ///
    /// # Errors
    /// [`Error::Kafka`] if something is left.
    pub fn flush(&self, patience: Duration) -> Result<(), Error> {
        let flushed = self.producer.flush(patience);
        flushed.map_err(|e| Error::Kafka { reason: format!("dead letters not sent: {e}"), fatal: false })
    }
}
