//! What waits between the kernel and the publisher: bounded in rows, notices before alerts.
//!
//! In: the kernel's output ([`Backlog`]). Out: publications of at most [`MAX_ROWS`] rows, on two lanes: the early one
//! carries placements, versions, positions, gaps, health events and notices, the ordered one alerts, dead letters,
//! checkpoints, how far rules have come and new incarnations. Invariants: each lane keeps its order; whatever was put on the early lane before something on the
//! ordered one is committed before it, so that nothing is stored before what it rests on (an alert on positions, a
//! checkpoint on alerts, a topic's next incarnation on all of the one before); a notice never waits for more than one publication of the ordered lane; and since checkpoints
//! have their place among the alerts, a backlog that never ends holds up none of them.

use std::{
    cell::Cell,
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Result;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select};
use vedette_store::{
    MAX_ROWS,
    model::{AlertRevision, Checkpoint, NewDeadLetter, NewIncarnation, Passed, Publication},
};

/// Publications that may wait on each lane: at 5,000 rows a second less than a second's work.
const WAITING: usize = 8;
/// Rows of the early lane that the kernel may hold back before it takes no more records, and alerts before it releases no
/// more.
const MAX_BACKLOG: usize = 8 * MAX_ROWS;
/// Bytes of dead letters that the kernel may hold back before it takes no more records.
const MAX_LETTERS: usize = 32 << 20;
/// Bytes of a dead letter besides its text, about.
const LETTER: usize = 512;
/// Bytes in one publication, beyond those of its first row.
const MAX_BYTES: usize = 4 << 20;

/// An alert that the engine has given, not yet written out.
pub type Unwritten = vedette_correlate::Published;

/// What keeps its order.
enum Ordered {
    Alert(Box<Unwritten>),
    Letter(NewDeadLetter),
    Checkpoint(Checkpoint),
    Passed(Passed),
    Incarnation(NewIncarnation),
}

/// What the kernel has said and could not hand over yet.
#[derive(Default)]
pub struct Backlog {
    early: Publication,
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

    /// True while a checkpoint waits: the next would only take memory.
    pub fn holds_checkpoints(&self) -> bool {
        self.checkpoints > 0
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.early.is_empty() && self.ordered.is_empty()
    }

    /// True if no more alerts should be released: from when too many wait until none does. Only alerts count, because a flood
    /// of bad records, which nothing but reading holds back, would else hold every rule's alerts for as long as it lasts.
    pub fn holds_alerts_back(&self, holding: bool) -> bool {
        self.alerts >= if holding { 1 } else { MAX_BACKLOG }
    }

    /// True if so much waits of what reading alone brings that no more should be read.
    pub fn is_swamped(&self) -> bool {
        let early = self.early.notices.len() + self.early.placements.len() + self.early.health.len();
        early >= MAX_BACKLOG || self.letters > MAX_LETTERS
    }

    /// The next of the early lane: all that is no notice, and as many of those as a transaction takes.
    fn next_early(&mut self) -> Publication {
        let later = self.early.notices.split_off(self.early.notices.len().min(MAX_ROWS));
        let next = std::mem::take(&mut self.early);
        self.early.notices = later;
        next
    }

    /// The next of the ordered lane. `write` makes an alert's row.
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
                Ordered::Passed(_) | Ordered::Incarnation(_) => 64,
            };
            // What comes after these in the order comes before them in a publication.
            let later = matches!(first, Ordered::Alert(_) | Ordered::Letter(_));
            let after = !next.incarnations.is_empty() || (!next.checkpoints.is_empty() && later);
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
    /// Something was taken, and a lane is full now.
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
}

/// The publisher's end.
pub struct Inbox {
    early: Receiver<Publication>,
    ordered: Receiver<Publication>,
    taken: Cell<u64>,
    done: Arc<AtomicU64>,
}

/// Both ends.
pub fn lanes() -> (Outbox, Inbox) {
    let (early_in, early) = bounded(WAITING);
    let (ordered_in, ordered) = bounded(WAITING);
    let done = Arc::<AtomicU64>::default();
    let outbox = Outbox { early: early_in, ordered: ordered_in, sent: Cell::new(0), done: done.clone() };
    (outbox, Inbox { early, ordered, taken: Cell::new(0), done })
}

