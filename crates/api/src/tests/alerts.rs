//! The list, one alert, summaries, and the stream.

use std::{collections::BTreeSet, time::Duration};

use axum::{body::Body, http::header};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use vedette_event::Micros;
use vedette_store::model::{Passed, Publication, Withdrawal};

use super::{Api, redact, request, seeded};

#[tokio::test]
async fn a_list_has_bodies_and_envelopes() {
    let api = seeded().await;
    let page = api.get("/api/v1/alerts?rule=waf-class-burst,bot-stuffing&sort=-crossed_at").await;
    assert_eq!(page.status, 200);
    insta::assert_json_snapshot!("list", redact(page.json()));
}

#[tokio::test]
async fn bodies_go_out_byte_for_byte() {
    let api = seeded().await;
    let id = api.first().await;
    let body = api.store.alert(&id).await.unwrap().unwrap().body;
    let members = body.strip_suffix('}').unwrap().to_owned();
    assert!(api.get("/api/v1/alerts").await.text().contains(&members));
    assert!(api.get(&format!("/api/v1/alerts/{id}")).await.text().starts_with(&members));
}

#[tokio::test]
async fn one_alert_has_content_and_revisions() {
    let api = seeded().await;
    let id = api.get("/api/v1/alerts?rule=seg-admin-from-dmz").await.json()["items"][0]["alert_id"].clone();
    let answer = api.get(&format!("/api/v1/alerts/{}", id.as_str().unwrap())).await;
    assert_eq!(answer.header(header::ETAG), "\"0\"");
    insta::assert_json_snapshot!("one", redact(answer.json()));
    let answer = api.get("/api/v1/alerts/nothing").await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["type"].clone()),
        (404, json!("urn:vedette:problem:not-found"))
    );
}

async fn ids(api: &Api, query: &str) -> Vec<String> {
    let answer = api.get(&format!("/api/v1/alerts?{query}")).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    let items = answer.json()["items"].as_array().unwrap().clone();
    let id =
        |item: &Value| item.get("alert_id").or(item.get("notice_id")).unwrap().as_str().unwrap().to_owned();
    items.iter().map(id).collect()
}

#[tokio::test]
async fn every_filter_filters() {
    let api = seeded().await;
    for (query, n) in [
        ("", 11),
        ("status=new", 11),
        ("status=closed", 0),
        ("state=notice", 1),
        ("state=active,ended", 10),
        ("severity=critical", 2),
        ("severity=critical,low", 3),
        ("rule=bot-stuffing", 2),
        ("entity=203.0.113.54", 1),
        ("source=waf", 2),
        ("since=2026-01-31T11:57:00Z", 2),
        ("until=2026-01-31T11:50:00Z", 5),
        ("q=PORT+scan", 1),
        ("q=%25", 0),
        ("limit=3", 3),
    ] {
        assert_eq!(ids(&api, query).await.len(), n, "{query}");
    }
}

