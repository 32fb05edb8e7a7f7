//! Windows, conditions, episodes, witnesses and revisions.
//!
//! In: hand-made events. Out: the alerts worked out by hand.

use super::*;

#[test]
fn windows_slide_and_are_open_at_their_start() {
    let (rules, _) = counting(2);
    // 60 s apart: the first is outside (0, 60].
    assert_eq!(lines(&run(&rules, &log(&[a(0), a(60)]))), Vec::<String>::new());
    assert_eq!(
        lines(&run(&rules, &log(&[a(1), a(60)]))),
        [
            "count {\"u\":\"x\"} r1 active 1..60..60 count 2 value 2 of [0, 1] []",
            "count {\"u\":\"x\"} r2 ended 1..60..60 count 2 value 2 of [0, 1] []",
        ]
    );
}

#[test]
fn an_episode_is_extended_by_what_holds_and_ends_after_rearm() {
    let (mut rules, c) = counting(2);
    rules.extras(c).rearm = Some(Span::secs(30));
    // Crossing at 10. The event at 40 = 10 + 30 still belongs and holds, so the end is at 70. The event at 70 belongs,
    // but 10 and 40 are in (10, 70] only as 40: it holds and extends to 100. The event at 131 opens nothing: alone.
    assert_eq!(
        lines(&run(&rules, &log(&[a(0), a(10), a(40), a(70), a(131)]))),
        [
            "count {\"u\":\"x\"} r1 active 0..10..10 count 2 value 2 of [0, 1] []",
            "count {\"u\":\"x\"} r2 active 0..10..70 count 4 value 4 of [0, 1, 2, 3] []",
            "count {\"u\":\"x\"} r3 ended 0..10..70 count 4 value 4 of [0, 1, 2, 3] []",
        ]
    );
}

#[test]
fn an_event_at_which_it_does_not_hold_joins_but_does_not_extend() {
    let (mut rules, c) = counting(3);
    rules.extras(c).rearm = Some(Span::secs(100));
    // Crossing at 2, open until 102. 90 joins, does not hold. 103 is too late, and does not hold.
    assert_eq!(
        lines(&run(&rules, &log(&[a(0), a(1), a(2), a(90), a(103)]))),
        [
            "count {\"u\":\"x\"} r1 active 0..2..2 count 3 value 3 of [0, 1, 2] []",
            "count {\"u\":\"x\"} r2 ended 0..2..90 count 4 value 4 of [0, 1, 2, 3] []",
        ]
    );
}

#[test]
fn revisions_come_at_the_right_end_of_intervals_in_which_an_event_joined() {
    let (mut rules, c) = counting(1);
    rules.extras(c).rearm = Some(Span::secs(35));
    rules.extras(c).update = Some(Span::secs(10));
    // Crossing at 0; 0 (later in order) and 10 are in the first interval [0, 10]; none in (10, 20]; 21 is in (20, 30];
    // 45 is in (40, 50]. The end is at 80; 45 joins at 45 ≤ 56. Intervals due at 10, 30, 50.
    let events = [a(0), a(0), a(10), a(21), a(45)];
    let counts = |outcome: &Outcome| -> Vec<(u32, u64, i64)> {
        let list = outcome.revisions.values().next().unwrap();
        list.iter().map(|r| (r.revision, r.count, r.last_seen.0 / 1_000_000 - NOON)).collect()
    };
    assert_eq!(
        counts(&run(&rules, &log(&events))),
        [(1, 1, 0), (2, 3, 10), (3, 4, 21), (4, 5, 45), (5, 5, 45)]
    );
    // An interval due exactly at the end is one with it; one that the end cuts short gives none: last 45, end 45 + 35.
    rules.extras(c).update = Some(Span::secs(80));
    assert_eq!(counts(&run(&rules, &log(&events))), [(1, 1, 0), (2, 5, 45)]);
    rules.extras(c).update = Some(Span::secs(81));
    assert_eq!(counts(&run(&rules, &log(&events))), [(1, 1, 0), (2, 5, 45)]);
    rules.extras(c).update = Some(Span::secs(79));
    assert_eq!(counts(&run(&rules, &log(&events))), [(1, 1, 0), (2, 5, 45), (3, 5, 45)]);
}

#[test]
fn midnight_ends_and_continues() {
    let (rules, _) = counting(1);
    let m = MIDNIGHT;
    assert_eq!(
        lines(&run(&rules, &log(&[a(m - 10), a(m), a(m + 60), a(m + 121)]))),
        [
            "count {\"u\":\"x\"} r1 active 43190..43190..43190 count 1 value 1 of [0] []",
            "count {\"u\":\"x\"} r2 ended 43190..43190..43190 count 1 value 1 of [0] []",
            "count {\"u\":\"x\"} r1 active continues 43200..43200..43200 count 1 value 1 of [1] []",
            "count {\"u\":\"x\"} r2 active continues 43200..43200..43260 count 2 value 2 of [1, 2] []",
            "count {\"u\":\"x\"} r3 ended continues 43200..43200..43260 count 2 value 2 of [1, 2] []",
            "count {\"u\":\"x\"} r1 active 43321..43321..43321 count 1 value 1 of [3] []",
            "count {\"u\":\"x\"} r2 ended 43321..43321..43321 count 1 value 1 of [3] []",
        ]
    );
}

