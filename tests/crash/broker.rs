//! Brokers that are not there, go away and come back; topics that come later; users that are refused.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Result, ensure};

use super::{
    poison::{alerted, plain, refusal},
    program::{Deployment, Process, api},
    stored,
};
use crate::kafka::broker::{Broker, PASSWORD, USER};

const ENGINE: &str = "engine: {skew: 1s}\n";

/// Appends refusals of hosts of their own, and one to wait for in each partition.
fn produce(broker: &Broker, topic: &str, round: usize) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for partition in 0..2 {
        let hosts: Vec<_> = (0..50).map(|n| format!("host-{round}-{partition}-{n}")).collect();
        let records: Vec<_> = hosts.iter().map(|host| refusal(host)).collect();
        broker.produce(topic, partition, &records)?;
        all.extend(hosts);
    }
    Ok(all)
}

fn last_alerted(process: &mut Process, token: &str, round: usize) -> Result<()> {
    (0..2)
        .try_for_each(|partition| alerted(process, token, &format!("host-{round}-{partition}-49")).map(drop))
}

#[test]
fn a_broker_that_comes_late_goes_away_and_comes_back_costs_nothing() -> Result<()> {
    let Some(mut broker) = Broker::start("crash::broker")? else { return Ok(()) };
    broker.create_topic("steady", 2, &[])?;
    broker.stop()?;
    let deployment = Deployment::new(&plain(&broker, "steady"), ENGINE)?;
    let token = deployment.token()?;
    let mut process = deployment.run()?;
    process.ready(503, &broker.bootstrap())?;
    broker.restart()?;
    process.ready(200, "ready")?;
    let mut hosts = produce(&broker, "steady", 0)?;
    last_alerted(&mut process, &token, 0)?;
    for round in 1..3 {
        // Appended and perhaps unread when it goes.
        hosts.extend(produce(&broker, "steady", round)?);
        if round == 1 {
            broker.kill()?;
        } else {
            broker.stop()?;
        }
        process.ready(503, "broker-unreachable")?;
        let status = api(&process.address()?, "/api/v1/status", &token)?;
        ensure!(status["broker"]["connected"] == false, "{status}");
        broker.restart()?;
        process.ready(200, "ready")?;
        last_alerted(&mut process, &token, round)?;
    }
    // Stopped in the middle of its work, it takes that up again.
    hosts.extend(produce(&broker, "steady", 3)?);
    let stopped = process.stop()?;
    ensure!(stopped < Duration::from_secs(10), "stopping took {stopped:?}");
    let mut process = deployment.run()?;
    last_alerted(&mut process, &token, 3)?;
    process.stop()?;
    let stored = stored::read(&deployment.data())?;
    let found = stored.bodies.values().filter_map(|(_, body)| {
        let body: serde_json::Value = serde_json::from_str(body).ok()?;
        Some(body["key"]["host.name"].as_str()?.to_owned())
    });
    ensure!(found.collect::<BTreeSet<_>>() == hosts, "not all hosts have their alert");
    ensure!((stored.bodies.len(), stored.placements, stored.lost) == (hosts.len(), 0, 0), "{stored:?}");
    Ok(())
}

#[test]
fn a_topic_that_comes_later_is_waited_for() -> Result<()> {
    let Some(broker) = Broker::shared("crash::topic")? else { return Ok(()) };
    broker.create_topic("present", 1, &[])?;
    let deployment = Deployment::new(
        &format!(
            "brokers: {}\ntopics:\n  - {{name: present, source: json, disorder: 1s}}\n  - {{name: coming, source: exchange_api}}",
            broker.bootstrap()
        ),
        ENGINE,
    )?;
    let token = deployment.token()?;
    let mut process = deployment.run()?;
    process.ready(200, "topic coming does not exist")?;
    let sources = api(&process.address()?, "/api/v1/sources", &token)?;
    let coming = sources["items"].as_array().and_then(|all| all.iter().find(|s| s["topic"] == "coming"));
    ensure!(coming.is_some_and(|s| s["health"] == "stopped" && s["message"].is_string()), "{sources}");
    // It holds up no source but its own. A rule that may read both waits for both.
    let record = br#"{"ts": "2026-01-01T00:00:00Z", "event": "login", "outcome": "failure", "username": "ann", "client_ip": "192.0.2.1"}"#;
    broker.produce("present", 0, &[refusal("early")])?;
    alerted(&mut process, &token, "early")?;
    broker.create_topic("coming", 1, &[])?;
    broker.produce("coming", 0, &[record])?;
    process.ready(200, "ready")?;
    let address = process.address()?;
    process.until("the record of the topic that came later", |_| {
        let sources = api(&address, "/api/v1/sources", &token).ok()?;
        sources["items"].as_array()?.iter().any(|s| s["topic"] == "coming" && s["events"] == 1).then_some(())
    })?;
    process.stop()?;
    Ok(())
}

/// The topic's entry in the list of sources.
fn topic(address: &str, token: &str, name: &str) -> Option<serde_json::Value> {
    let sources = api(address, "/api/v1/sources", token).ok()?;
    let mut topics =
        sources["items"].as_array()?.iter().flat_map(|s| s["topics"].as_array().into_iter().flatten());
    topics.find(|t| t["name"] == name).cloned()
}

