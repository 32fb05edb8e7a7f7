//! What enforcement points fetch: bouncers, firewalls, gateways.

use std::time::Duration;

use axum::{
    Router,
    body::Body,
    http::{header, request::Builder},
    middleware,
    routing::{get, post},
};
use futures::StreamExt as _;
use insta::assert_json_snapshot;
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::ServiceExt as _;
use vedette_act::{Board, Outlet};
use vedette_event::{Micros, Span};
use vedette_respond::{Action, ConnectorKind, Target, desired::InForce, network};
use vedette_store::{Access, Store, model::Role};

use super::{Answer, Api, NOON, app, empty, over, request, watched};
use crate::{
    auth::create_token,
    guard::{Guard, guard},
    live::{Live, Mode},
    metrics::now,
};

fn board() -> Board {
    let outlet = |name: &str, kind| Outlet { name: name.into(), kind, capacity: 1_000 };
    Board::new(vec![
        outlet("crowdsec", ConnectorKind::Crowdsec),
        outlet("edl/perimeter", ConnectorKind::Edl),
        outlet("ratelimit", ConnectorKind::Ratelimit),
    ])
}

fn one(action: Action, target: &str) -> InForce {
    let target = Target::Network(network(target).unwrap());
    let until = Micros(now().0 / 1_000_000 * 1_000_000).plus(Span::secs(3_600));
    InForce { action, target, until, except: Vec::new(), playbook: "perimeter-block".into() }
}

/// All outlets show something.
fn filled() -> Board {
    let board = board();
    let all = || {
        vec![
            one(Action::BlockAddress, "203.0.113.0/24"),
            one(Action::BlockAddress, "203.0.113.7"),
            one(Action::StepUp, "2001:db8::7"),
            one(Action::Throttle, "198.51.100.1"),
        ]
    };
    for outlet in ["crowdsec", "edl/perimeter", "ratelimit"] {
        board.show(outlet, all(), now());
    }
    board
}

/// An API that lets nobody in without a token, and tokens of these roles.
async fn guarded<const N: usize>(board: Option<Board>, roles: [Role; N]) -> (Api, [String; N]) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(vedette_store::StoreSettings::new(folder.path(), Access::Engine)).await.unwrap();
    let mut texts = Vec::new();
    for role in roles {
        let token = create_token().unwrap();
        store.create_token(role.name(), role, token.hash, "test").await.unwrap();
        texts.push(token.text);
    }
    let api = over(store, folder, |app| {
        app.open = false;
        app.board = board;
    })
    .await;
    (api, texts.try_into().unwrap())
}

fn with_key(method: &str, path: &str, key: &str) -> Builder {
    request(method, path)
        .header("x-api-key", key)
        .header(header::USER_AGENT, "crowdsec-firewall-bouncer/v0.0.25")
}

async fn ask(api: &Api, request: Builder) -> Answer {
    api.send(request.body(Body::empty()).unwrap()).await
}

/// What differs from run to run.
fn timeless(mut value: Value) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(members) => members.iter_mut().for_each(|(name, inner)| match name.as_str() {
                "duration" => {
                    assert!(inner.as_str().unwrap().starts_with("59m"), "{inner}");
                    *inner = "<59m…s>".into();
                }
                "until" => *inner = "<time>".into(),
                _ => walk(inner),
            }),
            Value::Array(items) => items.iter_mut().for_each(walk),
            _ => {}
        }
    }
    walk(&mut value);
    value
}

const PATHS: [(&str, &str); 5] = [
    ("GET", "/v1/decisions/stream?startup=true"),
    ("GET", "/v1/decisions?ip=203.0.113.7"),
    ("POST", "/v1/usage-metrics"),
    ("GET", "/api/v1/feeds/edl/perimeter"),
    ("GET", "/api/v1/decisions/ratelimit"),
];

