//! The kernel as the property test drives it: fed in any batches and interleavings, killed and restored.
//!
//! In: a [`World`] and a list of [`Step`]s. Out: every body published, as an upserting store would hold them.
//! Everything here is legitimate by the semantics (an idle proof's time is one at which the broker really had nothing
//! unread, a restart reads on from where the kernel says) unless a [`Fault`] is injected.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    sync::Arc,
};

use proptest::{prelude::*, sample};
use vedette_engine::{
    Compiled, Engine, EngineSettings, GivenUp, GroupCheckpoint, KEY_GROUPS, NewRevision, Output, POSITIONS,
    PartitionStart, TopicStanding, Version,
};
use vedette_event::{Flags, Micros, Notice, Order, Partition, RawBatchBuilder, RuleIx, Sources, TopicIx};
use vedette_sigma::RuleSet;
use vedette_simulate::Random;

use super::{
    detectors::{Detectors, Read, Taken, hands},
    generate::{self, SKEW, World, records::Raw},
    placement::Stored,
};

/// After everything: ten years later.
const END: i64 = 2_082_758_400_000_000;

const SECRET: [u8; 32] = [7; 32];

/// With a budget for notices, if they are wanted.
fn settings(notices: Option<usize>, releases: &Releases) -> EngineSettings {
    let settings = EngineSettings::new(SECRET);
    EngineSettings {
        notices: notices.is_some(),
        notice_budget: notices.unwrap_or(settings.notice_budget),
        release_after: releases.after,
        alerts_at_once: releases.at_once,
        ..settings
    }
}

/// When the kernel releases, how much at once, and on how many threads.
struct Releases {
    after: usize,
    at_once: usize,
    threads: usize,
    /// When it is asked to catch up, and which thread is first.
    random: Random,
}

impl Releases {
    /// As soon as something is due, and as little at once as can be.
    fn at_once() -> Self {
        Self { after: 0, at_once: 1, threads: 1, random: Random::new(0) }
    }

    fn engine(&mut self, compiled: &Arc<Compiled>, notices: Option<usize>) -> Engine {
        let mut engine = Engine::new(compiled.clone(), settings(notices, self));
        if self.threads > 1 {
            engine.share(hands(self.threads, Random::new(self.random.clone().bits())));
        }
        engine
    }
}

/// What a run did and said, in order, as far as it concerns notices.
#[derive(Debug, Clone)]
pub enum Said {
    /// Offsets of a partition were read.
    Read(Partition, RangeInclusive<i64>),
    /// A notice.
    Notice { rule: String, key: String, crossed_at: Micros },
    /// A first revision.
    Alert { rule: String, key: String, id: String, crossing: Order },
    /// The kernel died, and a new one began.
    Restart,
}

/// What is published at once.
#[derive(Debug)]
pub struct Round {
    pub notices: Vec<Notice>,
    pub alerts: Vec<NewRevision>,
    /// How far each rule has come.
    pub passed: Vec<(RuleIx, Micros)>,
}

impl Said {
    /// Whether it is the first revision of this alert.
    pub fn is_alert(&self, alert_id: &str) -> bool {
        matches!(self, Self::Alert { id, .. } if id == alert_id)
    }

    /// The time of a notice of this rule and key.
    pub fn notice(&self, of: &(String, String)) -> Option<Micros> {
        match self {
            Self::Notice { rule, key, crossed_at } if (rule, key) == (&of.0, &of.1) => Some(*crossed_at),
            _ => None,
        }
    }

    /// The crossing of an alert of this rule and key.
    pub fn crossing(&self, of: &(String, String)) -> Option<Micros> {
        match self {
            Self::Alert { rule, key, crossing, .. } if (rule, key) == (&of.0, &of.1) => Some(crossing.time),
            _ => None,
        }
    }

    /// Whether this event was read here.
    pub fn reads(&self, event: &Order) -> bool {
        matches!(self, Self::Read(partition, offsets) if *partition == event.partition() && offsets.contains(&event.offset))
    }
}

