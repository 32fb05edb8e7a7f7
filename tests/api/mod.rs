//! The HTTP API against its own description, by tools that know nothing of us: the document is valid OpenAPI, and the real
//! service answers as the document says, whatever is asked (PyPI's `openapi-spec-validator` and `schemathesis`).
//! Without them (`VEDETTE_API_TOOLS`) each test says that it is skipped.

pub mod hunts;

use std::{
    fs,
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use vedette_event::{Micros, Span};
use vedette_ingest::{MockBroker, Security, TopicWriter};
use vedette_simulate::{Feed, Simulator};

use crate::{
    binary::root,
    crash::program::{Deployment, api},
};

/// The folder of the tools, or a word that the test is skipped.
fn tools(test: &str) -> Option<PathBuf> {
    let remedy = "run `export VEDETTE_API_TOOLS=\"$(.ci/api/fetch)\"` first";
    let folder = std::env::var_os("VEDETTE_API_TOOLS").map(PathBuf::from);
    let found = folder.filter(|folder| folder.join("bin/schemathesis").is_file());
    if found.is_none() {
        crate::skipped::say(
            &format!("api {test}"),
            &format!("VEDETTE_API_TOOLS names no folder with them; {remedy}"),
        );
    }
    found
}

/// Runs a tool to its end; an error with all that it said unless it is content.
fn content(tool: &mut Command) -> Result<String> {
    let output = tool.output().with_context(|| format!("{tool:?}"))?;
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{tool:?}:\n{said}");
    Ok(said)
}

#[test]
fn the_document_is_valid() -> Result<()> {
    let Some(tools) = tools("document") else { return Ok(()) };
    let document = root().join("schemas/openapi.json");
    content(Command::new(tools.join("bin/openapi-spec-validator")).arg(document)).map(drop)
}

/// A simulated exchange that writes to a broker of its own, until dropped.
pub struct Exchange {
    broker: MockBroker,
    stop: Arc<AtomicBool>,
    writer: Option<thread::JoinHandle<()>>,
}

impl Exchange {
    /// Starts with half a minute of the past, so that there are alerts at once.
    pub fn start() -> Result<Self> {
        let broker = MockBroker::start()?;
        for feed in Feed::ALL {
            broker.create_topic(feed.topic(), 1)?;
        }
        let topics = TopicWriter::connect(&[broker.bootstrap_servers()], &Security::default())?;
        let mut simulator = Simulator::new(1, now().minus(Span::secs(30)), 50);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let writer = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let record = simulator.next_record();
                while record.time > now() && !stopped.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(20));
                }
                // What is not written is missed by nobody.
                let _ = topics.write(record.feed.topic(), 0, record.time, record.line.as_bytes());
            }
        });
        Ok(Self { broker, stop, writer: Some(writer) })
    }

    /// The `kafka` part of a configuration.
    pub fn kafka(&self) -> String {
        let topics = Feed::ALL.iter().map(|feed| {
            let (name, source) = (feed.topic(), feed.source());
            format!("  - {{name: {name}, source: {source}, time_source: producer, disorder: 2s}}\n")
        });
        format!("brokers: {}\ntopics:\n{}", self.broker.bootstrap_servers(), topics.collect::<String>())
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(writer) = self.writer.take() {
            // It only writes, and ends within a moment.
            let _ = writer.join();
        }
    }
}

fn now() -> Micros {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// How many operations the document has.
fn operations() -> Result<usize> {
    let document: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(root().join("schemas/openapi.json"))?)?;
    let paths = document["paths"].as_object().context("paths")?;
    Ok(paths.values().filter_map(|path| path.as_object()).map(|path| path.len()).sum())
}

#[test]
fn the_service_answers_as_its_document_says() -> Result<()> {
    let Some(tools) = tools("service") else { return Ok(()) };
    let exchange = Exchange::start()?;
    let deployment = Deployment::new(&exchange.kafka(), "")?;
    // An admin, so that every route is answered by itself and not by the guard alone.
    let made =
        content(&mut deployment.command(&["token", "create", "--name", "tester", "--role", "admin"])?)?;
    let token = made.split_whitespace().find(|word| word.starts_with("vdt_")).context("a token")?.to_owned();
    let mut process = deployment.run()?;
    let address = process.address()?;
    process.until("an alert", |_| {
        let alerts = api(&address, "/api/v1/alerts?state=active", &token).ok()?;
        (!alerts["items"].as_array()?.is_empty()).then_some(())
    })?;
    let here = root().join("tests/api");
    let mut tester = Command::new(tools.join("bin/schemathesis"));
    tester.arg("--config-file").arg(here.join("schemathesis.toml"));
    tester.arg("run").arg(root().join("schemas/openapi.json"));
    tester.args(["--url", &format!("http://{address}")]);
    tester.args(["--header", &format!("Authorization: Bearer {token}")]);
    // Where its own module is, which leaves nothing behind there.
    tester.env("PYTHONPATH", here).env("PYTHONDONTWRITEBYTECODE", "1");
    tester.current_dir(deployment.folder());
    let said = content(&mut tester)?;
    // All operations but the stream.
    let asked = operations()? - 1;
    ensure!(said.contains(&format!("Tested: {asked}\n")), "not all of {asked} were asked: {said}");
    // It goes on as if nothing had been.
    process.ready(200, "ready")?;
    process.stop()?;
    Ok(())
}
