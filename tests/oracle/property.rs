//! The kernel against the oracle, body by body and byte for byte, whatever the batches, interleaving and restarts; and
//! the proof that this comparison finds faults.
//!
//! In: random [`World`]s and [`Step`]s, or hand-made ones with a [`Fault`]. Out: agreement, or a shrunk difference.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use proptest::{
    prelude::*,
    test_runner::{RngAlgorithm, TestError, TestRng, TestRunner},
};
use serde_json::{Map, Value as Json, json};
use vedette_event::{Flags, State};

use super::{
    Input, Outcome, alerts,
    generate::{
        self, SKEW, Shape, World,
        records::{self, RawLog},
    },
    kernel::{Drive, Fault, Step, steps},
    placement::Stored,
};

pub fn oracle(world: &World, placements: &[Stored]) -> Outcome {
    let rules = world.rules();
    alerts(&Input { rules: &rules, sources: &generate::sources(), logs: &world.claimed(), placements })
}

/// What the kernel published and the oracle does not have (`+`), and the other way round (`-`), with rules and records.
pub fn difference(world: &World, drive: &Drive<'_>, outcome: &Outcome) -> Option<String> {
    let (got, want) = (&drive.bodies, outcome.bodies());
    let mut lines: Vec<String> = Vec::new();
    let keys: BTreeSet<&(String, u32)> = got.keys().chain(want.keys()).collect();
    for key in keys {
        if got.get(key) != want.get(key) {
            lines.extend(want.get(key).map(|body| format!("- {body}")));
            lines.extend(got.get(key).map(|body| format!("+ {body}")));
        }
    }
    if lines.is_empty() && drive.scanned() == outcome.scan {
        return None;
    }
    for log in &world.logs {
        for raw in &log.records {
            let (topic, partition) = (&log.topic, log.partition);
            lines.push(format!("{topic} {partition} {} {:?} {:?}", raw.offset, raw.ts_log, raw.payload));
        }
    }
    Some(format!("{}\n{}", world.files.join("\n=== next file\n"), lines.join("\n")))
}

/// The dead letters that must come.
fn dead(world: &World) -> BTreeSet<(usize, i64)> {
    let of_log = |(i, log): (usize, &generate::records::RawLog)| {
        let dead = log.records.iter().filter(|raw| raw.claimed.is_none());
        dead.map(|raw| (i, raw.offset)).collect::<Vec<_>>()
    };
    world.logs.iter().enumerate().flat_map(of_log).collect()
}

/// The property: the kernel's bodies are the oracle's.
fn agrees(world: &World, steps: &[Step], fault: Option<Fault>) -> Result<(), TestCaseError> {
    let mut drive = Drive::new(world, fault, steps.len().is_multiple_of(2));
    drive.run(steps);
    match difference(world, &drive, &oracle(world, &world.replaced())) {
        Some(difference) => Err(TestCaseError::fail(difference)),
        None => Ok(()),
    }
}

pub fn config(cases: u32) -> ProptestConfig {
    // `PROPTEST_CASES` asks for more.
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { cases };
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 20_000, ..default }
}

proptest! {
    #![proptest_config(config(128))]

    #[test]
    fn every_rule_of_a_world_is_honoured(world in generate::world(Shape::Topics)) {
        // Every episode ends, and all that the rules say of who raises alerts is so.
        let outcome = oracle(&world, &[]);
        prop_assert!(outcome.last_revisions().all(|alert| alert.state == State::Ended));
    }

    #[test]
    fn topics_give_the_oracles_bodies(world in generate::world(Shape::Topics), steps in steps()) {
        agrees(&world, &steps, None)?;
    }

    #[test]
    fn files_give_the_oracles_bodies(world in generate::world(Shape::Files), steps in steps()) {
        let mut drive = Drive::new(&world, None, false);
        drive.scan(&steps);
        prop_assert!(drive.placements.is_empty(), "{:?}", drive.placements);
        let difference = difference(&world, &drive, &oracle(&world, &[]));
        prop_assert!(difference.is_none(), "{}", difference.unwrap_or_default());
    }

    #[test]
    fn every_record_ends_once_and_none_is_overtaken(world in generate::world(Shape::Topics), steps in steps()) {
        let mut drive = Drive::new(&world, None, false);
        drive.run(&steps);
        prop_assert!(drive.placements.is_empty(), "{:?}", drive.placements);
        prop_assert_eq!(drive.dead, dead(&world));
    }

    /// Clocks step back and partitions are found late: which events are overtaken depends on who was read first, so the
    /// kernel says which, and the bodies follow.
    #[test]
    fn what_is_overtaken_is_stored(
        world in prop_oneof![generate::world(Shape::SteppedBack), generate::world(Shape::Topics)],
        steps in steps(),
        late: bool,
    ) {
        let drive = if late { Drive::finding_late(&world) } else { Drive::new(&world, None, false) };
        agrees_as_stored(&world, drive, &steps)?;
    }
}

