//! What only the kernel knows of the live view, gathered on its thread about once a second.
//!
//! In: the kernel's counters and ingest's status. Out: a [`Word`], which [`super::present`] puts beside what the other
//! stages show at the moment of a request.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use vedette_api::live::{
    Coverage, DeadLetterTopicStatus, Degradation, Health, LoadStatus, RuleLoad, RuleStatus,
};
use vedette_correlate::Counters;
use vedette_engine::{Compiled, Engine, KEY_GROUPS, PartitionCounters, SourceCounters};
use vedette_event::{DeadLetter, Micros, Partition, RuleIx, Severity, SourceIx, Span};
use vedette_ingest::{Copies, LagView, TopicSettings};
use vedette_sigma::{RuleKind, RuleSet};

use super::{
    costs::Costs,
    lost::{Lost, TopicPartition},
    reading::{self, InputState, InputTopic, InputTopics},
    rules::{Rules, by_id},
};

/// Records that may wait before a source counts as lagging.
const LAGGING: u64 = 10_000;

/// What the view is made of.
pub struct View {
    compiled: Arc<Compiled>,
    started_at: Micros,
    bootstrap: String,
    topics: Vec<TopicSettings>,
    lag: LagView,
    /// What of the rules never changes, by id, and which rule that is.
    rules: Arc<Vec<(RuleIx, RuleStatus)>>,
    /// The windows along each rule's chain, one before the other.
    windows: Vec<Span>,
    counters: BTreeMap<RuleIx, Counters>,
    opened: BTreeMap<RuleIx, u64>,
    /// How long the kernel was at what detection had found.
    correlating: Duration,
    dead: BTreeMap<SourceIx, BTreeMap<String, u64>>,
    /// Records that were lost.
    lost: Lost,
    /// The last time in which a rule was over budget, by rule and key group; without one, in which its findings were not
    /// evaluated.
    degradations: BTreeMap<(RuleIx, Option<u8>), Degradation>,
    unreachable: Option<(String, Micros)>,
    topic_states: InputTopics,
    last_answer: Option<Micros>,
    checkpoints: [Option<Micros>; KEY_GROUPS as usize],
    copies: Option<DeadLetterTopicStatus>,
}

/// What the kernel says about once a second, and nobody else knows.
#[derive(Default)]
pub struct Word {
    /// When it said so.
    pub at: Micros,
    /// Why and since when the brokers do not answer.
    pub unreachable: Option<(String, Micros)>,
    /// When the last answer of the brokers came.
    pub last_answer: Option<Micros>,
    /// The topics, and which of them are read.
    pub topics: InputTopics,
    /// The sources.
    pub sources: BTreeMap<SourceIx, SourceWord>,
    /// The partitions: the watermark, once there is one, and what was counted.
    pub partitions: BTreeMap<Partition, (Option<Micros>, PartitionCounters)>,
    pub rules: Rules,
    /// How much the engine holds.
    pub load: LoadStatus,
    /// Announced degradations.
    pub degradations: Vec<Degradation>,
    /// When the key group whose checkpoint is oldest was written.
    pub oldest_checkpoint: Option<Micros>,
    /// The topic that dead letters are copied to.
    pub copies: Option<DeadLetterTopicStatus>,
}

/// What the kernel says of one source.
pub struct SourceWord {
    /// Missing until every partition has one.
    pub watermark: Option<Micros>,
    /// Records and events.
    pub counters: SourceCounters,
    /// Dead letters by reason.
    pub dead: BTreeMap<String, u64>,
    /// Records that Kafka deleted unread.
    pub lost: u64,
}

impl View {
    /// An empty view.
    pub fn new(
        compiled: &Arc<Compiled>,
        started_at: Micros,
        (bootstrap, topics): (String, Vec<TopicSettings>),
        lag: LagView,
    ) -> Self {
        Self {
            started_at,
            bootstrap,
            lag,
            rules: Arc::new(by_id(compiled)),
            windows: windows(&compiled.rules),
            compiled: compiled.clone(),
            counters: BTreeMap::new(),
            opened: BTreeMap::new(),
            correlating: Duration::ZERO,
            dead: BTreeMap::new(),
            lost: Lost::default(),
            degradations: BTreeMap::new(),
            unreachable: None,
            topic_states: reading::starting(&topics, started_at),
            topics,
            last_answer: None,
            checkpoints: [None; KEY_GROUPS as usize],
            copies: None,
        }
    }