/// Something that happens to the kernel. Partitions are numbered among the world's logs, modulo their number.
#[derive(Debug, Clone)]
pub enum Step {
    /// So many records of a partition come, in one batch.
    Read(usize, usize),
    /// A partition is proved idle, as late as the records still to come allow, or this much later (up to `S`) or earlier.
    Idle(usize, i64),
    /// Every nth key group is checkpointed, from the first one given; n = 1: a clean checkpoint of all.
    Checkpoint(u8, u8),
    /// The kernel forgets resume points that nobody needs.
    Forget,
    /// The kernel dies; a new one starts from the stored checkpoints.
    Kill,
    /// The kernel dies, and an operator drops all checkpoints but what was passed, if that is there.
    Reset,
    /// The rules are read again: the next version of them, if there is one, in force so much above all that was read.
    Reload(i64),
    /// All partitions that are there by now are read and proved idle.
    Pass,
    /// Versions that nothing needs any more are noted, once all that was read is taken, or while it is with detectors; they are
    /// forgotten and dropped when all key groups were written.
    Outgrow(bool),
    /// An operator accepts the topic of this log anew, if the world has its next incarnation; of the one before, nothing more is
    /// read.
    Accept(usize),
}

/// What is done to the kernel that must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An idle proof an hour later than the truth.
    EarlyWatermark,
    /// The record at this place of this log is never handed over.
    Skipped(usize, usize),
    /// After a restart partitions are read on from where reading stopped, as if no finding had been pending.
    DroppedPending,
    /// The kernel takes what detectors give back as it comes.
    Overtaken,
}

/// Steps for a world of topics.
pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        10 => (0..8_usize, sample::select(vec![1_usize, 1, 2, 3, 7, 100])).prop_map(|(p, n)| Step::Read(p, n)),
        3 => (0..8_usize, sample::select(vec![0, SKEW, -3_600_000_000])).prop_map(|(p, by)| Step::Idle(p, by)),
        1 => (0..3_u8, 1..4_u8).prop_map(|(from, every)| Step::Checkpoint(from, every)),
        1 => Just(Step::Forget),
        2 => prop_oneof![3 => Just(Step::Kill), 1 => Just(Step::Reset)],
    ];
    prop::collection::vec(step, 0..60)
}

/// What the outside world holds: the store, and how far each partition was read.
pub struct Drive<'a> {
    world: &'a World,
    compiled: Arc<Compiled>,
    detectors: Detectors,
    engine: Engine,
    releases: Releases,
    fault: Option<Fault>,
    /// Whether a partition is only found when it is first read.
    found_late: bool,
    /// If not all topics are there from the beginning: those that are by now.
    appeared: Option<BTreeSet<TopicIx>>,
    /// By log: the position of the next record.
    next: Vec<usize>,
    /// By log: the position after the furthest record ever read.
    furthest: Vec<usize>,
    /// By log: the offset from which it is read.
    from: Vec<i64>,
    /// Logs of incarnations before the present ones, and how many of their records were read.
    closed: BTreeMap<usize, usize>,
    /// Versions of the rules to come.
    later: std::collections::VecDeque<(Arc<RuleSet>, Arc<Sources>)>,
    /// Those in force so far, all of them.
    pub versions: Vec<Arc<Version>>,
    /// Those that are stored.
    stored: Vec<Arc<Version>>,
    /// A change of versions is with detectors.
    changing: bool,
    /// So many of the oldest are outgrown, and these key groups are not written yet.
    outgrown: Option<(usize, BTreeSet<u8>)>,
    /// The latest idle proof.
    idle_until: i64,
    /// Restarts that would have given something up.
    pub spared: usize,
    notices: Option<usize>,
    checkpoints: BTreeMap<u8, GroupCheckpoint>,
    pub placements: Vec<Stored>,
    /// What it said, if notices are wanted.
    pub said: Vec<Said>,
    /// The same, as it would be published.
    pub rounds: Vec<Round>,
    /// Bodies by id and revision.
    pub bodies: BTreeMap<(String, u32), String>,
    /// The crossing events of alerts, as `scan` sorts by.
    order: BTreeSet<(vedette_event::Order, String, String, String)>,
    /// Dead letters by log and offset.
    pub dead: BTreeSet<(usize, i64)>,
}

