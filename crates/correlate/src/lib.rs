//! Correlation: findings and watermarks in, alerts and notices out.
//!
//! [`Plan`] compiles a rule set once. A [`Router`] says where what detection found goes, [`Correlator::push`] takes it and holds it until
//! [`Correlator::release`] lets everything below the watermarks through in the total order;
//! [`Correlator::finish`] lets through all. What the fields of a body mean is written in [`body`].
//!
//! Invariants: no I/O, no clock, no randomness; alerts are a function of the findings alone, whatever their batches, the
//! interleaving of partitions, the watermarks and restarts from a [`Correlator::checkpoint`]; nothing a checkpoint's
//! bytes hold can make [`Correlator::restore`] panic.

mod adopt;
pub mod body;
mod chain;
mod checkpoint;
mod codec;
mod correlator;
mod event;
mod group;
mod intake;
mod keys;
mod load;
mod notices;
mod output;
mod over;
mod pending;
mod plan;
mod release;
mod report;
mod step;
mod storm;

#[cfg(test)]
mod tests;

pub use correlator::{Correlator, CorrelatorSettings};
pub use intake::router::{Routed, Router};
pub use load::Load;
pub use notices::NOTICE_ENTRY;
pub use output::{Correlated, Counters, Effort, HealthSignal, NewRevision};
pub use pending::{
    Origin,
    waiting::{Still, WaitingBudget},
};
pub use plan::{Plan, VersionPlan};
pub use release::{Hands, ReleaseTask};

/// Key groups: fixed, so that thread and node counts change nothing.
pub const GROUPS: u8 = 64;

/// Why a checkpoint cannot be taken up. The state is as it was before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Cut short, altered, or no checkpoint at all.
    #[error("the checkpoint is damaged: {0}")]
    Damaged(&'static str),
    /// Of another layout or of another secret.
    #[error("the checkpoint does not fit: {0}")]
    Foreign(&'static str),
}
