//! Kept hunts that are run again and again: who may have how many, how far each has come, and what is written together.

use vedette_event::Span;

use super::*;
use crate::{
    Error, MAX_HUNT_SCHEDULES,
    model::{HealthEvent, HuntOutcome, HuntRun, HuntSchedule, NewHuntSchedule, NewSavedHunt},
};

const EVERY: Span = Span::secs(300);

async fn keep(store: &Store, name: &str, shared: bool) -> i64 {
    let hunt = NewSavedHunt { name: name.to_owned(), sql: "select 1".to_owned(), span: None, shared };
    made(store.save_hunt(&hunt, "ann", None).await.unwrap()).id
}

fn of(hunt: i64) -> NewHuntSchedule {
    NewHuntSchedule {
        hunt,
        every: EVERY,
        severity: Severity::High,
        title: "Rare paths".to_owned(),
        summary: Some("were asked for".to_owned()),
        entity: Some("source.ip".to_owned()),
        most: 20,
    }
}

async fn scheduled(store: &Store, name: &str) -> HuntSchedule {
    let hunt = keep(store, name, true).await;
    made(store.schedule_hunt(&of(hunt), "eve", None).await.unwrap())
}

async fn only(store: &Store) -> HuntSchedule {
    store.hunt_schedules().await.unwrap().remove(0)
}

fn outcome(of: &HuntSchedule, alerts: Vec<AlertRevision>) -> HuntOutcome {
    let from = of.next_from;
    let run = HuntRun {
        at: from.plus(Span::secs(400)),
        from,
        until: from.plus(EVERY),
        took: Span(1_500),
        rows: 7,
        more: false,
        alerts: alerts.len() as u64,
        bytes_read: 99,
        complete_through: Some(from.plus(Span::secs(370))),
    };
    HuntOutcome { schedule: of.id, version: "v1".to_owned(), run, alerts, health: Vec::new() }
}

#[tokio::test]
async fn a_shared_hunt_has_one_schedule_that_begins_with_the_last_whole_window() {
    let (_folder, store) = store().await;
    let (own, shared) = (keep(&store, "own", false).await, keep(&store, "shared", true).await);
    assert!(matches!(store.schedule_hunt(&of(own), "ann", None).await, Err(Error::Clash { .. })));
    assert!(matches!(store.schedule_hunt(&of(own), "eve", None).await, Err(Error::NotFound { .. })));
    assert!(matches!(store.schedule_hunt(&of(99), "eve", None).await, Err(Error::NotFound { .. })));
    let made = made(store.schedule_hunt(&of(shared), "eve", None).await.unwrap());
    assert_eq!(
        (&made.schedule, &*made.name, &*made.sql, &*made.created_by),
        (&of(shared), "shared", "select 1", "eve")
    );
    assert_eq!(made.next_from, made.next_from.floor(EVERY));
    let behind = made.created_at.since(made.next_from);
    assert!(behind >= EVERY && behind < Span(2 * EVERY.0), "{behind}");
    assert_eq!(store.hunt_schedules().await.unwrap(), std::slice::from_ref(&made));
    assert!(matches!(store.schedule_hunt(&of(shared), "eve", None).await, Err(Error::Clash { .. })));
    // What is run is not removed.
    assert!(matches!(store.remove_saved_hunt(shared, "ann", false).await, Err(Error::Clash { .. })));
    store.remove_hunt_schedule(made.id, "eve").await.unwrap();
    store.remove_saved_hunt(shared, "ann", false).await.unwrap();
    assert!(matches!(store.remove_hunt_schedule(made.id, "eve").await, Err(Error::NotFound { .. })));
    let log = store.audit(&newest(3)).await.unwrap().items;
    let told: Vec<_> = log.iter().map(|entry| (&*entry.actor, &*entry.action)).collect();
    assert_eq!(told, [("ann", "hunt_removed"), ("eve", "hunt_unscheduled"), ("eve", "hunt_scheduled")]);
    assert!(log[2].to.as_deref().unwrap().contains("\"every\":\"5m\""), "{log:?}");
}

#[tokio::test]
async fn there_are_so_many_and_no_more() {
    let (_folder, store) = store().await;
    let mut last = 0;
    for n in 0..=MAX_HUNT_SCHEDULES {
        let hunt = NewSavedHunt { name: n.to_string(), sql: "select 1".to_owned(), span: None, shared: true };
        // An owner keeps as many hunts as there are schedules.
        let owner = if n == MAX_HUNT_SCHEDULES { "bob" } else { "ann" };
        last = made(store.save_hunt(&hunt, owner, None).await.unwrap()).id;
        if n < MAX_HUNT_SCHEDULES {
            store.schedule_hunt(&of(last), "eve", None).await.unwrap();
        }
    }
    assert!(matches!(store.schedule_hunt(&of(last), "eve", None).await, Err(Error::Full { .. })));
}

