//! Backtests over HTTP: asked for, followed, stopped.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{
    Api, NOON,
    desk_pages::{form, led},
    empty, request, seed,
};
use crate::backtests::{Backtests, MAX_KEPT, MAX_UNDER_WAY, OfRule, Outcome, Question, Refusal, Report};

fn report(question: &Question) -> Report {
    let of_rule = OfRule {
        rule_id: "r".to_owned(),
        title: question.rules.clone(),
        level: "high".to_owned(),
        alerts: 2,
        open: 1,
        a_day: 0.5,
        busiest_day: Some("2026-01-01".to_owned()),
        most_in_a_day: 2,
        keys: 1,
        noisiest: Vec::new(),
        fired_then: Outcome::default(),
        same: 0,
        no_longer: Outcome::default(),
    };
    Report {
        from: question.from,
        through: NOON,
        read_from: None,
        first_event: NOON,
        events: 7,
        not_evaluated: 0,
        seconds: 0.1,
        nanoseconds_an_event: 900.0,
        alerts: 2,
        days: BTreeMap::from([("2026-01-01".to_owned(), 2)]),
        rules: vec![of_rule],
        not_tried: Vec::new(),
        notes: Vec::new(),
    }
}

/// A backtest of `wait` waits until it may go on, one of `fail` fails.
async fn api(go: &Arc<Notify>) -> Api {
    let go = go.clone();
    empty(|app| {
        app.backtests = Some(Backtests::new(move |question: Question, progress| {
            let go = go.clone();
            async move {
                progress.events.store(7, Ordering::Relaxed);
                progress.read.store(3, Ordering::Relaxed);
                match &*question.rules {
                    "wait" => go.notified().await,
                    "fail" => return Err(Refusal { message: "no rule".to_owned() }),
                    _ => {}
                }
                Ok(report(&question))
            }
        }));
    })
    .await
}

