//! The reader's judgements, without a broker: what it hears, and what it says and asks then.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crossbeam_channel::{Receiver, bounded, unbounded};
use vedette_event::{Micros, Partition, SourceIx, Span, TopicIx};

use super::{Reader, Wires};
use crate::{
    IngestSettings, Ingested, OnLoss, Security, StartAt, TimeSource, TopicSettings,
    client::Connection,
    shared::{Answer, Ask, End, ReadFrom, Shared},
};

fn partition(number: i32) -> Partition {
    Partition { topic: TopicIx(0), number }
}

/// A reader of two partitions that stand at offset 7, and the questions it asks.
fn reader(on_loss: OnLoss) -> (Reader, Receiver<Ask>) {
    let topic = TopicSettings {
        name: "api".into(),
        topic: TopicIx(0),
        source: SourceIx(0),
        time_source: TimeSource::Auto,
        start: StartAt::Earliest,
        on_loss,
    };
    let settings = Arc::new(IngestSettings {
        brokers: vec!["127.0.0.1:9".to_owned()],
        security: Security::default(),
        group: None,
        topics: vec![topic.clone()],
        allowance: Span::secs(5),
        fetch_wait: Duration::from_millis(10),
        queue: 64,
        held: false,
    });
    let shared = Arc::new(Shared::new(&settings.topics));
    let connection = Arc::new(Connection::new(&settings.brokers, &settings.security));
    let (asks, asked) = unbounded();
    let wires = Wires { out: bounded(64).0, commands: unbounded().1, answers: bounded(1).1, asks };
    let mut reader = Reader::new(settings, BTreeMap::new(), connection, shared, wires).unwrap();
    reader.hear(begin(topic, 7));
    reader.outbox.clear();
    (reader, asked)
}

/// Both partitions are to be read from there.
fn begin(topic: TopicSettings, offset: i64) -> Answer {
    let start = |number| ReadFrom { number, offset, decided: offset, log_max: None, lost: None };
    Answer::Begin { topic, starts: (0..2).map(start).collect() }
}

fn ends(checked: bool, of: &[(i32, i64)]) -> Answer {
    let end = |(number, low): &(i32, i64)| End { partition: partition(*number), low: Some(*low), high: 99 };
    Answer::Ends { sent_at: Micros(1), ends: of.iter().map(end).collect(), checked }
}

/// What was said of losses and of where reading goes on.
fn said(reader: &mut Reader) -> Vec<String> {
    let word = |item: Ingested| match item {
        Ingested::Lost { partition, from, to } => Some(format!("{} lost {from}..{to}", partition.number)),
        Ingested::Assigned { partition, offset } => Some(format!("{} from {offset}", partition.number)),
        Ingested::StatusChange(status) => Some(format!("{status:?}").chars().take(12).collect()),
        _ => None,
    };
    reader.outbox.drain(..).filter_map(word).collect()
}

#[test]
fn a_loss_is_followed_by_where_reading_goes_on() {
    let (mut reader, _asked) = reader(OnLoss::Continue);
    reader.lanes.iter_mut().for_each(|lane| lane.doubt = Some(7));
    reader.shared.partitions().values_mut().for_each(|progress| progress.handed_on = 5);
    reader.hear(ends(true, &[(0, 40), (1, 3)]));
    assert_eq!(said(&mut reader), ["0 lost 7..40", "0 from 40"]);
    assert_eq!(reader.lanes.iter().map(|lane| lane.next).collect::<Vec<_>>(), [40, 7]);
    let handed_on: Vec<_> = reader.shared.partitions().values().map(|progress| progress.handed_on).collect();
    assert_eq!(handed_on, [0, 5], "counted from where it was assigned last, as the kernel does");
}

#[test]
fn a_partition_that_begins_again_has_one_lane() {
    let (mut reader, _asked) = reader(OnLoss::Continue);
    let topic = reader.settings.topics[0].clone();
    reader.hear(begin(topic, 0));
    assert_eq!(said(&mut reader), ["0 from 0", "1 from 0"]);
    assert_eq!(reader.lanes.iter().map(|lane| lane.next).collect::<Vec<_>>(), [0, 0]);
}

#[test]
fn a_loss_that_stops_the_topic_leaves_its_place_where_it_was() {
    let (mut reader, asked) = reader(OnLoss::Stop);
    reader.lanes.iter_mut().for_each(|lane| lane.doubt = Some(7));
    reader.hear(ends(true, &[(0, 40), (1, 3)]));
    assert_eq!(said(&mut reader), ["0 lost 7..40", "TopicStopped"]);
    assert!(matches!(asked.try_recv(), Ok(Ask::Forget(TopicIx(0)))) && reader.lanes.is_empty());
}

#[test]
fn a_partition_that_could_not_be_checked_is_checked_when_it_can_be() {
    let (mut reader, asked) = reader(OnLoss::Continue);
    reader.lanes.iter_mut().for_each(|lane| lane.doubt = Some(7));
    // The second has no leader in that round, nor in the next one.
    reader.hear(ends(true, &[(0, 3)]));
    reader.hear(ends(false, &[(0, 3)]));
    assert!(asked.try_recv().is_err());
    reader.hear(ends(false, &[(0, 3), (1, 3)]));
    assert!(matches!(asked.try_recv(), Ok(Ask::Check)));
    reader.hear(ends(false, &[(0, 3), (1, 3)]));
    assert!(asked.try_recv().is_err(), "asked once");
    reader.hear(ends(true, &[(0, 3), (1, 30)]));
    assert_eq!(said(&mut reader), ["1 lost 7..30", "1 from 30"]);
    assert!(reader.lanes.iter().all(|lane| lane.doubt.is_none()));
}
