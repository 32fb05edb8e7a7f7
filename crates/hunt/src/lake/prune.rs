//! Files that a query need not open, by what the catalog says of them.
//!
//! In: the conditions of a query, the rows of the catalog. Out: the files that may hold what is asked for.
//! Invariant: a file is left out only if no event of its source and between its first and its last time can meet the conditions.

use std::{collections::HashSet, sync::Arc};

use arrow_array::{ArrayRef, BooleanArray, StringViewArray, TimestampMicrosecondArray, UInt64Array};
use arrow_schema::SchemaRef;
use datafusion::{
    common::{Column, ScalarValue, pruning::PruningStatistics},
    error::Result,
    physical_optimizer::pruning::PruningPredicateBuilder,
    physical_plan::PhysicalExpr,
};
use vedette_store::model::LakeFile;

use crate::columns::{SOURCE, TIME, time_type};

/// Of these files those that may hold what meets the condition, in the same order.
pub(super) fn may_hold<'a>(
    files: &'a [LakeFile],
    condition: &Arc<dyn PhysicalExpr>,
    schema: &SchemaRef,
) -> Result<Vec<&'a LakeFile>> {
    let predicate = PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema));
    let Some(predicate) = predicate.build(Arc::clone(condition)) else { return Ok(files.iter().collect()) };
    let kept = predicate.prune(&Said(files))?;
    Ok(files.iter().zip(kept).filter_map(|(file, kept)| kept.then_some(file)).collect())
}

/// What the catalog says of files.
struct Said<'a>(&'a [LakeFile]);

impl Said<'_> {
    fn values(&self, column: &Column, time: impl Fn(&LakeFile) -> i64) -> Option<ArrayRef> {
        match column.name() {
            TIME => {
                let times: TimestampMicrosecondArray = self.0.iter().map(|file| Some(time(file))).collect();
                Some(Arc::new(times.with_data_type(time_type())))
            }
            SOURCE => {
                let sources = self.0.iter().map(|file| Some(file.source.as_str()));
                Some(Arc::new(sources.collect::<StringViewArray>()))
            }
            _ => None,
        }
    }
}

impl PruningStatistics for Said<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |file| file.earliest.0)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |file| file.latest.0)
    }

    fn num_containers(&self) -> usize {
        self.0.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        // Each event has these two.
        let none = || -> ArrayRef { Arc::new(UInt64Array::from(vec![0; self.0.len()])) };
        matches!(column.name(), TIME | SOURCE).then(none)
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(self.0.iter().map(|file| Some(file.events)).collect::<UInt64Array>()))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
