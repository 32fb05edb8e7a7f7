//! What every request passes before a route sees it, and every response before it leaves.
//!
//! In: a request. Out: its answer with security headers, or a problem: wrong host (DNS rebinding), no or unknown
//! token, no session, too low a role, a state change from another site or without the form's token, too many at once, too
//! slow, a panic. Invariants: a browser that nobody signed in with is shown where to, and no more; no response leaves without the headers; a panic is an answer, never a lost connection; nothing that one
//! kind of work waits for (a body, a search, the store's writer) takes a permit of another kind.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{FromRequest as _, MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::FutureExt as _;
use serde_json::json;
use tokio::{sync::Semaphore, time::timeout};

use crate::{
    access::{Door, WorkKind, door},
    app::App,
    auth::{self, Caller, bearer},
    connections::Reserve,
    console,
    params::refused_body,
    problem::{Kind, Problem, short},
    rates::{Rates, SUSTAINED},
    session::{self, CSRF_FIELD, CSRF_HEADER, Cookie},
};

/// Pages read at once: more than the store's connections, so that it never idles, and few enough that the last one
/// waits for milliseconds.
const MAX_READS: usize = 128;
/// Searches under way or waiting for one of the store's connections for them.
const MAX_SEARCHES: usize = 16;
/// Changes under way or waiting for the store's writer.
const MAX_WRITES: usize = 32;
/// Attempts to sign in under way or waiting for a password's turn, and their bodies: apart from those of people who are in,
/// so that strangers hold nobody up.
const MAX_SIGN_INS: usize = 16;
/// Requests that wait for the identity provider, for eight seconds at most: apart from all others, so that a provider that
/// hangs holds up nobody else.
const MAX_AT_PROVIDER: usize = 32;
/// Bodies being read; one is at most 256 KiB.
const MAX_BODIES: usize = 64;
/// Fetches by enforcement points being answered, and as many bodies of theirs being read: each a list written or a lookup, so that
/// two processors have few of them at once.
const MAX_FETCHES: usize = 64;
/// For an answer: beyond it nobody looks at the page any more, while its permit would keep others waiting.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// For the beginning of a hunt's answer, or all of it where it is a page: longer than a hunt may take.
const HUNT_TIMEOUT: Duration = Duration::from_secs(90);
/// For a whole body: the largest needs 200 kbit/s.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

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

/// Where the paths begin that bouncers know.
const BOUNCERS: &str = "/v1/";
/// In which bouncers send their token.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What the guard needs besides the app.
#[derive(Clone)]
pub(crate) struct Guard {
    app: Arc<App>,
    permits: Arc<Permits>,
    rates: Arc<Rates>,
}

/// Permits by kind of work.
struct Permits {
    reads: Semaphore,
    searches: Semaphore,
    writes: Arc<Semaphore>,
    bodies: Semaphore,
    sign_ins: Semaphore,
    sign_in_bodies: Semaphore,
    at_provider: Semaphore,
    fetches: Semaphore,
    fetch_bodies: Semaphore,
}

impl Guard {
    pub(crate) fn new(app: Arc<App>) -> Self {
        let permits = Permits {
            reads: Semaphore::new(MAX_READS),
            searches: Semaphore::new(MAX_SEARCHES),
            writes: Arc::new(Semaphore::new(MAX_WRITES)),
            bodies: Semaphore::new(MAX_BODIES),
            sign_ins: Semaphore::new(MAX_SIGN_INS),
            sign_in_bodies: Semaphore::new(MAX_SIGN_INS),
            at_provider: Semaphore::new(MAX_AT_PROVIDER),
            fetches: Semaphore::new(MAX_FETCHES),
            fetch_bodies: Semaphore::new(MAX_FETCHES),
        };
        Self { app, permits: Arc::new(permits), rates: Arc::new(Rates::new()) }
    }
}

/// The outermost layer.
pub(crate) async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let route =
        request.extensions().get::<MatchedPath>().map_or("unmatched", |path| path.as_str()).to_owned();
    let page = guard.app.console && wants_page(&request);
    let template = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let door = door(&method, template, request.uri());
    // Where to go on after signing in; a change that was refused is not done by itself later.
    let wanted = if method.is_safe() {
        request.uri().path_and_query().map(|path| path.as_str().to_owned())
    } else {
        None
    };
    let who = authenticate(&guard.app, door.work, request.headers());
    let caller = who.as_ref().ok().cloned();
    let admitted = auth::on_behalf_of(caller.clone(), admit(&guard, door, who, request, next));
    let answer = AssertUnwindSafe(admitted).catch_unwind().await;
    let answer = answer.unwrap_or_else(|_| {
        tracing::error!(%method, route, "a request panicked");
        Err(Problem::new(Kind::Internal, "This request hit a fault in Vedette; the log says more."))
    });
    let mut response = answer.unwrap_or_else(IntoResponse::into_response);
    if door.work == WorkKind::Fetch
        && let Some(problem) = response.extensions_mut().remove::<Problem>()
    {
        response = in_their_words(&route, &problem, response);
    }
    if page && let Some(problem) = response.extensions_mut().remove::<Problem>() {
        response = match caller {
            None if problem.is(Kind::Unauthenticated) => {
                console::to_sign_in(wanted.as_deref().unwrap_or("/"))
            }
            caller => console::error_page(&guard.app, caller, &problem).await,
        };
    }
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    guard.app.metrics.count_request(method.as_str(), &route, response.status().as_u16());
    response
}

