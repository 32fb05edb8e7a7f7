//! Ingest against a real broker: what the in-process one cannot show.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, bail, ensure};
use rdkafka::producer::Producer;
use vedette_event::{Flags, Micros, Partition, RawRecord, SourceIx, Span, TopicIx};
use vedette_ingest::{
    Clock, Error, Ingest, IngestSettings, Ingested, LastRead, Mechanism, OnLoss, Password, Protocol,
    Recovery, Resume, Sasl, Security, StartAt, StatusChange, TimeSource, TopicSettings, record_hash,
};

use super::broker::{Broker, PASSWORD, USER, send};

const PATIENCE: Duration = Duration::from_secs(60);

fn settings(brokers: String, topics: &[&str]) -> IngestSettings {
    let topic = |(at, name): (usize, &&str)| TopicSettings {
        name: (*name).into(),
        topic: TopicIx(at as u16),
        source: SourceIx(0),
        time_source: TimeSource::Broker,
        start: StartAt::Earliest,
        on_loss: OnLoss::Continue,
    };
    IngestSettings {
        brokers: vec![brokers],
        security: Security::default(),
        group: None,
        topics: topics.iter().enumerate().map(topic).collect(),
        allowance: Span::secs(5),
        fetch_wait: Duration::from_millis(100),
        queue: 64,
        held: false,
    }
}

fn partition(number: i32) -> Partition {
    Partition { topic: TopicIx(0), number }
}

fn now() -> Micros {
    Micros(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64))
}

fn resume(offset: i64, last: Option<(i64, &[u8])>) -> Recovery {
    let last = last.map(|(offset, payload)| LastRead { offset, hash: record_hash(Some(payload)) });
    let resume = Resume { offset, log_max: None, last };
    Recovery { partitions: BTreeMap::from([(partition(0), resume)]), ..Recovery::default() }
}

/// Offset, payload and where it lay in its batch.
type Record = (i64, Option<Vec<u8>>, RawRecord);

/// A run of ingest and what has come of it.
struct Run {
    ingest: Ingest,
    ingested: crossbeam_channel::Receiver<Ingested>,
    records: BTreeMap<Partition, Vec<Record>>,
    idle: BTreeMap<Partition, Micros>,
    assigned: Vec<(Partition, i64)>,
    lost: Vec<(Partition, i64, i64)>,
    statuses: Vec<StatusChange>,
    failed: Option<Error>,
}

impl Run {
    fn start(settings: IngestSettings, recovery: Recovery) -> Result<Self> {
        let (ingest, ingested) = Ingest::start(settings, recovery)?;
        Ok(Self {
            ingest,
            ingested,
            records: BTreeMap::new(),
            idle: BTreeMap::new(),
            assigned: Vec::new(),
            lost: Vec::new(),
            statuses: Vec::new(),
            failed: None,
        })
    }

    fn take(&mut self, item: Ingested) {
        match item {
            Ingested::Batch(batch) => {
                let seen = self.records.entry(batch.partition).or_default();
                for record in &batch.records {
                    seen.push((record.offset, batch.payload(record).map(<[u8]>::to_vec), *record));
                }
            }
            Ingested::Idle { partition, sent_at } => {
                self.idle.insert(partition, sent_at);
            }
            Ingested::Assigned { partition, offset } => self.assigned.push((partition, offset)),
            Ingested::Lost { partition, from, to } => self.lost.push((partition, from, to)),
            Ingested::StatusChange(status) => self.statuses.push(status),
            Ingested::Failed(error) => self.failed = Some(error),
            Ingested::Placed(_) | Ingested::Awaited { .. } | Ingested::Accepted(_) => {}
        }
    }

    fn until(&mut self, done: impl Fn(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            let Ok(item) = self.ingested.recv_deadline(deadline) else {
                bail!(
                    "waited in vain: {} records, {:?} {:?} {:?}",
                    self.count(),
                    self.lost,
                    self.statuses,
                    self.failed
                );
            };
            self.take(item);
        }
        Ok(())
    }

    /// Takes whatever comes for a while.
    fn during(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        while let Ok(item) = self.ingested.recv_deadline(deadline) {
            self.take(item);
        }
    }

    fn count(&self) -> usize {
        self.records.values().map(Vec::len).sum()
    }