#[tokio::test]
async fn without_an_outlet_there_is_nothing_and_before_the_first_word_nothing_is_told() {
    let api = empty(|_| {}).await;
    for (method, path) in PATHS {
        let answer = ask(&api, request(method, path)).await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
        let said = answer.json();
        assert!(said[if path.starts_with("/v1") { "message" } else { "detail" }].is_string(), "{said}");
    }
    let api = empty(|app| app.board = Some(board())).await;
    for (method, path) in PATHS.into_iter().filter(|(method, _)| *method == "GET") {
        let answer = ask(&api, request(method, path)).await;
        assert_eq!(answer.status, 503, "{path}: {}", answer.text());
        assert!(!answer.body.is_empty());
    }
    assert_eq!(ask(&api, request("GET", "/api/v1/feeds/edl/other")).await.status, 404);
}

#[tokio::test]
async fn a_key_opens_what_is_fetched_and_nothing_else() {
    let (api, [bouncer, metrics]) = guarded(Some(filled()), [Role::Bouncer, Role::Metrics]).await;
    for path in ["/v1/decisions/stream?startup=true", "/v1/decisions?ip=203.0.113.7", "/v1/decisions"] {
        assert_eq!(ask(&api, with_key("GET", path, &bouncer)).await.status, 200, "{path}");
        for refused in [
            with_key("GET", path, "vdt_wrong"),
            with_key("GET", path, ""),
            with_key("GET", path, &metrics),
            request("GET", path),
            request("GET", path).header(header::AUTHORIZATION, "Bearer vdt_wrong"),
            // Nobody's page is shown here.
            request("GET", path).header(header::ACCEPT, "text/html"),
        ] {
            let answer = ask(&api, refused).await;
            assert_eq!(
                (answer.status.as_u16(), answer.text()),
                (403, r#"{"message":"access forbidden"}"#.to_owned())
            );
            assert_eq!(answer.header(header::CONTENT_TYPE), "application/json");
        }
    }
    // Elsewhere neither a key nor a password is one.
    let basic = "Basic cGFuLW9zOnZkdF93cm9uZw==";
    for path in ["/api/v1/alerts", "/metrics", "/", "/mcp", "/api/v1/status"] {
        assert_eq!(ask(&api, with_key("GET", path, &bouncer)).await.status, 401, "{path}");
        assert_eq!(
            ask(&api, request("GET", path).header(header::AUTHORIZATION, basic)).await.status,
            401,
            "{path}"
        );
        let bearer = request("GET", path).header(header::AUTHORIZATION, format!("Bearer {bouncer}"));
        assert_eq!(ask(&api, bearer).await.status, 403, "{path}");
    }
}

#[tokio::test]
async fn bouncers_are_told_in_their_own_form() {
    let api = empty(|app| app.board = Some(filled())).await;
    let json = async |path: &str| {
        let answer = ask(&api, request("GET", path)).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header(header::CONTENT_TYPE)),
            (200, "application/json"),
            "{path}"
        );
        assert_eq!(answer.header(header::CONTENT_ENCODING), "");
        answer
    };
    assert_json_snapshot!("stream", timeless(json("/v1/decisions/stream?startup=true").await.json()));
    assert_eq!(json("/v1/decisions/stream?startup=false").await.text(), r#"{"new":[],"deleted":[]}"#);
    // The narrowest first, and the range that holds it.
    assert_json_snapshot!("lookup", timeless(json("/v1/decisions?ip=203.0.113.7").await.json()));
    let found = async |query: &str| {
        let found = json(&format!("/v1/decisions?{query}")).await.json();
        let values: Vec<_> =
            found.as_array().unwrap().iter().map(|one| one["value"].as_str().unwrap().to_owned()).collect();
        values.join(" ")
    };
    assert_eq!(found("ip=203.0.113.8").await, "203.0.113.0/24");
    assert_eq!(found("ip=::ffff:203.0.113.8").await, "203.0.113.0/24");
    assert_eq!(found("range=203.0.113.0/25").await, "203.0.113.0/24");
    assert_eq!(found("range=203.0.112.0/23&contains=false").await, "203.0.113.0/24 203.0.113.7");
    assert_eq!(found("scope=ip&value=203.0.113.7").await, "203.0.113.7");
    assert_eq!(found("type=captcha").await, "2001:db8::7");
    assert_eq!(found("").await, "198.51.100.1 203.0.113.0/24 203.0.113.7 2001:db8::7");
    for none in [
        "ip=192.0.2.1",
        "ip=203.0.113.7&type=captcha",
        "ip=203.0.113.7&origins=cscli",
        "scope=Country&value=KP",
    ] {
        assert_eq!(json(&format!("/v1/decisions?{none}")).await.text(), "null", "{none}");
    }
    let wrong = ask(&api, request("GET", "/v1/decisions?ip=nobody")).await;
    assert_eq!(
        (wrong.status.as_u16(), wrong.text()),
        (400, r#"{"message":"invalid ip address or range"}"#.to_owned())
    );
    // What other versions of bouncers send is passed over.
    json("/v1/decisions/stream?startup=true&additional_pull=false&community_pull=false&dedup=false&x=%ff")
        .await;
    for path in ["/v1/decisions?ip=203.0.113.7", "/v1/decisions/stream?startup=true"] {
        let head = ask(&api, request("HEAD", path)).await;
        assert_eq!((head.status.as_u16(), head.body.len()), (200, 0), "{path}");
    }
}

#[tokio::test]
async fn a_cursor_moves_when_the_answer_was_read_and_not_before() {
    let board = filled();
    let api = empty(|app| app.board = Some(board.clone())).await;
    let stream = "/v1/decisions/stream?startup=false";
    assert_eq!(ask(&api, request("HEAD", stream)).await.status, 200);
    // Begun, and hung up on.
    let response =
        api.router.clone().oneshot(request("GET", stream).body(Body::empty()).unwrap()).await.unwrap();
    let mut body = response.into_body().into_data_stream();
    assert!(!body.next().await.unwrap().unwrap().is_empty());
    drop(body);
    let new = async || ask(&api, request("GET", stream)).await.json()["new"].as_array().unwrap().len();
    assert_eq!([new().await, new().await], [4, 0]);
    board.show("crowdsec", vec![one(Action::BlockAddress, "203.0.113.7")], now());
    let answer = ask(&api, request("GET", stream)).await.json();
    assert_eq!(answer["deleted"].as_array().unwrap().len(), 3);
    assert_eq!(board.bouncers().len(), 1);
}

#[tokio::test]
async fn what_a_bouncer_counts_is_kept() {
    let board = filled();
    let (api, [key]) = guarded(Some(board.clone()), [Role::Bouncer]).await;
    let count = async |body: &str| {
        let request = with_key("POST", "/v1/usage-metrics", &key);
        api.send(request.body(Body::from(body.to_owned())).unwrap()).await
    };
    let body = json!({"log_processors": null, "remediation_components": [{
        "type": "crowdsec-firewall-bouncer", "version": "v0.0.31", "os": {"name": "Debian", "version": "12"},
        "feature_flags": [], "utc_startup_timestamp": 1_726_584_109,
        "metrics": [{"meta": {"utc_now_timestamp": 1_726_593_109, "window_size_seconds": 900}, "items": [
            {"name": "dropped", "unit": "packet", "value": 2, "labels": {"origin": "vedette", "ip_type": "ipv4"}},
            {"name": "processed", "unit": "packet", "value": 748, "labels": {"ip_type": "ipv4"}}
        ]}]
    }]});
    let answer = count(&body.to_string()).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (201, 0));
    let bouncers = board.bouncers();
    let figures: Vec<_> =
        bouncers[0].figures.iter().map(|figure| (figure.name.as_str(), figure.value)).collect();
    assert_eq!(figures, [("dropped", 2.0), ("processed", 748.0)]);
    assert_eq!((&*bouncers[0].name, &*bouncers[0].agent), ("bouncer", "crowdsec-firewall-bouncer/v0.0.25"));
    let refused = count("[]").await;
    assert_eq!(refused.status, 400);
    assert!(refused.json()["message"].is_string());
}

