//! Order, bounds and turns of what waits for the publisher.

#![allow(clippy::unwrap_used, clippy::panic)]
use std::time::Duration;

use vedette_event::{Flags, RuleRef, Severity, State, StoredPlacement};

use super::*;

fn notice(of: u32, n: usize) -> Notice {
    Notice {
        notice_id: format!("{of}-{n}").as_str().into(),
        rule_ix: RuleIx(of),
        rule: Arc::new(rule()),
        key: [].into(),
        entity: None,
        crossed_at: Micros(1),
        count: 1,
        value: vedette_event::alert::Number::Int(1),
        severity: Severity::Low,
        summary: String::new(),
        evidence: Vec::new(),
    }
}

fn rule() -> RuleRef {
    RuleRef {
        id: "r".into(),
        title: "R".into(),
        level: Severity::Low,
        kind: "single".into(),
        version: "0".into(),
        tags: [].into(),
    }
}

fn plain(notice: &Notice) -> Result<NewNotice> {
    Ok(NewNotice::of(notice, Vec::new())?)
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
    let alert = Alert {
        alert_id: "a".into(),
        revision: 1,
        state: State::Ended,
        continuation: false,
        rule: Arc::new(rule()),
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
        explanation: vedette_event::alert::Explanation::default(),
        flags: Flags::default(),
    };
    Unwritten { alert, covers_until: at, sources: ["waf".to_owned()].into() }
}

fn never(_: &Unwritten) -> Result<AlertRevision> {
    panic!("there is no alert")
}

fn take(inbox: &Inbox) -> Publication {
    match inbox.next(Duration::ZERO) {
        ToPublish::Some(publication) => *publication,
        other => panic!("{other:?}"),
    }
}

/// As many notices as a storm brings.
const MANY: usize = 1 << 16;

#[test]
fn lanes_hold_a_bounded_number_of_rows_and_letters_hold_back_no_alerts() {
    let (outbox, inbox) = queues();
    let mut backlog = Backlog::default();
    for offset in 0..20_000 {
        backlog.letter(letter(offset, 10));
    }
    assert!(!backlog.holds_alerts_back(false) && !backlog.is_swamped());
    assert_eq!(outbox.offer(&mut backlog, never, plain).unwrap(), Offered::Some);
    assert_eq!(outbox.offer(&mut backlog, never, plain).unwrap(), Offered::Nothing);
    assert_eq!(backlog.ordered.len(), 20_000 - WAITING * MAX_ROWS);
    assert_eq!(take(&inbox).dead_letters.len(), MAX_ROWS);
    assert_eq!(outbox.offer(&mut backlog, never, plain).unwrap(), Offered::Some);
    let mut offsets: Vec<i64> = (0..MAX_ROWS as i64).collect();
    while !backlog.is_empty() || !inbox.ordered.is_empty() {
        let taken = take(&inbox);
        assert!(taken.dead_letters.len() <= MAX_ROWS);
        offsets.extend(taken.dead_letters.iter().map(|letter| letter.offset));
        outbox.offer(&mut backlog, never, plain).unwrap();
    }
    assert_eq!(offsets, (0..20_000).collect::<Vec<_>>());
    assert!(matches!(inbox.next(Duration::ZERO), ToPublish::Nothing) && outbox.is_settled());
    drop(outbox);
    assert!(matches!(inbox.next(Duration::ZERO), ToPublish::Gone));
}

