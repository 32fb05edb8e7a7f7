//! A budget of bytes: floods of keys over fifty rules at once stay within it, whoever had state stays exact, it is said, and the memory
//! comes back.

use std::collections::BTreeSet;

use vedette_correlate::HealthSignal;
use vedette_engine::{Detector, Engine, EngineSettings, NOTICE_ENTRY, Output, WaitingBudget};
use vedette_event::{Flags, Micros, Partition, RawBatchBuilder, RuleIx, time::HOUR};

use super::{PARTITION, SOURCE, compile, load, measured};

/// The flood comes from another partition than the victim's events, whose offsets are then the same with and without it.
const FLOOD: Partition = Partition { number: 1, ..PARTITION };

const STATE: usize = 96 << 20;
const WAITING: usize = 8 << 20;
const NOTICES: usize = 2 << 20;
/// Keys of the flood.
const KEYS: usize = 24_000;
/// What may be left of all when it is over.
const REST: i64 = 6 << 20;

const BASE: &str = "
title: a
name: a
id: a
logsource: {category: x}
detection: {s: {f: 1}, condition: s}
---
title: b
name: b
id: b
logsource: {category: x}
detection: {s: {f: 2}, condition: s}
---
title: c
name: c
id: c
logsource: {category: x}
detection: {s: {f: 3}, condition: s}
";

/// Fifty rules over the same events, of all kinds.
fn rules() -> String {
    let kinds: [(&str, usize); 5] = [
        ("type: event_count, rules: [a, b, c], condition: {gte: 8}", 20),
        ("type: value_count, rules: [a, b, c], condition: {gte: 8, field: v}", 10),
        ("type: temporal, rules: [a, b, c]", 8),
        ("type: temporal_ordered, rules: [a, b, c]", 6),
        ("type: event_count, rules: [a, b, c], condition: {gte: 8, lte: 100000}", 3),
    ];
    let mut text = BASE.to_owned();
    for (kind, times) in kinds {
        for _ in 0..times {
            let n = text.len();
            text += &format!(
                "---\ntitle: t{n}\nid: t{n}\ncorrelation: {{{kind}, group-by: [user], timespan: 1h}}\n"
            );
        }
    }
    for n in 0..3 {
        text += &format!(
            "---\ntitle: s{n}\nid: s{n}\nlogsource: {{category: x}}\ndetection: {{s: {{f: [1, 2, 3]}}, condition: s}}\n\
             vedette: {{entity: user}}\n"
        );
    }
    text
}

struct World {
    engine: Engine,
    detector: Detector,
    out: Output,
    next: [i64; 2],
}

impl World {
    fn new(rules: &str) -> Self {
        let rules = load(rules);
        assert_eq!(rules.rejected, []);
        let compiled = compile(rules);
        let detector = compiled.detector().expect("the source is sound");
        let settings = EngineSettings {
            state: STATE,
            waiting: WaitingBudget::of(WAITING),
            notices: true,
            notice_budget: NOTICES / NOTICE_ENTRY / 3 * 2,
            ..EngineSettings::new([7; 32])
        };
        let mut engine = Engine::new(compiled, settings);
        for partition in [PARTITION, FLOOD] {
            engine.assign(partition, SOURCE, 0);
        }
        Self { engine, detector, out: Output::default(), next: [0; 2] }
    }

