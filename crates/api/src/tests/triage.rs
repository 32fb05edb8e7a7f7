//! Changing alerts: versions, bulk, comments, history.

use axum::{
    body::Body,
    http::{StatusCode, header},
};
use serde_json::{Value, json};

use super::{redact, request, seeded};

#[tokio::test]
async fn versions_guard_triage() {
    let api = seeded().await;
    let path = format!("/api/v1/alerts/{}", api.first().await);
    let unguarded = api.json("PATCH", &path, json!({"status": "acknowledged"})).await;
    assert_eq!(unguarded.status, StatusCode::PRECONDITION_REQUIRED);

    let changed = api.patch(&path, "\"0\"", json!({"status": "in_progress", "assignee": "ann"})).await;
    assert_eq!((changed.status.as_u16(), changed.header(header::ETAG)), (200, "\"1\""));
    assert_eq!(changed.json()["assignee"], "ann");

    let stale = api.patch(&path, "\"0\"", json!({"status": "new"})).await;
    assert_eq!((stale.status.as_u16(), stale.header(header::ETAG)), (412, "\"1\""));
    insta::assert_json_snapshot!("stale", stale.json());

    let removed = api.patch(&path, "1", json!({"assignee": null})).await;
    assert_eq!(removed.json()["assignee"], Value::Null);
    let closed = api.patch(&path, "\"2\"", json!({"status": "closed", "disposition": "benign"})).await;
    assert_eq!(closed.json()["status"], "closed");
    let commented = api.json("POST", &format!("{path}/comments"), json!({"text": " Known scanner. "})).await;
    assert_eq!(commented.status, 201);
    let history = api.get(&format!("{path}/history")).await.json();
    insta::assert_json_snapshot!("history", redact(history));
}

#[tokio::test]
async fn wrong_bodies_are_refused() {
    let api = seeded().await;
    let path = format!("/api/v1/alerts/{}", api.first().await);
    let mut problems = Vec::new();
    for body in [
        json!({"status": "done"}),
        json!({"colour": "red"}),
        json!({}),
        json!({"status": "closed"}),
        json!({"assignee": "two\nlines"}),
        json!({"assignee": "ann", "seen_revision": 100_000}),
        json!([1]),
    ] {
        let answer = api.patch(&path, "\"0\"", body.clone()).await;
        problems.push(json!({"body": body, "problem": answer.json()}));
    }
    for body in [json!({"text": "  "}), json!({"text": "x".repeat(4_001)})] {
        problems.push(json!({"problem": api.json("POST", &format!("{path}/comments"), body).await.json()}));
    }
    for body in [
        json!({"change": {"status": "new"}}),
        json!({"items": [], "filter": {}, "as_of": 1, "change": {"status": "new"}}),
        json!({"filter": {"severity": "x"}, "as_of": 1, "change": {"status": "new"}}),
        json!({"filter": {"severity": ""}, "as_of": 1, "change": {"status": "new"}}),
        json!({"filter": {}, "as_of": 1_000_000, "change": {"status": "new"}}),
    ] {
        problems.push(json!({"problem": api.json("POST", "/api/v1/alerts/bulk", body).await.json()}));
    }
    insta::assert_json_snapshot!("wrong_bodies", problems);
    assert_eq!(api.get(&path).await.header(header::ETAG), "\"0\"");
}

#[tokio::test]
async fn sizes_types_methods_and_paths_are_problems_too() {
    let api = seeded().await;
    let path = format!("/api/v1/alerts/{}", api.first().await);
    let send = async |method: &str, path: &str, media: &str, body: Vec<u8>| {
        let request =
            request(method, path).header(header::CONTENT_TYPE, media).header(header::IF_MATCH, "\"0\"");
        let answer = api.send(request.body(Body::from(body)).unwrap()).await;
        assert_eq!(answer.header(header::CONTENT_TYPE), "application/problem+json");
        answer.json()
    };
    insta::assert_json_snapshot!(
        "refused",
        [
            send("PATCH", &path, "application/json", vec![b' '; 300 * 1024]).await,
            send("PATCH", &path, "text/plain", b"{}".to_vec()).await,
            send("PATCH", &path, "application/json", b"{\"status\"".to_vec()).await,
            send("PATCH", &path, "application/json", "[".repeat(100_000).into_bytes()).await,
            send("DELETE", &path, "application/json", Vec::new()).await,
            send("GET", "/api/v1/nothing", "application/json", Vec::new()).await,
            send("GET", "/%ff/../etc", "application/json", Vec::new()).await,
            send("GET", "/api/v1/alerts/%ff", "application/json", Vec::new()).await,
            send("PATCH", "/api/v1/alerts/%ff", "application/json", b"{}".to_vec()).await,
            send("GET", "/api/v1/alerts/%ff/history", "application/json", Vec::new()).await,
            send("GET", "/api/v1/rules/%ff%fe", "application/json", Vec::new()).await,
            send("GET", "/alerts/%ff", "application/json", Vec::new()).await,
            send("GET", "/rules/%ff", "application/json", Vec::new()).await,
            send("GET", "/assets/%ff", "application/json", Vec::new()).await,
        ]
    );
    let allowed = api.send(request("DELETE", &path).body(Body::empty()).unwrap()).await;
    assert_eq!(allowed.header(header::ALLOW), "GET,HEAD,PATCH");
}

