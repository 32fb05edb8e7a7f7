//! A lake in a bucket of a real server that speaks S3's protocol: each event once, whatever is killed or refused when, and the same answers as
//! from a folder.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
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
    lake::{all_once, below, held, held_in_the_end, said},
    log::{self, Plan},
    program::{Deployment, exchange},
    s3::{KEYS, S3},
};
use crate::{api::hunts::whole, binary::binary, kafka::broker::Broker};

const SEED: u64 = 20_261_129;
const BUCKET: &str = "soc-lake";
const PREFIX: &str = "vedette/one";

const PLAN: Plan =
    Plan { prefix: "bucket", partitions: 2, seeds: [4, 5, 6], rate: 60, duration: Duration::from_secs(60) };

const EVERY: [&str; 4] = [
    "select vedette.source, count(*) as n, min(\"@timestamp\") as a, max(\"@timestamp\") as b from events group by 1 order by 1",
    "select source.ip, count(*) as n from events group by 1 order by 2 desc, 1 limit 20",
    "select * from events where destination.port = 22 order by \"@timestamp\", vedette.topic, vedette.partition, vedette.offset limit 50",
    "select count(*) as n from events where match(url.original, 'login') or source.ip = '203.0.113.9'",
];

/// The keys that say where the lake is.
fn lake(deployment: &Deployment, s3: &S3) -> Result<String> {
    lake_at(deployment, &format!("http://{}", s3.address()), "")
}

fn lake_at(deployment: &Deployment, endpoint: &str, more: &str) -> Result<String> {
    let [access, secret] = ["access-key", "secret-key"].map(|name| deployment.folder().join(name));
    fs::write(&access, KEYS.0)?;
    fs::write(&secret, KEYS.1)?;
    Ok(format!(
        "engine: {{skew: 1s}}\nlake:\n  flush: 1s\n  location: s3://{BUCKET}/{PREFIX}\n  s3:\n    endpoint: {endpoint}\n{more}    \
         access_key: {{file: {}}}\n    secret_key: {{file: {}}}\n",
        access.display(),
        secret.display()
    ))
}

/// The names of objects that are Parquet files.
fn objects(s3: &S3) -> Result<BTreeSet<PathBuf>> {
    let mut all = below(&s3.bucket(BUCKET))?;
    all.retain(|path| path.extension().is_some_and(|end| end == "parquet"));
    Ok(all)
}

/// What happened to the service.
#[derive(Debug, Default)]
struct Disturbed {
    kills: usize,
    /// It could not begin, or could not put what it had.
    refused: [usize; 2],
    /// Something was removed that a killed process had put.
    orphans: usize,
}

