//! `event.unmapped` against a slow reference: nothing of a record is lost, and nothing is said twice.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use vedette_event::{Cell, FieldType, Kind, Projection, SourceDef};

use crate::{
    Decoder, all_fields,
    cast::cast,
    panos::{
        csv,
        layout::{FieldSource, GENERATED, LogType, RECEIVED},
        names, parse,
    },
    record::paths,
    secret::Secrets,
    tests::{self, aws_waf, batch, exchange_api, fields, paloalto, run},
    unmapped::UNMAPPED,
};

/// What is left of a record, and the cells of all fields by name.
fn decoded(def: &SourceDef, record: &str) -> (Option<String>, Map<String, Value>) {
    let names = all_fields(def, &fields());
    let mut decoder = Decoder::new(def, &fields(), &Projection::new(names.clone()), [7; 32]).unwrap();
    let (mut out, mut dead) = (Vec::new(), Vec::new());
    decoder.decode(&batch([record.as_bytes()]), &mut out, &mut dead);
    assert!(dead.is_empty(), "{dead:?} {record}");
    let mut left = None;
    let mut held = Map::new();
    for (name, column) in names.iter().zip(out[0].columns()) {
        let cell = column.cell(0);
        match cell.kind {
            Kind::Missing => {}
            Kind::Object if **name == *UNMAPPED => left = Some(cell.text.to_owned()),
            _ => drop(held.insert(name.to_string(), cell.text.into())),
        }
    }
    if out[0].claimed(0).is_none() {
        held.remove("@timestamp");
    }
    (left, held)
}

fn left(def: &SourceDef, record: &str) -> Option<String> {
    decoded(def, record).0
}

pub fn without_secrets(mut def: SourceDef) -> SourceDef {
    def.secrets.clear();
    def.secret_parameters.clear();
    def
}

/// The pointer to what a path finds: at every level the longest name first.
pub fn find(object: &Value, path: &str) -> Option<Vec<String>> {
    let members = object.as_object()?;
    if members.contains_key(path) {
        return Some(vec![path.to_owned()]);
    }
    let dots = path.match_indices('.').map(|(at, _)| at).rev();
    dots.into_iter().find_map(|at| {
        let mut found = find(members.get(&path[..at])?, &path[at + 1..])?;
        found.insert(0, path[..at].to_owned());
        Some(found)
    })
}

pub fn get<'a>(object: &'a Value, pointer: &[String]) -> &'a Value {
    pointer.iter().fold(object, |object, name| &object[name])
}

/// Removes what is there, and the objects that it leaves empty.
fn remove(object: &mut Value, pointer: &[String]) {
    let Some(members) = object.as_object_mut() else { return };
    match pointer {
        [] => {}
        [name] => drop(members.remove(name)),
        [name, inner @ ..] => {
            if let Some(value) = members.get_mut(name) {
                remove(value, inner);
                if value == &json!({}) {
                    members.remove(name);
                }
            }
        }
    }
}

/// Whether a field of this type can hold a value.
pub fn holds(declared: Option<FieldType>, value: &Value) -> bool {
    let (kind, text) = match value {
        Value::Null => return true,
        Value::Bool(b) => (Kind::Bool, b.to_string()),
        Value::Number(n) => {
            vedette_event::cell::number(&n.to_string()).unwrap_or((Kind::Float, n.to_string()))
        }
        Value::String(s) => (Kind::Text, s.clone()),
        Value::Array(_) => (Kind::List, value.to_string()),
        Value::Object(_) => (Kind::Object, value.to_string()),
    };
    declared.is_none_or(|declared| cast(declared, Cell { kind, text: &text }, &mut String::new()).is_some())
}

/// What must be left of a JSON record of a mapped source.
fn expected(def: &SourceDef, record: &Value, has_time: bool) -> Value {
    let fields = fields();
    let mut taken = Vec::new();
    for name in all_fields(def, &fields) {
        if *name == *"@timestamp" || *name == *UNMAPPED {
            continue;
        }
        let found = paths(def, &name).iter().find_map(|path| find(record, path));
        taken.extend(found.filter(|found| holds(fields.kind(&name), get(record, found))));
    }
    if has_time {
        let times = def.fields["@timestamp"].names().iter().filter_map(|path| find(record, path));
        taken.extend(times.into_iter().find(|found| !get(record, found).is_null()));
    }
    let mut left = record.clone();
    taken.iter().for_each(|pointer| remove(&mut left, pointer));
    left
}

