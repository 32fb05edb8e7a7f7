//! `vedette run`, and the service half of `vedette demo`: Kafka in, alerts and API out.
//!
//! In: a checked [`Config`] and rule texts. Out: a running [`Service`].
//!
//! Stages and channels, each bounded and named after what it carries:
//! `reader` ─records→ `kernel` ─publications→ `publisher` → store; the kernel shares detection with `detector-1` and so on
//! (see [`crate::pipeline`]); `reloader` ─changes→ `kernel`; `evidence` and `responder` take their work from the store, `courier-1` and
//! so on what the responder writes there; `scheduler` runs kept hunts and writes what they raise; `retention` looks after it.
//! Invariants: one engine holds the data folder; nothing is published before what it rests on is stored; a failure of
//! any stage stops the process; a clean stop writes the checkpoints; the API answers from the moment the store is open
//! until the end; whatever is stuck, the process ends within ten seconds of being asked to.

mod adopt;
mod behind;
mod costs;
mod descriptors;
mod evidence;
mod excerpt;
mod hunts;
mod kernel;
mod lake;
mod lake_keeping;
mod lake_place;
mod live;
mod lost;
mod notices_due;
mod outbox;
mod present;
mod publisher;
mod reading;
mod reload;
mod respond;
mod retention;
mod rules;
mod scheduler;
mod setup;
mod signals;
mod supervisor;
mod topics;
mod versions;
mod witness;

use std::{io::ErrorKind, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Result, anyhow};
use crossbeam_channel::{Receiver, Sender, bounded};
use tokio::{
    runtime::{Handle, Runtime},
    sync::{oneshot, watch},
    time::timeout,
};
use vedette_api::{
    backtests::Backtests,
    checking::RuleCheck,
    live::{LiveView, Mode},
    reload::Reloads,
};
use vedette_engine::{Compiled, InForce};
use vedette_hunt::lake::{LakeReader, Live};
use vedette_ingest::Ingested;
use vedette_sigma::{Lists, RuleFile};
use vedette_store::{Access, Store};

use adopt::{Adopter, FromReloader};
pub use lake::topic_sources;
pub use lake_place::place as lake_place;
use present::{Evaluated, Present, Running};
use reload::{Ask, Reloader, RuleSetSummary};
pub use respond::InForceAtAll;
use setup::Prepared;
pub use setup::{StartContent, secret, sources};
pub use supervisor::Stage;
use supervisor::{End, Name, StageHeartbeat, Supervisor};

use crate::{
    Failure, World as _, backtest,
    config::{Config, lake::LakeConfig, memory::Memory, oidc},
    content::{self, RuleText},
    pipeline::Pipeline,
    rejected::print_refused,
};

/// How long closing the store may take: it folds the journal into the database, which the next start does otherwise.
const CLOSING: Duration = Duration::from_secs(1);
/// Those who may wait for the rules to be read again.
const ASKS: usize = 64;
/// What may wait for the kernel from the reloader: a version, and what is to be told besides.
const CHANGES: usize = 16;
/// How long the last look at the store may take.
const LAST_LOOK: Duration = Duration::from_millis(500);

/// What people do beside looking: how rules are read again, by what they act, what enforcement points fetch, how events are asked.
type Faces = (Option<Reloads>, vedette_act::Response, vedette_act::Board, hunts::Later);

/// How events are asked: by whom once all runs, what waits for its file, who reads the lake if there is one.
type Asking = (hunts::Later, Live, Option<LakeReader>);

/// What is there before anything is read.
type Early = (Arc<Present>, Arc<vedette_api::Metrics>, respond::Acting, Asking);

/// What the reloader goes on from: how the files looked before they were read; who asks.
type Reloading = (Config, [u8; 32], Receiver<Ask>);

/// What is running.
pub struct Service {
    store: Store,
    supervisor: Supervisor,
    /// Held so that the kernel, which has it too, need not wait for ingest's threads when it ends.
    ingest: Arc<vedette_ingest::Ingest>,
    /// Where the API listens.
    pub address: SocketAddr,
    wanted: respond::WantedView,
}

/// The runtime of the service: for the API and the store's connections only.
pub fn runtime() -> Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.worker_threads(2).thread_name("runtime").enable_all().build()?)
}

