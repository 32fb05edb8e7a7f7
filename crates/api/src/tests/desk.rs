//! Cases, snoozes, saved views, keyed requests, the audit log, exceptions.

use axum::http::header;
use serde_json::{Value, json};
use vedette_event::Span;

use super::{Answer, Api, request, seeded};
use crate::metrics::now;

async fn ids(api: &Api, query: &str) -> Vec<String> {
    let listed = api.get(&format!("/api/v1/alerts?limit=100&{query}")).await.json();
    let id = |item: &Value| item["alert_id"].as_str().or(item["notice_id"].as_str()).unwrap().to_owned();
    listed["items"].as_array().unwrap().iter().map(id).collect()
}

async fn post(api: &Api, path: &str, key: Option<&str>, body: &Value) -> Answer {
    let mut request = request("POST", path).header(header::CONTENT_TYPE, "application/json");
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    api.send(request.body(body.to_string().into()).unwrap()).await
}

async fn delete(api: &Api, path: &str) -> Answer {
    api.send(request("DELETE", path).body(axum::body::Body::empty()).unwrap()).await
}

fn problem(answer: &Answer) -> (u16, String) {
    let kind = answer.json()["type"].as_str().unwrap_or_default().replace("urn:vedette:problem:", "");
    (answer.status.as_u16(), kind)
}

fn in_days(days: i64) -> String {
    now().plus(Span::secs(days * 86_400 - 60)).to_string()
}

#[tokio::test]
async fn a_case_from_a_selection_to_its_end() {
    let api = seeded().await;
    let some = ids(&api, "severity=high,critical&sort=-severity").await;
    let (first, second) = (&some[0], &some[1]);
    let body = json!({"title": " Account takeover ", "alert_ids": [first, second], "assignee": "ann"});
    let made = post(&api, "/api/v1/cases", None, &body).await;
    assert_eq!(made.status, 201);
    let case = made.json();
    assert_eq!((&case["case_id"], &case["title"]), (&json!(1), &json!("Account takeover")));
    assert_eq!((&case["alert_count"], &case["severity"]), (&json!(2), &json!("critical")));
    assert_eq!(api.get(&format!("/api/v1/alerts/{first}")).await.json()["case_id"], 1);
    assert_eq!(ids(&api, "case=1").await.len(), 2);

    let one = api.get("/api/v1/cases/1").await;
    assert_eq!(one.header(header::ETAG), "\"0\"");
    let seq = one.json()["seq"].clone();
    assert_eq!(one.json()["alerts"].as_array().unwrap().len(), 2);
    assert_eq!(
        post(&api, "/api/v1/cases/1/notes", None, &json!({"text": "Called the user."})).await.status,
        201
    );
    assert_eq!(
        post(&api, "/api/v1/cases/1/alerts", None, &json!({"alert_ids": [some[2]]})).await.status,
        200
    );
    let split = json!({"title": "Another user", "alert_ids": [second]});
    let part = post(&api, "/api/v1/cases/1/split", None, &split).await.json();
    assert_eq!((&part["case_id"], &part["split_from"]), (&json!(2), &json!(1)));
    let merged = post(&api, "/api/v1/cases/1/merge", None, &json!({"from": 2})).await.json();
    assert_eq!((&merged["alert_count"], &merged["version"]), (&json!(3), &json!(1)));
    assert_eq!(api.get("/api/v1/cases/2").await.json()["merged_into"], 1);
    let out = delete(&api, &format!("/api/v1/cases/1/alerts/{}", some[2])).await;
    assert_eq!(out.json()["alert_count"], 2);

    // Moving in and out of cases counts as a change of the alerts since that seq.
    let close =
        json!({"status": "closed", "disposition": "true_positive", "close_alerts": true, "as_of": seq});
    assert_eq!(api.json("PATCH", "/api/v1/cases/1", close.clone()).await.status, 428);
    assert_eq!(problem(&api.patch("/api/v1/cases/1", "\"0\"", close.clone()).await).1, "version-mismatch");
    let done = api.patch("/api/v1/cases/1", "\"1\"", close).await;
    assert_eq!((done.status.as_u16(), done.header(header::ETAG)), (200, "\"2\""));
    assert_eq!(done.json()["closed_alerts"].as_array().unwrap().len(), 2);
    assert!(done.json()["closed_alerts"].as_array().unwrap().iter().all(|item| item["version"] == 1));
    assert_eq!(
        api.get(&format!("/api/v1/alerts/{first}")).await.json()["triage"]["disposition"],
        "true_positive"
    );

    let history = api.get("/api/v1/cases/1/history").await.json();
    let items = history["items"].as_array().unwrap();
    let said: Vec<_> =
        items.iter().map(|item| format!("{} {}", item["target"], item["action"]).replace('"', "")).collect();
    assert_eq!(
        said,
        [
            "case:1 case_opened",
            "case:1 case_alerts",
            "case:1 case_note",
            "case:1 case_alerts",
            "case:2 case_opened",
            "case:1 case_split",
            "case:2 case_split",
            "case:2 case_merged",
            "case:1 case_merged",
            "case:1 case_alerts",
            "case:1 case_changed",
        ]
    );
    let open = api.get("/api/v1/cases?status=open,in_progress").await.json();
    assert_eq!(open["items"].as_array().unwrap().len(), 0);
    assert_eq!(
        api.get("/api/v1/cases?status=closed&severity=critical").await.json()["items"][0]["case_id"],
        2
    );
}

