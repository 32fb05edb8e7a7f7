//! Placement, progress and order: the stateful half of the kernel.
//!
//! In: [`Detected`] batches and idle proofs, in any interleaving of partitions. Out: [`Output`].
//! Invariants: an event's time is a function of its record (and of a stored placement, if there is one); nothing is
//! released that a later record could still precede; every placement that is no function of its record is in the
//! output before anything that rests on it.

use std::{collections::BTreeMap, sync::Arc};

use vedette_correlate::{Correlator, Origin, Routed, WaitingBudget};
use vedette_event::{
    DeadLetter, Flags, Micros, Partition, PlacedBatch, RuleIx, SourceIx, Span, StoredPlacement, TopicIx,
    place,
};

use crate::{
    KEY_GROUPS,
    checkpoint::{self, GivenUp, GroupCheckpoint, POSITIONS, PartitionPoint, PartitionStart},
    compiled::Compiled,
    detector::{Detected, DetectedBatch, RecordTime},
    error::Error,
    files::Undated,
    former::Former,
    partition::{Mark, PartitionState},
    standing::Standing,
};

/// How the kernel runs.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// Keys the hashes of state.
    pub secret: [u8; 32],
    /// `S`: allowance for clocks and replication.
    pub skew: Span,
    /// Whether notices are wanted.
    pub notices: bool,
    /// What may be remembered of unreleased events for notices, in entries of [`vedette_correlate::NOTICE_ENTRY`] bytes.
    pub notice_budget: usize,
    /// Bytes for the keys of all rules.
    pub state: usize,
    /// Findings that may wait, for live sources and for such as stand still (`correlate`, `waiting`).
    pub waiting: WaitingBudget,
    /// Findings that come before anything is released again, unless [`Engine::catch_up`] asks: few over 64 key groups cost more each.
    pub release_after: usize,
    /// Alerts in an output from which on a release stops at the next time, until [`Engine::go_on`] or the next batch.
    pub alerts_at_once: usize,
}

impl EngineSettings {
    /// The defaults, with a secret.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        Self {
            secret,
            skew: Span::secs(5),
            notices: false,
            notice_budget: 1 << 20,
            state: 1 << 30,
            waiting: WaitingBudget { pause: 4_000_000, refuse: 5_000_000 },
            release_after: 0,
            alerts_at_once: usize::MAX,
        }
    }
}

/// What the kernel has to say since it was last asked.
#[derive(Debug, Default)]
pub struct Output {
    /// Alerts, notices and health events.
    pub correlated: vedette_correlate::Correlated,
    /// Records that ended unevaluated.
    pub dead: Vec<DeadLetter>,
    /// Placements to store before `correlated` is published.
    pub placements: Vec<StoredPlacement>,
}

/// What was seen of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SourceCounters {
    /// Records read, dead letters included.
    pub records: u64,
    /// Events evaluated.
    pub events: u64,
    /// Records or events that ended as dead letters.
    pub dead: u64,
    /// Events by flag, in the order of [`Flags::CLOCK`].
    pub flagged: [u64; 5],
}

/// What was counted of one partition since the process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartitionCounters {
    /// Events.
    pub events: u64,
    /// Events by flag, in the order of [`Flags::CLOCK`].
    pub flagged: [u64; 5],
}

