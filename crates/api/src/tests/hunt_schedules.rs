//! Scheduled hunts: over the API, on the Hunt page, and the alerts that they raise on theirs.

use axum::http::{StatusCode, header};
use serde_json::{Value, json};
use vedette_event::{Alert, Span};
use vedette_store::model::{AlertRevision, HuntOutcome, HuntRun};

use super::{
    Api, NOON,
    hunt_page::{form, hunting},
};

async fn keep(api: &Api, name: &str, shared: bool) -> i64 {
    let body = json!({"name": name, "sql": "select 1", "shared": shared});
    let made = api.json("POST", "/api/v1/hunts/saved", body).await;
    made.json()["saved_hunt_id"].as_i64().unwrap()
}

const PATH: &str = "/api/v1/hunts/schedules";

#[tokio::test]
async fn a_kept_hunt_is_scheduled_paused_and_unscheduled() {
    let api = hunting().await;
    let hunt = keep(&api, "rare paths", true).await;
    let body = json!({"saved_hunt_id": hunt, "every": "15m", "severity": "high", "entity": "source.ip"});
    let made = api.json("POST", PATH, body.clone()).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
    let made = made.json();
    for (member, expected) in [
        ("every", json!("15m")),
        ("title", json!("rare paths")),
        ("sql", json!("select 1")),
        ("most_alerts", json!(20)),
        ("paused", json!(false)),
        ("last_run", Value::Null),
        ("error", Value::Null),
        ("passed_over", Value::Null),
    ] {
        assert_eq!(made[member], expected, "{member}: {made}");
    }
    assert_eq!(api.get(PATH).await.json()["items"], json!([made]));
    assert_eq!(api.json("POST", PATH, body).await.status, StatusCode::CONFLICT);
    let own = format!("{PATH}/{}", made["schedule_id"]);
    let paused = api.json("PATCH", &own, json!({"paused": true})).await;
    assert_eq!((paused.status, &paused.json()["paused"]), (StatusCode::OK, &json!(true)));
    let kept = format!("/api/v1/hunts/saved/{hunt}");
    assert_eq!(api.json("DELETE", &kept, Value::Null).await.status, StatusCode::CONFLICT);
    assert_eq!(api.json("DELETE", &own, Value::Null).await.status, StatusCode::NO_CONTENT);
    for method in ["DELETE", "PATCH"] {
        let gone = api.json(method, &own, json!({"paused": true})).await;
        assert_eq!(gone.status, StatusCode::NOT_FOUND, "{method}");
    }
    assert_eq!(api.json("DELETE", &kept, Value::Null).await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn what_cannot_be_scheduled_says_what_can() {
    let api = hunting().await;
    let (shared, own) = (keep(&api, "shared", true).await, keep(&api, "own", false).await);
    let with = |member: &str, value: Value| {
        let mut body = json!({"saved_hunt_id": shared, "every": "5m", "severity": "low"});
        body[member] = value;
        body
    };
    for (body, status, part) in [
        (with("every", json!("4m")), 400, "from `5m` to `7d`"),
        (with("every", json!("8d")), 400, "from `5m` to `7d`"),
        (with("every", json!("soon")), 400, "from `5m` to `7d`"),
        (with("most_alerts", json!(0)), 400, "1 to 100"),
        (with("most_alerts", json!(101)), 400, "1 to 100"),
        (with("title", json!("a\nb")), 400, "on one line"),
        (with("summary", json!("x".repeat(301))), 400, "at most 300"),
        (with("entity", json!("x".repeat(101))), 400, "at most 100"),
        (with("severity", json!("huge")), 400, "one of `informational`"),
        (with("often", json!(true)), 400, "often"),
        (with("saved_hunt_id", json!(own)), 409, "shown to everybody"),
        (with("saved_hunt_id", json!(77)), 404, "no saved hunt"),
    ] {
        let answer = api.json("POST", PATH, body.clone()).await;
        assert_eq!(answer.status.as_u16(), status, "{body}: {}", answer.text());
        assert!(answer.text().contains(part), "{body}: {}", answer.text());
    }
}

#[tokio::test]
async fn the_page_schedules_lists_and_changes_without_a_script() {
    let api = hunting().await;
    keep(&api, "mine", false).await;
    let page = api.get("/hunt").await.text();
    assert!(page.contains("Save a hunt first"), "{page}");
    let hunt = keep(&api, "rare <b>", true).await;
    let page = api.get("/hunt").await.text();
    assert!(page.contains(&format!("<option value=\"{hunt}\">rare &#60;b&#62;</option>")), "{page}");
    let number = hunt.to_string();
    let pairs = [
        ("hunt", &*number),
        ("every", "1h"),
        ("severity", "high"),
        ("title", ""),
        ("summary", "were asked for"),
        ("entity", "source.ip"),
        ("most", "5"),
    ];
    let made = form(&api, "/hunt/schedules", &pairs).await;
    assert_eq!((made.status, made.header(header::LOCATION)), (StatusCode::SEE_OTHER, "/hunt#scheduled"));
    let of = api.get(PATH).await.json()["items"][0].clone();
    assert_eq!(
        (&of["every"], &of["most_alerts"], &of["title"]),
        (&json!("1h"), &json!(5), &json!("rare <b>"))
    );
    let page = api.get("/hunt").await.text();
    for part in ["Pause the schedule of rare &#60;b&#62;", ">hour</td>", "none yet", "for each"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("<b>"));
    let own = format!("/hunt/schedules/{}", of["schedule_id"]);
    assert_eq!(form(&api, &own, &[("act", "pause")]).await.status, StatusCode::SEE_OTHER);
    assert!(api.get("/hunt").await.text().contains(">paused</span>"));
    assert_eq!(form(&api, &own, &[("act", "resume")]).await.status, StatusCode::SEE_OTHER);
    assert_eq!(form(&api, &own, &[("act", "explode")]).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(form(&api, &own, &[("act", "remove")]).await.status, StatusCode::SEE_OTHER);
    assert_eq!(api.get(PATH).await.json()["items"], json!([]));
    let wrong = form(&api, "/hunt/schedules", &[&pairs[..6], &[("most", "many")]].concat()).await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
}

/// An alert as a scheduled hunt raises it.
fn body() -> Alert {
    let reference = |offset: i64| json!({"topic": "waf", "partition": 0, "offset": offset, "index": 0, "time": NOON, "flags": []});
    let body = json!({
        "alert_id": "ab".repeat(32), "revision": 1, "state": "ended", "continuation": false,
        "rule": {"id": "hunt:1", "title": "Rare paths", "level": "high", "type": "hunt", "version": "0123456789abcdef", "tags": []},
        "key": {"source.ip": "203.0.113.7"}, "entity": {"type": "source.ip", "value": "203.0.113.7"},
        "first_seen": NOON, "crossed_at": NOON, "last_seen": NOON, "count": 12, "value": 12, "severity": "high", "risk": 60,
        "summary": "Rare paths: 203.0.113.7 found by a scheduled hunt, 12 rows",
        "evidence": [reference(4), reference(5)], "evidence_total": 12,
        "explanation": {
            "type": "hunt", "hunt": "rare", "schedule": 1, "every": "15m", "window_start": NOON, "window_end": NOON.plus(Span::secs(900)),
            "ran_at": NOON.plus(Span::secs(1_000)), "complete_through": NOON.plus(Span::secs(980)), "complete": true, "missing": ["a gap"],
            "more": false, "sql": "select 1",
            "rows": [{"url.path": "/<script>", "n": 4}, {"url.path": "/b", "list": ["x"]}], "rows_total": 12
        },
        "flags": ["hunt"]
    });
    serde_json::from_value(body).unwrap()
}

#[tokio::test]
async fn its_alert_is_told_to_be_late_with_its_window_its_rows_and_its_text() {
    let api = hunting().await;
    let hunt = keep(&api, "rare", true).await;
    let made = api
        .json("POST", PATH, json!({"saved_hunt_id": hunt, "every": "15m", "severity": "high"}))
        .await
        .json();
    let alert = AlertRevision::of(&body(), vec!["waf".to_owned()], NOON).unwrap();
    let of = api.store.hunt_schedules().await.unwrap().remove(0);
    assert_eq!(made["schedule_id"], of.id);
    let run = HuntRun {
        at: NOON,
        from: of.next_from,
        until: of.next_from.plus(Span::secs(900)),
        took: Span(1_200_000),
        rows: 12,
        more: false,
        alerts: 1,
        bytes_read: 4_096,
        complete_through: Some(NOON),
    };
    let outcome = HuntOutcome {
        schedule: of.id,
        version: "0123456789abcdef".to_owned(),
        run,
        alerts: vec![alert],
        health: Vec::new(),
    };
    assert!(api.store.hunt_ran(&outcome).await.unwrap());

    let listed = api.get("/api/v1/alerts?rule=hunt:1").await.json();
    assert_eq!(listed["items"][0]["flags"], json!(["hunt"]), "{listed}");
    assert_eq!(listed["items"][0]["rule"]["type"], "hunt");
    assert!(api.get("/").await.text().contains(">scheduled hunt</span>"));
    let page = api.get(&format!("/alerts/{}", "ab".repeat(32))).await.text();
    for part in [
        "The hunt “rare” found 12 rows with source.ip 203.0.113.7 among the events from",
        "late and over what the lake holds",
        "The lake was complete through",
        "a gap",
        "the first 2 of 12",
        "/&#60;script&#62;",
        "select 1",
        "SQL of the hunt",
        "version 0123456789abcdef",
        "href=\"/hunt#scheduled\"",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("is not in force any more"));
    let run = &api.get(PATH).await.json()["items"][0]["last_run"];
    assert_eq!((&run["rows"], &run["alerts"], &run["seconds"]), (&json!(12), &json!(1), &json!(1.2)));
    assert!(api.get("/hunt").await.text().contains("12 rows, 1 alert, 1.2 s"));
}
