//! What people prove who they are with, and who tried too often: below the shared state, which holds it.
//!
//! In: passwords, codes, attempts. Out: whether they are right, or how long to wait. Invariant: nothing here knows the
//! store or the shared state, so that both the state and what is done with it can rest on it.

pub(crate) mod lockout;
pub mod oidc;
pub(crate) mod password;
pub(crate) mod totp;

use std::sync::Arc;

use vedette_event::Micros;

use self::{lockout::Lockout, oidc::Provider, password::Passwords};
use crate::{
    error::Error,
    problem::{Kind, Problem},
};

/// What signing in needs between requests.
#[derive(Default)]
pub(crate) struct Proofs {
    pub lockout: Lockout,
    pub passwords: Passwords,
    /// Where people sign in besides, if anywhere.
    pub provider: Option<Arc<Provider>>,
}

/// The second of a moment, for what counts in seconds.
pub(crate) fn seconds(at: Micros) -> i64 {
    at.0.div_euclid(1_000_000)
}

/// What is told where the system gives no random numbers.
pub(crate) fn no_random(error: Error) -> Problem {
    tracing::error!(error = &error as &dyn std::error::Error, "nobody can sign in");
    Problem::new(Kind::Internal, "The system gives no random numbers; the log says more.")
}
