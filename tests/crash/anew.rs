//! Topics that are made anew while what was found in the one before waits: what becomes of it, with the service running and
//! down.

use anyhow::{Result, ensure};
use serde_json::Value;

use super::{
    operator::command,
    poison::{alerted, refusal},
    program::{Deployment, Process, api},
};
use crate::kafka::broker::Broker;

const ENGINE: &str = "engine: {skew: 1s}\n";

/// One topic of plain JSON whose findings wait for ten seconds.
fn patient(broker: &Broker, topic: &str) -> String {
    format!("brokers: {}\ntopics: [{{name: {topic}, source: json, disorder: 10s}}]", broker.bootstrap())
}

/// Waits until a host is announced and nothing more: its alert waits.
fn announced(process: &mut Process, token: &str, host: &str) -> Result<()> {
    let address = process.address()?;
    process.until(&format!("the notice of {host}"), |_| {
        let found = api(&address, &format!("/api/v1/alerts?state=notice&entity={host}"), token).ok()?;
        found["items"].as_array().is_some_and(|items| !items.is_empty()).then_some(())
    })
}

/// Deletes the topic and makes it anew, with these records.
fn make_anew(broker: &Broker, topic: &str, records: &[Vec<u8>]) -> Result<()> {
    broker.delete_topic(topic)?;
    broker.create_topic(topic, 1, &[])?;
    broker.produce(topic, 0, records)
}

/// Health events of the store whose message holds this.
fn told(address: &str, token: &str, part: &str) -> Result<Vec<Value>> {
    let status = api(address, "/api/v1/status", token)?;
    let events = status["health"].as_array().cloned().unwrap_or_default();
    Ok(events.into_iter().filter(|e| e["message"].as_str().is_some_and(|m| m.contains(part))).collect())
}

fn recreated(process: &mut Process, token: &str) -> Result<()> {
    let address = process.address()?;
    process.until("the word of the recreated topic in the store", |_| {
        let found = told(&address, token, "was recreated").ok()?;
        (!found.is_empty()).then_some(())
    })
}

#[test]
fn what_waits_when_a_topic_is_accepted_comes_as_what_it_was() -> Result<()> {
    let Some(broker) = Broker::shared("crash::operator")? else { return Ok(()) };
    broker.create_topic("waits", 1, &[])?;
    let deployment = Deployment::new(&patient(&broker, "waits"), ENGINE)?;
    let token = deployment.token()?;
    let mut process = deployment.run()?;
    process.ready(200, "ready")?;
    broker.produce("waits", 0, &[refusal("old")])?;
    announced(&mut process, &token, "old")?;
    make_anew(&broker, "waits", &[refusal("new")])?;
    recreated(&mut process, &token)?;
    let (code, said) = command(&deployment, &["topic", "accept", "waits"])?;
    ensure!(code == Some(0) && said.contains("incarnation 1"), "{code:?} {said}");
    let (old, new) = (alerted(&mut process, &token, "old")?, alerted(&mut process, &token, "new")?);
    let place =
        |alert: &Value| (alert["evidence"][0]["incarnation"].clone(), alert["evidence"][0]["offset"].clone());
    ensure!(place(&old) == (Value::Null, 0.into()) && place(&new) == (1.into(), 0.into()), "{old} {new}");
    // At the place of the record that is gone lies another now: it is not shown for it.
    let address = process.address()?;
    let content = |alert: &Value| -> Option<String> {
        let id = alert["alert_id"].as_str()?;
        let whole = api(&address, &format!("/api/v1/alerts/{id}"), &token).ok()?;
        Some(whole["events"][0]["state"].as_str()?.to_owned())
    };
    process.until("both contents", |_| {
        let both = (content(&old)?, content(&new)?);
        (both == ("gone".to_owned(), "present".to_owned())).then_some(())
    })?;
    ensure!(told(&address, &token, "accepted anew")?.is_empty(), "nothing was lost");
    process.stop()?;
    Ok(())
}

#[test]
fn what_waits_when_a_topic_is_accepted_while_the_service_is_down_is_lost_aloud() -> Result<()> {
    let Some(broker) = Broker::shared("crash::operator")? else { return Ok(()) };
    broker.create_topic("gone", 1, &[])?;
    let deployment = Deployment::new(&patient(&broker, "gone"), ENGINE)?;
    let token = deployment.token()?;
    let mut process = deployment.run()?;
    process.ready(200, "ready")?;
    broker.produce("gone", 0, &[refusal("old"), refusal("older")])?;
    announced(&mut process, &token, "older")?;
    process.stop()?;
    make_anew(&broker, "gone", &[refusal("new")])?;
    let mut process = deployment.run()?;
    recreated(&mut process, &token)?;
    process.kill()?;
    let (code, said) = command(&deployment, &["topic", "accept", "gone"])?;
    ensure!(code == Some(0) && said.contains("accepted as incarnation 1"), "{code:?} {said}");
    // Told once, though the checkpoints still say so when it is killed before it writes others.
    for _ in 0..2 {
        let mut process = deployment.run()?;
        let address = process.address()?;
        process.until("the word of what was lost", |_| {
            let said = told(&address, &token, "was accepted anew before").ok()?;
            (said.len() == 1 && said[0]["severity"] == "critical").then_some(())
        })?;
        let status = api(&address, "/api/v1/status", &token)?;
        let lost = &status["lost"];
        ensure!(lost.as_array().is_some_and(|lost| lost.len() == 1), "{lost}");
        ensure!((&lost[0]["from"], &lost[0]["to"]) == (&0.into(), &2.into()), "{lost}");
        process.kill()?;
    }
    let mut process = deployment.run()?;
    alerted(&mut process, &token, "new")?;
    let address = process.address()?;
    ensure!(api(&address, "/api/v1/alerts?state=active,ended&entity=old", &token)?["items"][0].is_null());
    let sources = api(&address, "/api/v1/sources", &token)?;
    ensure!(sources.to_string().contains("\"lost\":2"), "{sources}");
    process.stop()?;
    Ok(())
}
