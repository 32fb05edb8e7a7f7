//! Hunts over HTTP: SQL over events, as lines of JSON, CSV or Arrow.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::keyed::{KeyHeader, Keyed, created};
use crate::{
    app::App,
    auth::Caller,
    desk::hunt::{
        self, HuntBody,
        saved::{self, SavedHuntBody, SavedHuntDocument, SavedHuntList},
    },
    hunting::HuntDocument,
    hunts::{Form, HuntSchema},
    params::{JsonBody, NoParams, Segment, Strict},
    problem::{self, Kind, Problem},
};

/// For how long the first rows are waited for: what fails until then is a problem document, and not an answer that breaks off.
const FIRST: Duration = Duration::from_secs(2);

const NDJSON: &str = "application/x-ndjson";
const CSV: &str = "text/csv";
const ARROW: &str = "application/vnd.apache.arrow.stream";

/// Asks the events in SQL.
///
/// Rows come as they are found, in the form that `Accept` names: one JSON object a line, without what is null (default); CSV; an Arrow IPC
/// stream. The last line of the first is `{"vedette.hunt": …}`: the hunt, with rows, whether there are more, bytes, files read and
/// skipped, up to when it is complete, what is missing, and why it broke off if it did. Of the others,
/// `GET /hunts/{id}` says that, with the number in the header `Vedette-Hunt`; an answer that breaks off ends the connection. A hunt ends when its asker
/// hangs up, or by `DELETE /hunts/{id}`. Everything is in the audit log.
#[utoipa::path(
    post, path = "/hunts", operation_id = "hunt", tag = "hunts", request_body = HuntBody,
    responses(
        (
            status = 200, description = "The rows",
            content((String = "application/x-ndjson"), (String = "text/csv"), (Vec<u8> = "application/vnd.apache.arrow.stream")),
            headers(
                ("vedette-hunt" = i64, description = "The hunt's number"),
                ("vedette-complete-through" = String, description = "All events that the broker took up to then are looked at, as far as nothing is missing; absent where none are"),
                ("vedette-missing" = u64, description = "How many things are known to be missing, which `GET /hunts/{id}` names")
            )
        ),
        (status = 400, description = "The text is no question that can be answered; `line` and `column` say where, `pointed` shows it", body = problem::ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "It needs more than a hunt may use", body = problem::ProblemDocument, content_type = "application/problem+json"),
        problem::ProblemDocument
    )
)]
pub(crate) async fn ask(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<HuntBody>,
) -> Result<Response, Problem> {
    let (form, media) = form(&headers)?;
    let mut hunt = hunt::begin(&app, &body, form, &caller).await?;
    let first = match timeout(FIRST, hunt.next()).await {
        Ok(Some(first)) => first?,
        Ok(None) | Err(_) => Vec::new(),
    };
    let basis = &hunt.begun().basis;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(HeaderName::from_static("vedette-hunt"), HeaderValue::from(hunt.id()));
    headers.insert(HeaderName::from_static("vedette-missing"), HeaderValue::from(basis.missing.len()));
    if let Some(through) = basis.complete_through
        && let Ok(through) = HeaderValue::from_str(&through.to_string())
    {
        headers.insert(HeaderName::from_static("vedette-complete-through"), through);
    }
    Ok((headers, Body::from_stream(hunt.pieces(first))).into_response())
}

/// A weight of 1 in `Accept`, in thousandths (RFC 9110, 12.4.2).
const FULL: u16 = 1_000;

/// A weight of `Accept`; what cannot be read has none.
fn weight(text: &str) -> Option<u16> {
    let weight: f64 = text.trim().parse().ok()?;
    (0.0..=1.0).contains(&weight).then_some((weight * f64::from(FULL)).round() as u16)
}

