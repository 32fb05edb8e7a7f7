//! The console's pages.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    body::Body,
    http::{StatusCode, header},
};
use vedette_event::{Alert, Entity, Evidence, Flags, RuleRef, Severity, State, Value, alert::Number};
use vedette_store::model::{AlertRevision, Content, EvidenceContent, EvidenceOf, Publication};

use super::{Api, NOON, empty, request, seeded};

async fn post(api: &Api, path: &str, form: &str) -> super::Answer {
    let request = request("POST", path)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::ACCEPT, "text/html");
    api.send(request.body(form.to_owned().into()).unwrap()).await
}

#[tokio::test]
async fn every_page_is_served_and_links_lead_somewhere() {
    let api = seeded().await;
    let mut todo = std::collections::VecDeque::from(["/".to_owned()]);
    let mut seen = std::collections::BTreeSet::new();
    while let Some(path) = todo.pop_front() {
        if seen.len() > 120 || !seen.insert(path.clone()) {
            continue;
        }
        let answer = api.get(&path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        if !answer.header(header::CONTENT_TYPE).starts_with("text/html") {
            continue;
        }
        let page = answer.text();
        assert!(!page.contains("style=\"") && !page.contains("onclick"), "{path}");
        for piece in page.split("href=\"").skip(1) {
            let link = piece.split('"').next().unwrap().replace("&#38;", "&");
            let link = link.split('#').next().unwrap();
            if link.starts_with('/') {
                todo.push_back(link.to_owned());
            }
        }
    }
    for expected in ["/rules", "/rules/bot-stuffing", "/sources", "/dead-letters", "/dead-letters?source=api"]
    {
        assert!(seen.contains(expected), "{expected}");
    }
}

#[tokio::test]
async fn the_queue_shows_what_it_is_sorted_by() {
    let api = seeded().await;
    for (sort, order) in [("crossed_at", "Oldest first"), ("-crossed_at", "Newest first")] {
        let page = api.get(&format!("/?status=all&sort={sort}")).await.text();
        assert!(page.contains(&format!("aria-current=\"true\">{order}</a>")), "{page}");
        let listed = api.get(&format!("/api/v1/alerts?sort={sort}")).await.json();
        let times =
            listed["items"].as_array().unwrap().iter().map(|item| item["crossed_at"].as_str().unwrap());
        let shown: Vec<_> = page.split("<tr class=\"sev-").skip(1).collect();
        for (row, time) in shown.iter().zip(times) {
            assert!(row.contains(&format!("data-crossed=\"{time}\"")), "{time} in {row}");
        }
        assert_eq!(shown.len(), 11);
    }
}

#[tokio::test]
async fn a_page_says_what_who_and_why() {
    let api = seeded().await;
    let page = async |rule: &str| {
        let found = api.get(&format!("/api/v1/alerts?rule={rule}&state=active,ended")).await.json();
        api.get(&format!("/alerts/{}", found["items"][0]["alert_id"].as_str().unwrap())).await.text()
    };
    let stuffing = page("bot-stuffing").await;
    for text in [
        "At least 15 distinct values of user.name in events that match “Failed log-in”, for the same client.ip 203.0.113.54, within 15m.",
        "gone: the broker has deleted this record",
        "cannot be decoded: the record is no JSON object",
        "1\u{202f}274 more between",
        "think of a delayed or forged clock",
        "9 revisions",
        "<path class=\"steps\"",
    ] {
        assert!(stuffing.contains(text), "{text}");
    }
    assert!(page("ops-quiet-source").await.contains("Fewer than 3 events that match"));
    let chain = page("ato-device-2fa-withdraw").await;
    assert!(chain.contains("3 steps happened in this order, for the same user.id u-48213, within 1d."));
    assert!(chain.contains("api-mfa-reset"));
    assert!(page("seg-admin-from-dmz").await.contains("each one within 1h of the one before extends it"));
}

/// Who reads "guessed, reset, then a withdrawal" sees what was guessed.
#[tokio::test]
async fn a_chain_s_page_shows_the_episodes_below_it() {
    let api = seeded().await;
    let found = api.get("/api/v1/alerts?rule=ato-device-2fa-withdraw").await.json();
    let id = found["items"][0]["alert_id"].as_str().unwrap();
    // The events of all of them are served, the alert's own first.
    let whole = api.get(&format!("/api/v1/alerts/{id}")).await.json();
    let offsets: Vec<_> =
        whole["events"].as_array().unwrap().iter().map(|e| e["offset"].as_i64().unwrap()).collect();
    assert_eq!(
        offsets,
        [48_000, 48_017, 48_034, 60, 61, 62, 63, 64, 90, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79]
    );
    assert!(whole["events"].as_array().unwrap().iter().skip(4).all(|e| e["state"] == "present"));
    let page = api.get(&format!("/alerts/{id}")).await.text();
    let below = page.split("id=\"children\"").nth(1).unwrap().split("</section>").next().unwrap();
    let blocks: Vec<_> = below.split("<article").skip(1).collect();
    assert!(below.contains("3 episodes"));
    let depths: Vec<_> = blocks.iter().map(|block| block.contains("depth-1")).collect();
    assert_eq!(depths, [false, true, false]);
    for (block, texts) in blocks.iter().zip([
        [
            "Second factor reset again and again",
            "5 events",
            "11:53:40",
            "href=\"/entities/user.id/u-48213\"",
            "/rules/api-login-failed",
        ],
        ["Credential stuffing from one address", "15 events", "5 more between", "clock=late", "203.0.113.54"],
        ["Codes guessed", "1 event<", "11:58:02", "over 60 s", "withdraw_request"],
    ]) {
        for text in texts {
            assert!(block.contains(text), "{text} in {block}");
        }
    }
    // A link only where there is an alert: one is silent, one was folded.
    let linked: Vec<_> = blocks.iter().map(|block| block.contains("Its alert</a>")).collect();
    assert_eq!(linked, [false, true, false]);
    let stuffing = api.get("/api/v1/alerts?rule=bot-stuffing&state=active,ended").await.json();
    let its = stuffing["items"][0]["alert_id"].as_str().unwrap();
    assert!(blocks[1].contains(&format!("href=\"/alerts/{its}\"")));
    // Others have no such part.
    assert!(!api.get(&format!("/alerts/{its}")).await.text().contains("id=\"children\""));
}

#[tokio::test]
async fn forms_change_and_come_back() {
    let api = seeded().await;
    let id = api.first().await;
    let path = format!("/alerts/{id}");
    let done = post(&api, &format!("{path}/triage"), "version=0&seen_revision=1&status=acknowledged").await;
    assert_eq!((done.status, done.header(header::LOCATION)), (StatusCode::SEE_OTHER, path.as_str()));
    let stale = post(&api, &format!("{path}/triage"), "version=0&status=in_progress").await;
    assert_eq!(stale.status, 412);
    assert!(stale.text().contains("Not saved") && stale.text().contains("Acknowledged"));
    let unsaid = post(&api, &format!("{path}/triage"), "version=1&status=closed").await;
    assert_eq!(unsaid.status, 400);
    assert_eq!(
        post(&api, &format!("{path}/triage"), "version=1&status=closed&disposition=benign").await.status,
        303
    );
    assert_eq!(
        post(&api, &format!("{path}/comments"), "text=Known+%3Cb%3Escanner%3C%2Fb%3E").await.status,
        303
    );
    let page = api.get(&path).await.text();
    assert!(page.contains("Known &#60;b&#62;scanner") && page.contains("Closed, as benign"));
    assert_eq!(post(&api, &format!("{path}/triage"), "colour=red").await.status, 400);
    assert_eq!(post(&api, "/alerts/nothing/comments", "text=x").await.status, 404);
}

#[tokio::test]
async fn errors_are_pages_for_browsers() {
    let api = seeded().await;
    let browse = async |path: &str| {
        let request = request("GET", path).header(header::ACCEPT, "text/html,application/xhtml+xml");
        api.send(request.body(Body::empty()).unwrap()).await
    };
    for path in ["/alerts/nothing", "/alerts/%ff", "/nothing", "/rules/nothing", "/?colour=red"] {
        let answer = browse(path).await;
        assert!(answer.status.is_client_error(), "{path}");
        assert!(answer.header(header::CONTENT_TYPE).starts_with("text/html"), "{path}");
        assert!(answer.text().contains("Back to the alerts"), "{path}");
    }
    // The search form with nothing in it.
    assert_eq!(browse("/?q=").await.status, 200);
    assert_eq!(browse("/api/v1/nothing").await.header(header::CONTENT_TYPE), "application/problem+json");
}

/// Everything that others wrote is text, wherever it appears.
#[tokio::test]
async fn hostile_texts_stay_texts() {
    const EVIL: &str =
        "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u{202e}exe.doc\u{200b}\u{1b}[2J";
    let api = empty(|_| {}).await;
    let text = || Value::Text(EVIL.into());
    let evidence = Evidence {
        topic: EVIL.into(),
        incarnation: 1,
        partition: 0,
        offset: 1,
        index: 0,
        time: NOON,
        flags: Flags(511),
    };
    let alert = Alert {
        alert_id: "hostile".into(),
        revision: 1,
        state: State::Active,
        continuation: false,
        rule: Arc::new(RuleRef {
            id: EVIL.into(),
            title: EVIL.into(),
            level: Severity::High,
            kind: EVIL.into(),
            version: EVIL.into(),
            tags: [Arc::from(EVIL)].into(),
        }),
        key: BTreeMap::from([(Arc::from(EVIL), text()), (Arc::from("b"), text())]),
        entity: Some(Entity { kind: EVIL.into(), value: text() }),
        first_seen: NOON,
        crossed_at: NOON,
        last_seen: NOON,
        count: 1,
        value: Number::Float(0.1 + 0.2),
        severity: Severity::High,
        risk: 60,
        summary: EVIL.into(),
        evidence: vec![evidence],
        evidence_total: 1,
        explanation: serde_json::from_value(
            serde_json::json!({"type": "temporal", "rules": [EVIL], "group_by": [EVIL],
            "matched": [EVIL], "window": EVIL, "rearm": EVIL, "condition": {EVIL: EVIL}, "children_total": 1, "children": [{
                "alert_id": "hostile", "rule": {"id": EVIL, "title": EVIL, "level": "low", "type": EVIL, "version": EVIL, "tags": []},
                "key": {EVIL: EVIL}, "first_seen": NOON, "crossed_at": NOON, "last_seen": NOON, "count": 7, "value": 0.5,
                "evidence": [{"topic": EVIL, "partition": 0, "offset": 2, "index": 0, "time": NOON, "flags": []}], "flags": []}]}),
        )
        .unwrap(),
        flags: Flags(511),
    };
    let revision = AlertRevision::of(&alert, vec![EVIL.into()], NOON).unwrap();
    let content = EvidenceContent {
        topic: EVIL.into(),
        incarnation: 1,
        partition: 0,
        offset: 1,
        index: 0,
        content: Content::Present(serde_json::json!({EVIL: EVIL, "event.original": EVIL}).to_string()),
    };
    let publication = Publication { alerts: vec![revision], ..Publication::default() };
    api.store.publish(&publication).await.unwrap();
    let of = EvidenceOf { id: "hostile".into(), contents: vec![content] };
    api.store.store_evidence(&[of]).await.unwrap();
    for path in ["/", "/alerts/hostile", "/?q=%3Cscript%3E", "/?entity=%22%3E%3Cscript%3E"] {
        let page = api.get(path).await.text();
        assert!(!page.contains("<script>") && !page.contains("<img"), "{path}");
        assert!(!page.contains(['\u{202e}', '\u{200b}', '\u{1b}']), "{path}");
    }
    let page = api.get("/alerts/hostile").await.text();
    assert!(page.contains("&#60;script&#62;alert(1)"));
    let visible = page.matches(r"\u{202e}exe.doc\u{200b}\u{1b}[2J").count();
    assert!(visible > 10, "who, why, key, evidence, episodes below: {visible}");
    // The number in the body leaves as it was published.
    assert!(api.get("/api/v1/alerts/hostile").await.text().contains("\"value\":0.30000000000000004"));
}