/// The kernel's state.
#[derive(Debug)]
pub struct Engine {
    pub(crate) compiled: Arc<Compiled>,
    pub(crate) settings: EngineSettings,
    pub(crate) correlator: Correlator,
    pub(crate) partitions: BTreeMap<Partition, PartitionState>,
    pub(crate) standing: Standing,
    /// Topics of which partitions are known that could not be begun yet.
    pub(crate) awaited: BTreeMap<TopicIx, SourceIx>,
    /// Records read since what waits for standing sources was last looked at.
    pub(crate) unlooked: usize,
    /// What the checkpoints that were taken up say of partitions.
    taken_up: Vec<(u8, PartitionPoint)>,
    /// While true, nothing is released.
    pub(crate) held: bool,
    pub(crate) unfinished: bool,
    /// Watermarks may have risen since the last release.
    pub(crate) behind: bool,
    /// By key group: the resume points of its last checkpoint, which no later one may fall behind.
    resumes: Vec<BTreeMap<Partition, Mark>>,
    former: Former,
    stored: BTreeMap<(Partition, i64), Micros>,
    /// Files of which no time was read yet, or too late.
    pub(crate) undated: BTreeMap<Partition, Undated>,
    /// By source: below this, everything was released.
    pub(crate) watermarks: Vec<Micros>,
    /// By source: its watermark before the restart. Nothing new may be placed below it.
    floors: Vec<Micros>,
    pub(crate) counters: Vec<SourceCounters>,
    by_partition: BTreeMap<Partition, PartitionCounters>,
    /// Events that matched, by rule.
    pub(crate) matched: Vec<u64>,
    /// By version, by its own rules: their numbers among all.
    pub(crate) numbers: Vec<Vec<RuleIx>>,
}

impl Engine {
    /// An empty kernel.
    #[must_use]
    pub fn new(compiled: Arc<Compiled>, settings: EngineSettings) -> Self {
        let correlate = vedette_correlate::CorrelatorSettings {
            secret: settings.secret,
            notices: settings.notices,
            notice_budget: settings.notice_budget,
            state: settings.state,
            waiting: settings.waiting,
        };
        debug_assert_eq!(compiled.secret(), settings.secret, "detectors hash keys with the same secret");
        let sources = compiled.sources.defs.len();
        Self {
            correlator: Correlator::new(compiled.plan.clone(), compiled.topics.clone(), correlate),
            partitions: BTreeMap::new(),
            standing: Standing::new(sources),
            awaited: BTreeMap::new(),
            unlooked: 0,
            taken_up: Vec::new(),
            held: false,
            unfinished: false,
            behind: false,
            former: Former::default(),
            resumes: vec![BTreeMap::new(); usize::from(KEY_GROUPS)],
            stored: BTreeMap::new(),
            undated: BTreeMap::new(),
            watermarks: vec![Micros::MIN; sources],
            floors: vec![Micros::MIN; sources],
            counters: vec![SourceCounters::default(); sources],
            by_partition: BTreeMap::new(),
            matched: vec![0; compiled.rules.rules.len()],
            numbers: compiled.numbers(),
            compiled,
            settings,
        }
    }

    /// Takes the placements that were stored, so that the same records are placed the same.
    pub fn remember_placements(&mut self, placements: &[StoredPlacement]) {
        for p in placements.iter().filter(|p| p.flag.has(Flags::CLOCK_OVERTAKEN)) {
            if let Some(topic) = self.compiled.topics.find(&p.topic) {
                self.stored.insert((Partition { topic, number: p.partition }, p.offset), p.time);
            }
        }
    }

    /// Takes up a checkpoint that the store has. All of them are taken up, one after the other so that only one need be in
    /// memory, before [`Engine::starts`] says where to begin; nothing may be read before.
    ///
    /// # Errors
    /// If it is damaged; then nothing has changed.
    pub fn take_up(&mut self, checkpoint: &GroupCheckpoint) -> Result<(), Error> {
        let (partitions, state) = checkpoint::read(checkpoint)?;
        if checkpoint.group != POSITIONS {
            self.correlator
                .restore(checkpoint.group, state)
                .map_err(|e| Error::Checkpoint { group: checkpoint.group, reason: e.to_string() })?;
        }
        if let Some(resumes) = self.resumes.get_mut(usize::from(checkpoint.group)) {
            *resumes = checkpoint::marks(&partitions, &self.compiled.topics);
        }
        self.taken_up.extend(partitions.into_iter().map(|point| (checkpoint.group, point)));
        Ok(())
    }

