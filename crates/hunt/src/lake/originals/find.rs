//! Originals are looked for by where their records stood.
//!
//! In: rows of a query, each with its source, its time and its place. Out: the originals of those of which one is kept. Invariants: of a file are read its
//! footer, once a query, the keys of those parts that may hold what is looked for, and of the texts the pages that do; an original that
//! waits with its event is found in the memory; what is looked for at once is bounded in bytes.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Range,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use arrow_array::{
    Array as _, Int32Array, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray, UInt16Array,
    builder::StringViewBuilder, cast::AsArray as _, types::Int64Type,
};
use bytes::Bytes;
use datafusion::{
    error::DataFusionError,
    object_store::{ObjectStore, ObjectStoreExt as _, path::Path as StorePath},
};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::BoxFuture};
use parquet::{
    arrow::{
        ParquetRecordBatchStreamBuilder, ProjectionMask,
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection},
        async_reader::{AsyncFileReader, ParquetRecordBatchStream},
    },
    errors::ParquetError,
    file::{
        metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader},
        statistics::Statistics,
    },
};
use tokio::sync::Mutex;
use vedette_event::{Incarnation, time::HOUR};
use vedette_store::model::LakeFile;

use super::{HIDDEN, KEYS, ORIGINAL};
use crate::{
    columns::{INCARNATION, OFFSET, PARTITION, TOPIC},
    lake::{LakeError, store_error},
};

/// Bytes of originals that are looked for at once: those of a batch.
const MOST: usize = 128 << 20;
/// Rows that are read of a file at once: a record has a mebibyte at most.
const ROWS: usize = 64;
/// Parts of files whose keys are remembered: rows that follow each other are mostly in the same ones.
const REMEMBERED: usize = 64;
/// Files whose footers are remembered.
const OPEN: usize = 256;

/// The number of a topic here, incarnation, partition, offset.
type Key = (u32, Incarnation, i32, i64);

/// Rows that are looked for.
pub(crate) struct Sought<'a> {
    pub(crate) sources: &'a StringViewArray,
    pub(crate) times: &'a TimestampMicrosecondArray,
    pub(crate) topics: &'a StringViewArray,
    pub(crate) incarnations: &'a UInt16Array,
    pub(crate) partitions: &'a Int32Array,
    pub(crate) offsets: &'a Int64Array,
}

/// Finds the originals of one query.
pub(crate) struct Finder {
    store: Arc<dyn ObjectStore>,
    /// By source and hour of the events' times.
    files: HashMap<(String, i64), Vec<LakeFile>>,
    newest: Arc<[(Arc<str>, RecordBatch)]>,
    live: OnceLock<Live>,
    opened: Mutex<HashMap<String, Arc<Opened>>>,
    /// By path and part, the oldest first.
    keys: Mutex<VecDeque<((String, usize), RecordBatch)>>,
    /// Bytes that were read, and files that were opened.
    read: Arc<[AtomicU64; 2]>,
}

impl std::fmt::Debug for Finder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Finder").field("files", &self.files.len()).finish_non_exhaustive()
    }
}

/// Those that wait: by their key, which batch and which row.
#[derive(Default)]
struct Live {
    topics: HashMap<String, u32>,
    rows: HashMap<Key, (usize, usize)>,
}

/// A file that was opened.
struct Opened {
    file: LakeFile,
    metadata: ArrowReaderMetadata,
}

/// Reads a file, and counts.
struct Reader {
    store: Arc<dyn ObjectStore>,
    path: StorePath,
    bytes: u64,
    read: Arc<[AtomicU64; 2]>,
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        self.read[0].fetch_add(range.end.saturating_sub(range.start), Ordering::Relaxed);
        let got = async move { self.store.get_range(&self.path, range).await.map_err(external) };
        got.boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        let bytes = ranges.iter().map(|range| range.end.saturating_sub(range.start)).sum();
        self.read[0].fetch_add(bytes, Ordering::Relaxed);
        let got = async move { self.store.get_ranges(&self.path, &ranges).await.map_err(external) };
        got.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        let bytes = self.bytes;
        let read = async move {
            let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional);
            reader.load_and_finish(self, bytes).await.map(Arc::new)
        };
        read.boxed()
    }
}

