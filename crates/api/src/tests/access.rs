//! Who may ask what, from where.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{Method, header},
    middleware,
    routing::{get, post},
};
use futures::StreamExt as _;
use serde_json::json;
use tokio::sync::watch;
use tower::ServiceExt as _;
use vedette_store::{Access, Store, model::Role};

use super::{NOON, app, empty, over, request, seeded, watched};
use crate::{
    access::{ROUTES, WorkKind},
    auth::{Caller, create_token},
    guard::{Guard, guard},
    live::{Live, Mode},
    shares::Shares,
};

/// In which a token made or revoked elsewhere counts.
const WITHIN: Duration = Duration::from_secs(1);

#[tokio::test]
async fn without_a_token_nothing_is_told_and_each_role_has_its_part() {
    let api = empty(|app| {
        app.open = false;
        app.loopback = false;
        app.console = false;
    })
    .await;
    super::seed::fill(&api.store, super::NOON).await;
    let answer = api.get("/api/v1/alerts").await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header(header::WWW_AUTHENTICATE), "Bearer");
    assert_eq!(answer.json()["type"], "urn:vedette:problem:unauthenticated");
    for closed in ["/metrics", "/api/v1/openapi.json", "/api/v1/nothing", "/"] {
        assert_eq!(api.get(closed).await.status, 401, "{closed}");
    }
    assert_eq!(api.get("/healthz").await.status, 200);

    let mut texts = Vec::new();
    for role in [Role::Analyst, Role::Engineer] {
        let token = create_token().unwrap();
        api.store.create_token(role.name(), role, token.hash, "test").await.unwrap();
        texts.push(token.text);
    }
    tokio::time::sleep(WITHIN).await;
    let ask = async |token: &str, path: &str| {
        let request = request("GET", path).header(header::AUTHORIZATION, format!("Bearer {token}"));
        api.send(request.body(Body::empty()).unwrap()).await
    };
    assert_eq!(ask("vdt_wrong", "/api/v1/alerts").await.status, 401);
    assert_eq!(ask(&texts[0], "/api/v1/alerts").await.status, 200);
    let letters = ask(&texts[0], "/api/v1/dead-letters").await.json();
    assert!(letters["items"][0]["payload"].is_null());
    let letters = ask(&texts[1], "/api/v1/dead-letters").await.json();
    assert!(letters["items"][0]["payload"].is_string());
    // Without the console there is no page, not even for those who may ask.
    assert_eq!(ask(&texts[1], "/").await.status, 404);
}

#[tokio::test]
async fn a_revoked_token_ends_its_streams() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(vedette_store::StoreSettings::new(folder.path(), Access::Engine)).await.unwrap();
    let token = create_token().unwrap();
    store.create_token("ann", Role::Analyst, token.hash, "test").await.unwrap();
    let api = over(store, folder, |app| app.open = false).await;
    let request = request("GET", "/api/v1/alerts/stream")
        .header(header::AUTHORIZATION, format!("Bearer {}", token.text));
    let response = api.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut stream = response.into_body().into_data_stream();
    let mut next = async |seconds| tokio::time::timeout(Duration::from_secs(seconds), stream.next()).await;
    assert!(next(2).await.is_ok(), "it says where it begins");
    assert!(next(2).await.is_err(), "it goes on while the token is in force");
    api.store.revoke_token("ann", "test").await.unwrap();
    let began = tokio::time::Instant::now();
    assert!(next(11).await.unwrap().is_none());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

