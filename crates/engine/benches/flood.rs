//! A flood of keys over fifty rules: resident memory against the budget, and how long it takes until all of it is given back.
//!
//! `cargo bench -p vedette-engine --bench flood [-- KEYS [MEBIBYTES [all]]]`; ten million keys and 1,024 MiB without them. Each key comes
//! once, and meets one of the rules, or with `all` each of them. A thousand keys come a second, all of them are to be kept for an hour, and
//! one of a hundred goes on until its rule's condition holds.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout
)]

use std::{
    fmt::Write as _,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use vedette_engine::{Compiled, Detector, Engine, EngineSettings, NOTICE_ENTRY, Output, WaitingBudget};
use vedette_event::{
    Fields, Flags, Micros, Partition, RawBatchBuilder, SourceDef, SourceIx, Sources, TopicIx, Topics,
};
use vedette_sigma::{Lists, RuleFile};

/// That of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SECRET: [u8; 32] = [1; 32];
const START: Micros = Micros(1_767_268_800_000_000);
const PARTITION: Partition = Partition { topic: TopicIx(0), number: 0 };
const RULES: usize = 50;
const BATCH: usize = 500;

fn rules() -> String {
    let mut text = String::new();
    for n in 0..RULES {
        let kind = match n % 10 {
            0..=4 => format!("type: event_count, rules: [d{n}], condition: {{gte: 5}}"),
            5 | 6 => format!("type: value_count, rules: [d{n}], condition: {{gte: 5, field: v}}"),
            7 => format!("type: temporal, rules: [d{n}, e]"),
            8 => format!("type: temporal_ordered, rules: [d{n}, e]"),
            _ => format!("type: event_count, rules: [d{n}], condition: {{gte: 5, lte: 100000}}"),
        };
        write!(
            text,
            "title: d{n}\nname: d{n}\nid: d{n}\nlogsource: {{category: x}}\ndetection: {{s: {{f: [{n}, all]}}, condition: s}}\n---\n\
             title: r{n}\nid: r{n}\ncorrelation: {{{kind}, group-by: [address], timespan: 1h}}\n---\n"
        )
        .unwrap();
    }
    text + "title: e\nname: e\nid: e\nlogsource: {category: x}\ndetection: {s: {f: e}, condition: s}\n"
}

/// Resident memory in MiB.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    (statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096) >> 20
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let keys: usize = arguments.next().map_or(10_000_000, |text| text.parse().unwrap());
    let budget: usize = arguments.next().map_or(1_024, |text| text.parse().unwrap());
    let all = arguments.next().is_some_and(|argument| argument == "all");
    let json = serde_json::json!({
        "name": "json", "description": "", "form": "json", "disorder": "1s", "future": "1s", "entity": ["address"],
    });
    let sources = Sources::new(Fields::default(), vec![serde_json::from_value::<SourceDef>(json).unwrap()]);
    let rules =
        vedette_sigma::load(&[RuleFile { path: "flood.yml".into(), text: rules() }], &Lists::new(), &sources);
    assert!(rules.rejected.is_empty(), "{:?}", rules.rejected);
    let topics = Arc::new(Topics::new(["json"]));
    let compiled = Compiled::new(Arc::new(rules), Arc::new(sources), topics, SECRET);
    let mut detector = compiled.detector().unwrap();
    let share = |sixteenths: usize| (budget << 20) / 16 * sixteenths;
    let settings = EngineSettings {
        state: share(10),
        waiting: WaitingBudget::of(share(5)),
        notices: true,
        notice_budget: share(1) / NOTICE_ENTRY / 3 * 2,
        ..EngineSettings::new(SECRET)
    };
    let entries = compiled.entries(settings.state);
    let mut engine = Engine::new(compiled, settings);
    engine.assign(PARTITION, SourceIx(0), 0);
    let before = resident();
    println!("{keys} keys, {RULES} rules, {budget} MiB for what grows, {before} MiB resident before");
    println!(
        "entries a rule and key group: {:?}",
        entries.values().collect::<std::collections::BTreeSet<_>>()
    );

    let (mut offset, mut most, mut alerts, mut over, start) = (0, before, 0, 0, Instant::now());
    for first in (0..keys).step_by(BATCH) {
        let mut raw = RawBatchBuilder::new(SourceIx(0), PARTITION);
        let (mut now, mut out) = (START, Output::default());
        for n in first..(first + BATCH).min(keys) {
            now = Micros(START.0 + n as i64 * 1_000);
            let f = if all { "all".to_owned() } else { (n % RULES).to_string() };
            // Every address once, in no order.
            let address = (n as u32).wrapping_mul(2_654_435_761);
            let [a, b, c, d] = address.to_be_bytes();
            for v in 0..if n % 100 == 0 { 5 } else { 1 } {
                let text = format!(r#"{{"category":"x","f":"{f}","v":{v},"address":"{a}.{b}.{c}.{d}"}}"#);
                raw.push(offset, Some(now), Flags::NONE, Some(text.as_bytes()));
                offset += 1;
                if raw.len() == BATCH {
                    engine.absorb(detector.detect(&raw.take()), &mut out);
                }
            }
        }
        engine.absorb(detector.detect(&raw.take()), &mut out);
        engine.idle(PARTITION, now, &mut out);
        alerts += out.correlated.alerts.len();
        over += out.correlated.health.len();
        if (first / BATCH).is_multiple_of(100) {
            most = resident().max(most);
        }
        if (first / BATCH).is_multiple_of(2_000) {
            println!("  {:>9} keys {:>6} MiB {:>6.1} s", first, resident(), start.elapsed().as_secs_f64());
        }
    }
    let (flood, after) = (start.elapsed(), resident());
    println!("flood: {:.1} s, {alerts} revisions, {over} announcements", flood.as_secs_f64());
    println!("  {most} MiB at most, {after} MiB at its end, {} keys", engine.load().keys);
    afterwards(&mut engine, &mut detector, offset, START.0 + keys as i64 * 1_000);
}

/// Four hours of ordinary events, which no rule looks for: what is kept, and what of its memory comes back. The allocator gives back what has
/// been free for some hundredths of a second, and does so when it is asked for something, so the hours are given a while each.
fn afterwards(engine: &mut Engine, detector: &mut Detector, mut offset: i64, end: i64) {
    let start = Instant::now();
    for minute in 1..=4 * 60 {
        let now = Micros(end + minute * 60_000_000);
        let mut raw = RawBatchBuilder::new(SourceIx(0), PARTITION);
        for n in 0..BATCH {
            let text = format!(r#"{{"category":"x","f":"none","v":{n},"address":"192.0.2.1"}}"#);
            raw.push(offset, Some(now), Flags::NONE, Some(text.as_bytes()));
            offset += 1;
        }
        let mut out = Output::default();
        engine.absorb(detector.detect(&raw.take()), &mut out);
        engine.idle(PARTITION, now, &mut out);
        thread::sleep(Duration::from_millis(5));
        if minute % 30 == 0 {
            let (keys, mib, work) = (engine.load().keys, resident(), start.elapsed().as_secs_f64());
            println!("  {minute:>4} minutes later: {keys} keys, {mib} MiB, {work:.1} s");
        }
    }
}
