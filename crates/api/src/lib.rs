//! The HTTP edge: alerts, triage, rules, sources and status over HTTP, and the console's pages.
//!
//! In: the [`Store`](vedette_store::Store), [`live::Live`] snapshots that the binary publishes, [`ServerSettings`].
//! Out: a [`Server`]. Invariants: the only user of axum; every refusal is a problem document; the OpenAPI document is
//! generated from the routes; nothing is served beyond loopback without TLS and somebody who may come in.

mod access;
mod admission;
mod app;
mod attack;
pub mod auth;
pub mod backtests;
mod bind;
pub mod checking;
mod connections;
mod console;
pub mod csv;
mod desk;
mod error;
mod guard;
mod hunting;
pub mod hunts;
pub mod live;
mod mcp;
mod metrics;
mod pace;
mod params;
mod problem;
mod process;
mod proof;
mod rates;
mod relay;
pub mod reload;
mod router;
mod routes;
mod server;
mod session;
mod shape;
mod shares;
mod sign_in;
mod socket;
mod sse;
mod wire;

#[cfg(test)]
mod tests;

pub use access::Permission;
pub use admission::SessionLimits;
pub use bind::{bind_policy, is_loopback};
pub use error::Error;
pub use metrics::{Metric, Metrics};
pub use problem::Problem;
pub use proof::oidc::{self, OidcSettings};
pub use router::openapi_document;
pub use server::{Server, ServerSettings, TlsFiles};
pub use wire::alert_schema;
