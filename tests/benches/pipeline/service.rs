//! The release binary as a service: started, asked, measured, killed.
//!
//! In: the broker's address. Out: a [`Service`] with its API and what the system says of its use of processor and memory.
//! Invariants: the binary is copied, so that a later build cannot exchange it between two starts; no process outlives
//! its [`Service`]; every wait ends.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use vedette_event::{Micros, Span};
use vedette_simulate::Feed;

use crate::load;

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// `S`, as the service has it by default.
pub const SKEW: Span = Span::secs(5);
/// Ticks a second in `/proc/<pid>/stat`: the same on every Linux of today.
pub const TICKS: f64 = 100.0;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The release binary of the repository, built now.
pub fn build() -> Result<PathBuf> {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--release", "-p", "vedette", "--locked"])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(root())
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "vedette cannot be built");
    let executable = |line: &str| {
        Some(PathBuf::from(serde_json::from_str::<Value>(line).ok()?.get("executable")?.as_str()?))
    };
    let built = String::from_utf8_lossy(&output.stdout).lines().filter_map(executable).next_back();
    built.context("cargo names no executable")
}

/// A folder with a copy of the binary, a configuration and the data.
pub struct Deployment {
    dir: tempfile::TempDir,
    token: String,
}

impl Deployment {
    /// A new one whose sources have this `D`, if not their own, with so many threads, if not as many as there are cores.
    pub fn new(
        (binary, bootstrap): (&Path, &str),
        disorder: Option<u64>,
        threads: Option<u16>,
    ) -> Result<Self> {
        let disorder = disorder.map_or("null".to_owned(), |seconds| format!("{seconds}s"));
        let topics: String = Feed::ALL
            .iter()
            .map(|f| format!("    - {{name: {}, source: {}, disorder: {disorder}}}\n", f.topic(), f.source()))
            .collect();
        let dir = tempfile::Builder::new().prefix("vedette-pipeline-").tempdir()?;
        let threads = threads.map_or("null".to_owned(), |threads| threads.to_string());
        let more = format!("{topics}engine: {{threads: {threads}}}\n");
        Self::in_folder(dir, (binary, bootstrap), &more, &root().join("detections"))
    }

    /// A new one with topics and files of rules of its own.
    pub fn with_rules(
        binary: &Path,
        bootstrap: &str,
        topics_and_more: &str,
        files: &[(&str, &str)],
    ) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("vedette-pipeline-").tempdir()?;
        let rules = dir.path().join("rules");
        fs::create_dir_all(rules.join("playbooks"))?;
        for (name, text) in files {
            fs::write(rules.join(name), text)?;
        }
        Self::in_folder(dir, (binary, bootstrap), topics_and_more, &rules)
    }

    fn in_folder(
        dir: tempfile::TempDir,
        (binary, bootstrap): (&Path, &str),
        topics_and_more: &str,
        rules: &Path,
    ) -> Result<Self> {
        fs::copy(binary, dir.path().join("vedette"))?;
        let config = format!(
            "data: {}\nrules: [{}]\nkafka:\n  brokers: {bootstrap}\n  topics:\n{topics_and_more}api: {{listen: \"127.0.0.1:0\"}}\n",
            dir.path().join("data").display(),
            rules.display(),
        );
        fs::write(dir.path().join("vedette.yml"), config)?;
        let mut deployment = Self { dir, token: String::new() };
        deployment.token = deployment.token("engineer")?;
        Ok(deployment)
    }

    /// The same with or without a lake.
    pub fn with_lake(self, on: bool) -> Result<Self> {
        let mut config = fs::OpenOptions::new().append(true).open(self.dir.path().join("vedette.yml"))?;
        writeln!(config, "lake: {{on: {on}}}")?;
        Ok(self)
    }

    /// What a command prints.
    pub fn asked(&self, args: &[&str]) -> Result<String> {
        let said = self.command(args).output()?;
        ensure!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        Ok(String::from_utf8(said.stdout)?)
    }

    /// A new token with this role.
    pub fn token(&self, role: &str) -> Result<String> {
        Ok(self.asked(&["token", "create", "--name", role, "--role", role])?.trim().to_owned())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.dir.path().join("vedette"));
        for (name, _) in std::env::vars_os().filter(|(n, _)| n.to_string_lossy().starts_with("VEDETTE_")) {
            command.env_remove(name);
        }
        command.args(args).arg("-c").arg(self.dir.path().join("vedette.yml"));
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        command
    }

    /// The folder of its store.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Starts `vedette run`.
    pub fn run(&self) -> Result<Service> {
        let log = self.dir.path().join("log");
        let (started, started_at) = (Instant::now(), load::now());
        let child = self.command(&["run"]).stdout(Stdio::null()).stderr(File::create(&log)?).spawn()?;
        let mut service =
            Service { child, started, started_at, log, address: String::new(), token: self.token.clone() };
        service.address = service.listening()?;
        Ok(service)
    }
}

