//! The live view: what the store does not hold, gathered for the API about once a second.
//!
//! In: the kernel's counters, ingest's lag and status, the publisher's progress. Out: [`Live`] snapshots.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
};

use vedette_api::live::{
    BrokerStatus, Coverage, Degradation, Health, LeaseStatus, Live, Mode, Obstacle, PartitionStatus,
    PublishStatus, Readiness, Rejected, RuleSetStatus, RuleStatus, SourceStatus, Status, TimeSource,
};
use vedette_correlate::Counters;
use vedette_engine::{CLOCK_FLAGS, Compiled, Engine, KEY_GROUPS};
use vedette_event::{DeadLetter, Micros, RuleIx, Severity, SourceIx, Span};
use vedette_ingest::{LagView, TopicSettings};
use vedette_sigma::{Rejection, RuleKind, RuleSet};

use super::{
    publisher::{Published, moment},
    versions::Versions,
};

/// Records that may wait before a source counts as lagging.
const LAGGING: u64 = 10_000;

/// What the view is made of.
pub struct View {
    compiled: Arc<Compiled>,
    mode: Mode,
    started_at: Micros,
    bootstrap: String,
    epoch: u64,
    topics: Vec<TopicSettings>,
    lag: LagView,
    published: Arc<Published>,
    rejected: Vec<Rejected>,
    /// From when a rule speaks, of those that have not always been in force.
    in_force: BTreeMap<RuleIx, Micros>,
    /// By rule: how long until its windows are full.
    windows: Vec<Span>,
    counters: BTreeMap<RuleIx, Counters>,
    opened: BTreeMap<RuleIx, u64>,
    dead: BTreeMap<SourceIx, BTreeMap<String, u64>>,
    /// Records that Kafka deleted unread.
    lost: BTreeMap<SourceIx, u64>,
    /// The last time in which a rule was over budget, by rule and key group; without one, in which its findings were not
    /// evaluated.
    degradations: BTreeMap<(RuleIx, Option<u8>), Degradation>,
    unreachable: Option<(String, Micros)>,
    stopped: BTreeMap<SourceIx, Stopped>,
    last_answer: Option<Micros>,
    checkpoints: [Option<Micros>; KEY_GROUPS as usize],
}

impl View {
    /// An empty view.
    pub fn new(
        compiled: &Arc<Compiled>,
        (rejected, versions): (Vec<Rejection>, &Versions),
        mode: Mode,
        origin: Origin,
        lag: LagView,
        published: Arc<Published>,
    ) -> Self {
        let rejected = rejected.into_iter().map(|r| Rejected {
            file: r.file.to_string(),
            line: r.line as u64,
            column: r.column as u64,
            rule_id: r.rule_id.map(|id| id.to_string()),
            code: r.code.to_owned(),
            message: r.message,
            help: r.help,
        });
        Self {
            compiled: compiled.clone(),
            mode,
            started_at: crate::now(),
            bootstrap: origin.bootstrap,
            epoch: origin.epoch.unwrap_or_default().unsigned_abs(),
            topics: origin.topics,
            lag,
            published,
            rejected: rejected.collect(),
            in_force: versions.since.clone(),
            windows: windows(&compiled.rules),
            counters: BTreeMap::new(),
            opened: BTreeMap::new(),
            dead: BTreeMap::new(),
            lost: BTreeMap::new(),
            degradations: BTreeMap::new(),
            unreachable: None,
            stopped: BTreeMap::new(),
            last_answer: None,
            checkpoints: [None; KEY_GROUPS as usize],
        }
    }

    /// The source of a topic.
    pub fn source_of(&self, topic: &str) -> Option<SourceIx> {
        self.topics.iter().find(|t| &*t.name == topic).map(|t| t.source)
    }

    /// Counts dead letters by reason.
    pub fn dead_letters(&mut self, source: SourceIx, dead: &[DeadLetter]) {
        for letter in dead {
            let reason = letter.reason.name().to_owned();
            *self.dead.entry(source).or_default().entry(reason).or_default() += 1;
        }
    }