#[test]
fn alerts_are_released_again_once_none_waits_however_many_letters_do() {
    let write = |alert: &Unwritten| Ok(AlertRevision::of(&alert.alert, Vec::new(), alert.covers_until)?);
    let (outbox, inbox) = queues();
    let mut backlog = Backlog::default();
    (0..MAX_BACKLOG).for_each(|_| backlog.alert(alert()));
    let (mut holding, mut turns) = (backlog.holds_alerts_back(false), 0);
    assert!(holding);
    while holding {
        // As many as the publisher takes, so that the backlog never ends.
        (0..MAX_ROWS).for_each(|offset| backlog.letter(letter(offset as i64, 10)));
        outbox.offer(&mut backlog, write, plain).unwrap();
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
    let (outbox, inbox) = queues();
    let mut backlog = Backlog::default();
    (0..5_000).for_each(|offset| backlog.letter(letter(offset, 10)));
    outbox.offer(&mut backlog, never, plain).unwrap();
    assert!(!backlog.is_empty(), "the ordered queue is full");
    take(&inbox);
    assert!(!outbox.is_settled(), "it may not be stored yet");
    backlog.notice(notice(0, 1));
    outbox.offer(&mut backlog, never, plain).unwrap();
    let next = take(&inbox);
    assert_eq!((next.notices.len(), next.dead_letters.len()), (1, MAX_ROWS), "both have their turn");
}

#[test]
fn a_rule_with_one_notice_does_not_wait_for_the_thousands_of_others() {
    let (outbox, inbox) = queues();
    let mut backlog = Backlog::default();
    for of in [1, 2, 4] {
        (0..20_000).for_each(|n| backlog.notice(notice(of, n)));
    }
    outbox.offer(&mut backlog, never, plain).unwrap();
    backlog.notice(notice(3, 0));
    assert!(!backlog.is_swamped(), "who else has something to say is still read");
    let mut before = 0;
    loop {
        let next = take(&inbox);
        assert!(next.notices.len() <= EARLY * MAX_ROWS);
        match next.notices.iter().position(|notice| notice.notice_id == "3-0") {
            Some(at) => break before += at,
            None => before += next.notices.len(),
        }
        outbox.offer(&mut backlog, never, plain).unwrap();
    }
    assert!(before <= EARLY * MAX_ROWS + 4, "{before} came before it");
    let mut of_one: Vec<String> = Vec::new();
    while let ToPublish::Some(next) = inbox.next(Duration::ZERO) {
        of_one.extend(next.notices.into_iter().map(|n| n.notice_id).filter(|id| id.starts_with("1-")));
        outbox.offer(&mut backlog, never, plain).unwrap();
    }
    let numbers = of_one.iter().map(|id| id[2..].parse::<usize>().unwrap());
    assert!(numbers.is_sorted(), "a rule's notices keep their order");
    while !backlog.is_swamped() {
        backlog.notice(notice(1, 0));
    }
    assert!(backlog.notices.count > MANY, "{}", backlog.notices.count);
}

#[test]
fn notices_with_long_keys_are_fewer() {
    let mut backlog = Backlog::default();
    let long = |n| {
        let value = Value::Text("x".repeat(1_000).as_str().into());
        Notice {
            key: [("k".into(), value)].into(),
            summary: "x".repeat(1_024 - NOTICE % 1_024),
            ..notice(1, n)
        }
    };
    let mut held = 0;
    while !backlog.is_swamped() {
        backlog.notice(long(held));
        held += 1;
    }
    assert!(held < MAX_NOTICES / (NOTICE + 1_000), "{held}");
    // What is taken out makes room.
    let (outbox, _inbox) = queues();
    outbox.offer(&mut backlog, never, plain).unwrap();
    assert!(!backlog.is_swamped());
}

#[test]
fn a_stop_waits_for_one_publication_of_notices() {
    let (outbox, inbox) = queues();
    let mut backlog = Backlog::default();
    (0..MANY).for_each(|n| backlog.notice(notice(n as u32 % 7, n)));
    backlog.forget_late_notices();
    backlog.checkpoint(checkpoint(0, 10));
    outbox.offer(&mut backlog, never, plain).unwrap();
    let next = take(&inbox);
    assert_eq!((next.notices.len(), next.checkpoints.len()), (MAX_ROWS, 1));
    outbox.offer(&mut backlog, never, plain).unwrap();
    assert!(backlog.is_empty() && matches!(inbox.next(Duration::ZERO), ToPublish::Nothing));
}

#[test]
fn checkpoints_go_on_while_notices_wait_and_a_new_incarnation_does_not() {
    let (outbox, inbox) = queues();
    let mut backlog = Backlog::default();
    (0..MANY).for_each(|n| backlog.notice(notice(0, n)));
    backlog.checkpoint(checkpoint(1, 10));
    backlog.incarnation(NewIncarnation { topic: "waf".into(), incarnation: 1 });
    outbox.offer(&mut backlog, never, plain).unwrap();
    assert!(outbox.crowded().load(Ordering::Relaxed));
    let first = take(&inbox);
    assert_eq!((first.notices.len(), first.checkpoints.len()), (EARLY * MAX_ROWS, 1));
    let mut notices = first.notices.len();
    outbox.offer(&mut backlog, never, plain).unwrap();
    while let ToPublish::Some(next) = inbox.next(Duration::ZERO) {
        notices += next.notices.len();
        assert!(next.incarnations.is_empty() || notices == MANY, "{notices}");
        outbox.offer(&mut backlog, never, plain).unwrap();
    }
    assert!(notices == MANY && !outbox.crowded().load(Ordering::Relaxed));
}

/// A version is forgotten before a checkpoint that lacks its rules is stored, and after those that know them.
#[test]
fn versions_are_forgotten_between_the_checkpoints_before_and_those_after() {
    let (outbox, inbox) = queues();
    let mut backlog = Backlog::default();
    backlog.checkpoint(checkpoint(1, 10));
    backlog.oldest_version(2);
    backlog.checkpoint(checkpoint(2, 10));
    outbox.offer(&mut backlog, never, plain).unwrap();
    let publications = [take(&inbox), take(&inbox)].map(|next| {
        (next.checkpoints.iter().map(|saved| saved.group).collect::<Vec<_>>(), next.oldest_version)
    });
    assert_eq!(publications, [(vec![1], Some(2)), (vec![2], None)]);
}

#[test]
fn what_went_early_comes_before_what_rests_on_it() {
    let (outbox, inbox) = queues();
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
        (0..900).for_each(|n| backlog.notice(notice(0, n)));
        (0..700).for_each(|offset| backlog.letter(letter(offset, 10)));
        backlog.checkpoint(checkpoint(round, 10));
        outbox.offer(&mut backlog, never, plain).unwrap();
    }
    let (mut placed, mut at, mut letters) = (0, None, 0);
    while let ToPublish::Some(next) = inbox.next(Duration::ZERO) {
        placed += next.placements.len();
        at = next.positions.map(|positions| positions.bytes.len()).or(at);
        letters += next.dead_letters.len();
        for saved in &next.checkpoints {
            assert!(placed > usize::from(saved.group) && at >= Some(usize::from(saved.group)));
            assert!(letters >= 700 * (1 + usize::from(saved.group)), "{letters} before {}", saved.group);
        }
        outbox.offer(&mut backlog, never, plain).unwrap();
    }
    assert_eq!((placed, at, letters, backlog.holds_checkpoints()), (5, Some(4), 3_500, false));
}