#[test]
fn a_stopped_topic_stops_itself_and_no_other_of_its_source() -> Result<()> {
    let Some(broker) = Broker::shared("crash::stopped_topic")? else { return Ok(()) };
    broker.create_topic("sound", 2, &[])?;
    broker.create_topic("recreated", 2, &[])?;
    broker.create_topic("create-time", 1, &[("message.timestamp.type", "CreateTime")])?;
    let topic_of =
        |name: &str, more: &str| format!("  - {{name: {name}, source: json, disorder: 1s{more}}}\n");
    let topics = [("sound", ""), ("recreated", ""), ("create-time", ", time_source: broker")];
    let topics: String = topics.iter().map(|(name, more)| topic_of(name, more)).collect();
    let kafka = format!("brokers: {}\ntopics:\n{topics}", broker.bootstrap());
    let deployment = Deployment::new(&kafka, ENGINE)?;
    let token = deployment.token()?;
    let mut process = deployment.run()?;
    // What can be known at the start is said at the start, and stands in nobody's way.
    process.ready(200, "topic create-time has message.timestamp.type=CreateTime")?;
    let address = process.address()?;
    broker.produce("sound", 0, &[refusal("first")])?;
    broker.produce("recreated", 0, &[refusal("before")])?;
    alerted(&mut process, &token, "first")?;
    alerted(&mut process, &token, "before")?;

    broker.delete_topic("recreated")?;
    broker.create_topic("recreated", 2, &[])?;
    process.ready(200, "topic recreated was recreated or truncated")?;
    broker.produce("recreated", 1, &[refusal("unread")])?;
    broker.produce("sound", 1, &[refusal("second")])?;
    alerted(&mut process, &token, "second")?;
    let state = |name| topic(&address, &token, name).map(|t| t["state"].clone());
    ensure!(state("recreated") == Some("stopped".into()) && state("sound") == Some("read".into()));
    let sources = api(&address, "/api/v1/sources", &token)?;
    let json = sources["items"].as_array().and_then(|all| all.iter().find(|s| s["name"] == "json"));
    ensure!(json.is_some_and(|s| s["health"] == "partial"), "{sources}");

    // After a restart it is stopped as before, and set right, the other is begun.
    process.stop()?;
    let mut process = deployment.run()?;
    process.ready(200, "topic recreated was recreated or truncated")?;
    broker.configure_topic("create-time", &[("message.timestamp.type", "LogAppendTime")])?;
    broker.produce("create-time", 0, &[refusal("third")])?;
    alerted(&mut process, &token, "third")?;
    process.stop()?;
    ensure!(stored::read(&deployment.data())?.bodies.len() == 4, "one alert for each host that was read");
    Ok(())
}

#[test]
fn a_topic_as_kafka_makes_it_is_read_and_labelled_weaker() -> Result<()> {
    let Some(broker) = Broker::shared("crash::create_time")? else { return Ok(()) };
    broker.create_topic("default", 1, &[("message.timestamp.type", "CreateTime")])?;
    let deployment = Deployment::new(&plain(&broker, "default"), ENGINE)?;
    let token = deployment.token()?;
    let mut process = deployment.run()?;
    process.ready(200, "ready")?;
    broker.produce("default", 0, &[refusal("weak")])?;
    alerted(&mut process, &token, "weak")?;
    process.says("message.timestamp.type=LogAppendTime on the topic mends it")?;
    let address = process.address()?;
    process.until("the label", |_| {
        let topic = topic(&address, &token, "default")?;
        (topic["time_source"] == "producer" && topic["state"] == "read").then_some(())
    })?;
    process.stop()?;
    Ok(())
}

#[test]
fn a_wrong_password_ends_it_and_is_shown_nowhere() -> Result<()> {
    let Some(broker) = Broker::shared("crash::password")? else { return Ok(()) };
    broker.create_topic("guarded", 1, &[])?;
    let with = |password: &str| {
        format!(
            "brokers: {}\nsecurity: {{protocol: sasl_ssl, mechanism: PLAIN, username: {USER}, password: {password}, ca_file: {}}}\n\
             topics: [{{name: guarded, source: json, disorder: 1s}}]",
            broker.secure(),
            broker.ca_file().display()
        )
    };
    let deployment = Deployment::new(&with("not-the-password"), ENGINE)?;
    let ended = deployment.run_in_vain()?;
    ensure!(ended.code == Some(3), "{ended:?}");
    ensure!(!ended.log.contains("not-the-password") && !ended.log.contains("panicked"), "{ended:?}");
    let last = ended.log.lines().last().unwrap_or_default();
    for part in ["refuses user", USER, &broker.secure()] {
        ensure!(last.contains(part), "`{part}` is not in: {last}");
    }
    deployment.configure(&with(PASSWORD), ENGINE)?;
    let token = deployment.token()?;
    let mut process = deployment.run()?;
    process.ready(200, "ready")?;
    broker.produce("guarded", 0, &[refusal("welcome")])?;
    alerted(&mut process, &token, "welcome")?;
    process.stop()?;
    Ok(())
}
