//! Findings that wait: for sources that stand still, for topics that are not known, for partitions that are behind.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use vedette_correlate::{HealthSignal, WaitingBudget};
use vedette_event::Micros;

use super::{Bench, for_a_and_b, hit, source};
use crate::{EngineSettings, GroupCheckpoint, KEY_GROUPS, TopicStanding};

const BUDGET: usize = 1_000;

/// For both in a row.
const BOTH: &str = "\
title: Both
id: 00000000-0000-4000-8000-00000000000c
correlation: {type: temporal, rules: [a, b], group-by: [host], timespan: 10s, generate: true}
";

fn bench(topics: &[&str], pause: usize) -> Bench {
    Bench::new(
        &["a", "b"].map(source),
        topics,
        &for_a_and_b(BOTH),
        EngineSettings { waiting: WaitingBudget { pause, refuse: 1 << 20 }, ..EngineSettings::new([0; 32]) },
    )
}

/// One that has no leader from the beginning on is waited for, unless its topic is stopped.
#[test]
fn a_partition_that_could_not_be_begun_is_waited_for() {
    let mut bench = bench(&["a"], BUDGET);
    let (topic, source) = (bench.partition("a", 0).topic, bench.source("a"));
    bench.engine.expect(topic, source);
    bench.assign("a", 0);
    bench.engine.await_partitions(topic, source, true, &mut bench.out);
    bench.topic("a", TopicStanding::Read);
    bench.read(("a", 0), (0..100).map(|n| (n, n, hit(n))));
    assert_eq!((bench.engine.watermark(source), count(&bench, "A")), (Micros::MIN, 0));
    bench.read(("a", 0), (100..2_000).map(|n| (n, n, hit(n))));
    assert_eq!(bench.engine.ahead(), [bench.partition("a", 0)], "others do not run away from it");
    // Its leader comes, and with it what is as old as all that.
    bench.assign("a", 1);
    bench.engine.await_partitions(topic, source, false, &mut bench.out);
    bench.read(("a", 1), [(0, 5, hit(5_000))]);
    bench.idle("a", 1, 1_500);
    assert_eq!(bench.out.placements, [], "nothing was overtaken");
    assert!(count(&bench, "A") > 1_000);
    bench.engine.await_partitions(topic, source, true, &mut bench.out);
    let before = bench.engine.watermark(source);
    bench.idle("a", 1, 1_700);
    assert_eq!(bench.engine.watermark(source), before, "one that is added later is waited for, too");
    bench.topic("a", TopicStanding::Stopped);
    bench.topic("a", TopicStanding::Read);
    bench.engine.accept(topic, source);
    bench.assign("a", 0);
    bench.topic("a", TopicStanding::Read);
    bench.idle("a", 0, 1_800);
    assert!(bench.engine.watermark(source) > before, "accepted, it is another topic");
}

fn degraded(bench: &mut Bench) -> Vec<HealthSignal> {
    std::mem::take(&mut bench.out.correlated.health)
}

fn count(bench: &Bench, title: &str) -> usize {
    bench.alerted().iter().filter(|known| *known == title).count()
}