/// The bodies of a run are the oracle's, given the placements that the run stored.
fn agrees_as_stored(world: &World, mut drive: Drive<'_>, steps: &[Step]) -> Result<(), TestCaseError> {
    drive.run(steps);
    let stored = [world.replaced(), drive.placements.clone()].concat();
    match difference(world, &drive, &oracle(world, &stored)) {
        Some(difference) => Err(TestCaseError::fail(format!("{:?}\n{difference}", drive.placements))),
        None => Ok(()),
    }
}

/// The same property over random worlds must fail when a fault is injected.
fn is_found(fault: Fault) -> bool {
    is_found_by(|world, steps| agrees(world, steps, Some(fault)))
}

/// Whether some random world fails a property.
pub fn is_found_by(holds: impl Fn(&World, &[Step]) -> Result<(), TestCaseError>) -> bool {
    let config = ProptestConfig { max_shrink_iters: 0, ..config(256) };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let strategy = (generate::world(Shape::Topics), steps());
    let result = runner.run(&strategy, |(world, steps)| holds(&world, &steps));
    matches!(result, Err(TestError::Fail(..)))
}

#[test]
fn random_worlds_find_an_early_watermark() {
    assert!(is_found(Fault::EarlyWatermark));
}

#[test]
fn random_worlds_find_a_skipped_offset() {
    assert!(is_found(Fault::Skipped(0, 3)));
}

#[test]
fn random_worlds_find_a_dropped_pending_finding() {
    assert!(is_found(Fault::DroppedPending));
}

/// A world of one rule, `rule`, and one partition of events of `p` at seconds after midnight, with these fields.
pub fn one_log(rule: &str, events: impl IntoIterator<Item = (i64, Json)>) -> World {
    let base = "title: P\nname: p\nlogsource: {category: test}\n\
                detection:\n  selection:\n    k: p\n  condition: selection\n";
    let records = events.into_iter().enumerate().map(|(offset, (second, fields))| {
        let Json::Object(mut fields) = fields else { panic!("an object") };
        fields.entry("k").or_insert(json!("p"));
        records::plain(offset as i64, records::MIDNIGHT + second * 1_000_000, fields)
    });
    let log = |name: &str, records| RawLog {
        topic: format!("topic-{name}"),
        incarnation: records::incarnation(&format!("topic-{name}")),
        source: generate::source(name),
        partition: 0,
        records,
    };
    World {
        files: vec![format!("{base}---\n{rule}")],
        emits: Vec::new(),
        logs: vec![log("slow", records.collect()), log("quick", Vec::new()), log("typed", Vec::new())],
    }
}

pub const TWO_IN_TEN: &str = "title: Two\nname: two\ncorrelation:\n  type: event_count\n  rules: [p]\n  \
                          group-by: [u]\n  timespan: 10s\n  condition:\n    gte: 2\n";

fn two_events() -> World {
    one_log(TWO_IN_TEN, [(10, json!({"u": "x"})), (15, json!({"u": "x"}))])
}

#[test]
fn two_events_cross() {
    let world = two_events();
    let outcome = oracle(&world, &[]);
    assert_eq!(outcome.revisions.values().map(Vec::len).collect::<Vec<_>>(), [2]);
    let steps = [Step::Read(0, 1), Step::Idle(0, SKEW), Step::Checkpoint(0, 1), Step::Kill];
    agrees(&world, &steps, None).unwrap();
}

#[test]
fn an_early_watermark_is_found() {
    let steps = [Step::Read(0, 1), Step::Idle(0, 0), Step::Idle(1, 0), Step::Idle(2, 0)];
    agrees(&two_events(), &steps, None).unwrap();
    agrees(&two_events(), &steps, Some(Fault::EarlyWatermark)).unwrap_err();
}

#[test]
fn a_skipped_offset_is_found() {
    agrees(&two_events(), &[], Some(Fault::Skipped(0, 1))).unwrap_err();
}

#[test]
fn a_dropped_pending_finding_is_found() {
    let steps = [Step::Read(0, 1), Step::Checkpoint(0, 1), Step::Kill];
    agrees(&two_events(), &steps, None).unwrap();
    agrees(&two_events(), &steps, Some(Fault::DroppedPending)).unwrap_err();
}

