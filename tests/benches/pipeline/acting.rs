//! From a record to what is done about it: a message that a webhook takes, and a decision that a bouncer sees.
//!
//! In: a broker, the binary, how many samples. Out: percentiles of the ways from a record to its notice, from that to its message and to its
//! proposal, and from an approval to its decision. Each sample is a request of an address of its own; a playbook tells of it and throttles the
//! address once somebody approves, which is done here as soon as it is seen: by itself it would act only after a day of watching who is behind an
//! address. The bouncer asks every [`ASKS`]; what a real one adds to that is its own pause.

use std::{
    io::{BufRead, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer},
};
use serde_json::Value;
use vedette_event::Micros;

use crate::{
    PATIENCE, Report,
    latency::latencies,
    load::now,
    service::{Deployment, Seen, Service},
};

/// The topic of the records.
pub const TOPIC: &str = "acting";
/// From one question of the bouncer to the next.
const ASKS: Duration = Duration::from_millis(20);
/// What a person is promised: a message within so many milliseconds of the notice.
const PROMISED: f64 = 2e3;
/// Addresses at most: so many are documentation's and so nobody's.
pub const MOST: usize = 250;

const RULE: &str = "title: Refused\nid: 00000000-0000-4000-8000-0000000000fb\nname: refused\nlogsource: {category: acting}\n\
    tags: [vedette.established]\nlevel: high\ndetection: {x: {client.ip|exists: true}, condition: x}\n";
const PLAYBOOK: &str = "title: Act\nid: 00000000-0000-4000-8000-0000000000fa\nname: act\nmode: automatic\ndate: 2026-11-28\n\
    trigger: {on: both, rules: [refused]}\nsteps:\n  - {name: tell, do: notify, connectors: [webhook/bench]}\n  \
    - {name: throttle, do: throttle, target: client.ip, connectors: [crowdsec], for: 1h}\n";

fn address(sample: usize) -> String {
    format!("203.0.113.{}", 1 + sample)
}

/// Takes what the webhook is told, and notes of whom.
fn takes(listener: TcpListener, seen: Seen) {
    for stream in listener.incoming().map_while(Result::ok) {
        let seen = seen.clone();
        thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            while let Some(body) = body(&mut reader) {
                let told: Value = serde_json::from_slice(&body).unwrap_or_default();
                if let Some(address) = told["alert"]["key"]["client.ip"].as_str() {
                    seen.note(address);
                }
                if reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err() {
                    return;
                }
            }
        });
    }
}

/// The body of the next request; none when there is no more.
fn body(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let Some((name, value)) = line.split_once(':') else {
            if line == "\r\n" {
                break;
            }
            continue;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}

/// Asks as a bouncer does, once; notes whom it is to throttle.
fn asks(service: &Service, key: &str, first: bool, seen: &Seen) -> Result<()> {
    let path = format!("/v1/decisions/stream?startup={first}");
    let told = service.ask(&path, &format!("X-Api-Key: {key}"))?;
    for decision in told["new"].as_array().context("no decisions")? {
        seen.note(decision["value"].as_str().context("no value")?);
    }
    Ok(())
}

/// Approves what waits; notes whom it is about when it is seen, and when it is approved.
fn approves(service: &Service, seen: &Seen, approved: &Seen) -> Result<()> {
    let waiting = service.api("/api/v1/actions?state=waiting")?;
    for action in waiting["items"].as_array().context("no actions")? {
        let address = action["target"].as_str().context("no target")?;
        seen.note(address);
        let path = format!("/api/v1/actions/{}/approve", action["action_id"]);
        approved.note(address);
        service.post(&path)?;
    }
    Ok(())
}

/// Writes the samples, about five a second, and reports.
pub fn measure(binary: &Path, bootstrap: &str, samples: usize, report: &mut Report) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut secret = tempfile::NamedTempFile::new()?;
    secret.write_all(b"a secret of the bench and of nobody else")?;
    let more = format!(
        "    - {{name: {TOPIC}, source: json, disorder: 1s}}\nrespond:\n  limits: {{per_rule_hour: 1000, per_hour: 1000, share_percent: 100}}\n  \
         connectors:\n    crowdsec: {{}}\n    webhook/bench: {{url: \"http://{}/\", private: true, secret: {{file: {}}}}}\n",
        listener.local_addr()?,
        secret.path().display(),
    );
    let files = [("rules.yml", RULE), ("playbooks/act.yml", PLAYBOOK)];
    let deployment = Deployment::with_rules(binary, bootstrap, &more, &files)?;
    let key = deployment.token("bouncer")?;
    let mut service = deployment.run()?;
    let [told, proposed, approved, shown] = <[Seen; 4]>::default();
    let into = told.clone();
    thread::spawn(move || takes(listener, into));
    let notices = service.first_told("/api/v1/alerts/stream", "client.ip")?;
    asks(&service, &key, true, &shown)?;

    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
    let mut written = Vec::with_capacity(samples);
    let (begun, mut next) = (Instant::now(), Duration::ZERO);
    let all = |seen: &Seen| seen.all().len() >= samples;
    while written.len() < samples || ![&notices, &told, &shown].into_iter().all(all) {
        if written.len() < samples && begun.elapsed() >= next {
            // Not in step with anything that happens at regular intervals.
            next = begun.elapsed() + Duration::from_millis(150 + (written.len() as u64 * 37) % 101);
            let address = address(written.len());
            written.push((address.clone(), now()));
            let line = format!(r#"{{"category":"acting","client.ip":"{address}","@timestamp":"{}"}}"#, now());
            producer.send(BaseRecord::<str, str>::to(TOPIC).payload(&line)).map_err(|(error, _)| error)?;
            producer.flush(PATIENCE)?;
        }
        approves(&service, &proposed, &approved)?;
        asks(&service, &key, false, &shown)?;
        service.alive()?;
        let late = begun.elapsed() > Duration::from_secs(60) + next;
        ensure!(!late, "{}\n{}", service.api("/api/v1/actions?limit=3")?, service.log());
        thread::sleep(ASKS);
    }
    let of = |seen: &Seen| seen.all().into_iter().collect::<Vec<_>>();
    let (noticed, approved) = (of(&notices), of(&approved));
    let way = |from: &[(String, Micros)], to: &Seen| latencies(from, &to.all());
    report.latencies("from a record to its notice", &way(&written, &notices), samples, 1e3);
    report.latencies("from a notice to its message", &way(&noticed, &told), samples, PROMISED);
    report.latencies("from a notice to its proposal", &way(&noticed, &proposed), samples, PROMISED);
    report.latencies("from an approval to its decision", &way(&approved, &shown), samples, PROMISED);
    service.kill()
}