#[test]
fn who_does_not_read_a_source_that_stands_still_never_notices() {
    // So far apart that no storm folds them.
    let at = |second: i64| 1_000 + 5 * second;
    let mut bench = bench(&["a", "b"], BUDGET);
    for topic in ["a", "b"] {
        bench.engine.expect(bench.partition(topic, 0).topic, bench.source(topic));
        bench.assign(topic, 0);
        bench.topic(topic, TopicStanding::Read);
        bench.read((topic, 0), [(0, 1_000, hit(1_000))]);
    }
    bench.topic("b", TopicStanding::Stopped);
    let both = bench.compiled.rules.iter().find(|(_, rule)| &*rule.title == "Both").unwrap().0;
    let mut health = Vec::new();
    for second in 1..3_000 {
        bench.read(("a", 0), [(second, at(second), hit(at(second)))]);
        assert_eq!(bench.engine.ahead(), []);
        // All but what lies within one disorder and the allowance.
        assert!(count(&bench, "A") as i64 >= second - 1, "{second}");
        health.extend(degraded(&mut bench));
    }
    let load = bench.engine.load();
    assert_eq!((load.standing, load.standing_budget), (BUDGET, BUDGET));
    // One of them is B's own.
    assert_eq!(load.most_waiting, Some((both, BUDGET - 1)));
    let [HealthSignal::Unevaluated { rule, since, standing: true }] = health[..] else {
        panic!("{health:?}")
    };
    assert_eq!(rule, both);

    // It comes back, and has much to catch up with: that, too, is nothing to the others.
    bench.topic("b", TopicStanding::Read);
    for second in 1..3_000 {
        bench.read(("b", 0), [(second, at(second), hit(at(second)))]);
        assert_eq!(bench.engine.ahead(), []);
    }
    assert_eq!(count(&bench, "Both"), BUDGET - 2);
    for topic in ["a", "b"] {
        bench.read((topic, 0), [(3_000, 60_000, hit(60_000))]);
        bench.idle(topic, 0, 60_100);
    }
    assert_eq!((count(&bench, "Both"), count(&bench, "B")), (BUDGET - 1, 3_001));
    let over = degraded(&mut bench);
    let [HealthSignal::EvaluatedAgain { rule, since: from, until, findings }] = over[..] else {
        panic!("{over:?}")
    };
    assert_eq!((rule, from, until), (both, since, Micros(at(2_999) * 1_000_000)));
    // Those of `a` that found no room, while `b` stood still; `b` is released as soon as it is read.
    assert_eq!(findings, 3_000 - BUDGET as u64 + 2);
    let load = bench.engine.load();
    assert_eq!((load.waiting, load.standing, load.most_waiting), (0, 0, None));
}

#[test]
fn a_source_does_not_wait_for_a_stopped_topic_while_another_is_read() {
    let mut bench = bench(&["a-one", "a-two", "b"], BUDGET);
    for topic in ["a-one", "a-two"] {
        bench.engine.expect(bench.partition(topic, 0).topic, bench.source(topic));
        bench.assign(topic, 0);
        bench.topic(topic, TopicStanding::Read);
        bench.read((topic, 0), [(0, 1_000, hit(1_000))]);
    }
    bench.topic("a-two", TopicStanding::Stopped);
    bench.read(("a-one", 0), [(1, 2_000, hit(2_000))]);
    assert_eq!(count(&bench, "A"), 1);
    // What it brings when it is read again was passed meanwhile: placed where the watermark is, and stored.
    bench.topic("a-two", TopicStanding::Read);
    bench.read(("a-two", 0), [(1, 1_500, hit(1_500))]);
    let [placed] = &bench.out.placements[..] else { panic!("{:?}", bench.out.placements) };
    assert_eq!((&*placed.topic, placed.offset, placed.time), ("a-two", 1, Micros(1_994_000_000)));
    // One that is away for a moment is waited for.
    bench.topic("a-two", TopicStanding::Away);
    bench.read(("a-one", 0), [(2, 3_000, hit(3_000))]);
    assert_eq!(bench.engine.watermark(bench.source("a-one")), Micros(1_994_000_000));
}

/// A start after another one's checkpoints: `a-two` is read again, from its resume, after `a-one` was read to second 5,000 and its
/// end was proved. `stopped`: the source did not wait for it meanwhile.
fn again(stored: &[GroupCheckpoint], log: &[(i64, i64, Json)], stopped: bool) -> Bench {
    let mut bench = bench(&["a-one", "a-two", "b"], BUDGET);
    stored.iter().for_each(|checkpoint| bench.engine.take_up(checkpoint).unwrap());
    let source = bench.source("a-one");
    let (starts, _) = bench.engine.starts(|topic| topic.starts_with('a').then_some(source));
    let resume = starts.iter().find(|start| &*start.topic == "a-two").unwrap().offset;
    for topic in ["a-one", "a-two"] {
        bench.engine.expect(bench.partition(topic, 0).topic, source);
    }
    bench.topic("a-one", TopicStanding::Read);
    bench.topic("a-two", if stopped { TopicStanding::Stopped } else { TopicStanding::Read });
    bench.read(("a-one", 0), [(9, 5_000, json!({}))]);
    bench.topic("a-two", TopicStanding::Read);
    bench.read(("a-two", 0), log.iter().filter(|(offset, ..)| *offset >= resume).cloned());
    for topic in ["a-one", "a-two"] {
        bench.idle(topic, 0, 9_000);
    }
    bench
}

