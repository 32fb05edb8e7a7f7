//! SIGKILL at random moments while records come, on three threads: the bodies are those of a run that nobody disturbed, on
//! one thread, and of the kernel.

use std::{collections::BTreeMap, thread, time::Duration};

use anyhow::{Result, ensure};
use vedette_event::{Micros, Span};
use vedette_simulate::Random;

use super::{
    kernel::{self, Said},
    log::{self, Plan},
    program::{Deployment, Process},
    stored::{self, Stored},
};
use crate::kafka::broker::Broker;

const SEED: u64 = 20_261_125;
const KILLS: usize = 22;
const DISORDER: &str = "1s";
const ENGINE: &str = "engine: {skew: 1s, threads: 3}\n";
/// Everything in one loop.
const ENGINE_ALONE: &str = "engine: {skew: 1s, threads: 1}\n";
/// The longest rearm of the suite's own rules, and a little.
const SETTLE: Span = Span::secs(4);

/// Of all topics.
const PARTITIONS: usize = 9;

const PLAN: Plan =
    Plan { prefix: "kills", partitions: 3, seeds: [1, 2, 3], rate: 100, duration: Duration::from_secs(45) };

/// What is known of the kills.
#[derive(Debug, Default)]
struct Kills {
    all: usize,
    /// Within a second of the start.
    early: usize,
    /// Before anything was read.
    unread: usize,
    /// Of processes that took up every partition behind its start.
    resumed: usize,
}

#[test]
fn bodies_survive_being_killed() -> Result<()> {
    let Some(broker) = Broker::shared("crash::kills")? else { return Ok(()) };
    PLAN.create_topics(&broker)?;
    let killed = Deployment::new(&PLAN.kafka(&broker, DISORDER), ENGINE)?;
    let (kills, written) = thread::scope(|scope| -> Result<_> {
        let writer = scope.spawn(|| PLAN.write(&broker));
        let kills = kill_while(&killed, || !writer.is_finished())?;
        let written = writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        Ok((kills, written))
    })?;
    println!("seed {SEED}: {written} records, {kills:?}");
    let end = log::now().plus(SETTLE);
    let stopped = finish(&killed, end)?;
    ensure!(stopped < Duration::from_secs(10), "stopping took {stopped:?}");
    let undisturbed = Deployment::new(&PLAN.kafka(&broker, DISORDER), ENGINE_ALONE)?;
    finish(&undisturbed, end)?;

    let logs = PLAN.read(&broker)?;
    let read: usize = logs.iter().map(|log| log.records.len()).sum();
    ensure!(read as u64 == written, "{read} of {written} records");
    let (killed, undisturbed) = (stored::read(&killed.data())?, stored::read(&undisturbed.data())?);
    let kernel = |stored: &Stored| kernel::run(&logs, Span::secs(1), Span::secs(1), &stored.watermarks);
    let said = kernel(&killed)?;
    println!(
        "{} alerts, {} revisions, {} ended, of {:?}",
        said.bodies.len(),
        said.revisions.len(),
        said.ended,
        said.rules
    );
    agree("killed", &killed, &said)?;
    agree("undisturbed", &undisturbed, &kernel(&undisturbed)?)?;
    same(&killed, &undisturbed)?;

    ensure!(kills.all >= 20 && kills.early >= 3 && kills.unread >= 1 && kills.resumed >= 3, "{kills:?}");
    ensure!(said.rules.len() >= 14 && said.bodies.len() >= 500 && said.ended >= 300, "{:?}", said.rules);
    ensure!(said.revisions.len() > said.bodies.len() + 500, "{} revisions", said.revisions.len());
    ensure!(killed.dead.len() > 50, "{} dead letters", killed.dead.len());
    Ok(())
}

/// A disk that fills up ends the process with a clear error; with space again, nothing is missing.
#[test]
fn a_full_disk_ends_it_and_costs_nothing() -> Result<()> {
    let Some(broker) = Broker::shared("crash::kills")? else { return Ok(()) };
    let plan = Plan { prefix: "full", partitions: 1, duration: Duration::from_secs(10), ..PLAN };
    plan.create_topics(&broker)?;
    plan.write(&broker)?;
    let deployment = Deployment::new(&plan.kafka(&broker, DISORDER), ENGINE)?;
    let mut process = deployment.run_on_a_small_disk(1_024)?;
    let code = process.ended(Duration::from_secs(60))?;
    let log = process.log().join("\n");
    ensure!(code == Some(3) && log.contains("free space") && !log.contains("panicked"), "{code:?}\n{log}");
    finish(&deployment, log::now().plus(SETTLE))?;
    let stored = stored::read(&deployment.data())?;
    let said = kernel::run(&plan.read(&broker)?, Span::secs(1), Span::secs(1), &stored.watermarks)?;
    ensure!(said.bodies.len() > 100, "only {} alerts", said.bodies.len());
    agree("after a full disk", &stored, &said)
}

