//! What waits between the kernel and the publisher: bounded in rows, notices before alerts, the rules' notices in turn.
//!
//! In: the kernel's output ([`Backlog`]). Out: publications of at most [`MAX_ROWS`] rows, on two queues: the early one
//! carries placements, versions, positions, gaps, health events and notices, the ordered one alerts, dead letters,
//! checkpoints, how far rules have come and new incarnations. Invariants: each queue keeps its order; whatever was put on the
//! early queue before something on the ordered one is committed before it, so that nothing is stored before what it rests on
//! (an alert on positions, a checkpoint on alerts, a topic's next incarnation on all of the one before). Of the early things
//! only notices may still wait then: none rests on them, and one that comes behind its alert is not needed any more. A notice
//! never waits for more than one publication of the ordered queue, nor for more than one notice of each other rule and those
//! handed over before; and since checkpoints have their place among the alerts, and these go on while notices wait, a backlog
//! that never ends holds up none of them.

use std::{
    cell::Cell,
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use anyhow::Result;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select};
use vedette_event::{Alert, Micros, Notice, RuleIx, Value};
use vedette_store::{
    MAX_ROWS,
    model::{AlertRevision, Checkpoint, NewDeadLetter, NewIncarnation, NewNotice, Passed, Publication},
};

/// Publications that may wait on the ordered queue: at 5,000 rows a second less than a second's work.
const WAITING: usize = 4;
/// Publications that may wait on the early queue: a notice that is handed over waits for it and for what is under way.
const EARLY: usize = 1;
/// Bytes of notices that may wait before the kernel takes no more records: some 75,000 ordinary ones. Fewer than a storm
/// brings (a thousand of each rule and hour) would keep a record from being read that another rule has something to say of.
const MAX_NOTICES: usize = 64 << 20;
/// Bytes of a notice besides its texts, about.
const NOTICE: usize = 768;
/// Rows of the early queue that the kernel may hold back before it takes no more records, and alerts before it releases no
/// more.
const MAX_BACKLOG: usize = 4 * MAX_ROWS;
/// Bytes of dead letters that the kernel may hold back before it takes no more records.
const MAX_LETTERS: usize = 32 << 20;
/// Bytes of a dead letter besides its text, about.
const LETTER: usize = 512;
/// Bytes in one publication, beyond those of its first row.
const MAX_BYTES: usize = 4 << 20;

/// An alert that the engine has given, not yet written out. It has all with it that is written, because the version of the rules that it
/// came from may be gone before its turn comes: one that nothing needs any more is dropped, however much waits here.
pub struct Unwritten {
    /// What the engine gave.
    pub alert: Alert,
    /// See [`vedette_correlate::NewRevision::covers_until`].
    pub covers_until: Micros,
    /// The names of the sources that its rule read.
    pub sources: Arc<[String]>,
}

/// What keeps its order.
enum Ordered {
    Alert(Box<Unwritten>),
    Letter(NewDeadLetter),
    Checkpoint(Checkpoint),
    Passed(Passed),
    Incarnation(NewIncarnation),
    OldestVersion(u64),
}

/// Notices that wait. The rules take turns: who has one to say does not wait for another's thousands.
#[derive(Default)]
struct Notices {
    by_rule: BTreeMap<RuleIx, VecDeque<Notice>>,
    count: usize,
    bytes: usize,
    /// Whose turn it is, or the next one's after it.
    turn: u32,
}

impl Notices {
    fn push(&mut self, notice: Notice) {
        self.count += 1;
        self.bytes += size(&notice);
        self.by_rule.entry(notice.rule_ix).or_default().push_back(notice);
    }

    fn pop(&mut self) -> Option<Notice> {
        let rule = self.by_rule.range(RuleIx(self.turn)..).next().or_else(|| self.by_rule.first_key_value());
        let rule = *rule?.0;
        self.turn = rule.0.wrapping_add(1);
        let of_rule = self.by_rule.get_mut(&rule)?;
        let notice = of_rule.pop_front();
        if of_rule.is_empty() {
            self.by_rule.remove(&rule);
        }
        self.count -= usize::from(notice.is_some());
        self.bytes -= notice.as_ref().map_or(0, size);
        notice
    }
}

