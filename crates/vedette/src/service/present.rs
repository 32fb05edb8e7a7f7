//! The present: what is going on at the moment somebody asks.
//!
//! In: the kernel's last [`Word`], ingest's positions, the publisher's progress, the supervisor's look at all stages.
//! Out: a [`Live`] for each request. Invariants: it waits for no stage, so it answers when all are stuck; what the
//! kernel said is marked with when it said so, and no source is `ok` while the kernel stands still.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, atomic::Ordering},
};

use tokio::sync::watch;
use vedette_api::live::{
    BrokerStatus, DeadLetterTopicStatus, Degraded, Health, LeaseStatus, Live, MemoryStatus, Mode, Obstacle,
    PartitionStatus, PublishStatus, Readiness, Rejected, RuleLoad, RuleSetStatus, SourceStatus, StageStatus,
    Status, TimeSource, TopicState, TopicStatus,
};
use vedette_engine::Compiled;
use vedette_event::{Flags, Micros, Partition, RuleIx, SourceIx};
use vedette_ingest::{Clock, LagReport, LagView, PartitionLag};
use vedette_sigma::RuleSet;

use super::{
    live::Word,
    publisher::{PublishedCounts, moment},
    reading::{self, InputState, InputTopic},
    reload::RuleSetSummary,
    supervisor::Supervisor,
};
use crate::{
    config::memory::{self, Memory},
    texts::RefusedText,
};

/// What the view looks at.
pub struct Present {
    mode: Mode,
    started_at: Micros,
    supervisor: Supervisor,
    /// Empty while the process starts.
    running: OnceLock<Running>,
}

/// What there is to look at once everything runs.
pub struct Running {
    /// Rules over sources, in force.
    pub compiled: watch::Receiver<Arc<Compiled>>,
    /// What is in force, and what was refused.
    pub contents: watch::Receiver<Arc<RuleSetSummary>>,
    /// The brokers, for people.
    pub bootstrap: String,
    /// The lease's epoch.
    pub epoch: Option<i64>,
    /// How far it is read.
    pub lag: LagView,
    /// How much of that is evaluated.
    pub evaluated: Arc<Evaluated>,
    /// What is published.
    pub published: Arc<PublishedCounts>,
    /// What the kernel said last.
    pub words: watch::Receiver<Arc<Word>>,
    /// What may be held.
    pub memory: Memory,
}

/// How many records of each partition the kernel is done with since it was assigned.
#[derive(Default)]
pub struct Evaluated(Mutex<BTreeMap<Partition, u64>>);

impl Evaluated {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<Partition, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A partition is read from anew.
    pub fn assigned(&self, partition: Partition) {
        self.counts().insert(partition, 0);
    }

    /// Records are done.
    pub fn done(&self, partition: Partition, records: usize) {
        *self.counts().entry(partition).or_default() += records as u64;
    }
}

impl Present {
    /// A process that starts.
    pub fn new(mode: Mode, supervisor: Supervisor) -> Self {
        Self { mode, started_at: crate::now(), supervisor, running: OnceLock::new() }
    }

    /// When it started.
    pub fn started_at(&self) -> Micros {
        self.started_at
    }

    /// From now on everything runs.
    pub fn runs(&self, running: Running) {
        // It is said once.
        let _ = self.running.set(running);
    }

    /// What is going on at this moment.
    pub fn live(&self) -> Live {
        let stages = self.supervisor.stages();
        let Some(running) = self.running.get() else {
            let starting = Live::starting(self.mode, env!("CARGO_PKG_VERSION"), self.started_at);
            return Live { stages, ..starting };
        };
        let word = running.words.borrow().clone();
        let lag = running.lag.report();
        let kernel = stages.iter().find(|stage| stage.name == "kernel" && stage.state.stands_still());
        let sources = running.sources(&word, &lag, kernel);
        let mut ready = running.readiness(&word, &lag, self.started_at, &stages);
        if self.supervisor.stopping() {
            ready.obstacles.insert(
                0,
                Obstacle {
                    code: "stopping".to_owned(),
                    message: "Vedette is stopping.".to_owned(),
                    since: crate::now(),
                },
            );
            ready.ready = false;
        }
        Live {
            as_of: if word.at == Micros::default() { self.started_at } else { word.at },
            stages,
            ready,
            status: running.status(&word, &lag, self.mode, self.started_at),
            sources,
            rules: word.rules(),
            rejected: running.contents.borrow().rejected.clone(),
        }
    }
}