    fn offsets(&self, number: i32) -> Vec<i64> {
        self.records.get(&partition(number)).map_or_else(Vec::new, |r| r.iter().map(|r| r.0).collect())
    }

    fn stop_reason(&self) -> Option<&Error> {
        self.statuses.iter().rev().find_map(|s| match s {
            StatusChange::TopicStopped(_, error) => Some(error),
            _ => None,
        })
    }

    fn position(&self, number: i32) -> Option<i64> {
        let lag = self.ingest.lag();
        lag.partitions.iter().find(|p| p.partition == partition(number)).map(|p| p.position)
    }
}

fn numbered(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|n| format!("record {n}")).collect()
}

#[test]
fn all_partitions_are_read_with_broker_time_nulls_and_new_partitions() -> Result<()> {
    let Some(broker) = Broker::shared("kafka::ingest::all_partitions")? else { return Ok(()) };
    let before = now();
    broker.create_topic("all", 3, &[])?;
    for number in 0..3 {
        broker.produce("all", number, &numbered(0, 1_000 * (number as usize + 1)))?;
    }
    broker.produce_null("all", 1)?;
    let mut grouped = settings(broker.bootstrap(), &["all"]);
    grouped.group = Some("lag-monitor".to_owned());
    let mut run = Run::start(grouped, Recovery::default())?;
    run.until(|r| r.idle.len() == 3)?;
    assert_eq!(run.count(), 6_001);
    for number in 0..3 {
        assert!(run.offsets(number).iter().copied().eq(0..run.offsets(number).len() as i64));
    }
    let null = run.records[&partition(1)].last().map(|r| (r.0, r.1.clone()));
    assert_eq!(null, Some((2_000, None)));
    let times: Vec<_> = run.records.values().flatten().filter_map(|r| r.2.ts_log).collect();
    assert_eq!(times.len(), 6_001);
    // Broker time is whole milliseconds, cut.
    assert!(times.iter().all(|t| *t >= before.minus(Span(1_000)) && *t <= now()));
    assert!(run.records.values().flatten().all(|r| r.2.flags == Flags::NONE));

    broker.grow_topic("all", 4)?;
    broker.produce("all", 3, &["new"])?;
    run.until(|r| r.records.contains_key(&partition(3)))?;
    assert!(run.assigned.contains(&(partition(3), 0)));
    run.ingest.stop();
    assert_eq!(broker.committed("lag-monitor", "all", 4)?, [1_000, 2_001, 3_000, 1]);
    Ok(())
}

#[test]
fn aborted_records_are_holes_and_an_open_transaction_is_not_idle() -> Result<()> {
    let Some(broker) = Broker::shared("kafka::ingest::aborted_records")? else { return Ok(()) };
    broker.create_topic("holes", 1, &[])?;
    broker.transaction("a", "holes", 0, &["aborted 0", "aborted 1"])?.abort_transaction(PATIENCE)?;
    let mut run = Run::start(settings(broker.bootstrap(), &["holes"]), Recovery::default())?;
    // Nothing but what is not for reading: idle all the same.
    run.until(|r| !r.idle.is_empty())?;
    assert_eq!((run.count(), run.position(0)), (0, Some(3)));

    broker.transaction("b", "holes", 0, &["committed 3"])?.commit_transaction(PATIENCE)?;
    let open = broker.transaction("c", "holes", 0, &["open 5"])?;
    broker.produce("holes", 0, &["behind 6"])?;
    let written = now();
    run.until(|r| r.count() == 1)?;
    run.during(Duration::from_secs(2));
    assert_eq!(run.offsets(0), [3]);
    assert!(run.idle[&partition(0)] < written, "idle within an open transaction");
    open.commit_transaction(PATIENCE)?;
    run.until(|r| r.idle[&partition(0)] > written)?;
    assert_eq!(run.offsets(0), [3, 5, 6]);

    broker.transaction("d", "holes", 0, &["aborted 8"])?.abort_transaction(PATIENCE)?;
    let aborted = now();
    run.until(|r| r.idle[&partition(0)] > aborted)?;
    assert_eq!((run.offsets(0), run.position(0)), (vec![3, 5, 6], Some(10)));
    Ok(())
}

