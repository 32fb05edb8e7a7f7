//! Turns of the scheduler over a real store, by a clock and a lake of their own; who answers is a stand-in that fails when it is told to.
#![allow(clippy::unwrap_used)]

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use tempfile::TempDir;
use tokio::sync::mpsc;
use vedette_api::hunts::{Figures, HuntSchema};
use vedette_event::Severity;
use vedette_store::{
    Access, StoreSettings,
    model::{ListQuery, Made, NewHuntSchedule, NewSavedHunt},
};

use super::*;

const SLACK: Span = Span::secs(65);

/// What the stand-in does next.
#[derive(Clone)]
enum Does {
    Answers(Vec<Vec<Value>>),
    Refuses(Why),
    NeverEnds,
}

struct Bench {
    store: Store,
    scheduler: Scheduler,
    asked: Arc<Mutex<Vec<(Micros, Micros)>>>,
    does: Arc<Mutex<Does>>,
    stopped: Arc<AtomicBool>,
    id: i64,
    /// Where the first window begins.
    from: Micros,
    _folder: TempDir,
}

fn stand_in(
    asked: Arc<Mutex<Vec<(Micros, Micros)>>>,
    does: Arc<Mutex<Does>>,
    stopped: Arc<AtomicBool>,
) -> Hunts {
    let ask = move |question: Question| {
        asked.lock().unwrap().push((question.since.unwrap(), question.until.unwrap()));
        let (does, stopped) = (does.lock().unwrap().clone(), stopped.clone());
        async move {
            let (out, pieces) = mpsc::channel(2);
            match does {
                Does::Refuses(why) => {
                    return Err(Refusal { why, message: "no".to_owned(), place: None, pointed: None });
                }
                Does::Answers(rows) => {
                    out.send(Piece::Values(rows)).await.unwrap();
                    out.send(Piece::End { more: false, written: Vec::new() }).await.unwrap();
                }
                // Its sender stays, and nothing comes.
                Does::NeverEnds => std::mem::forget(out),
            }
            Ok(Begun {
                columns: raise::tests::columns(),
                basis: Basis::default(),
                pieces,
                figures: Arc::new(Figures::default),
                stop: Arc::new(move || stopped.store(true, Ordering::SeqCst)),
            })
        }
    };
    let schema = || Ok(HuntSchema { tables: Vec::new(), functions: Vec::new(), sources: Vec::new() });
    Hunts::new(ask, schema)
}

async fn schedule_one(store: &Store, name: &str) -> HuntSchedule {
    let hunt = NewSavedHunt {
        name: name.to_owned(),
        sql: "select * from events".to_owned(),
        span: None,
        shared: true,
    };
    let Made::New(kept) = store.save_hunt(&hunt, "ann", None).await.unwrap() else { panic!("new") };
    let new = NewHuntSchedule {
        hunt: kept.id,
        every: Span::secs(300),
        severity: Severity::High,
        title: name.to_owned(),
        summary: None,
        entity: Some("source.ip".to_owned()),
        most: 20,
    };
    let Made::New(made) = store.schedule_hunt(&new, "eve", None).await.unwrap() else { panic!("new") };
    made
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(StoreSettings::new(folder.path(), Access::Engine)).await.unwrap();
        let made = schedule_one(&store, "rare").await;
        let does = Arc::new(Mutex::new(Does::Answers(Vec::new())));
        let (asked, stopped) = (Arc::default(), Arc::default());
        let hunts = stand_in(Arc::clone(&asked), Arc::clone(&does), Arc::clone(&stopped));
        let scheduler = Scheduler::new(store.clone(), hunts);
        let (id, from) = (made.id, made.next_from);
        Self { store, scheduler, asked, does, stopped, id, from, _folder: folder }
    }

    fn does(&self, does: Does) {
        *self.does.lock().unwrap() = does;
    }

    /// So many windows after the first one's beginning.
    fn windows(&self, n: i64) -> Micros {
        self.from.plus(Span(300_000_000 * n))
    }

    /// Turns at this time until nothing is left, with the lake complete through this.
    async fn turns(&mut self, now: Micros, through: Micros) -> usize {
        let on = || true;
        for turn in 0..1_000 {
            let through = async || Ok(Some(through));
            if !self.scheduler.turn(now, (through, SLACK), &on).await.unwrap() {
                return turn;
            }
        }
        panic!("it has no end")
    }

    /// The same, where the lake has just got so far.
    async fn at(&mut self, through: Micros) -> usize {
        self.turns(through.plus(Span::secs(1)), through).await
    }

    async fn schedule(&self) -> HuntSchedule {
        self.store.hunt_schedules().await.unwrap().into_iter().find(|of| of.id == self.id).unwrap()
    }

    async fn alerts(&self) -> usize {
        self.store.list(&ListQuery { limit: 50, ..ListQuery::default() }).await.unwrap().items.len()
    }

    fn asked(&self) -> Vec<(Micros, Micros)> {
        self.asked.lock().unwrap().clone()
    }

    /// What health events of this kind say.
    async fn health(&self, kind: &str) -> Vec<String> {
        let events = self.store.health_events(1_000).await.unwrap();
        events.into_iter().filter(|event| event.kind == kind).map(|event| event.message).collect()
    }
}