/// Refused documents as the API tells them.
pub fn rejected(refused: &[RefusedText]) -> Vec<Rejected> {
    let told = |RefusedText { what: r, kept }: &RefusedText| Rejected {
        file: r.file.to_string(),
        line: r.line as u64,
        column: r.column as u64,
        rule_id: r.rule_id.as_ref().map(ToString::to_string),
        code: r.code.to_owned(),
        message: r.message.clone(),
        help: r.help.clone(),
        kept: *kept,
    };
    refused.iter().map(told).collect()
}

/// The rules in force, in short.
pub fn rule_set(rules: &RuleSet, refused: usize, (number, from): (u64, Micros)) -> RuleSetStatus {
    let meanings: BTreeSet<_> = rules.rules.iter().map(|r| r.meaning).collect();
    let mut hash = vedette_event::raw::record_hash(None);
    for meaning in meanings {
        let joined = [hash, meaning].concat();
        hash = vedette_event::raw::record_hash(Some(&joined));
    }
    RuleSetStatus {
        version: hash.iter().take(8).map(|b| format!("{b:02x}")).collect(),
        accepted: rules.rules.len() as u64,
        rejected: refused as u64,
        reloads: 0,
        reloads_refused: 0,
        number,
        in_force_from: Some(from).filter(|from| *from != Micros::MIN),
    }
}