    /// Where to start, from all that was taken up, and what was given up because its topic was accepted anew. Called once,
    /// before anything is read.
    ///
    /// `source_of` names the source of a topic; partitions of topics that have none are forgotten.
    pub fn starts(
        &mut self,
        source_of: impl Fn(&str) -> Option<SourceIx>,
    ) -> (Vec<PartitionStart>, Vec<GivenUp>) {
        let points = std::mem::take(&mut self.taken_up);
        // A topic that is another one now does not take back what was released with the one before.
        for (topic, floor) in checkpoint::floors(&points) {
            if let Some(source) = source_of(&topic) {
                let known = &mut self.floors[usize::from(source.0)];
                *known = floor.max(*known);
            }
        }
        let merged = checkpoint::merge(&points, &self.compiled.topics);
        let mut starts = Vec::new();
        for ((name, number), m) in merged {
            let Some(topic) = self.compiled.topics.find(&name) else { continue };
            let Some(source) = source_of(&name) else { continue };
            let state = PartitionState::resumed(source, &m);
            self.partitions.insert(Partition { topic, number }, state);
            let last_read = (m.read_before > 0).then(|| (m.read_before - 1, m.last_hash));
            let (offset, max_log) = (m.offset, m.max_log);
            starts.push(PartitionStart { topic: name, partition: number, offset, max_log, last_read });
        }
        (starts, checkpoint::given_up(&points, &self.compiled.topics))
    }

    /// Takes a topic as its next incarnation: nothing is known of its partitions, and its source waits until they are.
    /// What was found in the one before and is not released yet stays, and stays of that one; what a restart was still to read
    /// again is given up. Gives the rules over the topics as they are now.
    pub fn accept(&mut self, topic: TopicIx, source: SourceIx) -> (Arc<Compiled>, Vec<GivenUp>) {
        let incarnation = self.compiled.topics.incarnation(topic);
        let mut given_up = Vec::new();
        for (partition, state) in self.partitions.iter().filter(|(partition, _)| partition.topic == topic) {
            let name = |(of, _): Origin| self.compiled.topics.name(of.topic).clone();
            given_up.extend(self.former.close((*partition, incarnation), state, name));
        }
        self.compiled = self.compiled.with_topics(self.compiled.topics.accepted(topic));
        self.partitions.retain(|partition, _| partition.topic != topic);
        self.stored.retain(|(partition, _), _| partition.topic != topic);
        for resumes in &mut self.resumes {
            resumes.retain(|partition, _| partition.topic != topic);
        }
        self.awaited.remove(&topic);
        self.expect(topic, source);
        (self.compiled.clone(), given_up)
    }

    /// Says that a partition exists and is read from `offset` on: from now on its source waits for it.
    pub fn assign(&mut self, partition: Partition, source: SourceIx, offset: i64) {
        let state = self.partitions.entry(partition).or_insert_with(|| PartitionState::new(source, offset));
        state.skip_to(offset);
    }

    /// Takes an end-offset query, sent at wall time `sent_at`, that showed nothing unread.
    pub fn idle(&mut self, partition: Partition, sent_at: Micros, out: &mut Output) {
        if let Some(state) = self.partitions.get_mut(&partition) {
            state.idle(sent_at);
            self.release(out);
        }
    }