async fn admit(
    guard: &Guard,
    Door { role, work }: Door,
    who: Result<Caller, Problem>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let app = &guard.app;
    if work != WorkKind::Probe && request.extensions().get::<Reserve>().is_some() {
        let detail = "All connections are in use; only probes are answered. Try again in a moment.";
        return Err(Problem::new(Kind::Overloaded, detail));
    }
    check_host(app, request.headers())?;
    let changes = !request.method().is_safe();
    let caller = match role {
        Some(least) => {
            let caller = who?;
            if caller.ambient && changes {
                check_same_site(request.headers())?;
            }
            caller.require(least)?;
            Some(caller)
        }
        None if changes => {
            check_same_site(request.headers())?;
            who.ok()
        }
        None => who.ok(),
    };
    // Where nobody signs in there is one caller, who keeps nobody else out.
    if let Some(caller) = caller.as_ref().filter(|_| !app.open) {
        guard.rates.count(&caller.name).map_err(|wait| {
            let detail = format!(
                "You ask more often than {SUSTAINED} times a second; come again when `Retry-After` says."
            );
            Problem::new(Kind::TooManyRequests, detail).retry_after(wait.as_secs() as i64 + 1)
        })?;
    }
    let permits = &guard.permits;
    if changes {
        let bodies = match work {
            WorkKind::SignIn => &permits.sign_in_bodies,
            WorkKind::Fetch => &permits.fetch_bodies,
            _ => &permits.bodies,
        };
        request = whole(bodies, request, caller.as_ref().and_then(Caller::csrf)).await?;
    }
    if let Some(caller) = caller.clone() {
        request.extensions_mut().insert(caller);
    }
    let (permit, what) = match work {
        WorkKind::Probe => return Ok(next.run(request).await),
        // Its permit is for the whole stream, and taken where that begins.
        WorkKind::Stream => return in_time(next.run(request)).await,
        WorkKind::Hunt => return within(HUNT_TIMEOUT, next.run(request)).await,
        WorkKind::SignIn => (permits.sign_ins.try_acquire(), "attempts to sign in"),
        WorkKind::Provider => (permits.at_provider.try_acquire(), "sign-ins at the identity provider"),
        WorkKind::Read => (permits.reads.try_acquire(), "requests"),
        WorkKind::Search => (permits.searches.try_acquire(), "searches"),
        WorkKind::Write => (permits.writes.try_acquire(), "changes"),
        // How many rows it is for says its body; where they are many, the use case takes a place for that, too.
        WorkKind::Bulk => return to_its_end(&permits.writes, caller, next.run(request)).await,
        WorkKind::Question => (permits.searches.try_acquire(), "searches"),
        WorkKind::Fetch => (permits.fetches.try_acquire(), "fetches"),
    };
    let _permit = permit.map_err(|_| too_many(what))?;
    in_time(next.run(request)).await
}

async fn in_time(answer: impl Future<Output = Response>) -> Result<Response, Problem> {
    within(REQUEST_TIMEOUT, answer).await
}

async fn within(time: Duration, answer: impl Future<Output = Response>) -> Result<Response, Problem> {
    let detail = || format!("The request took longer than {} seconds and was given up.", time.as_secs());
    timeout(time, answer).await.map_err(|_| Problem::new(Kind::Timeout, detail()))
}

/// Runs to its end what goes in bounded steps, however many, also when nobody waits for the answer any more: half of a change
/// would be the worse outcome.
async fn to_its_end(
    permits: &Arc<Semaphore>,
    caller: Option<Caller>,
    answer: impl Future<Output = Response> + Send + 'static,
) -> Result<Response, Problem> {
    let permit = Arc::clone(permits).try_acquire_owned().map_err(|_| too_many("changes"))?;
    let answer = tokio::spawn(auth::on_behalf_of(caller, async move {
        let answer = answer.await;
        drop(permit);
        answer
    }));
    answer.await.map_err(|error| {
        tracing::error!(%error, "a change of many alerts ended early");
        Problem::new(Kind::Internal, "This request hit a fault in Vedette; the log says more.")
    })
}

