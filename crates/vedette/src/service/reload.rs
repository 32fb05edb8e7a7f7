//! The reloader: rules, lists and mappings are read again while the service runs.
//!
//! In: SIGHUP, the API's word, files that changed. Out: a compiled version for the kernel, what of it was refused for everybody.
//! Invariants: reading, parsing and compiling happen here, so the kernel only adopts; what is refused leaves in force what was;
//! files are read once two looks agree, so a file half written or a folder half swapped is not; each ask is answered.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use tokio::sync::{oneshot, watch};
use vedette_api::{
    live::{Rejected, RuleSetStatus},
    reload::{Reloaded, Reloads, Unavailable},
};
use vedette_engine::Version;
use vedette_event::{Micros, Severity};
use vedette_sigma::RuleSet;
use vedette_store::model::HealthEvent;

use super::{
    adopt::{Adopted, FromReloader, NewVersion, TooMany},
    present, setup,
    supervisor::Stage,
    versions,
};
use crate::{
    config::{Config, memory::Memory},
    content,
    texts::{self, Difference, RefusedText, TakenUp, Texts},
};

/// How often the files are looked at: an operator who has written one waits for two looks.
const LOOK: Duration = Duration::from_secs(2);
/// How often the reloader sees whether it is to stop.
const WAIT: Duration = Duration::from_millis(100);
/// Rules named in one line of the log.
const NAMED: usize = 20;

/// Somebody wants the rules read again.
pub enum Ask {
    /// By a signal.
    Signal,
    /// Over the API, which waits for the answer.
    Api(oneshot::Sender<Result<Reloaded, Unavailable>>),
}

/// Says in the log which rules came, changed and went: a file that is deleted or moved takes its rules away.
fn say_changes(reloaded: &Reloaded) {
    let Reloaded { version, new, changed, removed, .. } = reloaded;
    for (what, ids) in [("new", new), ("changed", changed)] {
        if !ids.is_empty() {
            tracing::info!(version, "{} {what} rules: {}", ids.len(), named(ids));
        }
    }
    if !removed.is_empty() {
        tracing::warn!(version, "{} rules are no longer in force: {}", removed.len(), named(removed));
    }
}

fn named(ids: &[String]) -> String {
    let more = if ids.len() > NAMED { ", …" } else { "" };
    ids.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ") + more
}

/// The API's way to ask.
pub fn over_the_api(ask: Sender<Ask>) -> Reloads {
    Reloads::new(move || {
        let (answer, answered) = oneshot::channel();
        let asked = ask.try_send(Ask::Api(answer));
        async move {
            asked.map_err(|_| Unavailable::Stopping)?;
            answered.await.unwrap_or(Err(Unavailable::Stopping))
        }
    })
}

/// What is in force and what was refused, for people.
#[derive(Debug, Clone, Default)]
pub struct RuleSetSummary {
    /// The rules in short.
    pub rule_set: RuleSetStatus,
    /// What was refused.
    pub rejected: Arc<Vec<Rejected>>,
}

/// The reloader.
pub struct Reloader {
    config: Config,
    /// What is in force.
    texts: Texts,
    rules: Arc<RuleSet>,
    asks: Receiver<Ask>,
    kernel: Sender<FromReloader>,
    contents: watch::Sender<Arc<RuleSetSummary>>,
    /// What may be held until the next start.
    memory: Memory,
    /// How the files looked when they were read, and when they were looked at last.
    read: [u8; 32],
    seen: [u8; 32],
}

impl Reloader {
    /// Goes on from what a start took up; `read` is how the files looked before.
    pub fn new(
        config: Config,
        (texts, rules): (Texts, Arc<RuleSet>),
        (asks, kernel): (Receiver<Ask>, Sender<FromReloader>),
        (contents, memory): (watch::Sender<Arc<RuleSetSummary>>, Memory),
        read: [u8; 32],
    ) -> Self {
        Self { config, texts, rules, asks, kernel, contents, memory, read, seen: read }
    }

    /// Works until it is to stop.
    ///
    /// # Errors
    /// Never: what cannot be taken up is told.
    pub fn run(mut self, stage: &Stage) -> Result<()> {
        let mut looked = Instant::now();
        while !stage.stopping() {
            stage.rests();
            match self.asks.recv_timeout(WAIT) {
                Ok(ask) => {
                    stage.works();
                    tracing::info!("the rules are read again");
                    // One reading answers all who asked before it began.
                    let asks: Vec<_> = std::iter::once(ask).chain(self.asks.try_iter()).collect();
                    let answer = self.reload(stage);
                    for ask in asks {
                        if let Ask::Api(to) = ask {
                            // Whoever asked may be gone.
                            let _ = to.send(answer.clone());
                        }
                    }
                }
                // Nobody can ask any more, and the files still change.
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(WAIT),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                let now = self.look();
                if now != self.read && now == self.seen {
                    stage.works();
                    tracing::info!("files of rules, lists or schemas changed: they are read again");
                    // It has told whatever there is to tell.
                    let _ = self.reload(stage);
                }
                self.seen = now;
            }
        }
        Ok(())
    }

    fn look(&self) -> [u8; 32] {
        content::look(&self.config.rules, self.config.schemas.as_deref())
    }

