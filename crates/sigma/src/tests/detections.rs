//! What is written in `detection:` becomes what the specification says.

use rstest::rstest;

use super::*;

#[rstest]
#[case::text("f: abc", "f='abc'")]
#[case::quoted_number("f: '5'", "f='5'")]
#[case::number("f: 5", "f=#5")]
#[case::float("f: 5.0", "f=#5")]
#[case::fraction("f: -0.5", "f=#-0.5")]
#[case::hex("f: 0x10", "f=#16")]
#[case::boolean("f: true", "f=true")]
#[case::yes_is_text("f: yes", "f='yes'")]
#[case::date_is_text("f: 2024-01-01", "f='2024-01-01'")]
#[case::null("f: null", "f=null")]
#[case::nothing("f:", "f=null")]
#[case::empty("f: ''", "f=''")]
#[case::tagged("f: !!str 5", "f='5'")]
#[case::wildcards(r"f: 'a*b?c\*d\\*'", r"f='a⟨*⟩b⟨?⟩c*d\⟨*⟩'")]
#[case::nested("a.b.c: x", "a.b.c='x'")]
#[case::spaces("Some Field: x", "Some Field='x'")]
#[case::list("f: [a, 5, null]", "(f='a' | f=#5 | f=null)")]
#[case::contains("f|contains: a", "f='⟨*⟩a⟨*⟩'")]
#[case::startswith("f|startswith: a", "f='a⟨*⟩'")]
#[case::endswith(r"f|endswith: '\x.exe'", r"f='⟨*⟩\x.exe'")]
#[case::contains_number("f|contains: 5", "f='⟨*⟩5⟨*⟩'")]
#[case::contains_merges("f|contains: '*a*'", "f='⟨*⟩a⟨*⟩'")]
#[case::all("f|contains|all: [a, b]", "(f='⟨*⟩a⟨*⟩' & f='⟨*⟩b⟨*⟩')")]
#[case::cased("f|cased: Ab", "f=='Ab'")]
#[case::contains_cased("f|contains|cased: Ab", "f=='⟨*⟩Ab⟨*⟩'")]
#[case::regex("f|re: '^a.b$'", "f~/^a.b$/")]
#[case::regex_flags("f|re|i|s: 'a'", "f~/(?is)a/")]
#[case::cidr("f|cidr: 10.0.0.0/8", "f∈10.0.0.0/8")]
#[case::cidr_address("f|cidr: 10.1.2.3", "f∈10.1.2.3/32")]
#[case::cidr6("f|cidr: ['2001:db8::/32', '::ffff:10.0.0.0/104']", "(f∈2001:db8::/32 | f∈10.0.0.0/8)")]
#[case::compare("f|gte: 5", "f Gte 5")]
#[case::compare_quoted("f|lt: '0.5'", "f Lt 0.5")]
#[case::exists("f|exists: true", "f exists true")]
#[case::exists_not("f|exists: false", "f exists false")]
#[case::fieldref("f|fieldref: g", "f Equal(g, false)")]
#[case::fieldref_how("f|fieldref|endswith|cased: g", "f EndsWith(g, true)")]
#[case::neq("f|neq: 5", "f≠(=#5)")]
#[case::neq_list("f|neq: [a, b]", "(f≠(='a') & f≠(='b'))")]
#[case::neq_null("f|neq: null", "f exists true")]
#[case::neq_contains("f|contains|neq: a", "f≠(='⟨*⟩a⟨*⟩')")]
#[case::windash(
    "f|windash|contains: ' -a'",
    "(f='⟨*⟩ -a⟨*⟩' | f='⟨*⟩ /a⟨*⟩' | f='⟨*⟩ –a⟨*⟩' | f='⟨*⟩ —a⟨*⟩' | f='⟨*⟩ ―a⟨*⟩')"
)]
#[case::windash_all(
    "f|contains|windash|all: ['-a', b]",
    "((f='⟨*⟩-a⟨*⟩' | f='⟨*⟩/a⟨*⟩' | f='⟨*⟩–a⟨*⟩' | f='⟨*⟩—a⟨*⟩' | f='⟨*⟩―a⟨*⟩') & f='⟨*⟩b⟨*⟩')"
)]
#[case::base64("f|base64|contains: foo", "f='⟨*⟩Zm9v⟨*⟩'")]
#[case::base64offset(
    "f|base64offset|contains: foobar",
    "(f='⟨*⟩Zm9vYmFy⟨*⟩' | f='⟨*⟩Zvb2Jhc⟨*⟩' | f='⟨*⟩mb29iYX⟨*⟩')"
)]
#[case::wide("f|wide|base64: Test", "f='VABlAHMAdAA='")]
#[case::utf16le("f|utf16le|base64: Test", "f='VABlAHMAdAA='")]
#[case::utf16be("f|utf16be|base64: AB", "f='AEEAQg=='")]
#[case::utf16("f|utf16|base64: A", "f='//5BAA=='")]
#[case::expand("f|expand: 'x-%admins%'", "(f='x-alice' | f='x-b⟨*⟩b')")]
#[case::expand_contains("f|contains|expand: '%admins%'", "(f='⟨*⟩alice⟨*⟩' | f='⟨*⟩b⟨*⟩b⟨*⟩')")]
#[case::expand_twice(
    "f|expand: '%admins%/%admins%'",
    "(f='alice/alice' | f='alice/b⟨*⟩b' | f='b⟨*⟩b/alice' | f='b⟨*⟩b/b⟨*⟩b')"
)]
#[case::expand_cidr("f|cidr|expand: '%nets%'", "(f∈10.0.0.0/8 | f∈2001:db8::/32)")]
#[case::expand_empty("f|expand: '%none%'", "()")]
#[case::percent_without_expand("f: '%admins%'", "f='%admins%'")]
fn one_item(#[case] item: &str, #[case] expected: &str) {
    assert_eq!(detected(&format!("  s:\n    {item}\n  condition: s\n")), expected);
}

