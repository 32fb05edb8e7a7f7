//! The room of the commands that work on a data folder: `token`, `topic`, `checkpoint`.
//!
//! In: the configuration that names the folder, and the work to do there. Out: what became of it, the store closed again.
//! Invariant: none of them talks to Kafka, so none needs the password of its user.

use std::path::PathBuf;

use vedette_store::{Access, Error, Store, StoreSettings};

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
        let store = Store::open(StoreSettings::new(&config.data, access)).await;
        let store = store.map_err(|e| unopened(config, e))?;
        let done = work(&store).await;
        store.close().await;
        done.map(|()| 0)
    })
}

/// Why the store could not be opened; where the folder is at fault, with the place that names it.
pub fn unopened(config: &Config, error: Error) -> Failure {
    Failure::World(match error {
        Error::Folder { .. } => {
            let what = "it must be a folder that the user who runs vedette may write to; make it one, or name another";
            config.places.wrong("data", format!("{:#}; {what}", anyhow::Error::from(error)))
        }
        error => error.into(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_folder_that_cannot_be_used_is_named_with_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.yml");
        let no_folder = path.join("below");
        let text = "kafka: {brokers: a:1, topics: [{name: t, source: json}]}";
        std::fs::write(&path, format!("{text}\ndata: {}\n", no_folder.display())).unwrap();
        let config = config::load(&path, For::Folder).unwrap();
        let refused = with_store(&config, Access::Tool, async |_| Ok(())).unwrap_err();
        let Failure::World(error) = refused else { panic!("it is the world's") };
        let (said, begins) =
            (format!("{error:#}"), format!("{}:2:7: data: cannot use the data folder", path.display()));
        assert!(said.starts_with(&begins) && said.contains("name another"), "{said}");
    }
}
