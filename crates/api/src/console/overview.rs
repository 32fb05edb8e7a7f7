//! The overview: what could not be seen at the top, then events, lateness and alerts over time.
//!
//! In: the desk's overview. Out: a page with pictures that are also told in words. Invariants: every figure is one of
//! `/api/v1/overview`, with its `as_of`; a picture says nothing of times at which nobody looked.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, response::Response};
use vedette_event::Span;

use super::{Frame, Stamp, bars::Picture, render, words};
use crate::{
    app::App,
    desk::{
        overview::{self, AlertStep, EventStep, Overview, Unseen, UnseenKind},
        took::Took,
    },
    live::{Live, StageStatus},
    metrics::now,
    params::{NoParams, Strict},
    problem::Problem,
};

/// Something that could not be seen, with the page that says more.
struct Missed {
    label: &'static str,
    bad: bool,
    count: Option<String>,
    message: String,
    since: Option<Stamp>,
    href: &'static str,
}

impl Missed {
    fn of(unseen: Unseen) -> Self {
        let (label, bad, href) = match unseen.kind {
            UnseenKind::Obstacle => ("Not ready", true, "/sources"),
            UnseenKind::Degraded => ("Degraded", true, "/sources"),
            UnseenKind::Source => ("Source", true, "/sources"),
            UnseenKind::Lost => ("Lost", true, "/sources"),
            UnseenKind::Unevaluated => ("Not evaluated", true, "/rules?show=impaired"),
            UnseenKind::OverBudget => ("Over budget", true, "/rules?show=impaired"),
            UnseenKind::DeadLetters => ("Dead letters", false, "/dead-letters"),
            UnseenKind::TimeReplaced => ("Late or forged", false, "/sources"),
            UnseenKind::RefusedRules => ("Refused", false, "/rules#refused"),
        };
        Self {
            label,
            bad,
            count: unseen.count.map(words::number),
            message: unseen.message,
            since: unseen.since.map(Stamp::of),
            href,
        }
    }
}

fn events(steps: &[EventStep]) -> Option<Picture> {
    let rate = |step: &EventStep| {
        let seconds = (step.until.since(step.from).0 / 1_000_000).max(1).unsigned_abs();
        let n = step.events / seconds;
        (step.from, step.until, n, format!("{} events a second", words::number(n)))
    };
    Picture::of(&steps.iter().map(rate).collect::<Vec<_>>(), "Events a second")
}

fn lateness(steps: &[EventStep]) -> Option<Picture> {
    let late = |step: &EventStep| {
        let seconds = step.behind_seconds?.max(0);
        let told = format!("{} behind", words::span(Span::secs(seconds)));
        Some((step.from, step.until, seconds.unsigned_abs(), told))
    };
    Picture::of(&steps.iter().filter_map(late).collect::<Vec<_>>(), "Seconds behind")
}

fn alerts(steps: &[AlertStep]) -> Option<Picture> {
    let point = |step: &AlertStep| {
        (step.from, step.until, step.alerts, format!("{} alerts", words::number(step.alerts)))
    };
    Picture::of(&steps.iter().map(point).collect::<Vec<_>>(), "Alerts")
}

struct Stage {
    name: String,
    state: &'static str,
    bad: bool,
    moved: Stamp,
    waits_for: Option<String>,
}

impl Stage {
    fn of(stage: &StageStatus) -> Self {
        Self {
            name: words::label(&stage.name),
            state: stage.state.name(),
            bad: stage.state.stands_still(),
            moved: Stamp::of(stage.moved_at),
            waits_for: stage.waits_for.clone(),
        }
    }
}

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    frame: Frame,
    as_of: Stamp,
    missed: Vec<Missed>,
    figures: Vec<(&'static str, String, String)>,
    events: Option<Picture>,
    lateness: Option<Picture>,
    alerts: Option<Picture>,
    stages: Vec<Stage>,
    watched: Vec<(String, String)>,
}

/// `GET /overview`.
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Response, Problem> {
    let live = app.live.now();
    let Overview { unseen, events: by_time, alerts: alerts_by_time, first_word, as_of } =
        overview::of(&app).await?;
    let alerted: u64 = alerts_by_time.iter().map(|step| step.alerts).sum();
    render(&OverviewPage {
        frame: Frame::new(&live, "/overview"),
        as_of: Stamp::of(as_of),
        missed: unseen.into_iter().map(Missed::of).collect(),
        figures: figures(&live, alerted, first_word),
        events: events(&by_time),
        lateness: lateness(&by_time),
        alerts: alerts(&alerts_by_time),
        stages: live.stages.iter().map(Stage::of).collect(),
        watched: watched(&live),
    })
}

fn figures(live: &Live, alerted: u64, first: Took) -> Vec<(&'static str, String, String)> {
    let now = now();
    let slowest =
        live.sources.iter().filter_map(|source| source.watermark.map(|at| (at, &source.name))).min();
    let (behind, whose) = slowest.map_or_else(
        || ("–".to_owned(), "no source has a watermark yet".to_owned()),
        |(at, name)| (words::span(now.since(at)), format!("the slowest source, {name}")),
    );
    let published = live.status.publish.last_at.map_or_else(
        || ("–".to_owned(), "nothing yet".to_owned()),
        |at| (words::span(now.since(at)), "ago".to_owned()),
    );
    let (first_word, of) = heard(first);
    let events: u64 = live.sources.iter().map(|source| source.events).sum();
    let lag: u64 = live.sources.iter().map(|source| source.lag).sum();
    vec![
        ("Behind", behind, whose),
        ("First word", first_word, of),
        ("Last published", published.0, published.1),
        ("Unread records", words::number(lag), "in all partitions".to_owned()),
        ("Alerts", words::number(alerted), "in the last day".to_owned()),
        ("Events", words::number(events), format!("since {}", Stamp::of(live.status.started_at).text)),
    ]
}

/// How long half of the first words took, and what that is of.
fn heard(first: Took) -> (String, String) {
    let (Some(half), Some(most)) = (first.p50_seconds, first.p99_seconds) else {
        return ("–".to_owned(), "no alert in the last hour".to_owned());
    };
    let of = words::number(first.of);
    let detail = format!(
        "after its event at most, of half of {of} in the last hour; of 99 % {}",
        words::seconds(most)
    );
    (words::seconds(half), detail)
}

/// What stands behind the figures, for who runs it.
fn watched(live: &Live) -> Vec<(String, String)> {
    let status = &live.status;
    let of = |name: &str, value: String| (name.to_owned(), value);
    let bytes = |n: u64| format!("{} MiB", words::number(n >> 20));
    let mut all = vec![
        of("Rules in force", format!("{}, version {}", status.rule_set.accepted, status.rule_set.version)),
        of("Sources", words::number(live.sources.len() as u64)),
        of("Keys with state", words::number(status.load.keys)),
        of(
            "Findings that wait",
            format!(
                "{} of {}",
                words::number(status.load.waiting),
                words::number(status.load.waiting_budget)
            ),
        ),
        of("Version", status.version.clone()),
    ];
    let held = status.memory.resident.map_or_else(|| "unknown".to_owned(), bytes);
    all.push(of("Memory", format!("{held} of {}", bytes(status.memory.budget))));
    all
}
