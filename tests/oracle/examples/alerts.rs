//! Which alerts there are, what they are called and in which order they stand; chains.
//!
//! In: hand-made events. Out: the alerts worked out by hand.

use vedette_event::{Identity, Order, TopicIx};

use super::*;

#[test]
fn an_id_is_the_hash_of_rule_meaning_key_and_crossing_event() {
    let (rules, c) = counting(1);
    let mut logs = log(&[a(7)]);
    logs[0].incarnation = 3;
    logs[0].partition = 5;
    let outcome = run(&rules, &logs);
    let alert = outcome.last_revisions().next().unwrap();
    let time = Micros((NOON + 7) * 1_000_000);
    let identity = Identity {
        rule_id: "count",
        meaning: &rules.0.get(c).meaning,
        key: &alert.key,
        crossing: Order { time, topic: TopicIx(0), incarnation: 3, partition: 5, offset: 0, index: 0 },
        topic: "t",
    };
    assert_eq!(alert.alert_id, identity.alert_id());
    assert_eq!(&*alert.rule.version, "0101010101010101");
}

#[test]
fn alerts_stand_by_crossing_event_rule_and_key() {
    let mut rules = Rules::default();
    let a = rules.detection("a", true);
    let z = rules.correlation("z", CorrelationKind::EventCount, &[a], &[(Cmp::Gte, 1)]);
    let b = rules.correlation("b", CorrelationKind::Temporal, &[a], &[(Cmp::Gte, 1)]);
    for (rule, field) in [(z, "v"), (b, "v")] {
        rules.edit(rule, |c| c.group_by = vec![KeyPart { name: field.into(), fields: Vec::new() }]);
    }
    let events = [at(1, json!({"k": "a", "u": "2", "v": "y"})), at(0, json!({"k": "a", "u": "3", "v": "x"}))];
    let outcome = run(&rules, &log(&events));
    let order: Vec<String> =
        outcome.last_revisions().map(|r| format!("{} {}", r.rule.id, keys::json(&r.key))).collect();
    assert_eq!(
        order,
        [
            "a {\"u\":\"3\"}",
            "b {\"v\":\"x\"}",
            "z {\"v\":\"x\"}",
            "a {\"u\":\"2\"}",
            "b {\"v\":\"y\"}",
            "z {\"v\":\"y\"}",
        ]
    );
}

#[test]
fn a_rule_that_does_not_emit_still_feeds_its_chain() {
    let (mut rules, child) = counting(2);
    rules.0.rules[child.0 as usize].emits = false;
    rules.correlation("chain", CorrelationKind::EventCount, &[child], &[(Cmp::Gte, 1)]);
    let outcome = run(&rules, &log(&[a(0), a(1)]));
    let ids: Vec<&str> = outcome.last_revisions().map(|alert| &*alert.rule.id).collect();
    assert_eq!(ids, ["chain"]);
}

#[test]
fn one_event_that_crosses_two_children_matches_both() {
    let mut rules = Rules::default();
    let [p, q] = ["p", "q"].map(|id| rules.detection(id, false));
    let twice = |rules: &mut Rules, id, rule| {
        rules.correlation(id, CorrelationKind::EventCount, &[rule], &[(Cmp::Gte, 2)])
    };
    let (pp, qq) = (twice(&mut rules, "pp", p), twice(&mut rules, "qq", q));
    rules.correlation("both", CorrelationKind::Temporal, &[pp, qq], &[(Cmp::Gte, 2)]);
    rules.correlation("many", CorrelationKind::EventCount, &[pp, qq, p], &[(Cmp::Gte, 3)]);
    let e = |second, k: Json, n: i64| at(second, json!({"k": k, "u": "x", "n": n}));
    // q twice over at 0 (weight 1 each); both children cross at 2. `many`: p at 1 weighs 1; at 2 the event is that of
    // two children and of p, once, and weighs its own 2.
    let events = [e(0, json!("q"), 1), e(1, json!("p"), 1), e(2, json!(["p", "q"]), 2)];
    let outcome = run(&rules, &log(&events));
    let of = |id: &str| -> Vec<String> {
        lines(&outcome).into_iter().filter(|line| line.starts_with(id) && line.contains("ended")).collect()
    };
    assert_eq!(of("both"), ["both {\"u\":\"x\"} r2 ended 2..2..2 count 1 value 2 of [2] []"]);
    assert_eq!(of("many"), ["many {\"u\":\"x\"} r2 ended 1..2..2 count 2 value 3 of [1, 2] []"]);
}

