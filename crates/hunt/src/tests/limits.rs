//! What a query may use, and that it gives it back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::StreamExt as _;

use super::{all, ask, begin, columns, error, giver, one};
use crate::{Batches, Error, Limits, Open, Query, Supply};

#[test]
fn an_answer_that_was_cut_says_so() {
    let rows = |limit: usize, sql: &str| {
        let limits = Limits { rows: Some(limit), ..Limits::default() };
        let mut answer = begin(sql, 100, limits, Arc::default()).unwrap();
        let mut rows = 0;
        while let Some(some) = answer.next().unwrap() {
            rows += some.len();
        }
        (rows, answer.more())
    };
    assert_eq!(rows(5, "select * from events"), (5, true));
    assert_eq!(rows(599, "select * from events"), (599, true));
    assert_eq!(rows(600, "select * from events"), (600, false));
    assert_eq!(rows(601, "select * from events"), (600, false));
    assert_eq!(rows(5, "select * from events limit 5"), (5, false));
    assert_eq!(rows(5, "select * from events limit 6"), (5, true));
    assert_eq!(rows(1, "select count(*) from events"), (1, false));
    assert_eq!(rows(2, "select vedette.offset from events order by vedette.offset desc"), (2, true));
}

/// Gives events for ever; `running` tells whether anybody still holds what gives them.
fn endless(running: Arc<AtomicBool>) -> Open {
    struct Running(Arc<AtomicBool>);
    impl Drop for Running {
        fn drop(&mut self) {
            self.0.store(false, Ordering::SeqCst);
        }
    }
    let few = giver(1, Arc::default());
    Arc::new(move |converter| {
        running.store(true, Ordering::SeqCst);
        let held = Running(running.clone());
        let few = few.clone();
        let batches: Batches = futures::stream::repeat_with(move || {
            let _ = &held;
            few(converter.clone()).unwrap()
        })
        .flatten()
        .boxed();
        Ok(batches)
    })
}

fn ask_endless(sql: &str, limits: Limits) -> (Result<crate::Answer, Error>, Arc<AtomicBool>) {
    let running = Arc::new(AtomicBool::new(false));
    let query = Query::new(sql).unwrap();
    let columns = columns(query.rules());
    (query.ask(columns, Supply::Given(endless(running.clone())), limits), running)
}

/// Ten to the power of eight rows of ten: with nothing between them that reads, and within one aggregate.
const MANY: &str = "select count(distinct a.\"@timestamp\" || b.message || c.message || d.message || e.message) \
     from events a, events b, events c, events d, events e, events f, events g, events h, events i, events j";

#[test]
fn what_makes_much_of_little_hears_its_limit_and_who_stops_it() {
    let ask = |time| {
        let limits = Limits { time, ..Limits::default() };
        begin(MANY, 1, limits, Arc::default()).unwrap()
    };
    let late = ask(Some(Duration::from_millis(300))).next().unwrap_err();
    assert!(matches!(late, Error::Timeout { .. }), "{late}");
    let mut answer = ask(None);
    answer.stopper().stop();
    let stopped = answer.next().unwrap_err();
    assert!(matches!(stopped, Error::Stopped), "{stopped}");
}

