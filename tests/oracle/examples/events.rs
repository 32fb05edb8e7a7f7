//! When events happened, which rules they match and whom they count for.
//!
//! In: hand-made events. Out: the alerts worked out by hand.

use super::*;

#[test]
fn aliases_name_a_field_for_each_rule() {
    let mut rules = Rules::default();
    let [p, q] = ["p", "q"].map(|id| rules.detection(id, false));
    let c = rules.correlation("both", CorrelationKind::Temporal, &[p, q], &[(Cmp::Gte, 2)]);
    let part = KeyPart { name: "ip".into(), fields: vec![(p, "src".into()), (q, "dst".into())] };
    rules.edit(c, |c| c.group_by = vec![part]);
    let events = [
        at(0, json!({"k": "p", "src": "x", "dst": "y"})),
        at(1, json!({"k": "q", "src": "y", "dst": "x"})),
        // Both rules, in two groups: z for p only, x for q only.
        at(2, json!({"k": ["p", "q"], "src": "z", "dst": "x"})),
        at(3, json!({"k": "q", "src": "x", "dst": null})),
    ];
    assert_eq!(
        lines(&run(&rules, &log(&events))),
        [
            "both {\"ip\":\"x\"} r1 active 0..1..1 count 2 value 2 of [0, 1] []",
            // The event at 2 holds too, so the end is at 62 and the interval that ends at 61 is revised.
            "both {\"ip\":\"x\"} r2 active 0..1..2 count 3 value 2 of [0, 1, 2] []",
            "both {\"ip\":\"x\"} r3 ended 0..1..2 count 3 value 2 of [0, 1, 2] []",
        ]
    );
}

#[test]
fn keys_compare_by_type_and_may_be_empty() {
    let (mut rules, c) = counting(2);
    let e = |second, u: Json| at(second, json!({"k": "a", "u": u}));
    let events = [e(0, json!(5)), e(1, json!("5")), e(2, json!(5.0)), e(3, json!([5])), e(4, json!(null))];
    let keys = |outcome: &Outcome| -> Vec<String> {
        outcome.last_revisions().map(|alert| keys::json(&alert.key)).collect()
    };
    assert_eq!(keys(&run(&rules, &log(&events))), ["{\"u\":5}"]);
    rules.edit(c, |c| c.group_by.clear());
    let outcome = run(&rules, &log(&events));
    assert_eq!(keys(&outcome), ["{}"]);
    assert_eq!(outcome.last_revisions().next().unwrap().count, 5);
}

#[test]
fn single_events_group_by_their_entity_or_stand_alone() {
    let mut rules = Rules::default();
    let d = rules.detection("a", true);
    rules.extras(d).rearm = Some(Span::secs(10));
    let events = [
        at(0, json!({"k": "a", "host": "h", "u": "x"})),
        at(5, json!({"k": "a", "host": "h"})),
        at(6, json!({"k": "a", "host": ["h"], "u": "x"})),
        at(7, json!({"k": "a"})),
        at(8, json!({"k": "a"})),
    ];
    assert_eq!(
        lines(&run(&rules, &log(&events))),
        [
            "a {\"host\":\"h\"} r1 active 0..0..0 count 1 value 1 of [0] []",
            "a {\"host\":\"h\"} r2 ended 0..0..5 count 2 value 1 of [0, 1] []",
            "a {\"u\":\"x\"} r1 active 6..6..6 count 1 value 1 of [2] []",
            "a {\"u\":\"x\"} r2 ended 6..6..6 count 1 value 1 of [2] []",
            "a {} r1 active 7..7..7 count 1 value 1 of [3] []",
            "a {} r2 ended 7..7..7 count 1 value 1 of [3] []",
            "a {} r1 active 8..8..8 count 1 value 1 of [4] []",
            "a {} r2 ended 8..8..8 count 1 value 1 of [4] []",
        ]
    );
    rules.extras(d).entity = Some("u".into());
    let firsts = run(&rules, &log(&events[..2]));
    assert_eq!(lines(&firsts)[0], "a {\"u\":\"x\"} r1 active 0..0..0 count 1 value 1 of [0] []");
    assert_eq!(lines(&firsts)[2], "a {} r1 active 5..5..5 count 1 value 1 of [1] []");
}

