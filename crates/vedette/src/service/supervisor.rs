//! The supervisor: who works here, whether they move, how they fail, and how long stopping may take.
//!
//! In: stages, either threads of ours ([`Supervisor::spawn`]), tasks ([`Supervisor::task`]) or another crate's threads
//! that are only looked at ([`Supervisor::look_at`]). Out: a [`StageStatus`] for each at any moment, and failures.
//! Invariants: no stage ends in silence: a panic, an error and an end that nobody asked for are all failures with the
//! stage's name; looking waits for nothing, so it works when everything is stuck; a thread cannot be ended from
//! outside, so each stage has a time after the word to stop beyond which the process ends without it.

use std::{
    borrow::Cow,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use tokio::sync::watch;
use vedette_api::live::{HUNG_AFTER, STALLED_AFTER, StageState, StageStatus};
use vedette_event::Span;

/// How often all stages are looked at, whether anybody asks or not.
const LOOK: Duration = Duration::from_millis(250);
/// How often a stage that waits for an answer shows that it is alive.
const ALIVE: Duration = Duration::from_millis(500);

/// The stages, in the order in which records pass through them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// Writes what the demo reads.
    Simulator,
    /// Reads records (ingest's).
    Reader,
    /// Asks the brokers (ingest's).
    Prober,
    /// Takes what was read, detects with the others, correlates.
    Kernel,
    /// Decodes and detects what the kernel gives it; numbered from 1.
    Detector(u16),
    /// Times rules on samples of what is read.
    Costs,
    /// Writes into the store.
    Publisher,
    /// Reads evidence back.
    Evidence,
    /// Writes all events down.
    Lake,
    /// Looks after the files of all events.
    LakeKeeper,
    /// Runs kept hunts again and again.
    Scheduler,
    /// Passes on what operators decide about topics.
    Topics,
    /// Looks at alerts with playbooks, and sees to what is to be done.
    Responder,
    /// Looks in events whether countermeasures take effect.
    Witness,
    /// Tells what one connector is to tell; numbered from 1.
    Courier(u16),
    /// Reads rules, lists and mappings again.
    Reloader,
    /// Looks after the store.
    Retention,
    /// Answers requests.
    Api,
}

impl Name {
    /// The stable name, also that of its thread.
    pub fn text(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Detector(number) => return Cow::Owned(format!("detector-{number}")),
            Self::Courier(number) => return Cow::Owned(format!("courier-{number}")),
            Self::Simulator => "simulator",
            Self::Reader => "reader",
            Self::Prober => "prober",
            Self::Kernel => "kernel",
            Self::Costs => "costs",
            Self::Publisher => "publisher",
            Self::Evidence => "evidence",
            Self::Lake => "lake",
            Self::LakeKeeper => "lake-keeper",
            Self::Scheduler => "scheduler",
            Self::Topics => "topics",
            Self::Responder => "responder",
            Self::Witness => "witness",
            Self::Reloader => "reloader",
            Self::Retention => "retention",
            Self::Api => "api",
        })
    }

    /// How long after the word to stop it may take to end. All of it must be over within ten seconds, which is what
    /// container runtimes and init systems grant at least: the kernel first, since the publisher waits for it; the
    /// prober's questions to brokers take two seconds each, reading one record back five.
    const fn patience(self) -> Duration {
        Duration::from_millis(match self {
            Self::Kernel | Self::Detector(_) => 5_000,
            Self::Simulator | Self::Reader | Self::Prober => 6_000,
            Self::Costs
            | Self::Publisher
            | Self::Evidence
            | Self::Lake
            | Self::LakeKeeper
            | Self::Scheduler
            | Self::Topics
            | Self::Responder
            | Self::Witness
            | Self::Courier(_)
            | Self::Reloader
            | Self::Retention
            | Self::Api => 7_000,
        })
    }
}

/// A stage's own end of its heartbeat, and the word to stop.
pub struct Stage {
    beat: Arc<Beat>,
    stop: watch::Receiver<bool>,
}

impl Stage {
    /// It takes up a piece of work, or got on with it.
    pub fn works(&self) {
        self.beat.moved(true);
    }

