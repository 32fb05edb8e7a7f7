//! The console: pages rendered here, forms that post back, one style sheet, one small script.
//!
//! In: requests of a browser. Out: HTML through templates that escape everything. Invariants: pages need no script,
//! load nothing from elsewhere, and show exactly what the API would say; no HTML is made by joining strings.

mod account;
mod actions;
mod alert;
mod alert_desk;
mod backtests;
mod bars;
mod cases;
mod children;
mod coverage;
mod dead_letters;
mod desk;
mod entity;
mod events;
mod forms;
mod hunt;
mod marks;
mod overview;
mod picture;
mod queue;
mod rules;
mod sheet;
mod sign_in;
mod sources;
mod timeline;
mod visible;
mod words;

use std::sync::{Arc, LazyLock};

use askama::Template;
use axum::{
    Router,
    http::{HeaderValue, Method, StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use include_dir::{Dir, include_dir};
use vedette_event::{Micros, Span};
use vedette_store::model::Role;

use crate::{
    access::{Permission, ROUTES},
    app::App,
    auth::{self, Caller},
    live::{Live, Mode, Readiness},
    metrics::now,
    params::Segment,
    problem::{Kind, Problem},
    proof::oidc::CALLBACK,
    session::{checked_path, forget_pages},
};

static ASSETS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../../dashboards/console/assets");

/// Names the assets' content in their links, so that browsers may keep them for ever.
static ASSETS_VERSION: LazyLock<String> = LazyLock::new(|| {
    use sha2::{Digest as _, Sha256};
    let mut hash = Sha256::new();
    for file in ASSETS.files() {
        hash.update(file.contents());
    }
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
});

/// The console's routes.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(queue::page))
        .route("/live", get(queue::live::follow))
        .route("/alerts/bulk", post(queue::acts::bulk))
        .route("/alerts/undo", post(queue::acts::undo))
        .route("/alerts/{id}", get(alert::page))
        .route("/alerts/{id}/events/{number}", get(alert::event))
        .route("/alerts/{id}/triage", post(forms::triage))
        .route("/alerts/{id}/comments", post(forms::comment))
        .route("/alerts/{id}/exception", get(desk::exception))
        .route("/alerts/{id}/playbooks", post(actions::run))
        .route("/actions", get(actions::page))
        .route("/actions/{id}", get(actions::one))
        .route("/actions/{id}/{decision}", post(actions::decide))
        .route("/playbooks", get(actions::playbooks))
        .route("/guards", get(actions::guards).post(actions::set_guards))
        .route("/kill-switch", post(actions::kill_switch))
        .route("/hunt", get(hunt::page).post(hunt::ask))
        .route("/hunt/event", get(hunt::event))
        .route("/hunt/saved", post(hunt::keep))
        .route("/hunt/saved/{id}/remove", post(hunt::remove))
        .route("/hunt/schedules", post(hunt::schedules::schedule))
        .route("/hunt/schedules/{id}", post(hunt::schedules::act))
        .route("/hunt/case", post(hunt::open_case))
        .route("/cases", get(cases::list).post(cases::open))
        .route("/cases/{id}", get(cases::page))
        .route("/cases/{id}/change", post(cases::change))
        .route("/cases/{id}/notes", post(cases::note))
        .route("/cases/{id}/merge", post(cases::merge))
        .route("/cases/{id}/remove", post(cases::remove))
        .route("/cases/{id}/split", post(cases::split))
        .route("/snoozes", get(desk::snoozes).post(desk::begin_snooze))
        .route("/snoozes/{id}/lift", post(desk::lift_snooze))
        .route("/views", get(desk::views).post(desk::save_view))
        .route("/views/{id}/remove", post(desk::remove_view))
        .route("/audit", get(desk::audit))
        .route("/rules", get(rules::page))
        .route("/rules/{id}", get(rules::one))
        .route("/rules/{id}/backtests", post(backtests::begin))
        .route("/backtests/{id}", get(backtests::page))
        .route("/backtests/{id}/stop", post(backtests::stop))
        .route("/attack", get(coverage::page))
        .route("/overview", get(overview::page))
        .route("/sources", get(sources::page))
        .route("/dead-letters", get(dead_letters::page))
        .route("/account", get(account::page))
        .route("/account/password", post(account::password))
        .route("/account/authenticator", post(account::authenticator))
        .route("/account/authenticator/remove", post(account::remove_authenticator))
        .route("/account/sessions/{id}/end", post(account::end_session))
        .route("/account/users/{name}", post(account::manage))
        .route("/sign-in", get(sign_in::page).post(sign_in::sign_in))
        .route("/sign-in/begin", get(sign_in::begin))
        .route(CALLBACK, get(sign_in::callback))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/entities/{type}/{value}", get(entity::page))
        .route("/assets/{name}", get(asset))
}

async fn asset(Segment(name): Segment) -> Result<Response, Problem> {
    let media = match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        _ => "image/svg+xml",
    };
    let file =
        ASSETS.get_file(&name).ok_or_else(|| Problem::new(Kind::NotFound, "There is no such file."))?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media)),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")),
    ];
    Ok((headers, file.contents()).into_response())
}

