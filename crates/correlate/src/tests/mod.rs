//! Tests of the whole correlator through its public interface.

#![allow(clippy::unwrap_used)]

mod chains;
mod conditions;
mod episodes;
mod groups;
pub mod harness;
mod notices;
mod over;
mod restarts;