/// Starts everything; nothing if it was asked to stop before all of it ran.
///
/// `text` is the rules with how their files looked before they were read.
pub async fn start(
    config: Config,
    text: (RuleText, [u8; 32]),
    mode: Mode,
) -> Result<Option<Service>, Failure> {
    descriptors::allow();
    let supervisor = Supervisor::new();
    let (ask, asks) = bounded(ASKS);
    // What is built in does not change.
    let reloads = (mode == Mode::Run).then_some(&ask);
    signals::listen(&supervisor, reloads).world()?;
    tokio::spawn(supervisor.clone().watch_over());
    let mut opened = None;
    let started = tokio::select! {
        started = start_all(config, text, mode, (&supervisor, (ask, asks)), &mut opened) => started.map(Some),
        () = supervisor.asked_to_stop() => {
            // Nothing has been read yet, and what was begun in the store leaves no trace.
            say!("stopped while starting");
            Ok(None)
        }
        () = supervisor.failed() => {
            Err(Failure::World(supervisor.failure().unwrap_or_else(|| anyhow!("a stage failed"))))
        }
    };
    if !matches!(started, Ok(Some(_)))
        && let Some(store) = opened
    {
        // A start that is refused is no crash: the next one need not check the whole database.
        close(store).await;
    }
    started
}

/// Closes the store, if it can be done in time.
async fn close(store: Store) {
    if timeout(CLOSING, store.close()).await.is_err() {
        tracing::warn!("the store was not closed in time; the next start folds its journal in");
    }
}

async fn start_all(
    config: Config,
    (text, looked): (RuleText, [u8; 32]),
    mode: Mode,
    (supervisor, (ask, asks)): (&Supervisor, (Sender<Ask>, Receiver<Ask>)),
    opened_store: &mut Option<Store>,
) -> Result<Service, Failure> {
    let schemas = content::schemas(config.schemas.as_deref())
        .map_err(|e| Failure::Usage(config.places.wrong("schemas", format!("{e:#}"))))?;
    let settings = vedette_store::StoreSettings {
        dead_letter_bytes: config.store.dead_letter_bytes.0,
        ..vedette_store::StoreSettings::new(&config.data, Access::Engine)
    };
    let store = Store::open(settings).await.map_err(|e| crate::folder::unopened(&config, e))?;
    *opened_store = Some(store.clone());
    let present = Arc::new(Present::new(mode, supervisor.clone()));
    let looked_at = present.clone();
    let view = LiveView::new(move || looked_at.live());
    let metrics = Arc::new(vedette_api::Metrics::new(view.clone()));
    let reloads = (mode == Mode::Run).then(|| reload::over_the_api(ask));
    let lists = lists(mode, &config, text.lists.clone());
    let check = check(&config, lists.clone());
    let backtests = config.lake.on.then(|| backtest::asked::over_the_api(&config, &store, lists));
    let (playbooks, in_force) = watch::channel(Arc::default());
    let acting = respond::Acting::new(&store, (mode, &config), (playbooks, in_force)).await?;
    let hunts = hunts::Later::default();
    let faces = (reloads, acting.response.clone(), acting.board.clone(), hunts.clone());
    // Whoever hunts in this process sees what waits here, too.
    let live = Live::default();
    let reader = match config.lake.on {
        true => {
            let place = lake_place(&config, &store, Access::Engine).await?;
            Some(LakeReader::new(store.clone(), place, live.clone(), topic_sources(&config)))
        }
        false => None,
    };
    let address =
        serve(&store, (mode, &config, faces), (check, backtests), view, metrics.clone(), supervisor).await?;
    tracing::info!(api = %address, "starting");

    // On a thread of its own, so that the word to stop is heard meanwhile.
    let (runtime, opened) = (Handle::current(), store.clone());
    let prepared = aside("start", move || {
        let prepared = runtime.block_on(setup::prepare(&config, (text, schemas), &opened))?;
        print_refused(&prepared.content);
        Ok((prepared, config))
    });
    let (prepared, config) = prepared.await?;
    let reloading = (mode == Mode::Run).then_some((config, looked, asks));
    let waiting = (hunts, live, reader);
    run_all(prepared, reloading, store, (present, metrics, acting, waiting), supervisor, address).await
}

