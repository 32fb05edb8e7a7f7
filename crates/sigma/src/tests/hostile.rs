//! Input made to hurt: bombs, depth, arbitrary and mutated text.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

#[test]
fn a_bomb_of_aliases_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let aliases = vec![format!("*a{}", n - 1); 10].join(", ");
        writeln!(text, "a{n}: &a{n} [{aliases}]").unwrap();
    }
    assert_eq!(refused(&text).2, "too-many-nodes");
}

#[test]
fn depth_size_and_number_are_bounded() {
    assert_eq!(refused(&format!("a: {}", "[".repeat(100))).2, "too-deep");
    assert_eq!(refused(&format!("a: {}", "[".repeat(100_000))).2, "yaml-syntax");
    let blocks: String = (0..200).fold(String::new(), |mut out, n| {
        writeln!(out, "{}a:", " ".repeat(n)).unwrap();
        out
    });
    assert_eq!(refused(&blocks).2, "too-deep");
    assert_eq!(refused(&format!("a: {}", "- ".repeat(100_000))).2, "yaml-syntax");
    assert_eq!(refused(&"- ".repeat(100_000)).2, "too-deep");
    assert_eq!(refused(&"x".repeat(yaml::MAX_BYTES + 1)).2, "file-too-large");
    assert_eq!(refused(&"---\nx\n".repeat(10_001)).2, "too-many-documents");
    assert_eq!(refused(&format!("a: [{}]", "1,".repeat(200_001))).2, "too-many-nodes");
}

#[test]
fn a_refusal_says_what_would_be_right() {
    let help = |text: &str| {
        let set = load_texts(&[text]);
        assert_eq!(set.rejected.len(), 1, "{text:.60}");
        let refused = &set.rejected[0];
        refused.help.clone().unwrap_or_else(|| panic!("no advice: {refused:?}"))
    };
    assert_eq!(help("title: t\nlevel: low\ntitle: u\n"), "it is in line 1 already; keep one of them");
    assert!(help("title: t\n\tlevel: low\n").starts_with("indent with spaces"));
    assert!(help("title: a: b\n").starts_with("quote text that holds `: `"));
    assert!(help(&format!("a: {}", "[".repeat(100_000))).starts_with("nest fewer"));
    assert!(help(&format!("a: {}", "[".repeat(100))).starts_with("nest fewer"));
    assert!(help(&"---\nx\n".repeat(10_001)).starts_with("split the file"));
    assert!(help("title: t\n").starts_with("add one of them"));
    for condition in ["s or", "s and (s", "s)", "2 of them", "s s", "s & s", "1 of", "()"] {
        let help = help(&rule_with(&format!("  s: {{f: 1}}\n  condition: {condition}\n")));
        assert!(help.contains("`1 of"), "{condition}: {help}");
    }
}

#[test]
fn aliases_within_bounds_work_and_do_not_deepen() {
    let rule = only(&rule_with("  a: &x {f: [1, 2]}\n  b: *x\n  condition: a and b\n"));
    assert_eq!(show(&rule), "((f=#1 | f=#2) & (f=#1 | f=#2))");
    let nested =
        format!("a: &x {}1{}\nb: {}*x{}\n", "[".repeat(20), "]".repeat(20), "[".repeat(20), "]".repeat(20));
    assert_eq!(refused(&nested).2, "too-deep");
    assert_eq!(refused("a: &x [*x]\n").2, "unknown-alias");
    assert_eq!(refused("? [a]\n: b\n").2, "key-not-text");
}

#[test]
fn a_condition_cannot_multiply_a_selection_without_end() {
    let values: Vec<String> = (0..10_000).map(|n| n.to_string()).collect();
    let condition = vec!["s"; 500].join(" or ");
    let detection = format!("  s: {{f: [{}]}}\n  condition: {condition}\n", values.join(", "));
    assert_eq!(refused_detection(&detection), "too-many-leaves");
    let dashes = "-a ".repeat(20);
    assert_eq!(
        refused_detection(&format!("  s: {{f|windash: '{dashes}'}}\n  condition: s\n")),
        "too-many-leaves"
    );
}

/// So many levels of so many correlations, each over all of the level below.
fn levels(levels: usize, width: usize, generate: bool, mark: &str) -> String {
    let mut text = format!(
        "title: base\nname: base{mark}\nlogsource: {{category: x}}\ndetection:\n  s: {{f: 1}}\n  condition: s\n"
    );
    let mut below = vec![format!("base{mark}")];
    for level in 0..levels {
        let here: Vec<String> = (0..width).map(|n| format!("l{level}w{n}{mark}")).collect();
        for name in &here {
            let rules = below.join(", ");
            writeln!(
                text,
                "---\ntitle: {name}\nname: {name}\ncorrelation: {{type: event_count, rules: [{rules}], \
                 timespan: 5m, generate: {generate}, condition: {{gte: 2}}}}"
            )
            .unwrap();
        }
        below = here;
    }
    text
}