#[tokio::test]
async fn wrong_cases_are_refused_and_say_what_would_be_right() {
    let api = seeded().await;
    let some = ids(&api, "severity=high,critical").await;
    let case = json!({"title": "x", "alert_ids": [some[0]]});
    assert_eq!(post(&api, "/api/v1/cases", None, &case).await.status, 201);
    let long = "x".repeat(201);
    for (path, body, status, kind) in [
        ("/api/v1/cases", case, 409, "conflict"),
        ("/api/v1/cases", json!({"title": " "}), 400, "invalid-body"),
        ("/api/v1/cases", json!({"title": long}), 400, "invalid-body"),
        ("/api/v1/cases", json!({"title": "x", "alert_ids": ["nobody"]}), 404, "not-found"),
        ("/api/v1/cases", json!({"title": "x", "colour": "red"}), 400, "invalid-body"),
        ("/api/v1/cases/1/notes", json!({"text": " "}), 400, "invalid-body"),
        ("/api/v1/cases/1/notes", json!({"text": "x".repeat(4_001)}), 400, "invalid-body"),
        ("/api/v1/cases/7/notes", json!({"text": "x"}), 404, "not-found"),
        ("/api/v1/cases/1/alerts", json!({"alert_ids": []}), 400, "invalid-body"),
        ("/api/v1/cases/1/merge", json!({"from": 1}), 409, "conflict"),
        ("/api/v1/cases/1/merge", json!({"from": 9}), 404, "not-found"),
        ("/api/v1/cases/1/split", json!({"title": "x", "alert_ids": [some[1]]}), 404, "not-found"),
    ] {
        let answer = post(&api, path, None, &body).await;
        assert_eq!(problem(&answer), (status, kind.to_owned()), "{path} {body}: {}", answer.text());
    }
    for (body, status) in [
        (json!({}), 400),
        (json!({"status": "done"}), 400),
        (json!({"status": "closed"}), 409),
        (json!({"close_alerts": true, "status": "closed", "disposition": "benign"}), 400),
        (json!({"severity_floor": "huge"}), 400),
    ] {
        assert_eq!(api.patch("/api/v1/cases/1", "\"0\"", body.clone()).await.status, status, "{body}");
    }
    for path in ["/api/v1/cases?status=done", "/api/v1/cases?severity=huge", "/api/v1/cases?limit=0"] {
        assert_eq!(problem(&api.get(path).await), (400, "invalid-parameter".to_owned()), "{path}");
    }
    assert_eq!(problem(&api.get("/api/v1/cases?cursor=x").await).1, "invalid-cursor");
    assert_eq!(problem(&api.get("/api/v1/cases?colour=red").await).1, "unknown-parameter");
    assert_eq!(api.get("/api/v1/cases/0").await.status, 404);
    let floor = api.patch("/api/v1/cases/1", "\"0\"", json!({"severity_floor": "critical"})).await.json();
    assert_eq!(floor["severity_floor"], "critical");
    let none = api.patch("/api/v1/cases/1", "\"1\"", json!({"severity_floor": null})).await.json();
    assert_eq!(none["severity_floor"], Value::Null);
}

