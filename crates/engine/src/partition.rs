//! What the kernel knows of one partition: how far it was read and how far its time has come.
//!
//! In: record times and idle proofs. Out: broker times made usable, the partition's watermark, resume points.
//! Invariants: the watermark never falls; a resume point is never beyond a finding that is not released.

use std::collections::VecDeque;

use vedette_event::{Micros, SourceIx, Span};

use crate::checkpoint::Merged;

/// Distance between resume points, in records, at least.
const MARK_EVERY: i64 = 64;

/// The running state of a partition.
#[derive(Debug)]
pub(crate) struct PartitionState {
    pub(crate) source: SourceIx,
    /// Highest `ts_log` read.
    pub(crate) max_log: Option<Micros>,
    /// The same of all that was ever read, before a restart, too.
    newest_log: Option<Micros>,
    /// Highest wall time at which nothing was unread.
    idle: Option<Micros>,
    /// Where reading began when it was first assigned.
    began: i64,
    /// Offset after the last record read.
    next: i64,
    /// Furthest offset ever read up to (before a restart, too), and blake3 of the record before it.
    furthest: (i64, [u8; 32]),
    /// Records before this one were placed before the restart.
    checked_from: i64,
    /// What lies below the time that the records before it promised.
    stepped: Option<Stepped>,
    /// Records from before the restart may still be unread.
    rereading: bool,
    /// No further record will come (files).
    pub(crate) ended: bool,
    marks: VecDeque<Mark>,
}

/// Records that lie below what their partition promised, since the broker's clock stepped back by more than `S`, and above
/// their source's watermark all the same, since another partition was behind. When they are read again, others may be ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stepped {
    /// Offset of the last of them.
    pub(crate) until: i64,
    /// The lowest of their times.
    pub(crate) low: Micros,
}

impl Stepped {
    /// Both, where there are two.
    pub(crate) fn join(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        match (a, b) {
            (Some(a), Some(b)) => Some(Self { until: a.until.max(b.until), low: a.low.min(b.low) }),
            (one, other) => one.or(other),
        }
    }
}

/// A place from which reading can start again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) offset: i64,
    pub(crate) max_log: Option<Micros>,
}

impl PartitionState {
    /// A partition that is read from `began` on, the first time.
    pub(crate) fn new(source: SourceIx, began: i64) -> Self {
        Self {
            source,
            max_log: None,
            newest_log: None,
            idle: None,
            began,
            next: began,
            furthest: (0, *blake3::hash(b"").as_bytes()),
            checked_from: 0,
            stepped: None,
            rereading: false,
            ended: false,
            marks: VecDeque::new(),
        }
    }

    /// A partition as the checkpoints remember it.
    pub(crate) fn resumed(source: SourceIx, merged: &Merged) -> Self {
        Self {
            max_log: merged.max_log,
            newest_log: merged.newest_log,
            next: merged.offset,
            furthest: (merged.read_before, merged.last_hash),
            checked_from: merged.read_before,
            stepped: merged.stepped,
            rereading: merged.offset < merged.read_before,
            ..Self::new(source, merged.began)
        }
    }

    /// Takes note that reading goes on at `offset`: what lay before it is not there any more.
    pub(crate) fn skip_to(&mut self, offset: i64) {
        self.next = self.next.max(offset);
        self.rereading &= self.next < self.checked_from;
    }

    /// Where reading began when the partition was first assigned.
    pub(crate) fn began(&self) -> i64 {
        self.began
    }

    /// Takes note of the last record of a batch.
    pub(crate) fn read(&mut self, offset: i64, hash: [u8; 32]) {
        self.next = offset.saturating_add(1);
        if self.next > self.furthest.0 {
            self.furthest = (self.next, hash);
        }
        self.rereading &= self.next < self.checked_from;
    }

    /// The offset read up to, and the hash of the last record before it.
    pub(crate) fn furthest(&self) -> (i64, [u8; 32]) {
        self.furthest
    }

    /// Records before this one were placed before the restart, and are placed so again; those from it on no lower than what their
    /// source had passed by then.
    pub(crate) fn checked_from(&self) -> i64 {
        self.checked_from
    }

    /// The offset after the last record read.
    pub(crate) fn next(&self) -> i64 {
        self.next
    }

    /// Notes that a batch starting at `offset` is about to be read.
    pub(crate) fn mark(&mut self, offset: i64) {
        if self.marks.back().is_none_or(|last| offset - last.offset >= MARK_EVERY) {
            self.marks.push_back(Mark { offset, max_log: self.max_log });
        }
    }

