//! Queries over events that stand in the memory, as they would over those of files or of the lake.

#![allow(clippy::unwrap_used)]

mod bucket;
mod compaction;
mod conversion;
mod faulty;
mod functions;
mod hostile;
mod lake;
mod limits;
mod live;
mod names;
mod originals;
mod recall;
mod refusals;
mod sizes;
mod skipping;
mod tables;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::StreamExt as _;
use serde_json::{Value, json};
use vedette_event::{
    BatchBuilder, Cell, EventBatch, FieldType, Fields, Kind, Micros, Partition, Projection, SourceIx,
    TopicIx, schema::FieldDef,
};

use crate::{Answer, Batches, Columns, Converter, Error, Limits, Open, Origin, Query, Supply};

pub const PARTITION: Partition = Partition { topic: TopicIx(0), number: 3 };
/// 2026-01-01T12:00:00Z.
pub const NOON: i64 = 1_767_268_800_000_000;

/// Declared fields, as `fields.yml` has them.
pub fn declared() -> Fields {
    let all = [
        ("source.ip", FieldType::Ip),
        ("source.port", FieldType::U16),
        ("destination.port", FieldType::U16),
        ("source.bytes", FieldType::U64),
        ("user.name", FieldType::Text),
        ("url.original", FieldType::Text),
        ("related.ip", FieldType::List),
        ("message", FieldType::Text),
        ("rule.name", FieldType::Text),
        ("amount", FieldType::Decimal),
        ("score", FieldType::F64),
        ("level", FieldType::I64),
        ("asn", FieldType::U32),
        ("ok", FieldType::Bool),
        ("seen", FieldType::Time),
        ("labels.*", FieldType::Text),
    ];
    let def = |kind| FieldDef { kind, description: "d".to_owned() };
    Fields(all.into_iter().map(|(name, kind)| (name.to_owned(), def(kind))).collect::<BTreeMap<_, _>>())
}

/// Events of these rows: for each the cells that it has.
pub fn events(projection: &Arc<Projection>, rows: &[Vec<(&str, Kind, &str)>]) -> EventBatch {
    let mut batch = BatchBuilder::new(projection.clone());
    for (row, cells) in rows.iter().enumerate() {
        for (name, kind, text) in cells {
            let at = projection.fields().iter().position(|field| &**field == *name);
            if let Some(at) = at {
                batch.put(at, Cell { kind: *kind, text });
            }
        }
        let time = Micros(NOON + row as i64 * 60_000_000);
        batch.end_row(row as i64 * 10, 0, row as u32, (row != 4).then_some(time));
    }
    batch.finish(SourceIx(0), PARTITION)
}

pub fn origin() -> Origin {
    Origin { source: "fw".into(), topic: "a.log".into(), partition: 3 }
}