async fn until(api: &Api, id: &str, state: &str) -> Value {
    let looks = AtomicU64::new(0);
    loop {
        let now = api.get(&format!("/api/v1/backtests/{id}")).await.json();
        if now["state"] == state {
            return now;
        }
        assert!(looks.fetch_add(1, Ordering::Relaxed) < 500, "{now}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_backtest_is_asked_for_followed_and_told() {
    let go = Arc::new(Notify::new());
    let api = api(&go).await;
    let asked = api.json("POST", "/api/v1/backtests", json!({"rules": "wait", "from": "2026-01-01"})).await;
    assert_eq!((asked.status.as_u16(), asked.json()["id"].as_str()), (202, Some("1")), "{}", asked.text());
    let running = until(&api, "1", "running").await;
    assert_eq!(
        (&running["read"], &running["events"], &running["report"]),
        (&json!(3), &json!(7), &Value::Null)
    );
    let next = api.json("POST", "/api/v1/backtests", json!({"rules": "fail"})).await.json();
    assert_eq!((next["id"].as_str(), next["state"].as_str()), (Some("2"), Some("waiting")));
    go.notify_one();
    let done = until(&api, "1", "done").await;
    assert_eq!(done["from"], "2026-01-01T00:00:00.000000Z");
    assert_eq!(
        (&done["report"]["rules"][0]["title"], &done["report"]["alerts"]),
        (&json!("wait"), &json!(2))
    );
    assert_eq!(until(&api, "2", "failed").await["error"], "no rule");
    let list = api.get("/api/v1/backtests").await.json();
    let told: Vec<_> =
        list["items"].as_array().unwrap().iter().map(|of| (&of["id"], &of["report"])).collect();
    assert_eq!(told, [(&json!("2"), &Value::Null), (&json!("1"), &Value::Null)]);
    let audit = vedette_store::model::AuditQuery { limit: 1, ..Default::default() };
    let entry = api.store.audit(&audit).await.unwrap().items.remove(0);
    assert_eq!((&*entry.action, entry.to.as_deref()), ("backtest", Some(r#"{"rules":"fail"}"#)));
}

#[tokio::test]
async fn one_that_is_stopped_makes_room_and_too_many_are_refused() {
    let go = Arc::new(Notify::new());
    let api = api(&go).await;
    let ask = async |rules: &str| api.json("POST", "/api/v1/backtests", json!({"rules": rules})).await;
    for _ in 0..MAX_UNDER_WAY {
        assert_eq!(ask("wait").await.status, 202);
    }
    assert_eq!(ask("wait").await.status, 429);
    let stop = request("DELETE", "/api/v1/backtests/1").body(axum::body::Body::empty()).unwrap();
    assert_eq!(api.send(stop).await.status, 204);
    until(&api, "1", "stopped").await;
    assert_eq!(ask("wait").await.status, 202);
}

#[tokio::test]
async fn so_many_are_kept_the_newest_first() {
    let api = api(&Arc::new(Notify::new())).await;
    for number in 1..=MAX_KEPT + 3 {
        let asked = api.json("POST", "/api/v1/backtests", json!({"rules": "x"})).await.json();
        assert_eq!(asked["id"], number.to_string());
        until(&api, &number.to_string(), "done").await;
    }
    let kept = api.get("/api/v1/backtests").await.json();
    let kept: Vec<_> = kept["items"].as_array().unwrap().iter().map(|of| of["id"].clone()).collect();
    assert_eq!((kept.len(), &kept[0]), (MAX_KEPT, &json!((MAX_KEPT + 3).to_string())));
}

#[tokio::test]
async fn what_makes_no_backtest_is_refused_with_a_word() {
    let api = api(&Arc::new(Notify::new())).await;
    for (body, part) in [
        (json!({"rules": " "}), "`rules`"),
        (json!({"rules": "x".repeat(70_000)}), "`rules`"),
        (json!({"rules": "x", "from": "yesterday"}), "yesterday"),
        (json!({"rules": "x", "from": "2026-01-02", "to": "2026-01-01"}), "`from`"),
        (json!({"rules": "x", "days": 3}), "days"),
    ] {
        let refused = api.json("POST", "/api/v1/backtests", body).await;
        assert!(refused.status.as_u16() == 400 && refused.text().contains(part), "{}", refused.text());
    }
    assert_eq!(api.get("/api/v1/backtests/9").await.status, 404);
    let none = empty(|_| {}).await;
    assert_eq!(none.json("POST", "/api/v1/backtests", json!({"rules": "x"})).await.status, 503);
}

#[tokio::test]
async fn a_rule_is_tried_from_its_page_with_all_that_it_is_built_on() {
    let go = Arc::new(Notify::new());
    let api = api(&go).await;
    api.live.send_replace(Arc::new(seed::live(NOON)));
    let live = api.live.borrow().clone();
    let rule = live.rules.iter().find(|rule| !rule.refers_to.is_empty()).unwrap();
    let below = live.rule(&rule.refers_to[0]).unwrap();
    let path = format!("/rules/{}", rule.id);
    let page = api.get(&path).await.text();
    assert!(page.contains(&format!("action=\"{path}/backtests\"")), "{page}");
    assert_eq!(led(&api, &format!("{path}/backtests"), "span=7d").await, "/backtests/1");
    let done = until(&api, "1", "done").await;
    let tried = done["report"]["rules"][0]["title"].as_str().unwrap();
    assert!(tried.contains(rule.text.trim_end()) && tried.contains(below.text.trim_end()), "{tried}");
    assert!(done["from"].is_string());
    let page = api.get("/backtests/1").await.text();
    assert!(page.contains("2 alerts") && page.contains("7 events in 0.1 s"), "{page}");
    assert_eq!(form(&api, &format!("{path}/backtests"), "span=9y").await.status, 400);

    // One that is under way says how far it is, and can be stopped without scripts.
    api.json("POST", "/api/v1/backtests", json!({"rules": "wait"})).await;
    until(&api, "2", "running").await;
    let page = api.get("/backtests/2").await.text();
    assert!(page.contains("3 events read, 42") && page.contains("/backtests/2/stop"), "{page}");
    assert_eq!(led(&api, "/backtests/2/stop", "").await, "/backtests/2");
    assert!(api.get("/backtests/2").await.text().contains("Stopped"));
    assert_eq!(api.get("/backtests/9").await.status, 404);
}
