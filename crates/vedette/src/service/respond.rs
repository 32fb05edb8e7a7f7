//! The responder's stage: playbooks read from their files, and a turn of the responder whenever there is something to do.
//!
//! In: playbook files, the rules in force, changes of the store. Out: actions. Invariants: a playbook that is refused leaves in force what
//! its file said before; a store that does not answer for a while is asked again, and nothing is left out meanwhile.

use std::{
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::{runtime::Handle, sync::watch};
use vedette_act::{
    Board, Courier, Responder, Response, Settings, Wanted, Witness,
    settings::{ConnectorSettings, Means},
};
use vedette_api::live::Mode;
use vedette_engine::Compiled;
use vedette_respond::{Action, Connector, ConnectorKind, PlaybookSet};
use vedette_sigma::RuleFile;
use vedette_store::Store;

use super::{
    supervisor::{Name, Stage, Supervisor},
    witness::{self, Sightings},
};
use crate::{
    Failure, World as _,
    config::{Config, respond},
    content::{self, RuleText},
};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Pause after a failure of the store.
const PAUSE: Duration = Duration::from_secs(1);
/// Changes come many at once: one turn for all of a moment.
const GATHER: Duration = Duration::from_millis(20);

/// Where playbooks come from.
pub enum Shelf {
    /// From these folders, again and again.
    Folders(Vec<PathBuf>),
    /// They came with the binary.
    BuiltIn(RuleText),
}

/// Reads playbooks and has those in force that can be.
pub struct Librarian {
    shelf: Shelf,
    rules: watch::Receiver<Arc<Compiled>>,
    policy: vedette_respond::gate::Policy,
    out: watch::Sender<Arc<PlaybookSet>>,
    read: Option<Vec<RuleFile>>,
}

impl Librarian {
    /// One that has read nothing yet.
    pub fn new(
        shelf: Shelf,
        rules: watch::Receiver<Arc<Compiled>>,
        response: &Response,
        out: watch::Sender<Arc<PlaybookSet>>,
    ) -> Self {
        Self { shelf, rules, policy: response.settings().policy.clone(), out, read: None }
    }

    /// Reads the files, and if they or the rules have changed since, puts in force what they say.
    fn look(&mut self) {
        let text = match &self.shelf {
            Shelf::Folders(folders) => content::playbooks(folders),
            Shelf::BuiltIn(text) => text.clone(),
        };
        let rules_changed = self.rules.has_changed().unwrap_or(false);
        if self.read.as_ref() == Some(&text.files) && !rules_changed {
            return;
        }
        let compiled = self.rules.borrow_and_update().clone();
        let newest = compiled.newest();
        let mut set = vedette_respond::load(&text.files, &newest.rules, &newest.sources, &self.policy);
        set.rejected.extend(text.unreadable.iter().cloned());
        for refused in &set.rejected {
            tracing::error!("refused: {refused}; what this file said before stays in force");
        }
        let before = self.out.borrow().clone();
        let kept = before.playbooks.iter().filter(|playbook| {
            set.rejected.iter().any(|refused| refused.file == playbook.file)
                && set.get(&playbook.name).is_none()
        });
        let kept: Vec<_> = kept.cloned().collect();
        set.playbooks.extend(kept);
        tracing::info!(playbooks = set.playbooks.len(), refused = set.rejected.len(), "playbooks read");
        self.out.send_replace(Arc::new(set));
        self.read = Some(text.files);
    }
}

/// Everything that acts, before it starts.
pub struct Acting {
    /// For the API.
    pub response: Response,
    /// For the API.
    pub board: Board,
    responder: Responder,
    couriers: Vec<Courier>,
    shelf: Shelf,
    playbooks: watch::Sender<Arc<PlaybookSet>>,
}

impl Acting {
    /// By the configuration. The demo acts on the world that it simulates: its firewalls and gateways fetch, and it tells nobody; with rules of
    /// one's own come the playbooks beside them.
    pub async fn new(
        store: &Store,
        (mode, config): (Mode, &Config),
        (playbooks, in_force): (watch::Sender<Arc<PlaybookSet>>, watch::Receiver<Arc<PlaybookSet>>),
    ) -> Result<Self, Failure> {
        let (settings, shelf) = match mode {
            Mode::Run => {
                let settings = respond::settings(config).map_err(Failure::Usage)?;
                (settings, Shelf::Folders(config.rules.clone()))
            }
            Mode::Demo => demo(&config.rules),
        };
        let response = Response::new(store.clone(), settings, in_force);
        let board = Board::new(response.settings().outlets());
        let responder = Responder::new(response.clone(), board.clone());
        let mut couriers = Vec::new();
        for of in &response.settings().connectors {
            let courier = Courier::new(response.clone(), of.clone(), responder.wanted(), crate::now);
            let key = match of.means {
                Means::Kafka(_) => "kafka.security".to_owned(),
                _ => format!("respond.connectors.{}.ca_file", of.connector.name),
            };
            let courier = courier.map_err(|what| Failure::Usage(config.places.wrong(&key, what)))?;
            let Some(mut courier) = courier else { continue };
            courier.begin().await.world()?;
            couriers.push(courier);
        }
        Ok(Self { response, board, responder, couriers, shelf, playbooks })
    }

    /// What is to be in force, whenever it changes.
    pub fn wanted(&self) -> WantedView {
        self.responder.wanted()
    }

    /// Starts the stages; what the kernel gives events to.
    pub fn start(
        self,
        rules: watch::Receiver<Arc<Compiled>>,
        supervisor: &Supervisor,
    ) -> io::Result<Sightings> {
        let Self { response, responder, couriers, shelf, playbooks, .. } = self;
        for (courier, number) in couriers.into_iter().zip(1..) {
            let told = supervisor.clone();
            let stop = async move { told.asked_to_stop().await };
            supervisor.task(Name::Courier(number), courier.run(stop));
        }
        let (sightings, looking) = witness::looking();
        let witness = Witness::new(response.clone(), responder.wanted());
        let runtime = Handle::current();
        let look = move |stage: &Stage| witness::run(witness, looking, &runtime, stage);
        supervisor.spawn(Name::Witness, look)?;
        let librarian = Librarian::new(shelf, rules, &response, playbooks);
        let runtime = Handle::current();
        let work = move |stage: &Stage| run(librarian, responder, &response, &runtime, stage);
        supervisor.spawn(Name::Responder, work)?;
        Ok(sightings)
    }
}

/// What is to be in force, whenever it changes.
pub type WantedView = watch::Receiver<Option<Arc<Wanted>>>;

/// The addresses that anything at all is in force against, for a simulated world.
pub struct InForceAtAll {
    wanted: WantedView,
    nets: Vec<ipnet::IpNet>,
}

impl InForceAtAll {
    /// Nothing is known yet.
    pub fn new(mut wanted: WantedView) -> Self {
        wanted.mark_changed();
        Self { wanted, nets: Vec::new() }
    }

    /// Whether an address is let through no more.
    pub fn covers(&mut self, address: &str) -> bool {
        if self.wanted.has_changed().unwrap_or(false) {
            let wanted = self.wanted.borrow_and_update().clone();
            self.nets = wanted.iter().flat_map(|wanted| blocked(wanted)).collect();
        }
        // Hardly ever is anything, and there are thousands of records a second.
        !self.nets.is_empty()
            && address
                .parse()
                .is_ok_and(|address: std::net::IpAddr| self.nets.iter().any(|net| net.contains(&address)))
    }
}

fn blocked(wanted: &Wanted) -> Vec<ipnet::IpNet> {
    let now = crate::now();
    let of = |connector: &Arc<str>| wanted.desired.in_force(connector, &wanted.world, now).0;
    let all = wanted.desired.connectors().flat_map(of);
    all.filter(|of| of.action > Action::Tag).filter_map(|of| of.target.network()).collect()
}

/// The simulated world fetches all that it can obey, and each countermeasure that comes with it is approved by whoever watches.
fn demo(rules: &[PathBuf]) -> (Settings, Shelf) {
    let fetch = |(kind, name): (ConnectorKind, &str)| ConnectorSettings {
        connector: Connector { kind, name: name.into() },
        means: Means::Fetched(10_000),
    };
    let connectors = [
        (ConnectorKind::Crowdsec, "crowdsec"),
        (ConnectorKind::Ratelimit, "ratelimit"),
        (ConnectorKind::Edl, "edl/perimeter"),
        (ConnectorKind::Dag, "dag/perimeter"),
        (ConnectorKind::Dag, "dag/internal"),
    ];
    let connectors = connectors.into_iter().map(fetch).collect();
    let settings = Settings { connectors, ..Settings::default() };
    if !rules.is_empty() {
        return (settings, Shelf::Folders(rules.to_vec()));
    }
    let mut text = content::built_in_playbooks();
    text.files.iter_mut().for_each(|file| file.text.insert_str(0, "mode: approve\n"));
    (settings, Shelf::BuiltIn(text))
}

/// Takes turns until it is to stop.
///
/// # Errors
/// If the store fails for good.
pub fn run(
    mut librarian: Librarian,
    mut responder: Responder,
    response: &Response,
    runtime: &Handle,
    stage: &Stage,
) -> Result<()> {
    let mut changes = response.store().watch();
    let mut looked: Option<Instant> = None;
    while !stage.stopping() {
        stage.works();
        if looked.is_none_or(|at| at.elapsed() >= LOOK) {
            librarian.look();
            looked = Some(Instant::now());
        }
        // Marked before the question, so that what is published after it is asked for.
        changes.mark_unchanged();
        let turn = runtime.block_on(stage.awaits("store", responder.turn(crate::now())));
        let patience = match turn {
            Ok(turn) if turn.more => continue,
            Ok(turn) => {
                let next = turn.next.map(|next| next.since(crate::now()).0.max(0).unsigned_abs());
                next.map_or(LOOK, Duration::from_micros).clamp(GATHER, LOOK)
            }
            Err(vedette_act::ActError::Store(error)) if error.fatal() => {
                return Err(error).context("responding");
            }
            Err(error) => {
                tracing::warn!(%error, "responding waits");
                stage.waits_for("store");
                PAUSE
            }
        };
        stage.rests();
        runtime.block_on(async {
            tokio::select! {
                () = tokio::time::sleep(patience) => {}
                () = stage.asked_to_stop() => {}
                _ = async {
                    // A sender that is gone means the end, too.
                    let _ = changes.changed().await;
                    tokio::time::sleep(GATHER).await;
                } => {}
            }
        });
    }
    Ok(())
}
