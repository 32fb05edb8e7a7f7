//! What comes in: from the columns of a batch to payloads, and to which key groups they go.
//!
//! In: a [`vedette_event::FindingBatch`]. Out: for each event and tree a few bytes ([`payload`]), their key groups ([`route`]).

pub mod columns;
pub mod payload;
pub mod route;
pub mod values;
