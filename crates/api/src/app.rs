//! The application: what routes share, which routes there are, and their OpenAPI document.
//!
//! In: the store, the snapshots, the settings. Out: one router. Invariant: the document served is generated from the
//! routes that are served.

use std::sync::{Arc, LazyLock};

use axum::{Router, extract::DefaultBodyLimit, middleware};
use tokio::sync::{Semaphore, watch};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        self,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};
use vedette_store::Store;

use crate::{
    auth::Tokens,
    connections::Connections,
    console,
    guard::{self, Guard},
    live::LiveView,
    metrics::Metrics,
    reload::Reloads,
    routes::{alerts, rules, stream, system, triage},
    wire,
};

/// A body larger than this is refused: the largest is a bulk change.
const MAX_BODY: usize = 256 * 1024;

/// Event streams open at once.
pub(crate) const MAX_STREAMS: usize = 256;

/// Streams that read the store at once: each commit wakes all of them, and half of the store's connections stay free
/// for pages.
pub(crate) const STREAM_READS: usize = 2;

/// What routes share.
pub(crate) struct App {
    pub store: Store,
    pub live: LiveView,
    pub metrics: Arc<Metrics>,
    pub tokens: Tokens,
    pub connections: Arc<Connections>,
    /// No token is needed.
    pub open: bool,
    /// The server listens on loopback.
    pub loopback: bool,
    pub console: bool,
    pub hosts: Vec<String>,
    pub reloads: Option<Reloads>,
    /// One permit for each open event stream.
    pub streams: Arc<Semaphore>,
    /// One permit for each stream that reads the store.
    pub stream_reads: Semaphore,
    /// Becomes true when the server stops.
    pub stopping: watch::Receiver<bool>,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Vedette",
        description = "Alerts of a streaming detection engine: list, follow, triage; rules, sources and their coverage. \
                       Times are RFC 3339 in UTC, lists page by cursor, errors are problem documents (RFC 9457).",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(wire::AlertOrNotice)),
    modifiers(&Bearer),
    security(("token" = [])),
    tags(
        (name = "alerts", description = "Alerts and notices"),
        (name = "triage", description = "What analysts do with them"),
        (name = "detection", description = "Rules and their coverage"),
        (name = "operation", description = "Sources, status, dead letters")
    )
)]
struct OpenApiDocument;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let mut http = Http::new(HttpAuthScheme::Bearer);
        http.description = Some("A token made by `vedette token create`.".to_owned());
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(http));
    }
}

fn api() -> OpenApiRouter<Arc<App>> {
    let routes = OpenApiRouter::new()
        .routes(routes!(alerts::list))
        .routes(routes!(alerts::summary))
        .routes(routes!(stream::follow))
        .routes(routes!(triage::bulk))
        .routes(routes!(alerts::one, triage::change))
        .routes(routes!(triage::comment))
        .routes(routes!(alerts::history))
        .routes(routes!(rules::list))
        .routes(routes!(rules::one))
        .routes(routes!(rules::coverage))
        .routes(routes!(rules::reload))
        .routes(routes!(system::sources))
        .routes(routes!(system::status))
        .routes(routes!(system::dead_letters));
    OpenApiRouter::with_openapi(OpenApiDocument::openapi()).nest("/api/v1", routes)
}

/// The OpenAPI document.
#[must_use]
pub fn openapi_document() -> &'static openapi::OpenApi {
    static DOCUMENT: LazyLock<openapi::OpenApi> = LazyLock::new(|| api().split_for_parts().1);
    &DOCUMENT
}

/// All routes behind the guard.
pub(crate) fn router(app: App) -> Router {
    let app = Arc::new(app);
    let mut routes = api().split_for_parts().0.merge(system::probes());
    if app.console {
        routes = routes.merge(console::routes());
    }
    routes
        .fallback(guard::no_route)
        .method_not_allowed_fallback(guard::no_method)
        .layer(middleware::from_fn_with_state(Guard::new(Arc::clone(&app)), guard::guard))
        // Outside the guard, which reads bodies.
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(app)
}
