//! The whole way, measured: records on a real Kafka, the release binary, alerts over HTTP.
//!
//! In: `cargo bench -p vedette-tests --bench pipeline -- [--records N] [--samples N] [--background RATE] [--rate RATE]
//! [--disorder SECONDS] [--threads N]… [--storm RULES]… [--hosts N]
//! [--keys N] [--acting] [--hunting] [--binary PATH] [--json]`, and Kafka's jars in
//! `VEDETTE_KAFKA_LIB`. Out: a table, or one JSON object: throughput and processor time from an empty store to lag 0, the same after a SIGKILL half-way, latency of
//! notices and final alerts under a background, and how long a restart takes.
//! With `--threads` it measures only throughput, with each number of threads in turn, three times over.
//! With `--storm` it measures only that: so many rules that fire for all hosts at once. With `--keys` only what so many keys cost.
//! With `--acting` only how long it takes until people and bouncers hear of a record.
//! With `--hunting` only what the lake and hunts cost.
//! Without `--disorder` the sources keep their own `D`, and final alerts take more than a minute to come.

#![allow(clippy::print_stdout)]

mod acting;
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../../kafka/broker.rs"]
mod broker;
mod hunting;
mod keys;
mod latency;
mod load;
mod service;
#[path = "../../skipped.rs"]
mod skipped;
mod storm;

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use vedette_event::{Micros, Span};
use vedette_simulate::Feed;

use broker::Broker;
use load::{Background, PARTITIONS};
use service::{Deployment, Reading, SKEW, Service, Usage};

/// `D` of the firewall, whose sessions are the samples.
const DISORDER: Span = Span::secs(60);
const POLL: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(600);
/// How often each number of threads has its turn.
const ROUNDS: usize = 3;

struct Args {
    records: u64,
    samples: usize,
    background: u32,
    rate: u32,
    disorder: Option<u64>,
    threads: Vec<u16>,
    storms: Vec<usize>,
    hosts: usize,
    keys: Option<u64>,
    acting: bool,
    hunting: bool,
    binary: Option<PathBuf>,
    json: bool,
}

impl Args {
    fn parse() -> Result<Self> {
        let mut all = Self {
            records: 1_000_000,
            samples: 300,
            background: 500,
            rate: 25_000,
            disorder: None,
            threads: Vec::new(),
            storms: Vec::new(),
            hosts: 1_000,
            keys: None,
            acting: false,
            hunting: false,
            binary: None,
            json: false,
        };
        let mut args = std::env::args().skip(1);
        while let Some(name) = args.next() {
            let mut value = || args.next().with_context(|| format!("{name} needs a value"));
            match name.as_str() {
                "--records" => all.records = value()?.parse()?,
                "--samples" => all.samples = value()?.parse()?,
                "--background" => all.background = value()?.parse()?,
                "--rate" => all.rate = value()?.parse()?,
                "--disorder" => all.disorder = Some(value()?.parse()?),
                "--threads" => all.threads.push(value()?.parse()?),
                "--storm" => all.storms.push(value()?.parse()?),
                "--hosts" => all.hosts = value()?.parse()?,
                "--keys" => all.keys = Some(value()?.parse()?),
                "--binary" => all.binary = Some(value()?.into()),
                "--acting" => all.acting = true,
                "--hunting" => all.hunting = true,
                "--json" => all.json = true,
                // Cargo says so to every bench.
                "--bench" => {}
                other => bail!("unknown argument {other}"),
            }
        }
        ensure!(all.samples <= latency::MOST, "at most {} samples", latency::MOST);
        Ok(all)
    }
}

/// A figure: its name, its value and unit, and whether it keeps what is promised, if anything is.
struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    kept: Option<bool>,
}

#[derive(Default)]
struct Report(Vec<Figure>);

