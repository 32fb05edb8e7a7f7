//! Who gets in while the service runs: tokens made and revoked on the command line, and a store that takes no writes.
//! Needs no Kafka.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use sqlx::Connection;

use super::program::{Deployment, get};

/// Nobody listens there.
const NOWHERE: &str = "brokers: 127.0.0.1:9\ntopics: [{name: api, source: exchange_api}]";
/// A second, and some for a busy machine.
const SOON: Duration = Duration::from_secs(4);
const ALERTS: &str = "/api/v1/alerts?limit=5";

fn create(deployment: &Deployment, name: &str, role: &str) -> Result<String> {
    let mut command = deployment.command(&["token", "create", "--name", name, "--role", role])?;
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn revoke(deployment: &Deployment, name: &str) -> Result<()> {
    let output = deployment.command(&["token", "revoke", "--name", name])?.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Asks until the answer has this status.
fn until(address: &str, path: &str, token: &str, status: u16) -> Result<()> {
    let began = Instant::now();
    loop {
        let (last, body) = get(address, path, token)?;
        if last == status {
            return Ok(());
        }
        ensure!(began.elapsed() < SOON, "{path} is still answered with {last}: {body}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn tokens_made_and_revoked_beside_a_running_service_count_at_once() -> Result<()> {
    let deployment = Deployment::new(NOWHERE, "")?;
    let mut process = deployment.run()?;
    let address = process.address()?;
    ensure!(get(&address, ALERTS, "vdt_unknown")?.0 == 401);
    let (analyst, metrics) =
        (create(&deployment, "ann", "analyst")?, create(&deployment, "prometheus", "metrics")?);
    until(&address, ALERTS, &analyst, 200)?;
    until(&address, "/metrics", &metrics, 200)?;
    ensure!(get(&address, ALERTS, &metrics)?.0 == 403);

    let mut stream = TcpStream::connect(&address)?;
    stream.set_read_timeout(Some(SOON))?;
    write!(
        stream,
        "GET /api/v1/alerts/stream HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {analyst}\r\n\r\n"
    )?;
    let mut head = [0; 15];
    stream.read_exact(&mut head)?;
    ensure!(&head == b"HTTP/1.1 200 OK", "{}", String::from_utf8_lossy(&head));
    revoke(&deployment, "ann")?;
    let mut rest = String::new();
    // The last chunk is empty; until it comes, the stream is open.
    while !rest.ends_with("0\r\n\r\n") {
        let mut bytes = [0; 1_024];
        let n = stream.read(&mut bytes)?;
        ensure!(n > 0, "it was cut off: {rest}");
        rest.push_str(&String::from_utf8_lossy(&bytes[..n]));
    }
    until(&address, ALERTS, &analyst, 401)?;
    until(&address, "/metrics", &metrics, 200)?;
    process.stop()?;
    Ok(())
}

#[test]
fn a_store_that_takes_no_writes_keeps_nobody_out() -> Result<()> {
    let deployment = Deployment::new(NOWHERE, "")?;
    // Never used, so that its use is to be noted.
    let token = create(&deployment, "ann", "analyst")?;
    let mut process = deployment.run()?;
    let address = process.address()?;
    process.ready(503, "broker-unreachable")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let url = format!("sqlite://{}", deployment.data().join("vedette.db").display());
    let mut writer = runtime.block_on(async {
        sqlx::any::install_default_drivers();
        let mut writer = sqlx::AnyConnection::connect(&url).await?;
        sqlx::query("begin immediate").execute(&mut writer).await?;
        anyhow::Ok(writer)
    })?;
    for path in [ALERTS, "/healthz", "/metrics", "/api/v1/status", ALERTS] {
        let began = Instant::now();
        let (status, body) = get(&address, path, &token)?;
        ensure!(status == 200, "{path}: {status} {body}");
        ensure!(began.elapsed() < SOON, "{path} took {:?}", began.elapsed());
    }
    runtime.block_on(async {
        sqlx::query("rollback").execute(&mut writer).await?;
        anyhow::Ok(writer.close().await?)
    })?;
    process.stop()?;
    Ok(())
}
