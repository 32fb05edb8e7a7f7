//! What one event of `event_count` costs at many keys, and what one key costs.
//!
//! In: `KEYS` addresses at random, ten events each on average. Out: µs an event for push and release, bytes a key.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use vedette_correlate::{Correlated, Correlator, CorrelatorSettings, Plan, Router, WaitingBudget};
use vedette_event::{
    BatchBuilder, Cell, FieldType, Fields, Flags, Hit, Kind, LogSource, Micros, Partition, PlacedBatch,
    Projection, RuleIx, Severity, SourceDef, SourceIx, Sources, Span, TopicIx, Topics, schema::FieldDef,
    source::Form,
};
use vedette_sigma::ir::{
    Cmp, Correlation, CorrelationKind, Detection, Expr, Extras, KeyPart, Rule, RuleKind, RuleSet,
};

const KEYS: u64 = 1_000_000;
const EVENTS: usize = 6_000_000;
const ROWS: usize = 512;

fn rule(id: &str, emits: bool, kind: RuleKind) -> Rule {
    Rule {
        id: id.into(),
        name: None,
        title: id.into(),
        description: None,
        level: Severity::Low,
        tags: Arc::new([]),
        false_positives: Vec::new(),
        file: "bench.yml".into(),
        line: 1,
        emits,
        kind,
        extras: Extras::default(),
        meaning: [0; 32],
        tests: Vec::new(),
        text: "".into(),
    }
}

fn plan(threshold: u64) -> Plan {
    let detection =
        Detection { logsource: LogSource::default(), condition: Expr::And(Vec::new()), leaves: Vec::new() };
    let correlation = Correlation {
        kind: CorrelationKind::EventCount,
        rules: vec![RuleIx(0)],
        group_by: vec![KeyPart { name: "source.ip".into(), fields: Vec::new() }],
        timespan: Span::secs(600),
        condition: vec![(Cmp::Gte, threshold)],
    };
    let rules = vec![
        rule("d", false, RuleKind::Detection(detection)),
        rule("c", true, RuleKind::Correlation(correlation)),
    ];
    let source = SourceDef {
        name: "fw".into(),
        description: String::new(),
        form: Form::PanosCsv,
        logsource: LogSource::default(),
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
    let fields = Fields(BTreeMap::from([("source.ip".to_owned(), ip)]));
    Plan::compile(
        Arc::new(RuleSet { rules, ..RuleSet::default() }),
        Arc::new(Sources::new(fields, vec![source])),
    )
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    status.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or_default() * 4096
}

fn main() {
    let threshold = std::env::var("THRESHOLD").ok().and_then(|n| n.parse().ok()).unwrap_or(10);
    let settings = CorrelatorSettings {
        secret: [1; 32],
        notices: false,
        notice_budget: 1 << 20,
        state: usize::MAX,
        waiting: WaitingBudget { pause: usize::MAX, refuse: usize::MAX },
    };
    let plan = Arc::new(plan(threshold));
    let mut router = Router::new(plan.clone(), &settings.secret);
    let mut correlator = Correlator::new(plan, Arc::new(Topics::new(["fw"])), settings);
    let (mut out, projection) = (Correlated::default(), Projection::new([Arc::from("source.ip")]));
    let (mut state, mut spent, mut pushing, mut alerts) = (88_172_645_463_325_252_u64, 0, 0, 0);
    let before = resident();
    for batch in 0..EVENTS / ROWS {
        let first = (batch * ROWS) as i64;
        let times: Vec<_> =
            (0..ROWS as i64).map(|row| Micros(1_767_225_600_000_000 + (first + row) * 50)).collect();
        let mut events = BatchBuilder::new(projection.clone());
        for (row, time) in times.iter().enumerate() {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let key = (state % KEYS) as u32;
            let text = &format!("10.{}.{}.{}", key >> 16, (key >> 8) & 255, key & 255);
            events.put(0, Cell { kind: Kind::Text, text });
            events.end_row(first + row as i64, 0, row as u32, Some(*time));
        }
        let events = events.finish(SourceIx(0), Partition { topic: TopicIx(0), number: 0 });
        let hits: Vec<_> = (0..ROWS as u32).map(|row| Hit { row, rule: RuleIx(0) }).collect();
        let flags = vec![Flags::NONE; ROWS];
        let start = Instant::now();
        let routed = router.route(&events, 0, &hits);
        let at = Micros(times[0].0 - 1_000_000);
        let placed = PlacedBatch {
            events,
            version: 0,
            incarnation: 0,
            times,
            flags,
            moved: Vec::new(),
            undated: 0,
            hits,
        };
        correlator.push(&placed, &routed, &mut out);
        pushing += start.elapsed().as_nanos();
        if batch % 20 == 19 {
            correlator.release(&[at], usize::MAX, &mut out);
        }
        spent += start.elapsed().as_nanos();
        alerts += out.alerts.len();
        out = Correlated::default();
    }
    let used = resident().saturating_sub(before);
    println!(
        "{EVENTS} events, {KEYS} keys, N = {threshold}: {:.3} us an event ({:.3} pushing), {} alerts; {} bytes a key",
        spent as f64 / 1e3 / EVENTS as f64,
        pushing as f64 / 1e3 / EVENTS as f64,
        alerts,
        used / KEYS as usize,
    );
    let start = Instant::now();
    let bytes = correlator.checkpoint(5).len();
    println!("a checkpoint of one key group: {bytes} bytes in {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
}