    /// Takes a record's broker time into account.
    pub(crate) fn log_time(&mut self, ts_log: Micros) {
        self.max_log = self.max_log.max(Some(ts_log));
        self.newest_log = self.newest_log.max(self.max_log);
    }

    /// The highest `ts_log` ever read.
    pub(crate) fn newest_log(&self) -> Option<Micros> {
        self.newest_log
    }

    /// Takes an end-offset query into account, sent at `at`, that showed nothing unread.
    pub(crate) fn idle(&mut self, at: Micros) {
        self.idle = Some(self.idle.map_or(at, |max| max.max(at)));
        // What is not there any more will not be read again.
        self.rereading = false;
    }

    /// How far the partition has come if `max_log` is the highest `ts_log` read: no event placed below will come, a broker
    /// clock stepping back by more than `skew` apart.
    pub(crate) fn reached(&self, max_log: Option<Micros>, disorder: Span, skew: Span) -> Micros {
        if self.ended {
            return Micros::MAX;
        }
        let reached = max_log.max(self.idle).map_or(Micros::MIN, |t| t.minus(disorder).minus(skew));
        // What is read again is released in the order of the first time.
        match self.stepped {
            Some(Stepped { until, low }) if self.rereading && self.next <= until => reached.min(low),
            _ => reached,
        }
    }

    /// Takes note that a record is placed below what its partition promised.
    pub(crate) fn step_back(&mut self, offset: i64, time: Micros) {
        self.stepped = Stepped::join(self.stepped, Some(Stepped { until: offset, low: time }));
    }

    /// What will have to be waited for when it is read again.
    pub(crate) fn stepped(&self) -> Option<Stepped> {
        self.stepped
    }

    /// The last place at or before `offset` from which reading can start again.
    pub(crate) fn resume(&self, offset: i64) -> Mark {
        let after = self.marks.partition_point(|mark| mark.offset <= offset);
        let before = after.checked_sub(1).and_then(|at| self.marks.get(at)).copied();
        // Nothing was marked yet: the partition was just assigned, and starts where it started.
        before.unwrap_or(Mark { offset: offset.min(self.next), max_log: self.max_log })
    }

    /// Where the next record would be read.
    pub(crate) fn position(&self) -> Mark {
        Mark { offset: self.next, max_log: self.max_log }
    }

    /// Forgets places that no resume point can need: all but the last at or before `offset`.
    pub(crate) fn forget_before(&mut self, offset: i64) {
        while self.marks.get(1).is_some_and(|second| second.offset <= offset) {
            self.marks.pop_front();
        }
    }

    /// Forgets what stepped back before `offset`: a restart will not read it.
    pub(crate) fn forget_stepped_before(&mut self, offset: i64) {
        self.stepped = self.stepped.filter(|stepped| stepped.until >= offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resume_is_never_beyond_what_is_asked() {
        let mut state = PartitionState::new(SourceIx(0), 0);
        for offset in (0..10_000).step_by(50) {
            state.mark(offset);
            state.log_time(Micros(offset));
            state.read(offset + 49, [0; 32]);
        }
        for offset in [0, 1, 99, 100, 5_000, 9_999] {
            let mark = state.resume(offset);
            assert!(mark.offset <= offset && offset - mark.offset < 2 * MARK_EVERY, "{offset} {mark:?}");
        }
        state.forget_before(5_000);
        assert!(state.resume(5_000).offset <= 5_000);
        assert_eq!(state.resume(9_999), Mark { offset: 9_900, max_log: Some(Micros(9_850)) });
    }

    #[test]
    fn a_partition_of_which_nothing_was_read_resumes_where_it_began() {
        let mut state = PartitionState::new(SourceIx(0), 700);
        assert_eq!(state.position(), Mark { offset: 700, max_log: None });
        state.skip_to(900);
        assert_eq!((state.position().offset, state.began()), (900, 700));
    }

    #[test]
    fn the_watermark_follows_log_time_and_idle_proofs_and_never_falls() {
        let mut state = PartitionState::new(SourceIx(0), 0);
        let mark = |state: &PartitionState| state.reached(state.max_log, Span(10), Span(5));
        assert_eq!(mark(&state), Micros::MIN);
        state.log_time(Micros(100));
        assert_eq!(mark(&state), Micros(85));
        state.log_time(Micros(50));
        assert_eq!(mark(&state), Micros(85));
        state.idle(Micros(200));
        assert_eq!(mark(&state), Micros(185));
        state.idle(Micros(150));
        assert_eq!(mark(&state), Micros(185));
    }
}
