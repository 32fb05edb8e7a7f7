//! A service that is configured to tell by mail and by topics does.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};
use serde_json::Value;

use super::exim::{Exim, PASSWORD};
use crate::{
    crash::program::{Deployment, api},
    kafka::broker::Broker,
};

const RULE: &str = "title: Refused
id: d0000000-0000-4000-8000-000000000001
name: refused
logsource: {}
detection:
    refused: {event.action: deny, host.name|exists: true}
    condition: refused
level: high
";
const PLAYBOOK: &str = "title: Tell
id: d0000000-0000-4000-8000-000000000002
name: tell
mode: automatic
date: 2026-11-28
trigger: {on: both, severity: high}
steps:
    - {name: tell, do: notify, connectors: [email/soc, kafka]}
    - {name: ticket, do: ticket, connectors: [email/soc]}
";

#[test]
fn an_alert_reaches_mail_and_topics_of_a_running_service() -> Result<()> {
    let Some(exim) = Exim::start()? else { return Ok(()) };
    let Some(broker) = Broker::shared("respond::service")? else { return Ok(()) };
    for topic in ["service-in", "vedette.alerts", "vedette.actions"] {
        broker.create_topic(topic, 1, &[])?;
    }
    let kafka = format!(
        "brokers: {}\ntopics: [{{name: service-in, source: json, disorder: 1s}}]",
        broker.bootstrap()
    );
    let deployment = Deployment::new(&kafka, "")?;
    let rules = deployment.folder().join("rules");
    fs::create_dir_all(rules.join("playbooks"))?;
    fs::write(rules.join("refused.yml"), RULE)?;
    fs::write(rules.join("playbooks/tell.yml"), PLAYBOOK)?;
    let [user, password] = ["user", "password"].map(|name| deployment.folder().join(name));
    fs::write(&user, "soc\n")?;
    fs::write(&password, PASSWORD)?;
    let more = format!(
        "engine: {{skew: 1s}}\nrespond:\n  connectors:\n    kafka: {{}}\n    email/soc:\n      server: localhost\n      port: {}\n      \
         private: true\n      from: Vedette <vedette@example.com>\n      to: [soc@example.com]\n      user: {{file: {}}}\n      \
         password: {{file: {}}}\n      ca_file: {}\n",
        exim.port,
        user.display(),
        password.display(),
        exim.ca_file().display(),
    );
    deployment.configure_rules(&kafka, &rules.display().to_string(), &more)?;
    let token = deployment.token()?;
    let mut process = deployment.run()?;
    process.ready(200, "ready")?;
    let now = super::scene::now();
    let record = format!(r#"{{"event.action": "deny", "host.name": "web-1", "@timestamp": "{now}"}}"#);
    broker.produce("service-in", 0, &[record])?;
    // Of the notice, which its alert does not start again.
    let letters = exim.letters(2)?;
    ensure!(
        letters.iter().all(|letter| letter.contains("Subject: [HIGH] Refused: host.name web-1")),
        "{letters:#?}"
    );
    let address = process.address()?;
    let done = process.until("all of it told", |_| {
        let found = api(&address, "/api/v1/actions?state=done", &token).ok()?;
        found["items"].as_array().filter(|items| items.len() == 2).cloned()
    })?;
    let alert = process.until("an alert", |_| {
        let found = api(&address, "/api/v1/alerts?state=active,ended", &token).ok()?;
        found["items"].as_array()?.first().cloned()
    })?;
    let id = alert["alert_id"].as_str().context("an id")?;
    process.until("the alert in its topic, as the API lists it", |_| {
        let told = records(&broker, "vedette.alerts").ok()?;
        let covered = told.iter().any(|(_, value)| value["state"] == "covered" && value["covered_by"] == id);
        let last = told.iter().rev().find(|(key, _)| key == id)?;
        let listed = api(&address, &format!("/api/v1/alerts/{id}"), &token).ok()?;
        let same =
            ["rule", "key", "summary", "count", "triage", "seq"].iter().all(|of| last.1[of] == listed[of]);
        (covered && same).then_some(())
    })?;
    let told = process.until("the steps in theirs", |_| {
        let told = records(&broker, "vedette.actions").ok()?;
        let over = told.iter().filter(|(_, value)| value["step"] == "action_told").count();
        (over == 2).then_some(told)
    })?;
    ensure!(
        told.iter().any(|(_, value)| value["type"] == "vedette.action" && value["deed"] == "notify"),
        "{told:#?}"
    );
    ensure!(done.iter().all(|action| action["alert_id"].is_string()), "{done:#?}");
    process.stop()?;
    let log = process.log().join("\n");
    ensure!(!log.contains(PASSWORD) && !log.contains("not told"), "{log}");
    Ok(())
}

/// All that is in a topic's only partition now.
fn records(broker: &Broker, topic: &str) -> Result<Vec<(String, Value)>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap())
        .set("group.id", "test")
        .set("enable.auto.commit", "false")
        .create()?;
    let patience = std::time::Duration::from_secs(10);
    let (_, end) = consumer.fetch_watermarks(topic, 0, patience)?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning)?;
    consumer.assign(&list)?;
    let mut records = Vec::new();
    while (records.len() as i64) < end {
        let message = consumer.poll(patience).context("no record")??;
        let key = String::from_utf8_lossy(message.key().context("a key")?).into_owned();
        records.push((key, serde_json::from_slice(message.payload().context("a value")?)?));
    }
    Ok(records)
}
