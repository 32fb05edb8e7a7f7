//! `vedette hunt`: SQL over log files says what `decode` and `scan` say of the same records.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Map, Value, json};

use super::program::{Ended, Folder, ended};
use crate::{binary::root, conformance};

fn lines(text: &str) -> Vec<Map<String, Value>> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The rows of an answer.
fn ask(folder: &Folder, args: &[&str]) -> Vec<Map<String, Value>> {
    lines(&done(folder, args).out)
}

fn done(folder: &Folder, args: &[&str]) -> Ended {
    let done = folder.run(&[&["hunt"], args].concat());
    assert_eq!(done.code, 0, "{args:?}: {}", done.err);
    done
}

/// What a hunt says of each event is what `decode` says of its record, field by field.
fn agree(folder: &Folder, source: &str, file: &str) -> usize {
    let decoded = folder.run(&["decode", "--source", source, file]);
    assert_eq!(decoded.code, 0, "{}", decoded.err);
    let decoded = lines(&decoded.out);
    let asked = done(folder, &["--source", source, "select * from events", file]);
    let rows = lines(&asked.out);
    assert_eq!(rows.len(), decoded.len(), "{file}: {}", asked.err);
    let columns: BTreeSet<String> = {
        let shown = ask(folder, &["--source", source, "--format", "ndjson", file]);
        shown.iter().map(|row| row["column"].as_str().unwrap().to_owned()).collect()
    };
    for (mut row, event) in rows.into_iter().zip(decoded) {
        for own in ["vedette.topic", "vedette.partition", "vedette.index"] {
            assert!(row.remove(own).is_some(), "{own}");
        }
        // `decode` shows by its paths what no field took.
        row.remove("event.unmapped");
        let expected = event.into_iter().filter(|(name, value)| columns.contains(name) && !value.is_null());
        let expected: Map<String, Value> = expected.map(|(name, value)| (name, said(value))).collect();
        row.values_mut().for_each(|value| *value = said(value.take()));
        assert_eq!(row, expected, "{file}");
    }
    columns.len()
}

/// Exact decimals are texts in a hunt, and so are the elements of lists.
fn said(value: Value) -> Value {
    match value {
        Value::Number(number) => number.to_string().trim_end_matches(".0").into(),
        Value::Array(elements) => elements.into_iter().map(said).collect(),
        Value::Bool(truth) => truth.to_string().into(),
        other => other,
    }
}

#[test]
fn every_field_is_what_decode_says() {
    let folder = Folder::new();
    folder.write_day(60);
    assert!(agree(&folder, "paloalto", "firewall") > 60);
    assert!(agree(&folder, "aws_waf", "waf") > 40);
    assert!(agree(&folder, "exchange_api", "api") > 40);
    let Some(corpus) = conformance::corpus() else { return };
    let raw = |path: &str| {
        let text = fs::read_to_string(corpus.join(path)).unwrap();
        let raw = lines(&text).into_iter().map(|case| case["raw"].as_str().unwrap().replace('\n', " "));
        raw.map(|line| line + "\n").collect::<String>()
    };
    folder.write("panos.log", &raw("panos/panos.ndjson"));
    folder.write("aws_waf.ndjson", &raw("waf/aws_waf.ndjson"));
    folder.write("access.ndjson", &fs::read_to_string(corpus.join("access/envoy_kong.ndjson")).unwrap());
    agree(&folder, "paloalto", "panos.log");
    agree(&folder, "aws_waf", "aws_waf.ndjson");
    agree(&folder, "json", "access.ndjson");
}

