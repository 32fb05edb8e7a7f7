//! Which records are kept as they came: those whose events do not give back each of their values.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use vedette_event::{FieldType, Kind, Micros, Projection, SourceDef};

use crate::{
    Decoder, Inspector, all_fields,
    panos::layout::LogType,
    record::paths,
    tests::{self, aws_waf, batch, exchange_api, fields, paloalto},
    unmapped::UNMAPPED,
    unmapped_tests::{find, get, holds, line, members, value, without_secrets},
};

/// An event: its cells by name, and its record if that is kept.
fn decoded(def: &SourceDef, record: &str, altered: bool) -> (Map<String, Value>, Option<String>) {
    let names = all_fields(def, &fields());
    let decoder = Decoder::new(def, &fields(), &Projection::new(names.clone()), [7; 32]).unwrap();
    let mut decoder =
        if altered { decoder.keeping_altered(def, [7; 32]) } else { decoder.searched(def, [7; 32]) };
    let (mut out, mut dead) = (Vec::new(), Vec::new());
    decoder.decode(&batch([record.as_bytes()]), &mut out, &mut dead);
    assert!(dead.is_empty(), "{dead:?} {record}");
    let cells = names.iter().zip(out[0].columns()).map(|(name, column)| (name, column.cell(0)));
    let cells = cells.filter(|(_, cell)| !matches!(cell.kind, Kind::Missing | Kind::Null));
    let mut held: Map<String, Value> =
        cells.map(|(name, cell)| (name.to_string(), Value::from(cell.text))).collect();
    if out[0].claimed(0).is_none() {
        held.remove("@timestamp");
    }
    let original = out[0].original().cell(0);
    (held, (original.kind == Kind::Text).then(|| original.text.to_owned()))
}

fn kept(def: &SourceDef, record: &str) -> bool {
    decoded(def, record, true).1.is_some()
}

/// A cell as the value that it was made of: as a number where that was one.
fn back(declared: Option<FieldType>, cell: &str, before: &Value) -> Value {
    match (declared, before) {
        (Some(FieldType::List), Value::Array(_)) | (Some(FieldType::Object), _) => {
            serde_json::from_str(cell).unwrap()
        }
        (Some(FieldType::List), _) => {
            let only: [String; 1] = serde_json::from_str(cell).unwrap();
            back(None, &only[0], before)
        }
        (_, Value::Bool(_)) => Value::from(cell == "true"),
        (_, Value::Number(_)) if declared != Some(FieldType::Time) => {
            let number: f64 = cell.parse().unwrap();
            // As the generator has them.
            assert_eq!(Some(number), before.as_f64(), "{cell}");
            before.clone()
        }
        (Some(FieldType::Time), _) => time(&Value::from(cell)),
        (_, Value::Array(_) | Value::Object(_)) => serde_json::from_str(cell).unwrap(),
        _ => Value::from(cell),
    }
}

/// A time in its one spelling; numbers of the generator are seconds.
fn time(value: &Value) -> Value {
    let micros = match value {
        Value::Number(n) => Micros((n.as_f64().unwrap() * 1e6) as i64),
        other => Micros::parse_rfc3339(other.as_str().unwrap()).unwrap(),
    };
    micros.to_string().into()
}

/// Puts a value where it was.
fn put(object: &mut Value, pointer: &[String], value: Value) {
    let Some((last, inner)) = pointer.split_last() else { return };
    let mut at = object;
    for name in inner {
        at = at.as_object_mut().unwrap().entry(name.clone()).or_insert_with(|| json!({}));
    }
    at.as_object_mut().unwrap().insert(last.clone(), value);
}

/// Without what is null, and the objects that are empty without it: an event has no room for that.
fn without_nulls(value: &mut Value) {
    if let Value::Object(members) = value {
        members.values_mut().for_each(without_nulls);
        members.retain(|_, value| !value.is_null() && *value != json!({}));
    }
}

