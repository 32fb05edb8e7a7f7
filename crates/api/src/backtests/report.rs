//! What a backtest comes to, as it is told.
//!
//! In: counts, from the binary. Out: JSON and pages.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use vedette_event::Micros;

/// Alerts by day, in UTC.
pub type Days = BTreeMap<String, u64>;

/// What became of alerts that fired then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ToSchema)]
pub struct Outcome {
    /// Alerts of now that fired then, too.
    pub alerts: u64,
    /// Of those, still open.
    pub open: u64,
    /// Closed as an attack or a breach of policy.
    pub true_positive: u64,
    /// Closed as legitimate.
    pub benign: u64,
    /// Closed as not what the rule describes.
    pub false_positive: u64,
    /// Closed as handled elsewhere.
    pub duplicate: u64,
    /// Closed without a word.
    pub undecided: u64,
}

impl Outcome {
    /// How many came to what, in words, without those of which there is none.
    pub fn parts(&self) -> impl Iterator<Item = (u64, &'static str)> {
        let parts = [
            (self.true_positive, "true positive"),
            (self.benign, "benign"),
            (self.false_positive, "false positive"),
            (self.duplicate, "duplicate"),
            (self.undecided, "closed"),
            (self.open, "open"),
        ];
        parts.into_iter().filter(|(n, _)| *n > 0)
    }
}

/// One key of a rule: what an exception for it would have hidden.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct OfKey {
    /// The key.
    #[schema(value_type = Object)]
    pub key: Value,
    /// Its alerts, which an exception would have hidden.
    pub alerts: u64,
    /// What those that fired then turned out to be.
    pub fired_then: Outcome,
}

/// What one rule comes to.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct OfRule {
    /// The rule's id.
    pub rule_id: String,
    /// Its title.
    pub title: String,
    /// Its level.
    pub level: String,
    /// Its alerts.
    pub alerts: u64,
    /// Those open at the end of what the lake holds.
    pub open: u64,
    /// In an average day of the stretch.
    pub a_day: f64,
    /// The day with most of them; none without any.
    pub busiest_day: Option<String>,
    /// How many it has.
    pub most_in_a_day: u64,
    /// How many keys.
    pub keys: u64,
    /// The keys with most alerts.
    pub noisiest: Vec<OfKey>,
    /// Those that fired then, too.
    pub fired_then: Outcome,
    /// Of those, the very same: body and id.
    pub same: u64,
    /// Alerts of this rule that fired then and do not now.
    pub no_longer: Outcome,
}

/// What rules come to.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Report {
    /// From when on alerts are told of.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub from: Option<Micros>,
    /// Up to when.
    #[schema(value_type = String, format = DateTime)]
    pub through: Micros,
    /// From when on events were read for it; none if from the lake's first.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub read_from: Option<Micros>,
    /// The time of the first event there is.
    #[schema(value_type = String, format = DateTime)]
    pub first_event: Micros,
    /// Events evaluated.
    pub events: u64,
    /// Events that these rules make dead letters.
    pub not_evaluated: u64,
    /// Time that it took, in seconds.
    pub seconds: f64,
    /// Processor time of an event, in nanoseconds: reading, decoding, detection and correlation.
    pub nanoseconds_an_event: f64,
    /// Alerts.
    pub alerts: u64,
    /// By day, in UTC.
    pub days: Days,
    /// By rule, the one with most alerts first; rules without any stand at the end.
    pub rules: Vec<OfRule>,
    /// Why rules could not be tried.
    pub not_tried: Vec<String>,
    /// What keeps the answer from being exact.
    pub notes: Vec<String>,
}
