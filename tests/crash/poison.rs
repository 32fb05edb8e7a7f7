//! Records that nobody can read end as dead letters, each counted once, and hold nothing up.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer},
};
use serde_json::Value;

use super::{
    log::now,
    program::{Deployment, PATIENCE, Process, api},
    stored,
};
use crate::kafka::broker::Broker;

/// A record that is an alert of its own: a refused session of this host.
pub fn refusal(host: &str) -> Vec<u8> {
    format!(r#"{{"event.action": "deny", "host.name": "{host}", "@timestamp": "{}"}}"#, now()).into_bytes()
}

/// Waits until the API lists an alert (not only a notice) for a host.
pub fn alerted(process: &mut Process, token: &str, host: &str) -> Result<Value> {
    let address = process.address()?;
    process.until(&format!("the alert of {host}"), |_| {
        let path = format!("/api/v1/alerts?state=active,ended&entity={host}");
        let found = api(&address, &path, token);
        let found = found.inspect_err(|e| eprintln!("{e:#}")).ok()?;
        found["items"].as_array()?.first().cloned()
    })
}

/// The configuration of one topic of plain JSON.
pub fn plain(broker: &Broker, topic: &str) -> String {
    format!("brokers: {}\ntopics: [{{name: {topic}, source: json, disorder: 1s}}]", broker.bootstrap())
}

/// Poison, by the reason that it must be refused for; what is only strange has none.
fn poison() -> Vec<(Option<&'static str>, Option<Vec<u8>>)> {
    let deep = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
    let inside = |value: Vec<u8>| Some([&b"{\"a\": "[..], &value, b"}"].concat());
    let stamped =
        |time: &str| Some(format!(r#"{{"event.action": "deny", "@timestamp": {time}}}"#).into_bytes());
    vec![
        (Some("null_payload"), None),
        (Some("invalid_utf8"), Some(b"{\"a\": \"\xff\xfe\"}".to_vec())),
        (Some("invalid_utf8"), Some(b"\xc0\x80".to_vec())),
        (Some("oversized"), Some(vec![b'x'; 2 << 20])),
        (Some("oversized"), inside([&b"\""[..], &vec![b'y'; 2 << 20], b"\""].concat())),
        (Some("too_deep"), inside(deep(100_000))),
        (Some("number_range"), inside(b"1e999".to_vec())),
        (Some("number_range"), inside([&b"-1"[..], &vec![b'0'; 400]].concat())),
        (Some("malformed"), Some(b"not JSON".to_vec())),
        (Some("malformed"), Some(b"[1, 2]".to_vec())),
        (Some("malformed"), Some(Vec::new())),
        (Some("malformed"), Some(b"{\"a\": 1".to_vec())),
        (None, inside(b"18446744073709551615".to_vec())),
        (None, inside(b"0.1e-300".to_vec())),
        (None, stamped("\"9999-12-31T23:59:59Z\"")),
        (None, stamped("\"0001-01-01T00:00:00Z\"")),
        (None, stamped("-99999999999999999")),
        (None, stamped("9223372036854775807")),
        (None, stamped("\"yesterday\"")),
        (None, stamped("{\"a\": []}")),
    ]
}

#[test]
fn poison_is_counted_exactly_and_holds_nothing_up() -> Result<()> {
    let Some(broker) = Broker::shared("crash::poison")? else { return Ok(()) };
    broker.create_topic("poison", 1, &[("max.message.bytes", "4000000")])?;
    let deployment = Deployment::new(&plain(&broker, "poison"), "engine: {skew: 1s}\n")?;
    let token = deployment.token()?;
    let mut process = deployment.run()?;
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap())
        .set("message.max.bytes", "4000000")
        .create()?;
    let mut expected = BTreeMap::new();
    for round in 0..3 {
        let (before, after) = (format!("before-{round}"), format!("after-{round}"));
        let mut records = poison();
        for (reason, _) in &records {
            if let Some(reason) = reason {
                *expected.entry((*reason).to_owned()).or_insert(0) += 1;
            }
        }
        records.insert(0, (None, Some(refusal(&before))));
        records.push((None, Some(refusal(&after))));
        for (_, payload) in &records {
            let mut record = BaseRecord::<str, [u8]>::to("poison").partition(0);
            record.payload = payload.as_deref();
            producer.send(record).map_err(|(e, _)| e)?;
        }
        producer.flush(PATIENCE)?;
        alerted(&mut process, &token, &before)?;
        alerted(&mut process, &token, &after)?;
        if round == 0 {
            // Read once more after this, and counted once all the same.
            process.kill()?;
            process = deployment.run()?;
        }
    }
    let letters = api(&process.address()?, "/api/v1/dead-letters?limit=500", &token)?;
    let listed = letters["items"].as_array().map_or(0, Vec::len);
    process.stop()?;
    let log = process.log().join("\n");
    ensure!(!log.contains("panicked"), "{log}");
    let stored = stored::read(&deployment.data())?;
    let mut found = BTreeMap::new();
    for (.., reason) in &stored.dead {
        *found.entry(reason.clone()).or_insert(0) += 1;
    }
    ensure!(found == expected, "{found:?}, not {expected:?}");
    let all: usize = expected.values().sum();
    ensure!(
        listed == all && stored.dead_count == all as u64,
        "{listed} and {}, not {all}",
        stored.dead_count
    );
    ensure!(stored.placements == 0, "forged times are no reason to doubt the broker");
    Ok(())
}
