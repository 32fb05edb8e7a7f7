//! What is not a record never overtakes the records before it, and the records after it never overtake it; detectors are
//! stages like any other.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use crossbeam_channel::unbounded;
use vedette_event::{Micros, StoredPlacement};
use vedette_ingest::Error;

use super::{super::supervisor::Supervisor, *};
use crate::pipeline::tests::{batch, compiled, exhaust, held};

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
        Ingested::StatusChange(StatusChange::TopicStopped(topic, failed())),
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

#[test]
fn detectors_are_stages_that_end_with_the_kernel() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for asked in [true, false] {
        let supervisor = Supervisor::new();
        let mut pipeline =
            super::super::detectors(vedette_engine::InForce::new(compiled()), 3, &supervisor).unwrap();
        let (out, input) = unbounded();
        for offset in 0..50 {
            out.send(Ingested::Batch(batch(0, offset, &["{}".to_owned()]))).unwrap();
        }
        let mut left = 0;
        while left < 50 {
            left += usize::from(pipeline.next(&input, WAIT, &mut || ()).is_ok());
        }
        let names: Vec<_> = supervisor.stages().into_iter().map(|stage| stage.name).collect();
        assert_eq!(names, ["detector-1", "detector-2"]);
        if asked {
            supervisor.stop();
        }
        drop(pipeline);
        if asked {
            assert_eq!(runtime.block_on(supervisor.wind_down()), []);
            assert!(supervisor.failure().is_none());
        } else {
            // Nobody asked them to: the process ends with it.
            runtime.block_on(supervisor.failed());
            let failure = supervisor.failure().unwrap();
            assert!(format!("{failure:#}").starts_with("detector-"), "{failure:#}");
        }
    }
}
