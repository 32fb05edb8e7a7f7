//! Plain files: their events' broker time.
//!
//! In: events with what they claim, in the order of the file. Out: placed events.
//! Before the first readable time stands that first one, if it comes soon. What stands before a later one, or in a file without any, is
//! *undated*: it meets single-event rules only, in 1970. Nothing can be said of when it was, and a file must not be held
//! as a whole to find out.
//! Invariant: of a file whose time is not known no more than [`SOON`] is held.

use vedette_event::{Micros, Partition, PlacedBatch};

use crate::{
    Engine, Output,
    detector::{DetectedBatch, RecordTime},
};

/// Within so many bytes of a file its first time dates what stands before it.
const SOON: u64 = 8 << 20;

/// A file of which no time was read yet, or too late.
#[derive(Debug, Default)]
pub(crate) struct Undated {
    /// Bytes read without a time.
    bytes: u64,
    /// Events without one.
    events: u64,
    /// Those that some rule matched, while a time may come soon.
    held: Vec<DetectedBatch>,
}

impl Engine {
    /// Gives the events of a file their broker time: the running maximum of the claims. `records` are those of the batch and others.
    pub(crate) fn date(
        &mut self,
        partition: Partition,
        batch: DetectedBatch,
        records: &[RecordTime],
        out: &mut Output,
    ) {
        let Some(state) = self.partitions.get_mut(&partition) else { return };
        let events = &batch.events;
        let rows = events.rows();
        let mut dated = 0;
        let running = match state.max_log {
            Some(running) => running,
            None => {
                let first = (0..rows).find_map(|row| Some((row, events.claimed(row)?)));
                let undated = self.undated.entry(partition).or_default();
                // A line's end counts, too.
                let upto = first.map_or(0, |(row, _)| events.records.get(row).map_or(0, |at| *at as usize));
                let before: u64 = records.iter().take(upto).map(|record| u64::from(record.bytes) + 1).sum();
                let soon = undated.bytes + before < SOON;
                let Some((row, time)) = first else {
                    undated.events += rows as u64;
                    if soon {
                        self.await_time(partition, batch);
                    } else {
                        self.place_undated(batch, out);
                    }
                    return;
                };
                let held = std::mem::take(&mut undated.held);
                if soon {
                    self.undated.remove(&partition);
                    for held in held {
                        self.place_at(held, |_| time, 0, out);
                    }
                } else {
                    undated.events += row as u64;
                    held.into_iter().for_each(|held| self.place_undated(held, out));
                    dated = row;
                }
                time
            }
        };
        let mut latest = running;
        let logs: Vec<Micros> = (0..rows)
            .map(|row| {
                latest = events.claimed(row).map_or(latest, |t| latest.max(t));
                if row < dated { Micros(0) } else { latest }
            })
            .collect();
        self.place_at(batch, |row| logs[row], dated, out);
        if let Some(state) = self.partitions.get_mut(&partition) {
            state.log_time(latest);
        }
    }

    /// Holds events until a time comes.
    fn await_time(&mut self, partition: Partition, batch: DetectedBatch) {
        if !batch.hits.is_empty() {
            self.undated.entry(partition).or_default().held.push(batch);
            return;
        }
        // Nothing in it needs a place.
        let (counters, rows) =
            (&mut self.counters[usize::from(batch.events.source.0)], batch.events.rows() as u64);
        counters.events += rows;
        counters.flagged[0] += rows;
    }

    /// Places events whose time nobody knows.
    fn place_undated(&mut self, batch: DetectedBatch, out: &mut Output) {
        let rows = batch.events.rows();
        self.place_at(batch, |_| Micros(0), rows, out);
    }

    /// Places events, of which the first have no time, and hands them to the correlator.
    fn place_at(
        &mut self,
        batch: DetectedBatch,
        log: impl Fn(usize) -> Micros,
        undated: usize,
        out: &mut Output,
    ) {
        if let Some((placed, routed)) = self.place_rows(batch, |row| (log(row), None), out) {
            self.push(&PlacedBatch { undated, ..placed }, &routed, out);
        }
    }

    /// Takes note of how far a file was read without a time. From where none would be soon, nothing is held.
    pub(crate) fn went_on(&mut self, partition: Partition, records: &[RecordTime], out: &mut Output) {
        if self.partitions.get(&partition).is_none_or(|state| state.max_log.is_some()) {
            return;
        }
        let undated = self.undated.entry(partition).or_default();
        undated.bytes += records.iter().map(|record| u64::from(record.bytes) + 1).sum::<u64>();
        if undated.bytes >= SOON {
            let held = std::mem::take(&mut undated.held);
            held.into_iter().for_each(|held| self.place_undated(held, out));
        }
    }

    /// Events of a file that have no time that anything could be correlated by: none was readable soon enough.
    #[must_use]
    pub fn undated(&self, partition: Partition) -> u64 {
        self.undated.get(&partition).map_or(0, |undated| undated.events)
    }

    /// Says that a file has no more records.
    pub fn end(&mut self, partition: Partition, out: &mut Output) {
        let held = self.undated.get_mut(&partition).map(|undated| std::mem::take(&mut undated.held));
        held.into_iter().flatten().for_each(|held| self.place_undated(held, out));
        if let Some(state) = self.partitions.get_mut(&partition) {
            state.ended = true;
        }
        self.release(out);
    }
}
