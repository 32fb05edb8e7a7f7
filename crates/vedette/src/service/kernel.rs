//! The kernel's thread: records in, publications out.
//!
//! In: [`Ingested`] items over a bounded channel, their records evaluated by the [`Pipeline`]. Out: what is to be published, over the [`Outbox`].
//! Invariants: everything that the kernel says goes out in order (see the outbox), and a checkpoint holds nothing that does
//! not go before it; alerts go behind the positions they rest on; partitions too far ahead are paused; it never waits for
//! the publisher while it may still read; a clean stop ends with a checkpoint of every key group
//! that there is time for.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use crossbeam_channel::Receiver;
use tokio::sync::watch;
use vedette_correlate::{HealthSignal, NewRevision};
use vedette_engine::{Compiled, Detected, Engine, GivenUp, KEY_GROUPS, Output, TopicStanding};
use vedette_event::{DeadLetter, Flags, Notice, Partition, RawBatch, Severity, Span, TopicIx};
use vedette_ingest::{DeadLetterTopic, Ingest, Ingested, StatusChange};
use vedette_store::model::{
    AlertRevision, Checkpoint, HealthEvent, LostInterval, NewDeadLetter, NewIncarnation, NewNotice,
};

use super::{
    adopt::Adopter,
    costs::Costs,
    live::{View, Word},
    lost::TopicPartition,
    notices_due::NoticesDue,
    outbox::{Backlog, Offered, Outbox, Unwritten},
    present::Evaluated,
    supervisor::Stage,
    witness::Sightings,
};
use crate::pipeline::{NoStep, Pipeline, Step};

/// How long the kernel waits for records before it looks at the clock.
const WAIT: Duration = Duration::from_millis(10);
/// Checkpoint bytes written a second at most, so that state never crowds out alerts.
const CHECKPOINT_BYTES_A_SECOND: u64 = 4 << 20;
/// Checkpoint bytes in one publication, beyond those of its first group.
const CHECKPOINT_BYTES_AT_ONCE: u64 = 256 << 10;
/// As much when the kernel ends: state is held twice only by so much.
const LAST_BYTES_AT_ONCE: u64 = 4 << 20;
/// How long the kernel goes on to write checkpoints when it ends, of the five seconds it has.
const LAST_CHECKPOINTS: Duration = Duration::from_secs(3);
/// Pause after all groups had their turn at once.
const CHECKPOINT_ROUND: Duration = Duration::from_secs(1);
/// Output beyond this is published without waiting, and of alerts the engine gives no more at once.
pub const FULL: usize = 2_000;
/// How long the last dead letters may take to their topic.
const LAST_COPIES: Duration = Duration::from_secs(1);
/// How often the live view is sent.
const VIEW: Duration = Duration::from_secs(1);

/// The thread's state.
pub struct Kernel {
    pub(super) compiled: Arc<Compiled>,
    pub(super) engine: Engine,
    /// Other versions of the rules.
    pub(super) changes: Adopter,
    /// `S`.
    pub(super) skew: Span,
    wires: Wires,
    pub(super) view: View,
    pace: Duration,
    out: Output,
    pub(super) backlog: Backlog,
    /// While true the engine releases nothing, since the publisher does not keep up.
    holding: bool,
    paused: BTreeSet<Partition>,
    /// Names of the sources that each rule reads.
    pub(super) rule_sources: Vec<Arc<[String]>>,
    /// When to look after notices that no alert covers.
    pub(super) waiting: NoticesDue,
    next_group: u8,
    next_checkpoint: Instant,
}

/// The kernel's ends of everything it is connected to.
pub struct Wires {
    /// For commands to ingest.
    pub ingest: Arc<Ingest>,
    /// What ingest has read.
    pub records: Receiver<Ingested>,
    /// For what is to be made durable.
    pub outbox: Outbox,
    /// Where dead letters are copied to, if anywhere.
    pub dead_letters: Option<DeadLetterTopic>,
    /// What only the kernel knows, for the API.
    pub words: watch::Sender<Arc<Word>>,
    /// How far it is.
    pub evaluated: Arc<Evaluated>,
    /// What rules cost.
    pub costs: Costs,
    /// Who looks whether countermeasures take effect.
    pub witness: Sightings,
}

