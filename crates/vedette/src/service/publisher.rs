//! The publisher: what the kernel found becomes durable, in order.
//!
//! In: [`Publication`]s. Out: committed transactions.
//! Invariants: publications are committed in the order in which they came; one that fails for a passing reason is
//! tried again until it succeeds; any other failure stops the process, since going on would lose it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::Receiver;
use tokio::sync::mpsc;
use vedette_event::{Micros, Severity};
use vedette_store::{Store, model::Publication};

/// Pauses between tries of a publication.
const BACKOFF: [Duration; 4] =
    [Duration::from_millis(50), Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(5)];

/// What has been published since the start, for the status.
#[derive(Debug, Default)]
pub struct Published {
    /// The newest `seq`.
    pub seq: AtomicI64,
    /// When the last transaction was committed, in microseconds; 0 for never.
    pub last_at: AtomicI64,
    /// Notices.
    pub notices: AtomicU64,
    alerts: Mutex<BTreeMap<Severity, u64>>,
}

impl Published {
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

/// Starts the publisher. It ends when the kernel closes the channel.
pub fn spawn(
    store: Store,
    publications: Receiver<Publication>,
    (published, metrics): (Arc<Published>, Arc<vedette_api::Metrics>),
    failed: mpsc::Sender<anyhow::Error>,
) -> tokio::task::JoinHandle<()> {
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        for publication in publications {
            let start = Instant::now();
            match runtime.block_on(commit(&store, &publication)) {
                Ok(seq) => {
                    metrics.observe_publish(start.elapsed().as_secs_f64());
                    published.note(&publication, seq);
                }
                Err(e) => {
                    // The receiver is gone only when the process is ending anyway.
                    let _ = failed.blocking_send(anyhow::Error::from(e).context("publishing"));
                    return;
                }
            }
        }
    })
}

async fn commit(store: &Store, publication: &Publication) -> Result<i64, vedette_store::Error> {
    let mut tries = 0;
    loop {
        match store.publish(publication).await {
            Ok(done) => return Ok(done.seq),
            Err(e) if e.retryable() && !e.fatal() => {
                tracing::warn!(error = %e, tries, "the store did not take a publication; trying again");
                tokio::time::sleep(BACKOFF[tries.min(BACKOFF.len() - 1)]).await;
                tries += 1;
            }
            Err(e) => return Err(e),
        }
    }
}

/// The time of a microsecond count, if there was one.
pub fn moment(micros: i64) -> Option<Micros> {
    (micros != 0).then_some(Micros(micros))
}
