//! Reading alerts: the list, one of them, its history, counts.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, HeaderName, header},
};
use utoipa::{IntoParams, ToSchema};

use crate::{
    access::Permission,
    app::App,
    auth::Caller,
    desk::{
        alert,
        dossier::without_records,
        history::{self, History},
        list::{self, ListParams, Listed},
        past::{self, AsOfParams},
        summary::{self, Summary, SummaryParams},
    },
    params::{NoParams, Segment, Strict},
    problem::{self, Kind, Problem, etag},
    shape,
    wire::{AlertDocument, AlertOrNotice},
};

/// One page of alerts and notices.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct AlertPage {
    /// The alerts and notices.
    items: Vec<AlertOrNotice>,
    /// Where the next page starts; null on the last.
    #[schema(required = true)]
    next_cursor: Option<String>,
    /// How many of the rows found a search looked at, if there were more.
    search_capped: Option<i64>,
}

/// Lists alerts and notices.
#[utoipa::path(
    get, path = "/alerts", operation_id = "list_alerts", tag = "alerts", params(ListParams),
    responses(
        (status = 200, description = "A page", body = AlertPage),
        problem::ProblemDocument
    )
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Strict(params): Strict<ListParams>,
) -> Result<Json<Listed<AlertDocument>>, Problem> {
    list::page(&app, &params).await.map(Json)
}

/// One alert or notice, with the content of its evidence and its revisions. `ETag` is the triage version.
#[utoipa::path(
    get, path = "/alerts/{id}", operation_id = "get_alert", tag = "alerts",
    params(("id" = String, Path, description = "alert_id or notice_id"), AsOfParams),
    responses(
        (status = 200, description = "The alert or notice", body = AlertOrNotice, headers(("etag" = String, description = "Triage version"))),
        problem::ProblemDocument
    )
)]
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    Strict(params): Strict<AsOfParams>,
) -> Result<([(HeaderName, String); 1], Json<AlertDocument>), Problem> {
    let mut document = match params.seq(&app).await? {
        None => alert::full(&app, &id).await?,
        Some(seq) => past::full(&app, &id, seq).await?.document,
    };
    if !caller.may(Permission::RawRecords) {
        without_records(&mut document);
    }
    Ok((tag(document.row.triage.version), Json(document)))
}

/// The `ETag` of a triage version.
pub(crate) fn tag(version: i64) -> [(HeaderName, String); 1] {
    [(header::ETAG, etag(version))]
}

/// The header with the version that was seen.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "only its description is used")]
pub(crate) struct IfMatchHeader {
    /// The version that you saw, as in `ETag`.
    #[param(rename = "If-Match", inline, value_type = shape::Version)]
    version: String,
}

/// The version in `If-Match`.
pub(crate) fn if_match(headers: &HeaderMap) -> Result<i64, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        let detail = "Send `If-Match` with the ETag (the triage version) that you saw.";
        return Err(Problem::new(Kind::VersionRequired, detail));
    };
    let text = value.to_str().unwrap_or_default().trim();
    let version = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text).parse();
    version.map_err(|_| Problem::new(Kind::InvalidParameter, "`If-Match` must be one ETag such as \"3\"."))
}

/// The history of an alert's triage, comments included.
#[utoipa::path(
    get, path = "/alerts/{id}/history", operation_id = "get_history", tag = "triage",
    params(("id" = String, Path, description = "alert_id or notice_id")),
    responses(
        (status = 200, description = "From the first to the last", body = History),
        problem::ProblemDocument
    )
)]
pub(crate) async fn history(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Json<History>, Problem> {
    history::of(&app, &alert::row(&app, &id).await?).await.map(Json)
}

/// Counts alerts and notices by one of their properties.
#[utoipa::path(
    get, path = "/alerts/summary", operation_id = "summarise_alerts", tag = "alerts", params(SummaryParams),
    responses(
        (status = 200, description = "The counts", body = Summary),
        problem::ProblemDocument
    )
)]
pub(crate) async fn summary(
    State(app): State<Arc<App>>,
    Strict(params): Strict<SummaryParams>,
) -> Result<Json<Summary>, Problem> {
    summary::count(&app, &params).await.map(Json)
}
