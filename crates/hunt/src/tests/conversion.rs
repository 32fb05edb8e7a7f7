//! Batches of the table against cells looked at one by one.

use std::{net::IpAddr, sync::Arc};

use arrow_array::{Array as _, RecordBatch, cast::AsArray as _};
use proptest::prelude::*;
use serde_json::{Value, json};
use vedette_event::{Cell, EventBatch, FieldType, Fields, Kind, Micros, Projection};

use super::{NOON, declared, events, origin};
use crate::{Columns, Converter, Rows};

/// All columns of a table of these names.
fn converter(names: &[&str], typed: bool, rules: &[String]) -> (Columns, Converter) {
    let columns = Columns::new(names.iter().copied(), &declared(), typed, rules);
    let all: Vec<usize> = (0..columns.len()).collect();
    let converter = Converter::new(&columns, &all).unwrap();
    (columns, converter)
}

fn projection(names: &[&str]) -> Arc<Projection> {
    Projection::new(names.iter().map(|name| Arc::from(*name)))
}

fn values(batch: &RecordBatch, name: &str) -> Vec<Value> {
    let at = batch.schema().index_of(name).unwrap();
    Rows::of(batch.clone()).column(at).collect()
}

#[test]
fn arrays_of_texts_are_shared() {
    let names = ["message", "source.ip", "level"];
    let (_, mut converter) = converter(&names, true, &[]);
    let long = "a text that is longer than a view holds by itself";
    let row = vec![
        ("message", Kind::Text, long),
        ("source.ip", Kind::Text, "2001:db8::1"),
        ("level", Kind::Int, "7"),
    ];
    let events = events(&projection(&names), &[row]);
    let batch = converter.convert(&events, &origin(), |_| Vec::new()).unwrap();
    for name in ["message", "source.ip"] {
        assert!(
            Arc::ptr_eq(
                batch.column(name_at(&batch, name)),
                events.arrow().column(name_at(events.arrow(), name))
            ),
            "{name}"
        );
    }
    assert_eq!((values(&batch, "level"), converter.refused()), (vec![json!(7)], 0));
}

fn name_at(batch: &RecordBatch, name: &str) -> usize {
    batch.schema().index_of(name).unwrap()
}

#[test]
fn what_an_event_is_stands_before_its_fields() {
    let rules = ["r".to_owned(), "s".to_owned()];
    let (columns, mut converter) = converter(&["message"], true, &rules);
    let events = events(&projection(&["message"]), &vec![Vec::new(); 6]);
    assert_eq!(converter.rules().collect::<Vec<_>>(), [0, 1]);
    assert_eq!(converter.fields().map(|name| &**name).collect::<Vec<_>>(), ["message"]);
    let batch = converter.convert(&events, &origin(), |rule| vec![rule as u32, 5, 99]).unwrap();
    assert_eq!(&batch.schema(), columns.schema());
    assert_eq!(values(&batch, "vedette.source"), vec![json!("fw"); 6]);
    assert_eq!(values(&batch, "vedette.topic"), vec![json!("a.log"); 6]);
    assert_eq!(values(&batch, "vedette.partition"), vec![json!(3); 6]);
    assert_eq!(values(&batch, "vedette.offset"), [0, 10, 20, 30, 40, 50].map(|n| json!(n)));
    assert_eq!(values(&batch, "vedette.index"), vec![json!(0); 6]);
    assert_eq!(values(&batch, "@timestamp")[1], Micros(NOON + 60_000_000).to_string());
    assert_eq!(values(&batch, "@timestamp")[4], Value::Null);
    let marks = |rule: &str| {
        let column = batch.column(name_at(&batch, &format!("vedette.sigma('{rule}')"))).as_boolean().clone();
        (0..6).filter(|row| column.value(*row)).collect::<Vec<_>>()
    };
    assert_eq!((marks("r"), marks("s")), (vec![0, 5], vec![1, 5]));
}

