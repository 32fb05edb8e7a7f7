//! Topics that are deleted, made anew and accepted while findings of the one before wait, with restarts in between.
//!
//! In: worlds in which a topic's log breaks off and begins anew at offset 0. Out: agreement with the oracle, to which both are
//! topics of one name: each event says which of them it is of, in ids and in evidence, whenever it is released.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::json;

use super::{
    generate::{
        self, SKEW, Shape, World,
        records::{self, Raw, RawLog},
    },
    kernel::{Drive, Step, steps},
    property::{TWO_IN_TEN, config, difference, one_log, oracle},
};

/// The world in which the topic of a log was made anew after so many of each partition's records, as often as there are cuts.
fn made_anew(mut world: World, of: usize, cuts: &[usize]) -> World {
    let topic = world.logs[of % world.logs.len()].topic.clone();
    let mut anew = Vec::new();
    for log in world.logs.iter_mut().filter(|log| log.topic == topic) {
        let mut rest = log.records.split_off(cuts[0].min(log.records.len()));
        for at in 0..cuts.len() {
            let next = cuts.get(at + 1).map_or(rest.len(), |next| (*next).min(rest.len()));
            let records: Vec<Raw> = rest.drain(..next).collect();
            let first = records.first().map_or(0, |raw| raw.offset);
            let records = records.into_iter().map(|raw| Raw { offset: raw.offset - first, ..raw }).collect();
            let incarnation = log.incarnation + 1 + at as u16;
            anew.push(RawLog { incarnation, records, ..log.clone() });
        }
    }
    world.logs.extend(anew);
    world
}

fn with_acceptance() -> impl Strategy<Value = Vec<Step>> {
    let accept = prop_oneof![
        1 => (0..8_usize).prop_map(|log| vec![Step::Accept(log)]),
        // Time goes on, so that what waited is released, and all groups are written.
        2 => (0..8_usize).prop_map(|log| {
            let idle = (0..12).map(|log| Step::Idle(log, SKEW));
            [Step::Accept(log)].into_iter().chain(idle).chain([Step::Checkpoint(0, 1), Step::Forget, Step::Kill]).collect()
        }),
        1 => Just(vec![Step::Checkpoint(0, 1), Step::Kill]),
    ];
    let some = prop_oneof![3 => steps(), 2 => accept];
    prop::collection::vec(some, 1..6).prop_map(|some| some.concat())
}

/// The bodies are the oracle's, given the placements that were stored and how far the former topic was read. Gives how many
/// restarts were spared.
fn agrees(world: &World, steps: &[Step]) -> Result<usize, TestCaseError> {
    let mut drive = Drive::new(world, None, steps.len().is_multiple_of(2));
    drive.run(steps);
    let read = drive.world_read();
    let stored = [read.replaced(), drive.placements.clone()].concat();
    match difference(&read, &drive, &oracle(&read, &stored)) {
        Some(difference) => Err(TestCaseError::fail(format!("{:?}\n{difference}", drive.placements))),
        None => Ok(drive.spared),
    }
}

proptest! {
    #![proptest_config(config(128))]

    #[test]
    fn a_topic_made_anew_is_another_one_and_the_one_before_stays_what_it_was(
        world in generate::world(Shape::Topics),
        of in 0..6_usize,
        cuts in prop_oneof![
            3 => (0..16_usize).prop_map(|cut| vec![cut]),
            1 => (0..8_usize, 0..8_usize).prop_map(|(first, second)| vec![first, second]),
        ],
        steps in with_acceptance(),
    ) {
        agrees(&made_anew(world, of, &cuts), &steps)?;
    }
}

/// Two events of one user five seconds apart: of one topic, or one of each incarnation.
fn two_events(cut: usize) -> World {
    let events = [(10, json!({"u": "x"})), (15, json!({"u": "x"})), (40, json!({"k": "none"}))];
    made_anew(one_log(TWO_IN_TEN, events), 0, &[cut])
}

/// What an alert says of where its events are from.
fn origins(world: &World) -> Vec<Vec<(u16, i64)>> {
    let outcome = oracle(world, &[]);
    outcome.last_revisions().map(|a| a.evidence.iter().map(|e| (e.incarnation, e.offset)).collect()).collect()
}

#[test]
fn what_waits_when_its_topic_is_accepted_anew_is_released_as_what_it_was() {
    let world = two_events(2);
    assert_eq!(origins(&world), [[(0, 0), (0, 1)]]);
    assert_eq!(agrees(&world, &[Step::Read(0, 2), Step::Accept(0)]).unwrap(), 0);
    // Nothing of it is stored yet: the next life would not find it any more, and says so.
    let killed =
        [Step::Read(0, 2), Step::Checkpoint(0, 1), Step::Accept(0), Step::Checkpoint(0, 1), Step::Kill];
    assert_eq!(agrees(&world, &killed).unwrap(), 1);
    assert_eq!(agrees(&world, &[Step::Read(0, 2), Step::Accept(0), Step::Kill]).unwrap(), 1);
}

/// The window holds an event of each, at the same offset; the former one is released, written, and read no more.
#[test]
fn a_window_over_both_holds_both_over_a_restart() {
    let mut world =
        made_anew(one_log(TWO_IN_TEN, [(10, json!({"u": "x"})), (17, json!({"u": "x"}))]), 0, &[1]);
    // It was a minute on its way, so that the one before can be final when it comes.
    world.logs[3].records[0].ts_log = Some(records::MIDNIGHT + 77_000_000);
    assert_eq!(origins(&world), [[(0, 0), (1, 0)]]);
    assert_eq!(agrees(&world, &[Step::Read(0, 1), Step::Accept(0)]).unwrap(), 0);
    let idle = [Step::Idle(1, 78_000_000), Step::Idle(2, 78_000_000), Step::Idle(3, 0)];
    let begun = [&[Step::Read(0, 1), Step::Accept(0)][..], &idle].concat();
    let (written, kill) = ([Step::Checkpoint(0, 1), Step::Forget], [Step::Kill]);
    assert_eq!(agrees(&world, &[&begun[..], &written, &kill].concat()).unwrap(), 0);
    assert_eq!(agrees(&world, &[&begun[..], &written, &written, &kill, &kill].concat()).unwrap(), 0);
    // Half of the groups were written before it was released, the others only then: the next life lacks it if its own was among
    // the former. Once all are written, it does not.
    let half = |first: u8| [Step::Read(0, 1), Step::Checkpoint(first, 2), Step::Accept(0)];
    let spared = |first: u8| {
        let steps = [&half(first)[..], &idle, &[Step::Checkpoint(1 - first, 2)], &kill].concat();
        agrees(&world, &steps).unwrap()
    };
    assert_eq!(spared(0) + spared(1), 1);
    assert_eq!(agrees(&world, &[&half(0)[..], &idle, &kill].concat()).unwrap(), 1);
    assert_eq!(agrees(&world, &[&half(0)[..], &idle, &written, &kill].concat()).unwrap(), 0);
}
