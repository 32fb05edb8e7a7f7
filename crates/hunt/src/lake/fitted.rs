//! Events take the columns that they are to have.
//!
//! In: events of any mapping. Out: the same with the columns of a table, or with as few as can be. Invariant: rows stay as they are; a
//! column that is not there is null, and one that is null in all rows need not be there.

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions, new_null_array};
use arrow_schema::{ArrowError, Schema, SchemaRef};
use datafusion::arrow::compute::cast;

/// These columns of events, and null for those that they do not have.
///
/// # Errors
/// If a column is of a type that does not become another.
pub(super) fn fitted(events: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    if Arc::ptr_eq(events.schema_ref(), schema) {
        return Ok(events.clone());
    }
    let rows = events.num_rows();
    let columns = schema.fields().iter().map(|field| match events.column_by_name(field.name()) {
        Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
        Some(column) => cast(column, field.data_type()),
        None => Ok(new_null_array(field.data_type(), rows)),
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

/// One schema for all: events of two mappings can be in one file.
pub(super) fn joined<'a>(schemas: impl IntoIterator<Item = &'a SchemaRef>) -> Result<SchemaRef, ArrowError> {
    let mut schemas = schemas.into_iter();
    let first = schemas.next().cloned().unwrap_or_else(|| Arc::new(Schema::empty()));
    let mut others: Vec<&SchemaRef> = schemas.filter(|other| !Arc::ptr_eq(other, &first)).collect();
    if others.is_empty() {
        return Ok(first);
    }
    // Most are alike, and each that is not is looked at in full.
    others.dedup();
    let all = [&first].into_iter().chain(others).map(|schema| schema.as_ref().clone());
    Ok(Arc::new(Schema::try_merge(all)?))
}

/// The same events without the columns in which there is nothing: most of what a source can have is null in most of its events, and costs
/// sixteen bytes each time as long as it waits.
///
/// # Errors
/// If Arrow refuses the columns, which would be a defect here.
pub fn lean(events: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let kept = events.columns().iter().zip(events.schema_ref().fields()).filter(|(column, field)| {
        !field.is_nullable() || column.null_count() < column.len() || events.num_rows() == 0
    });
    let (columns, fields): (Vec<_>, Vec<_>) =
        kept.map(|(column, field)| (Arc::clone(column), Arc::clone(field))).unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}
