//! Notices: as soon as the events read so far satisfy a monotone condition, and no oftener.

use vedette_event::Notice;
use vedette_sigma::ir::{Cmp, CorrelationKind::*, Rule};

use super::harness::*;
use crate::{Correlator, Output};

fn ahead(rules: Vec<Rule>) -> (World, Correlator) {
    let world = World { notices: true, ..world(rules) };
    let correlator = world.correlator();
    (world, correlator)
}

fn feed(correlator: &mut Correlator, events: &[Ev]) -> Vec<Notice> {
    let mut out = Output::default();
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
    let mut out = Output::default();
    feed(&mut correlator, &[hit(0), hit(1)]);
    correlator.release(&[secs(2); 3], &mut out);
    assert_eq!(feed(&mut correlator, &[hit(2)]).len(), 1);
    correlator.release(&[secs(3); 3], &mut out);
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