/// Both topics of `a`: checkpoints of all groups when nothing of `a-two` was released, and when all of it was.
fn released_later(log: &[(i64, i64, Json)]) -> [Vec<GroupCheckpoint>; 2] {
    let mut bench = bench(&["a-one", "a-two", "b"], BUDGET);
    for topic in ["a-one", "a-two"] {
        bench.assign(topic, 0);
    }
    bench.read(("a-one", 0), [(0, 1_000, json!({}))]);
    bench.read(("a-two", 0), log.to_vec());
    let early = (0..KEY_GROUPS).map(|group| bench.engine.checkpoint(group).unwrap()).collect();
    bench.read(("a-one", 0), [(1, 3_000, json!({}))]);
    bench.idle("a-two", 0, 3_000);
    let late = (0..KEY_GROUPS).map(|group| bench.engine.checkpoint(group).unwrap()).collect();
    [early, late]
}

#[test]
fn what_is_read_again_after_its_source_went_on_without_it_is_overtaken() {
    let log: Vec<_> = (0..40).map(|n| (n, 1_100 + 20 * n, hit(n))).collect();
    let [early, late] = released_later(&log);
    let bench = again(&early, &log, false);
    assert!(bench.out.placements.is_empty(), "{:?}", bench.out.placements);
    assert_eq!(count(&bench, "A"), 40);

    let bench = again(&early, &log, true);
    let placed: Vec<_> = bench.out.placements.iter().map(|p| (&*p.topic, p.offset, p.time.0)).collect();
    assert_eq!(placed, (0..40).map(|n| ("a-two", n, 4_994_000_000)).collect::<Vec<_>>());
    assert_eq!(count(&bench, "A"), 40);
    let crossed = bench.out.correlated.alerts.iter().map(|p| p.crossing.time.0);
    assert!(crossed.into_iter().all(|time| time == 4_994_000_000));

    // Half of the groups had released it all: they take nothing a second time, wherever it is placed.
    let mixed: Vec<_> = early[..32].iter().chain(&late[32..]).cloned().collect();
    let hosts = |bench: &Bench| -> BTreeSet<String> {
        let alerts = bench.out.correlated.alerts.iter().inspect(|p| assert_eq!(p.alert.count, 1));
        let first = alerts.filter(|p| p.alert.revision == 1);
        first.map(|p| serde_json::to_string(&p.alert.entity).unwrap()).collect()
    };
    let (healthy, stopped) = (again(&mixed, &log, false), again(&mixed, &log, true));
    assert!(healthy.out.placements.is_empty(), "{:?}", healthy.out.placements);
    assert!(!stopped.out.placements.is_empty() && (5..36).contains(&count(&stopped, "A")));
    assert_eq!(hosts(&stopped), hosts(&healthy));
}

#[test]
fn what_waits_for_a_source_that_stands_still_does_not_lengthen_a_restart_without_end() {
    let mut bench = bench(&["a", "b"], BUDGET);
    bench.engine.expect(bench.partition("b", 0).topic, bench.source("b"));
    bench.topic("b", TopicStanding::Stopped);
    bench.assign("a", 0);
    let most = 16 * BUDGET as i64;
    let mut furthest_back = 0;
    for start in (0..5 * most).step_by(100) {
        // A finding now and then, far too few to fill any budget.
        let record = |offset: i64| {
            (offset, 1_000 + offset / 100, if offset % 5_000 == 0 { hit(offset) } else { json!({}) })
        };
        bench.read(("a", 0), (start..start + 100).map(record));
        let stored: Vec<GroupCheckpoint> =
            (0..KEY_GROUPS).map(|group| bench.engine.checkpoint(group).unwrap()).collect();
        if start % 4_000 == 0 {
            let mut next = self::bench(&["a", "b"], BUDGET);
            stored.iter().for_each(|checkpoint| next.engine.take_up(checkpoint).unwrap());
            let (starts, _) = next.engine.starts(|_| Some(bench.source("a")));
            furthest_back = furthest_back.max(start + 100 - starts[0].offset);
        }
    }
    let bound = most + most / 8 + 200;
    assert!((most / 2..=bound).contains(&furthest_back), "{furthest_back}, not about {most}");
    let said = degraded(&mut bench);
    assert!(matches!(said[..], [HealthSignal::Unevaluated { standing: true, .. }]), "{said:?}");
}