#[rstest]
#[case::keyword("  k: abc\n  condition: k\n", "§='⟨*⟩abc⟨*⟩'")]
#[case::keywords("  k: [a, 5]\n  condition: k\n", "(§='⟨*⟩a⟨*⟩' | §='⟨*⟩5⟨*⟩')")]
#[case::keywords_all("  k: {'|all': [a, b]}\n  condition: k\n", "(§='⟨*⟩a⟨*⟩' & §='⟨*⟩b⟨*⟩')")]
#[case::keyword_regex("  k: {'|re': 'a+'}\n  condition: k\n", "§~/a+/")]
#[case::map("  s: {a: 1, b: 2}\n  condition: s\n", "(a=#1 & b=#2)")]
#[case::maps("  s: [{a: 1, b: 2}, {c: 3}]\n  condition: s\n", "((a=#1 & b=#2) | c=#3)")]
#[case::maps_and_keywords("  s: [{a: 1}, word]\n  condition: s\n", "(a=#1 | §='⟨*⟩word⟨*⟩')")]
#[case::precedence(
    "  a: {f: 1}\n  b: {f: 2}\n  c: {f: 3}\n  condition: a or b and not c\n",
    "(f=#1 | (f=#2 & !f=#3))"
)]
#[case::parentheses(
    "  a: {f: 1}\n  b: {f: 2}\n  c: {f: 3}\n  condition: (a or b) and c\n",
    "((f=#1 | f=#2) & f=#3)"
)]
#[case::one_of(
    "  s_a: {f: 1}\n  s_b: {f: 2}\n  x: {f: 3}\n  condition: 1 of s_* and x\n",
    "((f=#1 | f=#2) & f=#3)"
)]
#[case::all_of("  s_a: {f: 1}\n  s_b: {f: 2}\n  condition: all of s_*\n", "(f=#1 & f=#2)")]
#[case::them_leaves_out_underscores("  a: {f: 1}\n  _b: {f: 2}\n  condition: all of them\n", "f=#1")]
#[case::underscores_by_name("  _a: {f: 1}\n  _b: {f: 2}\n  condition: all of _*\n", "(f=#1 & f=#2)")]
#[case::several_conditions("  a: {f: 1}\n  b: {f: 2}\n  condition: [a, b]\n", "(f=#1 | f=#2)")]
#[case::capitals("  a: {f: 1}\n  b: {f: 2}\n  condition: a AND NOT b\n", "(f=#1 & !f=#2)")]
fn whole_detections(#[case] detection: &str, #[case] expected: &str) {
    assert_eq!(detected(detection), expected);
}