/// Names that mappings know, or that have to do with them.
const KNOWN: [&str; 39] = [
    "ts",
    "time",
    "@timestamp",
    "event",
    "action",
    "user_id",
    "user",
    "id",
    "user.id",
    "client_ip",
    "ip",
    "geo",
    "country",
    "asn",
    "api_key",
    "scopes",
    "status",
    "withdrawal",
    "amount",
    "asset",
    "url",
    "path",
    "query",
    "client",
    "source",
    "source.ip",
    "event.action",
    "unmapped",
    "timestamp",
    "httpRequest",
    "headers",
    "uri",
    "clientIp",
    "action",
    "labels",
    "http",
    "request",
    "bytes",
    "related",
];

fn name() -> impl Strategy<Value = String> {
    prop_oneof![4 => prop::sample::select(&KNOWN[..]).prop_map(str::to_owned), 1 => "[a-c\\.\u{e9}\"]{0,3}"]
}

pub fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u32>().prop_map(Value::from),
        any::<i16>().prop_map(|n| Value::from(f64::from(n) / 8.0)),
        prop::sample::select(&["192.0.2.1", "2026-01-02T03:04:05Z", "443", "a=b", "token=x&a=1", ""][..])
            .prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 30, 5, |inner| {
        prop_oneof![proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from), members(inner),]
    })
}

pub fn members(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    let members = proptest::collection::vec((name(), inner), 0..6);
    members.prop_map(|members| Value::Object(members.into_iter().collect()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn of_json_that_is_left_which_no_field_took(record in members(value()), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&record) } else { serde_json::to_string(&record) };
        let text = text.unwrap();
        for def in [exchange_api(), aws_waf()].map(without_secrets) {
            let (left, _) = decoded(&def, &text);
            let claimed = run(&def, &[], &[&text]).0[0].claimed(0);
            let expected = expected(&def, &record, claimed.is_some());
            let left = left.map_or(json!({}), |left| serde_json::from_str(&left).unwrap());
            prop_assert_eq!(left, expected, "{} {}", def.name, text);
        }
    }

    #[test]
    fn what_is_left_does_not_depend_on_what_is_asked_for(
        record in members(value()),
        asked in proptest::collection::vec(prop::sample::select(&["user.id", "client.ip", "url.query", "a", "withdrawal.amount", "@timestamp", "waf.action"][..]), 0..4),
    ) {
        let text = record.to_string();
        for def in [exchange_api(), aws_waf(), tests::json()] {
            let mut names: Vec<&str> = asked.clone();
            names.push(UNMAPPED);
            let (out, _) = run(&def, &names, &[&text]);
            let cell = out[0].columns().last().unwrap().cell(0);
            prop_assert_eq!((cell.kind == Kind::Object).then(|| cell.text.to_owned()), left(&def, &text));
        }
    }

    #[test]
    fn in_what_is_left_secrets_are_hidden_as_elsewhere(record in members(value())) {
        let text = record.to_string();
        for mut def in [exchange_api(), aws_waf()] {
            def.secrets.extend(["user.note", "c", "geo.*", "withdrawal.b", "labels"].map(str::to_owned));
            let plain = left(&without_secrets(def.clone()), &text);
            let masked = plain.map(|plain| Secrets::new(&def, [7; 32]).mask_json("", &plain));
            prop_assert_eq!(left(&def, &text), masked, "{} {}", def.name, text);
        }
    }

    #[test]
    fn without_types_all_is_left_to_the_last_blank(record in members(value()), blanks in "[ \t\r\n]{0,3}") {
        let text = serde_json::to_string_pretty(&record).unwrap();
        for text in [format!("{blanks}{text}{blanks}"), record.to_string()] {
            let expected = (record != json!({})).then(|| text.clone());
            prop_assert_eq!(left(&tests::json(), &text), expected);
        }
        let mut def = tests::json();
        def.secrets.push("note".to_owned());
        let hidden = Secrets::new(&def, [7; 32]).mask_json("", &text);
        prop_assert_eq!(left(&def, &text), (record != json!({})).then_some(hidden));
    }
}

