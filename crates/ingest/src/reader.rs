//! The thread that reads: records of all partitions, as they come, in batches onto the channel.
//!
//! In: the consumer's messages, the prober's answers, commands. Out: [`Ingested`]. Invariants: nothing is read while
//! the channel is full, so nothing is dropped and memory stays bounded; a batch leaves at once when there is nothing
//! more to read; an idle partition is named only after all its records.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, SendTimeoutError, Sender};
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::{KafkaError, KafkaResult},
    message::BorrowedMessage,
    types::RDKafkaErrorCode,
};
use vedette_event::{Micros, Partition, TopicIx};

use crate::{
    Clock, Error, Ingested, StatusChange,
    client::{self, Connection, Listener},
    heartbeat::Ended,
    lane::{Incoming, Lane, last_read},
    settings::{IngestSettings, OnLoss, TopicSettings},
    shared::{Answer, Ask, End, Progress, ReadFrom, Shared},
};

/// How long to wait for a record.
const POLL: Duration = Duration::from_millis(10);
/// The longest a record waits for others to fill its batch while further records keep coming.
const LINGER: Duration = Duration::from_millis(50);
/// How many records are taken between looks at commands and clocks.
const RUN: usize = 64;
/// How often positions are committed for lag monitors.
const COMMIT_EVERY: Duration = Duration::from_secs(5);

/// What the caller asks for.
#[derive(Debug)]
pub(crate) enum Command {
    Pause(Partition),
    Resume(Partition),
    Accept(TopicIx),
}

/// The channel's other end is gone, or it is time to stop.
struct Gone;

/// The thread's state.
pub(crate) struct Reader {
    settings: Arc<IngestSettings>,
    connection: Arc<Connection>,
    /// Shared only so that a record can be looked at while this thread's state changes.
    consumer: Arc<BaseConsumer<Listener>>,
    shared: Arc<Shared>,
    placements: BTreeMap<(Partition, i64), Micros>,
    lanes: Vec<Lane>,
    /// Partitions that are paused by command, read or not.
    paused: BTreeSet<Partition>,
    /// Topics that are away for now.
    stopped: BTreeSet<TopicIx>,
    /// Topics whose partitions were given up once.
    given_up: BTreeSet<TopicIx>,
    /// Topics of which it was told that they carry their producers' time.
    weaker: BTreeSet<TopicIx>,
    /// The lane of the last record.
    current: usize,
    outbox: VecDeque<Ingested>,
    out: Sender<Ingested>,
    commands: Receiver<Command>,
    answers: Receiver<Answer>,
    asks: Sender<Ask>,
    /// When the oldest record that waits in a lane came.
    waiting_since: Option<Instant>,
    commit_at: Instant,
    /// The last warning, so that it is told once.
    warned: Option<String>,
}

/// The channels of a reader.
pub(crate) struct Wires {
    pub out: Sender<Ingested>,
    pub commands: Receiver<Command>,
    pub answers: Receiver<Answer>,
    pub asks: Sender<Ask>,
}

impl Reader {
    pub fn new(
        settings: Arc<IngestSettings>,
        placements: BTreeMap<(Partition, i64), Micros>,
        connection: Arc<Connection>,
        shared: Arc<Shared>,
        wires: Wires,
    ) -> Result<Self, Error> {
        let consumer = Arc::new(client::reader(&settings, Listener(connection.clone()))?);
        let Wires { out, commands, answers, asks } = wires;
        Ok(Self {
            settings,
            connection,
            consumer,
            shared,
            placements,
            lanes: Vec::new(),
            paused: BTreeSet::new(),
            stopped: BTreeSet::new(),
            given_up: BTreeSet::new(),
            weaker: BTreeSet::new(),
            current: 0,
            outbox: VecDeque::new(),
            out,
            commands,
            answers,
            asks,
            waiting_since: None,
            commit_at: Instant::now() + COMMIT_EVERY,
            warned: None,
        })
    }

    /// Reads until told to stop, until nobody listens, or until it cannot ever work.
    pub fn run(mut self) {
        while self.turn().is_ok() {}
        self.commit();
        self.shared.stop();
    }

    fn turn(&mut self) -> Result<(), Gone> {
        if self.shared.stopping() {
            return Err(Gone);
        }
        while let Ok(command) = self.commands.try_recv() {
            self.obey(command);
        }
        self.deliver()?;
        if !self.outbox.is_empty() {
            self.shared.reader.waits();
            return Ok(());
        }
        self.shared.reader.moved();
        if let Some(error) = self.connection.refused() {
            return self.fail(error);
        }
        while let Ok(answer) = self.answers.try_recv() {
            self.hear(answer);
        }
        if Instant::now() >= self.commit_at {
            self.commit();
        }
        self.read()
    }

