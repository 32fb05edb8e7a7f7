//! The lake's events through the engine, in the order of their times.
//!
//! In: files of the catalog, compiled rules, stored placements, up to when each source is complete. Out: revisions of alerts.
//! Invariants: an event takes part when and as what it did when it was read first; what is held is two batches of each file whose times are
//! due and what the engine holds, whatever the lake's size; nothing depends on the number of threads.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use vedette_correlate::HealthSignal;
use vedette_engine::{Compiled, DetectedBatch, Engine, EngineSettings, NewRevision, Output};
use vedette_event::{Flags, Incarnation, Micros, Partition, Placed, Span, StoredPlacement, place};
use vedette_hunt::lake::{InTime, InTimeBatch, Place, Places};
use vedette_store::model::LakeFile;

use super::way::{self, Hand, Task};

/// Tasks that each thread has in a round: with fewer, threads wait for each other more often.
const TASKS: usize = 16;

/// What is replayed.
pub struct Replay<'a> {
    pub compiled: &'a Arc<Compiled>,
    pub settings: EngineSettings,
    pub place: Place,
    pub files: Vec<LakeFile>,
    /// Placements that are no function of the record.
    pub placements: &'a [(Incarnation, StoredPlacement)],
    /// Events before this time are passed by.
    pub from: Micros,
    /// By source: up to when all of it is known.
    pub complete: Vec<Micros>,
    pub threads: u16,
}

/// What was done.
#[derive(Debug, Clone, Default)]
pub struct Done {
    /// Events evaluated.
    pub events: u64,
    /// Events that ended unevaluated.
    pub dead: u64,
    /// Rules that had no room for all their keys, by number.
    pub degraded: BTreeSet<u32>,
    /// Processor time over all threads, about: the time of the thread that reads and correlates, and of all that evaluate.
    pub busy: Duration,
}

/// Where records were placed whose place is no function of them.
type Moved = BTreeMap<(Partition, Incarnation, i64), Vec<(Flags, Micros)>>;

/// Runs it; `each` takes what the engine says, and `on` how many events were read, and says whether to go on.
pub fn run(
    replay: Replay<'_>,
    each: &mut dyn FnMut(Vec<NewRevision>) -> io::Result<()>,
    on: &mut dyn FnMut(u64) -> bool,
) -> Result<Done> {
    let Replay { compiled, settings, place, files, placements, from, complete, threads } = replay;
    let secret = settings.secret;
    let mut engine = Engine::new(compiled.clone(), settings);
    let mut hands = (0..threads.max(1)).map(|_| Hand::new(compiled, secret)).collect::<Result<Vec<_>>>()?;
    let moved = moved(compiled, placements);
    let end = complete.iter().copied().max().unwrap_or(Micros::MIN);
    let files = files.into_iter().filter(|file| file.latest >= from && file.earliest < end).collect();
    let mut events = InTime::new(place, files, way::wanted(compiled))?;
    let mut done = Done::default();
    let mut out = Output::default();
    let mut tasks = Vec::new();
    let mut began = Instant::now();
    loop {
        let next = if events.passed() < end { events.read()? } else { None };
        let over = next.is_none();
        if let Some(batch) = next {
            split(compiled, &batch, (from, end), &mut tasks)?;
        }
        if !over && tasks.len() < TASKS * hands.len() {
            continue;
        }
        let round = std::mem::take(&mut tasks);
        done.busy += began.elapsed();
        let evaluated = evaluate(&mut hands, &round)?;
        began = Instant::now();
        for (task, Evaluated { batches, dead, took }) in round.iter().zip(evaluated) {
            done.dead += dead;
            done.busy += took;
            for batch in batches {
                done.events += batch.events.rows() as u64;
                let places = placed(compiled, task, &batch, &moved)?;
                engine.recall(batch, task.incarnation, places, &mut out);
            }
        }
        let passed = events.passed();
        for ((source, _), complete) in compiled.sources.iter().zip(&complete) {
            engine.come_to(source, if over { *complete } else { passed.min(*complete) });
        }
        engine.come_on(over, &mut out);
        let Output { correlated, .. } = std::mem::take(&mut out);
        done.degraded.extend(correlated.health.iter().filter_map(over_budget));
        each(correlated.alerts)?;
        ensure!(on(events.given()), "it was stopped");
        if over {
            done.busy += began.elapsed();
            return Ok(done);
        }
    }
}

