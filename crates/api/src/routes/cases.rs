//! Cases over HTTP.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::{HeaderMap, HeaderName},
    response::Response,
};
use utoipa::ToSchema;

use super::{
    alerts::{IfMatchHeader, if_match, tag},
    keyed::{KeyHeader, Keyed, created},
};
use crate::{
    app::App,
    auth::Caller,
    desk::{
        audit::AuditDocument,
        case::{
            self, CaseBody, CaseChange, CaseDocument, CaseHistory, CaseParams, ChangedCase, Merge, Note,
            Selection, SplitBody, WholeCase,
        },
        list::Listed,
    },
    params::{JsonBody, NoParams, Segment, Strict},
    problem::{self, Kind, Problem},
};

/// One page of cases.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct CasePage {
    /// The cases.
    items: Vec<CaseDocument>,
    /// Where the next page starts; null on the last.
    #[schema(required = true)]
    next_cursor: Option<String>,
}

/// Lists cases, newest first.
#[utoipa::path(
    get, path = "/cases", operation_id = "list_cases", tag = "cases", params(CaseParams),
    responses((status = 200, description = "A page", body = CasePage), problem::ProblemDocument)
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Strict(params): Strict<CaseParams>,
) -> Result<Json<Listed<CaseDocument>>, Problem> {
    case::page(&app, &params).await.map(Json)
}

/// Opens a case with its first alerts: all of them, or there is no case.
#[utoipa::path(
    post, path = "/cases", operation_id = "open_case", tag = "cases", request_body = CaseBody,
    params(KeyHeader),
    responses(
        (status = 201, description = "The case", body = CaseDocument),
        (status = 409, description = "An alert is in another case", body = problem::ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "The key came with another request", body = problem::ProblemDocument, content_type = "application/problem+json"),
        problem::ProblemDocument
    )
)]
pub(crate) async fn open(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
    Keyed { body, key }: Keyed<CaseBody>,
) -> Result<Response, Problem> {
    Ok(created(case::open(&app, body, key, &caller).await?))
}

/// One case with its alerts. `ETag` is its version.
#[utoipa::path(
    get, path = "/cases/{id}", operation_id = "get_case", tag = "cases",
    params(("id" = String, Path, description = "The case's number")),
    responses(
        (status = 200, description = "The case", body = WholeCase, headers(("etag" = String, description = "Its version"))),
        problem::ProblemDocument
    )
)]
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<([(HeaderName, String); 1], Json<WholeCase>), Problem> {
    let whole = case::whole(&app, case::number(&id)?).await?;
    Ok((tag(whole.case.version), Json(whole)))
}

/// Changes a case, if it still has the version in `If-Match`; closing it can close its alerts.
#[utoipa::path(
    patch, path = "/cases/{id}", operation_id = "change_case", tag = "cases", request_body = CaseChange,
    params(
        ("id" = String, Path, description = "The case's number"),
        IfMatchHeader
    ),
    responses(
        (status = 200, description = "The case now", body = ChangedCase, headers(("etag" = String, description = "Its version"))),
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
    JsonBody(change): JsonBody<CaseChange>,
) -> Result<([(HeaderName, String); 1], Json<ChangedCase>), Problem> {
    let version = if_match(&headers)?;
    let changed = case::change(&app, case::number(&id)?, version, change, &caller).await?;
    Ok((tag(changed.case.version), Json(changed)))
}

/// Adds alerts to an open case: all of them or none. Those that are in it change nothing.
#[utoipa::path(
    post, path = "/cases/{id}/alerts", operation_id = "add_to_case", tag = "cases", request_body = Selection,
    params(("id" = String, Path, description = "The case's number")),
    responses((status = 200, description = "The case now", body = CaseDocument), problem::ProblemDocument)
)]
pub(crate) async fn add(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
    JsonBody(selection): JsonBody<Selection>,
) -> Result<Json<CaseDocument>, Problem> {
    case::add(&app, case::number(&id)?, &selection, &caller).await.map(Json)
}

/// Takes an alert out of a case; the case's severity stays.
#[utoipa::path(
    delete, path = "/cases/{id}/alerts/{alert}", operation_id = "remove_from_case", tag = "cases",
    params(
        ("id" = String, Path, description = "The case's number"),
        ("alert" = String, Path, description = "alert_id or notice_id")
    ),
    responses((status = 200, description = "The case now", body = CaseDocument), problem::ProblemDocument)
)]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    path: Result<Path<(String, String)>, axum::extract::rejection::PathRejection>,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Json<CaseDocument>, Problem> {
    let Path((id, alert)) = path.map_err(|_| {
        Problem::new(Kind::NotFound, "A part of the path is not UTF-8, and all names here are.")
    })?;
    case::remove(&app, case::number(&id)?, &[alert], &caller).await.map(Json)
}

/// Adds a note to a case.
#[utoipa::path(
    post, path = "/cases/{id}/notes", operation_id = "add_case_note", tag = "cases", request_body = Note,
    params(
        ("id" = String, Path, description = "The case's number"),
        KeyHeader
    ),
    responses((status = 201, description = "The history's new entry", body = AuditDocument), problem::ProblemDocument)
)]
pub(crate) async fn note(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
    Keyed { body, key }: Keyed<Note>,
) -> Result<Response, Problem> {
    Ok(created(case::note(&app, case::number(&id)?, &body.text, key, &caller).await?))
}

/// Takes another case's alerts into this one and closes the other. Both keep their trails.
#[utoipa::path(
    post, path = "/cases/{id}/merge", operation_id = "merge_cases", tag = "cases", request_body = Merge,
    params(("id" = String, Path, description = "The number of the case that stays")),
    responses((status = 200, description = "The case now", body = CaseDocument), problem::ProblemDocument)
)]
pub(crate) async fn merge(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
    JsonBody(merge): JsonBody<Merge>,
) -> Result<Json<CaseDocument>, Problem> {
    case::merge(&app, case::number(&id)?, merge.from, &caller).await.map(Json)
}

/// Makes a case of its own of some of a case's alerts. Both name the other.
#[utoipa::path(
    post, path = "/cases/{id}/split", operation_id = "split_case", tag = "cases", request_body = SplitBody,
    params(
        ("id" = String, Path, description = "The case's number"),
        KeyHeader
    ),
    responses((status = 201, description = "The new case", body = CaseDocument), problem::ProblemDocument)
)]
pub(crate) async fn split(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
    Keyed { body, key }: Keyed<SplitBody>,
) -> Result<Response, Problem> {
    Ok(created(case::split(&app, case::number(&id)?, body.into(), key, &caller).await?))
}

/// Who did what to a case, and to those that were merged into it.
#[utoipa::path(
    get, path = "/cases/{id}/history", operation_id = "get_case_history", tag = "cases",
    params(("id" = String, Path, description = "The case's number")),
    responses((status = 200, description = "From the first to the last", body = CaseHistory), problem::ProblemDocument)
)]
pub(crate) async fn history(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Json<CaseHistory>, Problem> {
    case::history(&app, case::number(&id)?).await.map(Json)
}
