//! The built binary as an operator sees it.
//!
//! In: a configuration. Out: a [`Process`] with its log, its exit status and what it answers over HTTP.
//! Invariants: no process outlives its [`Process`]; every wait ends with an error that shows the log.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::binary::{binary, root};

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a configuration, and the data folder that it names.
pub struct Deployment {
    dir: tempfile::TempDir,
}

impl Deployment {
    /// Writes the configuration: `kafka` is the inside of that map, `more` whole further maps.
    pub fn new(kafka: &str, more: &str) -> Result<Self> {
        let deployment = Self { dir: tempfile::Builder::new().prefix("vedette-crash-").tempdir()? };
        deployment.configure(kafka, more)?;
        Ok(deployment)
    }

    /// Writes another configuration over the first.
    pub fn configure(&self, kafka: &str, more: &str) -> Result<()> {
        let rules = [root().join("detections"), root().join("tests/crash/rules.yml")];
        let rules = rules.map(|path| path.display().to_string());
        self.configure_rules(kafka, &rules.join(", "), more)
    }

    /// The same with rules of these files and folders.
    pub fn configure_rules(&self, kafka: &str, rules: &str, more: &str) -> Result<()> {
        self.write(kafka, rules, "{listen: \"127.0.0.1:0\"}", more)
    }

    /// The same with this map for the API.
    pub fn configure_api(&self, kafka: &str, api: &str) -> Result<()> {
        self.write(kafka, &root().join("detections").display().to_string(), api, "")
    }

    fn write(&self, kafka: &str, rules: &str, api: &str, more: &str) -> Result<()> {
        let kafka: String = kafka.lines().map(|line| format!("  {line}\n")).collect();
        let text =
            format!("data: {}\nrules: [{rules}]\nkafka:\n{kafka}api: {api}\n{more}", self.data().display(),);
        Ok(fs::write(self.config(), text)?)
    }

    /// A folder for what the configuration names.
    pub fn folder(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("vedette.yml")
    }

    /// The binary with these arguments.
    pub fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary()?);
        for name in std::env::vars_os().map(|(name, _)| name) {
            if name.to_string_lossy().starts_with("VEDETTE_") {
                command.env_remove(name);
            }
        }
        command.args(args).arg("-c").arg(self.config()).current_dir(self.dir.path()).stdin(Stdio::null());
        Ok(command)
    }

    /// Starts `vedette run`.
    pub fn run(&self) -> Result<Process> {
        let command = self.command(&["run"])?;
        Process::start(command)
    }

    /// Starts `vedette run` where no file may grow beyond some KiB, as on a disk that fills up.
    pub fn run_on_a_small_disk(&self, kib: u32) -> Result<Process> {
        let run = self.command(&["run"])?;
        let mut shell = Command::new("bash");
        // The limit's signal would kill it; ignored, the write fails.
        shell.args(["-c", &format!("trap '' XFSZ; ulimit -f {kib}; exec \"$@\""), "bash"]);
        shell.arg(run.get_program()).args(run.get_args()).current_dir(self.dir.path()).stdin(Stdio::null());
        for (name, _) in run.get_envs() {
            shell.env_remove(name);
        }
        Process::start(shell)
    }

    /// Runs `vedette run` where it must end by itself.
    pub fn run_in_vain(&self) -> Result<Ended> {
        let mut process = self.run()?;
        let code = process.ended(PATIENCE)?;
        Ok(Ended { code, log: process.log().join("\n") })
    }

    /// Makes a token for the API.
    pub fn token(&self) -> Result<String> {
        self.token_of("crash", "engineer")
    }

    /// A token of this name, with a role.
    pub fn token_of(&self, name: &str, role: &str) -> Result<String> {
        let mut command = self.command(&["token", "create", "--name", name, "--role", role])?;
        let Output { status, stdout, stderr } = command.output()?;
        ensure!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        Ok(String::from_utf8(stdout)?.trim().to_owned())
    }
}

/// How a run ended by itself.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub code: Option<i32>,
    /// All that it wrote.
    pub log: String,
}

