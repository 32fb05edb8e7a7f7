//! Signing in at an identity provider.
//!
//! In: a browser that begins, or comes back. Out: where it goes, or a session's secret, or a refusal that says what to do.
//! Invariants: who somebody is, issuer and subject say alone: no name and no e-mail address leads to a user who is there; the
//! role is the one of the latest sign-in; a disabled user stays out; lockouts do not apply, since nothing can be guessed.

use vedette_store::{
    Error as StoreError,
    model::{Identity, Method, Role, User},
};

use super::{Visitor, begin};
use crate::{
    app::App,
    metrics::{SignInOutcome, now},
    problem::{Kind, Problem},
    proof::{
        no_random,
        oidc::{Flow, Provider, Refusal, Returned, Vouched},
    },
    session::NewSecret,
};

/// Who makes users and changes their roles, in the audit log. No user can be called so.
const ACTOR: &str = "single sign-on";
/// Names tried for somebody new whose name is taken: `ann`, `ann-2` to `ann-9`.
const NAMES: u32 = 9;

/// A browser that goes to the provider.
pub(crate) struct Begun {
    pub url: String,
    pub cookie: String,
}

/// Somebody who is in, and where they wanted to go.
pub(crate) struct Entered {
    pub secret: NewSecret,
    pub next: String,
}

/// The provider, where there is one.
pub(crate) fn provider(app: &App) -> Result<&Provider, Problem> {
    let missing = || Problem::new(Kind::NotFound, "There is no single sign-on here.");
    app.proofs.provider.as_deref().ok_or_else(missing)
}

/// Begins a sign-in that is to lead to this path.
pub(crate) async fn to_provider(app: &App, next: &str) -> Result<Begun, Problem> {
    let provider = provider(app)?;
    let flow = Flow::begin(next, now()).map_err(no_random)?;
    match provider.begin(&flow).await {
        Ok(url) => Ok(Begun { url, cookie: flow.cookie().to_owned() }),
        Err(refusal) => Err(problem(provider, &refusal)),
    }
}

/// Lets somebody in who comes back from the provider, or says why not.
pub(crate) async fn from_provider(
    app: &App,
    cookie: Option<&str>,
    returned: &Returned,
    visitor: &Visitor,
) -> Result<Entered, Problem> {
    let provider = provider(app)?;
    let outcome = match provider.finish(cookie, returned, now()).await {
        Ok(vouched) => enter(app, provider, vouched, visitor).await,
        Err(refusal) => {
            if let Refusal::NoRole { identity, .. } = &refusal {
                no_role(app, identity, visitor).await?;
            }
            Err(problem(provider, &refusal))
        }
    };
    let counted = if outcome.is_ok() { SignInOutcome::SignedIn } else { SignInOutcome::Refused };
    app.metrics.count_sign_in(counted);
    outcome
}

async fn enter(
    app: &App,
    provider: &Provider,
    vouched: Vouched,
    visitor: &Visitor,
) -> Result<Entered, Problem> {
    let Vouched { identity, name, role, next } = vouched;
    let user = match app.store.user_of(&identity).await? {
        Some(user) => user,
        None => add(app, identity, &name, role).await?,
    };
    if user.disabled_at.is_none() && user.role != role {
        app.store.set_user_role(&user.name, role, ACTOR).await?;
    }
    match begin(&app.store, &user, Method::Provider, None, visitor).await? {
        Some(secret) => {
            app.admission.catch_up().await?;
            Ok(Entered { secret, next })
        }
        None => {
            app.store.sign_in_refused(&user.name, "disabled", &visitor.address.to_string()).await?;
            let detail =
                format!("{} knows you, but the user {} is disabled here.", provider.name(), user.name);
            Err(Problem::new(Kind::Forbidden, detail))
        }
    }
}

/// Makes a user for somebody who comes for the first time, under a name that nobody has and that is not the system's own.
async fn add(app: &App, identity: Identity, name: &str, role: Role) -> Result<User, Problem> {
    let proof = vedette_store::model::Proof::Provider(identity.clone());
    for number in 1..=NAMES {
        let name = if number == 1 { name.to_owned() } else { format!("{name}-{number}") };
        match app.store.add_user(&name, role, &proof, ACTOR).await {
            // The name may be taken by themselves, in another window.
            Ok(())
            | Err(
                StoreError::UserExists { .. }
                | StoreError::TokenExists { .. }
                | StoreError::SystemsName { .. },
            ) => {
                if let Some(user) = app.store.user_of(&identity).await? {
                    return Ok(user);
                }
            }
            Err(StoreError::TooManyUsers { max }) => {
                let detail = format!("There are {max} users here, and no more can be made.");
                return Err(Problem::new(Kind::LimitReached, detail));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let detail = format!("The name {name}, by which the provider knows you, is taken here {NAMES} times.");
    Err(Problem::new(Kind::Conflict, detail))
}

/// Notes who has no role any more. Strangers are in the log of the process only, where they cannot fill the store.
async fn no_role(app: &App, identity: &Identity, visitor: &Visitor) -> Result<(), Problem> {
    match app.store.user_of(identity).await? {
        Some(user) => {
            Ok(app.store.sign_in_refused(&user.name, "no role", &visitor.address.to_string()).await?)
        }
        None => {
            tracing::warn!(
                subject = identity.subject,
                "no role follows from the claims of somebody at the identity provider"
            );
            Ok(())
        }
    }
}

fn problem(provider: &Provider, refusal: &Refusal) -> Problem {
    let name = provider.name();
    let (kind, detail) = match refusal {
        Refusal::Away => {
            let detail = format!(
                "{name} does not answer at the moment. Try again in a few seconds; the log says more."
            );
            (Kind::ProviderUnavailable, detail)
        }
        Refusal::NotBegun => {
            let detail = "This sign-in was not begun in this browser, or more than 10 minutes ago, or is done already. \
                          Begin again.";
            (Kind::SignInRefused, detail.to_owned())
        }
        Refusal::Said(words) => (Kind::SignInRefused, format!("{name} says: {words}")),
        Refusal::Code => {
            (Kind::SignInRefused, format!("{name} does not take this sign-in any more. Begin again."))
        }
        Refusal::Token => {
            let detail = format!("What {name} answered cannot be trusted; the log says why.");
            (Kind::SignInRefused, detail)
        }
        Refusal::NoRole { missing, .. } => {
            let detail = format!("{name} knows you, but gives you no role here: {missing}.");
            (Kind::Forbidden, detail)
        }
    };
    Problem::new(kind, detail)
}
