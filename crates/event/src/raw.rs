//! Raw records as they come from a topic or a file, and what becomes of those nobody can read.
//!
//! In: payload bytes with offset and broker time. Out: one contiguous [`RawBatch`] per partition.
//! Invariant: offsets within a batch strictly increase; every record is here, null payloads included.

use std::sync::Arc;

use arrow_buffer::Buffer;
use serde::{Deserialize, Serialize};

use crate::{
    flags::Flags,
    order::{Partition, SourceIx},
    time::Micros,
};

/// A record longer than this is a dead letter; its first bytes are kept.
pub const MAX_RECORD_BYTES: usize = 1 << 20;

/// Where one record lies in its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawRecord {
    /// Offset in the partition; record number (from 0, blank lines not counted) in a file.
    pub offset: i64,
    /// `ts_log`: broker time. `None` in plain files, where the engine derives it from the claims.
    pub ts_log: Option<Micros>,
    /// `CLOCK_BROKER` if ingest replaced the broker's time by its own clock.
    pub flags: Flags,
    /// First byte in [`RawBatch::data`].
    pub start: u32,
    /// Bytes; `None` for a null payload.
    pub len: Option<u32>,
}

/// Records of one partition in offset order, at most [`crate::MAX_ROWS`] of them.
#[derive(Debug, Clone)]
pub struct RawBatch {
    /// The source that the records belong to.
    pub source: SourceIx,
    /// The partition they came from.
    pub partition: Partition,
    /// All payloads, one after another. Columns are views into it.
    pub data: Buffer,
    /// The records.
    pub records: Vec<RawRecord>,
}

impl RawBatch {
    /// The bytes of a record; `None` for a null payload.
    #[must_use]
    pub fn payload(&self, record: &RawRecord) -> Option<&[u8]> {
        let start = record.start as usize;
        self.data.get(start..start + record.len? as usize)
    }
}

/// The hash of a record's payload by which a restart tells whether a record is still the same.
///
/// Of a payload longer than a record may be only the part that a batch keeps counts, so the hash of a record and that
/// of what [`RawBatch::payload`] gives are equal.
#[must_use]
pub fn record_hash(payload: Option<&[u8]>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    if let Some(payload) = payload {
        hasher.update(&[1]);
        hasher.update(&payload[..payload.len().min(MAX_RECORD_BYTES + 1)]);
    }
    *hasher.finalize().as_bytes()
}

/// Collects records into a [`RawBatch`].
#[derive(Debug)]
pub struct RawBatchBuilder {
    source: SourceIx,
    partition: Partition,
    data: Vec<u8>,
    records: Vec<RawRecord>,
}

impl RawBatchBuilder {
    /// An empty batch of one partition.
    #[must_use]
    pub fn new(source: SourceIx, partition: Partition) -> Self {
        Self { source, partition, data: Vec::new(), records: Vec::new() }
    }

    /// Adds a record; `payload` is `None` for a null payload. A payload beyond [`MAX_RECORD_BYTES`] keeps one byte more than that, so that the decoder refuses it.
    pub fn push(&mut self, offset: i64, ts_log: Option<Micros>, flags: Flags, payload: Option<&[u8]>) {
        let start = self.data.len() as u32;
        let len = payload.map(|bytes| {
            let kept = &bytes[..bytes.len().min(MAX_RECORD_BYTES + 1)];
            self.data.extend_from_slice(kept);
            kept.len() as u32
        });
        self.records.push(RawRecord { offset, ts_log, flags, start, len });
    }

    /// How many records it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// How many payload bytes it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// True if it holds no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The batch; the builder is empty again.
    pub fn take(&mut self) -> RawBatch {
        RawBatch {
            source: self.source,
            partition: self.partition,
            data: Buffer::from_vec(std::mem::take(&mut self.data)),
            records: std::mem::take(&mut self.records),
        }
    }
}

/// Why a record (or one event of it) was not evaluated. The names are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadReason {
    /// The payload was null (a tombstone).
    NullPayload,
    /// Longer than [`MAX_RECORD_BYTES`].
    Oversized,
    /// Not UTF-8.
    InvalidUtf8,
    /// Not of the source's form at all.
    Malformed,
    /// Nested deeper than the decoder follows.
    TooDeep,
    /// A number outside i64 and u64 and f64, where the source says that such a record is refused.
    NumberRange,
    /// A form of the source that is not supported (a PAN-OS log type, say).
    Unsupported,
    /// More events in one record than allowed.
    TooManyEvents,
    /// Evaluating it would take more steps than a record may cost.
    TooDear,
    /// Evaluating it panicked.
    Panic,
}

impl DeadReason {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NullPayload => "null_payload",
            Self::Oversized => "oversized",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::Malformed => "malformed",
            Self::TooDeep => "too_deep",
            Self::NumberRange => "number_range",
            Self::Unsupported => "unsupported",
            Self::TooManyEvents => "too_many_events",
            Self::TooDear => "too_dear",
            Self::Panic => "panic",
        }
    }
}

/// A record that ended unevaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The source.
    pub source: SourceIx,
    /// Where the record is.
    pub partition: Partition,
    /// Its offset.
    pub offset: i64,
    /// The event within it; `None` if the record as a whole.
    pub index: Option<u32>,
    /// Broker time, where known.
    pub ts_log: Option<Micros>,
    /// The stable reason.
    pub reason: DeadReason,
    /// What exactly was wrong, for a person; never holds a secret's value.
    pub detail: Arc<str>,
    /// The record as it came (its first [`MAX_RECORD_BYTES`] bytes).
    pub payload: Vec<u8>,
}

impl DeadLetter {
    /// Of a record as a whole.
    #[must_use]
    pub fn of(raw: &RawBatch, record: &RawRecord, reason: DeadReason, detail: Arc<str>) -> Self {
        let payload = raw.payload(record).unwrap_or_default();
        Self {
            source: raw.source,
            partition: raw.partition,
            offset: record.offset,
            index: None,
            ts_log: record.ts_log,
            reason,
            detail,
            payload: payload[..payload.len().min(MAX_RECORD_BYTES)].to_vec(),
        }
    }
}