    /// Adds what the correlator counted since the last time.
    pub fn take_counters(&mut self, out: &vedette_correlate::Output) {
        for (rule, new) in &out.counters {
            let all = self.counters.entry(*rule).or_default();
            all.matched += new.matched;
            all.without_key += new.without_key;
            all.flagged += new.flagged;
            all.evicted += new.evicted;
            all.unevaluated += new.unevaluated;
        }
        for published in out.alerts.iter().filter(|p| p.alert.revision == 1) {
            *self.opened.entry(published.rule).or_default() += 1;
        }
    }

    /// Counts lost records of a topic, from one offset to before another.
    pub fn lost(&mut self, topic: &str, from: i64, to: i64) {
        if let Some(source) = self.source_of(topic) {
            *self.lost.entry(source).or_default() += (to - from).unsigned_abs();
        }
    }

    /// Notes that a group's checkpoint was written.
    pub fn checkpointed(&mut self, group: u8) {
        self.checkpoints[usize::from(group)] = Some(crate::now());
    }

    /// Notes that a degradation began or ended; gives the key, severity and text of its health event.
    pub fn degraded(
        &mut self,
        health: &vedette_correlate::Health,
        compiled: &Compiled,
    ) -> (String, Severity, String) {
        use vedette_correlate::Health as H;
        let (H::OverBudget { rule, .. }
        | H::WithinBudget { rule, .. }
        | H::Unevaluated { rule, .. }
        | H::EvaluatedAgain { rule, .. }) = health;
        let id = &compiled.rules.get(*rule).id;
        let from = |prefixes: &[(String, u64)]| {
            let from: Vec<_> = prefixes.iter().map(|(prefix, n)| format!("{prefix} ({n})")).collect();
            from.join(", ")
        };
        let (group, key, code, since, message, until) = match health {
            H::OverBudget { group, since, prefixes, .. } => {
                let message = format!(
                    "rule {id} has no room for new keys in key group {group}: their counts are estimates, which \
                     alerts say, and keys of other rules replace the oldest with one event; most come from {}",
                    from(prefixes)
                );
                (Some(*group), format!("over_budget/{id}/{group}"), "keys-over-budget", since, message, None)
            }
            H::WithinBudget { group, since, until, keys, prefixes, .. } => {
                let message = format!(
                    "rule {id} has room again for new keys in key group {group}; it was missing {keys} times \
                     between {since} and {until}, most often for {}",
                    from(prefixes)
                );
                (Some(*group), format!("over_budget/{id}/{group}"), "", since, message, Some(*until))
            }
            H::Unevaluated { since, standing, .. } => {
                let why = match standing {
                    true => "wait for a source that stands still",
                    false => "come within one disorder",
                };
                let message = format!(
                    "rule {id} does not evaluate all its events: more {why} than may wait for their watermark \
                     (engine.reorder_budget); alerts that rest on them are missing or have lower counts"
                );
                (None, format!("unevaluated/{id}"), "findings-over-budget", since, message, None)
            }
            H::EvaluatedAgain { since, until, findings, .. } => {
                let message = format!(
                    "rule {id} evaluates all its events again; between {since} and {until} it did not \
                     evaluate {findings}"
                );
                (None, format!("unevaluated/{id}"), "", since, message, Some(*until))
            }
        };
        let key = format!("{key}/{since}");
        if let Some(until) = until {
            if let Some(known) = self.degradations.get_mut(&(*rule, group)) {
                (known.since, known.until) = (*since, Some(until));
            }
            return (format!("{key}/end"), Severity::Informational, message);
        }
        let degradation = Degradation {
            rule_id: id.to_string(),
            code: code.to_owned(),
            message: message.clone(),
            since: *since,
            until: None,
        };
        self.degradations.insert((*rule, group), degradation);
        (key, Severity::High, message)
    }