#[test]
fn a_continuation_looks_back_rearm_and_one_day_only() {
    let (mut rules, c) = counting(1);
    let continues = |rules: &Rules, events: &[(i64, Map<String, Json>)]| -> Vec<bool> {
        run(rules, &log(events)).last_revisions().map(|alert| alert.continuation).collect()
    };
    let m = MIDNIGHT;
    assert_eq!(continues(&rules, &[a(m - 1), a(m + 59)]), [false, true]);
    assert_eq!(continues(&rules, &[a(m - 1), a(m + 60)]), [false, false]);
    rules.extras(c).rearm = Some(Span::secs(3 * 86_400));
    assert_eq!(continues(&rules, &[a(m - 1), a(m + 86_399)]), [false, true]);
    assert_eq!(continues(&rules, &[a(m - 1), a(m + 86_400)]), [false, false], "not the very day before");
}

#[test]
fn the_witness_of_a_weighted_count_is_as_few_as_suffice() {
    let (mut rules, c) = counting(7);
    rules.extras(c).rearm = Some(Span::secs(1));
    let w = |second, n: Json| at(second, json!({"k": "a", "u": "x", "n": n}));
    // 3 + 1 (zero counts as 1) + 2 = 6; with 4 it is 10, of which 4 + 2 + 1 suffice.
    let events = [w(0, json!(3)), w(5, json!(0)), w(10, json!(2)), w(15, json!(4))];
    assert_eq!(
        lines(&run(&rules, &log(&events))),
        [
            "count {\"u\":\"x\"} r1 active 5..15..15 count 3 value 7 of [1, 2, 3] []",
            "count {\"u\":\"x\"} r2 ended 5..15..15 count 3 value 7 of [1, 2, 3] []",
        ]
    );
    let huge = [w(0, json!(1_000_000))];
    assert_eq!(run(&rules, &log(&huge)).last_revisions().next().unwrap().count, 1);
    let text = serde_json::to_value(run(&rules, &log(&huge)).last_revisions().next().unwrap()).unwrap();
    assert_eq!(text["value"], 10_000);
}

#[test]
fn values_are_tuples_of_the_product_of_lists() {
    let mut rules = Rules::default();
    let d = rules.detection("a", false);
    let kind = CorrelationKind::ValueCount(vec!["p".into(), "q".into()]);
    let c = rules.correlation("values", kind, &[d], &[(Cmp::Gte, 3)]);
    rules.extras(c).rearm = Some(Span::secs(5));
    let v = |second, p: Json, q: Json| at(second, json!({"k": "a", "u": "x", "p": p, "q": q}));
    let events = [
        v(0, json!([1, 2]), json!("z")),           // (1,z) (2,z)
        v(1, json!("1"), json!(null)),             // does not take part
        v(2, json!(1.0), json!("z")),              // (1,z) again
        v(3, json!([3, null, [4]]), json!(["z"])), // (3,z): the third
        v(4, json!([]), json!("z")),               // no value: does not take part
    ];
    // The three seen last: 3 (event 3), 1 (event 2), 2 (event 0).
    assert_eq!(
        lines(&run(&rules, &log(&events))),
        [
            "values {\"u\":\"x\"} r1 active 0..3..3 count 3 value 3 of [0, 2, 3] []",
            "values {\"u\":\"x\"} r2 ended 0..3..3 count 3 value 3 of [0, 2, 3] []",
        ]
    );
}

#[test]
fn distinct_values_are_counted_up_to_a_thousand() {
    let mut rules = Rules::default();
    let d = rules.detection("a", false);
    let kind = CorrelationKind::ValueCount(vec!["p".into()]);
    rules.correlation("values", kind, &[d], &[(Cmp::Gte, 2)]);
    let of = |n: usize| (0..n).map(|i| at(0, json!({"k": "a", "u": "x", "p": i}))).collect::<Vec<_>>();
    let outcome = run(&rules, &log(&of(1_000)));
    assert!(outcome.last_revisions().all(|r| r.flags == Flags::NONE && r.count == 1_000));
    let outcome = run(&rules, &log(&of(1_001)));
    let last = lines(&outcome).pop().unwrap();
    assert!(last.ends_with("4, 996, 997, 998, 999, 1000] [\"capped\"]"), "{last}");
    assert!(last.contains("count 1001 value 1000 "), "{last}");
}