/// A running `vedette run`; killed when dropped.
pub struct Process {
    child: Child,
    started: Instant,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Process {
    fn start(mut command: Command) -> Result<Self> {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let stderr = child.stderr.take().context("standard error")?;
        let log = Arc::new(Mutex::new(Vec::new()));
        let into = log.clone();
        let reader = thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                into.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Ok(Self { child, started: Instant::now(), log, reader: Some(reader) })
    }

    /// How long it has been running.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// What it has written to standard error so far, line by line.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until something holds; an error with the log if it ends before, or never does.
    pub fn until<T>(&mut self, what: &str, mut holds: impl FnMut(&Self) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = holds(self) {
                return Ok(found);
            }
            if let Some(status) = self.child.try_wait()? {
                self.listen_to_the_end();
                bail!("waited for {what}, but it ended ({status}):\n{}", self.log().join("\n"));
            }
            ensure!(Instant::now() < deadline, "waited for {what} in vain:\n{}", self.log().join("\n"));
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until a line of the log holds this; gives the line.
    pub fn says(&mut self, part: &str) -> Result<String> {
        self.until(&format!("`{part}` in the log"), |p| p.log().into_iter().find(|l| l.contains(part)))
    }

    /// Kills it with SIGKILL, provided that it still runs.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            self.listen_to_the_end();
            bail!("it ended by itself ({status}):\n{}", self.log().join("\n"));
        }
        self.child.kill()?;
        self.child.wait()?;
        self.listen_to_the_end();
        Ok(())
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) -> Result<()> {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status()?;
        ensure!(sent.success(), "it is gone");
        Ok(())
    }

    /// Asks it to stop (SIGTERM) and waits; an error unless it ends well.
    pub fn stop(&mut self) -> Result<Duration> {
        let asked = Instant::now();
        self.signal("TERM")?;
        let code = self.ended(PATIENCE)?;
        ensure!(code == Some(0), "it ended with {code:?}:\n{}", self.log().join("\n"));
        Ok(asked.elapsed())
    }

    /// Waits until it ends; gives its exit status.
    pub fn ended(&mut self, patience: Duration) -> Result<Option<i32>> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                self.listen_to_the_end();
                return Ok(status.code());
            }
            ensure!(Instant::now() < deadline, "it does not end:\n{}", self.log().join("\n"));
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn listen_to_the_end(&mut self) {
        if let Some(reader) = self.reader.take() {
            // It only reads lines, and ends with the pipe.
            let _ = reader.join();
        }
    }

    /// The address of the API.
    pub fn address(&mut self) -> Result<String> {
        let line = self.says("ready to read")?;
        let address = line.split("api=").nth(1).and_then(|rest| rest.split_whitespace().next());
        Ok(address.context("the log names no address")?.to_owned())
    }

    /// Waits until `/readyz` answers with this status and this in its text.
    pub fn ready(&mut self, status: u16, part: &str) -> Result<()> {
        let address = self.address()?;
        let mut last = None;
        let waited = self.until(&format!("{status} `{part}` from /readyz"), |_| {
            last = Some(get(&address, "/readyz", ""));
            matches!(&last, Some(Ok((code, body))) if *code == status && body.contains(part)).then_some(())
        });
        waited.with_context(|| format!("the last answer was {last:?}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            // A test that failed; it is waited for so that nothing stays behind.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What the API has under a path.
pub fn api(address: &str, path: &str, token: &str) -> Result<Value> {
    let (status, body) = get(address, path, token)?;
    ensure!(status == 200, "{path}: {status} {body}");
    Ok(serde_json::from_str(&body)?)
}

/// A request over plain HTTP: status and body.
pub fn get(address: &str, path: &str, token: &str) -> Result<(u16, String)> {
    send("GET", address, path, token)
}

/// The same with another method, and no body.
pub fn send(method: &str, address: &str, path: &str, token: &str) -> Result<(u16, String)> {
    let auth = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    let (status, _, body) = exchange(method, address, path, &auth, "")?;
    Ok((status, body))
}

/// A whole exchange with further lines of the head and a body: status, head and body of the answer.
pub fn exchange(
    method: &str,
    address: &str,
    path: &str,
    lines: &str,
    body: &str,
) -> Result<(u16, String, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(15)))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\n{lines}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, head.to_owned(), body.to_owned()))
}
