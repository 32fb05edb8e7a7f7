//! Scheduled hunts over HTTP.

use std::sync::Arc;

use axum::{Extension, Json, extract::State, http::StatusCode, response::Response};

use super::keyed::{KeyHeader, Keyed, created};
use crate::{
    app::App,
    auth::Caller,
    desk::hunt::schedule::{
        self, HuntScheduleBody, HuntScheduleChange, HuntScheduleDocument, HuntScheduleList,
    },
    params::{JsonBody, NoParams, Segment, Strict},
    problem::{self, Problem},
};

/// Lists the kept hunts that are run again and again, with how each gets on: at most 100.
#[utoipa::path(
    get, path = "/hunts/schedules", operation_id = "list_hunt_schedules", tag = "hunts",
    responses((status = 200, description = "The schedules", body = HuntScheduleList), problem::ProblemDocument)
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Json<HuntScheduleList>, Problem> {
    schedule::list(&app).await.map(Json)
}

/// Has a kept hunt run again and again: what it finds raises alerts.
///
/// Each run looks at the events of one stretch of time of this length, which follows on the one before, once the lake is complete for it; the
/// first at the last whole one before now. Rows with the same value in the column `entity` are one alert, whose body has rule `hunt:` and the kept hunt's
/// number and the flag `hunt`: it runs late, and over what the lake holds. No countermeasure follows from it unless a person approves. A run that
/// failed, or that nobody ran, is made up for within a day; what is passed over is said by the schedule and among the health events.
#[utoipa::path(
    post, path = "/hunts/schedules", operation_id = "schedule_hunt", tag = "hunts", request_body = HuntScheduleBody,
    params(KeyHeader),
    responses(
        (status = 201, description = "The schedule", body = HuntScheduleDocument),
        (status = 409, description = "The hunt is not shown to everybody, has a schedule, or there are 100", body = problem::ProblemDocument, content_type = "application/problem+json"),
        problem::ProblemDocument
    )
)]
pub(crate) async fn begin(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
    Keyed { body, key }: Keyed<HuntScheduleBody>,
) -> Result<Response, Problem> {
    Ok(created(schedule::begin(&app, body, key, &caller).await?))
}

/// Pauses a schedule, or lets it go on. What happens while it is paused is not looked at.
#[utoipa::path(
    patch, path = "/hunts/schedules/{id}", operation_id = "change_hunt_schedule", tag = "hunts",
    request_body = HuntScheduleChange, params(("id" = String, Path, description = "The schedule's number")),
    responses((status = 200, description = "The schedule", body = HuntScheduleDocument), problem::ProblemDocument)
)]
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
    JsonBody(body): JsonBody<HuntScheduleChange>,
) -> Result<Json<HuntScheduleDocument>, Problem> {
    schedule::change(&app, &id, &body, &caller).await.map(Json)
}

/// Removes a schedule. The kept hunt stays, and so do the alerts.
#[utoipa::path(
    delete, path = "/hunts/schedules/{id}", operation_id = "unschedule_hunt", tag = "hunts",
    params(("id" = String, Path, description = "The schedule's number")),
    responses((status = 204, description = "It is gone"), problem::ProblemDocument)
)]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<StatusCode, Problem> {
    schedule::remove(&app, &id, &caller).await?;
    Ok(StatusCode::NO_CONTENT)
}
