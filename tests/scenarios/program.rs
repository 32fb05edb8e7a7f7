//! The built binary, run to its end in a folder of its own.
//!
//! In: arguments, files, standard input. Out: [`Ended`]. Invariant: the binary is built once and copied, so that a
//! later build cannot exchange it under the tests.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use serde_json::Value;
use tempfile::TempDir;
use vedette_event::{Micros, Span};
use vedette_simulate::{Feed, Simulator};

/// 2026-01-01T12:00:00Z.
const START: Micros = Micros(1_767_268_800_000_000);

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn binary() -> &'static Path {
    static BINARY: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = BINARY.get_or_init(|| {
        let output = Command::new(env!("CARGO"))
            .args(["build", "-p", "vedette", "--locked", "--message-format", "json-render-diagnostics"])
            .current_dir(root())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let messages = String::from_utf8(output.stdout).unwrap();
        let messages = messages.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let built = messages.filter_map(|m| m["executable"].as_str().map(PathBuf::from)).next_back().unwrap();
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("vedette");
        fs::copy(built, &path).unwrap();
        (folder, path)
    });
    path
}

/// How a run ended.
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// A folder with files to work on.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Writes `firewall`, `waf` and `api`: that many seconds of a simulated day.
    pub fn write_day(&self, seconds: i64) {
        let mut simulator = Simulator::new(7, START, 60);
        let mut texts = [String::new(), String::new(), String::new()];
        let end = START.plus(Span::secs(seconds));
        loop {
            let record = simulator.next_record();
            if record.time >= end {
                break;
            }
            let at = Feed::ALL.iter().position(|feed| *feed == record.feed).unwrap();
            texts[at].push_str(&record.line);
            texts[at].push('\n');
        }
        for (feed, text) in Feed::ALL.iter().zip(&texts) {
            self.write(feed.topic(), text);
        }
    }

    /// The binary in this folder, with nothing of the surroundings but the path to programs.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(args).current_dir(self.0.path()).stdin(Stdio::null());
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("VEDETTE_"))
        {
            command.env_remove(name);
        }
        command
    }

    pub fn run(&self, args: &[&str]) -> Ended {
        ended(&mut self.command(args))
    }
}

pub fn ended(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}
