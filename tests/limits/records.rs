//! Records made to be dear: what rules may cost over them goes by their length.

use std::sync::Arc;

use vedette_detect::{
    Program,
    work::{BUDGET, Work},
};
use vedette_engine::{Compiled, Detector};
use vedette_event::{DeadReason, raw::MAX_RECORD_BYTES};
use vedette_sigma::{Lists, RuleSet};

use super::{SOURCE, batch, compile, load, measured, sources};

/// Rules that look at fields `a` and `b` and at the whole event in every way there is.
const RULES: &str = r"
title: every way
id: every-way
logsource: {category: test}
detection:
    equal: {a|fieldref: b}
    cased: {a|fieldref|cased: b}
    starts: {a|fieldref|startswith: b}
    ends: {a|fieldref|endswith: b}
    contains: {a|fieldref|contains: b}
    networks: {a|cidr: [10.0.0.0/8, 192.168.0.0/16, '2001:db8::/32']}
    numbers: {a|gt: 1000000}
    texts: {a|contains: [x1y, whoami, '\x2f']}
    wild: {a: ['*q?z*', '*alpha*beta*gamma*']}
    regex: {a|re: ['(x+x+)+y', '[a-z]{3,40}9$', '(?i)\bwhoami\b']}
    none: {a|contains|neq: zzzz}
    null: {never: null}
    words: [never-there, '*w?rd*', no]
    condition: null and (equal or cased or starts or ends or contains or networks or numbers or texts or wild or regex or words) and none
";

