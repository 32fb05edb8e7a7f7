//! Hunts over the API of a running service: real events, real files, real SQL.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::Exchange;
use crate::crash::program::{Deployment, Process, api, send};

/// An answer: status, head, body.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&self.body)?)
    }

    /// The rows, and what the last line says of them.
    fn rows(&self) -> Result<(Vec<Value>, Value)> {
        let text = std::str::from_utf8(&self.body)?;
        ensure!(self.status == 200, "{}: {text}", self.status);
        let mut lines = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
        let last = lines.pop().context("a last line")?;
        Ok((lines, last["vedette.hunt"].clone()))
    }
}

/// Where hunts are asked, and by whom.
struct Door {
    address: String,
    token: String,
}

/// A service with a lake, over an exchange that goes on.
struct Hunted {
    door: Door,
    process: Process,
    // Ended after the process.
    _deployment: Deployment,
    _exchange: Exchange,
}

impl Hunted {
    fn start() -> Result<Self> {
        let exchange = Exchange::start()?;
        let deployment = Deployment::new(&exchange.kafka(), "lake: {flush: 1s}\n")?;
        let token = deployment.token()?;
        let mut process = deployment.run()?;
        let address = process.address()?;
        let hunted =
            Self { door: Door { address, token }, process, _deployment: deployment, _exchange: exchange };
        let began = Instant::now();
        loop {
            let answer = hunted.door.ask(&json!({"sql": "select count(*) as n from events"}), "*/*")?;
            if answer.status == 200 {
                let (rows, told) = answer.rows()?;
                // Some wait for their file, and some are in one.
                let enough = rows.first().and_then(|row| row["n"].as_u64()) >= Some(500);
                if enough && told["files"].as_u64() > Some(0) {
                    return Ok(hunted);
                }
            }
            ensure!(began.elapsed() < Duration::from_secs(60), "{}", String::from_utf8_lossy(&answer.body));
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Door {
    fn ask(&self, body: &Value, accept: &str) -> Result<Answer> {
        let body = body.to_string();
        let head = format!(
            "POST /api/v1/hunts HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Accept: {accept}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.address,
            self.token,
            body.len()
        );
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(90)))?;
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("a head")?;
        let head = String::from_utf8(answer[..end].to_vec())?;
        let status = head.split(' ').nth(1).context("a status")?.parse()?;
        let body = &answer[end + 4..];
        let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
        let body = if chunked { whole(body)? } else { body.to_vec() };
        Ok(Answer { status, head, body })
    }
}

/// A body that came in chunks, all of it.
pub fn whole(mut chunks: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = chunks.windows(2).position(|two| two == b"\r\n").context("the answer broke off")?;
        let size = usize::from_str_radix(std::str::from_utf8(&chunks[..end])?, 16)?;
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(chunks.get(end + 2..end + 2 + size).context("the answer broke off")?);
        chunks = &chunks[end + 4 + size..];
    }
}

#[test]
fn a_service_answers_hunts_over_what_it_keeps() -> Result<()> {
    let Hunted { door, mut process, _deployment, _exchange } = Hunted::start()?;
    // Rows, and what they rest on.
    let (rows, told) = door
        .ask(
            &json!({"sql": "select vedette.source, count(distinct \"@timestamp\") as n from events group by 1 order by 1"}),
            "*/*",
        )?
        .rows()?;
    let sources: Vec<&str> = rows.iter().filter_map(|row| row["vedette.source"].as_str()).collect();
    ensure!(sources.len() == 3, "{rows:?}");
    ensure!(told["state"] == "done" && told["more"] == false && told["rows"] == 3, "{told}");
    ensure!(told["files_read"].as_u64() > Some(0) && told["bytes_read"].as_u64() > Some(0), "{told}");
    ensure!(told["complete_through"].is_string() && told["missing"] == json!([]), "{told}");

    // As many as were asked for, and word of more; the same rows as CSV and as Arrow.
    let body = json!({"sql": "select vedette.offset, \"@timestamp\" from events order by 2, 1", "limit": 10});
    let (rows, told) = door.ask(&body, "*/*")?.rows()?;
    ensure!(rows.len() == 10 && told["more"] == true, "{told}");
    let csv = door.ask(&body, "text/csv")?;
    let text = String::from_utf8(csv.body)?;
    let lines: Vec<&str> = text.split_terminator("\r\n").collect();
    ensure!(lines.len() == 11 && lines[0] == "vedette.offset,\"'@timestamp\"", "{text}");
    let first =
        format!("{},{}", rows[0]["vedette.offset"], rows[0]["@timestamp"].as_str().unwrap_or_default());
    ensure!(lines[1] == first, "{text}");
    let arrow = door.ask(&body, "application/vnd.apache.arrow.stream")?;
    ensure!(arrow.head.contains("vnd.apache.arrow.stream"), "{}", arrow.head);
    ensure!(
        arrow.body.starts_with(&[0xff; 4]) && arrow.body.ends_with(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0])
    );

    // Times and source bound what is asked of, and files outside are not looked at.
    let (rows, told) = door
        .ask(&json!({"sql": "select count(*) as n from events", "until": "2020-01-01T00:00:00Z"}), "*/*")?
        .rows()?;
    ensure!(rows == [json!({"n": 0})] && told["files"] == 0 && told["files_read"] == 0, "{rows:?} {told}");
    let body = json!({"sql": "select count(*) as n from events where vedette.source <> 'paloalto'", "source": "paloalto"});
    ensure!(door.ask(&body, "*/*")?.rows()?.0 == [json!({"n": 0})]);
    refusals(&door)?;
    end(&door)?;
    noted(&door)?;
    process.stop()?;
    Ok(())
}

