//! Events with known outcomes: evaluation cases of another engine, and SigmaHQ's own regression events.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use serde::Deserialize;
use serde_json::{Map, Value};
use vedette_decode::Decoder;
use vedette_detect::{Evaluator, Program, needed_fields, reference};
use vedette_event::{
    Cell, Fields, Flags, Hit, Partition, Projection, RawBatchBuilder, SourceIx, Sources, TopicIx,
};
use vedette_sigma::{Lists, RuleFile, RuleSet, load};

const SOURCE: SourceIx = SourceIx(0);

fn json() -> Sources {
    let json = serde_json::json!({
        "name": "json", "description": "", "form": "json", "disorder": "0s", "future": "0s", "entity": [],
    });
    Sources::new(Fields::default(), vec![serde_json::from_value(json).expect("the definition is sound")])
}

/// Reads the lines of a file of the corpus; `None` if there is no corpus.
fn lines<T: for<'de> Deserialize<'de>>(file: &str) -> Option<Vec<T>> {
    let text = std::fs::read_to_string(super::corpus()?.join(file)).expect("the file is there");
    Some(text.lines().map(|line| serde_json::from_str(line).expect("the line is of this form")).collect())
}

/// Which rules match each event, by the program; the reference evaluator must say the same.
fn matches(rules: &RuleSet, events: &[Map<String, Value>]) -> Vec<Vec<Arc<str>>> {
    let sources = json();
    let def = sources.get(SOURCE);
    let projection = Projection::new(needed_fields(rules, def));
    let fields = projection.fields();
    let mut raw = RawBatchBuilder::new(SOURCE, Partition { topic: TopicIx(0), number: 0 });
    for (offset, event) in (0..).zip(events) {
        let text = Value::from(event.clone()).to_string();
        raw.push(offset, None, Flags::default(), Some(text.as_bytes()));
    }
    let (mut batches, mut dead) = (Vec::new(), Vec::new());
    let decoder = Decoder::new(def, &sources.fields, &projection, [0; 32]).expect("the source is sound");
    let mut decoder = decoder.searched(def, [0; 32]);
    decoder.decode(&raw.take(), &mut batches, &mut dead);
    assert!(dead.is_empty(), "{dead:?}");
    let mut evaluator = Evaluator::new(Arc::new(Program::compile(rules, SOURCE, &sources, fields)));
    let (mut hits, mut matched) = (Vec::new(), Vec::new());
    for batch in &batches {
        evaluator.evaluate(batch, &mut hits);
        for row in 0..batch.rows() {
            let cell = |name: &str| {
                let column = fields.iter().position(|field| &**field == name);
                column.map_or(Cell::MISSING, |column| batch.columns()[column].cell(row))
            };
            let original = batch.original().cell(row).text;
            let expected: Vec<Hit> = rules
                .iter()
                .filter(|(rule, _)| reference::matches(rules, *rule, def, &cell, original))
                .map(|(rule, _)| Hit { row: row as u32, rule })
                .collect();
            let found: Vec<Hit> = hits.iter().filter(|hit| hit.row == row as u32).copied().collect();
            assert_eq!(found, expected, "program and reference differ on {original}");
            matched.push(found.iter().map(|hit| rules.get(hit.rule).id.clone()).collect());
        }
    }
    matched
}

#[derive(Deserialize)]
struct Case {
    id: String,
    rule_yaml: String,
    event: Map<String, Value>,
    expected_matches: usize,
}

/// The same rules and event as the case after it, with the routing by logsource switched off; here it never is.
const UNROUTED: &str = "rsigma/test_logsource_pruning_skips_conflicting_product/1";

/// Why a case cannot hold here: what it needs is not supported.
fn unsupported(id: &str, yaml: &str) -> Option<&'static str> {
    if id == UNROUTED {
        return Some("no routing by logsource");
    }
    let needs = [
        ("\nfilter:", "a filter rule"),
        ("action:", "`action:` documents"),
        ("|neq", "neq"),
        ("utf16be", "utf16be"),
        ("|expand", "a placeholder from the event"),
        ("|hour", "a part of a date"),
        ("|day", "a part of a date"),
        ("|year", "a part of a date"),
    ];
    needs.iter().find(|(sign, _)| yaml.contains(sign)).map(|(_, need)| *need)
}

