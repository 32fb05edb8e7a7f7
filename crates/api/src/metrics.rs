//! Metrics in the OpenMetrics text format, all named by one enum.
//!
//! In: the [`Live`] snapshot at each scrape, observed publish latencies, answered requests, [`Sample`]s of the process
//! and the API's own end. Out: `/metrics`.
//! Invariant: the names are a contract with dashboards; a snapshot test holds them.

use std::{fmt, time::SystemTime};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, text},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::ConstGauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use vedette_event::Micros;

use crate::live::{Live, LiveView, PartitionStatus, SourceStatus};

mod operation;

/// Every metric. Counters bear the suffix `_total` in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Whether the service is ready.
    Ready,
    /// Records read.
    Records,
    /// Events evaluated.
    Events,
    /// Dead letters.
    DeadLetters,
    /// Events whose time was replaced.
    FlaggedEvents,
    /// Records deleted by the broker before they were read.
    LostRecords,
    /// Records not read yet.
    Lag,
    /// How far the watermark is behind the wall clock.
    WatermarkDelay,
    /// Rules accepted and refused.
    Rules,
    /// The number of the version of the rules in force.
    RulesVersion,
    /// How often the rules were read again.
    Reloads,
    /// Events that matched a rule.
    RuleMatches,
    /// Alerts opened by a rule.
    RuleAlerts,
    /// Alerts opened.
    Alerts,
    /// Notices raised.
    Notices,
    /// Dead letters that their topic did not take.
    MissedDeadLetters,
    /// From release to commit.
    PublishLatency,
    /// Age of the oldest checkpoint.
    CheckpointAge,
    /// Whether each topic is read.
    TopicState,
    /// Partitions of each topic, by whether they are read.
    TopicPartitions,
    /// Findings that wait.
    PendingFindings,
    /// How many may.
    PendingFindingsLimit,
    /// Keys with state.
    StateKeys,
    /// Keys of the fullest key group.
    FullestState,
    /// How many a key group may hold.
    FullestStateLimit,
    /// Age of what only the kernel knows.
    ViewAge,
    /// What each stage is doing.
    StageState,
    /// For how long a stage has had work and not moved.
    StageStill,
    /// For how long a stage has had work and shown no sign of life.
    StageSilent,
    /// Bytes of the store's files.
    StoreBytes,
    /// Requests answered.
    HttpRequests,
    /// Connections open.
    HttpConnections,
    /// Connections closed to make room.
    HttpConnectionsShed,
    /// Event streams open.
    HttpStreams,
    /// Attempts to sign in.
    SignIns,
    /// Processor time.
    CpuSeconds,
    /// Memory in use.
    ResidentMemory,
    /// Address space.
    VirtualMemory,
    /// Open descriptors.
    OpenFds,
    /// Descriptors that may be open.
    MaxFds,
    /// When the process started.
    StartTime,
}

impl SignInOutcome {
    const fn name(self) -> &'static str {
        match self {
            Self::SignedIn => "signed_in",
            Self::Refused => "refused",
            Self::Held => "held",
        }
    }
}

