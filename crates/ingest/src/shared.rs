//! What the threads of one [`crate::Ingest`] tell one another.
//!
//! In and out: how far each partition is, for the lag report and for judging end offsets; questions to the prober and
//! its answers. Invariant: a [`Progress::position`] covers only what has been put on the channel.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use vedette_event::{Micros, Partition, TopicIx};

use crate::{
    Error, LagReport, PartitionLag,
    heartbeat::Beat,
    ingested::{Clock, TopicLag},
    settings::{LastRead, TopicSettings},
};

/// How far one partition is.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    pub topic: Arc<str>,
    /// The next offset: everything below it is on the channel, or is not there.
    pub position: i64,
    /// Records put on the channel.
    pub handed_on: u64,
    pub end: Option<i64>,
    pub log_start: Option<i64>,
    pub last_ts_log: Option<Micros>,
    pub paused: bool,
    pub last: Option<LastRead>,
    /// Whose clock the newest record carries.
    pub clock: Option<Clock>,
}

/// What the prober found out about one topic.
#[derive(Debug, Clone)]
struct LookedUp {
    name: Arc<str>,
    partitions: Option<usize>,
    missing: Option<String>,
}

/// State that both threads and the handle see.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    partitions: Mutex<BTreeMap<Partition, Progress>>,
    topics: Mutex<BTreeMap<TopicIx, LookedUp>>,
    connected: AtomicBool,
    stop: AtomicBool,
    pub reader: Beat,
    pub prober: Beat,
}

impl Shared {
    pub fn new(topics: &[TopicSettings]) -> Self {
        let unknown =
            |t: &TopicSettings| (t.topic, LookedUp { name: t.name.clone(), partitions: None, missing: None });
        Self { topics: Mutex::new(topics.iter().map(unknown).collect()), ..Self::default() }
    }

    /// Notes how many partitions a topic has, and why some of them are not read.
    pub fn looked_up(&self, topic: TopicIx, partitions: usize, missing: Option<String>) {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = topics.get_mut(&topic) {
            (known.partitions, known.missing) = (Some(partitions), missing);
        }
    }

    pub fn partitions(&self) -> MutexGuard<'_, BTreeMap<Partition, Progress>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Release);
    }

    pub fn lag(&self) -> LagReport {
        let partitions = self.partitions();
        let lag = |(partition, p): (&Partition, &Progress)| PartitionLag {
            topic: p.topic.clone(),
            partition: *partition,
            position: p.position,
            handed_on: p.handed_on,
            // Asked for now and then, while reading goes on.
            end: p.end.map(|end| end.max(p.position)),
            log_start: p.log_start,
            last_ts_log: p.last_ts_log,
            paused: p.paused,
            clock: p.clock,
        };
        let topic = |(topic, known): (&TopicIx, &LookedUp)| {
            let own = || partitions.iter().filter(|(p, _)| p.topic == *topic).map(|(_, progress)| progress);
            TopicLag {
                topic: *topic,
                name: known.name.clone(),
                partitions: known.partitions,
                assigned: own().count(),
                paused: own().filter(|p| p.paused).count(),
                missing: known.missing.clone(),
                clock: own().filter_map(|p| p.clock).max(),
            }
        };
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner).clone();
        LagReport {
            connected: self.connected.load(Ordering::Acquire),
            topics: topics.iter().map(topic).collect(),
            partitions: partitions.iter().map(lag).collect(),
        }
    }
}

/// What the reader asks of the prober.
#[derive(Debug)]
pub(crate) enum Ask {
    /// A partition cannot be read on: find out whether records were deleted or the topic is another one.
    Check,
    /// The topic is not read any more.
    Forget(TopicIx),
    /// The topic is accepted as a new one: from its log start.
    Accept(TopicIx),
}

/// What the prober finds out.
#[derive(Debug)]
pub(crate) enum Answer {
    Connected,
    Unreachable(Error),
    TopicReady(TopicIx),
    TopicStopped(TopicIx, Error),
    /// Partitions are to be read: told together, so that no record of one comes before the word of another.
    Begin {
        topic: TopicSettings,
        starts: Vec<ReadFrom>,
    },
    /// These partitions of a topic are there and could not be begun.
    Awaited {
        topic: TopicIx,
        numbers: BTreeSet<i32>,
    },
    /// A partition has lost records, and its topic stops for that.
    Lost {
        partition: Partition,
        from: i64,
        to: i64,
    },
    /// Where partitions ended when asked at this time.
    Ends {
        sent_at: Micros,
        ends: Vec<End>,
        checked: bool,
    },
}

/// Where one partition is to be read from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadFrom {
    pub number: i32,
    pub offset: i64,
    /// Records before this one were read before, and their times were decided then.
    pub decided: i64,
    pub log_max: Option<Micros>,
    pub lost: Option<(i64, i64)>,
}

/// Where one partition ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub partition: Partition,
    /// The log start; asked for less often.
    pub low: Option<i64>,
    pub high: i64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_partition_ends_no_earlier_than_it_was_read() {
        let shared = Shared::default();
        let partition = Partition { topic: TopicIx(0), number: 0 };
        for (position, end, expected) in [(7, None, None), (7, Some(9), Some(9)), (7, Some(5), Some(7))] {
            let progress = Progress {
                topic: "api".into(),
                position,
                handed_on: 0,
                end,
                log_start: None,
                last_ts_log: None,
                paused: false,
                last: None,
                clock: None,
            };
            shared.partitions().insert(partition, progress);
            assert_eq!(shared.lag().partitions.first().unwrap().end, expected);
        }
    }
}
