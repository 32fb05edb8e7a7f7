//! A storm: every rule fires for every entity at once, and one rule more is watched meanwhile.
//!
//! In: a broker, the binary, how many rules and entities. Out: seconds until all notices and all alerts are stored, alerts
//! a second, the most memory resident, and how long the notices of probes take that are written while the storm lasts.
//! Each rule counts ten events of a host within a minute; each host sends ten, all hosts together. Beyond a thousand
//! episodes an hour a rule's alerts become one, so more than a thousand hosts make no more alerts.

use std::{
    fmt::Write as _,
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

use crate::{
    PATIENCE, Report,
    latency::latencies,
    load::now,
    service::{Deployment, Service},
};

const PROBE: &str = "00000000-0000-4000-8000-0000000000ff";
/// From one probe to the next.
const STEP: Duration = Duration::from_millis(250);

/// A topic for each storm, so that none reads another's.
pub fn topic(rules: usize) -> String {
    format!("storm-{rules}")
}

/// Rules that count, and the one that finds the probes.
fn rules(count: usize) -> String {
    let mut text = format!(
        "title: Hit\nid: 00000000-0000-4000-8000-0000000000fe\nname: hit\nlogsource: {{category: storm}}\n\
         detection: {{x: {{k: x}}, condition: x}}\n---\ntitle: Probe\nid: {PROBE}\nlogsource: {{category: storm}}\n\
         level: high\ndetection: {{x: {{k: probe}}, condition: x}}\n"
    );
    for n in 0..count {
        // Writing into a text cannot fail.
        let _ = write!(
            text,
            "---\ntitle: Rule {n}\nid: 00000000-0000-4000-8000-{:012x}\ncorrelation:\n  type: event_count\n  \
             rules: [hit]\n  group-by: [host.name]\n  timespan: 1m\n  condition: {{gte: 10}}\n",
            0x1000 + n
        );
    }
    text
}

struct Source(BaseProducer, String);

impl Source {
    fn write(&self, kind: &str, host: &str) -> Result<()> {
        let line = format!("{{\"category\":\"storm\",\"k\":\"{kind}\",\"host.name\":\"{host}\"}}");
        let mut record = BaseRecord::<str, str>::to(&self.1).payload(&line);
        while let Err((error, back)) = self.0.send(record) {
            ensure!(
                error.rdkafka_error_code() == Some(rdkafka::types::RDKafkaErrorCode::QueueFull),
                "{error}"
            );
            record = back;
            self.0.poll(Duration::from_millis(10));
        }
        self.0.poll(Duration::ZERO);
        Ok(())
    }
}

/// Notices and alerts stored so far.
fn stored(service: &Service) -> Result<(u64, u64)> {
    let status = service.api("/api/v1/status")?;
    let alerts = status["publish"]["alerts"].as_object().context("no alerts")?;
    let alerts = alerts.values().filter_map(Value::as_u64).sum();
    Ok((status["publish"]["notices"].as_u64().unwrap_or_default(), alerts))
}

/// Raises one and reports.
pub fn measure(
    binary: &Path,
    bootstrap: &str,
    count: usize,
    hosts: usize,
    report: &mut Report,
) -> Result<()> {
    let name = topic(count);
    let topics = format!("    - {{name: {name}, source: json, disorder: 1s}}\n");
    let deployment = Deployment::with_rules(binary, bootstrap, &topics, &[("rules.yml", &rules(count))])?;
    let mut service = deployment.run()?;
    let seen = service.first_told(&format!("/api/v1/alerts/stream?rule={PROBE}"), "host.name")?;
    let producer = ClientConfig::new().set("bootstrap.servers", bootstrap).set("linger.ms", "5").create()?;
    let source = Source(producer, name);
    let begun = Instant::now();
    for _ in 0..10 {
        (0..hosts).try_for_each(|host| source.write("x", &format!("h{host}")))?;
    }
    source.0.flush(PATIENCE)?;
    let expected = (count * hosts.min(1_000)) as u64;
    let (mut written, mut noticed, mut done) = (Vec::new(), None, None);
    while done.is_none() || written.len() < 40 {
        service.alive()?;
        ensure!(
            begun.elapsed() < PATIENCE,
            "the storm does not end: {:?}\n{}",
            stored(&service)?,
            service.log()
        );
        let probe = format!("p{}", written.len());
        written.push((probe.clone(), now()));
        source.write("probe", &probe)?;
        source.0.flush(PATIENCE)?;
        let (notices, alerts) = stored(&service)?;
        noticed = noticed.or_else(|| (notices >= expected).then(|| begun.elapsed()));
        done = done.or_else(|| (alerts >= expected).then(|| begun.elapsed()));
        thread::sleep(STEP);
    }
    thread::sleep(Duration::from_secs(2));
    let what = format!("storm of {count} rules x {hosts} hosts");
    if let Some(noticed) = noticed {
        report.add(format!("{what}: notices stored after"), noticed.as_secs_f64(), "s");
    }
    let took = done.map_or(f64::NAN, |done| done.as_secs_f64());
    report.add(format!("{what}: alerts stored after"), took, "s");
    report.add(format!("{what}: alerts a second"), expected as f64 / took, "/s");
    report.add(format!("{what}: most memory resident"), service.usage()?.peak, "MiB");
    let noticed = latencies(&written, &seen.all());
    report.latencies(&format!("{what}: from a probe to its notice"), &noticed, written.len(), 1e3);
    service.kill()
}
