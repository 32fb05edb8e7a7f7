//! Is a topic still the one that was read before? Reads the records read last once more and compares their hashes.
//!
//! In: offsets with hashes, of one topic. Out: a [`Verdict`] each, or nothing if the brokers did not answer in time.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    types::RDKafkaErrorCode,
};

use crate::{
    client::{self, Connection, Listener},
    plan::Verdict,
    settings::{LastRead, Settings, record_hash},
};

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A record that is not there any more is no proof of anything: retention and compaction remove records.
pub(crate) fn last_reads(
    settings: &Settings,
    connection: &Arc<Connection>,
    topic: &str,
    lasts: &[(i32, LastRead)],
) -> Option<BTreeMap<i32, Verdict>> {
    let mut verdicts = BTreeMap::new();
    if lasts.is_empty() {
        return Some(verdicts);
    }
    let consumer = client::verifier(settings, Listener(connection.clone())).ok()?;
    let mut list = TopicPartitionList::new();
    for (number, last) in lasts {
        list.add_partition_offset(topic, *number, Offset::Offset(last.offset)).ok()?;
    }
    consumer.assign(&list).ok()?;
    let deadline = Instant::now() + PATIENCE;
    while verdicts.len() < lasts.len() && Instant::now() < deadline {
        next(&consumer, lasts, &mut verdicts);
    }
    (verdicts.len() == lasts.len()).then_some(verdicts)
}

fn next(consumer: &BaseConsumer<Listener>, lasts: &[(i32, LastRead)], verdicts: &mut BTreeMap<i32, Verdict>) {
    match consumer.poll(Duration::from_millis(50)) {
        Some(Ok(message)) => {
            let Some((number, last)) = lasts.iter().find(|(number, _)| *number == message.partition()) else {
                return;
            };
            let other = message.offset() == last.offset && record_hash(message.payload()) != last.hash;
            verdicts.entry(*number).or_insert(if other { Verdict::Different } else { Verdict::Credible });
        }
        Some(Err(KafkaError::PartitionEOF(number))) => {
            verdicts.entry(number).or_insert(Verdict::Credible);
        }
        // One of them is out of range: it ends before the record (which the end offsets show) or begins after it.
        Some(Err(e)) if e.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) => {
            for (number, _) in lasts {
                verdicts.entry(*number).or_insert(Verdict::Credible);
            }
        }
        Some(Err(_)) | None => {}
    }
}