#[test]
fn claims_place_within_the_brokers_bounds() {
    let (rules, _) = counting(1);
    let record = |offset, ts_log: i64, claim: Option<i64>| Record {
        offset,
        ts_log: Some((NOON + ts_log) * 1_000_000),
        events: vec![Claimed { ts_raw: claim.map(|t| (NOON + t) * 1_000_000), fields: a(0).1 }],
    };
    let placed = |record: Record, placements: &[StoredPlacement]| {
        let mut logs = log(&[]);
        logs[0].records.push(record);
        let stored: Vec<_> = placements.iter().map(|placement| (0, placement.clone())).collect();
        let input = Input { rules: &rules.0, sources: &sources(), logs: &logs, placements: &stored };
        let outcome = alerts(&input);
        let alert = outcome.last_revisions().next().unwrap();
        (alert.crossed_at.0 / 1_000_000 - NOON, alert.flags.names().collect::<Vec<_>>())
    };
    assert_eq!(placed(record(3, 100, Some(40)), &[]), (40, vec![]));
    assert_eq!(placed(record(3, 100, Some(39)), &[]), (40, vec!["clock=late"]));
    assert_eq!(placed(record(3, 100, Some(110)), &[]), (110, vec![]));
    assert_eq!(placed(record(3, 100, Some(111)), &[]), (100, vec!["clock=future"]));
    assert_eq!(placed(record(3, 100, None), &[]), (100, vec!["clock=missing"]));
    let stored = |flag, t: i64| StoredPlacement {
        topic: "t".into(),
        partition: 0,
        offset: 3,
        flag,
        time: Micros((NOON + t) * 1_000_000),
    };
    let overtaken = stored(Flags::CLOCK_OVERTAKEN, 70);
    assert_eq!(
        placed(record(3, 100, Some(39)), std::slice::from_ref(&overtaken)),
        (70, vec!["clock=late", "clock=overtaken"])
    );
    assert_eq!(placed(record(3, 100, Some(71)), &[overtaken]), (71, vec![]));
    let broker = stored(Flags::CLOCK_BROKER, 20);
    assert_eq!(placed(record(3, 100, None), &[broker]), (20, vec!["clock=broker", "clock=missing"]));
}

#[test]
fn files_keep_the_running_maximum_of_their_claims() {
    let (rules, _) = counting(1);
    let claims = [None, Some(10), Some(200), Some(100), None];
    let mut logs = log(&[]);
    for (offset, claim) in claims.into_iter().enumerate() {
        let ts_raw = claim.map(|t| (NOON + t) * 1_000_000);
        // Each its own user: one alert each.
        let fields = at(0, json!({"k": "a", "u": offset})).1;
        logs[0].records.push(Record {
            offset: offset as i64,
            ts_log: None,
            events: vec![Claimed { ts_raw, fields }],
        });
    }
    logs[0].records.push(Record { offset: 5, ts_log: None, events: vec![] });
    let outcome = run(&rules, &logs);
    let placed: Vec<(i64, i64, Vec<&str>)> = outcome
        .last_revisions()
        .map(|r| (r.evidence[0].offset, r.crossed_at.0 / 1_000_000 - NOON, r.flags.names().collect()))
        .collect();
    assert_eq!(
        placed,
        [
            (0, 10, vec!["clock=missing"]),
            (1, 10, vec![]),
            (3, 140, vec!["clock=late"]),
            (2, 200, vec![]),
            (4, 200, vec!["clock=missing"]),
        ]
    );
}

#[test]
fn the_total_order_is_time_topic_partition_offset() {
    let (rules, _) = counting(1);
    let one = |topic: &str, partition, second| {
        let mut logs = log(&[a(second)]);
        logs[0].topic = topic.into();
        logs[0].partition = partition;
        logs.remove(0)
    };
    let logs = [one("b", 0, 0), one("a", 2, 0), one("a", 10, 0), one("z", 0, -1)];
    let outcome = run(&rules, &logs);
    let order: Vec<String> = outcome
        .last_revisions()
        .next()
        .unwrap()
        .evidence
        .iter()
        .map(|e| format!("{}{}", e.topic, e.partition))
        .collect();
    assert_eq!(order, ["z0", "a2", "a10", "b0"]);
}

#[test]
fn an_events_own_logsource_selects_rules() {
    let mut rules = Rules::default();
    let d = rules.detection("a", true);
    if let RuleKind::Detection(detection) = &mut rules.0.rules[d.0 as usize].kind {
        detection.logsource.product = Some("Windows".into());
    }
    let products = [json!("windows"), json!("linux"), json!(5), json!(null)];
    let events: Vec<_> = products
        .into_iter()
        .enumerate()
        .map(|(i, p)| at(0, json!({"k": "a", "u": i, "product": p})))
        .collect();
    let users: Vec<String> =
        run(&rules, &log(&events)).last_revisions().map(|r| keys::json(&r.key)).collect();
    assert_eq!(users, ["{\"u\":0}", "{\"u\":2}", "{\"u\":3}"]);
}