/// What every page has around its content.
pub(crate) struct Frame {
    current: &'static str,
    assets: &'static str,
    demo: bool,
    tone: &'static str,
    pulse: String,
    /// Since when the kernel stands still, and from when all figures are.
    stalled: Option<(Stamp, Stamp)>,
    obstacles: Vec<(String, String)>,
    degraded: Vec<(String, String)>,
    rejected: usize,
    /// Who asks, where somebody has to sign in.
    person: Option<Person>,
    /// What forms carry.
    csrf: Option<String>,
    /// Whether who asks may change alerts: nobody is shown a button that would refuse him.
    triages: bool,
    role: Option<Role>,
}

/// Who signed in.
struct Person {
    name: String,
    role: &'static str,
}

impl Frame {
    fn new(live: &Live, current: &'static str) -> Self {
        let asking = auth::asking();
        let (tone, pulse) = pulse(live);
        let told = |message: &String, since: Micros| (message.clone(), Stamp::of(since).text);
        let Readiness { obstacles, degraded, .. } = &live.ready;
        Self {
            current,
            assets: &ASSETS_VERSION,
            demo: live.status.mode == Mode::Demo,
            tone,
            pulse,
            stalled: live.stalled_kernel().map(|k| (Stamp::of(k.moved_at), Stamp::of(live.as_of))),
            obstacles: obstacles.iter().map(|o| told(&o.message, o.since)).collect(),
            degraded: degraded.iter().map(|d| told(&d.message, d.since)).collect(),
            rejected: live.rejected.len(),
            role: asking.as_ref().map(|caller| caller.role),
            triages: asking.as_ref().is_some_and(|caller| caller.may(Permission::Triage)),
            csrf: asking.as_ref().and_then(|caller| caller.csrf().map(str::to_owned)),
            person: asking
                .filter(|caller| caller.csrf().is_some())
                .map(|caller| Person { name: caller.name, role: caller.role.name() }),
        }
    }

    /// The pages that who asks may open.
    fn nav(&self) -> impl Iterator<Item = (&'static str, &'static str, bool)> {
        [
            ("/overview", "Overview"),
            ("/", "Alerts"),
            ("/actions", "Actions"),
            ("/cases", "Cases"),
            ("/hunt", "Hunt"),
            ("/snoozes", "Snoozes"),
            ("/views", "Views"),
            ("/rules", "Rules"),
            ("/sources", "Sources"),
            ("/dead-letters", "Dead letters"),
            ("/audit", "Audit"),
        ]
        .into_iter()
        .filter(|(path, _)| self.role.is_some_and(|role| Some(role) >= least(path)))
        .map(|(path, name)| (path, name, path == self.current))
    }
}