#[test]
fn temporal_counts_distinct_rules() {
    let mut rules = Rules::default();
    let [p, q, r] = ["p", "q", "r"].map(|id| rules.detection(id, false));
    rules.correlation("all", CorrelationKind::Temporal, &[p, q, r], &[(Cmp::Gte, 3)]);
    rules.correlation("two", CorrelationKind::Temporal, &[p, q, r], &[(Cmp::Gte, 2)]);
    let e = |second, k: Json| at(second, json!({"k": k, "u": "x"}));
    // `two` crosses at 10 with q (0: p, 10: q); p again at 20 and one event that is q and r at 30.
    let events = [e(0, json!("p")), e(10, json!("q")), e(20, json!("p")), e(30, json!(["q", "r"]))];
    assert_eq!(
        lines(&run(&rules, &log(&events))),
        [
            "two {\"u\":\"x\"} r1 active 0..10..10 count 2 value 2 of [0, 1] []",
            "two {\"u\":\"x\"} r2 active 0..10..30 count 4 value 3 of [0, 1, 2, 3] []",
            "two {\"u\":\"x\"} r3 ended 0..10..30 count 4 value 3 of [0, 1, 2, 3] []",
            // The latest of p is 20, of q and r 30.
            "all {\"u\":\"x\"} r1 active 20..30..30 count 2 value 3 of [2, 3] []",
            "all {\"u\":\"x\"} r2 ended 20..30..30 count 2 value 3 of [2, 3] []",
        ]
    );
}

#[test]
fn a_sequence_needs_one_event_for_each_step_in_order() {
    let mut rules = Rules::default();
    let [p, q] = ["p", "q"].map(|id| rules.detection(id, false));
    rules.correlation("seq", CorrelationKind::TemporalOrdered, &[p, q], &[]);
    let e = |second, k: Json| at(second, json!({"k": k, "u": "x"}));
    assert!(lines(&run(&rules, &log(&[e(0, json!("q")), e(1, json!("p"))]))).is_empty());
    assert!(lines(&run(&rules, &log(&[e(0, json!(["p", "q"]))]))).is_empty(), "one event for one step");
    // At equal times the offset decides.
    assert_eq!(lines(&run(&rules, &log(&[e(0, json!("p")), e(0, json!("q"))]))).len(), 2);
    // Step by step back: q at 30 follows p at 20, not p at 0.
    let events = [e(0, json!("p")), e(20, json!("p")), e(30, json!("q")), e(35, json!("p"))];
    assert_eq!(
        lines(&run(&rules, &log(&events))),
        [
            "seq {\"u\":\"x\"} r1 active 20..30..30 count 2 value 2 of [1, 2] []",
            "seq {\"u\":\"x\"} r2 ended 20..30..35 count 3 value 2 of [1, 2, 3] []",
        ]
    );
}

#[test]
fn judged_windows_are_aligned_and_judged_once() {
    let (mut rules, c) = counting(0);
    rules.edit(c, |c| c.condition = vec![(Cmp::Gte, 2), (Cmp::Lte, 3)]);
    let m = MIDNIGHT;
    // [0,60): three. [60,120): one. [120,180): four. [m-60, m): two, not joined with [m, m+60): two.
    let seconds = [0, 1, 59, 60, 120, 121, 122, 179, m - 60, m - 1, m, m + 59];
    let events: Vec<_> = seconds.into_iter().map(a).collect();
    assert_eq!(
        lines(&run(&rules, &log(&events))),
        [
            "count {\"u\":\"x\"} r1 ended 0..59..59 count 3 value 3 of [0, 1, 2] []",
            "count {\"u\":\"x\"} r1 ended 43140..43199..43199 count 2 value 2 of [8, 9] []",
            "count {\"u\":\"x\"} r1 ended 43200..43259..43259 count 2 value 2 of [10, 11] []",
        ]
    );
}

#[test]
fn a_chain_gets_one_event_for_each_child_episode_and_none_for_a_continuation() {
    let (mut rules, child) = counting(2);
    rules.edit(child, |c| c.group_by.push(KeyPart { name: "v".into(), fields: Vec::new() }));
    rules.extras(child).rearm = Some(Span::secs(10));
    let chain = rules.correlation("chain", CorrelationKind::EventCount, &[child], &[(Cmp::Gte, 2)]);
    rules.edit(chain, |c| c.timespan = Span::secs(3600));
    let e = |second, v: &str| at(second, json!({"k": "a", "u": "x", "v": v, "n": 50}));
    // Weights: each event is 50, so each crosses `count` alone; as a child's event it weighs 1.
    let m = MIDNIGHT;
    let events = [e(m - 100, "1"), e(m - 95, "1"), e(m - 50, "1"), e(m - 5, "1"), e(m + 3, "1")];
    let outcome = run(&rules, &log(&events));
    let chains: Vec<String> = lines(&outcome).into_iter().filter(|line| line.starts_with("chain")).collect();
    // Child episodes cross at −100, −50, −5; that at +3 is a continuation. The chain crosses at −50; it ends at 00:00.
    assert_eq!(
        chains,
        [
            "chain {\"u\":\"x\"} r1 active 43100..43150..43150 count 2 value 2 of [0, 2] []",
            "chain {\"u\":\"x\"} r2 ended 43100..43150..43195 count 3 value 3 of [0, 2, 3] []",
        ]
    );
    assert!(
        lines(&outcome)
            .iter()
            .any(|line| line.contains("count {\"u\":\"x\",\"v\":\"1\"} r1 active continues"))
    );
}