#[test]
fn groups_count_what_decode_shows() {
    let folder = Folder::new();
    folder.write_day(60);
    for (source, file, field) in [
        ("paloalto", "firewall", "event.action"),
        ("paloalto", "firewall", "destination.port"),
        ("aws_waf", "waf", "waf.action"),
        ("exchange_api", "api", "event.action"),
    ] {
        let mut expected = BTreeMap::<String, u64>::new();
        for event in lines(&folder.run(&["decode", "--source", source, file]).out) {
            let value = event.get(field).cloned().unwrap_or_default();
            *expected.entry(said(value).as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
        let sql = format!("select {field} as value, count(*) as n from events group by {field}");
        let rows = ask(&folder, &["--source", source, &sql, file]);
        let got: BTreeMap<String, u64> = rows
            .into_iter()
            .map(|row| {
                let value = said(row.get("value").cloned().unwrap_or_default());
                (value.as_str().unwrap_or_default().to_owned(), row["n"].as_u64().unwrap())
            })
            .collect();
        assert!(got.len() > 1, "{got:?}");
        assert_eq!(got, expected, "{field} of {file}");
    }
}

#[test]
fn rules_match_what_scan_finds() {
    let folder = Folder::new();
    folder.write_day(90);
    let rules = root().join("detections").display().to_string();
    let mut asked = 0;
    for (source, file) in [("paloalto", "firewall"), ("aws_waf", "waf"), ("exchange_api", "api")] {
        let args =
            ["scan", "--rules", &rules, "--mode", "findings", "--format", "count", "--source", source, file];
        let found = folder.run(&args);
        let counts: Vec<(u64, &str)> = found
            .out
            .lines()
            .map(|line| {
                let mut parts = line.split('\t');
                (parts.next().unwrap().parse().unwrap(), parts.next().unwrap())
            })
            .collect();
        assert!(!counts.is_empty(), "{file}: {}", found.err);
        let sums: Vec<String> =
            counts.iter().map(|(_, id)| format!("sum(case when sigma('{id}') then 1 else 0 end)")).collect();
        let named: Vec<String> = sums.iter().enumerate().map(|(at, sum)| format!("{sum} as n{at}")).collect();
        let sql = format!("select {} from events", named.join(", "));
        let row = ask(&folder, &["--rules", &rules, "--source", source, &sql, file]).remove(0);
        for (at, (count, id)) in counts.iter().enumerate() {
            assert_eq!(row[&format!("n{at}")], json!(count), "{id} in {file}");
            asked += 1;
        }
        let (count, id) = counts[0];
        let sql = format!("select vedette.offset from events where sigma('{id}')");
        let offsets = ask(&folder, &["--rules", &rules, "--source", source, &sql, file]);
        let args =
            ["scan", "--rules", &rules, "--mode", "findings", "--format", "ndjson", "--source", source, file];
        let expected: Vec<Value> = lines(&folder.run(&args).out)
            .into_iter()
            .filter(|finding| finding["rule_id"] == *id)
            .map(|finding| finding["record"].clone())
            .collect();
        assert_eq!(expected.len() as u64, count);
        let offsets: Vec<Value> = offsets.into_iter().map(|row| row["vedette.offset"].clone()).collect();
        assert_eq!(offsets, expected, "{id} in {file}");
    }
    assert!(asked >= 8, "{asked} rules found anything");
}

#[test]
fn rules_of_others_match_what_scan_finds_in_logs_of_others() {
    let Some(corpus) = conformance::corpus() else { return };
    let folder = Folder::new();
    let log = corpus.join("perf/win_slim.ndjson.zst").display().to_string();
    let rules = corpus.join("sigmahq").display().to_string();
    // In the profile of tests a few thousand events of 60,000 are enough.
    let part = folder.path("part.ndjson");
    let unpacked = BufReader::new(zstd::Decoder::new(File::open(&log).unwrap()).unwrap());
    let text: String = unpacked.lines().take(4_000).map(|line| line.unwrap() + "\n").collect();
    fs::write(&part, text).unwrap();
    let part = part.display().to_string();
    let found = folder.run(&[
        "scan", "--rules", &rules, "--mode", "findings", "--format", "count", "--source", "json", &part,
    ]);
    let counts: Vec<(u64, &str)> = found
        .out
        .lines()
        .take(12)
        .map(|line| (line.split('\t').next().unwrap().parse().unwrap(), line.split('\t').nth(1).unwrap()))
        .collect();
    assert!(counts.len() >= 5, "{}", found.err);
    let named: Vec<String> = counts
        .iter()
        .enumerate()
        .map(|(at, (_, id))| format!("count(*) filter (where sigma('{id}')) as n{at}"))
        .collect();
    let sql = format!("select {} from events", named.join(", "));
    let row = ask(&folder, &["--rules", &rules, "--source", "json", &sql, &part]).remove(0);
    for (at, (count, id)) in counts.iter().enumerate() {
        assert_eq!(row[&format!("n{at}")], json!(count), "{id}");
    }
}

#[test]
fn files_folders_and_pipes_are_read() {
    let folder = Folder::new();
    let line = |n: usize| format!("{{\"n\": {n}, \"a\": {{\"b\": \"x{n}\"}}}}\n");
    let text = |from: usize, to: usize| (from..to).map(line).collect::<String>();
    folder.write("logs/a.ndjson", &text(0, 700));
    folder.write("logs/deep/b.ndjson", &text(700, 900));
    folder.write("logs/.hidden", "no JSON");
    let sql = "select count(*) as n, count(distinct vedette.topic) as files, min(a.b) as least from events";
    let expected = json!({"n": 900, "files": 2, "least": "x0"});
    for files in [&["logs"][..], &["logs/a.ndjson", "logs/deep/b.ndjson"], &["logs/deep", "logs/a.ndjson"]] {
        let rows = ask(&folder, &[&["--source", "json", sql], files].concat());
        assert_eq!(Value::from(rows[0].clone()), expected, "{files:?}");
    }
    let packed = File::create(folder.path("logs/a.ndjson.gz")).unwrap();
    let mut gzip = GzEncoder::new(packed, Compression::fast());
    gzip.write_all(text(0, 700).as_bytes()).unwrap();
    gzip.finish().unwrap();
    let rows = ask(&folder, &[sql, "logs/a.ndjson.gz"]);
    assert_eq!(rows[0]["n"], 700);
    let piped = |sql: &str| {
        let input = File::open(folder.path("logs/a.ndjson")).unwrap();
        ended(folder.command(&["hunt", "--source", "json", sql, "-"]).stdin(input))
    };
    assert_eq!(lines(&piped(sql).out)[0]["n"], 700);
    let twice = piped("select count(*) from events a join events b on a.n = b.n");
    assert_eq!(twice.code, 3);
    assert!(
        twice.err.contains("- can be read once only, and the query reads `events` more than once"),
        "{}",
        twice.err
    );
}

#[test]
fn what_was_read_and_what_was_not_is_said() {
    let folder = Folder::new();
    let good = "{\"n\": 1}\n".repeat(2_000);
    folder.write("log", &format!("{{\"n\": 0}}\nbroken\n\n{good}also broken\n"));
    let done = done(&folder, &["--source", "json", "select count(*) as n from events", "log"]);
    assert_eq!(lines(&done.out)[0]["n"], 2_001);
    assert!(done.err.contains("1 rows; read 2001 events of 2003 records, 2 dead letters, "), "{}", done.err);
    assert!(done.err.contains("the first dead letter is record 1 of log: malformed: "), "{}", done.err);
    folder.write("long", &"{\"n\": 1}\n".repeat(200_000));
    let early = folder.run(&["hunt", "--source", "json", "select n from events limit 3", "long"]);
    assert_eq!(early.out.lines().count(), 3);
    assert!(early.err.contains(", not all, since the answer was complete"), "{}", early.err);
    let cut = folder.run(&["hunt", "--source", "json", "--limit", "2", "select n from events", "log"]);
    assert_eq!(cut.out.lines().count(), 2);
    assert!(cut.err.contains("2 rows (there are more: --limit); "), "{}", cut.err);
}

#[test]
fn answers_are_for_people_machines_and_spreadsheets() {
    let folder = Folder::new();
    folder.write("log", "{\"a\": \"=1+1\", \"n\": -5}\n{\"a\": \"x,\\u001b[2Jy\", \"c\": null}\n");
    let with =
        |format: &str, sql: &str| done(&folder, &["--source", "json", "--format", format, sql, "log"]).out;
    let table = with("table", "select a, n from events");
    assert!(table.contains("=1+1") && !table.contains('\u{1b}'), "{table}");
    assert_eq!(table.lines().count(), 4, "{table}");
    let csv = with("csv", "select a, cast(n as int) as n, @timestamp from events");
    assert_eq!(csv, "a,n,\"'@timestamp\"\r\n\"'=1+1\",-5,\r\n\"x,\u{1b}[2Jy\",,\r\n");
    assert_eq!(with("csv", "select a from events where a = 'none'"), "a\r\n");
    let rows = with("ndjson", "select x.a, x.n, x.c, y.n from events x, events y where y.n is not null");
    assert_eq!(rows.lines().next(), Some(r#"{"a":"=1+1","n":"-5","n (2)":"-5"}"#), "{rows}");
    let wide = with(
        "table",
        "select * from events, (values (1, 2, 3, 4, 5, 6, 7, 8)) as t(c1, c2, c3, c4, c5, c6, c7, c8)",
    );
    assert!(wide.starts_with(" row 1 ") && wide.contains("\n row 2 "), "{wide}");
}

#[test]
fn without_a_query_the_columns_are_shown() {
    let folder = Folder::new();
    folder.write("log", "{\"Upper\": 1, \"a\": {\"b\": 2}}\n");
    let shown = |args: &[&str]| {
        let rows = ask(&folder, &[&["--format", "ndjson"], args].concat());
        rows.into_iter().map(|row| row["column"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let firewall = shown(&["--source", "paloalto"]);
    for name in ["@timestamp", "vedette.topic", "source.ip", "panw.session_id", "url.original"] {
        assert!(firewall.iter().any(|shown| shown == name), "{name} in {firewall:?}");
    }
    let json = shown(&["--source", "json", "log"]);
    assert!(json.ends_with(&["Upper", "a.b", "event.unmapped"].map(str::to_owned)), "{json:?}");
    assert_eq!(shown(&["log"]), json);
    let table = done(&folder, &["--format", "table", "--source", "paloalto"]);
    let line = table.out.lines().find(|line| line.trim_start().starts_with("destination.port ")).unwrap();
    assert!(line.contains(" u16 ") && line.contains("Its port"), "{line}");
}

#[test]
fn misuse_has_its_status_and_names_what_is_wrong() {
    let folder = Folder::new();
    folder.write("log", "{\"a\": \"x\"}\n");
    folder.write("empty/.keep", "");
    folder.write("rules/r.yml", "title: A login\nid: 1c1c5dd4-7b3c-4d3f-9a53-0f3e8d7c1a55\nname: login\nlogsource: {category: api}\ndetection:\n  s:\n    a: x\n  condition: s\n");
    let cases: &[(&[&str], i32, &str)] = &[
        (&[], 2, "name a source with --source, or a file: there are aws_waf, "),
        (&["--source", "nope"], 2, "there is no source `nope`; there are: "),
        (&["select 1", "nothing"], 3, "cannot open nothing: No such file or directory"),
        (&["select 1", "empty"], 2, "there is no file in the folder `empty`"),
        (&["select 1", "-", "-"], 2, "`-` is there twice"),
        (&["create table t (a int)", "log"], 2, "`create` is not allowed here (line 1, column 1)"),
        (&["select * from 'log'", "log"], 2, "there is no table `log`"),
        (
            &["select aa.b from events", "log", "--source", "paloalto"],
            2,
            "there is no column `aa.b` (line 1, column 8)",
        ),
        (&["select from where", "log"], 2, "\n  select from where\n"),
        (
            &["select 1 from events where sigma('logn')", "--rules", "rules", "log"],
            2,
            "did you mean `login`?",
        ),
        (&["select 1 from events where sigma('login')", "--rules", "nowhere", "log"], 2, "`nowhere`"),
        (&["select cast(a as int) from events", "log"], 2, "'x'"),
        (&["--limit", "0", "select 1", "log"], 2, "0 is not in 1.."),
        (&["--format", "xml", "select 1", "log"], 2, "[possible values: table, ndjson, csv]"),
        (&["--help"], 0, ""),
    ];
    for (args, code, said) in cases {
        let ended = folder.run(&[&["hunt"], *args].concat());
        assert_eq!(ended.code, *code, "{args:?}: {}", ended.err);
        assert!(ended.err.contains(said), "{args:?}: {}", ended.err);
    }
    let named =
        ask(&folder, &["select count(*) as n from events where sigma('login')", "--rules", "rules", "log"]);
    assert_eq!(named[0]["n"], 1);
    // Nothing is left where queries put what does not fit into memory.
    let spilled = fs::read_dir(folder.path(".")).unwrap().count();
    assert_eq!(spilled, 3);
}