#[test]
fn fields_that_were_not_decoded_are_null() {
    let (_, mut converter) = converter(&["message", "level", "related.ip", "amount"], true, &[]);
    let other = events(&projection(&["user.name"]), &[vec![("user.name", Kind::Text, "x")]]);
    let batch = converter.convert(&other, &origin(), |_| Vec::new()).unwrap();
    for name in ["message", "level", "related.ip", "amount"] {
        assert_eq!(values(&batch, name), [Value::Null], "{name}");
    }
    // Another projection is found its way in, too.
    let known = events(&projection(&["x", "level"]), &[vec![("level", Kind::Int, "-1")]]);
    let batch = converter.convert(&known, &origin(), |_| Vec::new()).unwrap();
    assert_eq!(values(&batch, "level"), [json!(-1)]);
}

#[test]
fn columns_without_any_and_batches_without_rows_are_batches() {
    let columns = Columns::new(["message"], &declared(), true, &[]);
    let mut none = Converter::new(&columns, &[]).unwrap();
    let two = events(&projection(&[]), &[Vec::new(), Vec::new()]);
    assert_eq!(none.convert(&two, &origin(), |_| Vec::new()).unwrap().num_rows(), 2);
    let (_, mut all) = converter(&["message", "related.ip"], true, &[]);
    let nothing = events(&projection(&["message", "related.ip"]), &[]);
    assert_eq!(all.convert(&nothing, &origin(), |_| Vec::new()).unwrap().num_rows(), 0);
}

#[test]
fn a_name_is_a_column_once() {
    let names = ["message", "message", "@timestamp", "vedette.offset", "labels.x"];
    let columns = Columns::new(names, &Fields::default(), true, &[]);
    let shown: Vec<_> = columns.shown().map(|(name, _)| name).collect();
    assert_eq!(
        shown,
        [
            "vedette.source",
            "vedette.topic",
            "vedette.partition",
            "vedette.offset",
            "vedette.index",
            "@timestamp",
            "labels.x",
            "message"
        ]
    );
}

/// The value of one cell, said slowly; `None` if it is not of the type.
fn slowly(declared: Option<FieldType>, typed: bool, cell: Cell<'_>) -> Option<Value> {
    if !cell.kind.is_value() {
        return Some(Value::Null);
    }
    let text = cell.text;
    match declared {
        None | Some(FieldType::Text | FieldType::Object) => Some(text.into()),
        Some(FieldType::Ip) if typed => Some(text.into()),
        Some(FieldType::Ip) => Some(text.parse::<IpAddr>().ok()?.to_canonical().to_string().into()),
        Some(FieldType::U16) => Some(text.parse::<u16>().ok()?.into()),
        Some(FieldType::U32) => Some(text.parse::<u32>().ok()?.into()),
        Some(FieldType::U64) => Some(text.parse::<u64>().ok()?.into()),
        Some(FieldType::I64) => Some(text.parse::<i64>().ok()?.into()),
        Some(FieldType::F64) => {
            let number: f64 = text.parse().ok()?;
            let spelled = text.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
            (number.is_finite() && spelled).then(|| number.into())
        }
        Some(FieldType::Bool) => text.parse::<bool>().ok().map(Value::from),
        Some(FieldType::Time) => Micros::parse_rfc3339(text).map(|time| time.to_string().into()),
        Some(FieldType::Decimal) => decimal(text),
        Some(FieldType::List) => match cell.kind {
            Kind::Object => None,
            Kind::List => {
                let elements: Vec<Value> = serde_json::from_str(text).ok()?;
                let said = elements.into_iter().map(|element| match element {
                    Value::String(_) | Value::Null => element,
                    other => other.to_string().into(),
                });
                Some(said.collect())
            }
            _ => Some(json!([text])),
        },
    }
}