#[test]
fn evidence_is_the_first_and_last_five() {
    let (rules, _) = counting(1);
    let events: Vec<_> = (0..12).map(a).collect();
    let outcome = run(&rules, &log(&events));
    let last = outcome.last_revisions().next().unwrap();
    let offsets: Vec<i64> = last.evidence.iter().map(|e| e.offset).collect();
    assert_eq!((offsets, last.evidence_total), (vec![0, 1, 2, 3, 4, 7, 8, 9, 10, 11], 12));
    let outcome = run(&rules, &log(&events[..10]));
    assert_eq!(outcome.last_revisions().next().unwrap().evidence.len(), 10);
}

#[test]
fn a_storm_folds_what_crosses_after_a_thousand_in_an_hour() {
    let mut rules = Rules::default();
    rules.detection("a", true);
    let user = |second, user: String| at(second, json!({"k": "a", "u": user}));
    // 999 at 0 and the 1,000th at 60 raise their own; three are folded; one is of the next hour.
    let mut events: Vec<_> = (0..999).map(|i| user(0, format!("u{i}"))).collect();
    events.extend([
        user(60, "z".into()),
        user(61, "203.0.113.7".into()),
        user(121, "203.0.113.8".into()),
        user(122, "2001:db8:1:2::3".into()),
        user(3_600, "next".into()),
    ]);
    let outcome = run(&rules, &log(&events));
    let storms: Vec<String> = lines(&outcome).into_iter().filter(|line| line.starts_with("a {} ")).collect();
    assert_eq!(
        storms,
        [
            "a {} r1 active 61..61..61 count 1 value 1 of [1000] [\"storm\"]",
            "a {} r2 active 61..61..121 count 2 value 2 of [1000, 1001] [\"storm\"]",
            "a {} r3 active 61..61..122 count 3 value 3 of [1000, 1001, 1002] [\"storm\"]",
            "a {} r4 ended 61..61..122 count 3 value 3 of [1000, 1001, 1002] [\"storm\"]",
        ]
    );
    assert_eq!(outcome.scan.len(), 1_000 + 1 + 1);
    let last = outcome.last_revisions().find(|alert| alert.key.is_empty()).unwrap();
    assert_eq!(
        last.explanation.details["prefixes"],
        json!([{"episodes": 2, "prefix": "203.0.113.0/24"}, {"episodes": 1, "prefix": "2001:db8:1::/48"}])
    );
}

#[test]
fn explanations_tell_what_fired() {
    let mut rules = Rules::default();
    let [p, q] = ["p", "q"].map(|id| rules.detection(id, false));
    rules.correlation("seq", CorrelationKind::TemporalOrdered, &[p, q], &[]);
    let any = rules.correlation("any", CorrelationKind::Temporal, &[p, q], &[(Cmp::Gte, 1)]);
    rules.extras(any).update = Some(Span::secs(1));
    let e = |second, k: &str| at(second, json!({"k": k, "u": "x"}));
    let outcome = run(&rules, &log(&[e(0, "q"), e(1, "p"), e(5, "q")]));
    let list: Vec<&Alert> = outcome.scan.iter().flat_map(|id| &outcome.revisions[id]).collect();
    let matched: Vec<&Json> =
        list.iter().filter_map(|alert| alert.explanation.details.get("matched")).collect();
    assert_eq!(matched[..2], [&json!(["q"]), &json!(["p", "q"])]);
    let seq = list.iter().find(|alert| &*alert.rule.id == "seq").unwrap();
    assert_eq!(
        seq.explanation.details["steps"],
        json!([
            {"rule": "p", "time": "2026-01-02T12:00:01.000000Z"},
            {"rule": "q", "time": "2026-01-02T12:00:05.000000Z"},
        ])
    );
    assert_eq!(seq.summary, "seq: u x, 2 steps");
    assert_eq!(seq.entity.as_ref().map(|e| (&*e.kind, e.value.text())), Some(("u", "x")));
    assert_eq!((seq.risk, seq.severity.name()), (30, "medium"));
}
