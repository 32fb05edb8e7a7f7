//! What a backtest says of rules is what the service said with them: the same bodies, byte for byte.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::Value;
use vedette_event::{
    Micros, Span,
    time::{DAY, HOUR},
};
use vedette_simulate::{Feed, Random, Simulator};

use super::{
    log::now,
    operator::command,
    program::{Deployment, PATIENCE, Process},
    stored,
};
use crate::{binary::root, kafka::broker::Broker};

const SEED: u64 = 20_261_130;
const PARTITIONS: i32 = 3;
/// Of plain JSON.
const OWN: &str = "bt-own";
const ENGINE: &str = "engine: {skew: 1s, threads: 2}\nlake: {flush: 1s}\n";

fn topic(feed: Feed) -> String {
    format!("bt-{}", feed.topic())
}

fn kafka(broker: &Broker) -> String {
    let of = |name: &str, source: &str| format!("  - {{name: {name}, source: {source}, disorder: 1s}}\n");
    let feeds: String = Feed::ALL.iter().map(|feed| of(&topic(*feed), feed.source())).collect();
    format!("brokers: {}\ntopics:\n{feeds}{}", broker.bootstrap(), of(OWN, "json"))
}

/// What was written to each topic, by topic.
type Written = BTreeMap<String, i64>;

struct Writer {
    producer: BaseProducer,
    written: Written,
}

impl Writer {
    fn send(&mut self, topic: &str, partition: i32, time: Micros, payload: Option<&[u8]>) -> Result<()> {
        let mut record =
            BaseRecord::<str, [u8]>::to(topic).partition(partition).timestamp(time.0.div_euclid(1_000));
        record.payload = payload;
        while let Err((_, again)) = self.producer.send(record) {
            // Its queue is full.
            record = again;
            self.producer.poll(Duration::from_millis(50));
        }
        *self.written.entry(topic.to_owned()).or_default() += 1;
        Ok(())
    }

    /// An hour of an exchange, from this time on, as producers with clocks of their own write it: one in fifty comes later than is
    /// tolerated, a few are poison.
    fn feeds(&mut self, start: Micros) -> Result<()> {
        let mut simulator = Simulator::new(SEED, start, 8);
        let mut random = Random::new(SEED);
        let mut waiting = BinaryHeap::new();
        loop {
            let record = simulator.next_record();
            if record.time >= start.plus(HOUR) {
                break;
            }
            let delay = if random.chance(2) { random.below(3_000_000) } else { random.below(30_000) };
            let at = record.time.plus(Span(delay as i64));
            waiting.push(Reverse((at, waiting.len(), record.feed, record.line)));
        }
        while let Some(Reverse((at, number, feed, line))) = waiting.pop() {
            let payload: Option<&[u8]> = match number % 211 {
                0 => None,
                1 => Some(b"\xff\xfe\xfd"),
                _ => Some(line.as_bytes()),
            };
            let partition = random.below(PARTITIONS as u64) as i32;
            self.send(&topic(feed), partition, at, payload)?;
        }
        Ok(())
    }

    /// Records of plain JSON from this time on.
    fn own(&mut self, start: Micros, records: u64, seed: u64) -> Result<()> {
        let mut random = Random::new(seed);
        for number in 0..records {
            let at = start.plus(Span(number as i64 * 40_000));
            let claimed = match random.below(12) {
                0 => at.minus(Span::secs(3)).to_string(),
                1 => at.plus(HOUR).to_string(),
                2 => "yesterday".to_owned(),
                _ => at.minus(Span(random.below(900_000) as i64)).to_string(),
            };
            let id = ["5", "5.0", "50e-1", "\"5\"", "7", "7.50", "75e-1", "null", "true", "-0", "[5,\"a\"]"];
            let id = id[random.below(id.len() as u64) as usize];
            let tags =
                ["[ 1, 2 ]", "[\"a\",\"b\", 1.0]", "\"a\"", "[]", "[null, {\"x\": [1]}, \"b\\u0062\"]"];
            let tags = tags[random.below(tags.len() as u64) as usize];
            let deep = [
                "{\"er\": {\"name\": \"axb\"}}",
                "{\"er.name\":\"x\"}",
                "{\"er\":{}}",
                "1",
                "{\"er\":{\"name\":\"y\"},\"er\":{\"name\":\"x\"}}",
            ];
            let deep = deep[random.below(deep.len() as u64) as usize];
            let note = if random.chance(20) { "\"note\" : \"a needle in hay\", " } else { "" };
            let gone = ["", "\"gone\": null, ", "\"gone\": 0, "][random.below(3) as usize];
            let twice = if random.chance(10) { "\"id\": 9, " } else { "" };
            let size = ["4.5", "1e1", "4.499", "\"6\""][random.below(4) as usize];
            let host = random.below(4);
            let line = format!(
                " {{\"category\": \"backtest\", {twice}\"id\": {id}, \"tags\":{tags},\"deep\":{deep}, {note}{gone}\"size\":{size}, \
                 \"host.name\": \"h{host}\", \"@timestamp\" : \"{claimed}\"}}\n"
            );
            self.send(OWN, random.below(PARTITIONS as u64) as i32, at, Some(line.as_bytes()))?;
        }
        Ok(())
    }

