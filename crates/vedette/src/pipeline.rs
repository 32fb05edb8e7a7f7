//! From what is read to what the engine takes: decoding and detection on every core, in the order of reading.
//!
//! In: what a reader puts on a bounded channel: batches of records, and other words between them. Out: [`Step`]s: a batch as
//! [`Detected`], any other word as it is.
//!
//! The stages: a *reader* (ingest's, or that of `scan`) reads; `threads - 1` *detectors* decode and evaluate; the *kernel*,
//! in whose thread a [`Pipeline`] lives, places, correlates, releases and writes checkpoints. The kernel is the last
//! detector: while the next step is still being worked on it takes a batch itself. So `threads` threads compute, none waits
//! while there is work, and with one thread all of it is one loop, with no hop between threads (which costs more than it
//! saves where there is nobody to share with).
//!
//! Detectors also let key groups through, where the engine has enough to release ([`Pipeline::hands`]): they take a task of that before a
//! batch, since the kernel waits for it, and the kernel takes tasks itself, so that it waits for no more than what others have begun.
//!
//! Any detector takes any batch, since detection remembers nothing of earlier ones, and one partition alone is worth all
//! cores. Steps leave in the order in which their items were read ([`InOrder`]), all of them and not by partition, so
//! the engine is told exactly what one thread would tell it. Of each word between the records that means:
//!
//! - *assigned* comes before any record that was read after it, of other partitions too: else the source's watermark could
//!   pass without that partition, and its first records would be overtaken;
//! - *awaited* with no numbers left comes behind the *assigned* of these, else their source would be released without them;
//! - *idle* says that nothing is unread, and comes behind what was read;
//! - *placed* comes before its record, so that it is stored before what rests on it;
//! - *lost* comes behind the records before the hole, and before the *assigned* behind it;
//! - *accepted* divides a topic: what was read before is evaluated, published and stored as of the incarnation before;
//! - a topic that *stopped* does so behind its records, which would otherwise count as waiting for a source that stands still;
//! - *failed* ends the reader, and all that it read comes before.
//!
//! Other versions of the rules take their place in the same order ([`InForce`]): what is read before them is evaluated by the ones before.
//!
//! Invariants: at most [`limit`] is in flight, beyond what waits on the channel; what is in flight counts as not read for
//! checkpoints and positions, which the engine writes of what it has taken, so that dropping it loses nothing; a detector
//! that dies is told to the kernel, which would wait for ever for what it had.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, never, select, select_biased};
use vedette_engine::{
    Compiled, Detected, Detector, Error, Hands, InFlight, InForce, InOrder, KEY_GROUPS, ReleaseTask, Spread,
    Task, Version,
};
use vedette_event::{Micros, RawBatch};

use crate::service::Stage;

/// Threads that may be asked for.
pub const MAX_THREADS: u16 = 256;
/// Batches in flight for each thread: one at work, one that waits for it, and as many that are done behind one that is not,
/// since a batch can take several times as long as another.
const BATCHES_A_THREAD: usize = 4;
/// Payload bytes in flight. A batch has 512 records, a few hundred kilobytes as a rule and a mebibyte at most, so this holds
/// back nobody but many threads with very long records.
const BYTES: usize = 32 << 20;
/// Words that wait behind a batch: more than the idle proofs of a second over 600 partitions.
const ITEMS: usize = 1_024;

/// Findings since the last release from which on it is shared: two milliseconds of work. Handing a task over takes some ten microseconds.
const SHARED_FROM: usize = 2_048;

/// Findings after which key groups are let through, if nobody asks for it before. What a key needs is then mostly in the cache, since its
/// group lets through a thousand at once: with 100,000 keys an event took 1.26 us at a release for each batch of 512, 1.16 at 4,096 findings,
/// 1.08 at 16,384, 0.96 at this and 0.86 at four times this, which takes 14 MB more (`value_count`, processor time of all of a scan;
/// `event_count` 0.86, 0.80, 0.76, 0.70, 0.66).
pub const RELEASE_AFTER: usize = 65_536;

