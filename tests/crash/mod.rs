//! The built binary against a real Apache Kafka: killed at random, cut off, fed poison, started where it must not be.
//!
//! Every test drives `vedette run` as an operator does (configuration, signals, exit status, log, HTTP) and looks into
//! its store afterwards. What needs Kafka says that it is skipped where there is none; the rest always runs.

mod access;
mod anew;
mod backtest;
mod backup;
mod broker;
mod bucket;
mod evidence;
mod folder;
mod kernel;
mod kills;
mod lake;
mod log;
mod notices;
mod operator;
mod poison;
pub mod program;
mod reload;
mod s3;
mod schedules;
mod standing;
pub mod stored;
mod stuck;
