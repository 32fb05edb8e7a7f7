//! Each sentence of "Episodes, identity, notices".

use vedette_event::{Flags, Micros, State::*, alert::Number};
use vedette_sigma::ir::{Cmp, CorrelationKind::*, Extras, Rule};

use super::harness::*;
use crate::Correlated;

fn count(n: u64, timespan: &str, rearm: Option<&str>, update: Option<&str>) -> World {
    let rule = correlation("c", EventCount, &[0], &["user"], timespan, &[(Cmp::Gte, n)]);
    let extras = Extras { rearm: rearm.map(span), update: update.map(span), ..Extras::default() };
    world(vec![detection("d"), Rule { extras, ..rule }])
}

fn hit(t: i64) -> Ev {
    ev(t, &[0], &[("user", "u")])
}

/// (revision, state, count, last seen) of every revision in order.
fn revisions(world: &World, events: &[Ev]) -> Vec<(u32, vedette_event::State, u64, Micros)> {
    let out = world.run(events);
    out.alerts.iter().map(|p| (p.alert.revision, p.alert.state, p.alert.count, p.alert.last_seen)).collect()
}

#[test]
fn an_episode_ends_when_the_condition_did_not_hold_for_rearm() {
    let world = count(1, "10s", Some("10s"), Some("1h"));
    assert_eq!(world.alerts(&[hit(0), hit(10)]).len(), 1);
    let alerts = world.alerts(&[hit(0), hit(11)]);
    assert_eq!(alerts.len(), 2);
    assert!(alerts.iter().all(|a| a.state == Ended && a.revision == 2 && !a.continuation));
    assert_ne!(alerts[0].alert_id, alerts[1].alert_id);
}

#[test]
fn events_at_which_it_does_not_hold_join_but_do_not_extend() {
    let world = count(3, "10s", Some("20s"), Some("1h"));
    let alerts = world.alerts(&[hit(0), hit(1), hit(2), hit(20), hit(22), hit(23)]);
    // The crossing at 2; 20 and 22 join without holding; the end is at 22.
    assert_eq!(alerts.len(), 2);
    assert_eq!((alerts[0].count, alerts[0].last_seen), (5, secs(22)));
    assert_eq!((alerts[1].first_seen, alerts[1].count), (secs(20), 3));
}

#[test]
fn midnight_cuts_and_the_next_is_a_continuation() {
    let world = count(2, "1m", None, None);
    let midnight = 12 * 3600;
    let hits = [-50, -40, -1, 0, 1].map(|t| hit(midnight + t));
    // The store takes over what became of the first by its last revision, which therefore comes before the next.
    let said: Vec<_> =
        revisions(&world, &hits).into_iter().map(|(number, state, ..)| (number, state)).collect();
    assert_eq!(said, [(1, Active), (2, Ended), (1, Active), (2, Active), (3, Ended)]);
    let alerts = world.alerts(&hits);
    assert_eq!(alerts.len(), 2);
    assert_eq!(
        (alerts[0].count, alerts[0].last_seen, alerts[0].continuation),
        (3, secs(midnight - 1), false)
    );
    // The witness may lie before midnight.
    assert_eq!((alerts[1].crossed_at, alerts[1].count, alerts[1].continuation), (secs(midnight), 3, true));
    assert_eq!(alerts[1].first_seen, secs(midnight - 1));
    // Exactly `rearm` after the last one still is a continuation, later is not.
    let rearm = count(1, "1m", Some("10m"), None);
    let of =
        |gap| rearm.alerts(&[hit(midnight - 60), hit(midnight - 60 + gap)]).last().map(|a| a.continuation);
    assert_eq!((of(600), of(601)), (Some(true), Some(false)));
    // Only if it held on the very day before.
    let long = count(1, "1m", Some("3d"), None);
    let alerts = long.alerts(&[hit(0), hit(2 * 86_400)]);
    assert_eq!(alerts.iter().map(|a| a.continuation).collect::<Vec<_>>(), [false, false]);
}

