//! Having the rules read again: the word to whoever does that, and the answer.
//!
//! In: a way to ask, from the binary. Out: [`Reloaded`], or why not. Invariant: it is asked only by who may.

use std::{future::Future, pin::Pin, sync::Arc};

use serde::Serialize;
use utoipa::ToSchema;
use vedette_event::Micros;

use crate::live::Rejected;

/// What came of reading the rules again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reloaded {
    /// The number of the version in force now; as before if nothing had changed.
    pub version: u64,
    /// From which log time on it is in force; missing for the first version, in force from the beginning.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub in_force_from: Option<Micros>,
    /// Ids of rules that were not there before.
    pub new: Vec<String>,
    /// Ids of rules that mean something else now.
    pub changed: Vec<String>,
    /// Ids of rules that are not there any more.
    pub removed: Vec<String>,
    /// Lists that are not what they were.
    pub lists: Vec<String>,
    /// Files of sources and fields that are not what they were.
    pub schemas: Vec<String>,
    /// What was refused. Where `kept` is true, what its file said before stays in force.
    pub refused: Vec<Rejected>,
}

/// Why the rules were not read again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// Nothing of what stands on disk can be taken up; what was in force stays so.
    #[error("{0}")]
    Refused(String),
    /// The process starts or stops, or its rules are built in.
    #[error("the rules are not read again now")]
    Stopping,
}

type Answer = Pin<Box<dyn Future<Output = Result<Reloaded, Unavailable>> + Send>>;

/// A way to ask.
#[derive(Clone)]
pub struct Reloads(Arc<dyn Fn() -> Answer + Send + Sync>);

impl std::fmt::Debug for Reloads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reloads")
    }
}

impl Reloads {
    /// Asks by this.
    pub fn new<F>(ask: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Reloaded, Unavailable>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(ask())))
    }

    pub(crate) fn ask(&self) -> Answer {
        (self.0)()
    }
}
