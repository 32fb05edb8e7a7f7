//! The events of one file, a batch at a time.
//!
//! In: a file of the catalog, which of its columns are wanted. Out: record batches in the file's order. Invariants: columns that are not wanted
//! are not read; what is held of a file is a batch, and in a bucket the wanted columns of a row group; what is not as the catalog says
//! is an error, never a shorter answer.

use std::{fs::File, ops::Range, sync::Arc};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use object_store::{ObjectStore as _, ObjectStoreExt as _, path::Path as Name};
use parquet::{
    arrow::{
        ParquetRecordBatchStreamBuilder, ProjectionMask,
        arrow_reader::{
            ArrowReaderBuilder, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
        },
        async_reader::{AsyncFileReader, ParquetRecordBatchStream},
    },
    errors::ParquetError,
    file::metadata::{ParquetMetaData, ParquetMetaDataReader},
};
use tokio::time::timeout;
use vedette_store::model::LakeFile;

use super::{LakeError, Place, bucket::Bucket, is_there, store_error};

/// Bytes that are read first, at a file's end: what it says of itself, in most cases.
const END: usize = 64 << 10;

/// A file that is being read.
pub(super) struct Reading {
    path: String,
    schema: SchemaRef,
    rows: Rows,
}

enum Rows {
    Here(ParquetRecordBatchReader),
    There(Arc<Bucket>, Box<ParquetRecordBatchStream<Object>>),
}

impl Reading {
    /// Opens a file, for batches of so many rows at most, of these columns.
    pub(super) fn open(
        place: &Place,
        file: &LakeFile,
        rows: usize,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Self, LakeError> {
        is_there(place, file)?;
        let path = file.path.clone();
        match place {
            Place::Folder(folder) => {
                let opened = File::open(folder.join(&path)).map_err(|e| damaged(&path, e.to_string()))?;
                let builder = ParquetRecordBatchReaderBuilder::try_new(opened);
                let builder = builder.map_err(|e| damaged(&path, e.to_string()))?;
                let schema = builder.schema().clone();
                let reader = limited(builder, rows, wanted).build();
                let reader = reader.map_err(|e| damaged(&path, e.to_string()))?;
                Ok(Self { path, schema, rows: Rows::Here(reader) })
            }
            Place::Bucket(bucket) => {
                let object =
                    Object { bucket: Arc::clone(bucket), name: Name::from(path.as_str()), bytes: file.bytes };
                let failed = |error: ParquetError| of_object(bucket, &path, &error);
                let builder = bucket.wait(ParquetRecordBatchStreamBuilder::new(object)).map_err(failed)?;
                let schema = builder.schema().clone();
                let stream = limited(builder, rows, wanted).build().map_err(failed)?;
                Ok(Self { schema, rows: Rows::There(Arc::clone(bucket), Box::new(stream)), path })
            }
        }
    }

    /// All columns that the file has.
    pub(super) const fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next events; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<RecordBatch>, LakeError> {
        loop {
            let next = match &mut self.rows {
                Rows::Here(reader) => {
                    reader.next().transpose().map_err(|e| damaged(&self.path, e.to_string()))?
                }
                Rows::There(bucket, stream) => {
                    let next = bucket.wait(stream.next()).transpose();
                    next.map_err(|error| of_object(bucket, &self.path, &error))?
                }
            };
            if next.as_ref().is_none_or(|batch| batch.num_rows() > 0) {
                return Ok(next);
            }
        }
    }
}

fn limited<T>(
    builder: ArrowReaderBuilder<T>,
    rows: usize,
    wanted: impl Fn(&str) -> bool,
) -> ArrowReaderBuilder<T> {
    let columns = builder.schema().fields().iter().enumerate();
    let columns = columns.filter(|(_, field)| wanted(field.name())).map(|(at, _)| at);
    let mask = ProjectionMask::roots(builder.parquet_schema(), columns);
    builder.with_projection(mask).with_batch_size(rows)
}

fn damaged(path: &str, found: String) -> LakeError {
    LakeError::Damaged { path: path.to_owned(), found }
}

/// Whether the object is at fault, or who has it.
fn of_object(bucket: &Bucket, path: &str, error: &ParquetError) -> LakeError {
    match store_error(error) {
        Some(cause) => bucket.failed(path, cause),
        None => damaged(path, error.to_string()),
    }
}

/// An object that is read by ranges.
struct Object {
    bucket: Arc<Bucket>,
    name: Name,
    bytes: u64,
}

impl Object {
    async fn within<T>(
        &self,
        answer: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, ParquetError> {
        let time = self.bucket.patience();
        let late = |_| {
            let source = format!("no answer within {} s", time.as_secs_f32()).into();
            object_store::Error::Generic { store: "S3", source }
        };
        let answer = timeout(time, answer).await.map_err(late).and_then(|answer| answer);
        answer.map_err(|error| ParquetError::External(Box::new(error)))
    }
}

impl AsyncFileReader for Object {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        self.within(self.bucket.store().get_range(&self.name, range)).boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move { self.within(self.bucket.store().get_ranges(&self.name, &ranges)).await }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            let bytes = self.bytes;
            let reader = ParquetMetaDataReader::new().with_arrow_reader_options(options);
            let read = reader.with_prefetch_hint(Some(END)).load_and_finish(self, bytes).await?;
            Ok(Arc::new(read))
        }
        .boxed()
    }
}
