//! The newest events: those that have been read, and are in no file yet.
//!
//! In: events as they are taken from a partition, with how far it has been read then ([`Live::take`]). Out: [`Newest`], what waits
//! at one moment; since when somebody reads ([`Live::read_since`]).
//! Invariants: what waits stays here until the catalog names its files. Whoever asks looks here first and into the catalog then: so no event
//! is in neither, and one that is in both lies before its partition's position in the catalog, by which it is left out. No lock is
//! held while anybody writes, or while the store is asked.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{SystemTime, UNIX_EPOCH},
};

use arrow_array::{BooleanArray, RecordBatch, cast::AsArray as _, types::Int64Type};
use arrow_schema::ArrowError;
use datafusion::arrow::compute::filter_record_batch;
use vedette_event::{Incarnation, Micros};
use vedette_store::model::LakePosition;

use crate::columns::OFFSET;

/// Topic, incarnation, partition.
type Place = (String, Incarnation, i32);

/// What waits for its file, shared by who reads and who asks. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Live(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Waiting>,
    reached: BTreeMap<Place, Reached>,
    reading: Vec<Weak<Reading>>,
}

/// Somebody reads files of the catalog, since this time. Held as long as they do.
#[derive(Debug)]
pub(super) struct Reading(Micros);

/// How far a partition has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// The first offset that has not been read, and the newest broker's time before it.
    pub position: LakePosition,
    /// All that the broker had taken by then has been read.
    pub through: Option<Micros>,
}

impl Reached {
    fn of(position: &LakePosition) -> Self {
        Self { position: position.clone(), through: position.through.max(position.newest_log) }
    }
}

/// Events of some records of one partition.
#[derive(Debug, Clone)]
struct Waiting {
    source: Arc<str>,
    place: Arc<Place>,
    events: RecordBatch,
}

/// What waits at one moment.
#[derive(Debug, Clone, Default)]
pub struct Newest {
    waiting: Vec<Waiting>,
    reached: BTreeMap<Place, Reached>,
}

impl Live {
    /// Takes the events of a source from some records of a partition; `position` is behind the last of these.
    pub fn take(&self, source: &Arc<str>, position: &LakePosition, events: Vec<RecordBatch>) {
        let place = place(position);
        let reached = Reached::of(position);
        let shared = Arc::new(place.clone());
        let mut state = self.state();
        let batches = events.into_iter().filter(|events| events.num_rows() > 0);
        state.waiting.extend(batches.map(|events| Waiting {
            source: Arc::clone(source),
            place: Arc::clone(&shared),
            events,
        }));
        let through = state.reached.get(&place).and_then(|before| before.through);
        state.reached.insert(place, Reached { through: reached.through.max(through), ..reached });
    }

    /// A partition is read from this position on. False if it has been begun before.
    pub fn assigned(&self, position: &LakePosition) -> bool {
        let mut state = self.state();
        let free = !state.reached.contains_key(&place(position));
        state.reached.entry(place(position)).or_insert_with(|| Reached::of(position));
        free
    }

    /// The partition held nothing more than was taken from it, at this time.
    pub fn idle(&self, topic: &str, incarnation: Incarnation, partition: i32, at: Micros) {
        if let Some(reached) = self.state().reached.get_mut(&(topic.to_owned(), incarnation, partition)) {
            reached.through = reached.through.max(Some(at));
        }
    }

    /// The catalog names the files of all that was taken.
    pub fn written(&self) {
        self.state().waiting.clear();
    }

    /// Nothing waits, and nothing has been read beyond these positions of the catalog.
    pub fn begin(&self, positions: &[LakePosition]) {
        let reached = positions.iter().map(|position| (place(position), Reached::of(position)));
        let mut state = self.state();
        state.waiting.clear();
        state.reached = reached.collect();
    }

    /// How far all partitions have been read, with through when they are complete.
    #[must_use]
    pub fn positions(&self) -> Vec<LakePosition> {
        let state = self.state();
        let position = |of: &Reached| LakePosition { through: of.through, ..of.position.clone() };
        state.reached.values().map(position).collect()
    }

    /// What waits now. To be asked before the catalog is.
    #[must_use]
    pub fn newest(&self) -> Newest {
        let state = self.state();
        Newest { waiting: state.waiting.clone(), reached: state.reached.clone() }
    }

    /// Takes note that somebody reads what the catalog names from now on.
    pub(super) fn read(&self) -> Arc<Reading> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let reading = Arc::new(Reading(Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))));
        let mut state = self.state();
        state.reading.retain(|other| other.strong_count() > 0);
        state.reading.push(Arc::downgrade(&reading));
        reading
    }

    /// Since when somebody reads what the catalog named then; nothing where nobody does.
    #[must_use]
    pub fn read_since(&self) -> Option<Micros> {
        self.state().reading.iter().filter_map(Weak::upgrade).map(|reading| reading.0).min()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked has changed nothing by halves: each change is one call of a collection.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(position: &LakePosition) -> Place {
    (position.topic.clone(), position.incarnation, position.partition)
}

impl Newest {
    /// The events that are in no file before these positions, of one source or all; each batch with its source.
    ///
    /// # Errors
    /// If events have no offsets, which would be a defect of whoever gave them.
    pub(super) fn beyond(
        self,
        positions: &[LakePosition],
        source: Option<&str>,
    ) -> Result<Vec<(Arc<str>, RecordBatch)>, ArrowError> {
        let next: BTreeMap<Place, i64> = positions.iter().map(|of| (place(of), of.next_offset)).collect();
        let mut left = Vec::new();
        for Waiting { source: of, place, events } in self.waiting {
            if source.is_some_and(|source| *source != *of) {
                continue;
            }
            let next = next.get(&*place).copied().unwrap_or(i64::MIN);
            let offsets =
                events.column_by_name(OFFSET).and_then(|offsets| offsets.as_primitive_opt::<Int64Type>());
            let offsets = offsets.ok_or_else(|| ArrowError::SchemaError(format!("{OFFSET} is not there")))?;
            let stays: BooleanArray = offsets.values().iter().map(|offset| Some(*offset >= next)).collect();
            match stays.true_count() {
                0 => {}
                all if all == events.num_rows() => left.push((of, events)),
                _ => left.push((of, filter_record_batch(&events, &stays)?)),
            }
        }
        Ok(left)
    }

    /// How far each partition has been read: by these positions of the catalog, or beyond them.
    pub(super) fn reached(&self, positions: &[LakePosition]) -> Vec<Reached> {
        let mut all = self.reached.clone();
        for position in positions {
            let written = Reached::of(position);
            let known = all.entry(place(position)).or_insert_with(|| written.clone());
            // What waited a moment ago is in files now, and more.
            if known.position.next_offset < position.next_offset {
                let through = known.through.max(written.through);
                *known = Reached { through, ..written };
            }
        }
        all.into_values().collect()
    }
}
