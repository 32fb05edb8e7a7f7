//! Telling people and programs: one courier for each connector, which nobody else waits for.
//!
//! In: deliveries that are due, in the store. Out: requests, and how each went. Invariants: what was taken is noted before it counts, so
//! that a crash between the two repeats a message, by the same key, and loses none; what fails for a passing reason is tried again, later
//! each time, and given up after [`TRIES`]; after [`OPENS`] failures in a row the connector is left alone for a while and then tried with one
//! (a circuit breaker); what is given up stays until a person has it tried again; an answer is shown to people in short, a secret never.

mod courier;
mod enforcement;
mod message;
mod request;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use vedette_event::Micros;

pub use courier::Courier;

/// How often one message is tried: with the pauses between, some two hours.
pub const TRIES: u32 = 24;
/// Failures in a row after which a connector is left alone for a while.
pub const OPENS: u32 = 3;

/// How a connector that sends is doing, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectorHealth {
    /// When it was taken last.
    pub taken_at: Option<Micros>,
    /// When it failed last.
    pub failed_at: Option<Micros>,
    /// What it failed by.
    pub failure: Option<String>,
    /// Failures since it last took something.
    pub in_a_row: u32,
    /// It is left alone until then.
    pub rests_until: Option<Micros>,
    /// Messages and commands that it took since the start.
    pub taken: u64,
    /// Tries that failed since the start.
    pub failed: u64,
}

/// How all connectors that send are doing.
#[derive(Debug, Clone, Default)]
pub struct Connectors {
    all: Arc<Mutex<BTreeMap<Arc<str>, ConnectorHealth>>>,
}

impl Connectors {
    /// How each is doing, by name.
    #[must_use]
    pub fn read(&self) -> BTreeMap<Arc<str>, ConnectorHealth> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn took(&self, name: &Arc<str>, now: Micros) {
        self.with(name, |health| {
            (health.taken_at, health.in_a_row, health.rests_until) = (Some(now), 0, None);
            health.taken += 1;
        });
    }

    pub(crate) fn failed(&self, name: &Arc<str>, why: &str, now: Micros, rests_until: Option<Micros>) {
        self.with(name, |health| {
            (health.failed_at, health.failure) = (Some(now), Some(why.to_owned()));
            health.in_a_row = health.in_a_row.saturating_add(1);
            health.failed += 1;
            health.rests_until = rests_until;
        });
    }

    fn with(&self, name: &Arc<str>, change: impl FnOnce(&mut ConnectorHealth)) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        change(all.entry(name.clone()).or_default());
    }
}
