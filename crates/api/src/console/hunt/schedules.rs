//! Scheduled hunts on the Hunt page: what is run again and again, how each gets on, and the forms that change it.
//!
//! In: schedules, kept hunts, forms. Out: rows for the page; a redirect back to it. Invariant: the forms do what the API's routes do, without a script.

use std::sync::Arc;

use axum::{
    Extension,
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;
use vedette_event::{Severity, Span};

use crate::{
    app::App,
    auth::Caller,
    console::{Stamp, forms::FormBody, href, words},
    desk::hunt::{
        saved::SavedHuntDocument,
        schedule::{self, HuntRunDocument, HuntScheduleBody, HuntScheduleChange, HuntScheduleDocument},
    },
    params::Segment,
    problem::{Kind, Problem},
};

/// Lengths to choose from.
const EVERY: [(&str, &str); 8] = [
    ("5m", "5 minutes"),
    ("15m", "15 minutes"),
    ("30m", "30 minutes"),
    ("1h", "hour"),
    ("4h", "4 hours"),
    ("12h", "12 hours"),
    ("1d", "day"),
    ("7d", "7 days"),
];

/// A schedule as a row.
pub(super) struct Scheduled {
    pub id: i64,
    pub name: String,
    pub title: String,
    pub alerts: String,
    pub severity: &'static str,
    pub severity_label: String,
    pub every: String,
    pub entity: Option<String>,
    pub paused: bool,
    pub next: (Stamp, Stamp),
    pub last: Option<Last>,
    pub error: Option<(String, Stamp)>,
    /// What was passed over, in words, with from when until when the last time.
    pub passed: Option<(String, Stamp, Stamp)>,
}

/// The run that ended last.
pub(super) struct Last {
    pub at: Stamp,
    pub window: (Stamp, Stamp),
    pub told: String,
}

impl Last {
    fn of(run: &HuntRunDocument) -> Self {
        let rows = if run.rows == 1 { "row" } else { "rows" };
        let more = if run.more { " or more" } else { "" };
        let alerts = if run.alerts == 1 { "alert" } else { "alerts" };
        let told = format!(
            "{}{more} {rows}, {} {alerts}, {}",
            words::number(run.rows),
            words::number(run.alerts),
            words::seconds(run.seconds)
        );
        Self { at: Stamp::of(run.at), window: (Stamp::of(run.since), Stamp::of(run.until)), told }
    }
}

impl From<HuntScheduleDocument> for Scheduled {
    fn from(of: HuntScheduleDocument) -> Self {
        let rule = format!("hunt:{}", of.saved_hunt_id);
        Self {
            id: of.schedule_id,
            alerts: href("/", &[("status", "all"), ("rule", &rule)]),
            severity: of.severity.name(),
            severity_label: words::label(of.severity.name()),
            every: length(of.every),
            paused: of.paused,
            next: (Stamp::of(of.next_since), Stamp::of(of.next_until)),
            last: of.last_run.as_ref().map(Last::of),
            error: of.error.zip(of.error_since.map(Stamp::of)),
            passed: of.passed_over.map(|passed| {
                let n = words::number(passed.windows);
                let told = if passed.windows == 1 { format!("{n} run") } else { format!("{n} runs") };
                (told, Stamp::of(passed.since), Stamp::of(passed.until))
            }),
            name: of.name,
            title: of.title,
            entity: of.entity,
        }
    }
}

/// A length in words, where it is one of those to choose from.
fn length(every: Span) -> String {
    let text = every.to_string();
    EVERY.iter().find(|(value, _)| *value == text).map_or(text, |(_, words)| (*words).to_owned())
}

/// What the form offers.
pub(super) struct Choices {
    /// Number and name of hunts that can be scheduled.
    pub hunts: Vec<(i64, String)>,
    pub every: [(&'static str, &'static str); 8],
    pub severities: [(&'static str, String); 5],
}

impl Choices {
    /// Of the kept hunts those that others see and that have no schedule.
    pub fn of(kept: &[SavedHuntDocument], scheduled: &[HuntScheduleDocument]) -> Self {
        let free = |of: &&SavedHuntDocument| {
            of.shared && scheduled.iter().all(|other| other.saved_hunt_id != of.saved_hunt_id)
        };
        Self {
            hunts: kept.iter().filter(free).map(|of| (of.saved_hunt_id, of.name.clone())).collect(),
            every: EVERY,
            severities: Severity::ALL.map(|level| (level.name(), words::label(level.name()))),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::console) struct ScheduleForm {
    hunt: i64,
    every: String,
    severity: Severity,
    title: String,
    summary: String,
    entity: String,
    most: String,
}

/// `POST /hunt/schedules`.
pub(in crate::console) async fn schedule(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    FormBody(form): FormBody<ScheduleForm>,
) -> Result<Response, Problem> {
    let ScheduleForm { hunt, every, severity, title, summary, entity, most } = form;
    let most = match most.trim() {
        "" => None,
        most => Some(most.parse().map_err(|_| {
            Problem::new(Kind::InvalidBody, "Alerts of one run are a whole number from 1 to 100.")
        })?),
    };
    let body = HuntScheduleBody {
        saved_hunt_id: hunt,
        every,
        severity,
        title: Some(title),
        summary: Some(summary),
        entity: Some(entity),
        most_alerts: most,
    };
    schedule::begin(&app, body, None, &caller).await?;
    Ok(Redirect::to("/hunt#scheduled").into_response())
}

/// What a button of a row does.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Act {
    Pause,
    Resume,
    Remove,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::console) struct ActForm {
    act: Act,
}

/// `POST /hunt/schedules/{id}`.
pub(in crate::console) async fn act(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    FormBody(ActForm { act }): FormBody<ActForm>,
) -> Result<Response, Problem> {
    match act {
        Act::Remove => schedule::remove(&app, &id, &caller).await?,
        Act::Pause | Act::Resume => {
            let to = HuntScheduleChange { paused: matches!(act, Act::Pause) };
            schedule::change(&app, &id, &to, &caller).await?;
        }
    }
    Ok(Redirect::to("/hunt#scheduled").into_response())
}
