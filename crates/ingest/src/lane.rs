//! One partition that is read: its batch in the making, its clock, its position.
//!
//! In: records in offset order. Out: [`RawBatch`]es and the placements that must be stored before them.
//! Invariants: offsets strictly increase, so a record that comes twice (after a seek, say) is taken once; a batch
//! holds at most [`MAX_ROWS`] records and, but for a single larger one, [`MAX_BATCH_BYTES`].

use std::collections::BTreeMap;

use rdkafka::Timestamp;
use vedette_event::{
    MAX_ROWS, Micros, Partition, RawBatch, RawBatchBuilder, Span, StoredPlacement, raw::MAX_RECORD_BYTES,
};

use crate::{
    Error,
    clock::{self, Decided, LogClock},
    ingested::Clock,
    settings::{LastRead, TimeSource, TopicSettings, record_hash},
    shared::ReadFrom,
};

/// How many payload bytes a batch holds.
pub(crate) const MAX_BATCH_BYTES: usize = 1 << 20;

/// A record as it comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Incoming<'a> {
    pub offset: i64,
    pub timestamp: Timestamp,
    pub payload: Option<&'a [u8]>,
}

/// The state of one partition.
#[derive(Debug)]
pub(crate) struct Lane {
    pub topic: TopicSettings,
    pub partition: Partition,
    /// The offset after the last record taken, or where reading began.
    pub next: i64,
    /// True once librdkafka's position is that of this assignment and of none before it.
    pub current: bool,
    /// Whose clock the last record taken carries.
    pub newest: Option<Clock>,
    /// Where it stood when reading some partition failed; `None` if nothing is in doubt.
    pub doubt: Option<i64>,
    /// True if it was in doubt when partitions were checked, and had no leader to be checked with.
    pub unchecked: bool,
    builder: RawBatchBuilder,
    clock: LogClock,
    /// Records before this one were read before a restart.
    decided: i64,
}

impl Lane {
    pub fn new(topic: TopicSettings, allowance: Span, start: ReadFrom) -> Self {
        let ReadFrom { number, offset, decided, log_max, .. } = start;
        let partition = Partition { topic: topic.topic, number };
        Self {
            partition,
            next: offset,
            decided,
            current: true,
            newest: None,
            doubt: None,
            unchecked: false,
            builder: RawBatchBuilder::new(topic.source, partition),
            clock: LogClock::new(topic.time_source, allowance, log_max),
            topic,
        }
    }

    /// True if the batch must leave before a record of this size is taken.
    pub fn full(&self, payload: Option<&[u8]>) -> bool {
        let len = payload.map_or(0, |p| p.len().min(MAX_RECORD_BYTES + 1));
        self.builder.len() >= MAX_ROWS
            || (!self.builder.is_empty() && self.builder.bytes() + len > MAX_BATCH_BYTES)
    }

    /// Takes a record; gives the placement to store if the clock had to decide.
    ///
    /// # Errors
    /// [`Error::TimestampType`] if the broker's time is asked for and the record has none.
    pub fn take(
        &mut self,
        record: Incoming<'_>,
        placements: &BTreeMap<(Partition, i64), Micros>,
    ) -> Result<Option<StoredPlacement>, Error> {
        let Incoming { offset, timestamp, payload } = record;
        if offset < self.next {
            return Ok(None);
        }
        let newest = clock::whose(timestamp);
        if self.topic.time_source == TimeSource::Broker && newest != Clock::Broker {
            return Err(Error::TimestampType {
                topic: self.topic.name.clone(),
                partition: self.partition,
                offset,
            });
        }
        let former = match placements.get(&(self.partition, offset)) {
            Some(then) => Decided::Replaced(*then),
            None if offset < self.decided => Decided::Kept,
            None => Decided::None,
        };
        let stamp = self.clock.stamp(timestamp, former, clock::now);
        self.builder.push(offset, Some(stamp.ts_log), stamp.flags, payload);
        self.next = offset.saturating_add(1);
        self.current = true;
        self.newest = Some(newest);
        (self.doubt, self.unchecked) = (None, false);
        Ok(stamp.replaced.then(|| StoredPlacement {
            topic: self.topic.name.clone(),
            partition: self.partition.number,
            offset,
            flag: stamp.flags,
            time: stamp.ts_log,
        }))
    }

    /// The batch so far, if there is one.
    pub fn batch(&mut self) -> Option<RawBatch> {
        (!self.builder.is_empty()).then(|| self.builder.take())
    }
}

