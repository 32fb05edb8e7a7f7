//! Log files as events for a query: read, decoded on every core, and handed on in the order of reading.
//!
//! In: [`Files`], the rules that the query names, what the query needs ([`Converter`]). Out: record batches, and [`Figures`].
//! Invariants: the columns that a query needs are decoded, and no others; what is under way is bounded, so that a file of any size takes
//! some mebibytes; the rules of a query are evaluated once for a batch, by the engine that the service runs; who takes no more
//! has the reader stop.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use anyhow::{Error, anyhow};
use crossbeam_channel::{Receiver, Sender, bounded};
use futures::{StreamExt as _, stream};
use tokio::sync::{mpsc, oneshot};
use vedette_decode::Decoder;
use vedette_engine::{Compiled, Detector, Version};
use vedette_event::{DeadLetter, EventBatch, Projection, RawBatch, RuleIx, Topics};
use vedette_hunt::{Batches, Converter, Origin, RecordBatch, SourceError};
use vedette_sigma::RuleSet;

use super::files::Files;
use crate::scan::FILE_SECRET;

/// Batches under way for each thread: one at work, and as many that are done behind one that is not.
const BATCHES_A_THREAD: usize = 4;

/// What was read for a query, and what became of it.
#[derive(Debug, Default)]
pub struct Figures {
    /// Bytes, as they lie on the disk.
    pub bytes: AtomicU64,
    /// Records.
    pub records: AtomicU64,
    /// Events.
    pub events: AtomicU64,
    /// Records that could not be read.
    pub dead: AtomicU64,
    /// The first of these: its file, its number, why.
    pub first_dead: std::sync::Mutex<Option<(Arc<str>, i64, String)>>,
    /// Values that are not of their column's type.
    pub refused: AtomicU64,
    /// Whether all that there was has been read.
    pub ended: std::sync::atomic::AtomicBool,
}

/// Gives the events of files.
pub struct EventSource {
    /// The files.
    pub files: Arc<Files>,
    /// The rules that the query names, each once.
    pub rules: Arc<RuleSet>,
    /// By the number of a rule in the query: which of these it is.
    pub numbers: Vec<RuleIx>,
    /// Threads that decode.
    pub threads: u16,
    /// What is told of it.
    pub figures: Arc<Figures>,
}

/// One batch of records on its way through a thread.
struct Task {
    raw: RawBatch,
    done: oneshot::Sender<Result<Done, SourceError>>,
}

/// What came of a batch of records.
struct Done {
    batches: Vec<RecordBatch>,
    records: u64,
    events: u64,
    dead: Vec<DeadLetter>,
    refused: u64,
}

/// What decodes, on one thread.
enum Eye {
    Decoder(Box<Decoder>),
    /// With the rules that a query names.
    Detector(Box<Detector>),
}

/// What one thread has.
struct Worker {
    eye: Eye,
    converter: Converter,
    files: Arc<Files>,
    numbers: Vec<RuleIx>,
}

impl EventSource {
    /// Begins to give events as a converter wants them.
    pub fn open(&self, converter: &Converter) -> Result<Batches, SourceError> {
        let workers = self.workers(converter)?;
        let (work, tasks) = bounded::<Task>(usize::from(self.threads));
        let (out, coming) = mpsc::channel(usize::from(self.threads) * BATCHES_A_THREAD);
        for (number, worker) in workers.into_iter().enumerate() {
            let tasks = tasks.clone();
            let name = format!("decoder-{number}");
            thread::Builder::new().name(name).spawn(move || worker.run(&tasks)).map_err(boxed)?;
        }
        let (files, figures) = (self.files.clone(), self.figures.clone());
        let read = move || read(&files, &figures, &work, &out);
        thread::Builder::new().name("reader".to_owned()).spawn(read).map_err(boxed)?;
        Ok(in_order(coming, self.files.clone(), self.figures.clone()))
    }

    fn workers(&self, converter: &Converter) -> Result<Vec<Worker>, SourceError> {
        let worker = |eye| Worker {
            eye,
            converter: converter.clone(),
            files: self.files.clone(),
            numbers: self.numbers.clone(),
        };
        if converter.rules().next().is_none() {
            let projection = Projection::new(converter.fields().cloned());
            let def = self.files.def();
            let decoder = || Decoder::new(def, &self.files.sources.fields, &projection, FILE_SECRET);
            let eye = |_| Ok(worker(Eye::Decoder(Box::new(decoder().map_err(boxed)?))));
            return (0..self.threads).map(eye).collect();
        }
        let fields: Vec<&str> = converter.fields().map(|field| &**field).collect();
        let sources = self.files.sources.clone();
        let version = Version::uncorrelated_showing(self.rules.clone(), sources.clone(), &fields);
        let topics = Arc::new(Topics::new(sources.defs.iter().map(|def| def.name.clone())));
        let compiled = Compiled::with_versions(vec![Arc::new(version)], topics, FILE_SECRET);
        let eye = |_| Ok(worker(Eye::Detector(Box::new(compiled.detector().map_err(boxed)?))));
        (0..self.threads).map(eye).collect()
    }
}

