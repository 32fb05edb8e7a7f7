//! Restarts, looked at from the checkpoints' side: what a store holds must bring the next process further.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use vedette_event::{
    Fields, Flags, Micros, Partition, RawBatchBuilder, SourceDef, SourceIx, Sources, TopicIx, Topics,
};
use vedette_sigma::Lists;

use crate::{
    Compiled, Engine, EngineSettings, GivenUp, GroupCheckpoint, KEY_GROUPS, Output, PartitionStart,
    TopicStanding, checkpoint,
};

const PARTITION: Partition = Partition { topic: TopicIx(0), number: 0 };

fn compiled() -> Arc<Compiled> {
    let def: SourceDef = serde_json::from_value(serde_json::json!({
        "name": "json", "description": "", "form": "json", "disorder": "1s", "future": "1s", "entity": ["host"],
    }))
    .unwrap();
    let sources = Arc::new(Sources::new(Fields::default(), vec![def]));
    let rules = Arc::new(vedette_sigma::load(&[], &Lists::new(), &sources));
    Compiled::new(rules, sources, Arc::new(Topics::new(["logs"])), [0; 32])
}

fn engine(checkpoints: &[GroupCheckpoint]) -> (Engine, Vec<PartitionStart>) {
    let mut engine = Engine::new(compiled(), EngineSettings::new([0; 32]));
    checkpoints.iter().for_each(|checkpoint| engine.take_up(checkpoint).unwrap());
    let (starts, given_up) = engine.starts(|_| Some(SourceIx(0)));
    assert_eq!(given_up, []);
    (engine, starts)
}

fn read(engine: &mut Engine, offsets: std::ops::Range<i64>) {
    let mut batch = RawBatchBuilder::new(SourceIx(0), PARTITION);
    for offset in offsets {
        batch.push(offset, Some(Micros(offset * 1_000_000)), Flags::NONE, Some(b"{}"));
    }
    let detected = compiled().detector().unwrap().detect(&batch.take());
    engine.absorb(detected, &mut Output::default());
}

#[test]
fn a_process_that_dies_while_it_reads_again_sets_no_group_back() {
    let (mut first, _) = engine(&[]);
    first.assign(PARTITION, SourceIx(0), 3);
    assert!(first.behind(0));
    read(&mut first, 3..10);
    let mut stored: Vec<_> = (0..KEY_GROUPS).map(|group| first.checkpoint(group).unwrap()).collect();
    assert!(!first.behind(0));
    read(&mut first, 10..100);
    assert!(first.behind(0));
    stored[5] = first.checkpoint(5).unwrap();

    let (mut second, starts) = engine(&stored);
    assert_eq!((starts[0].offset, starts[0].last_read.unwrap().0), (10, 99));
    assert_ne!(second.furthest_back(), 5);
    // What is read again is not all that was read.
    assert_eq!(second.newest_log(), Some(Micros(99_000_000)));
    read(&mut second, 10..20);
    // Group 5 had released all up to 100, and still has; the others have come to 20.
    let stored: Vec<_> = (0..KEY_GROUPS).map(|group| second.checkpoint(group).unwrap()).collect();
    let (_, starts) = engine(&stored);
    assert_eq!((starts[0].offset, starts[0].max_log), (20, Some(Micros(19_000_000))));
    let (_, alone) = engine(&vec![stored[5].clone(); usize::from(KEY_GROUPS)]);
    assert_eq!((alone[0].offset, alone[0].max_log), (100, Some(Micros(99_000_000))));
}

#[test]
fn a_source_waits_for_the_topics_that_are_expected() {
    let (mut engine, _) = engine(&[]);
    let mut out = Output::default();
    engine.expect(PARTITION.topic, SourceIx(0));
    engine.expect(TopicIx(1), SourceIx(0));
    engine.assign(PARTITION, SourceIx(0), 0);
    engine.set_topic(PARTITION.topic, TopicStanding::Read, &mut out);
    read(&mut engine, 0..100);
    assert_eq!(engine.watermark(SourceIx(0)), Micros::MIN);
    engine.set_topic(TopicIx(1), TopicStanding::Stopped, &mut out);
    assert_eq!(engine.watermark(SourceIx(0)), Micros(93_000_000));
    engine.set_topic(TopicIx(1), TopicStanding::Stopped, &mut out);
    assert_eq!(engine.watermark(SourceIx(0)), Micros(93_000_000));
}

#[test]
fn a_partition_that_came_after_a_group_s_checkpoint_is_read_from_its_start() {
    let (mut first, _) = engine(&[]);
    let early: Vec<_> = (0..32).map(|group| first.checkpoint(group).unwrap()).collect();
    first.assign(PARTITION, SourceIx(0), 3);
    read(&mut first, 3..10);
    let late = (32..KEY_GROUPS).map(|group| first.checkpoint(group).unwrap());
    let (second, starts) = engine(&early.into_iter().chain(late).collect::<Vec<_>>());
    assert_eq!((starts[0].offset, starts[0].max_log), (3, None));
    assert!(second.behind(0) && !second.behind(32));
    assert_eq!(second.furthest_back(), 0);
}