impl Kernel {
    /// Puts the thread's state together.
    pub fn new(
        compiled: Arc<Compiled>,
        mut engine: Engine,
        changes: Adopter,
        wires: Wires,
        view: View,
        (pace, skew): (Duration, Span),
        waiting: NoticesDue,
    ) -> Self {
        for topic in (0..compiled.topics.len()).map(|at| TopicIx(at as u16)) {
            if let Some(source) = view.source_of(compiled.topics.name(topic)) {
                engine.expect(topic, source);
            }
        }
        Self {
            next_group: engine.furthest_back(),
            rule_sources: sources_by_rule(&compiled),
            compiled,
            engine,
            changes,
            skew,
            wires,
            view,
            pace,
            out: Output::default(),
            backlog: Backlog::default(),
            holding: false,
            paused: BTreeSet::new(),
            waiting,
            next_checkpoint: Instant::now(),
        }
    }

    /// Works until it is to stop, or until there is nothing to work on or nobody to work for.
    ///
    /// # Errors
    /// If it can never work.
    pub fn run(mut self, mut pipeline: Pipeline<Ingested, Ingested>, stage: &Stage) -> Result<()> {
        if let Some(hands) = pipeline.hands() {
            self.engine.share(hands);
        }
        let (mut published, mut viewed) = (Instant::now(), Instant::now() - VIEW);
        loop {
            if !self.hand_over(stage)? {
                return Ok(());
            }
            self.take_change(&mut pipeline);
            match self.next(&mut pipeline, stage) {
                Ok(Step::Versions(compiled)) => self.adopt(&compiled)?,
                Ok(Step::Batch(detected)) => self.absorb(detected),
                // The reader has said why, and ends.
                Ok(Step::Word(Ingested::Failed(_))) => return Ok(()),
                Ok(Step::Word(Ingested::Accepted(topic))) => {
                    if !self.accept(topic, stage)? {
                        return Ok(());
                    }
                }
                Ok(Step::Word(word)) => self.take(word),
                Err(NoStep::NotYet) => {}
                Err(NoStep::AllTaken) => break,
                // The detector's thread has said why.
                Err(NoStep::DetectorDied) => return Ok(()),
            }
            let full = self.out.correlated.alerts.len() + self.out.dead.len() >= FULL;
            if full || published.elapsed() >= self.pace {
                published = Instant::now();
                self.publish(false)?;
                self.pause_those_ahead();
            }
            if viewed.elapsed() >= VIEW {
                viewed = Instant::now();
                self.drop_outgrown(&mut pipeline);
                if let Some(topic) = &self.wires.dead_letters {
                    self.view.copies(topic.name(), topic.copies());
                }
                let word = self.view.word(&self.engine, &self.wires.costs);
                self.wires.words.send_replace(Arc::new(word));
            }
            if stage.stopping() {
                break;
            }
        }
        // What is in flight counts as not read; detectors begin nothing more.
        drop(pipeline);
        self.finish(stage)
    }

    /// The next step, unless nothing may be taken now. Who waits for a detector that gets on does so itself.
    fn next(
        &mut self,
        pipeline: &mut Pipeline<Ingested, Ingested>,
        stage: &Stage,
    ) -> Result<Step<Ingested>, NoStep> {
        if self.waits() {
            stage.waits_for("publisher");
            std::thread::sleep(WAIT);
            return Err(NoStep::NotYet);
        }
        // A long release is work, not rest.
        let more = self.correlate(Engine::go_on);
        if pipeline.is_empty() {
            stage.rests();
        }
        let patience = if more { Duration::ZERO } else { WAIT };
        let next = pipeline.next(&self.wires.records, patience, &mut || stage.works());
        let got_on = next.is_ok() || more || pipeline.is_empty() || pipeline.moved();
        if got_on {
            stage.works();
        } else {
            stage.waits_for("detector");
        }
        next
    }

