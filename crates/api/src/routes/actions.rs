//! Response over HTTP: playbooks, actions and what people decide about them, the never-block set, the kill switch.

use std::sync::Arc;

use axum::{
    Extension, Json,
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderName},
};
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use super::alerts::{IfMatchHeader, if_match, tag};
use crate::{
    app::App,
    auth::Caller,
    desk::{
        action::{
            self, ActionDocument, ActionParams, Decision, DecisionBody, GuardsDocument, KillSwitchBody,
            NeverBlockBody, RunDocument, RunParams, WholeAction,
        },
        list::Listed,
        playbook::{self, PlaybookList},
    },
    params::{JsonBody, NoParams, Segment, Segments, Strict, is_json, json},
    problem::{self, Problem},
};

/// One page of actions.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct ActionPage {
    /// The actions, the newest first.
    items: Vec<ActionDocument>,
    /// Where the next page starts; null on the last.
    #[schema(required = true)]
    next_cursor: Option<String>,
}

/// A body that may be left out.
fn optional<T: DeserializeOwned + Default>(headers: &HeaderMap, body: &Bytes) -> Result<T, Problem> {
    if body.is_empty() {
        return Ok(T::default());
    }
    is_json(headers)?;
    Ok(json::<Option<T>>(body)?.unwrap_or_default())
}

/// Lists the playbooks in force, what each does and by which connectors, those that were refused, and how the connectors are doing.
#[utoipa::path(
    get, path = "/playbooks", operation_id = "list_playbooks", tag = "response",
    responses((status = 200, description = "The playbooks", body = PlaybookList), problem::ProblemDocument)
)]
pub(crate) async fn playbooks(
    State(app): State<Arc<App>>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Json<PlaybookList>, Problem> {
    playbook::playbooks(&app).await.map(Json)
}

/// Runs a playbook for an alert or a notice. What comes of it are proposals, which the guards and people decide about; with `dry_run`,
/// in the query or the body, nothing is proposed and the answer says whom it would hit.
#[utoipa::path(
    post, path = "/alerts/{id}/playbooks/{name}", operation_id = "run_playbook", tag = "response",
    request_body(content = Option<RunParams>, description = "May be left out"),
    params(
        ("id" = String, Path, description = "alert_id or notice_id"),
        ("name" = String, Path, description = "The playbook's name"),
        RunParams
    ),
    responses(
        (status = 200, description = "What it comes to, step by step", body = RunDocument),
        (status = 409, description = "The playbook is not for such an alert", body = problem::ProblemDocument, content_type = "application/problem+json"),
        problem::ProblemDocument
    )
)]
pub(crate) async fn run(
    State(app): State<Arc<App>>,
    Segments(id, name): Segments,
    Extension(caller): Extension<Caller>,
    Strict(params): Strict<RunParams>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<RunDocument>, Problem> {
    let of_body: RunParams = optional(&headers, &body)?;
    let dry_run = [params.dry_run, of_body.dry_run].contains(&Some(true));
    action::run(&app, (&id, &name), dry_run, &caller).await.map(Json)
}

/// Lists actions: what playbooks and people proposed and what became of it, the newest first.
#[utoipa::path(
    get, path = "/actions", operation_id = "list_actions", tag = "response", params(ActionParams),
    responses((status = 200, description = "A page", body = ActionPage), problem::ProblemDocument)
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Strict(params): Strict<ActionParams>,
) -> Result<Json<Listed<ActionDocument>>, Problem> {
    action::page(&app, &params).await.map(Json)
}

/// One action with each of its steps.
#[utoipa::path(
    get, path = "/actions/{id}", operation_id = "get_action", tag = "response",
    params(("id" = String, Path, description = "The action's number")),
    responses((status = 200, description = "The action", body = WholeAction), problem::ProblemDocument)
)]
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Json<WholeAction>, Problem> {
    action::whole(&app, action::number(&id)?).await.map(Json)
}

