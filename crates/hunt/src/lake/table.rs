//! `events` as a table over the lake's files, and over what is in none yet.
//!
//! In: the files that the catalog names, and where they are; events that wait. Out: record batches of what a query needs. Invariants: a file, a row group or a
//! page is skipped only by what its statistics and bloom filters say that it cannot hold; no file is read that the catalog does not name;
//! one that is named and is not there is an error, never a shorter answer.

use std::{fmt, path::Path, sync::Arc};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider, memory::MemorySourceConfig},
    common::ToDFSchema as _,
    datasource::{
        listing::PartitionedFile,
        physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource},
        source::DataSourceExec,
    },
    error::{DataFusionError, Result},
    execution::object_store::ObjectStoreUrl,
    logical_expr::{Expr, TableProviderFilterPushDown, TableType, utils::conjunction},
    object_store::{ObjectStore, local::LocalFileSystem},
    physical_plan::{ExecutionPlan, union::UnionExec},
};
use vedette_event::Micros;
use vedette_store::model::{LakeDrop, LakeFile, LakePosition, LostInterval};

use super::{LAYOUT, LakeError, Newest, Reached, fitted::fitted, is_there, live::Reading, prune::may_hold};
use crate::tables::Tables;

/// The lake's files go by this, and nothing else does.
pub(crate) const PLACE: &str = "lake://files/";

/// Files that one query reads at most: ten sources for a year.
const MOST_FILES: usize = 100_000;

/// The lake as it is at one moment.
#[derive(Clone)]
pub struct Lake {
    pub(crate) files: Arc<[LakeFile]>,
    pub(crate) store: Arc<dyn ObjectStore>,
    folder: Arc<Path>,
    /// What is in no file yet.
    newest: Arc<[(Arc<str>, RecordBatch)]>,
    pub(super) reached: Vec<Reached>,
    pub(super) missing: Missing,
    /// What there is beside `events`.
    pub(crate) tables: Tables,
    /// As long as it is there, none of its files is deleted.
    pub(super) reading: Option<Arc<Reading>>,
}

/// What the lake has not, though it once was or was to come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missing {
    /// What was dropped, by source.
    pub dropped: Vec<LakeDrop>,
    /// Records that Kafka deleted before the lake had read them.
    pub lost: Vec<LostInterval>,
    /// Topics that were made anew, with the newest broker's time that was read of the one before: what that had beyond is not here.
    pub renewed: Vec<(String, Option<Micros>)>,
}

impl fmt::Debug for Lake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { files, newest, .. } = self;
        let mut of = f.debug_struct("Lake");
        of.field("files", &files.len()).field("newest", &newest.len()).finish_non_exhaustive()
    }
}

impl Lake {
    /// These files of the catalog, below this folder.
    ///
    /// # Errors
    /// If a file is of a newer layout. One that is not as the catalog has it is found where a query needs it.
    pub fn new(folder: &Path, files: Vec<LakeFile>) -> Result<Self, LakeError> {
        if let Some(newer) = files.iter().find(|file| file.layout > LAYOUT) {
            return Err(LakeError::Newer { path: newer.path.clone(), layout: newer.layout });
        }
        if files.is_empty() {
            std::fs::create_dir_all(folder).map_err(LakeError::of_disk(folder))?;
        }
        let store = LocalFileSystem::new_with_prefix(folder).map_err(std::io::Error::other);
        let store = store.map_err(LakeError::of_disk(folder))?;
        Ok(Self {
            files: files.into(),
            store: Arc::new(store),
            folder: folder.into(),
            newest: Arc::default(),
            reached: Vec::new(),
            missing: Missing::default(),
            tables: Tables::default(),
            reading: None,
        })
    }

    /// With what waited for its file right before the catalog was asked for the files, which are whole up to these positions; of one source, or
    /// of all.
    ///
    /// # Errors
    /// If what waits is not as the lake has events, which would be a defect of whoever gave it.
    pub fn with_newest(
        self,
        newest: Newest,
        positions: &[LakePosition],
        source: Option<&str>,
    ) -> Result<Self, LakeError> {
        let reached = newest.reached(positions);
        Ok(Self { newest: newest.beyond(positions, source)?.into(), reached, ..self })
    }