    /// Hands over what was said, then checkpoints, piece by piece, as long as there is time: one that is left out costs the
    /// next start some reading, and what it finds again is there already.
    fn finish(&mut self, stage: &Stage) -> Result<()> {
        let until = Instant::now() + LAST_CHECKPOINTS;
        let mut written = self.publish(true)?;
        // What is not final is found and announced again by the next start, while tens of thousands of notices would take
        // all the time that checkpoints have.
        self.backlog.forget_late_notices();
        while self.hand_over(stage)? {
            if !self.backlog.is_empty() {
                // Not for ever: once all are to stop, the supervisor ends the process after a while.
                stage.waits_for("publisher");
                std::thread::sleep(WAIT);
            } else if written >= KEY_GROUPS || Instant::now() >= until {
                break;
            } else {
                stage.works();
                written += self.publish(true)?;
                self.backlog.forget_late_notices();
            }
        }
        if written < KEY_GROUPS {
            tracing::info!(
                written,
                of = KEY_GROUPS,
                "not all checkpoints were written; the next start reads more again"
            );
        }
        if let Some(topic) = &self.wires.dead_letters
            && let Err(error) = topic.flush(LAST_COPIES)
        {
            tracing::warn!(%error, "not all dead letters were copied; the store has them");
        }
        Ok(())
    }

    /// True if nothing may be read now. Reading goes on for a while when the publisher does not keep up: what is read is
    /// announced, and waits for its release in the engine, which has a bound for that.
    fn waits(&self) -> bool {
        self.backlog.is_swamped() || (self.holding && self.engine.holds_enough())
    }

    /// Hands over what the publisher has room for. While it does not keep up, nothing more is released. False if there is no
    /// publisher any more.
    fn hand_over(&mut self, stage: &Stage) -> Result<bool> {
        let Self { rule_sources, backlog, wires, waiting, .. } = self;
        let announce = |notice: &Notice| {
            // Looked after from here on: what was said before its hand-over of how far its rule has come does not concern it.
            waiting.announced(notice.rule_ix, notice.crossed_at);
            Ok(NewNotice::of(notice, rule_sources[notice.rule_ix.0 as usize].to_vec())?)
        };
        match wires.outbox.offer(backlog, write, announce)? {
            Offered::Gone => return Ok(false),
            Offered::Some => stage.works(),
            Offered::All | Offered::Nothing => {}
        }
        let hold = self.backlog.holds_alerts_back(self.holding);
        if hold != self.holding {
            self.holding = hold;
            self.engine.hold(hold, &mut self.out);
        }
        Ok(true)
    }

    /// Has the engine place, correlate or release, and counts the time for what rules cost.
    fn correlate<T>(&mut self, work: impl FnOnce(&mut Engine, &mut Output) -> T) -> T {
        let start = Instant::now();
        let done = work(&mut self.engine, &mut self.out);
        self.view.correlated(start.elapsed());
        done
    }

    fn absorb(&mut self, detected: Detected) {
        let (partition, records) = (detected.partition, detected.records.len());
        self.view.dead_letters(detected.source, &detected.dead);
        // Versions that run out are not what anybody would change.
        let newest = self.compiled.versions().iter().enumerate().next_back();
        if let Some((at, version)) = newest
            && let Some(batch) = detected.batches.iter().find(|batch| batch.version == at)
        {
            self.wires.costs.offer(version, detected.source, &batch.events);
        }
        // Every one: while two versions of the rules overlap a read comes as several, and a deny may be in any.
        for batch in &detected.batches {
            self.wires.witness.offer(&batch.events);
        }
        self.correlate(|engine, out| engine.absorb(detected, out));
        self.wires.evaluated.done(partition, records);
    }