#[test]
fn idleness_is_told_only_after_every_record_before_it() -> Result<()> {
    let Some(broker) = Broker::shared("kafka::ingest::idleness")? else { return Ok(()) };
    broker.create_topic("idle", 1, &[])?;
    let mut run = Run::start(settings(broker.bootstrap(), &["idle"]), Recovery::default())?;
    let producer = broker.producer()?;
    let mut written = 0_i64;
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        for _ in 0..20 {
            let record = rdkafka::producer::BaseRecord::<str, str>::to("idle").partition(0).payload("x");
            producer.send(record).map_err(|(e, _)| e)?;
            written += 1;
        }
        producer.flush(PATIENCE)?;
        // Every record whose broker time lies before a query that showed idleness has come before the answer.
        while let Ok(item) = run.ingested.try_recv() {
            if let (Ingested::Batch(batch), Some(idle)) = (&item, run.idle.get(&partition(0))) {
                let first = batch.records.first().and_then(|r| r.ts_log);
                // Broker time is cut to milliseconds.
                ensure!(
                    first.is_some_and(|t| t.plus(Span(1_000)) > *idle),
                    "{first:?} after idle at {idle:?}"
                );
            }
            run.take(item);
        }
        std::thread::sleep(Duration::from_millis(37));
    }
    run.until(|r| r.count() as i64 == written)?;
    let mark = now();
    run.until(|r| r.idle.get(&partition(0)).is_some_and(|t| *t > mark))?;
    Ok(())
}

#[test]
fn records_deleted_unread_are_lost_and_said_to_be() -> Result<()> {
    let Some(broker) = Broker::shared("kafka::ingest::records_deleted")? else { return Ok(()) };
    broker.create_topic("lost", 1, &[])?;
    broker.produce("lost", 0, &numbered(0, 100))?;
    broker.delete_records("lost", 0, 40)?;
    let mut run = Run::start(settings(broker.bootstrap(), &["lost"]), resume(10, Some((12, b"record 12"))))?;
    run.until(|r| r.count() == 60)?;
    assert_eq!(run.lost, [(partition(0), 10, 40)]);
    assert_eq!(run.assigned, [(partition(0), 40)]);
    assert_eq!(run.offsets(0)[0], 40);

    // And while it runs: paused at 100, deleted up to 150.
    run.ingest.pause(partition(0));
    std::thread::sleep(Duration::from_millis(300));
    broker.produce("lost", 0, &numbered(100, 200))?;
    broker.delete_records("lost", 0, 150)?;
    run.ingest.resume(partition(0));
    run.until(|r| r.count() == 110)?;
    assert_eq!(run.lost, [(partition(0), 10, 40), (partition(0), 100, 150)]);
    assert!(run.offsets(0)[60..].iter().copied().eq(150..200));

    let mut strict = settings(broker.bootstrap(), &["lost"]);
    strict.topics[0].on_loss = OnLoss::Stop;
    let mut run = Run::start(strict, resume(10, None))?;
    run.until(|r| matches!(r.stop_reason(), Some(Error::Lost { from: 10, to: 150, .. })))?;
    assert_eq!((run.count(), run.lost), (0, vec![(partition(0), 10, 150)]));
    Ok(())
}

