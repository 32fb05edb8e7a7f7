//! The scheduler: kept hunts that are run again and again, and raise alerts.
//!
//! In: schedules in the store, how far the lake is complete, the time. Out: alerts with how far each schedule has come, in one transaction
//! ([`vedette_store::Store::hunt_ran`]). Invariants: one run at a time, by the threads, with the memory and at the priority of any hunt
//! ([`super::hunts`]), so that neither detection nor people wait for it; each window of a schedule is looked at once, or is passed over and
//! said to be; a run that fails or was cut off is run again; nobody waits for this stage, and the clock is only read by [`run`].

mod raise;
mod windows;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tokio::{
    runtime::Handle,
    sync::watch,
    time::{sleep, timeout},
};
use vedette_api::hunts::{Basis, Begun, Column, Form, Hunts, Piece, Question, Refusal, Why};
use vedette_engine::Compiled;
use vedette_event::{Micros, Severity, Span, time::DAY};
use vedette_hunt::lake::{LakeError, LakeReader};
use vedette_store::{
    Store,
    model::{HealthEvent, HuntOutcome, HuntRun, HuntSchedule},
};

use self::{
    raise::Found,
    windows::{Next, Progress, Reached, next},
};
use super::supervisor::Stage;

/// How often it looks for what is due: a schedule that was just made begins within seconds.
const LOOK: Duration = Duration::from_secs(2);
/// How often a run shows that it gets on.
const BEAT: Duration = Duration::from_millis(500);
/// Longer than a hunt may take: one that does not end by itself is stopped.
const LONGEST: Duration = Duration::from_secs(75);
/// Rows that are looked at.
const ROWS: usize = 10_000;
/// How often a window is begun: what costs too much will cost too much again, and those after it wait.
const TRIES: u32 = 3;
/// How long one that failed waits.
const AGAIN: Span = Span::secs(60);
/// How long a window that the lake is not complete for waits before that is said.
const LATE: Span = Span::secs(900);

/// What the stage works with.
pub struct Wires {
    /// The schedules.
    pub store: Store,
    /// By whom they are asked.
    pub hunts: Hunts,
    /// How far it is complete.
    pub lake: LakeReader,
    /// The sources in force, whose events may come late by so much.
    pub in_force: watch::Receiver<std::sync::Arc<Compiled>>,
    /// `S`.
    pub skew: Span,
}

/// Runs what is due until it is to stop.
///
/// # Errors
/// If the store fails for good.
pub fn run(wires: Wires, runtime: &Handle, stage: &Stage) -> Result<()> {
    let Wires { store, hunts, lake, in_force, skew } = wires;
    let mut scheduler = Scheduler::new(store, hunts);
    let on = || {
        stage.works();
        !stage.stopping()
    };
    while on() {
        let sources = in_force.borrow().newest().sources.clone();
        let disorder = sources.defs.iter().map(|def| def.disorder.0).max().unwrap_or_default();
        let slack = skew.0.saturating_add(disorder);
        let through = async || lake.now(None).await.map(|lake| lake.through().map(|(through, _)| through));
        match runtime.block_on(scheduler.turn(crate::now(), (through, Span(slack)), &on)) {
            Ok(true) => continue,
            Ok(false) => stage.rests(),
            Err(error) if error.fatal() => return Err(error).context("scheduled hunts"),
            Err(error) => {
                tracing::warn!(%error, "scheduled hunts wait");
                stage.waits_for("store");
            }
        }
        // A word to stop ends the pause.
        runtime.block_on(async {
            let _ = timeout(LOOK, stage.asked_to_stop()).await;
        });
    }
    Ok(())
}

/// Takes turns.
struct Scheduler {
    store: Store,
    hunts: Hunts,
    progress: Progress,
    /// Not before then: those that failed, or whose waiting has just been said.
    again: BTreeMap<i64, Micros>,
}

/// What an answer holds.
struct Answer {
    columns: Vec<Column>,
    basis: Basis,
    rows: Vec<Vec<Value>>,
    more: bool,
    bytes_read: u64,
    took: Span,
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
enum Failed {
    /// It may be another time, or the text is at fault: the window waits.
    Waits(String),
    /// This window may be too much.
    Counted(String),
    /// All is to stop.
    Stopped,
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        match refusal.why {
            Why::Query | Why::Forbidden | Why::Unavailable | Why::Stopped => Self::Waits(refusal.message),
            Why::Cost | Why::Time | Why::Fault => Self::Counted(refusal.message),
        }
    }
}

type StoreError = vedette_store::Error;

