//! Whether the lake's files are where the configuration says.
//!
//! In: the configuration, where the store remembers them to be, the catalog. Out: the place, or why it is not taken. Invariants: no file that
//! the catalog names is ever out of reach because a word was changed; a new place is taken once all of them are there, and by who alone
//! holds the data folder. A store of before places were remembered has its files in the folder `lake` beside it.

use anyhow::Context as _;
use vedette_event::Micros;
use vedette_hunt::lake::Place;
use vedette_store::{Access, Store};

use crate::{
    Failure, World as _,
    config::{Config, lake},
};

/// The name of the place in the store.
const PLACE: &str = "lake_location";

/// The place that the configuration names, if the files are there.
pub async fn place(config: &Config, store: &Store, access: Access) -> Result<Place, Failure> {
    let place = lake::place(config).map_err(Failure::Usage)?;
    let remembered = store.meta(PLACE).await.world()?.unwrap_or_default();
    let remembered =
        String::from_utf8(remembered).context("the store's place of the lake is damaged").world()?;
    let said = config.lake.said();
    if said == remembered {
        return Ok(place);
    }
    let files = store.lake_files(None, Micros::MIN, Micros::MAX).await.world()?;
    if !files.is_empty() {
        let before = if remembered.is_empty() { "the folder `lake` of the data folder" } else { &remembered };
        let wrong = |what: String| Failure::Usage(config.places.wrong("lake.location", what));
        let lacking = place.lacking(&files).await;
        let lacking = lacking.map_err(|error| {
            wrong(format!("it is another place than {before}, and cannot be looked into: {error}"))
        })?;
        if lacking > 0 {
            return Err(wrong(format!(
                "the lake's files are in {before}, and {lacking} of {} are not here; copy all of that here while no service \
                 runs, with the same names, or write what was there before",
                files.len()
            )));
        }
        if access != Access::Engine {
            // The service takes note of it; until then it reads elsewhere, and the same.
            return Ok(place);
        }
        tracing::warn!("the lake is in {place} now; what is left in {before} is no longer needed");
    }
    if access == Access::Engine {
        store.set_meta(PLACE, said.as_bytes()).await.world()?;
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use vedette_event::Micros;
    use vedette_store::{
        StoreSettings,
        model::{Holds, LakeFile},
    };

    use super::*;
    use crate::config::{self, For};

    fn config(folder: &Path, lake: &str) -> Config {
        let path = folder.join("v.yml");
        let text = format!(
            "kafka: {{brokers: a:1, topics: [{{name: t, source: json}}]}}\ndata: {}\nlake: {{{lake}}}\n",
            folder.join("data").display()
        );
        std::fs::write(&path, text).unwrap();
        config::load(&path, For::Folder).unwrap()
    }

    #[tokio::test]
    async fn another_place_is_taken_once_all_files_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
        let at = |place: &Path| config(folder.path(), &format!("location: 'file://{}'", place.display()));
        let beside = config(folder.path(), "");
        let store = Store::open(StoreSettings::new(&beside.data, Access::Engine)).await.unwrap();
        let taken = async |config: &Config, access| {
            let taken = super::place(config, &store, access).await.map(|place| place.to_string());
            taken.map_err(|error| match error {
                Failure::Usage(error) => error.to_string(),
                _ => panic!("it is wrong use"),
            })
        };
        // Nothing is in it: one place is as good as another.
        assert_eq!(taken(&at(&first), Access::Engine).await.unwrap(), first.display().to_string());
        assert!(taken(&beside, Access::Engine).await.is_ok());
        let file = LakeFile {
            path: "fw/a.parquet".to_owned(),
            layout: 2,
            source: "fw".to_owned(),
            hour: 0,
            earliest: Micros(0),
            latest: Micros(1),
            events: 1,
            bytes: 4,
            index_bytes: 0,
            written_at: Micros(2),
            holds: Holds::Events,
        };
        store.add_to_lake(&[file], &[]).await.unwrap();
        for access in [Access::Engine, Access::Tool] {
            let said = taken(&at(&second), access).await.unwrap_err();
            let place = format!("{}:3:18: lake.location: ", folder.path().join("v.yml").display());
            assert!(said.starts_with(&place), "{said}");
            assert!(
                said.contains("in the folder `lake` of the data folder, and 1 of 1 are not here; copy"),
                "{said}"
            );
        }
        // One that is not whole is not there.
        std::fs::create_dir_all(second.join("fw")).unwrap();
        std::fs::write(second.join("fw/a.parquet"), "abc").unwrap();
        assert!(taken(&at(&second), Access::Engine).await.is_err());
        std::fs::write(second.join("fw/a.parquet"), "abcd").unwrap();
        // Who only looks changes nothing.
        assert!(taken(&at(&second), Access::Tool).await.is_ok());
        assert!(taken(&beside, Access::Tool).await.is_ok());
        assert!(taken(&at(&second), Access::Engine).await.is_ok());
        let said = taken(&beside, Access::Tool).await.unwrap_err();
        assert!(said.contains(&format!("are in file://{}", second.display())), "{said}");
        assert!(taken(&at(&second), Access::Engine).await.is_ok(), "and stays");
        store.close().await;
    }
}