#[test]
fn correlations_over_correlations_are_bounded_by_what_they_refer_to() {
    let set = load_texts(&[&levels(10, 8, false, "")]);
    assert_eq!((set.rejected.as_slice(), set.rules.len()), ([].as_slice(), 81));
    // 1 + 30 for the first two levels, then 900 for each more.
    let set = load_texts(&[&levels(7, 30, false, "")]);
    let codes: Vec<&str> = set.rejected.iter().map(|r| r.code).collect();
    assert_eq!(codes, ["tree-too-large"; 30]);
    assert_eq!(set.rules.len(), 1 + 6 * 30);
    // All of them raise alerts: a tree for each, of about 275,000 references in a file.
    let files: Vec<String> = ["a", "b", "c", "d"].iter().map(|mark| levels(6, 30, true, mark)).collect();
    let set = load_texts(&files.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(set.rejected.iter().all(|r| matches!(r.code, "tree-too-large" | "refers-to-refused")));
    assert!(set.rules.iter().any(|rule| rule.name.as_deref() == Some("l5w29c")));
    assert!(set.rules.iter().all(|rule| rule.name.as_deref() != Some("l5w29d")));
}

#[test]
fn a_text_that_a_condition_repeats_counts_each_time() {
    let long = "x".repeat(100_000);
    let condition = vec!["s"; 1_000].join(" or ");
    assert_eq!(refused_detection(&format!("  s: {{f: {long}}}\n  condition: {condition}\n")), "too-large");
    let few = vec!["s"; 100].join(" or ");
    assert!(detected(&format!("  s: {{f: {long}}}\n  condition: {few}\n")).starts_with("(f='x"));
}

#[test]
fn copies_of_long_texts_are_bounded() {
    let long = "x".repeat(100_000);
    let aliases = format!("a: &a {long}\nb: [{}]\n", "*a, ".repeat(1000));
    assert_eq!(refused(&aliases).2, "too-many-nodes");
    let dashes = format!("  s: {{f|windash: '-a -b -c -d -e {long}'}}\n  condition: s\n");
    assert_eq!(refused_detection(&dashes), "too-large");
    let lists = format!("  s: {{f|expand: '{}{long}{long}'}}\n  condition: s\n", "%admins%".repeat(10));
    assert_eq!(refused_detection(&lists), "too-large");
    let tests = format!(
        "{}vedette: {{tests: [{{name: x, events: {{template: {{a: {long}}}, count: 10000}}, expect: {{alerts: 0}}}}]}}\n",
        rule_with("  s: {f: 1}\n  condition: s\n")
    );
    assert_eq!(refused(&tests).2, "too-large");
}

#[test]
fn many_regular_expressions_cannot_take_long() {
    let regexes: String = (100..999).map(|n| format!("'{n}\\w{{500}}', ")).collect();
    assert_eq!(
        refused_detection(&format!("  s: {{f|re: [{regexes}]}}\n  condition: s\n")),
        "regex-too-large"
    );
}

/// Rules that use everything, to mutate.
const SEED: &str = "title: Failed\nid: f\nname: failed\nlogsource: {product: x, category: api}\ndetection:\n  s:\n    a|contains|all: ['x*', \"y\\n\"]\n    \
b|re|i: 'a+'\n    c|cidr: 10.0.0.0/8\n    d: [1, null, true, 0x10]\n    e|wide|base64offset|contains: abcd\n    g|expand: '%admins%'\n  k: [word, 5]\n  condition: s and not 1 of k*\n---\n\
title: Many\ncorrelation:\n  type: value_count\n  rules: [failed]\n  group-by: [x]\n  aliases: {x: {failed: y}}\n  timespan: 5m\n  condition: {gte: 5, field: z}\nvedette:\n  entity: x\n  \
emit: {rearm: 5m}\n  tests:\n    - name: n\n      events: {template: {a: 1}, count: 3, every: 2s}\n      expect: {alerts: 1}\n";

/// What must hold of any input: nothing panics, places are in the file, references point backwards.
fn check(text: &str) {
    let set = load_texts(&[text]);
    for rejection in set.rejected.iter().chain(&set.warnings) {
        assert!(rejection.line >= 1 && rejection.column >= 1);
        assert!(!render(rejection, text, Style::default()).is_empty());
    }
    for (ix, rule) in set.iter() {
        match &rule.kind {
            RuleKind::Correlation(c) => assert!(c.rules.iter().all(|child| child < &ix)),
            RuleKind::Detection(d) => assert!(leaves_of(&d.condition).all(|leaf| leaf < d.leaves.len())),
        }
    }
}

fn leaves_of(expr: &Expr) -> Box<dyn Iterator<Item = usize> + '_> {
    match expr {
        Expr::And(parts) | Expr::Or(parts) => Box::new(parts.iter().flat_map(leaves_of)),
        Expr::Not(inner) => leaves_of(inner),
        Expr::Leaf(at) => Box::new(std::iter::once(*at)),
    }
}

#[test]
fn the_seed_is_valid() {
    assert_eq!(load_texts(&[SEED]).rejected, []);
    check(SEED);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn arbitrary_text_never_panics(text in "(?s).{0,200}") {
        check(&text);
    }

    #[test]
    fn yaml_like_text_never_panics(text in "([a-z]{1,4}|[:\\-\\[\\]{}&*!|>'\"%@`#,?\n\r\t ]|\u{feff}|  |: |- |---\n){0,60}") {
        check(&text);
    }

    #[test]
    fn mutated_rules_never_panic(at in 0..SEED.len(), cut in 0_usize..12, put in "[a-z0-9|:*?%'\"{}\\[\\]&\n ~-]{0,6}") {
        let end = (at + cut).min(SEED.len());
        check(&format!("{}{put}{}", &SEED[..at], &SEED[end..]));
    }

    #[test]
    fn conditions_never_panic(condition in "((s|t|not|and|or|of|1|all|them|\\(|\\)|[a-z*]{1,3}) ?){0,30}") {
        check(&rule_with(&format!("  s: {{f: 1}}\n  t: {{f: 2}}\n  condition: \"{condition}\"\n")));
    }

    #[test]
    fn a_cell_that_is_its_own_literal_stays_literal(text in "[a-zA-Z0-9 .:/-]{1,30}") {
        let pattern = pattern::parse(&text);
        prop_assert_eq!(pattern::plain_text(&pattern), Some(text));
    }
}
