//! Rules in force, and whether one of them could have fired.
//!
//! In: the snapshot. Out: the rule, its coverage with each gap in words. Invariant: a gap that the ledger knows is never left out.

use serde::Serialize;
use utoipa::ToSchema;
use vedette_event::Micros;

use crate::{
    live::{Coverage, Live, RuleStatus},
    problem::{Kind, Problem, short},
};

/// The rule with this id.
pub(crate) fn find<'a>(live: &'a Live, id: &str) -> Result<&'a RuleStatus, Problem> {
    live.rule(id)
        .ok_or_else(|| Problem::new(Kind::NotFound, format!("There is no rule `{}` in force.", short(id))))
}

/// Could this rule have fired?
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RuleCoverage {
    /// The rule's id.
    pub rule_id: String,
    /// True if nothing that the ledger knows kept it from firing.
    pub complete: bool,
    /// What may have kept it from firing, for a person.
    pub gaps: Vec<String>,
    /// The ledger is as of then.
    #[schema(value_type = String, format = DateTime)]
    pub as_of: Micros,
    /// The ledger.
    #[serde(flatten)]
    pub coverage: Coverage,
}

impl RuleCoverage {
    pub fn of(rule: &RuleStatus, live: &Live) -> Self {
        let coverage = &rule.coverage;
        let mut gaps = Vec::new();
        if let Some(kernel) = live.stalled_kernel() {
            let since = kernel.moved_at;
            gaps.push(format!(
                "Stalled since {since}: nothing is evaluated, and this is as of {}.",
                live.as_of
            ));
        }
        if !rule.emits {
            gaps.push("It raises no alerts of its own; rules that refer to it may.".to_owned());
        }
        if coverage.through.is_none() {
            gaps.push("Nothing has been evaluated yet.".to_owned());
        }
        if let (Some(from), Some(until)) = (coverage.in_force_from, coverage.warming_until) {
            gaps.push(format!("It came into force at {from}; until {until} it has not seen whole windows."));
        }
        if !coverage.silent_sources.is_empty() {
            gaps.push(format!("Sources are silent: {}.", coverage.silent_sources.join(", ")));
        }
        let counts = [
            (coverage.lost, "records of its sources were lost before they were evaluated"),
            (coverage.dead_lettered, "records of its sources could not be read"),
            (coverage.without_key, "matching events lacked the group key"),
            (coverage.unevaluated, "matching events were not evaluated, since too many waited"),
        ];
        gaps.extend(counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}.")));
        gaps.extend(coverage.degradations.iter().map(|degradation| degradation.message.clone()));
        let (complete, coverage) = (gaps.is_empty(), coverage.clone());
        Self { rule_id: rule.id.clone(), complete, gaps, as_of: live.as_of, coverage }
    }
}
