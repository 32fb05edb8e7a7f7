//! Reads single records back by their offset: the evidence of an alert.
//!
//! In: a partition and an offset. Out: the record's payload, or nothing where Kafka no longer has it.
//! Invariant: it shares nothing with the reader, so looking at evidence never disturbs the reading of records.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    types::RDKafkaErrorCode,
};
use vedette_event::{Partition, SourceIx};

use crate::{
    Error,
    client::{self, Connection, Listener},
    settings::{Settings, TopicSettings},
};

/// How long one record may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads records back by offset.
pub struct ReadBack {
    consumer: BaseConsumer<Listener>,
    connection: Arc<Connection>,
    topics: Vec<TopicSettings>,
}

impl ReadBack {
    /// Connects as the reader does.
    ///
    /// # Errors
    /// [`Error::Client`] if librdkafka refuses a setting.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        let connection = Arc::new(Connection::new(settings));
        let consumer = client::verifier(settings, Listener(connection.clone()))?;
        Ok(Self { consumer, connection, topics: settings.topics.clone() })
    }

    /// The source that a partition's records belong to.
    #[must_use]
    pub fn source(&self, partition: Partition) -> Option<SourceIx> {
        self.topic(partition).map(|t| t.source)
    }

    fn topic(&self, partition: Partition) -> Option<&TopicSettings> {
        self.topics.iter().find(|t| t.topic == partition.topic)
    }

    /// The payload of a record; `None` if Kafka no longer has it or it was null.
    ///
    /// # Errors
    /// If the brokers do not answer within a few seconds; a later try can help.
    pub fn record(&self, partition: Partition, offset: i64) -> Result<Option<Vec<u8>>, Error> {
        let Some(topic) = self.topic(partition) else { return Ok(None) };
        let failed = |e: KafkaError| self.connection.unreachable(&e);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic.name, partition.number, Offset::Offset(offset)).map_err(failed)?;
        self.consumer.assign(&list).map_err(failed)?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.consumer.poll(Duration::from_millis(50)) {
                Some(Ok(message)) if message.partition() == partition.number => {
                    let found = message.offset() == offset;
                    return Ok(message.payload().filter(|_| found).map(<[u8]>::to_vec));
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(None),
                Some(Err(e)) if e.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) => {
                    return Ok(None);
                }
                _ => {}
            }
        }
        Err(failed(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut)))
    }
}
