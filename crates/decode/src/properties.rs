//! Properties of the decoders on random, mutated and hostile records.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use serde_json::{Map, Value};
use vedette_event::{Kind, Projection, SourceDef};

use crate::{
    Decoder, Inspector,
    json::{
        scan::{Captures, Refusal, scan},
        select::Selection,
    },
    tests::{aws_waf, batch, exchange_api, fields, json, paloalto, projection},
};

fn sources() -> &'static [SourceDef; 4] {
    static SOURCES: LazyLock<[SourceDef; 4]> =
        LazyLock::new(|| [json(), exchange_api(), aws_waf(), paloalto()]);
    &SOURCES
}

/// Names and texts that decoders treat specially.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c]{1,2}",
        "[a-c]\\.[a-c]",
        Just("@timestamp".to_owned()),
        Just("httpRequest".to_owned()),
        Just("headers".to_owned()),
        Just("client_ip".to_owned()),
        Just("token=x&a".to_owned()),
        Just("2026-01-02T03:04:05Z".to_owned()),
        "\\PC{0,20}",
        any::<String>(),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i16>().prop_map(|n| Value::from(f64::from(n) / 8.0)),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            object(inner).prop_map(Value::from),
        ]
    })
}

fn object(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    proptest::collection::vec((word(), inner), 0..5).prop_map(|members| members.into_iter().collect())
}

/// JSON objects as text, sometimes with a few bytes changed.
fn record() -> impl Strategy<Value = Vec<u8>> {
    let edit = (
        any::<prop::sample::Index>(),
        prop_oneof![any::<u8>(), prop::sample::select(&b"{}[]\",:\\0-+.eEu \n"[..])],
    );
    (object(value()), proptest::collection::vec(edit, 0..3)).prop_map(|(object, edits)| {
        let mut text = serde_json::to_vec(&object).unwrap();
        for (at, byte) in edits {
            let at = at.index(text.len());
            text[at] = byte;
        }
        text
    })
}

/// PAN-OS lines with cells of all sorts, sometimes cut short.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let cell = prop_oneof![
        Just(String::new()),
        Just("-".to_owned()),
        "[0-9]{1,6}",
        "\"[a-z,\"]{0,8}\"",
        Just("192.0.2.1".to_owned()),
        Just("2026/01/02 03:04:05".to_owned()),
        word(),
    ];
    let kind = prop_oneof![Just("TRAFFIC"), Just("THREAT"), Just("SYSTEM")];
    (word(), kind, proptest::collection::vec(cell, 0..120), any::<prop::sample::Index>()).prop_map(
        |(header, kind, cells, cut)| {
            let line = format!("{header} 1,2026/01/02 03:04:05,7,{kind},{}", cells.join(","));
            let at = if cut.index(3) == 0 { cut.index(line.len()) } else { line.len() };
            line.into_bytes()[..at].to_vec()
        },
    )
}