/// The least role that a page of the console takes.
fn least(path: &str) -> Option<Role> {
    ROUTES.iter().find(|(method, own, ..)| *method == Method::GET && *own == path).and_then(|route| route.2)
}

/// How far behind the slowest source is, in words and as a colour.
fn pulse(live: &Live) -> (&'static str, String) {
    if live.stalled_kernel().is_some() {
        return ("bad", "Stalled".to_owned());
    }
    if !live.ready.ready {
        return ("bad", "Not ready".to_owned());
    }
    let slowest = live.sources.iter().filter_map(|source| source.watermark).min();
    match slowest.map(|watermark| now().since(watermark)) {
        None => ("warn", "Waiting for events".to_owned()),
        Some(delay) if delay <= Span::secs(120) => ("ok", format!("Watching, {} behind", words::span(delay))),
        Some(delay) => ("warn", format!("{} behind", words::span(delay))),
    }
}

/// A time for machines and for people: only the time of day if it is today (UTC).
#[derive(Debug, Clone)]
struct Stamp {
    iso: String,
    text: String,
}

impl Stamp {
    fn of(time: Micros) -> Self {
        let iso = time.to_string();
        let (date, clock) = iso.split_once('T').unwrap_or(("", &iso));
        let clock = clock.get(..8).unwrap_or(clock);
        let today = now().midnight() == time.midnight();
        let text = if today { clock.to_owned() } else { format!("{date} {clock}") };
        Self { iso, text }
    }
}

/// Renders a page.
fn render(page: &impl Template) -> Result<Response, Problem> {
    let html = page.render().map_err(|error| {
        tracing::error!(%error, "a page could not be rendered");
        Problem::new(Kind::Internal, "This page could not be rendered; the log says why.")
    })?;
    Ok(Html(html).into_response())
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    frame: Frame,
    title: &'a str,
    detail: &'a str,
}

#[derive(Template)]
#[template(path = "stranger_error.html")]
struct StrangerErrorPage<'a> {
    assets: &'static str,
    title: &'a str,
    detail: &'a str,
}

/// Sends a browser whose session has ended, if it ever had one, to where people sign in, and back afterwards.
pub(crate) fn to_sign_in(wanted: &str) -> Response {
    let next = checked_path(wanted);
    let pairs: &[(&str, &str)] = if next == "/" { &[] } else { &[("next", next)] };
    ([forget_pages()], Redirect::to(&href("/sign-in", pairs))).into_response()
}

/// A problem as a page; who has not signed in is told nothing of what is around it.
pub(crate) async fn error_page(app: &App, caller: Option<Caller>, problem: &Problem) -> Response {
    match caller {
        Some(caller) => auth::on_behalf_of(Some(caller), async { framed_error(app, problem) }).await,
        None => {
            let (title, detail) = (problem.title(), problem.detail());
            let page = StrangerErrorPage { assets: &ASSETS_VERSION, title, detail };
            let mut response = render(&page).unwrap_or_else(IntoResponse::into_response);
            *response.status_mut() = problem.status();
            response
        }
    }
}

fn framed_error(app: &App, problem: &Problem) -> Response {
    let live = app.live.now();
    let page = ErrorPage { frame: Frame::new(&live, ""), title: problem.title(), detail: problem.detail() };
    let mut response = render(&page).unwrap_or_else(IntoResponse::into_response);
    *response.status_mut() = problem.status();
    if problem.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// A path with query parameters, percent-encoded.
fn href(path: &str, pairs: &[(&str, &str)]) -> String {
    if pairs.is_empty() {
        return path.to_owned();
    }
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    format!("{path}?{query}")
}

/// `prefix` and a value as one path segment.
fn segment(prefix: &str, value: &str) -> String {
    let escaped: String = value
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect();
    format!("{prefix}{escaped}")
}