fn too_many(what: &str) -> Problem {
    Problem::new(Kind::TooManyRequests, format!("Too many {what} are under way. Try again in a moment."))
}

/// The request with its whole body, so that no work waits for bytes that may never come; of a session only if it bears the
/// form's token, which no route sees.
async fn whole(bodies: &Semaphore, request: Request, csrf: Option<&str>) -> Result<Request, Problem> {
    let _permit = bodies.try_acquire().map_err(|_| too_many("bodies"))?;
    let (parts, body) = request.into_parts();
    // The extractor knows the limit that the router sets, and takes a whole request.
    let coming = Bytes::from_request(Request::from_parts(parts.clone(), body), &());
    match timeout(BODY_TIMEOUT, coming).await {
        Ok(Ok(bytes)) => {
            let bytes = match csrf {
                Some(csrf) => check_form(&parts.headers, bytes, csrf)?,
                None => bytes,
            };
            Ok(Request::from_parts(parts, Body::from(bytes)))
        }
        Ok(Err(rejection)) => Err(refused_body(rejection)),
        Err(_) => Err(Problem::new(Kind::BodyTooSlow, "The body did not come within 10 seconds.")),
    }
}

/// The body without the form's token, if that is the session's. A page of another site can send forms, plain text and
/// nothing at all; anything else it has to ask for first, and is not answered. What scripts of ours send otherwise says where
/// it comes from, as all browsers do.
fn check_form(headers: &HeaderMap, body: Bytes, csrf: &str) -> Result<Bytes, Problem> {
    let expired = || {
        let detail = "This form is not of your present session, or the page is old. Load it again and repeat the change.";
        Problem::new(Kind::FormExpired, detail)
    };
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let media = text("content-type").unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if text(CSRF_HEADER).is_some_and(|given| session::same(given, csrf)) {
        return Ok(body);
    }
    if media.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        let (mut given, mut rest) = (None, form_urlencoded::Serializer::new(String::new()));
        for (name, value) in form_urlencoded::parse(&body) {
            if name == CSRF_FIELD {
                given = Some(value);
            } else {
                rest.append_pair(&name, &value);
            }
        }
        let same = given.is_some_and(|given| session::same(&given, csrf));
        return if same { Ok(rest.finish().into()) } else { Err(expired()) };
    }
    let says = headers.contains_key("sec-fetch-site") || headers.contains_key(header::ORIGIN);
    let simple =
        ["", "text/plain", "multipart/form-data"].iter().any(|simple| media.eq_ignore_ascii_case(simple));
    if simple || !says { Err(expired()) } else { Ok(body) }
}

fn wants_page(request: &Request<Body>) -> bool {
    let accepts = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let path = request.uri().path();
    !path.starts_with("/api/")
        && !path.starts_with(BOUNCERS)
        && accepts.is_some_and(|types| types.contains("text/html"))
}

/// A refusal as whoever fetches reads it: bouncers know one for a wrong key, firewalls are asked for a password.
fn in_their_words(route: &str, problem: &Problem, mut response: Response) -> Response {
    let stranger = problem.is(Kind::Unauthenticated);
    if !route.starts_with(BOUNCERS) {
        if stranger {
            let asked = HeaderValue::from_static("Basic realm=\"vedette\", charset=\"UTF-8\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, asked);
        }
        return response;
    }
    let refused = stranger || problem.is(Kind::Forbidden);
    let (status, message) = match refused {
        true => (StatusCode::FORBIDDEN, "access forbidden"),
        false => (problem.status(), problem.detail()),
    };
    let mut said = (status, Json(json!({"message": message}))).into_response();
    if let Some(later) = response.headers().get(header::RETRY_AFTER) {
        said.headers_mut().insert(header::RETRY_AFTER, later.clone());
    }
    said
}

fn authenticate(app: &App, work: WorkKind, headers: &HeaderMap) -> Result<Caller, Problem> {
    let key = headers.get(API_KEY).filter(|_| work == WorkKind::Fetch);
    match headers.get(header::AUTHORIZATION) {
        Some(value) if work == WorkKind::Fetch => {
            app.admission.token(&auth::bearer_or_password(value.to_str().unwrap_or_default())?)
        }
        None if key.is_some() => {
            app.admission.token(key.and_then(|key| key.to_str().ok()).unwrap_or_default())
        }
        Some(value) => {
            let token = bearer(value.to_str().unwrap_or_default())?;
            app.admission.token(token)
        }
        None => {
            let session = Cookie::Session.read(headers, app.secure);
            let caller = session.and_then(|secret| app.admission.session(secret));
            caller.or_else(|| app.open.then(Caller::local)).ok_or_else(|| {
                Problem::new(
                    Kind::Unauthenticated,
                    "Sign in, or send `Authorization: Bearer vdt_…`; `vedette token create` makes a token.",
                )
            })
        }
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