/// When each of some things was first seen somewhere.
#[derive(Debug, Clone, Default)]
pub struct Seen(Arc<Mutex<BTreeMap<String, Micros>>>);

impl Seen {
    /// It is seen now.
    pub fn note(&self, of: &str) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.entry(of.to_owned()).or_insert_with(load::now);
    }

    /// All so far.
    pub fn all(&self) -> BTreeMap<String, Micros> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A running service; killed when dropped.
pub struct Service {
    child: Child,
    /// When its process was started.
    pub started: Instant,
    /// The same on the wall clock.
    pub started_at: Micros,
    log: PathBuf,
    address: String,
    token: String,
}

/// Somebody who asks a service questions, from a thread of its own.
#[derive(Debug, Clone)]
pub struct Asker {
    address: String,
    token: String,
}

impl Asker {
    /// Asks a hunt, and reads its answer to the end.
    pub fn hunt(&self, question: &Value) -> Result<()> {
        let body = question.to_string();
        let mut stream = TcpStream::connect(&self.address)?;
        let (address, token, length) = (&self.address, &self.token, body.len());
        write!(
            stream,
            "POST /api/v1/hunts HTTP/1.0\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        let answered = std::io::copy(&mut BufReader::new(stream), &mut std::io::sink())?;
        ensure!(answered > 0, "no answer");
        Ok(())
    }
}

/// What a process has used.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Seconds of processor time.
    pub cpu: f64,
    /// The most memory that was resident, in MiB.
    pub peak: f64,
}

/// How far reading has come, over all sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Records taken in by the kernel.
    pub records: u64,
    /// Events evaluated.
    pub events: u64,
    /// Events whose time was replaced.
    pub flagged: u64,
    /// Records that wait for ingest; `None` until the ends of all partitions are known.
    pub lag: Option<u64>,
    /// The kernel has taken in all that was written before this time.
    pub through: Option<Micros>,
}