/// What this comes to on a thread of its own.
async fn aside<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let (done, result) = oneshot::channel();
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread
        .spawn(move || {
            // Whoever asked may be gone.
            let _ = done.send(work());
        })
        .world()?;
    result.await.unwrap_or_else(|_| Err(Failure::World(anyhow!("{name}: panicked; the message is above"))))
}

async fn run_all(
    prepared: Prepared,
    reloading: Option<Reloading>,
    store: Store,
    (present, metrics, acting, asking): Early,
    supervisor: &Supervisor,
    address: SocketAddr,
) -> Result<Service, Failure> {
    let Prepared { compiled, mut content, engine, ingest_settings, bootstrap, memory: may_hold, .. } =
        prepared;
    let (outbox, inbox) = outbox::queues();
    let (words_out, words) = watch::channel(Arc::default());
    let (published, evaluated) = (Arc::default(), Arc::<Evaluated>::default());
    let origin = (bootstrap.clone(), ingest_settings.topics.clone());
    let world = |e: vedette_ingest::Error| Failure::World(e.into());
    let read_back = vedette_ingest::ReadBack::new(&ingest_settings).map_err(world)?;
    let lost = store.lost_intervals().await.world()?;
    let (filling, secret) = (ingest_settings.clone(), prepared.secret);
    let (ingest, records) =
        vedette_ingest::Ingest::start(ingest_settings, prepared.recovery).map_err(world)?;
    let ingest = Arc::new(ingest);
    look_at_ingest(supervisor, &ingest);
    accept_topics(&store, &compiled, &ingest, supervisor);

    let (in_force_out, in_force) = watch::channel(compiled.clone());
    let to = (in_force.clone(), store.clone(), asking);
    fill(prepared.lake, (filling, secret, ingest.lag_view()), to, supervisor).world()?;
    let wanted = acting.wanted();
    let witness = acting.start(in_force.clone(), supervisor).world()?;
    let (to, runtime, crowded) = (store.clone(), Handle::current(), outbox.crowded());
    supervisor
        .spawn(Name::Evidence, move |stage| evidence::run(read_back, in_force, to, crowded, runtime, stage))
        .world()?;
    let keeping =
        retention::Wires { store: store.clone(), retention: prepared.retention, lag: ingest.lag_view() };
    let publishing = publisher::Wires { store: store.clone(), inbox, published, metrics };
    let published = publishing.published.clone();
    store_stages(keeping, publishing, supervisor).world()?;

    let mut view = live::View::new(&compiled, present.started_at(), origin, ingest.lag_view());
    for lost in lost {
        view.lost((lost.topic, lost.incarnation, lost.partition), (lost.from, lost.to));
    }
    // Until the kernel speaks: no topic is read yet.
    let (costs, timer) = costs::timing();
    supervisor.spawn(Name::Costs, |stage| timer.run(stage)).world()?;
    words_out.send_replace(Arc::new(view.word(&engine, &costs)));
    let (new, numbers) = (content.new.take(), std::mem::take(&mut content.numbers));
    let from = (numbers.back().copied().unwrap_or_default(), compiled.newest().from);
    let (contents, changes) = reload(content, from, (reloading, may_hold), supervisor).world()?;
    present.runs(Running {
        compiled: in_force_out.subscribe(),
        contents,
        bootstrap,
        epoch: store.epoch(),
        lag: ingest.lag_view(),
        evaluated: evaluated.clone(),
        published,
        words,
        memory: may_hold,
    });
    let pipeline = detectors(InForce::of(&engine), prepared.threads, supervisor).world()?;
    let wires = kernel::Wires {
        ingest: ingest.clone(),
        records,
        outbox,
        dead_letters: prepared.dead_letters,
        words: words_out,
        evaluated,
        costs,
        witness,
    };
    let changes = Adopter::new(changes, numbers, in_force_out);
    let (pace, waiting) = ((prepared.pace, prepared.skew), prepared.waiting);
    let mut kernel = kernel::Kernel::new(compiled, engine, changes, wires, view, pace, waiting);
    new.into_iter().for_each(|row| kernel.note_version(row));
    kernel.give_up(prepared.given_up);
    supervisor.spawn(Name::Kernel, move |stage| kernel.run(pipeline, stage)).world()?;
    Ok(Service { store, supervisor: supervisor.clone(), ingest, address, wanted })
}

