//! `events` as a table over the lake's files, and over what is in none yet.
//!
//! In: the files that the catalog names, and where they are; events that wait. Out: record batches of what a query needs. Invariants: a file, a row group or a
//! page is skipped only by what its index, its statistics and bloom filters say that it cannot hold; no file is read that the catalog does not name;
//! one that is named and is not there is an error, never a shorter answer.

use std::{cmp::Reverse, fmt, sync::Arc};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider, memory::MemorySourceConfig},
    common::{ColumnStatistics, Statistics, ToDFSchema as _, stats::Precision},
    datasource::{
        listing::PartitionedFile,
        physical_plan::{
            FileGroup, FileScanConfigBuilder, FileSource as _, ParquetSource, parquet::ParquetAccessPlan,
        },
        source::DataSourceExec,
    },
    error::{DataFusionError, Result},
    execution::object_store::ObjectStoreUrl,
    logical_expr::{Expr, TableProviderFilterPushDown, TableType, utils::conjunction},
    object_store::ObjectStore,
    physical_plan::{ExecutionPlan, metrics::MetricBuilder, union::UnionExec},
    scalar::ScalarValue,
};
use vedette_event::Micros;
use vedette_store::model::{LakeDrop, LakeFile, LakePosition, LostInterval};

use super::{
    Finder, LAYOUT, LakeError, Newest, Place, Reached,
    fitted::fitted,
    is_there,
    live::Reading,
    originals,
    prune::may_hold,
    skip::{self, Verdict},
};
use crate::{
    columns::{SOURCE, TIME},
    sigma::is_asked_by,
    tables::Tables,
};

/// The lake's files go by this, and nothing else does.
pub(crate) const PLACE: &str = "lake://files/";

/// Among the figures of a query: files of which nothing is read, by their indexes.
pub(crate) const FILES_SKIPPED: &str = "files_skipped_by_index";
/// Blocks of other files that are not read, by these.
pub(crate) const BLOCKS_SKIPPED: &str = "blocks_skipped_by_index";
/// Bytes that were read of indexes.
pub(crate) const INDEX_BYTES: &str = "index_bytes_scanned";
/// Indexes that are not there, or not as they were written, so that their files are read.
pub(crate) const INDEXES_DAMAGED: &str = "indexes_damaged";

/// Files that one query reads at most: ten sources for a year.
const MOST_FILES: usize = 100_000;

