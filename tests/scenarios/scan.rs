//! `vedette scan`: the same results whatever the threads, the files' order and how they are cut; and in which order.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use serde_json::Value;

use super::program::{Folder, ended};
use crate::binary::root;

fn day() -> (Folder, String) {
    let folder = Folder::new();
    folder.write_day(75);
    (folder, root().join("detections").display().to_string())
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let (folder, rules) = day();
    for (mode, format) in
        [("alerts", "ndjson"), ("alerts", "count"), ("findings", "ndjson"), ("findings", "table")]
    {
        let with = |threads| {
            let args = ["scan", "--rules", &rules, "--mode", mode, "--format", format, "--threads", threads];
            let done = folder.run(&[&args[..], &["api", "firewall", "waf"]].concat());
            assert_eq!(done.code, 0, "{}", done.err);
            assert!(done.out.lines().count() >= 5, "{}", done.out);
            done.out
        };
        let one = with("1");
        for threads in ["2", "3", "8"] {
            assert!(with(threads) == one, "{mode} {format} differs with {threads} threads");
        }
    }
}

/// Identity and evidence name the file, an alert's as those of the episodes below it; all else does not.
fn forget_files(body: &mut Value) {
    let body = body.as_object_mut().unwrap();
    body.remove("alert_id");
    body.remove("evidence");
    let below = body.get_mut("explanation").and_then(|explanation| explanation.get_mut("children"));
    below.and_then(Value::as_array_mut).into_iter().flatten().for_each(forget_files);
    body.get_mut("children").and_then(Value::as_array_mut).into_iter().flatten().for_each(forget_files);
}

#[test]
fn files_of_one_source_are_read_together_however_they_are_cut_and_given() {
    let (folder, rules) = day();
    let whole = fs::read_to_string(folder.path("firewall")).unwrap();
    let all: Vec<&str> = whole.lines().collect();
    let (early, late) = all.split_at(all.len() / 3);
    folder.write("early", &early.join("\n"));
    folder.write("late", &late.join("\n"));
    let half = |rest| all.iter().skip(rest).step_by(2).map(|line| format!("{line}\n")).collect::<String>();
    folder.write("even", &half(0));
    folder.write("odd", &half(1));
    let alerts = |threads: &str, files: &[&str]| {
        let args = ["scan", "--rules", &rules, "--format", "ndjson", "--threads", threads];
        let done = folder.run(&[&args[..], files].concat());
        assert_eq!(done.code, 0, "{}", done.err);
        assert!(!done.err.contains("clock="), "{}", done.err);
        let bodies = lines(&done.out).into_iter().map(|mut alert| {
            forget_files(&mut alert);
            alert.to_string()
        });
        bodies.collect::<BTreeSet<_>>()
    };
    let expected = alerts("1", &["firewall"]);
    assert!(expected.len() >= 4, "{expected:?}");
    for files in [["early", "late"], ["late", "early"], ["even", "odd"], ["odd", "even"]] {
        for threads in ["1", "3"] {
            assert_eq!(alerts(threads, &files), expected, "{files:?} with {threads} threads");
        }
    }
}

