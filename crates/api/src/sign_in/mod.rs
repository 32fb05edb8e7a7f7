//! Signing in with a password: who tries too often waits, everybody's password costs the same to check.
//!
//! In: a name, a password, perhaps a code, and from where. Out: a session's secret, or one of two refusals. Invariants:
//! who does not exist, is kept out or mistyped is told the same after the same work; argon2 runs off the threads that
//! answer requests, a few at a time; a code is good once; every outcome is counted, and those of users that exist are in the
//! audit log.

pub(crate) mod account;
pub(crate) mod oidc;

use std::net::IpAddr;

use vedette_store::{
    NewSession, Store,
    model::{Method, Proof, User},
};

use crate::{
    app::App,
    metrics::{SignInOutcome, now},
    problem::{Kind, Problem},
    proof::{Proofs, no_random, totp},
    session::{self, NewSecret},
};

/// Longer names and passwords are wrong without a look.
const MAX_TYPED: usize = 256;
/// Characters of what a browser calls itself.
const MAX_AGENT: usize = 200;

/// Who tries.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    pub address: IpAddr,
    pub agent: String,
}

impl Visitor {
    pub fn new(address: IpAddr, agent: &str) -> Self {
        let agent = agent.chars().filter(|c| !c.is_control()).take(MAX_AGENT).collect();
        Self { address: address.to_canonical(), agent }
    }
}

/// What was typed.
pub(crate) struct Typed<'a> {
    pub name: &'a str,
    pub password: &'a str,
    pub code: &'a str,
}

/// Lets somebody in, or says why not.
pub(crate) async fn with_password(
    app: &App,
    typed: Typed<'_>,
    visitor: &Visitor,
) -> Result<NewSecret, Problem> {
    let name = typed.name.trim().to_lowercase();
    let outcome = attempt(app, &name, &typed, visitor).await;
    let counted = match &outcome {
        Ok(_) => SignInOutcome::SignedIn,
        Err(problem) if problem.is(Kind::TooManyRequests) => SignInOutcome::Held,
        Err(_) => SignInOutcome::Refused,
    };
    app.metrics.count_sign_in(counted);
    outcome
}

async fn attempt(app: &App, name: &str, typed: &Typed<'_>, visitor: &Visitor) -> Result<NewSecret, Problem> {
    if name.is_empty() || name.len() > MAX_TYPED || typed.password.len() > MAX_TYPED {
        return Err(refused());
    }
    let user = app.store.user(name).await?;
    match check(app, name, user.as_ref(), typed, visitor).await? {
        Some((user, step)) => {
            let method = if step.is_some() { Method::PasswordAndCode } else { Method::Password };
            match begin(&app.store, user, method, step, visitor).await? {
                Some(secret) => {
                    app.proofs.lockout.succeeded(name);
                    app.admission.catch_up().await?;
                    Ok(secret)
                }
                None => refuse(app, Some(user), visitor).await,
            }
        }
        None => refuse(app, user.as_ref(), visitor).await,
    }
}

/// Checks password and code of somebody who has a session already, before they change what they sign in with.
pub(crate) async fn confirm(
    app: &App,
    name: &str,
    typed: &Typed<'_>,
    visitor: &Visitor,
) -> Result<User, Problem> {
    let user = app.store.user(name).await?;
    match check(app, name, user.as_ref(), typed, visitor).await? {
        Some((user, _)) => {
            app.proofs.lockout.succeeded(name);
            Ok(user.clone())
        }
        None => refuse(app, user.as_ref(), visitor).await,
    }
}

/// The user, and the time step of their code if they need one. The same work for everybody.
async fn check<'a>(
    app: &App,
    name: &str,
    user: Option<&'a User>,
    typed: &Typed<'_>,
    visitor: &Visitor,
) -> Result<Option<(&'a User, Option<i64>)>, Problem> {
    let Proofs { lockout, passwords, .. } = &app.proofs;
    lockout.begin(name, visitor.address, now()).map_err(|wait| held(wait.0))?;
    let proof = user.filter(|user| user.disabled_at.is_none()).map(|user| &user.proof);
    let (hash, totp) = match proof {
        Some(Proof::Password { hash, totp }) => (Some(hash.as_str()), totp.as_ref()),
        _ => (None, None),
    };
    let right = passwords.verify(typed.password, hash).await?;
    let step = totp.map(|totp| totp::step_of(&totp.secret, typed.code.trim(), now(), totp.step));
    Ok(match (user, step) {
        (Some(user), None) if right => Some((user, None)),
        (Some(user), Some(Some(step))) if right => Some((user, Some(step))),
        _ => None,
    })
}

/// Begins a session of somebody who proved who they are; `None` if they are kept out, or the code was taken meanwhile.
pub(crate) async fn begin(
    store: &Store,
    user: &User,
    method: Method,
    step: Option<i64>,
    visitor: &Visitor,
) -> Result<Option<NewSecret>, Problem> {
    let secret = session::create().map_err(no_random)?;
    let address = visitor.address.to_string();
    let new = NewSession {
        hash: secret.hash,
        id: &secret.id,
        user: &user.name,
        method,
        step,
        address: &address,
        agent: &visitor.agent,
    };
    Ok(store.begin_session(&new).await?.then_some(secret))
}

async fn refuse<T>(app: &App, user: Option<&User>, visitor: &Visitor) -> Result<T, Problem> {
    if let Some(user) = user {
        let why = if user.disabled_at.is_some() { "disabled" } else { "wrong" };
        app.store.sign_in_refused(&user.name, why, &visitor.address.to_string()).await?;
    }
    Err(refused())
}

/// The one answer to whatever was wrong.
fn refused() -> Problem {
    let detail = "Name, password or code is wrong, or this user may not sign in. Nothing more is told here.";
    Problem::new(Kind::SignInRefused, detail)
}

fn held(micros: i64) -> Problem {
    let seconds = (micros / 1_000_000).max(1);
    let detail = format!("Too many attempts. Try again in {seconds} s; trying earlier makes no difference.");
    Problem::new(Kind::TooManyRequests, detail).retry_after(seconds)
}
