//! What is written to Kafka: days of the simulator, at their own pace.
//!
//! In: a rate. Out: records in their topics, spread evenly over the partitions, each written when it claims to happen.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, bail};
use rdkafka::{
    ClientConfig,
    error::KafkaError,
    producer::{BaseProducer, BaseRecord, Producer},
    types::RDKafkaErrorCode,
};
use vedette_event::{Micros, Span};
use vedette_simulate::{Feed, Record, Simulator};

/// Partitions of each topic.
pub const PARTITIONS: i32 = 4;
const PATIENCE: Duration = Duration::from_secs(60);

/// The wall clock.
pub fn now() -> Micros {
    Micros(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64))
}

/// Several exchanges at once, in order of time: with one alone, a fast rate would leave its attacks far apart.
struct Day {
    exchanges: Vec<(Record, Simulator)>,
}

impl Day {
    fn new(start: Micros, rate: u32, exchanges: u32) -> Self {
        let each = |seed: u32| {
            let mut simulator = Simulator::new(u64::from(seed), start, rate / exchanges);
            (simulator.next_record(), simulator)
        };
        Self { exchanges: (0..exchanges).map(each).collect() }
    }

    fn next_record(&mut self) -> Option<Record> {
        let (record, simulator) = self.exchanges.iter_mut().min_by_key(|(record, _)| record.time)?;
        Some(std::mem::replace(record, simulator.next_record()))
    }
}

/// Writes to topics without waiting, unless too much is on its way.
pub struct Writer {
    producer: BaseProducer,
    written: [i32; Feed::ALL.len()],
}

impl Writer {
    /// One that lets records wait for others this long, in milliseconds.
    pub fn new(bootstrap: &str, linger: u32) -> Result<Self> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("linger.ms", linger.to_string());
        config.set("queue.buffering.max.kbytes", "65536").set("enable.idempotence", "true");
        Ok(Self { producer: config.create()?, written: [0; Feed::ALL.len()] })
    }

    /// Writes one record to the next partition of its topic.
    pub fn write(&mut self, feed: Feed, line: &str) -> Result<()> {
        let written = &mut self.written[feed as usize];
        *written = (*written + 1) % PARTITIONS;
        let mut record = BaseRecord::<str, str>::to(feed.topic()).partition(*written).payload(line);
        loop {
            match self.producer.send(record) {
                Ok(()) => {
                    self.producer.poll(Duration::ZERO);
                    return Ok(());
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    self.producer.poll(Duration::from_millis(10));
                    record = back;
                }
                Err((error, _)) => bail!(error),
            }
        }
    }

    /// Waits until all is there.
    pub fn flush(&self) -> Result<()> {
        Ok(self.producer.flush(PATIENCE)?)
    }
}

/// Writes this many records at this pace; gives their bytes.
pub fn preload(bootstrap: &str, records: u64, rate: u32) -> Result<u64> {
    let (mut writer, mut day, mut bytes) = (Writer::new(bootstrap, 20)?, Day::new(now(), rate, 20), 0);
    for _ in 0..records {
        let Some(record) = day.next_record() else { break };
        sleep_until(record.time);
        bytes += record.line.len() as u64;
        writer.write(record.feed, &record.line)?;
    }
    writer.flush()?;
    Ok(bytes)
}

fn sleep_until(time: Micros) {
    let ahead = time.since(now());
    if ahead > Span(1_000) {
        thread::sleep(Duration::from_micros(ahead.0.unsigned_abs()));
    }
}

/// Ordinary traffic, attacks included, until it is stopped.
pub struct Background {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Result<u64>>,
}

impl Background {
    /// Starts it.
    pub fn start(bootstrap: &str, rate: u32) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, mut writer) = (stop.clone(), Writer::new(bootstrap, 5)?);
        let thread = thread::spawn(move || {
            let (mut day, mut records) = (Day::new(now(), rate, 1), 0);
            while !stopped.load(Ordering::Relaxed)
                && let Some(record) = day.next_record()
            {
                sleep_until(record.time);
                writer.write(record.feed, &record.line)?;
                records += 1;
            }
            writer.flush()?;
            Ok(records)
        });
        Ok(Self { stop, thread })
    }

    /// Ends it; gives how many records it wrote.
    pub fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| bail!("the background panicked"))
    }
}
