//! Events become files.
//!
//! In: batches of events with their times. Out: files by source and hour, sorted by time. Invariants: what waits is held until it is
//! written, also where that fails; a file has its name only once it is whole and on the disk; how much waits is said, so that whoever
//! gives can bound it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow_array::{RecordBatch, TimestampMicrosecondArray, cast::AsArray as _};
use arrow_schema::{ArrowError, Schema, SchemaRef};
use datafusion::arrow::compute::{concat_batches, sort_to_indices, take_record_batch};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::{
        metadata::SortingColumn,
        properties::{WriterProperties, WriterPropertiesBuilder},
    },
    schema::types::ColumnPath,
};
use vedette_event::Micros;
use vedette_store::model::LakeFile;

use super::{LAYOUT, LakeError};
use crate::columns::TIME;

/// Rows of a row group: with more, a needle reads more; with fewer, the same values are written down more often. Of 64 Ki one rare address took
/// 31 ms where the default of a mebi took 48.
const GROUP: usize = 65_536;
/// Ends of columns that hold what one looks for by its exact value.
const NEEDLES: [&str; 12] =
    [".ip", ".name", ".id", ".domain", ".mac", ".sha256", ".sha1", ".md5", ".ja4", ".ja3", ".email", ".uuid"];
const HOUR: i64 = 3_600_000_000;

/// Collects events and writes them.
#[derive(Debug)]
pub struct Writer {
    folder: PathBuf,
    /// By source and hour, which is what comes into one file.
    waiting: BTreeMap<(Arc<str>, i64), Vec<RecordBatch>>,
    bytes: usize,
    files: u64,
}

impl Writer {
    /// Into this folder, which need not be there.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), waiting: BTreeMap::new(), bytes: 0, files: 0 }
    }

    /// Takes events of a source, all with a time; `bytes` is what they hold of memory.
    ///
    /// # Errors
    /// If a batch has no times, which would be a defect of whoever gives it.
    pub fn push(&mut self, source: &Arc<str>, events: &RecordBatch, bytes: usize) -> Result<(), LakeError> {
        let hours: Vec<i64> = times(events)?.values().iter().map(|time| time.div_euclid(HOUR)).collect();
        self.bytes += bytes;
        let mut from = 0;
        while let Some(hour) = hours.get(from).copied() {
            let rows = hours[from..].iter().take_while(|other| **other == hour).count();
            let waiting = self.waiting.entry((source.clone(), hour)).or_default();
            waiting.push(events.slice(from, rows));
            from += rows;
        }
        Ok(())
    }

    /// How many bytes wait.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes all that waits. It waits on until [`Writer::written`], so that nothing is lost if the catalog does not take the files.
    ///
    /// # Errors
    /// The first that could not be written; those before it are orphans then.
    pub fn write(&mut self, now: Micros) -> Result<Vec<LakeFile>, LakeError> {
        let mut files = Vec::with_capacity(self.waiting.len());
        for ((source, hour), batches) in &self.waiting {
            self.files += 1;
            let path = format!("{source}/{}-{:016}-{:04}.parquet", day_and_hour(*hour), now.0, self.files);
            files.push(write(&self.folder, path, (source, *hour), batches, now)?);
        }
        Ok(files)
    }

    /// The catalog has the files.
    pub fn written(&mut self) {
        self.waiting.clear();
        self.bytes = 0;
    }
}

/// The times of events.
fn times(events: &RecordBatch) -> Result<&TimestampMicrosecondArray, LakeError> {
    let times = events.column_by_name(TIME).and_then(|times| times.as_primitive_opt());
    times.ok_or_else(|| ArrowError::SchemaError(format!("{TIME} is not there")).into())
}

/// `2026-11-28/22`, in UTC.
fn day_and_hour(hour: i64) -> String {
    let text = Micros(hour.saturating_mul(HOUR)).to_string();
    let (day, time) = text.split_once('T').unwrap_or((&text, "00"));
    format!("{day}/{}", time.get(..2).unwrap_or("00"))
}

/// One schema for all: events of two mappings can be in one file.
fn joined(batches: &[RecordBatch]) -> Result<SchemaRef, LakeError> {
    match batches.split_first() {
        Some((first, rest)) if rest.iter().all(|batch| Arc::ptr_eq(&batch.schema(), &first.schema())) => {
            Ok(first.schema())
        }
        _ => {
            let schemas = batches.iter().map(|batch| batch.schema().as_ref().clone());
            Ok(Arc::new(Schema::try_merge(schemas)?))
        }
    }
}