#[test]
fn that_the_publisher_is_gone_shows_when_nothing_waits_too() {
    let (outbox, inbox) = queues();
    let mut backlog = Backlog::default();
    backlog.letter(letter(1, 10));
    assert_eq!(outbox.offer(&mut backlog, never, plain).unwrap(), Offered::All);
    drop(inbox);
    assert!(backlog.is_empty() && !outbox.is_settled());
    assert_eq!(outbox.offer(&mut backlog, never, plain).unwrap(), Offered::Gone);
}

#[test]
fn large_rows_go_in_small_numbers() {
    let (outbox, inbox) = queues();
    let mut backlog = Backlog::default();
    (0..32).for_each(|offset| backlog.letter(letter(offset, 1 << 20)));
    assert!(backlog.is_swamped());
    (0..MANY).for_each(|n| backlog.notice(notice(0, n)));
    outbox.offer(&mut backlog, never, plain).unwrap();
    assert!(!backlog.is_swamped());
    while let ToPublish::Some(_) = inbox.next(Duration::ZERO) {
        outbox.offer(&mut backlog, never, plain).unwrap();
    }
    (0..10).for_each(|offset| backlog.letter(letter(offset, 1 << 20)));
    backlog.incarnation(NewIncarnation { topic: "waf".into(), incarnation: 1 });
    backlog.checkpoint(checkpoint(1, 9 << 20));
    backlog.checkpoint(checkpoint(2, 9 << 20));
    assert!(backlog.holds_checkpoints());
    outbox.offer(&mut backlog, never, plain).unwrap();
    let mut sizes = Vec::new();
    while let ToPublish::Some(next) = inbox.next(Duration::ZERO) {
        sizes.push((next.dead_letters.len(), next.incarnations.len(), next.checkpoints.len()));
        outbox.offer(&mut backlog, never, plain).unwrap();
    }
    let expected = [(4, 0, 0), (4, 0, 0), (2, 1, 0), (0, 0, 1), (0, 0, 1)];
    assert_eq!(sizes, expected, "what follows a new incarnation is not written with what was before");
}

#[test]
fn what_a_rule_said_that_is_gone_is_still_written() {
    let (outbox, inbox) = queues();
    let mut backlog = Backlog::default();
    backlog.alert(alert());
    backlog.notice(notice(0, 0));
    backlog.notice(notice(5, 1));
    backlog.carry(|rule| (rule == RuleIx(5)).then_some(RuleIx(0)));
    let write =
        |waits: &Unwritten| Ok(AlertRevision::of(&waits.alert, waits.sources.to_vec(), waits.covers_until)?);
    outbox.offer(&mut backlog, write, plain).unwrap();
    let next = take(&inbox);
    assert_eq!(next.alerts.iter().map(|alert| &alert.sources[..]).collect::<Vec<_>>(), [["waf"]]);
    assert_eq!(next.notices.iter().map(|notice| &*notice.notice_id).collect::<Vec<_>>(), ["5-1"]);
}