/// A route by which a person decides about an action.
macro_rules! decision {
    ($(#[doc = $said:literal])* $name:ident, $decision:ident, $path:literal, $operation:literal) => {
        $(#[doc = $said])*
        #[utoipa::path(
            post, path = $path, operation_id = $operation, tag = "response",
            request_body(content = Option<DecisionBody>, description = "May be left out"),
            params(("id" = String, Path, description = "The action's number")),
            responses(
                (status = 200, description = "The action now", body = ActionDocument),
                (status = 409, description = "The action is not at that point", body = problem::ProblemDocument, content_type = "application/problem+json"),
                (status = 412, description = "Somebody changed it meanwhile", body = problem::ProblemDocument, content_type = "application/problem+json"),
                problem::ProblemDocument
            )
        )]
        pub(crate) async fn $name(
            State(app): State<Arc<App>>,
            Segment(id): Segment,
            Extension(caller): Extension<Caller>,
            Strict(NoParams {}): Strict<NoParams>,
            headers: HeaderMap,
            body: Bytes,
        ) -> Result<Json<ActionDocument>, Problem> {
            let body = optional::<DecisionBody>(&headers, &body)?;
            action::decide(&app, action::number(&id)?, Decision::$decision, body, &caller).await.map(Json)
        }
    };
}

decision! {
    /// Approves an action. It is done once enough people have, if the guards still let it.
    approve, Approve, "/actions/{id}/approve", "approve_action"
}
decision! {
    /// Rejects an action that waits for approval.
    reject, Reject, "/actions/{id}/reject", "reject_action"
}
decision! {
    /// Takes back a countermeasure that is live.
    revert, Revert, "/actions/{id}/revert", "revert_action"
}
decision! {
    /// Has connectors try again what they gave up of an action.
    replay, Replay, "/actions/{id}/replay", "replay_action"
}

/// What no countermeasure may hit, and the kill switch. `ETag` is its version.
#[utoipa::path(
    get, path = "/never-block", operation_id = "get_never_block", tag = "response",
    responses(
        (status = 200, description = "The set", body = GuardsDocument, headers(("etag" = String, description = "Its version"))),
        problem::ProblemDocument
    )
)]
pub(crate) async fn never_block(
    State(app): State<Arc<App>>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<([(HeaderName, String); 1], Json<GuardsDocument>), Problem> {
    let guards = action::guards(&app).await?;
    Ok((tag(guards.version), Json(guards)))
}

/// Sets what no countermeasure may hit, if it still has the version in `If-Match`. It comes out of what is live, too.
#[utoipa::path(
    put, path = "/never-block", operation_id = "set_never_block", tag = "response", request_body = NeverBlockBody,
    params(IfMatchHeader),
    responses(
        (status = 200, description = "The set now", body = GuardsDocument, headers(("etag" = String, description = "Its version"))),
        (status = 412, description = "Somebody changed it meanwhile; `ETag` is the version now", body = problem::ProblemDocument, content_type = "application/problem+json"),
        (status = 428, description = "`If-Match` is missing", body = problem::ProblemDocument, content_type = "application/problem+json"),
        problem::ProblemDocument
    )
)]
pub(crate) async fn set_never_block(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<NeverBlockBody>,
) -> Result<([(HeaderName, String); 1], Json<GuardsDocument>), Problem> {
    let version = if_match(&headers)?;
    let guards = action::set_never_block(&app, body, version, &caller).await?;
    Ok((tag(guards.version), Json(guards)))
}

/// Throws the kill switch: all that is live is taken back, and nothing is done; or releases it. What was taken back stays so.
#[utoipa::path(
    post, path = "/kill-switch", operation_id = "throw_kill_switch", tag = "response", request_body = KillSwitchBody,
    responses((status = 200, description = "The guards now", body = GuardsDocument), problem::ProblemDocument)
)]
pub(crate) async fn kill_switch(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
    JsonBody(body): JsonBody<KillSwitchBody>,
) -> Result<Json<GuardsDocument>, Problem> {
    action::kill_switch(&app, body.on, &caller).await.map(Json)
}