/// The last record of a batch.
pub(crate) fn last_read(batch: &RawBatch) -> Option<LastRead> {
    let record = batch.records.last()?;
    Some(LastRead { offset: record.offset, hash: record_hash(batch.payload(record)) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use vedette_event::{Flags, SourceIx, TopicIx};

    use super::*;
    use crate::settings::{OnLoss, StartAt};

    fn lane(time_source: TimeSource, offset: i64) -> Lane {
        let topic = TopicSettings {
            name: "firewall".into(),
            topic: TopicIx(0),
            source: SourceIx(1),
            time_source,
            start: StartAt::Earliest,
            on_loss: OnLoss::Continue,
        };
        let start = ReadFrom { number: 4, offset, decided: 0, log_max: None, lost: None };
        Lane::new(topic, Span::secs(5), start)
    }

    fn record(offset: i64, payload: Option<&[u8]>) -> Incoming<'_> {
        Incoming { offset, timestamp: Timestamp::LogAppendTime(1_000 + offset), payload }
    }

    #[test]
    fn holes_and_nulls_pass_and_nothing_is_taken_twice() {
        let mut lane = lane(TimeSource::Broker, 5);
        for (offset, payload) in
            [(4, Some(&b"old"[..])), (5, Some(b"a")), (9, None), (9, Some(b"b")), (12, Some(b""))]
        {
            assert_eq!(lane.take(record(offset, payload), &BTreeMap::new()).unwrap(), None);
        }
        let batch = lane.batch().unwrap();
        let seen: Vec<_> = batch.records.iter().map(|r| (r.offset, batch.payload(r))).collect();
        assert_eq!(seen, [(5, Some(&b"a"[..])), (9, None), (12, Some(b""))]);
        assert_eq!(batch.records[0].ts_log, Some(Micros(1_005_000)));
        assert_eq!((lane.next, lane.batch().is_none()), (13, true));
        assert_ne!(record_hash(None), record_hash(Some(b"")));
        assert_eq!(last_read(&batch), Some(LastRead { offset: 12, hash: record_hash(Some(b"")) }));
    }

    #[test]
    fn batches_are_bounded_in_records_and_bytes() {
        let mut lane = lane(TimeSource::Broker, 0);
        for offset in 0..MAX_ROWS as i64 {
            assert!(!lane.full(Some(b"x")));
            lane.take(record(offset, Some(b"x")), &BTreeMap::new()).unwrap();
        }
        assert!(lane.full(None));
        lane.batch().unwrap();
        let huge = vec![b'x'; 3 * MAX_RECORD_BYTES];
        assert!(!lane.full(Some(&huge)));
        lane.take(record(1_000, Some(&huge)), &BTreeMap::new()).unwrap();
        assert!(lane.full(Some(b"x")));
        let batch = lane.batch().unwrap();
        assert_eq!(batch.data.len(), MAX_RECORD_BYTES + 1);
        assert_eq!(last_read(&batch).unwrap().hash, record_hash(Some(&huge)));
    }

    #[test]
    fn a_broker_far_ahead_is_overruled_once_and_for_all() {
        let far = Incoming { offset: 7, timestamp: Timestamp::LogAppendTime(i64::MAX), payload: Some(b"x") };
        let mut first = lane(TimeSource::Broker, 0);
        let placed = first.take(far, &BTreeMap::new()).unwrap().unwrap();
        assert_eq!(
            (&*placed.topic, placed.partition, placed.offset, placed.flag),
            ("firewall", 4, 7, Flags::CLOCK_BROKER)
        );
        let batch = first.batch().unwrap();
        assert_eq!(
            (batch.records[0].ts_log, batch.records[0].flags),
            (Some(placed.time), Flags::CLOCK_BROKER)
        );

        let mut again = lane(TimeSource::Broker, 0);
        let stored = BTreeMap::from([((again.partition, 7), placed.time)]);
        assert_eq!(again.take(far, &stored).unwrap(), None);
        assert_eq!(again.batch().unwrap().records, batch.records);
    }

    #[test]
    fn what_was_read_before_is_not_decided_anew() {
        let far = |offset| Incoming { offset, timestamp: Timestamp::LogAppendTime(i64::MAX), payload: None };
        let mut lane = lane(TimeSource::Auto, 0);
        lane.decided = 5;
        let replaced: Vec<bool> =
            (3..7).map(|offset| lane.take(far(offset), &BTreeMap::new()).unwrap().is_some()).collect();
        assert_eq!(replaced, [false, false, true, true]);
    }

    #[test]
    fn producer_time_is_refused_where_broker_time_is_asked_for() {
        let own = Incoming { offset: 3, timestamp: Timestamp::CreateTime(5), payload: None };
        let error = lane(TimeSource::Broker, 0).take(own, &BTreeMap::new()).unwrap_err();
        assert!(error.to_string().contains("message.timestamp.type=LogAppendTime"), "{error}");
        assert!(!error.retryable());
        for (source, timestamp, newest) in [
            (TimeSource::Producer, own.timestamp, Clock::Producer),
            (TimeSource::Auto, own.timestamp, Clock::Producer),
            (TimeSource::Auto, Timestamp::LogAppendTime(5), Clock::Broker),
        ] {
            let mut lane = lane(source, 0);
            lane.take(Incoming { timestamp, ..own }, &BTreeMap::new()).unwrap();
            assert_eq!(lane.newest, Some(newest));
        }
    }
}
