//! `sigma('…')` over the lake finds what rules find in the records.
#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use vedette_decode::{Decoder, all_fields};
use vedette_event::{
    Flags, MAX_ROWS, Micros, Partition, Placed, Projection, RawBatch, RuleIx, SourceIx, Span, place,
    raw::RawBatchBuilder,
};
use vedette_hunt::{
    Columns, Limits, Origin, Supply, Tables,
    lake::{Writer, lean, placed},
};
use vedette_simulate::{Feed, Simulator};

use super::*;
use crate::{content, hunt::tables::columns};

const START: Micros = Micros(1_767_268_800_000_000);
const SECRET: [u8; 32] = [7; 32];

/// Records of a source a tenth of a second apart, as the broker took them.
fn raw(source: SourceIx, records: &[String]) -> Vec<RawBatch> {
    let partition = Partition { topic: TopicIx(source.0), number: 3 };
    let mut offsets = 0..;
    let batch = |records: &[String]| {
        let mut builder = RawBatchBuilder::new(source, partition);
        for (record, offset) in records.iter().zip(offsets.by_ref()) {
            let log = START.plus(Span::secs(offset / 10));
            builder.push(offset, Some(log), Flags::NONE, Some(record.as_bytes()));
        }
        builder.take()
    };
    records.chunks(MAX_ROWS.min(500)).map(batch).collect()
}

/// A lake of these records.
fn lake(folder: &Path, sources: &Sources, all: &[(SourceIx, Vec<RawBatch>)]) -> Lake {
    let mut writer = Writer::new(folder);
    for (ix, batches) in all {
        let def = sources.get(*ix);
        let fields = all_fields(def, &sources.fields);
        let projection = Projection::new(fields.iter().cloned());
        let mut decoder = Decoder::new(def, &sources.fields, &projection, SECRET).unwrap();
        let columns =
            Columns::of_lake(fields.iter().map(|name| &**name), &sources.fields, !def.own_logsource());
        let mut converter = columns.converter().unwrap();
        for raw in batches {
            let (mut decoded, mut dead) = (Vec::new(), Vec::new());
            decoder.decode(raw, &mut decoded, &mut dead);
            for events in &decoded {
                let log = |row: usize| raw.records[events.records[row] as usize].ts_log.unwrap();
                let logs: Vec<Micros> = (0..events.rows()).map(log).collect();
                let placed_at: Vec<Placed> = (0..events.rows())
                    .map(|row| place(events.claimed(row), logs[row], def.disorder, def.future))
                    .collect();
                let from = Origin { source: def.name.clone(), topic: def.name.clone(), partition: 3 };
                let made = converter.convert(events, &from, |_| Vec::new()).unwrap();
                let made = lean(&placed(&made, &placed_at, &logs, 0).unwrap()).unwrap();
                writer.push(&def.name, &made, 1).unwrap();
            }
        }
    }
    Lake::new(folder, writer.write(START).unwrap()).unwrap()
}

/// The offsets of the events of a source that a rule matches, asked in SQL.
fn asked(lake: &Lake, name: &str, all: &RuleSet, sources: &Arc<Sources>) -> Result<Vec<(String, i64)>> {
    let sql =
        format!("select vedette.source, vedette.offset from events where sigma('{name}') order by 1, 2");
    let query = Query::new(&sql).unwrap();
    let rules = over_the_lake(&query, (all, "the test has"), sources, (lake, SECRET))?;
    let lake = lake.clone().with_tables(Tables { rules, ..Tables::default() });
    let mut answer = query.ask(columns(sources, None), Supply::Lake(Box::new(lake)), Limits::default())?;
    let mut found = Vec::new();
    while let Some(rows) = answer.next()? {
        let (sources, offsets) = (rows.column(0), rows.column(1));
        found.extend(
            sources
                .zip(offsets)
                .map(|(source, offset)| (source.as_str().unwrap().to_owned(), offset.as_i64().unwrap())),
        );
    }
    Ok(found)
}

