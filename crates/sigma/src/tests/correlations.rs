//! Correlations: types, conditions, references, chains, aliases, who emits.

use rstest::rstest;

use super::*;

const BASE: &str = "title: a
id: id-a
name: a
logsource: {category: firewall}
detection: {s: {f: 1}, condition: s}
---
title: b
name: b
logsource: {category: api}
detection: {s: {f: 2}, condition: s}
";

/// The base rules and a correlation of this block, indented by two.
fn with(correlation: &str) -> String {
    format!("{BASE}---\ntitle: c\nname: c\ncorrelation:\n{correlation}")
}

fn third(text: &str) -> String {
    let set = load_texts(&[text]);
    assert_eq!(set.rejected, []);
    show(&set.rules[2])
}

#[rstest]
#[case(
    "  type: event_count\n  rules: a\n  group-by: [x, y]\n  timespan: 5m\n  condition: {gte: 10}\n",
    r#"EventCount of [0] by ["x", "y"] in 5m if ["Gte 10"]"#
)]
#[case(
    "  type: event_count\n  rules: [id-a, b]\n  timespan: 90s\n  condition: {gt: 10, lte: 20}\n",
    r#"EventCount of [0, 1] by [] in 90s if ["Gt 10", "Lte 20"]"#
)]
#[case(
    "  type: value_count\n  rules: [a]\n  group-by: x\n  timespan: 1h\n  condition: {field: [p, q], eq: 3, neq: 4}\n",
    r#"ValueCount(["p", "q"]) of [0] by ["x"] in 1h if ["Eq 3", "Neq 4"]"#
)]
#[case(
    "  type: temporal\n  rules: [a, b]\n  group-by: [x]\n  timespan: 1M\n",
    r#"Temporal of [0, 1] by ["x"] in 30d if ["Gte 2"]"#
)]
#[case(
    "  type: temporal\n  rules: [a, b]\n  timespan: 1d\n  condition: {lt: 2}\n",
    r#"Temporal of [0, 1] by [] in 1d if ["Lt 2"]"#
)]
#[case(
    "  type: temporal_ordered\n  rules: [b, a]\n  group-by: [who]\n  timespan: 1d\n  aliases: {who: {a: src_ip, b: user}}\n",
    r#"TemporalOrdered of [1, 0] by ["who[0:src_ip][1:user]"] in 1d if []"#
)]
fn correlations_are_read(#[case] correlation: &str, #[case] expected: &str) {
    assert_eq!(third(&with(correlation)), expected);
}

