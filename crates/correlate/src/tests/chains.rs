//! What a chain keeps of its children: as long as it can be told, and no longer.

use vedette_event::alert::{Child, Number};
use vedette_sigma::ir::{Cmp, CorrelationKind::*, Extras, Rule};

use super::{harness::*, restarts::baseline};
use crate::{
    Correlated, GROUPS,
    chain::{LISTED, kept},
};

/// Episodes that end at once.
fn quick(rule: Rule) -> Rule {
    Rule { extras: Extras { rearm: Some(span("1s")), update: Some(span("1h")), ..Extras::default() }, ..rule }
}

fn children(alert: &vedette_event::Alert) -> &[Child] {
    alert.explanation.children.as_deref().unwrap()
}

#[test]
fn a_child_is_told_as_it_was_at_its_crossing() {
    let world = world(vec![
        detection("deny"),
        detection("allow"),
        Rule { emits: false, ..correlation("five", EventCount, &[0], &["user"], "30m", &[(Cmp::Gte, 5)]) },
        correlation("through", TemporalOrdered, &[2, 1], &["user"], "30m", &[]),
    ]);
    let mut log: Vec<Ev> = (0..9).map(|n| ev(n * 60, &[0], &[("user", "u")])).collect();
    log.push(ev(600, &[1], &[("user", "u")]));
    let alerts = world.alerts(&log);
    let [child] = children(&alerts[0]) else { panic!("one child") };
    // It grew to nine before the last step: its own alert's to say.
    assert_eq!((child.count, child.value), (5, Number::Int(5)));
    assert_eq!(child.first_seen, secs(0));
    assert_eq!((child.crossed_at, child.last_seen), (secs(240), secs(240)));
    let offsets: Vec<_> = child.evidence.iter().map(|e| e.offset).collect();
    assert_eq!(offsets, [0, 60, 120, 180, 240]);
    assert_eq!((&*child.rule.id, child.key["user"].text()), ("five", "u"));
    assert_eq!((alerts[0].count, alerts[0].value), (2, Number::Int(2)));
    // Silent, so there is no alert to point at; and no chain, so it has no children.
    assert!(child.alert_id.is_none() && child.children.is_none());
}

#[test]
fn one_event_that_crosses_several_keys_tells_each() {
    let mut who = correlation("who", Temporal, &[0, 1], &["who"], "20s", &[(Cmp::Gte, 1)]);
    let vedette_sigma::ir::RuleKind::Correlation(inner) = &mut who.kind else { unreachable!() };
    inner.group_by[0].fields =
        vec![(vedette_event::RuleIx(0), "user".into()), (vedette_event::RuleIx(1), "host".into())];
    let world = world(vec![
        detection("a"),
        detection("b"),
        who,
        correlation("all", EventCount, &[2], &[], "20s", &[(Cmp::Gte, 1)]),
    ]);
    let alerts = world.alerts(&[ev(0, &[0, 1], &[("user", "z"), ("host", "y")])]);
    let all = alerts.iter().find(|alert| &*alert.rule.id == "all").unwrap();
    let keys: Vec<_> = children(all).iter().map(|child| child.key["who"].text()).collect();
    // One event, whose children come by their keys' text.
    assert_eq!((all.count, keys), (1, vec!["y", "z"]));
    let ids: Vec<_> = children(all).iter().map(|child| child.alert_id.as_deref().unwrap()).collect();
    assert!(ids.iter().all(|id| alerts.iter().any(|alert| &*alert.alert_id == *id)));
}

/// A day of crossings at one key, of which the window needs two and an open episode ten.
#[test]
fn what_is_kept_of_children_follows_the_window() {
    for (kind, condition) in [
        (EventCount, (Cmp::Gte, 2)),
        (ValueCount(vec!["port".into()]), (Cmp::Gte, 2)),
        (Temporal, (Cmp::Gte, 1)),
    ] {
        let world = world(vec![
            detection("d"),
            Rule {
                emits: false,
                ..quick(correlation("child", EventCount, &[0], &["user"], "1s", &[(Cmp::Gte, 1)]))
            },
            correlation("chain", kind, &[1], &["user"], "1d", &[condition]),
        ]);
        let (mut correlator, mut out) = (world.correlator(), Correlated::default());
        let port = |n: i64| (n % 3).to_string();
        let log: Vec<Ev> =
            (0..5_000).map(|n| ev(3 * n, &[0], &[("user", "u"), ("port", &port(n))])).collect();
        push(&mut correlator, &log, &mut out);
        correlator.release(&[secs(15_000); 3], usize::MAX, &mut out);
        // Two looks' worth, the episode's ten, and what the child's own window has: none.
        assert!(kept(&correlator) <= 32 + 32 + 10, "{}", kept(&correlator));
        let bytes: usize = (0..GROUPS).map(|group| correlator.checkpoint(group).len()).max().unwrap();
        assert!(bytes < 2_000, "{bytes}");
    }
}

