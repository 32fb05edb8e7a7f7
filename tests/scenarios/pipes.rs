//! Whoever reads the output goes away: nothing panics, results end quietly, and a service goes on.

use std::{
    io::{Read as _, Write as _},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::program::Folder;

const RULE: &str = "title: A login\nid: 1c1c5dd4-7b3c-4d3f-9a53-0f3e8d7c1a55\nlogsource: {category: api}\n\
                    detection:\n  selection:\n    event.action: login\n  condition: selection\n";

/// The code it ends with, with its end of the pipe that is kept open.
fn closed(command: &mut Command, stdout: bool) -> (i32, String) {
    let (read, write) = std::io::pipe().unwrap();
    drop(read);
    let mut child = match stdout {
        true => command.stdout(write).stderr(Stdio::piped()),
        false => command.stderr(write).stdout(Stdio::null()),
    }
    .spawn()
    .unwrap();
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut said).unwrap();
    }
    (child.wait().unwrap().code().unwrap(), said)
}

fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("rules/good.yml", RULE);
    folder.write("log", "{\"event.action\": \"login\"}\nno json\n");
    folder.write("vedette.yml", "kafka: {brokers: 127.0.0.1:1, topics: [{name: t, source: json}]}\nrules: [rules]\napi: {listen: 127.0.0.1:0}\n");
    folder
}

#[test]
fn nobody_has_to_read_what_is_said() {
    let folder = folder();
    for (line, code) in [
        ("scan --rules rules --source json log", 0),
        ("scan --rules rules nothing", 3),
        ("decode log", 0),
        ("topic accept other", 2),
        ("run -c nothing.yml", 2),
    ] {
        let args: Vec<&str> = line.split(' ').collect();
        assert_eq!(closed(&mut folder.command(&args), false).0, code, "{line}");
    }
}

#[test]
fn a_closed_output_is_a_quiet_end() {
    let folder = folder();
    for line in
        ["decode log", "check rules", "scan --rules rules log", "token list", "demo --port 0 --no-browser"]
    {
        let args: Vec<&str> = line.split(' ').collect();
        let (code, said) = closed(&mut folder.command(&args), true);
        assert_eq!(code, 0, "{line}: {said}");
        assert!(!said.contains("panicked") && !said.contains("Broken pipe"), "{line}: {said}");
    }
}

#[test]
fn a_closed_output_ends_it_though_the_input_stays_open() {
    let folder = folder();
    for threads in ["1", "3"] {
        let scan =
            ["scan", "--rules", "rules", "--source", "json", "--mode", "findings", "--format", "ndjson"];
        let mut command = folder.command(&[&scan[..], &["--threads", threads]].concat());
        let (read, write) = std::io::pipe().unwrap();
        drop(read);
        let mut child = command.stdin(Stdio::piped()).stdout(write).stderr(Stdio::null()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(b"{\"event.action\": \"login\"}\n").unwrap();
        assert_eq!(ended_within(&mut child, Duration::from_secs(60)), Some(0), "{threads} threads");
        drop(input);
    }
}

#[test]
fn a_token_that_nobody_saw_lets_nobody_in() {
    let folder = folder();
    let create = ["token", "create", "--name", "ci", "--role", "analyst"];
    let (code, said) = closed(&mut folder.command(&create), true);
    assert_eq!((code, said.contains("panicked")), (0, false), "{said}");
    let again = folder.run(&create);
    assert_eq!(again.code, 0, "the name is free: {}", again.err);
}

fn ended_within(child: &mut Child, patience: Duration) -> Option<i32> {
    let asked = Instant::now();
    while asked.elapsed() < patience {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    None
}

fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
}

#[test]
fn a_service_outlives_its_log_and_its_terminal() {
    let folder = folder();
    let (read, write) = std::io::pipe().unwrap();
    drop(read);
    let program = folder.command(&["run"]);
    // The tests themselves may run under nohup.
    let mut run = Command::new("env");
    run.arg("--default-signal=HUP").arg(program.get_program()).arg("run").current_dir(folder.path(""));
    run.env("VEDETTE_LOG_LEVEL", "debug").stdin(Stdio::null());
    let mut run = run.stderr(write).spawn().unwrap();
    assert_eq!(ended_within(&mut run, Duration::from_secs(3)), None, "it ended with its log");
    // It reads its rules again.
    signal(&run, "HUP");
    assert_eq!(ended_within(&mut run, Duration::from_secs(2)), None, "it ended with its terminal");
    signal(&run, "TERM");
    let code = ended_within(&mut run, Duration::from_secs(20));
    if code.is_none() {
        run.kill().unwrap();
    }
    assert_eq!(code, Some(0), "a clean stop");
}

#[test]
fn a_service_under_nohup_outlives_its_terminal() {
    let folder = folder();
    let program = folder.command(&["run"]);
    let mut run = Command::new("nohup");
    run.arg(program.get_program()).arg("run").current_dir(folder.path("")).stdin(Stdio::null());
    let mut run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    assert_eq!(ended_within(&mut run, Duration::from_secs(2)), None);
    signal(&run, "HUP");
    assert_eq!(ended_within(&mut run, Duration::from_secs(2)), None);
    signal(&run, "TERM");
    assert_eq!(ended_within(&mut run, Duration::from_secs(20)), Some(0));
}