    /// It has nothing to do.
    pub fn rests(&self) {
        self.beat.moved(false);
    }

    /// It has work, and somebody else holds it up: a stage or the store.
    pub fn waits_for(&self, whom: &'static str) {
        *lock(&self.beat.waits_for) = Some(whom);
        self.beat.has_work.store(true, Ordering::Relaxed);
        self.beat.tries.fetch_add(1, Ordering::Release);
    }

    /// The answer of somebody else, who may take long. Waiting is being alive and not moving, whatever the answer is: call
    /// [`Stage::works`] if it lets the stage get on.
    pub async fn awaits<T>(&self, whom: &'static str, answer: impl Future<Output = T>) -> T {
        let mut answer = std::pin::pin!(answer);
        loop {
            self.waits_for(whom);
            if let Ok(answer) = tokio::time::timeout(ALIVE, &mut answer).await {
                return answer;
            }
        }
    }

    /// True once it is to stop.
    pub fn stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits until it is to stop.
    pub async fn asked_to_stop(&self) {
        // A sender that is gone means the end, too.
        let _ = self.stop.clone().wait_for(|stop| *stop).await;
    }
}

/// What a stage leaves for others to see.
#[derive(Default)]
struct Beat {
    moves: AtomicU64,
    tries: AtomicU64,
    has_work: AtomicBool,
    waits_for: Mutex<Option<&'static str>>,
    ended: AtomicBool,
}

impl Beat {
    fn moved(&self, has_work: bool) {
        *lock(&self.waits_for) = None;
        self.has_work.store(has_work, Ordering::Relaxed);
        self.moves.fetch_add(1, Ordering::Release);
    }

    fn read(&self) -> StageHeartbeat {
        StageHeartbeat {
            moves: self.moves.load(Ordering::Acquire),
            tries: self.tries.load(Ordering::Acquire),
            has_work: self.has_work.load(Ordering::Relaxed),
            waits_for: *lock(&self.waits_for),
            end: self.ended.load(Ordering::Acquire).then_some(End::Told),
        }
    }
}

/// What is seen of a stage at one look.
#[derive(Debug, Default)]
pub struct StageHeartbeat {
    /// Steps done so far.
    pub moves: u64,
    /// Tries so far to get on while somebody else holds it up.
    pub tries: u64,
    /// True if it has work in hand.
    pub has_work: bool,
    /// Who holds it up.
    pub waits_for: Option<&'static str>,
    /// How it ended, once it has.
    pub end: Option<End>,
}

/// How a stage ended.
#[derive(Debug)]
pub enum End {
    /// Its thread has told already.
    Told,
    /// It was done, or saw nobody to work for.
    Done,
    /// It could not go on.
    Failed(anyhow::Error),
}

/// A stage that failed.
struct Failed {
    name: Name,
    /// None if it only ended, which the failure of another may explain.
    error: Option<anyhow::Error>,
}

/// One stage as the supervisor keeps it.
struct Watched {
    name: Name,
    look: Box<dyn Fn() -> StageHeartbeat + Send>,
    moves: u64,
    moved: Instant,
    tries: u64,
    alive: Instant,
    ended: bool,
}

/// What is seen of a stage, with the times of its last changes.
struct Seen {
    name: Name,
    has_work: bool,
    waits_for: Option<&'static str>,
    moved: Instant,
    alive: Instant,
    state: StageState,
}

/// A stage that was not waited for any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late {
    /// Which.
    pub name: Name,
    /// Who held it up.
    pub waits_for: Option<&'static str>,
}

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name.text())?;
        self.waits_for.map_or(Ok(()), |whom| write!(f, " (it waits for the {whom})"))
    }
}

/// Watches over all stages. Clones are the same one.
#[derive(Clone)]
pub struct Supervisor(Arc<Shared>);

struct Shared {
    stages: Mutex<Vec<Watched>>,
    failures: Mutex<Vec<Failed>>,
    stop: watch::Sender<bool>,
    /// Counts ends of stages.
    ends: watch::Sender<u64>,
    /// How long after the word to stop each may take.
    patience: fn(Name) -> Duration,
}

impl Supervisor {
    /// Over nobody yet.
    pub fn new() -> Self {
        Self::with_patience(Name::patience)
    }

