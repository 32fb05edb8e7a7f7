//! Key groups: what a release, a checkpoint and putting in order cost goes by what is new and by what is asked for, not by all that is there.

use vedette_engine::{Effort, Engine, EngineSettings, KEY_GROUPS, Output};
use vedette_event::Micros;

use super::{PARTITION, SOURCE, compile, load, measured};

const RULES: &str = "title: base
name: base
id: base
logsource: {category: x}
detection: {s: {f: 1}, condition: s}
---
title: many
id: many
correlation: {type: event_count, rules: [base], group-by: [user], timespan: 1h, condition: {gte: 5}}
";

struct Bench {
    engine: Engine,
    detector: vedette_engine::Detector,
    out: Output,
    offset: i64,
}

impl Bench {
    fn new(rules: &str) -> Self {
        let rules = load(rules);
        assert_eq!(rules.rejected, []);
        let compiled = compile(rules);
        let detector = compiled.detector().expect("the source is sound");
        let mut engine = Engine::new(compiled, EngineSettings::new([7; 32]));
        engine.assign(PARTITION, SOURCE, 0);
        Self { engine, detector, out: Output::default(), offset: 0 }
    }

    /// Reads an event of each of these users from an instant on, a microsecond apart.
    fn read(&mut self, mut now: Micros, users: impl Iterator<Item = usize>) {
        let record = |user| format!(r#"{{"category":"x","f":1,"user":"user {user}"}}"#);
        for users in users.collect::<Vec<_>>().chunks(500) {
            let records: Vec<String> = users.iter().map(record).collect();
            let mut raw = vedette_event::RawBatchBuilder::new(SOURCE, PARTITION);
            for text in &records {
                raw.push(self.offset, Some(now), vedette_event::Flags::NONE, Some(text.as_bytes()));
                (self.offset, now) = (self.offset + 1, Micros(now.0 + 1));
            }
            self.engine.absorb(self.detector.detect(&raw.take()), &mut self.out);
        }
    }

    /// Lets through all that was read, when so many seconds have passed.
    fn pass(&mut self, second: i64) {
        self.engine.idle(PARTITION, self::second(second), &mut self.out);
    }

    fn effort(&mut self, task: impl FnOnce(&mut Self)) -> Effort {
        let before = self.engine.effort();
        task(self);
        let after = self.engine.effort();
        Effort {
            groups: after.groups - before.groups,
            sorted: after.sorted - before.sorted,
            bodies: after.bodies - before.bodies,
            swept: after.swept - before.swept,
            written: after.written - before.written,
        }
    }
}

const KEYS: usize = 20_000;

const fn second(n: i64) -> Micros {
    Micros(n * 1_000_000)
}

#[test]
fn a_release_with_one_new_finding_touches_one_group() {
    let mut bench = Bench::new(RULES);
    bench.read(second(10), 0..KEYS);
    bench.pass(100);
    assert_eq!(bench.engine.load().keys, KEYS);
    bench.read(second(110), std::iter::once(7));
    let effort = bench.effort(|bench| bench.pass(130));
    assert_eq!((effort.groups, effort.sorted, effort.swept), (1, 1, 0));
    let effort = bench.effort(|bench| bench.pass(140));
    assert_eq!(effort, Effort::default());
}

#[test]
fn a_checkpoint_walks_the_keys_of_its_group_alone() {
    let mut bench = Bench::new(RULES);
    bench.read(second(10), 0..KEYS);
    bench.pass(100);
    let each: Vec<u64> = (0..KEY_GROUPS)
        .map(|group| bench.effort(|bench| drop(bench.engine.checkpoint(group).expect("it is small"))).written)
        .collect();
    assert_eq!(each.iter().sum::<u64>(), KEYS as u64);
    assert!(each.iter().all(|keys| *keys < 2 * KEYS as u64 / 64), "{each:?}");
}

#[test]
fn findings_are_put_in_order_once() {
    let mut bench = Bench::new(RULES);
    // All in a fifth of a second, and each batch lets through what lies six seconds back.
    let effort = bench.effort(|bench| {
        bench.read(second(10), 0..KEYS);
        for step in 0..200 {
            // The rest comes late, and the watermark goes through it by little steps.
            bench.read(second(16), (0..10).map(|n| n + step));
            bench.engine.idle(PARTITION, Micros(second(16).0 + step as i64 * 100), &mut bench.out);
        }
        bench.pass(100);
    });
    assert_eq!(bench.engine.load().waiting, 0);
    assert!((22_000..24_000).contains(&effort.sorted), "{effort:?}");
}

#[test]
fn a_storm_makes_few_bodies_in_vain() {
    let rules = RULES.replace("gte: 5", "gte: 1");
    let mut bench = Bench::new(&rules);
    bench.read(second(10), 0..KEYS);
    let effort = bench.effort(|bench| bench.pass(60));
    let (folded, alone): (Vec<_>, Vec<_>) =
        bench.out.correlated.alerts.iter().partition(|said| said.alert.key.is_empty());
    assert_eq!((folded.len(), alone.len()), (1, 1_000));
    // A thousand, and of the groups that come later ever fewer: about 1,000 times the 64th harmonic number, at most.
    assert!(effort.bodies < 5_000, "{effort:?}");
}

#[test]
fn rules_without_keys_cost_nothing_in_any_group() {
    let rules = |n: usize| -> String {
        let rule = |n| {
            format!(
                "---\ntitle: t{n}\nid: t{n}\ncorrelation: {{type: event_count, rules: [base], group-by: [f{n}], \
                 timespan: 1h, condition: {{gte: 5}}}}\n"
            )
        };
        RULES.to_owned() + &(0..n).map(rule).collect::<String>()
    };
    let held = |n| {
        let compiled = compile(load(&rules(n)));
        let (engine, info) = measured(|| Engine::new(compiled, EngineSettings::new([7; 32])));
        drop(engine);
        info.bytes_max
    };
    let (few, many) = (held(1), held(1_001));
    assert!(many - few < 1_000 * 512, "{few} bytes for two rules, {many} for a thousand more");
}
