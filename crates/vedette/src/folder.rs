//! The room of the commands that work on a data folder: `token`, `topic`, `checkpoint`.
//!
//! In: the configuration that names the folder, and the work to do there. Out: what became of it, the store closed again.
//! Invariant: none of them talks to Kafka, so none needs the password of its user.

use std::path::PathBuf;

use vedette_store::{Access, Store, StoreSettings};

use crate::{
    Failure, World as _,
    config::{self, Config, For},
};

/// Names the folder on the command line.
#[derive(Debug, clap::Args)]
pub struct Folder {
    /// The configuration that names the data folder.
    #[arg(short, long, value_name = "FILE", default_value = "vedette.yml", global = true)]
    config: PathBuf,
}

impl Folder {
    /// Reads and checks the configuration.
    pub fn config(&self) -> Result<Config, Failure> {
        config::load(&self.config, For::Folder).map_err(Failure::Usage)
    }
}

/// Works on the store of a folder; gives the exit status.
pub fn with_store(
    config: &Config,
    access: Access,
    work: impl AsyncFnOnce(&Store) -> Result<(), Failure>,
) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().world()?;
    runtime.block_on(async {
        let store = Store::open(StoreSettings::new(&config.data, access)).await.world()?;
        let done = work(&store).await;
        store.close().await;
        done.map(|()| 0)
    })
}