impl<'a> Drive<'a> {
    /// Whether notices are wanted changes no body.
    pub fn new(world: &'a World, fault: Option<Fault>, notices: bool) -> Self {
        Self::with(world, fault, notices.then_some(1 << 20))
    }

    /// One that gives notices within a budget.
    pub fn announcing(world: &'a World, budget: usize) -> Self {
        Self::with(world, None, Some(budget))
    }

    fn with(world: &'a World, fault: Option<Fault>, notices: Option<usize>) -> Self {
        let sources = Arc::new(generate::sources());
        let compiled = Compiled::new(world.rules(), sources, world.topics(), SECRET);
        let detectors = Detectors::alone(&compiled);
        let versions = compiled.versions().to_vec();
        let mut drive = Self {
            world,
            engine: Releases::at_once().engine(&compiled, notices),
            releases: Releases::at_once(),
            detectors,
            compiled,
            fault,
            found_late: false,
            appeared: None,
            next: vec![0; world.logs.len()],
            furthest: vec![0; world.logs.len()],
            from: vec![0; world.logs.len()],
            closed: BTreeMap::new(),
            later: Default::default(),
            versions: versions.clone(),
            stored: versions,
            changing: false,
            outgrown: None,
            idle_until: i64::MIN,
            spared: 0,
            notices,
            checkpoints: BTreeMap::new(),
            placements: Vec::new(),
            said: Vec::new(),
            rounds: Vec::new(),
            bodies: BTreeMap::new(),
            order: BTreeSet::new(),
            dead: BTreeSet::new(),
        };
        drive.assign();
        drive
    }

    /// The same with the first of these versions, and the others to come; topics may be late, so that what reads them waits for them.
    pub fn with_versions(mut self, mut versions: Vec<(Arc<RuleSet>, Arc<Sources>)>, late: bool) -> Self {
        self.appeared = late.then(BTreeSet::new);
        let (rules, sources) = versions.remove(0);
        self.compiled = Compiled::new(rules, sources, self.world.topics(), SECRET);
        self.engine = self.releases.engine(&self.compiled, self.notices);
        self.detectors = Detectors::alone(&self.compiled);
        self.versions = self.compiled.versions().to_vec();
        (self.stored, self.later) = (self.versions.clone(), versions.into());
        self.assign();
        self
    }

    /// The same, releasing as rarely and as much at once as follows from a seed.
    pub fn releasing(mut self, seed: u64) -> Self {
        let mut random = Random::new(seed);
        self.releases.after = random.pick(&[0, 1, 2, 5, 50]);
        self.releases.at_once = random.pick(&[1, 3, usize::MAX]);
        self.releases.random = random;
        self.engine = self.releases.engine(&self.compiled, self.notices);
        self.assign();
        self
    }

    /// The same with so many threads, whose turns follow from a seed.
    pub fn on_threads(mut self, threads: usize, seed: u64) -> Self {
        self.releases.threads = threads;
        self.engine = self.releases.engine(&self.compiled, self.notices);
        self.assign();
        self.detectors =
            Detectors::new(&self.compiled, (threads, seed), self.fault == Some(Fault::Overtaken));
        self
    }