/// The record that an event gives back, and the record with its times in one spelling; only where members were is taken from the record.
fn rendered(def: &SourceDef, record: &Value, held: &Map<String, Value>) -> (Value, Value) {
    let left = held.get(UNMAPPED).map(|left| left.as_str().unwrap());
    let mut given: Value = left.map_or(json!({}), |left| serde_json::from_str(left).unwrap());
    let mut expected = record.clone();
    let fields = fields();
    for (name, cell) in held.iter().filter(|(name, _)| *name != UNMAPPED) {
        let declared = fields.kind(name);
        let cell = cell.as_str().unwrap();
        if name == "@timestamp" {
            let times = def.fields["@timestamp"].names().iter().filter_map(|path| find(record, path));
            let at = times.into_iter().find(|at| !get(record, at).is_null()).unwrap();
            put(&mut given, &at, Value::from(cell));
            put(&mut expected, &at, time(get(record, &at)));
            continue;
        }
        // What is made of others is said by these.
        let Some(at) = paths(def, name).iter().find_map(|path| find(record, path)) else { continue };
        let before = get(record, &at);
        if before.is_null() || !holds(declared, before) {
            continue;
        }
        put(&mut given, &at, back(declared, cell, before));
        if declared == Some(FieldType::Time) {
            put(&mut expected, &at, time(before));
        }
    }
    without_nulls(&mut given);
    without_nulls(&mut expected);
    (given, expected)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_record_that_is_not_kept_is_given_back_by_its_event(record in members(value())) {
        let text = record.to_string();
        for def in [exchange_api(), aws_waf()].map(without_secrets) {
            let (held, kept) = decoded(&def, &text, true);
            prop_assert_eq!(kept, None, "{} {}", def.name, text);
            let (given, expected) = rendered(&def, &record, &held);
            prop_assert_eq!(given, expected, "{} {}", def.name, text);
        }
    }

    #[test]
    fn a_record_is_kept_for_digits_that_its_fields_have_no_room_for(
        fraction in "[0-9]{1,9}",
        digits in "[1-9][0-9]{0,25}",
        behind in "[0-9]{1,20}",
        quoted in any::<bool>(),
    ) {
        let def = exchange_api();
        let micros = fraction.len() <= 6 || fraction[6..].bytes().all(|b| b == b'0');
        let record = |name: &str, value: &str| format!("{{\"{name}\":{value}}}");
        for name in ["ts", "device_trusted_since"] {
            let record = record(name, &format!("\"2026-01-02T03:04:05.{fraction}Z\""));
            prop_assert_eq!(kept(&def, &record), !micros, "{}", record);
        }
        // A decimal in quotes has room for sixty digits, and a JSON number is read as a 64-bit float.
        let number = format!("{digits}.{behind}");
        let value = if quoted { format!("\"{number}\"") } else { number.clone() };
        let amount = kept(&def, &format!("{{\"withdrawal\":{{\"amount\":{value}}}}}"));
        let short = digits.len() + behind.len() <= 15;
        prop_assert!(!amount || !(quoted || short), "{}", value);
        let float = kept(&def, &record("balance_usd", &value));
        prop_assert!(!float || !short, "{}", value);
        // What another float is nearest to is another number: these have all their digits or are kept.
        let cell = decoded(&def, &record("balance_usd", &value), true).0;
        let same = cell["exchange.balance_usd"].as_str().unwrap().parse::<f64>().unwrap() == number.parse::<f64>().unwrap();
        prop_assert!(same);
        let trimmed = number.trim_end_matches('0').trim_end_matches('.');
        let spelled = cell["exchange.balance_usd"].as_str().unwrap();
        if !float {
            prop_assert_eq!(spelled, trimmed);
        }
    }
}

#[test]
fn what_is_kept_is_the_record_with_its_secrets_hidden() {
    let record =
        r#"{ "ts":"2026-01-02T03:04:05.123456789Z", "password":"hunter2", "url":"/a?token=hunter3" }"#;
    let def = exchange_api();
    let shown = Inspector::new(&def, &fields(), [7; 32]).unwrap().mask(record);
    assert!(!shown.contains("hunter") && shown.contains("123456789"), "{shown}");
    assert_eq!(decoded(&def, record, true).1.as_deref(), Some(&*shown));
    let exact = record.replace("456789Z", "456Z");
    assert_eq!(decoded(&def, &exact, true).1, None);
    assert!(decoded(&def, &exact, false).1.is_some(), "all are kept where all are asked for");
}

#[test]
fn a_line_is_kept_for_digits_beyond_a_microsecond() {
    let def = paloalto();
    for log in LogType::ALL {
        let mut cells = line(log, 130);
        assert!(!kept(&def, &cells.join(",")), "{log:?}");
        cells[7] = "2001:DB8::1".to_owned();
        cells[24] = "00443".to_owned();
        assert!(!kept(&def, &cells.join(",")), "another spelling says the same: {log:?}");
        cells[log.high_resolution()] = "2026-01-02T03:04:05.678901000+01:00".to_owned();
        assert!(!kept(&def, &cells.join(",")), "{log:?}");
        cells[log.high_resolution()] = "2026-01-02T03:04:05.678901234+01:00".to_owned();
        assert!(kept(&def, &cells.join(",")), "{log:?}");
    }
}

#[test]
fn a_record_without_types_is_its_own_rest() {
    for text in [r#"{"time":"2026-01-02T03:04:05.123456789Z", "n":0.12345678901234567890}"#, "{}"] {
        let (held, kept) = decoded(&tests::json(), text, true);
        assert_eq!(kept, None);
        assert!(text == "{}" || held[UNMAPPED] == text);
    }
}
