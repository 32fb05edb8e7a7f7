//! Floods of keys: what is held is bounded by the budget, however many keys come.

use vedette_engine::{Engine, EngineSettings, Output};
use vedette_event::Micros;

use super::{PARTITION, SOURCE, batch, compile, load, measured};

const RULES: &str = r"
title: base
name: base
id: base
logsource: {category: x}
detection:
  s: {f: 1}
  condition: s
---
title: other
name: other
id: other
logsource: {category: x}
detection:
  s: {f: 2}
  condition: s
---
";

const KINDS: [&str; 4] = [
    "type: event_count, rules: [base], condition: {gte: 5}",
    "type: value_count, rules: [base], condition: {gte: 5, field: v}",
    "type: temporal, rules: [base, other]",
    "type: temporal_ordered, rules: [base, other]",
];

/// State entries a rule and key group; there are 64 groups.
const BUDGET: usize = 16;

/// Bytes held after so many keys, of which none is like another, and after they are long forgotten.
fn held(kind: &str, keys: usize) -> i64 {
    let text =
        format!("{RULES}title: flood\nid: flood\ncorrelation: {{{kind}, group-by: [user], timespan: 1h}}\n");
    let rules = load(&text);
    assert_eq!(rules.rejected, []);
    let compiled = compile(rules);
    let mut detector = compiled.detector().expect("the source is sound");
    let settings = EngineSettings { state: compiled.state_for(BUDGET), ..EngineSettings::new([7; 32]) };
    let mut engine = Engine::new(compiled, settings);
    engine.assign(PARTITION, SOURCE, 0);
    let mut offset = 0;
    let ((), info) = measured(|| {
        for chunk in (0..keys).collect::<Vec<_>>().chunks(500) {
            let record = |n: &usize| {
                let user = format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255);
                format!(r#"{{"category":"x","f":1,"v":{n},"user":"{user}"}}"#)
            };
            let records: Vec<String> = chunk.iter().map(record).collect();
            let mut out = Output::default();
            engine.absorb(detector.detect(&batch(offset, &records)), &mut out);
            offset += records.len() as i64;
            engine.idle(PARTITION, Micros(offset * 1_000_000), &mut out);
        }
    });
    info.bytes_current
}

#[test]
fn what_is_held_does_not_grow_with_the_keys_of_a_flood() {
    for kind in KINDS {
        // Ten panes of time have passed by the first. Each group knows 63 more networks after the second.
        let (few, many) = (held(kind, 8_000), held(kind, 24_000));
        assert!(many < few + (512 << 10), "{kind}: {few} bytes after 8,000 keys, {many} after 24,000");
        // Ten panes of a sketch of 4 kB for each group, and some hundred bytes an entry.
        assert!(many < 64 * (BUDGET * 1_000 + 10 * 4_096 + 4_096) as i64, "{kind}: {many} bytes");
    }
}

/// Bytes held after a flood within the budget, and when its keys are long forgotten; nothing comes in between.
fn left(kind: &str) -> (i64, i64) {
    let text =
        format!("{RULES}title: flood\nid: flood\ncorrelation: {{{kind}, group-by: [user], timespan: 6h}}\n");
    let compiled = compile(load(&text));
    let mut detector = compiled.detector().expect("the source is sound");
    let mut engine = Engine::new(compiled, EngineSettings { notices: true, ..EngineSettings::new([7; 32]) });
    engine.assign(PARTITION, SOURCE, 0);
    let mut read = |engine: &mut Engine, from: i64, to: i64| {
        for first in (from..to).step_by(500) {
            let record = |n: i64| format!(r#"{{"category":"x","f":1,"v":{n},"user":"user {n}"}}"#);
            let records: Vec<String> = (first..to.min(first + 500)).map(record).collect();
            engine.absorb(detector.detect(&batch(first, &records)), &mut Output::default());
        }
    };
    // So that memory that is reused is there.
    read(&mut engine, 0, 500);
    let ((), flood) = measured(|| read(&mut engine, 500, 20_000));
    let pass = |engine: &mut Engine, hours: i64| {
        engine.idle(PARTITION, Micros(24_000_000_000 + hours * 3_600_000_000), &mut Output::default());
    };
    let ((), rest) = measured(|| (1..48).for_each(|hours| pass(&mut engine, hours)));
    (flood.bytes_current, flood.bytes_current + rest.bytes_current)
}

#[test]
fn what_a_flood_took_is_given_back_when_it_is_over() {
    for kind in KINDS {
        let (flood, after) = left(kind);
        assert!(flood > 1 << 20 && after < flood / 8, "{kind}: {flood} bytes, {after} left");
    }
}
