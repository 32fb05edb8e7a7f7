//! The `vedette:` map and inline tests.

use rstest::rstest;
use serde_json::json;

use super::*;

fn with(map: &str) -> String {
    format!(
        "title: t\nlogsource: {{category: firewall}}\ndetection: {{s: {{f: 1}}, condition: s}}\nvedette:\n{map}"
    )
}

fn correlation_with(map: &str) -> String {
    format!(
        "title: b\nname: b\nlogsource: {{category: firewall}}\ndetection: {{s: {{f: 1}}, condition: s}}\n---\ntitle: t\n\
         correlation: {{type: event_count, rules: [b], group-by: [src_ip], timespan: 5m, condition: {{gte: 5}}}}\nvedette:\n{map}"
    )
}

#[test]
fn extras_are_read() {
    let rule = only(&with(
        "  emit: {rearm: 10m, update: 30s}\n  entity: src_ip\n  risk: {score: 70}\n  next_steps: [Ask the owner, 'Look at {source.ip}']\n  summary: '{count} from {source.ip}'\n  mode: live\n",
    ));
    let expected = Extras {
        rearm: Some(Span::secs(600)),
        update: Some(Span::secs(30)),
        entity: Some("src_ip".into()),
        risk: Some(70),
        summary: Some("{count} from {source.ip}".into()),
        next_steps: vec!["Ask the owner".into(), "Look at {source.ip}".into()],
    };
    assert_eq!(rule.extras, expected);
}

#[rstest]
#[case("  next_steps: {a: b}\n", "wrong-type")]
#[case("  next_steps: ['']\n", "wrong-type")]
#[case("  until: x\n", "not-supported")]
#[case("  mode: shadow\n", "not-supported")]
#[case("  risk: {entity: x}\n", "not-supported")]
#[case("  entitty: x\n", "unknown-key")]
#[case("  mode: loud\n", "unknown-mode")]
#[case("  risk: {score: 2000}\n", "wrong-type")]
#[case("  risk: {score: -1}\n", "wrong-type")]
#[case("  risk: {}\n", "missing-key")]
#[case("  emit: {rearm: 5}\n", "wrong-type")]
#[case("  emit: {often: 5m}\n", "unknown-key")]
#[case("  summary: 'a {b'\n", "bad-template")]
#[case("  summary: 'a }b'\n", "bad-template")]
#[case("  - a\n", "wrong-type")]
fn refused_extras(#[case] map: &str, #[case] code: &str) {
    assert_eq!(refused(&with(map)).2, code);
}

#[rstest]
#[case("  entity: dst_ip\n", "unknown-entity")]
#[case("  summary: '{dst_ip}'\n", "bad-template")]
fn a_correlation_knows_its_key(#[case] map: &str, #[case] code: &str) {
    assert_eq!(refused(&correlation_with(map)).2, code);
    let set =
        load_texts(&[&correlation_with("  entity: src_ip\n  summary: '{src_ip} {count} {value} {title}'\n")]);
    assert_eq!(set.rejected, []);
}

#[test]
fn emission_means_nothing_where_windows_are_judged() {
    let text = correlation_with("  emit: {rearm: 5m}\n").replace("gte: 5", "lt: 5");
    assert_eq!(refused(&text).2, "meaningless-key");
}

#[test]
fn a_rule_that_is_off_is_checked_and_left_out() {
    let set = load_texts(&[&with("  mode: off\n")]);
    assert_eq!((set.rules.len(), set.rejected.len(), set.warnings[0].code), (0, 0, "switched-off"));
    assert_eq!(refused(&with("  mode: off\n").replace("f: 1", "f|x: 1")).2, "unknown-modifier");
    let correlation = format!(
        "name: b\n{}---\ntitle: c\ncorrelation: {{type: temporal, rules: [b], timespan: 5m}}\n",
        with("  mode: off\n")
    );
    assert_eq!(refused(&correlation).2, "refers-to-off");
}

#[test]
fn templates_are_repeated_at_their_pace() {
    let rule = only(&with(
        "  tests:\n    - name: many\n      events: {template: {a.b: x, n: 5, l: [1, null], host: 'h{n}', port: '{n}'}, count: 3, every: 4s}\n      \
         expect: {alerts: 1, group: {src_ip: 203.0.113.9}, count: 3}\n",
    ));
    let test = &rule.tests[0];
    assert_eq!((&*test.name, test.line, test.alerts, test.count), ("many", 6, 1, Some(3)));
    assert_eq!(json!(test.group), json!({"src_ip": "203.0.113.9"}));
    let times: Vec<i64> = test.events.iter().map(|(at, _)| at.0 / 1_000_000).collect();
    assert_eq!(times, [0, 4, 8]);
    assert_eq!(json!(test.events[1].1), json!({"a.b": "x", "n": 5, "l": [1, null], "host": "h2", "port": 2}));
}

#[test]
fn blocks_follow_one_another_and_at_sets_the_clock() {
    let rule = only(&with(
        "  tests:\n    - name: sequence\n      events:\n        - {template: {e: a}, count: 2, every: 10s}\n        - list: [{e: b}, {e: c, at: 90s}, {e: d}]\n        \
         - {template: {e: early}, at: 5s}\n        - {e: alone}\n        - {at: 2m, e: last}\n      expect: {alerts: 0}\n",
    ));
    let events: Vec<(i64, &str)> =
        rule.tests[0].events.iter().map(|(at, e)| (at.0 / 1_000_000, e["e"].as_str().unwrap())).collect();
    assert_eq!(
        events,
        [(0, "a"), (5, "early"), (6, "alone"), (10, "a"), (20, "b"), (90, "c"), (91, "d"), (120, "last")]
    );
    assert!(rule.tests[0].events.iter().all(|(_, e)| !e.contains_key("at")));
}

#[rstest]
#[case("{name: x, events: {template: {a: 1}}}", "missing-key")]
#[case("{name: x, expect: {alerts: 1}}", "missing-key")]
#[case("{name: x, events: {count: 1}, expect: {alerts: 1}}", "missing-key")]
#[case("{name: x, events: [{count: {a: 1}}], expect: {alerts: 1}}", "wrong-type")]
#[case("{name: x, events: [{template: {a: 1}, field: 1}], expect: {alerts: 1}}", "unknown-key")]
#[case("{name: x, events: {template: {a: 1}, list: []}, expect: {alerts: 1}}", "missing-key")]
#[case("{name: x, events: {list: [], count: 2}, expect: {alerts: 1}}", "meaningless-key")]
#[case("{name: x, events: {template: {a: 1}}, expect: {alerts: 0, count: 1}}", "meaningless-key")]
#[case("{name: x, events: {template: {a: 1}}, expect: {alert: 0}}", "unknown-key")]
#[case("{name: x, events: {template: {a: {b: 1}}}, expect: {alerts: 0}}", "wrong-type")]
#[case("{name: x, events: {template: {a: 1}, every: 5}, expect: {alerts: 0}}", "wrong-type")]
#[case("{name: x, events: {template: {a: 1}, count: 999999999999}, expect: {alerts: 0}}", "too-large")]
fn refused_tests(#[case] test: &str, #[case] code: &str) {
    assert_eq!(refused(&with(&format!("  tests:\n    - {test}\n"))).2, code);
}
