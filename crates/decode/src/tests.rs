//! The decoder from outside: what becomes of records.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, LazyLock};

use vedette_event::{
    DeadLetter, EventBatch, Fields, Flags, Kind, Partition, Projection, RawBatch, RawBatchBuilder, SourceDef,
    SourceIx, Sources, TopicIx,
};

use crate::{Decoder, Inspector, detect, field_names};

pub fn fields() -> Fields {
    static FIELDS: LazyLock<Fields> =
        LazyLock::new(|| serde_saphyr::from_str(include_str!("../../../schemas/fields.yml")).unwrap());
    FIELDS.clone()
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

pub fn projection(names: &[&str]) -> Arc<Projection> {
    Projection::new(names.iter().map(|&name| name.into()))
}

pub fn run(def: &SourceDef, projection: &[&str], records: &[&str]) -> (Vec<EventBatch>, Vec<DeadLetter>) {
    let mut decoder = Decoder::new(def, &fields(), &self::projection(projection), [7; 32]).unwrap();
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
    out[0].columns().iter().map(cell).collect()
}

#[test]
fn a_batch_that_broke_off_leaves_nothing_to_the_next() {
    let mut decoder = Decoder::new(&json(), &fields(), &projection(&["a", "b"]), [7; 32]).unwrap();
    // As a panic leaves it: cells of three rows, no end of the batch.
    for row in 0..3 {
        decoder.columns.put(0, vedette_event::Cell { kind: Kind::Text, text: "old" });
        decoder.columns.batch.end_row(row, 0, 0, None);
    }
    let (mut out, mut dead) = (Vec::new(), Vec::new());
    decoder.decode(&batch([&br#"{"b":1}"#[..], br#"{"a":2}"#]), &mut out, &mut dead);
    let cells = |column: usize| [0, 1].map(|row| out[0].columns()[column].cell(row).text.to_owned());
    assert_eq!((cells(0), cells(1)), (["", "2"].map(str::to_owned), ["1", ""].map(str::to_owned)));
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
    assert_eq!(out[0].offsets(), [7]);
    let reasons: Vec<String> =
        dead.iter().map(|d| format!("{} {}: {}", d.offset, d.reason.name(), d.detail)).collect();
    insta::assert_snapshot!(reasons.join("\n"));
}

#[test]
fn bytes_that_are_text_only_across_records_are_not_utf8() {
    let records: [&[u8]; 3] = [b"{\"a\":1}\xC3", b"\xA9{}", b"{\"a\":2}"];
    let mut decoder = Decoder::new(&json(), &fields(), &projection(&[]), [0; 32]).unwrap();
    let (mut out, mut dead) = (Vec::new(), Vec::new());
    decoder.decode(&batch(records), &mut out, &mut dead);
    assert_eq!(dead.iter().map(|d| d.reason.name()).collect::<Vec<_>>(), ["invalid_utf8", "invalid_utf8"]);
    assert_eq!(out[0].rows(), 1);
}

pub fn paloalto() -> SourceDef {
    source(include_str!("../../../schemas/sources/paloalto.yml"))
}

pub fn aws_waf() -> SourceDef {
    source(include_str!("../../../schemas/sources/aws_waf.yml"))
}

pub fn exchange_api() -> SourceDef {
    source(include_str!("../../../schemas/sources/exchange_api.yml"))
}

/// All that the inspector shows of a record, one field a line.
fn inspected(def: &SourceDef, record: &str) -> String {
    let mut inspector = Inspector::new(def, &fields(), [7; 32]).unwrap();
    let events = inspector.inspect(0, Some(record.as_bytes())).unwrap();
    events[0].iter().map(|(name, value)| format!("{name}: {value}\n")).collect()
}

const TRAFFIC: &str = "<14>Jan  2 03:04:05 fw-1 1,2026/01/02 03:04:05,0071,TRAFFIC,end,2561,2026/01/02 03:04:04,192.0.2.7,198.51.100.9,0.0.0.0,0.0.0.0,\"allow, web\",corp\\ann,,ssl,vsys1,trust,untrust,ethernet1/2,ethernet1/1,fwd,2026/01/02 03:04:04,77,3,50123,443,0,0,0x1c,tcp,allow,900,600,300,12,2026/01/02 03:03:34,30,any,,123,0x0,10.0.0.0-10.255.255.255,United States,,7,5,tcp-fin,0,0,0,0,,PA-1,from-policy";
const THREAT: &str = "1,2026/01/02 03:04:05,0071,THREAT,url,2561,2026/01/02 03:04:04,192.0.2.7,198.51.100.9,,,web,-,,web-browsing,vsys1,trust,untrust,ethernet1/2,ethernet1/1,fwd,2026/01/02 03:04:04,77,1,50123,80,0,0,0x8000,tcp,block-url,\"shop.example:8080/a/b.php?q=%27+or+1&token=abc\",\"SQL \"\"union\"\" (x)(9999)\",hacking,high,client-to-server";
const AWS: &str = r#"{"timestamp":1767323045123,"formatVersion":1,"webaclId":"arn:aws:wafv2:eu-central-1:123456789012:regional/webacl/edge/1","terminatingRuleId":"AWS-AWSManagedRulesSQLiRuleSet","terminatingRuleType":"MANAGED_RULE_GROUP","action":"BLOCK","terminatingRuleMatchDetails":[{"conditionType":"SQL_INJECTION","location":"QUERY_STRING","matchedData":["1","or"]}],"httpSourceName":"ALB","httpSourceId":"app/x","ruleGroupList":[{"ruleGroupId":"g","terminatingRule":{"ruleId":"SQLi_QUERYARGUMENTS","action":"BLOCK"},"nonTerminatingMatchingRules":[{"ruleId":"NoUserAgent_HEADER"}],"excludedRules":null}],"nonTerminatingMatchingRules":[],"labels":[{"name":"awswaf:managed:aws:sql-database:SQLi_QueryArguments"}],"httpRequest":{"clientIp":"203.0.113.9","country":"DE","headers":[{"name":"Host","value":"shop.example"},{"name":"Cookie","value":"sid=1"},{"name":"user-agent","value":"sqlmap/1.8"}],"uri":"/a/b.php","args":"id=1%27+or+1&token=abc","httpVersion":"HTTP/1.1","httpMethod":"GET","requestId":"r1"}}"#;
const API: &str = r#"{"ts":"2026-01-02T03:04:05.123456789Z","event":"withdraw_request","outcome":"success","user_id":4711,"client_ip":"::ffff:203.0.113.9","api_key":{"id":"k1"},"scopes":["trade","withdraw"],"signature_ok":true,"status":"200","withdrawal":{"amount":"1.250","asset":"BTC","memo":"x"},"url":"/v1/w?token=abc&x=1","token":"abc","port":"n/a","client.port":70000,"note":"a=1&password=hunter2"}"#;

#[test]
fn paloalto_traffic() {
    insta::assert_snapshot!(inspected(&paloalto(), TRAFFIC));
}

#[test]
fn paloalto_threat() {
    insta::assert_snapshot!(inspected(&paloalto(), THREAT));
}

#[test]
fn aws_waf_block() {
    insta::assert_snapshot!(inspected(&aws_waf(), AWS));
}

#[test]
fn exchange_withdrawal() {
    insta::assert_snapshot!(inspected(&exchange_api(), API));
}

#[test]
fn canonical_names_need_no_mapping() {
    let record = r#"{"@timestamp":"2026-01-02T03:04:05Z","event.action":"login","client.ip":"203.0.113.9","user":{"id":"u"}}"#;
    let projection = ["event.action", "client.ip", "user.id", "@timestamp"];
    let expected = ["Text login", "Text 203.0.113.9", "Text u", "Text 2026-01-02T03:04:05.000000Z"];
    assert_eq!(cells(&exchange_api(), &projection, record), expected);
}

#[test]
fn values_of_another_type_are_missing_and_counted() {
    let mut decoder =
        Decoder::new(&exchange_api(), &fields(), &projection(&["client.port", "client.ip"]), [7; 32])
            .unwrap();
    let (mut out, mut dead) = (Vec::new(), Vec::new());
    decoder.decode(&batch([API.as_bytes(), API.as_bytes()]), &mut out, &mut dead);
    assert_eq!(out[0].columns()[0].cell(0).kind, Kind::Missing);
    assert_eq!(out[0].original().cell(0).kind, Kind::Missing);
    let failures: Vec<_> = decoder.cast_failures().map(|(name, n)| (name.to_string(), n)).collect();
    assert_eq!(failures, [("client.port".to_owned(), 2)]);
}

#[test]
fn what_may_be_shown_holds_no_secret() {
    let masked: Vec<String> = [(aws_waf(), AWS), (exchange_api(), API), (paloalto(), THREAT)]
        .iter()
        .map(|(def, record)| Inspector::new(def, &fields(), [7; 32]).unwrap().mask(record))
        .collect();
    for text in &masked {
        assert!(
            !text.contains("token=abc") && !text.contains("sid=1") && !text.contains("hunter2"),
            "{text}"
        );
    }
    insta::assert_snapshot!(masked.join("\n"));
}

#[test]
fn what_rules_search_holds_no_secret() {
    for (def, record) in [(aws_waf(), AWS), (exchange_api(), API), (paloalto(), THREAT)] {
        let mut decoder =
            Decoder::new(&def, &fields(), &projection(&[]), [7; 32]).unwrap().searched(&def, [7; 32]);
        let (mut out, mut dead) = (Vec::new(), Vec::new());
        decoder.decode(&batch([record.as_bytes()]), &mut out, &mut dead);
        let shown = Inspector::new(&def, &fields(), [7; 32]).unwrap().mask(record);
        assert_eq!(out[0].original().cell(0).text, shown);
    }
}

#[test]
fn the_form_tells_the_source() {
    let sources = Sources::new(fields(), vec![json(), paloalto(), aws_waf(), exchange_api()]);
    let name = |sample: &str| detect(sample.as_bytes(), &sources).map(|ix| sources.get(ix).name.to_string());
    assert_eq!(name(TRAFFIC).unwrap(), "paloalto");
    assert_eq!(name(AWS).unwrap(), "aws_waf");
    assert_eq!(name(API).unwrap(), "exchange_api");
    assert_eq!(name(r#"{"EventID":4624,"Computer":"x"}"#).unwrap(), "json");
    assert_eq!(name("hello"), None);
}

#[test]
fn all_fields_are_those_that_records_fill_and_what_is_left() {
    let names = |def: &SourceDef| crate::all_fields(def, &fields());
    for def in [json(), exchange_api(), aws_waf(), paloalto()] {
        let names = names(&def);
        let (left, others) = names.split_last().unwrap();
        assert_eq!(&**left, "event.unmapped", "{}", def.name);
        assert!(others.is_sorted_by(|a, b| a < b), "{}", def.name);
        for name in others {
            let own = name.starts_with("vedette.") || matches!(&**name, "event.original" | "event.unmapped");
            assert!(!own && !name.ends_with('*') && fields().kind(name).is_some(), "{}: {name}", def.name);
        }
        assert!(def.fields.keys().all(|name| others.iter().any(|other| **other == **name)), "{}", def.name);
    }
    let panos = names(&paloalto());
    assert!(panos.contains(&"panw.vsys_name".into()) && !panos.contains(&"user.id".into()));
    assert!(names(&exchange_api()).contains(&"destination.domain".into()), "a record may say it itself");
}

#[test]
fn the_fields_of_a_source_are_all_that_its_records_show_and_a_type_is_declared_for() {
    let shown = |def: &SourceDef, record: &str| {
        let mut inspector = Inspector::new(def, &fields(), [7; 32]).unwrap();
        inspector.inspect(0, Some(record.as_bytes())).unwrap().remove(0)
    };
    for (def, record) in
        [(paloalto(), TRAFFIC), (paloalto(), THREAT), (aws_waf(), AWS), (exchange_api(), API)]
    {
        let names = field_names(&def, &fields(), [record.as_bytes()]);
        for name in shown(&def, record).keys().filter(|name| !name.starts_with("vedette.")) {
            let known = fields().kind(name).is_some();
            assert_eq!(names.contains(name.as_str()), known, "{}: {name}", def.name);
        }
        assert!(names.iter().all(|name| fields().kind(name).is_some()), "{}: {names:?}", def.name);
    }
    let of = |def: &SourceDef, records: &[&str]| {
        let names = field_names(def, &fields(), records.iter().map(|record| record.as_bytes()));
        names.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let records = [r#"{"b": {"c": 1, "D": [2]}}"#, "broken", r#"{"a": {}, "b": null}"#];
    assert_eq!(of(&json(), &records), ["a", "b", "b.D", "b.c", "event.unmapped"]);
    assert_eq!(of(&json(), &[]), ["event.unmapped"]);
    assert!(of(&aws_waf(), &[]).iter().any(|name| name == "client.ip"));
    let header = of(&exchange_api(), &[r#"{"http.request.headers.x": "y"}"#]);
    assert!(header.contains(&"http.request.headers.x".to_owned()));
}
