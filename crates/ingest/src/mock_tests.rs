//! The whole of [`Ingest`] against the in-process broker.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crossbeam_channel::Receiver;
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer},
};
use vedette_event::{Flags, Micros, Partition, SourceIx, Span, TopicIx};

use crate::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn settings(brokers: &str, topics: &[&str]) -> IngestSettings {
    let topic = |(at, name): (usize, &&str)| TopicSettings {
        name: (*name).into(),
        topic: TopicIx(at as u16),
        source: SourceIx(at as u16),
        time_source: TimeSource::Producer,
        start: StartAt::Earliest,
        on_loss: OnLoss::Continue,
    };
    IngestSettings {
        brokers: vec![brokers.to_owned()],
        security: Security::default(),
        group: None,
        topics: topics.iter().enumerate().map(topic).collect(),
        allowance: Span::secs(5),
        fetch_wait: Duration::from_millis(10),
        queue: 64,
        held: false,
    }
}

fn partition(topic: u16, number: i32) -> Partition {
    Partition { topic: TopicIx(topic), number }
}

fn produce(brokers: &str, topic: &str, number: i32, records: &[(i64, &str)]) {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("linger.ms", "0").create().unwrap();
    for (millis, payload) in records {
        let record = BaseRecord::<str, str>::to(topic).partition(number).timestamp(*millis).payload(payload);
        producer.send(record).map_err(|(e, _)| e).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

/// Offset, `ts_log`, flags and payload.
type Record = (i64, Option<Micros>, Flags, String);

/// What has come so far.
#[derive(Default)]
struct Seen {
    records: BTreeMap<Partition, Vec<Record>>,
    batches: usize,
    idle: BTreeMap<Partition, Micros>,
    lost: Vec<(Partition, i64, i64)>,
    placed: Vec<vedette_event::StoredPlacement>,
    awaited: Vec<Vec<i32>>,
    statuses: Vec<StatusChange>,
    failed: Option<Error>,
}

impl Seen {
    fn take(&mut self, item: Ingested) {
        match item {
            Ingested::Batch(batch) => {
                self.batches += 1;
                for r in &batch.records {
                    let text = String::from_utf8(batch.payload(r).unwrap_or_default().to_vec()).unwrap();
                    self.records
                        .entry(batch.partition)
                        .or_default()
                        .push((r.offset, r.ts_log, r.flags, text));
                }
            }
            Ingested::Idle { partition, sent_at } => drop(self.idle.insert(partition, sent_at)),
            Ingested::Lost { partition, from, to } => self.lost.push((partition, from, to)),
            Ingested::Placed(placed) => self.placed.push(placed),
            Ingested::StatusChange(status) => self.statuses.push(status),
            Ingested::Failed(error) => self.failed = Some(error),
            Ingested::Awaited { numbers, .. } => self.awaited.push(numbers.into_iter().collect()),
            Ingested::Assigned { .. } | Ingested::Accepted(_) => {}
        }
    }

    fn count(&self) -> usize {
        self.records.values().map(Vec::len).sum()
    }
}

fn until(ingested: &Receiver<Ingested>, seen: &mut Seen, done: impl Fn(&Seen) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done(seen) {
        let item = ingested.recv_deadline(deadline);
        seen.take(item.unwrap_or_else(|e| panic!("{e}: {:?} {:?}", seen.statuses, seen.records)));
    }
}

#[test]
fn records_of_all_partitions_come_in_order_and_then_idleness() {
    let broker = MockBroker::start().unwrap();
    let at = broker.bootstrap_servers();
    broker.create_topic("api", 2).unwrap();
    broker.create_topic("waf", 1).unwrap();
    produce(&at, "api", 0, &[(1_000, "a"), (900, "b"), (1_100, "c")]);
    produce(&at, "waf", 0, &[(5, "w")]);
    let before = crate::clock::now();
    let (ingest, ingested) = Ingest::start(settings(&at, &["api", "waf"]), Recovery::default()).unwrap();
    let mut seen = Seen::default();
    until(&ingested, &mut seen, |s| s.idle.len() == 3);
    assert_eq!(seen.count(), 4);
    let times: Vec<_> = seen.records[&partition(0, 0)].iter().map(|r| (r.0, r.1.unwrap().0)).collect();
    assert_eq!(times, [(0, 1_000_000), (1, 1_000_000), (2, 1_100_000)]);
    assert!(seen.idle.values().all(|sent_at| *sent_at >= before));
    assert!(seen.statuses.iter().any(|s| matches!(s, StatusChange::Connected)));

    let appended = Instant::now();
    produce(&at, "api", 1, &[(7, "later")]);
    until(&ingested, &mut seen, |s| s.count() == 5);
    assert!(appended.elapsed() < Duration::from_secs(1), "{:?}", appended.elapsed());
    let lag = ingest.lag();
    assert!(lag.connected);
    let positions: Vec<_> =
        lag.partitions.iter().map(|p| (&*p.topic, p.partition.number, p.position)).collect();
    assert_eq!(positions, [("api", 0, 3), ("api", 1, 1), ("waf", 0, 1)]);
    ingest.stop();
    assert!(ingested.iter().all(|item| !matches!(item, Ingested::Failed(_))));
}

#[test]
fn a_run_is_taken_up_where_the_former_one_was() {
    let broker = MockBroker::start().unwrap();
    let at = broker.bootstrap_servers();
    broker.create_topic("api", 1).unwrap();
    produce(&at, "api", 0, &[(9_000, "a"), (1_000, "b"), (2_000, "c")]);
    let last = Some(LastRead { offset: 1, hash: record_hash(Some(b"b")) });
    let resume = Resume { offset: 1, log_max: Some(Micros(9_000_000)), last };
    let recovery =
        Recovery { partitions: BTreeMap::from([(partition(0, 0), resume.clone())]), ..Recovery::default() };
    let (ingest, ingested) = Ingest::start(settings(&at, &["api"]), recovery).unwrap();
    let mut seen = Seen::default();
    until(&ingested, &mut seen, |s| s.count() == 2);
    let records: Vec<_> =
        seen.records[&partition(0, 0)].iter().map(|r| (r.0, r.1.unwrap().0, &*r.3)).collect();
    assert_eq!(records, [(1, 9_000_000, "b"), (2, 9_000_000, "c")]);
    ingest.stop();

    let last = Some(LastRead { offset: 1, hash: record_hash(Some(b"something else")) });
    let partitions = BTreeMap::from([(partition(0, 0), Resume { last, ..resume })]);
    let recovery = Recovery { partitions, ..Recovery::default() };
    let (ingest, ingested) = Ingest::start(settings(&at, &["api"]), recovery).unwrap();
    let mut seen = Seen::default();
    let stopped = |s: &Seen| {
        s.statuses
            .iter()
            .any(|s| matches!(s, StatusChange::TopicStopped(TopicIx(0), Error::Recreated { .. })))
    };
    until(&ingested, &mut seen, stopped);
    assert_eq!(seen.count(), 0);
    ingest.accept(TopicIx(0));
    until(&ingested, &mut seen, |s| s.count() == 3);
    assert_eq!(seen.records[&partition(0, 0)][0].0, 0);
}

#[test]
fn a_topic_whose_last_records_cannot_be_looked_at_is_named_until_they_can() {
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
    let broker = MockBroker::start().unwrap();
    let at = broker.bootstrap_servers();
    broker.create_topic("api", 2).unwrap();
    let last = Some(LastRead { offset: 0, hash: record_hash(Some(b"a")) });
    let resume = Resume { offset: 1, log_max: None, last };
    for number in 0..2 {
        produce(&at, "api", number, &[(1, "a"), (2, "b")]);
    }
    let partitions = (0..2).map(|number| (partition(0, number), resume.clone())).collect();
    // Enough of them that none is left over when patience ends.
    let refused = vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION; 10_000];
    broker.0.request_errors(RDKafkaApiKey::Fetch, &refused);
    let recovery = Recovery { partitions, ..Recovery::default() };
    let (ingest, ingested) = Ingest::start(settings(&at, &["api"]), recovery).unwrap();
    let mut seen = Seen::default();
    let told = |s: &StatusChange| matches!(s, StatusChange::TopicStopped(TopicIx(0), Error::NotYet { .. }));
    until(&ingested, &mut seen, |s| s.statuses.iter().any(told));
    let Some(StatusChange::TopicStopped(_, error)) = seen.statuses.iter().find(|s| told(s)) else {
        unreachable!()
    };
    assert!(error.retryable() && error.passing(), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("topic api cannot be read yet") && text.contains("no answer for partition 0, 1"),
        "{text}"
    );
    let topic = ingest.lag().topics.remove(0);
    assert_eq!((topic.partitions, topic.assigned, topic.unassigned()), (Some(2), 0, 2));
    assert!(topic.missing.is_some_and(|why| text.contains(&why)));

    broker.0.clear_request_errors(RDKafkaApiKey::Fetch);
    until(&ingested, &mut seen, |s| s.count() == 2);
    assert!(seen.statuses.iter().any(|s| matches!(s, StatusChange::TopicReady(TopicIx(0)))));
    let topic = ingest.lag().topics.remove(0);
    assert_eq!((topic.unassigned(), topic.paused, topic.missing), (0, 0, None));
}

#[test]
fn a_partition_that_never_had_a_leader_is_said_to_be_there_before_its_topic_is_read() {
    let broker = MockBroker::start().unwrap();
    let at = broker.bootstrap_servers();
    broker.create_topic("api", 2).unwrap();
    produce(&at, "api", 0, &[(1, "a")]);
    produce(&at, "api", 1, &[(2, "b")]);
    broker.0.partition_leader("api", 1, None).unwrap();
    let (ingest, ingested) = Ingest::start(settings(&at, &["api"]), Recovery::default()).unwrap();
    let mut seen = Seen::default();
    let ready = |s: &Seen| s.statuses.iter().any(|s| matches!(s, StatusChange::TopicReady(TopicIx(0))));
    until(&ingested, &mut seen, |s| ready(s) || s.awaited.len() == 1);
    assert_eq!((&seen.awaited[..], ready(&seen)), (&[vec![1]][..], false));
    until(&ingested, &mut seen, |s| ready(s) && s.count() == 1);
    let topic = ingest.lag().topics.remove(0);
    assert_eq!((topic.assigned, topic.unassigned()), (1, 1));
    assert!(topic.missing.is_some_and(|why| why.contains("no leader for partition 1")));

    broker.0.partition_leader("api", 1, Some(1)).unwrap();
    until(&ingested, &mut seen, |s| s.count() == 2 && s.awaited.len() == 2);
    assert_eq!(seen.awaited, [vec![1], vec![]]);
}

#[test]
fn producers_time_is_told_once_for_each_topic() {
    let broker = MockBroker::start().unwrap();
    let at = broker.bootstrap_servers();
    broker.create_topic("api", 2).unwrap();
    let mut auto = settings(&at, &["api"]);
    auto.topics[0].time_source = TimeSource::Auto;
    let (ingest, ingested) = Ingest::start(auto, Recovery::default()).unwrap();
    let mut seen = Seen::default();
    until(&ingested, &mut seen, |s| s.idle.len() == 2);
    assert_eq!(ingest.lag().topics[0].clock, None);
    for number in 0..2 {
        produce(&at, "api", number, &[(9, "a"), (7, "b")]);
    }
    until(&ingested, &mut seen, |s| s.count() == 4);
    produce(&at, "api", 0, &[(8, "c")]);
    until(&ingested, &mut seen, |s| s.count() == 5);
    let told = seen.statuses.iter().filter(|s| matches!(s, StatusChange::ProducerTime(TopicIx(0)))).count();
    assert_eq!((told, ingest.lag().topics[0].clock), (1, Some(crate::Clock::Producer)));
    let times: Vec<_> = seen.records[&partition(0, 0)].iter().map(|r| r.1).collect();
    assert_eq!(times, [Some(Micros(9_000)); 3]);
}

#[test]
fn a_missing_topic_is_waited_for_and_one_that_ends_early_is_not_read() {
    let broker = MockBroker::start().unwrap();
    let at = broker.bootstrap_servers();
    broker.create_topic("short", 1).unwrap();
    produce(&at, "short", 0, &[(1, "a")]);
    let resume = Resume { offset: 10, log_max: None, last: None };
    let recovery =
        Recovery { partitions: BTreeMap::from([(partition(1, 0), resume)]), ..Recovery::default() };
    let (_ingest, ingested) = Ingest::start(settings(&at, &["later", "short"]), recovery).unwrap();
    let mut seen = Seen::default();
    until(&ingested, &mut seen, |s| {
        s.statuses.iter().filter(|s| matches!(s, StatusChange::TopicStopped(..))).count() == 2
    });
    let stops: Vec<_> = seen
        .statuses
        .iter()
        .filter_map(|s| match s {
            StatusChange::TopicStopped(topic, error) => Some((topic.0, error.retryable(), error.to_string())),
            _ => None,
        })
        .collect();
    assert_eq!((stops[0].0, stops[0].1), (0, true));
    assert!(stops[0].2.contains("topic later does not exist"), "{}", stops[0].2);
    assert_eq!((stops[1].0, stops[1].1), (1, false));
    assert!(stops[1].2.contains("ends at offset 1, but was read up to 10"), "{}", stops[1].2);

    broker.create_topic("later", 1).unwrap();
    produce(&at, "later", 0, &[(1, "here")]);
    until(&ingested, &mut seen, |s| s.count() == 1);
    assert!(seen.records.contains_key(&partition(0, 0)));
}

#[test]
fn a_full_channel_drops_nothing_and_pausing_holds_a_partition_exactly() {
    let broker = MockBroker::start().unwrap();
    let at = broker.bootstrap_servers();
    broker.create_topic("api", 2).unwrap();
    let payloads: Vec<String> = (0..5_000).map(|n| format!("{n}")).collect();
    let records: Vec<(i64, &str)> = payloads.iter().map(|p| (1, &**p)).collect();
    produce(&at, "api", 0, &records);
    let mut tight = settings(&at, &["api"]);
    tight.queue = 1;
    let (ingest, ingested) = Ingest::start(tight, Recovery::default()).unwrap();
    std::thread::sleep(Duration::from_millis(1_500));
    let mut seen = Seen::default();
    until(&ingested, &mut seen, |s| s.count() == 5_000);
    assert!(seen.batches < 40, "{} batches for 5,000 records that were all there", seen.batches);
    assert!(
        seen.records[&partition(0, 0)]
            .iter()
            .enumerate()
            .all(|(n, r)| r.0 == n as i64 && r.3 == n.to_string())
    );

    ingest.pause(partition(0, 1));
    let paused = |p: &PartitionLag| p.partition.number == 1 && p.paused;
    while !ingest.lag().partitions.iter().any(paused) {
        until(&ingested, &mut seen, |_| true);
        let _ = ingested.recv_timeout(Duration::from_millis(50)).map(|item| seen.take(item));
    }
    produce(&at, "api", 1, &[(1, "held")]);
    produce(&at, "api", 0, &[(1, "passes")]);
    until(&ingested, &mut seen, |s| s.count() == 5_001);
    let mark = crate::clock::now();
    until(&ingested, &mut seen, |s| {
        s.idle.get(&partition(0, 0)).is_some_and(|t| *t > mark.plus(Span::secs(1)))
    });
    assert_eq!(seen.count(), 5_001);
    assert!(seen.idle.get(&partition(0, 1)).is_none_or(|t| *t < mark));
    ingest.resume(partition(0, 1));
    until(&ingested, &mut seen, |s| s.count() == 5_002);
    assert_eq!(seen.records[&partition(0, 1)][0].3, "held");
}

#[test]
fn a_start_at_the_latest_skips_what_is_there_and_a_partition_that_is_gone_stops() {
    let broker = MockBroker::start().unwrap();
    let at = broker.bootstrap_servers();
    broker.create_topic("api", 1).unwrap();
    produce(&at, "api", 0, &[(1, "old")]);
    let mut latest = settings(&at, &["api"]);
    latest.topics[0].start = StartAt::Latest;
    let (ingest, ingested) = Ingest::start(latest, Recovery::default()).unwrap();
    let mut seen = Seen::default();
    until(&ingested, &mut seen, |s| !s.idle.is_empty());
    produce(&at, "api", 0, &[(1, "new")]);
    until(&ingested, &mut seen, |s| s.count() == 1);
    assert_eq!(seen.records[&partition(0, 0)][0].3, "new");
    ingest.stop();

    let resume = Resume { offset: 0, log_max: None, last: None };
    let recovery =
        Recovery { partitions: BTreeMap::from([(partition(0, 7), resume)]), ..Recovery::default() };
    let (_ingest, ingested) = Ingest::start(settings(&at, &["api"]), recovery).unwrap();
    let mut seen = Seen::default();
    let recreated = |s: &StatusChange| matches!(s, StatusChange::TopicStopped(_, Error::Recreated { partition, .. }) if partition.number == 7);
    until(&ingested, &mut seen, |s| s.statuses.iter().any(recreated));
    assert_eq!(seen.count(), 0);
}

#[test]
fn an_unreachable_broker_is_tried_again_for_ever() {
    let broker = MockBroker::start().unwrap();
    let at = broker.bootstrap_servers();
    broker.create_topic("api", 1).unwrap();
    broker.set_reachable(false).unwrap();
    let (ingest, ingested) = Ingest::start(settings(&at, &["api"]), Recovery::default()).unwrap();
    let mut seen = Seen::default();
    until(&ingested, &mut seen, |s| {
        s.statuses.iter().any(|s| matches!(s, StatusChange::Unreachable(e) if e.retryable()))
    });
    assert!(!ingest.lag().connected);
    broker.set_reachable(true).unwrap();
    produce(&at, "api", 0, &[(1, "a")]);
    until(&ingested, &mut seen, |s| s.count() == 1);
    assert!(seen.statuses.iter().any(|s| matches!(s, StatusChange::Connected)));
    assert!(seen.failed.is_none());
}

#[test]
fn a_time_far_ahead_is_placed_by_the_clock_and_said_before_its_batch() {
    let broker = MockBroker::start().unwrap();
    let at = broker.bootstrap_servers();
    broker.create_topic("api", 1).unwrap();
    produce(&at, "api", 0, &[(1, "a"), (4_000_000_000_000, "far")]);
    let (_ingest, ingested) = Ingest::start(settings(&at, &["api"]), Recovery::default()).unwrap();
    let mut seen = Seen::default();
    until(&ingested, &mut seen, |s| s.count() == 2 || (s.count() == 0 && s.placed.len() == 1));
    assert_eq!((seen.placed.len(), seen.placed[0].offset), (1, 1));
    until(&ingested, &mut seen, |s| s.count() == 2);
    let far = &seen.records[&partition(0, 0)][1];
    assert_eq!((far.1, far.2), (Some(seen.placed[0].time), Flags::CLOCK_BROKER));
}

#[test]
fn all_partitions_of_a_topic_are_told_before_any_record_of_one() {
    let broker = MockBroker::start().unwrap();
    let at = broker.bootstrap_servers();
    broker.create_topic("wide", 40).unwrap();
    for number in 0..40 {
        produce(&at, "wide", number, &[(1_000, "x")]);
    }
    let (_ingest, ingested) = Ingest::start(settings(&at, &["wide"]), Recovery::default()).unwrap();
    let (mut assigned, mut records) = (0, 0);
    while records < 40 {
        match ingested.recv_timeout(PATIENCE).unwrap() {
            Ingested::Assigned { .. } => assigned += 1,
            Ingested::Batch(batch) => {
                assert_eq!(assigned, 40);
                records += batch.records.len();
            }
            _ => {}
        }
    }
}

#[test]
fn dead_letters_carry_their_origin() {
    let broker = MockBroker::start().unwrap();
    let at = broker.bootstrap_servers();
    broker.create_topic(DEAD_LETTER_TOPIC, 1).unwrap();
    let topic =
        DeadLetterTopic::connect(std::slice::from_ref(&at), &Security::default(), DEAD_LETTER_TOPIC).unwrap();
    let letter = vedette_event::DeadLetter {
        source: SourceIx(0),
        partition: partition(0, 3),
        offset: 42,
        index: None,
        ts_log: None,
        reason: vedette_event::DeadReason::Malformed,
        detail: "no JSON".into(),
        payload: b"\xffbroken".to_vec(),
    };
    topic.send("api", "api-logs", &letter);
    topic.flush(PATIENCE).unwrap();
    assert_eq!(topic.copies(), Copies::default());
    // One that nobody takes is counted, told, and no reason to hold others up.
    topic.send(
        "api",
        "api-logs",
        &vedette_event::DeadLetter { payload: vec![b'x'; 3 << 20], ..letter.clone() },
    );
    let Copies { missed: 1, trouble: Some((reason, since)) } = topic.copies() else { panic!() };
    assert!(reason.contains("max.message.bytes") && since <= crate::clock::now(), "{reason}");
    topic.send("api", "api-logs", &letter);
    topic.flush(PATIENCE).unwrap();
    assert_eq!(topic.copies(), Copies { missed: 1, trouble: None });

    use rdkafka::{Message, consumer::Consumer, message::Headers};
    let connection =
        std::sync::Arc::new(crate::client::Connection::new(std::slice::from_ref(&at), &Security::default()));
    let consumer = crate::client::verifier(&settings(&at, &[]), crate::client::Listener(connection)).unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition_offset(DEAD_LETTER_TOPIC, 0, rdkafka::Offset::Offset(0)).unwrap();
    consumer.assign(&list).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let message = loop {
        assert!(Instant::now() < deadline);
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            break message.detach();
        }
    };
    assert_eq!((message.key(), message.payload()), (Some(&b"api"[..]), Some(&b"\xffbroken"[..])));
    let headers: Vec<_> = message
        .headers()
        .unwrap()
        .iter()
        .map(|h| (h.key.to_owned(), String::from_utf8_lossy(h.value.unwrap_or_default()).into_owned()))
        .collect();
    let expected = [("topic", "api-logs"), ("partition", "3"), ("offset", "42"), ("reason", "malformed")];
    assert_eq!(headers, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
}

/// Offsets with their texts, in the order in which they came; without one where the record is gone.
type Came = Vec<(i64, Option<String>)>;

fn read_back(reader: &ReadBack, number: i32, offsets: &[i64]) -> (Came, Result<(), Error>) {
    let mut came = Vec::new();
    let done = reader.records(
        partition(0, number),
        offsets,
        || true,
        |offset, found| {
            let text = |payload: &[u8]| String::from_utf8_lossy(payload).into_owned();
            came.push((
                offset,
                match found {
                    Found::Record(payload) => Some(text(payload.unwrap_or_default())),
                    Found::Gone => None,
                },
            ));
        },
    );
    (came, done)
}

#[test]
fn records_are_read_back_near_and_far_and_what_is_not_there_is_gone() {
    let broker = MockBroker::start().unwrap();
    let at = broker.bootstrap_servers();
    broker.create_topic("api", 2).unwrap();
    // The broker keeps 5 MiB, so of these only the last are there.
    let filling = "x".repeat(2_000);
    let records: Vec<(i64, &str)> = (0..6_000).map(|n| (n, filling.as_str())).collect();
    produce(&at, "api", 0, &records);
    produce(&at, "api", 0, &[(1, "near the end")]);
    produce(&at, "api", 1, &[(1, "a"), (2, "b"), (3, "c")]);
    let reader = ReadBack::new(&settings(&at, &["api"])).unwrap();
    let here = |text: &str| Some(text.to_owned());
    let (came, done) = read_back(&reader, 1, &[0, 2]);
    assert!(done.is_ok(), "{done:?}");
    assert_eq!(came, [(0, here("a")), (2, here("c"))]);
    // Before the log's start, far apart from one another, and behind its end.
    let (came, done) = read_back(&reader, 0, &[3, 4_500, 4_501, 5_990, 6_000, 6_001, 7_000]);
    assert!(done.is_ok(), "{done:?}");
    let filled = |offset| (offset, here(&filling));
    let expected = [filled(4_500), filled(4_501), filled(5_990), (6_000, here("near the end"))];
    assert_eq!(came[0], (3, None));
    assert_eq!(came[1..5], expected);
    assert_eq!(came[5..], [(6_001, None), (7_000, None)]);
    let (came, done) = read_back(&reader, 1, &[7]);
    assert!(done.is_ok() && came == [(7, None)], "{came:?} {done:?}");
    // A broker that does not answer proves nothing.
    broker.set_reachable(false).unwrap();
    let (came, done) = read_back(&reader, 1, &[1]);
    assert!(came.is_empty() && done.is_err_and(|e| e.retryable()));
    broker.set_reachable(true).unwrap();
    let (came, done) = read_back(&reader, 1, &[1]);
    assert!(done.is_ok() && came == [(1, here("b"))], "{came:?} {done:?}");
}

#[test]
fn the_threads_show_that_they_live_and_whether_what_they_have_is_taken() {
    let broker = MockBroker::start().unwrap();
    let at = broker.bootstrap_servers();
    broker.create_topic("api", 1).unwrap();
    produce(&at, "api", 0, &[(1_000, "a"), (2_000, "b")]);
    let narrow = IngestSettings { queue: 1, ..settings(&at, &["api"]) };
    let (ingest, ingested) = Ingest::start(narrow, Recovery::default()).unwrap();
    let view = ingest.lag_view();
    let shown = |what: &str, holds: &dyn Fn(&[Heartbeat; 2]) -> bool| {
        let deadline = Instant::now() + PATIENCE;
        while !holds(&view.heartbeats()) {
            assert!(Instant::now() < deadline, "{what}: {:?}", view.heartbeats());
            std::thread::sleep(Duration::from_millis(5));
        }
        view.heartbeats()
    };
    // Nobody takes anything: the reader tries, and does not move.
    let [full, _] = shown("waits", &|[reader, _]| reader.waits);
    let [still, _] = shown("tries again", &|[reader, _]| reader.tries > full.tries + 2);
    assert_eq!((still.thread, still.moves, still.end), ("reader", full.moves, None));

    let mut seen = Seen::default();
    until(&ingested, &mut seen, |s| s.count() == 2 && s.idle.len() == 1);
    let handed_on: Vec<_> = ingest.lag().partitions.iter().map(|p| p.handed_on).collect();
    assert_eq!(handed_on, [2]);
    let drain = ingested.clone();
    let drained = std::thread::spawn(move || drain.iter().for_each(drop));
    let [reader, prober] = shown("moves", &|[reader, _]| !reader.waits && reader.moves > full.moves);
    shown("both move", &|[r, p]| r.moves > reader.moves && p.moves > prober.moves);
    ingest.ask_to_stop();
    shown("both end", &|all| all.iter().all(|beat| beat.end == Some(Ended::Done)));
    // The channel ends with them.
    drained.join().unwrap();
}
