//! Topics of a real Kafka say everything that happens, whatever fails on the way there.

use std::{
    collections::BTreeMap,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use vedette_act::settings::{Means, Topics};
use vedette_event::Span;
use vedette_ingest::{Mechanism, Password, Protocol, Sasl, Security};
use vedette_respond::{Action, Deed, Limit, playbook::Step};
use vedette_store::model::{ActionState, Status, TriagePatch};

use super::scene::{Scene, alert, connector, notify, now};
use crate::kafka::broker::{Broker, PASSWORD, USER};

const PATIENCE: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 3;

/// A record as it is read back.
#[derive(Debug, Clone, PartialEq)]
struct Read {
    key: String,
    value: Value,
}

/// Waits until a topic holds records with which this is so; all of them, those of one key in order.
fn read(broker: &Broker, topic: &str, what: &str, enough: impl Fn(&[Read]) -> bool) -> Result<Vec<Read>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap())
        .set("group.id", "test")
        .set("enable.auto.commit", "false")
        .create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let (began, mut records) = (Instant::now(), Vec::new());
    while !enough(&records) {
        let so_far = || records.iter().map(|read: &Read| format!("{}: {}\n", read.key, said(&read.value)));
        ensure!(began.elapsed() < PATIENCE, "{topic} does not say {what}: {}", so_far().collect::<String>());
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message?;
        let key = String::from_utf8(message.key().context("a key")?.to_vec())?;
        records.push(Read { key, value: serde_json::from_slice(message.payload().context("a value")?)? });
    }
    Ok(records)
}

fn topics(broker: &str, name: &str, security: Security) -> Topics {
    Topics {
        brokers: vec![broker.to_owned()],
        security,
        alerts: format!("{name}.alerts").into(),
        actions: format!("{name}.actions").into(),
    }
}

/// Both topics, made, and a connector that writes to them.
fn written(broker: &Broker, name: &str) -> Result<Topics> {
    for topic in ["alerts", "actions"] {
        broker.create_topic(&format!("{name}.{topic}"), PARTITIONS, &[])?;
    }
    Ok(topics(&broker.bootstrap(), name, Security::default()))
}

fn of_key<'a>(records: &'a [Read], key: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record.key == key).map(|record| &record.value).collect()
}

fn said(value: &Value) -> String {
    let text = |name: &str| value[name].as_str().unwrap_or("-").to_owned();
    match value["type"].as_str() {
        Some("vedette.step" | "vedette.response") => format!("{} by {}", text("step"), text("actor")),
        Some("vedette.action") => format!("told {}", text("deed")),
        Some("vedette.countermeasure") => format!("{} {}", text("command"), text("action")),
        _ => format!("r{} {}", value["revision"], value["triage"]["status"]),
    }
}

fn throttle() -> Step {
    let limit = Limit { first: Span::secs(3_600), growth: 1, ceiling: Span::secs(3_600) };
    let deed = Deed::Impose(Action::Throttle, limit);
    Step { deed, target: Some("client.ip".into()), ..notify("throttle", &["kafka"]) }
}