/// How many threads there are to compute with.
pub fn cores() -> u16 {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    u16::try_from(cores).unwrap_or(MAX_THREADS).min(MAX_THREADS)
}

/// So many threads, to compile rules on.
pub fn spread(threads: u16) -> Spread {
    Spread::new(usize::from(threads), |pieces, work| {
        thread::scope(|scope| {
            for piece in 1..pieces {
                scope.spawn(move || work(piece));
            }
            work(0);
        });
    })
}

/// What may be in flight with so many threads.
fn limit(threads: u16) -> InFlight {
    match usize::from(threads) {
        // One after the other: what is not taken waits on the channel.
        0 | 1 => InFlight { items: 1, batches: 1, bytes: BYTES },
        threads => InFlight { items: ITEMS, batches: threads * BATCHES_A_THREAD, bytes: BYTES },
    }
}

/// What the kernel takes next.
#[derive(Debug)]
pub enum Step<W> {
    /// Records, evaluated.
    Batch(Detected),
    /// Anything else that was read.
    Word(W),
    /// What comes behind is evaluated by these versions of the rules.
    Versions(Arc<Compiled>),
}

/// Why there is no step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoStep {
    /// None is ready by now.
    NotYet,
    /// The reader has ended, and all that it read was taken.
    AllTaken,
    /// A detector died with what it had.
    DetectorDied,
}

/// A batch on its way to a detector.
struct DetectTask {
    number: u64,
    task: Task,
    raw: RawBatch,
}

/// What a detector says.
enum Done {
    Detected(u64, Detected),
    Died,
}

/// The channels on which key groups go to be let through, and come back.
#[derive(Clone)]
struct Errands {
    out: Sender<ReleaseTask>,
    tasks: Receiver<ReleaseTask>,
    done: Sender<thread::Result<ReleaseTask>>,
    back: Receiver<thread::Result<ReleaseTask>>,
}

/// What all threads have done.
#[derive(Default)]
struct Effort {
    /// Parts of batches, each of a bounded number of steps.
    parts: AtomicU64,
    nanos: AtomicU64,
}

/// The kernel's end of what a reader gives as `I`: batches, and words `W` between them.
pub struct Pipeline<I, W> {
    split: fn(I) -> Result<RawBatch, W>,
    order: InOrder<Step<W>>,
    in_force: InForce,
    detector: Detector,
    work_out: Sender<DetectTask>,
    /// What no detector has begun.
    work_in: Receiver<DetectTask>,
    done_in: Receiver<Done>,
    errands: Errands,
    threads: u16,
    /// Held so that the channel has two ends where there are no detectors.
    _done_out: Sender<Done>,
    effort: Arc<Effort>,
    /// Parts that were seen done.
    seen: u64,
    /// True once the reader has ended.
    ended: bool,
}

/// A detector's end: to be run on a thread of its own.
pub struct Worker {
    detector: Detector,
    work: Receiver<DetectTask>,
    done: Sender<Done>,
    errands: Errands,
    effort: Arc<Effort>,
}

impl Errands {
    fn new() -> Self {
        // Never full: there are no more tasks than groups.
        let (out, tasks) = bounded(usize::from(KEY_GROUPS));
        let (done, back) = bounded(usize::from(KEY_GROUPS));
        Self { out, tasks, done, back }
    }

    /// Has all tasks run, by whoever is free, and waits for those that others have begun.
    fn run(&self, all: Vec<ReleaseTask>) -> Vec<ReleaseTask> {
        let mut left = all.len();
        let mut done = Vec::with_capacity(left);
        for task in all {
            // This has the other end, too.
            let _ = self.out.send(task);
        }
        while let Ok(mut task) = self.tasks.try_recv() {
            task.run();
            done.push(task);
            left -= 1;
        }
        for back in self.back.iter().take(left) {
            // As if it had happened here: without its groups nothing can go on.
            done.push(back.unwrap_or_else(|panic| resume_unwind(panic)));
        }
        done
    }