fn any_record() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![record(), line(), proptest::collection::vec(any::<u8>(), 0..60)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_record_ends_as_one_event_or_one_dead_letter(
        records in proptest::collection::vec(any_record(), 1..8),
    ) {
        let projection = projection(&["@timestamp", "a", "a.b", "client.ip", "url.query_decoded", "http.request.headers.a", "waf.rule.ids", "panw.repeat_count"]);
        for def in sources() {
            let mut decoder = Decoder::new(def, &fields(), &projection, [7; 32]).unwrap();
            let (mut out, mut dead) = (Vec::new(), Vec::new());
            decoder.decode(&batch(records.iter().map(Vec::as_slice)), &mut out, &mut dead);
            let mut offsets: Vec<i64> = out.iter().flat_map(|b| b.offsets().iter().copied()).collect();
            prop_assert!(out.iter().all(|b| b.arrow().num_rows() == b.rows()));
            offsets.extend(dead.iter().map(|letter| letter.offset));
            offsets.sort_unstable();
            prop_assert_eq!(offsets, (0..records.len() as i64).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_scanner_accepts_what_serde_json_accepts(record in record()) {
        let Ok(text) = std::str::from_utf8(&record) else { return Ok(()) };
        let selection = Selection::new([["a"], ["a.b"]]);
        let ours = scan(text, &selection, &mut Captures::new(&selection, 7), &mut String::new());
        let theirs = serde_json::from_str::<Value>(text);
        let accepted = matches!(&theirs, Ok(Value::Object(_)));
        prop_assert_eq!(ours.is_ok(), accepted, "{:?} {:?}", ours, theirs);
    }

    #[test]
    fn the_scanner_accepts_strings_and_numbers_as_serde_json_does(
        text in prop_oneof!["\"[a\\\\u0-9dDcCef\"nx]{0,14}\"", "-?[0-9]{0,25}[.]?[0-9]{0,3}[eE]?[+-]?[0-9]{0,4}"],
    ) {
        let record = format!("{{\"a\":{text}}}");
        let selection = Selection::new([["a"]]);
        let ours = scan(&record, &selection, &mut Captures::new(&selection, 7), &mut String::new());
        let theirs = serde_json::from_str::<Value>(&record);
        prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?} {:?}", ours, theirs);
        if let Err(Refusal::NumberRange(_)) = ours {
            prop_assert!(theirs.unwrap_err().to_string().contains("out of range"));
        }
    }

    #[test]
    fn members_are_what_serde_json_says(members in object(value())) {
        let text = serde_json::to_string(&members).unwrap();
        let projection = Projection::new(members.keys().map(|name| Arc::from(&**name)));
        let mut decoder = Decoder::new(&json(), &fields(), &projection, [7; 32]).unwrap();
        let (mut out, mut dead) = (Vec::new(), Vec::new());
        decoder.decode(&batch([text.as_bytes()]), &mut out, &mut dead);
        prop_assert!(dead.is_empty());
        for (column, value) in out[0].columns().iter().zip(members.values()) {
            let cell = column.cell(0);
            match value {
                Value::Null => prop_assert_eq!(cell.kind, Kind::Null),
                Value::Bool(b) => prop_assert_eq!(cell.text, b.to_string()),
                Value::Number(n) => {
                    let read: serde_json::Number = serde_json::from_str(cell.text).unwrap();
                    prop_assert_eq!(read.as_f64(), n.as_f64());
                }
                Value::String(s) => prop_assert_eq!(cell.text, s),
                Value::Array(_) | Value::Object(_) => {
                    prop_assert_eq!(&serde_json::from_str::<Value>(cell.text).unwrap(), value);
                }
            }
        }
    }

    #[test]
    fn decoder_and_inspector_agree(record in any_record()) {
        for def in sources() {
            let mut inspector = Inspector::new(def, &fields(), [7; 32]).unwrap();
            let shown = inspector.inspect(0, Some(&record));
            let _ = std::str::from_utf8(&record).map(|text| inspector.mask(text));
            let Ok(events) = shown else { continue };
            let own = |name: &&String| !name.starts_with("vedette.");
            let names = events[0].keys().filter(own).map(|name| Arc::from(&**name));
            let projection = Projection::new(names);
            let mut decoder = Decoder::new(def, &fields(), &projection, [7; 32]).unwrap();
            let (mut out, mut dead) = (Vec::new(), Vec::new());
            decoder.decode(&batch([record.as_slice()]), &mut out, &mut dead);
            prop_assert!(dead.is_empty());
            for (name, column) in projection.fields().iter().zip(out[0].columns()) {
                let cell = column.cell(0);
                match &events[0][&**name] {
                    Value::Null => prop_assert_eq!(cell.kind, Kind::Null),
                    Value::String(text) => prop_assert_eq!(cell.text, text, "{}", name),
                    other => prop_assert_eq!(&serde_json::from_str::<Value>(cell.text).unwrap(), other),
                }
            }
        }
    }
}

#[test]
fn an_object_deeper_than_the_bound_is_refused_without_a_crash() {
    let selection = Selection::new([["a"]]);
    for (depth, fits) in [(126, true), (127, false), (300_000, false)] {
        let record = format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        let result = scan(&record, &selection, &mut Captures::new(&selection, 7), &mut String::new());
        assert_eq!(result, if fits { Ok(()) } else { Err(Refusal::TooDeep) }, "{depth}");
    }
}
