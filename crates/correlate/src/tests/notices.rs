//! Notices: as soon as the events read so far satisfy a monotone condition, and no oftener.

use vedette_event::{Micros, Notice};
use vedette_sigma::ir::{Cmp, CorrelationKind::*, Rule};

use super::harness::*;
use crate::{Correlated, Correlator};

fn ahead(rules: Vec<Rule>) -> (World, Correlator) {
    let world = World { notices: true, ..world(rules) };
    let correlator = world.correlator();
    (world, correlator)
}

fn feed(correlator: &mut Correlator, events: &[Ev]) -> Vec<Notice> {
    let mut out = Correlated::default();
    for event in events {
        push(correlator, std::slice::from_ref(event), &mut out);
    }
    assert!(out.alerts.is_empty());
    out.notices
}

fn hit(t: i64) -> Ev {
    ev(t, &[0], &[("user", "u")])
}

fn counting() -> Vec<Rule> {
    vec![detection("d"), correlation("c", EventCount, &[0], &["user"], "10s", &[(Cmp::Gte, 3)])]
}

#[test]
fn a_condition_is_announced_before_anything_is_released_and_once() {
    let (_, mut correlator) = ahead(counting());
    assert!(feed(&mut correlator, &[hit(0), hit(1)]).is_empty());
    let notices = feed(&mut correlator, &[hit(2), hit(3), hit(4)]);
    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0].crossed_at, secs(2));
    insta::assert_json_snapshot!(notices[0]);
}

#[test]
fn released_state_counts_and_an_open_alert_needs_no_notice() {
    let (_, mut correlator) = ahead(counting());
    let mut out = Correlated::default();
    feed(&mut correlator, &[hit(0), hit(1)]);
    correlator.release(&[secs(2); 3], usize::MAX, &mut out);
    assert_eq!(feed(&mut correlator, &[hit(2)]).len(), 1);
    correlator.release(&[secs(3); 3], usize::MAX, &mut out);
    assert_eq!(out.alerts.len(), 1);
    assert!(feed(&mut correlator, &[hit(4), hit(5)]).is_empty());
    // Long after, another.
    assert_eq!(feed(&mut correlator, &[hit(100), hit(101), hit(102)]).len(), 1);
}

#[test]
fn order_of_arrival_does_not_matter() {
    let (_, mut correlator) = ahead(counting());
    assert!(feed(&mut correlator, &[hit(20), hit(2), hit(1)]).is_empty());
    assert_eq!(feed(&mut correlator, &[hit(3)]).len(), 1);
    let (_, mut correlator) = ahead(vec![
        detection("a"),
        detection("b"),
        correlation("o", TemporalOrdered, &[0, 1], &["user"], "10s", &[]),
    ]);
    let second = ev(5, &[1], &[("user", "u")]);
    assert!(feed(&mut correlator, &[second]).is_empty());
    assert_eq!(feed(&mut correlator, &[hit(4)]).len(), 1);
}

#[test]
fn chains_and_single_events_are_announced_and_judged_rules_are_not() {
    let (_, mut correlator) = ahead(vec![
        single("s", true),
        correlation("c", EventCount, &[0], &["user"], "10s", &[(Cmp::Gte, 2)]),
        correlation("p", Temporal, &[0, 1], &["user"], "10s", &[(Cmp::Gte, 2)]),
        correlation("few", EventCount, &[0], &["user"], "10s", &[(Cmp::Lte, 2)]),
    ]);
    let notices = feed(&mut correlator, &[hit(0), hit(1), hit(2)]);
    let ids: Vec<_> = notices.iter().map(|notice| notice.rule.id.to_string()).collect();
    assert_eq!(ids, ["s", "c", "p"]);
}

#[test]
fn nothing_is_announced_unless_asked_for() {
    assert!(world(counting()).run(&[hit(0), hit(1), hit(2)]).notices.is_empty());
}

/// Events of the key `u` in a partition, `n` of them within nine seconds from `start` on.
fn burst(partition: i32, start: i64, n: i64) -> Vec<Ev> {
    let time = |at: i64| Micros(secs(start).0 + at * 9_000_000 / n);
    (0..n).map(|at| Ev { partition, offset: at, time: time(at), ..hit(0) }).collect()
}

fn at_least(id: &str, n: u64) -> Rule {
    correlation(id, EventCount, &[0], &["user"], "10s", &[(Cmp::Gte, n)])
}

fn ids(notices: &[Notice]) -> Vec<&str> {
    notices.iter().map(|notice| &*notice.rule.id).collect()
}

#[test]
fn two_partitions_apart_do_not_add_up_whatever_is_remembered() {
    for notice_budget in [0, 256 * 8, 256 * 301, 1 << 20] {
        let rules = vec![detection("d"), at_least("few", 100), at_least("many", 400)];
        let world = World { notice_budget, ..ahead(rules).0 };
        let mut correlator = world.correlator();
        let mut notices = feed(&mut correlator, &burst(0, 50, 300));
        notices.extend(feed(&mut correlator, &burst(1, 0, 300)));
        let expected: &[&str] = if notice_budget == 0 { &[] } else { &["few"] };
        assert_eq!(ids(&notices), expected, "{notice_budget}");
    }
}

