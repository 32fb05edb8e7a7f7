//! A version is needed as long as something that waits is said by it.

use std::sync::Arc;

use serde_json::json;
use vedette_event::Micros;
use vedette_sigma::{Lists, RuleFile};

use super::{Bench, for_a_and_b, hit};
use crate::{EngineSettings, TopicStanding, Version};

const EITHER: &str = "\
title: Either
id: 00000000-0000-4000-8000-00000000000c
correlation: {type: event_count, rules: [a, b], group-by: [host], timespan: 10s, condition: {gte: 1}}
";

fn bench(topics: &[&str], rules: &str, at_once: usize) -> Bench {
    let source = |name: &'static str| {
        (
            name,
            json!({
                "form": "api_json", "logsource": {"category": name}, "future": "10s",
                "fields": {"k": "k", "host": "host", "@timestamp": "at"},
            }),
        )
    };
    let settings = EngineSettings { alerts_at_once: at_once, ..EngineSettings::new([0; 32]) };
    Bench::new(&["a", "b"].map(source), topics, rules, settings)
}

/// Other rules from a second on.
fn reload(bench: &mut Bench, rules: &str, second: i64) {
    let file = RuleFile { path: "rules.yml".into(), text: rules.to_owned() };
    let sources = bench.engine.compiled().sources.clone();
    let rules = Arc::new(vedette_sigma::load(&[file], &Lists::new(), &sources));
    assert!(rules.rejected.is_empty(), "{:?}", rules.rejected);
    let with = bench.engine.compiled().with(Version::compile(rules, sources), Micros(second * 1_000_000));
    adopt(bench, &with);
}

fn adopt(bench: &mut Bench, compiled: &Arc<crate::Compiled>) {
    bench.compiled = bench.engine.adopt(compiled);
    bench.detector.adopt(compiled).unwrap();
}

fn outgrow(bench: &mut Bench) -> usize {
    let outgrown = bench.engine.outgrown();
    if outgrown > 0 {
        let without = bench.engine.compiled().without(outgrown);
        adopt(bench, &without);
    }
    outgrown
}

/// A release that stops at a number of alerts has not come to what the partitions have reached.
#[test]
fn a_version_is_needed_until_what_was_read_by_it_is_released() {
    let mut bench = bench(&["a", "b"], &for_a_and_b(EITHER), 1);
    for topic in ["a", "b"] {
        bench.assign(topic, 0);
    }
    bench.read(("a", 0), (0..50).map(|n| (n, 10 * n, hit(n))));
    reload(&mut bench, &for_a_and_b(&EITHER.replace("Either", "Renamed")), 501);
    for topic in ["a", "b"] {
        bench.read((topic, 0), [(50, 1_000, json!({}))]);
    }
    // What was said so far has been published.
    bench.out = crate::Output::default();
    let outgrown = outgrow(&mut bench);
    let mut titles = std::collections::BTreeSet::new();
    loop {
        titles.extend(bench.alerted());
        bench.out = crate::Output::default();
        if !bench.engine.go_on(&mut bench.out) {
            break;
        }
    }
    assert_eq!((titles.into_iter().collect::<Vec<_>>(), outgrown), (vec!["Either".to_owned()], 0));
}

/// Events that lie ahead of their records are of the version at their records' time: read again, they need it.
#[test]
fn a_version_is_needed_until_what_lies_ahead_of_its_records_is_released() {
    let mut bench = bench(&["a", "b"], &for_a_and_b(EITHER), 1);
    for topic in ["a", "b"] {
        bench.assign(topic, 0);
    }
    let ahead = |n: i64| json!({"k": "x", "host": format!("h{n}"), "at": 502 + n / 8});
    bench.read(("a", 0), (0..50).map(|n| (n, 500, ahead(n))));
    reload(&mut bench, &for_a_and_b(&EITHER.replace("Either", "Renamed")), 501);
    for topic in ["a", "b"] {
        bench.read((topic, 0), [(50, 1_000, json!({}))]);
    }
    let mut needed = vec![bench.engine.outgrown() == 0];
    bench.out = crate::Output::default();
    while bench.engine.go_on(&mut bench.out) {
        needed.push(bench.engine.outgrown() == 0);
        bench.out = crate::Output::default();
    }
    assert!(needed[0] && bench.engine.outgrown() == 1, "{needed:?}");
}

/// Its findings wait for a source of which nothing was ever read, and are read again after a restart.
#[test]
fn a_version_is_needed_while_findings_wait_for_a_topic_that_is_not_there_yet() {
    let mut bench = bench(&["a", "b"], &for_a_and_b(EITHER), usize::MAX);
    for topic in ["a", "b"] {
        bench.engine.expect(bench.partition(topic, 0).topic, bench.source(topic));
    }
    bench.assign("a", 0);
    bench.topic("a", TopicStanding::Read);
    bench.topic("b", TopicStanding::Stopped);
    bench.read(("a", 0), (0..50).map(|n| (n, 10 * n, hit(n))));
    // As a list would do it: the rule means the same.
    reload(&mut bench, &for_a_and_b(&EITHER.replace("Either", "Renamed")), 501);
    bench.read(("a", 0), [(50, 1_000, json!({}))]);
    let outgrown = outgrow(&mut bench);
    bench.topic("b", TopicStanding::Read);
    bench.assign("b", 0);
    bench.read(("b", 0), [(0, 1_000, json!({}))]);
    let titles: std::collections::BTreeSet<_> = bench.alerted().into_iter().collect();
    assert_eq!((titles.into_iter().collect::<Vec<_>>(), outgrown), (vec!["Either".to_owned()], 0));
}
