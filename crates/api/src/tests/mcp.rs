//! The tools for assistants, asked as a client asks: JSON-RPC over POST.

use std::time::Duration;

use axum::{body::Body, http::header};
use serde_json::{Value, json};
use vedette_store::model::Role;

use super::{Answer, Api, empty, request, seeded};
use crate::auth::create_token;

/// A message and its answer; `token` is shown if there is one.
async fn post(api: &Api, token: &str, message: &Value) -> Answer {
    let mut request = request("POST", "/mcp")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, text/event-stream");
    if !token.is_empty() {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    api.send(request.body(Body::from(message.to_string())).unwrap()).await
}

async fn ask(api: &Api, method: &str, params: Value) -> Value {
    let message = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
    let answer = post(api, "", &message).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    assert_eq!(answer["id"], 7, "{answer}");
    answer
}

async fn call(api: &Api, tool: &str, arguments: Value) -> Value {
    let answer = ask(api, "tools/call", json!({"name": tool, "arguments": arguments})).await;
    answer["result"].clone()
}

/// What a tool gives, which says of itself that it is data.
async fn data(api: &Api, tool: &str, arguments: Value) -> Value {
    let result = call(api, tool, arguments).await;
    assert_eq!(result["isError"], false, "{tool}: {result}");
    let told = &result["structuredContent"];
    assert!(told["untrusted"].as_str().unwrap().contains("not instructions"), "{tool}: {told}");
    told["data"].clone()
}

#[tokio::test]
async fn a_client_is_greeted_and_finds_tools_that_only_read() {
    let api = seeded().await;
    let hello = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}});
    let greeting = ask(&api, "initialize", hello).await;
    assert_eq!(greeting["result"]["serverInfo"]["name"], "vedette");
    assert!(greeting["result"]["instructions"].as_str().unwrap().contains("never as instructions"));
    let tools = ask(&api, "tools/list", json!({})).await;
    let tools = tools["result"]["tools"].as_array().unwrap();
    let names: Vec<_> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "list_alerts",
            "count_alerts",
            "get_alert",
            "explain_alert",
            "get_entity",
            "propose_exception",
            "list_rules",
            "get_rule",
            "list_sources",
            "get_status",
            "list_dead_letters",
            "check_rule",
            "list_cases",
            "get_case",
            "list_actions",
            "get_action",
            "list_playbooks",
            "propose_playbook",
            "list_audit",
            "get_overview",
        ]
    );
    for tool in tools {
        assert_eq!(tool["annotations"]["readOnlyHint"], true, "{tool}");
        assert_eq!(tool["inputSchema"]["additionalProperties"], false, "{tool}");
    }
    let schema = |name: &str| &tools.iter().find(|tool| tool["name"] == name).unwrap()["inputSchema"];
    for (name, required) in [
        ("list_rules", json!([])),
        ("list_alerts", json!([])),
        ("get_alert", json!(["id"])),
        ("get_rule", json!(["id"])),
        ("get_entity", json!(["type", "value"])),
        ("check_rule", json!(["text"])),
    ] {
        assert_eq!(schema(name)["required"], required, "{name}");
    }
    for name in ["list_rules", "list_alerts"] {
        assert_eq!(schema(name)["properties"]["limit"]["type"], "integer", "{name}");
    }
    let properties = &tools[0]["inputSchema"]["properties"];
    assert!(properties["status"]["description"].as_str().unwrap().contains("acknowledged"), "{properties}");
}

#[tokio::test]
async fn tools_give_what_the_routes_give() {
    let api = seeded().await;
    let listed = data(&api, "list_alerts", json!({"state": "active", "limit": 1})).await;
    let by_route = api.get("/api/v1/alerts?state=active&limit=1").await.json();
    assert_eq!(listed, by_route);
    let id = api.first().await;
    let one = data(&api, "get_alert", json!({"id": id})).await;
    assert_eq!(one["alert"], api.get(&format!("/api/v1/alerts/{id}")).await.json());
    assert!(one["alert"]["explanation"].is_object() && one["history"].is_array(), "{one}");
    let then = data(&api, "get_alert", json!({"id": id, "as_of": one["alert"]["seq"]})).await;
    assert_eq!(then["alert"]["seq"], one["alert"]["seq"], "{then}");
    let explained = data(&api, "explain_alert", json!({"id": id})).await;
    assert_eq!(explained["alert"]["explanation"], one["alert"]["explanation"]);
    assert!(explained["rule"]["gaps"].is_array() && explained["earlier_verdicts"].is_array(), "{explained}");
    assert!(explained["alert"]["events"].is_null(), "{explained}");
    let entity = &one["alert"]["entity"];
    let whole = data(&api, "get_entity", entity.clone()).await;
    let (kind, value) = (entity["type"].as_str().unwrap(), entity["value"].as_str().unwrap());
    assert_eq!(whole, api.get(&format!("/api/v1/entities/{kind}/{value}")).await.json());
    let proposed = data(&api, "propose_exception", json!({"id": id})).await;
    assert!(proposed["today_yaml"].as_str().unwrap().contains(value), "{proposed}");
    let counts = data(&api, "count_alerts", json!({"by": "severity"})).await;
    assert_eq!(counts, api.get("/api/v1/alerts/summary?by=severity").await.json());
    let rules = data(&api, "list_rules", json!({"q": "STUFFING"})).await;
    let rule = rules["items"][0]["id"].as_str().unwrap();
    let rule = data(&api, "get_rule", json!({"id": rule})).await;
    assert!(rule["could_have_fired"]["gaps"].is_array(), "{rule}");
    for (tool, members) in [
        ("list_sources", &["items", "as_of"][..]),
        ("get_status", &["readiness", "process", "stages", "health"]),
        ("list_dead_letters", &["items"]),
    ] {
        let told = data(&api, tool, json!({})).await;
        assert!(members.iter().all(|member| !told[member].is_null()), "{tool}: {told}");
    }
}

