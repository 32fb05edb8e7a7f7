//! Which sources a rule reads.

use serde_json::json;

use super::Bench;
use crate::EngineSettings;

/// Events of form `json` name their logsource themselves, whatever the definition says, so such a source is read by every
/// rule, and what it gives is released.
#[test]
fn a_json_source_with_a_logsource_of_its_own_is_read_by_every_rule() {
    let rule = "title: R\nid: 00000000-0000-4000-8000-000000000001\nlogsource: {product: linux}\n\
                detection: {a: {k: x}, condition: a}\n";
    let sources = [("lab", json!({"logsource": {"product": "windows"}}))];
    let mut bench = Bench::new(&sources, &["lab"], rule, EngineSettings::new([0; 32]));
    bench.read(("lab", 0), [(0, 100, json!({"product": "linux", "k": "x", "host": "h"}))]);
    bench.idle("lab", 0, 200);
    assert_eq!(bench.alerted(), ["R"]);
    assert_eq!(bench.compiled.sources_of(vedette_event::RuleIx(0)), ["lab"]);
}

/// What is counted of a source is what is counted of its partitions; without a readable time, events are flagged in the one they came by.
#[test]
fn partitions_are_counted_each_for_itself() {
    let rules = super::for_a_and_b("");
    let sources = ["a", "b"].map(super::source);
    let mut bench = Bench::new(&sources, &["a"], &rules, EngineSettings::new([0; 32]));
    for number in 0..2 {
        bench.assign("a", number);
    }
    bench.read(("a", 0), (0..3).map(|n| (n, n, super::hit(n))));
    bench.read(("a", 1), (0..5).map(|n| (n, n, super::hit(n))));
    let of = |number| bench.engine.partition_counters(bench.partition("a", number));
    let source = bench.engine.counters(bench.source("a"));
    assert_eq!((of(0).events, of(1).events, source.events), (3, 5, 8));
    let flagged = |counts: [u64; 5]| counts.iter().sum::<u64>();
    assert_eq!((flagged(of(0).flagged), flagged(of(1).flagged), flagged(source.flagged)), (3, 5, 8));
    assert_eq!(of(2), crate::PartitionCounters::default());
}
