//! Response over HTTP and as pages: running a playbook, deciding about what it proposes, the guards.

use axum::http::StatusCode;
use insta::assert_json_snapshot;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use vedette_act::{
    Board, Courier, Responder, Settings,
    settings::{ConnectorSettings, Firewall, Means, Secret},
};
use vedette_event::{Severity, Span};
use vedette_respond::{
    Action, Condition, Connector, ConnectorKind, Deed, Limit, Playbook, PlaybookSet,
    playbook::{Body as Does, Guards, Mode, On, Step, Trigger},
};

use super::*;

fn connector(kind: ConnectorKind, name: &str) -> Connector {
    Connector { kind, name: name.into() }
}

/// Blocks the client's address, and tells whoever is not configured.
fn playbook(by: Connector) -> Playbook {
    let hour = Span::secs(3_600);
    let step = |name: &str, deed, target: Option<&str>, connector| Step {
        name: name.into(),
        deed,
        target: target.map(Into::into),
        prefix: None,
        connectors: vec![connector],
        when: Condition::default(),
        last: false,
    };
    let block = Deed::Impose(Action::BlockAddress, Limit { first: hour, growth: 2, ceiling: hour });
    let trigger = Trigger {
        on: On::Hand,
        rules: vec![],
        severity: Severity::Informational,
        tags: vec![],
        entity: vec!["client.ip".into()],
    };
    let steps = vec![
        step("block", block, Some("client.ip"), by),
        step("tell", Deed::Notify, None, connector(ConnectorKind::Slack, "slack/soc")),
    ];
    Playbook {
        id: "7f1f0f7e-8a44-4a3e-9c51-0d7bb2d2a001".into(),
        name: "contain".into(),
        title: "Contain a client".into(),
        description: Some("Blocks the address at the bouncers.".into()),
        date: "2026-11-28".into(),
        modified: "2026-11-28".into(),
        version: "0123456789abcdef".into(),
        body: Does {
            mode: Mode::Approve,
            trigger,
            conditions: Condition::default(),
            guards: Guards::default(),
            steps,
        },
        tests: vec![],
        file: "detections/playbooks/contain.yml".into(),
        line: 1,
    }
}

/// An API with what acts beside it, over seeded alerts; and the id of one that the playbook is for.
async fn acting() -> (Api, Responder, String) {
    let connector = connector(ConnectorKind::Crowdsec, "crowdsec");
    let (api, (_, responder), id) =
        acting_by(ConnectorSettings { connector, means: Means::Fetched(100) }).await;
    (api, responder, id)
}

/// The same, by a connector.
async fn acting_by(of: ConnectorSettings) -> (Api, (vedette_act::Response, Responder), String) {
    let (folder, store) = stored().await;
    let set = PlaybookSet { playbooks: vec![playbook(of.connector.clone())], ..PlaybookSet::default() };
    let (_, playbooks) = watch::channel(Arc::new(set));
    let settings = Settings { connectors: vec![of], ..Settings::default() };
    let response = vedette_act::Response::new(store.clone(), settings, playbooks);
    let responder = Responder::new(response.clone(), Board::new(vec![]));
    let own = response.clone();
    let api = over(store, folder, |app| app.response = Some(own)).await;
    seed::fill(&api.store, NOON).await;
    let of_client = api.get("/api/v1/alerts?entity_type=client.ip&state=active,ended&limit=1").await.json();
    let id = of_client["items"][0]["alert_id"].as_str().unwrap().to_owned();
    (api, (response, responder), id)
}

async fn turns(responder: &mut Responder) {
    while responder.turn(crate::metrics::now()).await.unwrap().more {}
}

