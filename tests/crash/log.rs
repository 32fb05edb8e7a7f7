//! The log: the simulator's records as they are written to topics, and as they are read back with the broker's time.
//!
//! In: seeds, a rate, a duration. Out: records in Kafka, some of them late, null or unreadable; then [`Log`]s.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, ensure};
use rdkafka::{
    ClientConfig, Message, Offset, Timestamp, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    producer::{BaseRecord, Producer},
};
use vedette_event::{Micros, Span};
use vedette_simulate::{Feed, Random, Simulator};

use super::program::PATIENCE;
use crate::kafka::broker::Broker;

/// The wall clock.
pub fn now() -> Micros {
    Micros(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64))
}

/// What is written.
pub struct Plan {
    /// Put before each topic's name.
    pub prefix: &'static str,
    /// Partitions of each topic.
    pub partitions: i32,
    /// One simulated exchange a seed, so that there are more attacks.
    pub seeds: [u64; 3],
    /// Background records a second of each.
    pub rate: u32,
    /// For so long.
    pub duration: Duration,
}

impl Plan {
    /// The topic of a feed.
    pub fn topic(&self, feed: Feed) -> String {
        format!("{}-{}", self.prefix, feed.topic())
    }

    /// Makes the topics.
    pub fn create_topics(&self, broker: &Broker) -> Result<()> {
        Feed::ALL.iter().try_for_each(|feed| broker.create_topic(&self.topic(*feed), self.partitions, &[]))
    }

    /// The inside of `kafka:` in the configuration.
    pub fn kafka(&self, broker: &Broker, disorder: &str) -> String {
        let topic = |feed: &Feed| {
            format!("  - {{name: {}, source: {}, disorder: {disorder}}}\n", self.topic(*feed), feed.source())
        };
        let topics: String = Feed::ALL.iter().map(topic).collect();
        format!("brokers: {}\ntopics:\n{topics}", broker.bootstrap())
    }

    /// Writes the records as their time comes; gives how many. A few wait longer than is tolerated, a few are poison.
    pub fn write(&self, broker: &Broker) -> Result<u64> {
        let producer = broker.producer()?;
        let start = now();
        let mut simulators = self.seeds.map(|seed| Simulator::new(seed, start, self.rate));
        let mut random = Random::new(self.seeds[0]);
        let mut waiting = BinaryHeap::new();
        for simulator in &mut simulators {
            let end = start.plus(Span(self.duration.as_micros() as i64));
            loop {
                let record = simulator.next_record();
                if record.time >= end {
                    break;
                }
                // Records come out of order; one in fifty by more than is tolerated.
                let delay = if random.chance(2) { random.below(3_000_000) } else { random.below(30_000) };
                let at = record.time.plus(Span(delay as i64));
                waiting.push(Reverse((at, waiting.len(), record.feed, record.line)));
            }
        }
        let mut written = 0;
        while let Some(Reverse((at, number, feed, line))) = waiting.pop() {
            let early = at.since(now());
            if early > Span::ZERO {
                producer.poll(Duration::ZERO);
                thread::sleep(Duration::from_micros(early.0.unsigned_abs()));
            }
            let payload: Option<&[u8]> = match number % 211 {
                0 => None,
                1 => Some(b"\xff\xfe\xfd"),
                _ => Some(line.as_bytes()),
            };
            let topic = self.topic(feed);
            let partition = random.below(self.partitions as u64) as i32;
            let mut record = BaseRecord::<str, [u8]>::to(&topic).partition(partition);
            record.payload = payload;
            producer.send(record).map_err(|(e, _)| e)?;
            written += 1;
        }
        producer.flush(PATIENCE)?;
        Ok(written)
    }

    /// Reads back all that was written, with the broker's times.
    pub fn read(&self, broker: &Broker) -> Result<Vec<Log>> {
        Feed::ALL
            .iter()
            .flat_map(|feed| (0..self.partitions).map(|number| (*feed, number)))
            .map(|(feed, partition)| {
                let topic = self.topic(feed);
                let records = read(broker, &topic, partition)?;
                Ok(Log { topic, source: feed.source(), partition, records })
            })
            .collect()
    }
}

/// Broker time and payload by offset.
pub type Records = BTreeMap<i64, (Micros, Option<Vec<u8>>)>;

/// One partition, read back.
pub struct Log {
    /// Its topic.
    pub topic: String,
    /// The source that its records belong to.
    pub source: &'static str,
    /// Its number.
    pub partition: i32,
    /// Its records.
    pub records: Records,
}

fn read(broker: &Broker, topic: &str, partition: i32) -> Result<Records> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap())
        .set("group.id", "read-back")
        .set("enable.auto.commit", "false")
        .create()?;
    let (low, high) = consumer.fetch_watermarks(topic, partition, PATIENCE)?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(low))?;
    consumer.assign(&list)?;
    let deadline = Instant::now() + PATIENCE;
    let mut records = BTreeMap::new();
    while (records.len() as i64) < high - low {
        ensure!(Instant::now() < deadline, "cannot read {topic}/{partition} back");
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message?;
        let Timestamp::LogAppendTime(millis) = message.timestamp() else { continue };
        let payload = message.payload().map(<[u8]>::to_vec);
        records.insert(message.offset(), (Micros(millis * 1_000), payload));
    }
    Ok(records)
}