/// What is no question over the events is told with its place, and reaches nothing.
fn refusals(door: &Door) -> Result<()> {
    for (sql, kind, part) in [
        ("selct 1", "invalid-query", "`selct` is not allowed here"),
        ("select\n nothing.here from events", "invalid-query", "line 2, column 2"),
        ("select 1; select 2", "invalid-query", "one question at a time"),
        ("copy events to '/tmp/x'", "invalid-query", "is not allowed here"),
        ("select * from '/etc/passwd'", "invalid-query", "there is no table"),
        ("select * from read_csv('/etc/passwd')", "invalid-query", "there is no table"),
        ("select * from events, 'http://127.0.0.1/x.parquet'", "invalid-query", "there is no table"),
        ("select repeat('x', 1000000000)", "invalid-query", "there is no function"),
        ("select 1 / (vedette.offset - vedette.offset) from events", "invalid-query", "ivide by zero"),
    ] {
        let answer = door.ask(&json!({"sql": sql}), "*/*")?;
        let problem = answer.json().with_context(|| sql.to_owned())?;
        ensure!(answer.status == 400, "{sql}: {problem}");
        ensure!(problem["type"] == format!("urn:vedette:problem:{kind}"), "{sql}: {problem}");
        ensure!(problem["detail"].as_str().is_some_and(|detail| detail.contains(part)), "{sql}: {problem}");
    }
    let placed = door.ask(&json!({"sql": "select\n nothing.here from events"}), "*/*")?.json()?;
    ensure!(placed["line"] == 2 && placed["column"] == 2, "{placed}");
    ensure!(placed["pointed"] == "   nothing.here from events\n   ^", "{placed}");
    let none = door.ask(&json!({"sql": "select 1", "source": "mainframe"}), "*/*")?.json()?;
    ensure!(none["detail"].as_str().is_some_and(|detail| detail.contains("paloalto")), "{none}");
    Ok(())
}

/// A hunt that would go on for long is seen under way, and stopped.
fn end(door: &Door) -> Result<()> {
    let sql = "select count(*) from events a, events b, events c where a.url.path < b.url.path and b.url.path < c.url.path";
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| door.ask(&json!({"sql": sql}), "*/*"));
        let began = Instant::now();
        let id = loop {
            let all = api(&door.address, "/api/v1/hunts", &door.token)?;
            let running =
                all["items"].as_array().and_then(|all| all.iter().find(|of| of["state"] == "running"));
            if let Some(id) = running.and_then(|of| of["hunt_id"].as_i64()) {
                break id;
            }
            ensure!(began.elapsed() < Duration::from_secs(20), "{all}");
            std::thread::sleep(Duration::from_millis(20));
        };
        let stop = format!("/api/v1/hunts/{id}");
        // Until it is planned there is nothing to stop.
        while !answer.is_finished() {
            send("DELETE", &door.address, &stop, &door.token)?;
            std::thread::sleep(Duration::from_millis(100));
            ensure!(began.elapsed() < Duration::from_secs(40), "it goes on");
        }
        let answer = answer.join().map_err(|_| anyhow::anyhow!("panicked"))??;
        let state = api(&door.address, &stop, &door.token)?["state"].clone();
        ensure!(state == "stopped", "{state}: {}", String::from_utf8_lossy(&answer.body));
        Ok(())
    })
}

/// All of it is in the audit log, from the first to the last.
fn noted(door: &Door) -> Result<()> {
    let path = "/api/v1/audit?action=hunt_ended&limit=500";
    let log = api(&door.address, path, &door.token)?;
    let entries = log["items"].as_array().context("entries")?;
    let of = |sql: &str| {
        entries.iter().find(|entry| entry["from"]["sql"].as_str().is_some_and(|own| own.contains(sql)))
    };
    let grouped = of("group by 1 order by 1").context("the first hunt")?;
    ensure!(grouped["to"]["rows"] == 3 && grouped["to"]["bytes_read"].as_u64() > Some(0), "{grouped}");
    let refused = of("copy events").context("the refused one")?;
    ensure!(refused["to"]["state"] == "failed" && refused["to"]["problem"].is_string(), "{refused}");
    ensure!(of("events c").is_some_and(|entry| entry["to"]["state"] == "stopped"), "{log}");
    Ok(())
}
