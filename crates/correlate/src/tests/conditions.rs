//! Each sentence of "Conditions".

use vedette_event::{Kind, RuleIx, alert::Number};
use vedette_sigma::ir::{Cmp, CorrelationKind::*, Rule, RuleKind};

use super::harness::*;

fn key(alert: &vedette_event::Alert) -> String {
    serde_json::to_string(&alert.key).unwrap()
}

#[test]
fn windows_slide_and_leave_out_their_left_end() {
    let world =
        world(vec![detection("d"), correlation("c", EventCount, &[0], &["user"], "10s", &[(Cmp::Gte, 3)])]);
    let hit = |t| ev(t, &[0], &[("user", "u")]);
    assert!(world.alerts(&[hit(0), hit(5), hit(10)]).is_empty());
    let alerts = world.alerts(&[hit(1), hit(5), hit(10)]);
    assert_eq!(alerts.len(), 1);
    assert_eq!(alerts[0].crossed_at, secs(10));
    // Not bucketed: across a fixed boundary, and after an event that fell out of the window.
    assert_eq!(world.alerts(&[hit(0), hit(58), hit(60), hit(62)]).len(), 1);
}

#[test]
fn event_count_counts_each_event_once_whatever_it_matches() {
    let world = world(vec![
        detection("d"),
        detection("e"),
        correlation("c", EventCount, &[0, 1], &["user"], "10s", &[(Cmp::Gte, 2)]),
    ]);
    assert!(world.alerts(&[ev(0, &[0, 1], &[("user", "u")])]).is_empty());
    let alerts = world.alerts(&[ev(0, &[0, 1], &[("user", "u")]), ev(1, &[1], &[("user", "u")])]);
    assert_eq!((alerts[0].count, alerts[0].value), (2, Number::Int(2)));
}

#[test]
fn repeat_counts_weigh_event_count_within_bounds() {
    let world =
        world(vec![detection("d"), correlation("c", EventCount, &[0], &["user"], "10s", &[(Cmp::Gt, 9)])]);
    let alerts = world.alerts(&[
        ev(0, &[0], &[("user", "u"), ("repeat", "3")]),
        ev(1, &[0], &[("user", "u"), ("repeat", "4")]),
        ev(2, &[0], &[("user", "u"), ("repeat", "99999")]),
    ]);
    // As few of the newest as suffice: the last alone.
    assert_eq!((alerts[0].count, alerts[0].value), (1, Number::Int(10_000)));
    let alerts = world.alerts(&[
        ev(0, &[0], &[("user", "u"), ("repeat", "0")]),
        ev(1, &[0], &[("user", "u"), ("repeat", "4")]),
        ev(2, &[0], &[("user", "u"), ("repeat", "x")]),
        ev(3, &[0], &[("user", "u"), ("repeat", "5")]),
    ]);
    assert_eq!((alerts[0].count, alerts[0].value), (3, Number::Int(10)));
    // Source json names no weight.
    let json = |t| crate::tests::harness::Ev { source: 2, ..ev(t, &[0], &[("user", "u"), ("repeat", "50")]) };
    assert!(world.alerts(&[json(0), json(1)]).is_empty());
}

