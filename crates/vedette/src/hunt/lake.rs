//! A query over the lake of a data folder.
//!
//! In: a query, the configuration that names the folder. Out: the answer, what it rests on and up to when that is complete. Invariant: nothing
//! is changed, so that the service may go on.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use vedette_hunt::{
    Answer, Limits, Query, Read, Supply,
    lake::{Lake, LakeReader, Live},
};
use vedette_store::Access;

use super::{refused, sigma, tables};
use crate::{
    Failure, World as _,
    config::{self, For},
    content, folder, missing,
    rejected::print_rejected,
    service, table,
};

/// What an answer rests on.
pub struct Basis {
    lake: Lake,
    notes: Vec<String>,
}

/// Begins to answer it from what the lake holds of one source, or of all.
pub fn ask(
    (query, sql): (Query, &str),
    (config, source, rules): (&Path, Option<&str>, &[PathBuf]),
    limits: Limits,
) -> Result<(Answer, Basis), Failure> {
    let config = config::load(config, For::Folder).map_err(Failure::Usage)?;
    let sources = content::sources(config.schemas.as_deref())
        .map_err(|e| Failure::Usage(config.places.wrong("schemas", format!("{e:#}"))))?;
    let sources = Arc::new(sources);
    if let Some(name) = source.filter(|name| sources.find(name).is_none()) {
        let known: Vec<&str> = sources.defs.iter().map(|def| &*def.name).collect();
        return Err(Failure::Usage(anyhow::anyhow!(
            "there is no source `{name}`; there are: {}",
            known.join(", ")
        )));
    }
    let mut found = None;
    folder::with_store(&config, Access::Tool, async |store| {
        // What waits for its file is seen by the service alone.
        let place = service::lake_place(&config, store, Access::Tool).await?;
        let topics = service::topic_sources(&config);
        let reader = LakeReader::new(store.clone(), place, Live::default(), topics);
        let lake = reader.now(source).await.world()?;
        let all = || Ok(Arc::new(content::rules(&config.rules)?.load(&sources)));
        let (mut tables, mut notes) = tables::tables(&query, store, &sources, all).await.world()?;
        if !query.rules().is_empty() {
            let (paths, whose) = match rules {
                [] => (&config.rules[..], "the configuration has"),
                given => (given, "--rules has"),
            };
            let text = content::rules(paths).map_err(Failure::Usage)?;
            let (all, secret) = (text.load(&sources), service::secret(store).await.world()?);
            tables.rules =
                sigma::over_the_lake(&query, (&all, whose), &sources, (&lake, secret)).map_err(|error| {
                    print_rejected(&all, &text);
                    Failure::Usage(error)
                })?;
        }
        if query.names_originals() {
            notes.extend(
                missing::lines_of_originals(lake.missing()).iter().map(|line| format!("missing: {line}")),
            );
        }
        found = Some((lake.with_tables(tables), notes));
        Ok(())
    })?;
    let (lake, notes) = found.ok_or_else(|| Failure::World(anyhow::anyhow!("the store was not opened")))?;
    let columns = tables::columns(&sources, source);
    let answer = query
        .ask(columns, Supply::Lake(Box::new(lake.clone())), limits)
        .map_err(|error| refused(error, sql))?;
    Ok((answer, Basis { lake, notes }))
}

impl Basis {
    /// Says what the answer rests on, and up to when that is complete.
    pub fn say(&self, rows: u64, more: bool, read: &Read, took: std::time::Duration) {
        let Self { lake, notes } = self;
        let more = if more { " (there are more: --limit)" } else { "" };
        let bytes = indicatif::HumanBytes(lake.bytes());
        say!(
            "{rows} rows{more}; of {} events in {bytes} of the lake, {:.2} s",
            lake.events(),
            took.as_secs_f64()
        );
        say!(
            "read {}; skipped {} files and {} parts by skip indexes, {} files and {} parts by least and greatest values, {} parts by \
             bloom filters",
            indicatif::HumanBytes(read.bytes + read.index_bytes),
            read.files_skipped_by_index,
            read.groups_skipped_by_index,
            read.files_skipped,
            read.groups_skipped_by_statistics,
            read.groups_skipped_by_bloom
        );
        if read.indexes_damaged > 0 {
            say!("{} skip indexes are damaged or gone: their files were read instead", read.indexes_damaged);
        }
        match lake.through() {
            Some((time, of)) => say!(
                "complete through {time}, by partition {} of {}; what came since is not in files yet",
                of.partition,
                table::plain(&of.topic)
            ),
            None if lake.events() > 0 => {
                say!("through when it is complete is not known: of some partitions nothing has been read")
            }
            None => say!("the lake is empty: a service with `lake: {{on: true}}` fills it"),
        }
        notes.iter().for_each(|note| say!("{note}"));
        missing::say(lake.missing());
    }
}
