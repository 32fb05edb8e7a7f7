//! Many keys: what it costs to hold them, to write them down, and to find them again after a kill.
//!
//! In: a broker, the binary, how many keys. Out: throughput from an empty store, processor time of a quiet minute by thread (once
//! with all keys and once with a thousand: what lies between them is the price of checkpoints), bytes of all checkpoints, and how long
//! it takes from a SIGKILL until everything is read again.
//! One rule counts a hundred events of an address within ten minutes; each address sends one, and then as many more come from
//! addresses in a fixed shuffled order.

use std::{collections::BTreeMap, fs, path::Path, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer},
};
use vedette_store::{Access, Store, StoreSettings};

use crate::{
    PATIENCE, Report, lag_0,
    load::PARTITIONS,
    service::{Deployment, Service, TICKS},
    throughput, until,
};

const RULES: &str = "title: Deny\nid: 00000000-0000-4000-8000-0000000000fd\nname: deny\nlogsource: {category: firewall}\n\
    detection: {x: {action: deny}, condition: x}\n---\ntitle: Many\nid: 00000000-0000-4000-8000-0000000000fc\ncorrelation:\n  \
    type: event_count\n  rules: [deny]\n  group-by: [src_ip]\n  timespan: 10m\n  condition: {gte: 100}\n";
/// How long it is looked at, at this many records a second.
const QUIET: Duration = Duration::from_secs(60);
const RATE: u64 = 1_000;
/// The number whose minute is compared with.
const FEW: u64 = 1_000;

/// A topic for each number of keys.
fn topic(keys: u64) -> String {
    format!("keys-{keys}")
}

struct Source(BaseProducer, String, u64);

impl Source {
    fn new(bootstrap: &str, keys: u64) -> Result<Self> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("linger.ms", "20").set("enable.idempotence", "true");
        Ok(Self(config.create()?, topic(keys), keys))
    }

    fn write(&self, n: u64) -> Result<()> {
        // The factor is a prime, so that each round meets every key once.
        let key = n.wrapping_mul(0x9E37_79B1) % self.2;
        let [_, a, b, c] = (key as u32).to_be_bytes();
        let line = format!(r#"{{"category":"firewall","action":"deny","src_ip":"11.{a}.{b}.{c}"}}"#);
        let partition = (n % PARTITIONS as u64) as i32;
        let mut record = BaseRecord::<str, str>::to(&self.1).partition(partition).payload(&line);
        while let Err((error, back)) = self.0.send(record) {
            let full = rdkafka::types::RDKafkaErrorCode::QueueFull;
            ensure!(error.rdkafka_error_code() == Some(full), "{error}");
            record = back;
            self.0.poll(Duration::from_millis(10));
        }
        self.0.poll(Duration::ZERO);
        Ok(())
    }
}

/// Seconds of processor time by name of thread.
fn by_thread(service: &Service) -> Result<BTreeMap<String, f64>> {
    let mut all = BTreeMap::<_, f64>::new();
    for task in fs::read_dir(format!("/proc/{}/task", service.id()))? {
        let Ok(stat) = fs::read_to_string(task?.path().join("stat")) else { continue };
        let (head, fields) = stat.rsplit_once(") ").context("stat")?;
        let name = head.split_once('(').map_or(head, |(_, name)| name);
        let ticks: f64 = fields.split(' ').skip(11).take(2).filter_map(|n| n.parse::<f64>().ok()).sum();
        *all.entry(name.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned()).or_default() +=
            ticks / TICKS;
    }
    Ok(all)
}

/// What each thread takes of a core while few records come.
fn quiet(service: &mut Service, source: &Source, from: u64, report: &mut Report) -> Result<()> {
    let before = by_thread(service)?;
    for second in 0..QUIET.as_secs() {
        (0..RATE).try_for_each(|n| source.write(from + second * RATE + n))?;
        thread::sleep(Duration::from_secs(1));
        service.alive()?;
    }
    source.0.flush(PATIENCE)?;
    for (name, after) in by_thread(service)? {
        let share = (after - before.get(&name).copied().unwrap_or_default()) / QUIET.as_secs_f64();
        if share >= 0.001 {
            report.add(
                format!("{} keys, {RATE} records/s: thread {name}", source.2),
                share * 100.0,
                "% of a core",
            );
        }
    }
    Ok(())
}

/// Bytes of all checkpoints of a store that nobody uses.
fn checkpoint_bytes(folder: &Path) -> Result<usize> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let store = Store::open(StoreSettings::new(folder, Access::Engine)).await?;
        let (mut after, mut bytes) = (None, 0);
        while let Some(next) = store.next_checkpoint(after).await? {
            (after, bytes) = (Some(next.group), bytes + next.bytes.len());
        }
        store.close().await;
        Ok(bytes)
    })
}

/// Raises them and reports.
pub fn measure(
    (binary, broker): (&Path, &mut crate::broker::Broker),
    keys: u64,
    threads: Option<u16>,
    report: &mut Report,
) -> Result<()> {
    for keys in [FEW, keys] {
        broker.create_topic(&topic(keys), PARTITIONS, &[])?;
        let bootstrap = broker.bootstrap();
        let (source, records) = (Source::new(&bootstrap, keys)?, keys * 2);
        (0..records).try_for_each(|n| source.write(n))?;
        source.0.flush(PATIENCE)?;
        let threads = threads.map_or("null".to_owned(), |threads| threads.to_string());
        let more = format!(
            "    - {{name: {}, source: json, disorder: 1s}}\nengine: {{threads: {threads}}}\n",
            topic(keys)
        );
        let deployment = Deployment::with_rules(binary, &bootstrap, &more, &[("rules.yml", RULES)])?;
        let mut service = deployment.run()?;
        if keys != FEW {
            throughput(&mut service, records, report)?;
        }
        quiet(&mut service, &source, records, report)?;
        if keys == FEW {
            service.kill()?;
            continue;
        }
        let all = records + QUIET.as_secs() * RATE;
        until(&mut service, |r| r.lag == Some(0) && r.records == all)?;
        report.add("most memory resident", service.usage()?.peak, "MiB");
        service.kill()?;
        report.add("bytes of all checkpoints", checkpoint_bytes(&deployment.data())? as f64 / 1e6, "MB");
        let mut service = deployment.run()?;
        let (reading, took) = lag_0(&mut service)?;
        report.add("killed: from the start after that to lag 0", took.as_secs_f64(), "s");
        report.add("records read again for that", reading.records as f64, "");
        service.kill()?;
    }
    Ok(())
}