#[test]
fn a_recreated_topic_is_not_read_until_it_is_accepted() -> Result<()> {
    let Some(broker) = Broker::shared("kafka::ingest::recreated_topic")? else { return Ok(()) };
    broker.create_topic("again", 1, &[])?;
    broker.produce("again", 0, &numbered(0, 50))?;
    let mut run = Run::start(settings(broker.bootstrap(), &["again"]), Recovery::default())?;
    run.until(|r| r.count() == 50)?;
    let recreated = |r: &Run| matches!(r.stop_reason(), Some(Error::Recreated { .. }));

    // While it runs, shorter than before.
    broker.delete_topic("again")?;
    std::thread::sleep(Duration::from_secs(1));
    broker.create_topic("again", 1, &[])?;
    broker.produce("again", 0, &["other 0", "other 1"])?;
    run.until(recreated)?;
    assert_eq!(run.count(), 50);
    run.ingest.accept(TopicIx(0));
    run.until(|r| r.count() == 52)?;
    assert_eq!(run.offsets(0)[50..], [0, 1]);
    let mark = now();
    run.until(|r| r.idle.get(&partition(0)).is_some_and(|t| *t > mark))?;
    assert_eq!(run.position(0), Some(2));
    run.ingest.stop();

    // While it runs, at once, and longer than before.
    broker.create_topic("swapped", 1, &[])?;
    broker.produce("swapped", 0, &numbered(0, 50))?;
    let mut run = Run::start(settings(broker.bootstrap(), &["swapped"]), Recovery::default())?;
    run.until(|r| r.count() == 50)?;
    broker.delete_topic("swapped")?;
    broker.create_topic("swapped", 1, &[])?;
    broker.produce("swapped", 0, &numbered(1_000, 1_100))?;
    run.until(recreated)?;
    assert_eq!(run.count(), 50, "read on in another topic");
    run.ingest.stop();

    // Between two runs, longer than before: only the hash tells.
    let mut run = Run::start(settings(broker.bootstrap(), &["again"]), resume(0, Some((1, b"record 1"))))?;
    run.until(recreated)?;
    assert_eq!(run.count(), 0);
    let mut run = Run::start(settings(broker.bootstrap(), &["again"]), resume(0, Some((1, b"other 1"))))?;
    run.until(|r| r.count() == 2)?;
    let mut run = Run::start(settings(broker.bootstrap(), &["again"]), resume(3, None))?;
    run.until(recreated)?;
    Ok(())
}

#[test]
fn restarts_and_kills_of_the_broker_are_survived() -> Result<()> {
    let Some(mut broker) = Broker::start("kafka::ingest::restarts")? else { return Ok(()) };
    // Down at the start.
    broker.stop()?;
    let mut run = Run::start(settings(broker.bootstrap(), &["steady"]), Recovery::default())?;
    run.until(|r| r.statuses.iter().any(|s| matches!(s, StatusChange::Unreachable(e) if e.retryable())))?;
    assert!(!run.ingest.lag().connected);
    broker.restart()?;
    run.until(|r| matches!(r.stop_reason(), Some(Error::UnknownTopic { .. })))?;
    broker.create_topic("steady", 2, &[])?;
    for round in 0..3 {
        for number in 0..2 {
            broker.produce("steady", number, &numbered(round * 100, (round + 1) * 100))?;
        }
        run.until(|r| r.count() == 200 * (round + 1))?;
        if round == 0 {
            broker.stop()?
        } else {
            broker.kill()?
        }
        run.during(Duration::from_secs(3));
        broker.restart()?;
    }
    for number in 0..2 {
        broker.produce("steady", number, &["last"])?;
        run.until(|r| r.offsets(number).last() == Some(&300))?;
        assert!(run.offsets(number).iter().copied().eq(0..301), "none twice, none missing");
    }
    let mark = now();
    run.until(|r| r.idle.len() == 2 && r.idle.values().all(|t| *t > mark))?;
    assert!(run.ingest.lag().connected);
    assert!(run.failed.is_none() && run.lost.is_empty());
    Ok(())
}

#[test]
fn a_wrong_password_is_fatal_and_shows_nowhere() -> Result<()> {
    let Some(broker) = Broker::shared("kafka::ingest::wrong_password")? else { return Ok(()) };
    broker.create_topic("secured", 1, &[])?;
    broker.produce("secured", 0, &["sealed"])?;
    let with = |password: &str, ca_file| {
        let mut settings = settings(broker.secure(), &["secured"]);
        let sasl = Sasl {
            mechanism: Mechanism::Plain,
            username: USER.to_owned(),
            password: Password::new(password),
        };
        settings.security = Security { protocol: Protocol::SaslSsl, sasl: Some(sasl), ca_file };
        settings
    };
    let mut run = Run::start(with(PASSWORD, Some(broker.ca_file())), Recovery::default())?;
    run.until(|r| r.count() == 1 && !r.idle.is_empty())?;

    let mut run = Run::start(with("not-the-password", Some(broker.ca_file())), Recovery::default())?;
    run.until(|r| r.failed.is_some())?;
    let Some(error) = &run.failed else { bail!("no error") };
    let text = format!("{error} {error:?} {:?}", run.statuses);
    assert!(matches!(error, Error::Credentials { .. }) && !error.retryable(), "{text}");
    for part in [broker.secure().as_str(), "PLAIN", USER] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains("not-the-password"), "{text}");
    assert!(run.ingested.recv().is_err(), "nothing follows");

    // A certificate that nobody trusts may be renewed one day: tried again, and said.
    let mut run = Run::start(with(PASSWORD, None), Recovery::default())?;
    run.until(|r| r.statuses.iter().any(|s| matches!(s, StatusChange::Unreachable(_))))?;
    let text = format!("{:?}", run.statuses);
    assert!(text.to_lowercase().contains("certificate") && !text.contains(PASSWORD), "{text}");
    Ok(())
}

