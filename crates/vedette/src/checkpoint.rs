//! `vedette checkpoint`: what to do about checkpoints that cannot be read.

use anyhow::anyhow;
use vedette_store::{Access, Error};

use crate::{
    Failure,
    folder::{Folder, with_store},
};

/// What `checkpoint` is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  vedette checkpoint reset")]
pub struct Args {
    #[command(flatten)]
    folder: Folder,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Drop the state of all rules, so that the service builds it anew from where reading began.
    #[command(after_help = "\
Example:
  vedette checkpoint reset -c /etc/vedette/vedette.yml

For a service that does not start because a checkpoint is damaged; it must not be running. Alerts, triage and
tokens stay. What is found again is what is there already, and changes nothing; records that Kafka has deleted
since cannot be read again and are listed as lost.")]
    Reset,
}

/// Says what is wrong with a checkpoint, and what helps.
pub fn refused(group: u8, fault: impl std::fmt::Display) -> Failure {
    let remedy = if group == vedette_engine::POSITIONS {
        "it says where reading stands, so restore the data folder from a backup, or start with an \
         empty one, without the mark `vedette.store`, too"
    } else {
        "`vedette checkpoint reset` builds the state anew from the topics and keeps alerts, triage and tokens"
    };
    Failure::World(anyhow!("{fault}; {remedy}"))
}

/// Runs the command.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let Action::Reset = args.action;
    with_store(&args.folder.config()?, Access::Engine, async |store| {
        // With these alone every partition is read again from where reading began, and what was passed stays passed.
        let dropped = store.drop_checkpoints_but(vedette_engine::POSITIONS, "command line").await;
        let dropped = dropped.map_err(|e| match e {
            Error::CorruptCheckpoint { group } => refused(group, e),
            Error::NotFound { .. } => Failure::Usage(anyhow!(
                "no alert was ever stored, so nothing is kept by this; start with an empty data folder"
            )),
            e => Failure::World(e.into()),
        })?;
        say!("{dropped} checkpoints are dropped; start the service to read the topics again");
        Ok(())
    })
}
