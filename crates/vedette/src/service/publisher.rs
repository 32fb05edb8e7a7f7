//! The publisher: what the kernel found becomes durable, in order.
//!
//! In: [`Publication`]s. Out: committed transactions.
//! Invariants: publications are committed in the order in which the outbox gives them; one that fails for a passing reason is
//! tried again until it succeeds; any other failure stops the process, since going on would lose it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::runtime::Handle;
use vedette_event::{Micros, Severity};
use vedette_store::{Store, model::Publication};

use super::{
    outbox::{Inbox, ToPublish},
    supervisor::Stage,
};

/// Pauses between tries of a publication.
const BACKOFF: [Duration; 4] =
    [Duration::from_millis(50), Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(5)];
/// After this time without publications the store is asked whether it would take one.
const CALM: Duration = Duration::from_secs(1);

/// What has been published since the start, for the status.
#[derive(Debug, Default)]
pub struct PublishedCounts {
    /// The newest `seq`.
    pub seq: AtomicI64,
    /// When the last transaction was committed, in microseconds; 0 for never.
    pub last_at: AtomicI64,
    /// Notices.
    pub notices: AtomicU64,
    alerts: Mutex<BTreeMap<Severity, u64>>,
}

impl PublishedCounts {
    /// Alerts opened, by severity.
    pub fn alerts(&self) -> BTreeMap<Severity, u64> {
        self.alerts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, publication: &Publication, seq: i64) {
        self.seq.store(seq, Ordering::Relaxed);
        self.last_at.store(crate::now().0, Ordering::Relaxed);
        self.notices.fetch_add(publication.notices.len() as u64, Ordering::Relaxed);
        let mut alerts = self.alerts.lock().unwrap_or_else(PoisonError::into_inner);
        for opened in publication.alerts.iter().filter(|a| a.revision == 1) {
            *alerts.entry(opened.severity).or_default() += 1;
        }
    }
}

/// The publisher's ends of everything it is connected to.
pub struct Wires {
    /// Where publications go.
    pub store: Store,
    /// From the kernel.
    pub inbox: Inbox,
    /// For the status.
    pub published: Arc<PublishedCounts>,
    /// For operators.
    pub metrics: Arc<vedette_api::Metrics>,
}

/// Publishes until the kernel closes the channel.
///
/// # Errors
/// If the store fails for good.
pub fn run(wires: Wires, runtime: &Handle, stage: &Stage) -> Result<()> {
    let Wires { store, inbox, published, metrics } = wires;
    loop {
        stage.rests();
        let next = inbox.next(CALM);
        stage.works();
        let publication = match next {
            ToPublish::Some(publication) => publication,
            // A store that takes nothing shows, whether there is something to publish or not.
            ToPublish::Nothing => {
                runtime.block_on(patiently(stage, || store.ping())).context("asking the store")?;
                continue;
            }
            ToPublish::Gone => return Ok(()),
        };
        let start = Instant::now();
        let done =
            runtime.block_on(patiently(stage, || store.publish(&publication))).context("publishing")?;
        metrics.observe_publish(start.elapsed().as_secs_f64());
        published.note(&publication, done.seq);
    }
}

/// Asks the store until it answers. Not for ever: once all are to stop, the supervisor ends the process after a while.
async fn patiently<T, F>(stage: &Stage, ask: impl Fn() -> F) -> Result<T, vedette_store::Error>
where
    F: Future<Output = Result<T, vedette_store::Error>>,
{
    let mut tries = 0;
    // Moves once it has its answer: that the store refuses again and again is no progress.
    loop {
        match stage.awaits("store", ask()).await {
            Err(e) if e.retryable() && !e.fatal() => {
                tracing::warn!(error = %e, tries, "the store did not answer; trying again");
                stage.awaits("store", tokio::time::sleep(BACKOFF[tries.min(BACKOFF.len() - 1)])).await;
                tries += 1;
            }
            answer => {
                stage.works();
                return answer;
            }
        }
    }
}

/// The time of a microsecond count, if there was one.
pub fn moment(micros: i64) -> Option<Micros> {
    (micros != 0).then_some(Micros(micros))
}
