//! What is not a record never overtakes the records before it, and the records after it never overtake it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use crossbeam_channel::unbounded;
use vedette_event::{Micros, StoredPlacement};
use vedette_ingest::Error;

use super::*;
use crate::pipeline::tests::{batch, exhaust, held};

/// One of each kind.
fn words() -> Vec<Ingested> {
    let topic = TopicIx(0);
    let partition = Partition { topic, number: 0 };
    let other = Partition { topic, number: 1 };
    let failed = || Error::Kafka { reason: "test".to_owned(), fatal: true };
    vec![
        Ingested::Assigned { partition: other, offset: 0 },
        Ingested::Awaited { topic, numbers: BTreeSet::new() },
        Ingested::Placed(StoredPlacement {
            topic: "logs".into(),
            partition: 0,
            offset: 8,
            flag: Flags::CLOCK_BROKER,
            time: Micros(8),
        }),
        Ingested::Idle { partition, sent_at: Micros(9) },
        Ingested::Lost { partition, from: 1, to: 5 },
        Ingested::Accepted(topic),
        Ingested::Status(Status::TopicStopped(topic, failed())),
        Ingested::Failed(failed()),
    ]
}

#[test]
fn every_kind_of_word_keeps_its_place_among_the_records() {
    let records = |offset| Ingested::Batch(batch(0, offset, &["{}".to_owned()]));
    for word in words() {
        let kind = std::mem::discriminant(&word);
        let (mut pipeline, _detectors, release) = held(3, records(0), batch_of);
        let (out, input) = unbounded();
        out.send(word).unwrap();
        out.send(records(8)).unwrap();
        let (unread, steps) = exhaust(&mut pipeline, &input);
        assert_eq!((unread, steps.len()), (0, 0), "{kind:?}: the first record is still with a detector");
        release();
        let (_, steps) = exhaust(&mut pipeline, &input);
        let [Step::Batch(before), Step::Word(word), Step::Batch(after)] = &steps[..] else {
            panic!("{steps:?}")
        };
        assert_eq!((before.records[0].offset, after.records[0].offset), (0, 8));
        assert_eq!(std::mem::discriminant(word), kind);
    }
}
