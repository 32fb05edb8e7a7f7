//! What the lake gives back is what the decoder made.

use std::sync::Arc;

use proptest::prelude::*;
use vedette_decode::{Decoder, UNMAPPED, all_fields};
use vedette_event::{
    EventBatch, Fields, Flags, Incarnation, Kind, Micros, Partition, Placed, Projection, RawBatch,
    RawBatchBuilder, SourceDef, SourceIx, Span, place,
};
use vedette_simulate::{Feed, Simulator};

use super::{NOON, PARTITION};
use crate::{
    Columns, Origin,
    lake::{InTime, PLACES, Places, Restorer, Wanted, Writer, lean, placed, texts},
};

const INCARNATION: Incarnation = 3;

pub fn fields() -> Fields {
    serde_saphyr::from_str(include_str!("../../../../schemas/fields.yml")).unwrap()
}

pub fn source(name: &str) -> SourceDef {
    let text = match name {
        "aws_waf" => include_str!("../../../../schemas/sources/aws_waf.yml"),
        "exchange_api" => include_str!("../../../../schemas/sources/exchange_api.yml"),
        "paloalto" => include_str!("../../../../schemas/sources/paloalto.yml"),
        _ => include_str!("../../../../schemas/sources/json.yml"),
    };
    serde_saphyr::from_str(text).unwrap()
}

/// Records a second apart, as the broker took them.
fn raw(records: &[String]) -> RawBatch {
    let mut builder = RawBatchBuilder::new(SourceIx(0), PARTITION);
    for (offset, record) in (0..).zip(records) {
        let log = Micros(NOON).plus(Span::secs(offset));
        builder.push(offset * 3, Some(log), Flags::NONE, Some(record.as_bytes()));
    }
    builder.take()
}

fn decode(def: &SourceDef, projection: &Arc<Projection>, raw: &RawBatch) -> EventBatch {
    let mut decoder = Decoder::new(def, &fields(), projection, [7; 32]).unwrap();
    let (mut out, mut dead) = (Vec::new(), Vec::new());
    decoder.decode(raw, &mut out, &mut dead);
    out.pop().unwrap()
}

/// What a cell says to rules: JSON null and missing are the same to them.
fn said(events: &EventBatch, column: usize, row: usize) -> Option<(Kind, String)> {
    let cell = events.columns()[column].cell(row);
    cell.kind.is_value().then(|| (cell.kind, cell.text.to_owned()))
}

