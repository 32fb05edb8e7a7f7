//! The service itself: sources, status, dead letters, probes, metrics, the OpenAPI document.

use std::{borrow::Cow, sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use serde_json::json;
use tokio::time::timeout;
use utoipa::ToSchema;
use vedette_event::{Incarnation, Micros, Severity};
use vedette_store::{
    Sizes,
    model::{ActionState, Effectiveness, HealthEvent, LostInterval},
};

use crate::{
    app::App,
    auth::Caller,
    desk::{
        dead_letters::{self, DeadLetter, DeadLetterParams, DeadLetterTotals},
        list::Listed,
        overview::{self, Overview},
        playbook::{self, ConnectorDocument},
    },
    live::{Live, Obstacle, Readiness, SourceStatus, StageState, StageStatus, Status},
    metrics::{Metric, Sample},
    params::{NoParams, Strict},
    problem::{self, Kind, Problem},
    process::Process,
};

/// The newest: what began and ended lately; all of them are in the store and in the log.
const HEALTH_EVENTS: u32 = 50;

/// For what the store knows, of a scrape that as a probe has no time limit of its own.
const PATIENCE: Duration = Duration::from_secs(2);

/// All sources.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Sources {
    /// The sources, by name.
    items: Vec<SourceStatus>,
    /// Watermarks and counters are as of then: later than this by more than seconds, the kernel stands still.
    #[schema(value_type = String, format = DateTime)]
    as_of: Micros,
    /// Always null: all sources are on one page.
    #[schema(required = true)]
    next_cursor: Option<String>,
}

/// Lists the sources with lag and watermark.
#[utoipa::path(
    get, path = "/sources", operation_id = "list_sources", tag = "operation",
    responses(
        (status = 200, description = "The sources", body = Sources),
        problem::ProblemDocument
    )
)]
pub(crate) async fn sources(
    State(app): State<Arc<App>>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Json<Sources> {
    let Live { sources, as_of, .. } = app.live.now();
    Json(Sources { items: sources, as_of, next_cursor: None })
}

/// How the service is doing.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StatusReport {
    /// Whether it does its work, and if not, why.
    #[serde(flatten)]
    ready: Readiness,
    /// The process.
    #[serde(flatten)]
    status: Status,
    /// Watermarks and counters are as of then.
    #[schema(value_type = String, format = DateTime)]
    as_of: Micros,
    /// The stages in the order in which records pass through them.
    stages: Vec<StageStatus>,
    /// Records that were lost: the broker deleted them unread, or their topic was made anew before what was found in them was
    /// final.
    lost: Vec<Lost>,
    /// The newest health events, newest first.
    health: Vec<HealthNote>,
}

/// Records that were lost: `[from, to)`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Lost {
    /// The topic.
    topic: String,
    /// How often it had been accepted anew; missing for 0.
    #[serde(skip_serializing_if = "crate::wire::is_first")]
    incarnation: Incarnation,
    /// The partition.
    partition: i32,
    /// First lost offset.
    from: i64,
    /// The offset after the last.
    to: i64,
    /// When it was noticed.
    #[schema(value_type = String, format = DateTime)]
    noticed_at: Micros,
}

impl From<LostInterval> for Lost {
    fn from(LostInterval { topic, incarnation, partition, from, to, noticed_at }: LostInterval) -> Self {
        Self { topic, incarnation, partition, from, to, noticed_at }
    }
}

/// Something about the service itself that people must know.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HealthNote {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Micros,
    /// A stable word such as `lost` or `clock_overtaken`.
    kind: String,
    /// How bad.
    severity: Severity,
    /// One line for a person.
    message: String,
}

impl From<HealthEvent> for HealthNote {
    fn from(HealthEvent { at, kind, severity, message, .. }: HealthEvent) -> Self {
        Self { at, kind, severity, message }
    }
}

