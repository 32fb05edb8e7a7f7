//! Who one is, sessions and users.

use std::sync::Arc;

use axum::{Extension, Json, extract::State, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;
use vedette_store::model::{Method, Proof, Session, User};

use crate::{
    app::App,
    auth::{Caller, Credential},
    params::{NoParams, Segment, Strict},
    problem::{self, Problem},
    sign_in::account,
};

/// Who asks.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Account {
    /// The user's or the token's name; `local` on an open console.
    name: String,
    /// The role: `metrics`, `reader`, `analyst`, `engineer` or `admin`.
    role: &'static str,
    /// What they came with: `session`, `token` or `none`.
    credential: &'static str,
}

/// A session of somebody who signed in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionDocument {
    /// Names it here.
    id: String,
    /// Whose it is.
    user: String,
    /// How they signed in: `password`, `password_and_code` or `provider`.
    method: &'static str,
    /// From where.
    address: String,
    /// What their browser calls itself.
    agent: String,
    /// True for the one with which this was asked.
    current: bool,
    /// When it began.
    created_at: String,
    /// When it was last used, to the minute.
    last_used_at: String,
}

impl SessionDocument {
    fn of(session: Session, caller: &Caller) -> Self {
        let current = matches!(&caller.credential, Credential::Session { id, .. } if *id == session.id);
        Self {
            id: session.id,
            user: session.user,
            method: session.method.name(),
            address: session.address,
            agent: session.agent,
            current,
            created_at: session.created_at.to_string(),
            last_used_at: session.last_used_at.to_string(),
        }
    }
}

/// Sessions, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionList {
    items: Vec<SessionDocument>,
}

/// A user.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UserDocument {
    /// The name.
    name: String,
    /// The role.
    role: &'static str,
    /// What they sign in with: `password`, `password_and_code` or `provider`.
    method: &'static str,
    /// When they were added.
    created_at: String,
    /// Since when they may not come in.
    #[schema(required = true)]
    disabled_at: Option<String>,
    /// When they last signed in.
    #[schema(required = true)]
    last_signed_in_at: Option<String>,
}

impl From<&User> for UserDocument {
    fn from(user: &User) -> Self {
        let method = match &user.proof {
            Proof::Password { totp: None, .. } => Method::Password,
            Proof::Password { totp: Some(_), .. } => Method::PasswordAndCode,
            Proof::Provider(_) => Method::Provider,
        };
        Self {
            name: user.name.clone(),
            role: user.role.name(),
            method: method.name(),
            created_at: user.created_at.to_string(),
            disabled_at: user.disabled_at.map(|at| at.to_string()),
            last_signed_in_at: user.last_signed_in_at.map(|at| at.to_string()),
        }
    }
}

/// Users, by name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UserList {
    items: Vec<UserDocument>,
}

/// Who asks, and with which role.
#[utoipa::path(
    get, path = "/account", operation_id = "get_account", tag = "access",
    responses((status = 200, description = "Who asks", body = Account), problem::ProblemDocument)
)]
pub(crate) async fn account(
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Json<Account> {
    let credential = match caller.credential {
        Credential::None => "none",
        Credential::Token(_) => "token",
        Credential::Session { .. } => "session",
    };
    Json(Account { name: caller.name, role: caller.role.name(), credential })
}

/// The sessions of the caller; an admin sees everybody's.
#[utoipa::path(
    get, path = "/sessions", operation_id = "list_sessions", tag = "access",
    responses((status = 200, description = "Sessions, newest first", body = SessionList), problem::ProblemDocument)
)]
pub(crate) async fn sessions(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Json<SessionList> {
    let sessions = account::sessions(&app, &caller).into_iter();
    Json(SessionList { items: sessions.map(|session| SessionDocument::of(session, &caller)).collect() })
}

/// Ends a session: one's own, or as an admin anybody's. Whoever uses it is signed out at once.
#[utoipa::path(
    delete, path = "/sessions/{id}", operation_id = "end_session", tag = "access",
    params(("id" = String, Path, description = "The session's id in the list")),
    responses((status = 204, description = "It has ended"), problem::ProblemDocument)
)]
pub(crate) async fn end_session(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<StatusCode, Problem> {
    account::end_session(&app, &id, &caller).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// All users.
#[utoipa::path(
    get, path = "/users", operation_id = "list_users", tag = "access",
    responses((status = 200, description = "Users by name", body = UserList), problem::ProblemDocument)
)]
pub(crate) async fn users(
    State(app): State<Arc<App>>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Json<UserList> {
    Json(UserList { items: app.admission.known().admitted.users.iter().map(Into::into).collect() })
}