impl Metric {
    /// All metrics in the order in which they are declared, since each finds its own by its place: stable name, labels, what it means.
    const CATALOGUE: [(Self, &'static str, &'static str, &'static str); 41] = [
        (Self::Ready, "vedette_ready", "", "1 if the service does its work, else 0"),
        (Self::Records, "vedette_records", "source", "Records read"),
        (Self::Events, "vedette_events", "source", "Events evaluated"),
        (
            Self::DeadLetters,
            "vedette_dead_letters",
            "source,reason",
            "Records and events that ended unevaluated",
        ),
        (Self::FlaggedEvents, "vedette_flagged_events", "source,flag", "Events whose time was replaced"),
        (
            Self::LostRecords,
            "vedette_lost_records",
            "source",
            "Records that were lost: deleted unread, or their topic was made anew too early",
        ),
        (Self::Lag, "vedette_lag_records", "source,partition", "Records not read yet"),
        (
            Self::WatermarkDelay,
            "vedette_watermark_delay_seconds",
            "source",
            "How far the source's watermark is behind the wall clock",
        ),
        (Self::Rules, "vedette_rules", "state", "Rule documents by state"),
        (Self::RulesVersion, "vedette_rules_version", "", "The number of the version of the rules in force"),
        (
            Self::Reloads,
            "vedette_reloads",
            "result",
            "How often the rules were read again, with something new or refused as a whole",
        ),
        (Self::RuleMatches, "vedette_rule_matches", "rule", "Events that matched the rule"),
        (Self::RuleAlerts, "vedette_rule_alerts", "rule", "Alerts that the rule opened"),
        (Self::Alerts, "vedette_alerts", "severity", "Alerts opened"),
        (Self::Notices, "vedette_notices", "", "Notices raised"),
        (
            Self::MissedDeadLetters,
            "vedette_missed_dead_letters",
            "",
            "Dead letters that the topic they are copied to did not take; the store has them",
        ),
        (
            Self::PublishLatency,
            "vedette_publish_latency_seconds",
            "",
            "From the moment there was something to publish to its commit",
        ),
        (
            Self::CheckpointAge,
            "vedette_checkpoint_age_seconds",
            "",
            "Age of the key group's checkpoint that is the oldest",
        ),
        (
            Self::TopicState,
            "vedette_topic_state",
            "topic,state",
            "1 for what becomes of the topic: starting, read, waiting, missing or stopped",
        ),
        (
            Self::TopicPartitions,
            "vedette_topic_partitions",
            "topic,state",
            "Partitions of the topic: read, paused since others are far behind, or unassigned and so not read",
        ),
        (
            Self::PendingFindings,
            "vedette_pending_findings",
            "waits_for",
            "Findings that wait: for their watermark, or for a source that stands still",
        ),
        (
            Self::PendingFindingsLimit,
            "vedette_pending_findings_limit",
            "waits_for",
            "So many may wait: beyond, partitions ahead are paused, or events are not evaluated",
        ),
        (Self::StateKeys, "vedette_state_keys", "", "Keys with state, over all rules"),
        (
            Self::FullestState,
            "vedette_fullest_state_keys",
            "rule",
            "Keys in the fullest key group of all, which is one of this rule",
        ),
        (
            Self::FullestStateLimit,
            "vedette_fullest_state_keys_limit",
            "",
            "So many keys a rule may hold in one key group before counts are estimates",
        ),
        (
            Self::ViewAge,
            "vedette_view_age_seconds",
            "",
            "How long ago the kernel last said what only it knows: watermarks, counters, coverage",
        ),
        (Self::StageState, "vedette_stage_state", "stage,state", "1 for what the stage is doing"),
        (
            Self::StageStill,
            "vedette_stage_still_seconds",
            "stage",
            "For how long the stage has had work and not moved; 0 if it has none",
        ),
        (
            Self::StageSilent,
            "vedette_stage_silent_seconds",
            "stage",
            "For how long the stage has had work and shown no sign of life; 0 if it has none",
        ),
        (Self::StoreBytes, "vedette_store_bytes", "file", "Size on disk of the database and of its journal"),
        (Self::HttpRequests, "vedette_http_requests", "method,route,status", "Requests answered"),
        (
            Self::HttpConnections,
            "vedette_http_connections",
            "place",
            "Connections open, by place: ordinary ones, and those of the reserve for probes",
        ),
        (
            Self::HttpConnectionsShed,
            "vedette_http_connections_shed",
            "",
            "Connections closed because a new one needed the place and they had waited longest for their peer",
        ),
        (Self::HttpStreams, "vedette_http_streams", "", "Event streams open"),
        (
            Self::SignIns,
            "vedette_sign_ins",
            "outcome",
            "Attempts to sign in: signed_in, refused, or held since there were too many",
        ),
        // The names that all of Prometheus's exporters give.
        (
            Self::CpuSeconds,
            "process_cpu_seconds",
            "",
            "Processor time, of the program and of the system for it",
        ),
        (Self::ResidentMemory, "process_resident_memory_bytes", "", "Memory in use"),
        (Self::VirtualMemory, "process_virtual_memory_bytes", "", "Address space"),
        (Self::OpenFds, "process_open_fds", "", "Open descriptors"),
        (Self::MaxFds, "process_max_fds", "", "Descriptors that may be open"),
        (Self::StartTime, "process_start_time_seconds", "", "When the process started, in Unix time"),
    ];

    /// All metrics, in the order in which they are declared.
    #[cfg(test)]
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Self::CATALOGUE.into_iter().map(|(metric, ..)| metric)
    }

    /// The stable name, its labels and what it means.
    #[must_use]
    pub const fn parts(self) -> (&'static str, &'static str, &'static str) {
        let (_, name, labels, meaning) = Self::CATALOGUE[self as usize];
        (name, labels, meaning)
    }
}

type HttpLabels = [(&'static str, String); 3];
type SignInLabels = [(&'static str, &'static str); 1];

/// The instruments that are not in the snapshot, and the registry of them all.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    publish_latency: Histogram,
    http_requests: Family<HttpLabels, Counter>,
    sign_ins: Family<SignInLabels, Counter>,
}

/// What became of an attempt to sign in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignInOutcome {
    SignedIn,
    Refused,
    /// Too many attempts.
    Held,
}