    /// Reads records of a partition at an instant: `f`, `v`, user.
    fn read(&mut self, partition: Partition, now: Micros, records: &[(u8, usize, String)]) {
        let next = &mut self.next[partition.number as usize];
        let texts: Vec<String> = records
            .iter()
            .map(|(f, v, user)| format!(r#"{{"category":"x","f":{f},"v":"v{v}","user":"{user}"}}"#))
            .collect();
        let mut raw = RawBatchBuilder::new(SOURCE, partition);
        for text in &texts {
            raw.push(*next, Some(now), Flags::NONE, Some(text.as_bytes()));
            *next += 1;
        }
        self.engine.absorb(self.detector.detect(&raw.take()), &mut self.out);
    }

    /// Nothing is unread; keeps what is to be looked at of what came.
    fn pass(&mut self, now: Micros, kept: &mut Kept) {
        for partition in [PARTITION, FLOOD] {
            self.engine.idle(partition, now, &mut self.out);
        }
        let out = std::mem::take(&mut self.out.correlated);
        for published in out.alerts.into_iter().filter(|p| format!("{:?}", p.alert.key).contains("victim")) {
            kept.bodies.insert(serde_json::to_string(&published.alert).expect("a body"));
        }
        for health in out.health {
            match health {
                HealthSignal::OverBudget { rule, prefixes, .. } => {
                    kept.over.insert(rule);
                    kept.prefixes = kept.prefixes.max(prefixes.len());
                }
                HealthSignal::WithinBudget { rule, group, .. } => drop(kept.within.insert((rule, group))),
                _ => {}
            }
        }
        kept.evicted += out.counters.values().map(|counters| counters.evicted).sum::<u64>();
    }
}

/// What a run said.
#[derive(Default)]
struct Kept {
    bodies: BTreeSet<String>,
    over: BTreeSet<RuleIx>,
    within: BTreeSet<(RuleIx, u8)>,
    prefixes: usize,
    evicted: u64,
}

/// Three in the morning of some day.
const START: Micros = Micros(1_767_225_600_000_000 + 3 * HOUR.0);

const fn after(millis: i64) -> Micros {
    Micros(START.0 + millis * 1_000)
}

/// The victim's first events, then a flood of so many keys, of which one in thirty goes on to cross (more would be a storm), then the victim's last.
/// Gives what was held at most, at the end of the flood, and when all is long over.
fn run(world: &mut World, kept: &mut Kept, keys: usize) -> (i64, i64, i64) {
    let of_victim = |fs: &[u8], from: usize| -> Vec<_> {
        fs.iter().zip(from..).map(|(f, v)| (*f, v, "victim".to_owned())).collect()
    };
    let ((), before) = measured(|| {
        world.read(PARTITION, after(0), &of_victim(&[1, 2, 1, 2], 0));
        world.pass(after(20_000), kept);
    });
    let ((), flood) = measured(|| {
        for (step, first) in (0..keys).step_by(100).enumerate() {
            let mut records = Vec::new();
            for n in first..first + 100 {
                let user = format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255);
                let times = if n % 30 == 0 { 9 } else { 1 };
                records.extend((0..times).map(|at| ((at % 3 + 1) as u8, at, user.clone())));
            }
            world.read(FLOOD, after(20_000 + step as i64 * 5_000), &records);
            world.pass(after(20_000 + step as i64 * 5_000), kept);
        }
    });
    let end = 20_000 + KEYS as i64 / 100 * 5_000;
    let ((), rest) = measured(|| {
        world.read(PARTITION, after(end), &of_victim(&[3, 3, 3, 3], 4));
        (1..200).for_each(|n| world.pass(after(end + n * 1_800_000), kept));
    });
    let held = before.bytes_current + flood.bytes_current;
    (before.bytes_current + flood.bytes_max as i64, held, held + rest.bytes_current)
}

#[test]
fn a_flood_over_fifty_rules_stays_within_its_bytes_and_spares_who_was_there() {
    let rules = rules();
    let mut calm = Kept::default();
    run(&mut World::new(&rules), &mut calm, 0);
    assert_eq!(calm.over.len(), 0);
    let mut kept = Kept::default();
    let mut world = World::new(&rules);
    let (most, held, after) = run(&mut world, &mut kept, KEYS);
    println!(
        "{most} bytes at most, {held} after the flood, {after} when it was over; {} evicted",
        kept.evicted
    );
    let budget = (STATE + WAITING + NOTICES) as i64;
    assert!(held > STATE as i64 / 4, "the flood is none: {held}");
    assert!(most < budget, "{most} bytes for a budget of {budget}");
    assert!(after < REST, "{after} bytes are left");
    // It was said for each rule, with where it came from, and that it is over.
    assert_eq!(kept.over.len(), 50, "{:?}", kept.over);
    assert!(kept.prefixes > 0 && kept.evicted > 24_000);
    assert_eq!(kept.within.iter().map(|(rule, _)| *rule).collect::<BTreeSet<_>>(), kept.over);
    // All that was there said the same, word for word.
    let lost: Vec<_> = calm.bodies.difference(&kept.bodies).collect();
    assert!(calm.bodies.len() >= 50, "{}", calm.bodies.len());
    assert!(lost.is_empty(), "{} of {} bodies: {:?}", lost.len(), calm.bodies.len(), lost.first());
}

#[test]
fn findings_of_level_partitions_wait_within_their_bytes() {
    let rule = "---\ntitle: many\nid: many\ncorrelation: {type: event_count, rules: [a], group-by: [user], \
                timespan: 1h, condition: {gte: 8}}\n";
    let mut world = World::new(&format!("{BASE}{rule}"));
    // Nothing is final: the other partition is as far.
    let long = "u".repeat(900);
    world.read(PARTITION, after(0), &[(1, 0, long.clone())]);
    world.read(FLOOD, after(0), &[(1, 0, long.clone())]);
    let ((), info) = measured(|| {
        for step in 0..100 {
            let records: Vec<_> = (0..400).map(|n| (1, n, format!("{long} {step} {n}"))).collect();
            world.read(FLOOD, after(step), &records);
            world.read(PARTITION, after(step), &records);
            world.out.correlated.notices.clear();
        }
    });
    let unevaluated =
        world.out.correlated.counters.values().map(|counters| counters.unevaluated).sum::<u64>();
    let announced =
        world.out.correlated.health.iter().any(|said| matches!(said, HealthSignal::Unevaluated { .. }));
    println!("{} bytes, {unevaluated} not evaluated", info.bytes_current);
    assert!(unevaluated > 10_000 && announced, "{unevaluated}");
    assert!((info.bytes_max as i64) < (WAITING + NOTICES) as i64 + (4 << 20), "{} bytes", info.bytes_max);
    let load = world.engine.load();
    assert!(load.waiting <= WaitingBudget::of(WAITING).refuse + 32, "{load:?}");
}

#[test]
fn an_alert_that_stays_open_takes_no_more_from_hour_to_hour() {
    let rule = "---\ntitle: many\nid: many\ncorrelation: {type: event_count, rules: [a], group-by: [user], \
                timespan: 1h, condition: {gte: 2}}\n";
    let mut world = World::new(&format!("{BASE}{rule}"));
    let mut kept = Kept::default();
    let mut hours = |world: &mut World, from: i64, to: i64| {
        let ((), info) = measured(|| {
            // An event in each interval for which a revision is due.
            for minute in from * 60..to * 60 {
                world.read(PARTITION, after(minute * 60_000), &[(1, 0, "u".to_owned())]);
                world.pass(after(minute * 60_000 + 50_000), &mut kept);
            }
        });
        info.bytes_current
    };
    hours(&mut world, 0, 2);
    let grown = hours(&mut world, 2, 18);
    // A timer of 24 bytes for each of the 960 intervals would be 23,040.
    assert!(grown < 4_096, "{grown} bytes");
}