/// Starts who fills the lake, who looks after it and who runs hunts over it again and again, if there is to be one.
fn fill(
    lake: (PathBuf, LakeConfig),
    (settings, secret, detection): (vedette_ingest::IngestSettings, [u8; 32], vedette_ingest::LagView),
    (in_force, store, (hunts, live, reader)): (watch::Receiver<Arc<Compiled>>, Store, Asking),
    supervisor: &Supervisor,
) -> std::io::Result<()> {
    let (data, lake) = lake;
    let spill = data.join("spill");
    hunts::clean(&spill);
    let place = reader.as_ref().map(|reader| reader.place().clone());
    let scheduling = reader.clone().map(|lake| scheduler::Wires {
        store: store.clone(),
        hunts: hunts::over_the_api(&hunts),
        lake,
        in_force: in_force.clone(),
        skew: settings.allowance,
    });
    let (to, in_force_now) = (store.clone(), in_force.clone());
    // It is set here alone.
    let _ = hunts.set(hunts::Wires { lake: reader, spill, store: to, secret, in_force: in_force_now });
    if let Some(wires) = scheduling {
        let runtime = Handle::current();
        supervisor.spawn(Name::Scheduler, move |stage| scheduler::run(wires, &runtime, stage))?;
    }
    let Some(place) = place else { return Ok(()) };
    let topics = in_force.borrow().topics.clone();
    let swept = Arc::default();
    let keeping = lake_keeping::Wires {
        place: place.clone(),
        lake: lake.clone(),
        store: store.clone(),
        live: live.clone(),
        swept: Arc::clone(&swept),
    };
    let wires =
        lake::Wires { place, lake, settings, detection, topics, in_force, store, live, swept, secret };
    let runtime = Handle::current();
    supervisor.spawn(Name::Lake, move |stage| lake::run(wires, &runtime, stage))?;
    let runtime = Handle::current();
    supervisor.spawn(Name::LakeKeeper, move |stage| lake_keeping::run(keeping, &runtime, stage))
}

/// Starts what reads the rules again, if there is any such; gives what is in force and what the kernel is to take.
fn reload(
    content: StartContent,
    in_force: (u64, vedette_event::Micros),
    (reloading, memory): (Option<Reloading>, Memory),
    supervisor: &Supervisor,
) -> Result<(watch::Receiver<Arc<RuleSetSummary>>, Receiver<FromReloader>)> {
    let StartContent { texts, rules, refused, .. } = content;
    let (change, changes) = bounded(CHANGES);
    let rejected = present::rejected(&refused);
    let kept: Vec<_> = refused.iter().filter(|refused| refused.kept).map(reload::refusal).collect();
    if !kept.is_empty() {
        // There is room: it is the first.
        let _ = change.send(FromReloader::Health(kept));
    }
    let rule_set = present::rule_set(&rules, rejected.len(), in_force);
    let (out, contents) = watch::channel(Arc::new(RuleSetSummary { rule_set, rejected: Arc::new(rejected) }));
    if let Some((config, looked, asks)) = reloading {
        let reloader = Reloader::new(config, (texts, rules), (asks, change), (out, memory), looked);
        supervisor.spawn(Name::Reloader, move |stage| reloader.run(stage))?;
    }
    Ok((contents, changes))
}

/// Starts the detectors beside the kernel.
fn detectors(
    in_force: InForce,
    threads: u16,
    supervisor: &Supervisor,
) -> Result<Pipeline<Ingested, Ingested>> {
    let (pipeline, workers) = Pipeline::new(in_force, threads, kernel::batch_of)?;
    for (worker, number) in workers.into_iter().zip(1..) {
        supervisor.spawn(Name::Detector(number), move |stage| {
            worker.run(Some(stage));
            Ok(())
        })?;
    }
    Ok(pipeline)
}