    /// With tables beside `events`.
    #[must_use]
    pub fn with_tables(self, tables: Tables) -> Self {
        Self { tables, ..self }
    }

    /// What it holds of one source, for a table of that.
    pub(crate) fn of_source(&self, source: &str) -> Self {
        let files = self.files.iter().filter(|file| file.source == source).cloned().collect();
        let newest = self.newest.iter().filter(|(of, _)| **of == *source).cloned().collect();
        Self { files, newest, ..self.clone() }
    }

    /// How far each partition has been read.
    #[must_use]
    pub fn reached(&self) -> &[Reached] {
        &self.reached
    }

    /// Through when all partitions are complete, by the one that is so least; nothing where that is not known of one, or none is there.
    #[must_use]
    pub fn through(&self) -> Option<(Micros, &LakePosition)> {
        let all = self.reached.iter().map(|of| Some((of.through?, &of.position)));
        all.collect::<Option<Vec<_>>>()?.into_iter().min_by_key(|of| of.0)
    }

    /// Whether a query can read these files, as the catalog has them.
    fn are_there(&self, files: &[&LakeFile]) -> Result<(), LakeError> {
        if files.len() > MOST_FILES {
            return Err(LakeError::TooMany { files: files.len() });
        }
        files.iter().try_for_each(|file| is_there(&self.folder, file))
    }

    /// What it has not, as of the moment of the catalog.
    #[must_use]
    pub const fn missing(&self) -> &Missing {
        &self.missing
    }

    /// The files that it is made of.
    #[must_use]
    pub fn files(&self) -> &[LakeFile] {
        &self.files
    }

    /// How many events there are.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.files.iter().map(|file| file.events).sum::<u64>() + self.live_events()
    }

    /// How many of them are in no file yet.
    #[must_use]
    pub fn live_events(&self) -> u64 {
        self.newest.iter().map(|(_, events)| events.num_rows() as u64).sum()
    }

    /// How many bytes the files have.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// The table.
#[derive(Debug)]
pub(crate) struct LakeTable {
    pub(crate) lake: Lake,
    pub(crate) schema: SchemaRef,
}

#[async_trait]
impl TableProvider for LakeTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // What is skipped cannot match; what is read is asked once more.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let files = self.files(session, projection, filters, limit)?;
        if self.lake.newest.is_empty() {
            return Ok(files);
        }
        let all = || (0..self.schema.fields().len()).collect();
        let wanted: Vec<usize> = projection.cloned().unwrap_or_else(all);
        let schema = Arc::new(self.schema.project(&wanted)?);
        let newest = self.lake.newest.iter().map(|(_, events)| fitted(events, &schema));
        let newest = newest.collect::<Result<Vec<_>, _>>()?;
        UnionExec::try_new(vec![files, MemorySourceConfig::try_new_exec(&[newest], schema, None)?])
    }
}

impl LakeTable {
    /// What reads the files.
    fn files(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut source = ParquetSource::new(Arc::clone(&self.schema))
            .with_pushdown_filters(true)
            .with_reorder_filters(true)
            .with_enable_page_index(true)
            .with_bloom_filter_on_read(true);
        let mut wanted: Vec<&LakeFile> = self.lake.files.iter().collect();
        if let Some(filter) = conjunction(filters.to_vec()) {
            let named = Arc::clone(&self.schema).to_dfschema()?;
            let condition = session.create_physical_expr(filter, &named)?;
            wanted = may_hold(&self.lake.files, &condition, &self.schema)?;
            source = source.with_predicate(condition);
        }
        self.lake.are_there(&wanted).map_err(|error| DataFusionError::External(Box::new(error)))?;
        let files = wanted.into_iter().map(|file| PartitionedFile::new(&file.path, file.bytes));
        let url = ObjectStoreUrl::parse(PLACE).map_err(|e| DataFusionError::External(Box::new(e)))?;
        let config = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_group(FileGroup::new(files.collect()))
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}
