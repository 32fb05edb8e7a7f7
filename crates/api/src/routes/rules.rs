//! Rules in force, refused documents, and what each rule has seen.

use std::sync::Arc;

use axum::{Extension, Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;
use vedette_event::Micros;

use super::alerts::NoParams;
use crate::{
    app::App,
    auth::Caller,
    live::{Coverage, Live, Rejected, RuleStatus},
    params::{Segment, Strict, short},
    problem::{self, Kind, Problem},
    reload::{Reloaded, Unavailable},
};

/// All rules.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Rules {
    /// The rules in force, by id.
    #[schema(value_type = Vec<RuleStatus>)]
    items: Arc<Vec<RuleStatus>>,
    /// The refused documents.
    #[schema(value_type = Vec<Rejected>)]
    rejected: Arc<Vec<Rejected>>,
    /// The coverage of each is as of then.
    #[schema(value_type = String, format = DateTime)]
    as_of: Micros,
    /// Always null: all rules are on one page.
    #[schema(required = true)]
    next_cursor: Option<String>,
}

/// Lists the rules in force and the refused documents.
#[utoipa::path(
    get, path = "/rules", operation_id = "list_rules", tag = "detection",
    responses(
        (status = 200, description = "The rules", body = Rules),
        problem::ProblemDocument
    )
)]
pub(crate) async fn list(State(app): State<Arc<App>>, Strict(NoParams {}): Strict<NoParams>) -> Json<Rules> {
    let Live { rules, rejected, as_of, .. } = app.live.now();
    Json(Rules { items: rules, rejected, as_of, next_cursor: None })
}

/// One rule in force.
#[utoipa::path(
    get, path = "/rules/{id}", operation_id = "get_rule", tag = "detection",
    params(("id" = String, Path, description = "The rule's id")),
    responses(
        (status = 200, description = "The rule", body = RuleStatus),
        problem::ProblemDocument
    )
)]
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Json<RuleStatus>, Problem> {
    let live = app.live.now();
    find(&live, &id).map(|rule| Json(rule.clone()))
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

/// The coverage ledger of a rule.
#[utoipa::path(
    get, path = "/rules/{id}/coverage", operation_id = "get_coverage", tag = "detection",
    params(("id" = String, Path, description = "The rule's id")),
    responses(
        (status = 200, description = "The ledger", body = RuleCoverage),
        problem::ProblemDocument
    )
)]
pub(crate) async fn coverage(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Json<RuleCoverage>, Problem> {
    let live = app.live.now();
    find(&live, &id).map(|rule| Json(RuleCoverage::of(rule, &live)))
}

/// Reads rules, lists and sources again, without a restart.
///
/// What is new comes into force for all records from a moment on that lies above all that was read. What is refused keeps what was
/// good before.
#[utoipa::path(
    post, path = "/reload", operation_id = "reload_rules", tag = "operation",
    responses(
        (status = 200, description = "What came of it", body = Reloaded),
        problem::ProblemDocument
    )
)]
pub(crate) async fn reload(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Json<Reloaded>, Problem> {
    let Some(reloads) = &app.reloads else {
        return Err(Problem::new(
            Kind::NotReady,
            "These rules are built in: there is nothing to read again.",
        ));
    };
    // Before: it goes on even if nobody waits for the answer.
    app.store.note_reload(&caller.name).await?;
    reloads.ask().await.map(Json).map_err(|why| match why {
        Unavailable::Refused(why) => Problem::new(Kind::RulesRefused, why),
        Unavailable::Stopping => Problem::new(Kind::NotReady, "The service starts or stops; ask again."),
    })
}

/// The rule with this id.
pub(crate) fn find<'a>(live: &'a Live, id: &str) -> Result<&'a RuleStatus, Problem> {
    live.rule(id)
        .ok_or_else(|| Problem::new(Kind::NotFound, format!("There is no rule `{}` in force.", short(id))))
}
