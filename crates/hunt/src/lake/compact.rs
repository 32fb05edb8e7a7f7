//! Many small files of a source and an hour become few.
//!
//! In: files that the catalog names. Out: which of them are to become one ([`mergeable`]), and that one ([`merge`]).
//! Invariants: it holds all their events and no other, in the order of their times (of originals, of their places); they stay as they are; what is read of them at once is
//! bounded; a file that is large enough is left alone, so that no event is written again and again.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, SchemaRef};
use datafusion::arrow::{
    compute::concat_batches,
    row::{OwnedRow, Row, RowConverter, Rows, SortField},
};
use vedette_event::{Micros, Span, time::HOUR};
use vedette_store::model::{Holds, LakeFile};

use super::{
    LAYOUT, LakeError, Place,
    file::FileWriter,
    fitted::{fitted, joined},
    originals,
    reading::Reading,
    writer::day_and_hour,
};

/// Bytes that one file is to have at most, in a folder.
pub(super) const LARGE: u64 = 512 << 20;
/// A file of more than this part of them is left alone.
const SMALL: u64 = 4;
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

/// Of all files of the catalog, by source and hour in whatever order, those that are to become one of so many bytes at most each.
#[must_use]
pub fn mergeable(mut files: Vec<LakeFile>, largest: u64, now: Micros) -> Vec<Vec<LakeFile>> {
    // Those of an older layout lack what this one says of its events, and one of both would seem to have it.
    files.retain(|file| file.layout == LAYOUT);
    files.sort_by(|a, b| (&a.source, a.holds, a.hour, a.bytes).cmp(&(&b.source, b.holds, b.hour, b.bytes)));
    let hours = files.chunk_by(|a, b| (&a.source, a.holds, a.hour) == (&b.source, b.holds, b.hour));
    hours.filter_map(|hour| of_hour(hour, largest, now)).collect()
}

/// Those of one hour, the smallest first.
fn of_hour(files: &[LakeFile], largest: u64, now: Micros) -> Option<Vec<LakeFile>> {
    let small = files.iter().take_while(|file| file.bytes < largest / SMALL);
    let before = now.minus(QUIET);
    let ended = files.first().is_some_and(|file| Micros(HOUR.0.saturating_mul(file.hour + 1)) < before);
    let quiet = ended && files.iter().all(|file| file.written_at < before);
    let (mut all, mut reading) = (0, 0);
    let fits = |file: &&LakeFile| {
        all += file.bytes;
        reading += file.bytes.min(READING);
        all <= largest && reading <= ALL_READING
    };
    let chosen: Vec<LakeFile> = small.take_while(fits).take(AT_ONCE).cloned().collect();
    (chosen.len() >= if quiet { 2 } else { MANY }).then_some(chosen)
}

/// A file under way.
struct Cursor {
    reading: Reading,
    order: Arc<Order>,
    /// What of it is in memory, with the places of its rows in their order; nothing behind its end.
    batch: Option<(RecordBatch, Rows)>,
    /// How many of these rows were taken.
    taken: usize,
}

/// By which columns rows are in order.
struct Order {
    holds: Holds,
    converter: RowConverter,
}

impl Order {
    fn of(holds: Holds, schema: &SchemaRef) -> Result<Self, ArrowError> {
        let field =
            |name: &&str| schema.field_with_name(name).map(|of| SortField::new(of.data_type().clone()));
        let fields = originals::order(holds).iter().map(field).collect::<Result<_, _>>()?;
        Ok(Self { holds, converter: RowConverter::new(fields)? })
    }

    /// Where each row stands.
    fn places(&self, batch: &RecordBatch) -> Result<Rows, ArrowError> {
        let column = |name: &&str| batch.schema_ref().index_of(name).map(|at| Arc::clone(batch.column(at)));
        let columns = originals::order(self.holds).iter().map(column).collect::<Result<Vec<_>, _>>()?;
        self.converter.convert_columns(&columns)
    }
}

impl Cursor {
    fn new(reading: Reading, order: &Arc<Order>) -> Result<Self, LakeError> {
        let mut cursor = Self { reading, order: Arc::clone(order), batch: None, taken: 0 };
        cursor.step()?;
        Ok(cursor)
    }

    fn step(&mut self) -> Result<(), LakeError> {
        self.taken = 0;
        let next = self.reading.next()?;
        self.batch = next.map(|batch| self.order.places(&batch).map(|places| (batch, places))).transpose()?;
        Ok(())
    }

    /// The place of the last row that is in memory.
    fn last(&self) -> Option<Row<'_>> {
        let (_, places) = self.batch.as_ref()?;
        Some(places.row(places.num_rows().checked_sub(1)?))
    }

    /// Rows up to this place.
    fn take(&mut self, until: &OwnedRow) -> Result<Option<RecordBatch>, LakeError> {
        let Some((batch, places)) = &self.batch else { return Ok(None) };
        let rows = places.iter().skip(self.taken).take_while(|place| *place <= until.row()).count();
        let taken = batch.slice(self.taken, rows);
        self.taken += rows;
        if self.taken == batch.num_rows() {
            self.step()?;
        }
        Ok(Some(taken).filter(|taken| taken.num_rows() > 0))
    }
}

/// Makes one file of these in the place's folder, all of one source and hour. `go_on` is asked again and again; nothing comes of it once that says no.
///
/// # Errors
/// If one of them is not as the catalog says, has a column of another type than the others, or if the disk does not take the new one.
pub fn merge(
    place: impl Into<Place>,
    files: &[LakeFile],
    now: Micros,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Option<LakeFile>, LakeError> {
    let place = place.into();
    let Some(first) = files.first() else { return Ok(None) };
    let readings = files.iter().map(|file| Reading::open(&place, file, ROWS, |_| true));
    let readings = readings.collect::<Result<Vec<_>, _>>()?;
    let schema = joined(readings.iter().map(Reading::schema))?;
    let order = Arc::new(Order::of(first.holds, &schema)?);
    let cursors = readings.into_iter().map(|reading| Cursor::new(reading, &order));
    let mut cursors = cursors.collect::<Result<Vec<_>, _>>()?;
    let (folder, hour) = (place.folder(), day_and_hour(first.hour));
    let below = originals::below(first.holds, &first.source);
    let path = format!("{below}/{hour}-{:016}-merged{}.parquet", now.0, place.mark());
    let mut out = FileWriter::begin(folder, path, (first.holds, &first.source, first.hour), &schema)?;
    loop {
        if !go_on() {
            return Ok(None);
        }
        // Nothing that is still to be read comes before the least of these.
        let Some(until) = cursors.iter().filter_map(Cursor::last).min().map(|place| place.owned()) else {
            break;
        };
        let mut parts = Vec::new();
        for cursor in &mut cursors {
            if let Some(part) = cursor.take(&until)? {
                parts.push(fitted(&part, &schema)?);
            }
        }
        let all = concat_batches(&schema, &parts)?;
        out.push(&originals::sorted(first.holds, &all)?)?;
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
