//! Files whose times cannot be read: they are not held as a whole, and what has no time meets rules of one event only.

use vedette_engine::{Engine, EngineSettings, Output};
use vedette_event::{Flags, RawBatchBuilder};

use super::{PARTITION, SOURCE, compile, load, measured};

const RULES: &str = "title: hit
name: hit
id: hit
logsource: {category: x}
detection: {s: {f: 1}, condition: s}
vedette: {entity: user}
---
title: many
id: many
correlation: {type: event_count, rules: [hit], generate: true, group-by: [user], timespan: 1h, condition: {gte: 3}}
";

/// The rules that fired over records of 400 bytes, of which the one of that number has a time; how many events had none in time, and
/// the bytes held before the end.
fn scan(records: usize, timed: Option<usize>) -> (Vec<String>, u64, i64) {
    let compiled = compile(load(RULES));
    let mut detector = compiled.detector().expect("the source is sound");
    let mut engine = Engine::new(compiled, EngineSettings::new([7; 32]));
    engine.assign(PARTITION, SOURCE, 0);
    let (pad, mut out) = ("x".repeat(340), Output::default());
    let ((), info) = measured(|| {
        for first in (0..records).step_by(500) {
            let mut raw = RawBatchBuilder::new(SOURCE, PARTITION);
            for n in first..first + 500 {
                // A few of a batch are findings.
                let f = u8::from(n % 100 == 0);
                let time = if Some(n) == timed { r#""@timestamp":"2026-01-01T00:00:00Z","# } else { "" };
                let text = format!(r#"{{{time}"category":"x","f":{f},"user":"u","pad":"{pad}"}}"#);
                raw.push(n as i64, None, Flags::NONE, Some(text.as_bytes()));
            }
            engine.absorb(detector.detect(&raw.take()), &mut out);
        }
    });
    engine.finish(&mut out);
    let mut rules: Vec<_> = out.correlated.alerts.iter().map(|p| p.alert.rule.id.to_string()).collect();
    rules.sort();
    rules.dedup();
    (rules, engine.undated(PARTITION), info.bytes_current)
}

#[test]
fn a_file_without_times_is_not_held_and_correlates_nothing() {
    let (rules, undated, held) = scan(100_000, None);
    assert_eq!((rules, undated), (vec!["hit".to_owned()], 100_000));
    println!("{held} bytes of 40 MB are held");
    assert!(held < 4 << 20, "{held} bytes are held");
}

#[test]
fn a_first_time_dates_what_stands_before_it_if_it_comes_soon() {
    let (rules, undated, held) = scan(10_000, Some(9_000));
    assert_eq!((rules, undated), (vec!["hit".to_owned(), "many".to_owned()], 0));
    assert!(held < 4 << 20, "{held} bytes are held");
    // Of what stands behind a late one all have a time.
    let (rules, undated, _) = scan(60_000, Some(59_999));
    assert_eq!((rules, undated), (vec!["hit".to_owned()], 59_999));
    let (rules, undated, _) = scan(60_000, Some(50_000));
    assert_eq!((rules, undated), (vec!["hit".to_owned(), "many".to_owned()], 50_000));
}
