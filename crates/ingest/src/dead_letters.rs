//! Copies of dead letters on a topic of ours, for who wants them there; the store remains their place.
//!
//! In: [`DeadLetter`]s. Out: records with the source as key, the record as it came as value, and headers that say
//! where it came from and why it is here; and whether the topic takes them. Invariants: sending never blocks; what does
//! not arrive is counted; a topic that took the last thing sent to it is in no trouble. One that did not is tried again
//! with what it did not take, so that its trouble ends when it is mended, not when the next bad record comes.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, Message,
    config::FromClientConfigAndContext,
    error::KafkaError,
    message::{DeliveryResult, Header, OwnedHeaders, OwnedMessage},
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext},
    types::RDKafkaErrorCode,
};
use vedette_event::{DeadLetter, Micros};

use crate::{
    Error,
    client::{connect, refused_setting},
    clock,
    settings::Security,
};

/// The topic's name unless another is asked for.
pub const DEAD_LETTER_TOPIC: &str = "vedette.dead-letters";

/// How long after a failure the topic is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// Whether the topic takes dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Copies {
    /// How many it did not take.
    pub missed: u64,
    /// Why it does not take them, and since when; none if it took the last.
    pub trouble: Option<(String, Micros)>,
}

/// What became of the letters sent.
#[derive(Default)]
struct Deliveries {
    missed: AtomicU64,
    trouble: Mutex<Option<Trouble>>,
}

/// The topic takes nothing, or did not take the last.
struct Trouble {
    reason: String,
    since: Micros,
    /// Sent again, to see whether the topic takes it now. None while it is on its way, and if it can never be taken.
    again: Option<OwnedMessage>,
    /// When the last failure was.
    at: Instant,
}

impl Deliveries {
    fn trouble(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, error: &KafkaError, letter: Option<OwnedMessage>) {
        let reason = reason(error);
        let mut trouble = self.trouble();
        let before = trouble.take();
        let since = before.as_ref().map_or_else(clock::now, |before| before.since);
        let again = letter.or(before.and_then(|before| before.again));
        *trouble = Some(Trouble { reason, since, again, at: Instant::now() });
    }
}

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "kafka", %error, reason, "dead-letter producer");
    }
}

impl ProducerContext for Deliveries {
    /// Whether it is sent again, and counted already.
    type DeliveryOpaque = Box<bool>;

    fn delivery(&self, result: &DeliveryResult<'_>, again: Box<bool>) {
        match result {
            Ok(_) => *self.trouble() = None,
            Err((error, letter)) => {
                if !*again {
                    self.missed.fetch_add(1, Ordering::Relaxed);
                }
                // What is too large for the topic says nothing about other letters.
                let never = error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge);
                self.failed(error, (!never).then(|| letter.detach()));
            }
        }
    }
}

/// Why a letter was not taken, and what helps where that is known.
fn reason(error: &KafkaError) -> String {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => {
            "there is no such topic; make it, or leave kafka.dead_letter_topic out".to_owned()
        }
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
            "a dead letter is larger than it takes; raise its max.message.bytes (to 2 MiB for all)".to_owned()
        }
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
            "the user may not write to it; allow it to".to_owned()
        }
        _ => error.to_string(),
    }
}

/// Writes dead letters to a topic.
pub struct DeadLetterTopic {
    producer: BaseProducer<Deliveries>,
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
            // A copy may come twice after a restart anyway; idempotence would need one more right, and can give up for good.
            .set("enable.idempotence", "false")
            .set("compression.type", "lz4")
            .set("message.max.bytes", "2097152")
            .set("queue.buffering.max.kbytes", "65536")
            // Trouble shows within seconds: by default, a missing topic after 30 s, all else after 5 minutes.
            .set("topic.metadata.propagation.max.ms", "3000")
            .set("message.timeout.ms", "30000");
        let producer =
            BaseProducer::from_config_and_context(&config, Deliveries::default()).map_err(refused_setting)?;
        Ok(Self { producer, topic: topic.to_owned() })
    }

    /// The topic's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.topic
    }

    /// Queues one; `source` and `from` are the names of its source and topic.
    pub fn send(&self, source: &str, from: &str, letter: &DeadLetter) {
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
        let record = BaseRecord::with_opaque_to(&self.topic, Box::new(false))
            .key(source.as_bytes())
            .payload(&letter.payload)
            .headers(headers);
        if let Err((error, _)) = self.producer.send(record) {
            // The queue is full, or the letter can never be sent.
            let deliveries = self.producer.context();
            deliveries.missed.fetch_add(1, Ordering::Relaxed);
            deliveries.failed(&error, None);
        }
        self.producer.poll(Duration::ZERO);
    }

    /// Whether the topic takes dead letters. To be asked about once a second: it hears then what became of them, and tries
    /// again if there is trouble.
    #[must_use]
    pub fn copies(&self) -> Copies {
        self.producer.poll(Duration::ZERO);
        self.try_again();
        let deliveries = self.producer.context();
        let trouble = deliveries.trouble().as_ref().map(|t| (t.reason.clone(), t.since));
        Copies { missed: deliveries.missed.load(Ordering::Relaxed), trouble }
    }

    fn try_again(&self) {
        let due = |trouble: &mut Trouble| (trouble.at.elapsed() > TRY_AGAIN).then(|| trouble.again.take());
        let Some(letter) = self.producer.context().trouble().as_mut().and_then(due).flatten() else { return };
        let mut record = BaseRecord::with_opaque_to(&self.topic, Box::new(true))
            .key(letter.key().unwrap_or_default())
            .payload(letter.payload().unwrap_or_default());
        if let Some(headers) = letter.headers() {
            record = record.headers(headers.clone());
        }
        if let Err((error, _)) = self.producer.send(record) {
            self.producer.context().failed(&error, Some(letter));
        }
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
