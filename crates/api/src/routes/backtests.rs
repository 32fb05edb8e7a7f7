//! Backtests over HTTP: rules tried on what the lake holds.

use std::sync::Arc;

use axum::{Extension, Json, extract::State, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    app::App,
    auth::Caller,
    backtests::BacktestDocument,
    desk::backtests::{self, BacktestBody},
    params::{JsonBody, NoParams, Segment, Strict},
    problem::{self, Problem},
};

/// Tries rules on the events that the lake holds.
///
/// They are not in force for that, and need not be on any disk. One backtest runs at a time, and others wait for their turn; `GET /backtests/{id}` says how far it is, and
/// what it came to once it is done. The last 32 are kept until the service ends.
#[utoipa::path(
    post, path = "/backtests", operation_id = "begin_backtest", tag = "backtests", request_body = BacktestBody,
    responses((status = 202, description = "It is under way", body = BacktestDocument), problem::ProblemDocument)
)]
pub(crate) async fn begin(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
    JsonBody(body): JsonBody<BacktestBody>,
) -> Result<(StatusCode, Json<BacktestDocument>), Problem> {
    let backtest = backtests::begin(&app, &body, &caller).await?;
    Ok((StatusCode::ACCEPTED, Json(backtest.document(true))))
}

/// Backtests.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BacktestList {
    /// The newest first; without what they came to.
    items: Vec<BacktestDocument>,
    /// Always null: they are on one page.
    #[schema(required = true)]
    next_cursor: Option<String>,
}

/// Lists the backtests that are kept.
#[utoipa::path(
    get, path = "/backtests", operation_id = "list_backtests", tag = "backtests",
    responses((status = 200, description = "The backtests", body = BacktestList), problem::ProblemDocument)
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Json<BacktestList>, Problem> {
    Ok(Json(BacktestList { items: backtests::all(&app)?, next_cursor: None }))
}

/// How far a backtest is, and what it came to.
#[utoipa::path(
    get, path = "/backtests/{id}", operation_id = "get_backtest", tag = "backtests",
    params(("id" = String, Path, description = "The backtest's number")),
    responses((status = 200, description = "The backtest", body = BacktestDocument), problem::ProblemDocument)
)]
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Json<BacktestDocument>, Problem> {
    Ok(Json(backtests::one(&app, &id)?.document(true)))
}

/// Stops a backtest; of one that is over nothing changes.
#[utoipa::path(
    delete, path = "/backtests/{id}", operation_id = "stop_backtest", tag = "backtests",
    params(("id" = String, Path, description = "The backtest's number")),
    responses((status = 204, description = "It stops"), problem::ProblemDocument)
)]
pub(crate) async fn stop(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<StatusCode, Problem> {
    backtests::one(&app, &id)?.stop();
    Ok(StatusCode::NO_CONTENT)
}