/// By text alone: the digits are the value.
fn decimal(text: &str) -> Option<Value> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let good = !whole.is_empty() && format!("{whole}{fraction}").bytes().all(|b| b.is_ascii_digit());
    let (whole, short) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    if !good || fraction.len() > 18 || whole.len() > 20 {
        return None;
    }
    let whole = if whole.is_empty() { "0" } else { whole };
    let minus = if text.starts_with('-') && (whole != "0" || !short.is_empty()) { "-" } else { "" };
    let point = if short.is_empty() { String::new() } else { format!(".{short}") };
    Some(format!("{minus}{whole}{point}").into())
}

const TYPED: [&str; 12] = [
    "source.ip",
    "source.port",
    "asn",
    "source.bytes",
    "level",
    "score",
    "amount",
    "ok",
    "seen",
    "related.ip",
    "message",
    "none",
];

fn cell() -> impl Strategy<Value = (Kind, String)> {
    let number = prop_oneof![
        "-?[0-9]{1,5}".prop_map(|text| text),
        "-?(0|[1-9][0-9]{0,20})",
        "-?[0-9]{1,21}\\.[0-9]{1,20}",
        Just("18446744073709551615".to_owned()),
        Just("-9223372036854775808".to_owned()),
        Just("65536".to_owned()),
        Just("1e400".to_owned()),
    ];
    prop_oneof![
        Just((Kind::Missing, String::new())),
        Just((Kind::Null, String::new())),
        number.prop_map(|text| (if text.contains(['.', 'e']) { Kind::Float } else { Kind::Int }, text)),
        "[a-zäÄ0-9.: ]{0,20}".prop_map(|text| (Kind::Text, text)),
        prop_oneof![Just("true"), Just("false")].prop_map(|text| (Kind::Bool, text.to_owned())),
        prop_oneof![
            Just("10.0.0.1"),
            Just("2001:DB8::1"),
            Just("::ffff:10.0.0.1"),
            Just("inf"),
            Just("NaN"),
            Just("+1"),
            Just("TRUE"),
            Just("2026-01-01T00:00:00.000001Z"),
            Just("2026-01-01t01:00:00+01:00"),
            Just("0"),
        ]
        .prop_map(|text| (Kind::Text, text.to_owned())),
        prop_oneof![
            Just("[]"),
            Just("[\"a\",\"b\"]"),
            Just("[1,-2,true,null]"),
            Just("[[1],{\"a\":\"b\"}]"),
            Just("[\"\\u00e9\\n\"]"),
            Just("[\"a\""),
            Just("[1.5]"),
        ]
        .prop_map(|text| (Kind::List, text.to_owned())),
        Just((Kind::Object, "{\"a\":1}".to_owned())),
    ]
}

fn check(rows: &[Vec<(Kind, String)>], typed: bool) -> Result<(), TestCaseError> {
    let cells: Vec<Vec<(&str, Kind, &str)>> = rows
        .iter()
        .map(|row| TYPED.iter().zip(row).map(|(name, (kind, text))| (*name, *kind, text.as_str())).collect())
        .collect();
    let events: EventBatch = events(&projection(&TYPED), &cells);
    let (_, mut converter) = converter(&TYPED, typed, &[]);
    let batch = converter.convert(&events, &origin(), |_| Vec::new()).unwrap();
    let mut refused = 0;
    for (at, name) in TYPED.iter().enumerate() {
        let got = values(&batch, name);
        prop_assert_eq!(got.len(), rows.len());
        for (row, got) in got.iter().enumerate() {
            let cell = events.columns()[at].cell(row);
            let expected = slowly(declared().kind(name), typed, cell);
            refused += u64::from(expected.is_none());
            prop_assert_eq!(got, &expected.unwrap_or_default(), "{} of {:?}", name, cell);
        }
        let nulls = got.iter().filter(|value| value.is_null()).count();
        prop_assert_eq!(batch.column(name_at(&batch, name)).null_count(), nulls, "{}", name);
    }
    prop_assert_eq!(converter.refused(), refused);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_cell_becomes_what_its_type_says(
        rows in proptest::collection::vec(proptest::collection::vec(cell(), TYPED.len()), 0..8),
        typed in any::<bool>(),
    ) {
        check(&rows, typed)?;
    }
}