#[test]
fn an_election_has_nothing_given_up() {
    let mut bench = bench(&["a", "b"], BUDGET);
    bench.engine.expect(bench.partition("b", 0).topic, bench.source("b"));
    bench.assign("b", 0);
    bench.topic("b", TopicStanding::Away);
    bench.assign("a", 0);
    for start in (0..20 * BUDGET as i64).step_by(100) {
        let found = |offset: i64| if offset % 10 == 0 { hit(offset) } else { json!({}) };
        bench
            .read(("a", 0), (start..start + 100).map(|offset| (offset, 1_000 + offset / 100, found(offset))));
    }
    assert_eq!((bench.engine.load().standing, degraded(&mut bench)), (2 * BUDGET, vec![]));
    assert_eq!(bench.engine.ahead(), []);
}

#[test]
fn while_a_topic_is_not_known_the_budget_holds() {
    let mut bench = bench(&["a", "b"], BUDGET);
    bench.engine.expect(bench.partition("b", 0).topic, bench.source("b"));
    bench.assign("a", 0);
    for second in 0..2 * BUDGET as i64 {
        bench.read(("a", 0), [(second, 1_000 + second, hit(second))]);
    }
    assert_eq!(bench.engine.ahead(), [bench.partition("a", 0)]);
    // Known to be missing, it stops nobody.
    bench.topic("b", TopicStanding::Stopped);
    assert_eq!(bench.engine.ahead(), []);
}

