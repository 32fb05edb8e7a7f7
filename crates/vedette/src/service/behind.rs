//! Keeps a reader behind detection: it reads a record only when detection has read it.
//!
//! In: how far both have come. Out: pauses and resumptions. Invariants: what is new goes to detection first, also where a broker is slow or
//! gives each reader its share; of a partition in which a reader has come as far as detection it asks the broker for nothing.

use std::collections::BTreeMap;

use vedette_event::Partition;
use vedette_ingest::{Ingest, LagReport, LagView};

/// Has a reader that began with all partitions held ([`vedette_ingest::IngestSettings::held`]) read on where detection is ahead of it, and no
/// further where it is not.
pub fn keep(ingest: &Ingest, detection: &LagView) {
    for (partition, read) in turns(&ingest.lag(), &detection.report()) {
        if read {
            ingest.resume(partition);
        } else {
            ingest.pause(partition);
        }
    }
}

/// The partitions that are to be read from now on, or not to be.
fn turns(own: &LagReport, detection: &LagReport) -> Vec<(Partition, bool)> {
    let read: BTreeMap<Partition, i64> =
        detection.partitions.iter().map(|of| (of.partition, of.position)).collect();
    let ahead =
        |partition: Partition, position: i64| read.get(&partition).is_some_and(|read| *read > position);
    let own = own.partitions.iter();
    own.filter(|of| of.paused == ahead(of.partition, of.position))
        .map(|of| (of.partition, of.paused))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use vedette_event::TopicIx;
    use vedette_ingest::PartitionLag;

    use super::*;

    fn report(all: &[(i32, i64, bool)]) -> LagReport {
        let lag = |(number, position, paused): &(i32, i64, bool)| PartitionLag {
            topic: "t".into(),
            partition: Partition { topic: TopicIx(0), number: *number },
            position: *position,
            handed_on: 0,
            end: None,
            log_start: None,
            last_ts_log: None,
            paused: *paused,
            clock: None,
        };
        LagReport { connected: true, topics: Vec::new(), partitions: all.iter().map(lag).collect() }
    }

    #[test]
    fn a_partition_is_read_where_detection_is_ahead_and_nowhere_else() {
        let detection = report(&[(0, 5, false), (1, 5, false), (2, 5, true), (3, 5, false)]);
        // Held and behind; held and level; read and level; read and behind; not known to detection.
        let own =
            report(&[(0, 4, true), (1, 5, true), (2, 5, false), (3, 0, false), (4, 0, false), (5, 0, true)]);
        let turns = turns(&own, &detection).into_iter().map(|(of, read)| (of.number, read));
        assert_eq!(turns.collect::<Vec<_>>(), [(0, true), (2, false), (4, false)]);
    }
}
