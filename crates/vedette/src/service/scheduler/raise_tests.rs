//! Rows become alerts: who is one, in which order, how much of it, and under which id.
#![allow(clippy::unwrap_used)]

use vedette_event::Severity;
use vedette_store::model::{NewHuntSchedule, PassedOver};

use super::*;

pub(in super::super) const FROM: Micros = Micros(1_767_225_600_000_000);
const UNTIL: Micros = Micros(FROM.0 + 300_000_000);

pub(in super::super) fn schedule(entity: Option<&str>, most: u32) -> HuntSchedule {
    HuntSchedule {
        id: 3,
        schedule: NewHuntSchedule {
            hunt: 7,
            every: Span::secs(300),
            severity: Severity::High,
            title: "Rare paths".to_owned(),
            summary: None,
            entity: entity.map(str::to_owned),
            most,
        },
        name: "rare".to_owned(),
        sql: "select * from events".to_owned(),
        paused: false,
        created_by: "ann".to_owned(),
        created_at: FROM,
        next_from: FROM,
        tries: 0,
        last: None,
        fault: None,
        passed: PassedOver::default(),
    }
}

pub(in super::super) fn columns() -> Vec<Column> {
    let column = |(name, kind): (&str, &str)| Column { name: name.to_owned(), kind: kind.to_owned() };
    [
        ("@timestamp", "time"),
        ("source.ip", "ip"),
        ("vedette.source", "text"),
        ("vedette.topic", "text"),
        ("vedette.partition", "i32"),
        ("vedette.offset", "i64"),
        ("vedette.clock", "text"),
        ("url.path", "text"),
    ]
    .map(column)
    .into()
}

pub(in super::super) fn row(ip: &str, offset: i64) -> Vec<Json> {
    let time = FROM.plus(Span::secs(offset)).to_string();
    vec![json!(time), json!(ip), json!("waf"), json!("t"), json!(0), json!(offset), Json::Null, json!("/x")]
}

fn raised(of: &HuntSchedule, columns: &[Column], rows: Vec<Vec<Json>>) -> Vec<Alert> {
    let basis = Basis { complete_through: Some(UNTIL), ..Basis::default() };
    let mut found = Found {
        schedule: of,
        window: (FROM, UNTIL),
        columns,
        rows,
        more: false,
        basis: &basis,
        at: UNTIL,
        complete: true,
    };
    let alerts = alerts(&mut found).unwrap();
    alerts.iter().map(|row| serde_json::from_str(&row.body).unwrap()).collect()
}

fn ids(alerts: &[Alert]) -> Vec<&str> {
    alerts.iter().map(|alert| &*alert.alert_id).collect()
}

#[test]
fn one_entity_is_one_alert_with_its_rows_as_evidence() {
    let mut rows: Vec<_> = (0..12).rev().map(|n| row("203.0.113.7", n)).collect();
    rows.push(row("203.0.113.8", 20));
    rows[0][6] = json!("clock=late");
    let alerts = raised(&schedule(Some("source.ip"), 20), &columns(), rows);
    let [busy, other] = &alerts[..] else { panic!("{alerts:?}") };
    assert_eq!((&*busy.rule.id, &*busy.rule.kind, &*busy.rule.title), ("hunt:7", "hunt", "Rare paths"));
    assert_eq!((busy.revision, busy.state, busy.count, busy.evidence_total), (1, State::Ended, 12, 12));
    assert_eq!(busy.entity.as_ref().unwrap().value.text(), "203.0.113.7");
    let offsets: Vec<i64> = busy.evidence.iter().map(|of| of.offset).collect();
    assert_eq!(offsets, [0, 1, 2, 3, 4, 7, 8, 9, 10, 11]);
    assert_eq!((busy.first_seen, busy.last_seen), (FROM, FROM.plus(Span::secs(11))));
    assert_eq!(busy.flags, Flags::HUNT.with(Flags::CLOCK_LATE));
    assert_eq!(busy.summary, "Rare paths: 203.0.113.7 found by a scheduled hunt, 12 rows");
    let told = &busy.explanation.details;
    assert_eq!(told["type"], "hunt");
    assert_eq!((&told["window_start"], &told["window_end"]), (&json!(FROM), &json!(UNTIL)));
    assert_eq!((&told["complete_through"], &told["complete"]), (&json!(UNTIL), &json!(true)));
    assert_eq!((&told["sql"], &told["rows_total"]), (&json!("select * from events"), &json!(12)));
    assert_eq!(told["rows"].as_array().unwrap().len(), ROWS);
    assert_eq!(told["rows"][0]["url.path"], "/x");
    assert_eq!((other.count, other.evidence.len(), other.flags), (1, 1, Flags::HUNT));
}

