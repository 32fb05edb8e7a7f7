//! One file of the lake, from its first event to its last.
//!
//! In: events of one source and hour, in the order of their times. Out: the file, and its row for the catalog.
//! Invariants: it has its name only once it is whole and on the disk; one that is not finished is removed.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use arrow_array::{RecordBatch, TimestampMicrosecondArray, cast::AsArray as _};
use arrow_schema::{ArrowError, Schema, SchemaRef};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, Encoding, ZstdLevel},
    file::{
        metadata::SortingColumn,
        properties::{WriterProperties, WriterPropertiesBuilder},
    },
    schema::types::ColumnPath,
};
use vedette_event::Micros;
use vedette_store::model::{Holds, LakeFile};

use super::{LAYOUT, LakeError, fitted::fitted, originals, skip};
use crate::columns::{OFFSET, TIME};

/// Ends of columns that hold what one looks for by its exact value.
const NEEDLES: [&str; 12] =
    [".ip", ".name", ".id", ".domain", ".mac", ".sha256", ".sha1", ".md5", ".ja4", ".ja3", ".email", ".uuid"];

/// Writes a file.
pub(super) struct FileWriter {
    whole: PathBuf,
    part: Part,
    schema: SchemaRef,
    writer: ArrowWriter<File>,
    /// None beside originals, which are looked for by where they stood.
    index: Option<skip::Builder>,
    row: LakeFile,
}

/// The name of a file while it is not whole; removed with it.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        // Once it is whole it is called otherwise; and on a full disk what could not be finished must not stay.
        let _ = fs::remove_file(&self.0);
    }
}

impl FileWriter {
    /// Begins a file at `path` below the lake's folder, of events of a source and an hour or their originals, with the columns of `schema`.
    pub(super) fn begin(
        folder: &Path,
        path: String,
        (holds, source, hour): (Holds, &str, i64),
        schema: &SchemaRef,
    ) -> Result<Self, LakeError> {
        let whole = folder.join(&path);
        let below = whole.parent().unwrap_or(folder);
        fs::create_dir_all(below).map_err(LakeError::of_disk(below))?;
        let part = Part(whole.with_extension("part"));
        let file = File::create(&part.0).map_err(LakeError::of_disk(&part.0))?;
        let properties = match holds {
            Holds::Events => properties(schema),
            Holds::Originals => of_originals(schema),
        };
        let writer = ArrowWriter::try_new(file, SchemaRef::clone(schema), Some(properties));
        let writer = writer.map_err(|source| LakeError::Parquet { path: part.0.clone(), source })?;
        let row = LakeFile {
            path,
            layout: LAYOUT,
            holds,
            source: source.to_owned(),
            hour,
            earliest: Micros::MAX,
            latest: Micros::MIN,
            events: 0,
            bytes: 0,
            index_bytes: 0,
            written_at: Micros(0),
        };
        let index = (holds == Holds::Events).then(|| skip::Builder::new(schema));
        Ok(Self { whole, part, schema: SchemaRef::clone(schema), writer, index, row })
    }

    /// Adds events, none of them earlier than those before; of originals, none that stood before those.
    pub(super) fn push(&mut self, events: &RecordBatch) -> Result<(), LakeError> {
        let of = times(events)?.values();
        if let (Some(first), Some(last)) = (of.iter().min(), of.iter().max()) {
            self.row.earliest = self.row.earliest.min(Micros(*first));
            self.row.latest = self.row.latest.max(Micros(*last));
        }
        self.row.events += events.num_rows() as u64;
        let events = fitted(events, &self.schema)?;
        if let Some(index) = &mut self.index {
            index.push(&events);
        }
        self.writer.write(&events).map_err(|source| LakeError::Parquet { path: self.part.0.clone(), source })
    }

    /// The file is whole and safe; what the catalog is to say of it.
    pub(super) fn finish(self, now: Micros) -> Result<LakeFile, LakeError> {
        let Self { whole, part, writer, index, row, .. } = self;
        let file = writer.into_inner();
        let file = file.map_err(|source| LakeError::Parquet { path: part.0.clone(), source })?;
        file.sync_all().map_err(LakeError::of_disk(&part.0))?;
        let bytes = file.metadata().map_err(LakeError::of_disk(&part.0))?.len();
        // Not waited for until it is on the disk: an index that is not whole says nothing.
        let index = index.map(|index| index.finish(bytes)).unwrap_or_default();
        if !index.is_empty() {
            let beside = whole.with_extension(skip::EXTENSION);
            fs::write(&beside, &index).map_err(LakeError::of_disk(&beside))?;
        }
        let index_bytes = index.len() as u64;
        fs::rename(&part.0, &whole).map_err(LakeError::of_disk(&whole))?;
        // Its name is on the disk with its folder only.
        let below = whole.parent().unwrap_or(&whole);
        File::open(below).and_then(|below| below.sync_all()).map_err(LakeError::of_disk(below))?;
        Ok(LakeFile { bytes, index_bytes, written_at: now, ..row })
    }
}

/// The times of events.
pub(super) fn times(events: &RecordBatch) -> Result<&TimestampMicrosecondArray, LakeError> {
    let times = events.column_by_name(TIME).and_then(|times| times.as_primitive_opt());
    times.ok_or_else(|| ArrowError::SchemaError(format!("{TIME} is not there")).into())
}

fn properties(schema: &Schema) -> WriterProperties {
    let time = schema.index_of(TIME).ok().and_then(|at| i32::try_from(at).ok());
    let sorted =
        time.map(|column_idx| vec![SortingColumn { column_idx, descending: false, nulls_first: true }]);
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).unwrap_or_default()))
        .set_max_row_group_row_count(Some(skip::BLOCK))
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

/// Rows of a part of a file of originals, whose keys are read at once.
const PART: usize = 16_384;
/// Rows of a page of these, of which one is read for one original.
const PAGE: usize = 512;

/// As files of originals are written: in small parts and pages, since they are looked for one by one.
fn of_originals(schema: &Schema) -> WriterProperties {
    let sorted = originals::KEYS.iter().filter_map(|name| i32::try_from(schema.index_of(name).ok()?).ok());
    let sorted = sorted.map(|column_idx| SortingColumn { column_idx, descending: false, nulls_first: true });
    let plain = |name: &str| ColumnPath::new(vec![name.to_owned()]);
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).unwrap_or_default()))
        .set_max_row_group_row_count(Some(PART))
        .set_data_page_row_count_limit(PAGE)
        .set_write_batch_size(PAGE)
        .set_created_by("vedette".to_owned())
        .set_sorting_columns(Some(sorted.collect()))
        .set_column_dictionary_enabled(plain(originals::ORIGINAL), false)
        .set_column_dictionary_enabled(plain(OFFSET), false)
        .set_column_encoding(plain(OFFSET), Encoding::DELTA_BINARY_PACKED)
        .set_column_dictionary_enabled(plain(TIME), false)
        .set_column_encoding(plain(TIME), Encoding::DELTA_BINARY_PACKED)
        .build()
}

fn with_bloom_filter(properties: WriterPropertiesBuilder, name: &str) -> WriterPropertiesBuilder {
    // As one part: the dots are of the name.
    properties.set_column_bloom_filter_enabled(ColumnPath::new(vec![name.to_owned()]), true)
}