/// Asks for each rule, and compares with what it finds in the records; how many rules matched something, and how many could not be asked.
/// Of those that match nothing only each `every`th is asked.
fn compare(
    rules: &Arc<RuleSet>,
    sources: &Arc<Sources>,
    all: &[(SourceIx, Vec<RawBatch>)],
    every: usize,
) -> (usize, usize) {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake(folder.path(), sources, all);
    let version = Version::uncorrelated_showing(rules.clone(), sources.clone(), &[]);
    let topics = Arc::new(Topics::new(sources.defs.iter().map(|def| def.name.clone())));
    let compiled = Arc::new(Compiled::with_versions(vec![Arc::new(version)], topics, SECRET));
    let mut detector = compiled.detector().unwrap();
    let mut expected: BTreeMap<RuleIx, BTreeSet<(String, i64)>> = BTreeMap::new();
    for (ix, raw) in all.iter().flat_map(|(ix, batches)| batches.iter().map(move |raw| (ix, raw))) {
        let name = sources.get(*ix).name.to_string();
        for batch in detector.detect(raw).batches {
            for hit in &batch.hits {
                let offset = batch.events.offsets()[hit.row as usize];
                expected.entry(hit.rule).or_default().insert((name.clone(), offset));
            }
        }
    }
    let (mut matched, mut refused) = (0, 0);
    for (number, rule) in rules.rules.iter().enumerate() {
        if number % every > 0 && !expected.contains_key(&RuleIx(number as u32)) {
            continue;
        }
        match asked(&lake, &rule.id, rules, sources) {
            Ok(found) => {
                let expected = expected.remove(&RuleIx(number as u32)).unwrap_or_default();
                matched += usize::from(!expected.is_empty());
                assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{}: {}", rule.file, rule.title);
            }
            Err(why) => {
                let why = why.to_string();
                assert!(
                    why.contains("correlation") || why.contains("cannot be answered"),
                    "{}: {why}",
                    rule.title
                );
                refused += 1;
            }
        }
    }
    (matched, refused)
}

#[test]
fn rules_find_in_the_lake_what_they_find_in_the_records_of_an_exchange() {
    let sources = Arc::new(content::sources(None).unwrap());
    let detections = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../detections");
    let rules = Arc::new(content::rules(&[detections]).unwrap().load(&sources));
    let mut simulator = Simulator::new(5, START, 200);
    let mut records: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    while records.values().map(Vec::len).sum::<usize>() < 6_000 {
        let record = simulator.next_record();
        records.entry(record.feed.source()).or_default().push(record.line);
    }
    assert_eq!(records.len(), Feed::ALL.len());
    let all: Vec<_> = records
        .iter()
        .map(|(name, records)| {
            let ix = sources.find(name).unwrap();
            (ix, raw(ix, records))
        })
        .collect();
    let (matched, refused) = compare(&rules, &sources, &all, 1);
    assert!(matched >= 10 && refused > 0 && refused < rules.rules.len() / 2, "{matched} {refused}");
}

/// Where material of others is; without it a test says that it was skipped.
fn corpus() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let root = std::env::var_os("VEDETTE_CORPUS").map_or(beside, PathBuf::from);
    if !root.is_dir() {
        // As the other suites say it, so that nobody takes this for passed.
        say!("SKIPPED conformance: no test material at {}", root.display());
        return None;
    }
    Some(root)
}

