//! The thread that asks the brokers: which partitions there are, where they begin and end, and whether a topic is
//! still the one that was read before.
//!
//! In: settings, the recovery positions, the reader's questions. Out: [`Answer`]s. It blocks on the network so that
//! the reader need not. Invariants: end offsets are the high watermarks (an open transaction is not idle), and the
//! time of a query is taken before it is sent; brokers that do not answer are asked again for ever.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult},
    types::RDKafkaErrorCode,
};
use vedette_event::{Partition, TopicIx};

use crate::{
    Error,
    client::{self, Connection, Listener},
    clock,
    ingested::Clock,
    plan::{self, Extent, ReadPlan, Verdict},
    settings::{IngestSettings, LastRead, Recovery, Resume, StartAt, TimeSource, TopicSettings},
    shared::{Answer, Ask, End, ReadFrom, Shared},
    topic_config,
    verify::{self, Unjudged},
};

/// How long to wait between queries of end offsets.
const PROBE_EVERY: Duration = Duration::from_millis(200);
/// How long to wait for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often partitions and log starts are looked up when all is well.
const REFRESH_EVERY: Duration = Duration::from_secs(5);
/// How often when something is missing.
const RETRY_EVERY: Duration = Duration::from_millis(500);
/// How long a topic that was read may be missing before it counts as deleted: a broker that has just started can be asked
/// before it has learnt of its topics.
const DELETED_AFTER: Duration = Duration::from_secs(10);

/// What is known about a topic.
struct Topic {
    settings: TopicSettings,
    /// Partitions that are read.
    known: BTreeMap<i32, Known>,
    state: TopicState,
    /// The partitions of which was said that they are there and not begun; nothing since it was accepted.
    awaited: Option<BTreeSet<i32>>,
    /// True once it has been seen or looked for: later partitions are new ones.
    looked: bool,
    /// Since when the brokers have not known it.
    missing_since: Option<Instant>,
    /// When it was last asked whose time it is set to, and whether that was the producers' against the settings.
    refused: Option<(Instant, bool)>,
}

/// What is known about a partition that is read.
#[derive(Default)]
struct Known {
    /// How often in a row it has ended below its position.
    short: u8,
    /// True if it had no leader when last looked up: asking for its end would only take time.
    leaderless: bool,
}

/// Whether a topic can be read.
enum TopicState {
    /// Not known yet.
    New,
    /// It is read.
    Ready,
    /// It cannot be read now, for the reason that was told.
    Waiting(String),
    /// It is not read until the caller decides.
    Stopped,
}

/// The thread's state.
pub(crate) struct Prober {
    settings: Arc<IngestSettings>,
    connection: Arc<Connection>,
    client: BaseConsumer<Listener>,
    shared: Arc<Shared>,
    answers: Sender<Answer>,
    asks: Receiver<Ask>,
    resumes: BTreeMap<Partition, Resume>,
    topics: Vec<Topic>,
    connected: Option<bool>,
    refreshed: Option<Instant>,
    /// True if the last look found nothing missing.
    complete: bool,
    /// True while the reader waits for a check.
    check: bool,
}

/// The receiver of the answers is gone.
struct Gone;

/// What became of the beginning of partitions.
enum Begun {
    /// They are read now, or their topic has stopped.
    All,
    /// None of them, for this reason.
    NotYet(String),
    /// None of them: no broker answers, which was told.
    NoBroker,
}