/// A record of about so many bytes.
type Hostile = (&'static str, fn(usize) -> String);

fn list(n: usize, element: impl Fn(usize) -> String) -> String {
    (0..n).map(element).collect::<Vec<_>>().join(",")
}

const HOSTILE: [Hostile; 12] = [
    ("two lists", |n| {
        let (a, b) = (list(n / 14, |k| k.to_string()), list(n / 14, |k| (n + k).to_string()));
        format!(r#"{{"a":[{a}],"b":[{b}]}}"#)
    }),
    ("two lists of one letter", |n| {
        let letters = |letter: &str, n: usize| list(n, |k| format!("\"{}\"", letter.repeat(1 + k % 60)));
        format!(r#"{{"a":[{}],"b":[{}]}}"#, letters("a", n / 70), letters("b", n / 70))
    }),
    ("a text and a list", |n| {
        format!(r#"{{"a":"{}","b":[{}]}}"#, "a".repeat(n / 2), list(n / 20, |k| format!("\"b{k}\"")))
    }),
    ("many keys", |n| format!("{{{}}}", list(n / 16, |k| format!(r#""k{k}":"v{k}""#)))),
    ("one key many times", |n| format!("{{{}}}", list(n / 7, |k| format!(r#""a":{}"#, k % 10)))),
    ("deep", |n| {
        let deep = format!("{}1{}", "[".repeat(120), "]".repeat(120));
        format!(
            r#"{{"a":[{}],"b":{{"c":[{}]}}}}"#,
            list(n / 490, |_| deep.clone()),
            list(n / 490, |_| deep.clone())
        )
    }),
    ("a text for expressions", |n| format!(r#"{{"a":"{}"}}"#, "x".repeat(n))),
    ("a text for prefixes", |n| format!(r#"{{"a":"{}"}}"#, "alphabetagammq".repeat(n / 14))),
    ("many strings", |n| format!(r#"{{"c":[{}]}}"#, list(n / 9, |k| format!("\"w{k}\"")))),
    ("escapes", |n| format!(r#"{{"a":"{}","c":"{}"}}"#, r"\u0061".repeat(n / 12), r"\/".repeat(n / 4))),
    ("addresses", |n| {
        format!(r#"{{"a":[{}]}}"#, list(n / 14, |k| format!("\"11.{}.{}.7\"", k / 256 % 256, k % 256)))
    }),
    ("digits", |n| format!(r#"{{"a":[{}]}}"#, list(n / 251, |_| "9".repeat(250)))),
];

struct Bench {
    compiled: Arc<Compiled>,
    program: Program,
    detector: Detector,
}

impl Bench {
    fn new(rules: RuleSet) -> Self {
        assert!(rules.rejected.is_empty(), "{:?}", rules.rejected);
        let compiled = compile(rules);
        let program = Program::compile(
            &compiled.rules,
            SOURCE,
            &sources(),
            compiled.newest().projection(SOURCE).fields(),
        );
        let detector = compiled.detector().expect("the source is sound");
        Self { compiled, program, detector }
    }

    /// What a record costs: its steps, none if it was refused; bytes allocated in all and at once.
    fn costs(&mut self, record: &str) -> (Option<Work>, u64, u64) {
        let raw = batch(0, &[record.to_owned()]);
        let (detected, info) = measured(|| self.detector.detect(&raw));
        let refused = detected.dead.iter().any(|letter| letter.reason == DeadReason::TooDear);
        assert!(refused || detected.batches.len() == 1, "{:?}", detected.dead[0].detail);
        let work = detected.batches.first().map(|batch| self.program.work(&batch.events, 0));
        (work, info.bytes_total, info.bytes_max)
    }
}

#[test]
fn what_a_record_costs_goes_by_its_length() {
    const SIZE: usize = 32 << 10;
    let mut bench = Bench::new(load(RULES));
    bench.costs("{}");
    for (name, hostile) in HOSTILE {
        let (record, twice) = (hostile(SIZE), hostile(2 * SIZE));
        // So that memory that is reused is there.
        bench.costs(&twice);
        let (work, bytes, _) = bench.costs(&record);
        let (double, double_bytes, held) = bench.costs(&twice);
        let (work, double) = (work.expect("evaluated").steps, double.expect("evaluated").steps);
        assert!(double <= work * 23 / 10 + 1_000, "{name}: {work} steps, {double} for one twice as long");
        let slack = 1 << 20;
        assert!(
            double_bytes <= bytes * 23 / 10 + slack,
            "{name}: {bytes} bytes, {double_bytes} for one twice as long"
        );
        assert!(held <= 64 * twice.len() as u64 + slack, "{name}: {held} bytes held at once");
    }
}

#[test]
fn the_longest_hostile_records_are_within_the_budget_or_refused() {
    let mut bench = Bench::new(load(RULES));
    for (name, hostile) in HOSTILE {
        let record = hostile(MAX_RECORD_BYTES * 9 / 10);
        assert!(record.len() <= MAX_RECORD_BYTES, "{name} has {} bytes", record.len());
        let raw = batch(0, &[record]);
        let mut decoder = bench.compiled.decoder(SOURCE).expect("the source is sound");
        let (mut events, mut dead) = (Vec::new(), Vec::new());
        decoder.decode(&raw, &mut events, &mut dead);
        let work = bench.program.work(&events[0], 0);
        let refused = bench.program.too_dear(&events[0], BUDGET);
        assert_eq!(work.steps > BUDGET, !refused.is_empty(), "{name}");
        assert!(work.steps <= BUDGET, "{name}: {} steps for ordinary rules", work.steps);
    }
    // Short ones run.
    assert!(bench.costs(r#"{"a":"whoami","c":"word"}"#).0.is_some());
}

/// A rule that asks for more than a record may cost, and what becomes of short and long records.
#[test]
fn a_rule_that_is_too_dear_refuses_long_records_only() {
    let dear: Vec<String> = (0..20).map(|n| format!("'{n}[a-z]{{900}}'")).collect();
    let rules = format!(
        "title: dear\nid: dear\nlogsource: {{category: x}}\ndetection:\n  s:\n    a|re: [{}]\n  condition: s\n",
        dear.join(", ")
    );
    let mut bench = Bench::new(load(&rules));
    let record = |bytes: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes));
    let (work, ..) = bench.costs(&record(1_000));
    let work = work.expect("evaluated");
    assert!(work.steps <= BUDGET && work.dearest.is_some_and(|(_, share)| share == work.steps), "{work:?}");
    let most = (BUDGET / work.steps * 1_000) as usize;
    assert!(most < MAX_RECORD_BYTES, "{most}");
    let (work, bytes, _) = bench.costs(&record(MAX_RECORD_BYTES - 100));
    assert_eq!(work, None);
    assert!(bytes < 16 * MAX_RECORD_BYTES as u64, "{bytes}");
}

/// A list of networks over a list of addresses: not their product.
#[test]
fn many_networks_cost_what_one_of_each_length_costs() {
    let rules = |n: usize| {
        let networks = list(n, |k| format!("10.{}.{}.0/24", k / 256 % 256, k % 256));
        format!(
            "title: n\nid: n\nlogsource: {{category: x}}\ndetection:\n  s:\n    a|cidr: [{networks}]\n  condition: s\n"
        )
    };
    let record =
        |n: usize| format!(r#"{{"a":[{}]}}"#, list(n, |k| format!("\"11.{}.{}.7\"", k / 256, k % 256)));
    let steps = |networks: usize, addresses: usize| {
        let mut bench = Bench::new(load(&rules(networks)));
        let (work, bytes, held) = bench.costs(&record(addresses));
        assert!(held < 4 << 20, "{held} of {bytes} bytes held at once");
        work.expect("evaluated").steps
    };
    let few = steps(10, 2_000);
    assert_eq!(steps(5_000, 2_000), few);
    assert!(few < 2_000 * 100, "{few}");
    let hits = |record: &str| {
        let mut bench = Bench::new(load(&rules(5_000)));
        bench.detector.detect(&batch(0, &[record.to_owned()])).batches[0].hits.len()
    };
    assert_eq!((hits(r#"{"a":["11.0.0.1","10.19.2.1"]}"#), hits(&record(2_000))), (1, 0));
}

/// All rules of the community over the longest record, in each field that any of them looks at.
#[test]
fn the_community_s_rules_are_within_the_budget_over_the_longest_record() {
    let Some(files) = crate::conformance::rule_files("sigmahq") else { return };
    let rules = vedette_sigma::load(
        &files,
        &Lists::from([("known_cdcs".to_owned(), vec!["dc".to_owned()])]),
        &sources(),
    );
    let bench = Bench::new(rules);
    // Of the longest record, since steps go by its length.
    const PART: usize = 64;
    let mut worst = (0, String::new());
    let mut decoder = bench.compiled.decoder(SOURCE).expect("the source is sound");
    for field in bench.compiled.newest().projection(SOURCE).fields() {
        let long = "lorem ipsum ".repeat(MAX_RECORD_BYTES / 12 / PART);
        let raw = batch(0, &[serde_json::json!({ &**field: long }).to_string()]);
        let (mut events, mut dead) = (Vec::new(), Vec::new());
        decoder.decode(&raw, &mut events, &mut dead);
        let steps = bench.program.work(&events[0], 0).steps * PART as u64;
        worst = worst.max((steps, field.to_string()));
    }
    println!("the dearest record of {MAX_RECORD_BYTES} bytes: {} steps, all in `{}`", worst.0, worst.1);
    assert!(worst.0 < BUDGET / 8 * 7, "{worst:?}");
}
