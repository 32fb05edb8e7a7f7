//! The desk: what can be done with alerts, rules and dead letters, one file for each use case.
//!
//! In: the shared state, what is asked for in its own words, and who asks. Out: typed results, or a problem. Invariants: no use case
//! knows how it was asked: nothing here names axum, a page or a route; the faces (`routes` for JSON, `console` for pages) call
//! in here and never one another.

pub(crate) mod action;
pub(crate) mod alert;
pub(crate) mod audit;
pub(crate) mod backtests;
pub(crate) mod bulk;
pub(crate) mod case;
pub(crate) mod comment;
pub(crate) mod coverage;
pub(crate) mod dead_letters;
pub(crate) mod dossier;
pub(crate) mod entity;
pub(crate) mod exception;
pub(crate) mod export;
pub(crate) mod filter;
pub(crate) mod follow;
pub(crate) mod history;
pub(crate) mod hunt;
pub(crate) mod list;
pub(crate) mod outcomes;
pub(crate) mod overview;
pub(crate) mod past;
pub(crate) mod playbook;
pub(crate) mod queue;
pub(crate) mod rules;
pub(crate) mod snooze;
pub(crate) mod summary;
mod tactics;
pub(crate) mod took;
pub(crate) mod triage;
pub(crate) mod view;
