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
    log::{self, Log, Plan},
    program::{Deployment, exchange},
    stored,
};
use crate::kafka::broker::Broker;

const SEED: u64 = 20_261_129;
const KILLS: usize = 50;

const PLAN: Plan =
    Plan { prefix: "lake", partitions: 2, seeds: [4, 5, 6], rate: 60, duration: Duration::from_secs(75) };

/// All files of the lake, whole or not.
fn files(data: &Path) -> Result<BTreeSet<PathBuf>> {
    below(&data.join("lake"))
}

/// All files below a folder.
pub fn below(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let (mut found, mut folders) = (BTreeSet::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        // The lake's is made with the first file.
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

/// Whether small files became a large one.
fn merged(deployment: &Deployment) -> Result<bool> {
    let files = files(&deployment.data())?;
    Ok(files.iter().any(|file| file.to_string_lossy().ends_with("-merged.parquet")))
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

/// The same once it is so many. The lake reads what detection has read, and need not have come as far when a service ends that has caught up.
pub fn held_in_the_end(deployment: &Deployment, wanted: usize) -> Result<BTreeMap<(String, i32, i64), i64>> {
    let mut held_now = held(deployment)?;
    for _ in 0..10 {
        if held_now.len() >= wanted {
            break;
        }
        let mut process = deployment.run()?;
        process.ready(200, "")?;
        thread::sleep(Duration::from_secs(3));
        process.stop()?;
        held_now = held(deployment)?;
    }
    Ok(held_now)
}

/// What the lake holds, which is what was written, each once.
pub fn all_once(
    plan: &Plan,
    broker: &Broker,
    deployment: &Deployment,
    written: u64,
) -> Result<BTreeMap<(String, i32, i64), i64>> {
    let mut expected = BTreeMap::new();
    let mut records = 0;
    for log in plan.read(broker)? {
        records += log.records.len() as u64;
        for offset in log.records.keys() {
            expected.insert((log.topic.clone(), log.partition, *offset), 1);
        }
    }
    ensure!(records == written, "{records} of {written} records");
    for (topic, partition, offset, ..) in stored::read(&deployment.data())?.dead {
        expected.remove(&(topic, partition, offset));
    }
    let found = held(deployment)?;
    let missing: Vec<_> = expected.keys().filter(|of| !found.contains_key(of)).take(5).collect();
    let twice: Vec<_> =
        found.iter().filter(|(of, n)| **n != 1 || !expected.contains_key(of)).take(5).collect();
    ensure!(missing.is_empty() && twice.is_empty(), "missing {missing:?}, too many {twice:?}");
    ensure!(found.len() == expected.len(), "{} events", found.len());
    Ok(found)
}

/// How many originals the lake has: each of an event, once, and the text of its record, but for what is masked.
pub fn originals(deployment: &Deployment, logs: &[Log]) -> Result<usize> {
    let sql = "select vedette.topic as t, vedette.partition as p, vedette.offset as o, event.original as line from events";
    let mut texts = BTreeMap::new();
    for line in said(deployment, &["hunt", "--format", "ndjson", sql])?.lines() {
        let row: Value = serde_json::from_str(line)?;
        let text = row["line"].as_str().with_context(|| format!("{row} has no original"))?.to_owned();
        let place = (row["t"].as_str().context("a topic")?.to_owned(), row["p"].as_i64(), row["o"].as_i64());
        texts.insert(place, text);
    }
    let mut same = 0;
    for log in logs {
        for (offset, (_, payload)) in &log.records {
            let place = (log.topic.clone(), Some(i64::from(log.partition)), Some(*offset));
            let (Some(text), Some(payload)) = (texts.get(&place), payload) else { continue };
            let record = String::from_utf8_lossy(payload);
            // Hashes stand where secrets were.
            let masked = text.contains("secret:");
            ensure!(masked || *text == record, "{text} is not {record}");
            same += usize::from(!masked);
        }
    }
    ensure!(same * 2 > texts.len(), "{same} of {} as they came", texts.len());
    // None is there twice, or of no event.
    let status: Value = serde_json::from_str(&said(deployment, &["lake", "status", "--format", "json"])?)?;
    let sources = status["sources"].as_object().context("sources")?;
    let rows: u64 = sources.values().filter_map(|source| source["originals"]["records"].as_u64()).sum();
    ensure!(rows == texts.len() as u64, "{rows} rows for {} events", texts.len());
    Ok(texts.len())
}

#[test]
fn each_event_is_in_the_lake_once_however_often_it_is_killed() -> Result<()> {
    let Some(broker) = Broker::shared("crash::lake")? else { return Ok(()) };
    PLAN.create_topics(&broker)?;
    let more = "engine: {skew: 1s}\nlake: {flush: 1s, originals: {records: all}}\n";
    let deployment = Deployment::new(&PLAN.kafka(&broker, "1s"), more)?;
    let mut orphans = false;
    let mut written = thread::scope(|scope| -> Result<_> {
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
    if !merged(&deployment)? {
        // Starts took so long that fewer files were written than are merged before their hour is over.
        let mut process = deployment.run()?;
        written += PLAN.write(&broker)?;
        process.stop()?;
    }
    finish(&deployment, log::now().plus(Span::secs(4)))?;
    said(&deployment, &["lake", "verify"])?;

    let found = all_once(&PLAN, &broker, &deployment, written)?;
    ensure!(found.len() > 5_000, "{} events", found.len());
    ensure!(originals(&deployment, &PLAN.read(&broker)?)? == found.len(), "originals of other events");
    let status: Value = serde_json::from_str(&said(&deployment, &["lake", "status", "--format", "json"])?)?;
    let sources = status["sources"].as_object().context("sources")?;
    let named: u64 = sources.values().filter_map(|source| source["files"].as_u64()).sum();
    ensure!(named >= 8 && orphans, "{named} files, orphans: {orphans}");
    // Small files became large ones meanwhile, and do so again without the service.
    let leaving = status["leaving"]["files"].as_u64() > Some(0);
    ensure!(merged(&deployment)? && leaving, "nothing was merged: {status}");
    said(&deployment, &["lake", "compact"])?;
    said(&deployment, &["lake", "verify"])?;
    ensure!(held(&deployment)? == found, "other events after merging");
    ensure!(originals(&deployment, &PLAN.read(&broker)?)? == found.len(), "other originals after merging");
    let raw: usize = PLAN
        .read(&broker)?
        .iter()
        .flat_map(|log| log.records.values())
        .map(|(_, text)| text.as_ref().map_or(0, Vec::len))
        .sum();
    println!("seed {SEED}: {} events of {written} records of {raw} B, {status}", found.len());
    Ok(())
}

const LIVE: Plan =
    Plan { prefix: "live", partitions: 2, seeds: [7, 8, 9], rate: 40, duration: Duration::from_secs(10) };
/// How long an event may take from Kafka into an answer; two seconds on a machine that does nothing else.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_hunt_of_the_service_sees_what_was_read_a_moment_ago() -> Result<()> {
    let Some(broker) = Broker::shared("crash::lake live")? else { return Ok(()) };
    LIVE.create_topics(&broker)?;
    let deployment =
        Deployment::new(&LIVE.kafka(&broker, "1s"), "lake: {flush: 5m, originals: {records: all}}\n")?;
    let mut process = deployment.run()?;
    let address = process.address()?;
    process.ready(200, "")?;
    let (token, analyst) = (deployment.token()?, deployment.token_of("ann", "analyst")?);
    let written = LIVE.write(&broker)?;
    let done = Instant::now();
    let lines = format!("Authorization: Bearer {token}\r\nContent-Type: application/json\r\n");
    let asked = || -> Result<u64> {
        let body = r#"{"sql": "select count(*) as rows_seen from events"}"#;
        let (status, _, body) = exchange("POST", &address, "/api/v1/hunts", &lines, body)?;
        ensure!(status == 200, "{status}: {body}");
        let rest = body.split("\"rows_seen\":").nth(1).context("no count")?;
        Ok(rest.trim_start().split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().parse()?)
    };
    // A record may hold several events, and some hold none.
    let mut seen = asked()?;
    let mut steady = Instant::now();
    while steady.elapsed() < Duration::from_secs(2) && done.elapsed() < SOON {
        thread::sleep(Duration::from_millis(100));
        let now = asked()?;
        if now != seen {
            (seen, steady) = (now, Instant::now());
        }
    }
    let took = steady.duration_since(done);
    ensure!(
        steady.elapsed() >= Duration::from_secs(2) && seen * 10 > written * 9,
        "{seen} events of {written} records"
    );
    let body =
        r#"{"sql": "select count(event.original) as rows_seen from events where event.original <> ''"}"#;
    let (status, _, kept) = exchange("POST", &address, "/api/v1/hunts", &lines, body)?;
    ensure!(status == 200 && kept.contains(&format!("{{\"rows_seen\":{seen}}}")), "{status}: {kept}");
    let lines = format!("Authorization: Bearer {analyst}\r\nContent-Type: application/json\r\n");
    let (status, _, said_no) = exchange("POST", &address, "/api/v1/hunts", &lines, body)?;
    ensure!(status == 403 && said_no.contains("permission `originals`"), "{status}: {said_no}");
    ensure!(files(&deployment.data())?.is_empty(), "a file after {:?}", process.age());
    println!("{seen} events of {written} records, the last {took:?} after it was written");
    process.stop()?;
    // What waited is in files now, and no more than that.
    let sql = "select count(*) as rows_seen from events";
    let line = said(&deployment, &["hunt", "--format", "ndjson", sql])?;
    ensure!(line.trim() == format!("{{\"rows_seen\":{seen}}}"), "{line} and not {seen}");
    Ok(())
}
