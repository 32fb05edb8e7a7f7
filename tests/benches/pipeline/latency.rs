//! From a record's being written to its notice, and to its final alert, on the stream of alerts.
//!
//! In: a service that has caught up, under a background. Out: [`Latencies`] in milliseconds.
//! Each sample is a session into the wallet zone from an address of its own, so that each is an alert of its own. Times
//! begin before the record is handed to the producer, so they hold the way to the broker too.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    net::TcpStream,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vedette_event::{Micros, Span};
use vedette_simulate::{Feed, Simulator};

use crate::{
    load::{self, Writer},
    service::Service,
};

/// The label of the records in question, and the rule that finds them.
const RULE: (&str, &str) = ("seg-wallet-zone", "63cce211-d6b2-48ca-9215-74caab00080a");
/// Samples at most: beyond a thousand an hour, a rule's alerts become one.
pub const MOST: usize = 900;
/// Patience for what has not come in time.
const GRACE: Duration = Duration::from_secs(30);

/// Milliseconds from writing, sorted.
#[derive(Debug, Default)]
pub struct Latencies {
    pub notice: Vec<f64>,
    pub r#final: Vec<f64>,
}

/// When each address was first seen.
#[derive(Debug, Default)]
struct Seen {
    notices: BTreeMap<String, Micros>,
    finals: BTreeMap<String, Micros>,
}

/// Writes the samples, about ten a second, and waits until all notices and final alerts have come, `due` after them.
pub fn measure(service: &mut Service, bootstrap: &str, samples: usize, due: Duration) -> Result<Latencies> {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let stream = service.follow(&format!("/api/v1/alerts/stream?rule={}", RULE.1))?;
    let (listening, into) = (Arc::new(AtomicBool::new(false)), seen.clone());
    let heard = listening.clone();
    // It ends with the stream, which ends with the service.
    thread::spawn(move || listen(stream, &heard, &into));
    let begun = Instant::now();
    while !listening.load(Ordering::Relaxed) {
        ensure!(begun.elapsed() < GRACE, "the stream of alerts does not answer");
        thread::sleep(Duration::from_millis(5));
    }
    let mut writer = Writer::new(bootstrap, 0)?;
    let mut written = Vec::with_capacity(samples);
    for sample in 0..samples {
        // Not in step with anything that happens at regular intervals.
        thread::sleep(Duration::from_millis(75 + (sample as u64 * 37) % 51));
        let address = format!("10.31.{}.{}", sample / 250, 1 + sample % 250);
        let line = session(&address)?;
        written.push((address, load::now()));
        writer.write(Feed::Firewall, &line)?;
        writer.flush()?;
    }
    let deadline = Instant::now() + due + GRACE;
    loop {
        service.alive()?;
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let complete =
            written.iter().all(|(a, _)| seen.notices.contains_key(a) && seen.finals.contains_key(a));
        if complete || Instant::now() > deadline {
            return Ok(Latencies {
                notice: latencies(&written, &seen.notices),
                r#final: latencies(&written, &seen.finals),
            });
        }
        drop(seen);
        thread::sleep(Duration::from_millis(100));
    }
}

/// Milliseconds, sorted, from when each was somewhere until it was seen; those that never were are left out.
pub fn latencies<'a>(
    from: impl IntoIterator<Item = &'a (String, Micros)>,
    seen: &BTreeMap<String, Micros>,
) -> Vec<f64> {
    let one = |(of, at): &(String, Micros)| Some(seen.get(of)?.since(*at).0 as f64 / 1e3);
    let mut all: Vec<f64> = from.into_iter().filter_map(one).collect();
    all.sort_by(f64::total_cmp);
    all
}

/// The simulator's session into the wallet zone, of now and from this address.
fn session(address: &str) -> Result<String> {
    let mut day = Simulator::new(0, load::now().minus(Span::secs(1)), 1);
    let record = (0..10).map(|_| day.next_record()).find(|r| r.label == Some(RULE.0));
    let line = record.context("the simulator makes no session into the wallet zone")?.line;
    let own = line.split(',').find(|field| field.starts_with("10.30.")).context("no source address")?;
    Ok(line.replace(&format!(",{own},"), &format!(",{address},")))
}

fn listen(stream: BufReader<TcpStream>, listening: &AtomicBool, seen: &Mutex<Seen>) {
    for line in stream.lines().map_while(Result::ok) {
        let at = load::now();
        listening.store(true, Ordering::Relaxed);
        let Some(data) = line.strip_prefix("data:") else { continue };
        let Ok(row) = serde_json::from_str::<Value>(data) else { continue };
        let Some(address) = row["key"]["source.ip"].as_str() else { continue };
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = if row["state"] == "notice" { &mut seen.notices } else { &mut seen.finals };
        kind.entry(address.to_owned()).or_insert(at);
    }
}