impl Running {
    fn status(&self, word: &Word, lag: &LagReport, mode: Mode, started_at: Micros) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            semantics_version: vedette_event::SEMANTICS_VERSION,
            mode,
            started_at,
            rule_set: self.contents.borrow().rule_set.clone(),
            lease: LeaseStatus { held: true, epoch: self.epoch.unwrap_or_default().unsigned_abs() },
            broker: BrokerStatus {
                bootstrap: self.bootstrap.clone(),
                connected: lag.connected,
                last_error: word.unreachable.as_ref().map(|(e, _)| e.clone()),
                last_answer: if lag.connected { Some(crate::now()) } else { word.last_answer },
            },
            publish: PublishStatus {
                seq: self.published.seq.load(Ordering::Relaxed).unsigned_abs(),
                last_at: moment(self.published.last_at.load(Ordering::Relaxed)),
                alerts: self.published.alerts(),
                notices: self.published.notices.load(Ordering::Relaxed),
                oldest_checkpoint: word.oldest_checkpoint,
            },
            load: word.load.clone(),
            memory: self.memory(),
            dead_letter_topic: word.copies.clone(),
            degradations: word.degradations.clone(),
        }
    }

    fn memory(&self) -> MemoryStatus {
        let Memory { budget, state, waiting, notices } = self.memory;
        let compiled = self.compiled.borrow().clone();
        // Of the newest version a rule has the number that it has there; what comes behind belongs to versions that run out.
        let of_rule = |(rule, count): (RuleIx, usize)| {
            let rule = compiled.newest().rules.rules.get(rule.0 as usize)?;
            Some(RuleLoad { rule_id: rule.id.to_string(), count: count as u64 })
        };
        let mut entries: Vec<_> = compiled.entries(state).into_iter().filter_map(of_rule).collect();
        entries.sort_by(|a, b| a.rule_id.cmp(&b.rule_id));
        MemoryStatus {
            budget,
            resident: memory::resident(),
            state: state as u64,
            waiting: waiting as u64,
            notices: notices as u64,
            entries,
        }
    }

    fn readiness(
        &self,
        word: &Word,
        lag: &LagReport,
        started_at: Micros,
        stages: &[StageStatus],
    ) -> Readiness {
        let (mut obstacles, mut degraded) = still(stages);
        if let Some((error, since)) = &word.unreachable {
            obstacles.push(Obstacle {
                code: "broker-unreachable".to_owned(),
                message: format!(
                    "The brokers at {} do not answer ({error}). They are tried again for ever.",
                    self.bootstrap
                ),
                since: *since,
            });
        } else if word.last_answer.is_none() {
            obstacles.push(Obstacle {
                code: "starting".to_owned(),
                message: format!("The brokers at {} have not answered yet.", self.bootstrap),
                since: started_at,
            });
        }
        let none_is_read = word.topics.values().all(|topic| topic.state != InputState::Read);
        for Degraded { reason, message, since } in self.not_read(word, lag) {
            if none_is_read {
                obstacles.push(Obstacle { code: reason, message, since });
            } else {
                degraded.push(Degraded { reason, message, since });
            }
        }
        if let Some(DeadLetterTopicStatus { topic, missed, last_error: Some(error), since: Some(since) }) =
            &word.copies
        {
            let message = format!(
                "Dead letters are not copied to topic {topic}: {error}. It lacks {missed}; the store has them"
            );
            degraded.push(Degraded { reason: "dead-letter-topic".to_owned(), message, since: *since });
        }
        Readiness { ready: obstacles.is_empty(), obstacles, degraded }
    }

    /// What is not read: sources as a whole, single topics, single partitions. Nothing of what the brokers, who do not
    /// answer, are to blame for.
    fn not_read(&self, word: &Word, lag: &LagReport) -> Vec<Degraded> {
        let starting = |topic: &InputTopic| topic.state == InputState::Starting;
        let silent = word.unreachable.is_some() || word.last_answer.is_none();
        let mut all = Vec::new();
        let compiled = self.compiled.borrow().clone();
        for topic in word.topics.values().filter(|topic| !(silent && starting(topic))) {
            let (Some(reason), Some(message)) = (topic.state.reason(), topic.message()) else { continue };
            let source = &compiled.sources.get(topic.source).name;
            let whole = reading::stands_still(&word.topics, topic.source);
            let what = if whole { format!("Source {source}") } else { format!("A topic of source {source}") };
            let message = format!("{what} is not read: {message}");
            all.push(Degraded { reason: reason.to_owned(), message, since: topic.since });
        }
        for of in lag.topics.iter().filter(|of| of.unassigned() > 0) {
            let Some(topic) = word.topics.get(&of.topic).filter(|topic| topic.state == InputState::Read)
            else {
                continue;
            };
            let why = of.missing.as_deref().unwrap_or("they are about to be begun");
            let (n, all_of_them) = (of.unassigned(), of.partitions.unwrap_or_default());
            let message = format!("{n} of {all_of_them} partitions of topic {} are not read: {why}", of.name);
            all.push(Degraded { reason: "partitions-unassigned".to_owned(), message, since: topic.since });
        }
        all
    }

    /// The topics of a source.
    fn topics(&self, source: SourceIx, word: &Word, lag: &LagReport) -> Vec<TopicStatus> {
        let own = word.topics.iter().filter(|(_, topic)| topic.source == source);
        own.map(|(ix, topic)| {
            let lag = lag.topics.iter().find(|lag| lag.topic == *ix);
            let missing = lag.and_then(|lag| lag.missing.clone());
            TopicStatus {
                name: topic.name.clone(),
                state: match topic.state {
                    InputState::Starting => TopicState::Starting,
                    InputState::Read => TopicState::Read,
                    InputState::Waiting(_) => TopicState::Waiting,
                    InputState::Missing(_) => TopicState::Missing,
                    InputState::Stopped(_) => TopicState::Stopped,
                },
                since: topic.since,
                message: topic.message().or(missing),
                time_source: lag.and_then(|lag| lag.clock).map(|clock| match clock {
                    Clock::Broker => TimeSource::Broker,
                    Clock::Producer => TimeSource::Producer,
                }),
                partitions: lag.and_then(|lag| lag.partitions).map(|n| n as u64),
                unassigned: lag.map_or(0, |lag| lag.unassigned() as u64),
                paused: lag.map_or(0, |lag| lag.paused as u64),
            }
        })
        .collect()
    }

    fn sources(&self, word: &Word, lag: &LagReport, stalled: Option<&StageStatus>) -> Vec<SourceStatus> {
        let compiled = self.compiled.borrow().clone();
        let sources = compiled.sources.iter();
        sources
            .map(|(ix, def)| {
                let topics = self.topics(ix, word, lag);
                let of_source = |topic| word.topics.get(&topic).is_some_and(|topic| topic.source == ix);
                let own: Vec<_> = lag.partitions.iter().filter(|p| of_source(p.partition.topic)).collect();
                let said = word.sources.get(&ix);
                let counters = said.map(|said| said.counters).unwrap_or_default();
                let partitions: Vec<_> = own.iter().map(|p| self.partition(p, word)).collect();
                let waiting: u64 = partitions.iter().map(|p| p.lag).sum();
                let (health, message) = health(word, ix, waiting, stalled);
                let names: Vec<&str> = topics.iter().map(|t| &*t.name).collect();
                let weaker = topics.iter().any(|t| t.time_source == Some(TimeSource::Producer));
                SourceStatus {
                    name: def.name.to_string(),
                    description: def.description.clone(),
                    topic: names.join(", "),
                    topics,
                    health,
                    message,
                    time_source: if weaker { TimeSource::Producer } else { TimeSource::Broker },
                    disorder: def.disorder,
                    future: def.future,
                    watermark: said.and_then(|said| said.watermark),
                    newest: own.iter().filter_map(|p| p.last_ts_log).max(),
                    lag: waiting,
                    records: counters.records,
                    events: counters.events,
                    dead_letters: said.map(|said| said.dead.clone()).unwrap_or_default(),
                    flags: named(counters.flagged),
                    lost: said.map(|said| said.lost).unwrap_or_default(),
                    partitions,
                }
            })
            .collect()
    }

    /// A partition. What ingest has handed on and the kernel is not done with lags as well.
    fn partition(&self, lag: &PartitionLag, word: &Word) -> PartitionStatus {
        let done = self.evaluated.counts().get(&lag.partition).copied().unwrap_or_default();
        let unread = lag.unread().unwrap_or_default().unsigned_abs();
        let (watermark, counters) = word.partitions.get(&lag.partition).copied().unwrap_or_default();
        PartitionStatus {
            topic: lag.topic.to_string(),
            number: lag.partition.number,
            position: Some(lag.position),
            end: lag.end,
            lag: unread + lag.handed_on.saturating_sub(done),
            watermark,
            events: counters.events,
            flags: named(counters.flagged),
            paused: lag.paused,
        }
    }
}