#[test]
fn a_query_that_takes_too_long_is_stopped() {
    let limits = Limits { time: Some(Duration::from_millis(300)), ..Limits::default() };
    let start = Instant::now();
    let (answer, running) = ask_endless("select count(*) from events", limits);
    let mut answer = answer.unwrap();
    let stopped = answer.next().unwrap_err();
    assert!(matches!(stopped, Error::Timeout { .. }), "{stopped}");
    answer.stop().unwrap();
    assert!(!running.load(Ordering::SeqCst));
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_query_whose_answer_is_dropped_is_stopped() {
    for sql in ["select count(*) from events", "select * from events"] {
        let (answer, running) = ask_endless(sql, Limits::default());
        let mut answer = answer.unwrap();
        if sql.contains('*') && !sql.contains("count") {
            assert!(answer.next().unwrap().is_some());
        }
        drop(answer);
        let start = Instant::now();
        while running.load(Ordering::SeqCst) {
            assert!(start.elapsed() < Duration::from_secs(30), "{sql} goes on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn what_is_enough_is_enough() {
    let (answer, running) = ask_endless("select * from events limit 7", Limits::default());
    assert_eq!(all(answer.unwrap()).unwrap().len(), 7);
    assert!(!running.load(Ordering::SeqCst));
}

#[test]
fn what_does_not_fit_into_memory_goes_to_the_disk_or_is_refused() {
    let sql = "select vedette.offset, message, source.ip from events order by message, vedette.offset";
    let expected = all(begin(sql, 3_000, Limits::default(), Arc::default()).unwrap()).unwrap();
    assert_eq!(expected.len(), 18_000);
    let small = Limits { memory: 1 << 20, ..Limits::default() };
    let spilled = all(begin(sql, 3_000, small, Arc::default()).unwrap()).unwrap();
    assert!(spilled == expected, "sorting on the disk gives the same rows");
    let none = Limits { memory: 1 << 20, disk: 1 << 10, ..Limits::default() };
    let refused = begin(sql, 3_000, none, Arc::default()).and_then(all).unwrap_err();
    assert!(matches!(refused, Error::Memory { .. }), "{refused:?}");
    assert!(refused.to_string().starts_with("the query needs more than its 1 MiB of memory"), "{refused}");
}

#[test]
fn an_error_of_whoever_gives_the_events_is_the_answers() {
    let open: Open = Arc::new(|_| Err("the disk is on fire".into()));
    let query = Query::new("select count(*) from events").unwrap();
    let mut answer = query.ask(columns(&[]), Supply::Given(open), Limits::default()).unwrap();
    assert_eq!(answer.next().unwrap_err().to_string(), "the disk is on fire");
    // A join waits for one of its sides in several places.
    let open: Open = Arc::new(|_| Err("the disk is on fire".into()));
    let query = Query::new("select count(*) from events a join events b on a.level = b.level").unwrap();
    let told = query.ask(columns(&[]), Supply::Given(open), Limits::default()).and_then(all).unwrap_err();
    assert!(matches!(told, Error::Source(_)), "{told:?}");
    assert_eq!(told.to_string(), "the disk is on fire");
    let few = giver(1, Arc::default());
    let open: Open = Arc::new(move |converter| {
        let failed = futures::stream::iter([Err("torn".into())]);
        Ok(few(converter)?.chain(failed).boxed())
    });
    let query = Query::new("select * from events").unwrap();
    let answer = query.ask(columns(&[]), Supply::Given(open), Limits::default()).unwrap();
    assert_eq!(all(answer).unwrap_err().to_string(), "torn");
}

#[test]
fn values_that_make_it_impossible_are_told() {
    for sql in ["select 1 / (level - level) from events where level is not null", "select cast('x' as int)"] {
        let answer = ask(sql);
        let told = matches!(answer, Ok(_) | Err(Error::Value { .. } | Error::Meaning { .. }));
        assert!(told, "{sql}: {answer:?}");
    }
    let told = ask("select cast(message as int) from events").unwrap_err();
    assert!(matches!(told, Error::Value { .. }), "{told:?}");
}

/// Bytes that the process has in memory.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

/// A query whose texts or lists double with each of `levels` subqueries.
fn doubling(levels: usize, first: &str, twice: &str, shown: &str) -> String {
    let mut sql = format!("with t0 as (select {first} as x from events)");
    for n in 1..=levels {
        sql.push_str(&format!(", t{n} as (select {twice} as x from t{})", n - 1));
    }
    format!("{sql} select max({shown}) from t{levels}")
}

#[test]
fn what_grows_with_each_subquery_is_refused_before_it_is_there() {
    let before = resident();
    for (twice, shown) in [
        ("x || x", "length(x)"),
        ("concat(x, x)", "length(x)"),
        ("concat_ws('', x, x, x)", "length(x)"),
        ("replace(x, 'e', 'eeeeeeee')", "length(x)"),
        ("regexp_replace(x, 'e', 'eeeeeeee', 'g')", "length(x)"),
        ("regexp_replace(x, '(.*)', '\\1\\1')", "length(x)"),
    ] {
        let sql = doubling(40, "'e' || user.name", twice, shown);
        let refused = ask(&sql).unwrap_err();
        assert!(matches!(refused, Error::Memory { .. }), "{twice}: {refused}");
    }
    for twice in ["[x, x]", "make_array(x, x)", "array_concat(x, x)"] {
        let sql = doubling(40, "[user.name]", twice, "cardinality(x)");
        let refused = ask(&sql).unwrap_err();
        assert!(matches!(refused, Error::Memory { .. }), "{twice}: {refused}");
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 600 << 20, "{grown} bytes");
}

#[test]
fn what_does_not_grow_is_answered() {
    for (sql, expected) in [
        (
            "select user.name || '-' || destination.port as x from events where user.name = 'ann' limit 1",
            "ann-443",
        ),
        ("select null || user.name as x from events limit 1", "null"),
        (
            "select replace(message, '/', '%2F') as x from events where message like '%passwd' limit 1",
            "GET %2Fetc%2Fpasswd",
        ),
        ("select concat(user.name, null, 'x') as x from events where user.name = 'ann' limit 1", "annx"),
        (
            "select array_to_string([user.name, 'b'], ',') as x from events where user.name = 'ann' limit 1",
            "ann,b",
        ),
    ] {
        let rows = ask(sql).unwrap();
        let shown = rows[0]["x"].as_str().map_or("null".to_owned(), str::to_owned);
        assert_eq!(shown, expected, "{sql}");
    }
}

#[test]
fn what_a_window_keeps_is_counted() {
    let limits = Limits { memory: 4 << 20, ..Limits::default() };
    let sql = "select sum(vedette.offset) over () as x, message from events";
    let mut answer = begin(sql, 100_000, limits, Arc::default()).unwrap();
    let mut refused = None;
    while refused.is_none() {
        match answer.next() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it was answered"),
            Err(error) => refused = Some(error),
        }
    }
    assert!(matches!(refused, Some(Error::Memory { .. })), "{refused:?}");
}

#[test]
fn a_short_text_is_no_plan_of_any_size() {
    let mut sql = "with t0 as (select 1 as x)".to_owned();
    for n in 1..60 {
        sql.push_str(&format!(", t{n} as (select * from t{} union all select * from t{})", n - 1, n - 1));
    }
    sql.push_str(" select count(*) from t59");
    let refused = error(&sql);
    assert!(matches!(refused, Error::TooLong { .. }), "{refused}");
    assert_eq!(one("with a as (select 1 as x), b as (select * from a, a c) select count(*) from b"), 1);
    assert_eq!(one("with events as (select user.name from events) select count(*) from events"), 6);
}