fn boxed(error: impl Into<Error>) -> SourceError {
    error.into().into()
}

/// Reads all files, until nobody takes what they hold.
fn read(
    files: &Files,
    figures: &Figures,
    work: &Sender<Task>,
    out: &mpsc::Sender<oneshot::Receiver<Result<Done, SourceError>>>,
) {
    let taken = files.read(&mut |raw, bytes| {
        figures.bytes.store(bytes, Ordering::Relaxed);
        let (done, coming) = oneshot::channel();
        work.send(Task { raw, done }).is_ok() && out.blocking_send(coming).is_ok()
    });
    if let Err(error) = taken {
        let (done, coming) = oneshot::channel();
        let _ = done.send(Err(error.into()));
        let _ = out.blocking_send(coming);
    }
}

impl Worker {
    fn run(mut self, tasks: &Receiver<Task>) {
        for Task { raw, done } in tasks {
            if done.is_closed() {
                continue;
            }
            let _ = done.send(self.take(&raw));
        }
    }

    fn take(&mut self, raw: &RawBatch) -> Result<Done, SourceError> {
        let refused = self.converter.refused();
        let from = Origin {
            source: self.files.def().name.clone(),
            topic: self.files.name(raw.partition.number),
            partition: raw.partition.number,
        };
        let mut done = Done {
            batches: Vec::new(),
            records: raw.records.len() as u64,
            events: 0,
            dead: Vec::new(),
            refused: 0,
        };
        let mut keep = |events: &EventBatch, matches: &dyn Fn(usize) -> Vec<u32>| {
            done.events += events.rows() as u64;
            done.batches.push(self.converter.convert(events, &from, matches)?);
            Ok::<_, SourceError>(())
        };
        match &mut self.eye {
            Eye::Decoder(decoder) => {
                let mut events = Vec::new();
                decoder.decode(raw, &mut events, &mut done.dead);
                events.iter().try_for_each(|events| keep(events, &|_| Vec::new()))?;
            }
            Eye::Detector(detector) => {
                let detected = detector.detect(raw);
                for batch in &detected.batches {
                    let matches = |number: usize| {
                        let rule = self.numbers.get(number);
                        let hits = batch.hits.iter().filter(|hit| Some(&hit.rule) == rule);
                        hits.map(|hit| hit.row).collect()
                    };
                    keep(&batch.events, &matches)?;
                }
                done.dead = detected.dead;
            }
        }
        done.refused = self.converter.refused() - refused;
        Ok(done)
    }
}

/// What comes of batches, in the order in which they were read.
fn in_order(
    coming: mpsc::Receiver<oneshot::Receiver<Result<Done, SourceError>>>,
    files: Arc<Files>,
    figures: Arc<Figures>,
) -> Batches {
    let state = (coming, VecDeque::new());
    let next = move |(mut coming, mut ready): (mpsc::Receiver<_>, VecDeque<_>)| {
        let (files, figures) = (files.clone(), figures.clone());
        async move {
            loop {
                if let Some(batch) = ready.pop_front() {
                    return Some((Ok(batch), (coming, ready)));
                }
                let Some(next): Option<oneshot::Receiver<Result<Done, SourceError>>> = coming.recv().await
                else {
                    figures.ended.store(true, Ordering::Relaxed);
                    return None;
                };
                let died = || Err(anyhow!("a decoder panicked; the message is above").into());
                match next.await.unwrap_or_else(|_| died()) {
                    Ok(done) => {
                        figures.take(&done, &files);
                        ready.extend(done.batches);
                    }
                    Err(error) => return Some((Err(error), (coming, ready))),
                }
            }
        }
    };
    stream::unfold(state, next).boxed()
}

impl Figures {
    fn take(&self, done: &Done, files: &Files) {
        let add = |to: &AtomicU64, n: u64| to.fetch_add(n, Ordering::Relaxed);
        add(&self.records, done.records);
        add(&self.events, done.events);
        add(&self.dead, done.dead.len() as u64);
        add(&self.refused, done.refused);
        if let Some(letter) = done.dead.first()
            && let Ok(mut first) = self.first_dead.lock()
            && first.is_none()
        {
            let why = format!("{}: {}", letter.reason.name(), letter.detail);
            *first = Some((files.name(letter.partition.number), letter.offset, why));
        }
    }

    /// One of the numbers.
    pub fn of(number: &AtomicU64) -> u64 {
        number.load(Ordering::Relaxed)
    }
}