/// Kills the service again and again while records come, and has the bucket refuse everything now and then.
fn disturb(deployment: &Deployment, s3: &S3, going: impl Fn() -> bool) -> Result<Disturbed> {
    let mut random = Random::new(SEED);
    let mut all = Disturbed::default();
    while going() {
        let before = objects(s3)?;
        let more = |patience: u64| -> Result<()> {
            let began = Instant::now();
            while going()
                && objects(s3)?.is_subset(&before)
                && began.elapsed() < Duration::from_secs(patience)
            {
                thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        };
        s3.refuses(all.kills % 5 == 3);
        let mut process = deployment.run()?;
        match all.kills % 5 {
            3 => {
                process.says("the lake stands still")?;
                // Detection goes on meanwhile.
                process.ready(200, "")?;
                s3.refuses(false);
                more(20)?;
                all.refused[0] += 1;
            }
            1 => {
                more(20)?;
                s3.refuses(true);
                process.says("the lake cannot be written")?;
                process.ready(200, "")?;
                all.refused[1] += 1;
            }
            _ => more(20)?,
        }
        thread::sleep(Duration::from_millis(random.below(if all.kills % 2 == 0 { 40 } else { 800 })));
        process.kill()?;
        all.kills += 1;
        let log = process.log().join("\n");
        ensure!(!log.contains(KEYS.1), "a key is in the log");
        all.orphans += usize::from(log.contains("were removed from the lake"));
    }
    s3.refuses(false);
    Ok(all)
}

/// What the running service answers to these, and the terminal.
fn answers(deployment: &Deployment) -> Result<Vec<String>> {
    let token = deployment.token_of("answers", "engineer")?;
    let mut process = deployment.run()?;
    let address = process.address()?;
    process.ready(200, "")?;
    let head = format!("Authorization: Bearer {token}\r\nContent-Type: application/json\r\n");
    let mut all = Vec::new();
    for sql in EVERY {
        let body = serde_json::json!({ "sql": sql }).to_string();
        let (status, _, body) = exchange("POST", &address, "/api/v1/hunts", &head, &body)?;
        ensure!(status == 200, "{sql}: {status}: {body}");
        let body = String::from_utf8(whole(body.as_bytes())?)?;
        // The last line says what was read, which is more or less of larger or smaller files.
        let rows: Vec<&str> = body.lines().filter(|line| !line.contains("vedette.hunt")).collect();
        all.push(rows.join("\n"));
    }
    process.stop()?;
    for sql in EVERY {
        all.push(said(deployment, &["hunt", "--format", "ndjson", sql])?);
    }
    Ok(all)
}

/// What the program says that cannot do something.
fn fails(deployment: &Deployment, args: &[&str], part: &str) -> Result<String> {
    let Output { status, stderr, .. } = deployment.command(args)?.output()?;
    let said = String::from_utf8_lossy(&stderr).into_owned();
    ensure!(!status.success() && said.contains(part), "{args:?}: {status}: {said}");
    ensure!(!said.contains(KEYS.1) && !said.contains("panicked"), "{said}");
    Ok(said)
}

#[test]
fn a_lake_in_a_bucket_has_each_event_once_and_answers_as_a_folder_does() -> Result<()> {
    let Some(broker) = Broker::shared("crash::bucket")? else { return Ok(()) };
    PLAN.create_topics(&broker)?;
    let s3 = S3::start(BUCKET)?;
    let kafka = PLAN.kafka(&broker, "1s");
    let deployment = Deployment::new(&kafka, "")?;
    deployment.configure(&kafka, &lake(&deployment, &s3)?)?;
    // Where it is to be built first, that takes longer than all records.
    binary()?;
    let (disturbed, written) = thread::scope(|scope| -> Result<_> {
        let writer = scope.spawn(|| PLAN.write(&broker));
        let disturbed = disturb(&deployment, &s3, || !writer.is_finished())?;
        Ok((disturbed, writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??))
    })?;
    let end = log::now().plus(Span::secs(4));
    finish(&deployment, end)?;
    said(&deployment, &["lake", "verify"])?;
    let found = all_once(&PLAN, &broker, &deployment, written)?;
    said(&deployment, &["lake", "compact"])?;
    ensure!(held(&deployment)? == found, "other events after merging");
    let status: Value = serde_json::from_str(&said(&deployment, &["lake", "status", "--format", "json"])?)?;
    let of = |value: &Value| value["files"].as_u64().unwrap_or_default();
    let sources = status["sources"].as_object().context("sources")?;
    let both = |of_source: &Value| of(of_source) + of(&of_source["originals"]);
    let named: u64 = sources.values().map(both).sum::<u64>() + of(&status["leaving"]);
    let there = objects(&s3)?.len() as u64;
    ensure!(named == there, "{named} files are named, and {there} are there");
    let uploads = below(&deployment.data().join("lake-uploads"))?;
    ensure!(uploads.iter().all(|file| file.ends_with("vedette-holder")), "uploads are left: {uploads:?}");
    ensure!(!deployment.data().join("lake").exists(), "there is a folder, too");
    let Disturbed { kills, refused, orphans } = disturbed;
    ensure!(kills >= 8 && refused[0] > 0 && refused[1] > 0 && orphans > 0, "{disturbed:?}");

    let folder = Deployment::new(&kafka, "engine: {skew: 1s}\nlake: {flush: 1s}\n")?;
    finish(&folder, end)?;
    let here = held_in_the_end(&folder, found.len())?;
    ensure!(here == found, "a folder holds other events: {} and {}", here.len(), found.len());
    for (sql, (there, here)) in EVERY.iter().cycle().zip(answers(&deployment)?.iter().zip(answers(&folder)?))
    {
        ensure!(*there == here, "{sql}: {there} and {here}");
    }
    println!("seed {SEED}: {} events of {written} records, {disturbed:?}, {status}", found.len());
    let (secured, authority) = s3.secured();
    let endpoint = format!("https://{secured}");
    deployment.configure(&kafka, &lake_at(&deployment, &endpoint, "")?)?;
    fails(&deployment, &["hunt", EVERY[0]], "lake.location: it is another place than s3://")?;
    let trusted = format!("    ca_file: {}\n", authority.display());
    deployment.configure(&kafka, &lake_at(&deployment, &endpoint, &trusted)?)?;
    said(&deployment, &["lake", "verify"])?;
    deployment.configure(&kafka, &lake(&deployment, &s3)?)?;
    elsewhere(&deployment, &s3, &kafka, &found)?;
    broken(&deployment, &s3)
}

type Events = BTreeMap<(String, i32, i64), i64>;

/// A copy names what is in the bucket; another place is taken once all files are there.
fn elsewhere(deployment: &Deployment, s3: &S3, kafka: &str, found: &Events) -> Result<()> {
    let copy = deployment.folder().join("copy");
    let backup = deployment.command(&["backup", copy.to_str().context("a path")?])?.output()?;
    let said_of_it = String::from_utf8_lossy(&backup.stderr).into_owned();
    ensure!(
        backup.status.success() && said_of_it.contains(&format!("stay in s3://{BUCKET}")),
        "{said_of_it}"
    );
    ensure!(below(&copy)?.iter().all(|file| file.extension().is_none_or(|end| end != "parquet")));
    let data = deployment.data();
    let before = deployment.folder().join("before");
    fs::rename(&data, &before)?;
    fs::rename(&copy, &data)?;
    said(deployment, &["lake", "verify"])?;
    ensure!(held(deployment)? == *found, "a restored copy holds other events");
    fails(deployment, &["lake", "compact"], "another data folder keeps its lake here")?;

    let place = deployment.folder().join("moved");
    let more = format!("engine: {{skew: 1s}}\nlake: {{location: \"file://{}\"}}\n", place.display());
    deployment.configure(kafka, &more)?;
    let refused = deployment.run_in_vain()?;
    ensure!(
        refused.code == Some(2) && refused.log.contains("lake.location: the lake's files are in s3://"),
        "{refused:?}"
    );
    fails(deployment, &["hunt", "select 1 as n from events"], "are not here; copy all")?;
    let from = s3.bucket(BUCKET).join(PREFIX);
    for file in below(&from)? {
        let to = place.join(file.strip_prefix(&from)?);
        fs::create_dir_all(to.parent().context("a folder")?)?;
        fs::copy(&file, to)?;
    }
    ensure!(held(deployment)? == *found, "other events where they were copied to");
    let mut process = deployment.run()?;
    process.says("what is left in s3://")?;
    process.ready(200, "")?;
    process.stop()?;
    // And back again, as it was before.
    fs::rename(&data, deployment.folder().join("with-the-folder"))?;
    fs::rename(&before, &data)?;
    deployment.configure(kafka, &lake(deployment, s3)?)
}

/// What cannot be read is an error that names it.
fn broken(deployment: &Deployment, s3: &S3) -> Result<()> {
    // What asks for every cell.
    let all = "select * from (select distinct * from events) as e order by vedette.offset desc limit 1";
    s3.refuses(true);
    fails(deployment, &["hunt", all], "500")?;
    s3.refuses(false);
    let largest = objects(s3)?.into_iter().max_by_key(|path| path.metadata().map_or(0, |of| of.len()));
    let largest = largest.context("an object")?;
    let whole = fs::read(&largest)?;
    let mut bent = whole.clone();
    bent[4..whole.len() / 2].fill(0x5a);
    fs::write(&largest, bent)?;
    let name = largest.file_name().and_then(|name| name.to_str()).context("a name")?.to_owned();
    // One that was merged away is read by nobody.
    let damaged = deployment.command(&["lake", "verify"])?.output()?;
    ensure!(
        String::from_utf8_lossy(&damaged.stderr).contains(&name) && damaged.status.code() == Some(1),
        "{damaged:?}"
    );
    fails(deployment, &["hunt", all], "")?;
    fs::remove_file(&largest)?;
    fails(deployment, &["hunt", all], &name)?;
    fs::write(&largest, whole)?;
    said(deployment, &["lake", "verify"])?;
    s3.knows_nobody(true);
    fails(deployment, &["hunt", all], "403")?;
    Ok(())
}
