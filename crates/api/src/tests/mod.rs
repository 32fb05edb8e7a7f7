//! Tests of the routes: requests into the router in process, against a real store.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod access;
mod actions;
mod alert_page;
mod alerts;
mod backtests;
mod contract;
mod desk;
mod desk_pages;
mod enforcement;
mod export;
mod fetching;
mod hunt_page;
mod hunt_schedules;
mod hunts;
mod ledger;
mod mcp;
mod operation;
mod pages;
mod people;
mod pressure;
mod queue_page;
pub(crate) mod seed;
pub(crate) mod served;
mod single_sign_on;
mod triage;

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode, header},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;
use tower::ServiceExt as _;
use vedette_event::Micros;
use vedette_store::{Access, Store};

use crate::{
    admission::{Admission, SessionLimits},
    app::App,
    checking::RuleCheck,
    connections::{Connections, Places},
    hunting::Hunting,
    live::{Live, LiveView, Mode},
    metrics::Metrics,
    proof::Proofs,
    relay::Relays,
    router::router,
    shares::Shares,
};

/// 2026-01-31T12:00:00Z, the seed's present.
pub(crate) const NOON: Micros = Micros(1_769_860_800_000_000);

struct Api {
    router: Router,
    store: Store,
    live: watch::Sender<Arc<Live>>,
    stop: watch::Sender<bool>,
    _folder: TempDir,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

/// Checks a rule's text without sources or lists.
fn check() -> RuleCheck {
    RuleCheck::new(|text| {
        let file = vedette_sigma::RuleFile { path: "text".into(), text };
        Ok(vedette_sigma::load(&[file], &vedette_sigma::Lists::new(), &vedette_event::Sources::default()))
    })
}

/// An open API on loopback over a seeded store.
async fn seeded() -> Api {
    let api = empty(|_| {}).await;
    seed::fill(&api.store, NOON).await;
    api.live.send_replace(Arc::new(seed::live(NOON)));
    api
}

/// An API over an empty store.
async fn empty(configure: impl FnOnce(&mut App)) -> Api {
    let (folder, store) = stored().await;
    over(store, folder, configure).await
}

/// An empty store.
async fn stored() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(vedette_store::StoreSettings::new(folder.path(), Access::Engine)).await.unwrap();
    (folder, store)
}

async fn over(store: Store, folder: TempDir, configure: impl FnOnce(&mut App)) -> Api {
    let (live, view) = watched(Live::starting(Mode::Demo, "0.1.0", NOON));
    let (stop, stopping) = watch::channel(false);
    let mut app = app(&store, view, stopping).await;
    configure(&mut app);
    Api { router: router(app), store, live, stop, _folder: folder }
}

/// A view of whatever was sent last.
fn watched(first: Live) -> (watch::Sender<Arc<Live>>, LiveView) {
    let (sender, newest) = watch::channel(Arc::new(first));
    (sender, LiveView::new(move || newest.borrow().as_ref().clone()))
}

async fn app(store: &Store, live: LiveView, stopping: watch::Receiver<bool>) -> App {
    App {
        store: store.clone(),
        live: live.clone(),
        metrics: Arc::new(Metrics::new(live)),
        pace: Arc::default(),
        admission: Admission::follow(store, SessionLimits::USUAL).await.unwrap(),
        proofs: Proofs::default(),
        secure: false,
        proxied: false,
        connections: Arc::new(Connections::new(Places::USUAL, false)),
        open: true,
        loopback: true,
        console: true,
        hosts: Vec::new(),
        reloads: None,
        check: check(),
        backtests: None,
        board: None,
        response: None,
        hunts: None,
        hunting: Hunting::default(),
        streams: Shares::new("streams", 2, 2),
        bulks: Shares::new("changes of many alerts", 2, 1),
        relays: Relays::new(store.clone(), 1),
        stopping,
    }
}

impl Api {
    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 64 << 20).await.unwrap().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(request("GET", path).body(Body::empty()).unwrap()).await
    }

    async fn json(&self, method: &str, path: &str, body: Value) -> Answer {
        let request = request(method, path).header(header::CONTENT_TYPE, "application/json");
        self.send(request.body(body.to_string().into()).unwrap()).await
    }

    async fn patch(&self, path: &str, version: &str, body: Value) -> Answer {
        let request = request("PATCH", path).header(header::CONTENT_TYPE, "application/json");
        let request = request.header(header::IF_MATCH, version);
        self.send(request.body(body.to_string().into()).unwrap()).await
    }

    /// The first alert's id.
    async fn first(&self) -> String {
        self.get("/api/v1/alerts?state=active&limit=1").await.json()["items"][0]["alert_id"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path).header(header::HOST, "127.0.0.1:8080")
}

/// Replaces what differs from run to run.
fn redact(mut value: Value) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(members) => {
                for (name, inner) in members {
                    if matches!(name.as_str(), "created_at" | "stored_at" | "closed_at" | "at") {
                        *inner = "<time of storing>".into();
                    } else {
                        walk(inner);
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(walk),
            _ => {}
        }
    }
    walk(&mut value);
    value
}