/// What a notice takes, about. A part of its key can be a kilobyte, and its summary repeats the parts.
fn size(notice: &Notice) -> usize {
    let text = |value: &Value| if let Value::Text(text) = value { text.len() } else { 0 };
    NOTICE + notice.summary.len() + notice.key.values().map(text).sum::<usize>()
}

/// What the kernel has said and could not hand over yet.
#[derive(Default)]
pub struct Backlog {
    early: Publication,
    notices: Notices,
    ordered: VecDeque<Ordered>,
    alerts: usize,
    checkpoints: usize,
    /// Bytes of the dead letters.
    letters: usize,
}

impl Backlog {
    /// What goes first.
    pub fn early(&mut self) -> &mut Publication {
        &mut self.early
    }

    /// Takes up a notice.
    pub fn notice(&mut self, notice: Notice) {
        self.notices.push(notice);
    }

    /// Forgets the notices that one publication does not take.
    pub fn forget_late_notices(&mut self) {
        let mut kept = Notices::default();
        while kept.count < MAX_ROWS
            && let Some(notice) = self.notices.pop()
        {
            kept.push(notice);
        }
        self.notices = kept;
    }

    /// Takes up an alert.
    pub fn alert(&mut self, alert: Unwritten) {
        self.alerts += 1;
        self.ordered.push_back(Ordered::Alert(Box::new(alert)));
    }

    /// Takes up a dead letter.
    pub fn letter(&mut self, letter: NewDeadLetter) {
        self.letters += LETTER + letter.payload.len();
        self.ordered.push_back(Ordered::Letter(letter));
    }

    /// Takes up a checkpoint of what was taken up before.
    pub fn checkpoint(&mut self, checkpoint: Checkpoint) {
        self.checkpoints += 1;
        self.ordered.push_back(Ordered::Checkpoint(checkpoint));
    }

    /// Takes up how far a rule has come: notices up to there that no alert taken up before covers have none.
    pub fn passed(&mut self, passed: Passed) {
        self.ordered.push_back(Ordered::Passed(passed));
    }

    /// Takes up that a topic is another one from here on.
    pub fn incarnation(&mut self, incarnation: NewIncarnation) {
        self.ordered.push_back(Ordered::Incarnation(incarnation));
    }

    /// Takes up that nothing below a version will be read again, by what was taken up before. It is forgotten before what is
    /// taken up next is stored: checkpoints may lack its rules from here on.
    pub fn oldest_version(&mut self, number: u64) {
        self.ordered.push_back(Ordered::OldestVersion(number));
    }

    /// Gives rules other numbers. One that has none any more has said all that it ever will: an alert before covers its notices, or
    /// none comes, and nobody need hear of them.
    pub fn carry(&mut self, number: impl Fn(RuleIx) -> Option<RuleIx>) {
        for mut notice in std::mem::take(&mut self.notices.by_rule).into_values().flatten() {
            if let Some(rule) = number(notice.rule_ix) {
                notice.rule_ix = rule;
                self.notices.by_rule.entry(rule).or_default().push_back(notice);
            } else {
                self.notices.count -= 1;
                self.notices.bytes -= size(&notice);
            }
        }
    }

    /// True while a checkpoint waits: the next would only take memory.
    pub fn holds_checkpoints(&self) -> bool {
        self.checkpoints > 0
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.early.is_empty() && self.notices.count == 0 && self.ordered.is_empty()
    }

    /// True if no more alerts should be released: from when too many wait until none does. Only alerts count, because a flood
    /// of bad records, which nothing but reading holds back, would else hold every rule's alerts for as long as it lasts.
    pub fn holds_alerts_back(&self, holding: bool) -> bool {
        self.alerts >= if holding { 1 } else { MAX_BACKLOG }
    }

    /// True if so much waits of what reading alone brings that no more should be read.
    pub fn is_swamped(&self) -> bool {
        let early = self.early.placements.len() + self.early.health.len();
        self.notices.bytes >= MAX_NOTICES || early >= MAX_BACKLOG || self.letters > MAX_LETTERS
    }

