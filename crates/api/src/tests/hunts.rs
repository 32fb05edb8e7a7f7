//! Hunts over HTTP: who may, how many, how they end, and what is noted of each. Who answers is a stand-in that can be late, long and broken;
//! real answers are asked for in the tests of the program.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    http::{StatusCode, header},
};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower::ServiceExt as _;
use vedette_event::Micros;
use vedette_store::model::{AuditEntry, AuditQuery, Role};

use super::{Api, NOON, empty, request};
use crate::{
    auth,
    hunts::{
        Basis, Begun, Column, ColumnSchema, Figures, Form, FunctionSchema, HuntSchema, Hunts, Piece,
        Question, Refusal, SourceSchema, TableSchema, Why,
    },
};

/// Answers by what the text begins with; `stopped` tells that one was stopped.
pub(super) fn stand_in(stopped: Arc<AtomicBool>) -> Hunts {
    Hunts::new(move |question| answer(question, stopped.clone()), || Ok(schema()))
}

pub(super) fn schema() -> HuntSchema {
    let column = |name: &str, kind: &str| ColumnSchema {
        column: Column { name: name.to_owned(), kind: kind.to_owned() },
        description: "what it means".to_owned(),
        sources: vec!["waf".to_owned()],
    };
    let columns = [
        ("@timestamp", "time"),
        ("client.ip", "ip"),
        ("source.ip", "ip"),
        ("user.name", "text"),
        ("url.path", "text"),
    ];
    HuntSchema {
        tables: vec![TableSchema {
            name: "events".to_owned(),
            description: "all".to_owned(),
            columns: columns.map(|(name, kind)| column(name, kind)).to_vec(),
        }],
        functions: vec![FunctionSchema {
            name: "match".to_owned(),
            usage: "match(text, 'words')".to_owned(),
            description: "d".to_owned(),
        }],
        sources: vec![SourceSchema {
            name: "waf".to_owned(),
            description: "d".to_owned(),
            logsource: [("category".to_owned(), "waf".to_owned())].into(),
        }],
    }
}