#[test]
fn topics_say_each_change_of_alerts_and_each_step_of_actions_in_order() -> Result<()> {
    let Some(broker) = Broker::shared("respond::topics")? else { return Ok(()) };
    let kafka = connector("kafka", Means::Kafka(written(&broker, "said")?));
    let runtime = Runtime::new()?;
    let steps = vec![notify("tell", &["kafka"]), throttle()];
    let mut scene = runtime.block_on(Scene::new(vec![kafka], steps))?;
    let (action, listed) = runtime.block_on(async {
        let mut of = alert("a");
        scene.publish(&of).await?;
        (of.revision, of.count) = (2, 20);
        scene.publish(&of).await?;
        let acknowledged = TriagePatch { status: Some(Status::Acknowledged), ..TriagePatch::default() };
        scene.store.patch_triage("a", 0, &acknowledged, "ann").await?;
        (of.revision, of.count) = (3, 30);
        let rows = scene.publish(&of).await?;
        let action = rows.iter().find(|row| row.deed == "throttle").context("a throttle")?.id;
        scene.response.approve(action, ("bob", now())).await?;
        scene.actions().await?;
        let mut other = alert("b");
        other.key = [("client.ip".into(), vedette_event::Value::Text("203.0.113.10".into()))].into();
        scene.publish(&other).await?;
        anyhow::Ok((action, scene.store.alert("a").await?.context("an alert")?))
    })?;
    let alerts = read(&broker, "said.alerts", "five changes", |read| read.len() >= 5)?;
    let changes: Vec<String> = of_key(&alerts, "a").into_iter().map(said).collect();
    ensure!(
        changes == ["r1 \"new\"", "r2 \"new\"", "r2 \"acknowledged\"", "r3 \"acknowledged\""],
        "{changes:?}"
    );
    ensure!(of_key(&alerts, "b").len() == 1);
    // Of the newest, what the API lists, byte for byte.
    let newest = of_key(&alerts, "a").pop().context("the newest")?.clone();
    ensure!(newest == serde_json::from_str::<Value>(&vedette_act::document(&listed)?)?, "{newest}");
    ensure!(newest["count"] == 30 && newest["seq"] == json!(listed.seq), "{newest}");

    let imposed = "throttle 203.0.113.9";
    // Keys lie in other partitions, so that only records of one of them come in order.
    let number = action.to_string();
    let told = |read: &Read| read.value["type"] == "vedette.action" && read.value["alert"]["alert_id"] == "a";
    let actions = read(&broker, "said.actions", "the order, its steps and what is told", |read| {
        !of_key(read, imposed).is_empty() && of_key(read, &number).len() >= 3 && read.iter().any(told)
    })?;
    let steps: Vec<String> = of_key(&actions, &number).into_iter().map(said).collect();
    ensure!(
        steps == ["action_proposed by vedette", "action_approved by bob", "action_ordered by vedette"],
        "{steps:?}"
    );
    let step = of_key(&actions, &number)[1];
    ensure!(
        step["alert_id"] == "a" && step["to"]["state"] == "due" && step["action"] == json!(action),
        "{step}"
    );
    let order = of_key(&actions, imposed)[0];
    ensure!(
        order["command"] == "impose"
            && order["target"] == json!({"type": "network", "value": "203.0.113.9/32"})
    );
    runtime.block_on(async {
        scene.response.revert(action, None, "ann").await?;
        scene.actions().await?;
        scene.response.throw_kill_switch(true, "eve").await?;
        anyhow::Ok(())
    })?;
    let actions = read(&broker, "said.actions", "the end", |read| {
        of_key(read, imposed).len() >= 2 && !of_key(read, "response").is_empty()
    })?;
    let orders: Vec<String> = of_key(&actions, imposed).into_iter().map(said).collect();
    ensure!(orders == ["impose throttle", "withdraw throttle"], "{orders:?}");
    ensure!(said(of_key(&actions, "response")[0]) == "kill_switch_on by eve");
    Ok(())
}

#[test]
fn whenever_it_is_cut_off_nothing_is_left_out_and_the_newest_comes_last() -> Result<()> {
    let Some(broker) = Broker::shared("respond::topics")? else { return Ok(()) };
    let kafka = connector("kafka", Means::Kafka(written(&broker, "cut")?));
    let runtime = Runtime::new()?;
    let mut scene = runtime.block_on(Scene::new(vec![kafka], Vec::new()))?;
    let (alerts, revisions) = (7_u32, 20_u32);
    runtime.block_on(async {
        for revision in 1..=revisions {
            for id in 0..alerts {
                let mut of = alert(&format!("a{id}"));
                (of.revision, of.count) = (revision, u64::from(revision));
                scene.publish(&of).await?;
            }
            // Wherever it is: reading, sending, noting.
            tokio::time::sleep(Duration::from_millis(u64::from(revision * 7 % 11))).await;
            scene.begin().await?;
        }
        anyhow::Ok(())
    })?;
    let last = |read: &[Read], id: u32| {
        of_key(read, &format!("a{id}")).last().is_some_and(|value| value["revision"] == json!(revisions))
    };
    let read = read(&broker, "cut.alerts", "the last of each", |read| (0..alerts).all(|id| last(read, id)))?;
    for id in 0..alerts {
        let told: Vec<u64> =
            of_key(&read, &format!("a{id}")).iter().filter_map(|value| value["revision"].as_u64()).collect();
        let mut once = told.clone();
        once.sort_unstable();
        once.dedup();
        ensure!(once == (1..=u64::from(revisions)).collect::<Vec<_>>(), "a{id}: {told:?}");
        let seqs: Vec<i64> =
            of_key(&read, &format!("a{id}")).iter().filter_map(|value| value["seq"].as_i64()).collect();
        // What comes again comes as a piece: from some point on all of it, in order.
        let back = seqs.windows(2).filter(|pair| pair[0] > pair[1]).count();
        ensure!(back <= revisions as usize, "{seqs:?}");
    }
    println!("{} records for {} changes", read.len(), alerts * revisions);
    Ok(())
}

