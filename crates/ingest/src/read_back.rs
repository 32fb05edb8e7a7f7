//! Reads records back by their offsets: the evidence of alerts.
//!
//! In: a partition and rising offsets. Out: each record, or that Kafka has it no more.
//! Invariants: it shares nothing with the reader, so looking at evidence never disturbs the reading of records; each
//! record is handed on as it comes and none is kept; what lies between two wanted records is read through where it is
//! little and skipped where it is much, so that the work is bounded by what is asked for; a record is gone only if the
//! brokers say so, never because they did not answer.

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
    settings::{IngestSettings, TopicSettings},
};

/// How long nothing may come. Other partitions wait meanwhile; it is tried again later.
const PATIENCE: Duration = Duration::from_secs(2);
/// One look for the next record.
const POLL: Duration = Duration::from_millis(50);
/// Offsets that are read through rather than skipped: a fetch of a mebibyte holds about so many records of a log, and a
/// jump drops what was fetched ahead.
const NEAR: i64 = 1_000;

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<'a> {
    /// It is there, with this payload; `None` for a null payload.
    Record(Option<&'a [u8]>),
    /// Kafka has deleted it, or the log ends before it.
    Gone,
}

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
    pub fn new(settings: &IngestSettings) -> Result<Self, Error> {
        let connection = Arc::new(Connection::new(&settings.brokers, &settings.security));
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

    /// Reads the records of a partition at these offsets, which must rise, and hands each to `take`, as long as `go_on`,
    /// which is asked many times a second, says so.
    ///
    /// # Errors
    /// If the brokers do not answer for a while or refuse to; a later try with what was not handed on can help.
    pub fn records(
        &self,
        partition: Partition,
        offsets: &[i64],
        go_on: impl Fn() -> bool,
        take: impl FnMut(i64, Found<'_>),
    ) -> Result<(), Error> {
        let Some(topic) = self.topic(partition) else { return Ok(()) };
        let mut reading =
            Reading { of: self, name: &topic.name, number: partition.number, rest: offsets, take };
        let read = reading.run(go_on);
        // Else it would go on fetching what nobody asked for.
        self.consumer.unassign().map_err(|e| failed(&e))?;
        read
    }
}

/// One partition being read.
struct Reading<'a, F> {
    of: &'a ReadBack,
    name: &'a str,
    number: i32,
    /// What is still wanted.
    rest: &'a [i64],
    take: F,
}

impl<F: FnMut(i64, Found<'_>)> Reading<'_, F> {
    fn run(&mut self, go_on: impl Fn() -> bool) -> Result<(), Error> {
        let consumer = &self.of.consumer;
        self.begin()?;
        let mut deadline = Instant::now() + PATIENCE;
        while !self.rest.is_empty() && go_on() {
            match consumer.poll(POLL) {
                Some(Ok(message)) if message.partition() == self.number && message.topic() == self.name => {
                    deadline = Instant::now() + PATIENCE;
                    self.came(message.offset(), message.payload());
                    if self.rest.first().is_some_and(|next| next - message.offset() > NEAR) {
                        self.begin()?;
                    }
                }
                Some(Err(KafkaError::PartitionEOF(number))) if number == self.number => {
                    self.gone_before(i64::MAX);
                }
                Some(Err(e)) if e.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) => {
                    self.out_of_range()?;
                }
                Some(Err(e)) if !client::no_answer(&e) => return Err(failed(&e)),
                _ => {}
            }
            if Instant::now() >= deadline {
                let timeout = KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut);
                return Err(self.of.connection.unreachable(&timeout));
            }
        }
        Ok(())
    }

    /// Has librdkafka read from the next wanted record on.
    fn begin(&self) -> Result<(), Error> {
        let Some(next) = self.rest.first() else { return Ok(()) };
        let mut list = TopicPartitionList::new();
        let added = list.add_partition_offset(self.name, self.number, Offset::Offset(*next));
        added.and_then(|()| self.of.consumer.assign(&list)).map_err(|e| failed(&e))
    }

    /// Takes a record; wanted ones before it are holes.
    fn came(&mut self, offset: i64, payload: Option<&[u8]>) {
        self.gone_before(offset);
        if self.rest.first() == Some(&offset) {
            self.rest = &self.rest[1..];
            (self.take)(offset, Found::Record(payload));
        }
    }

    fn gone_before(&mut self, offset: i64) {
        while let Some((&next, after)) = self.rest.split_first()
            && next < offset
        {
            self.rest = after;
            (self.take)(next, Found::Gone);
        }
    }

    /// The next wanted record lies before the log's start or behind its end.
    fn out_of_range(&mut self) -> Result<(), Error> {
        let asked = self.of.consumer.fetch_watermarks(self.name, self.number, PATIENCE);
        let (low, high) = asked.map_err(|e| self.of.connection.unreachable(&e))?;
        let before = self.rest.len();
        self.gone_before(low);
        if self.rest.first().is_some_and(|next| *next >= high) {
            self.gone_before(i64::MAX);
        }
        if self.rest.len() == before {
            // The log has changed between the two answers.
            return Err(Error::Kafka { reason: "an offset was out of range".to_owned(), fatal: false });
        }
        self.begin()
    }
}

fn failed(error: &KafkaError) -> Error {
    Error::Kafka { reason: error.to_string(), fatal: false }
}