#[tokio::test]
async fn a_firewall_reads_a_list_with_a_password() {
    let board = filled();
    let (api, [key, reader]) = guarded(Some(board.clone()), [Role::Bouncer, Role::Reader]).await;
    let path = "/api/v1/feeds/edl/perimeter";
    let basic = |token: &str| {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        request("GET", path)
            .header(header::AUTHORIZATION, format!("Basic {}", STANDARD.encode(format!("pan-os:{token}"))))
    };
    let list = ask(&api, basic(&key)).await;
    assert_eq!((list.status.as_u16(), list.header(header::CONTENT_TYPE)), (200, "text/plain; charset=utf-8"));
    insta::assert_snapshot!("edl", list.text());
    let etag = list.header(header::ETAG).to_owned();
    let known = ask(&api, basic(&key).header(header::IF_NONE_MATCH, format!("\"x\", W/{etag}"))).await;
    assert_eq!(
        (known.status.as_u16(), known.body.len(), known.header(header::ETAG)),
        (304, 0, etag.as_str())
    );
    assert_eq!(ask(&api, basic(&key).header(header::IF_NONE_MATCH, "\"x\"")).await.status, 200);
    assert_eq!(ask(&api, basic(&reader)).await.status, 200);
    for stranger in [request("GET", path), basic("vdt_wrong"), with_key("GET", path, "vdt_wrong")] {
        let answer = ask(&api, stranger).await;
        assert_eq!(answer.status, 401);
        assert!(answer.header(header::WWW_AUTHENTICATE).starts_with("Basic realm="));
    }
    board.show("edl/perimeter", Vec::new(), now());
    let none = ask(&api, basic(&key).header(header::IF_NONE_MATCH, etag)).await;
    assert_eq!((none.status.as_u16(), none.text().lines().count()), (200, 1));
    assert!(none.text().starts_with('#'));
}