#[test]
fn topics_that_are_missing_or_of_the_wrong_kind_hold_up_no_other() -> Result<()> {
    let Some(broker) = Broker::shared("kafka::ingest::missing_topics")? else { return Ok(()) };
    broker.create_topic("kind-right", 1, &[])?;
    broker.create_topic("kind-wrong", 1, &[("message.timestamp.type", "CreateTime")])?;
    broker.produce("kind-right", 0, &["fine"])?;
    broker.produce("kind-wrong", 0, &["no broker time"])?;
    let topics = ["kind-right", "kind-wrong", "kind-later"];
    let mut run = Run::start(settings(broker.bootstrap(), &topics), Recovery::default())?;
    run.until(|r| {
        let stopped = r.statuses.iter().filter(|s| matches!(s, StatusChange::TopicStopped(..))).count();
        r.count() == 1 && stopped == 2 && r.idle.contains_key(&partition(0))
    })?;
    let reasons: BTreeSet<_> = run
        .statuses
        .iter()
        .filter_map(|s| match s {
            StatusChange::TopicStopped(topic, error) => Some((topic.0, error.retryable(), error.to_string())),
            _ => None,
        })
        .collect();
    let reasons: Vec<_> = reasons.into_iter().collect();
    assert_eq!((reasons[0].0, reasons[0].1), (1, true));
    let told = "topic kind-wrong has message.timestamp.type=CreateTime, but time_source is broker";
    assert!(reasons[0].2.contains(told), "{reasons:?}");
    assert_eq!((reasons[1].0, reasons[1].1), (2, true));
    assert!(reasons[1].2.contains("topic kind-later does not exist"), "{reasons:?}");
    broker.create_topic("kind-later", 1, &[])?;
    broker.produce("kind-later", 0, &["here"])?;
    run.until(|r| r.count() == 2)?;
    assert!(run.statuses.iter().any(|s| matches!(s, StatusChange::TopicReady(TopicIx(2)))));
    // Set right, it is begun; its first record was written before, and stops it.
    broker.configure_topic("kind-wrong", &[("message.timestamp.type", "LogAppendTime")])?;
    run.until(|r| {
        r.statuses.iter().any(|s| matches!(s, StatusChange::TopicStopped(_, Error::TimestampType { .. })))
    })?;
    assert!(run.statuses.iter().any(|s| matches!(s, StatusChange::TopicReady(TopicIx(1)))));
    Ok(())
}

#[test]
fn a_topic_that_is_switched_is_read_on_with_history_of_both() -> Result<()> {
    let Some(broker) = Broker::shared("kafka::ingest::switched_topic")? else { return Ok(()) };
    broker.create_topic("switched", 1, &[("message.timestamp.type", "CreateTime")])?;
    let producer = broker.producer()?;
    let millis = now().0 / 1_000;
    // Ahead of the clock by more than the allowance, the third is replaced by it.
    for (claimed, payload) in [(millis - 9_000, "a"), (millis - 20_000, "b"), (millis + 3_600_000, "c")] {
        let record = rdkafka::producer::BaseRecord::<str, str>::to("switched").partition(0);
        producer.send(record.timestamp(claimed).payload(payload)).map_err(|(e, _)| e)?;
    }
    producer.flush(PATIENCE)?;
    let mut auto = settings(broker.bootstrap(), &["switched"]);
    auto.topics[0].time_source = TimeSource::Auto;
    let mut run = Run::start(auto, Recovery::default())?;
    run.until(|r| r.count() == 3)?;
    assert_eq!(run.ingest.lag().topics[0].clock, Some(Clock::Producer));
    broker.configure_topic("switched", &[("message.timestamp.type", "LogAppendTime")])?;
    broker.produce("switched", 0, &["d"])?;
    run.until(|r| r.count() == 4)?;
    assert_eq!(run.ingest.lag().topics[0].clock, Some(Clock::Broker));
    broker.configure_topic("switched", &[("message.timestamp.type", "CreateTime")])?;
    broker.produce("switched", 0, &["e"])?;
    run.until(|r| r.count() == 5)?;
    let read: Vec<_> = run.records[&partition(0)].iter().map(|(_, _, r)| (r.ts_log, r.flags)).collect();
    let plain = Some(Micros((millis - 9_000) * 1_000));
    assert_eq!(read[..2], [(plain, Flags::NONE), (plain, Flags::NONE)]);
    assert!(read[2].1 == Flags::CLOCK_BROKER && read[2].0 > plain && read[2].0 <= Some(now()), "{read:?}");
    assert!(read[3..].iter().all(|(time, flags)| flags.is_empty() && *time <= Some(now())), "{read:?}");
    let told = run.statuses.iter().filter(|s| matches!(s, StatusChange::ProducerTime(_))).count();
    assert_eq!(told, 1, "{:?}", run.statuses);
    Ok(())
}

