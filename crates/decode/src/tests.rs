//! The decoder from outside: what becomes of records.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use vedette_event::{
    DeadLetter, EventBatch, Fields, Flags, Kind, Partition, RawBatch, RawBatchBuilder, SourceDef, SourceIx,
    TopicIx,
};

use crate::Decoder;

pub fn fields() -> Fields {
    serde_saphyr::from_str(include_str!("../../../schemas/fields.yml")).unwrap()
}

pub fn source(yaml: &str) -> SourceDef {
    serde_saphyr::from_str(yaml).unwrap()
}

pub fn json() -> SourceDef {
    source(include_str!("../../../schemas/sources/json.yml"))
}

pub fn batch<'a>(records: impl IntoIterator<Item = &'a [u8]>) -> RawBatch {
    let mut builder = RawBatchBuilder::new(SourceIx(0), Partition { topic: TopicIx(0), number: 0 });
    for (offset, record) in records.into_iter().enumerate() {
        builder.push(offset as i64, None, Flags::NONE, Some(record));
    }
    builder.take()
}

pub fn names(projection: &[&str]) -> Vec<Arc<str>> {
    projection.iter().map(|&name| name.into()).collect()
}

pub fn run(def: &SourceDef, projection: &[&str], records: &[&str]) -> (Vec<EventBatch>, Vec<DeadLetter>) {
    let mut decoder = Decoder::new(def, &fields(), &names(projection), [7; 32]).unwrap();
    let (mut out, mut dead) = (Vec::new(), Vec::new());
    decoder.decode(&batch(records.iter().map(|r| r.as_bytes())), &mut out, &mut dead);
    (out, dead)
}

/// The cells of one record's event, as `kind text`.
pub fn cells(def: &SourceDef, projection: &[&str], record: &str) -> Vec<String> {
    let (out, dead) = run(def, projection, &[record]);
    assert_eq!(dead, [], "{record}");
    let cell = |column: &vedette_event::Column| match column.cell(0) {
        cell if cell.kind == Kind::Missing => "-".to_owned(),
        cell => format!("{:?} {}", cell.kind, cell.text).trim_end().to_owned(),
    };
    out[0].columns.iter().map(cell).collect()
}

#[test]
fn json_fields_are_as_they_are() {
    let record = r#"{"a.b":1,"a":{"b":2,"c":{"d":"x\ny"}},"e":"","f":"-","g":null,"h":[1,"2"],"i":1.50,"j":-0,"k":true}"#;
    let projection = ["a.b", "a.c.d", "a.c", "e", "f", "g", "h", "i", "j", "k", "l"];
    let expected = [
        "Int 1",
        "Text x\ny",
        r#"Object {"d":"x\ny"}"#,
        "Text",
        "Text -",
        "Null",
        r#"List [1,"2"]"#,
        "Float 1.5",
        "Int 0",
        "Bool true",
        "-",
    ];
    assert_eq!(cells(&json(), &projection, record), expected);
}

#[test]
fn of_duplicate_keys_the_last_wins_and_objects_are_joined() {
    let record = r#"{"a":{"b":1},"x":1,"a":{"c":2},"x":"2","\u0061":{"b":3}}"#;
    assert_eq!(cells(&json(), &["x", "a.b", "a.c"], record), ["Text 2", "Int 3", "Int 2"]);
}

#[test]
fn the_first_time_that_is_present_and_not_null_decides() {
    let claimed = |record| run(&json(), &[], &[record]).0[0].claimed(0).map(|t| t.to_string());
    let t = || Some("2026-01-01T00:00:00.000000Z".to_owned());
    assert_eq!(claimed(r#"{"time":5,"@timestamp":"2026-01-01T00:00:00Z"}"#), t());
    assert_eq!(claimed(r#"{"@timestamp":null,"timestamp":1767225600000,"time":5}"#), t());
    assert_eq!(claimed(r#"{"@timestamp":"1767225600","time":1767225600}"#), None);
    assert_eq!(claimed(r#"{"time":1767225600.0}"#), t());
    assert_eq!(claimed(r#"{"time":"2026-01-01 00:00:00"}"#), None);
    assert_eq!(claimed(r"{}"), None);
}

#[test]
fn what_is_no_json_object_is_a_dead_letter() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
    let records = ["[1]", "", "  ", "{\"a\":1}x", "{\"a\":1e999}", &deep, "{\"a\":\"\\ud800\"}", "{\"a\":1}"];
    let (out, dead) = run(&json(), &["a"], &records);
    assert_eq!(out[0].rows(), 1);
    assert_eq!(out[0].offsets.as_ref(), [7]);
    let reasons: Vec<String> =
        dead.iter().map(|d| format!("{} {}: {}", d.offset, d.reason.name(), d.detail)).collect();
    insta::assert_snapshot!(reasons.join("\n"));
}

#[test]
fn bytes_that_are_text_only_across_records_are_not_utf8() {
    let records: [&[u8]; 3] = [b"{\"a\":1}\xC3", b"\xA9{}", b"{\"a\":2}"];
    let mut decoder = Decoder::new(&json(), &fields(), &[], [0; 32]).unwrap();
    let (mut out, mut dead) = (Vec::new(), Vec::new());
    decoder.decode(&batch(records), &mut out, &mut dead);
    assert_eq!(dead.iter().map(|d| d.reason.name()).collect::<Vec<_>>(), ["invalid_utf8", "invalid_utf8"]);
    assert_eq!(out[0].rows(), 1);
}
