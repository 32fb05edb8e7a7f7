//! What came of each rule: its alerts, the newest of them, and how those that were closed turned out.
//!
//! In: the store. Out: figures of the last thirty days for every rule in force. Invariants: each figure is counted from the rows that
//! the list shows for that rule; a rule without an alert is told with zeros, never left out.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;
use vedette_event::{Micros, Span};
use vedette_store::{RuleAlerts, Verdicts};

use crate::{app::App, metrics::now, problem::Problem};

/// What is looked back on: long enough for a rule that fires weekly, short enough to show what a change did.
pub(crate) const LOOK_BACK: Span = Span::secs(30 * 24 * 60 * 60);

/// What came of the rules in force.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Outcomes {
    /// One for each rule in force, by id.
    pub items: Vec<RuleOutcome>,
    /// Alerts that crossed, and verdicts that were given, from then on.
    #[schema(value_type = String, format = DateTime)]
    pub since: Micros,
    /// All figures are as of then.
    #[schema(value_type = String, format = DateTime)]
    pub as_of: Micros,
    /// Always null: all rules are on one page.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// What came of one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct RuleOutcome {
    /// The rule's id.
    pub rule_id: String,
    /// Its alerts and notices since then.
    pub alerts: u64,
    /// When the condition of its newest was met, however long ago; null if it never was.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub last_alert: Option<Micros>,
    /// How those that were closed since then turned out.
    pub verdicts: RuleVerdicts,
}

/// How the alerts of a rule turned out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ToSchema)]
pub(crate) struct RuleVerdicts {
    /// Closed, whatever as.
    pub closed: u64,
    /// Attacks and breaches of policy.
    pub true_positive: u64,
    /// What the rule describes, for a legitimate reason.
    pub benign: u64,
    /// Not what the rule describes.
    pub false_positive: u64,
    /// Handled elsewhere.
    pub duplicate: u64,
}

impl From<Verdicts> for RuleVerdicts {
    fn from(verdicts: Verdicts) -> Self {
        Self {
            closed: verdicts.total(),
            true_positive: verdicts.true_positive,
            benign: verdicts.benign,
            false_positive: verdicts.false_positive,
            duplicate: verdicts.duplicate,
        }
    }
}

/// What came of each rule in force.
pub(crate) async fn of(app: &App) -> Result<Outcomes, Problem> {
    let rules = app.live.now().rules;
    let figures = Figures::read(app).await?;
    let items = rules.iter().map(|rule| figures.of(&rule.id)).collect();
    Ok(Outcomes { items, since: figures.since, as_of: figures.as_of, next_cursor: None })
}

/// What came of one rule.
pub(crate) async fn of_one(app: &App, id: &str) -> Result<RuleOutcome, Problem> {
    Ok(Figures::read(app).await?.of(id))
}

/// The figures of all rules: two statements, however many there are.
struct Figures {
    alerts: BTreeMap<String, RuleAlerts>,
    verdicts: BTreeMap<String, Verdicts>,
    since: Micros,
    as_of: Micros,
}

impl Figures {
    async fn read(app: &App) -> Result<Self, Problem> {
        let as_of = now();
        let since = as_of.minus(LOOK_BACK);
        let alerts = app.store.rule_alerts(since).await?;
        let verdicts = app.store.rule_verdicts(since).await?;
        Ok(Self { alerts, verdicts, since, as_of })
    }

    fn of(&self, rule: &str) -> RuleOutcome {
        RuleOutcome {
            rule_id: rule.to_owned(),
            alerts: self.alerts.get(rule).map_or(0, |of| of.count),
            last_alert: self.alerts.get(rule).map(|of| of.last),
            verdicts: self.verdicts.get(rule).copied().unwrap_or_default().into(),
        }
    }
}