#[tokio::test]
async fn pages_join_without_gap_or_repetition() {
    let api = seeded().await;
    for sort in ["crossed_at", "-crossed_at", "severity", "-count", "last_seen", "-created"] {
        let whole = ids(&api, &format!("sort={sort}")).await;
        let (mut joined, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = api.get(&format!("/api/v1/alerts?sort={sort}&limit=4{cursor}")).await.json();
            for item in page["items"].as_array().unwrap() {
                joined.push(
                    item.get("alert_id").or(item.get("notice_id")).unwrap().as_str().unwrap().to_owned(),
                );
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(joined, whole, "{sort}");
        assert_eq!(joined.iter().collect::<BTreeSet<_>>().len(), 11, "{sort}");
    }
}

#[tokio::test]
async fn wrong_queries_name_what_is_valid() {
    let api = seeded().await;
    let mut problems = Vec::new();
    for query in [
        "alerts?colour=red",
        "alerts?status=new&status=closed",
        "alerts?severity=terrible",
        "alerts?severity=",
        "alerts?status=,",
        "alerts?state=active,",
        "alerts?rule=%20",
        "alerts?q=",
        "alerts?sort=name",
        "alerts?limit=0",
        "alerts?limit=many",
        "alerts?since=yesterday",
        "alerts?cursor=zz",
        "alerts/summary?by=colour",
        "alerts/summary",
        "alerts/stream?after=x",
        "rules?limit=1",
        "dead-letters?cursor=x",
    ] {
        let answer = api.get(&format!("/api/v1/{query}")).await;
        assert_eq!(answer.header(header::CONTENT_TYPE), "application/problem+json", "{query}");
        problems.push(json!({"query": query, "problem": answer.json()}));
    }
    insta::assert_json_snapshot!("wrong_queries", problems);
}

#[tokio::test]
async fn no_value_of_a_filter_is_left_out() {
    let api = seeded().await;
    let rules = |n: usize| {
        let others = (1..n).map(|n| format!("other-{n}"));
        others.chain(["bot-stuffing".to_owned()]).collect::<Vec<_>>().join(",")
    };
    assert_eq!(ids(&api, &format!("rule={}", rules(100))).await.len(), 2);
    for path in ["alerts", "alerts/stream", "alerts/summary"] {
        let by = if path == "alerts/summary" { "by=state&" } else { "" };
        let answer = api.get(&format!("/api/v1/{path}?{by}rule={}", rules(101))).await;
        assert_eq!(answer.status, 400, "{path}");
        assert_eq!(answer.json()["type"], "urn:vedette:problem:invalid-parameter", "{path}");
    }
}

#[tokio::test]
async fn summaries_count() {
    let api = seeded().await;
    let by = async |query: &str| api.get(&format!("/api/v1/alerts/summary?{query}")).await.json();
    insta::assert_json_snapshot!(
        "summaries",
        [
            by("by=severity").await,
            by("by=state&source=api").await,
            by("by=status").await,
            by("by=rule&severity=high").await,
        ]
    );
}

/// The next events of a stream, until it has been quiet for a moment.
async fn events(body: Body) -> (String, Body) {
    let mut stream = body.into_data_stream();
    let mut text = String::new();
    while let Ok(Some(chunk)) = tokio::time::timeout(Duration::from_millis(700), stream.next()).await {
        text.push_str(&String::from_utf8_lossy(&chunk.unwrap()));
    }
    (text, Body::from_stream(stream))
}

async fn open(api: &Api, query: &str, last: Option<&str>) -> Body {
    let mut request = request("GET", &format!("/api/v1/alerts/stream?{query}"));
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let response = api.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    response.into_body()
}

fn names(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("event: ")).collect()
}

#[tokio::test]
async fn a_stream_tells_changes_leavings_and_resets() {
    let api = seeded().await;
    let id = api.first().await;
    let (first, body) = events(open(&api, "after=0&status=new", None).await).await;
    assert_eq!(names(&first), ["alert"; 11]);
    assert!(first.contains("\nid: ") || first.contains("id: "));

    let changed =
        api.patch(&format!("/api/v1/alerts/{id}"), "\"0\"", json!({"status": "acknowledged"})).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    let (second, _) = events(body).await;
    assert_eq!(names(&second), ["leave"]);
    assert!(second.contains(&id));

    let last = second.lines().find_map(|line| line.strip_prefix("id: ")).unwrap();
    let (resumed, _) = events(open(&api, "after=0&status=new", Some(last)).await).await;
    assert_eq!(names(&resumed), [""; 0]);
    let (ahead, _) = events(open(&api, "after=999999", None).await).await;
    assert_eq!(names(&ahead), ["reset"]);
    let newest = api.store.newest_seq().await.unwrap();
    let (from_now, _) = events(open(&api, "", None).await).await;
    // Before anything happened it is known where to go on.
    assert_eq!(from_now, format!("id: {newest}\n\n"));
}

#[tokio::test]
async fn only_rows_that_a_reader_may_know_leave() {
    let api = seeded().await;
    let newest = api.store.newest_seq().await.unwrap();
    let low = ids(&api, "severity=low").await.remove(0);
    let triage = async |version: u32, status: &str| {
        let path = format!("/api/v1/alerts/{low}");
        let done = api.patch(&path, &version.to_string(), json!({ "status": status })).await;
        assert_eq!(done.status, 200, "{}", done.text());
    };
    // From the start on, this one was never sent.
    let (first, never) = events(open(&api, "after=0&severity=critical", None).await).await;
    assert_eq!(names(&first), ["alert"; 2]);
    // After what the list showed, any older row may be on somebody's screen: it leaves once.
    let listed = open(&api, &format!("after={newest}&severity=critical"), None).await;
    triage(0, "acknowledged").await;
    let (second, listed) = events(listed).await;
    assert_eq!(names(&second), ["leave"]);
    triage(1, "in_progress").await;
    assert_eq!(names(&events(listed).await.0), [""; 0]);
    assert_eq!(names(&events(never).await.0), [""; 0]);
    // It comes, goes, and comes again.
    let (_, body) = events(open(&api, "status=acknowledged", None).await).await;
    triage(2, "acknowledged").await;
    let (came, body) = events(body).await;
    triage(3, "new").await;
    let (went, body) = events(body).await;
    triage(4, "in_progress").await;
    let (stayed, body) = events(body).await;
    triage(5, "acknowledged").await;
    let (again, _) = events(body).await;
    let all = [came, went, stayed, again];
    assert_eq!(all.each_ref().map(|text| names(text).join(",")), ["alert", "leave", "", "alert"]);
}

#[tokio::test]
async fn streams_end_when_the_server_stops() {
    let api = seeded().await;
    let mut stream = open(&api, "", None).await.into_data_stream();
    api.stop.send_replace(true);
    let ended = tokio::time::timeout(Duration::from_secs(2), stream.next()).await;
    assert!(ended.unwrap().is_none());
}

#[tokio::test]
async fn a_withdrawn_notice_leaves_the_queue_and_says_why() {
    let api = seeded().await;
    let notice = api.get("/api/v1/alerts?state=notice").await.json()["items"][0].clone();
    assert_eq!(notice["withdrawn"], Value::Null);
    let id = notice["notice_id"].as_str().unwrap();
    let newest = api.store.newest_seq().await.unwrap();
    let open_rows = open(&api, &format!("after={newest}&status=new"), None).await;
    let (rule_id, below) = (notice["rule"]["id"].as_str().unwrap().to_owned(), Micros::MAX);
    let passed = vec![Passed { rule_id, below, settled: below, reason: Withdrawal::Uncovered }];
    api.store.publish(&Publication { passed, ..Publication::default() }).await.unwrap();
    let (left, _) = events(open_rows).await;
    assert_eq!(names(&left), ["leave"]);
    let row = api.get(&format!("/api/v1/alerts/{id}")).await.json();
    assert_eq!((&row["state"], &row["triage"]["status"]), (&json!("notice"), &json!("closed")));
    assert_eq!(row["withdrawn"]["reason"], "uncovered");
    let history = api.get(&format!("/api/v1/alerts/{id}/history")).await.json();
    let entry = &history["items"][0];
    assert_eq!((&entry["actor"], &entry["action"]), (&json!("vedette"), &json!("withdrawn")));
    let page = api.get(&format!("/alerts/{id}")).await.text();
    assert!(page.contains("withdrawn notice") && page.contains("no alert covers what was announced"));
    assert!(api.get("/?status=closed").await.text().contains("withdrawn notice"));
}