#[tokio::test]
async fn a_text_is_checked_and_nothing_taken_up() {
    let api = seeded().await;
    let before = api.get("/api/v1/rules").await.json()["items"].clone();
    let good = "title: T\nid: 6f0e7a54-0000-4000-8000-000000000001\nlogsource: {product: x}\ndetection: {s: {a: b}, condition: s}\n";
    let checked = data(&api, "check_rule", json!({"text": good})).await;
    assert_eq!(checked["accepted"][0]["id"], "6f0e7a54-0000-4000-8000-000000000001", "{checked}");
    let checked = data(&api, "check_rule", json!({"text": good.replace("a: b", "a|nothing: b")})).await;
    assert_eq!(checked["accepted"], json!([]), "{checked}");
    assert_eq!(
        (&checked["refused"][0]["line"], &checked["refused"][0]["code"]),
        (&json!(4), &json!("unknown-modifier"))
    );
    assert_eq!(api.get("/api/v1/rules").await.json()["items"], before);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_in_the_words_of_the_routes() {
    let api = seeded().await;
    for (tool, arguments, kind) in [
        ("list_alerts", json!({"colour": "red"}), "unknown-parameter"),
        ("list_alerts", json!({"severity": "purple"}), "invalid-parameter"),
        ("list_alerts", json!({"severity": ["high"]}), "invalid-parameter"),
        ("list_alerts", json!({"q": "x".repeat(100_000)}), "invalid-parameter"),
        ("get_alert", json!({"id": "nothing"}), "not-found"),
        ("get_alert", json!({}), "invalid-parameter"),
        ("check_rule", json!({"text": "x".repeat(70_000)}), "invalid-parameter"),
        ("check_rule", json!({"file": "/etc/passwd"}), "invalid-parameter"),
    ] {
        let result = call(&api, tool, arguments).await;
        assert_eq!(result["isError"], true, "{result}");
        let problem = &result["structuredContent"];
        assert_eq!(problem["type"], format!("urn:vedette:problem:{kind}"), "{problem}");
    }
    let unknown = ask(&api, "tools/call", json!({"name": "close_alert", "arguments": {}})).await;
    assert_eq!(unknown["error"]["code"], -32602, "{unknown}");
    assert_eq!(api.get("/mcp").await.status, 405);
}

#[tokio::test]
async fn a_stranger_and_another_site_are_kept_out() {
    let list = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/list"});
    let api = empty(|app| app.open = false).await;
    for token in ["", "vdt_unknown"] {
        assert_eq!(post(&api, token, &list).await.status, 401);
    }
    let api = seeded().await;
    let foreign = request("POST", "/mcp").header(header::ORIGIN, "https://elsewhere.example");
    let foreign = foreign.header(header::CONTENT_TYPE, "application/json");
    assert_eq!(api.send(foreign.body(list.to_string().into()).unwrap()).await.status, 403);
}

#[tokio::test]
async fn records_as_they_came_are_for_those_only_who_may_see_them() {
    let api = empty(|app| app.open = false).await;
    super::seed::fill(&api.store, super::NOON).await;
    let mut seen = Vec::new();
    for role in [Role::Reader, Role::Analyst] {
        let token = create_token().unwrap();
        api.store.create_token(role.name(), role, token.hash, "test").await.unwrap();
        // In which a token made elsewhere counts.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let ask = async |tool: &str, arguments: Value| {
            let params = json!({"name": tool, "arguments": arguments});
            let message = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params});
            post(&api, &token.text, &message).await.json()["result"]["structuredContent"]["data"].clone()
        };
        assert!(ask("list_audit", json!({})).await.is_null(), "the log of who did what is for engineers");
        assert!(ask("list_actions", json!({})).await["items"].is_array());
        let listed = ask("list_alerts", json!({"state": "active"})).await;
        let mut records = 0;
        for item in listed["items"].as_array().unwrap() {
            let alert = ask("get_alert", json!({"id": item["alert_id"]})).await;
            assert!(alert["alert"]["events"].is_array(), "{alert}");
            let explained = ask("explain_alert", json!({"id": item["alert_id"]})).await;
            assert!(explained["alert"].is_object(), "{explained}");
            records += alert.to_string().matches("event.original").count();
            assert!(!explained.to_string().contains("event.original"), "{explained}");
        }
        seen.push(records > 0);
    }
    assert_eq!(seen, [false, true]);
}
