//! What comes in: from the columns of a batch to payloads, and to which key groups they go.
//!
//! In: events and hits. Out: [`router::Routed`]: for each event and tree a few bytes ([`payload`]), their key groups ([`route`]).

pub mod columns;
pub mod payload;
pub mod route;
pub mod router;
pub mod values;