#[test]
fn revisions_come_at_the_right_ends_of_intervals_in_which_an_event_joined() {
    let world = count(1, "5m", Some("5m"), Some("1m"));
    assert_eq!(
        revisions(&world, &[hit(0), hit(0), hit(60), hit(61), hit(119), hit(240)]),
        [
            (1, Active, 1, secs(0)),
            (2, Active, 3, secs(60)),
            (3, Active, 5, secs(119)),
            (4, Active, 6, secs(240)),
            (5, Ended, 6, secs(240)),
        ]
    );
    // Due at the same instant as the end: one. Cut short by the end: none.
    let same = count(1, "1m", Some("1m"), Some("2m"));
    assert_eq!(revisions(&same, &[hit(0), hit(60)]), [(1, Active, 1, secs(0)), (2, Ended, 2, secs(60))]);
    let short = count(1, "1m", Some("1m"), Some("5m"));
    assert_eq!(revisions(&short, &[hit(0), hit(30)]), [(1, Active, 1, secs(0)), (2, Ended, 2, secs(30))]);
}

#[test]
fn a_burst_is_one_alert_with_a_count_and_ten_references() {
    let world = count(10, "5m", None, None);
    let events: Vec<_> = (0..5_000).map(|n| Ev { offset: n, ..hit(n / 100) }).collect();
    let alerts = world.alerts(&events);
    assert_eq!((alerts.len(), alerts[0].count, alerts[0].value), (1, 5_000, Number::Int(5_000)));
    let offsets: Vec<_> = alerts[0].evidence.iter().map(|e| e.offset).collect();
    assert_eq!(offsets, [0, 1, 2, 3, 4, 4_995, 4_996, 4_997, 4_998, 4_999]);
    assert_eq!(alerts[0].evidence_total, 5_000);
}

#[test]
fn flags_of_all_events_are_in_the_alert_and_those_of_each_in_the_evidence() {
    let world = count(2, "5m", None, None);
    let late = Ev { flags: Flags::CLOCK_LATE, ..hit(0) };
    let missing = Ev { flags: Flags::CLOCK_MISSING, ..hit(2) };
    let out = world.run(&[late, hit(1), missing]);
    let alerts = last(&out);
    assert_eq!(alerts[0].flags, Flags::CLOCK_LATE.with(Flags::CLOCK_MISSING));
    assert_eq!(alerts[0].evidence[1].flags, Flags::NONE);
    assert_eq!(out.counters.values().next().map(|c| c.flagged), Some(2));
}

#[test]
fn distinct_values_of_an_episode_are_capped_but_not_the_comparison() {
    let rule = |n| correlation("c", ValueCount(vec!["port".into()]), &[0], &["user"], "5m", &[(Cmp::Gte, n)]);
    let events: Vec<_> = (0..1_500)
        .map(|n| Ev { offset: n, ..ev(0, &[0], &[("user", "u"), ("port", &n.to_string())]) })
        .collect();
    let small = world(vec![detection("d"), rule(10)]).alerts(&events);
    assert_eq!((small[0].value, small[0].flags, small[0].count), (Number::Int(1_000), Flags::CAPPED, 1_500));
    let large = world(vec![detection("d"), rule(1_200)]).alerts(&events);
    assert_eq!((large[0].value, large[0].flags), (Number::Int(1_200), Flags::CAPPED));
    let exact = world(vec![detection("d"), rule(1_500)]).alerts(&events);
    assert_eq!((exact[0].value, exact[0].flags), (Number::Int(1_500), Flags::NONE));
}

#[test]
fn the_witness_of_value_count_is_the_latest_event_of_the_values_seen_last() {
    let rule = correlation("c", ValueCount(vec!["port".into()]), &[0], &["user"], "1m", &[(Cmp::Gte, 3)]);
    let world = world(vec![detection("d"), rule]);
    let at = |t, port| ev(t, &[0], &[("user", "u"), ("port", port)]);
    let alerts = world.alerts(&[at(0, "1"), at(1, "2"), at(2, "1"), at(3, "1"), at(4, "3")]);
    let offsets: Vec<_> = alerts[0].evidence.iter().map(|e| e.offset).collect();
    assert_eq!(offsets, [1, 3, 4]);
    assert_eq!(alerts[0].first_seen, secs(1));
}