/// Who is let in where: the answer's status, or `in` for one that another layer than access gave.
#[tokio::test]
async fn each_role_has_its_routes() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(vedette_store::StoreSettings::new(folder.path(), Access::Engine)).await.unwrap();
    let mut callers = vec![("stranger", None)];
    for role in Role::ALL.iter().copied() {
        let token = create_token().unwrap();
        store.create_token(role.name(), role, token.hash, "test").await.unwrap();
        callers.push((role.name(), Some(token.text)));
    }
    let api = over(store, folder, |app| app.open = false).await;
    let unknown = (Method::GET, "/nothing", None, WorkKind::Read);
    let mut lines = Vec::new();
    for (method, template, ..) in ROUTES.iter().chain([&unknown]) {
        let path = template.replace("{id}", "x").replace("{name}", "console.css");
        let mut line = format!("{method} {template}:");
        for (name, token) in &callers {
            let mut request = request(method.as_str(), &path);
            if let Some(token) = token {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            let answer = api.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            let status = answer.status().as_u16();
            let seen = if matches!(status, 401 | 403) { status.to_string() } else { "in".to_owned() };
            line.push_str(&format!(" {name} {seen},"));
        }
        lines.push(line.trim_end_matches(',').to_owned());
    }
    insta::assert_snapshot!("roles", lines.join("\n"));
}

/// One kind of work that is stuck keeps out no other.
#[tokio::test]
async fn stuck_searches_and_bodies_keep_nothing_else_out() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(vedette_store::StoreSettings::new(folder.path(), Access::Engine)).await.unwrap();
    let (_sender, live) = watched(Live::starting(Mode::Demo, "0.1.0", NOON));
    let (_stop, stopping) = watch::channel(false);
    let app = Arc::new(app(&store, live, stopping).await);
    let stuck = || async { std::future::pending::<&str>().await };
    let router: Router = Router::new()
        .route("/api/v1/alerts", get(stuck))
        .route("/api/v1/alerts/bulk", post(async || "done"))
        .route("/api/v1/alerts/{id}/comments", post(stuck))
        .route("/api/v1/rules", get(async || "rules"))
        .route("/healthz", get(async || "ok"))
        .route("/metrics", get(async || "metrics"))
        .layer(middleware::from_fn_with_state(Guard::new(app), guard));
    let send = |method: &str, path: &str, body: Body| {
        tokio::spawn(router.clone().oneshot(request(method, path).body(body).unwrap()))
    };
    let endless = || Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let began = tokio::time::Instant::now();
    let mut waiting = Vec::new();
    waiting.extend((0..40).map(|_| send("GET", "/api/v1/alerts?q=x", Body::empty())));
    waiting.extend((0..70).map(|_| send("POST", "/api/v1/alerts/x/comments", Body::empty())));
    let slow = send("POST", "/api/v1/alerts/bulk", endless());
    waiting.extend((0..200).map(|_| send("POST", "/api/v1/alerts/bulk", endless())));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let status =
        async |path: &str| send("GET", path, Body::empty()).await.unwrap().unwrap().status().as_u16();
    for path in ["/healthz", "/metrics", "/api/v1/rules"] {
        assert_eq!(status(path).await, 200, "{path}");
    }
    assert_eq!(status("/api/v1/alerts?source=waf").await, 429);
    let refused = send("POST", "/api/v1/alerts/bulk", Body::empty()).await.unwrap().unwrap();
    assert_eq!(refused.status(), 429);
    // What does not come is not waited for.
    assert_eq!(slow.await.unwrap().unwrap().status(), 408);
    assert!(began.elapsed() < Duration::from_secs(15));
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

/// However long it takes, and whether or not anybody waits for it.
#[tokio::test]
async fn a_change_of_many_goes_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(vedette_store::StoreSettings::new(folder.path(), Access::Engine)).await.unwrap();
    let (_sender, live) = watched(Live::starting(Mode::Demo, "0.1.0", NOON));
    let (_stop, stopping) = watch::channel(false);
    let app = Arc::new(app(&store, live, stopping).await);
    let (done, mut ended) = watch::channel(0);
    let (release, released) = watch::channel(false);
    let slow = move || {
        let (done, mut released) = (done.clone(), released.clone());
        async move {
            released.wait_for(|released| *released).await.unwrap();
            done.send_modify(|n| *n += 1);
            "done"
        }
    };
    let router: Router = Router::new()
        .route("/alerts/bulk", post(slow))
        .layer(middleware::from_fn_with_state(Guard::new(app), guard));
    let send = || {
        let form = request("POST", "/alerts/bulk").body(Body::empty()).unwrap();
        tokio::spawn(router.clone().oneshot(form))
    };
    let waits = send();
    let gone: Vec<_> = (0..31).map(|_| send()).collect();
    // Longer than anything else may take.
    tokio::time::sleep(Duration::from_millis(10_500)).await;
    gone.iter().for_each(tokio::task::JoinHandle::abort);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(send().await.unwrap().unwrap().status(), 429, "what goes on has its place");
    release.send(true).unwrap();
    assert_eq!(waits.await.unwrap().unwrap().status(), 200);
    ended.wait_for(|n| *n == 32).await.unwrap();
}