    /// Hands out what is in the outbox, waiting a little if the channel is full.
    fn deliver(&mut self) -> Result<(), Gone> {
        while let Some(item) = self.outbox.pop_front() {
            match self.out.send_timeout(item, POLL) {
                Ok(()) => self.shared.reader.moved(),
                Err(SendTimeoutError::Timeout(item)) => {
                    self.outbox.push_front(item);
                    return Ok(());
                }
                Err(SendTimeoutError::Disconnected(_)) => return Err(Gone),
            }
        }
        Ok(())
    }

    /// Says why it ends, waiting as long as anybody listens.
    fn fail(&mut self, error: Error) -> Result<(), Gone> {
        self.shared.reader.end(Ended::Failed(error.to_string()));
        self.outbox.push_back(Ingested::Failed(error));
        while !self.outbox.is_empty() && !self.shared.stopping() {
            self.deliver()?;
        }
        Err(Gone)
    }

    /// Takes a run of records.
    fn read(&mut self) -> Result<(), Gone> {
        let consumer = self.consumer.clone();
        for _ in 0..RUN {
            let patience = if self.waiting_since.is_some() { Duration::ZERO } else { POLL };
            match consumer.poll(patience) {
                None => {
                    self.flush_all();
                    return Ok(());
                }
                Some(Ok(message)) => self.take(&message),
                Some(Err(error)) => return self.trouble(&error),
            }
        }
        if self.waiting_since.is_some_and(|since| since.elapsed() > LINGER) {
            self.flush_all();
        }
        Ok(())
    }

    fn take(&mut self, message: &BorrowedMessage<'_>) {
        let (name, number) = (message.topic(), message.partition());
        let is_lane = |lane: &Lane| lane.partition.number == number && *lane.topic.name == *name;
        if !self.lanes.get(self.current).is_some_and(is_lane) {
            // A topic that is not read any more can still have records on the way.
            let Some(at) = self.lanes.iter().position(is_lane) else { return };
            self.current = at;
        }
        let payload = message.payload();
        if self.lanes[self.current].full(payload) {
            self.flush(self.current);
        }
        let record = Incoming { offset: message.offset(), timestamp: message.timestamp(), payload };
        match self.lanes[self.current].take(record, &self.placements) {
            Ok(placed) => {
                self.outbox.extend(placed.map(Ingested::Placed));
                self.waiting_since.get_or_insert_with(Instant::now);
            }
            Err(error) => {
                self.flush(self.current);
                let topic = self.lanes[self.current].partition.topic;
                self.give_up(topic, error);
                self.ask(Ask::Forget(topic));
            }
        }
    }

    fn flush_all(&mut self) {
        self.waiting_since = None;
        for at in 0..self.lanes.len() {
            self.flush(at);
        }
    }

