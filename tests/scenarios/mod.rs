//! The command line as people and scripts use it: the built binary, files of a simulated day, what it prints and how
//! it ends.

#![allow(clippy::unwrap_used)]

mod first_start;
mod hunt;
mod pipes;
pub mod program;
mod scan;
mod terminal;
mod use_and_misuse;