fn external(error: datafusion::object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl Finder {
    /// Over these files of the catalog, and what waits.
    pub(crate) fn new(
        store: Arc<dyn ObjectStore>,
        files: &[LakeFile],
        newest: Arc<[(Arc<str>, RecordBatch)]>,
    ) -> Self {
        let mut by_hour: HashMap<(String, i64), Vec<LakeFile>> = HashMap::new();
        for file in files {
            by_hour.entry((file.source.clone(), file.hour)).or_default().push(file.clone());
        }
        let (live, opened, keys, read) = Default::default();
        Self { store, files: by_hour, newest, live, opened, keys, read }
    }

    /// Bytes read and files opened so far.
    pub(crate) fn read(&self) -> (u64, u64) {
        (self.read[0].load(Ordering::Relaxed), self.read[1].load(Ordering::Relaxed))
    }

    /// The original of each row; null where none is kept.
    pub(crate) async fn find(&self, sought: &Sought<'_>) -> Result<StringViewArray, DataFusionError> {
        let rows = sought.offsets.len();
        let mut found: Vec<Option<String>> = vec![None; rows];
        let mut bytes = 0;
        let mut hours: BTreeMap<(&str, i64), Vec<usize>> = BTreeMap::new();
        for row in 0..rows {
            // A row that is no event (of the other side of a join, say) has no place.
            if sought.offsets.is_null(row) || sought.incarnations.is_null(row) || sought.times.is_null(row) {
                continue;
            }
            if let Some(text) = self.waiting(sought, row) {
                keep(&mut found, row, text, &mut bytes)?;
                continue;
            }
            let hour = sought.times.value(row).div_euclid(HOUR.0);
            hours.entry((sought.sources.value(row), hour)).or_default().push(row);
        }
        for ((source, hour), mut rows) in hours {
            rows.sort_unstable_by_key(|row| place(sought, *row));
            for file in self.files.get(&(source.to_owned(), hour)).into_iter().flatten() {
                let (from, to) = (file.earliest.0, file.latest.0);
                let of_file = |row: &usize| (from..=to).contains(&sought.times.value(*row));
                let wanted: Vec<usize> = rows.iter().copied().filter(of_file).collect();
                if !wanted.is_empty() {
                    self.find_in(file, sought, &wanted, (&mut found, &mut bytes)).await?;
                }
            }
        }
        let mut texts = StringViewBuilder::with_capacity(rows);
        found.into_iter().for_each(|text| texts.append_option(text));
        Ok(texts.finish())
    }

    /// What waits for its file.
    fn waiting(&self, sought: &Sought<'_>, row: usize) -> Option<&str> {
        let live = self.live.get_or_init(|| Live::of(&self.newest));
        let (topic, incarnation, partition, offset) = place(sought, row);
        let key = (*live.topics.get(topic)?, incarnation, partition, offset);
        let (batch, row) = live.rows.get(&key)?;
        let texts = self.newest.get(*batch)?.1.column_by_name(HIDDEN)?.as_string_view_opt()?;
        Some(texts.value(*row))
    }

    /// Looks for rows, which are sorted by their places, in one file.
    async fn find_in(
        &self,
        file: &LakeFile,
        sought: &Sought<'_>,
        rows: &[usize],
        (found, bytes): (&mut [Option<String>], &mut usize),
    ) -> Result<(), DataFusionError> {
        let damaged = |found: String| {
            let error = LakeError::Damaged { path: file.path.clone(), found };
            DataFusionError::External(Box::new(error))
        };
        // The file is at fault, or who has it.
        let failed = |error: ParquetError| match store_error(&error) {
            Some(cause) => DataFusionError::External(Box::new(LakeError::of_read(cause))),
            None => damaged(error.to_string()),
        };
        let opened = self.open(file).await.map_err(failed)?;
        for part in 0..opened.metadata.metadata().num_row_groups() {
            let (partitions, offsets) = opened.bounds(part);
            let may = |row: &usize| {
                partitions.contains(&i64::from(sought.partitions.value(*row)))
                    && offsets.contains(&sought.offsets.value(*row))
            };
            let wanted: Vec<usize> = rows.iter().copied().filter(may).collect();
            if wanted.is_empty() {
                continue;
            }
            let keys = self.keys(&opened, part).await.map_err(failed)?;
            let keys = Keys::of(&keys).ok_or_else(|| damaged("without its keys".to_owned()))?;
            let there = wanted.iter().filter_map(|row| Some((*row, keys.find(place(sought, *row))?)));
            let there: Vec<(usize, usize)> = there.collect();
            if there.is_empty() {
                continue;
            }
            // Rows of a join may be the same event more than once.
            let mut places: Vec<usize> = there.iter().map(|(_, at)| *at).collect();
            places.dedup();
            let texts = self.texts(&opened, part, &places, keys.rows());
            let mut texts = texts.map_err(failed)?;
            let (mut places, mut there) = (places.into_iter(), there.into_iter().peekable());
            while let Some(batch) = texts.next().await {
                let batch = batch.map_err(failed)?;
                let column = batch.column_by_name(ORIGINAL).and_then(|texts| texts.as_string_view_opt());
                let column = column.ok_or_else(|| damaged("without its texts".to_owned()))?;
                for (text, at) in column.iter().zip(places.by_ref()) {
                    while let Some((row, _)) = there.next_if(|(_, of)| *of == at) {
                        keep(found, row, text.unwrap_or_default(), bytes)?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn open(&self, file: &LakeFile) -> Result<Arc<Opened>, ParquetError> {
        let mut opened = self.opened.lock().await;
        if let Some(known) = opened.get(&file.path) {
            return Ok(Arc::clone(known));
        }
        self.read[1].fetch_add(1, Ordering::Relaxed);
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
        let metadata = ArrowReaderMetadata::load_async(&mut self.reader(file), options).await?;
        let new = Arc::new(Opened { file: file.clone(), metadata });
        if opened.len() >= OPEN {
            opened.clear();
        }
        opened.insert(file.path.clone(), Arc::clone(&new));
        Ok(new)
    }

    fn reader(&self, file: &LakeFile) -> Reader {
        Reader {
            store: Arc::clone(&self.store),
            path: StorePath::from(file.path.as_str()),
            bytes: file.bytes,
            read: Arc::clone(&self.read),
        }
    }

    /// The keys of a part of a file.
    async fn keys(&self, opened: &Opened, part: usize) -> Result<RecordBatch, ParquetError> {
        let mut known = self.keys.lock().await;
        let found = known.iter().find(|((path, of), _)| *of == part && *path == opened.file.path);
        if let Some((_, keys)) = found {
            return Ok(keys.clone());
        }
        let rows = opened.rows(part);
        let builder = self.builder(opened, part, &KEYS).with_batch_size(rows.max(1));
        let batches: Vec<RecordBatch> = builder.build()?.try_collect().await?;
        let Some(keys) = batches.into_iter().next() else {
            return Err(ParquetError::General(format!("part {part} has no rows")));
        };
        if known.len() >= REMEMBERED {
            known.pop_front();
        }
        known.push_back(((opened.file.path.clone(), part), keys.clone()));
        Ok(keys)
    }

    /// The texts of some rows of a part, which are in order.
    fn texts(
        &self,
        opened: &Opened,
        part: usize,
        places: &[usize],
        rows: usize,
    ) -> Result<ParquetRecordBatchStream<Reader>, ParquetError> {
        let ranges = places.iter().map(|at| *at..*at + 1);
        let selection = RowSelection::from_consecutive_ranges(ranges, rows);
        let builder = self.builder(opened, part, &[ORIGINAL]);
        builder.with_row_selection(selection).with_batch_size(ROWS).build()
    }

    fn builder(
        &self,
        opened: &Opened,
        part: usize,
        columns: &[&str],
    ) -> ParquetRecordBatchStreamBuilder<Reader> {
        let metadata = opened.metadata.clone();
        let wanted = metadata.schema().fields().iter().enumerate();
        let wanted = wanted.filter(|(_, field)| columns.contains(&field.name().as_str()));
        let mask = ProjectionMask::roots(metadata.parquet_schema(), wanted.map(|(at, _)| at));
        ParquetRecordBatchStreamBuilder::new_with_metadata(self.reader(&opened.file), metadata)
            .with_row_groups(vec![part])
            .with_projection(mask)
    }
}

/// Takes note of what was found, within bounds.
fn keep(
    found: &mut [Option<String>],
    row: usize,
    text: &str,
    bytes: &mut usize,
) -> Result<(), DataFusionError> {
    *bytes += text.len();
    if *bytes > MOST {
        let message = format!("more than {} MiB of `{ORIGINAL}` at once", MOST >> 20);
        return Err(DataFusionError::ResourcesExhausted(message));
    }
    if let Some(place) = found.get_mut(row) {
        *place = Some(text.to_owned());
    }
    Ok(())
}

/// Topic, incarnation, partition, offset of a row.
fn place<'a>(sought: &Sought<'a>, row: usize) -> (&'a str, Incarnation, i32, i64) {
    let (incarnation, partition) = (sought.incarnations.value(row), sought.partitions.value(row));
    (sought.topics.value(row), incarnation, partition, sought.offsets.value(row))
}

impl Live {
    fn of(newest: &[(Arc<str>, RecordBatch)]) -> Self {
        let mut live = Self::default();
        for (batch, (_, events)) in newest.iter().enumerate() {
            let Some(texts) = events.column_by_name(HIDDEN) else { continue };
            let Some(keys) = Keys::of(events) else { continue };
            for row in (0..events.num_rows()).filter(|row| texts.is_valid(*row)) {
                let (topic, incarnation, partition, offset) = keys.at(row);
                let next = live.topics.len() as u32;
                let topic = *live.topics.entry(topic.to_owned()).or_insert(next);
                live.rows.insert((topic, incarnation, partition, offset), (batch, row));
            }
        }
        live
    }
}

impl Opened {
    fn rows(&self, part: usize) -> usize {
        usize::try_from(self.metadata.metadata().row_group(part).num_rows()).unwrap_or(0)
    }

    /// Between which partitions and which offsets a part lies; between any where it does not say.
    fn bounds(&self, part: usize) -> (std::ops::RangeInclusive<i64>, std::ops::RangeInclusive<i64>) {
        let group = self.metadata.metadata().row_group(part);
        let of = |name: &str| {
            let column = group.columns().iter().find(|column| column.column_path().parts() == [name]);
            let bounds = match column.and_then(|column| column.statistics()) {
                Some(Statistics::Int32(said)) => {
                    said.min_opt().zip(said.max_opt()).map(|(min, max)| (i64::from(*min), i64::from(*max)))
                }
                Some(Statistics::Int64(said)) => {
                    said.min_opt().zip(said.max_opt()).map(|(min, max)| (*min, *max))
                }
                _ => None,
            };
            let (min, max) = bounds.unwrap_or((i64::MIN, i64::MAX));
            min..=max
        };
        (of(PARTITION), of(OFFSET))
    }
}

/// The keys of some rows.
struct Keys<'a> {
    topics: &'a StringViewArray,
    incarnations: &'a UInt16Array,
    partitions: &'a Int32Array,
    offsets: &'a Int64Array,
}

impl<'a> Keys<'a> {
    fn of(rows: &'a RecordBatch) -> Option<Self> {
        Some(Self {
            topics: rows.column_by_name(TOPIC)?.as_string_view_opt()?,
            incarnations: rows.column_by_name(INCARNATION)?.as_primitive_opt()?,
            partitions: rows.column_by_name(PARTITION)?.as_primitive_opt()?,
            offsets: rows.column_by_name(OFFSET)?.as_primitive_opt::<Int64Type>()?,
        })
    }

    fn rows(&self) -> usize {
        self.offsets.len()
    }

    fn at(&self, row: usize) -> (&'a str, Incarnation, i32, i64) {
        let (incarnation, partition) = (self.incarnations.value(row), self.partitions.value(row));
        (self.topics.value(row), incarnation, partition, self.offsets.value(row))
    }

    /// The row with this key; the rows are sorted.
    fn find(&self, key: (&str, Incarnation, i32, i64)) -> Option<usize> {
        let (mut from, mut to) = (0, self.rows());
        while from < to {
            let middle = usize::midpoint(from, to);
            if self.at(middle) < key {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        (from < self.rows() && self.at(from) == key).then_some(from)
    }
}