    fn take(&mut self, word: Ingested) {
        match word {
            Ingested::Assigned { partition, offset } => {
                let topic = self.compiled.topics.name(partition.topic);
                tracing::info!(%topic, partition = partition.number, offset, "reading");
                self.wires.evaluated.assigned(partition);
                if let Some(source) = self.view.source_of(topic) {
                    self.engine.assign(partition, source, offset);
                }
            }
            Ingested::Awaited { topic, numbers } => {
                let name = self.compiled.topics.name(topic);
                if !numbers.is_empty() {
                    tracing::warn!(topic = %name, partitions = ?numbers, "partitions cannot be begun; their source waits");
                }
                if let Some(source) = self.view.source_of(name) {
                    self.engine.await_partitions(topic, source, !numbers.is_empty(), &mut self.out);
                }
            }
            Ingested::Placed(placement) => self.out.placements.push(placement),
            Ingested::Idle { partition, sent_at } => self.engine.idle(partition, sent_at, &mut self.out),
            Ingested::Lost { partition, from, to } => self.lost(partition, from, to),
            Ingested::StatusChange(status) => {
                let topic = match &status {
                    StatusChange::TopicReady(topic) => Some((*topic, TopicStanding::Read)),
                    StatusChange::TopicStopped(topic, e) => Some((*topic, state_of(e))),
                    _ => None,
                };
                if let Some((topic, state)) = topic {
                    self.engine.set_topic(topic, state, &mut self.out);
                }
                if let Some((key, severity, message)) = self.view.status(&status, &self.compiled) {
                    self.health(key, "ingest", severity, message);
                }
            }
            // Of these, one comes evaluated, one divides what is published and nothing follows the last: none comes here.
            Ingested::Batch(_) | Ingested::Accepted(_) | Ingested::Failed(_) => {}
        }
    }

    /// Goes on with the next incarnation of a topic: what was found in the one before is stored before anything of the new one
    /// is handed over, so that the store files each under its own. False if nobody takes it any more.
    fn accept(&mut self, topic: TopicIx, stage: &Stage) -> Result<bool> {
        let name = self.compiled.topics.name(topic).clone();
        let incarnation = self.compiled.topics.incarnation(topic).saturating_add(1);
        self.publish(false)?;
        // Should the process end right after, the next start finds by them what was read of the one before.
        let positions = self.engine.positions()?;
        self.backlog.early().positions = Some(Checkpoint { group: positions.group, bytes: positions.bytes });
        self.backlog.incarnation(NewIncarnation { topic: name.to_string(), incarnation });
        while !self.backlog.is_empty() || !self.wires.outbox.is_settled() {
            if !self.hand_over(stage)? {
                return Ok(false);
            }
            if stage.stopping() {
                // As if the process had been killed: the request waits in the store, and so do positions and checkpoints.
                return Ok(false);
            }
            stage.waits_for("publisher");
            std::thread::sleep(WAIT);
        }
        stage.works();
        if let Some(source) = self.view.source_of(&name) {
            let (compiled, given_up) = self.engine.accept(topic, source);
            self.compiled = compiled;
            self.give_up(given_up);
        }
        tracing::warn!(topic = %name, incarnation, "a topic was accepted and is read from its start");
        Ok(true)
    }

    /// Announces what was read of topics before they were accepted anew, and can be neither released nor read again. What was
    /// told before is not told again: each start finds it until all key groups are written anew.
    pub fn give_up(&mut self, given_up: Vec<GivenUp>) {
        for GivenUp { topic, incarnation, partition, from, to } in given_up {
            let place = (topic.to_string(), incarnation, partition);
            if self.view.lost(place.clone(), (from, to)) {
                let message = format!(
                    "{topic} was accepted anew before all was final that its records {from} to {} of partition \
                     {partition} (incarnation {incarnation}) gave: they were read, and alerts that rest on them may be \
                     missing or count too little",
                    to - 1
                );
                self.announce_lost(place, (from, to), message);
            }
        }
    }