impl Service {
    fn listening(&mut self) -> Result<String> {
        loop {
            let log = self.log();
            let line = log.lines().find(|line| line.contains("ready to read"));
            if let Some((_, rest)) = line.and_then(|line| line.split_once("api=")) {
                return Ok(rest.split_whitespace().next().unwrap_or_default().to_owned());
            }
            self.alive()?;
            ensure!(self.started.elapsed() < PATIENCE, "it does not start:\n{log}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// What it has written to standard error.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// An error with the log if it has ended.
    pub fn alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the service ended ({status}):\n{}", self.log());
        }
        Ok(())
    }

    fn open(&self, request: &str, header: &str) -> Result<BufReader<TcpStream>> {
        let mut stream = TcpStream::connect(&self.address)?;
        let address = &self.address;
        // Of version 1.0, so that the answer comes in one piece and ends with the connection.
        write!(stream, "{request} HTTP/1.0\r\nHost: {address}\r\n{header}\r\n\r\n")?;
        Ok(BufReader::new(stream))
    }

    fn bearer(&self) -> String {
        format!("Authorization: Bearer {}", self.token)
    }

    /// A stream of server-sent events.
    pub fn follow(&self, path: &str) -> Result<BufReader<TcpStream>> {
        self.open(&format!("GET {path}"), &self.bearer())
    }

    /// When each value of a field of the key was first told by a stream of alerts, from now on.
    pub fn first_told(&self, path: &str, field: &'static str) -> Result<Seen> {
        let (stream, seen) = (self.follow(path)?, Seen::default());
        let into = seen.clone();
        // It ends with the stream, which ends with the service.
        thread::spawn(move || {
            for line in stream.lines().map_while(Result::ok) {
                let data = line.strip_prefix("data:");
                let row = data.and_then(|data| serde_json::from_str::<Value>(data).ok());
                if let Some(of) = row.as_ref().and_then(|row| row["key"][field].as_str()) {
                    into.note(of);
                }
            }
        });
        Ok(seen)
    }

    /// What the API has under a path.
    pub fn api(&self, path: &str) -> Result<Value> {
        self.ask(path, &self.bearer())
    }

    /// What is under a path for who has this header.
    pub fn ask(&self, path: &str, header: &str) -> Result<Value> {
        self.answer(&format!("GET {path}"), header)
    }

    /// What comes of a post there, without a body.
    pub fn post(&self, path: &str) -> Result<Value> {
        self.answer(&format!("POST {path}"), &format!("{}\r\nContent-Length: 0", self.bearer()))
    }

    fn answer(&self, request: &str, header: &str) -> Result<Value> {
        let mut answer = String::new();
        self.open(request, header)?.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        ensure!(head.split(' ').nth(1) == Some("200"), "{request}: {answer}");
        Ok(serde_json::from_str(body)?)
    }

    /// How far it has come.
    pub fn reading(&self) -> Result<Reading> {
        let answer = self.api("/api/v1/sources")?;
        let sources = answer["items"].as_array().context("no sources")?;
        let sum =
            |name: &str| sources.iter().map(|source| source[name].as_u64().unwrap_or_default()).sum::<u64>();
        let known = |source: &Value| {
            let partitions = source["partitions"].as_array().map_or(&[][..], Vec::as_slice);
            !partitions.is_empty() && partitions.iter().all(|p| p["end"].is_i64())
        };
        let through = |source: &Value| {
            let watermark = Micros::parse_rfc3339(source["watermark"].as_str()?)?;
            Some(watermark.plus(Span::parse(source["disorder"].as_str()?)?).plus(SKEW))
        };
        let through: Option<Vec<_>> = sources.iter().map(through).collect();
        let flags = sources.iter().filter_map(|s| s["flags"].as_object());
        Ok(Reading {
            records: sum("records"),
            events: sum("events"),
            flagged: flags.flat_map(|f| f.values()).filter_map(Value::as_u64).sum(),
            lag: (!sources.is_empty() && sources.iter().all(known)).then(|| sum("lag")),
            through: through.and_then(|all| all.into_iter().min()),
        })
    }

    /// Somebody who asks it questions.
    pub fn asker(&self) -> Asker {
        Asker { address: self.address.clone(), token: self.token.clone() }
    }

    /// Of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has used so far.
    pub fn usage(&self) -> Result<Usage> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name, in brackets, may hold anything.
        let (_, fields) = stat.rsplit_once(") ").context("stat")?;
        let ticks: f64 = fields.split(' ').skip(11).take(2).filter_map(|n| n.parse::<f64>().ok()).sum();
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|p| p.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or_default();
        Ok(Usage { cpu: ticks / TICKS, peak: kib / 1024.0 })
    }

    /// Kills it with SIGKILL.
    pub fn kill(mut self) -> Result<()> {
        self.alive()?;
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