    /// Runs one task for somebody else.
    fn help(&self, mut task: ReleaseTask) {
        let run = catch_unwind(AssertUnwindSafe(|| {
            task.run();
            task
        }));
        let _ = self.done.send(run);
    }
}

impl<I, W> Pipeline<I, W> {
    /// A pipeline in front of an engine, by the versions in force, over so many threads, that of the kernel included, and the detectors for the others. `split` gives the batch
    /// in an item, or the word that it is.
    ///
    /// # Errors
    /// If a source's definition cannot be decoded.
    pub fn new(
        in_force: InForce,
        threads: u16,
        split: fn(I) -> Result<RawBatch, W>,
    ) -> Result<(Self, Vec<Worker>), Error> {
        let limit = limit(threads);
        // Neither is ever full: there are no more batches in flight, and each detector dies once.
        let (work_out, work_in) = bounded(limit.batches);
        let (done_out, done_in) = bounded(limit.batches + usize::from(threads));
        let effort = Arc::<Effort>::default();
        let errands = Errands::new();
        let worker = |_| {
            let (work, done, errands) = (work_in.clone(), done_out.clone(), errands.clone());
            Ok(Worker {
                detector: in_force.compiled().detector()?,
                work,
                done,
                errands,
                effort: effort.clone(),
            })
        };
        let workers = (1..threads).map(worker).collect::<Result<_, Error>>()?;
        let order = InOrder::new(limit);
        let detector = in_force.compiled().detector()?;
        let (_done_out, seen, ended) = (done_out, 0, false);
        Ok((
            Self {
                split,
                order,
                in_force,
                detector,
                work_out,
                work_in,
                done_in,
                errands,
                threads,
                _done_out,
                effort,
                seen,
                ended,
            },
            workers,
        ))
    }

    /// The same threads, to let key groups through; none if there is only that of the kernel.
    pub fn hands(&self) -> Option<Hands> {
        let errands = self.errands.clone();
        let run = move |all| errands.run(all);
        (self.threads > 1).then(|| Hands::new(usize::from(self.threads), SHARED_FROM, run))
    }

    /// The next step. Takes in what `input` has and there is room for, and evaluates a batch itself if nothing is ready;
    /// waits no longer than `patience` for others. Calls `moved` before what it evaluates and after each part of it.
    ///
    /// # Errors
    /// [`NoStep`] says why there is none.
    pub fn next(
        &mut self,
        input: &Receiver<I>,
        patience: Duration,
        moved: &mut dyn FnMut(),
    ) -> Result<Step<W>, NoStep> {
        while let Ok(done) = self.done_in.try_recv() {
            self.take_back(done)?;
        }
        // First of all, so that detectors have something to do while the kernel is busy with the step.
        while self.has_room() {
            match input.try_recv() {
                Ok(item) => self.put(item),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => self.ended = true,
            }
        }
        if let Some(step) = self.order.pop() {
            return Ok(step);
        }
        if let Ok(DetectTask { number, task, raw }) = self.work_in.try_recv() {
            // Before the first part, too: a single record can take long, and who is at it has work.
            moved();
            let detected = detect(&mut self.detector, &task, &raw, &self.effort, moved);
            let detected = detected.map_err(|_| NoStep::DetectorDied)?;
            self.order.fill(number, Step::Batch(detected));
        } else if self.ended && self.order.is_empty() {
            return Err(NoStep::AllTaken);
        } else if patience > Duration::ZERO {
            self.wait(input, patience)?;
        }
        self.order.pop().ok_or(NoStep::NotYet)
    }