/// 1,100 users, one event each, within eleven seconds.
fn crowd(rules: &str) -> World {
    let user = |i: i64| (i / 100, json!({"u": format!("10.0.{}.{}", i / 250, i % 250)}));
    one_log(rules, (0..1_100).map(user))
}

fn storms(world: &World) -> usize {
    oracle(world, &[]).last_revisions().filter(|alert| alert.flags.has(Flags::STORM)).count()
}

const RESTARTED: [Step; 5] =
    [Step::Read(0, 500), Step::Checkpoint(0, 1), Step::Read(0, 505), Step::Checkpoint(1, 2), Step::Kill];

#[test]
fn a_storm_of_single_events_agrees() {
    let mut world = crowd("");
    world.files[0] = world.files[0].replace("---\n", "");
    assert_eq!(storms(&world), 1);
    agrees(&world, &RESTARTED, None).unwrap();
}

#[test]
fn a_storm_of_episodes_feeds_its_chain() {
    let one = TWO_IN_TEN.replace("gte: 2", "gte: 1");
    let chain = one.replace("Two", "Chain").replace("two", "chain").replace("[p]", "[two]");
    let chain = chain.replace("  group-by: [u]\n", "").replace("gte: 1", "gte: 1050");
    let chain = chain.replace("timespan: 10s", "timespan: 1h\n  generate: true");
    let world = crowd(&format!("{one}---\n{chain}"));
    let outcome = oracle(&world, &[]);
    assert_eq!(storms(&world), 1);
    assert!(outcome.last_revisions().any(|alert| &*alert.rule.id == "chain" && alert.count == 1_100));
    agrees(&world, &RESTARTED, None).unwrap();
}

/// The event that would give the 1,000th and the 1,001st alert gives one; the other is folded by its key's text.
#[test]
fn a_storm_that_begins_within_an_event_agrees() {
    let rule = TWO_IN_TEN.replace("gte: 2", "gte: 1").replace("[p]", "[p, q]").replace("[u]", "[who]");
    let rule = rule.replace("  timespan", "  aliases: {who: {p: u, q: v}}\n  timespan");
    for folded in [1, 2] {
        let users = (0..999).map(|i| (i / 100, json!({"u": format!("user-{i}")})));
        let both = (0..folded)
            .map(|i| (10 + i, json!({"k": ["p", "q"], "u": format!("b{i}"), "v": format!("a{i}")})));
        let mut world = one_log(&rule, users.chain(both));
        let q = world.files[0].split("---\n").next().unwrap_or_default().replace("P\n", "Q\n");
        let q = q.replace("name: p", "name: q").replace("k: p", "k: q");
        world.files[0].insert_str(0, &format!("{q}---\n"));
        let outcome = oracle(&world, &[]);
        let storm: Vec<u64> =
            outcome.last_revisions().filter(|a| a.flags.has(Flags::STORM)).map(|a| a.count).collect();
        assert_eq!(storm, [2 * folded as u64 - 1]);
        agrees(&world, &RESTARTED, None).unwrap();
    }
}

#[test]
fn a_storm_of_judged_windows_agrees() {
    let world = crowd(&TWO_IN_TEN.replace("gte: 2", "lte: 2"));
    assert_eq!(storms(&world), 1);
    agrees(&world, &RESTARTED, None).unwrap();
}

#[test]
fn more_than_a_thousand_values_agree() {
    for (n, capped) in [(3, true), (1_005, true), (1_010, false)] {
        let rule = TWO_IN_TEN.replace("event_count", "value_count");
        let rule = rule.replace("gte: 2", &format!("gte: {n}\n    field: d"));
        let one_each = one_log(&rule, (0..1_010).map(|i| (i / 200, json!({"u": "x", "d": i}))));
        let all_at_once =
            json!({"u": "x", "d": (0..1_010).map(|i| i / 2).chain(0..1_010).collect::<Vec<_>>()});
        for world in [one_each, one_log(&rule, [(0, all_at_once)])] {
            let outcome = oracle(&world, &[]);
            assert!(outcome.last_revisions().all(|alert| alert.flags.has(Flags::CAPPED) == capped));
            assert_eq!(outcome.scan.len(), 1);
            agrees(&world, &RESTARTED, None).unwrap();
        }
    }
}
/// A second partition of `slow` joins the world of [`one_log`]: its events, too, are of `p`.
fn beside(world: &mut World, seconds: &[i64]) {
    let mut second = one_log("", seconds.iter().map(|s| (*s, json!({"u": "x"})))).logs.swap_remove(0);
    second.partition = 1;
    world.logs.push(second);
}