    /// Takes a change of the connection or a topic into account; gives a health event if one is due.
    pub fn status(
        &mut self,
        status: &vedette_ingest::Status,
        compiled: &Compiled,
    ) -> Option<(String, Severity, String)> {
        use vedette_ingest::Status as Change;
        let now = crate::now();
        match status {
            Change::Connected => {
                self.unreachable = None;
                tracing::info!(brokers = %self.bootstrap, "the brokers answer");
                None
            }
            Change::Unreachable(e) => {
                tracing::warn!(error = %e, "the brokers do not answer; trying again");
                let since = self.unreachable.as_ref().map_or(now, |(_, since)| *since);
                self.unreachable = Some((e.to_string(), since));
                None
            }
            Change::TopicReady(topic) => {
                let source = self.source_of(compiled.topics.name(*topic))?;
                self.stopped.remove(&source);
                None
            }
            Change::TopicStopped(topic, e) => {
                let name = compiled.topics.name(*topic).clone();
                tracing::error!(topic = %name, error = %e, "a topic is not read");
                let stopped = Stopped { code: code_of(e), error: e.to_string(), since: now };
                self.stopped.insert(self.source_of(&name)?, stopped);
                let key = match e {
                    vedette_ingest::Error::Recreated { .. } => {
                        crate::topic::recreated(&name, compiled.topics.incarnation(*topic))
                    }
                    _ => format!("stopped/{name}/{now}"),
                };
                let lasting = !e.retryable();
                lasting.then(|| (key, Severity::Critical, format!("{name}: {e}")))
            }
            Change::ProducerTime(topic) => {
                tracing::warn!(
                    topic = %compiled.topics.name(*topic),
                    "its records carry their producers' time (CreateTime), which is weaker than the brokers': producers \
                     can be wrong or lie; message.timestamp.type=LogAppendTime on the topic mends it"
                );
                None
            }
            Change::Warning(e) => {
                tracing::warn!(error = %e, "reading goes on");
                None
            }
        }
    }

    /// The view of this moment.
    pub fn snapshot(&mut self, engine: &Engine) -> Live {
        let lag = self.lag.report();
        if lag.connected {
            self.last_answer = Some(crate::now());
        }
        let sources = self.sources(engine, &lag);
        let rules = self.rules(engine);
        let version: BTreeSet<_> = self.compiled.rules.rules.iter().map(|r| r.meaning).collect();
        let mut hash = vedette_event::raw::record_hash(None);
        for meaning in version {
            let joined = [hash, meaning].concat();
            hash = vedette_event::raw::record_hash(Some(&joined));
        }
        Live {
            ready: self.readiness(),
            status: Status {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                semantics_version: vedette_event::SEMANTICS_VERSION,
                mode: self.mode,
                started_at: self.started_at,
                rule_set: RuleSetStatus {
                    version: hash.iter().take(8).map(|b| format!("{b:02x}")).collect(),
                    accepted: self.compiled.rules.rules.len() as u64,
                    rejected: self.rejected.len() as u64,
                },
                lease: LeaseStatus { held: true, epoch: self.epoch },
                broker: BrokerStatus {
                    bootstrap: self.bootstrap.clone(),
                    connected: lag.connected,
                    last_error: self.unreachable.as_ref().map(|(e, _)| e.clone()),
                    last_answer: self.last_answer,
                },
                publish: PublishStatus {
                    seq: self.published.seq.load(Ordering::Relaxed).unsigned_abs(),
                    last_at: moment(self.published.last_at.load(Ordering::Relaxed)),
                    alerts: self.published.alerts(),
                    notices: self.published.notices.load(Ordering::Relaxed),
                    oldest_checkpoint: self
                        .checkpoints
                        .iter()
                        .copied()
                        .collect::<Option<Vec<_>>>()
                        .and_then(|all| all.into_iter().min()),
                },
                degradations: self.degradations.values().cloned().collect(),
            },
            sources,
            rules,
            rejected: self.rejected.clone(),
        }
    }

    fn readiness(&self) -> Readiness {
        let mut obstacles = Vec::new();
        if let Some((error, since)) = &self.unreachable {
            obstacles.push(Obstacle {
                code: "broker-unreachable".to_owned(),
                message: format!(
                    "The brokers at {} do not answer ({error}). They are tried again for ever.",
                    self.bootstrap
                ),
                since: *since,
            });
        } else if self.last_answer.is_none() {
            obstacles.push(Obstacle {
                code: "starting".to_owned(),
                message: format!("The brokers at {} have not answered yet.", self.bootstrap),
                since: self.started_at,
            });
        }
        for (source, Stopped { code, error, since }) in &self.stopped {
            let name = &self.compiled.sources.get(*source).name;
            obstacles.push(Obstacle {
                code: (*code).to_owned(),
                message: format!("Source {name} is not read: {error}"),
                since: *since,
            });
        }
        Readiness { ready: obstacles.is_empty(), obstacles }
    }