#[test]
fn events_of_several_partitions_add_up_as_far_as_they_are_remembered() {
    let rules = || vec![detection("d"), at_least("many", 400)];
    let (_, mut correlator) = ahead(rules());
    feed(&mut correlator, &burst(0, 0, 300));
    assert_eq!(ids(&feed(&mut correlator, &burst(1, 0, 300))), ["many"]);
    // Where the record is full nothing is said, until what is missing was released.
    let world = World { notice_budget: 256 * 8, ..ahead(rules()).0 };
    let mut correlator = world.correlator();
    feed(&mut correlator, &burst(0, 0, 300));
    assert!(feed(&mut correlator, &burst(1, 0, 90)).is_empty());
    let mut out = Correlated::default();
    correlator.release(&[secs(9); 3], usize::MAX, &mut out);
    assert!(out.alerts.is_empty());
    let more: Vec<_> = (0..10).map(|n| Ev { offset: 1_000 + n, ..hit(9) }).collect();
    assert!(feed(&mut correlator, &more[..9]).is_empty());
    assert_eq!(ids(&feed(&mut correlator, &more[9..])), ["many"]);
}

#[test]
fn what_the_hour_refuses_is_announced_later() {
    let (_, mut correlator) = ahead(vec![detection("d"), at_least("c", 1)]);
    let hour = 3_600;
    let user =
        |n: i64| Ev { offset: n, fields: ev(0, &[], &[("user", &format!("u{n}"))]).fields, ..hit(hour - 1) };
    let all: Vec<_> = (0..1_001).map(user).collect();
    assert_eq!(feed(&mut correlator, &all).len(), 1_000);
    // Another hour between does not make room.
    let (other, last) = (Ev { time: secs(2 * hour), ..user(2_000) }, Ev { offset: 2_000, ..user(1_000) });
    assert_eq!(feed(&mut correlator, &[other, last.clone()]).len(), 1);
    let notices = feed(&mut correlator, &[Ev { time: secs(hour + 1), ..last }]);
    assert_eq!((notices.len(), notices[0].crossed_at), (1, secs(hour + 1)));
}

#[test]
fn an_episode_that_had_to_wait_for_another_s_notice_is_announced_after_it() {
    let (_, mut correlator) = ahead(counting());
    assert_eq!(feed(&mut correlator, &[hit(0), hit(1), hit(2)]).len(), 1);
    // At most one is open for a key.
    assert!(feed(&mut correlator, &[hit(30), hit(31), hit(32)]).is_empty());
    correlator.release(&[secs(20); 3], usize::MAX, &mut Correlated::default());
    let notices = feed(&mut correlator, &[hit(33)]);
    assert_eq!((notices.len(), notices[0].crossed_at), (1, secs(33)));
    assert!(feed(&mut correlator, &[hit(34), hit(35)]).is_empty());
}

#[test]
fn a_continuation_is_no_event_of_a_chain() {
    let midnight = (DAY0 + 86_400_000_000 - secs(0).0) / 1_000_000;
    let (_, mut correlator) = ahead(vec![
        detection("d"),
        Rule { emits: false, ..at_least("c", 1) },
        correlation("chain", EventCount, &[1], &["user"], "1h", &[(Cmp::Gte, 2)]),
    ]);
    assert!(feed(&mut correlator, &[hit(midnight - 2), hit(midnight + 2)]).is_empty());
    assert_eq!(feed(&mut correlator, &[hit(midnight + 60)]).len(), 1);
}

#[test]
fn the_work_for_late_events_is_bounded_by_their_number() {
    let (_, mut correlator) = ahead(vec![detection("d"), at_least("c", 100_000)]);
    let late: Vec<_> =
        (0..3_000).rev().map(|n| Ev { time: Micros(secs(0).0 + n), offset: n, ..hit(0) }).collect();
    feed(&mut correlator, &late);
    let trees = correlator.groups.iter().flat_map(|group| group.trees());
    let nodes = trees.flat_map(|(_, state)| &state.nodes);
    let work: u64 = nodes.filter_map(|node| node.ahead.as_ref()).map(|ahead| ahead.work()).sum();
    assert!((3_000..=16 * 3_000).contains(&work), "{work}");
}

#[test]
fn a_flood_of_keys_stays_within_the_budget_and_is_forgotten() {
    let rules = || vec![single("s", true), at_least("c", 2)];
    let world = World { notice_budget: 1_000, ..ahead(rules()).0 };
    let (mut correlator, mut out) = (world.correlator(), Correlated::default());
    let user =
        |n: i64| Ev { offset: n, fields: ev(0, &[], &[("user", &format!("u{n}"))]).fields, ..hit(n / 1_000) };
    let events: Vec<_> = (0..5_000).map(user).collect();
    push(&mut correlator, &events, &mut out);
    let held = |correlator: &Correlator| correlator.ahead[0];
    assert!((900..=1_010).contains(&held(&correlator)), "{}", held(&correlator));
    correlator.release(&[secs(6); 3], usize::MAX, &mut out);
    assert_eq!(held(&correlator), 0);
    correlator.finish(&mut out);
    let sorted = |mut out: Correlated| {
        out.alerts.sort_by_key(|p| (p.alert.alert_id.clone(), p.alert.revision));
        out.alerts
    };
    assert!(sorted(out) == sorted(World { notices: false, ..world }.run(&events)));
}