    /// Waits for something to take in or back.
    fn wait(&mut self, input: &Receiver<I>, patience: Duration) -> Result<(), NoStep> {
        enum Came<I> {
            In(Option<I>),
            Back(Done),
        }
        let closed = never();
        let input = if self.has_room() { input } else { &closed };
        let came = select! {
            recv(input) -> item => Came::In(item.ok()),
            recv(self.done_in) -> done => Came::Back(done.unwrap_or(Done::Died)),
            default(patience) => return Ok(()),
        };
        match came {
            Came::In(Some(item)) => self.put(item),
            Came::In(None) => self.ended = true,
            Came::Back(done) => self.take_back(done)?,
        }
        Ok(())
    }

    /// Whether there is anything to be taken in and room for it.
    fn has_room(&self) -> bool {
        !self.ended && self.order.has_room()
    }

    /// Takes in one item.
    pub fn put(&mut self, item: I) {
        match (self.split)(item) {
            Err(word) => self.order.push(Step::Word(word)),
            Ok(raw) => {
                let bytes = raw.records.iter().filter_map(|record| record.len).map(|len| len as usize).sum();
                let number = self.order.keep(bytes);
                let task = self.in_force.task(&raw);
                // This has the other end, too.
                let _ = self.work_out.send(DetectTask { number, task, raw });
            }
        }
    }

    /// What is taken in from now on is evaluated by one more version of the rules, in force from `least` on or later.
    pub fn add_version(&mut self, version: Version, least: Micros) {
        let compiled = self.in_force.add(version, least).clone();
        self.order.push(Step::Versions(compiled));
    }

    /// The same without so many of the oldest versions.
    pub fn drop_oldest(&mut self, versions: usize) {
        let compiled = self.in_force.drop_oldest(versions).clone();
        self.order.push(Step::Versions(compiled));
    }

    fn take_back(&mut self, done: Done) -> Result<(), NoStep> {
        match done {
            Done::Detected(number, detected) => self.order.fill(number, Step::Batch(detected)),
            Done::Died => return Err(NoStep::DetectorDied),
        }
        Ok(())
    }

    /// True if nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Whether any thread got on with evaluating since this was asked last.
    pub fn moved(&mut self) -> bool {
        let parts = self.effort.parts.load(Ordering::Relaxed);
        std::mem::replace(&mut self.seen, parts) != parts
    }

    /// The time that decoding and detection took, over all threads.
    pub fn spent(&self) -> Duration {
        Duration::from_nanos(self.effort.nanos.load(Ordering::Relaxed))
    }
}

impl Worker {
    /// Evaluates batches, and lets key groups through, until nobody gives or takes any more.
    pub fn run(mut self, stage: Option<&Stage>) {
        let mut moved = || {
            stage.inspect(|stage| stage.works());
        };
        loop {
            stage.inspect(|stage| stage.rests());
            let work = select_biased! {
                recv(self.errands.tasks) -> task => {
                    let Ok(task) = task else { return };
                    moved();
                    self.errands.help(task);
                    continue;
                }
                recv(self.work) -> work => work,
            };
            let Ok(DetectTask { number, task, raw }) = work else { return };
            moved();
            let detected = detect(&mut self.detector, &task, &raw, &self.effort, &mut moved);
            let done = detected.map_or(Done::Died, |detected| Done::Detected(number, detected));
            if self.done.send(done).is_err() {
                return;
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if thread::panicking() {
            // There is room for it, or nobody to hear it.
            let _ = self.done.try_send(Done::Died);
        }
    }
}

fn detect(
    detector: &mut Detector,
    task: &Task,
    raw: &RawBatch,
    effort: &Effort,
    moved: &mut dyn FnMut(),
) -> Result<Detected, Error> {
    // Versions are tried before they are handed in.
    detector.adopt(&task.compiled)?;
    let start = Instant::now();
    let detected = detector.detect_after(raw, task.before, &mut || {
        effort.parts.fetch_add(1, Ordering::Relaxed);
        moved();
    });
    let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    effort.nanos.fetch_add(nanos, Ordering::Relaxed);
    Ok(detected)
}

#[cfg(test)]
pub mod tests;
