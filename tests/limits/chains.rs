//! What a chain holds of each event that its children give it.

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
title: child
name: child
id: child
correlation: {type: event_count, rules: [base], group-by: [u], timespan: 1h, condition: {gte: 10}}
vedette: {emit: {rearm: 1s}}
";

/// Bytes held after so many events of one user, each of which crosses the child, but for the first nine.
fn held(rules: &str, events: i64) -> i64 {
    let rules = load(rules);
    assert_eq!(rules.rejected, []);
    let compiled = compile(rules);
    let mut detector = compiled.detector().expect("the source is sound");
    let mut engine = Engine::new(compiled, EngineSettings::new([7; 32]));
    engine.assign(PARTITION, SOURCE, 0);
    let ((), info) = measured(|| {
        let mut out = Output::default();
        for n in 0..events {
            let record = r#"{"category":"x","f":1,"u":"somebody"}"#.to_owned();
            engine.absorb(detector.detect(&batch(3 * n, &[record])), &mut out);
            engine.idle(PARTITION, Micros((3 * n + 60) * 1_000_000), &mut out);
        }
        drop(out);
    });
    info.bytes_current
}

/// The references of ten events, delta-coded, and a short key: not the bodies that they become.
#[test]
fn a_child_event_is_held_in_some_hundred_bytes() {
    let chain = |n: u32| {
        format!(
            "{RULES}---\ntitle: chain\nid: chain\ncorrelation: {{type: event_count, rules: [child], \
             timespan: 30d, condition: {{gte: {n}}}}}\n"
        )
    };
    let (many, few) = (held(&chain(1_000_000), 1_009), held(&chain(1_000_000), 109));
    let each = (many - few) / 900;
    assert!((100..=500).contains(&each), "{each} bytes a child event");
}
