//! Changing alerts: triage of one or many, comments. Every change is audited and guarded by a version.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, HeaderName},
    response::Response,
};

use super::{
    alerts::{IfMatchHeader, if_match, tag},
    keyed::{KeyHeader, Keyed, created},
};
use crate::{
    app::App,
    auth::Caller,
    desk::{
        alert,
        bulk::{self, Bulk, BulkOutcome, Undo},
        comment::{self, Comment},
        history::HistoryEntry,
        triage::{self, Change},
    },
    params::{JsonBody, NoParams, Segment, Strict},
    problem::{self, Problem},
    wire::TriageState,
};

/// Changes the triage of an alert or notice, if it still has the version in `If-Match`.
#[utoipa::path(
    patch, path = "/alerts/{id}", operation_id = "change_alert", tag = "triage",
    params(
        ("id" = String, Path, description = "alert_id or notice_id"),
        IfMatchHeader
    ),
    request_body = Change,
    responses(
        (status = 200, description = "The triage now", body = TriageState, headers(("etag" = String, description = "Triage version"))),
        (status = 412, description = "Somebody changed it meanwhile; `ETag` is the version now", body = problem::ProblemDocument, content_type = "application/problem+json"),
        (status = 428, description = "`If-Match` is missing", body = problem::ProblemDocument, content_type = "application/problem+json"),
        problem::ProblemDocument
    )
)]
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
    headers: HeaderMap,
    JsonBody(change): JsonBody<Change>,
) -> Result<([(HeaderName, String); 1], Json<TriageState>), Problem> {
    let version = if_match(&headers)?;
    triage::apply(&app, &id, version, change, &caller).await?;
    let row = alert::row(&app, &id).await?;
    let state = TriageState::of(&row.triage, row.recurred, row.since_closed);
    Ok((tag(row.triage.version), Json(state)))
}

/// Changes the triage of many alerts; each succeeds or fails on its own.
#[utoipa::path(
    post, path = "/alerts/bulk", operation_id = "change_alerts", tag = "triage", request_body = Bulk,
    responses(
        (status = 200, description = "A result for each", body = BulkOutcome),
        problem::ProblemDocument
    )
)]
pub(crate) async fn bulk(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
    JsonBody(bulk): JsonBody<Bulk>,
) -> Result<Json<BulkOutcome>, Problem> {
    bulk::apply(&app, bulk, &caller).await.map(Json)
}

/// Takes back a change of many alerts: each that nobody has changed since gets the triage from before.
#[utoipa::path(
    post, path = "/alerts/undo", operation_id = "undo_changes", tag = "triage", request_body = Undo,
    responses(
        (status = 200, description = "A result for each", body = BulkOutcome),
        problem::ProblemDocument
    )
)]
pub(crate) async fn undo(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
    JsonBody(undo): JsonBody<Undo>,
) -> Result<Json<BulkOutcome>, Problem> {
    bulk::undo(&app, &undo, &caller).await.map(Json)
}

/// Adds a comment to an alert or notice.
#[utoipa::path(
    post, path = "/alerts/{id}/comments", operation_id = "add_comment", tag = "triage",
    params(
        ("id" = String, Path, description = "alert_id or notice_id"),
        KeyHeader
    ),
    request_body = Comment,
    responses(
        (status = 201, description = "The history's new entry", body = HistoryEntry),
        problem::ProblemDocument
    )
)]
pub(crate) async fn comment(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
    Keyed { body, key }: Keyed<Comment>,
) -> Result<Response, Problem> {
    Ok(created(comment::add(&app, &id, &body.text, key, &caller).await?))
}