fn found(ips: &[&str]) -> Does {
    Does::Answers(ips.iter().zip(1..).map(|(ip, n)| raise::tests::row(ip, n)).collect())
}

#[tokio::test]
async fn a_window_is_looked_at_once_all_its_events_are_there_and_raises_once() {
    let mut bench = Bench::new().await;
    bench.does(found(&["203.0.113.7", "203.0.113.8"]));
    let whole = bench.windows(1).plus(SLACK);
    assert_eq!(bench.at(whole.minus(Span(1))).await, 0);
    assert_eq!(bench.at(whole).await, 1);
    assert_eq!(bench.asked(), [(bench.from, bench.windows(1))]);
    assert_eq!(bench.alerts().await, 2);
    assert_eq!(bench.at(whole).await, 0);
    let of = bench.schedule().await;
    let run = of.last.unwrap();
    assert_eq!((run.rows, run.alerts, run.from, run.until), (2, 2, bench.from, bench.windows(1)));
    assert_eq!((of.next_from, of.fault), (bench.windows(1), None));
    // Three windows later each follows on the one before.
    bench.does(found(&[]));
    bench.at(bench.windows(4).plus(SLACK)).await;
    let asked = bench.asked();
    assert_eq!(asked.len(), 4);
    assert!(asked.windows(2).all(|two| two[0].1 == two[1].0), "{asked:?}");
    assert_eq!(bench.alerts().await, 2);
}

#[tokio::test]
async fn a_run_that_is_repeated_after_a_crash_raises_nothing_twice() {
    let mut bench = Bench::new().await;
    bench.does(found(&["203.0.113.7"]));
    let of = bench.schedule().await;
    let window = (bench.from, bench.windows(1));
    // Two runs of one window, as if the first had been cut off before it was written.
    let reached = Reached { below: window.1, complete: window.1 };
    let on = || true;
    bench.scheduler.run(&of, window, reached, window.1, &on).await.unwrap();
    bench.scheduler.run(&of, window, reached, window.1, &on).await.unwrap();
    assert_eq!((bench.alerts().await, bench.asked().len()), (1, 1));
    // Also where the schedule was made anew, and begins with the same window.
    bench.store.remove_hunt_schedule(of.id, "eve").await.unwrap();
    let Made::New(anew) = bench.store.schedule_hunt(&of.schedule, "eve", None).await.unwrap() else {
        panic!("new")
    };
    bench.id = anew.id;
    let whole = anew.next_from.plus(Span::secs(300)).plus(SLACK);
    bench.at(whole).await;
    let run = bench.schedule().await.last.unwrap();
    assert_eq!((run.from, run.alerts), (anew.next_from, 1));
    assert_eq!(bench.alerts().await, if anew.next_from == window.0 { 1 } else { 2 });
}

#[tokio::test]
async fn what_is_too_dear_is_tried_three_times_and_passed_over_loudly() {
    let mut bench = Bench::new().await;
    bench.does(Does::Refuses(Why::Time));
    let whole = bench.windows(2).plus(SLACK);
    for minute in 0..4 {
        bench.turns(whole.plus(Span::secs(61 * minute)), whole).await;
    }
    let of = bench.schedule().await;
    assert_eq!((of.passed.windows, of.passed.last), (1, Some((bench.from, bench.windows(1)))));
    let said = bench.health("hunt_passed_over").await;
    assert!(said.len() == 1 && said[0].contains("failed 3 times: no"), "{said:?}");
    // The next one comes, and all is well again.
    bench.does(found(&["203.0.113.7"]));
    bench.turns(whole.plus(Span::secs(600)), whole).await;
    let of = bench.schedule().await;
    assert_eq!((of.fault, of.next_from, bench.alerts().await), (None, bench.windows(2), 1));
    assert_eq!(of.passed.windows, 1, "that stays");
}