#[rstest]
#[case("  type: event_count\n  rules: a\n  timespan: 5m\n", "missing-key")]
#[case("  type: event_count\n  rules: a\n  timespan: 5m\n  condition: {field: x}\n", "meaningless-key")]
#[case("  type: value_count\n  rules: a\n  timespan: 5m\n  condition: {gte: 5}\n", "missing-key")]
#[case("  type: value_count\n  rules: a\n  timespan: 5m\n  condition: {gte: 5, field: []}\n", "missing-key")]
#[case(
    "  type: value_count\n  rules: a\n  timespan: 5m\n  condition: {gte: 5, field: vedette.offset}\n",
    "stamped-field"
)]
#[case("  type: temporal\n  rules: a\n  timespan: 5m\n  group-by: [vedette.source]\n", "stamped-field")]
#[case("  type: event_count\n  rules: a\n  condition: {gte: 5}\n", "missing-key")]
#[case("  type: event_count\n  rules: []\n  timespan: 5m\n  condition: {gte: 5}\n", "missing-key")]
#[case("  type: event_count\n  rules: a\n  timespan: 5 m\n  condition: {gte: 5}\n", "wrong-type")]
#[case("  type: event_count\n  rules: a\n  timespan: 0s\n  condition: {gte: 5}\n", "wrong-type")]
#[case("  type: event_count\n  rules: a\n  timespan: 2y\n  condition: {gte: 5}\n", "wrong-type")]
#[case("  type: event_count\n  rules: a\n  timespan: 5m\n  condition: {gte: -1}\n", "wrong-type")]
#[case("  type: event_count\n  rules: a\n  timespan: 5m\n  condition: {gte: 1.5}\n", "wrong-type")]
#[case("  type: event_count\n  rules: a\n  timespan: 5m\n  condition: {more: 5}\n", "unknown-key")]
#[case("  type: event_count\n  rules: a\n  timespan: 5m\n  condition: a and b\n", "wrong-type")]
#[case("  type: event_count\n  rules: a\n  timeframe: 5m\n  condition: {gte: 5}\n", "unknown-key")]
#[case("  type: event_counts\n  rules: a\n  timespan: 5m\n  condition: {gte: 5}\n", "unknown-type")]
#[case("  type: value_sum\n  rules: a\n  timespan: 5m\n  condition: {gte: 5, field: x}\n", "not-supported")]
#[case("  type: vedette_first_seen\n  rules: a\n  timespan: 5m\n", "not-supported")]
#[case(
    "  type: temporal_ordered\n  rules: [a, b]\n  timespan: 5m\n  condition: {gte: 2}\n",
    "meaningless-key"
)]
#[case("  type: temporal\n  rules: [a, id-a]\n  timespan: 5m\n", "repeated-rule")]
#[case("  type: temporal\n  rules: [a, nobody]\n  timespan: 5m\n", "unknown-rule")]
#[case("  type: temporal\n  rules: [a, c]\n  timespan: 5m\n", "cycle")]
#[case("  type: temporal\n  rules: [a]\n  group-by: [x, x]\n  timespan: 5m\n", "repeated-field")]
#[case(
    "  type: temporal\n  rules: [a]\n  group-by: [x]\n  timespan: 5m\n  aliases: {x: {b: y}}\n",
    "alias-of-other-rule"
)]
#[case(
    "  type: temporal\n  rules: [a]\n  group-by: [x]\n  timespan: 5m\n  aliases: {x: {a: y, id-a: z}}\n",
    "repeated-rule"
)]
#[case("  type: temporal\n  rules: [b]\n  group-by: [scopes]\n  timespan: 5m\n", "list-in-key")]
#[case(
    "  type: temporal\n  rules: [b]\n  group-by: [k]\n  timespan: 5m\n  aliases: {k: {b: scopes}}\n",
    "list-in-key"
)]
fn correlations_are_refused(#[case] correlation: &str, #[case] code: &str) {
    assert_eq!(refused(&with(correlation)).2, code);
}

#[test]
fn a_list_of_another_source_does_not_matter() {
    // `scopes` is a list in source api, which rule a (firewall) does not look at.
    let shown = third(&with("  type: temporal\n  rules: [a]\n  group-by: [scopes]\n  timespan: 5m\n"));
    assert!(shown.contains("scopes"));
}

#[test]
fn a_correlation_may_stand_before_its_rules_and_in_another_file() {
    let correlation = "title: c\nid: c\ncorrelation: {type: temporal, rules: [a, b], timespan: 5m}\n";
    let set = load_texts(&[correlation, BASE]);
    assert_eq!(set.rejected, []);
    let ids: Vec<&str> = set.rules.iter().map(|r| &*r.id).collect();
    assert_eq!(ids, ["id-a", "b", "c"]);
    assert!(set.rules.iter().all(|r| r.emits), "a correlation of another file silences nothing");
}

#[test]
fn a_name_in_the_same_file_comes_before_one_elsewhere_and_two_elsewhere_are_ambiguous() {
    let rule = |id: &str, f: u32| {
        format!(
            "title: x\nid: {id}\nname: x\nlogsource: {{category: q}}\ndetection: {{s: {{f: {f}}}, condition: s}}\n"
        )
    };
    let correlation = "title: c\nid: c\ncorrelation: {type: temporal, rules: [x], timespan: 5m}\n";
    let set = load_texts(&[&rule("1", 1), &format!("{}---\n{correlation}", rule("2", 2))]);
    let RuleKind::Correlation(c) = &set.rules[2].kind else { panic!("a correlation") };
    assert_eq!(&*set.get(c.rules[0]).id, "2");
    let set = load_texts(&[&rule("1", 1), &rule("2", 2), correlation]);
    assert_eq!(set.rejected[0].code, "ambiguous-rule");
}

