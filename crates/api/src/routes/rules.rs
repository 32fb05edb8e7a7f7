//! Rules in force, refused documents, and what each rule has seen.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderName, header},
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use vedette_event::Micros;

use crate::{
    app::App,
    auth::Caller,
    desk::{
        coverage::AttackCoverage,
        outcomes::{self, Outcomes},
        rules::{RuleCoverage, find},
    },
    live::{Live, Rejected, RuleStatus},
    params::{NoParams, Segment, Strict},
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

/// What came of each rule in force: its alerts of thirty days, its newest, and how those that were closed turned out.
#[utoipa::path(
    get, path = "/rules/outcomes", operation_id = "list_rule_outcomes", tag = "detection",
    responses(
        (status = 200, description = "The figures", body = Outcomes),
        problem::ProblemDocument
    )
)]
pub(crate) async fn outcomes(
    State(app): State<Arc<App>>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Json<Outcomes>, Problem> {
    outcomes::of(&app).await.map(Json)
}

/// Which of ATT&CK's techniques the rules in force look for.
#[utoipa::path(
    get, path = "/rules/attack", operation_id = "get_attack_coverage", tag = "detection",
    responses(
        (status = 200, description = "Tactics and techniques", body = AttackCoverage),
        problem::ProblemDocument
    )
)]
pub(crate) async fn attack(
    State(app): State<Arc<App>>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Json<AttackCoverage> {
    Json(AttackCoverage::of(&app.live.now()))
}

/// The same as a layer of the ATT&CK Navigator (layer format 4.5), to be opened there.
#[utoipa::path(
    get, path = "/rules/navigator", operation_id = "get_navigator_layer", tag = "detection",
    responses(
        (status = 200, description = "The layer", body = Object),
        problem::ProblemDocument
    )
)]
pub(crate) async fn navigator(
    State(app): State<Arc<App>>,
    Strict(NoParams {}): Strict<NoParams>,
) -> ([(HeaderName, &'static str); 1], Json<Value>) {
    let live = app.live.now();
    let name = [(header::CONTENT_DISPOSITION, "attachment; filename=\"vedette-navigator-layer.json\"")];
    (name, Json(AttackCoverage::of(&live).layer(&live)))
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
        return Err(Problem::new(Kind::NotReady, "A demo reads its rules once, when it starts."));
    };
    // Before: it goes on even if nobody waits for the answer.
    app.store.note_reload(&caller.name).await?;
    reloads.ask().await.map(Json).map_err(|why| match why {
        Unavailable::Refused(why) => Problem::new(Kind::RulesRefused, why),
        Unavailable::Stopping => Problem::new(Kind::NotReady, "The service starts or stops; ask again."),
    })
}