#[test]
fn an_accepted_topic_is_another_one_from_its_start_on() {
    let (mut first, _) = engine(&[]);
    first.expect(PARTITION.topic, SourceIx(0));
    first.assign(PARTITION, SourceIx(0), 0);
    first.set_topic(PARTITION.topic, TopicStanding::Read, &mut Output::default());
    read(&mut first, 0..50);
    let watermark = first.watermark(SourceIx(0));
    let (compiled, given_up) = first.accept(PARTITION.topic, SourceIx(0));
    assert_eq!(given_up, [], "it was all read and released");
    assert_eq!(compiled.topics.incarnation(PARTITION.topic), 1);
    first.assign(PARTITION, SourceIx(0), 0);
    first.set_topic(PARTITION.topic, TopicStanding::Read, &mut Output::default());
    read(&mut first, 0..2);
    assert_eq!(first.watermark(SourceIx(0)), watermark, "it never falls");
    let stored: Vec<_> = (0..KEY_GROUPS).map(|group| first.checkpoint(group).unwrap()).collect();

    let mut second = Engine::new(compiled, EngineSettings::new([0; 32]));
    stored.iter().for_each(|checkpoint| second.take_up(checkpoint).unwrap());
    let (starts, given_up) = second.starts(|_| Some(SourceIx(0)));
    assert_eq!((starts[0].offset, starts[0].last_read.unwrap().0), (2, 1));
    assert_eq!(given_up, []);
    // Once all groups know it and nothing of the one before waits, no checkpoint speaks of that any more.
    first.forget_released();
    let later: Vec<_> = (0..KEY_GROUPS).map(|group| first.checkpoint(group).unwrap()).collect();
    let points = |of: &GroupCheckpoint| checkpoint::read(of).unwrap().0.len();
    assert_eq!((points(&stored[9]), points(&later[9])), (2, 1));
    assert_eq!(engine(&later).1, []);
}

fn given_up(incarnation: u16, from: i64, to: i64) -> GivenUp {
    GivenUp { topic: "logs".into(), incarnation, partition: 0, from, to }
}

#[test]
fn what_was_read_and_not_released_before_a_topic_was_accepted_is_given_up_aloud() {
    let (mut first, _) = engine(&[]);
    first.assign(PARTITION, SourceIx(0), 3);
    read(&mut first, 3..50);
    let mut stored: Vec<_> = (0..KEY_GROUPS).map(|group| first.checkpoint(group).unwrap()).collect();
    read(&mut first, 50..90);
    let watermark = first.watermark(SourceIx(0));
    stored[5] = first.checkpoint(5).unwrap();

    // Accepted while no service runs: what group 5 alone has come to is found in no other.
    let accepted = compiled().with_topics(compiled().topics.accepted(PARTITION.topic));
    let start = |stored: &[GroupCheckpoint]| {
        let mut engine = Engine::new(accepted.clone(), EngineSettings::new([0; 32]));
        stored.iter().for_each(|checkpoint| engine.take_up(checkpoint).unwrap());
        let (starts, given_up) = engine.starts(|_| Some(SourceIx(0)));
        assert_eq!(starts, []);
        (engine, given_up)
    };
    assert_eq!(start(&stored).1, [given_up(0, 50, 90)]);
    let mut level = stored.clone();
    level.iter_mut().zip(0..).for_each(|(stored, group)| *stored = first.checkpoint(group).unwrap());
    assert_eq!(start(&level).1, []);
    // A group that was never written has released nothing.
    assert_eq!(start(&level[1..]).1, [given_up(0, 3, 90)]);

    // What was released is not released again: records of the topic as it is now are placed no lower.
    let (mut second, _) = start(&level);
    second.assign(PARTITION, SourceIx(0), 0);
    let mut batch = RawBatchBuilder::new(SourceIx(0), PARTITION);
    batch.push(0, Some(Micros(1_000_000)), Flags::NONE, Some(b"{}"));
    let mut out = Output::default();
    second.absorb(accepted.detector().unwrap().detect(&batch.take()), &mut out);
    assert_eq!(out.placements.iter().map(|p| p.time).collect::<Vec<_>>(), [watermark]);
    // And the one before is told no more, once all groups are written.
    let stored: Vec<_> = (0..KEY_GROUPS).map(|group| second.checkpoint(group).unwrap()).collect();
    let mut third = Engine::new(accepted.clone(), EngineSettings::new([0; 32]));
    stored.iter().for_each(|checkpoint| third.take_up(checkpoint).unwrap());
    assert_eq!(third.starts(|_| Some(SourceIx(0))).1, []);
}

#[test]
fn what_a_restart_was_to_read_again_is_given_up_when_the_topic_is_accepted_instead() {
    let (mut first, _) = engine(&[]);
    first.assign(PARTITION, SourceIx(0), 3);
    read(&mut first, 3..50);
    let mut stored: Vec<_> = (0..KEY_GROUPS).map(|group| first.checkpoint(group).unwrap()).collect();
    read(&mut first, 50..90);
    stored[5] = first.checkpoint(5).unwrap();
    let (mut second, starts) = engine(&stored);
    assert_eq!(starts[0].offset, 50);
    read(&mut second, 50..60);
    assert_eq!(second.accept(PARTITION.topic, SourceIx(0)).1, [given_up(0, 60, 90)]);
    // Accepted again before anything was read: nothing more is lost.
    assert_eq!(second.accept(PARTITION.topic, SourceIx(0)).1, []);
}

#[test]
fn a_topic_that_is_accepted_again_and_again_is_not_remembered_without_bound() {
    let (mut engine, _) = engine(&[]);
    let mut told = 0;
    for _ in 0..1_100 {
        engine.assign(PARTITION, SourceIx(0), 0);
        read(&mut engine, 0..2);
        told += engine.accept(PARTITION.topic, SourceIx(0)).1.len();
    }
    assert_eq!(told, 1_100 - 1_024);
    assert_eq!(checkpoint::read(&engine.checkpoint(0).unwrap()).unwrap().0.len(), 1_024);
}