#[test]
fn judged_conditions_measure_values_and_rules_too() {
    let mut rules = Rules::default();
    let [p, q] = ["p", "q"].map(|id| rules.detection(id, false));
    let kind = CorrelationKind::ValueCount(vec!["d".into()]);
    rules.correlation("values", kind, &[p], &[(Cmp::Eq, 2)]);
    rules.correlation("rules", CorrelationKind::Temporal, &[p, q], &[(Cmp::Neq, 2)]);
    let e = |second, k: &str, d: Json| at(second, json!({"k": k, "u": "x", "d": d}));
    let events = [
        e(0, "p", json!(1)),
        e(1, "p", json!(1)),
        e(59, "p", json!([2, 1])),
        // [60, 120): one value, both rules. [120, 180): nothing at all.
        e(60, "p", json!(1)),
        e(61, "q", json!(2)),
    ];
    assert_eq!(
        lines(&run(&rules, &log(&events))),
        [
            "rules {\"u\":\"x\"} r1 ended 0..59..59 count 3 value 1 of [0, 1, 2] []",
            "values {\"u\":\"x\"} r1 ended 0..59..59 count 3 value 2 of [0, 1, 2] []",
        ]
    );
}

#[test]
fn a_records_events_stand_by_their_index() {
    let (mut rules, c) = counting(2);
    rules.edit(c, |c| c.kind = CorrelationKind::ValueCount(vec!["d".into()]));
    let mut logs = log(&[a(0)]);
    let time = NOON * 1_000_000;
    let event = |d: i64| Claimed { ts_raw: Some(time), fields: at(0, json!({"k": "a", "u": "x", "d": d})).1 };
    logs[0].records[0].events = vec![event(1), event(1), event(2)];
    let outcome = run(&rules, &logs);
    let alert = outcome.last_revisions().next().unwrap();
    // The latest event of each value: the second of the first, the third of the other.
    assert_eq!(alert.evidence.iter().map(|e| e.index).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn declared_addresses_are_cut_in_keys_and_not_in_values() {
    let (mut rules, c) = counting(2);
    rules.edit(c, |c| {
        c.kind = CorrelationKind::ValueCount(vec!["ip".into()]);
        c.group_by = vec![KeyPart { name: "ip".into(), fields: Vec::new() }];
    });
    let mut sources = sources();
    sources.defs[0].form = Form::ApiJson;
    let address = FieldDef { kind: FieldType::Ip, description: String::new() };
    sources.fields.0.insert("ip".into(), address);
    let e = |second, ip: &str| at(second, json!({"k": "a", "ip": ip}));
    let events = ["2001:db8::1", "2001:DB8::0:1", "2001:db8::2", "2001:db8:0:1::1", "10.0.0.1", "who"];
    let logs = log(&events.into_iter().zip(0..).map(|(ip, second)| e(second, ip)).collect::<Vec<_>>());
    let outcome = alerts(&Input { rules: &rules.0, sources: &sources, logs: &logs, placements: &[] });
    assert_eq!(
        lines(&outcome),
        [
            "count {\"ip\":\"2001:db8::/64\"} r1 active 1..2..2 count 2 value 2 of [1, 2] []",
            "count {\"ip\":\"2001:db8::/64\"} r2 ended 1..2..2 count 2 value 2 of [1, 2] []",
        ]
    );
}