    /// Goes on by other versions of the rules, in which a rule may have another number.
    pub fn adopt(&mut self, compiled: &Arc<Compiled>, number: impl Fn(RuleIx) -> Option<RuleIx>) {
        self.rules = Arc::new(by_id(compiled));
        self.windows = windows(&compiled.rules);
        self.compiled = compiled.clone();
        let counters = std::mem::take(&mut self.counters).into_iter();
        self.counters = counters.filter_map(|(rule, n)| Some((number(rule)?, n))).collect();
        let opened = std::mem::take(&mut self.opened).into_iter();
        self.opened = opened.filter_map(|(rule, n)| Some((number(rule)?, n))).collect();
        let degradations = std::mem::take(&mut self.degradations).into_iter();
        self.degradations =
            degradations.filter_map(|((rule, group), of)| Some(((number(rule)?, group), of))).collect();
    }

    /// Counts time in which the kernel was at what detection had found.
    pub fn correlated(&mut self, took: Duration) {
        self.correlating += took;
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

    /// Takes note of how the topic does that dead letters are copied to.
    pub fn copies(&mut self, topic: &str, copies: Copies) {
        let Copies { missed, trouble } = copies;
        let (last_error, since) = trouble.unzip();
        let before = self.copies.as_ref().and_then(|before| before.last_error.as_ref());
        match &last_error {
            Some(error) if before != Some(error) => {
                tracing::warn!(topic, error, missed, "dead letters are not copied; the store has them");
            }
            None if before.is_some() => tracing::info!(topic, missed, "dead letters are copied again"),
            _ => {}
        }
        self.copies = Some(DeadLetterTopicStatus { topic: topic.to_owned(), missed, last_error, since });
    }

    /// Adds what the correlator counted since the last time.
    pub fn take_counters(&mut self, out: &vedette_correlate::Correlated) {
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

    /// Counts lost records of a partition, from one offset to before another; those that were told before, not again. False if
    /// all of them were.
    pub fn lost(&mut self, place: TopicPartition, interval: (i64, i64)) -> bool {
        self.source_of(&place.0).is_some_and(|source| self.lost.add(source, place, interval))
    }

    /// Notes that a group's checkpoint was written.
    pub fn checkpointed(&mut self, group: u8) {
        self.checkpoints[usize::from(group)] = Some(crate::now());
    }

    /// Notes that a degradation began or ended; gives the key, severity and text of its health event.
    pub fn degraded(
        &mut self,
        health: &vedette_correlate::HealthSignal,
        compiled: &Compiled,
    ) -> (String, Severity, String) {
        use vedette_correlate::HealthSignal as H;
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
                     (engine.memory); alerts that rest on them are missing or have lower counts"
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
        status: &vedette_ingest::StatusChange,
        compiled: &Compiled,
    ) -> Option<(String, Severity, String)> {
        use vedette_ingest::StatusChange as Change;
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
                self.topic_states.get_mut(topic)?.set(InputState::Read, now);
                None
            }
            Change::TopicStopped(topic, e) => {
                let name = compiled.topics.name(*topic).clone();
                tracing::error!(topic = %name, error = %e, "a topic is not read");
                self.topic_states.get_mut(topic)?.set(InputState::of(e), now);
                let key = match e {
                    vedette_ingest::Error::Recreated { .. } => {
                        vedette_store::recreated(&name, compiled.topics.incarnation(*topic))
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

    /// The word of this moment.
    pub fn word(&mut self, engine: &Engine, costs: &Costs) -> Word {
        let lag = self.lag.report();
        if lag.connected {
            self.last_answer = Some(crate::now());
        }
        let source = |ix: SourceIx| {
            let watermark = engine.watermark(ix);
            SourceWord {
                watermark: (watermark != Micros::MIN).then_some(watermark),
                counters: engine.counters(ix),
                dead: self.dead.get(&ix).cloned().unwrap_or_default(),
                lost: self.lost.of(ix),
            }
        };
        let partitions = lag.partitions.into_iter().map(|p| {
            (p.partition, (engine.partition_watermark(p.partition), engine.partition_counters(p.partition)))
        });
        let walked: u64 = self.counters.values().map(|counters| counters.matched).sum();
        let a_finding = self.correlating.div_f64(walked.max(1) as f64);
        let coverage = |(ix, _): &(RuleIx, _)| Coverage {
            time_us: self.time_of(*ix, engine, costs, a_finding).map(|time| time.as_micros() as u64),
            ..self.coverage(*ix, engine)
        };
        Word {
            at: crate::now(),
            unreachable: self.unreachable.clone(),
            last_answer: self.last_answer,
            topics: self.topic_states.clone(),
            sources: self.compiled.sources.iter().map(|(ix, _)| (ix, source(ix))).collect(),
            partitions: partitions.collect(),
            rules: Rules::new(&self.rules, self.rules.iter().map(coverage).collect()),
            load: self.load(engine),
            degradations: self.degradations.values().cloned().collect(),
            oldest_checkpoint: self
                .checkpoints
                .iter()
                .copied()
                .collect::<Option<Vec<_>>>()
                .and_then(|all| all.into_iter().min()),
            copies: self.copies.clone(),
        }
    }

    fn load(&self, engine: &Engine) -> LoadStatus {
        let load = engine.load();
        let of_rule = |(rule, count): (RuleIx, usize)| RuleLoad {
            rule_id: self.compiled.rules.get(rule).id.to_string(),
            count: count as u64,
        };
        LoadStatus {
            waiting: load.waiting as u64,
            waiting_budget: load.waiting_budget as u64,
            standing: load.standing as u64,
            standing_budget: load.standing_budget as u64,
            most_waiting: load.most_waiting.map(of_rule),
            keys: load.keys as u64,
            keys_budget: load.keys_budget as u64,
            fullest: load.fullest.map(of_rule),
        }
    }

    /// What a rule has cost: a detection's conditions what they take alone ([`super::costs`]), a finding of any rule as much as each other.
    fn time_of(&self, ix: RuleIx, engine: &Engine, costs: &Costs, a_finding: Duration) -> Option<Duration> {
        let rule = self.compiled.rules.get(ix);
        let detecting = match &rule.kind {
            RuleKind::Detection(_) => {
                let events = |source: &SourceIx| {
                    (&*self.compiled.sources.get(*source).name, engine.counters(*source).events)
                };
                costs.of(&rule.id, self.compiled.reads(ix).iter().map(events))?
            }
            RuleKind::Correlation(_) => Duration::ZERO,
        };
        let findings = self.counters.get(&ix).map_or(0, |counters| counters.matched);
        Some(detecting + a_finding.mul_f64(findings as f64))
    }

    fn coverage(&self, ix: RuleIx, engine: &Engine) -> Coverage {
        let counters = self.counters.get(&ix).copied().unwrap_or_default();
        let id = &self.compiled.rules.get(ix).id;
        let reads = self.compiled.reads(ix);
        // A release may have stopped short of its sources' watermarks; a rule without alerts of its own has no other.
        let passed = Some(engine.passed(ix)).filter(|passed| *passed != Micros::MAX);
        let reached = reads.iter().map(|s| engine.watermark(*s)).min();
        let through = passed.or(reached).filter(|through| *through != Micros::MIN);
        let in_force_from = Some(self.compiled.since(ix)).filter(|since| *since != Micros::MIN);
        let warming_until = in_force_from.map(|from| from.plus(self.windows[ix.0 as usize]));
        let silent =
            reads.iter().filter(|s| self.unreachable.is_some() || reading::lacks(&self.topic_states, **s));
        Coverage {
            through,
            in_force_from,
            warming_until: warming_until.filter(|until| through.is_none_or(|through| through < *until)),
            counted_since: self.started_at,
            seen: reads.iter().map(|s| engine.counters(*s).events).sum(),
            matched: counters.matched.max(engine.matched(ix)),
            flagged: counters.flagged,
            without_key: counters.without_key,
            unevaluated: counters.unevaluated,
            dead_lettered: reads.iter().map(|s| engine.counters(*s).dead).sum(),
            lost: reads.iter().map(|s| self.lost.of(*s)).sum(),
            alerts: self.opened.get(&ix).copied().unwrap_or_default(),
            time_us: None,
            silent_sources: silent.map(|s| self.compiled.sources.get(*s).name.to_string()).collect(),
            degradations: self.degradations.values().filter(|d| d.rule_id == **id).cloned().collect(),
        }
    }
}

impl Word {
    /// The rules, by id.
    pub fn rules(&self) -> Arc<Vec<RuleStatus>> {
        self.rules.told()
    }

    /// Whether a source is read as its records come, and if not, why; `waiting` records have not been evaluated.
    pub fn health_of(&self, source: SourceIx, waiting: u64) -> (Health, Option<String>) {
        let own: Vec<&InputTopic> = reading::of_source(&self.topics, source).collect();
        let not_read: Vec<String> = own.iter().filter_map(|topic| topic.message()).collect();
        let none = !own.is_empty() && not_read.len() == own.len();
        let any = |of: fn(&InputState) -> bool| own.iter().any(|topic| of(&topic.state));
        let told = Some(not_read.join("; ")).filter(|told| !told.is_empty());
        if none && any(|state| matches!(state, InputState::Missing(_) | InputState::Stopped(_))) {
            return (Health::Stopped, told);
        }
        if let Some((error, _)) = &self.unreachable {
            return (Health::Unreachable, Some(error.clone()));
        }
        match (none, told) {
            (true, told) if any(|state| matches!(state, InputState::Waiting(_))) => {
                (Health::Unreachable, told)
            }
            (true, told) => (Health::Starting, told),
            (false, Some(told)) => (Health::Partial, Some(told)),
            (false, None) if waiting > LAGGING => {
                (Health::Lagging, Some(format!("{waiting} records wait to be read")))
            }
            (false, None) => (Health::Ok, None),
        }
    }
}

/// The windows along each rule's chain, one before the other: in one pass, since a correlation comes after the rules it
/// refers to.
fn windows(rules: &RuleSet) -> Vec<Span> {
    let mut windows: Vec<Span> = Vec::with_capacity(rules.rules.len());
    for (_, rule) in rules.iter() {
        windows.push(match &rule.kind {
            RuleKind::Detection(_) => Span::ZERO,
            RuleKind::Correlation(c) => {
                let before = c.rules.iter().map(|rule| windows[rule.0 as usize]).max().unwrap_or(Span::ZERO);
                Span(before.0.saturating_add(c.timespan.0))
            }
        });
    }
    windows
}

#[cfg(test)]
mod tests {
    use vedette_event::TopicIx;
    use vedette_ingest::Error;

    use super::*;

    const SOURCE: SourceIx = SourceIx(0);

    fn word(states: &[InputState]) -> Word {
        let topic = |(at, state): (usize, &InputState)| {
            let name = format!("t{at}");
            (TopicIx(at as u16), InputTopic { name, source: SOURCE, state: state.clone(), since: Micros(0) })
        };
        Word { topics: states.iter().enumerate().map(topic).collect(), ..Word::default() }
    }

    #[test]
    fn a_source_is_no_better_than_its_topics_together() {
        let missing = InputState::of(&Error::UnknownTopic { topic: "t0".into() });
        let waiting = InputState::of(&Error::NotYet { topic: "t1".into(), reason: "no leader".to_owned() });
        let stopped = InputState::of(&Error::CreateTime { topic: "t0".into() });
        for (states, health, named) in [
            (vec![InputState::Read, InputState::Read], Health::Ok, ""),
            (vec![InputState::Starting, InputState::Starting], Health::Starting, "topic t1"),
            (vec![missing.clone(), InputState::Read], Health::Partial, "topic t0 does not exist"),
            (
                vec![InputState::Read, waiting.clone()],
                Health::Partial,
                "topic t1 cannot be read yet: no leader",
            ),
            (vec![InputState::Read, InputState::Starting], Health::Partial, "topic t1: its partitions"),
            (vec![missing, waiting.clone()], Health::Stopped, "topic t1"),
            (vec![stopped], Health::Stopped, "time_source: auto"),
            (vec![waiting.clone(), waiting], Health::Unreachable, "no leader"),
        ] {
            let (found, message) = word(&states).health_of(SOURCE, 0);
            let message = message.unwrap_or_default();
            assert!(found == health && message.contains(named), "{states:?} {found:?} {message}");
            assert_eq!(message.is_empty(), named.is_empty());
        }
        let mut away = word(&[InputState::Read]);
        away.unreachable = Some(("no route".to_owned(), Micros(0)));
        assert_eq!(away.health_of(SOURCE, 0).0, Health::Unreachable);
        assert_eq!(word(&[InputState::Read]).health_of(SOURCE, LAGGING + 1).0, Health::Lagging);
    }
}
