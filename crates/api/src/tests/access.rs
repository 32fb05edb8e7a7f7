//! Who may ask what, from where.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body, http::header, middleware, routing::get};
use futures::StreamExt as _;
use serde_json::json;
use tokio::sync::watch;
use tower::ServiceExt as _;
use vedette_store::{Access, Store, model::Role};

use super::{NOON, app, empty, over, request, seeded};
use crate::{
    auth::create_token,
    guard::{Guard, guard},
    live,
};

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
    tokio::time::sleep(Duration::from_millis(5_100)).await;
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
    let store = Store::open(vedette_store::Settings::new(folder.path(), Access::Engine)).await.unwrap();
    let token = create_token().unwrap();
    store.create_token("ann", Role::Analyst, token.hash, "test").await.unwrap();
    let api = over(store, folder, |app| app.open = false).await;
    let request = request("GET", "/api/v1/alerts/stream")
        .header(header::AUTHORIZATION, format!("Bearer {}", token.text));
    let response = api.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut stream = response.into_body().into_data_stream();
    let mut next = async |seconds| tokio::time::timeout(Duration::from_secs(seconds), stream.next()).await;
    assert!(next(6).await.is_err(), "it goes on while the token is in force");
    api.store.revoke_token("ann", "test").await.unwrap();
    assert!(next(11).await.unwrap().is_none());
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
    let store = Store::open(vedette_store::Settings::new(folder.path(), Access::Engine)).await.unwrap();
    let (_sender, live) = live::channel(live::Live::starting(live::Mode::Demo, "0.1.0", NOON));
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