    /// Takes one evaluated batch of an assigned partition, its records following those taken before.
    pub fn absorb(&mut self, detected: Detected, out: &mut Output) {
        let Detected { source, partition, records, batches, dead, last_hash } = detected;
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return };
        self.assign(partition, source, first.offset);
        let counters = &mut self.counters[usize::from(source.0)];
        counters.records += records.len() as u64;
        counters.dead += dead.len() as u64;
        out.dead.extend(dead);
        let from_file = first.ts_log.is_none();
        let before = if from_file { Vec::new() } else { self.highest_before(partition, &records) };
        if let Some(state) = self.partitions.get_mut(&partition) {
            state.mark(first.offset);
        }
        for batch in batches {
            if from_file {
                self.date(partition, batch, &records, out);
                continue;
            }
            let rows = batch.events.records.clone();
            let record = |row: usize| rows.get(row).map(|at| *at as usize);
            let log = |row: usize| {
                let ts_log = record(row).and_then(|at| records.get(at)?.ts_log).unwrap_or(Micros(0));
                (ts_log, record(row).and_then(|at| before.get(at).copied().flatten()))
            };
            let Some((mut placed, routed)) = self.place_rows(batch, log, out) else { continue };
            for (row, flags) in placed.flags.iter_mut().enumerate() {
                let of_record = record(row).and_then(|at| records.get(at)).map_or(Flags::NONE, |r| r.flags);
                *flags = flags.with(of_record);
            }
            self.push(&placed, &routed, out);
        }
        if from_file {
            self.went_on(partition, &records, out);
        }
        if let Some(state) = self.partitions.get_mut(&partition) {
            records.iter().filter_map(|r| r.ts_log).for_each(|t| state.log_time(t));
            state.read(last.offset, last_hash);
        }
        self.release(out);
        self.bound_reading_again(records.len(), out);
    }

    /// For each record, the highest `ts_log` of its partition before it: watermarks rise record by record, so that
    /// nothing depends on where a batch ends.
    fn highest_before(&self, partition: Partition, records: &[RecordTime]) -> Vec<Option<Micros>> {
        let mut highest = self.partitions.get(&partition).and_then(|state| state.max_log);
        let before = records.iter().map(|record| {
            let before = highest;
            highest = highest.max(record.ts_log);
            before
        });
        before.collect()
    }

    /// Gives each event of a batch its place. `log` gives a row's `ts_log` and the highest before it.
    pub(crate) fn place_rows(
        &mut self,
        batch: DetectedBatch,
        log: impl Fn(usize) -> (Micros, Option<Micros>),
        out: &mut Output,
    ) -> Option<(PlacedBatch, Routed)> {
        let DetectedBatch { events, version, hits, routed } = batch;
        let def = self.compiled.versions().get(version)?.sources.get(events.source);
        let (late, future) = (def.disorder, def.future);
        let disorder = self.compiled.disorder(events.source);
        let source = usize::from(events.source.0);
        let gone_on = self.watermarks[source];
        let passed = gone_on.max(self.floors[source]);
        let others = self.reached_by_others(events.source, events.partition);
        let state = self.partitions.get_mut(&events.partition)?;
        let (mut times, mut flags) = (Vec::with_capacity(events.rows()), Vec::with_capacity(events.rows()));
        let mut moved = Vec::new();
        for row in 0..events.rows() {
            let offset = events.offsets()[row];
            let (ts_log, highest) = log(row);
            let mut placed = place(events.claimed(row), ts_log, late, future);
            let own = state.reached(highest, disorder, self.settings.skew);
            // What is read again keeps its place, since its source waits for it; unless that went on without it, as it does
            // while the topic is stopped.
            let again = offset < state.checked_from();
            let reached = if again { gone_on } else { passed.max(others.min(own)) };
            if let Some(&at) = self.stored.get(&(events.partition, offset)) {
                placed.time = placed.time.max(at);
                placed.flags = placed.flags.with(Flags::CLOCK_OVERTAKEN);
            } else if placed.time < reached {
                if again {
                    moved.push((row as u32, placed.time));
                }
                placed.time = reached;
                placed.flags = placed.flags.with(Flags::CLOCK_OVERTAKEN);
                out.placements.push(StoredPlacement {
                    topic: self.compiled.topics.name(events.partition.topic).clone(),
                    partition: events.partition.number,
                    offset,
                    flag: Flags::CLOCK_OVERTAKEN,
                    time: reached,
                });
            }
            let promised = highest.map(|t| t.minus(disorder).minus(self.settings.skew));
            if promised.is_some_and(|promised| placed.time < promised) {
                state.step_back(offset, placed.time);
            }
            times.push(placed.time);
            flags.push(placed.flags);
        }
        let incarnation = self.compiled.topics.incarnation(events.partition.topic);
        Some((PlacedBatch { events, version, incarnation, times, flags, moved, undated: 0, hits }, routed))
    }

    /// Hands a placed batch to the correlator.
    pub(crate) fn push(&mut self, placed: &PlacedBatch, routed: &Routed, out: &mut Output) {
        let counters = &mut self.counters[usize::from(placed.events.source.0)];
        let of_partition = self.by_partition.entry(placed.events.partition).or_default();
        let events = placed.events.rows() as u64;
        counters.events += events;
        of_partition.events += events;
        for flags in placed.flags.iter().filter(|flags| !flags.is_empty()) {
            let counts = counters.flagged.iter_mut().zip(&mut of_partition.flagged);
            for (flag, (of_source, of_partition)) in Flags::CLOCK.iter().zip(counts) {
                *of_source += u64::from(flags.has(*flag));
                *of_partition += u64::from(flags.has(*flag));
            }
        }
        if placed.hits.is_empty() {
            return;
        }
        self.count_matches(placed);
        self.correlator.push(placed, routed, &mut out.correlated);
    }

    /// The end of all files: every event is released, every timer fires, every episode ends.
    pub fn finish(&mut self, out: &mut Output) {
        for partition in self.partitions.keys().copied().collect::<Vec<_>>() {
            self.end(partition, out);
        }
        self.correlator.finish(&mut out.correlated);
    }

    /// Writes one key group's checkpoint. What lies below its watermark must have been published before, or be published with it.
    ///
    /// # Errors
    /// If it could not be read back; then nothing may be published any more.
    pub fn checkpoint(&mut self, group: u8) -> Result<GroupCheckpoint, Error> {
        let unreleased = self.correlator.unreleased(group);
        self.former.settle(group, &unreleased);
        let topics = &self.compiled.topics;
        if let Some(resumes) = self.resumes.get_mut(usize::from(group)) {
            for (partition, state) in &self.partitions {
                let from = match unreleased.get(&(*partition, topics.incarnation(partition.topic))) {
                    Some(&offset) => state.resume(offset),
                    None => state.position(),
                };
                // What is read again after a restart, this group has released: it need not be read a third time.
                let before = resumes.entry(*partition).or_insert(from);
                if before.offset < from.offset {
                    *before = from;
                }
            }
        }
        let resumes = self.resumes.get(usize::from(group));
        let points = self.points(&unreleased, |partition, state| {
            resumes.and_then(|r| r.get(partition)).copied().unwrap_or_else(|| state.position())
        });
        checkpoint::write(group, points, &self.correlator.checkpoint(group))
    }

    /// How far each partition was read and what its source had passed, to be stored with every publication of alerts or
    /// placements: a restart must not place a record below what was published.
    ///
    /// # Errors
    /// If they could not be read back; then nothing may be published any more.
    pub fn positions(&self) -> Result<GroupCheckpoint, Error> {
        let points = self.points(&BTreeMap::new(), |_, state| state.position());
        checkpoint::write(POSITIONS, points, &[])
    }

    fn points(
        &self,
        unreleased: &BTreeMap<Origin, i64>,
        from: impl Fn(&Partition, &PartitionState) -> Mark,
    ) -> Vec<PartitionPoint> {
        let topics = &self.compiled.topics;
        let empty = |(partition, incarnation): Origin, source: SourceIx| PartitionPoint {
            topic: topics.name(partition.topic).clone(),
            incarnation,
            partition: partition.number,
            began: 0,
            resume: 0,
            max_log: None,
            read_before: 0,
            newest_log: None,
            last_hash: [0; 32],
            floor: self.watermarks[usize::from(source.0)].max(self.floors[usize::from(source.0)]).0,
            stepped: None,
        };
        let point = |(partition, state): (&Partition, &PartitionState)| {
            let (from, read) = (from(partition, state), state.furthest());
            PartitionPoint {
                began: state.began(),
                resume: from.offset,
                max_log: from.max_log.map(|t| t.0),
                read_before: read.0,
                newest_log: state.newest_log().map(|t| t.0),
                last_hash: read.1,
                stepped: state.stepped().map(|stepped| (stepped.until, stepped.low.0)),
                ..empty((*partition, topics.incarnation(partition.topic)), state.source)
            }
        };
        let former = self.former.points(unreleased, empty);
        self.partitions.iter().map(point).chain(former).collect()
    }

    /// Forgets resume points that no group needs any more, and what nobody will read again. Called now and then.
    pub fn forget_released(&mut self) {
        let mut lowest: BTreeMap<Partition, i64> = BTreeMap::new();
        for group in 0..KEY_GROUPS {
            let current = |origin: &Origin| self.compiled.topics.incarnation(origin.0.topic) == origin.1;
            let unreleased = self.correlator.unreleased(group).into_iter();
            for ((partition, _), offset) in unreleased.filter(|(origin, _)| current(origin)) {
                lowest.entry(partition).and_modify(|low| *low = offset.min(*low)).or_insert(offset);
            }
        }
        let resumes = &self.resumes;
        self.former.forget(|(of, _)| resumes.iter().all(|m| m.keys().any(|known| known.topic == of.topic)));
        for (partition, state) in &mut self.partitions {
            state.forget_before(lowest.get(partition).copied().unwrap_or(state.next()));
            // A group that does not know the partition would read it from its start.
            let resume = self.resumes.iter().map(|marks| marks.get(partition).map(|mark| mark.offset)).min();
            if let Some(Some(offset)) = resume {
                state.forget_stepped_before(offset);
            }
        }
    }

    /// True if, from the group's last checkpoint, something would be read again or be given up.
    #[must_use]
    pub fn behind(&self, group: u8) -> bool {
        let known = self.resumes.get(usize::from(group));
        self.partitions.iter().any(|(partition, state)| {
            known.and_then(|marks| marks.get(partition)).is_none_or(|mark| mark.offset < state.next())
        }) || self.former.unsettled(group)
    }

    /// The group whose last checkpoint lies furthest back.
    #[must_use]
    pub fn furthest_back(&self) -> u8 {
        let read = |group: &u8| -> i128 {
            let known = self.resumes.get(usize::from(*group)).into_iter().flatten();
            known.map(|(_, mark)| i128::from(mark.offset)).sum()
        };
        (0..KEY_GROUPS).min_by_key(read).unwrap_or(0)
    }

    /// The highest `ts_log` that was ever read, as far as the checkpoints know.
    #[must_use]
    pub fn newest_log(&self) -> Option<Micros> {
        self.partitions.values().filter_map(PartitionState::newest_log).max()
    }

    /// The watermark of a source: everything below was released.
    #[must_use]
    pub fn watermark(&self, source: SourceIx) -> Micros {
        self.watermarks[usize::from(source.0)]
    }

    /// Below this time, a rule has said all that it will ever say; of one that reads no source, `Micros::MAX`.
    #[must_use]
    pub fn passed(&self, rule: RuleIx) -> Micros {
        self.correlator.passed(rule)
    }

    /// The watermark of a partition, once it has one.
    #[must_use]
    pub fn partition_watermark(&self, partition: Partition) -> Option<Micros> {
        let watermark = self.reached(self.partitions.get(&partition)?);
        (watermark != Micros::MIN).then_some(watermark)
    }

    /// What was counted of a partition.
    #[must_use]
    pub fn partition_counters(&self, partition: Partition) -> PartitionCounters {
        self.by_partition.get(&partition).copied().unwrap_or_default()
    }

    /// How many events matched a detection rule, whether it raises alerts itself or serves a correlation.
    #[must_use]
    pub fn matched(&self, rule: RuleIx) -> u64 {
        self.matched[rule.0 as usize]
    }

    /// What was seen of a source.
    #[must_use]
    pub fn counters(&self, source: SourceIx) -> SourceCounters {
        self.counters[usize::from(source.0)]
    }
}