fn write(
    folder: &Path,
    path: String,
    (source, hour): (&str, i64),
    batches: &[RecordBatch],
    now: Micros,
) -> Result<LakeFile, LakeError> {
    let schema = joined(batches)?;
    let fitted = batches.iter().map(|batch| fitted(batch, &schema)).collect::<Result<Vec<_>, _>>()?;
    let all = concat_batches(&schema, &fitted)?;
    let sorted = take_record_batch(&all, &sort_to_indices(times(&all)?, None, None)?)?;
    let at = |place: Option<&i64>| Micros(place.copied().unwrap_or_default());
    let of = times(&sorted)?.values();
    let (earliest, latest) = (at(of.first()), at(of.last()));
    let whole = folder.join(&path);
    let below = whole.parent().unwrap_or(folder);
    fs::create_dir_all(below).map_err(LakeError::of_disk(below))?;
    let part = whole.with_extension("part");
    let file = File::create(&part).map_err(LakeError::of_disk(&part))?;
    let parquet = |source| LakeError::Parquet { path: part.clone(), source };
    let mut writer =
        ArrowWriter::try_new(file, schema.clone(), Some(properties(&schema))).map_err(parquet)?;
    writer.write(&sorted).map_err(parquet)?;
    let file = writer.into_inner().map_err(parquet)?;
    file.sync_all().map_err(LakeError::of_disk(&part))?;
    let bytes = file.metadata().map_err(LakeError::of_disk(&part))?.len();
    fs::rename(&part, &whole).map_err(LakeError::of_disk(&whole))?;
    // Its name is on the disk with its folder only.
    File::open(below).and_then(|below| below.sync_all()).map_err(LakeError::of_disk(below))?;
    Ok(LakeFile {
        path,
        layout: LAYOUT,
        source: source.to_owned(),
        hour,
        earliest,
        latest,
        events: sorted.num_rows() as u64,
        bytes,
        written_at: now,
    })
}

/// The same events with the columns of `schema`; those they do not have are null.
fn fitted(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, LakeError> {
    if Arc::ptr_eq(&batch.schema(), schema) {
        return Ok(batch.clone());
    }
    let columns = schema.fields().iter().map(|field| {
        let there = batch.column_by_name(field.name()).cloned();
        there.unwrap_or_else(|| arrow_array::new_null_array(field.data_type(), batch.num_rows()))
    });
    Ok(RecordBatch::try_new(schema.clone(), columns.collect())?)
}

fn properties(schema: &Schema) -> WriterProperties {
    let time = schema.index_of(TIME).ok().and_then(|at| i32::try_from(at).ok());
    let sorted =
        time.map(|column_idx| vec![SortingColumn { column_idx, descending: false, nulls_first: true }]);
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).unwrap_or_default()))
        .set_max_row_group_row_count(Some(GROUP))
        .set_created_by("vedette".to_owned())
        .set_sorting_columns(sorted);
    for field in schema.fields() {
        let name = field.name();
        if NEEDLES.iter().any(|end| name.ends_with(end)) {
            properties = with_bloom_filter(properties, name);
        }
    }
    properties.build()
}

fn with_bloom_filter(properties: WriterPropertiesBuilder, name: &str) -> WriterPropertiesBuilder {
    // As one part: the dots are of the name.
    properties.set_column_bloom_filter_enabled(ColumnPath::new(vec![name.to_owned()]), true)
}

/// Removes all files below the lake's folder that the catalog does not name: what a killed process was at. How many.
///
/// # Errors
/// If the folder cannot be read, or a file not be removed.
pub fn remove_orphans(folder: &Path, named: &BTreeSet<String>) -> Result<u64, LakeError> {
    let mut removed = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(below) = folders.pop() {
        let entries = match fs::read_dir(&below) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(LakeError::of_disk(&below)(error)),
        };
        for entry in entries {
            let path = entry.map_err(LakeError::of_disk(&below))?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            let ours = path.extension().is_some_and(|end| end == "parquet" || end == "part");
            if ours && !named.contains(&name) {
                fs::remove_file(&path).map_err(LakeError::of_disk(&path))?;
                removed += 1;
            }
        }
    }
    Ok(removed)
}
