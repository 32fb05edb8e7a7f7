//! Is a topic still the one that was read before? Reads the records read last once more and compares their hashes.
//!
//! In: offsets with hashes, of one topic. Out: a [`Verdict`] each, or which partitions nobody answered for.
//! Invariant: a partition is let go once it is judged. One consumer has one queue for all of its partitions, and
//! librdkafka fills it with whatever lies behind the first record of the partition that answered first: with 1.2 M
//! records of backlog over 9 partitions the second one came after 13 s, the third after 27 s.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult},
    types::RDKafkaErrorCode,
};

use crate::{
    client::{self, Connection, Listener},
    plan::Verdict,
    settings::{IngestSettings, LastRead, record_hash},
    shared::Shared,
};

/// How long to wait for the next partition's answer: a broker that answers at all answers within milliseconds, and while
/// answers keep coming a topic of many partitions may take its time.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait for a partition's offsets.
const OFFSETS: Duration = Duration::from_secs(2);

/// Why there is no verdict for some partitions.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unjudged {
    /// No consumer could be had for it.
    #[error("the records read last cannot be looked at: {0}")]
    Client(String),
    /// These partitions did not answer in time.
    #[error("the records read last cannot be looked at: no answer for partition {}", list(.0))]
    NoAnswer(Vec<i32>),
}

/// Partition numbers for people, the first few.
pub(crate) fn list(numbers: &[i32]) -> String {
    // A topic may have thousands, and an operator needs to know which to begin with.
    const SHOWN: usize = 5;
    let shown: Vec<_> = numbers.iter().take(SHOWN).map(i32::to_string).collect();
    let more = numbers.len().saturating_sub(SHOWN);
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

/// A record that is not there any more is no proof of anything: retention and compaction remove records.
pub(crate) fn last_reads(
    settings: &IngestSettings,
    (connection, shared): (&Arc<Connection>, &Shared),
    topic: &str,
    lasts: &[(i32, LastRead)],
) -> Result<BTreeMap<i32, Verdict>, Unjudged> {
    if lasts.is_empty() {
        return Ok(BTreeMap::new());
    }
    let consumer = client::verifier(settings, Listener(connection.clone()))
        .map_err(|e| Unjudged::Client(e.to_string()))?;
    let open = lasts.iter().copied().collect();
    let mut verifier = Verifier { consumer, shared, topic, open, verdicts: BTreeMap::new() };
    verifier.assign().map_err(|e| Unjudged::Client(e.to_string()))?;
    let mut deadline = Instant::now() + PATIENCE;
    while !verifier.open.is_empty() && Instant::now() < deadline && !shared.stopping() {
        if verifier.next() {
            deadline = Instant::now() + PATIENCE;
        }
    }
    if verifier.open.is_empty() {
        Ok(verifier.verdicts)
    } else {
        Err(Unjudged::NoAnswer(verifier.open.into_keys().collect()))
    }
}

/// Looks at the records of one topic.
struct Verifier<'a> {
    consumer: BaseConsumer<Listener>,
    shared: &'a Shared,
    topic: &'a str,
    /// Partitions that are not judged yet.
    open: BTreeMap<i32, LastRead>,
    verdicts: BTreeMap<i32, Verdict>,
}

impl Verifier<'_> {
    fn assign(&self) -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        for (number, last) in &self.open {
            list.add_partition_offset(self.topic, *number, Offset::Offset(last.offset))?;
        }
        self.consumer.assign(&list)
    }

    /// Takes what comes next; true if a partition was judged.
    fn next(&mut self) -> bool {
        self.shared.prober.moved();
        let (number, read) = match self.consumer.poll(Duration::from_millis(50)) {
            Some(Ok(message)) => {
                (message.partition(), Some((message.offset(), record_hash(message.payload()))))
            }
            Some(Err(KafkaError::PartitionEOF(number))) => (number, None),
            Some(Err(e)) if e.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) => {
                return self.out_of_range();
            }
            Some(Err(error)) => {
                tracing::debug!(target: "kafka", topic = self.topic, %error, "verifying");
                return false;
            }
            None => return false,
        };
        let Some(last) = self.open.get(&number) else { return false };
        let other = read.is_some_and(|(offset, hash)| offset == last.offset && hash != last.hash);
        self.judge(number, if other { Verdict::Different } else { Verdict::Credible });
        true
    }

    /// librdkafka says that some partition does not reach from before its record to behind it, and not which: it ends
    /// before (which the end offsets show) or begins after it. The others are still to be looked at.
    fn out_of_range(&mut self) -> bool {
        let gone = |(number, last): (&i32, &LastRead)| {
            // Each may take seconds, and there may be hundreds.
            self.shared.prober.moved();
            if self.shared.stopping() {
                return None;
            }
            let (low, high) = self.consumer.fetch_watermarks(self.topic, *number, OFFSETS).ok()?;
            (!(low..high).contains(&last.offset)).then_some(*number)
        };
        let gone: Vec<i32> = self.open.iter().filter_map(gone).collect();
        gone.iter().for_each(|number| self.judge(*number, Verdict::Credible));
        !gone.is_empty()
    }

    fn judge(&mut self, number: i32, verdict: Verdict) {
        self.open.remove(&number);
        self.verdicts.insert(number, verdict);
        let mut list = TopicPartitionList::new();
        list.add_partition(self.topic, number);
        if let Err(error) = self.consumer.incremental_unassign(&list) {
            tracing::debug!(target: "kafka", topic = self.topic, number, %error, "cannot unassign");
        }
    }
}