    /// The next of the early queue: all that is no notice, and as many of those as a transaction takes.
    fn next_early(&mut self, announce: &mut impl FnMut(&Notice) -> Result<NewNotice>) -> Result<Publication> {
        let mut next = std::mem::take(&mut self.early);
        while next.notices.len() < MAX_ROWS
            && let Some(notice) = self.notices.pop()
        {
            next.notices.push(announce(&notice)?);
        }
        Ok(next)
    }

    /// True if the next of the ordered queue may go: what it rests on is handed over. Notices are none of that: one that comes
    /// behind its alert is not needed any more. Only a new incarnation comes behind all that was said of the one before.
    fn may_go_on(&self) -> bool {
        let next = self.ordered.front();
        let free = self.early.is_empty() && next.is_some();
        free && (self.notices.count == 0 || !matches!(next, Some(Ordered::Incarnation(_))))
    }

    /// The next of the ordered queue. `write` makes an alert's row.
    fn next_ordered(
        &mut self,
        write: &mut impl FnMut(&Unwritten) -> Result<AlertRevision>,
    ) -> Result<Publication> {
        let mut next = Publication::default();
        let (mut rows, mut bytes) = (0, 0);
        while let Some(first) = self.ordered.pop_front() {
            let size = match &first {
                // A body is some hundred bytes to a few thousand.
                Ordered::Alert(_) => 2_048,
                Ordered::Letter(letter) => letter.payload.len(),
                Ordered::Checkpoint(checkpoint) => checkpoint.bytes.len(),
                Ordered::Passed(_) | Ordered::Incarnation(_) | Ordered::OldestVersion(_) => 64,
            };
            // What comes after these in the order comes before them in a publication.
            let later = matches!(first, Ordered::Alert(_) | Ordered::Letter(_));
            let waits = matches!(first, Ordered::Incarnation(_)) && self.notices.count > 0;
            let closed = !next.incarnations.is_empty() || next.oldest_version.is_some();
            let after = waits || closed || (!next.checkpoints.is_empty() && later);
            if rows == MAX_ROWS || (rows > 0 && bytes + size > MAX_BYTES) || after {
                self.ordered.push_front(first);
                break;
            }
            (rows, bytes) = (rows + 1, bytes + size);
            match first {
                Ordered::Alert(alert) => {
                    self.alerts -= 1;
                    next.alerts.push(write(&alert)?);
                }
                Ordered::Letter(letter) => {
                    self.letters -= LETTER + letter.payload.len();
                    next.dead_letters.push(letter);
                }
                Ordered::Checkpoint(checkpoint) => {
                    self.checkpoints -= 1;
                    next.checkpoints.push(checkpoint);
                }
                Ordered::Passed(passed) => next.passed.push(passed),
                Ordered::Incarnation(incarnation) => next.incarnations.push(incarnation),
                Ordered::OldestVersion(number) => next.oldest_version = Some(number),
            }
        }
        Ok(next)
    }
}

/// How an offer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// Nothing waits any more.
    All,
    /// Something was taken, and a queue is full now.
    Some,
    /// Nothing was taken.
    Nothing,
    /// There is no publisher any more.
    Gone,
}

/// The kernel's end.
pub struct Outbox {
    early: Sender<Publication>,
    ordered: Sender<Publication>,
    sent: Cell<u64>,
    done: Arc<AtomicU64>,
    crowded: Arc<AtomicBool>,
}

/// The publisher's end.
pub struct Inbox {
    early: Receiver<Publication>,
    ordered: Receiver<Publication>,
    taken: Cell<u64>,
    done: Arc<AtomicU64>,
}

/// Both ends.
pub fn queues() -> (Outbox, Inbox) {
    let (early_in, early) = bounded(EARLY);
    let (ordered_in, ordered) = bounded(WAITING);
    let done = Arc::<AtomicU64>::default();
    let crowded = Arc::default();
    let outbox =
        Outbox { early: early_in, ordered: ordered_in, sent: Cell::new(0), done: done.clone(), crowded };
    (outbox, Inbox { early, ordered, taken: Cell::new(0), done })
}