/// A use is noted, though nobody waits for that.
#[tokio::test]
async fn a_tokens_use_is_noted() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(vedette_store::StoreSettings::new(folder.path(), Access::Engine)).await.unwrap();
    let token = create_token().unwrap();
    store.create_token("ann", Role::Analyst, token.hash, "test").await.unwrap();
    let api = over(store, folder, |app| app.open = false).await;
    for _ in 0..3 {
        let request =
            request("GET", "/api/v1/rules").header(header::AUTHORIZATION, format!("Bearer {}", token.text));
        assert_eq!(api.send(request.body(Body::empty()).unwrap()).await.status, 200);
    }
    let until = tokio::time::Instant::now() + Duration::from_secs(5);
    while api.store.tokens().await.unwrap()[0].last_used_at.is_none() {
        assert!(tokio::time::Instant::now() < until, "the use is not noted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_again_and_nobody_else_waits() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(vedette_store::StoreSettings::new(folder.path(), Access::Engine)).await.unwrap();
    let (busy, other) = (create_token().unwrap(), create_token().unwrap());
    store.create_token("busy", Role::Reader, busy.hash, "test").await.unwrap();
    store.create_token("other", Role::Reader, other.hash, "test").await.unwrap();
    let api = over(store, folder, |app| app.open = false).await;
    let ask = async |token: &str| {
        let request = request("GET", "/api/v1/me").header(header::AUTHORIZATION, format!("Bearer {token}"));
        api.send(request.body(Body::empty()).unwrap()).await
    };
    let mut asked = 0;
    let refused = loop {
        asked += 1;
        assert!(asked < 20_000, "nobody says stop");
        let answer = ask(&busy.text).await;
        if answer.status == 429 {
            break answer;
        }
    };
    assert!(asked > 2_000, "a burst passes: {asked}");
    assert_eq!(refused.headers[header::RETRY_AFTER], "1");
    assert_ne!(ask(&other.text).await.status, 429);
}

#[tokio::test]
async fn a_wrong_token_is_refused_even_where_none_is_needed() {
    let api = seeded().await;
    let request = request("GET", "/api/v1/alerts").header(header::AUTHORIZATION, "Bearer vdt_wrong");
    assert_eq!(api.send(request.body(Body::empty()).unwrap()).await.status, 401);
}

#[tokio::test]
async fn foreign_host_names_are_not_answered_to_on_loopback() {
    let api = seeded().await;
    for (host, status) in [
        ("localhost", 200),
        ("LOCALHOST:8080", 200),
        ("[::1]:8080", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("127.0.0.1@evil.example", 421),
        ("", 421),
    ] {
        let request = axum::http::Request::get("/api/v1/status").header(header::HOST, host);
        assert_eq!(api.send(request.body(Body::empty()).unwrap()).await.status, status, "{host}");
    }
    let unnamed = axum::http::Request::get("/api/v1/status").body(Body::empty()).unwrap();
    assert_eq!(api.send(unnamed).await.status, 421);
    let twice = request("GET", "/api/v1/status").header(header::HOST, "localhost");
    let twice = api.send(twice.body(Body::empty()).unwrap()).await;
    assert_eq!(
        (twice.status.as_u16(), &twice.json()["type"]),
        (400, &"urn:vedette:problem:invalid-host".into())
    );
}

#[tokio::test]
async fn beyond_loopback_configured_names_and_loopbacks_own_are_answered_to() {
    let named = empty(|app| {
        app.loopback = false;
        app.hosts = vec!["soc.example".to_owned()];
    })
    .await;
    let any = empty(|app| app.loopback = false).await;
    for (host, of_named, of_any) in [
        ("soc.example", 200, 200),
        ("SOC.example:8080", 200, 200),
        ("localhost:8080", 200, 200),
        ("127.0.0.1", 200, 200),
        ("[::1]:8080", 200, 200),
        ("evil.example", 421, 200),
        ("soc.example.evil.example", 421, 200),
        ("", 421, 421),
    ] {
        for (api, status) in [(&named, of_named), (&any, of_any)] {
            let request = axum::http::Request::get("/api/v1/status").header(header::HOST, host);
            assert_eq!(api.send(request.body(Body::empty()).unwrap()).await.status, status, "{host}");
        }
    }
}

#[tokio::test]
async fn another_site_changes_nothing() {
    let api = seeded().await;
    let id = api.first().await;
    let path = format!("/alerts/{id}/comments");
    let post = async |headers: &[(&str, &str)]| {
        let mut request =
            request("POST", &path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        api.send(request.body("text=hello".into()).unwrap()).await.status.as_u16()
    };
    assert_eq!(post(&[("origin", "http://evil.example")]).await, 403);
    assert_eq!(post(&[("origin", "null")]).await, 403);
    assert_eq!(post(&[("origin", "http://127.0.0.1:9999")]).await, 403);
    assert_eq!(post(&[("sec-fetch-site", "cross-site"), ("origin", "http://127.0.0.1:8080")]).await, 403);
    assert_eq!(post(&[("sec-fetch-site", "same-site")]).await, 403);
    assert_eq!(post(&[("origin", "http://127.0.0.1:8080")]).await, 303);
    assert_eq!(post(&[("sec-fetch-site", "same-origin")]).await, 303);
    assert_eq!(post(&[]).await, 303);
    let history = api.get(&format!("/api/v1/alerts/{id}/history")).await.json();
    assert_eq!(history["items"].as_array().unwrap().len(), 3);
    // The API's own routes too, where no token is needed.
    let request = request("POST", &format!("/api/v1{path}"))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ORIGIN, "http://evil.example");
    assert_eq!(api.send(request.body(json!({"text": "x"}).to_string().into()).unwrap()).await.status, 403);
}

#[tokio::test]
async fn every_answer_bears_the_security_headers() {
    let api = seeded().await;
    for path in ["/", "/api/v1/alerts", "/nothing", "/healthz", "/assets/console.css", "/api/v1/alerts?x=1"] {
        let answer = api.get(path).await;
        let policy = answer.header(header::CONTENT_SECURITY_POLICY);
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{path}");
        assert_eq!(answer.header(header::X_CONTENT_TYPE_OPTIONS), "nosniff", "{path}");
        assert_eq!(answer.header(header::REFERRER_POLICY), "same-origin", "{path}");
        let kept = answer.header(header::CACHE_CONTROL);
        assert_eq!(kept == "no-store", !path.starts_with("/assets/"), "{path}: {kept}");
    }
}

#[tokio::test]
async fn a_panic_is_an_answer_and_too_many_requests_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(vedette_store::StoreSettings::new(folder.path(), Access::Engine)).await.unwrap();
    let (_sender, live) = watched(Live::starting(Mode::Demo, "0.1.0", NOON));
    let (_stop, stopping) = watch::channel(false);
    let app = Arc::new(app(&store, live, stopping).await);
    let slow = || async { tokio::time::sleep(Duration::from_secs(60)).await };
    let broken = || async {
        if NOON.0 > 0 {
            panic!("on purpose");
        }
    };
    let router: Router = Router::new()
        .route("/slow", get(slow))
        .route("/broken", get(broken))
        .layer(middleware::from_fn_with_state(Guard::new(app), guard));
    let ask = async |path: &str| {
        let request = request("GET", path).body(Body::empty()).unwrap();
        router.clone().oneshot(request).await.unwrap()
    };
    let answer = ask("/broken").await;
    assert_eq!(answer.status(), 500);
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/problem+json");
    assert_eq!(answer.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");

    let waiting: Vec<_> = (0..128)
        .map(|_| tokio::spawn(router.clone().oneshot(request("GET", "/slow").body(Body::empty()).unwrap())))
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let answer = ask("/slow").await;
    assert_eq!(
        (answer.status().as_u16(), answer.headers()[header::RETRY_AFTER].to_str().unwrap()),
        (429, "1")
    );
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(ask("/broken").await.status(), 500);
}

#[tokio::test]
async fn streams_are_limited() {
    let api = seeded().await;
    let open = async || {
        let request = request("GET", "/api/v1/alerts/stream").body(Body::empty()).unwrap();
        api.router.clone().oneshot(request).await.unwrap()
    };
    let (first, _second) = (open().await, open().await);
    assert_eq!(open().await.status(), 429);
    drop(first);
    assert_eq!(open().await.status(), 200);
}

/// What one row takes never waits for those who change all that there is.
#[tokio::test]
async fn only_changes_of_many_alerts_take_their_places() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(vedette_store::StoreSettings::new(folder.path(), Access::Engine)).await.unwrap();
    let places = Shares::new("changes of many alerts", 1, 1);
    let others = places.take(&Caller::local()).unwrap();
    let api = over(store, folder, |app| app.bulks = Arc::clone(&places)).await;
    let ask = async |path: &str, body: &str| {
        let request = request("POST", path).header(header::CONTENT_TYPE, "application/json");
        api.send(request.body(Body::from(body.to_owned())).unwrap()).await.status.as_u16()
    };
    let items = |n: usize| {
        let items = vec![r#"{"id": "x", "version": 0}"#; n].join(", ");
        format!(r#"{{"items": [{items}], "change": {{"status": "new"}}}}"#)
    };
    let filter = r#"{"filter": {}, "as_of": 0, "change": {"status": "new"}}"#;
    let all = async || {
        let bulk = "/api/v1/alerts/bulk";
        let undo = ask("/api/v1/alerts/undo", r#"{"change_id": 1}"#).await;
        [
            ask(bulk, &items(1)).await,
            ask(bulk, &items(128)).await,
            ask(bulk, &items(129)).await,
            ask(bulk, filter).await,
            undo,
        ]
    };
    assert_eq!(all().await, [200, 200, 429, 429, 429]);
    drop(others);
    assert_eq!(all().await, [200, 200, 200, 200, 404]);
    assert_eq!(places.in_use(), 0);
}

#[tokio::test]
async fn one_token_takes_a_share_of_the_streams() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(vedette_store::StoreSettings::new(folder.path(), Access::Engine)).await.unwrap();
    let mut texts = Vec::new();
    for name in ["ann", "bob"] {
        let token = create_token().unwrap();
        store.create_token(name, Role::Reader, token.hash, "test").await.unwrap();
        texts.push(token.text);
    }
    let api = over(store, folder, |app| {
        app.open = false;
        app.streams = Shares::new("streams and exports", 3, 1);
    })
    .await;
    let open = async |token: &str, path: &str| {
        let request = request("GET", path).header(header::AUTHORIZATION, format!("Bearer {token}"));
        api.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    };
    let (stream, export) = ("/api/v1/alerts/stream", "/api/v1/alerts/export");
    let first = open(&texts[0], stream).await;
    assert_eq!(first.status(), 200);
    assert_eq!(open(&texts[0], stream).await.status(), 429);
    assert_eq!(open(&texts[0], export).await.status(), 429);
    assert_eq!(open(&texts[1], stream).await.status(), 200);
    drop(first);
    assert_eq!(open(&texts[0], export).await.status(), 200);
}
