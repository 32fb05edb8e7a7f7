//! A batch in which one record is bad gives for all others what it gives without it.
#![allow(clippy::unwrap_used)]

use std::{cell::Cell, sync::Arc};

use vedette_event::{
    DeadReason, Fields, Flags, Micros, Partition, RawBatch, RawBatchBuilder, SourceDef, SourceIx, Sources,
    TopicIx, Topics,
};
use vedette_sigma::{Lists, RuleFile};

use super::Detected;
use crate::{Compiled, Detector};

/// What a record must hold to make the attempt panic.
const POISON: &str = "poison";

thread_local! {
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

/// Panics if a record is poisoned.
pub fn panic_at_poison(raw: &RawBatch) {
    let poisoned = |payload: &[u8]| payload.windows(POISON.len()).any(|window| window == POISON.as_bytes());
    if raw.records.iter().filter_map(|record| raw.payload(record)).any(poisoned) {
        PANICS.set(PANICS.get() + 1);
        panic!("poison");
    }
}

/// A rule of which the regular expressions are too dear for 900 kB.
fn rules() -> String {
    let dear: Vec<String> = (0..10).map(|n| format!("'{n}x[a-z]{{1000}}'")).collect();
    format!(
        "title: dear\nid: dear\nlogsource: {{category: x}}\ndetection:\n  s:\n    a|re: [{}]\n  condition: s\n---\n\
         title: cheap\nid: cheap\nlogsource: {{category: x}}\ndetection:\n  s: {{b: 1}}\n  condition: s\n",
        dear.join(", ")
    )
}

fn detector() -> Detector {
    let def: SourceDef = serde_json::from_value(serde_json::json!({
        "name": "json", "description": "", "form": "json", "disorder": "1s", "future": "1s", "entity": ["host"],
    }))
    .unwrap();
    let sources = Arc::new(Sources::new(Fields::default(), vec![def]));
    let file = RuleFile { path: "rules.yml".into(), text: rules() };
    let rules = Arc::new(vedette_sigma::load(&[file], &Lists::new(), &sources));
    assert_eq!(rules.rejected, []);
    Compiled::new(rules, sources, Arc::new(Topics::new(["logs"])), [0; 32]).detector().unwrap()
}

fn raw(records: &[(i64, String)]) -> RawBatch {
    let partition = Partition { topic: TopicIx(0), number: 0 };
    let mut batch = RawBatchBuilder::new(SourceIx(0), partition);
    for (offset, record) in records {
        batch.push(*offset, Some(Micros(*offset)), Flags::NONE, Some(record.as_bytes()));
    }
    batch.take()
}

fn detect(detector: &mut Detector, records: &[(i64, String)]) -> Detected {
    detector.detect(&raw(records))
}

/// Of each event: its offset, that of the record it names, its cells and the rules it matches.
fn events(detected: &Detected) -> Vec<(i64, i64, Vec<String>, Vec<u32>)> {
    let of_batch = |batch: &super::DetectedBatch| {
        let of_row = |row: usize| {
            let record = detected.records[batch.events.records[row] as usize].offset;
            let cells = batch.events.columns().iter().map(|c| c.cell(row).text.chars().take(9).collect());
            let hits = batch.hits.iter().filter(|hit| hit.row as usize == row).map(|hit| hit.rule.0);
            (batch.events.offsets()[row], record, cells.collect(), hits.collect())
        };
        (0..batch.events.rows()).map(of_row).collect::<Vec<_>>()
    };
    detected.batches.iter().flat_map(of_batch).collect()
}

fn bad(kind: &str) -> String {
    match kind {
        "dear" => format!(r#"{{"a":"{}","b":1}}"#, "y".repeat(900_000)),
        kind => format!(r#"{{"a":"{kind}","b":1}}"#),
    }
}

#[test]
fn the_others_come_out_as_if_the_bad_ones_were_not_there() {
    let mut detector = detector();
    let good: Vec<(i64, String)> = (0..20)
        .map(|n| (n * 10, if n % 3 == 0 { r#"{"b":1}"#.to_owned() } else { format!(r#"{{"a":"{n}"}}"#) }))
        .collect();
    let expected = events(&detect(&mut detector, &good));
    assert_eq!(expected.iter().filter(|(.., hits)| hits == &[1]).count(), 7);
    let cases: [&[(i64, &str)]; 5] = [
        &[(55, "dear")],
        &[(55, POISON)],
        &[(55, "dear"), (56, POISON)],
        &[(1, POISON), (199, "dear")],
        &[(-1, "dear"), (0, "{")],
    ];
    for bad_ones in cases {
        let mut records = good.clone();
        for (offset, kind) in bad_ones {
            records.retain(|(known, _)| known != offset);
            records.push((*offset, if *kind == "{" { "{".to_owned() } else { bad(kind) }));
        }
        records.sort();
        let detected = detect(&mut detector, &records);
        let dead: Vec<_> = detected.dead.iter().map(|letter| (letter.offset, letter.reason)).collect();
        let reason = |kind: &str| match kind {
            "dear" => DeadReason::TooDear,
            "{" => DeadReason::Malformed,
            _ => DeadReason::Panic,
        };
        assert_eq!(dead, bad_ones.iter().map(|(at, kind)| (*at, reason(kind))).collect::<Vec<_>>());
        let others: Vec<_> = expected
            .iter()
            .filter(|(offset, ..)| dead.iter().all(|(dead, _)| dead != offset))
            .cloned()
            .collect();
        assert_eq!(events(&detected), others, "{bad_ones:?}");
    }
    assert!(PANICS.get() > 3);
}

#[test]
fn a_batch_of_dear_records_gives_signs_of_life_and_the_same_events() {
    // Two of these are a part.
    let dear = |n: i64| (n, format!(r#"{{"a":"{n}{}","b":{}}}"#, "y".repeat(40_000), n % 3));
    let records: Vec<_> = (0..20).map(dear).collect();
    let mut detector = detector();
    let (mut alone, mut moved) = (Vec::new(), 0);
    for record in &records {
        alone.extend(events(&detect(&mut detector, std::slice::from_ref(record))));
    }
    // Alone, each is the first record of its batch; together, they are one batch.
    let together = detector.detect_in_parts(&raw(&records), &mut || moved += 1);
    assert_eq!((together.dead.len(), together.batches.len()), (0, 1));
    assert_eq!(events(&together), alone);
    assert_eq!(moved, 10, "two records a part");
    let cheap: Vec<_> = (0..20).map(|n| (n, r#"{"a":"y","b":1}"#.to_owned())).collect();
    moved = 0;
    detector.detect_in_parts(&raw(&cheap), &mut || moved += 1);
    assert_eq!(moved, 1);
    // Those that are tried one by one say so, too.
    let poisoned: Vec<_> = records.iter().cloned().chain([(20, bad(POISON))]).collect();
    moved = 0;
    detector.detect_in_parts(&raw(&poisoned), &mut || moved += 1);
    assert_eq!(moved, 20);
}

#[test]
fn a_dead_letter_names_the_rule_that_was_too_dear() {
    let detected = detect(&mut detector(), &[(3, bad("dear"))]);
    let [letter] = &detected.dead[..] else { panic!("{:?}", detected.dead.len()) };
    assert!(letter.detail.contains("the dearest is `dear` with "), "{}", letter.detail);
    assert_eq!((letter.index, letter.ts_log, letter.reason.name()), (None, Some(Micros(3)), "too_dear"));
    assert!(detected.batches.is_empty());
    assert_eq!(detected.records.len(), 1);
}
