//! Decode and detect on one or several threads, with results in the order in which the inputs were read.
//!
//! In: the inputs' batches, numbered as they are read. Out: [`Step`]s, in that order.
//! Invariant: at most a few batches a thread are in flight.

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

use crate::{
    Failure, World as _,
    inputs::{Opened, Reached, Turns},
};

/// Batches in flight per thread.
const IN_FLIGHT: usize = 4;

/// What comes of reading on.
pub enum Step<T> {
    /// A batch.
    Batch(T),
    /// The input of this number has no more records.
    End(usize),
}

/// Runs `threads` detectors and hands their results to `take`, with the bytes read so far. Returns the time they spent,
/// added up.
pub fn detect(
    inputs: &mut [Opened],
    mut turns: Turns,
    reached: &Reached,
    (threads, compiled): (u16, &Arc<Compiled>),
    take: &mut impl FnMut(Step<Detected>, u64) -> Result<(), Failure>,
) -> Result<Duration, Failure> {
    let mut detectors = (0..threads).map(|_| compiled.detector()).collect::<Result<Vec<_>, _>>().world()?;
    if let [detector] = &mut detectors[..] {
        let mut spent = Duration::ZERO;
        while let Some((step, read)) = read(inputs, &mut turns, reached)? {
            let step = match step {
                Step::End(input) => Step::End(input),
                Step::Batch(raw) => {
                    let start = Instant::now();
                    let detected = detector.detect(&raw);
                    spent += start.elapsed();
                    Step::Batch(detected)
                }
            };
            take(step, read)?;
        }
        return Ok(spent);
    }
    let spent = AtomicU64::new(0);
    let so_far = AtomicU64::new(0);
    thread::scope(|scope| {
        let capacity = usize::from(threads) * IN_FLIGHT;
        let (raw_out, raw_in) = bounded::<(u64, Step<RawBatch>)>(capacity);
        let (detected_out, detected_in) = bounded(capacity);
        let reader = scope.spawn(|| -> Result<(), Failure> {
            let raw_out = raw_out;
            for number in 0.. {
                let Some((step, read)) = read(inputs, &mut turns, reached)? else { break };
                so_far.store(read, Ordering::Relaxed);
                if raw_out.send((number, step)).is_err() {
                    break;
                }
            }
            Ok(())
        });
        for mut detector in detectors {
            let (raw_in, detected_out, spent) = (raw_in.clone(), detected_out.clone(), &spent);
            scope.spawn(move || {
                for (number, step) in raw_in {
                    let step = match step {
                        Step::End(input) => Step::End(input),
                        Step::Batch(raw) => {
                            let start = Instant::now();
                            let detected = detector.detect(&raw);
                            spent.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
                            Step::Batch(detected)
                        }
                    };
                    if detected_out.send((number, step)).is_err() {
                        return;
                    }
                }
            });
        }
        drop((raw_in, detected_out));
        in_order(detected_in, |step| take(step, so_far.load(Ordering::Relaxed)))?;
        reader.join().map_err(|_| Failure::World(anyhow::anyhow!("the reading thread panicked")))?
    })?;
    Ok(Duration::from_nanos(spent.into_inner()))
}

/// Reads one batch of the input whose turn it is. Nothing when all have ended.
fn read(
    inputs: &mut [Opened],
    turns: &mut Turns,
    reached: &Reached,
) -> Result<Option<(Step<RawBatch>, u64)>, Failure> {
    let Some(input) = turns.next(reached) else { return Ok(None) };
    let step = match inputs[input].next().transpose().world()? {
        Some(raw) => Step::Batch(raw),
        None => {
            turns.close(input);
            Step::End(input)
        }
    };
    Ok(Some((step, inputs.iter().map(Opened::bytes_read).sum())))
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
