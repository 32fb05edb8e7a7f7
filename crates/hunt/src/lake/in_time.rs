//! The lake's events in the order of their times, a batch at a time.
//!
//! In: files of the catalog, and which columns are wanted of each source. Out: record batches, each of one source and sorted by time, and
//! below which time all have been given. Invariants: no event is given twice or left out; of each file that is open two batches are held,
//! and a file is open only while its times are due, so what is held does not grow with the lake; what is not as the catalog says is an
//! error, never a shorter answer.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    sync::Arc,
};

use arrow_array::{RecordBatch, TimestampMicrosecondArray, cast::AsArray as _};
use vedette_event::Micros;
use vedette_store::model::LakeFile;

use super::{LakeError, Place, is_there, reading::Reading};
use crate::columns::TIME;

/// Rows of a batch at most. With more, more is held of each file that is open.
const ROWS: usize = 4_096;

/// By source, the names of the columns that are wanted; those that a file does not have are left out.
pub type Wanted = BTreeMap<Arc<str>, BTreeSet<Arc<str>>>;

/// Events of one source, sorted by time.
#[derive(Debug)]
pub struct InTimeBatch {
    /// The source.
    pub source: Arc<str>,
    /// Its events.
    pub events: RecordBatch,
}

/// Reads files side by side.
pub struct InTime {
    place: Place,
    wanted: Wanted,
    /// Those that begin latest first.
    closed: Vec<LakeFile>,
    open: BinaryHeap<Reverse<Open>>,
    opened: u64,
    given: u64,
}

/// A file that is being read: what comes next of it, and where the rest is.
struct Open {
    /// The first time of what comes next, and the number of the file, so that the order is the same each time.
    place: (Micros, u64),
    next: RecordBatch,
    source: Arc<str>,
    path: String,
    rest: Reading,
}

impl PartialEq for Open {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place
    }
}

impl Eq for Open {}

impl PartialOrd for Open {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Open {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.place.cmp(&other.place)
    }
}

impl InTime {
    /// Over these files of the catalog, in this place; those of sources that nothing is wanted of are passed by.
    ///
    /// # Errors
    /// If a file is not as the catalog has it, or of a layout that does not say how its events were decoded.
    pub fn new(place: impl Into<Place>, mut files: Vec<LakeFile>, wanted: Wanted) -> Result<Self, LakeError> {
        let place = place.into();
        files.retain(|file| wanted.contains_key(&*file.source));
        for file in &files {
            is_there(&place, file)?;
            if file.layout < 2 {
                return Err(LakeError::Older { path: file.path.clone(), through: file.latest });
            }
        }
        files.sort_by(|a, b| (b.earliest, &b.path).cmp(&(a.earliest, &a.path)));
        let open = BinaryHeap::new();
        Ok(Self { place, wanted, closed: files, open, opened: 0, given: 0 })
    }

    /// All events before this time have been given.
    #[must_use]
    pub fn passed(&self) -> Micros {
        let open = self.open.peek().map(|Reverse(open)| open.place.0);
        let closed = self.closed.last().map(|file| file.earliest);
        open.into_iter().chain(closed).min().unwrap_or(Micros::MAX)
    }

    /// How many events were given.
    #[must_use]
    pub const fn given(&self) -> u64 {
        self.given
    }

    /// The batch that begins next; none at the end.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn read(&mut self) -> Result<Option<InTimeBatch>, LakeError> {
        while let Some(file) = self.closed.pop() {
            if self.open.peek().is_some_and(|Reverse(open)| open.place.0 < file.earliest) {
                self.closed.push(file);
                break;
            }
            if let Some(open) = self.begin(&file)? {
                self.open.push(Reverse(open));
            }
        }
        let Some(Reverse(open)) = self.open.pop() else { return Ok(None) };
        let Open { place: (_, number), next, source, path, rest } = open;
        self.given += next.num_rows() as u64;
        if let Some(open) = go_on(rest, (source.clone(), path), number)? {
            self.open.push(Reverse(open));
        }
        Ok(Some(InTimeBatch { source, events: next }))
    }

    fn begin(&mut self, file: &LakeFile) -> Result<Option<Open>, LakeError> {
        let Some((source, wanted)) = self.wanted.get_key_value(&*file.source) else { return Ok(None) };
        let columns = |name: &str| name == TIME || wanted.contains(name);
        let reading = Reading::open(&self.place, file, ROWS, columns)?;
        self.opened += 1;
        go_on(reading, (source.clone(), file.path.clone()), self.opened)
    }
}

/// What comes next of a file.
fn go_on(
    mut rest: Reading,
    (source, path): (Arc<str>, String),
    number: u64,
) -> Result<Option<Open>, LakeError> {
    let Some(next) = rest.next()? else { return Ok(None) };
    let times = next.column_by_name(TIME).and_then(|times| times.as_primitive_opt());
    let without =
        || LakeError::Damaged { path: path.clone(), found: "without the times of its events".to_owned() };
    let times: &TimestampMicrosecondArray = times.ok_or_else(without)?;
    let first = times.values().first().copied().ok_or_else(without)?;
    Ok(Some(Open { place: (Micros(first), number), next, source, path, rest }))
}