#[tokio::test]
async fn a_snoozed_pair_is_out_of_the_queue_and_counted_there() {
    let api = seeded().await;
    let id = ids(&api, "rule=bot-stuffing&entity=203.0.113.54").await.remove(0);
    let open = "status=new,acknowledged,in_progress";
    let before = ids(&api, open).await.len();
    assert!(api.get("/").await.text().contains(&id));
    let body = json!({"alert_id": id, "until": in_days(7), "reason": "Known load test"});
    let made = post(&api, "/api/v1/snoozes", None, &body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(
        (&made.json()["hidden"], &made.json()["entity"]["value"]),
        (&json!(1), &json!("203.0.113.54"))
    );
    let queue = api.get("/").await.text();
    assert!(!queue.contains(&id) && queue.contains("1 snoozed") && queue.contains("snoozed=yes"));
    assert!(api.get("/?snoozed=yes").await.text().contains(&id));
    assert_eq!(ids(&api, open).await.len(), before, "lists that do not leave it out have it");
    assert_eq!(ids(&api, &format!("{open}&snoozed=no")).await.len(), before - 1);
    assert_eq!(ids(&api, "snoozed=yes").await, std::slice::from_ref(&id));
    assert_eq!(api.get(&format!("/api/v1/alerts/{id}")).await.json()["snooze_id"], 1);
    let listed = api.get("/api/v1/snoozes").await.json();
    assert_eq!(
        (&listed["items"][0]["reason"], &listed["items"][0]["created_by"]),
        (&json!("Known load test"), &json!("local"))
    );

    let entity = json!({"type": "client.ip", "value": "203.0.113.54"});
    for (body, status) in [
        (body.clone(), 409),
        (json!({"alert_id": id, "until": in_days(8), "reason": "x"}), 400),
        (json!({"alert_id": id, "until": in_days(0), "reason": "x"}), 400),
        (json!({"alert_id": id, "until": "tomorrow", "reason": "x"}), 400),
        (json!({"alert_id": id, "until": in_days(1), "reason": " "}), 400),
        (json!({"alert_id": id, "rule": "bot-stuffing", "until": in_days(1), "reason": "x"}), 400),
        (json!({"rule": "no-rule", "entity": entity, "until": in_days(1), "reason": "x"}), 404),
    ] {
        let answer = post(&api, "/api/v1/snoozes", None, &body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
    }
    assert_eq!(delete(&api, "/api/v1/snoozes/1").await.json()["ended_by"], "local");
    assert_eq!(delete(&api, "/api/v1/snoozes/1").await.status, 404);
    assert!(api.get("/").await.text().contains(&id));
    assert_eq!(api.get("/api/v1/snoozes?state=ended").await.json()["items"][0]["snooze_id"], 1);
    let again = json!({"rule": "bot-stuffing", "entity": entity, "until": in_days(1), "reason": "x"});
    assert_eq!(post(&api, "/api/v1/snoozes", None, &again).await.status, 201);
}

#[tokio::test]
async fn a_request_sent_again_makes_nothing_twice() {
    let api = seeded().await;
    let id = ids(&api, "rule=bot-stuffing&entity=203.0.113.54").await.remove(0);
    let comments = format!("/api/v1/alerts/{id}/comments");
    for (path, body, other) in [
        ("/api/v1/cases", json!({"title": "a"}), json!({"title": "b"})),
        (comments.as_str(), json!({"text": "a"}), json!({"text": "b"})),
        ("/api/v1/cases/1/notes", json!({"text": "a"}), json!({"text": "b"})),
        ("/api/v1/views", json!({"name": "a", "query": "severity=high"}), json!({"name": "b", "query": ""})),
        (
            "/api/v1/snoozes",
            json!({"alert_id": id, "until": in_days(1), "reason": "a"}),
            json!({"alert_id": id, "until": in_days(1), "reason": "b"}),
        ),
        ("/api/v1/cases/1/alerts", json!({"alert_ids": [id]}), Value::Null),
        (
            "/api/v1/cases/1/split",
            json!({"title": "a", "alert_ids": [id]}),
            json!({"title": "b", "alert_ids": [id]}),
        ),
    ] {
        if other.is_null() {
            assert_eq!(post(&api, path, None, &body).await.status, 200);
            continue;
        }
        let first = post(&api, path, Some(path), &body).await;
        let again = post(&api, path, Some(path), &body).await;
        assert_eq!((first.status.as_u16(), again.status.as_u16()), (201, 201), "{path}: {}", first.text());
        assert_eq!(first.text(), again.text(), "{path}");
        assert_eq!(again.headers.get("idempotency-replayed").unwrap(), "true");
        let reused = post(&api, path, Some(path), &other).await;
        assert_eq!(problem(&reused), (422, "idempotency-key-reused".to_owned()), "{path}");
    }
    assert_eq!(api.get("/api/v1/cases").await.json()["items"].as_array().unwrap().len(), 2);
    let history = api.get(&format!("/api/v1/alerts/{id}/history")).await.json();
    let said = history["items"].as_array().unwrap().iter().filter(|entry| entry["action"] == "comment");
    assert_eq!(said.count(), 1);
    for key in ["", &"k".repeat(201)] {
        let refused = post(&api, "/api/v1/cases", Some(key), &json!({"title": "a"})).await;
        assert_eq!(problem(&refused).1, "invalid-parameter");
    }
}

#[tokio::test]
async fn views_lead_to_the_queue_and_nowhere_else() {
    let api = seeded().await;
    let body = json!({"name": "High", "query": "?severity=high&cursor=00&q=a b", "shared": true});
    let made = post(&api, "/api/v1/views", None, &body).await.json();
    assert_eq!(made["query"], "severity=high&q=a+b");
    assert_eq!(api.get("/api/v1/views").await.json()["items"][0]["name"], "High");
    assert_eq!(post(&api, "/api/v1/views", None, &body).await.status, 409);
    assert_eq!(post(&api, "/api/v1/views", None, &json!({"name": "", "query": ""})).await.status, 400);
    for query in [
        "colour=red",
        "severity=pink",
        "sort=height",
        "group=colour",
        "severity=high&severity=low",
        "as_of=99999999",
        "technique=T1",
        "since=yesterday",
    ] {
        let refused = post(&api, "/api/v1/views", None, &json!({"name": "x", "query": query})).await;
        let page = api.get(&format!("/?{query}")).await;
        assert_eq!((refused.status.as_u16(), page.status.as_u16()), (400, 400), "{query}");
        let detail = refused.json()["detail"].as_str().unwrap().replace('\'', "&#39;");
        assert!(page.text().contains(&detail), "{query}: {detail}");
    }
    for query in ["q=a b", "?status=all&cursor=x&did=7", "group=rule", "q=", "as_of=1&group=rule&sort=-count"]
    {
        let made = post(&api, "/api/v1/views", None, &json!({"name": query, "query": query})).await;
        assert_eq!(made.status, 201, "{query}");
        let saved = made.json()["query"].as_str().unwrap().to_owned();
        assert_eq!(api.get(&format!("/?{saved}")).await.status, 200, "{query}");
    }
    assert_eq!(delete(&api, "/api/v1/views/1").await.status, 204);
    assert_eq!(delete(&api, "/api/v1/views/1").await.status, 404);
    assert_eq!(delete(&api, "/api/v1/views/x").await.status, 404);
}

#[tokio::test]
async fn the_audit_log_has_every_change() {
    let api = seeded().await;
    let id = ids(&api, "rule=bot-stuffing&entity=203.0.113.54").await.remove(0);
    post(&api, "/api/v1/cases", None, &json!({"title": "a", "alert_ids": [id]})).await;
    api.patch(&format!("/api/v1/alerts/{id}"), "\"0\"", json!({"status": "acknowledged"})).await;
    let log = api.get("/api/v1/audit").await.json();
    assert_eq!(log["items"][0]["action"], "triage");
    assert_eq!(log["items"][0]["from"]["status"], "new");
    assert_eq!(log["items"][0]["to"]["status"], "acknowledged");
    let of = async |query: &str| {
        let log = api.get(&format!("/api/v1/audit?{query}")).await.json();
        log["items"].as_array().unwrap().len()
    };
    assert_eq!(of("action=case_opened&actor=local").await, 1);
    assert_eq!(of(&format!("target={id}")).await, 2);
    assert_eq!(of("since=2999-01-01T00:00:00Z").await, 0);
    let first = api.get("/api/v1/audit?limit=2").await.json();
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = api.get(&format!("/api/v1/audit?limit=2&cursor={cursor}")).await.json();
    assert!(second["items"][0]["seq"].as_i64() < first["items"][1]["seq"].as_i64());
    assert_eq!(problem(&api.get("/api/v1/audit?cursor=x").await).1, "invalid-cursor");
    assert_eq!(problem(&api.get("/api/v1/audit?since=monday").await).1, "invalid-parameter");
}

#[tokio::test]
async fn an_exception_says_what_it_would_have_hidden() {
    let api = seeded().await;
    let id = ids(&api, "rule=bot-stuffing&entity=203.0.113.54").await.remove(0);
    let close = json!({"status": "closed", "disposition": "true_positive"});
    api.patch(&format!("/api/v1/alerts/{id}"), "\"0\"", close).await;
    let mut told = api.get(&format!("/api/v1/alerts/{id}/exception")).await.json();
    let except = told["except_yaml"].as_str().unwrap();
    assert!(
        except.contains("list: known_bot_stuffing") && except.contains("field: \"client.ip\""),
        "{except}"
    );
    assert_eq!(
        (&told["list"], &told["list_yaml"]),
        (&json!("known_bot_stuffing.yml"), &json!("- \"203.0.113.54\"\n"))
    );
    assert!(told["today_yaml"].as_str().unwrap().contains("\"client.ip\": \"203.0.113.54\""));
    // The seed's alerts are of January; whether they are older than ninety days is a matter of when this runs.
    let counted = told["hidden"].take();
    assert!(counted == 0 || counted == 1);
    let nobody = api.get("/api/v1/alerts/nobody/exception").await;
    assert_eq!(nobody.status, 404);
}