/// Tells how the service is doing.
#[utoipa::path(
    get, path = "/status", operation_id = "get_status", tag = "operation",
    responses(
        (status = 200, description = "The status", body = StatusReport),
        problem::ProblemDocument
    )
)]
pub(crate) async fn status(
    State(app): State<Arc<App>>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Json<StatusReport>, Problem> {
    let lost = app.store.lost_intervals().await?.into_iter().map(Into::into).collect();
    let health = app.store.health_events(HEALTH_EVENTS).await?.into_iter().map(Into::into).collect();
    let Live { ready, status, as_of, stages, .. } = app.live.now();
    Ok(Json(StatusReport { ready, status, as_of, stages, lost, health }))
}

/// One page of dead letters.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct DeadLetterPage {
    /// The dead letters, newest first.
    items: Vec<DeadLetter>,
    /// Where the next page starts; null on the last.
    #[schema(required = true)]
    next_cursor: Option<String>,
}

/// Lists dead letters, newest first.
#[utoipa::path(
    get, path = "/dead-letters", operation_id = "list_dead_letters", tag = "operation", params(DeadLetterParams),
    responses(
        (status = 200, description = "A page", body = DeadLetterPage),
        problem::ProblemDocument
    )
)]
pub(crate) async fn dead_letters(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Strict(params): Strict<DeadLetterParams>,
) -> Result<Json<Listed<DeadLetter>>, Problem> {
    dead_letters::page(&app, &caller, &params).await.map(Json)
}