#[test]
fn a_paused_partition_stands_still_and_goes_on_exactly() -> Result<()> {
    let Some(broker) = Broker::shared("kafka::ingest::pausing")? else { return Ok(()) };
    broker.create_topic("pausing", 2, &[])?;
    let mut run = Run::start(settings(broker.bootstrap(), &["pausing"]), Recovery::default())?;
    run.ingest.pause(partition(1));
    run.until(|r| r.assigned.len() == 2)?;
    let mut read = 0;
    for round in 0..5 {
        for number in 0..2 {
            broker.produce("pausing", number, &numbered(round * 2_000, (round + 1) * 2_000))?;
        }
        run.until(|r| r.offsets(0).len() == 2_000 * (round + 1))?;
        run.during(Duration::from_millis(400));
        ensure!(run.offsets(1).len() == read, "read while paused");
        run.ingest.resume(partition(1));
        run.until(|r| r.offsets(1).len() > read)?;
        run.ingest.pause(partition(1));
        run.during(Duration::from_millis(300));
        read = run.offsets(1).len();
    }
    run.ingest.resume(partition(1));
    run.until(|r| r.offsets(1).len() == 10_000)?;
    assert!(run.offsets(1).iter().copied().eq(0..10_000));
    Ok(())
}

/// What may wait in a producer at once.
const QUEUED: usize = 90_000;

#[test]
fn a_restart_with_a_backlog_takes_every_partition_up() -> Result<()> {
    let Some(broker) = Broker::shared("kafka::ingest::backlog")? else { return Ok(()) };
    // Few partitions of which each takes many fetches, and many with less: two million records.
    let topics = [
        ("deep", 6, 120_000, 1_000),
        ("wide-a", 12, 36_000, 0),
        ("wide-b", 12, 36_000, 0),
        ("wide-c", 12, 36_000, 0),
    ];
    let record = |n: usize, width| format!("record {n:<width$}");
    let producer = broker.compressing_producer()?;
    let mut recovery = Recovery::default();
    for (at, (topic, partitions, records, width)) in topics.iter().enumerate() {
        broker.create_topic(topic, *partitions, &[])?;
        for number in 0..*partitions {
            for from in (0..*records).step_by(QUEUED) {
                let some: Vec<_> = (from..(from + QUEUED).min(*records)).map(|n| record(n, *width)).collect();
                send(&producer, topic, number, &some)?;
            }
            let last = LastRead { offset: 1, hash: record_hash(Some(record(1, *width).as_bytes())) };
            let resume = Resume { offset: 0, log_max: None, last: Some(last) };
            recovery.partitions.insert(Partition { topic: TopicIx(at as u16), number }, resume);
        }
    }
    let names: Vec<_> = topics.iter().map(|(name, ..)| *name).collect();
    let mut run = Run::start(settings(broker.bootstrap(), &names), recovery)?;
    run.until(|r| r.records.len() == 42)?;
    let trouble = |s: &StatusChange| !matches!(s, StatusChange::Connected | StatusChange::TopicReady(_));
    assert!(!run.statuses.iter().any(trouble) && run.lost.is_empty(), "{:?} {:?}", run.statuses, run.lost);
    assert!(run.ingest.lag().topics.iter().all(|t| t.unassigned() == 0 && t.missing.is_none()));
    Ok(())
}
