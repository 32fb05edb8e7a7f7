//! What every request passes before a route sees it, and every response before it leaves.
//!
//! In: a request. Out: its answer with security headers, or a problem: wrong host (DNS rebinding), no or unknown
//! token, a state change from another site, too many at once, too slow, a panic.
//! Invariants: no response leaves without the headers; a panic is an answer, never a lost connection.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::FutureExt as _;
use tokio::{sync::Semaphore, time::timeout};

use crate::{
    app::App,
    auth::{Caller, bearer},
    console,
    params::short,
    problem::{Kind, Problem},
};

/// Requests under way at once; event streams have their own limit.
const MAX_REQUESTS: usize = 128;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

const CSP: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                   form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, CSP),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    // `no-referrer` would make browsers send `Origin: null` with the console's own forms.
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// What the guard needs besides the app.
#[derive(Clone)]
pub(crate) struct Guard {
    app: Arc<App>,
    requests: Arc<Semaphore>,
}

impl Guard {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Self { app, requests: Arc::new(Semaphore::new(MAX_REQUESTS)) }
    }
}

/// The outermost layer.
pub(crate) async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let route =
        request.extensions().get::<MatchedPath>().map_or("unmatched", |path| path.as_str()).to_owned();
    let page = guard.app.console && wants_page(&request);
    let answer = AssertUnwindSafe(admit(&guard, request, next)).catch_unwind().await;
    let answer = answer.unwrap_or_else(|_| {
        tracing::error!(%method, route, "a request panicked");
        Err(Problem::new(Kind::Internal, "This request hit a fault in Vedette; the log says more."))
    });
    let mut response = answer.unwrap_or_else(IntoResponse::into_response);
    if page && let Some(problem) = response.extensions_mut().remove::<Problem>() {
        response = console::error_page(&guard.app, &problem);
    }
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    guard.app.metrics.count_request(method.as_str(), &route, response.status().as_u16());
    response
}

async fn admit(guard: &Guard, mut request: Request, next: Next) -> Result<Response, Problem> {
    let app = &guard.app;
    check_host(app, request.headers())?;
    let path = request.uri().path();
    if !is_public(path) {
        let caller = authenticate(app, request.headers()).await?;
        if caller.ambient && !request.method().is_safe() {
            check_same_site(request.headers())?;
        }
        request.extensions_mut().insert(caller);
    }
    if request.uri().path() == "/api/v1/alerts/stream" {
        return Ok(next.run(request).await);
    }
    let Ok(_permit) = guard.requests.try_acquire() else {
        return Err(Problem::new(
            Kind::TooManyRequests,
            "Too many requests are under way. Try again in a moment.",
        ));
    };
    let answered = timeout(REQUEST_TIMEOUT, next.run(request)).await;
    answered
        .map_err(|_| Problem::new(Kind::Timeout, "The request took longer than 10 seconds and was given up."))
}

/// Health and the console's own files tell a stranger nothing.
fn is_public(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz") || path.starts_with("/assets/")
}

fn wants_page(request: &Request<Body>) -> bool {
    let accepts = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    !request.uri().path().starts_with("/api/") && accepts.is_some_and(|types| types.contains("text/html"))
}

async fn authenticate(app: &App, headers: &HeaderMap) -> Result<Caller, Problem> {
    match headers.get(header::AUTHORIZATION) {
        Some(value) => {
            let token = bearer(value.to_str().unwrap_or_default())?;
            app.tokens.caller(&app.store, token).await
        }
        None if app.open => Ok(Caller::local()),
        None => Err(Problem::new(
            Kind::Unauthenticated,
            "Send `Authorization: Bearer vdt_…`; `vedette token create` makes a token.",
        )),
    }
}

/// Loopback's names and the configured ones are answered to, so that no foreign name can be pointed here by DNS; beyond
/// loopback any name, if none is configured.
fn check_host(app: &App, headers: &HeaderMap) -> Result<(), Problem> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|value| value.to_str().ok());
    if hosts.next().is_some() {
        return Err(Problem::new(Kind::InvalidHost, "A request has one Host header."));
    }
    let authority = host.and_then(|host| host.parse::<Authority>().ok());
    let name = authority.as_ref().map(Authority::host).unwrap_or_default();
    let mut own = ["localhost", "127.0.0.1", "[::1]"].into_iter().chain(app.hosts.iter().map(String::as_str));
    let any = !app.loopback && app.hosts.is_empty() && !name.is_empty();
    if any || own.any(|own| own.eq_ignore_ascii_case(name)) {
        return Ok(());
    }
    Err(Problem::new(Kind::UnknownHost, "This server does not answer to the name in the Host header."))
}

/// A browser says where a request comes from; programs send neither header.
fn check_same_site(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let same = match (text(&HeaderName::from_static("sec-fetch-site")), text(&header::ORIGIN)) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => {
            let host = text(&header::HOST).unwrap_or("?");
            origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) == Some(host)
        }
        (None, None) => true,
    };
    if same {
        return Ok(());
    }
    Err(Problem::new(Kind::CrossSite, "A page of another site may not change anything here."))
}

/// The answer where no route matches.
pub(crate) async fn no_route(request: Request) -> Problem {
    let detail = format!("There is nothing at `{}`.", short(request.uri().path()));
    Problem::new(Kind::NotFound, detail)
}

/// The answer where the route has no such method; axum adds `Allow`.
pub(crate) async fn no_method(method: Method) -> Problem {
    Problem::new(Kind::MethodNotAllowed, format!("This path does not take {method}."))
}