impl Outbox {
    /// Hands over as much as there is room for, without waiting.
    ///
    /// # Errors
    /// If an alert cannot be written.
    pub fn offer(
        &self,
        backlog: &mut Backlog,
        mut write: impl FnMut(&Unwritten) -> Result<AlertRevision>,
    ) -> Result<Offered> {
        // It may be gone while nothing waits here: whoever waits for what it holds shall hear of it.
        if Arc::strong_count(&self.done) == 1 {
            return Ok(Offered::Gone);
        }
        let mut taken = Offered::Nothing;
        while !backlog.is_empty() {
            // Only this end fills the lanes: one that is not full has room.
            let (lane, next) = if !backlog.early.is_empty() {
                if self.early.is_full() {
                    return Ok(taken);
                }
                (&self.early, backlog.next_early())
            } else {
                if self.ordered.is_full() {
                    return Ok(taken);
                }
                (&self.ordered, backlog.next_ordered(&mut write)?)
            };
            match lane.try_send(next) {
                Ok(()) => {
                    taken = Offered::Some;
                    self.sent.set(self.sent.get() + 1);
                }
                Err(TrySendError::Disconnected(_) | TrySendError::Full(_)) => return Ok(Offered::Gone),
            }
        }
        Ok(Offered::All)
    }

    /// True if everything that was handed over is stored.
    pub fn is_settled(&self) -> bool {
        self.done.load(Ordering::Acquire) == self.sent.get()
    }
}

/// What the publisher finds.
#[derive(Debug)]
pub enum Found {
    /// This is to be published.
    Some(Box<Publication>),
    /// Nothing for a while.
    Nothing,
    /// Nothing, and nobody who would send more.
    Gone,
}

impl Inbox {
    /// The next to be published: all that waits on the early lane, and one publication of the ordered one. Asking for it says
    /// that the one before is stored.
    pub fn next(&self, patience: std::time::Duration) -> Found {
        self.done.store(self.taken.get(), Ordering::Release);
        let (mut first, mut ordered) = (None, None);
        select! {
            recv(self.early) -> early => first = early.ok(),
            recv(self.ordered) -> next => ordered = next.ok(),
            default(patience) => return Found::Nothing,
        }
        // In this order: what is on the ordered lane now rests on nothing that comes to the early one later.
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
            (None, None) => Found::Gone,
            (Some(one), None) | (None, Some(one)) => Found::Some(Box::new(one)),
            (Some(mut all), Some(ordered)) => {
                append(&mut all, ordered);
                Found::Some(Box::new(all))
            }
        }
    }
}

