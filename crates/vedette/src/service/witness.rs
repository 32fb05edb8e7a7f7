//! The witness's stage: every batch that is evaluated passes by, to see whether countermeasures take effect.
//!
//! In: batches from the kernel. Out: effects of actions in the store. Invariants: the kernel never waits for it: a batch that finds the queue
//! full is passed by, counted and told of, and makes fewer effects known, never more, and begins anew
//! what is known of people.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use tokio::runtime::Handle;
use vedette_act::Witness;
use vedette_event::EventBatch;

use super::supervisor::Stage;

/// Batches that may wait: some 30,000 events.
const WAITING: usize = 64;
/// How often what was seen is written down.
const NOTE: Duration = Duration::from_millis(500);

/// The kernel's end.
pub struct Sightings {
    batches: Sender<EventBatch>,
    passed_by: Arc<AtomicU64>,
}

/// The other end.
pub struct Looking {
    batches: Receiver<EventBatch>,
    passed_by: Arc<AtomicU64>,
}

/// Both ends.
pub fn looking() -> (Sightings, Looking) {
    let (sender, batches) = bounded(WAITING);
    let passed_by = Arc::<AtomicU64>::default();
    (Sightings { batches: sender, passed_by: passed_by.clone() }, Looking { batches, passed_by })
}

impl Sightings {
    /// Gives a batch away; nothing of it is copied.
    pub fn offer(&self, events: &EventBatch) {
        if self.batches.try_send(events.clone()).is_err() {
            self.passed_by.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Looks until there is nobody to give batches.
///
/// # Errors
/// If the store fails for good.
pub fn run(mut witness: Witness, looking: Looking, runtime: &Handle, stage: &Stage) -> Result<()> {
    let (mut noted, mut told) = (Instant::now(), 0);
    while !stage.stopping() {
        stage.rests();
        match looking.batches.recv_timeout(NOTE) {
            Ok(batch) => {
                stage.works();
                witness.look(&batch);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if noted.elapsed() < NOTE {
            continue;
        }
        noted = Instant::now();
        match runtime.block_on(stage.awaits("store", witness.note(crate::now()))) {
            Ok(()) => stage.works(),
            Err(vedette_act::ActError::Store(error)) if error.fatal() => return Err(error.into()),
            Err(error) => tracing::warn!(%error, "effects of countermeasures wait"),
        }
        let passed_by = looking.passed_by.load(Ordering::Relaxed);
        if passed_by > told {
            tracing::debug!(batches = passed_by - told, "passed by: not every event was looked at");
            witness.missed();
            told = passed_by;
        }
    }
    Ok(())
}
