//! Who one is: role, sessions, password, authenticator; for admins everybody's sessions and all users, with what they
//! can do with each.

use std::{collections::HashSet, sync::Arc};

use askama::Template;
use axum::{
    Extension,
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;
use vedette_store::model::{Method, Proof, Role, Session, User, UserChange};

use super::{Frame, Stamp, forms::FormBody, render, segment, words};
use crate::{
    access::Permission,
    app::App,
    auth::{Caller, Credential},
    params::Segment,
    problem::{Kind, Problem},
    proof::{no_random, totp},
    sign_in::{Visitor, account},
};

/// Rows of a table: the newest of so many.
const ROWS: usize = 200;

struct SessionRow {
    id: String,
    user: String,
    current: bool,
    method: &'static str,
    address: String,
    agent: String,
    since: Stamp,
    used: Stamp,
}

impl SessionRow {
    fn of(session: &Session, caller: &Caller) -> Self {
        let current = matches!(&caller.credential, Credential::Session { id, .. } if *id == session.id);
        Self {
            id: session.id.clone(),
            user: session.user.clone(),
            current,
            method: method_words(session.method),
            address: session.address.clone(),
            agent: session.agent.clone(),
            since: Stamp::of(session.created_at),
            used: Stamp::of(session.last_used_at),
        }
    }
}

struct UserRow {
    name: String,
    /// Where its form leads.
    href: String,
    role: &'static str,
    proof: &'static str,
    disabled: Option<Stamp>,
    signed_in: Option<Stamp>,
    /// Has sessions.
    here: bool,
    /// Gets the role from the provider.
    provided: bool,
    /// Nobody else could manage people: stays what they are.
    last: bool,
}

impl UserRow {
    fn of(user: &User, here: bool, admins: usize) -> Self {
        let proof = match &user.proof {
            Proof::Password { totp: None, .. } => "password",
            Proof::Password { totp: Some(_), .. } => "password and code",
            Proof::Provider(_) => "single sign-on",
        };
        Self {
            name: user.name.clone(),
            href: segment("/account/users/", &user.name),
            role: user.role.name(),
            proof,
            disabled: user.disabled_at.map(Stamp::of),
            signed_in: user.last_signed_in_at.map(Stamp::of),
            here,
            provided: matches!(user.proof, Proof::Provider(_)),
            last: user.is_admitted_admin() && admins == 1,
        }
    }
}

/// An authenticator to be set up.
struct Fresh {
    secret: String,
    link: String,
}

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage {
    frame: Frame,
    name: String,
    role: &'static str,
    /// Nobody signed in: the open console, or a token.
    nobody: bool,
    /// Has a password here.
    local: bool,
    authenticator: bool,
    fresh: Option<Fresh>,
    own: Vec<SessionRow>,
    manages: bool,
    others: Vec<SessionRow>,
    users: Vec<UserRow>,
    more_users: usize,
    /// Those that people have.
    roles: Vec<(&'static str, String)>,
    problem: Option<String>,
}

async fn show(app: &App, caller: &Caller, problem: Option<&Problem>) -> Result<Response, Problem> {
    let user = match caller.credential {
        Credential::Session { .. } => app.store.user(&caller.name).await?,
        _ => None,
    };
    let totp = match user.as_ref().map(|user| &user.proof) {
        Some(Proof::Password { totp, .. }) => Some(totp.is_some()),
        _ => None,
    };
    let fresh = match totp {
        Some(false) => {
            let secret = totp::create().map_err(no_random)?;
            Some(Fresh { secret: totp::written(&secret), link: totp::link(&caller.name, &secret) })
        }
        _ => None,
    };
    let manages = caller.may(Permission::ManagePeople);
    let (own, others): (Vec<_>, Vec<_>) =
        account::sessions(app, caller).into_iter().partition(|session| account::is_own(session, caller));
    let rows = |sessions: &[Session]| sessions.iter().take(ROWS).map(|s| SessionRow::of(s, caller)).collect();
    let known = app.admission.known();
    let users = if manages { known.admitted.users.as_slice() } else { &[] };
    let here: HashSet<_> = others.iter().chain(&own).map(|session| session.user.as_str()).collect();
    let admins = users.iter().filter(|user| user.is_admitted_admin()).count();
    let user_row = |user: &User| UserRow::of(user, here.contains(user.name.as_str()), admins);
    let roles = Role::ALL.iter().filter(|role| **role >= Role::Reader);
    let page = AccountPage {
        frame: Frame::new(&app.live.now(), "/account"),
        name: caller.name.clone(),
        role: caller.role.name(),
        nobody: user.is_none(),
        local: totp.is_some(),
        authenticator: totp == Some(true),
        fresh,
        own: rows(&own),
        manages,
        others: rows(&others),
        users: users.iter().take(ROWS).map(user_row).collect(),
        more_users: users.len().saturating_sub(ROWS),
        roles: roles.map(|role| (role.name(), words::label(role.name()))).collect(),
        problem: problem.map(|problem| problem.detail().to_owned()),
    };
    let mut response = render(&page)?;
    if let Some(problem) = problem {
        *response.status_mut() = problem.status();
    }
    Ok(response)
}

/// Back to the page, or the page with what was wrong.
async fn answer(app: &App, caller: &Caller, done: Result<(), Problem>) -> Result<Response, Problem> {
    match done {
        Ok(()) => Ok(Redirect::to("/account").into_response()),
        Err(problem)
            if [
                Kind::SignInRefused,
                Kind::TooManyRequests,
                Kind::InvalidBody,
                Kind::NotFound,
                Kind::Conflict,
            ]
            .into_iter()
            .any(|kind| problem.is(kind)) =>
        {
            show(app, caller, Some(&problem)).await
        }
        Err(problem) => Err(problem),
    }
}

/// `GET /account`.
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Problem> {
    show(&app, &caller, None).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PasswordForm {
    present: String,
    #[serde(default)]
    code: String,
    new: String,
    again: String,
}

/// `POST /account/password`.
pub(super) async fn password(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    visitor: Visitor,
    FormBody(form): FormBody<PasswordForm>,
) -> Result<Response, Problem> {
    let PasswordForm { present, code, new, again } = form;
    let done = if new == again {
        account::change_password(&app, &caller, (&present, &code), &new, &visitor).await
    } else {
        Err(Problem::new(Kind::InvalidBody, "The new password was not written the same way twice."))
    };
    answer(&app, &caller, done).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuthenticatorForm {
    secret: String,
    code: String,
    password: String,
}

/// `POST /account/authenticator`.
pub(super) async fn authenticator(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    visitor: Visitor,
    FormBody(form): FormBody<AuthenticatorForm>,
) -> Result<Response, Problem> {
    let AuthenticatorForm { secret, code, password } = form;
    let done = account::set_authenticator(&app, &caller, (&secret, &code), &password, &visitor).await;
    answer(&app, &caller, done).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RemovalForm {
    password: String,
    code: String,
}

/// `POST /account/authenticator/remove`.
pub(super) async fn remove_authenticator(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    visitor: Visitor,
    FormBody(form): FormBody<RemovalForm>,
) -> Result<Response, Problem> {
    let RemovalForm { password, code } = form;
    let done = account::remove_authenticator(&app, &caller, (&password, &code), &visitor).await;
    answer(&app, &caller, done).await
}

/// `POST /account/sessions/{id}/end`.
pub(super) async fn end_session(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Problem> {
    let done = account::end_session(&app, &id, &caller).await;
    answer(&app, &caller, done).await
}

/// What a button of a user's form does.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum UserAct {
    Role,
    Disable,
    Enable,
    SignOut,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UserForm {
    act: UserAct,
    role: Option<Role>,
}

/// `POST /account/users/{name}`.
pub(super) async fn manage(
    State(app): State<Arc<App>>,
    Segment(name): Segment,
    Extension(caller): Extension<Caller>,
    FormBody(form): FormBody<UserForm>,
) -> Result<Response, Problem> {
    let change = match (form.act, form.role) {
        (UserAct::Role, Some(role)) => Some(UserChange::Role(role)),
        (UserAct::Role, None) => None,
        (UserAct::Disable, _) => Some(UserChange::Disabled(true)),
        (UserAct::Enable, _) => Some(UserChange::Disabled(false)),
        (UserAct::SignOut, _) => Some(UserChange::SignedOut),
    };
    let done = match change {
        Some(change) => account::manage(&app, &name, change, &caller).await,
        None => Err(Problem::new(Kind::InvalidBody, "The form names no role.")),
    };
    answer(&app, &caller, done).await
}

/// A method in words.
fn method_words(method: Method) -> &'static str {
    match method {
        Method::Password => "password",
        Method::PasswordAndCode => "password and code",
        Method::Provider => "single sign-on",
    }
}
