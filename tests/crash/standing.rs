//! One topic is recreated and stays stopped, the other goes on: for longer, and with more findings, than the reorder budget allows.

use std::{collections::BTreeSet, thread, time::Duration};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{
    log::now,
    program::{Deployment, Process, api},
};
use crate::kafka::broker::Broker;

/// Reads the web alone.
const PACE: &str = "c0000000-0000-4000-8000-000000000006";
/// Reads the web and the firewall.
const BOTH: &str = "c0000000-0000-4000-8000-000000000008";
/// Little more than the least that the rules need.
const MEMORY: u64 = 260 << 20;
/// Findings that may then wait for a source that stands still: four fifths of a quarter of five sixteenths of the 68 MiB that are not
/// for what is fixed, 192 bytes each.
const BUDGET: u64 = 23_210;
const ROUNDS: usize = 30;
/// Requests of one round, all of them findings of both rules.
const REQUESTS: usize = 1_000;

fn requests(path: &str) -> Vec<Vec<u8>> {
    let millis = now().0 / 1_000;
    let request = |n: usize| {
        json!({
            "timestamp": millis, "formatVersion": 1, "webaclId": "arn:aws:wafv2:eu-central-1:1:regional/webacl/x/1",
            "terminatingRuleId": "Default_Action", "terminatingRuleType": "REGULAR", "action": "ALLOW",
            "httpSourceName": "ALB", "httpSourceId": "1-app/x/1",
            "httpRequest": {
                "clientIp": format!("192.0.{}.{}", n >> 8, n & 255), "country": "DE", "headers": [], "uri": path, "args": "",
                "httpVersion": "HTTP/1.1", "httpMethod": "GET", "requestId": format!("{path}-{n}"),
            },
        })
        .to_string()
        .into_bytes()
    };
    (0..REQUESTS).map(request).collect()
}

fn items(found: &Value) -> &[Value] {
    found["items"].as_array().map_or(&[], Vec::as_slice)
}

/// Waits for the alert of a path; no partition of the web may be paused meanwhile.
fn alerted(process: &mut Process, token: &str, path: &str) -> Result<()> {
    let address = process.address()?;
    let mut paused = None;
    process.until(&format!("the alert of {path}"), |_| {
        let sources = api(&address, "/api/v1/sources", token).ok()?;
        let web = items(&sources).iter().find(|source| source["name"] == "aws_waf")?;
        if web["partitions"].as_array()?.iter().any(|partition| partition["paused"] == true) {
            paused = Some(web.clone());
            return Some(());
        }
        let list = format!("/api/v1/alerts?rule={PACE}&state=active,ended&sort=-crossed_at&limit=200");
        let alerts = api(&address, &list, token).inspect_err(|e| eprintln!("{e:#}")).ok()?;
        items(&alerts).iter().any(|alert| alert["key"]["url.path"] == path).then_some(())
    })?;
    ensure!(paused.is_none(), "paused for a source that it does not share a rule with: {paused:?}");
    Ok(())
}

#[test]
fn a_stopped_topic_stops_no_rule_that_does_not_read_it() -> Result<()> {
    let Some(broker) = Broker::shared("crash::standing")? else { return Ok(()) };
    for topic in ["standing-gone", "standing-web"] {
        broker.create_topic(topic, 2, &[])?;
    }
    broker.produce("standing-gone", 0, &["poison"; 50])?;
    let kafka = format!(
        "brokers: {}\ntopics:\n  - {{name: standing-gone, source: paloalto, disorder: 1s}}\n  \
         - {{name: standing-web, source: aws_waf, disorder: 1s}}",
        broker.bootstrap()
    );
    let deployment = Deployment::new(&kafka, &format!("engine: {{skew: 1s, memory: {MEMORY}}}\n"))?;
    let token = deployment.token()?;
    let mut process = deployment.run()?;
    process.ready(200, "ready")?;
    broker.produce("standing-web", 0, &requests("/before"))?;
    alerted(&mut process, &token, "/before")?;
    broker.delete_topic("standing-gone")?;
    thread::sleep(Duration::from_secs(1));
    broker.create_topic("standing-gone", 2, &[])?;
    let address = process.address()?;
    process.until("the stopped source", |_| {
        let sources = api(&address, "/api/v1/sources", &token).ok()?;
        let firewall = items(&sources).iter().find(|source| source["name"] == "paloalto")?;
        (firewall["health"] == "stopped" && firewall["message"].as_str()?.contains("recreated")).then_some(())
    })?;
    for round in 0..ROUNDS {
        let path = format!("/round-{round}");
        broker.produce("standing-web", round as i32 % 2, &requests(&path))?;
        if round % 5 == 4 {
            alerted(&mut process, &token, &path)?;
        }
    }
    let degraded = process.until("the degradation", |_| {
        let status = api(&address, "/api/v1/status", &token).ok()?;
        let all = status["degradations"].as_array()?;
        all.iter().any(|known| known["code"] == "findings-over-budget").then_some(status)
    })?;
    let all = degraded["degradations"].as_array().cloned().unwrap_or_default();
    // With so little memory some rules have no room for keys either.
    let waits = all.iter().filter(|known| known["code"] == "findings-over-budget");
    let rules: BTreeSet<_> = waits.filter_map(|known| known["rule_id"].as_str()).collect();
    ensure!(rules.contains(BOTH) && !rules.contains(PACE), "{degraded}");
    ensure!(
        degraded["load"]["standing"].as_u64().is_some_and(|n| (BUDGET / 2..=2 * BUDGET).contains(&n)),
        "{degraded}"
    );
    let coverage = |rule: &str| api(&address, &format!("/api/v1/rules/{rule}/coverage"), &token);
    ensure!(coverage(BOTH)?["unevaluated"].as_u64().is_some_and(|n| n > 0), "{}", coverage(BOTH)?);
    ensure!(coverage(PACE)?["unevaluated"] == 0, "{}", coverage(PACE)?);

    // A restart comes back to the same, and the web is seen at once.
    process.kill()?;
    let mut process = deployment.run()?;
    broker.produce("standing-web", 0, &requests("/after"))?;
    alerted(&mut process, &token, "/after")?;
    process.stop()?;
    Ok(())
}