/// Waits until a connector is in such a state.
fn healthy(
    scene: &Scene,
    name: &str,
    what: &str,
    is: impl Fn(&vedette_act::ConnectorHealth) -> bool,
) -> Result<()> {
    let began = Instant::now();
    loop {
        let health = scene.response.connectors().read();
        if health.get(name).is_some_and(&is) {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "{name} is not {what}: {health:#?}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn failing(part: &'static str) -> impl Fn(&vedette_act::ConnectorHealth) -> bool {
    move |health| health.in_a_row > 0 && health.failure.as_deref().is_some_and(|why| why.contains(part))
}

#[test]
fn a_broker_that_is_down_shows_delays_nobody_else_and_is_told_all_of_it_later() -> Result<()> {
    let Some(mut broker) = Broker::start("respond::topics")? else { return Ok(()) };
    let down = connector("kafka", Means::Kafka(written(&broker, "down")?));
    let Some(other) = Broker::shared("respond::topics")? else { return Ok(()) };
    let up = connector("kafka/up", Means::Kafka(written(&other, "up")?));
    let runtime = Runtime::new()?;
    let steps = vec![notify("tell", &["kafka", "kafka/up"])];
    let mut scene = runtime.block_on(Scene::new(vec![down, up], steps))?;
    runtime.block_on(scene.tell(&alert("before")))?;
    broker.stop()?;
    let began = Instant::now();
    runtime.block_on(scene.publish(&alert("meanwhile")))?;
    read(&other, "up.alerts", "it", |read| !of_key(read, "meanwhile").is_empty())?;
    ensure!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    healthy(&scene, "kafka", "down", failing("cannot reach Kafka"))?;
    ensure!(scene.response.connectors().read().get("kafka/up").is_some_and(|health| health.failed == 0));
    runtime.block_on(scene.publish(&alert("later")))?;
    broker.restart()?;
    let read = read(&broker, "down.alerts", "all", |read| {
        ["before", "meanwhile", "later"].iter().all(|id| !of_key(read, id).is_empty())
    })?;
    healthy(&scene, "kafka", "up", |health| health.in_a_row == 0)?;
    let rows = runtime.block_on(async {
        let began = Instant::now();
        loop {
            let rows = scene.actions().await?;
            if rows.iter().all(|row| row.state == ActionState::Done) {
                return anyhow::Ok(rows);
            }
            ensure!(began.elapsed() < PATIENCE, "{rows:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })?;
    ensure!(rows.len() == 3 && read.len() >= 3, "{rows:?}");
    Ok(())
}

#[test]
fn what_is_in_the_way_is_said_with_its_remedy() -> Result<()> {
    let Some(broker) = Broker::shared("respond::topics")? else { return Ok(()) };
    let runtime = Runtime::new()?;
    let missing = topics(&broker.bootstrap(), "missing", Security::default());
    // From the start: a change of a topic's settings takes effect at some later time.
    let small = topics(&broker.bootstrap(), "small", Security::default());
    broker.create_topic("small.alerts", PARTITIONS, &[("max.message.bytes", "300")])?;
    broker.create_topic("small.actions", PARTITIONS, &[])?;
    let connectors =
        vec![connector("kafka", Means::Kafka(missing)), connector("kafka/small", Means::Kafka(small))];
    let mut scene = runtime.block_on(Scene::new(connectors, Vec::new()))?;
    runtime.block_on(scene.publish(&alert("a")))?;
    healthy(&scene, "kafka", "without a topic", failing("there is no topic missing.alerts; make it"))?;
    healthy(&scene, "kafka/small", "too small", failing("raise its max.message.bytes"))?;
    broker.create_topic("missing.alerts", PARTITIONS, &[])?;
    broker.configure_topic("small.alerts", &[])?;
    for topic in ["missing.alerts", "small.alerts"] {
        read(&broker, topic, "it", |read| !of_key(read, "a").is_empty())?;
    }
    Ok(())
}

#[test]
fn it_connects_as_the_settings_say_and_a_user_who_is_refused_is_told() -> Result<()> {
    let Some(broker) = Broker::shared("respond::topics")? else { return Ok(()) };
    written(&broker, "secure")?;
    let runtime = Runtime::new()?;
    let of = |password: &str| {
        let sasl = Sasl {
            mechanism: Mechanism::Plain,
            username: USER.to_owned(),
            password: Password::new(password),
        };
        let security =
            Security { protocol: Protocol::SaslSsl, sasl: Some(sasl), ca_file: Some(broker.ca_file()) };
        topics(&broker.secure(), "secure", security)
    };
    let connectors = vec![
        connector("kafka", Means::Kafka(of(PASSWORD))),
        connector("kafka/wrong", Means::Kafka(of("wrong-horse-battery"))),
    ];
    let mut scene = runtime.block_on(Scene::new(connectors, Vec::new()))?;
    runtime.block_on(scene.publish(&alert("a")))?;
    read(&broker, "secure.alerts", "it", |read| !of_key(read, "a").is_empty())?;
    healthy(&scene, "kafka/wrong", "refused", failing("refuses user vedette (PLAIN)"))?;
    let health: BTreeMap<Arc<str>, _> = scene.response.connectors().read();
    ensure!(!format!("{health:?}").contains("wrong-horse"), "{health:?}");
    Ok(())
}
