//! Writes records to topics: the other end of what this crate reads, for the simulator.
//!
//! In: a topic, a partition, a time and a line. Out: a record with that CreateTime. Invariant: blocks while the queue is
//! full, so that nothing is dropped.

use std::time::Duration;

use rdkafka::{
    config::FromClientConfig,
    error::KafkaError,
    producer::{BaseProducer, BaseRecord, Producer},
    types::RDKafkaErrorCode,
};
use vedette_event::Micros;

use crate::{
    Error,
    client::{connect, refused_setting},
    settings::Security,
};

/// Writes records to topics.
pub struct TopicWriter(BaseProducer);

impl TopicWriter {
    /// Connects; brokers need not be there yet.
    ///
    /// # Errors
    /// [`Error::Setting`] or [`Error::Client`] if librdkafka refuses a setting.
    pub fn connect(brokers: &[String], security: &Security) -> Result<Self, Error> {
        let mut config = connect(brokers, security)?;
        config.set("linger.ms", "100").set("compression.type", "none").set("enable.idempotence", "true");
        BaseProducer::from_config(&config).map(Self).map_err(refused_setting)
    }

    /// Queues one record, waiting while the queue is full.
    ///
    /// # Errors
    /// [`Error::Kafka`] if it can never be sent.
    pub fn write(&self, topic: &str, partition: i32, time: Micros, line: &[u8]) -> Result<(), Error> {
        let mut record =
            BaseRecord::<(), [u8]>::to(topic).partition(partition).payload(line).timestamp(time.0 / 1_000);
        loop {
            match self.0.send(record) {
                Ok(()) => {
                    self.0.poll(Duration::ZERO);
                    return Ok(());
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.0.poll(Duration::from_millis(10));
                }
                Err((e, _)) => return Err(Error::Kafka { reason: format!("{topic}: {e}"), fatal: false }),
            }
        }
    }

    /// Waits until everything queued is sent, at most this long.
    ///
    /// # Errors
    /// [`Error::Kafka`] if something is left.
    pub fn flush(&self, patience: Duration) -> Result<(), Error> {
        self.0.flush(patience).map_err(|e| Error::Kafka { reason: format!("not sent: {e}"), fatal: false })
    }
}