impl Prober {
    pub fn new(
        settings: Arc<IngestSettings>,
        recovery: &Recovery,
        connection: Arc<Connection>,
        shared: Arc<Shared>,
        answers: Sender<Answer>,
        asks: Receiver<Ask>,
    ) -> Result<Self, Error> {
        let client = client::prober(&settings, Listener(connection.clone()))?;
        let topic = |settings: &TopicSettings| Topic {
            settings: settings.clone(),
            known: BTreeMap::new(),
            state: TopicState::New,
            awaited: Some(BTreeSet::new()),
            looked: recovery.partitions.keys().any(|p| p.topic == settings.topic),
            missing_since: None,
            refused: None,
        };
        Ok(Self {
            topics: settings.topics.iter().map(topic).collect(),
            resumes: recovery.partitions.clone(),
            settings,
            connection,
            client,
            shared,
            answers,
            asks,
            connected: None,
            refreshed: None,
            complete: false,
            check: false,
        })
    }

    /// Asks until told to stop.
    pub fn run(mut self) {
        while !self.shared.stopping() {
            self.shared.prober.moved();
            if self.round().is_err() {
                return;
            }
            match self.asks.recv_timeout(PROBE_EVERY) {
                Ok(ask) => {
                    self.hear(ask);
                    while let Ok(ask) = self.asks.try_recv() {
                        self.hear(ask);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn hear(&mut self, ask: Ask) {
        match ask {
            Ask::Check => self.check = true,
            Ask::Forget(topic) => self.stop_topic(topic),
            Ask::Accept(topic) => {
                self.resumes.retain(|partition, _| partition.topic != topic);
                for known in self.topics.iter_mut().filter(|t| t.settings.topic == topic) {
                    known.known.clear();
                    known.awaited = None;
                    known.state = TopicState::New;
                    known.looked = true;
                }
                self.refreshed = None;
            }
        }
    }

    /// One look at everything.
    fn round(&mut self) -> Result<(), Gone> {
        while self.client.poll(Duration::ZERO).is_some() {}
        let every = if self.complete && !self.check { REFRESH_EVERY } else { RETRY_EVERY };
        let refresh = self.refreshed.is_none_or(|at| at.elapsed() >= every);
        let check = refresh && self.check;
        if refresh {
            self.complete = self.refresh(check)?;
            self.refreshed = Some(Instant::now());
        }
        let answered = self.connected == Some(true) && self.ends(refresh, check)?;
        self.check &= !(check && answered);
        Ok(())
    }

    /// Looks every topic up; true if nothing is missing.
    fn refresh(&mut self, check: bool) -> Result<bool, Gone> {
        let mut complete = true;
        for at in 0..self.topics.len() {
            if self.shared.stopping() {
                return Err(Gone);
            }
            self.shared.prober.moved();
            if matches!(self.topics[at].state, TopicState::Stopped) {
                continue;
            }
            let name = self.topics[at].settings.name.clone();
            match self.partitions(&name) {
                Ok(Ok(leaders)) => complete &= self.found(at, &leaders, check)?,
                Ok(Err(error)) => {
                    complete = false;
                    self.absent(at, error)?;
                }
                Err(error) => {
                    self.unreachable(&error)?;
                    return Ok(false);
                }
            }
        }
        Ok(complete)
    }

    /// The brokers do not know a topic, or refuse it. One that was read before is not given up at once.
    fn absent(&mut self, at: usize, error: Error) -> Result<(), Gone> {
        let topic = &mut self.topics[at];
        let since = *topic.missing_since.get_or_insert_with(Instant::now);
        let was_read =
            !topic.known.is_empty() || self.resumes.keys().any(|p| p.topic == topic.settings.topic);
        if was_read && matches!(error, Error::UnknownTopic { .. }) && since.elapsed() < DELETED_AFTER {
            let name = topic.settings.name.clone();
            return self.waiting(at, not_yet(&name, "the brokers do not know it just now".to_owned()));
        }
        self.waiting(at, error)
    }

    /// The partitions of a topic and whether each has a leader, or why there are none.
    fn partitions(&self, name: &Arc<str>) -> KafkaResult<Result<BTreeMap<i32, bool>, Error>> {
        let refused = |reason: String| Error::Topic { topic: name.clone(), reason };
        let metadata = match self.client.fetch_metadata(Some(name), PATIENCE) {
            Err(e) if !client::no_answer(&e) => return Ok(Err(not_yet(name, e.to_string()))),
            other => other?,
        };
        let Some(topic) = metadata.topics().iter().find(|t| t.name() == &**name) else {
            return Ok(Err(Error::UnknownTopic { topic: name.clone() }));
        };
        Ok(match topic.error().map(RDKafkaErrorCode::from) {
            None if topic.partitions().is_empty() => Err(Error::UnknownTopic { topic: name.clone() }),
            None => Ok(topic.partitions().iter().map(|p| (p.id(), p.leader() >= 0)).collect()),
            Some(
                RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition,
            ) => Err(Error::UnknownTopic { topic: name.clone() }),
            Some(code @ (RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::InvalidTopic)) => {
                Err(refused(code.to_string()))
            }
            Some(code) => Err(not_yet(name, code.to_string())),
        })
    }

    /// A topic is there: takes its new partitions up, and the known ones again if there is doubt. True if all are read.
    fn found(&mut self, at: usize, leaders: &BTreeMap<i32, bool>, check: bool) -> Result<bool, Gone> {
        self.reached()?;
        self.topics[at].missing_since = None;
        if let Some(error) = self.wrong_clock(at) {
            return self.waiting(at, error).map(|()| false);
        }
        let topic = &self.topics[at];
        let doubt = check || matches!(topic.state, TopicState::Waiting(_));
        let resumed = self.resumes.keys().filter(|p| p.topic == topic.settings.topic).map(|p| &p.number);
        if let Some(gone) = topic.known.keys().chain(resumed).find(|known| !leaders.contains_key(known)) {
            let partition = Partition { topic: topic.settings.topic, number: *gone };
            return self.recreated(at, partition, "it has fewer partitions now".to_owned()).map(|()| true);
        }
        if doubt && !topic.known.is_empty() {
            let lasts = self.lasts_read(topic);
            match self.verdicts(&topic.settings.name, &lasts) {
                Err(unjudged) => return self.untold(at, unjudged).map(|()| false),
                Ok(verdicts) => {
                    if let Some((number, _)) = verdicts.iter().find(|(_, v)| **v == Verdict::Different) {
                        let partition = Partition { topic: self.topics[at].settings.topic, number: *number };
                        let reason = "the record that was read last has another content now".to_owned();
                        return self.recreated(at, partition, reason).map(|()| true);
                    }
                }
            }
        }
        for (number, known) in &mut self.topics[at].known {
            known.leaderless = !leaders.get(number).copied().unwrap_or_default();
        }
        let (led, leaderless): (Vec<i32>, Vec<i32>) = leaders.keys().partition(|n| leaders[n]);
        let new: Vec<i32> = led.into_iter().filter(|n| !self.topics[at].known.contains_key(n)).collect();
        let begun = if new.is_empty() { Begun::All } else { self.begin(at, &new)? };
        let missing = match (begun, &leaderless[..]) {
            (Begun::NoBroker, _) => return Ok(false),
            (Begun::NotYet(reason), _) => Some(reason),
            (Begun::All, []) => None,
            (Begun::All, none) => Some(format!("no leader for partition {}", verify::list(none))),
        };
        let topic = &mut self.topics[at];
        self.shared.looked_up(topic.settings.topic, leaders.len(), missing.clone());
        if matches!(topic.state, TopicState::Stopped) {
            return Ok(true);
        }
        // Said before the topic is: nothing of its source may be released as if they did not exist.
        let awaited: BTreeSet<i32> =
            leaders.keys().filter(|number| !topic.known.contains_key(number)).copied().collect();
        if topic.awaited.as_ref() != Some(&awaited) {
            topic.awaited = Some(awaited.clone());
            let topic = topic.settings.topic;
            self.answer(Answer::Awaited { topic, numbers: awaited })?;
        }
        let topic = &mut self.topics[at];
        match missing.clone() {
            Some(reason) if topic.known.is_empty() || leaderless.len() == leaders.len() => {
                let error = not_yet(&topic.settings.name, reason);
                self.waiting(at, error)?;
            }
            _ if !matches!(topic.state, TopicState::Ready) => {
                topic.state = TopicState::Ready;
                let ready = Answer::TopicReady(topic.settings.topic);
                self.answer(ready)?;
            }
            _ => {}
        }
        Ok(missing.is_none())
    }

    /// Why a topic that is to have the brokers' time cannot be read, where that is known before its first record.
    fn wrong_clock(&mut self, at: usize) -> Option<Error> {
        let topic = &mut self.topics[at];
        let settings = &topic.settings;
        let open = matches!(topic.state, TopicState::New | TopicState::Waiting(_)) && topic.known.is_empty();
        if settings.time_source != TimeSource::Broker || !open {
            return None;
        }
        let known = topic.refused.filter(|(asked, refused)| !refused || asked.elapsed() < REFRESH_EVERY);
        let refused = known.map_or_else(
            || topic_config::clock(&self.settings, &self.connection, &settings.name) == Some(Clock::Producer),
            |(_, refused)| refused,
        );
        if known.is_none() {
            topic.refused = Some((Instant::now(), refused));
        }
        refused.then(|| Error::CreateTime { topic: settings.name.clone() })
    }

    fn verdicts(&self, topic: &str, lasts: &[(i32, LastRead)]) -> Result<BTreeMap<i32, Verdict>, Unjudged> {
        verify::last_reads(&self.settings, (&self.connection, &self.shared), topic, lasts)
    }

    /// Whether a topic that is read is still the same cannot be found out just now.
    fn untold(&mut self, at: usize, unjudged: Unjudged) -> Result<(), Gone> {
        let name = self.topics[at].settings.name.clone();
        self.waiting(at, not_yet(&name, unjudged.to_string()))
    }

    /// What the reader last read of a topic.
    fn lasts_read(&self, topic: &Topic) -> Vec<(i32, LastRead)> {
        let partitions = self.shared.partitions();
        let of_topic = partitions.iter().filter(|(p, _)| p.topic == topic.settings.topic);
        of_topic.filter_map(|(p, progress)| Some((p.number, progress.last?))).collect()
    }

    /// Plans new partitions, all before any.
    fn begin(&mut self, at: usize, numbers: &[i32]) -> Result<Begun, Gone> {
        let topic = &self.topics[at];
        let settings = topic.settings.clone();
        let start = if topic.looked { StartAt::Earliest } else { settings.start };
        let mut extents = Vec::new();
        for number in numbers {
            self.shared.prober.moved();
            match self.client.fetch_watermarks(&settings.name, *number, PATIENCE) {
                Ok((low, high)) => extents.push((*number, Extent { low, high })),
                Err(error) if client::no_answer(&error) => {
                    return self.unreachable(&error).map(|()| Begun::NoBroker);
                }
                Err(error) => {
                    return Ok(Begun::NotYet(format!("no offsets of partition {number}: {error}")));
                }
            }
        }
        let resume = |number| self.resumes.get(&Partition { topic: settings.topic, number });
        let lasts: Vec<_> = extents
            .iter()
            .filter_map(|(number, log)| Some((*number, *log, resume(*number)?.last?)))
            .filter(|(_, log, last)| (log.low..log.high).contains(&last.offset))
            .map(|(number, _, last)| (number, last))
            .collect();
        let verdicts = match self.verdicts(&settings.name, &lasts) {
            Ok(verdicts) => verdicts,
            Err(unjudged) => return Ok(Begun::NotYet(unjudged.to_string())),
        };
        let verdict = |number| verdicts.get(number).copied().unwrap_or(Verdict::Credible);
        let plans: Vec<_> = extents
            .iter()
            .map(|(n, log)| (*n, plan::begin(resume(*n), start, *log, verdict(n), settings.on_loss)))
            .collect();
        self.carry_out(at, plans)?;
        Ok(Begun::All)
    }

    /// Carries plans out; if one stops the topic, none of the others begins.
    fn carry_out(&mut self, at: usize, plans: Vec<(i32, ReadPlan)>) -> Result<(), Gone> {
        let settings = self.topics[at].settings.clone();
        self.topics[at].looked = true;
        let partition = |number| Partition { topic: settings.topic, number };
        for (number, plan) in &plans {
            let partition = partition(*number);
            match plan {
                ReadPlan::Read { .. } => {}
                ReadPlan::Recreated { reason } => return self.recreated(at, partition, reason.clone()),
                &ReadPlan::StopLost { from, to } => {
                    self.answer(Answer::Lost { partition, from, to })?;
                    let error = Error::Lost { topic: settings.name.clone(), partition, from, to };
                    return self.stopped(at, error);
                }
            }
        }
        let mut starts = Vec::new();
        for (number, plan) in plans {
            if let ReadPlan::Read { offset, lost } = plan {
                let resume = self.resumes.get(&partition(number));
                let log_max = resume.and_then(|r| r.log_max);
                let decided = resume.and_then(|r| r.last).map_or(0, |last| last.offset.saturating_add(1));
                self.topics[at].known.insert(number, Known::default());
                starts.push(ReadFrom { number, offset, decided, log_max, lost });
            }
        }
        self.answer(Answer::Begin { topic: settings, starts })
    }

    /// Asks where all partitions end (and begin), and hands it on; true if the brokers answered.
    fn ends(&mut self, lows: bool, checked: bool) -> Result<bool, Gone> {
        let mut list = TopicPartitionList::new();
        for topic in self.topics.iter().filter(|t| matches!(t.state, TopicState::Ready)) {
            for (number, _) in topic.known.iter().filter(|(_, known)| !known.leaderless) {
                list.add_partition(&topic.settings.name, *number);
            }
        }
        if list.count() == 0 {
            return Ok(false);
        }
        let positions: BTreeMap<Partition, i64> =
            self.shared.partitions().iter().map(|(p, progress)| (*p, progress.position)).collect();
        let sent_at = clock::now();
        let highs = match self.offsets(&list, Offset::End) {
            Ok(highs) => highs,
            Err(error) => return self.trouble(&error).map(|()| false),
        };
        self.reached()?;
        let lows =
            if lows { self.offsets(&list, Offset::Beginning).unwrap_or_default() } else { BTreeMap::new() };
        let ends: Vec<End> = highs
            .iter()
            .map(|(p, high)| End { partition: *p, high: *high, low: lows.get(p).copied() })
            .collect();
        for end in &ends {
            if let Some(position) = positions.get(&end.partition) {
                self.judge(end, *position)?;
            }
        }
        self.answer(Answer::Ends { sent_at, ends, checked }).map(|()| true)
    }

    /// All offsets of one kind in one query; partition by partition if that fails for a reason of one of them.
    fn offsets(&self, list: &TopicPartitionList, kind: Offset) -> KafkaResult<BTreeMap<Partition, i64>> {
        let mut asked = list.clone();
        asked.set_all_offsets(kind)?;
        let answer = match self.client.offsets_for_times(asked, PATIENCE) {
            Err(error) if client::no_answer(&error) => return Err(error),
            other => other.ok(),
        };
        let mut found = BTreeMap::new();
        for asked in list.elements() {
            let Some(topic) = self.topics.iter().find(|t| &*t.settings.name == asked.topic()) else {
                continue;
            };
            let partition = Partition { topic: topic.settings.topic, number: asked.partition() };
            let together = answer.as_ref().and_then(|a| a.find_partition(asked.topic(), asked.partition()));
            self.shared.prober.moved();
            if self.shared.stopping() {
                break;
            }
            let offset = match together {
                Some(elem) if elem.error().is_ok() => match elem.offset() {
                    Offset::Offset(offset) => Some(offset),
                    _ => None,
                },
                Some(_) => None,
                None => match self.client.fetch_watermarks(asked.topic(), asked.partition(), PATIENCE) {
                    Ok((low, high)) => Some(if kind == Offset::End { high } else { low }),
                    Err(_) => None,
                },
            };
            found.extend(offset.map(|offset| (partition, offset)));
        }
        Ok(found)
    }

    /// A partition that twice in a row ends below what was read before the query is not the one that was read.
    fn judge(&mut self, end: &End, position: i64) -> Result<(), Gone> {
        let Some(at) = self.topics.iter().position(|t| t.settings.topic == end.partition.topic) else {
            return Ok(());
        };
        let Some(known) = self.topics[at].known.get_mut(&end.partition.number) else { return Ok(()) };
        let Some(reason) = plan::recreated(position, end.high, Verdict::Credible) else {
            known.short = 0;
            return Ok(());
        };
        known.short += 1;
        if known.short >= 2 { self.recreated(at, end.partition, reason) } else { Ok(()) }
    }

    fn recreated(&mut self, at: usize, partition: Partition, reason: String) -> Result<(), Gone> {
        let topic = self.topics[at].settings.name.clone();
        self.stopped(at, Error::Recreated { topic, partition, reason })
    }

    fn stopped(&mut self, at: usize, error: Error) -> Result<(), Gone> {
        let topic = self.topics[at].settings.topic;
        self.stop_topic(topic);
        self.answer(Answer::TopicStopped(topic, error))
    }

    fn stop_topic(&mut self, topic: TopicIx) {
        for stopped in self.topics.iter_mut().filter(|t| t.settings.topic == topic) {
            stopped.known.clear();
            stopped.state = TopicState::Stopped;
        }
    }

    /// A topic cannot be read now; told once for each reason.
    fn waiting(&mut self, at: usize, error: Error) -> Result<(), Gone> {
        self.reached()?;
        let topic = &mut self.topics[at];
        topic.looked = true;
        let reason = error.to_string();
        if matches!(&topic.state, TopicState::Waiting(told) if *told == reason) {
            return Ok(());
        }
        topic.state = TopicState::Waiting(reason);
        let stopped = Answer::TopicStopped(topic.settings.topic, error);
        self.answer(stopped)
    }

    fn trouble(&mut self, error: &KafkaError) -> Result<(), Gone> {
        if client::no_answer(error) {
            return self.unreachable(error);
        }
        tracing::debug!(target: "kafka", %error, "no offsets yet");
        Ok(())
    }

    fn unreachable(&mut self, error: &KafkaError) -> Result<(), Gone> {
        self.complete = false;
        while self.client.poll(Duration::ZERO).is_some() {}
        if self.connected == Some(false) {
            return Ok(());
        }
        self.connected = Some(false);
        self.shared.set_connected(false);
        self.answer(Answer::Unreachable(self.connection.unreachable(error)))
    }

    fn reached(&mut self) -> Result<(), Gone> {
        self.connection.answered();
        if self.connected == Some(true) {
            return Ok(());
        }
        self.connected = Some(true);
        self.shared.set_connected(true);
        self.answer(Answer::Connected)
    }

    fn answer(&self, answer: Answer) -> Result<(), Gone> {
        let mut answer = answer;
        while !self.shared.stopping() {
            match self.answers.send_timeout(answer, PROBE_EVERY) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Timeout(unsent)) => {
                    self.shared.prober.waits();
                    answer = unsent;
                }
                Err(SendTimeoutError::Disconnected(_)) => break,
            }
        }
        Err(Gone)
    }
}

fn not_yet(topic: &Arc<str>, reason: String) -> Error {
    Error::NotYet { topic: topic.clone(), reason }
}