impl Metrics {
    /// Metrics over the snapshots of this channel.
    #[must_use]
    pub fn new(live: LiveView) -> Self {
        let publish_latency = Histogram::new(exponential_buckets(0.001, 2.0, 14));
        let http_requests = Family::default();
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Snapshot(live)));
        let (name, _, help) = Metric::PublishLatency.parts();
        registry.register(name, help, publish_latency.clone());
        let (name, _, help) = Metric::HttpRequests.parts();
        registry.register(name, help, http_requests.clone());
        let sign_ins = Family::<SignInLabels, Counter>::default();
        let (name, _, help) = Metric::SignIns.parts();
        registry.register(name, help, sign_ins.clone());
        // From the start, so that the first refusal is a rise.
        for outcome in [SignInOutcome::SignedIn, SignInOutcome::Refused, SignInOutcome::Held] {
            let _ = sign_ins.get_or_create(&[("outcome", outcome.name())]);
        }
        Self { registry, publish_latency, http_requests, sign_ins }
    }

    /// Notes how long a publish transaction took from the moment there was something to publish.
    pub fn observe_publish(&self, seconds: f64) {
        self.publish_latency.observe(seconds);
    }

    /// Notes an answered request; `route` is the path's template, never the path. Methods that no route has are one.
    pub fn count_request(&self, method: &str, route: &str, status: u16) {
        let known = ["GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"].contains(&method);
        let method = if known { method } else { "other" };
        let labels =
            [("method", method.to_owned()), ("route", route.to_owned()), ("status", status.to_string())];
        self.http_requests.get_or_create(&labels).inc();
    }

    /// Notes an attempt to sign in.
    pub(crate) fn count_sign_in(&self, outcome: SignInOutcome) {
        self.sign_ins.get_or_create(&[("outcome", outcome.name())]).inc();
    }

    /// All metrics as text, and these.
    #[must_use]
    pub(crate) fn render(&self, samples: Vec<Sample>) -> String {
        let mut out = String::new();
        let mut now = Registry::default();
        now.register_collector(Box::new(Samples(samples)));
        let encoded = text::encode_registry(&mut out, &self.registry)
            .and_then(|()| text::encode_registry(&mut out, &now))
            .and_then(|()| text::encode_eof(&mut out));
        if encoded.is_err() {
            tracing::error!("metrics could not be written");
        }
        out
    }
}

/// A value of the moment of a scrape.
#[derive(Debug)]
pub(crate) struct Sample {
    pub metric: Metric,
    /// Its one label, if the metric has one.
    pub label: Option<(&'static str, &'static str)>,
    pub value: f64,
}

/// Samples; those of one metric follow one another.
#[derive(Debug)]
struct Samples(Vec<Sample>);