#[tokio::test]
async fn a_playbook_is_run_by_hand_approved_and_taken_back() {
    let (api, mut responder, alert) = acting().await;
    let path = format!("/api/v1/alerts/{alert}/playbooks/contain");
    let dry = api.json("POST", &path, json!({"dry_run": true})).await;
    assert_json_snapshot!("dry_run", dry.json());
    assert_eq!(api.json("POST", &format!("{path}?dry_run=true"), json!({})).await.json(), dry.json());
    assert_eq!(api.get("/api/v1/actions").await.json()["items"], json!([]), "a dry run writes nothing");
    let run = api.json("POST", &path, json!({})).await.json();
    let id = run["steps"][0]["action_id"].as_i64().unwrap();
    let decide =
        async |what: &str| api.json("POST", &format!("/api/v1/actions/{id}/{what}"), json!({})).await;
    let early = decide("revert").await;
    assert_eq!(early.status, StatusCode::CONFLICT);
    assert_eq!(
        early.json()["detail"],
        format!("Action {id} is waiting; only what is live can be taken back.")
    );
    let approved = decide("approve").await.json();
    assert_eq!((&approved["state"], &approved["approvals"]), (&json!("due"), &json!(["local"])));
    turns(&mut responder).await;
    let live = api.get("/api/v1/actions?state=live,due").await.json();
    assert_json_snapshot!("live", redact_times(live));
    let reverted = api
        .json("POST", &format!("/api/v1/actions/{id}/revert"), json!({"reason": "a partner's scanner"}))
        .await
        .json();
    assert_eq!(reverted["state"], "reverted");
    let whole = api.get(&format!("/api/v1/actions/{id}")).await.json();
    let steps: Vec<&str> =
        whole["steps"].as_array().unwrap().iter().map(|step| step["action"].as_str().unwrap()).collect();
    assert_eq!(steps, ["action_proposed", "action_approved", "action_ordered", "action_reverted"]);
    assert_eq!(
        api.get(&format!("/api/v1/actions?alert_id={alert}")).await.json()["items"][1]["state"],
        "reverted"
    );
}

fn redact_times(mut page: Value) -> Value {
    for item in page["items"].as_array_mut().unwrap() {
        for key in ["acted_at", "until", "proposed_at", "changed_at"] {
            assert!(item[key].is_string(), "{key}");
            item[key] = json!("a time");
        }
    }
    page
}

