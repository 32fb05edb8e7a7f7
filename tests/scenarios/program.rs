//! The built binary, run to its end in a folder of its own.
//!
//! In: arguments, files, standard input. Out: [`Ended`].

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use tempfile::TempDir;
use vedette_event::{Micros, Span};
use vedette_simulate::{Feed, Simulator};

use crate::binary::binary;

/// 2026-01-01T12:00:00Z.
const START: Micros = Micros(1_767_268_800_000_000);

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
        let mut command = Command::new(binary().unwrap());
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