/// The form that the caller wants most, and its media type; of those wanted alike the one that is named first.
fn form(headers: &HeaderMap) -> Result<(Form, &'static str), Problem> {
    let all = [(NDJSON, Form::Ndjson), (CSV, Form::Csv), (ARROW, Form::Arrow)];
    let accepted: Vec<&str> =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    if accepted.is_empty() {
        return Ok((Form::Ndjson, NDJSON));
    }
    let mut best: Option<(Form, &'static str, u16)> = None;
    for word in accepted.iter().flat_map(|value| value.split(',')) {
        let mut parts = word.split(';').map(|part| part.trim().to_ascii_lowercase());
        let word = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| weight(part.strip_prefix("q=")?)).unwrap_or(FULL);
        let named = all.iter().find(|(media, _)| {
            let group = media.split('/').next().unwrap_or_default();
            word == *media || word == "*/*" || word == format!("{group}/*")
        });
        if let Some((media, form)) = named
            && weight > best.map_or(0, |(_, _, weight)| weight)
        {
            best = Some((*form, media, weight));
        }
    }
    if let Some((form, media, _)) = best {
        return Ok((form, media));
    }
    let detail = "None of the media types of `Accept` is one that rows are written in.";
    Err(Problem::new(Kind::NotAcceptable, detail).valid(all.map(|(media, _)| media)))
}

/// Hunts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HuntList {
    /// Those under way and the last ones that ended, the newest first.
    items: Vec<HuntDocument>,
    /// Always null: they are on one page.
    #[schema(required = true)]
    next_cursor: Option<String>,
}

/// Lists one's own hunts, under way and ended since the service started, at most 200; admins see everybody's. The audit log has all.
#[utoipa::path(
    get, path = "/hunts", operation_id = "list_hunts", tag = "hunts",
    responses((status = 200, description = "The hunts", body = HuntList), problem::ProblemDocument)
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Json<HuntList> {
    Json(HuntList { items: app.hunting.of(&caller), next_cursor: None })
}

/// How far a hunt has come, and what its answer rests on.
#[utoipa::path(
    get, path = "/hunts/{id}", operation_id = "get_hunt", tag = "hunts",
    params(("id" = String, Path, description = "The hunt's number")),
    responses((status = 200, description = "The hunt", body = HuntDocument), problem::ProblemDocument)
)]
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Json<HuntDocument>, Problem> {
    hunt::one(&app, &id, &caller).map(|known| Json(known.document()))
}

/// Stops a hunt; of one that is over nothing changes.
#[utoipa::path(
    delete, path = "/hunts/{id}", operation_id = "stop_hunt", tag = "hunts",
    params(("id" = String, Path, description = "The hunt's number")),
    responses((status = 204, description = "It stops"), problem::ProblemDocument)
)]
pub(crate) async fn stop(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<StatusCode, Problem> {
    hunt::stop(&app, &id, &caller)?;
    Ok(StatusCode::NO_CONTENT)
}

/// What there is to ask: tables, columns with what they hold and mean, functions.
#[utoipa::path(
    get, path = "/hunts/schema", operation_id = "get_hunt_schema", tag = "hunts",
    responses((status = 200, description = "What there is", body = HuntSchema), problem::ProblemDocument)
)]
pub(crate) async fn schema(
    State(app): State<Arc<App>>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Json<HuntSchema>, Problem> {
    hunt::schema(&app).map(Json)
}

/// Lists one's own kept hunts and those that others share.
#[utoipa::path(
    get, path = "/hunts/saved", operation_id = "list_saved_hunts", tag = "hunts",
    responses((status = 200, description = "The hunts", body = SavedHuntList), problem::ProblemDocument)
)]
pub(crate) async fn saved(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Json<SavedHuntList>, Problem> {
    saved::list(&app, &caller).await.map(Json)
}

/// Keeps a hunt by name, at most 100 a person.
#[utoipa::path(
    post, path = "/hunts/saved", operation_id = "save_hunt", tag = "hunts", request_body = SavedHuntBody,
    params(KeyHeader),
    responses((status = 201, description = "The hunt", body = SavedHuntDocument), problem::ProblemDocument)
)]
pub(crate) async fn save(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
    Keyed { body, key }: Keyed<SavedHuntBody>,
) -> Result<Response, Problem> {
    Ok(created(saved::save(&app, body, key, &caller).await?))
}

/// Removes a kept hunt: one's own; admins remove anybody's shared one.
#[utoipa::path(
    delete, path = "/hunts/saved/{id}", operation_id = "remove_saved_hunt", tag = "hunts",
    params(("id" = String, Path, description = "The kept hunt's number")),
    responses((status = 204, description = "It is gone"), problem::ProblemDocument)
)]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<StatusCode, Problem> {
    saved::remove(&app, &id, &caller).await?;
    Ok(StatusCode::NO_CONTENT)
}