#[tokio::test]
async fn what_cannot_be_is_said_with_what_would() {
    let (api, _, alert) = acting().await;
    for (method, path, status, detail) in [
        (
            "POST",
            format!("/api/v1/alerts/{alert}/playbooks/none"),
            404,
            "There is no playbook `none`; there are: contain.",
        ),
        (
            "POST",
            "/api/v1/alerts/none/playbooks/contain".to_owned(),
            404,
            "There is no alert or notice `none`.",
        ),
        ("POST", "/api/v1/actions/7/approve".to_owned(), 404, "There is no action `7`."),
        ("POST", "/api/v1/actions/x/approve".to_owned(), 404, "There is no action `x`."),
        ("PUT", "/api/v1/never-block".to_owned(), 428, "Give the version that you saw in `If-Match`."),
    ] {
        let body = if method == "PUT" { json!({"entries": []}) } else { json!({}) };
        let answer = api.json(method, &path, body).await;
        assert_eq!(answer.status.as_u16(), status, "{path}: {}", answer.text());
        assert!(method == "PUT" || answer.json()["detail"] == detail, "{}", answer.text());
    }
    let unknown = api.get("/api/v1/actions?state=open").await;
    assert_eq!(unknown.status, StatusCode::BAD_REQUEST);
    assert!(unknown.text().contains("waiting"), "{}", unknown.text());
    let bad =
        api.json("POST", &format!("/api/v1/alerts/{alert}/playbooks/contain"), json!({"dryrun": true})).await;
    assert_eq!(bad.status.as_u16(), 400, "what is misspelt does not act: {}", bad.text());
    let alone = seeded().await;
    assert_eq!(alone.get("/api/v1/playbooks").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(alone.get("/actions").await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_never_block_set_has_a_version_and_the_kill_switch_needs_none() {
    let (api, ..) = acting().await;
    let put = async |version: &str, body: Value| {
        let request = request("PUT", "/api/v1/never-block").header(header::CONTENT_TYPE, "application/json");
        let request = request.header(header::IF_MATCH, version).body(body.to_string().into()).unwrap();
        api.send(request).await
    };
    let entries = json!([{"network": "203.0.113.0/24", "note": "our own"}, {"field": "user.name", "value": "monitor", "note": ""}]);
    let set = put("\"0\"", json!({"entries": entries})).await;
    assert_eq!((set.status, set.header(header::ETAG)), (StatusCode::OK, "\"1\""));
    assert_json_snapshot!("guards", set.json());
    assert_eq!(put("\"0\"", json!({"entries": []})).await.status, StatusCode::PRECONDITION_FAILED);
    let bad = put("\"1\"", json!({"entries": [{"network": "nobody"}]})).await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
    assert!(bad.text().contains("Entry 1 of the never-block set"), "{}", bad.text());
    let on = api.json("POST", "/api/v1/kill-switch", json!({"on": true})).await.json();
    assert_eq!((&on["kill_switch"], &on["version"]), (&json!(true), &json!(2)));
    let page = api.get("/guards").await.text();
    assert!(page.contains("203.0.113.0/24 # our own\nuser.name=monitor"), "{page}");
    assert!(page.contains("On: nothing is done."));
    // What a form would give back as something else is in none.
    for value in ["a\u{202e}b", "a # b"] {
        let version = api.get("/api/v1/never-block").await.json()["version"].as_i64().unwrap();
        let entries = json!([{"field": "user.name", "value": value, "note": "a robot"}]);
        assert_eq!(put(&format!("\"{version}\""), json!({"entries": entries})).await.status, StatusCode::OK);
        let page = api.get("/guards").await.text();
        assert!(page.contains("Change it over the API") && !page.contains("<textarea"), "{page}");
    }
    let version = api.get("/api/v1/never-block").await.json()["version"].as_i64().unwrap();
    let many: Vec<Value> = (0..200)
        .map(|n| json!({"network": format!("198.51.{n}.0/24"), "note": "own egress of a branch office"}))
        .collect();
    assert_eq!(put(&format!("\"{version}\""), json!({"entries": many})).await.status, StatusCode::OK);
    let page = api.get("/guards").await.text();
    assert!(
        page.contains("198.51.199.0/24 # own egress of a branch office\n")
            || page.contains("198.51.199.0/24 # own egress of a branch office<"),
        "what is cut would be lost with the next change"
    );
    for entry in [json!({"network": "0.0.0.0/0"}), json!({"network": "203.0.113.1", "note": "a\nb"})] {
        let refused = put("\"3\"", json!({"entries": [entry]})).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text());
    }
    let log = api.get("/api/v1/audit?action=kill_switch_on").await.json();
    assert_eq!(log["items"][0]["to"]["kill_switch"], true);
}

#[tokio::test]
async fn the_pages_do_without_scripts_what_the_routes_do() {
    let (api, mut responder, alert) = acting().await;
    let form = async |path: &str, body: &str| {
        let request = request("POST", path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let request = request.header(header::ORIGIN, "http://127.0.0.1:8080");
        api.send(request.body(body.to_owned().into()).unwrap()).await
    };
    let page = api.get(&format!("/alerts/{alert}")).await.text();
    assert!(page.contains("<option>contain</option>"), "{page}");
    let dry = form(&format!("/alerts/{alert}/playbooks"), "playbook=contain&dry_run=true").await.text();
    assert!(dry.contains("What contain would do") && dry.contains("Propose it"), "{dry}");
    assert!(
        dry.contains("the configuration has no connector `slack/soc`") || dry.contains("&#96;slack/soc&#96;"),
        "{dry}"
    );
    let run = form(&format!("/alerts/{alert}/playbooks"), "playbook=contain").await;
    assert_eq!(run.status, StatusCode::OK);
    let waiting = api.get("/actions").await.text();
    let id = waiting.split("data-action=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert!(waiting.contains("0 of 1 approvals"), "{waiting}");
    let approved = form(&format!("/actions/{id}/approve"), "").await;
    assert_eq!(
        (approved.status, approved.header(header::LOCATION)),
        (StatusCode::SEE_OTHER, "/actions?tab=waiting")
    );
    turns(&mut responder).await;
    assert!(api.get("/actions?tab=live").await.text().contains("Take back"));
    let own = api.get(&format!("/actions/{id}")).await.text();
    for step in ["proposed", "approved", "ordered"] {
        assert!(own.contains(&format!("<td>{step}</td>")), "{step}");
    }
    assert!(api.get(&format!("/alerts/{alert}")).await.text().contains("block address"));
    assert!(api.get("/playbooks").await.text().contains("not configured: slack/soc"));
    assert_eq!(api.get("/actions?tab=nothing").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_case_shows_what_was_done_about_its_alerts() {
    let (api, _responder, alert) = acting().await;
    api.json("POST", &format!("/api/v1/alerts/{alert}/playbooks/contain"), json!({})).await;
    let case =
        api.json("POST", "/api/v1/cases", json!({"title": "Botnet", "alert_ids": [alert]})).await.json();
    let number = case["case_id"].as_i64().unwrap_or_else(|| panic!("{case}"));
    let whole = api.get(&format!("/api/v1/cases/{number}")).await.json();
    let listed = api.get(&format!("/api/v1/actions?case={number}")).await.json();
    assert_eq!(whole["actions"], listed["items"]);
    assert_eq!(whole["actions"].as_array().unwrap().len(), 2);
    let page = api.get(&format!("/cases/{number}")).await.text();
    let actions = page.split("id=\"actions\"").nth(1).unwrap().split("</section>").next().unwrap();
    assert!(actions.contains("Block address") || actions.contains("block"), "{actions}");
    let other = api.json("POST", "/api/v1/cases", json!({"title": "Another"})).await.json();
    assert_eq!(api.get(&format!("/api/v1/cases/{}", other["case_id"])).await.json()["actions"], json!([]));
    assert_eq!(api.get("/api/v1/actions?case=x").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn an_assistant_is_told_what_a_playbook_would_do_and_does_nothing() {
    let (api, _responder, alert) = acting().await;
    let call = async |tool: &str, arguments: serde_json::Value| {
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}});
        let request = request("POST", "/mcp")
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream");
        let answer = api.send(request.body(message.to_string().into()).unwrap()).await.json();
        answer["result"]["structuredContent"]["data"].clone()
    };
    let told = call("propose_playbook", json!({"alert_id": alert, "playbook": "contain"})).await;
    let dry =
        api.json("POST", &format!("/api/v1/alerts/{alert}/playbooks/contain?dry_run=true"), json!({})).await;
    assert_eq!(told["would"], dry.json());
    assert_eq!(call("list_actions", json!({})).await["items"], json!([]));
    assert_eq!(call("list_playbooks", json!({})).await, api.get("/api/v1/playbooks").await.json());
    assert_eq!(call("list_cases", json!({})).await, api.get("/api/v1/cases").await.json());
    assert!(call("get_overview", json!({})).await["unseen"].is_array());
}

/// A server that answers this, whatever it is asked.
async fn answering(status: &'static str, body: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 8_192]).await;
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        }
    });
    url
}

/// A firewall whose room others have taken: whatever it is asked, it lists an address of theirs.
async fn full_firewall() -> String {
    let entry = "<entry ip='10.0.0.1'><tag><member>theirs</member></tag></entry>";
    answering("200 OK", format!("<response status='success'><result>{entry}</result></response>")).await
}

/// What a device or a program answers is text of somebody else: on pages it stays text, in its place, and short.
#[tokio::test]
async fn what_a_connector_failed_by_stays_text() {
    let said = format!(
        "<script>alert(1)</script>\"' onload=x \u{202e}cod.exe\u{0}\u{1b}[2J\u{200b}{}",
        "\u{5d0}".repeat(1 << 18)
    );
    let url = answering("503 Service Unavailable", said).await;
    let of = ConnectorSettings {
        connector: connector(ConnectorKind::Webhook, "webhook"),
        means: Means::Webhook {
            url: Secret::new(format!("{url}/k3y-in-the-address")),
            secret: Secret::new("s3cret"),
            private: true,
            authorities: None,
        },
    };
    let (api, (response, mut responder), alert) = acting_by(of.clone()).await;
    let run = api.json("POST", &format!("/api/v1/alerts/{alert}/playbooks/contain"), json!({})).await.json();
    let id = run["steps"][0]["action_id"].as_i64().unwrap();
    api.json("POST", &format!("/api/v1/actions/{id}/approve"), json!({})).await;
    turns(&mut responder).await;
    let courier = Courier::new(response, of, responder.wanted(), crate::metrics::now).unwrap().unwrap();
    let running = tokio::spawn(courier.run(std::future::pending()));
    let failure = async || api.get("/api/v1/playbooks").await.json()["connectors"][0]["failure"].clone();
    for _ in 0..500 {
        if !failure().await.is_null() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    running.abort();
    let failure = failure().await.as_str().unwrap().to_owned();
    assert!(failure.contains("503 Service Unavailable: <script>"), "{failure}");
    assert!(failure.chars().count() < 300 && !failure.contains(char::is_control), "{failure:?}");
    let page = api.get("/playbooks").await.text();
    let row = page.split("id=\"connectors\"").nth(1).unwrap().split("</section>").next().unwrap();
    assert!(row.contains("503 Service Unavailable: &#60;script&#62;"), "{row}");
    assert!(
        row.contains("&#34;&#39; onload=x \\u{202e}cod.exe") && row.contains("\\u{200b}\u{5d0}"),
        "{row}"
    );
    let paths =
        ["/playbooks".to_owned(), "/actions".into(), format!("/actions/{id}"), format!("/alerts/{alert}")];
    for path in paths {
        let page = api.get(&path).await.text();
        assert!(!page.contains("<script>alert") && !page.contains("\u{202e}"), "{path}");
        assert!(!page.contains("k3y-in-the-address") && !page.contains("s3cret"), "{path}");
    }
}

#[tokio::test]
async fn where_a_live_action_is_not_in_force_it_is_said() {
    let firewall = Firewall {
        hosts: vec![full_firewall().await.into()],
        key: Secret::new("k3y-of-the-firewall"),
        tag: "vedette".into(),
        vsys: None,
        target: None,
        capacity: 1,
    };
    let of = ConnectorSettings {
        connector: connector(ConnectorKind::Dag, "dag/perimeter"),
        means: Means::Dag { firewall, private: true, authorities: None },
    };
    let (api, (response, mut responder), alert) = acting_by(of.clone()).await;
    let run = api.json("POST", &format!("/api/v1/alerts/{alert}/playbooks/contain"), json!({})).await.json();
    let id = run["steps"][0]["action_id"].as_i64().unwrap();
    api.json("POST", &format!("/api/v1/actions/{id}/approve"), json!({})).await;
    turns(&mut responder).await;
    let whole = async || api.get(&format!("/api/v1/actions/{id}")).await.json();
    assert_eq!(whole().await["left_out"], json!([]), "nothing is known yet");
    let courier = Courier::new(response, of, responder.wanted(), crate::metrics::now).unwrap().unwrap();
    let running = tokio::spawn(courier.run(std::future::pending()));
    for _ in 0..500 {
        if whole().await["left_out"] != json!([]) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let why = "there is no room for it";
    assert_eq!(whole().await["left_out"], json!([{"connector": "dag/perimeter", "why": why}]));
    assert!(
        api.get(&format!("/actions/{id}"))
            .await
            .text()
            .contains("<strong>Not in force at dag/perimeter</strong>")
    );
    assert!(api.get("/actions").await.text().contains("Live and not in force: 1 at dag/perimeter."));
    let connectors = api.get("/api/v1/playbooks").await.json()["connectors"].clone();
    let figures = [&connectors[0]["state"], &connectors[0]["in_force"], &connectors[0]["left_out"]];
    assert_eq!(figures, [&json!("ok"), &json!(0), &json!(1)]);
    for page in ["/playbooks", "/api/v1/playbooks", "/actions"] {
        assert!(!api.get(page).await.text().contains("k3y-of-the-firewall"), "{page}");
    }
    running.abort();
}
