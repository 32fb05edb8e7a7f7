//! Over budget: counts are never too low and say so, keys with state are as ever, the same whatever the batches and restarts.

use std::collections::BTreeMap;

use proptest::prelude::*;
use vedette_event::{Flags, Kind, Micros};
use vedette_sigma::ir::{Cmp, CorrelationKind::*};

use super::{
    harness::*,
    restarts::{baseline, everything, log, ops, play},
};
use crate::HealthSignal;

fn counting(budget: usize) -> World {
    let mut world = world(vec![
        detection("d"),
        correlation("c", EventCount, &[0], &["user"], "10s", &[(Cmp::Gte, 4)]),
        correlation("parent", EventCount, &[1], &[], "1m", &[(Cmp::Gte, 2)]),
    ]);
    world.budget = budget;
    world
}

/// Events of up to `users` users.
fn crowd(users: u16) -> impl Strategy<Value = Vec<Ev>> {
    prop::collection::vec((0..users, 0..3_i64, 1..4_u8), 1..400).prop_map(|events| {
        let (mut now, mut log) = (0, Vec::new());
        for (at, (user, step, repeat)) in events.into_iter().enumerate() {
            now += i64::from(step == 0);
            let user = ("user", Kind::Text, format!("u{user}"));
            let fields = vec![user, ("repeat", Kind::Int, repeat.to_string())];
            log.push(Ev { offset: at as i64, fields, ..ev(now, &[0], &[]) });
        }
        log
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn batches_and_restarts_change_nothing(log in log(), ops in ops(true), budget in 0..6_usize) {
        let world = World { budget, ..everything() };
        prop_assert_eq!(play(&world, &log, &ops)?, baseline(&world, &log));
    }

    #[test]
    fn a_crowd_survives_restarts(log in crowd(150), ops in ops(true), budget in 0..3_usize) {
        let world = counting(budget);
        prop_assert_eq!(play(&world, &log, &ops)?, baseline(&world, &log));
    }

    #[test]
    fn counts_are_never_too_low_and_say_so(log in crowd(150), budget in 0..3_usize) {
        // Of a chain no more can be said: estimates join episodes of its child that are really apart.
        let of = |budget| -> Vec<_> {
            let alerts = counting(budget).alerts(&log).into_iter();
            alerts.filter(|alert| &*alert.rule.id == "c").collect()
        };
        let (exact, found) = (of(100_000), of(budget));
        let known: BTreeMap<_, _> = exact.iter().map(|alert| (alert.alert_id.clone(), alert)).collect();
        for alert in found.iter().filter(|alert| !alert.flags.has(Flags::APPROXIMATE)) {
            prop_assert_eq!(known.get(&alert.alert_id), Some(&alert));
        }
        for alert in &exact {
            let covers = found.iter().any(|other| {
                other.key == alert.key
                    && other.crossed_at <= alert.crossed_at
                    && other.last_seen >= alert.last_seen
            });
            prop_assert!(covers, "{:?}", alert);
        }
    }

    #[test]
    fn estimates_are_never_too_low(
        events in prop::collection::vec((0..20_u64, 0..40_i64, 1..5_u16), 1..200),
        span in 1..100_i64,
    ) {
        let mut world = world(vec![
            detection("d"),
            correlation("c", EventCount, &[0], &["user"], "1m", &[(Cmp::Gte, 4)]),
        ]);
        let node = &mut std::sync::Arc::get_mut(&mut world.plan).unwrap().trees[0].nodes[0];
        node.span = vedette_event::Span(span);
        let mut sketch = crate::over::sketch::Sketch { width: 4, panes: std::collections::VecDeque::new() };
        let (mut now, mut all) = (Micros(-1_000), Vec::new());
        for (key, step, weight) in events {
            now = Micros(now.0 + step);
            let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            sketch.add(node, hash, u64::from(weight), now);
            all.push((hash, now, u64::from(weight)));
            for key in 0..20_u64 {
                let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let inside = all.iter().filter(|(h, t, _)| *h == hash && t.0 > now.0 - span);
                prop_assert!(sketch.estimate(node, hash, now) >= inside.map(|(_, _, weight)| weight).sum::<u64>());
            }
        }
    }
}

#[test]
fn the_period_is_announced_with_its_prefixes_and_its_end() {
    let mut world = world(vec![
        detection("d"),
        correlation("c", EventCount, &[0], &["source.ip"], "10s", &[(Cmp::Gte, 3)]),
    ]);
    world.budget = 1;
    let address = |n: i64| ev(n / 50, &[0], &[("source.ip", &format!("203.0.113.{}", n % 250))]);
    let mut log: Vec<_> = (0..500).map(|n| Ev { offset: n, ..address(n) }).collect();
    log.push(Ev { offset: 1_000, ..ev(100, &[0], &[("source.ip", "192.0.2.1")]) });
    let (mut correlator, mut out) = (world.correlator(), crate::Correlated::default());
    for event in &log {
        push(&mut correlator, std::slice::from_ref(event), &mut out);
        correlator.release(&[event.time; 3], usize::MAX, &mut out);
    }
    let begun = out.health.iter().filter(|h| matches!(h, HealthSignal::OverBudget { .. })).count();
    let ended: Vec<_> =
        out.health.iter().filter(|h| matches!(h, HealthSignal::WithinBudget { .. })).collect();
    assert!(begun > 10 && ended.len() == begun, "{begun} {}", ended.len());
    let HealthSignal::WithinBudget { prefixes, keys, .. } = ended[0] else { unreachable!() };
    assert_eq!(prefixes[..], [("203.0.113.0/24".to_owned(), *keys)]);
}

#[test]
fn others_take_the_place_of_the_oldest_with_one_event() {
    let values = ValueCount(vec!["port".into()]);
    let mut world =
        world(vec![detection("d"), correlation("v", values, &[0], &[], "1h", &[(Cmp::Gte, 2)]), {
            let values = ValueCount(vec!["port".into()]);
            correlation("w", values, &[0], &["user"], "1h", &[(Cmp::Gte, 3)])
        }]);
    world.budget = 1;
    // Two values make a key stay; others come and go.
    let hit = |t, user: &str, port: &str| ev(t, &[0], &[("user", user), ("port", port)]);
    let mut log = vec![hit(0, "old", "1"), hit(1, "old", "2")];
    log.extend((2..300).map(|t| hit(t, &format!("u{t}"), "9")));
    log.push(hit(300, "old", "3"));
    log.extend([hit(301, "new", "1"), hit(302, "new", "2"), hit(303, "new", "3")]);
    let out = world.run(&log);
    let keys: Vec<_> = last(&out)
        .iter()
        .filter(|a| &*a.rule.id == "w")
        .map(|a| serde_json::to_string(&a.key).unwrap())
        .collect();
    assert_eq!(keys, [r#"{"user":"old"}"#, r#"{"user":"new"}"#]);
    assert!(out.counters.values().any(|c| c.evicted > 200));
}

/// What all rules are charged for, rule by rule and group by group.
fn charges(correlator: &crate::Correlator) -> Vec<(u8, u32, usize, usize)> {
    let groups = correlator.groups.iter();
    let trees = groups.flat_map(|group| group.trees().map(|(at, state)| (group.number, at, state)));
    let nodes = trees.flat_map(|(group, tree, state)| {
        state.nodes.iter().enumerate().map(move |(at, node)| (group, tree, at, node.keys.entries()))
    });
    nodes.filter(|(.., entries)| *entries > 0).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_restart_charges_keys_for_the_same(log in log()) {
        let (mut out, world) = (crate::Correlated::default(), everything());
        let (mut before, mut after) = (world.correlator(), world.correlator());
        push(&mut before, &log, &mut out);
        // Events that no rule meets are left out of a log, which may leave it empty.
        let Some(middle) = log.get(log.len() / 2).map(|event| event.time) else { return Ok(()) };
        before.release(&[middle; 3], usize::MAX, &mut out);
        for group in 0..crate::GROUPS {
            after.restore(group, &before.checkpoint(group)).unwrap();
        }
        prop_assert_eq!(charges(&before), charges(&after));
    }
}

#[test]
fn those_that_grow_take_the_place_of_those_that_do_not() {
    let values = ValueCount(vec!["port".into()]);
    let mut world =
        world(vec![detection("d"), correlation("v", values, &[0], &["user"], "1h", &[(Cmp::Gte, 100)])]);
    world.budget = 60;
    let (mut correlator, mut out) = (world.correlator(), crate::Correlated::default());
    let node = &world.plan.trees[0].nodes[0];
    let most = correlator.budgets.get(node).most;
    // Of two thousand keys with one value 640 go on, up to 150.
    let hit = |n: i64, user: i64, port: i64| Ev {
        offset: n,
        ..ev(n / 1_000, &[0], &[("user", &format!("u{user}")), ("port", &port.to_string())])
    };
    let mut log: Vec<_> = (0..2_000).map(|n| hit(n, n, 0)).collect();
    log.extend((0..96_000).map(|n| hit(2_000 + n, n % 640, 1 + n / 640)));
    let mut fullest = 0;
    for events in log.chunks(500) {
        push(&mut correlator, events, &mut out);
        correlator.release(&[events[events.len() - 1].time; 3], usize::MAX, &mut out);
        fullest =
            charges(&correlator).into_iter().map(|(.., entries)| entries).max().unwrap_or(0).max(fullest);
    }
    correlator.finish(&mut out);
    // What one key grows by at once is little.
    assert!((most..most + 20).contains(&fullest), "{fullest} of {most}");
    let over = |health: &HealthSignal| matches!(health, HealthSignal::OverBudget { .. });
    assert!(out.health.iter().any(over) && out.counters.values().any(|c| c.evicted > 1_000));
    // Those that had room to the end say what they would have said.
    let exact = World { budget: 100_000, ..world }.alerts(&log);
    let found = last(&out);
    assert!(exact.len() == 640 && found.len() > 200, "{} of {}", found.len(), exact.len());
}
