//! Events become files.
//!
//! In: batches of events with their times. Out: files by source and hour, sorted by time. Invariants: what waits is held until it is
//! written, also where that fails; a file has its name only once it is whole and on the disk; how much waits is said, so that whoever
//! gives can bound it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow_array::RecordBatch;
use datafusion::arrow::compute::{concat_batches, sort_to_indices, take_record_batch};
use vedette_event::Micros;
use vedette_store::model::{Holds, LakeFile};

use super::{
    LakeError,
    file::{FileWriter, times},
    fitted::{fitted, joined},
    originals, remove, skip,
};

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
    /// The first that could not be written; those before it are removed, since a full disk would become fuller with each try.
    pub fn write(&mut self, now: Micros) -> Result<Vec<LakeFile>, LakeError> {
        let mut files = Vec::with_capacity(self.waiting.len());
        for ((source, hour), batches) in &self.waiting {
            self.files += 1;
            let name = format!("{}-{:016}-{:04}.parquet", day_and_hour(*hour), now.0, self.files);
            if let Err(error) = write_both(&self.folder, &name, (source, *hour), batches, now, &mut files) {
                for file in &files {
                    // What stays here is removed as an orphan.
                    let _ = remove(&self.folder, &file.path);
                }
                return Err(error);
            }
        }
        Ok(files)
    }

    /// The catalog has the files.
    pub fn written(&mut self) {
        self.waiting.clear();
        self.bytes = 0;
    }
}

/// `2026-11-28/22`, in UTC.
pub(super) fn day_and_hour(hour: i64) -> String {
    let text = Micros(hour.saturating_mul(HOUR)).to_string();
    let (day, time) = text.split_once('T').unwrap_or((&text, "00"));
    format!("{day}/{}", time.get(..2).unwrap_or("00"))
}

/// Events of a source and an hour become one file, and their originals, if there are any, another one.
fn write_both(
    folder: &Path,
    name: &str,
    of: (&str, i64),
    batches: &[RecordBatch],
    now: Micros,
    files: &mut Vec<LakeFile>,
) -> Result<(), LakeError> {
    let path = |holds| format!("{}/{name}", originals::below(holds, of.0));
    files.push(write(folder, path(Holds::Events), of, batches, now)?);
    files.extend(originals::write(folder, path(Holds::Originals), of, batches, now)?);
    Ok(())
}

/// Events of a source and an hour become one file, sorted by time.
fn write(
    folder: &Path,
    path: String,
    of: (&str, i64),
    batches: &[RecordBatch],
    now: Micros,
) -> Result<LakeFile, LakeError> {
    let schema = originals::of_events(&joined(batches.iter().map(RecordBatch::schema_ref))?);
    let fitted = batches.iter().map(|batch| fitted(batch, &schema)).collect::<Result<Vec<_>, _>>()?;
    let all = concat_batches(&schema, &fitted)?;
    let sorted = take_record_batch(&all, &sort_to_indices(times(&all)?, None, None)?)?;
    let mut file = FileWriter::begin(folder, path, (Holds::Events, of.0, of.1), &schema)?;
    file.push(&sorted)?;
    file.finish(now)
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
            let ours = path
                .extension()
                .is_some_and(|end| end == "parquet" || end == "part" || end == skip::EXTENSION);
            let of = name.strip_suffix(".skip").map(|of| format!("{of}.parquet"));
            if ours && !named.contains(of.as_ref().unwrap_or(&name)) {
                fs::remove_file(&path).map_err(LakeError::of_disk(&path))?;
                removed += 1;
            }
        }
    }
    Ok(removed)
}
