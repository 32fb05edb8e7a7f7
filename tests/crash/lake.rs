//! The lake is filled while the service is killed again and again: each event is in it once.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Output,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use vedette_event::Span;
use vedette_simulate::Random;

use super::{
    kills::finish,
    log::{self, Plan},
    program::Deployment,
    stored,
};
use crate::kafka::broker::Broker;

const SEED: u64 = 20_261_129;
const KILLS: usize = 50;

const PLAN: Plan =
    Plan { prefix: "lake", partitions: 2, seeds: [4, 5, 6], rate: 60, duration: Duration::from_secs(75) };

/// All files of the lake, whole or not.
fn files(data: &Path) -> Result<BTreeSet<PathBuf>> {
    let (mut found, mut folders) = (BTreeSet::new(), vec![data.join("lake")]);
    while let Some(folder) = folders.pop() {
        // It is made with the first file.
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path);
            }
        }
    }
    Ok(found)
}

/// What the program writes, which must succeed.
pub fn said(deployment: &Deployment, args: &[&str]) -> Result<String> {
    let Output { status, stdout, stderr } = deployment.command(args)?.output()?;
    ensure!(status.success(), "{args:?}: {}", String::from_utf8_lossy(&stderr));
    Ok(String::from_utf8(stdout)?)
}

/// By topic, partition and offset: how many events the lake holds.
pub fn held(deployment: &Deployment) -> Result<BTreeMap<(String, i32, i64), i64>> {
    let sql = "select vedette.topic, vedette.partition, vedette.offset, count(*) as n from events \
               group by vedette.topic, vedette.partition, vedette.offset";
    let mut found = BTreeMap::new();
    for line in said(deployment, &["hunt", "--format", "ndjson", sql])?.lines() {
        let row: Value = serde_json::from_str(line)?;
        let topic = row["vedette.topic"].as_str().context("a topic")?.to_owned();
        let partition = row["vedette.partition"].as_i64().context("a partition")? as i32;
        let offset = row["vedette.offset"].as_i64().context("an offset")?;
        found.insert((topic, partition, offset), row["n"].as_i64().context("a number")?);
    }
    Ok(found)
}

#[test]
fn each_event_is_in_the_lake_once_however_often_it_is_killed() -> Result<()> {
    let Some(broker) = Broker::shared("crash::lake")? else { return Ok(()) };
    PLAN.create_topics(&broker)?;
    let more = "engine: {skew: 1s}\nlake: {flush: 1s}\n";
    let deployment = Deployment::new(&PLAN.kafka(&broker, "1s"), more)?;
    let mut orphans = false;
    let written = thread::scope(|scope| -> Result<_> {
        let writer = scope.spawn(|| PLAN.write(&broker));
        let mut random = Random::new(SEED);
        for kill in 0..KILLS {
            let before = files(&deployment.data())?;
            let mut process = deployment.run()?;
            if kill % 2 == 0 {
                thread::sleep(Duration::from_millis(300 + random.below(1_000)));
            } else {
                // While a file is being written, right behind it, or when the catalog has just named it.
                let began = Instant::now();
                while files(&deployment.data())?.is_subset(&before)
                    && began.elapsed() < Duration::from_secs(20)
                {
                    thread::sleep(Duration::from_millis(1));
                }
                thread::sleep(Duration::from_millis(random.below(if kill % 4 == 1 { 40 } else { 800 })));
            }
            process.kill()?;
            orphans |= process.log().iter().any(|line| line.contains("were removed from the lake"));
        }
        writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?
    })?;
    finish(&deployment, log::now().plus(Span::secs(4)))?;
    said(&deployment, &["lake", "verify"])?;

    let mut expected = BTreeMap::new();
    let mut records = 0;
    for log in PLAN.read(&broker)? {
        records += log.records.len() as u64;
        for offset in log.records.keys() {
            expected.insert((log.topic.clone(), log.partition, *offset), 1);
        }
    }
    ensure!(records == written, "{records} of {written} records");
    for (topic, partition, offset, ..) in stored::read(&deployment.data())?.dead {
        expected.remove(&(topic, partition, offset));
    }
    let found = held(&deployment)?;
    let missing: Vec<_> = expected.keys().filter(|of| !found.contains_key(of)).take(5).collect();
    let twice: Vec<_> =
        found.iter().filter(|(of, n)| **n != 1 || !expected.contains_key(of)).take(5).collect();
    ensure!(missing.is_empty() && twice.is_empty(), "missing {missing:?}, too many {twice:?}");
    ensure!(found.len() == expected.len() && found.len() > 5_000, "{} events", found.len());
    let status: Value = serde_json::from_str(&said(&deployment, &["lake", "status", "--format", "json"])?)?;
    let sources = status["sources"].as_object().context("sources")?;
    let held: u64 = sources.values().filter_map(|source| source["files"].as_u64()).sum();
    ensure!(held >= 8 && orphans, "{held} files, orphans: {orphans}");
    println!("seed {SEED}: {} events of {written} records, {status}", found.len());
    Ok(())
}