    fn with_patience(patience: fn(Name) -> Duration) -> Self {
        Self(Arc::new(Shared {
            patience,
            stages: Mutex::default(),
            failures: Mutex::default(),
            stop: watch::Sender::new(false),
            ends: watch::Sender::new(0),
        }))
    }

    /// Starts a stage on a thread of its own.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn spawn(
        &self,
        name: Name,
        run: impl FnOnce(&Stage) -> Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let stage = self.stage(name);
        let supervisor = self.clone();
        let thread = std::thread::Builder::new().name(name.text().into_owned());
        thread.spawn(move || {
            // All that the stage has is gone with it, so nothing of it can be seen half done.
            let ran = catch_unwind(AssertUnwindSafe(|| run(&stage)));
            let ran = ran.unwrap_or_else(|_| Err(anyhow!("panicked; the message is above")));
            supervisor.ended(name, &stage.beat, ran);
        })?;
        Ok(())
    }

    /// Starts a stage as a task on this runtime. It shows signs of life as long as the runtime gets on with its tasks.
    pub fn task(&self, name: Name, run: impl Future<Output = ()> + Send + 'static) {
        let stage = self.stage(name);
        let supervisor = self.clone();
        let mut task = tokio::spawn(run);
        tokio::spawn(async move {
            let ran = loop {
                stage.works();
                match tokio::time::timeout(LOOK, &mut task).await {
                    Err(_) => {}
                    Ok(Ok(())) => break Ok(()),
                    Ok(Err(_)) => break Err(anyhow!("panicked; the message is above")),
                }
            };
            supervisor.ended(name, &stage.beat, ran);
        });
    }

    fn stage(&self, name: Name) -> Stage {
        let beat = Arc::new(Beat::default());
        let seen = beat.clone();
        self.look_at(name, move || seen.read());
        Stage { beat, stop: self.0.stop.subscribe() }
    }

    fn ended(&self, name: Name, beat: &Beat, ran: Result<()>) {
        match ran {
            Err(error) => self.fail(name, Some(error)),
            Ok(()) if self.stopping() => {}
            Ok(()) => self.fail(name, None),
        }
        beat.ended.store(true, Ordering::Release);
        self.0.ends.send_modify(|n| *n += 1);
    }

    /// Looks at a stage that somebody else runs. `look` must not wait.
    pub fn look_at(&self, name: Name, look: impl Fn() -> StageHeartbeat + Send + 'static) {
        let now = Instant::now();
        let look = Box::new(look);
        let watched = Watched { name, look, moves: 0, moved: now, tries: 0, alive: now, ended: false };
        let mut stages = lock(&self.0.stages);
        stages.push(watched);
        stages.sort_by_key(|stage| stage.name);
    }

    /// Notes a failure of a stage; without an error it just ended.
    pub fn fail(&self, name: Name, error: Option<anyhow::Error>) {
        lock(&self.0.failures).push(Failed { name, error });
        self.0.ends.send_modify(|n| *n += 1);
    }

    /// Tells all stages to stop.
    pub fn stop(&self) {
        self.0.stop.send_replace(true);
    }

    /// True once all are to stop.
    pub fn stopping(&self) -> bool {
        *self.0.stop.borrow()
    }

    /// Waits for the word to stop.
    pub async fn asked_to_stop(&self) {
        // The sender lives as long as this handle.
        let _ = self.0.stop.subscribe().wait_for(|stop| *stop).await;
    }

    /// Waits for the first failure.
    pub async fn failed(&self) {
        let failed = |_: &u64| !lock(&self.0.failures).is_empty();
        let _ = self.0.ends.subscribe().wait_for(failed).await;
    }

    /// Looks at all stages now and then, so that failures of those that somebody else runs are noticed and times are
    /// right; until all are to stop.
    pub async fn watch_over(self) {
        while !self.stopping() {
            self.look();
            tokio::time::sleep(LOOK).await;
        }
    }

    /// How the stages are doing at this moment.
    pub fn stages(&self) -> Vec<StageStatus> {
        let (now, clock) = (Instant::now(), crate::now());
        let at = |then: Instant| clock.minus(span(now.saturating_duration_since(then)));
        let status = |seen: Seen| StageStatus {
            name: seen.name.text().into_owned(),
            state: seen.state,
            has_work: seen.has_work,
            moved_at: at(seen.moved),
            alive_at: at(seen.alive),
            waits_for: seen.waits_for.map(str::to_owned),
        };
        self.look().into_iter().map(status).collect()
    }

    fn look(&self) -> Vec<Seen> {
        let now = Instant::now();
        let mut ends = Vec::new();
        let seen = lock(&self.0.stages)
            .iter_mut()
            .map(|stage| {
                let heartbeat = (stage.look)();
                if heartbeat.moves != stage.moves {
                    (stage.moves, stage.moved, stage.alive) = (heartbeat.moves, now, now);
                }
                if heartbeat.tries != stage.tries {
                    (stage.tries, stage.alive) = (heartbeat.tries, now);
                }
                let state = state(&heartbeat, now - stage.moved, now - stage.alive);
                if let Some(end) = heartbeat.end
                    && !std::mem::replace(&mut stage.ended, true)
                {
                    ends.push((stage.name, end));
                }
                let (moved, alive) = (stage.moved, stage.alive);
                let StageHeartbeat { has_work, waits_for, .. } = heartbeat;
                Seen { name: stage.name, has_work, waits_for, moved, alive, state }
            })
            .collect();
        for (name, end) in ends {
            match end {
                End::Failed(error) => self.fail(name, Some(error)),
                End::Done if !self.stopping() => self.fail(name, None),
                End::Done | End::Told => self.0.ends.send_modify(|n| *n += 1),
            }
        }
        seen
    }

    /// Stages that have not ended.
    pub fn left(&self) -> Vec<Late> {
        let left = self.look().into_iter().filter(|seen| seen.state != StageState::Ended);
        left.map(|seen| Late { name: seen.name, waits_for: seen.waits_for }).collect()
    }

    /// Tells all to stop and waits for each as long as it may take; gives those that did not end in time.
    pub async fn wind_down(&self) -> Vec<Late> {
        let asked = Instant::now();
        self.stop();
        let mut ends = self.0.ends.subscribe();
        loop {
            let left: Vec<Seen> =
                self.look().into_iter().filter(|seen| seen.state != StageState::Ended).collect();
            let late = |seen: &Seen| asked.elapsed() >= (self.0.patience)(seen.name);
            // Whoever has no work gets none any more once a stage before it is late.
            let first_late = left.iter().find(|seen| late(seen)).map(|seen| seen.name);
            let done_for = |seen: &Seen| !seen.has_work && first_late.is_some_and(|name| name < seen.name);
            if left.iter().all(|seen| late(seen) || done_for(seen)) {
                let late = left.iter().filter(|seen| !done_for(seen));
                return late.map(|seen| Late { name: seen.name, waits_for: seen.waits_for }).collect();
            }
            // Only a shorter wait; what changed is looked at above.
            let _ = tokio::time::timeout(Duration::from_millis(50), ends.changed()).await;
        }
    }

    /// The failure that explains the others, if there was one: the first with an error, else the first end.
    pub fn failure(&self) -> Option<anyhow::Error> {
        let mut failures = std::mem::take(&mut *lock(&self.0.failures));
        if failures.is_empty() {
            return None;
        }
        let first = failures.iter().position(|failed| failed.error.is_some()).unwrap_or(0);
        let Failed { name, error } = failures.swap_remove(first);
        let error = error.unwrap_or_else(|| anyhow!("ended without being asked to"));
        Some(error.context(name.text()))
    }
}

fn state(heartbeat: &StageHeartbeat, still: Duration, silent: Duration) -> StageState {
    if heartbeat.end.is_some() {
        StageState::Ended
    } else if !heartbeat.has_work {
        StageState::Idle
    } else if span(silent) >= HUNG_AFTER {
        StageState::Hung
    } else if span(still) >= STALLED_AFTER {
        StageState::Stalled
    } else if heartbeat.waits_for.is_some() {
        StageState::Waiting
    } else {
        StageState::Working
    }
}

fn span(duration: Duration) -> Span {
    Span(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX))
}

/// Nothing here is left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