#[test]
fn single_events_group_by_their_first_entity() {
    let world = world(vec![single("s", true)]);
    let alerts = world.alerts(&[
        ev(0, &[0], &[("source.ip", "2001:db8::1"), ("user", "u")]),
        ev(1, &[0], &[("source.ip", "2001:db8::2"), ("user", "v")]),
        ev(2, &[0], &[("user", "u")]),
    ]);
    let keys: Vec<_> = alerts.iter().map(|a| serde_json::to_string(&a.key).unwrap()).collect();
    assert_eq!(keys, [r#"{"source.ip":"2001:db8::/64"}"#, r#"{"user":"u"}"#]);
    assert_eq!((alerts[0].count, alerts[0].value), (2, Number::Int(1)));
    insta::assert_json_snapshot!(alerts[0]);
}

#[test]
fn single_events_without_entity_are_alerts_of_their_own() {
    let world = world(vec![single("s", true)]);
    let alerts = world.alerts(&[ev(0, &[0], &[]), ev(1, &[0], &[])]);
    assert_eq!(alerts.len(), 2);
    assert!(
        alerts.iter().all(|a| a.key.is_empty() && a.entity.is_none() && a.state == Ended && a.revision == 2)
    );
}

#[test]
fn an_entity_of_the_rule_replaces_the_list() {
    let rule =
        Rule { extras: Extras { entity: Some("host".into()), ..Extras::default() }, ..single("s", true) };
    let alerts = world(vec![rule]).alerts(&[ev(0, &[0], &[("source.ip", "192.0.2.1"), ("host", "h")])]);
    assert_eq!(serde_json::to_string(&alerts[0].key).unwrap(), r#"{"host":"h"}"#);
    let extras = Extras { entity: Some("host".into()), risk: Some(7), ..Extras::default() };
    let rule = correlation("c", EventCount, &[0], &["user", "host"], "1m", &[(Cmp::Gte, 1)]);
    let alerts = world(vec![detection("d"), Rule { extras, ..rule }]).alerts(&[ev(
        0,
        &[0],
        &[("user", "u"), ("host", "h")],
    )]);
    assert_eq!(alerts[0].entity.as_ref().map(|e| (&*e.kind, e.value.text())), Some(("host", "h")));
    assert_eq!(alerts[0].risk, 7);
}

#[test]
fn a_storm_folds_what_comes_after_a_thousand_in_an_hour() {
    let world = world(vec![single("s", true)]);
    let events: Vec<_> = (0..1_010)
        .map(|n| Ev {
            offset: n,
            ..ev(n / 10, &[0], &[("source.ip", &format!("192.0.{}.{}", n / 250, n % 250))])
        })
        .collect();
    let alerts = world.alerts(&events);
    assert_eq!(alerts.len(), 1_001);
    let storm = alerts.iter().find(|a| a.flags.has(Flags::STORM)).unwrap();
    assert_eq!((storm.count, storm.crossed_at, storm.state), (10, secs(100), Ended));
    insta::assert_json_snapshot!(storm);
    // The next clock hour starts anew.
    let later: Vec<_> = (0..5).map(|n| ev(3_600 + n, &[0], &[("user", &format!("u{n}"))])).collect();
    assert_eq!(world.alerts(&[events, later].concat()).len(), 1_006);
}

#[test]
fn folded_episodes_still_feed_chains() {
    let world = world(vec![
        detection("d"),
        correlation("child", EventCount, &[0], &["user"], "1m", &[(Cmp::Gte, 1)]),
        correlation("parent", EventCount, &[1], &[], "1h", &[(Cmp::Gte, 1_005)]),
    ]);
    let events: Vec<_> =
        (0..1_005).map(|n| Ev { offset: n, ..ev(n / 20, &[0], &[("user", &format!("u{n}"))]) }).collect();
    let alerts = world.alerts(&events);
    assert_eq!(alerts.iter().filter(|a| &*a.rule.id == "parent").count(), 1);
    assert_eq!(alerts.len(), 1_002);
}

#[test]
fn over_budget_known_keys_stay_and_it_is_said_once() {
    let mut world = count(2, "1m", None, None);
    world.budget = 1;
    let events: Vec<_> = (0..500).map(|n| ev(n / 50, &[0], &[("user", &format!("u{}", n % 250))])).collect();
    let out = world.run(&events);
    assert!(out.counters.values().all(|c| c.evicted > 0));
    // Once that it began, and once that it is over.
    assert!(!out.health.is_empty() && out.health.len() <= 128);
    assert!(!out.alerts.is_empty());
}

#[test]
fn a_rule_waits_only_for_the_sources_it_reads() {
    let world = world(vec![single("fw-only", true), single("any", true)]);
    let (mut correlator, mut out) = (world.correlator(), Correlated::default());
    push(&mut correlator, &[ev(0, &[0, 1], &[("user", "u")])], &mut out);
    // Source json may hold anything, so both wait for it; `api` concerns the second only.
    correlator.release(&[Micros::MIN, secs(1), secs(9)], usize::MAX, &mut out);
    assert_eq!(out.alerts.iter().map(|p| p.rule.0).collect::<Vec<_>>(), [0]);
    // Strictly below.
    correlator.release(&[secs(0), secs(1), secs(9)], usize::MAX, &mut out);
    assert_eq!(out.alerts.len(), 1);
    correlator.release(&[secs(1), secs(1), secs(9)], usize::MAX, &mut out);
    assert_eq!(out.alerts.iter().map(|p| p.rule.0).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn a_release_stops_at_a_number_of_alerts_and_goes_on_where_it_stopped() {
    let rule = |n: usize| correlation(&format!("c{n}"), EventCount, &[0], &["user"], "10s", &[(Cmp::Gte, 1)]);
    let world = world(std::iter::once(detection("d")).chain((0..4).map(rule)).collect());
    // A storm: 300 users within 100 ms, four rules; all end within 100 ms, too.
    let events: Vec<_> = (0..300)
        .map(|n| {
            let of = ev(5, &[0], &[("user", &format!("u{n}"))]);
            Ev { offset: n, time: Micros(of.time.0 + n / 3 * 1_000), ..of }
        })
        .collect();
    let expected = world.run(&events);
    assert_eq!(expected.alerts.len(), 2 * 4 * 300);
    let (mut correlator, mut got, mut rounds) = (world.correlator(), Correlated::default(), 0);
    push(&mut correlator, &events, &mut got);
    loop {
        let mut out = Correlated::default();
        let all = correlator.release(&[secs(1_000); 3], 50, &mut out);
        // One time of the storm, or one step of its end, holds a few more.
        assert!(out.alerts.len() < 50 + 4 * 33, "{}", out.alerts.len());
        assert!(all || out.alerts.len() >= 50);
        got.alerts.extend(out.alerts);
        rounds += 1;
        if all {
            break;
        }
    }
    assert!(rounds > 20, "{rounds}");
    let by_id = |out: &Correlated| {
        let bodies = out.alerts.iter().map(|p| serde_json::to_string(&p.alert).unwrap());
        bodies.collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!((got.alerts.len(), by_id(&got)), (expected.alerts.len(), by_id(&expected)));
}

/// A set of sources in a storm that never ends keeps no other from speaking.
#[test]
fn a_storm_in_one_set_of_sources_does_not_silence_another() {
    let rule = |n: usize| correlation(&format!("c{n}"), EventCount, &[0], &["user"], "1s", &[(Cmp::Gte, 1)]);
    let quiet = correlation("quiet", EventCount, &[1], &["host"], "1s", &[(Cmp::Gte, 1)]);
    let rules = [detection("fw-d"), detection("d")].into_iter().chain((0..12).map(rule)).chain([quiet]);
    let world = world(rules.collect());
    let mut correlator = world.correlator();
    push(
        &mut correlator,
        &[Ev { offset: 1_000_000, ..ev(1, &[1], &[("host", "h")]) }],
        &mut Correlated::default(),
    );
    let mut spoken = None;
    for second in 1..60 {
        let mut out = Correlated::default();
        push(&mut correlator, &[ev(second, &[0], &[("user", &format!("u{second}"))])], &mut out);
        let all = correlator.release(&[secs(second + 1); 3], 10, &mut out);
        assert!(!all || second == 1, "more is due than may be said");
        if out.alerts.iter().any(|a| &*a.alert.rule.id == "quiet") {
            spoken = spoken.or(Some(second));
        }
    }
    assert!(spoken.is_some_and(|second| second <= 2), "{spoken:?}");
}