    fn flush(&mut self, at: usize) {
        let lane = &mut self.lanes[at];
        let Some(batch) = lane.batch() else { return };
        if let Some(progress) = self.shared.partitions().get_mut(&lane.partition) {
            progress.position = lane.next;
            progress.handed_on += batch.records.len() as u64;
            progress.last_ts_log = batch.records.last().and_then(|r| r.ts_log);
            progress.last = last_read(&batch).or(progress.last);
            progress.clock = lane.newest;
        }
        if lane.newest == Some(Clock::Producer) && self.weaker.insert(lane.partition.topic) {
            self.outbox.push_back(Ingested::StatusChange(StatusChange::ProducerTime(lane.partition.topic)));
        }
        self.outbox.push_back(Ingested::Batch(batch));
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Pause(partition) => self.set_paused(partition, true),
            Command::Resume(partition) => self.set_paused(partition, false),
            Command::Accept(topic) => {
                self.drop_lanes(topic);
                self.placements.retain(|(partition, _), _| partition.topic != topic);
                self.outbox.push_back(Ingested::Accepted(topic));
                self.ask(Ask::Accept(topic));
            }
        }
    }

    fn set_paused(&mut self, partition: Partition, paused: bool) {
        if paused {
            self.paused.insert(partition);
        } else {
            self.paused.remove(&partition);
        }
        let Some(lane) = self.lanes.iter().find(|lane| lane.partition == partition) else { return };
        let mut list = TopicPartitionList::new();
        list.add_partition(&lane.topic.name, partition.number);
        let done = if paused { self.consumer.pause(&list) } else { self.consumer.resume(&list) };
        match done {
            Ok(()) => {
                if let Some(progress) = self.shared.partitions().get_mut(&partition) {
                    progress.paused = paused;
                }
            }
            Err(error) => self.warn(&error.to_string()),
        }
    }

    fn hear(&mut self, answer: Answer) {
        match answer {
            Answer::Connected => self.tell(StatusChange::Connected),
            Answer::Unreachable(error) => self.tell(StatusChange::Unreachable(error)),
            Answer::TopicReady(topic) => {
                // It may have been away, and librdkafka may have given its partitions up.
                let lanes = (0..self.lanes.len()).filter(|at| self.lanes[*at].partition.topic == topic);
                let away = self.stopped.remove(&topic);
                self.reassign(&if away { lanes.collect::<Vec<_>>() } else { Vec::new() });
                self.tell(StatusChange::TopicReady(topic));
            }
            Answer::TopicStopped(topic, error) if error.retryable() => {
                self.stopped.insert(topic);
                self.tell(StatusChange::TopicStopped(topic, error));
            }
            Answer::TopicStopped(topic, error) => self.give_up(topic, error),
            Answer::Begin { topic, starts } => self.begin(&topic, &starts),
            Answer::Awaited { topic, numbers } => {
                self.outbox.push_back(Ingested::Awaited { topic, numbers });
            }
            Answer::Lost { partition, from, to } => {
                self.outbox.push_back(Ingested::Lost { partition, from, to })
            }
            Answer::Ends { sent_at, ends, checked } => self.judge(sent_at, &ends, checked),
        }
    }

    /// Adds partitions of one topic. An answer from before the topic was accepted may have begun them already.
    fn begin(&mut self, topic: &TopicSettings, starts: &[ReadFrom]) {
        self.remove_lanes(|partition| {
            partition.topic == topic.topic && starts.iter().any(|start| start.number == partition.number)
        });
        let first = self.lanes.len();
        for start in starts {
            let mut lane = Lane::new(topic.clone(), self.settings.allowance, *start);
            let ReadFrom { offset, lost, .. } = *start;
            lane.current = !self.given_up.contains(&lane.partition.topic);
            let partition = lane.partition;
            if self.settings.held {
                self.paused.insert(partition);
            }
            if let Some((from, to)) = lost {
                self.outbox.push_back(Ingested::Lost { partition, from, to });
            }
            self.outbox.push_back(Ingested::Assigned { partition, offset });
            let progress = Progress {
                topic: topic.name.clone(),
                position: offset,
                handed_on: 0,
                end: None,
                log_start: None,
                last_ts_log: None,
                paused: self.paused.contains(&partition),
                last: None,
                clock: None,
            };
            self.shared.partitions().insert(partition, progress);
            self.lanes.push(lane);
        }
        self.assign(&(first..self.lanes.len()).collect::<Vec<_>>());
    }

    /// Has librdkafka read these lanes from where they stand.
    fn assign(&mut self, lanes: &[usize]) {
        let mut list = TopicPartitionList::new();
        let mut paused = TopicPartitionList::new();
        for lane in lanes.iter().filter_map(|at| self.lanes.get(*at)) {
            let (name, number) = (&lane.topic.name, lane.partition.number);
            if let Err(error) = list.add_partition_offset(name, number, Offset::Offset(lane.next)) {
                tracing::error!(topic = %name, partition = number, %error, "cannot assign");
            }
            if self.paused.contains(&lane.partition) {
                paused.add_partition(name, number);
            }
        }
        let mut done = self.consumer.incremental_assign(&list);
        if done.is_ok() && paused.count() > 0 {
            done = self.consumer.pause(&paused);
        }
        if let Err(error) = done {
            self.warn(&error.to_string());
        }
    }

    fn unassign(&self, lanes: &[usize]) {
        let mut list = TopicPartitionList::new();
        for lane in lanes.iter().filter_map(|at| self.lanes.get(*at)) {
            list.add_partition(&lane.topic.name, lane.partition.number);
        }
        if let Err(error) = self.consumer.incremental_unassign(&list) {
            tracing::debug!(%error, "cannot unassign");
        }
    }

    fn reassign(&mut self, lanes: &[usize]) {
        if !lanes.is_empty() {
            self.unassign(lanes);
            self.assign(lanes);
        }
    }

    /// Stops a topic until the caller decides.
    fn give_up(&mut self, topic: TopicIx, error: Error) {
        self.drop_lanes(topic);
        self.tell(StatusChange::TopicStopped(topic, error));
    }

    fn drop_lanes(&mut self, topic: TopicIx) {
        self.remove_lanes(|partition| partition.topic == topic);
        self.shared.partitions().retain(|partition, _| partition.topic != topic);
        self.given_up.insert(topic);
    }

    /// Lets librdkafka read some partitions no more, and forgets how far they were read.
    fn remove_lanes(&mut self, which: impl Fn(Partition) -> bool) {
        let lanes: Vec<usize> = (0..self.lanes.len()).filter(|at| which(self.lanes[*at].partition)).collect();
        if !lanes.is_empty() {
            self.unassign(&lanes);
            self.lanes.retain(|lane| !which(lane.partition));
        }
    }

    /// Judges end offsets: which partitions are idle, which have lost records.
    fn judge(&mut self, sent_at: Micros, ends: &[End], checked: bool) {
        self.flush_all();
        let read = self.consumer.position().unwrap_or_default();
        let mut again = Vec::new();
        let mut stop = Vec::new();
        let mut check = false;
        for end in ends {
            let Some(at) = self.lanes.iter().position(|lane| lane.partition == end.partition) else {
                continue;
            };
            let lane = &mut self.lanes[at];
            let passed =
                read.find_partition(&lane.topic.name, lane.partition.number).map(|elem| elem.offset());
            if let (Some(Offset::Offset(passed)), true) = (passed, lane.current) {
                // Beyond the last record by what is not for reading: control records and aborted ones.
                lane.next = lane.next.max(passed);
            }
            if let Some(progress) = self.shared.partitions().get_mut(&end.partition) {
                progress.position = lane.next;
                progress.end = Some(end.high);
                progress.log_start = end.low.or(progress.log_start);
            }
            if lane.next == end.high {
                self.outbox.push_back(Ingested::Idle { partition: end.partition, sent_at });
            }
            if !checked {
                check |= std::mem::take(&mut lane.unchecked);
                continue;
            }
            lane.unchecked = false;
            if lane.doubt.take() != Some(lane.next) {
                continue;
            }
            again.push(at);
            if let Some(to) = end.low.filter(|low| *low > lane.next) {
                let (partition, from) = (end.partition, lane.next);
                self.outbox.push_back(Ingested::Lost { partition, from, to });
                if lane.topic.on_loss == OnLoss::Stop {
                    let topic = lane.topic.name.clone();
                    stop.push((partition, Error::Lost { topic, partition, from, to }));
                } else {
                    // Else a restart would start before it, and report it once more.
                    self.outbox.push_back(Ingested::Assigned { partition, offset: to });
                    if let Some(progress) = self.shared.partitions().get_mut(&partition) {
                        // The kernel, too, counts anew from here.
                        progress.handed_on = 0;
                    }
                }
                lane.next = to;
            }
        }
        if checked {
            // librdkafka may have given these up, and nobody could say anything about them yet.
            for lane in &mut self.lanes {
                lane.unchecked = lane.doubt == Some(lane.next);
            }
        }
        if check {
            self.ask(Ask::Check);
        }
        self.reassign(&again);
        for (partition, error) in stop {
            self.give_up(partition.topic, error);
            self.ask(Ask::Forget(partition.topic));
        }
    }

    /// librdkafka reports an error of reading; it does not say of which partition.
    fn trouble(&mut self, error: &KafkaError) -> Result<(), Gone> {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            _ if matches!(error, KafkaError::MessageConsumptionFatal(_)) => {
                return self.fail(Error::Kafka { reason: error.to_string(), fatal: true });
            }
            Some(
                Code::AutoOffsetReset
                | Code::UnknownTopicOrPartition
                | Code::UnknownTopic
                | Code::UnknownPartition,
            ) => {
                for lane in &mut self.lanes {
                    lane.doubt = Some(lane.next);
                }
                self.ask(Ask::Check);
            }
            // The prober tells of these, and the group is for lag monitors only.
            Some(Code::Authentication | Code::GroupAuthorizationFailed) => {}
            _ if client::no_answer(error) => {}
            _ => self.warn(&error.to_string()),
        }
        Ok(())
    }

    fn ask(&self, ask: Ask) {
        if self.asks.send(ask).is_err() {
            tracing::debug!("the prober has ended");
        }
    }

    fn tell(&mut self, status: StatusChange) {
        if matches!(status, StatusChange::Connected) {
            self.warned = None;
        }
        self.outbox.push_back(Ingested::StatusChange(status));
    }

    fn warn(&mut self, reason: &str) {
        if self.warned.as_deref() != Some(reason) {
            self.warned = Some(reason.to_owned());
            self.tell(StatusChange::Warning(Error::Kafka { reason: reason.to_owned(), fatal: false }));
        }
    }

    /// Commits positions for lag monitors, if a group is asked for; best effort.
    fn commit(&mut self) {
        self.commit_at = Instant::now() + COMMIT_EVERY;
        if self.settings.group.is_none() || self.lanes.is_empty() {
            return;
        }
        if let Err(error) = self.commit_positions() {
            tracing::debug!(target: "kafka", %error, "cannot commit positions");
        }
    }

    fn commit_positions(&self) -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        for (partition, progress) in self.shared.partitions().iter() {
            list.add_partition_offset(&progress.topic, partition.number, Offset::Offset(progress.position))?;
        }
        self.consumer.commit(&list, CommitMode::Async)
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
