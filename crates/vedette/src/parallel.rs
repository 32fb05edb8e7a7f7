//! Decode and detect on several threads, with results in the order of the input.
//!
//! In: the inputs' batches, numbered as they are read. Out: their results, in that order.
//! Invariant: what comes out does not depend on the number of threads; at most a few batches a thread are in flight.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, bounded};
use vedette_engine::{Compiled, Detected};
use vedette_event::RawBatch;

use crate::{Failure, scan::Opened};

/// Batches in flight per thread.
const IN_FLIGHT: usize = 4;

/// Runs `threads` detectors and hands their results to `take` in order. Returns the time they spent, added up.
pub fn detect(
    inputs: &mut [Opened],
    threads: u16,
    compiled: &Arc<Compiled>,
    position: impl Fn(u64),
    take: &mut impl FnMut(Detected) -> Result<(), Failure>,
) -> Result<Duration, Failure> {
    let detectors = (0..threads)
        .map(|_| compiled.detector())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| Failure::World(e.into()))?;
    let spent = AtomicU64::new(0);
    let read = AtomicU64::new(0);
    thread::scope(|scope| {
        let capacity = usize::from(threads) * IN_FLIGHT;
        let (raw_out, raw_in) = bounded::<(u64, RawBatch)>(capacity);
        let (detected_out, detected_in) = bounded(capacity);
        let reader = scope.spawn(|| -> Result<(), Failure> {
            let raw_out = raw_out;
            let mut number = 0;
            for at in 0..inputs.len() {
                while let Some(raw) = inputs[at].next() {
                    let raw = raw.map_err(|e| Failure::World(e.into()))?;
                    read.store(inputs.iter().map(Opened::bytes_read).sum(), Ordering::Relaxed);
                    if raw_out.send((number, raw)).is_err() {
                        return Ok(());
                    }
                    number += 1;
                }
            }
            Ok(())
        });
        for mut detector in detectors {
            let (raw_in, detected_out, spent) = (raw_in.clone(), detected_out.clone(), &spent);
            scope.spawn(move || {
                for (number, raw) in raw_in {
                    let start = Instant::now();
                    let detected = detector.detect(&raw);
                    spent.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
                    if detected_out.send((number, detected)).is_err() {
                        return;
                    }
                }
            });
        }
        drop((raw_in, detected_out));
        in_order(detected_in, |detected| {
            position(read.load(Ordering::Relaxed));
            take(detected)
        })?;
        reader.join().map_err(|_| Failure::World(anyhow::anyhow!("the reading thread panicked")))?
    })?;
    Ok(Duration::from_nanos(spent.into_inner()))
}

fn in_order<T>(
    numbered: Receiver<(u64, T)>,
    mut take: impl FnMut(T) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut early = BTreeMap::new();
    let mut next = 0;
    for (number, item) in numbered {
        early.insert(number, item);
        while let Some(item) = early.remove(&next) {
            take(item)?;
            next += 1;
        }
    }
    Ok(())
}
