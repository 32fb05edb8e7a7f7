//! What an operator's alarms are about: stages that stand still, budgets, topics that are not read, how old the view is.
//!
//! In: a [`Live`]. Out: its families. Invariant: a gauge that has a limit has that limit beside it, as a metric of the same
//! name with `_limit`, so that an alarm compares the two and knows no number.

use std::fmt;

use prometheus_client::{
    encoding::EncodeMetric as _,
    metrics::{MetricType, gauge::ConstGauge},
};

use super::{Metric, Scrape, seconds};
use crate::live::Live;

impl Scrape<'_, '_> {
    /// Heartbeats of the stages, and how old the kernel's last word is.
    pub(super) fn stages(&mut self, live: &Live) -> fmt::Result {
        let now = self.now;
        self.gauge(Metric::ViewAge, seconds(now, live.as_of).max(0.0))?;
        let mut family = self.describe(Metric::StageState, MetricType::Gauge)?;
        for stage in &live.stages {
            let labels = [("stage", stage.name.as_str()), ("state", stage.state.name())];
            ConstGauge::new(1.0).encode(family.encode_family(&labels)?)?;
        }
        for metric in [Metric::StageStill, Metric::StageSilent] {
            let mut family = self.describe(metric, MetricType::Gauge)?;
            for stage in &live.stages {
                let since = if metric == Metric::StageStill { stage.moved_at } else { stage.alive_at };
                let age = if stage.has_work { seconds(now, since).max(0.0) } else { 0.0 };
                ConstGauge::new(age).encode(family.encode_family(&[("stage", stage.name.as_str())])?)?;
            }
        }
        Ok(())
    }

    /// What the engine holds, against what it may.
    pub(super) fn load(&mut self, live: &Live) -> fmt::Result {
        let load = &live.status.load;
        let pending = [("watermark", load.waiting), ("standing-source", load.standing)];
        let limits = [("watermark", load.waiting_budget), ("standing-source", load.standing_budget)];
        for (metric, values) in [(Metric::PendingFindings, pending), (Metric::PendingFindingsLimit, limits)] {
            let mut family = self.describe(metric, MetricType::Gauge)?;
            for (waits_for, n) in values {
                ConstGauge::new(n as f64).encode(family.encode_family(&[("waits_for", waits_for)])?)?;
            }
        }
        self.gauge(Metric::StateKeys, load.keys as f64)?;
        let mut family = self.describe(Metric::FullestState, MetricType::Gauge)?;
        if let Some(fullest) = &load.fullest {
            let labels = [("rule", fullest.rule_id.as_str())];
            ConstGauge::new(fullest.count as f64).encode(family.encode_family(&labels)?)?;
        }
        self.gauge(Metric::FullestStateLimit, load.keys_budget as f64)
    }

    /// Which topics are read, and which of their partitions are not.
    pub(super) fn topics(&mut self, live: &Live) -> fmt::Result {
        let mut family = self.describe(Metric::TopicState, MetricType::Gauge)?;
        for topic in live.sources.iter().flat_map(|source| &source.topics) {
            let labels = [("topic", topic.name.as_str()), ("state", topic.state.name())];
            ConstGauge::new(1.0).encode(family.encode_family(&labels)?)?;
        }
        let mut family = self.describe(Metric::TopicPartitions, MetricType::Gauge)?;
        for topic in live.sources.iter().flat_map(|source| &source.topics) {
            // What was never looked up is not told as zero.
            let Some(all) = topic.partitions else { continue };
            let read = all.saturating_sub(topic.unassigned + topic.paused);
            for (state, n) in [("read", read), ("paused", topic.paused), ("unassigned", topic.unassigned)] {
                let labels = [("topic", topic.name.as_str()), ("state", state)];
                ConstGauge::new(n as f64).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