impl Scheduler {
    fn new(store: Store, hunts: Hunts) -> Self {
        Self { store, hunts, progress: Progress::default(), again: BTreeMap::new() }
    }

    /// Sees to the schedule whose window ended first, if one is due; true if there may be more. `through` says how far the lake is complete,
    /// `slack` how far below that an event may still come; `on` is called twice a second, and false where all is to stop.
    async fn turn(
        &mut self,
        now: Micros,
        (through, slack): (impl AsyncFn() -> Result<Option<Micros>, LakeError>, Span),
        on: &impl Fn() -> bool,
    ) -> Result<bool, StoreError> {
        let end = |of: &HuntSchedule| of.next_from.plus(of.schedule.every);
        let mut due = self.store.hunt_schedules().await?;
        self.again.retain(|id, _| due.iter().any(|of| of.id == *id));
        due.retain(|of| !of.paused && end(of).plus(slack) <= now);
        due.retain(|of| self.again.get(&of.id).is_none_or(|again| now >= *again));
        if due.is_empty() {
            return Ok(false);
        }
        let through = match through().await {
            Ok(through) => through,
            Err(LakeError::Catalog(error)) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "scheduled hunts wait for the lake");
                return Ok(false);
            }
        };
        let reached = self.progress.reached(through, slack, now);
        due.sort_by_key(|of| (end(of), of.id));
        for schedule in due {
            match next(schedule.next_from, schedule.schedule.every, reached.below) {
                Next::Wait => self.waits(&schedule, (through, slack), now).await?,
                Next::PassOver { from, until, windows } => {
                    let why = "nobody ran it, or it failed, for longer than it is made up for";
                    self.pass_over(&schedule, (from, until), windows, why).await?;
                    return Ok(true);
                }
                Next::Run { from, until } => {
                    self.run(&schedule, (from, until), reached, now, on).await?;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Says that a window waits for the lake, once it has for long.
    async fn waits(
        &mut self,
        of: &HuntSchedule,
        (through, slack): (Option<Micros>, Span),
        now: Micros,
    ) -> Result<(), StoreError> {
        let due = of.next_from.plus(of.schedule.every).plus(slack);
        if now.since(due) < LATE {
            return Ok(());
        }
        self.again.insert(of.id, now.plus(AGAIN));
        let through = through.map_or_else(
            || "does not know how far it is complete".to_owned(),
            |through| format!("is complete through {through} only"),
        );
        let fault = format!(
            "its next window waits for the lake, which {through}; `GET /sources` says which source is behind"
        );
        if of.fault.as_ref().is_some_and(|(said, _)| *said == fault) {
            return Ok(());
        }
        self.store.hunt_failed(of.id, &fault, false).await
    }

    /// Gives windows up, loudly.
    async fn pass_over(
        &mut self,
        of: &HuntSchedule,
        (from, until): (Micros, Micros),
        windows: u64,
        why: &str,
    ) -> Result<(), StoreError> {
        let message = format!(
            "the scheduled hunt `{}` did not look at events from {from} until {until} ({windows} windows) and will not: {why}",
            of.name
        );
        tracing::warn!(schedule = of.id, "{message}");
        let said = HealthEvent {
            // One a day and schedule: the schedule itself counts all.
            key: format!("hunt_passed_over/{}/{}", of.id, from.floor(DAY)),
            at: crate::now(),
            kind: "hunt_passed_over".to_owned(),
            severity: Severity::Medium,
            message,
        };
        self.store.pass_over_hunts(of.id, (from, until), windows, &said).await
    }

    /// Looks at a window.
    async fn run(
        &mut self,
        of: &HuntSchedule,
        window: (Micros, Micros),
        reached: Reached,
        now: Micros,
        on: &impl Fn() -> bool,
    ) -> Result<(), StoreError> {
        if of.tries >= TRIES {
            let why = of.fault.as_ref().map_or("it ended the service each time", |(fault, _)| fault);
            return self.pass_over(of, window, 1, &format!("it failed {TRIES} times: {why}")).await;
        }
        if !self.store.begin_hunt_run(of.id, window.0).await? {
            return Ok(());
        }
        let came = match self.find(of, window, on).await {
            Ok(answer) => outcome(of, window, answer, (reached, now)).map_err(Failed::Waits),
            Err(failed) => Err(failed),
        };
        match came {
            Ok(outcome) => {
                self.again.remove(&of.id);
                let HuntRun { rows, alerts, took, .. } = outcome.run;
                tracing::debug!(schedule = of.id, from = %window.0, rows, alerts, %took, "a scheduled hunt ran");
                self.store.hunt_ran(&outcome).await.map(drop)
            }
            Err(Failed::Stopped) => {
                let fault = "the service stopped while it ran; it is run again";
                self.store.hunt_failed(of.id, fault, false).await
            }
            Err(Failed::Waits(fault)) => self.failed(of, &fault, now, false).await,
            Err(Failed::Counted(fault)) => self.failed(of, &fault, now, true).await,
        }
    }

    async fn failed(
        &mut self,
        of: &HuntSchedule,
        fault: &str,
        now: Micros,
        counted: bool,
    ) -> Result<(), StoreError> {
        tracing::warn!(schedule = of.id, hunt = of.name, "a scheduled hunt failed: {fault}");
        self.again.insert(of.id, now.plus(AGAIN));
        self.store.hunt_failed(of.id, fault, counted).await
    }

    /// Asks, and takes all rows.
    async fn find(
        &self,
        of: &HuntSchedule,
        (from, until): (Micros, Micros),
        on: &impl Fn() -> bool,
    ) -> Result<Answer, Failed> {
        let began = Instant::now();
        let question = Question {
            sql: of.sql.clone(),
            source: None,
            since: Some(from),
            until: Some(until),
            rows: ROWS,
            form: Form::Values,
            // Everybody reads its alerts.
            originals: false,
        };
        let late = || began.elapsed() >= LONGEST;
        let given_up = || match late() {
            true => Failed::Counted("it did not end by itself, and was stopped".to_owned()),
            false => Failed::Stopped,
        };
        let on = || on() && !late();
        let begun = beating(self.hunts.ask(question), &on).await.ok_or_else(given_up)??;
        let Begun { columns, basis, mut pieces, figures, stop } = begun;
        let mut rows = Vec::new();
        let more = loop {
            let Some(piece) = beating(pieces.recv(), &on).await else {
                stop();
                return Err(given_up());
            };
            match piece {
                Some(Piece::Values(some)) => rows.extend(some),
                Some(Piece::Written(..)) => {}
                Some(Piece::End { more, .. }) => break more,
                Some(Piece::Failed(refusal)) => return Err(refusal.into()),
                None => return Err(Failed::Counted("it broke down; the log says why".to_owned())),
            }
        };
        let took = Span(i64::try_from(began.elapsed().as_micros()).unwrap_or(i64::MAX));
        Ok(Answer { columns, basis, rows, more, bytes_read: figures().bytes_read, took })
    }
}

/// The answer, while it is shown that it is waited for; none where all is to stop.
async fn beating<T>(answer: impl Future<Output = T>, on: &impl Fn() -> bool) -> Option<T> {
    let mut answer = std::pin::pin!(answer);
    loop {
        tokio::select! {
            biased;
            answer = &mut answer => return Some(answer),
            () = sleep(BEAT) => if !on() { return None },
        }
    }
}

/// What a run comes to.
fn outcome(
    of: &HuntSchedule,
    (from, until): (Micros, Micros),
    Answer { columns, basis, rows, more, bytes_read, took }: Answer,
    (reached, now): (Reached, Micros),
) -> Result<HuntOutcome, String> {
    let at = now.plus(took);
    let (found, complete) = (rows.len() as u64, until <= reached.complete);
    let mut found_rows = Found {
        schedule: of,
        window: (from, until),
        columns: &columns,
        rows,
        more,
        basis: &basis,
        at,
        complete,
    };
    let alerts = raise::alerts(&mut found_rows)?;
    let event = |kind: &str, message: String| HealthEvent {
        key: format!("{kind}/{}/{}", of.id, from.floor(DAY)),
        at,
        kind: kind.to_owned(),
        severity: Severity::Low,
        message,
    };
    let mut health = Vec::new();
    if !complete {
        let message = format!(
            "the scheduled hunt `{}` looked at events from {from} until {until} though the lake was not complete for then and had \
             not got on for an hour; what comes of that time later it does not look at",
            of.name
        );
        health.push(event("hunt_incomplete", message));
    }
    if more {
        let message = format!(
            "the scheduled hunt `{}` found more than {found} rows from {from} until {until}, and raised alerts of these alone; narrow it",
            of.name
        );
        health.push(event("hunt_cut", message));
    }
    let run = HuntRun {
        at,
        from,
        until,
        took,
        rows: found,
        more,
        alerts: alerts.len() as u64,
        bytes_read,
        complete_through: basis.complete_through,
    };
    Ok(HuntOutcome { schedule: of.id, version: raise::meaning(of).1, run, alerts, health })
}

#[cfg(test)]
mod tests;
