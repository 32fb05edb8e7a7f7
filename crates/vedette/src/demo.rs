//! `vedette demo`: everything in one process on loopback, with the simulator.
//!
//! In: a seed and a rate, rules if not the built-in ones. Out: a console with live alerts. The records go through an in-process broker and the
//! ordinary Kafka path; schemas are the built-in ones; the store is a folder that goes with the process.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use vedette_api::live::Mode;
use vedette_event::Span;
use vedette_ingest::{MockBroker, Security, TopicWriter};
use vedette_simulate::{Feed, Simulator};
use vedette_store::model::SummaryBy;

use crate::{
    Failure, World as _,
    config::Config,
    content::{self, RuleText},
    service::{self, Stage},
    yaml,
};

/// Partitions of each topic: the in-process broker keeps only 5 MiB of each.
const PARTITIONS: i32 = 4;
/// How long one partition of each topic is written to before the next is.
const TURN: Span = Span(250_000);
/// How disordered records may be: the simulator writes them in order.
const DISORDER: Span = Span::secs(2);

/// What `demo` is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  vedette demo --rate 2000
  vedette demo --rules my-rules/")]
pub struct Args {
    /// Port of console and API; 0 takes a free one.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// The same seed gives the same day.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Background events a second.
    #[arg(long, value_name = "EVENTS_PER_S", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    rate: u32,
    /// Rules instead of the built-in ones: a folder or a file; may be given more than once.
    #[arg(long, value_name = "DIR")]
    rules: Vec<PathBuf>,
    /// Do not open a browser.
    #[arg(long)]
    no_browser: bool,
}

/// Runs the demo until it is stopped.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let broker = MockBroker::start().map_err(|e| Failure::World(e.into()))?;
    for feed in Feed::ALL {
        broker.create_topic(feed.topic(), PARTITIONS).map_err(|e| Failure::World(e.into()))?;
    }
    let folder = Folder::make().world()?;
    let config = configuration(&broker.bootstrap_servers(), &folder, args).world()?;
    crate::telemetry::start(&config.log).map_err(Failure::Usage)?;
    let text = rules(&args.rules)?;
    let runtime = service::runtime().world()?;
    let written = Arc::new(Written::default());
    let started = Instant::now();
    let done = runtime.block_on(async {
        let Some(service) = service::start(config, (text, [0; 32]), Mode::Demo).await? else { return Ok(()) };
        if let Err(e) = writeln!(io::stdout(), "console: http://{}/", service.address) {
            service.stop(async |_| ()).await?;
            return Err(e).world();
        }
        say!("a simulated exchange writes {} events a second; Ctrl-C stops it", args.rate);
        if !args.no_browser {
            open_browser(&format!("http://{}/", service.address));
        }
        let writer = TopicWriter::connect(&[broker.bootstrap_servers()], &Security::default()).world()?;
        let (simulator, noted) = (Simulator::new(args.seed, crate::now(), args.rate), written.clone());
        let obeyed = service.in_force();
        let write = move |stage: &Stage| write_records(&writer, (simulator, obeyed), &noted, stage);
        service.simulate(write).world()?;
        let stopped = service.until_stopped(summary).await?;
        print_summary(&written, started.elapsed(), &stopped);
        Ok(())
    });
    // What hangs in it is not waited for.
    runtime.shutdown_background();
    done.map(|()| 0)
}

/// Those asked for, else the built-in ones.
fn rules(paths: &[PathBuf]) -> Result<RuleText, Failure> {
    if paths.is_empty() {
        return content::built_in_rules().world();
    }
    content::rules(paths).map_err(|e| Failure::Usage(e.context("--rules")))
}

fn configuration(brokers: &str, folder: &Folder, args: &Args) -> Result<Config> {
    let topics: String = Feed::ALL
        .iter()
        .map(|feed| {
            let (name, source) = (feed.topic(), feed.source());
            format!("    - {{name: {name}, source: {source}, time_source: producer, disorder: {DISORDER}}}\n")
        })
        .collect();
    let mut config: Config =
        yaml::parse("demo", &format!("kafka:\n  brokers: {brokers}\n  topics:\n{topics}"))?;
    // Not read again, but named where something is wrong.
    config.rules.clone_from(&args.rules);
    config.data = folder.0.clone();
    config.api.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    config.log.level = "warn".to_owned();
    Ok(config)
}

/// What the simulator has written.
#[derive(Debug, Default)]
struct Written {
    records: AtomicU64,
    attacks: AtomicU64,
}

/// Writes records as their time comes, until it is to stop.
fn write_records(
    writer: &TopicWriter,
    (mut simulator, mut obeyed): (Simulator, service::InForceAtAll),
    written: &Written,
    stage: &Stage,
) -> Result<()> {
    while !stage.stopping() {
        stage.works();
        let record = simulator.next_record();
        // The simulated firewall, web application firewall and gateway enforce what is in force from the next record on.
        let record = if obeyed.covers(&record.source) { record.denied() } else { record };
        let ahead = record.time.since(crate::now());
        if ahead > Span::ZERO {
            std::thread::sleep(Duration::from_micros(ahead.0.unsigned_abs().min(200_000)));
        }
        // By turns of a while, so that what is sent at once fills few of the broker's batches: it walks along all it has.
        let turn = (record.time.0 / TURN.0).rem_euclid(i64::from(PARTITIONS)) as i32;
        if let Err(error) = writer.write(record.feed.topic(), turn, record.time, record.line.as_bytes()) {
            tracing::warn!(%error, "a simulated record could not be written");
            continue;
        }
        written.records.fetch_add(1, Ordering::Relaxed);
        written.attacks.fetch_add(u64::from(record.label.is_some()), Ordering::Relaxed);
    }
    Ok(())
}

async fn summary(store: &vedette_store::Store) -> BTreeMap<String, u64> {
    let counts = store.summary(SummaryBy::Rule, &vedette_store::model::Filter::default()).await;
    let groups = counts.map(|summary| summary.groups).unwrap_or_default();
    groups.into_iter().map(|group| (group.name, group.count)).collect()
}

fn print_summary(written: &Written, ran: Duration, alerts: &BTreeMap<String, u64>) {
    let (records, attacks) =
        (written.records.load(Ordering::Relaxed), written.attacks.load(Ordering::Relaxed));
    say!("{records} records in {} s, {attacks} of them part of an attack", ran.as_secs());
    let total: u64 = alerts.values().sum();
    say!("{total} alerts of {} rules", alerts.len());
}

/// A folder for the store that goes with the process.
struct Folder(std::path::PathBuf);

impl Folder {
    fn make() -> Result<Self> {
        // One that is there already is somebody else's.
        let name = format!("vedette-demo-{}-{}", std::process::id(), crate::now().0);
        let path = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing of value is in it, and the system clears temporary folders in time.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn open_browser(url: &str) {
    let quiet = std::process::Stdio::null;
    let opened = std::process::Command::new("xdg-open").arg(url).stdout(quiet()).stderr(quiet()).spawn();
    if opened.is_err() {
        tracing::debug!("no browser was opened");
    }
}