/// Starts the binary and kills it, again and again.
fn kill_while(deployment: &Deployment, going: impl Fn() -> bool) -> Result<Kills> {
    let mut random = Random::new(SEED);
    let mut kills = Kills::default();
    while going() || kills.all < KILLS {
        let mut process = deployment.run()?;
        // Some in the first second, while it opens the store, restores and replays; some when it has begun to read.
        let first_second = random.chance(40);
        let more = if first_second { random.below(1_000) } else { 500 + random.below(4_000) };
        if !first_second {
            process.until("all partitions", |p| (starts(p).len() == PARTITIONS).then_some(()))?;
        }
        thread::sleep(Duration::from_millis(more));
        let life = process.age();
        process.kill()?;
        let starts = starts(&process);
        let from: Vec<_> = starts.values().collect();
        println!("killed after {life:?}; it began at {from:?}");
        kills.all += 1;
        kills.early += usize::from(life < Duration::from_secs(1));
        kills.unread += usize::from(starts.is_empty());
        kills.resumed += usize::from(starts.len() == PARTITIONS && starts.values().all(|offset| *offset > 0));
    }
    Ok(kills)
}

/// Where each partition was taken up, as the log says.
fn starts(process: &Process) -> BTreeMap<(String, String), i64> {
    let value = |line: &str, name: &str| {
        let after = line.split(&format!(" {name}=")).nth(1)?;
        Some(after.split_whitespace().next()?.to_owned())
    };
    let start = |line: &String| {
        let place = (value(line, "topic")?, value(line, "partition")?);
        Some((place, value(line, "offset")?.parse().ok()?))
    };
    process.log().iter().filter(|line| line.contains(" reading ")).filter_map(start).collect()
}

/// Lets it run until all is read and the watermarks have passed a time, then stops it; gives how long that took.
pub fn finish(deployment: &Deployment, end: Micros) -> Result<Duration> {
    let token = deployment.token()?;
    let mut process = deployment.run()?;
    let address = process.address()?;
    process.until("the watermarks", |_| {
        let sources = super::program::api(&address, "/api/v1/sources", &token).ok()?;
        let items = sources["items"].as_array()?;
        let passed = |item: &serde_json::Value| {
            let reached = item["watermark"].as_str().and_then(Micros::parse_rfc3339);
            item["lag"] == 0 && reached.is_some_and(|reached| reached > end)
        };
        (items.len() == 3 && items.iter().all(passed)).then_some(())
    })?;
    process.stop()
}

/// A store holds exactly what the kernel says at its watermarks: bodies byte for byte, and every revision on the way.
pub fn agree(name: &str, stored: &Stored, said: &Said) -> Result<()> {
    for (id, body) in &said.bodies {
        let found = stored.bodies.get(id);
        ensure!(found == Some(body), "{name}, alert {id}:\nstored {found:?}\nkernel {body:?}");
    }
    for id in stored.bodies.keys() {
        ensure!(said.bodies.contains_key(id), "{name}: the kernel knows no {:?}", stored.bodies[id]);
    }
    for (revision, point) in &said.revisions {
        let found = stored.revisions.get(revision);
        ensure!(found == Some(point), "{name}, revision {revision:?}: stored {found:?}, kernel {point:?}");
    }
    ensure!(
        stored.revisions.len() == said.revisions.len(),
        "{name}: {} revisions too many",
        stored.revisions.len()
    );
    ensure!(stored.dead.len() == said.dead, "{name}: {} dead letters, not {}", stored.dead.len(), said.dead);
    ensure!(stored.dead_count == said.dead as u64, "{name}: {} dead letters counted", stored.dead_count);
    ensure!((stored.placements, stored.lost) == (0, 0), "{name}: {stored:?}");
    Ok(())
}

/// Two runs hold the same, but for revisions that one of them, whose watermark is further, has and the other has not yet.
pub fn same(killed: &Stored, undisturbed: &Stored) -> Result<()> {
    ensure!(killed.bodies.keys().eq(undisturbed.bodies.keys()), "other alerts");
    ensure!(killed.dead == undisturbed.dead, "other dead letters");
    let mut equal = 0;
    for (id, (revision, body)) in &killed.bodies {
        let (other_revision, other) = &undisturbed.bodies[id];
        if revision == other_revision {
            ensure!(body == other, "{id}:\n{body}\n{other}");
            equal += 1;
        }
    }
    // The rules of the repository have windows of minutes: theirs may go on a little.
    ensure!(
        equal * 10 >= killed.bodies.len() * 9,
        "only {equal} of {} could be compared",
        killed.bodies.len()
    );
    for (revision, point) in &killed.revisions {
        let other = undisturbed.revisions.get(revision);
        ensure!(other == Some(point), "{revision:?}: {point:?} and {other:?}");
    }
    Ok(())
}