impl Collector for Samples {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for all in self.0.chunk_by(|a, b| a.metric == b.metric) {
            let Some(Sample { metric, .. }) = all.first() else { continue };
            let counts = matches!(metric, Metric::CpuSeconds | Metric::HttpConnectionsShed);
            let kind = if counts { MetricType::Counter } else { MetricType::Gauge };
            let put = |value: f64, encoder: MetricEncoder<'_>| match kind {
                MetricType::Counter => ConstCounter::new(value).encode(encoder),
                _ => ConstGauge::new(value).encode(encoder),
            };
            let mut family = describe(&mut encoder, *metric, kind)?;
            match all {
                [Sample { label: None, value, .. }] => put(*value, family)?,
                all => {
                    for Sample { label, value, .. } in all {
                        put(*value, family.encode_family(&label.map_or([("", "")], |label| [label]))?)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Turns the newest snapshot into metrics at each scrape.
struct Snapshot(LiveView);

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Snapshot")
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let live: Live = self.0.now();
        let mut scrape = Scrape { encoder: &mut encoder, now: now() };
        scrape.gauge(Metric::Ready, f64::from(u8::from(live.ready.ready)))?;
        scrape.sources(&live.sources)?;
        scrape.rules(&live)?;
        scrape.publishing(&live)?;
        scrape.topics(&live)?;
        scrape.load(&live)?;
        scrape.stages(&live)
    }
}

struct Scrape<'a, 'b> {
    encoder: &'a mut DescriptorEncoder<'b>,
    now: Micros,
}

impl Scrape<'_, '_> {
    fn describe(&mut self, metric: Metric, kind: MetricType) -> Result<MetricEncoder<'_>, fmt::Error> {
        describe(self.encoder, metric, kind)
    }

    fn gauge(&mut self, metric: Metric, value: f64) -> fmt::Result {
        let encoder = self.describe(metric, MetricType::Gauge)?;
        ConstGauge::new(value).encode(encoder)
    }

    fn sources(&mut self, sources: &[SourceStatus]) -> fmt::Result {
        for metric in [Metric::Records, Metric::Events, Metric::LostRecords] {
            let mut family = self.describe(metric, MetricType::Counter)?;
            for source in sources {
                let count = match metric {
                    Metric::Records => source.records,
                    Metric::Events => source.events,
                    _ => source.lost,
                };
                counter(&mut family, &[("source", &source.name)], count)?;
            }
        }
        let mut family = self.describe(Metric::DeadLetters, MetricType::Counter)?;
        for source in sources {
            for (reason, n) in &source.dead_letters {
                counter(&mut family, &[("source", &source.name), ("reason", reason)], *n)?;
            }
        }
        let mut family = self.describe(Metric::FlaggedEvents, MetricType::Counter)?;
        for source in sources {
            for (flag, n) in &source.flags {
                counter(&mut family, &[("source", &source.name), ("flag", flag)], *n)?;
            }
        }
        let mut family = self.describe(Metric::Lag, MetricType::Gauge)?;
        for source in sources {
            for PartitionStatus { number, lag, .. } in &source.partitions {
                let labels = [("source", source.name.as_str()), ("partition", &number.to_string())];
                ConstGauge::new(*lag as f64).encode(family.encode_family(&labels)?)?;
            }
        }
        let now = self.now;
        let mut family = self.describe(Metric::WatermarkDelay, MetricType::Gauge)?;
        for source in sources {
            if let Some(watermark) = source.watermark {
                let labels = [("source", source.name.as_str())];
                ConstGauge::new(seconds(now, watermark)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn rules(&mut self, live: &Live) -> fmt::Result {
        let mut family = self.describe(Metric::Rules, MetricType::Gauge)?;
        for (state, n) in [("accepted", live.rules.len()), ("rejected", live.rejected.len())] {
            ConstGauge::new(n as f64).encode(family.encode_family(&[("state", state)])?)?;
        }
        let set = &live.status.rule_set;
        self.gauge(Metric::RulesVersion, set.number as f64)?;
        let mut family = self.describe(Metric::Reloads, MetricType::Counter)?;
        for (result, n) in [("taken", set.reloads), ("refused", set.reloads_refused)] {
            counter(&mut family, &[("result", result)], n)?;
        }
        let mut family = self.describe(Metric::RuleMatches, MetricType::Counter)?;
        for rule in live.rules.iter() {
            counter(&mut family, &[("rule", &rule.id)], rule.coverage.matched)?;
        }
        let mut family = self.describe(Metric::RuleAlerts, MetricType::Counter)?;
        for rule in live.rules.iter().filter(|rule| rule.emits) {
            counter(&mut family, &[("rule", &rule.id)], rule.coverage.alerts)?;
        }
        Ok(())
    }

    fn publishing(&mut self, live: &Live) -> fmt::Result {
        let publish = &live.status.publish;
        let mut family = self.describe(Metric::Alerts, MetricType::Counter)?;
        for (severity, n) in &publish.alerts {
            counter(&mut family, &[("severity", severity.name())], *n)?;
        }
        let encoder = self.describe(Metric::Notices, MetricType::Counter)?;
        ConstCounter::new(publish.notices).encode(encoder)?;
        if let Some(topic) = &live.status.dead_letter_topic {
            let encoder = self.describe(Metric::MissedDeadLetters, MetricType::Counter)?;
            ConstCounter::new(topic.missed).encode(encoder)?;
        }
        if let Some(oldest) = publish.oldest_checkpoint {
            self.gauge(Metric::CheckpointAge, seconds(self.now, oldest))?;
        }
        Ok(())
    }
}

fn describe<'a>(
    encoder: &'a mut DescriptorEncoder<'_>,
    metric: Metric,
    kind: MetricType,
) -> Result<MetricEncoder<'a>, fmt::Error> {
    let (name, _, help) = metric.parts();
    encoder.encode_descriptor(name, help, None, kind)
}

fn counter<const N: usize>(
    family: &mut MetricEncoder<'_>,
    labels: &[(&str, &str); N],
    value: u64,
) -> fmt::Result {
    ConstCounter::new(value).encode(family.encode_family(labels)?)
}

fn seconds(now: Micros, then: Micros) -> f64 {
    now.since(then).0 as f64 / 1e6
}

/// The wall clock.
#[must_use]
pub(crate) fn now() -> Micros {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
