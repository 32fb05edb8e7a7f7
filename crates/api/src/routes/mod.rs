//! The routes below `/api/v1`, and the probes beside it.

pub(crate) mod actions;
pub(crate) mod alerts;
pub(crate) mod backtests;
pub(crate) mod cases;
pub(crate) mod desk;
pub(crate) mod enforcement;
pub(crate) mod entities;
pub(crate) mod export;
pub(crate) mod hunt_schedules;
pub(crate) mod hunts;
pub(crate) mod keyed;
pub(crate) mod people;
pub(crate) mod rules;
pub(crate) mod stream;
pub(crate) mod system;
pub(crate) mod triage;