/// What a checkpoint's released watermark lies above was released without the partition that nobody knew: its events
/// are overtaken, not lost.
#[test]
fn a_partition_found_after_a_restart_is_overtaken() {
    let mut world = one_log(TWO_IN_TEN, [(0, json!({"u": "y"}))]);
    for other in [1, 2] {
        world.logs[other].records = vec![records::plain(0, records::MIDNIGHT, Map::new())];
    }
    beside(&mut world, &[-70, -66]);
    let steps = [Step::Read(0, 1), Step::Read(1, 1), Step::Read(2, 1), Step::Checkpoint(0, 1), Step::Kill];
    agrees_as_stored(&world, Drive::finding_late(&world), &steps).unwrap();
}

/// A broker's clock steps back while its source waits for another partition: after a restart too, what was read and not
/// released is released in the total order.
#[test]
fn a_stepped_back_record_is_not_overtaken_by_its_own_restart() {
    let rule = TWO_IN_TEN.replace("gte: 2", "lte: 5");
    let mut world =
        one_log(&rule, [(0, json!({"k": "none"})), (-75, json!({"u": "x"})), (-76, json!({"u": "x"}))]);
    beside(&mut world, &[]);
    for reread in 1..4 {
        let steps = [
            Step::Read(0, 3),
            Step::Checkpoint(0, 1),
            Step::Kill,
            Step::Read(0, reread),
            Step::Idle(1, 0),
            Step::Idle(2, 0),
            Step::Idle(3, 0),
        ];
        agrees_as_stored(&world, Drive::new(&world, None, false), &steps).unwrap();
    }
}
/// A record that stepped back waits for another source over two restarts.
#[test]
fn a_stepped_back_record_outlives_two_restarts() {
    let rule = TWO_IN_TEN.replace("gte: 2", "gte: 1");
    let mut world = one_log(&rule, [(0, json!({"k": "none"})), (-30, json!({"u": "x"}))]);
    let dummy =
        |offset, second: i64| records::plain(offset, records::MIDNIGHT + second * 1_000_000, Map::new());
    let stepping = std::mem::replace(&mut world.logs[0].records, vec![dummy(0, 20), dummy(1, 40)]);
    world.logs[1].records = stepping;
    world.logs[2].records = vec![dummy(0, 0)];
    let steps = [
        Step::Read(1, 2),
        Step::Checkpoint(0, 1),
        Step::Kill,
        Step::Read(0, 1),
        Step::Read(2, 1),
        Step::Read(1, 1),
        Step::Idle(0, 0),
        Step::Checkpoint(0, 1),
        Step::Kill,
    ];
    for n in 1..=steps.len() {
        let r = agrees_as_stored(&world, Drive::new(&world, None, false), &steps[..n]);
        if n == steps.len() {
            r.unwrap();
        }
    }
}

/// Records stepped back while another partition was behind, and were published; killed before any key group's checkpoint,
/// the kernel reads them again when the other partition is ahead.
#[test]
fn stepped_back_records_are_released_in_the_order_of_the_first_time() {
    let events = [(0, json!({"k": "none"})), (-80, json!({"u": "x"})), (-86, json!({"u": "x"}))];
    let mut world = one_log(TWO_IN_TEN, events);
    let others = [(-70, json!({"u": "y"})), (-69, json!({"u": "y"})), (0, json!({"k": "none"}))];
    let mut beside = one_log("", others).logs.swap_remove(0);
    beside.partition = 1;
    world.logs.push(beside);
    // Two publications, and between them the kernel forgets what it can.
    let idle = |by| [Step::Idle(1, by), Step::Idle(2, by)];
    let first = [Step::Read(0, 3), Step::Read(3, 3)];
    let again = [Step::Kill, Step::Read(3, 3), Step::Read(0, 2)];
    let steps = [&first[..], &idle(-60_000_000), &[Step::Forget], &idle(0), &again, &idle(0)].concat();
    agrees_as_stored(&world, Drive::new(&world, None, false), &steps).unwrap();
}

/// Whether an event is overtaken does not depend on how its records are batched.
#[test]
fn overtaking_does_not_depend_on_batches() {
    let rule = TWO_IN_TEN.replace("gte: 2", "gte: 1");
    let world = one_log(&rule, [(0, json!({"k": "none"})), (-80, json!({"u": "x"}))]);
    let run = |n| {
        let mut drive = Drive::new(&world, None, false);
        drive.run(&[Step::Read(0, n), Step::Read(0, 1)]);
        (drive.placements, drive.bodies)
    };
    assert_eq!(run(1), run(2));
}
