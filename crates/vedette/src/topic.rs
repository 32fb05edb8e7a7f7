//! `vedette topic`: decisions about input topics that only an operator can take.

use std::time::{Duration, Instant};

use vedette_event::Incarnation;
use vedette_store::{Access, Error, Store};

use crate::{
    Failure, World as _,
    folder::{Folder, with_store},
};

/// How long the running service may take. It looks every half second, and then publishes what it has found so far.
const PATIENCE: Duration = Duration::from_secs(20);

/// What `topic` is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  vedette topic accept firewall")]
pub struct Args {
    #[command(flatten)]
    folder: Folder,
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
the same records. Accept it when that was intended; a running service takes it up at once. A topic that has not
stopped for that is refused: every record would be read again, and every alert come again under a new id.")]
    Accept {
        /// The topic.
        name: String,
        /// Accept it even if its source has not stopped.
        #[arg(long)]
        force: bool,
    },
}

/// Runs the command.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let config = args.folder.config()?;
    let Action::Accept { name, force } = &args.action;
    if !config.kafka.topics.iter().any(|t| t.name == *name) {
        let known: Vec<_> = config.kafka.topics.iter().map(|t| t.name.as_str()).collect();
        let e = anyhow::anyhow!(
            "there is no topic `{name}` in the configuration; there are: {}",
            known.join(", ")
        );
        return Err(Failure::Usage(e));
    }
    let accept = async |store: &Store| {
        let present = acceptable(store, name, *force).await?;
        store.ask_to_accept(name, "command line").await.world()?;
        let incarnation = store.accept_asked().await.world()?.get(name).copied().unwrap_or(present);
        say!("{name} is accepted as incarnation {incarnation}; the service will read it from its start");
        Ok(())
    };
    match with_store(&config, Access::Engine, accept) {
        // While a service runs, only it knows what it has read of the topic before.
        Err(Failure::World(e)) if matches!(e.downcast_ref(), Some(Error::InUse { .. })) => {
            with_store(&config, Access::Tool, async |store| ask(store, name, *force).await)
        }
        done => done,
    }
}

/// An error if the topic has not stopped as recreated; gives its present incarnation.
async fn acceptable(store: &Store, name: &str, force: bool) -> Result<Incarnation, Failure> {
    let present = store.incarnations().await.world()?.get(name).copied().unwrap_or(0);
    if !force && !store.has_health(&vedette_store::recreated(name, present)).await.world()? {
        let e = anyhow::anyhow!(
            "{name} has not stopped as recreated, so there is nothing to accept: every record would be read again, \
             and every alert come again under a new id; --force does it all the same"
        );
        return Err(Failure::Usage(e));
    }
    if present == Incarnation::MAX {
        let e = anyhow::anyhow!(
            "{name} was accepted {present} times, as often as a topic can be; give it another name"
        );
        return Err(Failure::Usage(e));
    }
    Ok(present)
}

/// Asks the running service and waits until it has done it.
async fn ask(store: &Store, name: &str, force: bool) -> Result<(), Failure> {
    let present = acceptable(store, name, force).await?;
    store.ask_to_accept(name, "command line").await.world()?;
    let asked = Instant::now();
    while asked.elapsed() < PATIENCE {
        let incarnation = store.incarnations().await.world()?.get(name).copied().unwrap_or(0);
        if incarnation > present {
            say!(
                "{name} is accepted as incarnation {incarnation}; the running service reads it from its start"
            );
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(Failure::World(anyhow::anyhow!(
        "the running service has not accepted {name} within {} s; it was asked to, and does so as soon as it can, or \
         when it starts the next time",
        PATIENCE.as_secs()
    )))
}
