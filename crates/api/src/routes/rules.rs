//! Rules in force, refused documents, and what each rule has seen.

use std::sync::Arc;

use axum::{Extension, Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;
use vedette_event::Micros;

use crate::{
    app::App,
    auth::Caller,
    desk::rules::{RuleCoverage, find},
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