#[tokio::test]
async fn a_run_raises_its_alerts_and_moves_its_schedule_at_once_or_not_at_all() {
    let (_folder, store) = store().await;
    let first = scheduled(&store, "a").await;
    assert!(store.begin_hunt_run(first.id, first.next_from).await.unwrap());
    assert_eq!(only(&store).await.tries, 1);
    let told = outcome(&first, vec![alert("x", 1, 10, 7)]);
    assert!(store.hunt_ran(&told).await.unwrap());
    let after = only(&store).await;
    assert_eq!((after.next_from, after.tries, after.last), (told.run.until, 0, Some(told.run)));
    let row = get(&store, "x").await;
    assert_eq!(store.rule_text(&row.rule_id, "v1").await.unwrap().as_deref(), Some("select 1"));
    let entry = store.audit(&newest(1)).await.unwrap().items.remove(0);
    assert_eq!((&*entry.actor, &*entry.action), ("vedette", "hunt_raised"));
    assert!(entry.to.unwrap().contains("\"bytes_read\":99"));
    // The same window again: neither that alert nor another is written.
    let seq = store.newest_seq().await.unwrap();
    let again = outcome(&first, vec![alert("x", 1, 10, 7), alert("y", 1, 10, 7)]);
    assert!(!store.hunt_ran(&again).await.unwrap());
    assert!(!store.begin_hunt_run(first.id, first.next_from).await.unwrap());
    assert_eq!((store.newest_seq().await.unwrap(), store.alert("y").await.unwrap()), (seq, None));
    // Nothing found is no entry of the log; a schedule that is gone writes nothing.
    assert!(store.hunt_ran(&outcome(&after, Vec::new())).await.unwrap());
    assert_eq!(store.newest_seq().await.unwrap(), seq);
    let last = only(&store).await;
    store.remove_hunt_schedule(last.id, "eve").await.unwrap();
    assert!(!store.hunt_ran(&outcome(&last, vec![alert("z", 1, 10, 7)])).await.unwrap());
    assert_eq!(store.alert("z").await.unwrap(), None);
}

#[tokio::test]
async fn faults_and_what_is_passed_over_stay_until_it_gets_on() {
    let (_folder, store) = store().await;
    let first = scheduled(&store, "a").await;
    store.begin_hunt_run(first.id, first.next_from).await.unwrap();
    store.hunt_failed(first.id, "too dear", true).await.unwrap();
    let failed = only(&store).await;
    let (fault, since) = failed.fault.clone().unwrap();
    assert_eq!((&*fault, failed.tries), ("too dear", 1));
    store.hunt_failed(first.id, "no such column", false).await.unwrap();
    let waits = only(&store).await;
    assert_eq!((waits.fault, waits.tries), (Some(("no such column".to_owned(), since)), 0));
    let until = first.next_from.plus(Span(3 * EVERY.0));
    let said = HealthEvent {
        key: "k".to_owned(),
        at: until,
        kind: "hunt_passed_over".to_owned(),
        severity: Severity::Medium,
        message: "three windows".to_owned(),
    };
    store.pass_over_hunts(first.id, (first.next_from, until), 3, &said).await.unwrap();
    // Not twice.
    store.pass_over_hunts(first.id, (first.next_from, until), 3, &said).await.unwrap();
    let passed = only(&store).await;
    assert_eq!((passed.passed.windows, passed.passed.last), (3, Some((first.next_from, until))));
    assert_eq!((passed.next_from, &*passed.fault.clone().unwrap().0), (until, "three windows"));
    assert_eq!(store.health_events(10).await.unwrap(), [said]);
    assert!(store.hunt_ran(&outcome(&passed, Vec::new())).await.unwrap());
    let well = only(&store).await;
    assert_eq!((well.fault, well.passed.windows), (None, 3));
}

#[tokio::test]
async fn a_paused_schedule_is_not_begun_and_goes_on_without_what_was_then() {
    let (_folder, store) = store().await;
    let first = scheduled(&store, "a").await;
    // As if it had been made two hours ago.
    let long_ago = first.next_from.minus(Span(24 * EVERY.0));
    let back = sqlx::query("update hunt_schedules set next_from = $1").bind(long_ago.0);
    let mut tx = store.begin().await.unwrap();
    tx.run(back).await.unwrap();
    tx.commit().await.unwrap();
    let paused = store.pause_hunt_schedule(first.id, true, "eve").await.unwrap();
    assert!(paused.paused);
    assert!(!store.begin_hunt_run(first.id, long_ago).await.unwrap());
    assert_eq!(store.pause_hunt_schedule(first.id, true, "eve").await.unwrap(), paused);
    let on = store.pause_hunt_schedule(first.id, false, "eve").await.unwrap();
    assert!(!on.paused && on.next_from >= first.next_from, "{on:?}");
    let log = store.audit(&newest(2)).await.unwrap().items;
    let told: Vec<_> = log.iter().map(|entry| &*entry.action).collect();
    assert_eq!(told, ["hunt_resumed", "hunt_paused"]);
}