/// Records to be read: partition of `a` (0, 1) or `b` (2, 3), seconds since the one before, whether it is a finding.
fn log() -> impl Strategy<Value = Vec<(usize, i64, bool)>> {
    prop::collection::vec((0..4_usize, 0..40_i64, any::<bool>()), 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// Whatever is paused, whoever reads what is not paused comes to the end, and every alert comes.
    #[test]
    fn pausing_changes_no_alert_and_never_stands_in_the_way(log in log(), budget in 1..50_usize, seed: u64) {
        let mut logs = [const { Vec::new() }; 4];
        let mut seconds = [1_000; 4];
        for (partition, step, found) in log {
            seconds[partition] += step;
            let content = if found { json!({"k": "x", "host": format!("h{}", seconds[partition] % 7)}) } else { json!({}) };
            let of_partition: &mut Vec<(i64, i64, Json)> = &mut logs[partition];
            of_partition.push((of_partition.len() as i64, seconds[partition], content));
        }
        let run = |budget: usize| {
            let mut bench = bench(&["a", "b"], budget);
            let place = |at: usize| (["a", "b"][at / 2], (at % 2) as i32);
            for at in 0..4 {
                bench.assign(place(at).0, place(at).1);
            }
            let (mut next, mut state, mut paused_once) = ([0; 4], seed, false);
            while (0..4).any(|at| next[at] < logs[at].len()) {
                // What is read to its end is proved idle, as ingest does.
                for at in (0..4).filter(|at| next[*at] == logs[*at].len()) {
                    bench.idle(place(at).0, place(at).1, 100_000);
                }
                let ahead: BTreeSet<_> = bench.engine.ahead().into_iter().collect();
                paused_once |= !ahead.is_empty();
                let paused = |at: usize| ahead.contains(&bench.partition(place(at).0, place(at).1));
                let unread = |at: &usize| next[*at] < logs[*at].len();
                let open: Vec<usize> = (0..4).filter(|at| unread(at) && !paused(*at)).collect();
                assert!(!open.is_empty(), "all that is unread is paused: {ahead:?}");
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = open[(state >> 33) as usize % open.len()];
                bench.read(place(at), [logs[at][next[at]].clone()]);
                next[at] += 1;
            }
            for at in 0..4 {
                bench.idle(place(at).0, place(at).1, 200_000);
            }
            let alerts: BTreeSet<(String, u32, String)> = bench.out.correlated.alerts.iter()
                .map(|p| (p.alert.alert_id.to_string(), p.alert.revision, serde_json::to_string(&p.alert).unwrap()))
                .collect();
            (alerts, bench.out.placements.len(), paused_once)
        };
        let (free, _, paused) = run(usize::MAX);
        prop_assert!(!paused);
        let (bounded, placed, _) = run(budget);
        prop_assert_eq!(placed, 0);
        prop_assert_eq!(free, bounded);
    }
}

#[test]
fn what_is_held_back_comes_out_the_same_and_later() {
    let run = |held: &dyn Fn(i64) -> bool| {
        let mut bench = bench(&["a", "b"], BUDGET);
        for topic in ["a", "b"] {
            bench.assign(topic, 0);
        }
        for second in 0..400 {
            bench.engine.hold(held(second), &mut bench.out);
            let before = bench.out.correlated.alerts.len();
            for topic in ["a", "b"] {
                bench.read((topic, 0), [(second, 1_000 + 20 * second, hit(second / 3))]);
            }
            let released = bench.out.correlated.alerts.len() - before;
            assert!(!held(second) || released == 0, "{second}");
        }
        assert_eq!(bench.engine.holds_enough(), held(399));
        bench.engine.hold(false, &mut bench.out);
        assert!(!bench.engine.holds_enough());
        let mut bodies: Vec<_> =
            bench.out.correlated.alerts.iter().map(|p| serde_json::to_string(&p.alert).unwrap()).collect();
        bodies.sort();
        bodies
    };
    let expected = run(&|_| false);
    assert!(expected.len() > 800);
    assert_eq!(run(&|second| second % 7 < 3 || second > 250), expected);
}

/// Once what waits of a former incarnation is released, the key groups say so, though nothing new was read.
#[test]
fn what_is_released_of_a_former_topic_is_not_given_up_by_the_next_start() {
    let mut bench = bench(&["a", "b"], BUDGET);
    for topic in ["a", "b"] {
        bench.engine.expect(bench.partition(topic, 0).topic, bench.source(topic));
        bench.assign(topic, 0);
        bench.topic(topic, TopicStanding::Read);
        bench.read((topic, 0), [(0, 1_000, hit(1))]);
    }
    bench.read(("a", 0), [(1, 1_100, hit(7))]);
    let (topic, source) = (bench.partition("a", 0).topic, bench.source("a"));
    let (compiled, given_up) = bench.engine.accept(topic, source);
    assert_eq!(given_up, []);
    bench.assign("a", 0);
    bench.topic("a", TopicStanding::Read);
    bench.read(("a", 0), [(0, 1_200, hit(8))]);
    let mut stored: Vec<_> = (0..KEY_GROUPS).map(|group| bench.engine.checkpoint(group).unwrap()).collect();
    bench.idle("a", 0, 5_000);
    bench.idle("b", 0, 5_000);
    for group in 0..KEY_GROUPS {
        if bench.engine.behind(group) {
            stored[usize::from(group)] = bench.engine.checkpoint(group).unwrap();
        }
    }
    bench.engine.forget_released();
    assert!((0..KEY_GROUPS).all(|group| !bench.engine.behind(group)), "nothing is written for ever");
    let mut next = crate::Engine::new(compiled, EngineSettings::new([0; 32]));
    stored.iter().for_each(|checkpoint| next.take_up(checkpoint).unwrap());
    let (_, given_up) = next.starts(|name| Some(bench.source(if name.starts_with('a') { "a" } else { "b" })));
    assert_eq!(given_up, []);
}
