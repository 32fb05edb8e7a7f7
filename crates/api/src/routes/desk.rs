//! Snoozes, saved views, exceptions and the audit log over HTTP.

use std::sync::Arc;

use axum::{Extension, Json, extract::State, http::StatusCode, response::Response};
use utoipa::ToSchema;

use super::keyed::{KeyHeader, Keyed, created};
use crate::{
    app::App,
    auth::Caller,
    desk::{
        audit::{self, AuditDocument, AuditParams},
        exception::{self, ExceptionDocument},
        list::Listed,
        snooze::{self, SnoozeBody, SnoozeDocument, SnoozeList, SnoozeParams},
        view::{self, ViewBody, ViewDocument, ViewList},
    },
    params::{NoParams, Segment, Strict, query_of},
    problem::{self, Problem},
};

/// Lists snoozes with who, why and until when.
#[utoipa::path(
    get, path = "/snoozes", operation_id = "list_snoozes", tag = "snoozes", params(SnoozeParams),
    responses((status = 200, description = "The snoozes", body = SnoozeList), problem::ProblemDocument)
)]
pub(crate) async fn snoozes(
    State(app): State<Arc<App>>,
    Strict(params): Strict<SnoozeParams>,
) -> Result<Json<SnoozeList>, Problem> {
    snooze::list(&app, &params).await.map(Json)
}

/// Keeps the alerts of a rule and an entity out of the queue for a while, at most 7 days. They stay in lists that do not say
/// `snoozed=no`; one whose severity rises above what was to be seen is in the queue again.
#[utoipa::path(
    post, path = "/snoozes", operation_id = "snooze", tag = "snoozes", request_body = SnoozeBody,
    params(KeyHeader),
    responses(
        (status = 201, description = "The snooze", body = SnoozeDocument),
        (status = 409, description = "One is in force for this rule and entity", body = problem::ProblemDocument, content_type = "application/problem+json"),
        problem::ProblemDocument
    )
)]
pub(crate) async fn begin_snooze(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
    Keyed { body, key }: Keyed<SnoozeBody>,
) -> Result<Response, Problem> {
    Ok(created(snooze::begin(&app, body, key, &caller).await?))
}

/// Ends a snooze before its time; what it hid is back.
#[utoipa::path(
    delete, path = "/snoozes/{id}", operation_id = "lift_snooze", tag = "snoozes",
    params(("id" = String, Path, description = "The snooze's number")),
    responses((status = 200, description = "The snooze, ended", body = SnoozeDocument), problem::ProblemDocument)
)]
pub(crate) async fn lift_snooze(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Json<SnoozeDocument>, Problem> {
    snooze::lift(&app, &id, &caller).await.map(Json)
}

/// Lists one's own saved views and those that others share.
#[utoipa::path(
    get, path = "/views", operation_id = "list_views", tag = "views",
    responses((status = 200, description = "The views", body = ViewList), problem::ProblemDocument)
)]
pub(crate) async fn views(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Json<ViewList>, Problem> {
    view::list(&app, &caller).await.map(Json)
}

/// Saves a view of the queue, at most 50 a person.
#[utoipa::path(
    post, path = "/views", operation_id = "save_view", tag = "views", request_body = ViewBody,
    params(KeyHeader),
    responses((status = 201, description = "The view", body = ViewDocument), problem::ProblemDocument)
)]
pub(crate) async fn save_view(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
    Keyed { body, key }: Keyed<ViewBody>,
) -> Result<Response, Problem> {
    let queue = query_of(&view::written(&body.query))?;
    Ok(created(view::save(&app, body, &queue, key, &caller).await?))
}

/// Removes a saved view: one's own; admins remove anybody's shared one.
#[utoipa::path(
    delete, path = "/views/{id}", operation_id = "remove_view", tag = "views",
    params(("id" = String, Path, description = "The view's number")),
    responses((status = 204, description = "It is gone"), problem::ProblemDocument)
)]
pub(crate) async fn remove_view(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<StatusCode, Problem> {
    view::remove(&app, &id, &caller).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What to write into a rule so that it says nothing about an alert's entity any more, and what that would have hidden.
#[utoipa::path(
    get, path = "/alerts/{id}/exception", operation_id = "get_exception", tag = "triage",
    params(("id" = String, Path, description = "alert_id or notice_id")),
    responses(
        (status = 200, description = "Texts to paste", body = ExceptionDocument),
        (status = 409, description = "The alert is about no entity", body = problem::ProblemDocument, content_type = "application/problem+json"),
        problem::ProblemDocument
    )
)]
pub(crate) async fn exception(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Json<ExceptionDocument>, Problem> {
    exception::of(&app, &id, &caller).await.map(Json)
}

/// One page of the audit log.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct AuditPage {
    /// The entries, newest first.
    items: Vec<AuditDocument>,
    /// Where the next page starts; null on the last.
    #[schema(required = true)]
    next_cursor: Option<String>,
}

/// Who changed what, when, from what to what; newest first. For engineers and admins.
#[utoipa::path(
    get, path = "/audit", operation_id = "list_audit", tag = "audit", params(AuditParams),
    responses((status = 200, description = "A page", body = AuditPage), problem::ProblemDocument)
)]
pub(crate) async fn audit(
    State(app): State<Arc<App>>,
    Strict(params): Strict<AuditParams>,
) -> Result<Json<Listed<AuditDocument>>, Problem> {
    audit::page(&app, &params).await.map(Json)
}
