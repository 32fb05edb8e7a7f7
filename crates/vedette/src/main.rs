//! The `vedette` program: command line, configuration and wiring.
//!
//! Results go to standard output, progress and summaries to standard error. Exit status: 0 done, 1 findings of a
//! check or refused rules, 2 wrong use or configuration, 3 a failure of the world (broker, disk).
//! Invariant: whoever reads either of them may go away at any time: nothing panics over it, and a service goes on.

#![deny(clippy::print_stdout, clippy::print_stderr)]

/// A line to standard error; nobody needs to read it.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

mod backtest;
mod backup;
mod check;
mod checkpoint;
mod config;
mod content;
mod decode;
mod demo;
mod folder;
mod hunt;
mod inputs;
mod lake;
mod missing;
mod pipeline;
mod playbook;
mod rejected;
mod run;
mod scan;
mod service;
mod table;
mod telemetry;
mod texts;
mod token;
mod topic;
mod user;
mod yaml;

use std::{io, process::ExitCode};

use clap::{Parser, Subcommand};

/// In place of glibc's, because threads free here what others allocated, which it does under locks (`value_count` at a million keys on two
/// cores: 1.34 s with it, 1.15 with this, 1.34 with jemalloc; on one 2.2, 2.0, 2.2), and because this gives pages back by itself:
/// the keys of a flood lie between others, and of a million glibc kept 227 MiB when none was left.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Streaming detection for a security operations centre: Sigma rules and windowed correlations over Kafka.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 110,
    after_help = "\
Examples:
  vedette demo                                    everything in one process: look around
  vedette scan --rules detections/ firewall.log   rules over a file
  vedette hunt 'select * from events limit 3' firewall.log   SQL over a file
  vedette check detections/                       lint and test rules
  vedette run -c vedette.yml                      the service

Results go to standard output, progress and summaries to standard error. NO_COLOR is honoured.
Exit status: 0 done, 1 findings of a check or refused rules, 2 wrong use or configuration, 3 a failure of the
world (broker, disk). `vedette help COMMAND` has an example of each."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The service: Kafka in, alerts and API out.
    Run(run::Args),
    /// Everything in one process on loopback, with a simulated exchange.
    Demo(demo::Args),
    /// Run rules over log files or standard input.
    Scan(scan::Args),
    /// Show what becomes of each record: one flat JSON object of canonical fields a line.
    Decode(decode::Args),
    /// Ask log files in SQL.
    Hunt(hunt::Args),
    /// Try rules on what the lake holds: the alerts that the service would have raised.
    Backtest(backtest::Args),
    /// Parse, lint, compile and test rules and playbooks.
    Check(check::Args),
    /// Show what would be done about alerts, test it, and write it as CACAO.
    Playbook(playbook::Args),
    /// Show what the lake holds, and whether it is in order.
    Lake(lake::Args),
    /// Copy the data folder, consistently, while the service runs.
    Backup(backup::Args),
    /// Manage the people who may sign in.
    User(user::Args),
    /// Manage programs' access to the API.
    Token(token::Args),
    /// Decide about input topics: accept one that was recreated.
    Topic(topic::Args),
    /// Decide about checkpoints: drop them if one is damaged.
    Checkpoint(checkpoint::Args),
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub enum Failure {
    /// Wrong use or configuration: exit status 2.
    Usage(anyhow::Error),
    /// A failure of the world: exit status 3.
    World(anyhow::Error),
    /// The reader of standard output went away: a quiet end.
    BrokenPipe,
}

/// Marks an error as the world's.
pub trait World<T> {
    /// The value, or the error as the world's failure.
    fn world(self) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> World<T> for Result<T, E> {
    fn world(self) -> Result<T, Failure> {
        self.map_err(|e| {
            let error = e.into();
            let pipe =
                error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe);
            if pipe { Failure::BrokenPipe } else { Failure::World(error) }
        })
    }
}

/// The wall clock. Nothing that decides what an alert says may read it.
pub fn now() -> vedette_event::Micros {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    vedette_event::Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Scan(args) => scan::run(&args),
        Command::Decode(args) => decode::run(&args),
        Command::Hunt(args) => hunt::run(&args),
        Command::Backtest(args) => backtest::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Playbook(args) => playbook::run(&args),
        Command::User(args) => user::run(&args),
        Command::Token(args) => token::run(&args),
        Command::Lake(args) => lake::run(&args),
        Command::Backup(args) => backup::run(&args),
        Command::Topic(args) => topic::run(&args),
        Command::Checkpoint(args) => checkpoint::run(&args),
    };
    match done {
        Ok(status) => ExitCode::from(status),
        Err(Failure::BrokenPipe) => ExitCode::SUCCESS,
        Err(Failure::Usage(e)) => complain(&e, 2),
        Err(Failure::World(e)) => complain(&e, 3),
    }
}

fn complain(error: &anyhow::Error, status: u8) -> ExitCode {
    // It may quote what stands in files.
    say!("vedette: {}", table::plain_lines(&chain(error)));
    ExitCode::from(status)
}

/// The error and its causes, but for those that the text before already names.
fn chain(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if said.is_empty() {
            said = cause;
        } else if !said.ends_with(&cause) {
            said = format!("{said}: {cause}");
        }
    }
    said
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_cause_is_said_once() {
        let cause = || io::Error::other("disk on fire");
        let told = anyhow::Error::new(cause()).context("cannot open x: disk on fire");
        assert_eq!(chain(&told), "cannot open x: disk on fire");
        let untold = anyhow::Error::new(cause()).context("cannot open x");
        assert_eq!(chain(&untold), "cannot open x: disk on fire");
    }
}
