//! What carries out what the gate let through: told to people and programs, shown to enforcement points, sent to devices.
//!
//! In: alerts and notices of the store, people's decisions, playbooks. Out: messages, decisions that bouncers and firewalls fetch,
//! commands to devices, and a record of each step in the store. Invariants: nothing is done that the gate did not let through, asked
//! again right before it is done; what is done is written down before anybody counts on it; a crash repeats at most what may be repeated.

pub mod board;
mod dag;
mod desk;
pub mod http;
mod recall;
mod responder;
mod response;
pub mod settings;
pub mod tell;
mod witness;

pub use board::{Board, Outlet};
pub use dag::LeftOut;
pub use desk::{ByHand, Guards, MAX_ENTRIES, Planned};
pub use responder::{Responder, Turn, Wanted};
pub use response::{ActError, Response, Spared};
pub use settings::Settings;
pub use tell::{ConnectorHealth, Connectors, Courier, InForceThere, document};
pub use witness::{WITNESSED, Witness};

#[cfg(test)]
mod tests;