#[tokio::test]
async fn a_gateway_reads_rate_limits() {
    let (api, [key]) = guarded(Some(filled()), [Role::Bouncer]).await;
    let path = "/api/v1/decisions/ratelimit";
    let bearer = || request("GET", path).header(header::AUTHORIZATION, format!("Bearer {key}"));
    let limits = ask(&api, bearer()).await;
    assert_json_snapshot!("rate_limits", timeless(limits.json()));
    let known = bearer().header(header::IF_NONE_MATCH, limits.header(header::ETAG));
    assert_eq!(ask(&api, known).await.status, 304);
    let unknown = request("GET", "/api/v1/decisions/ratelimit?x=1")
        .header(header::AUTHORIZATION, format!("Bearer {key}"));
    assert_eq!(ask(&api, unknown).await.status, 400);
}

/// However many fetch, and however slowly their bodies come, people are answered.
#[tokio::test]
async fn fetches_keep_nobody_else_out() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(vedette_store::StoreSettings::new(folder.path(), Access::Engine)).await.unwrap();
    let (_sender, live) = watched(Live::starting(Mode::Demo, "0.1.0", NOON));
    let (_stop, stopping) = watch::channel(false);
    let app = std::sync::Arc::new(app(&store, live, stopping).await);
    let stuck = || async { std::future::pending::<&str>().await };
    let router: Router = Router::new()
        .route("/v1/decisions", get(stuck))
        .route("/v1/usage-metrics", post(stuck))
        .route("/api/v1/rules", get(async || "rules"))
        .route("/api/v1/alerts/{id}/comments", post(async || "done"))
        .layer(middleware::from_fn_with_state(Guard::new(app), guard));
    let send = |method: &str, path: &str, body: Body| {
        tokio::spawn(router.clone().oneshot(request(method, path).body(body).unwrap()))
    };
    let endless = || Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let mut waiting: Vec<_> = (0..70).map(|_| send("GET", "/v1/decisions", Body::empty())).collect();
    waiting.extend((0..70).map(|_| send("POST", "/v1/usage-metrics", endless())));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let status = async |method: &str, path: &str| {
        send(method, path, Body::empty()).await.unwrap().unwrap().status().as_u16()
    };
    assert_eq!(status("GET", "/api/v1/rules").await, 200);
    assert_eq!(status("POST", "/api/v1/alerts/x/comments").await, 200);
    assert_eq!(status("GET", "/v1/decisions").await, 429);
    assert_eq!(status("POST", "/v1/usage-metrics").await, 429);
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}