/// Five levels of twelve: ten thousand episodes lie below an alert of the last, a thousand below each of its events.
#[test]
fn what_is_kept_of_one_child_event_is_bounded() {
    let level = |id, below| quick(correlation(id, EventCount, &[below], &["user"], "1d", &[(Cmp::Gte, 12)]));
    let world = world(vec![
        detection("d"),
        level("a", 0),
        level("b", 1),
        level("c", 2),
        level("e", 3),
        level("f", 4),
    ]);
    let (mut correlator, mut out) = (world.correlator(), Correlated::default());
    let log: Vec<Ev> = (0..200).map(|n| ev(3 * n, &[0], &[("user", "u")])).collect();
    push(&mut correlator, &log, &mut out);
    correlator.release(&[secs(600); 3], usize::MAX, &mut out);
    let alert = last(&out).pop().unwrap();
    assert_eq!(&*alert.rule.id, "f");
    // Ten of e; below each ten of d, below each ten of b, below each ten of a.
    assert_eq!(alert.explanation.children_total, Some(10 + 100 + 1_000 + 10_000));
    assert_eq!(children(&alert).len(), 10);
    let text = serde_json::to_string(&alert.explanation.children).unwrap();
    assert_eq!(text.matches("\"first_seen\"").count(), LISTED);
    // At each level above the first so many events: of the window, come since the last look, and of the episode. And in each of them
    // itself, ten below it, a hundred below those, and never more than there is room for.
    let most = (12 + 32 + 10) * (1 + 11 + 111 + LISTED);
    assert!(kept(&correlator) <= most, "{} of {most}", kept(&correlator));
}

#[test]
fn children_survive_a_restart_to_the_byte() {
    let world = world(vec![
        detection("d"),
        detection("e"),
        quick(correlation("a", EventCount, &[0], &["user"], "1m", &[(Cmp::Gte, 2)])),
        quick(correlation("b", ValueCount(vec!["port".into()]), &[2], &["user"], "1h", &[(Cmp::Gte, 2)])),
        correlation("c", TemporalOrdered, &[3, 1, 2], &["user"], "1h", &[]),
        correlation("j", EventCount, &[2, 1], &["user"], "2m", &[(Cmp::Lte, 40)]),
    ]);
    let event = |n: i64| {
        let port = (n % 3).to_string();
        ev(3 * n, if n % 5 == 4 { &[1] } else { &[0] }, &[("user", "u"), ("port", &port)])
    };
    let log: Vec<Ev> = (0..60).map(event).collect();
    let expected = baseline(&world, &log);
    assert!(expected.values().any(|body| body.contains("\"children\":[{\"alert_id\"")));
    for at in 1..log.len() {
        let (mut correlator, mut out) = (world.correlator(), Correlated::default());
        push(&mut correlator, &log[..at], &mut out);
        correlator.release(&[secs(3 * at as i64); 3], usize::MAX, &mut out);
        let mut next = world.correlator();
        for group in 0..GROUPS {
            let bytes = correlator.checkpoint(group);
            next.restore(group, &bytes).unwrap();
            assert!(next.checkpoint(group) == bytes, "group {group} after {at}");
        }
        push(&mut next, &log[at..], &mut out);
        next.finish(&mut out);
        for published in &out.alerts {
            let body = serde_json::to_string(&published.alert).unwrap();
            let key = (published.alert.alert_id.to_string(), published.alert.revision);
            assert_eq!(expected.get(&key), Some(&body));
        }
        assert_eq!(out.alerts.len(), expected.len());
    }
}