#[test]
fn value_count_counts_tuples_and_elements() {
    let fields = ValueCount(vec!["port".into(), "host".into()]);
    let world = world(vec![
        detection("d"),
        correlation("tuples", fields, &[0], &["user"], "10s", &[(Cmp::Gte, 3)]),
        correlation("list", ValueCount(vec!["tags".into()]), &[0], &["user"], "10s", &[(Cmp::Gte, 3)]),
    ]);
    let ids =
        |alerts: &[vedette_event::Alert]| alerts.iter().map(|a| a.rule.id.to_string()).collect::<Vec<_>>();
    let at = |t, port, host| ev(t, &[0], &[("user", "u"), ("port", port), ("host", host)]);
    assert!(world.alerts(&[at(0, "1", "a"), at(1, "1", "a"), at(2, "1", "b")]).is_empty());
    assert_eq!(ids(&world.alerts(&[at(0, "1", "a"), at(1, "2", "a"), at(2, "1", "b")])), ["tuples"]);
    // An event without the field does not take part.
    let alerts = world.alerts(&[
        at(0, "1", "a"),
        ev(1, &[0], &[("user", "u"), ("port", "7")]),
        at(2, "2", "a"),
        at(3, "3", "a"),
    ]);
    assert_eq!((alerts[0].count, alerts[0].value), (3, Number::Int(3)));
    // Each element of a list; the number 1 is not the text "1".
    let alerts = world.alerts(&[ev(0, &[0], &[("user", "u"), ("tags", r#"["1", 1, 1.0, null, "b"]"#)])]);
    assert_eq!((ids(&alerts), alerts[0].value), (vec!["list".to_owned()], Number::Int(3)));
}

#[test]
fn temporal_needs_distinct_rules_and_one_event_may_satisfy_several() {
    let world = world(vec![
        detection("a"),
        detection("b"),
        detection("c"),
        correlation("all", Temporal, &[0, 1], &["user"], "10s", &[(Cmp::Gte, 2)]),
        correlation("two", Temporal, &[0, 1, 2], &["user"], "10s", &[(Cmp::Gte, 2)]),
    ]);
    let u = [("user", "u")];
    assert!(world.alerts(&[ev(0, &[0], &u), ev(1, &[0], &u)]).is_empty());
    assert_eq!(world.alerts(&[ev(0, &[0, 1], &u)]).len(), 2);
    let alerts = world.alerts(&[ev(0, &[0], &u), ev(2, &[2], &u)]);
    assert_eq!(alerts.len(), 1);
    assert_eq!(alerts[0].explanation.details["matched"], serde_json::json!(["a", "c"]));
    assert!(world.alerts(&[ev(0, &[0], &u), ev(10, &[1], &u)]).is_empty());
}

#[test]
fn temporal_ordered_is_a_chain_of_different_events_that_ends_here() {
    let world = world(vec![
        detection("a"),
        detection("b"),
        detection("c"),
        correlation("o", TemporalOrdered, &[0, 1, 2], &["user"], "10s", &[]),
    ]);
    let u = [("user", "u")];
    assert!(world.alerts(&[ev(0, &[0, 1, 2], &u)]).is_empty());
    assert!(world.alerts(&[ev(0, &[0], &u), ev(1, &[2], &u), ev(2, &[1], &u)]).is_empty());
    assert!(world.alerts(&[ev(0, &[0], &u), ev(1, &[1, 2], &u)]).is_empty());
    assert!(world.alerts(&[ev(0, &[0], &u), ev(5, &[1], &u), ev(10, &[2], &u)]).is_empty());
    let alerts = world.alerts(&[
        ev(0, &[0], &u),
        ev(1, &[0], &u),
        ev(2, &[1], &u),
        ev(3, &[0], &u),
        ev(4, &[1], &u),
        ev(5, &[0], &u),
        ev(6, &[2], &u),
    ]);
    // Going back from the crossing event, the latest match of each step before the next step's event.
    let offsets: Vec<_> = alerts[0].evidence.iter().map(|e| e.offset).collect();
    assert_eq!(offsets, [3, 4, 6]);
    assert_eq!((alerts[0].value, alerts[0].count), (Number::Int(3), 3));
    insta::assert_json_snapshot!(alerts[0]);
}

#[test]
fn judged_conditions_look_at_aligned_windows_when_they_end() {
    let world = world(vec![
        detection("d"),
        correlation("few", EventCount, &[0], &["user"], "1m", &[(Cmp::Lt, 3)]),
        correlation("range", EventCount, &[0], &["user"], "1m", &[(Cmp::Gte, 2), (Cmp::Lte, 3)]),
    ]);
    let hit = |t| ev(t, &[0], &[("user", "u")]);
    let alerts = world.alerts(&[hit(0), hit(10), hit(59), hit(60), hit(61), hit(180)]);
    let seen: Vec<_> =
        alerts.iter().map(|a| (a.rule.id.to_string(), a.crossed_at, a.count, a.revision, a.state)).collect();
    use vedette_event::State::Ended;
    assert_eq!(
        seen,
        [
            ("range".to_owned(), secs(59), 3, 1, Ended),
            ("few".to_owned(), secs(61), 2, 1, Ended),
            ("range".to_owned(), secs(61), 2, 1, Ended),
            ("few".to_owned(), secs(180), 1, 1, Ended),
        ]
    );
    insta::assert_json_snapshot!(alerts[1]);
}

#[test]
fn judged_value_count_and_temporal() {
    let world = world(vec![
        detection("a"),
        detection("b"),
        correlation("v", ValueCount(vec!["port".into()]), &[0, 1], &["user"], "1m", &[(Cmp::Eq, 2)]),
        correlation("t", Temporal, &[0, 1], &["user"], "1m", &[(Cmp::Neq, 2)]),
    ]);
    let at = |t, rule, port| ev(t, &[rule], &[("user", "u"), ("port", port)]);
    let ids = |events: &[Ev]| world.alerts(events).iter().map(|a| a.rule.id.to_string()).collect::<Vec<_>>();
    assert_eq!(ids(&[at(0, 0, "1"), at(1, 1, "1")]), Vec::<String>::new());
    assert_eq!(ids(&[at(0, 0, "1"), at(1, 0, "2"), at(2, 0, "2")]), ["t", "v"]);
    assert_eq!(ids(&[at(0, 0, "1"), at(1, 1, "2"), at(2, 0, "3")]), Vec::<String>::new());
}

#[test]
fn a_chain_gets_one_event_for_each_child_episode() {
    let world = world(vec![
        detection("d"),
        correlation("child", EventCount, &[0], &["user"], "10s", &[(Cmp::Gte, 2)]),
        correlation("parent", EventCount, &[1], &["host"], "10m", &[(Cmp::Gte, 2)]),
    ]);
    let hit = |t, user| ev(t, &[0], &[("user", user), ("host", "h"), ("repeat", "1")]);
    // Two users cross, one of them goes on for long: two events.
    let alerts =
        world.alerts(&[hit(0, "u"), hit(1, "u"), hit(2, "u"), hit(3, "u"), hit(4, "v"), hit(5, "v")]);
    let seen: Vec<_> = alerts.iter().map(|a| (a.rule.id.to_string(), a.crossed_at, a.count)).collect();
    assert_eq!(
        seen,
        [
            ("child".to_owned(), secs(1), 4),
            ("child".to_owned(), secs(5), 2),
            ("parent".to_owned(), secs(5), 2)
        ]
    );
    assert_eq!(key(&alerts[2]), r#"{"host":"h"}"#);
}

#[test]
fn one_event_that_crosses_two_children_is_one_event_matching_both_and_weighs_one() {
    let world = world(vec![
        detection("d"),
        correlation("c1", EventCount, &[0], &["user"], "10s", &[(Cmp::Gte, 1)]),
        correlation("c2", EventCount, &[0], &["host"], "10s", &[(Cmp::Gte, 1)]),
        correlation("both", Temporal, &[1, 2], &["user"], "10s", &[(Cmp::Gte, 2)]),
        correlation("sum", EventCount, &[1, 2], &["user"], "10s", &[(Cmp::Gte, 1)]),
    ]);
    let alerts = world.alerts(&[ev(0, &[0], &[("user", "u"), ("host", "h"), ("repeat", "9")])]);
    let values: Vec<_> = alerts.iter().map(|a| (a.rule.id.to_string(), a.count, a.value)).collect();
    assert_eq!(
        values,
        [
            ("both".to_owned(), 1, Number::Int(2)),
            ("c1".to_owned(), 1, Number::Int(9)),
            ("c2".to_owned(), 1, Number::Int(9)),
            ("sum".to_owned(), 1, Number::Int(1)),
        ]
    );
}

#[test]
fn continuations_of_a_child_give_no_event() {
    let world = world(vec![
        detection("d"),
        correlation("child", EventCount, &[0], &["user"], "2m", &[(Cmp::Gte, 1)]),
        correlation("parent", EventCount, &[1], &["user"], "1d", &[(Cmp::Gte, 2)]),
    ]);
    let midnight = 12 * 3600;
    let hit = |t| ev(t, &[0], &[("user", "u")]);
    let alerts = world.alerts(&[hit(midnight - 60), hit(midnight), hit(midnight + 30)]);
    assert_eq!(alerts.iter().filter(|a| &*a.rule.id == "parent").count(), 0);
    assert_eq!(alerts.iter().map(|a| a.continuation).collect::<Vec<_>>(), [false, true]);
    let alerts = world.alerts(&[hit(midnight - 121), hit(midnight)]);
    assert_eq!(alerts.iter().filter(|a| &*a.rule.id == "parent").count(), 1);
    assert!(alerts.iter().all(|a| !a.continuation));
}

#[test]
fn events_without_a_key_part_do_not_take_part_and_are_counted() {
    let world = world(vec![
        detection("d"),
        correlation("c", EventCount, &[0], &["user", "host"], "10s", &[(Cmp::Gte, 1)]),
    ]);
    let mut null = ev(2, &[0], &[("user", "u")]);
    null.fields.push(("host", Kind::Null, String::new()));
    let mut list = ev(3, &[0], &[("user", "u")]);
    list.fields.push(("host", Kind::List, "[1]".into()));
    let out =
        world.run(&[ev(1, &[0], &[("user", "u")]), null, list, ev(4, &[0], &[("user", "u"), ("host", "h")])]);
    assert_eq!(last(&out).len(), 1);
    let counters = out.counters[&RuleIx(1)];
    assert_eq!((counters.matched, counters.without_key), (1, 3));
}

#[test]
fn a_rule_inside_chains_counts_what_it_saw_once() {
    let inner = |id: &str, rules: &[u32]| Rule {
        emits: false,
        ..correlation(id, EventCount, rules, &["user", "host"], "10s", &[(Cmp::Gte, 2)])
    };
    let root =
        |id: &str, rules: &[u32]| correlation(id, EventCount, rules, &["user"], "1m", &[(Cmp::Gte, 1)]);
    let mut world = world(vec![
        detection("d"),
        detection("e"),
        inner("child", &[0]),
        inner("between", &[2]),
        root("first", &[3, 1]),
        root("second", &[2]),
    ]);
    let mut late = ev(1, &[0], &[("user", "u"), ("host", "h")]);
    late.flags = vedette_event::Flags::CLOCK_LATE;
    let events = [
        ev(0, &[0], &[("user", "u"), ("host", "h")]),
        late,
        ev(2, &[1], &[("user", "u"), ("host", "h")]),
        ev(3, &[0], &[("user", "u")]),
        ev(4, &[0, 1], &[]),
    ];
    for notices in [false, true] {
        world.notices = notices;
        let out = world.run(&events);
        let of = |rule: u32| {
            let counters = out.counters[&RuleIx(rule)];
            (counters.matched, counters.flagged, counters.without_key)
        };
        assert_eq!([2, 3, 4, 5].map(of), [(2, 1, 2), (2, 1, 2), (3, 1, 2), (2, 1, 2)]);
    }
}

#[test]
fn keys_compare_by_type_and_addresses_by_network() {
    let world = world(vec![
        detection("d"),
        correlation("c", EventCount, &[0], &["source.ip"], "10s", &[(Cmp::Gte, 2)]),
    ]);
    let at = |t, ip| ev(t, &[0], &[("source.ip", ip)]);
    let alerts = world.alerts(&[at(0, "2001:db8::1"), at(1, "2001:db8::2:3:4")]);
    assert_eq!(key(&alerts[0]), r#"{"source.ip":"2001:db8::/64"}"#);
    assert!(world.alerts(&[at(0, "2001:db8::1"), at(1, "2001:db8:0:1::1")]).is_empty());
    assert!(world.alerts(&[at(0, "192.0.2.1"), at(1, "192.0.2.2")]).is_empty());
    // Source json declares no types; numbers and texts differ.
    let json = |t, ip| Ev { source: 2, ..at(t, ip) };
    assert!(world.alerts(&[json(0, "2001:db8::1"), json(1, "2001:db8::2")]).is_empty());
    let mut text = json(1, "5");
    text.fields[0].1 = Kind::Text;
    assert!(world.alerts(&[json(0, "5"), text]).is_empty());
}

#[test]
fn without_group_by_there_is_one_group() {
    let world = world(vec![detection("d"), correlation("c", EventCount, &[0], &[], "10s", &[(Cmp::Gte, 2)])]);
    let alerts = world.alerts(&[ev(0, &[0], &[("user", "u")]), ev(1, &[0], &[])]);
    assert_eq!((key(&alerts[0]).as_str(), &alerts[0].entity), ("{}", &None));
}

#[test]
fn aliases_take_the_named_field_and_an_event_may_be_in_two_groups() {
    let mut rule = correlation("c", Temporal, &[0, 1], &["who"], "10s", &[(Cmp::Gte, 2)]);
    let RuleKind::Correlation(correlation) = &mut rule.kind else { panic!() };
    correlation.group_by[0].fields = vec![(RuleIx(0), "a".into()), (RuleIx(1), "b".into())];
    let world = world(vec![detection("d"), detection("e"), rule]);
    let alerts = world.alerts(&[ev(0, &[0, 1], &[("a", "x"), ("b", "y")]), ev(1, &[0], &[("a", "y")])]);
    assert_eq!(alerts.len(), 1);
    assert_eq!(key(&alerts[0]), r#"{"who":"y"}"#);
    assert_eq!(alerts[0].count, 2);
    // In each group only for the rule that gave the key.
    assert!(world.alerts(&[ev(0, &[0, 1], &[("a", "x"), ("b", "y")])]).is_empty());
    assert_eq!(world.alerts(&[ev(0, &[0, 1], &[("a", "x"), ("b", "x")])]).len(), 1);
}

#[test]
fn the_first_present_name_of_a_field_counts() {
    let world =
        world(vec![detection("d"), correlation("c", EventCount, &[0], &["either"], "10s", &[(Cmp::Gte, 2)])]);
    let alerts = world.alerts(&[ev(0, &[0], &[("b", "x")]), ev(1, &[0], &[("a", "x"), ("b", "y")])]);
    assert_eq!(key(&alerts[0]), r#"{"either":"x"}"#);
    assert_eq!(
        world.plan.needed_fields(vedette_event::SourceIx(1)).iter().map(|f| &**f).collect::<Vec<_>>(),
        ["a", "b", "repeat"]
    );
}
