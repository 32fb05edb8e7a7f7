//! What the lake and hunts cost detection.
//!
//! In: records in a log. Out: time and processor time until nothing is left to read, without a lake and with one, and with one while somebody asks
//! what takes all there is. Invariants: they take turns, and each reads the same log from its start with an empty store; what is asked reads
//! events that are in files by then.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    PATIENCE, ROUNDS, Report, lag_0,
    service::{Asker, Deployment, Usage},
};

/// What somebody asks who does not know what it costs: a product of everything with itself, an expression over all texts, a sort of all there is.
const BAD: [&str; 3] = [
    "select count(*) from events a, events b where a.\"source.ip\" < b.\"source.ip\"",
    "select count(*) from events where \"event.unmapped\" ~ '(a|e|i|o|u){3}.*[0-9]{7}' or \"url.query\" ~ '.*x.*y.*z'",
    "select * from events order by \"event.unmapped\", \"@timestamp\" limit 1000",
];
/// How many ask at once; the service runs two hunts at once.
const ASKERS: usize = 2;
const POLL: Duration = Duration::from_millis(200);

/// All of it.
pub fn measure(at: (&Path, &str), disorder: Option<u64>, records: u64, report: &mut Report) -> Result<()> {
    for _ in 0..ROUNDS {
        for (lake, asked) in [(false, false), (true, false), (true, true)] {
            let what = match (lake, asked) {
                (false, _) => "without a lake",
                (true, false) => "with a lake",
                (true, true) => "with a lake and bad questions",
            };
            let deployment = Deployment::new(at, disorder, None)?.with_lake(lake)?;
            let mut service = deployment.run()?;
            let asking = if asked { ask(&service.asker()) } else { Vec::new() };
            let (reading, took) = lag_0(&mut service)?;
            ensure!(
                reading.records == records,
                "{} records of {records}:\n{}",
                reading.records,
                service.log()
            );
            report.add(format!("{what}: from start to lag 0"), took.as_secs_f64(), "s");
            if asked {
                let done = asking.into_iter().map(Asking::end).sum::<u64>();
                report.add(format!("{what}: questions that ended meanwhile"), done as f64, "");
            } else if lake {
                in_files(&deployment, reading.events)?;
                report.add(
                    format!("{what}: until all is in files"),
                    service.started.elapsed().as_secs_f64(),
                    "s",
                );
            }
            let Usage { cpu, peak } = service.usage()?;
            report.add(format!("{what}: processor time in all"), cpu, "s");
            report.add(format!("{what}: most memory resident"), peak, "MiB");
            service.kill()?;
        }
    }
    Ok(())
}

/// Waits until so many events are in files.
fn in_files(deployment: &Deployment, wanted: u64) -> Result<()> {
    let begun = Instant::now();
    loop {
        let status = deployment.asked(&["lake", "status", "--format", "json"])?;
        let status: Value = serde_json::from_str(&status)?;
        let sources = status["sources"].as_object().context("no sources")?;
        let events: u64 = sources.values().filter_map(|of| of["events"].as_u64()).sum();
        if events >= wanted {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "the lake has {events} events of {wanted}");
        thread::sleep(POLL);
    }
}

/// Somebody who asks again and again.
struct Asking {
    over: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Asking {
    /// How many questions ended; one that is under way does not count.
    fn end(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        let done = self.done.load(Ordering::Relaxed);
        // Its thread ends with its last answer, or with the service.
        drop(self.thread);
        done
    }
}

fn ask(asker: &Asker) -> Vec<Asking> {
    let each = |number: usize| {
        let (over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (asker, flag, count) = (asker.clone(), over.clone(), done.clone());
        let thread = thread::spawn(move || {
            for sql in BAD.iter().cycle().skip(number) {
                if flag.load(Ordering::Relaxed) {
                    return;
                }
                // What is refused is too much for a hunt, and an end as good as an answer.
                if asker.hunt(&json!({"sql": sql})).is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                thread::sleep(POLL);
            }
        });
        Asking { over, done, thread }
    };
    (0..ASKERS).map(each).collect()
}
