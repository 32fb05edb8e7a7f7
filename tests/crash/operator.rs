//! What an operator does while the service runs, and what of it needs no Kafka.

use std::time::Instant;

use anyhow::{Result, ensure};
use vedette_simulate::Random;

use super::{
    poison::{alerted, plain, refusal},
    program::{Deployment, api, get},
};
use crate::kafka::broker::Broker;

const ENGINE: &str = "engine: {skew: 1s}\n";

/// Exit status and what a command said.
pub fn command(deployment: &Deployment, args: &[&str]) -> Result<(Option<i32>, String)> {
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
    // Forced, each record is read again: the host has two events now, in one episode, or in two if so much was released
    // meanwhile that the second is placed beyond the first one's end.
    let (code, said) = command(&deployment, &["topic", "accept", "--force", "reborn"])?;
    ensure!(code == Some(0) && said.contains("incarnation 2"), "{code:?} {said}");
    process.until("the record read again", |_| {
        let found = api(&address, "/api/v1/alerts?state=active,ended&entity=new-0", &token).ok()?;
        let counts = found["items"].as_array()?.iter().filter_map(|alert| alert["count"].as_u64());
        (counts.sum::<u64>() == 2).then_some(())
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

/// Appends a record that no decoder reads and that does not compress.
fn unreadable(broker: &Broker, bytes: u64) -> Result<()> {
    let mut random = Random::new(bytes);
    let record: Vec<u8> = (0..bytes).map(|_| random.below(256) as u8).collect();
    broker.produce("bad", 0, &[record])
}

#[test]
fn a_dead_letter_topic_that_takes_nothing_is_told_until_it_does() -> Result<()> {
    let Some(broker) = Broker::shared("crash::operator")? else { return Ok(()) };
    broker.create_topic("bad", 1, &[])?;
    let kafka = format!("{}\ndead_letter_topic: dead", plain(&broker, "bad"));
    let deployment = Deployment::new(&kafka, ENGINE)?;
    let token = deployment.token()?;
    let mut process = deployment.run()?;
    process.ready(200, "ready")?;
    let address = process.address()?;
    let mut told = |what: &str, missed: u64, error: Option<&str>| {
        process.until(what, |_| {
            let status = api(&address, "/api/v1/status", &token).ok()?;
            let topic = &status["dead_letter_topic"];
            let said = topic["last_error"].as_str();
            let right = match error {
                Some(part) => said.is_some_and(|said| said.contains(part)) && topic["since"].is_string(),
                None => said.is_none(),
            };
            (topic["topic"] == "dead" && topic["missed"] == missed && right).then_some(())
        })?;
        // It does not make the service unready.
        process.ready(200, if error.is_some() { "dead-letter-topic" } else { "\"degraded\":[]" })
    };
    told("nothing to copy yet", 0, None)?;
    unreadable(&broker, 10)?;
    told("the missing topic", 1, Some("no such topic"))?;
    broker.create_topic("dead", 1, &[("max.message.bytes", "2000")])?;
    // What could not be copied then is sent again.
    told("the topic that was made", 1, None)?;
    unreadable(&broker, 5_000)?;
    told("a letter that is too large", 2, Some("max.message.bytes"))?;
    unreadable(&broker, 20)?;
    told("one that is not", 2, None)?;
    broker.delete_topic("dead")?;
    unreadable(&broker, 30)?;
    told("the topic that was deleted", 3, Some("no such topic"))?;
    broker.create_topic("dead", 1, &[])?;
    told("the topic that was made anew", 3, None)?;
    let (_, metrics) = get(&address, "/metrics", &token)?;
    ensure!(metrics.contains("vedette_missed_dead_letters_total 3"), "{metrics}");
    process.stop()?;
    Ok(())
}
