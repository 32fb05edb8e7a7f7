//! What more threads than there are cores would give: each piece of work is done and timed alone, one after the other, and then dealt out
//! to so many threads as the service does.
//!
//! `cargo bench -p vedette-engine --bench threads [-- KEYS [EVENTS]]`; a hundred thousand keys and a million events without them, of
//! rules of every kind. Batches are decoded, evaluated and routed by any thread; the kernel places them and hands them to their key groups
//! alone; a release is dealt out task by task to whoever is free first, and waits for the last one of each round. What is left out: waiting
//! for memory and caches that several cores share.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout
)]

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use vedette_engine::{Compiled, Engine, EngineSettings, Hands, Output, ReleaseTask};
use vedette_event::{
    Fields, Flags, MAX_ROWS, Partition, RawBatchBuilder, SourceDef, SourceIx, Sources, TopicIx, Topics,
};
use vedette_sigma::{Lists, RuleFile};

/// That of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SECRET: [u8; 32] = [1; 32];
const PARTITION: Partition = Partition { topic: TopicIx(0), number: 0 };
/// Findings after which `scan` releases.
const RELEASE_AFTER: usize = 65_536;

/// Time of one run with releases made for so many threads.
#[derive(Default)]
struct Times {
    detect: Duration,
    /// All that the kernel does alone.
    kernel: Duration,
    release: Duration,
    /// Of releases, if each task goes to the thread that is free first.
    dealt: Duration,
}

fn compiled(kind: &str) -> Arc<Compiled> {
    let text = format!(
        "title: d\nname: d\nid: d\nlogsource: {{category: firewall}}\ndetection: {{s: {{action: deny}}, condition: s}}\n---\n\
         title: e\nname: e\nid: e\nlogsource: {{category: firewall}}\ndetection: {{s: {{dst_port: 0}}, condition: s}}\n---\n\
         title: r\nid: r\ncorrelation: {{type: {kind}, group-by: [src_ip], timespan: 5m}}\n"
    );
    let json = serde_json::json!({
        "name": "json", "description": "", "form": "json", "disorder": "1s", "future": "1s", "entity": ["src_ip"],
    });
    let sources = Sources::new(Fields::default(), vec![serde_json::from_value::<SourceDef>(json).unwrap()]);
    let rules = vedette_sigma::load(&[RuleFile { path: "r.yml".into(), text }], &Lists::new(), &sources);
    assert!(rules.rejected.is_empty(), "{:?}", rules.rejected);
    Compiled::new(Arc::new(rules), Arc::new(sources), Arc::new(Topics::new(["json"])), SECRET)
}

/// Runs all tasks one after the other; the sum of their times, and the time until the last of so many threads has ended.
fn deal(tasks: Vec<ReleaseTask>, threads: usize, spent: &Mutex<[Duration; 2]>) -> Vec<ReleaseTask> {
    let mut free = vec![Duration::ZERO; threads];
    let mut all = Duration::ZERO;
    let run = tasks.into_iter().map(|mut task| {
        let start = Instant::now();
        task.run();
        let took = start.elapsed();
        all += took;
        if let Some(first) = free.iter_mut().min() {
            *first += took;
        }
        task
    });
    let done = run.collect();
    let mut spent = spent.lock().unwrap();
    spent[0] += all;
    spent[1] += free.into_iter().max().unwrap_or_default();
    done
}

fn run(kind: &str, keys: u64, events: u64, threads: usize) -> Times {
    let compiled = compiled(kind);
    let mut detector = compiled.detector().unwrap();
    let settings = EngineSettings { release_after: RELEASE_AFTER, ..EngineSettings::new(SECRET) };
    let mut engine = Engine::new(compiled, settings);
    let spent = Arc::<Mutex<[Duration; 2]>>::default();
    let tasks = spent.clone();
    engine.share(Hands::new(threads, 0, move |all| deal(all, threads, &tasks)));
    engine.assign(PARTITION, SourceIx(0), 0);
    let mut times = Times::default();
    let mut absorb = Duration::ZERO;
    for first in (0..events).step_by(MAX_ROWS) {
        let mut raw = RawBatchBuilder::new(SourceIx(0), PARTITION);
        for n in first..(first + MAX_ROWS as u64).min(events) {
            // Spread without randomness: Fibonacci hashing.
            let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
            let ([_, a, b, c], port) = (((mixed % keys) as u32).to_be_bytes(), mixed >> 8 & 0xffff);
            let (minute, second, milli) =
                (n * 10 / events, n * 600 / events % 60, n * 600_000 / events % 1_000);
            let text = format!(
                r#"{{"timestamp":"2026-01-01T00:{minute:02}:{second:02}.{milli:03}Z","category":"firewall","action":"deny","src_ip":"11.{a}.{b}.{c}","dst_port":{port},"protocol":"tcp","bytes":899}}"#
            );
            raw.push(n as i64, None, Flags::NONE, Some(text.as_bytes()));
        }
        let (raw, start) = (raw.take(), Instant::now());
        let detected = detector.detect(&raw);
        times.detect += start.elapsed();
        let start = Instant::now();
        engine.absorb(detected, &mut Output::default());
        absorb += start.elapsed();
    }
    let start = Instant::now();
    engine.finish(&mut Output::default());
    absorb += start.elapsed();
    [times.release, times.dealt] = *spent.lock().unwrap();
    times.kernel = absorb - times.release;
    times
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let (keys, events) = (numbers.next().unwrap_or(100_000), numbers.next().unwrap_or(1_000_000));
    println!("{keys} keys, {events} events; ns an event of one thread's time");
    for kind in [
        "event_count, rules: [d], condition: {gte: 1000}",
        "value_count, rules: [d], condition: {gte: 100, field: dst_port}",
        "temporal, rules: [d, e]",
        "temporal_ordered, rules: [d, e]",
    ] {
        let name = kind.split(',').next().unwrap_or_default();
        for threads in [2, 4, 8] {
            let Times { detect, kernel, release, dealt } = run(kind, keys, events, threads);
            let nanos = |time: Duration| time.as_nanos() as f64 / events as f64;
            let [detect, kernel, release, dealt] = [detect, kernel, release, dealt].map(nanos);
            let n = threads as f64;
            // While the kernel works alone the others detect; what is left of that all do together.
            let wall = kernel + dealt + (detect - kernel * (n - 1.0)).max(0.0) / n;
            let all = detect + kernel + release;
            println!(
                "{name:<17} {threads} threads: detect {detect:.0}, kernel alone {kernel:.0}, release {release:.0} (dealt out {dealt:.0}): {:.2} times",
                all / wall
            );
        }
    }
}