impl Report {
    fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        let figure = Figure { name: name.into(), value, unit, kept: None };
        eprintln!("  {} {:.3} {}", figure.name, figure.value, figure.unit);
        self.0.push(figure);
    }

    fn promise(&mut self, name: impl Into<String>, value: f64, unit: &'static str, kept: bool) {
        self.add(name, value, unit);
        if let Some(last) = self.0.last_mut() {
            last.kept = Some(kept);
        }
    }

    /// Percentiles of sorted times; the 99th is promised to lie below `bound`, and none of `expected` may be missing.
    fn latencies(&mut self, what: &str, sorted: &[f64], expected: usize, bound: f64) {
        let at = |share: f64| {
            let rank = (share * sorted.len() as f64).ceil() as usize;
            sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
        };
        self.promise(
            format!("{what}: received"),
            sorted.len() as f64,
            "of the samples",
            sorted.len() == expected,
        );
        self.add(format!("{what}: p50"), at(0.5), "ms");
        self.add(format!("{what}: p90"), at(0.9), "ms");
        self.promise(format!("{what}: p99 (promised below {bound:.0} ms)"), at(0.99), "ms", at(0.99) < bound);
        self.add(format!("{what}: max"), at(1.0), "ms");
    }

    fn print(&self, as_json: bool) {
        let verdict = |kept: Option<bool>| kept.map_or("", |kept| if kept { "kept" } else { "BROKEN" });
        if as_json {
            let figures = self.0.iter().map(|f| {
                json!({"name": f.name, "value": f.value, "unit": f.unit, "kept": f.kept.map_or(Value::Null, Value::Bool)})
            });
            println!("{}", json!({ "figures": figures.collect::<Vec<_>>() }));
            return;
        }
        for Figure { name, value, unit, kept } in &self.0 {
            println!("{name:<62} {value:>14.2} {unit:<16} {}", verdict(*kept));
        }
    }
}

