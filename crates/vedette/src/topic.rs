//! `vedette topic`: decisions about input topics that only an operator can take.

use vedette_store::{Access, Settings, Store};

use crate::{Failure, World as _, config};

/// What `topic` is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  vedette topic accept firewall")]
pub struct Args {
    #[command(flatten)]
    file: config::Named,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Accept a topic that was deleted and made anew, or truncated: it is read from its start as a new incarnation.
    #[command(after_help = "\
Example:
  vedette topic accept firewall

A source whose topic is not the one that was read before stops, since its offsets no longer name
the same records. Accept it when that was intended, then restart the service. A topic that has not
stopped for that is refused: every record would be read again, and every alert come again under a new id.")]
    Accept {
        /// The topic.
        name: String,
        /// Accept it even if its source has not stopped.
        #[arg(long)]
        force: bool,
    },
}

/// The key under which the store knows that this incarnation of a topic is gone.
pub fn recreated(topic: &str, incarnation: u32) -> String {
    format!("recreated/{topic}/{incarnation}")
}

/// Runs the command.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let config = args.file.load()?;
    let Action::Accept { name, force } = &args.action;
    if !config.kafka.topics.iter().any(|t| t.name == *name) {
        let known: Vec<_> = config.kafka.topics.iter().map(|t| t.name.as_str()).collect();
        let e = anyhow::anyhow!(
            "there is no topic `{name}` in the configuration; there are: {}",
            known.join(", ")
        );
        return Err(Failure::Usage(e));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().world()?;
    runtime.block_on(async {
        let store = Store::open(Settings::new(&config.data, Access::Tool)).await.world()?;
        let present = store.incarnations().await.world()?.get(name).copied().unwrap_or(0);
        if !force && !store.has_health(&recreated(name, present)).await.world()? {
            let e = anyhow::anyhow!(
                "{name} has not stopped as recreated, so there is nothing to accept: every record would be read \
                 again, and every alert come again under a new id; --force does it all the same"
            );
            return Err(Failure::Usage(e));
        }
        let incarnation = store.raise_incarnation(name, "command line").await.world()?;
        say!(
            "{name} is accepted as incarnation {incarnation}; restart the service to read it from its start"
        );
        store.close().await;
        Ok(0)
    })
}
