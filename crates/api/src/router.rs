//! All routes, behind the guard, and their OpenAPI document: the top, which everything else lies below.
//!
//! In: the shared state. Out: one router. Invariant: the document served is generated from the routes that are served.

use std::sync::{Arc, LazyLock};

use axum::{
    Json, Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{get, post_service},
};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        self,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    console,
    guard::{self, Guard},
    mcp,
    routes::{
        actions, alerts, backtests, cases, desk, enforcement, entities, export, hunt_schedules, hunts,
        people, rules, stream, system, triage,
    },
    wire,
};

/// A body larger than this is refused: the largest is a bulk change.
const MAX_BODY: usize = 256 * 1024;

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
        (name = "cases", description = "Alerts that are looked at together"),
        (name = "snoozes", description = "What stays out of the queue for a while"),
        (name = "views", description = "The queue's filters by name"),
        (name = "audit", description = "Who changed what"),
        (name = "hunts", description = "SQL over events"),
        (name = "response", description = "Playbooks, and what they propose and do"),
        (name = "detection", description = "Rules and their coverage"),
        (name = "backtests", description = "Rules tried on the events of the past"),
        (name = "access", description = "Who may come in"),
        (name = "enforcement", description = "What firewalls, gateways and bouncers fetch"),
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
        .routes(routes!(export::alerts))
        .routes(routes!(stream::follow))
        .routes(routes!(triage::bulk))
        .routes(routes!(triage::undo))
        .routes(routes!(alerts::one, triage::change))
        .routes(routes!(triage::comment))
        .routes(routes!(alerts::history))
        .routes(routes!(desk::exception))
        .routes(routes!(cases::list, cases::open))
        .routes(routes!(cases::one, cases::change))
        .routes(routes!(cases::add))
        .routes(routes!(cases::remove))
        .routes(routes!(cases::note))
        .routes(routes!(cases::merge))
        .routes(routes!(cases::split))
        .routes(routes!(cases::history))
        .routes(routes!(desk::snoozes, desk::begin_snooze))
        .routes(routes!(desk::lift_snooze))
        .routes(routes!(desk::views, desk::save_view))
        .routes(routes!(desk::remove_view))
        .routes(routes!(desk::audit))
        .routes(routes!(entities::one))
        .routes(routes!(rules::list))
        .routes(routes!(rules::outcomes))
        .routes(routes!(rules::attack))
        .routes(routes!(rules::navigator))
        .routes(routes!(rules::one))
        .routes(routes!(rules::coverage))
        .routes(routes!(rules::reload))
        .routes(routes!(backtests::list, backtests::begin))
        .routes(routes!(backtests::one, backtests::stop))
        .routes(routes!(system::sources))
        .routes(routes!(system::status))
        .routes(routes!(system::dead_letters))
        .routes(routes!(system::dead_letter_totals))
        .routes(routes!(system::overview))
        .routes(routes!(enforcement::edl))
        .routes(routes!(enforcement::rate_limits))
        .routes(routes!(actions::playbooks))
        .routes(routes!(actions::run))
        .routes(routes!(actions::list))
        .routes(routes!(actions::one))
        .routes(routes!(actions::approve))
        .routes(routes!(actions::reject))
        .routes(routes!(actions::revert))
        .routes(routes!(actions::replay))
        .routes(routes!(actions::never_block, actions::set_never_block))
        .routes(routes!(actions::kill_switch))
        .routes(routes!(hunts::list, hunts::ask))
        .routes(routes!(hunts::schema))
        .routes(routes!(hunts::saved, hunts::save))
        .routes(routes!(hunts::remove))
        .routes(routes!(hunt_schedules::list, hunt_schedules::begin))
        .routes(routes!(hunt_schedules::change, hunt_schedules::remove))
        .routes(routes!(hunts::one, hunts::stop))
        .routes(routes!(people::account))
        .routes(routes!(people::sessions))
        .routes(routes!(people::end_session))
        .routes(routes!(people::users));
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
    let mut routes = api().split_for_parts().0.merge(system::probes()).merge(enforcement::bouncers());
    routes =
        routes.route("/api/v1/openapi.json", get(async || Json::<&openapi::OpenApi>(openapi_document())));
    routes = routes.route_service("/mcp", post_service(mcp::service(Arc::clone(&app))));
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
