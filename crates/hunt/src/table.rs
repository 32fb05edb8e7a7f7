//! `events` as a table: what a query needs of it is asked of whoever has the events, as it is needed.
//!
//! In: the columns, and who opens them. Out: record batches of the columns that a query needs, in the order in which they come.
//! Invariants: nobody is asked for a column that the query does not need; nothing is held beyond what the giver holds back;
//! who stops reading has the giver stop.

use std::{fmt, sync::Arc};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    error::{DataFusionError, Result},
    execution::{SendableRecordBatchStream, TaskContext},
    logical_expr::{Expr, TableType},
    physical_plan::{
        ExecutionPlan,
        stream::RecordBatchStreamAdapter,
        streaming::{PartitionStream, StreamingTableExec},
    },
};
use futures::{StreamExt as _, stream::BoxStream};

use crate::{columns::Columns, convert::Converter, lake::Lake};

/// What went wrong where events come from.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;
/// Events as they come.
pub type Batches = BoxStream<'static, Result<RecordBatch, SourceError>>;
/// Begins to give events, as a converter wants them. May be asked more than once by one query.
pub type Open = Arc<dyn Fn(Converter) -> Result<Batches, SourceError> + Send + Sync>;

/// Where the events of a query are.
#[derive(Clone)]
pub enum Supply {
    /// Somebody gives them, as they are needed.
    Given(Open),
    /// In the files of the lake.
    Lake(Box<Lake>),
}

/// The table.
pub(crate) struct Events {
    pub(crate) columns: Columns,
    pub(crate) open: Open,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}

#[async_trait]
impl TableProvider for Events {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.columns.schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all = || (0..self.columns.len()).collect();
        let wanted: Vec<usize> = projection.cloned().unwrap_or_else(all);
        let schema = Arc::new(self.columns.schema().project(&wanted)?);
        let converter = Converter::new(&self.columns, &wanted)?;
        let part = Part { converter, schema: Arc::clone(&schema), open: Arc::clone(&self.open) };
        let parts: Vec<Arc<dyn PartitionStream>> = vec![Arc::new(part)];
        Ok(Arc::new(StreamingTableExec::try_new(schema, parts, None, None, false, limit)?))
    }
}

/// All events, with some columns.
struct Part {
    converter: Converter,
    schema: SchemaRef,
    open: Open,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        let batches: BoxStream<'static, Result<RecordBatch>> = match (self.open)(self.converter.clone()) {
            Ok(batches) => batches.map(|batch| batch.map_err(DataFusionError::External)).boxed(),
            Err(error) => futures::stream::iter([Err(DataFusionError::External(error))]).boxed(),
        };
        Box::pin(RecordBatchStreamAdapter::new(schema, batches))
    }
}
