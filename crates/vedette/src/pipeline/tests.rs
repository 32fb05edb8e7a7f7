//! Real detectors, and detectors whose work is held: steps leave as one thread would give them, and not too many wait.
#![allow(clippy::unwrap_used)]

use crossbeam_channel::unbounded;
use vedette_engine::{Engine, EngineSettings};
use vedette_event::{
    Fields, Flags, MAX_ROWS, Micros, Partition, RawBatchBuilder, SourceDef, SourceIx, Sources, TopicIx,
    Topics,
};
use vedette_sigma::{Lists, RuleFile};
use vedette_simulate::Random;

use super::*;

const RULES: &str = "title: t\nid: seven\nlogsource: {category: x}\ndetection:\n  s: {a: 7}\n  condition: s\n---\n\
                     title: t\nid: long\nlogsource: {category: x}\ndetection:\n  s: {b|re: '(xy)+z'}\n  condition: s\n";

/// One source of JSON and two rules over it.
pub fn compiled() -> Arc<Compiled> {
    let def: SourceDef = serde_json::from_value(serde_json::json!({
        "name": "json", "description": "", "form": "json", "disorder": "1s", "future": "1s", "entity": ["host"],
    }))
    .unwrap();
    let sources = Arc::new(Sources::new(Fields::default(), vec![def]));
    let file = RuleFile { path: "rules.yml".into(), text: RULES.to_owned() };
    let rules = Arc::new(vedette_sigma::load(&[file], &Lists::new(), &sources));
    assert_eq!(rules.rejected, []);
    Compiled::new(rules, sources, Arc::new(Topics::new(["logs"])), [0; 32])
}

/// Records of a partition, from this offset on.
pub fn batch(number: i32, offset: i64, records: &[String]) -> RawBatch {
    let partition = Partition { topic: TopicIx(0), number };
    let mut batch = RawBatchBuilder::new(SourceIx(0), partition);
    for (record, offset) in records.iter().zip(offset..) {
        batch.push(offset, Some(Micros(offset)), Flags::NONE, Some(record.as_bytes()));
    }
    batch.take()
}

