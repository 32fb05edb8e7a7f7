//! When something is released: with enough to release, or when somebody asks for it.

use serde_json::json;

use super::Bench;
use crate::EngineSettings;

const RULE: &str = "title: hit\nid: hit\nlogsource: {category: x}\ndetection: {s: {k: hit}, condition: s}\n";

/// A kernel that releases after so many findings.
fn bench(release_after: usize) -> Bench {
    let settings = EngineSettings { release_after, ..EngineSettings::new([0; 32]) };
    let mut bench = Bench::new(&[("lab", json!({}))], &["lab"], RULE, settings);
    bench.assign("lab", 0);
    bench
}

/// So many findings, one a minute, in one batch.
fn read(bench: &mut Bench, from: i64, findings: i64) {
    let record = |n: i64| (n, 60 * n, json!({"k": "hit", "host": format!("h{n}")}));
    bench.read(("lab", 0), (from..from + findings).map(record));
}

#[test]
fn what_is_due_waits_until_there_is_enough_or_somebody_asks() {
    let mut bench = bench(10);
    let watermark = |bench: &Bench| bench.engine.watermark(bench.source("lab")).0;
    read(&mut bench, 0, 9);
    assert_eq!((bench.alerted().len(), watermark(&bench)), (0, i64::MIN));
    read(&mut bench, 9, 1);
    assert_eq!(bench.alerted().len(), 9, "all but the last");
    let passed = watermark(&bench);
    assert!(passed > 480_000_000);

    read(&mut bench, 10, 4);
    bench.idle("lab", 0, 10_000);
    assert_eq!((bench.alerted().len(), watermark(&bench)), (9, passed));
    let mut out = std::mem::take(&mut bench.out);
    bench.engine.catch_up(&mut out);
    bench.out = out;
    assert_eq!(bench.alerted().len(), 14);
    assert!(watermark(&bench) > passed);
}

#[test]
fn groups_are_looked_at_less_often_where_more_is_let_through_at_once() {
    let looked_at = |release_after| {
        let mut bench = bench(release_after);
        (0..64).for_each(|n| read(&mut bench, n * 100, 100));
        let mut out = std::mem::take(&mut bench.out);
        bench.engine.finish(&mut out);
        bench.out = out;
        assert!(bench.alerted().len() > 1_000);
        (bench.engine.effort().groups, bench.alerted())
    };
    let ((often, mut alerts), (seldom, mut same)) = (looked_at(0), looked_at(1_600));
    assert!(seldom * 5 < often, "{seldom} and {often} groups");
    alerts.sort();
    same.sort();
    assert_eq!(alerts, same);
}
