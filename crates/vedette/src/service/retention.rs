//! Looks after the store: whether it is still there and whole, what is old in it, how large its journal is.
//!
//! In: the store, where the log of each partition begins. Out: nothing, or a failure that stops the process: a database
//! that was deleted, replaced or damaged is noticed within seconds. Invariants: it never holds the writer for longer than
//! a step of a few hundred rows; between two steps it pauses, so that publishing has the store for most of the time.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::runtime::Handle;
use vedette_event::Severity;
use vedette_ingest::LagView;
use vedette_store::{
    Store, Sweep,
    model::{HealthEvent, LogStart, Publication, Retention},
};

use super::supervisor::Stage;

/// How often the database is looked for.
const LOOK: Duration = Duration::from_secs(2);
/// How long after the start the first walk begins, when there is other work.
const FIRST_WALK: Duration = Duration::from_secs(60);
/// From one walk to the next.
const WALK: Duration = Duration::from_secs(3_600);
/// Pause between two steps of a walk.
const PAUSE: Duration = Duration::from_millis(50);

/// What the stage is connected to.
pub struct Wires {
    /// What it looks after.
    pub store: Store,
    /// How long what is kept.
    pub retention: Retention,
    /// Where the logs begin.
    pub lag: LagView,
}

/// Looks after the store until it is to stop.
///
/// # Errors
/// If the database is not what it was.
pub fn run(wires: &Wires, runtime: &Handle, stage: &Stage) -> Result<()> {
    let Wires { store, .. } = wires;
    let mut check = store.unchecked().then(|| {
        let store = store.clone();
        tracing::info!(
            "the store was not closed in order, or was changed since; it is checked in the background"
        );
        runtime.spawn(async move { store.check(|| ()).await })
    });
    let mut next_walk = Instant::now() + FIRST_WALK;
    let mut walk: Option<Sweep> = None;
    let mut looked: Option<Instant> = None;
    while !stage.stopping() {
        stage.works();
        if looked.is_none_or(|at| at.elapsed() >= LOOK) {
            passing(runtime.block_on(stage.awaits("store", store.verify())))
                .context("looking for the store")?;
            passing(runtime.block_on(stage.awaits("store", store.bound_journal())).map(drop))?;
            // A step; what is left of it is done at the next look.
            let settled = runtime.block_on(stage.awaits("store", store.settle_snoozes()));
            passing(settled.map(drop)).context("ending snoozes")?;
            looked = Some(Instant::now());
        }
        if let Some(done) = check.take_if(|check| check.is_finished()) {
            let checked = runtime.block_on(done).context("checking the store")?;
            passing(checked).context("checking the store")?;
            tracing::info!("the store was checked and is whole");
            let whole = whole();
            passing(runtime.block_on(stage.awaits("store", store.publish(&whole))).map(drop))?;
        }
        if walk.is_none() && Instant::now() >= next_walk {
            walk = Some(Sweep::default());
        }
        let pause = match &mut walk {
            None => LOOK,
            Some(sweep) => {
                let starts = log_starts(&wires.lag);
                let step = store.sweep(sweep, &wires.retention, &starts);
                let more = match runtime.block_on(stage.awaits("store", step)) {
                    Ok(more) => more,
                    Err(e) => {
                        passing(Err(e)).context("removing what is old")?;
                        true
                    }
                };
                if !more {
                    let removed = sweep.removed();
                    if removed > 0 {
                        tracing::info!(removed, "old rows were removed from the store");
                    }
                    (walk, next_walk) = (None, Instant::now() + WALK);
                }
                PAUSE
            }
        };
        stage.rests();
        // A word to stop ends the pause.
        runtime.block_on(async {
            let _ = tokio::time::timeout(pause, stage.asked_to_stop()).await;
        });
    }
    if let Some(check) = check {
        check.abort();
    }
    Ok(())
}

/// What may pass by itself is tried again at the next turn.
fn passing(outcome: Result<(), vedette_store::Error>) -> Result<(), vedette_store::Error> {
    match outcome {
        Err(error) if error.retryable() && !error.fatal() => {
            tracing::warn!(%error, "the store did not answer");
            Ok(())
        }
        outcome => outcome,
    }
}

fn whole() -> Publication {
    let at = crate::now();
    let event = HealthEvent {
        key: format!("store_checked/{at}"),
        at,
        kind: "store_checked".to_owned(),
        severity: Severity::Informational,
        message:
            "the store was not closed in order, or was changed since; its pages were checked and are whole"
                .to_owned(),
    };
    Publication { health: vec![event], ..Publication::default() }
}

/// Where the partitions' logs begin, as far as that is known.
fn log_starts(lag: &LagView) -> Vec<LogStart> {
    let start = |p: &vedette_ingest::PartitionLag| {
        Some(LogStart { topic: p.topic.to_string(), partition: p.partition.number, offset: p.log_start? })
    };
    lag.report().partitions.iter().filter_map(start).collect()
}
