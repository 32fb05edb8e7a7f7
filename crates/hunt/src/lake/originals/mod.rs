//! Records as they came, of those events whose record is kept.
//!
//! In: events with the text of their record beside them ([`beside`]). Out: files of their own ([`write`]), and a column of queries that name it
//! ([`Finder`], [`shown`]). Invariants: secrets are hidden by whoever gives the text; an original is in one file, which is named with that of its event;
//! a query that does not name the column reads none, and one that does reads those of its rows.
//!
//! While an event waits for its file, its original is a column of it ([`HIDDEN`]), so that both are there together and go into files together. Files of
//! originals are sorted by where their records stood ([`KEYS`]), because that is what they are looked for by.

mod column;
mod find;
mod late;

use std::{path::Path, sync::Arc};

use arrow_array::{Array as _, ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use datafusion::arrow::compute::{
    SortColumn, concat_batches, filter_record_batch, is_not_null, lexsort_to_indices, take_record_batch,
};
use vedette_event::Micros;
use vedette_store::model::{Holds, LakeFile};

pub(crate) use column::{function, is_asked_by, shown};
pub(crate) use find::{Finder, Sought};
pub(crate) use late::TakeFirst;

use super::{LakeError, file::FileWriter, fitted::fitted};
use crate::columns::{INCARNATION, OFFSET, PARTITION, TIME, TOPIC, time_type};

/// What queries call the column.
pub(crate) const ORIGINAL: &str = "event.original";
/// What it is called beside events, and in the tables of a query; hidden from `*`.
pub(crate) const HIDDEN: &str = "vedette.original";
/// Where a record stood, in the order of the files.
pub(super) const KEYS: [&str; 4] = [TOPIC, INCARNATION, PARTITION, OFFSET];
/// The folder of their files, below which they lie as those of events do.
const FOLDER: &str = "originals";

/// Events with the texts of their records beside them, null where none is kept; as many texts as there are events.
///
/// # Errors
/// If they are not as many, or of another type, which would be a defect of whoever gives them.
pub fn beside(events: &RecordBatch, texts: ArrayRef) -> Result<RecordBatch, ArrowError> {
    if texts.null_count() == texts.len() {
        return Ok(events.clone());
    }
    let fields = events.schema_ref().fields().iter().cloned();
    let field = Arc::new(Field::new(HIDDEN, DataType::Utf8View, true));
    let columns = events.columns().iter().cloned().chain([texts]);
    RecordBatch::try_new(Arc::new(Schema::new(fields.chain([field]).collect::<Vec<_>>())), columns.collect())
}

/// The columns of events without those of originals.
pub(super) fn of_events(schema: &SchemaRef) -> SchemaRef {
    if schema.index_of(HIDDEN).is_err() {
        return Arc::clone(schema);
    }
    let fields = schema.fields().iter().filter(|field| field.name() != HIDDEN);
    Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()))
}

/// The columns of their files.
fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(TOPIC, DataType::Utf8View, false),
        Field::new(INCARNATION, DataType::UInt16, false),
        Field::new(PARTITION, DataType::Int32, false),
        Field::new(OFFSET, DataType::Int64, false),
        Field::new(TIME, time_type(), false),
        Field::new(ORIGINAL, DataType::Utf8View, false),
    ]))
}

/// Where files of these lie.
pub(super) fn below(holds: Holds, source: &str) -> String {
    match holds {
        Holds::Events => source.to_owned(),
        Holds::Originals => format!("{FOLDER}/{source}"),
    }
}

/// In which order rows of a file stand.
pub(super) const fn order(holds: Holds) -> &'static [&'static str] {
    match holds {
        Holds::Events => &[TIME],
        Holds::Originals => &KEYS,
    }
}

/// Rows in the order of a file.
pub(super) fn sorted(holds: Holds, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let column = |name: &&str| {
        let values = rows.schema_ref().index_of(name).map(|at| Arc::clone(rows.column(at)))?;
        Ok(SortColumn { values, options: None })
    };
    let columns = order(holds).iter().map(column).collect::<Result<Vec<_>, ArrowError>>()?;
    take_record_batch(rows, &lexsort_to_indices(&columns, None)?)
}

/// The originals of events of a source and an hour become one file; none if there are none.
pub(super) fn write(
    folder: &Path,
    path: String,
    of: (&str, i64),
    batches: &[RecordBatch],
    now: Micros,
) -> Result<Option<LakeFile>, LakeError> {
    let schema = schema();
    let mut all = Vec::new();
    for batch in batches {
        let Some(texts) = batch.column_by_name(HIDDEN) else { continue };
        let mut keys = schema.fields().iter().take(KEYS.len() + 1).cloned().collect::<Vec<_>>();
        let keyed = fitted(batch, &Arc::new(Schema::new(keys.clone())))?;
        keys.push(Arc::new(Field::new(ORIGINAL, DataType::Utf8View, true)));
        let columns = keyed.columns().iter().cloned().chain([Arc::clone(texts)]).collect();
        let rows = RecordBatch::try_new(Arc::new(Schema::new(keys)), columns)?;
        all.push(fitted(&filter_record_batch(&rows, &is_not_null(texts)?)?, &schema)?);
    }
    if all.iter().all(|rows| rows.num_rows() == 0) {
        return Ok(None);
    }
    let mut file = FileWriter::begin(folder, path, (Holds::Originals, of.0, of.1), &schema)?;
    file.push(&sorted(Holds::Originals, &concat_batches(&schema, &all)?)?)?;
    file.finish(now).map(Some)
}
