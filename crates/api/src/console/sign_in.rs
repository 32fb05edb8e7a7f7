//! Signing in and out.

use std::{net::Ipv4Addr, sync::Arc};

use askama::Template;
use axum::{
    Extension,
    extract::{FromRequestParts, State},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header, request::Parts},
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{ASSETS_VERSION, forms::FormBody, render};
use crate::{
    app::App,
    auth::Caller,
    connections::Visiting,
    problem::{Kind, Problem},
    session::{Cookie, checked_path},
    sign_in::{self, Typed, Visitor, account},
};

/// Who is at the other end: what the connection says, or where a proxy is in front, the last address that it wrote down,
/// since all before that may be the visitor's own words.
impl FromRequestParts<Arc<App>> for Visitor {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Self::Rejection> {
        let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let peer = parts.extensions.get::<Visiting>().map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.0);
        let forwarded = parts.headers.get_all("x-forwarded-for").iter().next_back();
        let forwarded =
            forwarded.and_then(|value| value.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
        let address = forwarded.filter(|_| app.proxied).unwrap_or(peer);
        Ok(Self::new(address, text("user-agent").unwrap_or_default()))
    }
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage<'a> {
    assets: &'static str,
    name: &'a str,
    next: &'a str,
    problem: Option<&'a str>,
    /// Nobody can sign in yet.
    nobody: bool,
}

fn show(app: &App, name: &str, next: &str, problem: Option<&Problem>) -> Result<Response, Problem> {
    let nobody = app.admission.known().admitted.users.is_empty();
    let detail = problem.map(Problem::detail);
    let mut response = render(&SignInPage {
        assets: &ASSETS_VERSION,
        name,
        next: checked_path(next),
        problem: detail,
        nobody,
    })?;
    if let Some(problem) = problem {
        *response.status_mut() = problem.status();
        if let Some(after) = problem.header_value(&header::RETRY_AFTER) {
            response.headers_mut().insert(header::RETRY_AFTER, after.clone());
        }
    }
    Ok(response)
}

/// `GET /sign-in`.
pub(super) async fn page(
    State(app): State<Arc<App>>,
    caller: Option<Extension<Caller>>,
    uri: Uri,
) -> Result<Response, Problem> {
    let mut pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let next = pairs.find(|(name, _)| name == "next").map(|(_, next)| next.into_owned()).unwrap_or_default();
    if caller.is_some() {
        return Ok(Redirect::to(checked_path(&next)).into_response());
    }
    show(&app, "", &next, None)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignInForm {
    name: String,
    password: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    next: String,
}

/// `POST /sign-in`.
pub(super) async fn sign_in(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    FormBody(form): FormBody<SignInForm>,
) -> Result<Response, Problem> {
    let SignInForm { name, password, code, next } = form;
    let typed = Typed { name: &name, password: &password, code: &code };
    match sign_in::with_password(&app, typed, &visitor).await {
        Ok(secret) => Ok(enter(&app, &secret.text, &next)),
        Err(problem) if problem.is(Kind::SignInRefused) || problem.is(Kind::TooManyRequests) => {
            show(&app, &name, &next, Some(&problem))
        }
        Err(problem) => Err(problem),
    }
}

/// Sets the cookie of a new session and sends its browser on.
pub(super) fn enter(app: &App, secret: &str, next: &str) -> Response {
    let mut response = Redirect::to(checked_path(next)).into_response();
    let cookie = Cookie::Session.set(secret, app.admission.limits().longest, app.secure);
    append(response.headers_mut(), cookie);
    response
}

fn append(headers: &mut HeaderMap, cookie: Option<HeaderValue>) {
    if let Some(cookie) = cookie {
        headers.append(header::SET_COOKIE, cookie);
    }
}

/// `POST /sign-out`.
pub(super) async fn sign_out(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Problem> {
    account::sign_out(&app, &caller).await?;
    let mut response = (StatusCode::SEE_OTHER, [(header::LOCATION, "/sign-in")]).into_response();
    append(response.headers_mut(), Cookie::Session.clear(app.secure));
    Ok(response)
}
