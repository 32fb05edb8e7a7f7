//! Where the time of an event goes: classes alone, fields, keywords, all; steady and from cold.
//!
//! `VEDETTE_CORPUS` is a folder with `sigmahq/rules` (default `../shared/data`), `VEDETTE_EVENTS` a file of flat JSON
//! events. Without either nothing is measured.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use arrow_buffer::Buffer;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::{Map, Value};
use vedette_detect::{Evaluator, Program, needed_fields};
use vedette_event::{
    BatchBuilder, Cell, EventBatch, Kind, MAX_ROWS, Partition, Projection, SourceIx, Sources, Text, TopicIx,
    cell::number, schema::Fields,
};
use vedette_sigma::{Lists, RuleFile, RuleKind, RuleSet};

/// What this thread has spent so far, whoever else uses the machine; wall time where the system does not tell.
fn cpu_time() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    let spent = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let spent = spent.and_then(|text| text.split(' ').next()?.parse().ok());
    spent.map_or_else(|| START.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}

const EVENTS: usize = 40 * MAX_ROWS;

fn sources() -> Sources {
    let json = serde_json::json!({
        "name": "json", "description": "", "form": "json", "disorder": "0s", "future": "0s", "entity": [],
    });
    Sources::new(Fields::default(), vec![serde_json::from_value(json).unwrap()])
}

fn rule_files(folder: &Path, files: &mut Vec<RuleFile>) {
    let mut entries: Vec<_> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            rule_files(&path, files);
        } else if path.extension().is_some_and(|ext| ext == "yml") {
            let text = fs::read_to_string(&path).unwrap();
            files.push(RuleFile { path: path.to_string_lossy().into(), text });
        }
    }
}

/// Batches of views over one buffer each, as the decoder makes them; texts with escapes are copied.
fn batches(lines: &[&str], projection: &Arc<Projection>) -> Vec<EventBatch> {
    lines.chunks(MAX_ROWS).map(|lines| batch(lines, projection)).collect()
}

fn batch(lines: &[&str], projection: &Arc<Projection>) -> EventBatch {
    let raw = Text::new(Buffer::from_vec(lines.concat().into_bytes())).unwrap();
    let text = raw.as_str();
    let mut batch = BatchBuilder::new(projection.clone());
    batch.begin(&raw, lines.len());
    let mut start = 0;
    for (row, line) in lines.iter().enumerate() {
        let line = &text[start..start + line.len()];
        start += line.len();
        batch.keep_original(line);
        let event: Map<String, Value> = serde_json::from_str(line).unwrap();
        for (column, name) in projection.fields().iter().enumerate() {
            let mut put = |kind, text: &str| batch.put(column, Cell { kind, text });
            match event.get(&**name) {
                None => {}
                Some(Value::Null) => put(Kind::Null, ""),
                Some(Value::String(value)) => {
                    let at = line.find(&format!("\"{value}\"")).map(|at| &line[at + 1..at + 1 + value.len()]);
                    put(Kind::Text, at.unwrap_or(value));
                }
                Some(Value::Bool(truth)) => put(Kind::Bool, &truth.to_string()),
                Some(Value::Number(n)) => {
                    let (kind, digits) = number(&n.to_string()).unwrap();
                    put(kind, &digits);
                }
                Some(list @ Value::Array(_)) => put(Kind::List, &list.to_string()),
                Some(object) => put(Kind::Object, &object.to_string()),
            }
        }
        batch.end_row(row as i64, 0, row as u32, None);
    }
    batch.finish(SourceIx(0), Partition { topic: TopicIx(0), number: 0 })
}

fn has_keywords(kind: &RuleKind) -> bool {
    matches!(kind, RuleKind::Detection(detection) if detection.leaves.iter().any(|leaf| leaf.field.is_none()))
}

fn detect(criterion: &mut Criterion) {
    let corpus = env::var_os("VEDETTE_CORPUS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let mut files = Vec::new();
    rule_files(&corpus.join("sigmahq/rules"), &mut files);
    let events = env::var("VEDETTE_EVENTS").ok().and_then(|path| fs::read_to_string(path).ok());
    let (false, Some(events)) = (files.is_empty(), events) else {
        println!("skipped: VEDETTE_CORPUS has no sigmahq/rules, or VEDETTE_EVENTS names no file");
        return;
    };
    let lines: Vec<&str> = events.lines().take(EVENTS).collect();
    let sources = sources();
    let rules = vedette_sigma::load(&files, &Lists::default(), &sources);
    let projection = Projection::new(needed_fields(&rules, sources.get(SourceIx(0))));
    let fields = projection.fields();
    let batches = batches(&lines, &projection);
    let without_keywords = rules.rules.iter().filter(|rule| !has_keywords(&rule.kind)).cloned().collect();
    let without_keywords = RuleSet { rules: without_keywords, ..RuleSet::default() };
    let compile = |rules: &RuleSet| Arc::new(Program::compile(rules, SourceIx(0), &sources, fields));
    println!("{} rules, {} fields, {} events", rules.rules.len(), fields.len(), lines.len());

    let mut group = criterion.benchmark_group("detect");
    group.throughput(Throughput::Elements(lines.len() as u64)).sample_size(10);
    let variants = [("classes", &RuleSet::default()), ("fields", &without_keywords), ("all", &rules)];
    for (name, rules) in variants {
        let mut evaluator = Evaluator::new(compile(rules));
        let mut hits = Vec::new();
        let mut total = 0;
        for batch in &batches {
            evaluator.evaluate(batch, &mut hits);
            total += hits.len();
        }
        println!("{name}: {total} hits");
        group.bench_function(name, |bench| {
            bench.iter_custom(|rounds| {
                let before = cpu_time();
                for batch in (0..rounds).flat_map(|_| &batches) {
                    evaluator.evaluate(batch, &mut hits);
                }
                cpu_time() - before
            });
        });
    }
    let program = compile(&rules);
    group.bench_function("all, cold memos", |bench| {
        let mut hits = Vec::new();
        bench.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                let mut evaluator = Evaluator::new(program.clone());
                let before = cpu_time();
                batches.iter().for_each(|batch| evaluator.evaluate(batch, &mut hits));
                spent += cpu_time() - before;
            }
            spent
        });
    });
    group.bench_function("compile", |bench| bench.iter(|| compile(&rules)));
    group.finish();
}

criterion_group!(benches, detect);
criterion_main!(benches);