    /// Reads everything and has the kernel take what is new.
    fn reload(&mut self, stage: &Stage) -> Result<Reloaded, Unavailable> {
        // Before they are read: what changes while they are is read once more.
        self.read = self.look();
        match self.take_up(stage) {
            Ok(reloaded) => Ok(reloaded),
            Err(Failed::Refused(error)) => {
                let why = format!("{error:#}");
                tracing::error!("the rules in force stay: {why}");
                self.contents.send_modify(|contents| {
                    Arc::make_mut(contents).rule_set.reloads_refused += 1;
                });
                self.tell(vec![health(format!("the rules in force stay: {why}"))]);
                Err(Unavailable::Refused(why))
            }
            Err(Failed::Stopping) => Err(Unavailable::Stopping),
        }
    }

    fn take_up(&mut self, stage: &Stage) -> Result<Reloaded, Failed> {
        let text = content::rules(&self.config.rules)?;
        let schemas = content::schemas(self.config.schemas.as_deref()).context("schemas")?;
        stage.works();
        let adjust = |all| setup::sources(&self.config, &all);
        let TakenUp { texts, rules, sources, refused } =
            texts::take(text, schemas, Some(&self.texts), adjust)?;
        if rules.rules.is_empty() {
            return Err(Failed::Refused(anyhow!("no rule is left")));
        }
        stage.works();
        let known = self.contents.borrow().clone();
        let rejected = present::rejected(&refused);
        self.tell_refused(&refused, &known.rejected, &rejected);
        let difference = Difference::of(&self.rules, &rules);
        let (lists, schemas) = self.texts.differences(&texts);
        let mut reloaded = Reloaded {
            version: known.rule_set.number,
            in_force_from: known.rule_set.in_force_from,
            new: difference.new,
            changed: difference.changed,
            removed: difference.removed,
            lists,
            schemas,
            refused: rejected.clone(),
        };
        let mut rule_set = RuleSetStatus { rejected: rejected.len() as u64, ..known.rule_set.clone() };
        if texts.says_the_same(&self.texts, (&rules, &self.rules))? {
            // Written otherwise: no version more, of which only so many may be.
            reloaded.schemas.clear();
            self.texts = texts;
        } else {
            let rules = Arc::new(rules);
            let packed = texts.pack()?;
            let version = Version::compile_reading(rules.clone(), sources.into(), &vedette_act::WITNESSED);
            version.check()?;
            if let Some(wanted) = setup::too_few(&self.memory, setup::least(&version)) {
                let what = format!("{wanted} and start again, or load fewer rules");
                return Err(Failed::Refused(self.config.places.wrong("engine.memory", what)));
            }
            stage.works();
            let Adopted { number, from } = self.hand_over(version, packed, stage)?;
            let RuleSetStatus { reloads, reloads_refused, .. } = rule_set;
            let now = present::rule_set(&rules, rejected.len(), (number, from));
            rule_set = RuleSetStatus { reloads: reloads + 1, reloads_refused, ..now };
            (reloaded.version, reloaded.in_force_from) = (number, rule_set.in_force_from);
            (self.texts, self.rules) = (texts, rules);
            say_changes(&reloaded);
        }
        self.contents.send_replace(Arc::new(RuleSetSummary { rule_set, rejected: Arc::new(rejected) }));
        Ok(reloaded)
    }

    /// Has the kernel take a version.
    fn hand_over(&self, version: Version, texts: Vec<u8>, stage: &Stage) -> Result<Adopted, Failed> {
        let (answer, answered) = bounded(1);
        let change = FromReloader::Version(Box::new(NewVersion { version, texts, answer }));
        self.kernel.send(change).map_err(|_| Failed::Stopping)?;
        loop {
            stage.waits_for("kernel");
            match answered.recv_timeout(WAIT) {
                Ok(Ok(adopted)) => {
                    stage.works();
                    return Ok(adopted);
                }
                Ok(Err(TooMany)) => {
                    return Err(Failed::Refused(anyhow!(versions::too_many())));
                }
                Err(RecvTimeoutError::Timeout) if !stage.stopping() => {}
                Err(_) => return Err(Failed::Stopping),
            }
        }
    }

    /// Tells what is refused that was not before.
    fn tell_refused(&self, refused: &[RefusedText], known: &[Rejected], rejected: &[Rejected]) {
        let new = refused.iter().zip(rejected).filter(|(_, rejected)| !known.contains(rejected));
        let events = new.map(|(refused, _)| {
            let event = refusal(refused);
            tracing::error!("refused: {}", event.message);
            event
        });
        self.tell(events.collect());
    }

    fn tell(&self, events: Vec<HealthEvent>) {
        if !events.is_empty() {
            // A kernel that has ended stores nothing more.
            let _ = self.kernel.send(FromReloader::Health(events));
        }
    }
}

/// What operators are told of something that is refused.
pub fn refusal(RefusedText { what, kept }: &RefusedText) -> HealthEvent {
    let stays = if *kept { "; what it said before stays in force" } else { "" };
    let help = what.help.as_ref().map_or(String::new(), |help| format!("; {help}"));
    health(format!("{what}{help}{stays}"))
}

fn health(message: String) -> HealthEvent {
    let at: Micros = crate::now();
    HealthEvent {
        key: format!("rules-refused/{at}/{message}"),
        at,
        kind: "rules_refused".to_owned(),
        severity: Severity::High,
        message,
    }
}

/// Why nothing was taken up.
enum Failed {
    Refused(anyhow::Error),
    Stopping,
}

impl<E: Into<anyhow::Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}