/// Events by the name of their flag; without those that none has.
fn named(flagged: [u64; 5]) -> BTreeMap<String, u64> {
    let flags = Flags::CLOCK.iter().zip(flagged).filter(|(_, n)| *n > 0);
    flags.flat_map(|(flag, n)| flag.names().map(move |name| (name.to_owned(), n))).collect()
}

/// What a source is like. Nothing is well while nothing is evaluated.
fn health(
    word: &Word,
    source: SourceIx,
    waiting: u64,
    stalled: Option<&StageStatus>,
) -> (Health, Option<String>) {
    let said = word.health_of(source, waiting);
    match (said.0, stalled) {
        (Health::Ok | Health::Partial | Health::Lagging | Health::Silent, Some(kernel)) => {
            let message = format!("Nothing is evaluated: the kernel has not moved since {}", kernel.moved_at);
            (Health::Stalled, Some(message))
        }
        _ => said,
    }
}

/// What stages that stand still mean. Without reader, kernel, detectors or publisher nothing is evaluated or nothing comes of it;
/// without one of the others something is missing that an alert does not wait for.
fn still(stages: &[StageStatus]) -> (Vec<Obstacle>, Vec<Degraded>) {
    let (mut obstacles, mut degraded) = (Vec::<Obstacle>::new(), Vec::new());
    for stage in stages.iter().filter(|stage| stage.state.stands_still()) {
        let StageStatus { name, moved_at: since, waits_for, .. } = stage;
        let since = *since;
        let mut message = format!("The {name} has work and has not moved since {since}");
        if let Some(whom) = waits_for {
            message += &format!("; it waits for the {whom}");
        }
        match name.as_str() {
            // What the kernel waits for: named before it, once for all of them.
            _ if name.starts_with("detector-") => {
                let code = "detector-stalled".to_owned();
                if obstacles.iter().all(|obstacle| obstacle.code != code) {
                    let kernel = obstacles.iter().position(|obstacle| obstacle.code == "kernel-stalled");
                    obstacles.insert(kernel.unwrap_or(obstacles.len()), Obstacle { code, message, since });
                }
            }
            "publisher" if waits_for.as_deref() == Some("store") => {
                // What the kernel waits for, too: named first.
                let message = format!("The store has not answered since {since}; nothing is published");
                obstacles.insert(0, Obstacle { code: "store-unavailable".to_owned(), message, since });
            }
            "reader" | "kernel" | "publisher" => {
                obstacles.push(Obstacle { code: format!("{name}-stalled"), message, since });
            }
            _ => degraded.push(Degraded { reason: "stage-stalled".to_owned(), message, since }),
        }
    }
    (obstacles, degraded)
}