/// The lake as it is at one moment.
#[derive(Clone)]
pub struct Lake {
    pub(crate) files: Arc<[LakeFile]>,
    /// Those of originals.
    originals: Arc<[LakeFile]>,
    pub(crate) store: Arc<dyn ObjectStore>,
    place: Place,
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
    /// What was dropped of originals.
    pub originals: Vec<LakeDrop>,
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
    /// These files of the catalog, in this place.
    ///
    /// # Errors
    /// If a file is of a newer layout. One that is not as the catalog has it is found where a query needs it.
    pub fn new(place: impl Into<Place>, files: Vec<LakeFile>) -> Result<Self, LakeError> {
        let place = place.into();
        if let Some(newer) = files.iter().find(|file| file.layout > LAYOUT) {
            return Err(LakeError::Newer { path: newer.path.clone(), layout: newer.layout });
        }
        if let Place::Folder(folder) = &place
            && files.is_empty()
        {
            std::fs::create_dir_all(folder).map_err(LakeError::of_disk(folder))?;
        }
        Ok(Self {
            files: files.into(),
            originals: Arc::default(),
            store: place.store()?,
            place,
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

    /// With these files of originals.
    #[must_use]
    pub fn with_originals(self, files: Vec<LakeFile>) -> Self {
        Self { originals: files.into(), ..self }
    }

    /// What finds the originals of a query's rows.
    pub(crate) fn finder(&self) -> Finder {
        Finder::new(Arc::clone(&self.store), &self.originals, Arc::clone(&self.newest))
    }

    /// With tables beside `events`.
    #[must_use]
    pub fn with_tables(self, tables: Tables) -> Self {
        Self { tables, ..self }
    }

    /// What it holds of one source, for a table of that.
    /// Whether there is anything of a source.
    #[must_use]
    pub fn holds(&self, source: &str) -> bool {
        self.files.iter().any(|file| file.source == source)
            || self.newest.iter().any(|(name, _)| **name == *source)
    }

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
        files.iter().try_for_each(|file| is_there(&self.place, file))
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
        let pushed = filters.iter().map(|filter| {
            if is_asked_by(filter) || originals::is_asked_by(filter) {
                return TableProviderFilterPushDown::Unsupported;
            }
            // What is skipped cannot match; what is read is asked once more.
            TableProviderFilterPushDown::Inexact
        });
        Ok(pushed.collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let files = self.files(session, projection, filters, limit).await?;
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
    async fn files(
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
        let files = self.wanted(&wanted, &source, filters).await;
        let url = ObjectStoreUrl::parse(PLACE).map_err(|e| DataFusionError::External(Box::new(e)))?;
        let config = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_group(FileGroup::new(files))
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    /// The files, and of each the blocks, that must be read by what their indexes say. How many are not is among the figures of the source.
    async fn wanted(
        &self,
        of: &[&LakeFile],
        source: &ParquetSource,
        filters: &[Expr],
    ) -> Vec<PartitionedFile> {
        let demand = skip::Demand::of(filters, &self.schema);
        let looked = skip::look(self.lake.store.as_ref(), of, &demand).await;
        let (mut files, mut skipped, mut blocks) = (Vec::new(), 0, 0);
        // The newest first: who wants the newest rows needs none of the others, once there are enough.
        let mut all: Vec<_> = of.iter().zip(looked.verdicts).collect();
        all.sort_by_key(|(file, _)| Reverse((file.latest, &file.path)));
        for (file, verdict) in all {
            let read = PartitionedFile::new(&file.path, file.bytes).with_statistics(self.known(file));
            match verdict {
                Verdict::All => files.push(read),
                Verdict::Nothing => skipped += 1,
                Verdict::Blocks(wanted) => {
                    let mut plan = ParquetAccessPlan::new_all(wanted.len());
                    let not = wanted.iter().enumerate().filter(|(_, wanted)| !**wanted);
                    not.for_each(|(number, _)| {
                        plan.skip(number);
                        blocks += 1;
                    });
                    files.push(read.with_extension(plan));
                }
            }
        }
        let figure = |name: &'static str, value: usize| {
            MetricBuilder::new(source.metrics()).global_counter(name).add(value);
        };
        figure(FILES_SKIPPED, skipped);
        figure(BLOCKS_SKIPPED, blocks);
        figure(INDEX_BYTES, looked.bytes as usize);
        figure(INDEXES_DAMAGED, looked.damaged as usize);
        files
    }

    /// What the catalog says of all events of a file.
    fn known(&self, file: &LakeFile) -> Arc<Statistics> {
        let mut known = Statistics::new_unknown(&self.schema);
        known.num_rows = Precision::Exact(usize::try_from(file.events).unwrap_or(usize::MAX));
        let time = |time: Micros| ScalarValue::TimestampMicrosecond(Some(time.0), Some("UTC".into()));
        let source = || ScalarValue::Utf8View(Some(file.source.clone()));
        let bounds = [(TIME, time(file.earliest), time(file.latest)), (SOURCE, source(), source())];
        for (name, min, max) in bounds {
            let column = self.schema.index_of(name).ok().and_then(|at| known.column_statistics.get_mut(at));
            if let Some(column) = column {
                *column = ColumnStatistics {
                    null_count: Precision::Exact(0),
                    min_value: Precision::Exact(min),
                    max_value: Precision::Exact(max),
                    ..ColumnStatistics::new_unknown()
                };
            }
        }
        Arc::new(known)
    }
}