    fn sources(&self, engine: &Engine, lag: &vedette_ingest::LagReport) -> Vec<SourceStatus> {
        let mut all = Vec::new();
        for (ix, def) in self.compiled.sources.iter() {
            let topics: Vec<&TopicSettings> = self.topics.iter().filter(|t| t.source == ix).collect();
            let own: Vec<_> = lag
                .partitions
                .iter()
                .filter(|p| topics.iter().any(|t| t.topic == p.partition.topic))
                .collect();
            let counters = engine.counters(ix);
            let flags = CLOCK_FLAGS.iter().zip(counters.flagged).filter(|(_, n)| *n > 0);
            let waiting: u64 = own.iter().filter_map(|p| p.unread()).map(i64::unsigned_abs).sum();
            let watermark = engine.watermark(ix);
            let (health, message) = self.health_of(ix, waiting);
            let names: Vec<&str> = topics.iter().map(|t| &*t.name).collect();
            let producer = topics.iter().any(|t| t.time_source == vedette_ingest::TimeSource::Producer);
            all.push(SourceStatus {
                name: def.name.to_string(),
                description: def.description.clone(),
                topic: names.join(", "),
                health,
                message,
                time_source: if producer { TimeSource::Producer } else { TimeSource::Broker },
                disorder: def.disorder,
                future: def.future,
                watermark: (watermark != Micros::MIN).then_some(watermark),
                newest: own.iter().filter_map(|p| p.last_ts_log).max(),
                lag: waiting,
                records: counters.records,
                events: counters.events,
                dead_letters: self.dead.get(&ix).cloned().unwrap_or_default(),
                flags: flags.flat_map(|(f, n)| f.names().map(move |name| (name.to_owned(), n))).collect(),
                lost: self.lost_of(ix),
                partitions: own
                    .iter()
                    .map(|p| PartitionStatus {
                        number: p.partition.number,
                        position: Some(p.position),
                        end: p.end,
                        lag: p.unread().unwrap_or_default().unsigned_abs(),
                        watermark: engine.partition_watermark(p.partition),
                        paused: p.paused,
                    })
                    .collect(),
            });
        }
        all
    }

    fn lost_of(&self, source: SourceIx) -> u64 {
        self.lost.get(&source).copied().unwrap_or_default()
    }

    fn health_of(&self, source: SourceIx, waiting: u64) -> (Health, Option<String>) {
        if let Some(stopped) = self.stopped.get(&source) {
            return (Health::Stopped, Some(stopped.error.clone()));
        }
        if let Some((error, _)) = &self.unreachable {
            return (Health::Unreachable, Some(error.clone()));
        }
        if waiting > LAGGING {
            return (Health::Lagging, Some(format!("{waiting} records wait to be read")));
        }
        (Health::Ok, None)
    }

