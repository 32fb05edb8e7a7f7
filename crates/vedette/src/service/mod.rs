//! `vedette run`, and the service half of `vedette demo`: Kafka in, alerts and API out.
//!
//! In: a checked [`Config`] and rule texts. Out: a running [`Service`].
//!
//! Threads and channels, each bounded and named after what it carries:
//! `ingest` ─records→ `kernel` ─publications→ `publisher` → store; `evidence` takes its work from the store.
//! Invariants: one engine holds the data folder; nothing is published before what it rests on is stored; a failed
//! store or a lost lease stops the process; a clean stop writes every checkpoint.

mod evidence;
mod kernel;
mod live;
mod publisher;
mod setup;
mod versions;

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use crossbeam_channel::bounded;
use tokio::sync::{mpsc, watch};
use vedette_api::live::{LiveSender, Mode};
use vedette_store::Store;

pub use setup::{Prepared, prepare};

use crate::{Failure, World as _, config::Config};

/// Publications that may wait for the store before the kernel waits.
const PUBLICATIONS: usize = 8;

/// What is running.
pub struct Service {
    store: Store,
    stop: watch::Sender<bool>,
    kernel: std::thread::JoinHandle<()>,
    publisher: tokio::task::JoinHandle<()>,
    api: tokio::task::JoinHandle<()>,
    failures: mpsc::Receiver<anyhow::Error>,
    /// Where the API listens.
    pub address: std::net::SocketAddr,
}

/// Starts everything.
pub async fn start(prepared: Prepared, mode: Mode, config: &Config) -> Result<Service, Failure> {
    let Prepared {
        store,
        compiled,
        versions,
        dead_letters,
        engine,
        ingest_settings,
        recovery,
        rejected,
        bootstrap,
        pace,
    } = prepared;
    let (stop, stopped) = watch::channel(false);
    let (failed, failures) = mpsc::channel(4);
    let (publications_out, publications) = bounded(PUBLICATIONS);
    let (live, live_reader): (LiveSender, _) = vedette_api::live::channel(vedette_api::live::Live::starting(
        mode,
        env!("CARGO_PKG_VERSION"),
        crate::now(),
    ));
    let published = Arc::new(publisher::Published::default());

    let metrics = Arc::new(vedette_api::Metrics::new(live_reader.clone()));
    let (address, api) = serve(&store, (mode, config), live_reader, metrics.clone(), stopped.clone()).await?;
    let topics = ingest_settings.topics.clone();
    let read_back = vedette_ingest::ReadBack::new(&ingest_settings).map_err(|e| Failure::World(e.into()))?;
    let (ingest, records) =
        vedette_ingest::Ingest::start(ingest_settings, recovery).map_err(|e| Failure::World(e.into()))?;
    evidence::spawn(read_back, &compiled, store.clone(), stopped.clone()).world()?;
    let publisher =
        publisher::spawn(store.clone(), publications, (published.clone(), metrics), failed.clone());
    let origin = live::Origin { bootstrap, epoch: store.epoch(), topics };
    let rules = (rejected, &versions);
    let mut view = live::View::new(&compiled, rules, mode, origin, ingest.lag_view(), published);
    for lost in store.lost_intervals().await.world()? {
        view.lost(&lost.topic, lost.from, lost.to);
    }
    let wires = kernel::Wires { ingest, records, publications: publications_out, dead_letters, live };
    let kernel = kernel::Kernel::new(compiled, engine, versions, wires, view, pace);
    let kernel = kernel.spawn(stopped, failed).world()?;
    Ok(Service { store, stop, kernel, publisher, api, failures, address })
}

async fn serve(
    store: &Store,
    (mode, config): (Mode, &Config),
    live: vedette_api::live::LiveReceiver,
    metrics: Arc<vedette_api::Metrics>,
    mut stopped: watch::Receiver<bool>,
) -> Result<(std::net::SocketAddr, tokio::task::JoinHandle<()>), Failure> {
    let demo = mode == Mode::Demo;
    let api = &config.api;
    let settings = vedette_api::Settings {
        address: api.listen,
        open_loopback: demo,
        console: demo,
        proxy_tls: api.proxy_tls,
        tls: api
            .tls
            .as_ref()
            .map(|t| vedette_api::TlsFiles { certificate: t.certificate.clone(), key: t.key.clone() }),
        hosts: api.hosts.clone(),
    };
    let shutdown = async move {
        // The sender lives as long as the service; its end means the same as the word.
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let server = vedette_api::Server::bind(settings, store.clone(), live, metrics).await;
    let server = server.map_err(|e| match e {
        vedette_api::Error::NoTokens(_) | vedette_api::Error::NoTls(_) => {
            Failure::Usage(config.places.wrong("api.listen", e))
        }
        vedette_api::Error::Tls(_) => {
            let right =
                "certificate is a PEM file with the server's own first, key the private key to that one";
            Failure::Usage(config.places.wrong("api.tls", format!("{e}; {right}")))
        }
        e => Failure::World(e.into()),
    })?;
    let address = server.address();
    Ok((address, tokio::spawn(server.run(shutdown))))
}

impl Service {
    /// Runs until Ctrl-C, SIGTERM, SIGHUP or a failure that nothing can mend, then stops.
    pub async fn until_stopped<T>(mut self, last: impl AsyncFnOnce(&Store) -> T) -> Result<T, Failure> {
        let failure = tokio::select! {
            () = asked_to_stop() => None,
            failure = self.failures.recv() => failure,
        };
        if failure.is_none() {
            say!("stopping: writing what is known");
        }
        self.stop(failure, last).await
    }

    /// Stops, writing what is known. `last` is done when all is written, before the store is closed.
    pub async fn stop<T>(
        mut self,
        failure: Option<anyhow::Error>,
        last: impl AsyncFnOnce(&Store) -> T,
    ) -> Result<T, Failure> {
        self.stop.send_replace(true);
        let kernel = self.kernel;
        let joined = tokio::task::spawn_blocking(move || kernel.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            return Err(Failure::World(anyhow::anyhow!("the kernel's thread panicked")));
        }
        self.publisher.await.world()?;
        // Streams end with the signal; a client that does not hang up is not waited for.
        let _ = tokio::time::timeout(Duration::from_secs(5), self.api).await;
        let said = last(&self.store).await;
        self.store.close().await;
        // A failure may have come from the last publications.
        match failure.or_else(|| self.failures.try_recv().ok()) {
            None => Ok(said),
            Some(e) => Err(Failure::World(e)),
        }
    }
}

/// Waits for Ctrl-C, SIGTERM or the terminal's end.
async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let hear = |kind| {
        signal(kind)
            .inspect_err(|error| tracing::warn!(%error, ?kind, "a signal to stop cannot be heard"))
            .ok()
    };
    let mut terminate = hear(SignalKind::terminate());
    let mut hangup = if hangup_is_ignored() { None } else { hear(SignalKind::hangup()) };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        Some(_) = async { terminate.as_mut()?.recv().await } => {}
        Some(_) = async { hangup.as_mut()?.recv().await } => {}
    }
}

/// True under `nohup`, which is there to outlive the terminal.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}
