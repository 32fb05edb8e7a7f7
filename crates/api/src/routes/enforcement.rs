//! What enforcement points fetch: the bouncers' interface of CrowdSec, external dynamic lists, rate limits.
//!
//! In: a request of a bouncer, a firewall or a gateway. Out: what the board shows, in their form. Invariants: nothing here reads the
//! store or waits for it; a bouncer's cursor moves when its answer was read to the end, and only then; a HEAD moves nothing.

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Serialize;
use utoipa::ToSchema;
use vedette_act::board::{Asker, BadQuery, Board, Filter, List, Lookup, Part, Silence};
use vedette_event::Micros;

use crate::{
    app::App,
    auth::{Caller, Credential},
    connections::client,
    metrics::now,
    params::{NoParams, Segment, Strict},
    problem::{self, Kind, Problem},
};

/// A stream's body goes out in pieces of this size, so that the next is asked for when the one before is on its way.
const PIECE: usize = 64 * 1024;
/// Characters of what a bouncer calls itself.
const MAX_AGENT: usize = 128;

/// The bouncers' interface, at the paths that they know.
pub(crate) fn bouncers() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/decisions/stream", get(stream))
        .route("/v1/decisions", get(look_up))
        .route("/v1/usage-metrics", post(count))
}

/// What a bouncer has not been told: `{"new": […], "deleted": […]}`.
async fn stream(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    let board = board(&app)?;
    if request.method() == Method::HEAD {
        return Ok(json_body(Body::empty()));
    }
    let asker = asker(&app, caller, &request);
    let (startup, filter) = Filter::parse(pairs(request.uri())).map_err(|e| refused(&e))?;
    let (own, own_asker) = (board.clone(), asker.clone());
    let part = aside(move || own.stream(&own_asker, startup, &filter, now())).await?;
    Ok(json_body(sent(board, asker, part)))
}

/// A part as a body that notes when it has been read to the end.
fn sent(board: Board, asker: Asker, part: Part) -> Body {
    let rest = Some((part.body.clone(), board, asker, part));
    Body::from_stream(futures::stream::unfold(rest, async |rest| {
        let (mut body, board, asker, part) = rest?;
        if body.is_empty() {
            board.sent(&asker, &part);
            return None;
        }
        let piece = body.split_to(body.len().min(PIECE));
        Some((Ok::<Bytes, std::convert::Infallible>(piece), Some((body, board, asker, part))))
    }))
}

/// The decisions on an address, a range or a value: an array, or `null`.
async fn look_up(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    let board = board(&app)?;
    let lookup = Lookup::parse(pairs(&uri)).map_err(|e| refused(&e))?;
    let quick = lookup.is_quick();
    let look = move || board.look_up(&lookup, now());
    let body = if quick { look().map_err(silent)? } else { aside(look).await? };
    Ok(json_body(Body::from(body)))
}

/// What a bouncer counted.
async fn count(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let board = board(&app)?;
    let asker = asker(&app, caller, &request);
    // The guard has read it, within its bounds.
    let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap_or_default();
    board.count(&asker, &body, now()).map_err(|e| refused(&e))?;
    Ok(StatusCode::CREATED)
}

/// The addresses that a firewall is to block, as an external dynamic list: a line each, `address` or `prefix` and a comment; the first
/// line is a comment. `If-None-Match` is answered with 304 where nothing changed. A token may also come as the password of HTTP Basic.
#[utoipa::path(
    get, path = "/feeds/edl/{list}", operation_id = "get_edl", tag = "enforcement",
    params(("list" = String, Path, description = "The outlet's name behind `edl/`")),
    responses(
        (status = 200, description = "The list", content((String = "text/plain")), headers(("etag" = String, description = "The same for the same list"))),
        (status = 304, description = "The list is the one that is known"),
        problem::ProblemDocument
    )
)]
pub(crate) async fn edl(
    State(app): State<Arc<App>>,
    Segment(list): Segment,
    Strict(NoParams {}): Strict<NoParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let board = board(&app)?;
    let list = aside(move || board.edl(&list, now())).await?;
    Ok(listed(&headers, list, "text/plain; charset=utf-8"))
}

