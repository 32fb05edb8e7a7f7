//! Decode and detect: the stateless half of the kernel.
//!
//! In: [`RawBatch`]. Out: [`Detected`]: events as columns with their hits, and dead letters.
//! Invariants: nothing depends on earlier batches, so any thread may take any batch; a record whose evaluation
//! panics is retried alone and becomes a dead letter, and the others are evaluated as if it were not there.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use vedette_decode::Decoder;
use vedette_detect::Evaluator;
use vedette_event::{
    DeadLetter, DeadReason, EventBatch, Flags, Hit, Micros, Partition, RawBatch, SourceIx, raw::record_hash,
};

use crate::compiled::Compiled;

/// Decoders and evaluators of all sources, for one thread.
pub struct Detector {
    compiled: Arc<Compiled>,
    lanes: Vec<(Decoder, Evaluator)>,
}

/// One raw batch, evaluated.
#[derive(Debug)]
pub struct Detected {
    /// The source.
    pub source: SourceIx,
    /// The partition.
    pub partition: Partition,
    /// Offset and broker time of every record, dead letters included.
    pub records: Vec<RecordTime>,
    /// Its events.
    pub batches: Vec<DetectedBatch>,
    /// Its dead letters.
    pub dead: Vec<DeadLetter>,
    /// The hash of the last record ([`record_hash`]).
    pub last_hash: [u8; 32],
}

/// What placement needs of a record.
#[derive(Debug, Clone, Copy)]
pub struct RecordTime {
    /// Its offset.
    pub offset: i64,
    /// Its broker time; `None` in plain files.
    pub ts_log: Option<Micros>,
    /// `CLOCK_BROKER`, or nothing.
    pub flags: Flags,
}

/// Events with the rules they matched.
#[derive(Debug)]
pub struct DetectedBatch {
    /// The events.
    pub events: EventBatch,
    /// Sorted by row, then rule.
    pub hits: Vec<Hit>,
}

impl Detector {
    pub(crate) fn new(compiled: Arc<Compiled>, lanes: Vec<(Decoder, Evaluator)>) -> Self {
        Self { compiled, lanes }
    }

    /// Decodes and evaluates one batch.
    pub fn detect(&mut self, raw: &RawBatch) -> Detected {
        let mut detected = Detected {
            source: raw.source,
            partition: raw.partition,
            records: raw
                .records
                .iter()
                .map(|r| RecordTime { offset: r.offset, ts_log: r.ts_log, flags: r.flags })
                .collect(),
            batches: Vec::new(),
            dead: Vec::new(),
            last_hash: last_hash(raw),
        };
        if !self.attempt(raw, &mut detected) {
            self.attempt_each(raw, &mut detected);
        }
        detected
    }

    /// Evaluates the batch as a whole; false, with nothing added, if that panicked.
    fn attempt(&mut self, raw: &RawBatch, detected: &mut Detected) -> bool {
        let (decoder, evaluator) = &mut self.lanes[usize::from(raw.source.0)];
        let result = catch_unwind(AssertUnwindSafe(|| {
            let (mut events, mut dead) = (Vec::new(), Vec::new());
            decoder.decode(raw, &mut events, &mut dead);
            let evaluate = |events| {
                let mut hits = Vec::new();
                evaluator.evaluate(&events, &mut hits);
                DetectedBatch { events, hits }
            };
            (events.into_iter().map(evaluate).collect::<Vec<_>>(), dead)
        }));
        if let Ok((batches, dead)) = result {
            detected.batches.extend(batches);
            detected.dead.extend(dead);
            return true;
        }
        // The panic may have left scratch space half written.
        *evaluator = self.compiled.evaluator(raw.source);
        false
    }

    fn attempt_each(&mut self, raw: &RawBatch, detected: &mut Detected) {
        for (at, record) in raw.records.iter().enumerate() {
            let alone = RawBatch {
                source: raw.source,
                partition: raw.partition,
                data: raw.data.clone(),
                records: vec![*record],
            };
            let batches = detected.batches.len();
            if self.attempt(&alone, detected) {
                // Rows name their record by its position in the whole batch.
                for batch in &mut detected.batches[batches..] {
                    batch.events.records = vec![at as u32; batch.events.rows()].into();
                }
            } else {
                detected.dead.push(DeadLetter {
                    source: raw.source,
                    partition: raw.partition,
                    offset: record.offset,
                    index: None,
                    ts_log: record.ts_log,
                    reason: DeadReason::Panic,
                    detail: "evaluating this record panicked; it was retried alone".into(),
                    payload: raw.payload(record).unwrap_or_default().to_vec(),
                });
            }
        }
    }
}

fn last_hash(raw: &RawBatch) -> [u8; 32] {
    record_hash(raw.records.last().and_then(|record| raw.payload(record)))
}
