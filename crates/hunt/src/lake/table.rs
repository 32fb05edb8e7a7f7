//! `events` as a table over the lake's files.
//!
//! In: the files that the catalog names, and where they are. Out: record batches of what a query needs. Invariants: a file, a row group or a
//! page is skipped only by what its statistics and bloom filters say that it cannot hold; no file is read that the catalog does not name;
//! one that is named and is not there is an error, never a shorter answer.

use std::{fmt, path::Path, sync::Arc};

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
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
    physical_plan::ExecutionPlan,
};
use vedette_store::model::LakeFile;

use super::{LakeError, is_there};

/// The lake's files go by this, and nothing else does.
pub(crate) const PLACE: &str = "lake://files/";

/// The files of the lake.
#[derive(Clone)]
pub struct Lake {
    pub(crate) files: Arc<[LakeFile]>,
    pub(crate) store: Arc<dyn ObjectStore>,
}

impl fmt::Debug for Lake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lake").field("files", &self.files.len()).finish_non_exhaustive()
    }
}

impl Lake {
    /// These files of the catalog, below this folder.
    ///
    /// # Errors
    /// If a file is of a newer layout, or not as the catalog has it.
    pub fn new(folder: &Path, files: Vec<LakeFile>) -> Result<Self, LakeError> {
        files.iter().try_for_each(|file| is_there(folder, file))?;
        if files.is_empty() {
            std::fs::create_dir_all(folder).map_err(LakeError::of_disk(folder))?;
        }
        let store = LocalFileSystem::new_with_prefix(folder).map_err(std::io::Error::other);
        let store = store.map_err(LakeError::of_disk(folder))?;
        Ok(Self { files: files.into(), store: Arc::new(store) })
    }

    /// How many events they hold.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.files.iter().map(|file| file.events).sum()
    }

    /// How many bytes.
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
        let mut source = ParquetSource::new(Arc::clone(&self.schema))
            .with_pushdown_filters(true)
            .with_reorder_filters(true)
            .with_enable_page_index(true)
            .with_bloom_filter_on_read(true);
        if let Some(filter) = conjunction(filters.to_vec()) {
            let named = Arc::clone(&self.schema).to_dfschema()?;
            source = source.with_predicate(session.create_physical_expr(filter, &named)?);
        }
        let files = self.lake.files.iter().map(|file| PartitionedFile::new(&file.path, file.bytes));
        let url = ObjectStoreUrl::parse(PLACE).map_err(|e| DataFusionError::External(Box::new(e)))?;
        let config = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_group(FileGroup::new(files.collect()))
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}
