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
    LakeError, Place,
    file::{FileWriter, times},
    fitted::{fitted, joined},
    originals, remove, skip,
};

const HOUR: i64 = 3_600_000_000;

/// Collects events and writes them.
#[derive(Debug)]
pub struct Writer {
    place: Place,
    /// By source and hour, which is what comes into one file.
    waiting: BTreeMap<(Arc<str>, i64), Vec<RecordBatch>>,
    bytes: usize,
    files: u64,
    /// Files of all that waits, which the catalog may not name yet.
    begun: Vec<LakeFile>,
    /// Files of what waited before more came, which it is not to name.
    stale: Vec<LakeFile>,
}

impl Writer {
    /// Of the files of this place.
    #[must_use]
    pub fn new(place: impl Into<Place>) -> Self {
        Self {
            place: place.into(),
            waiting: BTreeMap::new(),
            bytes: 0,
            files: 0,
            begun: Vec::new(),
            stale: Vec::new(),
        }
    }

    /// Takes events of a source, all with a time; `bytes` is what they hold of memory.
    ///
    /// # Errors
    /// If a batch has no times, which would be a defect of whoever gives it.
    pub fn push(&mut self, source: &Arc<str>, events: &RecordBatch, bytes: usize) -> Result<(), LakeError> {
        let hours: Vec<i64> = times(events)?.values().iter().map(|time| time.div_euclid(HOUR)).collect();
        self.stale.append(&mut self.begun);
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

    /// Writes all that waits into the place's folder. It waits on until [`Writer::written`], so that nothing is lost if the place or the catalog does
    /// not take the files; what was written is not written again meanwhile.
    ///
    /// # Errors
    /// The first that could not be written; those before it are removed, since a full disk would become fuller with each try.
    pub fn write(&mut self, now: Micros) -> Result<Vec<LakeFile>, LakeError> {
        if !self.begun.is_empty() {
            return Ok(self.begun.clone());
        }
        let (folder, mark) = (self.place.folder(), self.place.mark());
        let mut files = Vec::with_capacity(self.waiting.len());
        for ((source, hour), batches) in &self.waiting {
            self.files += 1;
            let name = format!("{}-{:016}-{:04}{mark}.parquet", day_and_hour(*hour), now.0, self.files);
            if let Err(error) = write_both(folder, &name, (source, *hour), batches, now, &mut files) {
                for file in &files {
                    // What stays here is removed as an orphan.
                    let _ = remove(folder, &file.path);
                }
                return Err(error);
            }
        }
        self.begun.clone_from(&files);
        Ok(files)
    }

    /// The catalog has the files.
    pub fn written(&mut self) {
        self.place.named(&self.begun);
        self.begun.clear();
        self.waiting.clear();
        self.bytes = 0;
    }

    /// Gives up; files that may be there, and that the catalog may name or not.
    pub fn give_up(&mut self) -> Vec<LakeFile> {
        self.waiting.clear();
        self.bytes = 0;
        self.begun.append(&mut self.stale);
        std::mem::take(&mut self.begun)
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
    for (name, path) in files_below(folder)? {
        let of = name.strip_suffix(".skip").map(|of| format!("{of}.parquet"));
        if !named.contains(of.as_ref().unwrap_or(&name)) {
            fs::remove_file(&path).map_err(LakeError::of_disk(&path))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// All files that a lake writes below a folder, whole or not, with their names.
pub(super) fn files_below(folder: &Path) -> Result<Vec<(String, PathBuf)>, LakeError> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
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
            let ours = path
                .extension()
                .is_some_and(|end| end == "parquet" || end == "part" || end == skip::EXTENSION);
            if ours {
                let name = path.strip_prefix(folder).unwrap_or(&path);
                found.push((name.to_string_lossy().replace('\\', "/"), path.clone()));
            }
        }
    }
    Ok(found)
}