#[test]
fn what_is_left_is_as_it_was_written() {
    let def = without_secrets(exchange_api());
    let record = r#"{ "client_ip" : "192.0.2.1" , "n" : 1.50, "m":-0,"big":123456789012345678901234567890.10e+2,
        "s\u0041\/" : "a\u003db\/ \" , x" , "l":[ 1.0 , { "b" : [ ] , "a" : { } } ], "user":{"id":7,"k": 1e3 } , "e":{},"z":null}"#;
    let expected = r#"{"n":1.50,"m":-0,"big":123456789012345678901234567890.10e+2,"s\u0041\/":"a\u003db\/ \" , x","l":[1.0,{"b":[],"a":{}}],"user":{"k":1e3},"e":{},"z":null}"#;
    assert_eq!(left(&def, record).as_deref(), Some(expected));
}

#[test]
fn members_of_one_name_stay_unless_they_were_taken() {
    let def = without_secrets(exchange_api());
    let left = |record: &str| left(&def, record).unwrap_or_default();
    assert_eq!(left(r#"{"user_id":1,"x":1,"user_id":2,"x":2}"#), r#"{"user_id":1,"x":1,"x":2}"#);
    assert_eq!(
        left(r#"{"user":{"id":1,"a":1},"user":{"id":2},"user":{"a":3}}"#),
        r#"{"user":{"id":1,"a":1},"user":{"a":3}}"#
    );
    assert_eq!(left(r#"{"user_id":1,"user.id":2,"user":{"id":3}}"#), r#"{"user.id":2,"user":{"id":3}}"#);
}

#[test]
fn what_cannot_be_held_is_left() {
    let def = without_secrets(exchange_api());
    let left = |record: &str| left(&def, record).unwrap_or_default();
    assert_eq!(
        left(r#"{"client_ip":"nobody","status":"200","user_id":[1],"ts":"soon"}"#),
        r#"{"client_ip":"nobody","user_id":[1],"ts":"soon"}"#
    );
    assert_eq!(
        left(r#"{"ts":null,"timestamp":1767225600,"time":5,"status":null}"#),
        r#"{"ts":null,"time":5}"#
    );
    assert_eq!(
        left(r#"{"user":{"id":"u"},"url":"/a?b=1","withdrawal":{"amount":"1.250","asset":"BTC"}}"#),
        ""
    );
    assert_eq!(
        left(r#"{"event":{"unmapped":{"a":1},"original":"x"}}"#),
        r#"{"event":{"unmapped":{"a":1},"original":"x"}}"#
    );
    assert_eq!(left("{}"), "");
    assert_eq!(left(r#"{"user":{}}"#), r#"{"user":{}}"#);
}

#[test]
fn secrets_are_hidden_at_any_depth_of_what_is_left() {
    let api = r#"{"password":"p1","user":{"id":1,"note":"see /x?token=t2&a=1"},"l":[{"m":"code\u003dc3 "}],"token":{"a":"t4"}, "n":7}"#;
    let aws = r#"{"httpRequest":{"clientIp":"192.0.2.1","headers":[{"name":"Cookie","value":"sid=5"},{"name":"Host","value":"h"}]}}"#;
    let texts = [left(&exchange_api(), api).unwrap(), left(&aws_waf(), aws).unwrap()];
    for (text, secret) in [(0, "p1"), (0, "t2"), (0, "c3"), (0, "t4"), (1, "sid=5")] {
        assert!(!texts[text].contains(secret), "{}", texts[text]);
    }
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn the_work_of_what_is_left_is_linear_in_the_record() {
    let spent = |record: &str| {
        let def = exchange_api();
        let mut decoder =
            Decoder::new(&def, &fields(), &Projection::new([UNMAPPED.into()]), [7; 32]).unwrap();
        let (mut out, mut dead) = (Vec::new(), Vec::new());
        let raw = batch([record.as_bytes()]);
        let rounds = (0..3).map(|_| {
            let before = std::time::Instant::now();
            decoder.decode(&raw, &mut out, &mut dead);
            before.elapsed()
        });
        let spent = rounds.min().unwrap();
        assert!(dead.is_empty());
        spent
    };
    let member = |n: usize| format!("\"k{n}\":\"a=1\",");
    let flat = format!("{{{}\"z\":1}}", (0..50_000).map(member).collect::<String>());
    let texts = "\"a=1\",".repeat(100_000);
    let nested = format!("{}[{texts}1]{}", "{\"user\":".repeat(120), "}".repeat(120));
    let dots = format!("{{{}\"z\":1}}", "\"user\":{\"id\":1,\"x\":{\"y\":\"=\"}},".repeat(20_000));
    let base = spent(&format!("{{\"a\":[{texts}1]}}"));
    for record in [flat, nested, dots] {
        let spent = spent(&record);
        assert!(spent < base * 20, "{spent:?} instead of {base:?}: {}", &record[..60]);
    }
}

/// A line with a value of its own in each column; those that fields of other types than text are in have one of these.
pub fn line(log: LogType, cells: usize) -> Vec<String> {
    (0..cells)
        .map(|at| match at {
            3 => format!("{log:?}").to_uppercase(),
            4 => "vulnerability".to_owned(),
            7..=10 => format!("192.0.2.{at}"),
            RECEIVED | GENERATED => format!("2026/01/02 03:04:{at:02}"),
            32 if log == LogType::Threat => "a name(99)".to_owned(),
            _ if at == log.high_resolution() => "2026-01-02T03:04:05.678Z".to_owned(),
            _ => (1_000 + at).to_string(),
        })
        .collect()
}

#[test]
fn each_cell_of_a_line_is_in_one_column_or_left() {
    for log in LogType::ALL {
        for cells in [20, 53, 130, 256] {
            let line = line(log, cells);
            let (left, held) = decoded(&paloalto(), &line.join(","));
            let left: Map<String, Value> =
                left.map(|left| serde_json::from_str(&left).unwrap()).unwrap_or_default();
            let texts: Vec<String> = held.values().map(|value| value.as_str().unwrap().to_owned()).collect();
            let time = if cells > log.high_resolution() { log.high_resolution() } else { GENERATED };
            for (at, cell) in line.iter().enumerate() {
                let name = names::name(log, at);
                let fields = log.fields().filter(|field| match log.field(field).unwrap() {
                    FieldSource::Cell(from)
                    | FieldSource::Url(from)
                    | FieldSource::Host(from)
                    | FieldSource::ThreatId(from) => from == at,
                    FieldSource::Nanoseconds(from) => from == at,
                    FieldSource::Either(from, _) => from == at,
                    _ => false,
                });
                let expected = if fields.count() > 0 || at == time { None } else { Some(cell.as_str()) };
                assert_eq!(left.get(&name).and_then(Value::as_str), expected, "{log:?} {at} {name}");
                let said = texts.iter().any(|text| text == cell) || at == time || cell == "a name(99)";
                let nanoseconds = texts.iter().any(|text| *text == format!("{cell}000000000"));
                assert!(expected.is_some() || said || nanoseconds, "{log:?} {at} {name} is nowhere");
            }
            assert!(left.keys().all(|key| (0..cells).any(|at| *key == names::name(log, at))), "{left:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_cell_of_any_text_is_left_as_it_is_or_held(
        log in prop::sample::select(&LogType::ALL[..]),
        texts in proptest::collection::vec(prop_oneof![Just(String::new()), Just("-".to_owned()), "\\PC{0,6}", "[0-9]{1,3}", "[a\",\\\\]{1,5}"], 5..130),
        header in "(<14>)?[a-z ]{0,5} ?",
    ) {
        let mut line = line(log, 7);
        line.extend(texts);
        let cells: Vec<String> = line.iter().map(|text| format!("\"{}\"", text.replace('"', "\"\""))).collect();
        let plain = format!("{header} 1,{},7,{log:?},{}", line[RECEIVED], cells[4..].join(","));
        let record = plain.replacen(&format!("{log:?}"), &line[3], 1);
        let def = without_secrets(paloalto());
        let mut spans = Vec::new();
        let fields = fields();
        let Ok((read, before, _)) = parse(&record, &mut spans) else { return Ok(()) };
        prop_assert_eq!(read, log);
        let (left, held) = decoded(&def, &record);
        let left: Map<String, Value> = left.map(|left| serde_json::from_str(&left).unwrap()).unwrap_or_default();
        prop_assert_eq!(left.get("syslog_header").and_then(Value::as_str).unwrap_or_default(), before.trim_ascii());
        for (at, span) in spans.iter().enumerate() {
            let raw = span.of(&record);
            let text = if span.doubled { raw.replace("\"\"", "\"") } else { raw.to_owned() };
            let missing = raw.is_empty() || raw == "-";
            let of_cell = |field: &str| matches!(log.field(field).unwrap(),
                FieldSource::Cell(from) | FieldSource::Url(from) | FieldSource::File(from) | FieldSource::Host(from) | FieldSource::Nanoseconds(from) if from == at);
            let holds = held.keys().find(|field| *field != UNMAPPED && of_cell(field));
            let found = left.get(&names::name(log, at)).and_then(Value::as_str);
            match found {
                Some(found) => {
                    prop_assert!(!missing && holds.is_none(), "{at} {text} is said twice: {holds:?}");
                    prop_assert_eq!(found, text);
                }
                None if missing => {}
                None => {
                    let declared = holds.and_then(|field| fields.kind(field));
                    let other = [1, 6, log.high_resolution()].contains(&at) || log == LogType::Threat && [32, 48, 79].contains(&at);
                    prop_assert!(holds.is_some() || other, "{at} {text} is lost");
                    if let (Some(field), Some(FieldType::Text)) = (holds, declared) {
                        prop_assert_eq!(&held[field], &text, "{}", field);
                    }
                }
            }
        }
    }
}

#[test]
fn what_a_line_says_beyond_its_columns_is_left() {
    let traffic = line(LogType::Traffic, 280);
    let left = |line: &str| -> Value { serde_json::from_str(&left(&paloalto(), line).unwrap()).unwrap() };
    let long = left(&format!("<14>Jan  2 03:04:05 fw-1 {}", traffic.join(",")));
    assert_eq!(long["syslog_header"], "<14>Jan  2 03:04:05 fw-1");
    assert_eq!(long["column_256"], "1255");
    assert_eq!(long["column_257"], traffic[256..].join(","));
    assert_eq!((&long["column_1"], &long["column_39"]), (&json!("1000"), &json!("1038")));
    let mut threat = line(LogType::Threat, 60);
    let misc = |threat: &[String]| left(&threat.join(","))["threatid"].clone();
    assert_eq!(misc(&threat), Value::Null);
    threat[32] = "a name(99999999999999999999999)".to_owned();
    assert_eq!(misc(&threat), threat[32].as_str(), "the number fits no field");
    threat[32] = "a name".to_owned();
    assert_eq!(misc(&threat), Value::Null);
    threat[7] = "nobody".to_owned();
    assert_eq!(left(&threat.join(","))["src"], "nobody");
}

#[test]
fn secrets_of_lines_are_hidden_in_what_is_left() {
    let mut def = paloalto();
    def.secrets = vec!["source.ip".to_owned(), "column_39".to_owned()];
    let mut traffic = line(LogType::Traffic, 300);
    (traffic[7], traffic[38], traffic[54]) = ("nobody".into(), "hunter1".into(), "a?token=hunter2&b".into());
    traffic[299] = "token=hunter3".into();
    let text = left(&def, &traffic.join(",")).unwrap();
    assert!(!text.contains("hunter") && !text.contains("nobody"), "{text}");
    assert!(text.contains("a?token=secret:"), "{text}");
}

#[test]
fn what_is_left_of_lines_does_not_depend_on_what_is_asked_for() {
    for log in LogType::ALL {
        let record = line(log, 120).join(",");
        let (out, _) = run(&paloalto(), &["source.ip", UNMAPPED], &[&record]);
        assert_eq!(Some(out[0].columns()[1].cell(0).text.to_owned()), left(&paloalto(), &record));
    }
}

#[test]
fn the_cells_that_are_told_apart_end() {
    let mut cells = Vec::new();
    let record = "a,".repeat(300);
    assert_eq!(csv::split(&record, 0, &mut cells), &record[512..]);
    assert_eq!(csv::split("a,b", 0, &mut cells), "");
}
