//! A scheduled hunt raises an alert for what it finds, once, whatever ends in between.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rdkafka::producer::{BaseRecord, Producer as _};
use serde_json::{Value, json};
use vedette_event::{Micros, Span};

use super::{
    log::now,
    program::{Deployment, PATIENCE, Process, api, exchange, get},
};
use crate::kafka::broker::Broker;

const TOPIC: &str = "scheduled";
const EVERY: Span = Span::secs(300);

/// Somebody asks for a path.
fn asks(ip: &str, time: Micros) -> String {
    json!({"@timestamp": time, "event": "request", "client_ip": ip, "user_id": "u-1", "method": "GET", "path": "/rare", "status": 200})
        .to_string()
}

/// Whoever changes schedules.
struct Engineer {
    address: String,
    token: String,
}

impl Engineer {
    fn send(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let lines = format!("Authorization: Bearer {}\r\nContent-Type: application/json\r\n", self.token);
        let (status, _, text) = exchange(method, &self.address, path, &lines, &body.to_string())?;
        ensure!((200..300).contains(&status), "{method} {path}: {status} {text}");
        Ok(if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? })
    }

    fn schedule(&self, hunt: &Value) -> Result<Value> {
        let body = json!({"saved_hunt_id": hunt, "every": "5m", "severity": "high", "title": "Rare path", "entity": "client.ip"});
        self.send("POST", "/api/v1/hunts/schedules", &body)
    }

    fn get(&self, path: &str) -> Result<Value> {
        api(&self.address, path, &self.token)
    }

    /// How many rows a hunt has.
    fn rows(&self, sql: &str) -> Result<usize> {
        let lines = format!("Authorization: Bearer {}\r\nContent-Type: application/json\r\n", self.token);
        let body = json!({"sql": sql}).to_string();
        let (status, _, text) = exchange("POST", &self.address, "/api/v1/hunts", &lines, &body)?;
        ensure!(status == 200, "{status} {text}");
        Ok(text.matches("\"client.ip\":").count())
    }

    /// The alerts of the hunt about an address.
    fn alerts(&self, hunt: &Value, ip: &str) -> Result<Vec<Value>> {
        let found = self.get(&format!("/api/v1/alerts?rule=hunt:{hunt}&entity={ip}"))?;
        Ok(found["items"].as_array().context("items")?.clone())
    }
}

/// Waits until the schedule has run.
fn ran(process: &mut Process, engineer: &Engineer) -> Result<Value> {
    let schedules = "/api/v1/hunts/schedules";
    let ran = |_: &Process| {
        let found = engineer.get(schedules).ok()?["items"][0]["last_run"].clone();
        (!found.is_null()).then_some(found)
    };
    let ran = process.until("a run of the hunt", ran);
    ran.with_context(|| format!("{:?}", engineer.get(schedules)))
}

#[test]
fn a_scheduled_hunt_raises_an_alert_once() -> Result<()> {
    let Some(broker) = Broker::shared("crash::schedules")? else { return Ok(()) };
    // Times are the producer's, so that nobody waits for five minutes to go by.
    broker.create_topic(TOPIC, 1, &[("message.timestamp.type", "CreateTime")])?;
    let kafka = format!(
        "brokers: {}\ntopics: [{{name: {TOPIC}, source: exchange_api, disorder: 1s}}]",
        broker.bootstrap()
    );
    let deployment = Deployment::new(&kafka, "engine: {skew: 1s}\nlake: {flush: 1s}\n")?;
    let token = deployment.token()?;
    let mut process = deployment.run()?;
    process.ready(200, "")?;
    let engineer = Engineer { address: process.address()?, token: token.clone() };

    // Of the last whole window; should that end meanwhile, the next one has some, too.
    let window = now().floor(EVERY).minus(EVERY);
    let times = [window.plus(Span::secs(60)), window.plus(Span::secs(90)), window.plus(EVERY)];
    let producer = broker.producer()?;
    for time in times {
        let line = asks("203.0.113.7", time);
        let record = BaseRecord::<str, [u8]>::to(TOPIC).partition(0).timestamp(time.0.div_euclid(1_000));
        producer.send(record.payload(line.as_bytes())).map_err(|(e, _)| e)?;
    }
    producer.flush(PATIENCE)?;
    let sql = "select * from events where url.path = '/rare'";
    // Its times are of the past, so that the lake knows of none that are to come.
    process.until("the events in the lake", |_| (engineer.rows(sql).ok()? == times.len()).then_some(()))?;

    let hunt =
        engineer.send("POST", "/api/v1/hunts/saved", &json!({"name": "rare", "sql": sql, "shared": true}))?;
    let hunt = &hunt["saved_hunt_id"];
    let made = engineer.schedule(hunt)?;
    let run = ran(&mut process, &engineer)?;
    ensure!(run["since"] == made["next_since"] && run["alerts"] == 1, "{run} of {made}");
    let alerts = engineer.alerts(hunt, "203.0.113.7")?;
    let [alert] = &alerts[..] else { anyhow::bail!("{alerts:?}") };
    ensure!(alert["flags"] == json!(["hunt"]) && alert["state"] == "ended", "{alert}");
    ensure!(alert["explanation"]["rows"][0]["client.ip"] == "203.0.113.7", "{alert}");
    ensure!(alert["evidence"][0]["topic"] == TOPIC && alert["count"] == run["rows"], "{alert}");
    let id = alert["alert_id"].as_str().context("an id")?;
    process.until("its evidence", |_| {
        let whole = engineer.get(&format!("/api/v1/alerts/{id}")).ok()?;
        (whole["events"][0]["state"] == "present").then_some(())
    })?;
    let (status, page) = get(&engineer.address, &format!("/alerts/{id}"), &token)?;
    ensure!(
        status == 200 && page.contains("It is run every 5m, late and over what the lake holds"),
        "{page}"
    );

    // Killed, and the window looked at anew: the same id, which the store has.
    process.kill()?;
    let mut process = deployment.run()?;
    process.ready(200, "")?;
    let engineer = Engineer { address: process.address()?, token };
    let before = ran(&mut process, &engineer)?;
    ensure!(before["alerts"] == 1, "{before}");
    std::thread::sleep(Duration::from_secs(5));
    engineer.send("DELETE", &format!("/api/v1/hunts/schedules/{}", made["schedule_id"]), &Value::Null)?;
    let anew = engineer.schedule(hunt)?;
    let again = ran(&mut process, &engineer)?;
    let same = anew["next_since"] == made["next_since"];
    // Where five minutes were over meanwhile, the next window has its own.
    let alerts = engineer.alerts(hunt, "203.0.113.7")?;
    let of_first = alerts.iter().filter(|of| of["alert_id"] == id).count();
    ensure!(of_first == 1 && (!same || (alerts.len() == 1 && again["alerts"] == 1)), "{again}: {alerts:?}");
    process.stop()?;
    Ok(())
}