#[test]
fn ids_follow_from_hunt_text_entity_and_window_alone() {
    let of = schedule(Some("source.ip"), 20);
    let rows = || vec![row("203.0.113.7", 1), row("203.0.113.8", 2), row("203.0.113.7", 3)];
    let first = raised(&of, &columns(), rows());
    let again = raised(&of, &columns(), rows().into_iter().rev().collect());
    assert_eq!(first, again);
    let mut fewer = rows();
    fewer.pop();
    assert_eq!(ids(&raised(&of, &columns(), fewer)), ids(&first));
    // Another schedule of the same hunt, made anew, is the same; another text or hunt is not.
    let mut anew = schedule(Some("source.ip"), 20);
    anew.id = 9;
    assert_eq!(ids(&raised(&anew, &columns(), rows())), ids(&first));
    let mut other = of.clone();
    other.sql.push(' ');
    assert!(ids(&raised(&other, &columns(), rows())).iter().all(|id| !ids(&first).contains(id)));
    assert_ne!(raised(&other, &columns(), rows())[0].rule.version, first[0].rule.version);
    other = of;
    other.schedule.hunt = 8;
    assert!(ids(&raised(&other, &columns(), rows())).iter().all(|id| !ids(&first).contains(id)));
}

#[test]
fn what_is_beyond_the_most_is_one_alert_that_says_so() {
    let rows = (0..5).map(|n| row(&format!("203.0.113.{n}"), n)).collect();
    let alerts = raised(&schedule(Some("source.ip"), 2), &columns(), rows);
    let [_, _, rest] = &alerts[..] else { panic!("{alerts:?}") };
    assert_eq!((rest.count, rest.key.len(), rest.flags), (3, 0, Flags::HUNT.with(Flags::STORM)));
    assert_eq!(rest.explanation.details["entities_total"], 3);
    assert_eq!(rest.explanation.details["entities"], json!(["203.0.113.2", "203.0.113.3", "203.0.113.4"]));
    // Rows without an entity are another one.
    let mut rows: Vec<_> = (0..2).map(|n| row(&format!("203.0.113.{n}"), n)).collect();
    rows.push(row("", 7));
    let alerts = raised(&schedule(Some("source.ip"), 2), &columns(), rows);
    assert_eq!(alerts.len(), 3);
    let keyless: Vec<_> = alerts.iter().filter(|alert| alert.key.is_empty()).collect();
    assert_eq!(keyless.len(), 1);
    assert!(keyless[0].entity.is_none());
}

#[test]
fn rows_without_places_are_in_the_body_and_hostile_ones_are_bounded() {
    let of = schedule(None, 20);
    let columns: Vec<Column> =
        ["n", "text", "list"].map(|name| Column { name: name.to_owned(), kind: "text".to_owned() }).into();
    let long = "<é>".repeat(100_000);
    let rows = (0..500).map(|n| vec![json!(n), json!(long), json!([long.clone()])]).collect();
    let alerts = raised(&of, &columns, rows);
    let [alert] = &alerts[..] else { panic!("{} alerts", alerts.len()) };
    assert_eq!((alert.count, alert.evidence.len(), alert.evidence_total), (500, 0, 0));
    assert_eq!((alert.first_seen, alert.last_seen), (FROM, UNTIL.minus(Span(1))));
    let body = serde_json::to_string(alert).unwrap();
    assert!(body.len() < 48 << 10, "{}", body.len());
    assert!(!alert.explanation.details["rows"].as_array().unwrap().is_empty());
    assert!(raised(&of, &columns, Vec::new()).is_empty());
}

#[test]
fn a_column_that_is_not_there_is_said_with_those_that_are() {
    let of = schedule(Some("client.ip"), 20);
    let (columns, basis) = (columns(), Basis::default());
    let mut found = Found {
        schedule: &of,
        window: (FROM, UNTIL),
        columns: &columns,
        rows: Vec::new(),
        more: false,
        basis: &basis,
        at: UNTIL,
        complete: true,
    };
    let wrong = alerts(&mut found).unwrap_err();
    assert!(wrong.contains("no column `client.ip`") && wrong.contains("source.ip"), "{wrong}");
}