/// Rate limits in force.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct RateLimits {
    /// The limits, in the order of their keys.
    items: Vec<RateLimit>,
    /// Always null: all limits are on one page.
    #[schema(required = true)]
    next_cursor: Option<String>,
}

/// One of them.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct RateLimit {
    /// Whom it is for.
    key: RateLimitKey,
    /// How much goes through.
    rate: Rate,
    /// Until when.
    #[schema(value_type = String, format = DateTime)]
    until: Micros,
}

/// Whom a limit is for.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct RateLimitKey {
    /// `ip`, `range`, or the field that names it, such as `user.name`.
    #[serde(rename = "type")]
    kind: String,
    /// The address, prefix or name.
    value: String,
}

/// How much goes through.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct Rate {
    /// So many requests.
    requests: u32,
    /// In so many seconds.
    seconds: u32,
}

/// Whom a gateway is to slow down. `If-None-Match` is answered with 304 where nothing changed.
#[utoipa::path(
    get, path = "/decisions/ratelimit", operation_id = "list_rate_limits", tag = "enforcement",
    responses(
        (status = 200, description = "The limits", body = RateLimits, headers(("etag" = String, description = "The same for the same limits"))),
        (status = 304, description = "The limits are those that are known"),
        problem::ProblemDocument
    )
)]
pub(crate) async fn rate_limits(
    State(app): State<Arc<App>>,
    Strict(NoParams {}): Strict<NoParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let board = board(&app)?;
    let list = aside(move || board.rate_limits(now())).await?;
    Ok(listed(&headers, list, "application/json"))
}

/// A list, unless it is the one that is known already.
fn listed(headers: &HeaderMap, list: List, media: &'static str) -> Response {
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut known = known.flat_map(|value| value.split(',')).map(|tag| tag.trim().trim_start_matches("W/"));
    let known = known.any(|tag| tag == "*" || tag == &*list.etag);
    let etag = HeaderValue::from_str(&list.etag).unwrap_or(HeaderValue::from_static("\"\""));
    let headers = [(header::ETAG, etag), (header::CONTENT_TYPE, HeaderValue::from_static(media))];
    if known {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, list.body).into_response()
}

fn json_body(body: Body) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

/// What takes milliseconds: away from what answers people.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Silence> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|_| {
        Problem::new(Kind::Internal, "This request hit a fault in Vedette; the log says more.")
    })?;
    done.map_err(silent)
}

fn board(app: &App) -> Result<Board, Problem> {
    app.board.clone().ok_or_else(|| silent(Silence::NoOutlet))
}

fn silent(silence: Silence) -> Problem {
    match silence {
        Silence::NoOutlet => Problem::new(
            Kind::NotFound,
            "No such outlet is configured; the connectors of the configuration name those there are.",
        ),
        Silence::NotYet => Problem::new(
            Kind::NotReady,
            "What is in force is not known yet; keep what you have and try again in a moment.",
        ),
    }
}

fn refused(wrong: &BadQuery) -> Problem {
    Problem::new(Kind::InvalidParameter, wrong.to_string())
}

fn pairs(uri: &Uri) -> impl Iterator<Item = (std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)> {
    form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
}

/// Which bouncer asks, from where.
fn asker(app: &App, caller: Caller, request: &Request) -> Asker {
    let key = match caller.credential {
        Credential::Token(hash) | Credential::Session { hash, .. } => hash,
        Credential::None => [0; 32],
    };
    let agent = request.headers().get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    let agent: String = agent.unwrap_or_default().chars().take(MAX_AGENT).collect();
    let address = client(request.extensions(), request.headers(), app.proxied);
    Asker { key, address, name: caller.name.into(), agent: agent.into() }
}
