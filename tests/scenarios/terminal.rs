//! What logs, rules and names of files say moves nothing on a terminal.
//!
//! In: records and a file of which names and values are full of control characters and marks for the direction of writing. Out: what the
//! binary writes to a terminal of its own. Invariant: what goes to a pipe is what it always was.

use std::{fs::File, io::Read as _, os::fd::OwnedFd, process::Stdio};

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use serde_json::Value;

use super::program::{Folder, ended};

/// C0 but for what ends a line, DEL, C1, and marks for the direction of writing and of ends of lines.
const HOSTILE: &str = "\u{1b}]0;x\u{7}\u{8}\u{c}\u{7f}\u{9b}2J\u{9d}0;y\u{9c}\u{85}\u{61c}\u{200e}\u{200f}\u{2028}\u{202e}\u{2066}\u{2069}";
const RULE: &str = "id: 1c1c5dd4-7b3c-4d3f-9a53-0f3e8d7c1a55\nlogsource: {category: api}\nlevel: high\n\
                    detection:\n  selection:\n    event.action: login\n  condition: selection\n";

/// Whether a terminal obeys it instead of showing it. Lines end, and a tab stands between what is counted and what it is.
fn obeyed(c: char) -> bool {
    !matches!(c, '\n' | '\t') && (c.is_control() || !c.is_ascii() && HOSTILE.contains(c))
}

/// What the command writes to a terminal that is its standard output, and what it says to a pipe that is its standard error.
fn on_a_terminal(folder: &Folder, args: &[&str]) -> (String, String) {
    let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&near).unwrap();
    unlockpt(&near).unwrap();
    let far: OwnedFd = ioctl_tiocgptpeer(&near, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    let mut command = folder.command(args);
    let mut child = command.stdout(far).stderr(Stdio::piped()).spawn().unwrap();
    // It holds the far end, too.
    drop(command);
    let mut stderr = child.stderr.take().unwrap();
    let said = std::thread::spawn(move || {
        let mut said = String::new();
        stderr.read_to_string(&mut said).unwrap();
        said
    });
    let (mut near, mut shown, mut buffer) = (File::from(near), Vec::new(), [0; 4_096]);
    // Where nobody holds the far end any more, there is an error instead of an end.
    while let Ok(n @ 1..) = near.read(&mut buffer) {
        shown.extend_from_slice(&buffer[..n]);
    }
    let (status, said) = (child.wait().unwrap(), said.join().unwrap());
    assert!(status.success(), "{args:?}: {said}");
    // The terminal itself puts the cursor to the start of each line.
    (String::from_utf8(shown).unwrap().replace("\r\n", "\n"), said)
}

/// Rules, and a log of three events in a file whose name is as hostile.
fn folder() -> (Folder, String) {
    let folder = Folder::new();
    let title = HOSTILE.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect::<String>();
    let base = format!("title: \"One {title}\"\nname: login\n{RULE}");
    let many = "title: Many\nid: 1c1c5dd4-7b3c-4d3f-9a53-0f3e8d7c1a56\nlevel: high\ncorrelation:\n  type: event_count\n  \
                rules: [login]\n  group-by: [user.name, source.ip]\n  timespan: 1m\n  condition: {gte: 2}\n";
    folder.write("rules/all.yml", &format!("{base}---\n{many}"));
    let event = |second: u8| {
        let (ip, at) = ("10.0.0.1", format!("2026-01-01T00:00:0{second}Z"));
        let event = serde_json::json!({
            "@timestamp": at, "category": "api", "event.action": "login", "user.name": format!("a{HOSTILE}b"),
            "source.ip": ip, format!("x{HOSTILE}"): HOSTILE,
        });
        format!("{event}\n")
    };
    let log = format!("log{HOSTILE}");
    folder.write(&log, &(1..=3).map(event).collect::<String>());
    (folder, log)
}

#[test]
fn a_terminal_is_not_moved_by_what_a_scan_finds() {
    let (folder, log) = folder();
    let scan = ["scan", "--rules", "rules", "--source", "json"];
    for mode in ["alerts", "findings"] {
        for format in ["table", "ndjson", "count"] {
            let args = [&scan[..], &["--mode", mode, "--format", format, &log]].concat();
            let (shown, said) = on_a_terminal(&folder, &args);
            assert!(shown.lines().count() >= 1, "{mode} {format}: {shown:?} {said}");
            assert!(!shown.contains(obeyed), "{mode} {format}: {shown:?}");
            assert!(!said.contains(obeyed), "{mode} {format}: {said:?}");
            let piped = ended(&mut folder.command(&args)).out;
            if format == "ndjson" {
                // The same JSON, which a pipe has as it always had it.
                let values = |text: &str| -> Vec<Value> {
                    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
                };
                assert_eq!(values(&shown), values(&piped));
                assert!(piped.contains('\u{202e}') && piped.contains('\u{9b}'), "{mode}: {piped:?}");
            }
        }
    }
}

#[test]
fn a_terminal_is_not_moved_by_what_becomes_of_records() {
    let (folder, log) = folder();
    let (shown, said) = on_a_terminal(&folder, &["decode", &log]);
    assert!(!shown.contains(obeyed) && !said.contains(obeyed), "{shown:?} {said:?}");
    let first: Value = serde_json::from_str(shown.lines().next().unwrap()).unwrap();
    assert_eq!(first["user.name"], format!("a{HOSTILE}b"));
}