fn over_budget(signal: &HealthSignal) -> Option<u32> {
    match signal {
        HealthSignal::OverBudget { rule, .. } | HealthSignal::Unevaluated { rule, .. } => Some(rule.0),
        HealthSignal::WithinBudget { .. } | HealthSignal::EvaluatedAgain { .. } => None,
    }
}

fn moved(compiled: &Compiled, placements: &[(Incarnation, StoredPlacement)]) -> Moved {
    let mut moved = Moved::new();
    for (incarnation, placement) in placements {
        if let Some(topic) = compiled.topics.find(&placement.topic) {
            let partition = Partition { topic, number: placement.partition };
            let place = (partition, *incarnation, placement.offset);
            moved.entry(place).or_default().push((placement.flag, placement.time));
        }
    }
    moved
}

/// Cuts a batch into rows of one partition, in the order of their offsets.
fn split(
    compiled: &Compiled,
    batch: &InTimeBatch,
    (from, end): (Micros, Micros),
    tasks: &mut Vec<Task>,
) -> Result<()> {
    let Some(source) = compiled.sources.find(&batch.source) else { return Ok(()) };
    let places = Places::of(&batch.events)?;
    let within = |row: &u32| (from..end).contains(&places.time(*row as usize));
    let rows = (0..places.rows() as u32).filter(within);
    tasks.extend(way::tasks(source, &batch.events, rows, |topic| compiled.topics.find(topic))?);
    Ok(())
}

/// Evaluates tasks on all hands; in their order.
fn evaluate(hands: &mut [Hand], tasks: &[Task]) -> Result<Vec<Evaluated>> {
    if let [hand] = hands {
        return tasks.iter().map(|task| timed(hand, task)).collect();
    }
    let next = AtomicUsize::new(0);
    let found = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for hand in hands {
            let (next, found) = (&next, &found);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(task) = tasks.get(number) else { break };
                    let evaluated = timed(hand, task);
                    found.lock().unwrap_or_else(PoisonError::into_inner).insert(number, evaluated);
                }
            });
        }
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

/// What came of a task.
struct Evaluated {
    batches: Vec<DetectedBatch>,
    dead: u64,
    took: Duration,
}

fn timed(hand: &mut Hand, task: &Task) -> Result<Evaluated> {
    let began = Instant::now();
    let (batches, dead) = hand.evaluate(task)?;
    Ok(Evaluated { batches, dead, took: began.elapsed() })
}

/// Times and flags of the events of a batch.
fn placed(
    compiled: &Compiled,
    task: &Task,
    batch: &DetectedBatch,
    moved: &Moved,
) -> Result<(Vec<Micros>, Vec<Flags>)> {
    let places = Places::of(&task.events)?;
    let def = compiled.sources.get(task.source);
    let bounds = (def.disorder, def.future);
    let mut placed = (Vec::with_capacity(batch.events.rows()), Vec::with_capacity(batch.events.rows()));
    for (at, offset) in batch.events.records.iter().zip(batch.events.offsets()) {
        let row = *task.rows.get(*at as usize).context("an event without a row")? as usize;
        let Placed { time, flags } = match moved.get(&(task.partition, task.incarnation, *offset)) {
            None => Placed { time: places.time(row), flags: places.flags(row) },
            Some(decided) => moved_to(&places, row, decided, bounds),
        };
        placed.0.push(time);
        placed.1.push(flags);
    }
    Ok(placed)
}

/// Where an event was placed for which detection had to decide.
fn moved_to(
    places: &Places<'_>,
    row: usize,
    decided: &[(Flags, Micros)],
    (late, future): (Span, Span),
) -> Placed {
    let mut placed = Placed { time: places.time(row), flags: places.flags(row) };
    for (_, log) in decided.iter().filter(|(flag, _)| flag.has(Flags::CLOCK_BROKER)) {
        placed = place(places.claimed(row), *log, late, future);
        placed.flags = placed.flags.with(Flags::CLOCK_BROKER);
    }
    for (_, reached) in decided.iter().filter(|(flag, _)| flag.has(Flags::CLOCK_OVERTAKEN)) {
        placed.time = placed.time.max(*reached);
        placed.flags = placed.flags.with(Flags::CLOCK_OVERTAKEN);
    }
    placed
}
