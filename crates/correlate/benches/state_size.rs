//! What one key of `event_count` costs in memory.
//!
//! In: refused connections of a million addresses within five minutes, each with the same number of events. Out: growth
//! of the resident memory a key, and bytes of checkpoint a key, once all events are final: for a high threshold and for
//! one of ten, below it and past it. Each case runs in a process of its own, so that none reuses another's memory.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]

use std::{collections::BTreeMap, process::Command, sync::Arc};

use vedette_correlate::{Correlated, Correlator, CorrelatorSettings, GROUPS, Plan, Router, WaitingBudget};
use vedette_event::{
    BatchBuilder, Cell, EventBatch, FieldType, Fields, Flags, Hit, Kind, LogSource, Micros, Partition,
    PlacedBatch, Projection, RuleIx, SourceDef, SourceIx, Sources, Span, TopicIx, Topics, schema::FieldDef,
    source::Form,
};
use vedette_sigma::RuleFile;

const KEYS: u32 = 1_000_000;
/// A divisor of the number of keys, so that no key gets an event more than others.
const ROWS: u32 = 500;
const START: i64 = 1_767_225_600_000_000;
/// All keys have to live at the end.
const WITHIN: Span = Span::secs(240);
/// Threshold and events a key.
const CASES: [(u32, u32); 6] = [(100, 1), (100, 2), (10, 1), (10, 2), (10, 9), (10, 10)];

fn plan(threshold: u32) -> Plan {
    let source = SourceDef {
        name: "firewall".into(),
        description: String::new(),
        form: Form::PanosCsv,
        logsource: LogSource { category: Some("firewall".into()), ..LogSource::default() },
        disorder: Span::secs(60),
        future: Span::secs(10),
        time_zone: "UTC".into(),
        entity: Vec::new(),
        weight: None,
        secrets: Vec::new(),
        secret_parameters: Vec::new(),
        fields: BTreeMap::new(),
        taxonomy: BTreeMap::new(),
    };
    let ip = FieldDef { kind: FieldType::Ip, description: String::new() };
    let fields = BTreeMap::from([("source.ip".to_owned(), ip)]);
    let sources = Sources::new(Fields(fields), vec![source]);
    let text = format!(
        "title: Refused\nid: 4a8a3b52-6b0c-4b7e-9f6a-6b8f0a1f9a01\nname: refused\nlogsource: {{category: firewall}}\n\
         detection:\n  one: {{source.ip: '*'}}\n  condition: one\nlevel: informational\n---\n\
         title: Many\nid: 4a8a3b52-6b0c-4b7e-9f6a-6b8f0a1f9a02\nlevel: high\ncorrelation:\n  type: event_count\n  \
         rules: [refused]\n  group-by: [source.ip]\n  timespan: 5m\n  condition: {{gte: {threshold}}}\n"
    );
    let rules =
        vedette_sigma::load(&[RuleFile { path: "bench.yml".into(), text }], &BTreeMap::default(), &sources);
    assert!(rules.rejected.is_empty(), "{:?}", rules.rejected);
    Plan::compile(Arc::new(rules), Arc::new(sources))
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Addresses whose order has no pattern: an odd factor walks through all keys.
fn addresses(projection: &Arc<Projection>, first: u64, times: &[Micros]) -> EventBatch {
    let mut batch = BatchBuilder::new(projection.clone());
    for ((row, event), time) in (0..).zip(first..).zip(times) {
        let key = (event % u64::from(KEYS) * 618_033 % u64::from(KEYS)) as u32;
        let text = &format!("11.{}.{}.{}", key >> 16, (key >> 8) & 255, key & 255);
        batch.put(0, Cell { kind: Kind::Text, text });
        batch.end_row(event as i64, 0, row, Some(*time));
    }
    batch.finish(SourceIx(0), Partition { topic: TopicIx(0), number: 0 })
}

fn case(threshold: u32, each: u32) {
    let settings = CorrelatorSettings {
        secret: [1; 32],
        notices: true,
        notice_budget: 1 << 20,
        state: usize::MAX,
        waiting: WaitingBudget { pause: usize::MAX, refuse: usize::MAX },
    };
    let topics = Arc::new(Topics::new(["firewall"]));
    let plan = Arc::new(plan(threshold));
    let mut router = Router::new(plan.clone(), &settings.secret);
    let mut correlator = Correlator::new(plan, topics, settings);
    let (projection, rows) = (Projection::new([Arc::from("source.ip")]), i64::from(ROWS));
    let events = u64::from(KEYS) * u64::from(each);
    let (before, mut alerts) = (resident(), 0);
    for first in (0..events).step_by(ROWS as usize) {
        let at = |event: i64| {
            Micros(START + (i128::from(event) * i128::from(WITHIN.0) / i128::from(events)) as i64)
        };
        let from = first as i64;
        let times: Vec<_> = (from..from + rows).map(at).collect();
        let batch = addresses(&projection, first, &times);
        let hits: Vec<_> = (0..ROWS).map(|row| Hit { row, rule: RuleIx(0) }).collect();
        let flags = vec![Flags::NONE; ROWS as usize];
        let routed = router.route(&batch, 0, &hits);
        let placed = PlacedBatch {
            events: batch,
            version: 0,
            incarnation: 0,
            times,
            flags,
            moved: Vec::new(),
            undated: 0,
            hits,
        };
        let mut out = Correlated::default();
        correlator.push(&placed, &routed, &mut out);
        correlator.release(&[at(from + rows)], usize::MAX, &mut out);
        alerts += out.alerts.len();
    }
    let used = resident().saturating_sub(before);
    let written: usize = (0..GROUPS).map(|group| correlator.checkpoint(group).len()).sum();
    println!(
        "{threshold:>5} {each:>12} {:>12} {:>15} {alerts:>9}",
        used / KEYS as usize,
        written / KEYS as usize
    );
}

fn main() {
    let numbers: Vec<u32> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    if let [threshold, each] = numbers[..] {
        return case(threshold, each);
    }
    println!("{KEYS} keys, event_count by address within 5 m");
    println!("    N events a key  bytes a key checkpoint a key    alerts");
    for (threshold, each) in CASES {
        let mut run = Command::new(std::env::current_exe().unwrap());
        let status = run.args([threshold.to_string(), each.to_string()]).status().unwrap();
        assert!(status.success());
    }
}