#[tokio::test]
async fn bulk_changes_succeed_or_fail_one_by_one() {
    let api = seeded().await;
    let id = api.first().await;
    let change = json!({"status": "acknowledged"});
    let items = json!([{"id": id, "version": 0}, {"id": "nothing", "version": 0}, {"id": id, "version": 0}]);
    let done =
        api.json("POST", "/api/v1/alerts/bulk", json!({"items": items, "change": change})).await.json();
    assert_eq!(done["items"][0]["version"], 1);
    assert_eq!(done["items"][1]["problem"]["type"], "urn:vedette:problem:not-found");
    assert_eq!(done["items"][2]["problem"]["type"], "urn:vedette:problem:version-mismatch");

    let seq = api.store.newest_seq().await.unwrap();
    let change = json!({"status": "closed", "disposition": "false_positive"});
    let body = json!({"filter": {"source": "waf"}, "as_of": seq, "change": change});
    let done = api.json("POST", "/api/v1/alerts/bulk", body).await.json();
    assert_eq!(done["items"].as_array().unwrap().len(), 2);
    let closed = api.get("/api/v1/alerts?status=closed").await.json();
    assert_eq!(closed["items"].as_array().unwrap().len(), 2);
    assert_eq!(closed["items"][0]["triage"]["since_closed"], 0);
}

#[tokio::test]
async fn what_one_changed_is_taken_back_by_its_id_once_for_a_key() {
    let api = seeded().await;
    let seq = api.store.newest_seq().await.unwrap();
    let close = json!({"status": "closed", "disposition": "benign"});
    let body = json!({"filter": {"source": "waf"}, "as_of": seq, "change": close});
    let keyed = async |path: &str, key: &str, body: &Value| {
        let request = request("POST", path).header(header::CONTENT_TYPE, "application/json");
        let request = request.header("idempotency-key", key).body(Body::from(body.to_string()));
        api.send(request.unwrap()).await
    };
    let done = keyed("/api/v1/alerts/bulk", "k", &body).await;
    let told = done.json();
    assert_eq!((done.status.as_u16(), &told["changed"]), (200, &json!(2)));
    assert_eq!(told["items"][0]["effect"], "changed");
    let again = keyed("/api/v1/alerts/bulk", "k", &body).await;
    assert_eq!((again.status.as_u16(), again.json()), (200, told.clone()));
    assert_eq!(again.header("idempotency-replayed".parse::<header::HeaderName>().unwrap()), "true");
    assert_eq!(keyed("/api/v1/alerts/undo", "k", &json!({"change_id": told["change_id"]})).await.status, 422);

    let undo = json!({"change_id": told["change_id"]});
    let back = keyed("/api/v1/alerts/undo", "u", &undo).await.json();
    assert_eq!(back["changed"], 2);
    assert_eq!(keyed("/api/v1/alerts/undo", "u", &undo).await.json(), back);
    // Without the key it finds rows that were changed since: by the undo.
    let late = api.json("POST", "/api/v1/alerts/undo", undo).await.json();
    assert_eq!((&late["changed"], &late["change_id"]), (&json!(0), &Value::Null));
    assert_eq!(late["items"][0]["problem"]["type"], "urn:vedette:problem:version-mismatch");
    let unknown = api.json("POST", "/api/v1/alerts/undo", json!({"change_id": 1})).await;
    assert_eq!(unknown.status, 404);
    // A change of one alert has an id, too, and its history names it.
    let path = format!("/api/v1/alerts/{}", api.first().await);
    let version = api.get(&path).await.header(header::ETAG).to_owned();
    let one = api.patch(&path, &version, json!({"assignee": "ann"})).await.json();
    let history = api.get(&format!("{path}/history")).await.json();
    let last = history["items"].as_array().unwrap().last().unwrap().clone();
    assert!(one["change_id"].is_i64() && last["change_id"] == one["change_id"], "{last}");
}
