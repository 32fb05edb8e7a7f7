//! A query over the lake of a data folder.
//!
//! In: a query, the configuration that names the folder. Out: the answer, what it rests on and up to when that is complete. Invariant: nothing
//! is changed, so that the service may go on.

use std::path::Path;

use vedette_decode::all_fields;
use vedette_event::Micros;
use vedette_hunt::{Answer, Columns, Limits, Query, Supply, lake::Lake};
use vedette_store::{
    Access,
    model::{LakeFile, LakePosition},
};

use super::refused;
use crate::{
    Failure, World as _,
    config::{self, For},
    content, folder, service, table,
};

/// What an answer rests on.
pub struct Basis {
    lake: Lake,
    positions: Vec<LakePosition>,
}

/// Begins to answer it from what the lake holds of one source, or of all.
pub fn ask(
    (query, sql): (Query, &str),
    (config, source): (&Path, Option<&str>),
    limits: Limits,
) -> Result<(Answer, Basis), Failure> {
    if let Some(rule) = query.rules().first() {
        let what = format!("sigma('{rule}') is answered over files only by now: name them behind the query");
        return Err(Failure::Usage(anyhow::anyhow!(what)));
    }
    let config = config::load(config, For::Folder).map_err(Failure::Usage)?;
    let sources = content::sources(config.schemas.as_deref())
        .map_err(|e| Failure::Usage(config.places.wrong("schemas", format!("{e:#}"))))?;
    if let Some(name) = source.filter(|name| sources.find(name).is_none()) {
        let known: Vec<&str> = sources.defs.iter().map(|def| &*def.name).collect();
        return Err(Failure::Usage(anyhow::anyhow!(
            "there is no source `{name}`; there are: {}",
            known.join(", ")
        )));
    }
    let mut held: (Vec<LakeFile>, Vec<LakePosition>) = Default::default();
    folder::with_store(&config, Access::Tool, async |store| {
        let files = store.lake_files(source, Micros::MIN, Micros::MAX).await.world()?;
        held = (files, store.lake_positions().await.world()?);
        Ok(())
    })?;
    let (files, positions) = held;
    let lake = Lake::new(&service::lake_folder(&config.data), files).world()?;
    let of = |name: &str| source.is_none_or(|source| source == name);
    let fields =
        sources.defs.iter().filter(|def| of(&def.name)).flat_map(|def| all_fields(def, &sources.fields));
    let fields: std::collections::BTreeSet<_> = fields.collect();
    let columns = Columns::of_lake(fields.iter().map(|name| &**name), &sources.fields, true);
    let answer =
        query.ask(columns, Supply::Lake(lake.clone()), limits).map_err(|error| refused(error, sql))?;
    Ok((answer, Basis { lake, positions }))
}

impl Basis {
    /// Says what the answer rests on, and up to when that is complete.
    pub fn say(&self, rows: u64, more: bool, took: std::time::Duration) {
        let more = if more { " (there are more: --limit)" } else { "" };
        let bytes = indicatif::HumanBytes(self.lake.bytes());
        say!(
            "{rows} rows{more}; of {} events in {bytes} of the lake, {:.2} s",
            self.lake.events(),
            took.as_secs_f64()
        );
        let through = self
            .positions
            .iter()
            .filter_map(|position| Some((position.newest_log?, position)))
            .min_by_key(|of| of.0);
        match through {
            Some((time, of)) => say!(
                "complete through {time}, by partition {} of {}; what came since is not in files yet",
                of.partition,
                table::plain(&of.topic)
            ),
            None => say!("the lake is empty: a service with `lake: {{on: true}}` fills it"),
        }
    }
}
