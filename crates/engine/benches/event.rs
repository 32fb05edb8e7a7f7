//! Where the time of an event goes: read, decode, detect, place and correlate, write; µs an event for each.
//!
//! `cargo bench -p vedette-engine --bench event [-- RULES]`. The records are the simulator's, source by source, and the
//! same once more as plain JSON events for source `json`; the rules are the project's own, and those of the folder RULES
//! if one is named. Each batch counts with its fastest of several rounds, so that what other programs took is left out;
//! every round starts with empty memos and state.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types)]

use std::{
    fs,
    hint::black_box,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use vedette_decode::Inspector;
use vedette_detect::{Evaluator, Program};
use vedette_engine::{Compiled, Detected, DetectedBatch, Engine, EngineSettings, Output, RecordTime};
use vedette_event::{
    Fields, Flags, MAX_ROWS, Micros, Partition, RawBatchBuilder, SourceDef, SourceIx, Sources, TopicIx,
    Topics, raw::record_hash,
};
use vedette_sigma::{Lists, RuleFile};
use vedette_simulate::{Feed, Simulator};

const EVENTS: usize = 60_000;
const ROUNDS: usize = 5;
const SECRET: [u8; 32] = [1; 32];
const START: Micros = Micros(1_767_268_800_000_000);
const STAGES: [&str; 5] = ["read", "decode", "detect", "place+correlate", "write"];

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|end| end == "yml") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn sources(root: &Path) -> Sources {
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let fields: Fields = serde_saphyr::from_str(&read(&root.join("schemas/fields.yml"))).unwrap();
    let defs = files(&root.join("schemas/sources"));
    let defs = defs.iter().map(|path| serde_saphyr::from_str::<SourceDef>(&read(path)).unwrap());
    Sources::new(fields, defs.collect())
}

/// The simulator's records by the name of the source that reads them, one a line.
fn inputs(sources: &Sources) -> Vec<(&'static str, String)> {
    let mut inputs: Vec<_> = Feed::ALL.iter().map(|feed| (feed.source(), String::new())).collect();
    let mut json = String::new();
    let of = |feed: Feed| sources.get(sources.find(feed.source()).unwrap());
    let mut inspectors = Feed::ALL.map(|feed| Inspector::new(of(feed), &sources.fields, SECRET).unwrap());
    let mut simulator = Simulator::new(1, START, 500);
    for _ in 0..EVENTS {
        let record = simulator.next_record();
        for mut event in inspectors[record.feed as usize].inspect(0, Some(record.line.as_bytes())).unwrap() {
            let logsource = &of(record.feed).logsource;
            let names = [("product", &logsource.product), ("category", &logsource.category)];
            for (key, name) in names.into_iter().filter_map(|(key, name)| Some((key, name.clone()?))) {
                event.insert(key.to_owned(), name.into());
            }
            json.push_str(&serde_json::to_string(&event).unwrap());
            json.push('\n');
        }
        inputs[record.feed as usize].1.push_str(&record.line);
        inputs[record.feed as usize].1.push('\n');
    }
    inputs.push(("json", json));
    inputs
}

/// What one input needs to be run.
struct Lane<'a> {
    compiled: &'a Arc<Compiled>,
    source: SourceIx,
    program: Arc<Program>,
    text: &'a str,
}

/// Time by batch and stage, with the numbers of events and of lines written.
#[derive(Default)]
struct Run {
    spent: Vec<[Duration; STAGES.len()]>,
    events: usize,
    hits: usize,
    alerts: usize,
}