/// Each so manieth line of a file of JSON.
fn values<T: DeserializeOwned>(file: &Path, every: usize) -> Vec<T> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().step_by(every).map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the corpora have for a source that takes any JSON: requests, payloads and events, hostile ones among them, and rules that belong to them.
fn events_of_others(root: &Path, rules: &Path) -> Vec<String> {
    let web = |members: Value| {
        let mut event = json!({"category": "webserver"});
        event.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        event
    };
    let mut all = Vec::new();
    for of in values::<Value>(&root.join("crs/regression.ndjson"), 1) {
        let uri = of["uri"].as_str().unwrap_or_default();
        let (stem, query) = uri.split_once('?').unwrap_or((uri, ""));
        all.push(web(json!({"cs-method": of["method"], "cs-uri-stem": stem, "cs-uri-query": query,
            "cs-user-agent": of["headers"]["User-Agent"], "headers": of["headers"], "body": of["body"]})));
    }
    for (file, every) in
        [("gotestwaf", 1), ("guardianwaf", 1), ("libinjection", 40), ("httpparams_train", 40)]
    {
        for of in values::<Value>(&root.join(format!("payloads/{file}.ndjson")), every) {
            all.push(web(
                json!({"cs-uri-query": of["payload"], "c-uri": of["payload"], "family": of["family"]}),
            ));
        }
    }
    all.extend(
        values::<Value>(&root.join("panther/rule_tests.ndjson"), 1)
            .into_iter()
            .map(|mut of| of["event"].take()),
    );
    for (number, mut of) in values::<Value>(&root.join("sigma/eval_cases.ndjson"), 1).into_iter().enumerate()
    {
        let text = of["rule_yaml"].as_str().unwrap().to_owned();
        let rule: Value = serde_saphyr::from_str(&text).unwrap_or_default();
        let mut event = of["event"].take();
        if let (Some(event), Some(logsource)) = (event.as_object_mut(), rule["logsource"].as_object()) {
            event.extend(logsource.clone());
        }
        all.push(event);
        let id = if rule["id"].is_null() {
            format!("id: 00000000-0000-4000-8000-{number:012}\n")
        } else {
            String::new()
        };
        std::fs::write(rules.join(format!("{number}.yml")), format!("{id}{text}\n")).unwrap();
    }
    let mut all: Vec<String> =
        all.into_iter().filter(Value::is_object).map(|event| event.to_string()).collect();
    for file in ["win_slim", "win_full"] {
        let file = std::fs::File::open(root.join(format!("perf/{file}.ndjson.zst"))).unwrap();
        let lines = BufReader::new(zstd::Decoder::new(file).unwrap()).lines();
        all.extend(lines.take(1_000).map(Result::unwrap));
    }
    all
}

#[test]
fn rules_find_in_the_lake_what_they_find_in_every_corpus() {
    let Some(root) = corpus() else { return };
    let written = tempfile::tempdir().unwrap();
    let records = events_of_others(&root, written.path());
    let lines = |file: &str| -> Vec<String> {
        let all = values::<Value>(&root.join(file), 1).into_iter();
        all.map(|of| of["raw"].as_str().unwrap().to_owned()).collect()
    };
    let sources = Arc::new(content::sources(None).unwrap());
    let all: Vec<_> = [
        ("json", records),
        ("paloalto", lines("panos/panos.ndjson")),
        ("aws_waf", lines("waf/aws_waf.ndjson")),
        ("exchange_api", lines("access/envoy_kong.ndjson")),
    ]
    .map(|(name, records)| {
        let ix = sources.find(name).unwrap();
        (ix, raw(ix, &records))
    })
    .into();
    let ours = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../detections");
    let paths = [ours, root.join("sigmahq"), written.path().to_owned()];
    let rules = Arc::new(content::rules(&paths).unwrap().load(&sources));
    let (matched, _) = compare(&rules, &sources, &all, 40);
    assert!(matched >= 60, "{matched}");
}

#[derive(Deserialize)]
struct Row {
    event: serde_json::Value,
    rules_match: BTreeSet<Arc<str>>,
}

#[derive(Deserialize)]
struct Regression {
    rule_path: String,
}

#[test]
fn rules_of_others_find_in_the_lake_what_two_evaluators_agree_on() {
    let Some(root) = corpus() else { return };
    let rows: Vec<Row> = values(&root.join("sigma/regression_matrix.ndjson"), 1);
    let paths: BTreeSet<PathBuf> = values::<Regression>(&root.join("sigma/regression.ndjson"), 1)
        .into_iter()
        .map(|of| root.join("sigmahq").join(of.rule_path))
        .collect();
    let sources = Arc::new(content::sources(None).unwrap());
    let rules = Arc::new(content::rules(&paths.into_iter().collect::<Vec<_>>()).unwrap().load(&sources));
    let ix = sources.find("json").unwrap();
    let records: Vec<String> = rows.iter().map(|row| row.event.to_string()).collect();
    let (matched, refused) = compare(&rules, &sources, &[(ix, raw(ix, &records))], 1);
    let matching: BTreeSet<_> = rows.iter().flat_map(|row| &row.rules_match).collect();
    assert_eq!((matched, refused), (matching.len(), 0));
}
