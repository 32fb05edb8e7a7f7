//! Key groups: where events go, and that nothing of what is gone stays.

use std::collections::BTreeMap;

use vedette_event::{Incarnation, Kind, Partition, TopicIx};
use vedette_sigma::ir::{Cmp, CorrelationKind::*, Extras, KeyPart, Rule, RuleKind};

use super::harness::*;
use crate::{Correlated, Correlator, Hands, Still, WaitingBudget};

fn hit(t: i64, user: &str) -> Ev {
    ev(t, &[0], &[("user", user)])
}

fn timers(correlator: &Correlator) -> usize {
    let agendas = correlator.groups.iter().flat_map(|group| &group.agendas);
    agendas.map(|agenda| agenda.timers.len()).sum()
}

fn trees(correlator: &Correlator) -> usize {
    correlator.groups.iter().map(|group| group.trees().count()).sum()
}

#[test]
fn an_open_alert_has_two_timers_however_long_it_is_open() {
    let rule = correlation("c", EventCount, &[0], &["user"], "1h", &[(Cmp::Gte, 1)]);
    let extras = Extras { update: Some(span("10s")), ..Extras::default() };
    let (world, mut out) = (world(vec![detection("d"), Rule { extras, ..rule }]), Correlated::default());
    let mut correlator = world.correlator();
    for t in 0..3_000 {
        push(&mut correlator, &[hit(t, "u")], &mut out);
        correlator.release(&[secs(t); 3], usize::MAX, &mut out);
        // One more looks for what can be forgotten.
        assert!(timers(&correlator) <= 3, "{} after {t} s", timers(&correlator));
    }
    assert!(out.alerts.len() > 290);
}

#[test]
fn timers_of_what_others_took_the_place_of_are_forgotten() {
    let mut world = world(vec![single("s", true)]);
    world.budget = 4;
    let (mut correlator, mut out) = (world.correlator(), Correlated::default());
    for n in 0..20_000 {
        let event = Ev { offset: n, fields: vec![("user", Kind::Text, format!("u{n}"))], ..hit(n / 100, "") };
        push(&mut correlator, &[event], &mut out);
        if n % 100 == 99 {
            correlator.release(&[secs(n / 100 + 1); 3], usize::MAX, &mut out);
        }
    }
    assert!(timers(&correlator) < 64 * 200, "{}", timers(&correlator));
}

#[test]
fn a_group_whose_keys_are_forgotten_keeps_nothing_of_the_tree() {
    let rule = |id, kind| correlation(id, kind, &[0], &["user"], "1m", &[(Cmp::Gte, 3)]);
    let few = correlation("few", EventCount, &[0], &["user"], "1m", &[(Cmp::Lte, 3)]);
    let chain = correlation("chain", EventCount, &[1], &["user"], "1m", &[(Cmp::Gte, 2)]);
    let rules = vec![detection("d"), rule("c", EventCount), single("s", true), few, chain];
    let world = World { notices: true, ..world(rules) };
    let (mut correlator, mut out) = (world.correlator(), Correlated::default());
    let users: Vec<_> = (0..500)
        .map(|n| Ev { rules: vec![0, 2], offset: n, ..hit(n / 10, &format!("u{}", n % 250)) })
        .collect();
    push(&mut correlator, &users, &mut out);
    correlator.release(&[secs(60); 3], usize::MAX, &mut out);
    assert!(trees(&correlator) > 150);
    // An hour for the single-event rule's alerts, and a pane or two.
    correlator.release(&[secs(5_400); 3], usize::MAX, &mut out);
    assert_eq!((trees(&correlator), timers(&correlator), correlator.ahead), (0, 0, [0; 2]));
}

/// Events of some keys of several rules, released now and then; with hands that begin with the last.
fn let_through(world: &World, threads: usize) -> (Correlated, crate::Effort) {
    let (mut correlator, mut out) = (world.correlator(), Correlated::default());
    if threads > 1 {
        let run = |mut tasks: Vec<crate::ReleaseTask>| {
            tasks.iter_mut().rev().for_each(crate::ReleaseTask::run);
            tasks.reverse();
            tasks
        };
        correlator.share(Hands::new(threads, 0, run));
    }
    for t in 0..60 {
        let of = |n: i64| Ev {
            rules: vec![0, 1],
            offset: t * 100 + n,
            fields: vec![("user", Kind::Text, format!("u{}", (t * 7 + n * 13) % 4_000))],
            ..hit(t, "")
        };
        push(&mut correlator, &(0..100).map(of).collect::<Vec<_>>(), &mut out);
        if t % 20 == 19 {
            correlator.release(&[secs(t - 5); 3], usize::MAX, &mut out);
        }
    }
    correlator.finish(&mut out);
    (out, correlator.effort())
}