    /// Kafka: the steps, then everything that is left, then the proof that nothing more comes.
    pub fn run(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step);
        }
        self.read_all();
        for log in 0..self.world.logs.len() {
            while self.accept(log) {
                self.read_all();
            }
        }
        self.settle();
        self.assign();
        for log in 0..self.world.logs.len() {
            if self.is_present(log) {
                self.idle(log, END);
            }
        }
        self.settle();
    }

    fn read_all(&mut self) {
        while (0..self.world.logs.len()).any(|log| self.unread(log).next().is_some()) {
            (0..self.world.logs.len()).for_each(|log| self.read(log, 5));
        }
    }

    /// Whether a log is of its topic's present incarnation.
    fn is_present(&self, log: usize) -> bool {
        let topics = &self.compiled.topics;
        topics.incarnation(self.partition(log).topic) == self.world.logs[log].incarnation
    }

    /// Accepts the topic of a log as its next incarnation, if there is one. What was read before a kill is read again first.
    fn accept(&mut self, log: usize) -> bool {
        let topic = self.partition(log).topic;
        let next = self.compiled.topics.incarnation(topic) + 1;
        let of_topic = |of: &usize| self.partition(*of).topic == topic;
        let logs: Vec<usize> = (0..self.world.logs.len()).filter(of_topic).collect();
        if !logs.iter().any(|log| self.world.logs[*log].incarnation == next) {
            return false;
        }
        for log in &logs {
            self.read(*log, self.furthest[*log] - self.next[*log]);
            if self.is_present(*log) {
                self.closed.insert(*log, self.next[*log]);
            }
        }
        self.settle();
        self.catch_up();
        let positions = self.engine.positions().expect("written");
        self.checkpoints.insert(positions.group, positions);
        let (compiled, given_up) = self.engine.accept(topic, self.world.logs[log].source);
        assert_eq!(given_up, [], "all was read again");
        self.compiled = compiled;
        self.from
            .iter_mut()
            .zip(&self.world.logs)
            .filter(|(_, l)| l.incarnation == next)
            .for_each(|(f, _)| *f = 0);
        self.assign();
        let mut out = Output::default();
        self.engine.set_topic(topic, TopicStanding::Read, &mut out);
        self.publish(out);
        true
    }

    /// The world as far as it was read before topics were accepted anew.
    pub fn world_read(&self) -> World {
        let mut world = self.world.clone();
        for (log, read) in &self.closed {
            world.logs[*log].records.truncate(*read);
        }
        world
    }

    /// Kafka, as far as possible in the total order: whatever a step reads, it is the next event of all.
    pub fn run_in_order(&mut self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Read(_, most) => (0..*most).for_each(|_| self.read_next()),
                step => self.step(step),
            }
        }
        while (0..self.world.logs.len()).any(|log| self.unread(log).next().is_some()) {
            self.read_next();
        }
        for log in 0..self.world.logs.len() {
            self.idle(log, END);
        }
        self.settle();
    }

    /// Reads the one record that is first in the total order of those left.
    fn read_next(&mut self) {
        let next = |log: usize| {
            let raw = self.unread(log).next()?;
            Some((raw.ts_log, self.partition(log), raw.offset, log))
        };
        if let Some((.., log)) = (0..self.world.logs.len()).filter_map(next).min() {
            self.read(log, 1);
        }
    }

    /// Plain files: read in the interleaving of the steps, each to its end.
    pub fn scan(&mut self, steps: &[Step]) {
        for step in steps {
            if let Step::Read(log, most) = step {
                self.read(log % self.world.logs.len(), *most);
            }
        }
        for log in 0..self.world.logs.len() {
            self.read(log, usize::MAX);
            self.feed(Read::End(self.partition(log)));
        }
        self.settle();
        let mut out = Output::default();
        self.engine.finish(&mut out);
        self.publish(out);
    }

    /// The ids of all alerts in the order of `scan`.
    pub fn scanned(&self) -> Vec<String> {
        self.order.iter().map(|(.., id)| id.clone()).collect()
    }

    fn step(&mut self, step: &Step) {
        let logs = self.world.logs.len();
        match *step {
            Step::Read(log, most) => self.read(log % logs, most),
            // What was read before a kill lies in the log: until it was read again, no answer shows nothing unread.
            Step::Idle(log, _) if !self.is_present(log % logs) => {}
            Step::Idle(log, _) if self.next[log % logs] < self.furthest[log % logs] => {}
            Step::Idle(log, by) => {
                let log = log % logs;
                let nothing_before = self.unread(log).filter_map(|raw| raw.ts_log).min();
                let allowed = nothing_before.unwrap_or(generate::records::MIDNIGHT);
                let early = if self.fault == Some(Fault::EarlyWatermark) { 3_600_000_000 } else { 0 };
                self.idle(log, allowed + early + by);
            }
            Step::Checkpoint(from, every) => {
                let all = self.outgrown.is_some();
                for group in (from..KEY_GROUPS).step_by(usize::from(every)) {
                    // As the service does: one that would begin where reading stands has nothing to gain, unless a version is to go.
                    if all || self.engine.behind(group) {
                        self.checkpoints.insert(group, self.engine.checkpoint(group).expect("written"));
                    }
                    if let Some((_, unwritten)) = &mut self.outgrown {
                        unwritten.remove(&group);
                    }
                }
                if let Some((versions, _)) = self.outgrown.take_if(|(_, unwritten)| unwritten.is_empty()) {
                    // One change at a time; what is dropped is not stored any more.
                    self.stored.drain(..versions);
                    self.change(Read::Outgrown(versions));
                }
            }
            Step::Forget => self.engine.forget_released(),
            Step::Kill => self.restart(),
            // What was read of a topic before it was accepted anew cannot be built from its records any more.
            Step::Reset if !self.closed.is_empty() => {}
            Step::Reset => {
                if self.checkpoints.contains_key(&POSITIONS) {
                    self.checkpoints.retain(|group, _| *group == POSITIONS);
                }
                self.restart();
            }
            Step::Accept(log) => drop(self.accept(log % logs)),
            Step::Reload(above) => {
                if let Some((rules, sources)) = self.later.pop_front() {
                    let version = Box::new(Version::compile(rules, sources));
                    self.change(Read::Version(version, self.idle_until.saturating_add(1 + above)));
                }
            }
            Step::Pass => self.pass(),
            Step::Outgrow(settled) => {
                if settled {
                    self.settle();
                }
                let dropped = self.stored.len() < self.compiled.versions().len();
                let versions = if dropped || self.outgrown.is_some() { 0 } else { self.engine.outgrown() };
                if versions > 0 {
                    self.outgrown = Some((versions, (0..KEY_GROUPS).collect()));
                }
            }
        }
    }

    fn partition(&self, log: usize) -> Partition {
        let log = &self.world.logs[log];
        Partition { topic: self.compiled.topics.find(&log.topic).expect("listed"), number: log.partition }
    }

    /// A kernel that learns of each partition when it is first read.
    pub fn finding_late(world: &'a World) -> Self {
        let mut drive = Self::new(world, None, false);
        drive.engine = drive.releases.engine(&drive.compiled, None);
        drive.found_late = true;
        drive
    }

    fn assign(&mut self) {
        let present: Vec<usize> = (0..self.world.logs.len()).filter(|log| self.is_present(*log)).collect();
        for log in present {
            let (partition, source) = (self.partition(log), self.world.logs[log].source);
            if self.appeared.as_ref().is_some_and(|appeared| !appeared.contains(&partition.topic)) {
                self.engine.expect(partition.topic, source);
            } else {
                self.engine.assign(partition, source, self.from[log]);
            }
        }
    }

    /// All that is there by now is read, and nothing more.
    fn pass(&mut self) {
        let there = |log: &usize| {
            let appeared = self.appeared.as_ref();
            self.is_present(*log)
                && appeared.is_none_or(|topics| topics.contains(&self.partition(*log).topic))
        };
        for log in (0..self.world.logs.len()).filter(there).collect::<Vec<_>>() {
            self.read(log, usize::MAX);
            self.idle(log, generate::records::MIDNIGHT);
        }
    }

    /// The topic of a log is there, if it was not yet.
    fn appear(&mut self, log: usize) {
        let topic = self.partition(log).topic;
        if self.appeared.as_mut().is_some_and(|appeared| appeared.insert(topic)) {
            self.assign();
            let mut out = Output::default();
            self.engine.set_topic(topic, TopicStanding::Read, &mut out);
            self.publish(out);
        }
    }

    fn unread(&self, log: usize) -> impl Iterator<Item = &'a Raw> + use<'a> {
        let from = if self.is_present(log) { self.next[log] } else { usize::MAX };
        self.world.logs[log].records.get(from..).unwrap_or_default().iter()
    }

    fn read(&mut self, log: usize, most: usize) {
        self.appear(log);
        let first = self.next[log];
        let records: Vec<&Raw> = self.unread(log).take(most).collect();
        self.next[log] += records.len();
        self.furthest[log] = self.furthest[log].max(self.next[log]);
        if let (Some(_), Some(first), Some(last)) = (self.notices, records.first(), records.last()) {
            self.said.push(Said::Read(self.partition(log), first.offset..=last.offset));
        }
        let mut batch = RawBatchBuilder::new(self.world.logs[log].source, self.partition(log));
        for (at, raw) in records.into_iter().enumerate() {
            let payload = raw.payload.as_deref().map(str::as_bytes);
            // Ingest replaces a broker time ahead of its clock, and does so again when it reads again.
            let flags = if raw.forged.is_some() { Flags::CLOCK_BROKER } else { Flags::NONE };
            if self.fault != Some(Fault::Skipped(log, first + at)) {
                batch.push(raw.offset, raw.ts_log.map(Micros), flags, payload);
            }
        }
        if !batch.is_empty() {
            self.feed(Read::Records(batch.take()));
        }
    }

    fn idle(&mut self, log: usize, time: i64) {
        self.appear(log);
        self.idle_until = self.idle_until.max(time);
        self.feed(Read::Idle(self.partition(log), time));
    }

    /// Hands over what was read, and takes what is ready.
    fn feed(&mut self, read: Read) {
        for taken in self.detectors.feed(read) {
            self.take(taken);
        }
    }

    /// Hands over other versions; once those before have come to the kernel, as in the service.
    fn change(&mut self, read: Read) {
        if self.changing {
            self.settle();
        }
        self.changing = true;
        self.feed(read);
    }

    /// Takes all that is still with detectors.
    fn settle(&mut self) {
        for taken in self.detectors.settle() {
            self.take(taken);
        }
    }

    fn take(&mut self, taken: Taken) {
        let mut out = Output::default();
        let last = match taken {
            Taken::Records(detected) => {
                self.engine.absorb(detected, &mut out);
                false
            }
            Taken::Idle(partition, time) => {
                self.engine.idle(partition, Micros(time), &mut out);
                time == END
            }
            Taken::End(partition) => {
                self.engine.end(partition, &mut out);
                false
            }
            Taken::Versions(compiled) => {
                (self.compiled, self.changing) = (self.engine.adopt(&compiled), false);
                for version in self.compiled.versions() {
                    if self.versions.iter().all(|known| known.from < version.from) {
                        self.versions.push(version.clone());
                        self.stored.push(version.clone());
                    }
                }
                false
            }
        };
        self.publish(out);
        if last || self.releases.random.chance(20) {
            self.catch_up();
        }
        // What has stopped goes on with what is read next; in the end, by itself.
        let goes_on = |engine: &mut Engine, out: &mut Output| last && engine.go_on(out);
        let mut out = Output::default();
        while goes_on(&mut self.engine, &mut out) {
            self.publish(std::mem::take(&mut out));
        }
    }

    /// What waited to be released is released.
    fn catch_up(&mut self) {
        let mut out = Output::default();
        self.engine.catch_up(&mut out);
        self.publish(out);
    }

    /// A kernel that begins with what is stored.
    fn next_life(&mut self) -> (Arc<Compiled>, Engine, Vec<PartitionStart>, Vec<GivenUp>) {
        let compiled = Compiled::with_versions(self.stored.clone(), self.compiled.topics.clone(), SECRET);
        let mut engine = self.releases.engine(&compiled, self.notices);
        let topics = &self.compiled.topics;
        let present = self.placements.iter().filter(|(incarnation, placement)| {
            let topic = topics.find(&placement.topic).expect("listed");
            u32::from(topics.incarnation(topic)) == *incarnation
        });
        engine.remember_placements(&present.map(|(_, placement)| placement.clone()).collect::<Vec<_>>());
        for checkpoint in self.checkpoints.values() {
            engine.take_up(checkpoint).expect("a sound checkpoint");
        }
        let source_of = |topic: &str| self.world.logs.iter().find(|l| l.topic == topic).map(|l| l.source);
        let (starts, given_up) = engine.starts(source_of);
        (compiled, engine, starts, given_up)
    }

    /// Where the next life would have to say that something is given up, this one goes on: all that is promised of its bodies is
    /// that it says so.
    fn restart(&mut self) {
        let (compiled, engine, starts, given_up) = self.next_life();
        if !given_up.is_empty() {
            self.spared += 1;
            return;
        }
        self.said.push(Said::Restart);
        (self.compiled, self.engine) = (compiled, engine);
        (self.changing, self.outgrown) = (false, None);
        // What was read and not taken is read again.
        self.detectors.forget(&self.engine);
        for log in (0..self.world.logs.len()).filter(|log| self.is_present(*log)).collect::<Vec<_>>() {
            let of = &self.world.logs[log];
            let start = starts.iter().find(|s| *s.topic == *of.topic && s.partition == of.partition);
            // "A partition without a checkpoint starts at its log start."
            let mut offset = start.map_or(0, |s| s.offset);
            if self.fault == Some(Fault::DroppedPending) {
                offset = self.unread(log).next().map_or(i64::MAX, |raw| raw.offset);
            }
            self.from[log] = offset;
            self.next[log] = of.records.iter().position(|r| r.offset >= offset).unwrap_or(of.records.len());
        }
        self.assign();
    }

    /// As a store does: placements are kept, bodies upserted; one that comes again must be the same. What was passed goes
    /// with the alerts and placements that rest on it.
    fn publish(&mut self, out: Output) {
        if !out.correlated.alerts.is_empty() || !out.placements.is_empty() {
            let positions = self.engine.positions().expect("written");
            self.checkpoints.insert(positions.group, positions);
        }
        let topics = &self.compiled.topics;
        self.placements.extend(out.placements.into_iter().map(|placement| {
            let topic = topics.find(&placement.topic).expect("listed");
            (topics.incarnation(topic).into(), placement)
        }));
        for dead in out.dead {
            let mut present = (0..self.world.logs.len()).filter(|log| self.is_present(*log));
            let log = present.find(|log| self.partition(*log) == dead.partition);
            self.dead.insert((log.expect("assigned"), dead.offset));
        }
        if self.notices.is_some() {
            let passed = self.compiled.rules.iter().map(|(ix, _)| (ix, self.engine.passed(ix)));
            let passed = passed.collect();
            let (notices, alerts) = (out.correlated.notices.clone(), out.correlated.alerts.clone());
            self.rounds.push(Round { notices, alerts, passed });
        }
        for notice in out.correlated.notices {
            let key = serde_json::to_string(&notice.key).expect("JSON");
            let (rule, crossed_at) = (notice.rule.id.to_string(), notice.crossed_at);
            self.said.push(Said::Notice { rule, key, crossed_at });
        }
        for NewRevision { alert, crossing, .. } in out.correlated.alerts {
            let body = serde_json::to_string(&alert).expect("JSON");
            let key = serde_json::to_string(&alert.key).expect("JSON");
            let id = alert.alert_id.to_string();
            if self.notices.is_some() && alert.revision == 1 {
                let (rule, key, id) = (alert.rule.id.to_string(), key.clone(), id.clone());
                self.said.push(Said::Alert { rule, key, id, crossing });
            }
            self.order.insert((crossing, alert.rule.id.to_string(), key, id.clone()));
            let before = self.bodies.insert((id, alert.revision), body.clone());
            assert!(before.is_none_or(|before| before == body), "a body changed:\n{body}");
        }
    }
}