/// Six events of a firewall.
fn rows() -> Vec<Vec<(&'static str, Kind, &'static str)>> {
    use Kind::{Bool, Float, Int, List, Null, Text};
    vec![
        vec![
            ("source.ip", Text, "10.0.0.1"),
            ("destination.port", Int, "443"),
            ("source.bytes", Int, "100"),
            ("user.name", Text, "ann"),
            ("message", Text, "GET /etc/passwd"),
            ("related.ip", List, r#"["10.0.0.1","2001:db8::1"]"#),
            ("ok", Bool, "true"),
        ],
        vec![
            ("source.ip", Text, "10.0.0.2"),
            ("destination.port", Int, "22"),
            ("source.bytes", Int, "18446744073709551615"),
            ("user.name", Text, "bob"),
            ("amount", Float, "0.000000000000000001"),
        ],
        vec![
            ("source.ip", Text, "10.0.0.1"),
            ("destination.port", Int, "443"),
            ("source.bytes", Int, "50"),
            ("message", Text, "select source.ip from events"),
            ("score", Float, "0.5"),
        ],
        vec![("source.ip", Text, "2001:db8::1"), ("destination.port", Int, "443"), ("user.name", Null, "")],
        vec![("source.ip", Text, "192.0.2.7"), ("rule.name", Text, "a 'rule'")],
        vec![("Upper.Case", Text, "x"), ("message", Text, "")],
    ]
}

/// How often events were asked for, and which fields the last time.
#[derive(Default)]
pub struct Asked {
    pub times: AtomicUsize,
    pub fields: std::sync::Mutex<Vec<String>>,
}

/// The columns of the events, those of some rules among them.
pub fn columns(rules: &[String]) -> Columns {
    let declared = declared();
    let names = declared.0.keys().map(String::as_str).filter(|name| !name.ends_with('*'));
    Columns::new(names.chain(["Upper.Case"]), &declared, true, rules)
}

/// Who gives the six events, `times` over; rule `n` matches rows from `n` on.
pub fn giver(times: usize, asked: Arc<Asked>) -> Open {
    Arc::new(move |mut converter: Converter| {
        asked.times.fetch_add(1, Ordering::Relaxed);
        *asked.fields.lock().unwrap() = converter.fields().map(ToString::to_string).collect();
        let projection = Projection::new(converter.fields().cloned());
        let batch = events(&projection, &rows());
        let batches = (0..times).map(move |_| {
            let matches = |rule: usize| (rule as u32..6).collect();
            converter.convert(&batch, &origin(), matches).map_err(Into::into)
        });
        let batches: Batches = futures::stream::iter(batches).boxed();
        Ok(batches)
    })
}

pub fn begin(sql: &str, times: usize, limits: Limits, asked: Arc<Asked>) -> Result<Answer, Error> {
    let query = Query::new(sql)?;
    let columns = columns(query.rules());
    query.ask(columns, Supply::Given(giver(times, asked)), limits)
}

/// All rows of an answer, each as an object.
pub fn all(mut answer: Answer) -> Result<Vec<Value>, Error> {
    let mut rows = Vec::new();
    let names = answer.columns().to_vec();
    while let Some(some) = answer.next()? {
        let columns: Vec<Vec<Value>> = (0..names.len()).map(|at| some.column(at).collect()).collect();
        for row in 0..some.len() {
            let members =
                names.iter().zip(&columns).map(|(name, column)| (name.clone(), column[row].clone()));
            rows.push(Value::Object(members.collect()));
        }
    }
    Ok(rows)
}

/// The answer to a query over the six events.
pub fn ask(sql: &str) -> Result<Vec<Value>, Error> {
    all(begin(sql, 1, Limits::default(), Arc::default())?)
}

/// The one value of the answer to a query, or the error in words.
pub fn one(sql: &str) -> Value {
    let rows = match ask(sql) {
        Ok(rows) => rows,
        Err(error) => return format!("error: {error}").into(),
    };
    let row = rows.first().cloned().unwrap_or(json!({}));
    row.as_object().and_then(|row| row.values().next().cloned()).unwrap_or(Value::Null)
}

/// The error of a query.
pub fn error(sql: &str) -> Error {
    match ask(sql) {
        Err(error) => error,
        Ok(rows) => panic!("`{sql}` is answered: {rows:?}"),
    }
}

#[test]
fn a_query_is_answered() {
    let rows = ask(
        "select source.ip, count(*) as n from events where destination.port = 443 group by source.ip order by n desc, source.ip",
    );
    assert_eq!(
        Value::from(rows.unwrap()),
        json!([{"source.ip": "10.0.0.1", "n": 2}, {"source.ip": "2001:db8::1", "n": 1}])
    );
}

#[test]
fn all_columns_are_typed_and_named() {
    let rows = ask("select * from events limit 2").unwrap();
    let first = rows[0].as_object().unwrap();
    assert_eq!(first["vedette.source"], "fw");
    assert_eq!(first["vedette.topic"], "a.log");
    assert_eq!(first["vedette.partition"], 3);
    assert_eq!((&first["vedette.offset"], &first["vedette.index"]), (&json!(0), &json!(0)));
    assert_eq!(first["@timestamp"], "2026-01-01T12:00:00.000000Z");
    assert_eq!((&first["destination.port"], &first["ok"]), (&json!(443), &json!(true)));
    assert_eq!(first["related.ip"], json!(["10.0.0.1", "2001:db8::1"]));
    assert_eq!(first["amount"], Value::Null);
    assert_eq!(rows[1]["source.bytes"], json!(u64::MAX));
    assert_eq!(rows[1]["amount"], "0.000000000000000001");
    assert_eq!(first.len(), columns(&[]).shown().count());
}

#[test]
fn only_the_columns_that_a_query_needs_are_asked_for() {
    for (sql, fields) in [
        ("select count(*) from events", &[][..]),
        ("select user.name from events where destination.port = 443", &["destination.port", "user.name"]),
        ("select count(*) from events where \"@timestamp\" is not null", &[]),
        ("select max(source.bytes) from (select * from events) e", &["source.bytes"]),
    ] {
        let asked = Arc::<Asked>::default();
        all(begin(sql, 1, Limits::default(), asked.clone()).unwrap()).unwrap();
        let mut got = asked.fields.lock().unwrap().clone();
        got.sort();
        assert_eq!(got, fields, "{sql}");
    }
}

#[test]
fn events_can_be_read_more_than_once() {
    let asked = Arc::<Asked>::default();
    let sql = "select count(*) from events a join events b on a.source.ip = b.source.ip";
    let rows = all(begin(sql, 1, Limits::default(), asked.clone()).unwrap()).unwrap();
    assert_eq!(rows[0].as_object().unwrap().values().next(), Some(&json!(7)));
    assert_eq!(asked.times.load(Ordering::Relaxed), 2);
}

#[test]
fn rows_come_in_the_order_of_the_events() {
    let rows =
        all(begin("select vedette.offset from events", 50, Limits::default(), Arc::default()).unwrap());
    let offsets: Vec<i64> = rows.unwrap().iter().map(|row| row["vedette.offset"].as_i64().unwrap()).collect();
    assert_eq!(offsets, [0, 10, 20, 30, 40, 50].repeat(50));
}