/// Starts those who look after the store and write into it.
fn store_stages(
    keeping: retention::Wires,
    publishing: publisher::Wires,
    supervisor: &Supervisor,
) -> std::io::Result<()> {
    let runtime = Handle::current();
    supervisor.spawn(Name::Retention, move |stage| retention::run(&keeping, &runtime, stage))?;
    let runtime = Handle::current();
    supervisor.spawn(Name::Publisher, move |stage| publisher::run(publishing, &runtime, stage))
}

/// Passes on what operators decide about topics.
fn accept_topics(
    store: &Store,
    compiled: &Compiled,
    ingest: &Arc<vedette_ingest::Ingest>,
    supervisor: &Supervisor,
) {
    let topics = compiled.topics.clone();
    let asked = topics::accept_asked(store.clone(), topics, ingest.clone(), supervisor.clone());
    supervisor.task(Name::Topics, asked);
}

/// Ingest's threads are its own; it shows how they are doing.
fn look_at_ingest(supervisor: &Supervisor, ingest: &vedette_ingest::Ingest) {
    // Records wait for the kernel; the prober's answers for the reader.
    for (at, name, next) in [(0, Name::Reader, "kernel"), (1, Name::Prober, "reader")] {
        let view = ingest.lag_view();
        supervisor.look_at(name, move || {
            let vedette_ingest::Heartbeat { moves, tries, waits, end, .. } = view.heartbeats()[at].clone();
            let end = end.map(|end| match end {
                vedette_ingest::Ended::Done => End::Done,
                vedette_ingest::Ended::Failed(why) => End::Failed(anyhow!(why).context("reading from Kafka")),
                vedette_ingest::Ended::Panicked => End::Failed(anyhow!("panicked; the message is above")),
            });
            StageHeartbeat { moves, tries, has_work: true, waits_for: waits.then_some(next), end }
        });
    }
}

/// Placeholder lists.
type ReadLists = Arc<dyn Fn() -> Result<Lists, String> + Send + Sync>;

/// The lists that a reload would read. Those of the demo are its own.
fn lists(mode: Mode, config: &Config, own: Lists) -> ReadLists {
    let rules = config.rules.clone();
    Arc::new(move || match mode {
        Mode::Run => Ok(content::rules(&rules).map_err(|e| format!("{e:#}"))?.lists),
        Mode::Demo => Ok(own.clone()),
    })
}

/// How a rule's text is checked: with the sources and lists that a reload would read.
fn check(config: &Config, lists: ReadLists) -> RuleCheck {
    let schemas = config.schemas.clone();
    RuleCheck::new(move |text| {
        let sources = content::sources(schemas.as_deref()).map_err(|e| format!("{e:#}"))?;
        let file = RuleFile { path: "text".into(), text };
        Ok(vedette_sigma::load(&[file], &lists()?, &sources))
    })
}

async fn serve(
    store: &Store,
    (mode, config, (reloads, response, board, hunts)): (Mode, &Config, Faces),
    (check, backtests): (RuleCheck, Option<Backtests>),
    live: LiveView,
    metrics: Arc<vedette_api::Metrics>,
    supervisor: &Supervisor,
) -> Result<SocketAddr, Failure> {
    let demo = mode == Mode::Demo;
    let api = &config.api;
    let settings = vedette_api::ServerSettings {
        address: api.listen,
        open_loopback: demo,
        console: true,
        oidc: oidc::settings(config).map_err(Failure::Usage)?,
        sessions: api.sessions.limits(),
        proxy_tls: api.proxy_tls,
        tls: api
            .tls
            .as_ref()
            .map(|t| vedette_api::TlsFiles { certificate: t.certificate.clone(), key: t.key.clone() }),
        hosts: api.hosts.clone(),
        reloads,
        check,
        backtests,
        board: Some(board),
        response: Some(response),
        hunts: Some(hunts::over_the_api(&hunts)),
    };
    let told = supervisor.clone();
    let shutdown = async move { told.asked_to_stop().await };
    let server = vedette_api::Server::bind(settings, store.clone(), live, metrics).await;
    let server = server.map_err(|e| unserved(config, demo, e))?;
    let address = server.address();
    if !demo && server.admits_nobody() {
        say!(
            "nobody can come in yet: there is no user and no token. `vedette user add --name NAME --role admin` \
             makes the first one, with this configuration and beside the running service"
        );
    }
    supervisor.task(Name::Api, server.run(shutdown));
    Ok(address)
}