    /// A record that says nothing in every partition, at this time.
    fn end(&mut self, topics: &[String], time: Micros) -> Result<()> {
        for name in topics {
            (0..PARTITIONS).try_for_each(|partition| self.send(name, partition, time, Some(b"{}")))?;
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(self.producer.flush(PATIENCE)?)
    }
}

/// Waits until the lake has all that was written.
fn filled(deployment: &Deployment, process: &mut Process, written: &Written) -> Result<()> {
    process.until("the lake to be filled", |_| {
        let asked = deployment.command(&["lake", "status", "--format", "json"]).ok()?.output().ok()?;
        let status: Value = serde_json::from_slice(&asked.stdout).ok()?;
        let mut reached = Written::new();
        for partition in status["partitions"].as_array()? {
            let topic = partition["topic"].as_str()?.to_owned();
            *reached.entry(topic).or_default() += partition["next_offset"].as_i64()?;
        }
        written.iter().all(|(topic, n)| reached.get(topic).is_some_and(|reached| reached >= n)).then_some(())
    })
}

#[test]
fn a_backtest_gives_the_bodies_that_the_service_gave() -> Result<()> {
    let Some(broker) = Broker::shared("crash::backtest")? else { return Ok(()) };
    let mut topics: Vec<String> = Feed::ALL.map(topic).to_vec();
    topics.push(OWN.to_owned());
    let own_time = [("message.timestamp.type", "CreateTime")];
    topics.iter().try_for_each(|name| broker.create_topic(name, PARTITIONS, &own_time))?;
    let deployment = Deployment::new(&kafka(&broker), ENGINE)?;
    let rules = ["detections", "tests/crash/rules.yml", "tests/crash/backtest.yml"];
    let rules = rules.map(|path| root().join(path).display().to_string()).join(", ");
    deployment.configure_rules(&kafka(&broker), &rules, ENGINE)?;
    let start = now().midnight().minus(Span(2 * DAY.0)).plus(Span(9 * HOUR.0));
    let mut writer = Writer { producer: broker.producer()?, written: Written::new() };
    writer.feeds(start)?;
    writer.own(start, 20_000, SEED)?;
    // A day later all that was found has ended.
    writer.end(&topics, start.plus(Span(26 * HOUR.0)))?;
    writer.flush()?;
    let mut process = deployment.run()?;
    process.ready(200, "ready")?;
    filled(&deployment, &mut process, &writer.written)?;
    // Its source has come to now, so these are placed there, whatever they claim.
    thread::sleep(Duration::from_secs(4));
    writer.own(start.plus(Span(30 * HOUR.0)), 300, SEED + 1)?;
    writer.flush()?;
    filled(&deployment, &mut process, &writer.written)?;
    // The topic becomes another of the same name.
    broker.delete_topic(OWN)?;
    broker.create_topic(OWN, PARTITIONS, &own_time)?;
    writer.own(now().minus(Span::secs(2)), 50, SEED + 2)?;
    writer.flush()?;
    process.says("was recreated")?;
    let (code, said) = command(&deployment, &["topic", "accept", OWN])?;
    ensure!(code == Some(0), "{said}");
    filled(&deployment, &mut process, &writer.written)?;
    // Longer than the longest rearm of what is found here.
    thread::sleep(Duration::from_secs(6));
    writer.end(&topics, now())?;
    writer.flush()?;
    filled(&deployment, &mut process, &writer.written)?;
    thread::sleep(Duration::from_secs(4));
    process.stop()?;

    let stored = stored::read(&deployment.data())?;
    let asked = deployment.command(&["backtest", "--format", "ndjson"])?.output()?;
    let said = String::from_utf8_lossy(&asked.stderr);
    ensure!(asked.status.success(), "{said}");
    let mut found = BTreeMap::new();
    let mut flags: BTreeMap<String, usize> = BTreeMap::new();
    for line in String::from_utf8(asked.stdout)?.lines() {
        let body: Value = serde_json::from_str(line)?;
        ensure!(body["state"] == "ended", "{line}");
        for flag in body["flags"].as_array().into_iter().flatten() {
            *flags.entry(flag.to_string()).or_default() += 1;
        }
        let id = body["alert_id"].as_str().context("an id")?.to_owned();
        ensure!(found.insert(id, line.to_owned()).is_none(), "twice: {line}");
    }
    println!(
        "{} alerts of {:?}, {} placements, flags {flags:?}; {said}",
        found.len(),
        writer.written,
        stored.placements
    );
    for (id, (_, body)) in &stored.bodies {
        let other = found.get(id).with_context(|| format!("the backtest lacks {body}"))?;
        ensure!(other == body, "{body}\n  is, by the backtest,\n{other}");
    }
    let more: Vec<_> =
        found.iter().filter(|(id, _)| !stored.bodies.contains_key(*id)).map(|of| of.1).collect();
    ensure!(more.is_empty(), "{} too many, such as {}", more.len(), more[0]);
    let anew = found.values().filter(|body| body.contains("\"incarnation\":1")).count();
    ensure!(anew > 0, "no alert of the topic that was made anew");
    ensure!(found.len() > 500, "{} alerts", found.len());
    for flag in ["clock=late", "clock=future", "clock=missing", "clock=overtaken"] {
        ensure!(flags.contains_key(&format!("\"{flag}\"")), "no alert is flagged {flag}: {flags:?}");
    }
    Ok(())
}