    fn lost(&mut self, partition: Partition, from: i64, to: i64) {
        let topics = &self.compiled.topics;
        let (topic, number) = (topics.name(partition.topic).to_string(), partition.number);
        let message = format!(
            "Kafka deleted the records {from} to {} of {topic}/{number} before they were read",
            to - 1
        );
        let place = (topic, topics.incarnation(partition.topic), number);
        self.view.lost(place.clone(), (from, to));
        self.announce_lost(place, (from, to), message);
    }

    fn announce_lost(
        &mut self,
        (topic, incarnation, partition): TopicPartition,
        (from, to): (i64, i64),
        message: String,
    ) {
        tracing::error!("{message}");
        let key = format!("lost/{topic}/{incarnation}/{partition}/{from}");
        self.health(key, "lost", Severity::Critical, message);
        let noticed_at = crate::now();
        let lost = LostInterval { topic, incarnation, partition, from, to, noticed_at };
        self.backlog.early().lost.push(lost);
    }

    fn health(&mut self, key: String, kind: &str, severity: Severity, message: String) {
        self.backlog.early().health.push(HealthEvent {
            key,
            at: crate::now(),
            kind: kind.to_owned(),
            severity,
            message,
        });
    }

    /// Takes up what there is to be handed over, with the checkpoints that are due, or with the next whether due or not; of
    /// how many groups.
    pub(super) fn publish(&mut self, last: bool) -> Result<u8> {
        // What has become due goes with it: nothing of it would have been handed over before.
        self.correlate(Engine::catch_up);
        let out = std::mem::take(&mut self.out);
        self.view.take_counters(&out.correlated);
        self.say_health(&out);
        if !out.correlated.alerts.is_empty() || !out.placements.is_empty() {
            let positions = self.engine.positions()?;
            self.backlog.early().positions =
                Some(Checkpoint { group: positions.group, bytes: positions.bytes });
        }
        self.backlog.early().placements.extend(out.placements);
        out.correlated.notices.into_iter().for_each(|notice| self.backlog.notice(notice));
        for NewRevision { alert, rule, covers_until, .. } in out.correlated.alerts {
            let sources = self.rule_sources[rule.0 as usize].clone();
            self.backlog.alert(Unwritten { alert, covers_until, sources });
        }
        let passed = self.waiting.passed(|rule| self.engine.passed(rule));
        passed.into_iter().for_each(|passed| self.backlog.passed(passed));
        self.copy_dead_letters(&out.dead);
        for dead in out.dead {
            let source = self.compiled.sources.get(dead.source).name.clone();
            self.backlog.letter(NewDeadLetter::of(dead, &source, &self.compiled.topics));
        }
        self.add_checkpoints(last)
    }

    /// Copies dead letters to their topic. The store is their place: what the topic does not take is counted and told.
    fn copy_dead_letters(&self, dead: &[DeadLetter]) {
        let Some(topic) = &self.wires.dead_letters else { return };
        for letter in dead {
            let source = &self.compiled.sources.get(letter.source).name;
            topic.send(source, self.compiled.topics.name(letter.partition.topic), letter);
        }
    }