/// Why nothing is served, with the place that names what is at fault.
fn unserved(config: &Config, demo: bool, error: vedette_api::Error) -> Failure {
    let wrong = |path: &str, what: String| config.places.wrong(path, what);
    match error {
        e @ (vedette_api::Error::Nobody(_) | vedette_api::Error::NoTls(_)) => {
            Failure::Usage(wrong("api.listen", e.to_string()))
        }
        e @ vedette_api::Error::Tls(_) => {
            let right =
                "certificate is a PEM file with the server's own first, key the private key to that one";
            Failure::Usage(wrong("api.tls", format!("{e}; {right}")))
        }
        e @ vedette_api::Error::Oidc(_) => Failure::Usage(wrong("api.oidc", e.to_string())),
        vedette_api::Error::Bind { address, source } => {
            let remedy = match source.kind() {
                ErrorKind::AddrInUse => "stop what listens there, or choose another port",
                ErrorKind::AddrNotAvailable => {
                    "choose an address of this machine, such as 127.0.0.1 or 0.0.0.0"
                }
                _ => "choose another address or port",
            };
            let what = format!("cannot listen on {address}: {source}; {remedy}");
            Failure::World(if demo { anyhow!("--port: {what}") } else { wrong("api.listen", what) })
        }
        e => Failure::World(e.into()),
    }
}

impl Service {
    /// What is in force, for a world that obeys.
    pub fn in_force(&self) -> InForceAtAll {
        InForceAtAll::new(self.wanted.clone())
    }

    /// Has records written by one more stage, for as long as the service runs.
    pub fn simulate(&self, run: impl FnOnce(&Stage) -> Result<()> + Send + 'static) -> Result<()> {
        Ok(self.supervisor.spawn(Name::Simulator, run)?)
    }

    /// Runs until Ctrl-C, SIGTERM or a failure that nothing can mend, then stops.
    pub async fn until_stopped<T>(self, last: impl AsyncFnOnce(&Store) -> T) -> Result<T, Failure> {
        tokio::select! {
            () = self.supervisor.asked_to_stop() => say!("stopping: writing what is known"),
            () = self.supervisor.failed() => {}
        }
        self.stop(last).await
    }

    /// Stops, writing what is known. `last` is done when all is written, before the store is closed.
    pub async fn stop<T>(self, last: impl AsyncFnOnce(&Store) -> T) -> Result<T, Failure> {
        self.supervisor.stop();
        self.ingest.ask_to_stop();
        let late = self.supervisor.wind_down().await;
        let failure = self.supervisor.failure();
        if !late.is_empty() {
            if let Some(failure) = failure {
                say!("vedette: {}", crate::chain(&failure));
            }
            signals::cut_off(&self.supervisor, "stopping took too long");
        }
        let said = timeout(LAST_LOOK, last(&self.store)).await;
        close(self.store).await;
        match (failure, said) {
            (Some(failure), _) => Err(Failure::World(failure)),
            (None, Ok(said)) => Ok(said),
            (None, Err(_)) => Err(Failure::World(anyhow!("the store did not answer at the end"))),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_named_with_its_key_and_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.yml");
        let text = "kafka: {brokers: a:1, topics: [{name: t, source: json}]}\napi:\n  listen: 127.0.0.1:1\n";
        std::fs::write(&path, text).unwrap();
        let config = crate::config::load(&path, crate::config::For::Service).unwrap();
        let said = |demo, kind| {
            let error = vedette_api::Error::Bind { address: config.api.listen, source: kind };
            let Failure::World(error) = unserved(&config, demo, error) else { panic!("it is the world's") };
            format!("{error:#}")
        };
        let taken = || std::io::Error::from(ErrorKind::AddrInUse);
        let begins = format!("{}:3:11: api.listen: cannot listen on 127.0.0.1:1: ", path.display());
        let message = said(false, taken());
        assert!(message.starts_with(&begins) && message.ends_with("choose another port"), "{message}");
        assert!(said(false, ErrorKind::AddrNotAvailable.into()).contains("an address of this machine"));
        assert!(said(true, taken()).starts_with("--port: cannot listen on"));
    }
}