#[test]
fn evaluation_cases_match_as_often_as_expected() {
    let Some(cases) = lines::<Case>("sigma/eval_cases.ndjson") else { return };
    let (mut wrong, mut run) = (Vec::new(), 0);
    for case in &cases {
        if let Some(need) = unsupported(&case.id, &case.rule_yaml) {
            println!("skipped, needs {need}: {}", case.id);
            continue;
        }
        run += 1;
        let file = RuleFile { path: "case.yml".into(), text: case.rule_yaml.clone() };
        let rules = load(&[file], &Lists::new(), &json());
        assert!(rules.rejected.is_empty(), "{}: {:?}", case.id, rules.rejected);
        let found = matches(&rules, std::slice::from_ref(&case.event))[0].len();
        if found != case.expected_matches {
            wrong.push(format!("{}: {found} instead of {}", case.id, case.expected_matches));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    println!("{run} of {} cases run", cases.len());
}

#[derive(Deserialize)]
struct Regression {
    rule_id: Arc<str>,
    rule_path: String,
    match_count: Option<usize>,
    logsource: Map<String, Value>,
    events_flat: Vec<Map<String, Value>>,
}

fn rules_of(root: &Path, regressions: &[Regression]) -> RuleSet {
    let paths: BTreeSet<&str> = regressions.iter().map(|regression| &*regression.rule_path).collect();
    let read = |path: &str| {
        let text = std::fs::read_to_string(root.join("sigmahq").join(path)).expect("the rule is there");
        RuleFile { path: path.into(), text }
    };
    let files: Vec<_> = paths.into_iter().map(read).collect();
    let rules = load(&files, &Lists::new(), &json());
    assert_eq!((rules.rules.len(), rules.rejected.len()), (40, 0), "{:?}", rules.rejected);
    rules
}

#[test]
fn regression_events_match_the_rules_they_were_recorded_for() {
    let Some(regressions) = lines::<Regression>("sigma/regression.ndjson") else { return };
    let rules = rules_of(&super::corpus().expect("it was there"), &regressions);
    for regression in &regressions {
        let events: Vec<_> = regression
            .events_flat
            .iter()
            .map(|event| {
                let mut event = event.clone();
                event.extend(regression.logsource.clone().into_iter().filter(|(key, _)| key != "definition"));
                event
            })
            .collect();
        let matched = matches(&rules, &events);
        let count = matched.iter().filter(|ids| ids.contains(&regression.rule_id)).count();
        assert!(count >= regression.match_count.unwrap_or(1), "{}: {count}", regression.rule_path);
    }
}

#[derive(Deserialize)]
struct Row {
    event: Map<String, Value>,
    rules_match: BTreeSet<Arc<str>>,
}

#[test]
fn regression_events_match_those_rules_and_no_others() {
    let Some(regressions) = lines::<Regression>("sigma/regression.ndjson") else { return };
    let Some(rows) = lines::<Row>("sigma/regression_matrix.ndjson") else { return };
    let rules = rules_of(&super::corpus().expect("it was there"), &regressions);
    let events: Vec<_> = rows.iter().map(|row| row.event.clone()).collect();
    for (row, matched) in rows.iter().zip(matches(&rules, &events)) {
        let matched: BTreeSet<_> = matched.into_iter().collect();
        assert_eq!(matched, row.rules_match, "{}", Value::from(row.event.clone()));
    }
}

#[test]
fn program_and_reference_agree_on_every_rule_of_the_corpus() {
    let Some(rows) = lines::<Row>("sigma/regression_matrix.ndjson") else { return };
    let files = super::sigma::rule_files("sigmahq").expect("it was there");
    let rules = load(&files, &Lists::new(), &json());
    let events: Vec<_> = rows.into_iter().step_by(25).map(|row| row.event).collect();
    let matched = matches(&rules, &events);
    assert!(matched.iter().all(|ids| !ids.is_empty()), "each event was recorded for a rule");
}