/// Puts one publication behind another.
fn append(all: &mut Publication, next: Publication) {
    let Publication {
        placements,
        rule_versions,
        positions,
        lost,
        health,
        notices,
        passed,
        alerts,
        dead_letters,
        checkpoints,
        incarnations,
    } = next;
    all.placements.extend(placements);
    all.rule_versions.extend(rule_versions);
    all.positions = positions.or(all.positions.take());
    all.lost.extend(lost);
    all.health.extend(health);
    all.notices.extend(notices);
    all.passed.extend(passed);
    all.alerts.extend(alerts);
    all.dead_letters.extend(dead_letters);
    all.checkpoints.extend(checkpoints);
    all.incarnations.extend(incarnations);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::time::Duration;

    use vedette_event::{
        Alert, Flags, Micros, Order as Place, RuleIx, RuleRef, Severity, State, StoredPlacement, TopicIx,
    };
    use vedette_store::model::NewNotice;

    use super::*;

    fn notice(n: usize) -> NewNotice {
        NewNotice {
            notice_id: format!("n{n}"),
            rule_id: "r".into(),
            rule_title: "R".into(),
            severity: Severity::Low,
            key: "{}".into(),
            entity: None,
            sources: Vec::new(),
            crossed_at: Micros(1),
            count: 1,
            summary: String::new(),
            body: "{}".into(),
        }
    }

    fn letter(offset: i64, bytes: usize) -> NewDeadLetter {
        NewDeadLetter {
            source: "waf".into(),
            topic: "waf".into(),
            partition: 0,
            offset,
            index: None,
            ts_log: None,
            reason: "malformed".into(),
            detail: String::new(),
            payload: vec![0; bytes],
        }
    }

    fn checkpoint(group: u8, bytes: usize) -> Checkpoint {
        Checkpoint { group, bytes: vec![group; bytes] }
    }

    fn alert() -> Unwritten {
        let at = Micros(1);
        let rule = RuleRef {
            id: "r".into(),
            title: "R".into(),
            level: Severity::Low,
            kind: "single".into(),
            version: "0".into(),
            tags: [].into(),
        };
        let alert = Alert {
            alert_id: "a".into(),
            revision: 1,
            state: State::Ended,
            continuation: false,
            rule: Arc::new(rule),
            key: [].into(),
            entity: None,
            first_seen: at,
            crossed_at: at,
            last_seen: at,
            count: 1,
            value: vedette_event::alert::Number::Int(1),
            severity: Severity::Low,
            risk: 1,
            summary: String::new(),
            evidence: Vec::new(),
            evidence_total: 1,
            explanation: serde_json::Map::new(),
            flags: Flags::default(),
        };
        let crossing =
            Place { time: at, topic: TopicIx(0), incarnation: 0, partition: 0, offset: 0, index: 0 };
        Unwritten { alert, rule: RuleIx(0), group: 0, crossing, covers_until: at }
    }

    fn never(_: &Unwritten) -> Result<AlertRevision> {
        panic!("there is no alert")
    }

    fn take(inbox: &Inbox) -> Publication {
        match inbox.next(Duration::ZERO) {
            Found::Some(publication) => *publication,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lanes_hold_a_bounded_number_of_rows_and_letters_hold_back_no_alerts() {
        let (outbox, inbox) = lanes();
        let mut backlog = Backlog::default();
        for offset in 0..20_000 {
            backlog.letter(letter(offset, 10));
        }
        assert!(!backlog.holds_alerts_back(false) && !backlog.is_swamped());
        assert_eq!(outbox.offer(&mut backlog, never).unwrap(), Offered::Some);
        assert_eq!(outbox.offer(&mut backlog, never).unwrap(), Offered::Nothing);
        assert_eq!(backlog.ordered.len(), 20_000 - WAITING * MAX_ROWS);
        assert_eq!(take(&inbox).dead_letters.len(), MAX_ROWS);
        assert_eq!(outbox.offer(&mut backlog, never).unwrap(), Offered::Some);
        let mut offsets: Vec<i64> = (0..MAX_ROWS as i64).collect();
        while !backlog.is_empty() || !inbox.ordered.is_empty() {
            let taken = take(&inbox);
            assert!(taken.dead_letters.len() <= MAX_ROWS);
            offsets.extend(taken.dead_letters.iter().map(|letter| letter.offset));
            outbox.offer(&mut backlog, never).unwrap();
        }
        assert_eq!(offsets, (0..20_000).collect::<Vec<_>>());
        assert!(matches!(inbox.next(Duration::ZERO), Found::Nothing) && outbox.is_settled());
        drop(outbox);
        assert!(matches!(inbox.next(Duration::ZERO), Found::Gone));
    }

    #[test]
    fn alerts_are_released_again_once_none_waits_however_many_letters_do() {
        let write = |alert: &Unwritten| Ok(AlertRevision::of(&alert.alert, Vec::new(), alert.covers_until)?);
        let (outbox, inbox) = lanes();
        let mut backlog = Backlog::default();
        (0..MAX_BACKLOG).for_each(|_| backlog.alert(alert()));
        let (mut holding, mut turns) = (backlog.holds_alerts_back(false), 0);
        assert!(holding);
        while holding {
            // As many as the publisher takes, so that the backlog never ends.
            (0..MAX_ROWS).for_each(|offset| backlog.letter(letter(offset as i64, 10)));
            outbox.offer(&mut backlog, write).unwrap();
            take(&inbox);
            holding = backlog.holds_alerts_back(holding);
            turns += 1;
            assert!(turns <= MAX_BACKLOG / MAX_ROWS, "they are held as long as letters come");
        }
        assert!(!backlog.is_empty() && !backlog.is_swamped());
        backlog.alert(alert());
        assert!(!backlog.holds_alerts_back(false) && backlog.holds_alerts_back(true));
    }

    #[test]
    fn a_notice_waits_for_no_more_than_one_publication_of_the_others() {
        let (outbox, inbox) = lanes();
        let mut backlog = Backlog::default();
        (0..5_000).for_each(|offset| backlog.letter(letter(offset, 10)));
        outbox.offer(&mut backlog, never).unwrap();
        assert!(!backlog.is_empty(), "the ordered lane is full");
        take(&inbox);
        assert!(!outbox.is_settled(), "it may not be stored yet");
        backlog.early().notices.push(notice(1));
        outbox.offer(&mut backlog, never).unwrap();
        let next = take(&inbox);
        assert_eq!((next.notices.len(), next.dead_letters.len()), (1, MAX_ROWS), "both have their turn");
    }

    #[test]
    fn what_went_early_comes_before_what_rests_on_it() {
        let (outbox, inbox) = lanes();
        let mut backlog = Backlog::default();
        for round in 0..5_u8 {
            let placement = StoredPlacement {
                topic: "waf".into(),
                partition: 0,
                offset: i64::from(round),
                flag: Flags::CLOCK_OVERTAKEN,
                time: Micros(1),
            };
            backlog.early().placements.push(placement);
            backlog.early().positions = Some(checkpoint(64, usize::from(round)));
            (0..900).for_each(|n| backlog.early().notices.push(notice(n)));
            (0..700).for_each(|offset| backlog.letter(letter(offset, 10)));
            backlog.checkpoint(checkpoint(round, 10));
            outbox.offer(&mut backlog, never).unwrap();
        }
        let (mut placed, mut at, mut letters) = (0, None, 0);
        while let Found::Some(next) = inbox.next(Duration::ZERO) {
            placed += next.placements.len();
            at = next.positions.map(|positions| positions.bytes.len()).or(at);
            letters += next.dead_letters.len();
            for saved in &next.checkpoints {
                assert!(placed > usize::from(saved.group) && at >= Some(usize::from(saved.group)));
                assert!(letters >= 700 * (1 + usize::from(saved.group)), "{letters} before {}", saved.group);
            }
            outbox.offer(&mut backlog, never).unwrap();
        }
        assert_eq!((placed, at, letters, backlog.holds_checkpoints()), (5, Some(4), 3_500, false));
    }

    #[test]
    fn that_the_publisher_is_gone_shows_when_nothing_waits_too() {
        let (outbox, inbox) = lanes();
        let mut backlog = Backlog::default();
        backlog.letter(letter(1, 10));
        assert_eq!(outbox.offer(&mut backlog, never).unwrap(), Offered::All);
        drop(inbox);
        assert!(backlog.is_empty() && !outbox.is_settled());
        assert_eq!(outbox.offer(&mut backlog, never).unwrap(), Offered::Gone);
    }

    #[test]
    fn large_rows_go_in_small_numbers() {
        let (outbox, inbox) = lanes();
        let mut backlog = Backlog::default();
        (0..32).for_each(|offset| backlog.letter(letter(offset, 1 << 20)));
        assert!(backlog.is_swamped());
        (0..MAX_BACKLOG).for_each(|n| backlog.early().notices.push(notice(n)));
        outbox.offer(&mut backlog, never).unwrap();
        assert!(!backlog.is_swamped());
        while let Found::Some(_) = inbox.next(Duration::ZERO) {
            outbox.offer(&mut backlog, never).unwrap();
        }
        (0..10).for_each(|offset| backlog.letter(letter(offset, 1 << 20)));
        backlog.incarnation(NewIncarnation { topic: "waf".into(), incarnation: 1 });
        backlog.checkpoint(checkpoint(1, 9 << 20));
        backlog.checkpoint(checkpoint(2, 9 << 20));
        assert!(backlog.holds_checkpoints());
        outbox.offer(&mut backlog, never).unwrap();
        let mut sizes = Vec::new();
        while let Found::Some(next) = inbox.next(Duration::ZERO) {
            sizes.push((next.dead_letters.len(), next.incarnations.len(), next.checkpoints.len()));
        }
        let expected = [(4, 0, 0), (4, 0, 0), (2, 1, 0), (0, 0, 1), (0, 0, 1)];
        assert_eq!(sizes, expected, "what follows a new incarnation is not written with what was before");
    }
}