impl Outbox {
    /// Hands over as much as there is room for, without waiting. `write` and `announce` make the rows of alerts and notices.
    ///
    /// # Errors
    /// If one cannot be written.
    pub fn offer(
        &self,
        backlog: &mut Backlog,
        mut write: impl FnMut(&Unwritten) -> Result<AlertRevision>,
        mut announce: impl FnMut(&Notice) -> Result<NewNotice>,
    ) -> Result<Offered> {
        // It may be gone while nothing waits here: whoever waits for what it holds shall hear of it.
        if Arc::strong_count(&self.done) == 1 {
            return Ok(Offered::Gone);
        }
        let mut taken = Offered::Nothing;
        let offered = loop {
            if backlog.is_empty() {
                break Offered::All;
            }
            let early = !backlog.early.is_empty() || backlog.notices.count > 0;
            // Only this end fills the queues: one that is not full has room.
            let (queue, next) = if early && !self.early.is_full() {
                (&self.early, backlog.next_early(&mut announce)?)
            } else if backlog.may_go_on() && !self.ordered.is_full() {
                (&self.ordered, backlog.next_ordered(&mut write)?)
            } else {
                break taken;
            };
            match queue.try_send(next) {
                Ok(()) => {
                    taken = Offered::Some;
                    self.sent.set(self.sent.get() + 1);
                }
                Err(TrySendError::Disconnected(_) | TrySendError::Full(_)) => break Offered::Gone,
            }
        };
        self.crowded.store(offered != Offered::All, Ordering::Relaxed);
        Ok(offered)
    }

    /// True while more waits than the publisher has room for: who writes what can wait gives way.
    pub fn crowded(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.crowded)
    }

    /// True if everything that was handed over is stored.
    pub fn is_settled(&self) -> bool {
        self.done.load(Ordering::Acquire) == self.sent.get()
    }
}

/// What the publisher finds.
#[derive(Debug)]
pub enum ToPublish {
    /// This is to be published.
    Some(Box<Publication>),
    /// Nothing for a while.
    Nothing,
    /// Nothing, and nobody who would send more.
    Gone,
}

impl Inbox {
    /// The next to be published: all that waits on the early queue, and one publication of the ordered one. Asking for it says
    /// that the one before is stored.
    pub fn next(&self, patience: std::time::Duration) -> ToPublish {
        self.done.store(self.taken.get(), Ordering::Release);
        let (mut first, mut ordered) = (None, None);
        select! {
            recv(self.early) -> early => first = early.ok(),
            recv(self.ordered) -> next => ordered = next.ok(),
            default(patience) => return ToPublish::Nothing,
        }
        // In this order: what is on the ordered queue now rests on nothing that comes to the early one later.
        let ordered = ordered.or_else(|| self.ordered.try_recv().ok());
        self.taken.set(self.taken.get() + u64::from(ordered.is_some()));
        let mut all: Option<Publication> = None;
        for early in first.into_iter().chain(self.early.try_iter()) {
            self.taken.set(self.taken.get() + 1);
            match &mut all {
                None => all = Some(early),
                Some(all) => append(all, early),
            }
        }
        match (all, ordered) {
            (None, None) => ToPublish::Gone,
            (Some(one), None) | (None, Some(one)) => ToPublish::Some(Box::new(one)),
            (Some(mut all), Some(ordered)) => {
                append(&mut all, ordered);
                ToPublish::Some(Box::new(all))
            }
        }
    }
}

/// Puts one publication behind another.
fn append(all: &mut Publication, next: Publication) {
    let Publication {
        placements,
        rule_versions,
        rule_texts,
        positions,
        lost,
        health,
        notices,
        passed,
        alerts,
        dead_letters,
        checkpoints,
        oldest_version,
        incarnations,
    } = next;
    all.placements.extend(placements);
    all.rule_versions.extend(rule_versions);
    all.rule_texts.extend(rule_texts);
    all.positions = positions.or(all.positions.take());
    all.lost.extend(lost);
    all.health.extend(health);
    all.notices.extend(notices);
    all.passed.extend(passed);
    all.alerts.extend(alerts);
    all.dead_letters.extend(dead_letters);
    all.checkpoints.extend(checkpoints);
    all.oldest_version = oldest_version.max(all.oldest_version);
    all.incarnations.extend(incarnations);
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