/// Batches of very different lengths over some partitions, with words between them.
fn read(seed: u64, items: u64) -> Vec<Result<RawBatch, u64>> {
    let mut random = Random::new(seed);
    let mut offsets = [0_i64; 5];
    let item = |word| {
        if random.chance(30) {
            return Err(word);
        }
        let number = random.below(5) as usize;
        let rows = if random.chance(20) { MAX_ROWS as u64 } else { 1 + random.below(4) };
        let records: Vec<String> = (0..rows)
            .map(|_| match random.below(12) {
                0 => "no JSON".to_owned(),
                a => format!(r#"{{"a": {a}, "b": "{}"}}"#, "xy".repeat(random.below(200) as usize)),
            })
            .collect();
        let first = offsets[number];
        offsets[number] += records.len() as i64;
        Ok(batch(number as i32, first, &records))
    };
    (0..items).map(item).collect()
}

/// All that a step says.
fn said(step: Step<u64>) -> String {
    match step {
        Step::Word(word) => format!("word {word}"),
        Step::Versions(compiled) => format!("{} versions", compiled.versions().len()),
        Step::Batch(Detected { partition, records, batches, dead, last_hash, .. }) => {
            let hits: Vec<_> = batches.iter().map(|b| (b.events.offsets(), &b.hits, &b.routed)).collect();
            format!("{partition:?} {records:?} {hits:?} {dead:?} {last_hash:?}")
        }
    }
}

/// What comes of all that is read, with detectors on threads of their own.
fn steps(threads: u16, items: Vec<Result<RawBatch, u64>>) -> Vec<String> {
    let (mut pipeline, workers) = Pipeline::new(InForce::new(compiled()), threads, |item| item).unwrap();
    assert_eq!(workers.len(), usize::from(threads) - 1);
    thread::scope(|scope| {
        let (out, input) = bounded(3);
        scope.spawn(move || items.into_iter().for_each(|item| out.send(item).unwrap()));
        for worker in workers {
            scope.spawn(move || worker.run(None));
        }
        let mut left = Vec::new();
        loop {
            match pipeline.next(&input, Duration::from_millis(1), &mut || ()) {
                Ok(step) => left.push(said(step)),
                Err(NoStep::NotYet) => {}
                Err(nothing) => {
                    assert_eq!((nothing, pipeline.is_empty()), (NoStep::AllTaken, true));
                    drop(pipeline);
                    return left;
                }
            }
        }
    })
}

#[test]
fn any_number_of_detectors_gives_what_one_thread_gives() {
    for seed in 1..=4 {
        let alone = steps(1, read(seed, 150));
        assert_eq!(alone.len(), 150);
        let text = alone.concat();
        assert!(text.contains("Hit") && text.contains("reason") && text.contains("word"), "{text}");
        for threads in [2, 3, 8] {
            assert_eq!(steps(threads, read(seed, 150)), alone, "seed {seed}, {threads} threads");
        }
    }
}

/// What the engine says of some thousand findings that are released at once, on real threads.
fn told(threads: u16) -> String {
    let (mut pipeline, workers) = Pipeline::<_, ()>::new(InForce::new(compiled()), threads, Ok).unwrap();
    let release_after = 2 * SHARED_FROM;
    let settings = EngineSettings { release_after, ..EngineSettings::new([0; 32]) };
    let (mut engine, mut out) = (Engine::new(compiled(), settings), vedette_engine::Output::default());
    assert_eq!(pipeline.hands().is_some(), threads > 1);
    pipeline.hands().into_iter().for_each(|hands| engine.share(hands));
    let records = |first: i64| -> Vec<String> {
        let record = |n: i64| {
            let host = n * 7 % 900;
            format!(
                r#"{{"a": 7, "host": "h{host}", "@timestamp": "2026-01-01T00:{:02}:{:02}Z"}}"#,
                n / 600,
                n / 10 % 60
            )
        };
        (first..first + 500).map(record).collect()
    };
    thread::scope(|scope| {
        let (to, input) = bounded(3);
        scope.spawn(move || (0..20).for_each(|n| to.send(batch(0, n * 500, &records(n * 500))).unwrap()));
        for worker in workers {
            scope.spawn(move || worker.run(None));
        }
        loop {
            match pipeline.next(&input, Duration::from_millis(1), &mut || ()) {
                Ok(Step::Batch(detected)) => engine.absorb(detected, &mut out),
                Ok(Step::Word(()) | Step::Versions(_)) | Err(NoStep::NotYet) => {}
                Err(nothing) => break assert_eq!(nothing, NoStep::AllTaken),
            }
        }
        engine.finish(&mut out);
        drop(pipeline);
    });
    assert!(out.correlated.alerts.len() > 1_000);
    format!("{out:?}")
}

#[test]
fn key_groups_let_through_on_any_number_of_threads_say_what_they_say_on_one() {
    let alone = told(1);
    for threads in [2, 3, 8] {
        assert!(told(threads) == alone, "{threads} threads");
    }
}

/// A pipeline of so many threads whose first detector took the first batch and keeps it; the others do nothing.
pub fn held<I, W>(
    threads: u16,
    first: I,
    split: fn(I) -> Result<RawBatch, W>,
) -> (Pipeline<I, W>, Vec<Worker>, impl FnOnce()) {
    let (mut pipeline, workers) = Pipeline::new(InForce::new(compiled()), threads, split).unwrap();
    pipeline.put(first);
    let DetectTask { number, raw, .. } = workers[0].work.try_recv().unwrap();
    let (mut detector, done) = (compiled().detector().unwrap(), workers[0].done.clone());
    let release = move || done.send(Done::Detected(number, detector.detect(&raw))).unwrap();
    (pipeline, workers, release)
}

/// Takes all that it can get; how many items it left on the channel.
pub fn exhaust<I, W>(pipeline: &mut Pipeline<I, W>, input: &Receiver<I>) -> (usize, Vec<Step<W>>) {
    let mut steps = Vec::new();
    // The kernel evaluates at each call what no detector has begun.
    for _ in 0..5_000 {
        steps.extend(pipeline.next(input, Duration::ZERO, &mut || ()));
    }
    (input.len(), steps)
}

#[test]
fn what_overtakes_waits_within_bounds() {
    let one = |offset: i64| batch(1, offset, &[r#"{"a": 7}"#.to_owned()]);
    for threads in [2, 3, 8] {
        let (mut pipeline, _workers, release) = held(threads, Ok::<_, u64>(one(0)), |item| item);
        let (out, input) = unbounded();
        (1..200).for_each(|offset| out.send(Ok(one(offset))).unwrap());
        let (unread, steps) = exhaust(&mut pipeline, &input);
        let allowed = usize::from(threads) * BATCHES_A_THREAD;
        assert_eq!((199 - unread + 1, steps.len()), (allowed, 0), "{threads} threads");
        assert_eq!(pipeline.order.in_flight().batches, allowed);
        release();
        let (unread, steps) = exhaust(&mut pipeline, &input);
        assert_eq!((unread, steps.len()), (0, 200));
    }
}

#[test]
fn bytes_and_words_in_flight_have_bounds_of_their_own() {
    let long = |offset: i64| batch(1, offset, &[format!(r#"{{"a": "{}"}}"#, "x".repeat(1_000_000))]);
    let (mut pipeline, _workers, release) = held(64, Ok(long(0)), |item| item);
    let (out, input) = unbounded();
    (1..50).for_each(|offset| out.send(Ok(long(offset))).unwrap());
    let (unread, _) = exhaust(&mut pipeline, &input);
    let bytes = pipeline.order.in_flight().bytes;
    assert!((BYTES..BYTES + 1_100_000).contains(&bytes) && unread > 10, "{bytes} bytes, {unread} unread");
    release();
    assert_eq!(exhaust(&mut pipeline, &input).1.len(), 50);

    let (mut pipeline, _workers, release) = held(2, Ok(long(0)), |item| item);
    (0..3_000).for_each(|word| out.send(Err(word)).unwrap());
    assert_eq!(exhaust(&mut pipeline, &input).0, 3_000 - ITEMS + 1);
    release();
    let (_, steps) = exhaust(&mut pipeline, &input);
    let words: Vec<u64> =
        steps.into_iter().filter_map(|s| if let Step::Word(w) = s { Some(w) } else { None }).collect();
    assert_eq!(words, (0..3_000).collect::<Vec<_>>());
}

#[test]
fn with_one_thread_nothing_is_taken_before_the_last_is_done() {
    let (mut pipeline, workers) =
        Pipeline::new(InForce::new(compiled()), 1, |item: Result<RawBatch, u64>| item).unwrap();
    assert!(workers.is_empty());
    let (out, input) = unbounded();
    read(7, 50).into_iter().for_each(|item| out.send(item).unwrap());
    for taken in 1..=50 {
        pipeline.next(&input, Duration::ZERO, &mut || ()).unwrap();
        assert_eq!((input.len(), pipeline.is_empty()), (50 - taken, true));
    }
    assert_eq!(pipeline.next(&input, Duration::ZERO, &mut || ()).err(), Some(NoStep::NotYet));
    drop(out);
    assert_eq!(pipeline.next(&input, Duration::ZERO, &mut || ()).err(), Some(NoStep::AllTaken));
}

#[test]
fn the_end_comes_behind_what_is_still_with_a_detector() {
    let (mut pipeline, _workers, release) =
        held(2, Ok::<_, u64>(batch(0, 0, &["{}".to_owned()])), |item| item);
    let (out, input) = unbounded();
    drop(out);
    for _ in 0..3 {
        assert_eq!(pipeline.next(&input, Duration::from_millis(1), &mut || ()).err(), Some(NoStep::NotYet));
    }
    release();
    assert!(matches!(pipeline.next(&input, Duration::ZERO, &mut || ()), Ok(Step::Batch(_))));
    assert_eq!(pipeline.next(&input, Duration::ZERO, &mut || ()).err(), Some(NoStep::AllTaken));
}

#[test]
fn a_detector_that_dies_is_told() {
    let (mut pipeline, mut workers, _) = held(3, Ok::<_, u64>(batch(0, 0, &["{}".to_owned()])), |item| item);
    let worker = workers.pop().unwrap();
    let died = thread::spawn(move || {
        let _worker = worker;
        panic!("a detector dies, as this test wants");
    });
    assert!(died.join().is_err());
    let (_out, input) = unbounded();
    let next = pipeline.next(&input, Duration::from_secs(60), &mut || ());
    assert_eq!(next.err(), Some(NoStep::DetectorDied));
}

#[test]
fn who_waits_for_a_detector_sees_whether_it_gets_on() {
    let (mut pipeline, workers) =
        Pipeline::new(InForce::new(compiled()), 2, |item: Result<RawBatch, u64>| item).unwrap();
    assert!(!pipeline.moved());
    pipeline.effort.parts.fetch_add(1, Ordering::Relaxed);
    assert_eq!((pipeline.moved(), pipeline.moved()), (true, false));
    pipeline.put(Ok(batch(0, 0, &[r#"{"a": 7}"#.to_owned()])));
    let (_out, input) = unbounded();
    let mut parts = 0;
    assert!(pipeline.next(&input, Duration::ZERO, &mut || parts += 1).is_ok());
    assert_eq!(parts, 2, "at the beginning, and after the only part");
    assert!(pipeline.moved());
    drop(workers);
}
