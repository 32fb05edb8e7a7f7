//! What enforcement points fetch: bouncers, external dynamic lists, rate limits.
//!
//! In: what is to be in force at each outlet, whole, whenever it changes. Out: the same for those who ask, and what changed since they
//! asked last. Invariant: before the first word nothing is answered, since an empty answer would lift everything.

use std::sync::Arc;

use vedette_event::Micros;
use vedette_respond::{Action, ConnectorKind, Target};

/// A connector whose other side fetches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlet {
    /// As playbooks name it, such as `edl/perimeter`.
    pub name: Arc<str>,
    /// `crowdsec`, `edl` or `ratelimit`.
    pub kind: ConnectorKind,
    /// The most entries that the other side takes.
    pub capacity: usize,
}

/// A countermeasure that is to be in force at an outlet; what is spared is cut out already.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InForce {
    /// What.
    pub action: Action,
    /// To whom.
    pub target: Target,
    /// Until when.
    pub until: Micros,
    /// The playbook it comes from.
    pub why: Arc<str>,
}

/// All outlets.
#[derive(Debug, Clone)]
pub struct Board {
    outlets: Arc<[Outlet]>,
}

impl Board {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(outlets: Vec<Outlet>) -> Self {
        Self { outlets: outlets.into() }
    }

    /// The outlets there are.
    #[must_use]
    pub fn outlets(&self) -> &[Outlet] {
        &self.outlets
    }
}