#[test]
fn the_same_is_said_in_the_same_order_whoever_lets_groups_through() {
    let few = correlation("few", EventCount, &[0], &["user"], "1m", &[(Cmp::Lte, 3)]);
    let many = correlation("many", EventCount, &[0], &["user"], "1m", &[(Cmp::Gte, 3)]);
    let world = world(vec![detection("d"), single("s", true), few, many]);
    let (alone, effort) = let_through(&world, 1);
    assert!(alone.alerts.len() > 1_000, "{}", alone.alerts.len());
    // More than a thousand episodes of the single-event rule cross in the hour: there is a storm.
    let storms = alone.alerts.iter().filter(|published| published.alert.key.is_empty()).count();
    assert!(storms > 0);
    for threads in [2, 3, 8] {
        let (shared, more) = let_through(&world, threads);
        assert_eq!(shared, alone, "{threads} threads");
        assert!(more.bodies < effort.bodies * 2, "{} bodies, alone {}", more.bodies, effort.bodies);
        assert_eq!(crate::Effort { bodies: 0, ..more }, crate::Effort { bodies: 0, ..effort });
    }
}

/// Rules of one correlation that read its key from different fields.
fn alias() -> World {
    let mut alias = correlation("alias", Temporal, &[0, 1], &["who"], "20s", &[(Cmp::Gte, 2)]);
    let RuleKind::Correlation(inner) = &mut alias.kind else { unreachable!() };
    let fields = vec![(vedette_event::RuleIx(0), "user".into()), (vedette_event::RuleIx(1), "host".into())];
    inner.group_by = vec![KeyPart { name: "who".into(), fields }];
    world(vec![detection("a"), detection("b"), alias])
}

#[test]
fn an_event_of_two_keys_goes_to_both_groups_and_counts_once() {
    let both = |t, user: &str, host: &str| ev(t, &[0, 1], &[("user", user), ("host", host)]);
    let world = alias();
    let (mut correlator, mut out) = (world.correlator(), Correlated::default());
    push(&mut correlator, &[both(0, "x", "y"), both(1, "y", "z")], &mut out);
    assert_eq!((0..64).map(|group| correlator.unreleased(group).len()).filter(|n| *n > 0).count(), 3);
    correlator.finish(&mut out);
    let keys: Vec<_> = last(&out).iter().map(|a| serde_json::to_string(&a.key).unwrap()).collect();
    assert_eq!(keys, [r#"{"who":"y"}"#]);
    assert_eq!(out.counters.values().map(|counters| counters.matched).sum::<u64>(), 2);
}

#[test]
fn a_tree_goes_whole_to_the_group_of_what_its_keys_share() {
    let child = correlation("child", EventCount, &[0], &["user", "host"], "1m", &[(Cmp::Gte, 1)]);
    let parent = correlation("parent", EventCount, &[1], &["user"], "1m", &[(Cmp::Gte, 3)]);
    let world = world(vec![detection("d"), Rule { emits: false, ..child }, parent]);
    let (mut correlator, mut out) = (world.correlator(), Correlated::default());
    let of = |t: i64| ev(t, &[0], &[("user", "u"), ("host", &format!("h{t}"))]);
    push(&mut correlator, &[of(0), of(1), of(2)], &mut out);
    assert_eq!((0..64).filter(|group| !correlator.unreleased(*group).is_empty()).count(), 1);
    correlator.finish(&mut out);
    assert_eq!(last(&out).len(), 1);
}

/// Whether there is room is asked for an event, not for each of its keys.
#[test]
fn an_event_of_two_keys_is_left_unevaluated_once() {
    let both = |t, user: &str, host: &str| ev(t, &[0, 1], &[("user", user), ("host", host)]);
    let world = alias();
    let mut correlator = world.correlator_with(WaitingBudget { pause: 1, refuse: 1 });
    let mut out = Correlated::default();
    push(&mut correlator, &[both(0, "x", "y"), both(1, "y", "z")], &mut out);
    let unevaluated = |out: &Correlated| out.counters.values().map(|n| n.unevaluated).sum::<u64>();
    assert_eq!((correlator.load().waiting, unevaluated(&out)), (2, 1), "both keys of one, none of the other");

    // What waits for a source that stands still and is given up counts once, too.
    let mut correlator = world.correlator();
    let mut out = Correlated::default();
    push(&mut correlator, &[both(0, "x", "y"), both(1, "y", "z")], &mut out);
    correlator.stand(|_| Still::Lasting);
    let origin = (Partition { topic: TopicIx(1), number: 0 }, Incarnation::default());
    correlator.give_up(&BTreeMap::from([(origin, 100)]), 0, &mut out);
    assert_eq!((correlator.load().standing, unevaluated(&out)), (0, 2));
}
