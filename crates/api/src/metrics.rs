//! Metrics in the OpenMetrics text format, all named by one enum.
//!
//! In: the [`Live`] snapshot at each scrape, observed publish latencies, answered requests, [`Sample`]s of the process
//! and the API's own end. Out: `/metrics`.
//! Invariant: the names are a contract with dashboards; a snapshot test holds them.

use std::{borrow::Cow, fmt, time::SystemTime};

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

mod catalogue;
mod operation;

pub use catalogue::Metric;

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

impl SignInOutcome {
    const fn name(self) -> &'static str {
        match self {
            Self::SignedIn => "signed_in",
            Self::Refused => "refused",
            Self::Held => "held",
        }
    }
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
    pub label: Option<(&'static str, Cow<'static, str>)>,
    pub value: f64,
}

/// Samples; those of one metric follow one another.
#[derive(Debug)]
struct Samples(Vec<Sample>);

/// What has a sample for each connector that is configured.
const CONNECTORS: [Metric; 6] = [
    Metric::ConnectorFailures,
    Metric::ConnectorWaiting,
    Metric::ConnectorGivenUp,
    Metric::ConnectorInForce,
    Metric::ConnectorLeftOut,
    Metric::ConnectorEffect,
];

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
                        put(
                            *value,
                            family.encode_family(
                                &label.as_ref().map_or([("", "")], |(name, value)| [(*name, value.as_ref())]),
                            )?,
                        )?;
                    }
                }
            }
        }
        // Of what is not there the name is told all the same.
        let told = |metric: &Metric| self.0.iter().any(|sample| sample.metric == *metric);
        for metric in CONNECTORS.into_iter().filter(|metric| !told(metric)) {
            describe(&mut encoder, metric, MetricType::Gauge)?;
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