#[test]
fn chains_are_placed_after_their_children_and_cycles_are_refused() {
    let chain = |name: &str, child: &str| {
        format!(
            "---\ntitle: {name}\nname: {name}\ncorrelation: {{type: temporal, rules: [{child}], timespan: 5m}}\n"
        )
    };
    let set = load_texts(&[&format!("{BASE}{}{}", chain("top", "mid"), chain("mid", "a"))]);
    assert_eq!(set.rejected, []);
    let ids: Vec<&str> = set.rules.iter().map(|r| &*r.id).collect();
    assert_eq!(ids, ["id-a", "b", "mid", "top"]);

    let set = load_texts(&[&format!("{BASE}{}{}{}", chain("x", "y"), chain("y", "x"), chain("z", "y"))]);
    let codes: Vec<&str> = set.rejected.iter().map(|r| r.code).collect();
    assert_eq!(codes, ["cycle", "cycle", "refers-to-refused"]);

    let long: String = (0..30)
        .map(|n| chain(&format!("n{n}"), &if n == 0 { "a".into() } else { format!("n{}", n - 1) }))
        .collect();
    let set = load_texts(&[&format!("{BASE}{long}")]);
    assert_eq!(set.rules.len(), 2 + 16);
    assert_eq!(set.rejected[0].code, "chain-too-long");
    assert!(set.rejected[1..].iter().all(|r| r.code == "refers-to-refused"));
}

#[test]
fn a_chain_over_a_judged_child_is_refused() {
    let judged = with("  type: event_count\n  rules: a\n  timespan: 5m\n  condition: {lt: 5}\n");
    let chain = "---\ntitle: d\ncorrelation: {type: temporal, rules: [c], timespan: 5m}\n";
    assert_eq!(refused(&format!("{judged}{chain}")).2, "chain-over-judged");
}

#[test]
fn a_correlation_over_a_refused_rule_is_refused_and_keeps_its_other_rules_quiet() {
    let text = format!(
        "{BASE}---\ntitle: bad\nname: bad\nlogsource: {{}}\ndetection: {{s: {{f|x: 1}}, condition: s}}\n---\n\
         title: c\ncorrelation: {{type: temporal, rules: [a, bad], timespan: 5m}}\n"
    );
    let set = load_texts(&[&text]);
    let codes: Vec<&str> = set.rejected.iter().map(|r| r.code).collect();
    assert_eq!(codes, ["unknown-modifier", "refers-to-refused"]);
    let emits: Vec<bool> = set.rules.iter().map(|r| r.emits).collect();
    assert_eq!(emits, [false, true]);
}

#[rstest]
#[case::silent_by_default("", "", [false, true])]
#[case::inside("  generate: true\n", "", [true, true])]
#[case::beside("", "generate: true\n", [true, true])]
#[case::the_inner_one_counts("  generate: false\n", "generate: true\n", [false, true])]
fn generate_governs_the_rules_of_its_file(
    #[case] inside: &str,
    #[case] beside: &str,
    #[case] emits: [bool; 2],
) {
    let text = with(&format!(
        "  type: event_count\n  rules: a\n  timespan: 5m\n  condition: {{gte: 5}}\n{inside}{beside}"
    ));
    let set = load_texts(&[&text]);
    assert_eq!(set.rejected, []);
    assert_eq!([set.rules[0].emits, set.rules[1].emits], emits);
    assert!(set.rules[2].emits);
}

#[test]
fn one_generate_that_is_true_is_enough() {
    let one = |name: &str, generate: bool| {
        format!(
            "---\ntitle: {name}\ncorrelation: {{type: temporal, rules: [a], timespan: 5m, generate: {generate}}}\n"
        )
    };
    let set = load_texts(&[&format!("{BASE}{}{}", one("x", true), one("y", false))]);
    assert!(set.rules[0].emits);
}

#[test]
fn questionable_correlations_are_warned_of() {
    let codes = |correlation: &str| -> Vec<&'static str> {
        load_texts(&[&with(correlation)]).warnings.iter().map(|w| w.code).collect()
    };
    assert_eq!(codes("  type: temporal_ordered\n  rules: [a, b]\n  timespan: 5m\n"), ["mixed-resolution"]);
    assert!(codes("  type: temporal_ordered\n  rules: [a]\n  timespan: 5m\n").is_empty());
    assert!(codes("  type: temporal\n  rules: [a, b]\n  timespan: 5m\n").is_empty());
    assert_eq!(
        codes("  type: temporal\n  rules: [a, b]\n  timespan: 5m\n  condition: {gte: 3}\n"),
        ["never-holds"]
    );
    let never = "  type: event_count\n  rules: [a]\n  timespan: 5m\n  condition: {gt: 5, lt: 6}\n";
    assert_eq!(codes(never), ["never-holds"]);
    let unused = "  type: temporal\n  rules: [a]\n  timespan: 5m\n  aliases: {x: {a: y}}\n";
    assert_eq!(codes(unused), ["unused-alias"]);
}