#[test]
fn results_come_in_the_order_that_is_promised() {
    let (folder, rules) = day();
    let run = |mode, format| {
        let args = ["scan", "--rules", &rules, "--mode", mode, "--format", format, "waf", "api", "firewall"];
        let done = folder.run(&args);
        assert_eq!(done.code, 0, "{}", done.err);
        done.out
    };
    let findings = lines(&run("findings", "ndjson"));
    let files = ["waf", "api", "firewall"];
    let place = |f: &Value| {
        let file = files.iter().position(|name| f["file"] == *name).unwrap();
        (file, f["record"].as_u64().unwrap(), f["rule_id"].as_str().unwrap().to_owned())
    };
    assert!(findings.is_sorted_by(|a, b| place(a) < place(b)));
    let keys: BTreeSet<String> =
        findings.iter().flat_map(|f| f.as_object().unwrap().keys().cloned()).collect();
    assert_eq!(keys.into_iter().collect::<Vec<_>>(), ["file", "level", "record", "rule_id", "title"]);

    let alerts = lines(&run("alerts", "ndjson"));
    assert!(alerts.is_sorted_by_key(|a| a["crossed_at"].as_str().unwrap().to_owned()));
    let ids: BTreeSet<_> = alerts.iter().map(|a| a["alert_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), alerts.len(), "one line an alert, its last revision");

    for mode in ["findings", "alerts"] {
        let counts = run(mode, "count");
        let numbers: Vec<u64> =
            counts.lines().map(|l| l.split('\t').next().unwrap().parse().unwrap()).collect();
        assert!(numbers.is_sorted_by(|a, b| a >= b), "{counts}");
        assert!(counts.lines().all(|line| line.split('\t').count() == 3), "{counts}");
        let total = if mode == "findings" { findings.len() } else { alerts.len() };
        assert_eq!(numbers.iter().sum::<u64>(), total as u64);
    }
}

#[test]
fn it_can_be_asked_why_a_rule_is_slow() {
    let folder = Folder::new();
    let rule = |title: &str, n: u8, condition: &str| {
        format!(
            "title: {title}\nid: 6f4f1d1e-64f5-4a0e-9f0b-1d5f0f8c2a{n:02}\nlogsource: {{category: app}}\nlevel: low\n\
             detection:\n  s:\n    user.name: ['root', 'svc*']\n    path|contains: '/etc/'\n  condition: {condition}\n"
        )
    };
    folder.write("quick.yml", &rule("Quick", 1, "s"));
    folder.write("slow.yml", &rule("Slow", 2, "not s"));
    folder.write("events", "{\"user\": {\"name\": \"root\"}, \"path\": \"/etc/passwd\"}\n");
    let scan = ["scan", "--rules", "quick.yml", "--rules", "slow.yml", "--source", "json"];
    let told = folder.run(&[&scan[..], &["--log", "vedette_detect=trace", "events"]].concat());
    assert_eq!(told.code, 0, "{}", told.err);
    let of = |rule: &str| {
        told.err.lines().find(|line| line.contains(&format!("rule={rule} "))).unwrap_or_default()
    };
    assert!(
        of("Quick").contains("where one of these may hold") && of("Quick").contains("path contains"),
        "{}",
        told.err
    );
    let slow = told.err.lines().find(|line| line.contains("rule=Slow")).unwrap_or_default();
    assert!(slow.contains("looked at for every event"), "{}", told.err);
    let silent = folder.run(&[&scan[..], &["events"]].concat());
    assert!(!silent.err.contains("looked at"), "{}", silent.err);
    let wrong = folder.run(&[&scan[..], &["--log", "loud", "events"]].concat());
    assert!(wrong.code == 2 && wrong.err.contains("`loud` is no level"), "{}", wrong.err);
}

#[test]
fn standard_input_is_a_file_like_any_other() {
    let (folder, rules) = day();
    let args = ["scan", "--rules", &rules, "--source", "exchange_api", "--format", "ndjson"];
    let from_file = folder.run(&[&args[..], &["api"]].concat());
    for dash in [&["-"][..], &[]] {
        let mut command = folder.command(&[&args[..], dash].concat());
        let piped = ended(command.stdin(File::open(folder.path("api")).unwrap()));
        assert_eq!((piped.code, piped.out), (0, from_file.out.clone()), "{}", piped.err);
    }
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let (folder, rules) = day();
    let scan = ["scan", "--rules", &rules, "--mode", "findings", "--format", "ndjson"];
    let all = ["api", "api", "api", "firewall", "firewall"];
    let commands = [
        [&scan[..], &["--threads", "1"], &all].concat(),
        [&scan[..], &["--threads", "3"], &all].concat(),
        [&["decode", "--source", "exchange_api"][..], &all[..3]].concat(),
    ];
    for args in commands {
        let mut command = folder.command(&args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{args:?}: {err}");
        assert!(!err.contains("vedette:") && !err.contains("panicked"), "{args:?}: {err}");
    }
}
