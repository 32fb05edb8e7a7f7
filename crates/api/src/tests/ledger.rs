//! The pages and routes about the watch itself: rules with what came of them, ATT&CK, sources, overview.

use serde_json::json;

use super::{Api, seeded};

/// Titles of the rules' table, in its order.
async fn titles(api: &Api, query: &str) -> Vec<String> {
    let page = api.get(&format!("/rules{query}")).await;
    assert_eq!(page.status, 200, "{}", page.text());
    let text = page.text();
    let cells = text.split("<td class=\"what\"><a href=\"").skip(1);
    cells.map(|cell| cell.split('>').nth(1).unwrap().split('<').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn rules_are_sorted_and_filtered_by_the_address() {
    let api = seeded().await;
    let all = titles(&api, "").await;
    assert!(all.len() > 8, "{all:?}");
    let up = titles(&api, "?sort=title").await;
    let mut sorted = all.clone();
    sorted.sort();
    assert_eq!(up, sorted);
    let down: Vec<_> = titles(&api, "?sort=-title").await.into_iter().rev().collect();
    assert_eq!(down, sorted);
    let serving = titles(&api, "?show=serving&sort=title").await;
    assert_eq!(serving, ["Denied session", "Failed log-in", "Request blocked by the WAF"]);
    assert_eq!(titles(&api, "?q=fw-DENIED").await, ["Denied session"]);
    let of_waf = titles(&api, "?source=waf").await;
    assert!(!of_waf.is_empty() && of_waf.len() < all.len());
    for (query, valid) in
        [("?sort=colour", "-level"), ("?show=pretty", "impaired"), ("?level=huge", "critical")]
    {
        let refused = api.get(&format!("/rules{query}")).await;
        assert_eq!(refused.status, 400, "{query}");
        assert!(refused.text().contains(valid), "{query}: {}", refused.text());
    }
}

#[tokio::test]
async fn a_rule_shows_what_it_selects_and_what_it_costs() {
    let api = seeded().await;
    let live = api.get("/api/v1/rules/waf-fuzz").await.json();
    assert_eq!(live["coverage"]["time_us"], 48_211);
    let page = api.get("/rules/waf-fuzz").await.text();
    for told in ["What it selects", "title: ", "48 ms, ", " ns an event"] {
        assert!(page.contains(told), "{told}: {page}");
    }
    let dearest = api.get("/rules?sort=-cost").await.text();
    let first = dearest.find("href=\"/rules/").map(|at| &dearest[at..at + 40]);
    assert!(first.is_some_and(|first| first.contains("/rules/waf-fuzz")), "{first:?}");
    assert!(dearest.contains("<td class=\"num\">48 ms<small>"), "{dearest}");
}

#[tokio::test]
async fn verdicts_are_told_by_rule() {
    let api = seeded().await;
    let listed = api.get("/api/v1/alerts?state=active,ended&rule=bot-stuffing").await.json();
    let id = listed["items"][0]["alert_id"].as_str().unwrap().to_owned();
    let version = listed["items"][0]["triage"]["version"].to_string();
    let change = json!({"status": "closed", "disposition": "false_positive"});
    let done = api.patch(&format!("/api/v1/alerts/{id}"), &version, change).await;
    assert_eq!(done.status, 200, "{}", done.text());
    let outcomes = api.get("/api/v1/rules/outcomes").await.json();
    let items = outcomes["items"].as_array().unwrap();
    assert_eq!(items.len(), api.get("/api/v1/rules").await.json()["items"].as_array().unwrap().len());
    let of = |rule: &str| items.iter().find(|item| item["rule_id"] == rule).unwrap();
    let verdicts = json!({"closed": 1, "true_positive": 0, "benign": 0, "false_positive": 1, "duplicate": 0});
    assert_eq!(of("bot-stuffing")["verdicts"], verdicts);
    // A notice is the early word of one, and counts.
    let newest = api.get("/api/v1/alerts?rule=bot-stuffing").await.json();
    assert_eq!(of("bot-stuffing")["last_alert"], newest["items"][0]["crossed_at"]);
    assert_eq!(of("fw-denied")["last_alert"], json!(null));
    for page in ["/rules?q=bot-stuffing", "/rules/bot-stuffing"] {
        let page = api.get(page).await.text();
        assert!(page.contains("<b>1</b> closed: 1 false (100 %)"), "{page}");
    }
}

#[tokio::test]
async fn a_refused_document_is_told_with_its_place() {
    let page = seeded().await.get("/rules").await.text();
    for text in ["detections/rules/api/travel.yml:14:7", "unknown-modifier", "Nothing of it is in force."] {
        assert!(page.contains(text), "{text}");
    }
}

#[tokio::test]
async fn the_matrix_and_the_layer_hold_the_same() {
    let api = seeded().await;
    let layer = api.get("/api/v1/rules/navigator").await;
    assert!(layer.header(axum::http::header::CONTENT_DISPOSITION).starts_with("attachment; filename="));
    let coverage = api.get("/api/v1/rules/attack").await.json();
    let page = api.get("/attack").await.text();
    let mut techniques = std::collections::BTreeSet::new();
    for tactic in coverage["items"].as_array().unwrap() {
        for technique in tactic["techniques"].as_array().unwrap() {
            let id = technique["id"].as_str().unwrap();
            let place = format!("{}-{id}", tactic["id"].as_str().unwrap_or("none"));
            assert!(
                page.contains(&format!("href=\"#{place}\"")) && page.contains(&format!("id=\"{place}\""))
            );
            techniques.insert(id.to_owned());
        }
    }
    let layer = layer.json();
    let layered = layer["techniques"].as_array().unwrap().iter();
    let layered: Vec<_> = layered.map(|of| of["techniqueID"].as_str().unwrap().to_owned()).collect();
    assert!(!layered.is_empty());
    assert_eq!(layered, techniques.into_iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn sources_that_give_too_little_come_first() {
    let api = seeded().await;
    let page = api.get("/sources").await.text();
    let place = |name: &str| page.find(&format!(">{name}</h2>")).unwrap();
    assert!(place("waf") < place("api") && place("api") < place("firewall"), "lagging first, then by name");
    assert!(page.contains("1 of 3 needs a look, first"));
    // Of each partition, too.
    let rows = page.split(">Times replaced</th>").nth(1).unwrap();
    assert!(rows.contains("clock=late 12"), "{rows}");
    let totals = api.get("/api/v1/dead-letters/summary").await;
    assert_eq!(totals.status, 200, "{}", totals.text());
}

#[tokio::test]
async fn what_could_not_be_seen_stands_at_the_top() {
    let api = seeded().await;
    let page = api.get("/overview").await.text();
    let missed = page.find("What could not be seen").unwrap();
    let lagging = page.find("waf is lagging").unwrap();
    let figures = page.find("<dt>Behind</dt>").unwrap();
    assert!(missed < lagging && lagging < figures);
    assert!(!page.contains("Nothing: every record"));
    let overview = api.get("/api/v1/overview").await.json();
    for item in overview["unseen"].as_array().unwrap() {
        let message = item["message"].as_str().unwrap().replace('\'', "&#39;");
        assert!(page.contains(&message), "{item}");
    }
    assert_eq!(overview["alerts"].as_array().unwrap().len(), 48);
    // They were stored now, and their events are of another day.
    let first = &overview["first_word"];
    assert!(
        first["of"].as_u64().unwrap() > 0 && first["p50_seconds"].as_f64() <= first["p99_seconds"].as_f64(),
        "{first}"
    );
    assert!(page.contains("<dt>First word</dt>"));
    assert_eq!(overview["as_of"], "2026-01-31T11:59:59.000000Z");
}