#[test]
fn leaves_are_distinct_and_all_are_used() {
    let rule =
        only(&rule_with("  a: {f: 1, g: 2}\n  b: {f: 1}\n  unused: {h: 3}\n  condition: a or b or not a\n"));
    let RuleKind::Detection(detection) = &rule.kind else { panic!("a detection") };
    assert_eq!(detection.leaves.len(), 2);
}

#[rstest]
#[case("f|contain: a", "unknown-modifier")]
#[case("f|hour: 3", "not-supported")]
#[case("f|contains: null", "null-as-text")]
#[case("f: []", "empty-selection")]
#[case("f: {a: b}", "wrong-type")]
#[case("f: [[a]]", "wrong-type")]
#[case("f: 010", "ambiguous-number")]
#[case("f: 1e5", "ambiguous-number")]
#[case("f: 1.0e999", "ambiguous-number")]
#[case("f|re: '(?=a)'", "bad-regex")]
#[case("f|re: '(a)\\1'", "bad-regex")]
#[case("f|re: '(((a{1,1000}){1,1000}){1,1000})'", "regex-too-large")]
#[case("f|cidr: 10.0.0.1/8", "bad-network")]
#[case("f|cidr: '10.*'", "bad-network")]
#[case("f|gt: many", "wrong-type")]
#[case("f|gt: 9007199254740993", "inexact-number")]
#[case("f|exists: 1", "wrong-type")]
#[case("f|expand: '%nobody%'", "unknown-list")]
#[case("f|expand: nobody", "no-placeholder")]
#[case("f|cidr|expand: '%admins%'", "bad-network")]
#[case("f|base64: 'a*'", "wildcard-encoded")]
#[case("f|base64offset|contains: a", "too-short")]
#[case("f|fieldref:", "wrong-type")]
#[case("vedette.source: waf", "stamped-field")]
#[case("'': x", "missing-field")]
#[case("'|gt': 5", "missing-field")]
#[case("<<: {a: b}", "merge-key")]
#[case("f: !odd x", "unknown-tag")]
fn refused_items(#[case] item: &str, #[case] code: &str) {
    assert_eq!(refused_detection(&format!("  s:\n    {item}\n  condition: s\n")), code);
}

#[rstest]
#[case("  s: {f: 1}\n", "missing-condition")]
#[case("  s: {f: 1}\n  condition: []\n", "missing-condition")]
#[case("  s: {f: 1}\n  condition: t\n", "unknown-identifier")]
#[case("  s: {f: 1}\n  condition: 1 of t*\n", "unknown-identifier")]
#[case("  s: {f: 1}\n  condition: s | count() > 3\n", "aggregation")]
#[case("  s: {f: 1}\n  timeframe: 5m\n  condition: s\n", "meaningless-key")]
#[case("  s: {f: 1}\n  bad: {f|nope: 1}\n  condition: s\n", "unknown-modifier")]
#[case("  s: {}\n  condition: s\n", "empty-selection")]
#[case("  s: []\n  condition: s\n", "empty-selection")]
fn refused_detections(#[case] detection: &str, #[case] code: &str) {
    assert_eq!(refused_detection(detection), code);
}