/// Counts the dead letters of the last day by source, reason, topic and partition.
#[utoipa::path(
    get, path = "/dead-letters/summary", operation_id = "summarise_dead_letters", tag = "operation",
    responses(
        (status = 200, description = "The counts", body = DeadLetterTotals),
        problem::ProblemDocument
    )
)]
pub(crate) async fn dead_letter_totals(
    State(app): State<Arc<App>>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Json<DeadLetterTotals>, Problem> {
    dead_letters::totals(&app).await.map(Json)
}

/// Tells how the watch goes: what could not be seen, events and alerts over time.
#[utoipa::path(
    get, path = "/overview", operation_id = "get_overview", tag = "operation",
    responses(
        (status = 200, description = "The overview", body = Overview),
        problem::ProblemDocument
    )
)]
pub(crate) async fn overview(
    State(app): State<Arc<App>>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Json<Overview>, Problem> {
    overview::of(&app).await.map(Json)
}

/// What stands outside the OpenAPI document.
pub(crate) fn probes() -> Router<Arc<App>> {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
}

/// 200 if the process works; 503 if a stage has work and has shown no sign of life for long: only a restart helps then.
async fn healthz(State(app): State<Arc<App>>) -> Response {
    let stages = app.live.now().stages;
    let hung = stages.iter().filter(|stage| stage.state == StageState::Hung);
    let hung: Vec<String> = hung
        .map(|s| format!("{} has work and has shown no sign of life since {}", s.name, s.alive_at))
        .collect();
    match hung.is_empty() {
        true => (StatusCode::OK, "ok\n").into_response(),
        false => Problem::new(Kind::Stuck, hung.join("; ")).into_response(),
    }
}

/// 200 if the service can serve and evaluate something, with what is degraded; else 503 with the obstacles.
async fn readyz(State(app): State<Arc<App>>) -> Response {
    let Readiness { ready, mut obstacles, mut degraded } = app.live.now().ready;
    // Beyond loopback a stranger may ask: the names say enough.
    if !app.loopback {
        obstacles.iter_mut().for_each(|o| o.message.clear());
        degraded.iter_mut().for_each(|d| d.message.clear());
    }
    if ready {
        return Json(Readiness { ready, obstacles, degraded }).into_response();
    }
    let say = |o: &Obstacle| match o.message.is_empty() {
        true => o.code.clone(),
        false => format!("{}: {}", o.code, o.message),
    };
    let detail: Vec<String> = obstacles.iter().map(say).collect();
    Problem::new(Kind::NotReady, detail.join("; "))
        .member("obstacles", json!(obstacles))
        .member("degraded", json!(degraded))
        .into_response()
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let media = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let mut all = samples(&app);
    // The rest is told all the same, and in time, also where the store does not answer: alarms are about that, too.
    match timeout(PATIENCE, responding(&app)).await {
        Ok(Ok(more)) => all.extend(more),
        Ok(Err(problem)) => tracing::warn!(problem = problem.detail(), "metrics without those of response"),
        Err(_) => tracing::warn!("metrics without those of response: the store does not answer"),
    }
    ([(header::CONTENT_TYPE, media)], app.metrics.render(all)).into_response()
}

/// What is told of actions and connectors; samples of one metric follow one another.
async fn responding(app: &App) -> Result<Vec<Sample>, Problem> {
    let counts = app.store.action_counts().await?;
    // All of them, so that the first is a rise.
    let actions = ActionState::ALL.iter().map(|state| Sample {
        metric: Metric::Actions,
        label: Some(("state", Cow::Borrowed(state.name()))),
        value: counts.get(state).copied().unwrap_or_default() as f64,
    });
    let effects = app.store.effect_counts().await?;
    let effects = Effectiveness::ALL.iter().map(|effect| Sample {
        metric: Metric::ActionEffects,
        label: Some(("effect", Cow::Borrowed(effect.name()))),
        value: effects.iter().filter(|((of, _), _)| of == effect).map(|(_, n)| *n).sum::<u64>() as f64,
    });
    let mut samples: Vec<Sample> = actions.chain(effects).collect();
    if app.response.is_none() {
        return Ok(samples);
    }
    let connectors = playbook::connectors(app).await?;
    let mut each = |metric, value: &dyn Fn(&ConnectorDocument) -> Option<f64>| {
        let known = connectors.iter().filter_map(|of| Some((of, value(of)?)));
        samples.extend(known.map(|(of, value)| Sample {
            metric,
            label: Some(("connector", Cow::Owned(of.name.clone()))),
            value,
        }));
    };
    each(Metric::ConnectorFailures, &|of| (of.state != "fetched").then_some(f64::from(of.failures)));
    each(Metric::ConnectorWaiting, &|of| Some(of.waiting as f64));
    each(Metric::ConnectorGivenUp, &|of| Some(of.given_up as f64));
    each(Metric::ConnectorInForce, &|of| of.in_force.map(|n| n as f64));
    each(Metric::ConnectorLeftOut, &|of| Some(of.left_out as f64));
    each(Metric::ConnectorEffect, &|of| of.effect.p50_seconds);
    Ok(samples)
}

/// What neither the snapshot nor an instrument holds.
fn samples(app: &App) -> Vec<Sample> {
    let open = app.connections.open();
    let streams = app.streams.in_use();
    let one = |metric, value| Sample { metric, label: None, value };
    let place = |name, n| Sample {
        metric: Metric::HttpConnections,
        label: Some(("place", Cow::Borrowed(name))),
        value: n as f64,
    };
    let Sizes { database, journal } = app.store.sizes();
    let file = |name, bytes: u64| Sample {
        metric: Metric::StoreBytes,
        label: Some(("file", Cow::Borrowed(name))),
        value: bytes as f64,
    };
    let mut samples = vec![
        file("database", database),
        file("journal", journal),
        place("ordinary", open.ordinary),
        place("reserve", open.reserve),
        one(Metric::HttpConnectionsShed, open.shed as f64),
        one(Metric::HttpStreams, streams as f64),
    ];
    let Process { cpu_seconds, resident_bytes, virtual_bytes, open_fds, max_fds } = Process::look();
    let process = [
        (Metric::CpuSeconds, cpu_seconds),
        (Metric::ResidentMemory, resident_bytes),
        (Metric::VirtualMemory, virtual_bytes),
        (Metric::OpenFds, open_fds),
        (Metric::MaxFds, max_fds),
    ];
    samples.extend(process.into_iter().filter_map(|(metric, value)| Some(one(metric, value?))));
    samples.push(one(Metric::StartTime, app.live.now().status.started_at.0 as f64 / 1e6));
    samples
}
