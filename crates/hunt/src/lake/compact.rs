//! Many small files of a source and an hour become few.
//!
//! In: files that the catalog names. Out: which of them are to become one ([`mergeable`]), and that one ([`merge`]).
//! Invariants: it holds all their events and no other, in the order of their times; they stay as they are; what is read of them at once is
//! bounded; a file that is large enough is left alone, so that no event is written again and again.

use std::{fs::File, path::Path};

use arrow_array::RecordBatch;
use datafusion::arrow::compute::{concat_batches, sort_to_indices, take_record_batch};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use vedette_event::{Micros, Span, time::HOUR};
use vedette_store::model::LakeFile;

use super::{
    LAYOUT, LakeError,
    file::{FileWriter, times},
    fitted::{fitted, joined},
    is_there,
    writer::day_and_hour,
};

/// Bytes that one file is to have at most.
const LARGE: u64 = 512 << 20;
/// A file of more bytes is left alone.
const SMALL: u64 = 128 << 20;
/// After this time nothing more is expected of an hour.
const QUIET: Span = Span::secs(600);
/// So many small files become one before their hour is over.
const MANY: usize = 32;
/// Files that are read at once.
const AT_ONCE: usize = 64;
/// Bytes that reading a file takes at most: those of a row group.
const READING: u64 = 6 << 20;
/// Bytes that reading takes at most.
const ALL_READING: u64 = 128 << 20;
/// Rows that are read of a file at once.
const ROWS: usize = 2_048;

/// Of all files of the catalog, by source and hour in whatever order, those that are to become one each.
#[must_use]
pub fn mergeable(mut files: Vec<LakeFile>, now: Micros) -> Vec<Vec<LakeFile>> {
    // Those of an older layout lack what this one says of its events, and one of both would seem to have it.
    files.retain(|file| file.layout == LAYOUT);
    files.sort_by(|a, b| (&a.source, a.hour, a.bytes).cmp(&(&b.source, b.hour, b.bytes)));
    let hours = files.chunk_by(|a, b| (&a.source, a.hour) == (&b.source, b.hour));
    hours.filter_map(|hour| of_hour(hour, now)).collect()
}

/// Those of one hour, the smallest first.
fn of_hour(files: &[LakeFile], now: Micros) -> Option<Vec<LakeFile>> {
    let small = files.iter().take_while(|file| file.bytes < SMALL);
    let before = now.minus(QUIET);
    let ended = files.first().is_some_and(|file| Micros(HOUR.0.saturating_mul(file.hour + 1)) < before);
    let quiet = ended && files.iter().all(|file| file.written_at < before);
    let (mut all, mut reading) = (0, 0);
    let fits = |file: &&LakeFile| {
        all += file.bytes;
        reading += file.bytes.min(READING);
        all <= LARGE && reading <= ALL_READING
    };
    let chosen: Vec<LakeFile> = small.take_while(fits).take(AT_ONCE).cloned().collect();
    (chosen.len() >= if quiet { 2 } else { MANY }).then_some(chosen)
}

/// A file under way.
struct Cursor {
    reader: ParquetRecordBatchReader,
    /// What of it comes next; nothing behind its end.
    batch: Option<RecordBatch>,
}

impl Cursor {
    fn step(&mut self) -> Result<(), parquet::errors::ParquetError> {
        self.batch = None;
        while let Some(batch) = self.reader.next().transpose()? {
            if batch.num_rows() > 0 {
                self.batch = Some(batch);
                break;
            }
        }
        Ok(())
    }

    /// The time of the last row that is in memory.
    fn last(&self) -> Result<Option<i64>, LakeError> {
        let Some(batch) = &self.batch else { return Ok(None) };
        Ok(times(batch)?.values().last().copied())
    }

    /// Rows up to this time.
    fn take(&mut self, until: i64) -> Result<Option<RecordBatch>, LakeError> {
        let Some(batch) = &self.batch else { return Ok(None) };
        let rows = times(batch)?.values().partition_point(|time| *time <= until);
        let taken = batch.slice(0, rows);
        self.batch = Some(batch.slice(rows, batch.num_rows() - rows));
        Ok(Some(taken).filter(|taken| taken.num_rows() > 0))
    }
}

/// Makes one file of these, all of one source and hour. `go_on` is asked again and again; nothing comes of it once that says no.
///
/// # Errors
/// If one of them is not as the catalog says, has a column of another type than the others, or if the disk does not take the new one.
pub fn merge(
    folder: &Path,
    files: &[LakeFile],
    now: Micros,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Option<LakeFile>, LakeError> {
    let Some(first) = files.first() else { return Ok(None) };
    let mut cursors = Vec::with_capacity(files.len());
    let mut schemas = Vec::with_capacity(files.len());
    for file in files {
        is_there(folder, file)?;
        let damaged = |found: String| LakeError::Damaged { path: file.path.clone(), found };
        let opened = File::open(folder.join(&file.path)).map_err(|e| damaged(e.to_string()))?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(opened).map_err(|e| damaged(e.to_string()))?;
        schemas.push(builder.schema().clone());
        let reader = builder.with_batch_size(ROWS).build().map_err(|e| damaged(e.to_string()))?;
        let mut cursor = Cursor { reader, batch: None };
        cursor.step().map_err(|e| damaged(e.to_string()))?;
        cursors.push(cursor);
    }
    let schema = joined(&schemas)?;
    let path = format!("{}/{}-{:016}-merged.parquet", first.source, day_and_hour(first.hour), now.0);
    let mut out = FileWriter::begin(folder, path, (&first.source, first.hour), &schema)?;
    loop {
        if !go_on() {
            return Ok(None);
        }
        let lasts = cursors.iter().map(Cursor::last).collect::<Result<Vec<_>, _>>()?;
        // Nothing that is still to be read comes before the least of these.
        let Some(until) = lasts.into_iter().flatten().min() else { break };
        let mut parts = Vec::new();
        for (cursor, file) in cursors.iter_mut().zip(files) {
            if let Some(part) = cursor.take(until)? {
                parts.push(fitted(&part, &schema)?);
            }
            if cursor.batch.as_ref().is_some_and(|left| left.num_rows() == 0) {
                let stepped = cursor.step();
                stepped.map_err(|e| LakeError::Damaged { path: file.path.clone(), found: e.to_string() })?;
            }
        }
        let all = concat_batches(&schema, &parts)?;
        out.push(&take_record_batch(&all, &sort_to_indices(times(&all)?, None, None)?)?)?;
    }
    let merged = out.finish(now)?;
    let events: u64 = files.iter().map(|file| file.events).sum();
    if merged.events == events {
        return Ok(Some(merged));
    }
    let found = format!("of {} events with {} others, and not of {events}", merged.events, files.len() - 1);
    let _ = super::remove(folder, &merged.path);
    Err(LakeError::Damaged { path: first.path.clone(), found })
}