#[tokio::test]
async fn a_text_at_fault_waits_and_is_made_up_for() {
    let mut bench = Bench::new().await;
    bench.does(Does::Refuses(Why::Query));
    let whole = bench.windows(1).plus(SLACK);
    for minute in 0..10 {
        assert_eq!(bench.turns(whole.plus(Span::secs(61 * minute)), whole).await, 1);
    }
    let of = bench.schedule().await;
    assert_eq!((of.next_from, of.passed.windows, of.tries), (bench.from, 0, 0));
    assert_eq!(of.fault.unwrap().0, "no");
    bench.does(found(&["203.0.113.7"]));
    bench.turns(whole.plus(Span::secs(700)), whole).await;
    assert_eq!((bench.schedule().await.fault, bench.alerts().await), (None, 1));
}

#[tokio::test]
async fn what_nobody_ran_is_made_up_for_within_a_day() {
    let mut bench = Bench::new().await;
    bench.does(found(&["203.0.113.7"]));
    let whole = bench.windows(3 * 288).plus(SLACK);
    bench.at(whole).await;
    let of = bench.schedule().await;
    assert_eq!(of.passed.windows, 2 * 288);
    assert_eq!((bench.asked().len(), bench.alerts().await), (288, 50));
    assert_eq!(bench.health("hunt_passed_over").await.len(), 1);
}

#[tokio::test]
async fn a_lake_that_stands_still_is_told_and_after_an_hour_not_waited_for() {
    let mut bench = Bench::new().await;
    let (through, due) = (bench.from, bench.windows(1).plus(SLACK));
    assert_eq!(bench.turns(due, through).await, 0);
    assert_eq!(bench.schedule().await.fault, None);
    bench.turns(due.plus(Span::secs(900)), through).await;
    let fault = bench.schedule().await.fault.unwrap().0;
    assert!(fault.contains("waits for the lake, which is complete through"), "{fault}");
    assert_eq!(bench.asked(), []);
    bench.does(found(&["203.0.113.7"]));
    bench.turns(due.plus(Span::secs(3_600)), through).await;
    assert_eq!(bench.asked(), [(bench.from, bench.windows(1))]);
    assert_eq!(bench.health("hunt_incomplete").await.len(), 1);
    let row = bench.store.list(&ListQuery::default()).await.unwrap().items.remove(0);
    assert!(row.body.contains("\"complete\":false"), "{}", row.body);
}

#[tokio::test]
async fn the_one_that_is_due_longest_goes_first_and_paused_ones_rest() {
    let mut bench = Bench::new().await;
    let other = schedule_one(&bench.store, "another").await;
    bench.store.pause_hunt_schedule(bench.id, true, "eve").await.unwrap();
    bench.at(bench.windows(1).plus(SLACK)).await;
    assert_eq!(bench.schedule().await.last, None);
    bench.store.remove_hunt_schedule(other.id, "eve").await.unwrap();
    bench.store.pause_hunt_schedule(bench.id, false, "eve").await.unwrap();
    bench.at(bench.windows(1).plus(SLACK)).await;
    assert!(bench.schedule().await.last.is_some());
}

#[tokio::test]
async fn a_run_is_stopped_with_the_service_and_run_again() {
    let mut bench = Bench::new().await;
    bench.does(Does::NeverEnds);
    let whole = bench.windows(1).plus(SLACK);
    let on = || false;
    let through = async || Ok(Some(whole));
    assert!(bench.scheduler.turn(whole, (through, SLACK), &on).await.unwrap());
    assert!(bench.stopped.load(Ordering::SeqCst));
    let of = bench.schedule().await;
    assert_eq!((of.next_from, of.tries, of.last), (bench.from, 0, None));
    bench.does(found(&["203.0.113.7"]));
    bench.at(whole).await;
    assert_eq!(bench.alerts().await, 1);
}