fn main() -> Result<()> {
    let args = Args::parse()?;
    let Some(mut broker) = Broker::start("bench pipeline")? else { return Ok(()) };
    let binary = args.binary.clone().map_or_else(service::build, Ok)?;
    if !args.storms.is_empty() {
        let mut report = Report::default();
        for rules in &args.storms {
            broker.create_topic(&storm::topic(*rules), PARTITIONS, &[])?;
            storm::measure(&binary, &broker.bootstrap(), *rules, args.hosts, &mut report)?;
        }
        report.print(args.json);
        return broker.kill();
    }
    if let Some(keys) = args.keys {
        let mut report = Report::default();
        keys::measure((&binary, &mut broker), keys, args.threads.first().copied(), &mut report)?;
        report.print(args.json);
        return broker.kill();
    }
    if args.acting {
        let mut report = Report::default();
        broker.create_topic(acting::TOPIC, 1, &[])?;
        acting::measure(&binary, &broker.bootstrap(), args.samples.min(acting::MOST), &mut report)?;
        report.print(args.json);
        return broker.kill();
    }
    for feed in Feed::ALL {
        broker.create_topic(feed.topic(), PARTITIONS, &[])?;
    }
    let bootstrap = broker.bootstrap();
    let mut report = Report::default();

    eprintln!("writing {} records", args.records);
    let begun = Instant::now();
    let bytes = load::preload(&bootstrap, args.records, args.rate)?;
    let written = load::now();
    report.add("records", args.records as f64, "");
    report.add("bytes a record", bytes as f64 / args.records as f64, "");
    report.add("writing them to Kafka", begun.elapsed().as_secs_f64(), "s");

    let deploy = |threads| Deployment::new((&binary, &bootstrap), args.disorder, threads);
    if !args.threads.is_empty() {
        for threads in std::iter::repeat_n(&args.threads, ROUNDS).flatten() {
            eprintln!("{threads} threads");
            throughput(&mut deploy(Some(*threads))?.run()?, args.records, &mut report)?;
        }
        report.print(args.json);
        return broker.kill();
    }
    if args.hunting {
        hunting::measure((&binary, &bootstrap), args.disorder, args.records, &mut report)?;
        report.print(args.json);
        return broker.kill();
    }
    let deployment = deploy(None)?;
    killed_half_way(&deploy(None)?, args.records, &mut report)?;
    let mut service = catch_up(&deployment, args.records, written, &mut report)?;

    eprintln!("{} samples, {} records a second beside them", args.samples, args.background);
    let background = Background::start(&bootstrap, args.background)?;
    let promised = args.disorder.map_or(DISORDER, |seconds| Span::secs(seconds as i64)).0 + SKEW.0;
    let promised = Duration::from_micros(promised.unsigned_abs());
    let (before, since) = (service.usage()?, Instant::now());
    let found = latency::measure(&mut service, &bootstrap, args.samples, promised)?;
    let busy = (service.usage()?.cpu - before.cpu) / since.elapsed().as_secs_f64();
    report.latencies("from a record to its notice", &found.notice, args.samples, 1e3);
    let bound = promised.as_secs_f64() * 1e3 + 1e3;
    report.latencies("from a record to its final alert", &found.r#final, args.samples, bound);
    report.add("processor time meanwhile", busy * 100.0, "% of a core");
    background.stop()?;

    restart(&deployment, service, &mut report)?;
    report.print(args.json);
    broker.kill()
}

/// Polls until reading has come as far as this; how far it came in fact, and when.
fn until(service: &mut Service, far: impl Fn(&Reading) -> bool) -> Result<(Reading, Duration)> {
    loop {
        let reading = service.reading()?;
        if far(&reading) {
            return Ok((reading, service.started.elapsed()));
        }
        service.alive()?;
        ensure!(service.started.elapsed() < PATIENCE, "stuck at {reading:?}:\n{}", service.log());
        thread::sleep(POLL);
    }
}

/// Waits until nothing is left of what was there at the start.
fn lag_0(service: &mut Service) -> Result<(Reading, Duration)> {
    let start = service.started_at;
    until(service, |r| r.lag == Some(0) && r.through.is_some_and(|through| through >= start))
}

/// From an empty store to lag 0.
fn throughput(service: &mut Service, records: u64, report: &mut Report) -> Result<()> {
    let (first, since) = until(service, |r| r.records > 0)?;
    let (middle, then) = until(service, |r| r.records > records * 3 / 4 || r.lag == Some(0))?;
    let (reading, took) = lag_0(service)?;
    ensure!(reading.records == records, "{} records of {records}:\n{}", reading.records, service.log());
    let Usage { cpu, peak } = service.usage()?;
    report.add("from start to lag 0", took.as_secs_f64(), "s");
    report.add("events", reading.events as f64, "");
    report.add("events whose time was replaced", reading.flagged as f64, "");
    report.add("events a second, start to lag 0", reading.events as f64 / took.as_secs_f64(), "/s");
    if middle.records > first.records {
        let rate = (middle.events - first.events) as f64 / (then - since).as_secs_f64();
        report.add("events a second, in the midst", rate, "/s");
    }
    report.add("processor time an event", cpu * 1e6 / reading.events as f64, "us");
    report.add("processor time in all", cpu, "s");
    report.add("most memory resident", peak, "MiB");
    Ok(())
}

/// The same, then until all is final.
fn catch_up(deployment: &Deployment, records: u64, written: Micros, report: &mut Report) -> Result<Service> {
    eprintln!("catching up");
    let mut service = deployment.run()?;
    throughput(&mut service, records, report)?;
    let r#final = written.plus(DISORDER).plus(SKEW);
    until(&mut service, |r| r.through.is_some_and(|through| through > r#final))?;
    // The view and the publisher are at most a second behind.
    thread::sleep(Duration::from_secs(2));
    let status = service.api("/api/v1/status")?;
    let opened = status["publish"]["alerts"].as_object().context("no alerts")?;
    let alerts: u64 = opened.values().filter_map(Value::as_u64).sum();
    report.add("alerts", alerts as f64, "");
    report.add("notices", status["publish"]["notices"].as_f64().unwrap_or_default(), "");
    Ok(service)
}

/// Kills it in the midst of catching up.
fn killed_half_way(deployment: &Deployment, records: u64, report: &mut Report) -> Result<()> {
    eprintln!("catching up, with a kill half-way");
    let mut service = deployment.run()?;
    let (before, _) = until(&mut service, |r| r.records > records / 2 || r.lag == Some(0))?;
    service.kill()?;
    let mut service = deployment.run()?;
    let (after, took) = lag_0(&mut service)?;
    report.add("killed after", before.records as f64, "records");
    report.add("records read after that", after.records as f64, "");
    report.add("from the start after that to lag 0", took.as_secs_f64(), "s");
    service.kill()
}

/// Kills it when it has caught up.
fn restart(deployment: &Deployment, service: Service, report: &mut Report) -> Result<()> {
    service.kill()?;
    let mut service = deployment.run()?;
    let (reading, took) = lag_0(&mut service)?;
    report.add("killed with lag 0: to lag 0 again", took.as_secs_f64(), "s");
    report.add("records read again for that", reading.records as f64, "");
    service.kill()
}
