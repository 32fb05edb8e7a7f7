//! What people do with their own account, and admins with everybody's.
//!
//! In: the caller and what they ask. Out: it is done, or a problem. Invariants: who changes what they sign in with shows that
//! they are who they are, so that a browser left open gives nobody the account; accounts and sessions of others are an
//! admin's.

use vedette_store::model::{Method, Proof, Role, Session, Totp, User, UserChange};

use super::{Typed, Visitor, confirm};
use crate::{
    access::Permission,
    app::App,
    auth::{Caller, Credential},
    metrics::now,
    problem::{Kind, Problem},
    proof::{Proofs, password, totp},
};

/// The user who asks; a problem for tokens and for the open console.
pub(crate) async fn user(app: &App, caller: &Caller) -> Result<User, Problem> {
    let user = match caller.credential {
        Credential::Session { .. } => app.store.user(&caller.name).await?,
        _ => None,
    };
    user.ok_or_else(|| Problem::new(Kind::Forbidden, "This is for people who have signed in."))
}

/// The sessions that the caller may see: their own, an admin's everybody's.
pub(crate) fn sessions(app: &App, caller: &Caller) -> Vec<Session> {
    let everybody = caller.may(Permission::ManagePeople);
    let known = app.admission.known();
    let seen = |session: &&Session| everybody || is_own(session, caller);
    known.admitted.sessions.iter().filter(seen).cloned().collect()
}

/// True if it is one of the caller's own.
pub(crate) fn is_own(session: &Session, caller: &Caller) -> bool {
    matches!(caller.credential, Credential::Session { .. }) && session.user == caller.name
}

/// Ends a session that the caller may see.
pub(crate) async fn end_session(app: &App, id: &str, caller: &Caller) -> Result<(), Problem> {
    if !sessions(app, caller).iter().any(|session| session.id == id) {
        return Err(Problem::new(Kind::NotFound, "There is no such session, or it is not yours."));
    }
    let of = (!caller.may(Permission::ManagePeople)).then_some(caller.name.as_str());
    app.store.end_session(id, of, &caller.name).await?;
    Ok(app.admission.catch_up().await?)
}

/// Ends the session with which the caller came; how they had signed in.
pub(crate) async fn sign_out(app: &App, caller: &Caller) -> Result<Option<Method>, Problem> {
    let Credential::Session { id, .. } = &caller.credential else { return Ok(None) };
    let known = app.admission.known();
    let method = known.admitted.sessions.iter().find(|session| session.id == *id).map(|s| s.method);
    app.store.end_session(id, Some(&caller.name), &caller.name).await?;
    app.admission.catch_up().await?;
    Ok(method)
}

/// Gives the caller another password; all their sessions end, this one too.
pub(crate) async fn change_password(
    app: &App,
    caller: &Caller,
    (present, code): (&str, &str),
    new: &str,
    visitor: &Visitor,
) -> Result<(), Problem> {
    user(app, caller).await?;
    password::acceptable(&caller.name, new)
        .map_err(|what| Problem::new(Kind::InvalidBody, sentence(&what)))?;
    confirm(app, &caller.name, &Typed { name: &caller.name, password: present, code }, visitor).await?;
    let Proofs { passwords, .. } = &app.proofs;
    let hash = passwords.hash(new).await?;
    app.store.set_password(&caller.name, &hash, &caller.name).await?;
    Ok(app.admission.catch_up().await?)
}

/// Gives the caller an authenticator, of which they give the first code.
pub(crate) async fn set_authenticator(
    app: &App,
    caller: &Caller,
    (secret, code): (&str, &str),
    password: &str,
    visitor: &Visitor,
) -> Result<(), Problem> {
    let user = user(app, caller).await?;
    if matches!(&user.proof, Proof::Password { totp: Some(_), .. }) {
        return Err(Problem::new(Kind::InvalidBody, "There is an authenticator already; remove it first."));
    }
    let secret = totp::read(secret)
        .ok_or_else(|| Problem::new(Kind::InvalidBody, "The secret is not one that this page gave out."))?;
    confirm(app, &caller.name, &Typed { name: &caller.name, password, code: "" }, visitor).await?;
    let step = totp::step_of(&secret, code.trim(), now(), 0).ok_or_else(|| {
        let detail = "This is not the code that your authenticator shows now. Is its clock right?";
        Problem::new(Kind::InvalidBody, detail)
    })?;
    app.store.set_totp(&caller.name, Some(&Totp { secret, step }), &caller.name).await?;
    Ok(app.admission.catch_up().await?)
}

/// Takes the caller's authenticator away.
pub(crate) async fn remove_authenticator(
    app: &App,
    caller: &Caller,
    (password, code): (&str, &str),
    visitor: &Visitor,
) -> Result<(), Problem> {
    user(app, caller).await?;
    confirm(app, &caller.name, &Typed { name: &caller.name, password, code }, visitor).await?;
    app.store.set_totp(&caller.name, None, &caller.name).await?;
    Ok(app.admission.catch_up().await?)
}

/// Changes a user as an admin; who is kept out or signed out is so at once.
pub(crate) async fn manage(
    app: &App,
    name: &str,
    change: UserChange,
    caller: &Caller,
) -> Result<(), Problem> {
    if !caller.may(Permission::ManagePeople) {
        return Err(Problem::new(Kind::Forbidden, "People are managed by admins."));
    }
    if matches!(change, UserChange::Role(role) if role < Role::Reader) {
        let detail = "People are reader, analyst, engineer or admin; other roles are for programs.";
        return Err(Problem::new(Kind::InvalidBody, detail));
    }
    app.store.manage_user(name, change, &caller.name).await?;
    Ok(app.admission.catch_up().await?)
}

/// A complaint as a sentence.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).chain(['.']).collect()).unwrap_or_default()
}