impl Lane<'_> {
    fn run(&self) -> Run {
        let mut decoder = self.compiled.decoder(self.source).unwrap();
        let mut evaluator = Evaluator::new(self.program.clone());
        let mut router = self.compiled.router().unwrap();
        let mut engine = Engine::new(self.compiled.clone(), EngineSettings::new(SECRET));
        let mut run = Run::default();
        let partition = Partition { topic: TopicIx(self.source.0), number: 0 };
        let mut lines = self.text.lines().zip(0_i64..).peekable();
        while lines.peek().is_some() {
            let mut clock = Clock::start();
            let mut builder = RawBatchBuilder::new(self.source, partition);
            for (line, offset) in lines.by_ref().take(MAX_ROWS) {
                builder.push(offset, None, Flags::NONE, Some(line.as_bytes()));
            }
            let raw = builder.take();
            clock.lap(0);
            let (mut events, mut dead) = (Vec::new(), Vec::new());
            decoder.decode(&raw, &mut events, &mut dead);
            clock.lap(1);
            let mut batches = Vec::new();
            for events in events {
                let mut hits = Vec::new();
                evaluator.evaluate(&events, &mut hits);
                run.events += events.rows();
                run.hits += hits.len();
                let routed = router.route(&events, 0, &hits);
                batches.push(DetectedBatch { events, version: 0, hits, routed });
            }
            clock.lap(2);
            let time = |r: &vedette_event::RawRecord| RecordTime {
                offset: r.offset,
                ts_log: r.ts_log,
                flags: r.flags,
                bytes: r.len.unwrap_or(0),
            };
            let records = raw.records.iter().map(time).collect();
            let last_hash = record_hash(raw.records.last().and_then(|record| raw.payload(record)));
            let detected = Detected { source: self.source, partition, records, batches, dead, last_hash };
            let mut out = Output::default();
            engine.absorb(detected, &mut out);
            clock.lap(3);
            run.alerts += write(&out);
            clock.lap(4);
            run.spent.push(clock.laps);
        }
        let mut clock = Clock::start();
        let mut out = Output::default();
        engine.finish(&mut out);
        clock.lap(3);
        run.alerts += write(&out);
        clock.lap(4);
        run.spent.push(clock.laps);
        run
    }
}

/// Alerts as lines; how many.
fn write(out: &Output) -> usize {
    let alerts = &out.correlated.alerts;
    for published in alerts {
        black_box(serde_json::to_vec(&published.alert).unwrap());
    }
    alerts.len()
}

struct Clock {
    last: Instant,
    laps: [Duration; STAGES.len()],
}

impl Clock {
    fn start() -> Self {
        Self { last: Instant::now(), laps: [Duration::ZERO; STAGES.len()] }
    }

    fn lap(&mut self, stage: usize) {
        let now = Instant::now();
        self.laps[stage] += now - self.last;
        self.last = now;
    }
}

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let more = std::env::args().skip(1).find(|arg| !arg.starts_with("--")).map(PathBuf::from);
    let mut paths = files(&root.join("detections"));
    paths.extend(more.iter().flat_map(|folder| files(folder)));
    let rules: Vec<RuleFile> = paths
        .iter()
        .map(|path| RuleFile {
            path: path.display().to_string().into(),
            text: fs::read_to_string(path).unwrap(),
        })
        .collect();
    let sources = Arc::new(sources(&root));
    let rules = Arc::new(vedette_sigma::load(&rules, &Lists::default(), &sources));
    println!("{} rules; µs an event, the fastest of {ROUNDS} rounds by batch", rules.rules.len());
    let inputs = inputs(&sources);
    let topics = Arc::new(Topics::new(sources.defs.iter().map(|def| def.name.clone())));
    let compiled = Compiled::new(rules.clone(), sources.clone(), topics, SECRET);
    print!("{:<13}{:>8}{:>8}{:>8}{:>8}", "source", "events", "bytes", "hits", "alerts");
    STAGES.iter().for_each(|stage| print!("{stage:>17}"));
    println!("{:>9}", "in all");
    for (name, text) in &inputs {
        let source = sources.find(name).unwrap();
        let program = Arc::new(Program::compile(
            &rules,
            source,
            &sources,
            compiled.newest().projection(source).fields(),
        ));
        let lane = Lane { compiled: &compiled, source, program, text };
        let mut best = lane.run();
        for _ in 1..ROUNDS {
            for (best, new) in best.spent.iter_mut().zip(lane.run().spent) {
                for (best, new) in best.iter_mut().zip(new) {
                    *best = new.min(*best);
                }
            }
        }
        let events = best.events.max(1);
        let stage = |at: usize| best.spent.iter().map(|laps| laps[at]).sum::<Duration>();
        let micros = |spent: Duration| spent.as_secs_f64() * 1e6 / events as f64;
        print!("{name:<13}{:>8}{:>8}{:>8}{:>8}", best.events, text.len() / events, best.hits, best.alerts);
        (0..STAGES.len()).for_each(|at| print!("{:>17.3}", micros(stage(at))));
        println!("{:>9.3}", micros((0..STAGES.len()).map(stage).sum()));
    }
}
