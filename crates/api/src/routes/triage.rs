//! Changing alerts: triage of one or many, comments. Every change is audited and guarded by a version.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, HeaderName, StatusCode},
    response::Response,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    alerts::{IfMatchHeader, if_match, tag},
    keyed::{KeyHeader, Keyed, answered, created},
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

/// The analysts' side of an alert after a change.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChangedTriage {
    #[serde(flatten)]
    triage: TriageState,
    /// By what it is taken back, see `POST alerts/undo`; null if nothing was changed.
    #[schema(required = true)]
    change_id: Option<i64>,
}

/// Changes the triage of an alert or notice, if it still has the version in `If-Match`.
#[utoipa::path(
    patch, path = "/alerts/{id}", operation_id = "change_alert", tag = "triage",
    params(
        ("id" = String, Path, description = "alert_id or notice_id"),
        IfMatchHeader
    ),
    request_body = Change,
    responses(
        (status = 200, description = "The triage now", body = ChangedTriage, headers(("etag" = String, description = "Triage version"))),
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
) -> Result<([(HeaderName, String); 1], Json<ChangedTriage>), Problem> {
    let version = if_match(&headers)?;
    let done = triage::apply(&app, &id, version, change, &caller).await?;
    let row = alert::row(&app, &id).await?;
    let triage = TriageState::of(&row.triage, row.recurred, row.since_closed);
    Ok((tag(row.triage.version), Json(ChangedTriage { triage, change_id: done.change_id })))
}

/// Changes the triage of many alerts; each succeeds or fails on its own. However many they are, the answer comes when all is done;
/// what was begun goes on where nobody waits for it.
#[utoipa::path(
    post, path = "/alerts/bulk", operation_id = "change_alerts", tag = "triage", request_body = Bulk,
    params(KeyHeader),
    responses(
        (status = 200, description = "A result for each", body = BulkOutcome),
        problem::ProblemDocument
    )
)]
pub(crate) async fn bulk(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
    Keyed { body, key }: Keyed<Bulk>,
) -> Result<Response, Problem> {
    Ok(answered(StatusCode::OK, bulk::apply(&app, body, key, &caller).await?))
}

/// Takes back a change of one's own, of one alert or of many: each that is as the change left it, since nobody has changed it since or
/// all that was changed since has been taken back, has the triage from before again. That is a change, too, and can be taken back.
#[utoipa::path(
    post, path = "/alerts/undo", operation_id = "undo_changes", tag = "triage", request_body = Undo,
    params(KeyHeader),
    responses(
        (status = 200, description = "A result for each", body = BulkOutcome),
        problem::ProblemDocument
    )
)]
pub(crate) async fn undo(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
    Keyed { body, key }: Keyed<Undo>,
) -> Result<Response, Problem> {
    Ok(answered(StatusCode::OK, bulk::undo(&app, &body, key, &caller).await?))
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