/// Writes the events of records into a lake and compares what comes back; gives how many texts were kept beside their columns.
fn there_and_back(def: &SourceDef, records: &[String]) -> usize {
    let names = all_fields(def, &fields());
    let projection = Projection::new(names.iter().cloned());
    let raw = raw(records);
    let events = decode(def, &projection, &raw);
    let logs: Vec<Micros> =
        events.records.iter().map(|at| raw.records[*at as usize].ts_log.unwrap()).collect();
    let places: Vec<Placed> = (0..events.rows())
        .map(|row| place(events.claimed(row), logs[row], def.disorder, def.future))
        .collect();
    let columns = Columns::of_lake(names.iter().map(|name| &**name), &fields(), !def.own_logsource());
    let origin = Origin { source: def.name.clone(), topic: "t".into(), partition: PARTITION.number };
    let made = columns.converter().unwrap().convert(&events, &origin, |_| Vec::new()).unwrap();
    let made = lean(&placed(&made, &places, &logs, INCARNATION).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(folder.path());
    writer.push(&def.name, &made, 1).unwrap();
    let files = writer.write(Micros(NOON)).unwrap();
    let wanted: Wanted =
        [(def.name.clone(), PLACES.into_iter().map(Arc::from).chain(names.iter().cloned()).collect())].into();
    let mut back = InTime::new(folder.path(), files, wanted).unwrap();
    let mut restorer = Restorer::new(projection, &fields());
    let (mut rows, mut spelled, mut before) = (0, 0, Micros::MIN);
    while let Some(batch) = back.read().unwrap() {
        let places_of = Places::of(&batch.events).unwrap();
        let written = texts(&batch.events, "vedette.spelled");
        let written = |row| written.as_ref().and_then(|texts| texts(row));
        spelled += (0..places_of.rows()).filter(|row| written(*row).is_some()).count();
        for row in 0..places_of.rows() {
            assert!(before <= places_of.time(row));
            before = places_of.time(row);
            assert_eq!(places_of.partition(row), ("t", INCARNATION, PARTITION.number));
            let of: (SourceIx, Partition) = (SourceIx(0), PARTITION);
            let again = restorer.restore(&batch.events, &[row as u32], of, None).unwrap();
            let was = events.offsets().iter().position(|offset| *offset == again.offsets()[0]).unwrap();
            // Records of no mapping are decoded once more, so that their text alone must come back.
            let whole = |name: &str| !def.own_logsource() || name == UNMAPPED;
            for (column, name) in names.iter().enumerate().filter(|(_, name)| whole(name)) {
                let (now, then) = (said(&again, column, 0), said(&events, column, was));
                assert_eq!(now, then, "{name} of {}", records[events.records[was] as usize]);
            }
            assert_eq!(again.claimed(0), events.claimed(was));
            assert_eq!((places_of.time(row), places_of.flags(row)), (places[was].time, places[was].flags));
            assert_eq!(places_of.log(row), logs[was]);
            rows += 1;
        }
        assert!(back.passed() >= before);
    }
    assert_eq!((rows, back.given()), (events.rows(), events.rows() as u64));
    spelled
}

#[test]
fn what_an_exchange_writes_comes_back_as_it_was_decoded() {
    let mut simulator = Simulator::new(3, Micros(NOON), 200);
    let mut records: [Vec<String>; 3] = Default::default();
    while records.iter().any(|of_feed| of_feed.len() < 500) {
        let record = simulator.next_record();
        let at = Feed::ALL.iter().position(|feed| *feed == record.feed).unwrap();
        if records[at].len() < 500 {
            records[at].push(record.line);
        }
    }
    for (feed, records) in Feed::ALL.iter().zip(&records) {
        there_and_back(&source(feed.source()), records);
    }
}

#[test]
fn what_columns_cannot_say_is_kept_beside_them() {
    let record = |rest: &str| format!(r#"{{"ts":"2026-01-01T12:00:00Z",{rest}}}"#);
    let records = [
        record(r#""scopes":["read","trade"]"#),
        record(r#""scopes":[ "read", 5, null, {"a": [1]}, true ]"#),
        record(r#""scopes":"one""#),
        record(r#""withdrawal":{"amount":"0.1234567890123456789","amount_usd":"12345678901234567890123.5"}"#),
        record(r#""withdrawal":{"amount":-0.50,"amount_usd":1e18}"#),
        record(r#""status":"200","response_bytes":18446744073709551615,"method":null,"asn":"x""#),
        record(
            r#""signature_ok":"TRUE","api_key_created_at":"2026-01-01 01:00:00+02:00","ip":"::ffff:1.2.3.4""#,
        ),
        r#"{"ts":"2020-01-01T00:00:00Z","event":"late"}"#.to_owned(),
        r#"{"ts":"2030-01-01T00:00:00Z","event":"future"}"#.to_owned(),
        r#"{"ts":"yesterday","event":"missing"}"#.to_owned(),
        "{}".to_owned(),
    ];
    assert_eq!(there_and_back(&source("exchange_api"), &records), 2);
}

#[test]
fn a_record_of_no_mapping_comes_back_to_the_last_blank() {
    let records = [
        " {\"a\" : [ 1 , 2.50 ], \"a\":null,\n\"b\":{ } } ",
        "{}",
        r#"{"@timestamp":"2026-01-01T12:00:00Z"}"#,
    ];
    let records = records.map(str::to_owned);
    let def = source("json");
    assert_eq!(there_and_back(&def, &records), 0);
    let events = decode(&def, &Projection::new([UNMAPPED.into()]), &raw(&records));
    assert_eq!(said(&events, 0, 0).unwrap().1, records[0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_record_of_an_exchange_comes_back(
        members in proptest::collection::vec((
            prop::sample::select(vec![
                "ts", "status", "scopes", "withdrawal.amount", "withdrawal.amount_usd", "balance_usd", "asn", "ip", "method", "url",
                "signature_ok", "api_key_created_at", "response_bytes", "geo", "user_id", "message", "related.ip",
            ]),
            prop_oneof![
                "-?[0-9]{1,25}(\\.[0-9]{1,25})?(e-?[0-9]{1,2})?".prop_map(|n| {
                    serde_json::from_str::<serde_json::Value>(&n).map_or("0".to_owned(), |_| n)
                }),
                "[a-z0-9:. \u{e9}\u{1f600}=&/?-]{0,12}".prop_map(|t| serde_json::to_string(&t).unwrap()),
                Just("null".to_owned()), Just("true".to_owned()), Just("\"False\"".to_owned()),
                Just("[]".to_owned()), Just("[1, \"a\"]".to_owned()), Just("[\"\\u0061\"]".to_owned()),
                Just("{\"country\":\"DE\"}".to_owned()), Just("\"2026-01-01T12:00:00.1234567Z\"".to_owned()), Just("\"1.2.3.4\"".to_owned()),
            ],
        ), 0..12),
    ) {
        let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        let records = [format!("{{{}}}", members.join(","))];
        let raw = raw(&records);
        let mut dead = Vec::new();
        let names = Projection::new([UNMAPPED.into()]);
        Decoder::new(&source("exchange_api"), &fields(), &names, [7; 32]).unwrap().decode(&raw, &mut Vec::new(), &mut dead);
        if dead.is_empty() {
            there_and_back(&source("exchange_api"), &records);
        }
    }
}
