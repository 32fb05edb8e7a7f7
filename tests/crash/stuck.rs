//! Whatever is stuck shows while it is, and does not keep the process from ending.

use std::{
    net::{TcpListener, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use sqlx::{AnyConnection, Connection as _};

use super::program::{Deployment, Process, api, get};

/// Nobody listens there.
const NOWHERE: &str = "brokers: 127.0.0.1:9\ntopics: [{name: api, source: exchange_api}]";
/// In what time the process ends, whatever is stuck.
const AT_MOST: Duration = Duration::from_secs(10);

/// The store, locked by somebody else as long as this lives.
struct Locked {
    runtime: tokio::runtime::Runtime,
    connection: Option<AnyConnection>,
}

impl Locked {
    fn new(folder: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let connection = runtime.block_on(async {
            sqlx::any::install_default_drivers();
            let url = format!("sqlite://{}", folder.join("vedette.db").display());
            let mut connection = AnyConnection::connect(&url).await?;
            sqlx::raw_sql("pragma busy_timeout = 10000; begin exclusive").execute(&mut connection).await?;
            anyhow::Ok(connection)
        })?;
        Ok(Self { runtime, connection: Some(connection) })
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            // The lock goes with the connection.
            let _ = self.runtime.block_on(connection.close());
        }
    }
}

fn stage(process: &mut Process, token: &str, name: &str) -> Result<serde_json::Value> {
    let status = api(&process.address()?, "/api/v1/status", token)?;
    let stages = status["stages"].as_array().cloned().unwrap_or_default();
    let found = stages.into_iter().find(|stage| stage["name"] == name);
    found.ok_or_else(|| anyhow::anyhow!("no stage {name} in {status}"))
}

#[test]
fn a_store_that_takes_nothing_shows_within_seconds_and_passes() -> Result<()> {
    let deployment = Deployment::new(NOWHERE, "")?;
    let token = deployment.token()?;
    let mut process = deployment.run()?;
    process.ready(503, "broker-unreachable")?;
    for name in ["reader", "prober", "kernel", "publisher", "evidence", "api"] {
        let stage = stage(&mut process, &token, name)?;
        ensure!(["idle", "working"].contains(&stage["state"].as_str().unwrap_or_default()), "{stage}");
    }
    let locked = Locked::new(&deployment.data())?;
    let began = Instant::now();
    process.ready(503, "store-unavailable")?;
    let shown = began.elapsed();
    ensure!(shown < Duration::from_secs(9), "it showed after {shown:?}");
    let publisher = stage(&mut process, &token, "publisher")?;
    ensure!(publisher["state"] == "stalled" && publisher["waits_for"] == "store", "{publisher}");
    // It asks again and again: the process works, and a restart would not help.
    let address = process.address()?;
    ensure!(get(&address, "/healthz", "")?.0 == 200);
    drop(locked);
    process.until("the store to answer again", |_| {
        let (_, body) = get(&address, "/readyz", "").ok()?;
        (!body.contains("store-unavailable")).then_some(())
    })?;
    process.stop()?;
    Ok(())
}

#[test]
fn a_locked_store_and_a_client_that_does_not_hang_up_do_not_keep_it_from_ending() -> Result<()> {
    let deployment = Deployment::new(NOWHERE, "")?;
    let mut process = deployment.run()?;
    process.ready(503, "broker-unreachable")?;
    let _client = TcpStream::connect(process.address()?)?;
    let locked = Locked::new(&deployment.data())?;
    let asked = Instant::now();
    process.signal("TERM")?;
    let code = process.ended(AT_MOST)?;
    let log = process.log().join("\n");
    ensure!(code == Some(3) && log.contains("publisher (it waits for the store)"), "{code:?} {log}");
    ensure!(asked.elapsed() < AT_MOST);
    drop(locked);
    // What is there is whole, and nobody holds it.
    let mut process = deployment.run()?;
    process.ready(503, "broker-unreachable")?;
    process.stop()?;
    Ok(())
}

#[test]
fn a_broker_that_accepts_and_says_nothing_does_not_keep_it_from_ending_well() -> Result<()> {
    let mute = TcpListener::bind("127.0.0.1:0")?;
    let address = mute.local_addr()?;
    let accepted =
        std::thread::spawn(move || mute.incoming().map_while(Result::ok).take(1_000).collect::<Vec<_>>());
    let topics = "topics: [{name: api, source: exchange_api}, {name: logs, source: json}]";
    let deployment = Deployment::new(&format!("brokers: {address}\n{topics}"), "")?;
    let mut process = deployment.run()?;
    process.ready(503, "broker-unreachable")?;
    ensure!(get(&process.address()?, "/healthz", "")?.0 == 200);
    let stopped = process.stop()?;
    ensure!(stopped < AT_MOST, "stopping took {stopped:?}");
    // It holds the connections until the test ends.
    drop(accepted);
    Ok(())
}

#[test]
fn a_second_signal_ends_it_at_once() -> Result<()> {
    let deployment = Deployment::new(NOWHERE, "")?;
    let mut process = deployment.run()?;
    process.ready(503, "broker-unreachable")?;
    let _locked = Locked::new(&deployment.data())?;
    process.signal("TERM")?;
    process.says("stopping: writing what is known")?;
    let asked = Instant::now();
    process.signal("INT")?;
    let code = process.ended(AT_MOST)?;
    let log = process.log().join("\n");
    ensure!(asked.elapsed() < Duration::from_secs(3), "it took {:?}", asked.elapsed());
    ensure!(code == Some(3) && log.contains("asked to stop again; cut off: "), "{code:?} {log}");
    Ok(())
}

#[test]
fn a_start_that_waits_for_the_store_ends_when_asked_to() -> Result<()> {
    let deployment = Deployment::new(NOWHERE, "")?;
    let mut process = deployment.run()?;
    process.ready(503, "broker-unreachable")?;
    process.stop()?;
    let _locked = Locked::new(&deployment.data())?;
    let mut process = deployment.run()?;
    std::thread::sleep(Duration::from_secs(2));
    ensure!(process.stop()? < AT_MOST, "it took too long");
    ensure!(process.log().join("\n").contains("stopped while starting"), "{:?}", process.log());
    Ok(())
}
