//! A notice that no alert will ever cover is withdrawn, and everybody can see why.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vedette_event::{Micros, Span};

use super::{
    log::now,
    program::{Deployment, Process, api},
};
use crate::kafka::broker::Broker;

/// The rows of a host in a state, once there is one.
fn row(process: &mut Process, token: &str, query: &str) -> Result<Value> {
    let address = process.address()?;
    process.until(&format!("a row of {query}"), |_| {
        let found = api(&address, &format!("/api/v1/alerts?entity=bursts&{query}"), token).ok()?;
        found["items"].as_array()?.first().cloned()
    })
}

/// Two bursts of a host within a minute are announced; then records of the time between come, and they were one.
#[test]
fn a_notice_that_late_records_prove_wrong_is_withdrawn() -> Result<()> {
    let Some(broker) = Broker::shared("crash::notices")? else { return Ok(()) };
    broker.create_topic("bursts", 2, &[])?;
    let kafka =
        format!("brokers: {}\ntopics: [{{name: bursts, source: json, disorder: 10s}}]", broker.bootstrap());
    let deployment = Deployment::new(&kafka, "engine: {skew: 1s}\n")?;
    let token = deployment.token()?;
    let mut process = deployment.run()?;
    process.ready(200, "ready")?;
    let start = now().minus(Span::secs(6));
    let probe = |after: i64| {
        let time = Micros(start.0 + after * 1_000);
        format!(r#"{{"probe": "burst", "host.name": "bursts", "@timestamp": "{time}"}}"#).into_bytes()
    };
    broker.produce("bursts", 0, &[0, 500, 4_000, 4_500].map(probe))?;
    let notice = row(&mut process, &token, "state=notice")?;
    ensure!(notice["withdrawn"].is_null() && notice["triage"]["status"] == "new", "{notice}");
    broker.produce("bursts", 1, &[1_500, 2_500, 3_500].map(probe))?;
    let left = row(&mut process, &token, "state=notice&status=closed")?;
    ensure!(left["withdrawn"]["reason"] == "uncovered", "{left}");
    let id = notice["notice_id"].as_str().context("its id")?;
    let history = api(&process.address()?, &format!("/api/v1/alerts/{id}/history"), &token)?;
    ensure!(history["items"][0]["action"] == "withdrawn", "{history}");
    let all = api(&process.address()?, "/api/v1/alerts?entity=bursts", &token)?;
    ensure!(all["items"].as_array().is_some_and(|items| items.len() == 1), "{all}");
    process.stop()?;
    Ok(())
}
