//! Telling people and programs: one courier for each connector, which nobody else waits for.
//!
//! In: deliveries that are due, in the store. Out: requests, and how each went. Invariants: what was taken is noted before it counts, so
//! that a crash between the two repeats a message, by the same key, and loses none; what fails for a passing reason is tried again, later
//! each time, and given up after [`TRIES`]; after [`OPENS`] failures in a row the connector is left alone for a while and then tried with one
//! (a circuit breaker); what is given up stays until a person has it tried again; an answer is shown to people in short, a secret never.

mod courier;
mod enforcement;
mod letter;
pub(crate) mod mailer;
mod message;
mod record;
pub(crate) mod request;
mod topics;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use vedette_event::Micros;
use vedette_respond::{Action, Target, gate::Order};

pub use courier::Courier;
pub use record::document;

use crate::dag::LeftOut;

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
    /// What is in force at a device that is read back; none before it was, and for all others.
    pub there: Option<Arc<InForceThere>>,
}

/// What is in force at a device, by its own word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InForceThere {
    /// When it was read back.
    pub as_of: Micros,
    /// How many countermeasures.
    pub in_force: usize,
    /// What is not, and why.
    pub left_out: BTreeMap<(Action, Target), LeftOut>,
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

    /// Where a countermeasure that is ordered is not in force, or not with all of its target, and why: by connector.
    #[must_use]
    pub fn left_out(&self, order: &Order) -> Vec<(Arc<str>, String)> {
        let is_of = |(action, piece): &(Action, Target)| {
            *action == order.action()
                && match (order.target().network(), piece.network()) {
                    (Some(net), Some(piece)) => net.contains(&piece),
                    _ => piece == order.target(),
                }
        };
        let health = self.read();
        let all = order.connectors().iter().filter_map(|connector| {
            let there = health.get(&connector.name)?.there.as_ref()?;
            let (_, why) = there.left_out.iter().find(|(key, _)| is_of(key))?;
            Some((connector.name.clone(), why.to_string()))
        });
        all.collect()
    }

    /// Notes what a device says that is in force there, and how many entries it took for that.
    pub(crate) fn enforces(&self, name: &Arc<str>, there: InForceThere, taken: u64) {
        self.with(name, |health| {
            (health.in_a_row, health.rests_until) = (0, None);
            if taken > 0 {
                health.taken_at = Some(there.as_of);
                health.taken += taken;
            }
            health.there = Some(Arc::new(there));
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