    /// Adds the checkpoints of the groups whose turn it is: of all at once while they are small. One that would begin where
    /// reading stands has nothing to gain, unless a version is to go; a clean stop writes all that it has time for.
    fn add_checkpoints(&mut self, last: bool) -> Result<u8> {
        let due = Instant::now() >= self.next_checkpoint && !self.backlog.holds_checkpoints();
        if !last && !due {
            return Ok(0);
        }
        let at_once = if last { LAST_BYTES_AT_ONCE } else { CHECKPOINT_BYTES_AT_ONCE };
        let mut bytes = 0;
        let mut looked_at = 0;
        while looked_at < KEY_GROUPS && bytes < at_once {
            looked_at += 1;
            let group = self.next_group;
            self.next_group = (group + 1) % KEY_GROUPS;
            if self.next_group == 0 {
                self.engine.forget_released();
            }
            // Written now, or as good as written now.
            self.view.checkpointed(group);
            let (wanted, oldest) = (last || self.changes.wants_all(), self.changes.written());
            if wanted || self.engine.behind(group) {
                bytes += self.add_checkpoint(group)?;
            }
            if let Some(number) = oldest {
                self.backlog.oldest_version(number);
            }
        }
        let pause = if looked_at == KEY_GROUPS { CHECKPOINT_ROUND } else { Duration::ZERO };
        let crowded = Duration::from_micros(bytes * 1_000_000 / CHECKPOINT_BYTES_A_SECOND);
        self.next_checkpoint = Instant::now() + pause.max(crowded);
        Ok(looked_at)
    }

    /// Adds the checkpoint of a group; how many bytes it has.
    fn add_checkpoint(&mut self, group: u8) -> Result<u64> {
        let checkpoint = self.engine.checkpoint(group)?;
        let bytes = checkpoint.bytes.len() as u64;
        self.backlog.checkpoint(Checkpoint { group, bytes: checkpoint.bytes });
        Ok(bytes)
    }

    /// A word for operators about everything that a healthy deployment never shows.
    fn say_health(&mut self, out: &Output) {
        for placement in &out.placements {
            let broker = placement.flag.has(Flags::CLOCK_BROKER);
            let (kind, what) = match broker {
                true => (
                    "clock_broker",
                    "a record's time, its broker's or its producer's, is ahead of ours by more than the allowance",
                ),
                false => ("clock_overtaken", "a record lay below its source's watermark"),
            };
            let place = format!("{}/{}", placement.topic, placement.partition);
            let hour = placement.time.floor(vedette_event::time::HOUR);
            self.health(format!("{kind}/{place}/{hour}"), kind, Severity::High, format!("{place}: {what}"));
        }
        for health in &out.correlated.health {
            let (key, severity, message) = self.view.degraded(health, &self.compiled);
            let kind = match health {
                HealthSignal::OverBudget { .. } | HealthSignal::WithinBudget { .. } => "over_budget",
                HealthSignal::Unevaluated { .. } | HealthSignal::EvaluatedAgain { .. } => "unevaluated",
            };
            self.health(key, kind, severity, message);
        }
    }

    fn pause_those_ahead(&mut self) {
        let ahead: BTreeSet<Partition> = self.engine.ahead().into_iter().collect();
        for partition in ahead.difference(&self.paused) {
            self.wires.ingest.pause(*partition);
        }
        for partition in self.paused.difference(&ahead) {
            self.wires.ingest.resume(*partition);
        }
        self.paused = ahead;
    }
}

/// The batch in what was read, or the word that it is.
pub fn batch_of(item: Ingested) -> Result<RawBatch, Ingested> {
    match item {
        Ingested::Batch(raw) => Ok(raw),
        word => Err(word),
    }
}

/// The row of an alert.
fn write(Unwritten { alert, covers_until, sources }: &Unwritten) -> Result<AlertRevision> {
    Ok(AlertRevision::of(alert, sources.to_vec(), *covers_until)?)
}

/// By rule: the names of the sources that it reads.
pub(super) fn sources_by_rule(compiled: &Compiled) -> Vec<Arc<[String]>> {
    compiled.rules.iter().map(|(ix, _)| compiled.sources_of(ix).into()).collect()
}

/// What a topic that is not read means for its source. What passes by itself is waited for; what does not exist or needs a
/// decision may stay so for days.
const fn state_of(error: &vedette_ingest::Error) -> TopicStanding {
    if error.passing() { TopicStanding::Away } else { TopicStanding::Stopped }
}

#[cfg(test)]
#[path = "kernel_tests.rs"]
mod tests;