    fn rules(&self, engine: &Engine) -> Vec<RuleStatus> {
        let rules = &self.compiled.rules;
        let id_of = |ix: &RuleIx| rules.get(*ix).id.to_string();
        let mut all: Vec<RuleStatus> = rules
            .iter()
            .map(|(ix, rule)| {
                let (refers_to, group_by, timespan, condition) = match &rule.kind {
                    RuleKind::Detection(_) => (Vec::new(), Vec::new(), None, None),
                    RuleKind::Correlation(c) => (
                        c.rules.iter().map(id_of).collect(),
                        c.group_by.iter().map(|k| k.name.to_string()).collect(),
                        Some(c.timespan),
                        Some(in_words(c)),
                    ),
                };
                RuleStatus {
                    id: rule.id.to_string(),
                    title: rule.title.to_string(),
                    description: rule.description.as_ref().map(ToString::to_string),
                    level: rule.level,
                    kind: vedette_correlate::body::kind(rule).to_owned(),
                    version: rule.meaning.iter().take(8).map(|b| format!("{b:02x}")).collect(),
                    tags: rule.tags.iter().map(ToString::to_string).collect(),
                    false_positives: rule.false_positives.iter().map(ToString::to_string).collect(),
                    file: rule.file.to_string(),
                    line: rule.line as u64,
                    emits: rule.emits,
                    refers_to,
                    sources: self.compiled.sources_of(ix),
                    group_by,
                    timespan,
                    condition,
                    coverage: self.coverage(ix, engine),
                }
            })
            .collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    fn coverage(&self, ix: RuleIx, engine: &Engine) -> Coverage {
        let counters = self.counters.get(&ix).copied().unwrap_or_default();
        let id = &self.compiled.rules.get(ix).id;
        let reads = self.compiled.reads(ix);
        let through = reads.iter().map(|s| engine.watermark(*s)).min().filter(|w| *w != Micros::MIN);
        let in_force_from = self.in_force.get(&ix).copied();
        let warming_until = in_force_from
            .map(|from| from.plus(self.windows.get(ix.0 as usize).copied().unwrap_or(Span::ZERO)));
        let silent = reads.iter().filter(|s| self.unreachable.is_some() || self.stopped.contains_key(s));
        Coverage {
            through,
            in_force_from,
            warming_until: warming_until.filter(|until| through.is_none_or(|through| through < *until)),
            counted_since: self.started_at,
            seen: reads.iter().map(|s| engine.counters(*s).events).sum(),
            matched: counters.matched.max(engine.matched(ix)),
            flagged: counters.flagged,
            without_key: counters.without_key,
            dead_lettered: reads.iter().map(|s| engine.counters(*s).dead).sum(),
            lost: reads.iter().map(|s| self.lost_of(*s)).sum(),
            alerts: self.opened.get(&ix).copied().unwrap_or_default(),
            time_us: None,
            silent_sources: silent.map(|s| self.compiled.sources.get(*s).name.to_string()).collect(),
            degradations: self.degradations.values().filter(|d| d.rule_id == **id).cloned().collect(),
        }
    }
}

/// Why a source is not read.
struct Stopped {
    code: &'static str,
    error: String,
    since: Micros,
}

/// The stable name of what keeps a topic from being read.
const fn code_of(error: &vedette_ingest::Error) -> &'static str {
    match error {
        vedette_ingest::Error::UnknownTopic { .. } => "topic-missing",
        _ => "source-stopped",
    }
}

/// Where the process reads from and under which lease.
pub struct Origin {
    /// The brokers, for people.
    pub bootstrap: String,
    /// The lease's epoch.
    pub epoch: Option<i64>,
    /// The topics.
    pub topics: Vec<TopicSettings>,
}

/// By rule, the windows along its chain, one before the other. A correlation stands after the rules it refers to.
fn windows(rules: &RuleSet) -> Vec<Span> {
    let mut windows: Vec<Span> = Vec::with_capacity(rules.rules.len());
    for rule in &rules.rules {
        windows.push(match &rule.kind {
            RuleKind::Detection(_) => Span::ZERO,
            RuleKind::Correlation(c) => {
                let before = c.rules.iter().filter_map(|child| windows.get(child.0 as usize)).max();
                Span(before.map_or(0, |before| before.0).saturating_add(c.timespan.0))
            }
        });
    }
    windows
}

/// A condition for people, such as `at least 20 events`.
fn in_words(c: &vedette_sigma::Correlation) -> String {
    use vedette_sigma::{Cmp, CorrelationKind};
    let what = match &c.kind {
        CorrelationKind::EventCount => "events".to_owned(),
        CorrelationKind::ValueCount(fields) => format!("different values of {}", fields.join(", ")),
        CorrelationKind::Temporal => "of its rules".to_owned(),
        CorrelationKind::TemporalOrdered => return "all its rules, in the order written".to_owned(),
    };
    let parts = c.condition.iter().map(|(cmp, n)| match cmp {
        Cmp::Lt => format!("fewer than {n}"),
        Cmp::Lte => format!("at most {n}"),
        Cmp::Gt => format!("more than {n}"),
        Cmp::Gte => format!("at least {n}"),
        Cmp::Eq => format!("exactly {n}"),
        Cmp::Neq => format!("any number but {n}"),
    });
    format!("{} {what}", parts.collect::<Vec<_>>().join(" and "))
}

#[cfg(test)]
mod tests {
    use vedette_ingest::Error;

    use super::*;

    #[test]
    fn a_missing_topic_has_a_name_of_its_own() {
        let topic: Arc<str> = "api".into();
        assert_eq!(code_of(&Error::UnknownTopic { topic: topic.clone() }), "topic-missing");
        let refused = Error::Topic { topic, reason: "Topic authorization failed".to_owned() };
        assert_eq!(code_of(&refused), "source-stopped");
    }
}
