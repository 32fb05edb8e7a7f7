//! Signing in and out.

use std::sync::Arc;

use askama::Template;
use axum::{
    Extension,
    extract::{FromRequestParts, State},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header, request::Parts},
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;
use vedette_store::model::{Method, Proof, User};

use super::{ASSETS_VERSION, forms::FormBody, render};
use crate::{
    app::App,
    auth::Caller,
    connections::client,
    problem::{Kind, Problem},
    proof::oidc::{LASTS, Provider, Returned},
    session::{Cookie, checked_path, forget_pages},
    sign_in::{self, Typed, Visitor, account, oidc},
};

/// The parameter that says that somebody just signed out whom the provider vouched for.
const SIGNED_OUT: &str = "signed_out";

impl FromRequestParts<Arc<App>> for Visitor {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Self::Rejection> {
        let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let address = client(&parts.extensions, &parts.headers, app.proxied);
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
    /// There are users with passwords.
    passwords: bool,
    provider: Option<ProviderPart>,
}

/// Signing in elsewhere.
struct ProviderPart {
    name: String,
    /// What begins it.
    begin: String,
    /// It did not answer when it was last asked.
    away: bool,
    /// Where one signs out there too, for who just signed out here.
    sign_out: Option<String>,
}

impl ProviderPart {
    fn of(provider: &Provider, next: &str, signed_out: bool) -> Self {
        let next: String = form_urlencoded::byte_serialize(next.as_bytes()).collect();
        Self {
            name: provider.name().to_owned(),
            begin: format!("/sign-in/begin?next={next}"),
            away: provider.is_away(),
            sign_out: signed_out.then(|| provider.sign_out_url()).flatten(),
        }
    }
}

/// What the page is shown with.
#[derive(Default)]
struct Shown<'a> {
    name: &'a str,
    next: &'a str,
    problem: Option<&'a Problem>,
    /// By somebody whom the provider vouched for.
    signed_out: bool,
}

fn show(app: &App, shown: &Shown<'_>) -> Result<Response, Problem> {
    let Shown { name, next, problem, signed_out } = *shown;
    let known = app.admission.known();
    let provider = app.proofs.provider.as_deref();
    let next = checked_path(next);
    let local = |user: &User| matches!(user.proof, Proof::Password { .. });
    let mut response = render(&SignInPage {
        assets: &ASSETS_VERSION,
        name,
        next,
        problem: problem.map(Problem::detail),
        nobody: known.admitted.users.is_empty() && provider.is_none(),
        passwords: provider.is_none() || known.admitted.users.iter().any(local),
        provider: provider.map(|provider| ProviderPart::of(provider, next, signed_out)),
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
    let next = parameter(&uri, "next").unwrap_or_default();
    if caller.is_some() {
        return Ok(Redirect::to(checked_path(&next)).into_response());
    }
    let signed_out = parameter(&uri, SIGNED_OUT).is_some();
    show(&app, &Shown { next: &next, signed_out, ..Shown::default() })
}

/// The first parameter of this name.
fn parameter(uri: &Uri, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    pairs.find(|(given, _)| given == name).map(|(_, value)| value.into_owned())
}

/// `GET /sign-in/begin`: a link and not a form, because a browser lets no form of a page that may only send to its own host
/// lead to another one. It changes nothing but a cookie.
pub(super) async fn begin(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    let next = parameter(&uri, "next").unwrap_or_default();
    let next = checked_path(&next);
    match oidc::to_provider(&app, next).await {
        Ok(begun) => {
            let mut response = (StatusCode::SEE_OTHER, [(header::LOCATION, begun.url)]).into_response();
            append(response.headers_mut(), Cookie::SignIn.set(&begun.cookie, LASTS, app.secure));
            Ok(response)
        }
        Err(problem) if problem.is(Kind::NotFound) => Err(problem),
        Err(problem) => show(&app, &Shown { next, problem: Some(&problem), ..Shown::default() }),
    }
}

/// `GET /sign-in/callback`: back from the provider.
pub(super) async fn callback(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let returned = Returned {
        code: parameter(&uri, "code"),
        state: parameter(&uri, "state"),
        issuer: parameter(&uri, "iss"),
        error: parameter(&uri, "error"),
        description: parameter(&uri, "error_description"),
    };
    let cookie = Cookie::SignIn.read(&headers, app.secure);
    let mut response = match oidc::from_provider(&app, cookie, &returned, &visitor).await {
        Ok(entered) => enter(&app, &entered.secret.text, &entered.next),
        Err(problem) if problem.is(Kind::NotFound) => return Err(problem),
        Err(problem) => show(&app, &Shown { problem: Some(&problem), ..Shown::default() })?,
    };
    // Whatever came of it, it is over.
    append(response.headers_mut(), Cookie::SignIn.clear(app.secure));
    Ok(response)
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
            show(&app, &Shown { name: &name, next: &next, problem: Some(&problem), signed_out: false })
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
    let method = account::sign_out(&app, &caller).await?;
    let vouched_for = method == Some(Method::Provider);
    let place = if vouched_for { format!("/sign-in?{SIGNED_OUT}=1") } else { "/sign-in".to_owned() };
    let mut response = (StatusCode::SEE_OTHER, [forget_pages()], [(header::LOCATION, place)]).into_response();
    append(response.headers_mut(), Cookie::Session.clear(app.secure));
    Ok(response)
}
