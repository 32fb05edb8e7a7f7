//! Exports over HTTP: the list as a file, streamed.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::State,
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};

use crate::{
    app::App,
    auth::Caller,
    desk::export::{self, Export, ExportParams},
    params::Strict,
    problem::{self, Problem},
};

/// Alerts and notices as a file, in the order in which they appeared. `X-Total-Count` says how many match, `X-Row-Limit` how many
/// are written at most: where there are more, ask for a range of time after the other.
#[utoipa::path(
    get, path = "/alerts/export", operation_id = "export_alerts", tag = "alerts", params(ExportParams),
    responses(
        (
            status = 200, description = "The rows", content((String = "application/x-ndjson"), (String = "text/csv")),
            headers(("x-total-count" = u64, description = "Rows that match; of a search whose words more rows hold than it looks at, those that it looks at"), ("x-row-limit" = u64, description = "Rows that are written at most"))
        ),
        problem::ProblemDocument
    )
)]
pub(crate) async fn alerts(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Strict(params): Strict<ExportParams>,
) -> Result<Response, Problem> {
    let export: Export = export::begin(&app, &params, &caller).await?;
    let format = export.format;
    let file = format!("attachment; filename=\"{}\"", format.file());
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(format.media())),
        (
            header::CONTENT_DISPOSITION,
            HeaderValue::from_str(&file).unwrap_or(HeaderValue::from_static("attachment")),
        ),
        (HeaderName::from_static("x-total-count"), HeaderValue::from(export.matching)),
        (HeaderName::from_static("x-row-limit"), HeaderValue::from(export.most())),
    ];
    Ok((headers, Body::from_stream(export.pieces())).into_response())
}
