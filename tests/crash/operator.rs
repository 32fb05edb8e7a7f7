//! What an operator does while the service runs, and what of it needs no Kafka.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::{
    poison::{alerted, plain, refusal},
    program::{Deployment, api},
};
use crate::kafka::broker::Broker;

const ENGINE: &str = "engine: {skew: 1s}\n";

/// Exit status and what a command said.
fn command(deployment: &Deployment, args: &[&str]) -> Result<(Option<i32>, String)> {
    let done = deployment.command(args)?.output()?;
    Ok((done.status.code(), String::from_utf8(done.stderr)?))
}

#[test]
fn a_recreated_topic_is_accepted_while_the_service_runs() -> Result<()> {
    let Some(broker) = Broker::shared("crash::operator")? else { return Ok(()) };
    broker.create_topic("reborn", 1, &[])?;
    let first: Vec<_> = (0..20).map(|n| refusal(&format!("old-{n}"))).collect();
    broker.produce("reborn", 0, &first)?;
    let deployment = Deployment::new(&plain(&broker, "reborn"), ENGINE)?;
    let token = deployment.token()?;
    let mut process = deployment.run()?;
    alerted(&mut process, &token, "old-19")?;
    let (code, said) = command(&deployment, &["topic", "accept", "reborn"])?;
    ensure!(code == Some(2) && said.contains("has not stopped as recreated"), "{code:?} {said}");

    broker.delete_topic("reborn")?;
    broker.create_topic("reborn", 1, &[])?;
    broker.produce("reborn", 0, &[refusal("new-0"), b"not JSON".to_vec()])?;
    process.says("was recreated or truncated")?;
    let address = process.address()?;
    process.until("the word of the recreated topic in the store", |_| {
        let status = api(&address, "/api/v1/status", &token).ok()?;
        let events = status["health"].as_array().cloned().unwrap_or_default();
        events.iter().any(|e| e["message"].as_str().is_some_and(|m| m.contains("recreated"))).then_some(())
    })?;
    let asked = Instant::now();
    let (code, said) = command(&deployment, &["topic", "accept", "reborn"])?;
    ensure!(code == Some(0) && said.contains("incarnation 1; the running service reads"), "{code:?} {said}");
    println!("accepted after {:?}", asked.elapsed());
    alerted(&mut process, &token, "new-0")?;
    let (code, said) = command(&deployment, &["topic", "accept", "reborn"])?;
    ensure!(code == Some(2) && said.contains("has not stopped as recreated"), "{code:?} {said}");
    // Forced, each record is read again: the episode of that host has two events now.
    let (code, said) = command(&deployment, &["topic", "accept", "--force", "reborn"])?;
    ensure!(code == Some(0) && said.contains("incarnation 2"), "{code:?} {said}");
    process.until("the record read again", |_| {
        let found = api(&address, "/api/v1/alerts?state=active,ended&entity=new-0", &token).ok()?;
        (found["items"][0]["count"] == 2).then_some(())
    })?;
    // The dead letter, too, is one of each incarnation.
    process.until("both dead letters", |_| {
        let letters = api(&address, "/api/v1/dead-letters", &token).ok()?;
        letters["items"].as_array().is_some_and(|items| items.len() == 2).then_some(())
    })?;
    process.stop()?;

    // What it remembers now is the topic as it is.
    broker.produce("reborn", 0, &[refusal("new-1")])?;
    let mut process = deployment.run()?;
    alerted(&mut process, &token, "new-1")?;
    let log = process.log().join("\n");
    ensure!(!log.contains("recreated"), "{log}");
    process.stop()?;
    Ok(())
}

#[test]
fn tools_need_no_password_for_kafka_and_the_service_does() -> Result<()> {
    let kafka = "brokers: 127.0.0.1:9\nsecurity: {protocol: sasl_ssl, mechanism: PLAIN, username: vedette}\n\
                 topics: [{name: api, source: exchange_api}]";
    let deployment = Deployment::new(kafka, "")?;
    deployment.token()?;
    let (code, said) = command(&deployment, &["token", "list"])?;
    ensure!(code == Some(0), "{said}");
    let (code, said) = command(&deployment, &["topic", "accept", "--force", "api"])?;
    ensure!(code == Some(0) && said.contains("accepted as incarnation 1"), "{code:?} {said}");
    let (code, said) = command(&deployment, &["checkpoint", "reset"])?;
    ensure!(code == Some(2) && said.contains("no alert was ever stored"), "{code:?} {said}");
    let ended = deployment.run_in_vain()?;
    ensure!(ended.code == Some(2) && ended.log.contains("VEDETTE_KAFKA_PASSWORD"), "{ended:?}");
    Ok(())
}