async fn answer(question: Question, stopped: Arc<AtomicBool>) -> Result<Begun, Refusal> {
    if question.sql.starts_with("selct") {
        return Err(Refusal {
            why: Why::Query,
            message: "this is no SQL: expected an SQL statement, found `selct`".to_owned(),
            place: Some((1, 1)),
            pointed: Some("  selct\n  ^".to_owned()),
        });
    }
    let names_originals = question.sql.contains("event.original");
    if names_originals && !question.originals {
        let message = "`event.original` needs the permission `originals`".to_owned();
        return Err(Refusal { why: Why::Forbidden, message, place: None, pointed: None });
    }
    let (out, pieces) = mpsc::channel(2);
    let stop = Arc::new(tokio::sync::Notify::new());
    let (woken, flag) = (stop.clone(), stopped);
    tokio::spawn(async move {
        let endless = question.sql.starts_with("select endless");
        let rows = if endless { u64::MAX } else { 3 };
        for n in 0..rows {
            let row = row(n, names_originals);
            let piece = match question.form {
                Form::Values => Piece::Values(vec![row]),
                _ => Piece::Written(1, format!("{{\"n\":{n}}}\n").into_bytes()),
            };
            let sent = tokio::select! {
                biased;
                () = stop.notified() => {
                    let refusal = Refusal { why: Why::Stopped, message: "stopped".to_owned(), place: None, pointed: None };
                    let _ = out.try_send(Piece::Failed(refusal));
                    return;
                }
                sent = out.send(piece) => sent,
            };
            if sent.is_err() {
                return;
            }
            if endless {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        if question.sql.starts_with("select broken") {
            let message = "the query took longer than 60 s and was stopped".to_owned();
            let _ = out
                .send(Piece::Failed(Refusal { why: Why::Time, message, place: None, pointed: None }))
                .await;
            return;
        }
        let written = if question.form == Form::Arrow { b"END".to_vec() } else { Vec::new() };
        let _ = out.send(Piece::End { more: question.rows < 4, written }).await;
    });
    Ok(Begun {
        columns: columns(names_originals),
        basis: Basis {
            complete_through: Some(NOON),
            reaches_back_to: Some(Micros(NOON.0 - 3_600_000_000)),
            missing: vec!["records 3 to 5 of partition 0 of waf".to_owned()],
            files: 4,
            events: 100,
        },
        pieces,
        figures: Arc::new(|| Figures {
            bytes_read: 4_096,
            files_read: 1,
            files_skipped: 3,
            parts_read: 1,
            parts_skipped: 2,
        }),
        stop: Arc::new(move || {
            flag.store(true, Ordering::SeqCst);
            woken.notify_one();
        }),
    })
}

fn columns(originals: bool) -> Vec<Column> {
    let all = [("@timestamp", "time"), ("client.ip", "ip"), ("url.path", "text"), ("event.original", "text")];
    let column = |(name, kind): &(&str, &str)| Column { name: (*name).to_owned(), kind: (*kind).to_owned() };
    all.iter().take(if originals { 4 } else { 3 }).map(column).collect()
}

fn row(n: u64, original: bool) -> Vec<Value> {
    let time = json!(Micros(NOON.0 + n as i64).to_string());
    let mut row = vec![time, json!("203.0.113.9"), json!(format!("/<b>'{n}"))];
    if original {
        row.push(json!(format!("<14> it's {n} & \"more\"")));
    }
    row
}

async fn hunting() -> (Api, Arc<AtomicBool>) {
    let stopped = Arc::new(AtomicBool::new(false));
    let flag = stopped.clone();
    (empty(move |app| app.hunts = Some(stand_in(flag))).await, stopped)
}

async fn ask(api: &Api, body: Value, accept: &str) -> super::Answer {
    let request = request("POST", "/api/v1/hunts")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, accept);
    api.send(request.body(body.to_string().into()).unwrap()).await
}

async fn noted(api: &Api) -> Vec<AuditEntry> {
    let query = AuditQuery { limit: 50, ..AuditQuery::default() };
    let mut entries = api.store.audit(&query).await.unwrap().items;
    entries.retain(|entry| entry.action.starts_with("hunt_"));
    entries.reverse();
    entries
}

/// Waits until the log has so many entries of hunts: the last one is written by nobody's leave.
async fn noted_in_the_end(api: &Api, wanted: usize) -> Vec<AuditEntry> {
    for _ in 0..500 {
        let entries = noted(api).await;
        if entries.len() >= wanted {
            return entries;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?}", noted(api).await)
}

#[tokio::test]
async fn rows_come_as_lines_and_the_last_line_says_what_they_rest_on() {
    let (api, _) = hunting().await;
    let answer = ask(&api, json!({"sql": "select 1", "limit": 3}), "*/*").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!(answer.header(header::CONTENT_TYPE), "application/x-ndjson");
    assert_eq!(answer.headers["vedette-missing"], "1");
    assert_eq!(answer.headers["vedette-complete-through"], NOON.to_string().as_str());
    let text = answer.text();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[..3], [json!({"n": 0}), json!({"n": 1}), json!({"n": 2})]);
    let told = &lines[3]["vedette.hunt"];
    for (member, expected) in [
        ("state", json!("done")),
        ("rows", json!(3)),
        ("more", json!(true)),
        ("complete_through", json!(NOON)),
        ("bytes_read", json!(4_096)),
        ("files_read", json!(1)),
        ("files_skipped", json!(3)),
        ("missing", json!(["records 3 to 5 of partition 0 of waf"])),
        ("problem", Value::Null),
    ] {
        assert_eq!(told[member], expected, "{member}: {told}");
    }
    let id = answer.headers["vedette-hunt"].to_str().unwrap();
    let known = api.get(&format!("/api/v1/hunts/{id}")).await.json();
    assert_eq!(known["state"], "done");
    assert_eq!(api.get("/api/v1/hunts").await.json()["items"][0], known);
    let entries = noted(&api).await;
    assert_eq!(entries.len(), 2);
    assert_eq!((&*entries[0].action, &*entries[1].action), ("hunt_begun", "hunt_ended"));
    let (asked, ended): (Value, Value) = (
        serde_json::from_str(entries[0].to.as_deref().unwrap()).unwrap(),
        serde_json::from_str(entries[1].to.as_deref().unwrap()).unwrap(),
    );
    assert_eq!((&asked["sql"], &asked["limit"]), (&json!("select 1"), &json!(3)));
    assert_eq!(
        (&ended["state"], &ended["rows"], &ended["bytes_read"]),
        (&json!("done"), &json!(3), &json!(4_096))
    );
}

#[tokio::test]
async fn the_form_is_the_one_that_is_accepted() {
    let (api, _) = hunting().await;
    for (accept, media, end) in [
        ("text/csv", "text/csv", "{\"n\":2}\n"),
        ("text/html, text/csv;q=0.5", "text/csv", "{\"n\":2}\n"),
        ("*/*;q=0.1, text/csv; q=0.9", "text/csv", "{\"n\":2}\n"),
        ("text/csv;q=0, application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.stream", "END"),
        ("application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.stream", "END"),
    ] {
        let answer = ask(&api, json!({"sql": "select 1"}), accept).await;
        assert_eq!(answer.header(header::CONTENT_TYPE), media);
        assert!(answer.text().ends_with(end), "{}", answer.text());
    }
    for none in ["text/html", "text/csv;q=0"] {
        let refused = ask(&api, json!({"sql": "select 1"}), none).await;
        assert_eq!(refused.status, StatusCode::NOT_ACCEPTABLE);
    }
    assert_eq!(noted(&api).await.len(), 10, "what is refused before it is asked is no hunt");
}

#[tokio::test]
async fn what_cannot_be_asked_is_a_problem_with_its_place() {
    let (api, _) = hunting().await;
    let refused = ask(&api, json!({"sql": "selct"}), "*/*").await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    let problem = refused.json();
    assert_eq!(problem["type"], "urn:vedette:problem:invalid-query");
    assert_eq!((&problem["line"], &problem["column"]), (&json!(1), &json!(1)));
    assert_eq!(problem["pointed"], "  selct\n  ^");
    let ended: Value = serde_json::from_str(noted(&api).await[1].to.as_deref().unwrap()).unwrap();
    assert_eq!(ended["state"], "failed");
    for wrong in [
        json!({"sql": " "}),
        json!({"sql": "x".repeat(70_000)}),
        json!({"sql": "select 1", "limit": 0}),
        json!({"sql": "select 1", "limit": 1_000_001}),
        json!({"sql": "select 1", "since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}),
        json!({"sql": "select 1", "since": "yesterday"}),
        json!({"sql": "select 1", "file": "/etc/passwd"}),
    ] {
        let answer = ask(&api, wrong.clone(), "*/*").await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    for (wrong, told) in [
        (json!([1]), "expected a string"),
        (json!({"sql": 5}), "invalid type: integer `5`, expected a string at line 1"),
        (json!(5), "invalid type: integer `5`, expected an object at line 1"),
        (json!({"sql": "select 1", "limit": -1}), "expected a whole number that is not negative at line 1"),
        (json!({}), "`sql` is missing at line 1"),
    ] {
        let detail = ask(&api, wrong.clone(), "*/*").await.json()["detail"].to_string();
        assert!(detail.contains(told), "{wrong}: {detail}");
    }
    let none = empty(|_| {}).await;
    assert_eq!(ask(&none, json!({"sql": "select 1"}), "*/*").await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn an_answer_that_breaks_off_says_so() {
    let (api, _) = hunting().await;
    let lines = ask(&api, json!({"sql": "select broken"}), "*/*").await.text();
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(last["vedette.hunt"]["state"], "failed");
    assert_eq!(last["vedette.hunt"]["problem"]["type"], "urn:vedette:problem:timeout");
    // Others end before their end.
    let request = request("POST", "/api/v1/hunts")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "text/csv");
    let request = request.body(Body::from(json!({"sql": "select broken"}).to_string())).unwrap();
    let response = api.router.clone().oneshot(request).await.unwrap();
    let pieces: Vec<_> = response.into_body().into_data_stream().collect().await;
    assert!(pieces.last().unwrap().is_err());
}

#[tokio::test]
async fn a_hunt_ends_when_its_asker_goes_and_when_somebody_stops_it() {
    let (api, stopped) = hunting().await;
    let begin = async || {
        let request = request("POST", "/api/v1/hunts").header(header::CONTENT_TYPE, "application/json");
        let request = request.body(Body::from(json!({"sql": "select endless"}).to_string())).unwrap();
        let response = api.router.clone().oneshot(request).await.unwrap();
        let id = response.headers()["vedette-hunt"].to_str().unwrap().to_owned();
        (id, response.into_body().into_data_stream())
    };
    let (id, mut body) = begin().await;
    body.next().await.unwrap().unwrap();
    let running = api.get(&format!("/api/v1/hunts/{id}")).await.json();
    assert_eq!((&running["state"], &running["more"]), (&json!("running"), &Value::Null));
    drop(body);
    let entries = noted_in_the_end(&api, 2).await;
    assert!(entries[1].to.as_deref().unwrap().contains("abandoned"), "{entries:?}");
    assert!(stopped.swap(false, Ordering::SeqCst));

    let (id, body) = begin().await;
    assert_eq!(
        api.json("DELETE", &format!("/api/v1/hunts/{id}"), Value::Null).await.status,
        StatusCode::NO_CONTENT
    );
    let text: Vec<_> = body.map(|piece| piece.unwrap()).collect().await;
    let text = String::from_utf8(text.concat()).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["vedette.hunt"]["state"], "stopped");
    assert!(stopped.load(Ordering::SeqCst));
    assert_eq!(api.json("DELETE", "/api/v1/hunts/99", Value::Null).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn so_many_are_under_way_and_each_caller_sees_its_own() {
    let api = empty(|app| {
        app.hunts = Some(stand_in(Arc::default()));
        app.open = false;
    })
    .await;
    let mut tokens = Vec::new();
    for (name, role) in [
        ("ann", Role::Analyst),
        ("bob", Role::Analyst),
        ("eve", Role::Analyst),
        ("root", Role::Admin),
        ("rea", Role::Reader),
    ] {
        let token = auth::create_token().unwrap();
        api.store.create_token(name, role, token.hash, "test").await.unwrap();
        tokens.push(token.text);
    }
    let send = async |token: &str, method: &str, path: &str, body: Value| {
        let request = request(method, path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {token}"));
        let request = request.body(Body::from(body.to_string())).unwrap();
        api.router.clone().oneshot(request).await.unwrap()
    };
    // The last of them is known a moment after it was made.
    while send(&tokens[4], "GET", "/api/v1/account", Value::Null).await.status() != StatusCode::OK {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let endless = json!({"sql": "select endless"});
    let mut open = Vec::new();
    for (who, status) in [(0, 200), (0, 200), (0, 429), (1, 200), (1, 200), (2, 429), (4, 403)] {
        let answer = send(&tokens[who], "POST", "/api/v1/hunts", endless.clone()).await;
        assert_eq!(answer.status().as_u16(), status, "{who}");
        open.push(answer);
    }
    let id = open[0].headers()["vedette-hunt"].to_str().unwrap().to_owned();
    let path = format!("/api/v1/hunts/{id}");
    for (who, status) in [(0, 200), (1, 404), (3, 200), (4, 403)] {
        assert_eq!(send(&tokens[who], "GET", &path, Value::Null).await.status().as_u16(), status, "{who}");
    }
    assert_eq!(send(&tokens[1], "DELETE", &path, Value::Null).await.status().as_u16(), 404);
    // A place is free again once its end is noted.
    drop(open);
    noted_in_the_end(&api, 8).await;
    let again = send(&tokens[2], "POST", "/api/v1/hunts", json!({"sql": "select 1"})).await;
    assert_eq!(again.status().as_u16(), 200);
}

#[tokio::test]
async fn records_as_they_came_have_a_permission_of_their_own() {
    let stopped = Arc::new(AtomicBool::new(false));
    let api = empty(move |app| {
        app.hunts = Some(stand_in(stopped));
        app.open = false;
    })
    .await;
    let mut tokens = Vec::new();
    for (name, role) in [("ann", Role::Analyst), ("eng", Role::Engineer)] {
        let token = auth::create_token().unwrap();
        api.store.create_token(name, role, token.hash, "test").await.unwrap();
        tokens.push(token.text);
    }
    let send = async |token: &str, method: &str, path: &str, body: Body| {
        let request = request(method, path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, if path.starts_with("/api") { "*/*" } else { "text/html" })
            .header(header::AUTHORIZATION, format!("Bearer {token}"));
        let answer = api.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    while send(&tokens[1], "GET", "/api/v1/account", Body::empty()).await.0 != 200 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let sql = json!({"sql": "select event.original from events"}).to_string();
    let (status, said) = send(&tokens[0], "POST", "/api/v1/hunts", sql.clone().into()).await;
    assert!(status == 403 && said.contains("the permission `originals`"), "{status} {said}");
    let entries = noted_in_the_end(&api, 2).await;
    let ended: Value = serde_json::from_str(entries[1].to.as_deref().unwrap()).unwrap();
    assert_eq!((&*entries[1].actor, &ended["state"], &ended["rows"]), ("ann", &json!("failed"), &json!(0)));
    assert!(entries[0].to.as_deref().unwrap().contains("event.original"), "{entries:?}");
    assert_eq!(send(&tokens[1], "POST", "/api/v1/hunts", sql.into()).await.0, 200);
    let page = "/hunt/event?topic=fw&partition=0&offset=7&index=0";
    let (status, shown) = send(&tokens[1], "GET", page, Body::empty()).await;
    assert!(status == 200 && shown.contains("&#60;14&#62; it&#39;s 0 &#38; &#34;more&#34;"), "{shown}");
    assert!(!shown.contains(">event.original<"), "it is no field: {shown}");
    let (status, shown) = send(&tokens[0], "GET", page, Body::empty()).await;
    assert!(status == 200 && !shown.contains("14&#62;") && shown.contains("permission"), "{shown}");
}

#[tokio::test]
async fn hunts_are_kept_by_name() {
    let (api, _) = hunting().await;
    let body =
        json!({"name": "rare paths", "sql": "select url.path from events", "span": "24h", "shared": true});
    let made = api.json("POST", "/api/v1/hunts/saved", body.clone()).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
    let id = made.json()["saved_hunt_id"].as_i64().unwrap();
    assert_eq!(api.get("/api/v1/hunts/saved").await.json()["items"][0], made.json());
    assert_eq!(api.json("POST", "/api/v1/hunts/saved", body).await.status, StatusCode::CONFLICT);
    for wrong in [
        json!({"name": "", "sql": "select 1"}),
        json!({"name": "x", "sql": ""}),
        json!({"name": "x", "sql": "s", "span": "soon"}),
    ] {
        assert_eq!(api.json("POST", "/api/v1/hunts/saved", wrong).await.status, StatusCode::BAD_REQUEST);
    }
    let path = format!("/api/v1/hunts/saved/{id}");
    assert_eq!(api.json("DELETE", &path, Value::Null).await.status, StatusCode::NO_CONTENT);
    assert_eq!(api.json("DELETE", &path, Value::Null).await.status, StatusCode::NOT_FOUND);
    let schema = api.get("/api/v1/hunts/schema").await.json();
    assert_eq!(
        schema["tables"][0]["columns"][1],
        json!({"name": "client.ip", "type": "ip", "description": "what it means", "sources": ["waf"]})
    );
}