#[cfg(test)]
mod tests {
    use vedette_api::live::StageState;

    use super::*;

    fn stage(name: &str, state: StageState, waits_for: Option<&str>) -> StageStatus {
        StageStatus {
            name: name.to_owned(),
            state,
            has_work: true,
            moved_at: Micros(7),
            alive_at: Micros(9),
            waits_for: waits_for.map(str::to_owned),
        }
    }

    #[test]
    fn a_stage_that_stands_still_is_an_obstacle_where_nothing_works_without_it() {
        let said = |stages: &[StageStatus]| {
            let (obstacles, degraded) = still(stages);
            let obstacles: Vec<_> = obstacles.into_iter().map(|o| (o.code, o.since)).collect();
            let degraded: Vec<_> = degraded.into_iter().map(|d| (d.reason, d.message)).collect();
            (obstacles, degraded)
        };
        let well = [StageState::Idle, StageState::Working, StageState::Waiting, StageState::Ended];
        let stages: Vec<_> = well.iter().map(|state| stage("kernel", *state, None)).collect();
        assert_eq!(said(&stages), (vec![], vec![]));

        let (obstacles, _) = said(&[stage("kernel", StageState::Stalled, None)]);
        assert_eq!(obstacles, [("kernel-stalled".to_owned(), Micros(7))]);
        // What is the matter comes first, though the kernel stands before the detectors and the publisher.
        let (obstacles, degraded) = said(&[
            stage("reader", StageState::Stalled, Some("kernel")),
            stage("kernel", StageState::Stalled, Some("detector")),
            stage("detector-1", StageState::Stalled, None),
            stage("detector-2", StageState::Hung, None),
        ]);
        let codes: Vec<_> = obstacles.iter().map(|(code, _)| code.as_str()).collect();
        assert_eq!(codes, ["reader-stalled", "detector-stalled", "kernel-stalled"]);
        assert_eq!(degraded, []);
        let (obstacles, degraded) = said(&[
            stage("reader", StageState::Stalled, Some("kernel")),
            stage("kernel", StageState::Hung, Some("publisher")),
            stage("publisher", StageState::Stalled, Some("store")),
            stage("evidence", StageState::Stalled, Some("broker")),
        ]);
        let codes: Vec<_> = obstacles.iter().map(|(code, _)| code.as_str()).collect();
        assert_eq!(codes, ["store-unavailable", "reader-stalled", "kernel-stalled"]);
        assert_eq!(degraded[0].0, "stage-stalled");
        assert!(degraded[0].1.contains("evidence") && degraded[0].1.ends_with("it waits for the broker"));
    }

    #[test]
    fn no_source_is_well_while_the_kernel_stands_still() {
        let (word, source) = (Word::default(), SourceIx(0));
        assert_eq!(health(&word, source, 0, None).0, Health::Ok);
        let kernel = stage("kernel", StageState::Stalled, None);
        for waiting in [0, 1_000_000] {
            let (health, message) = health(&word, source, waiting, Some(&kernel));
            assert_eq!(health, Health::Stalled);
            assert!(message.is_some_and(|m| m.contains("has not moved since")));
        }
        // Why it is not read at all says more.
        let away = Word { unreachable: Some(("refused".to_owned(), Micros(1))), ..Word::default() };
        assert_eq!(health(&away, source, 0, Some(&kernel)).0, Health::Unreachable);
    }
}
