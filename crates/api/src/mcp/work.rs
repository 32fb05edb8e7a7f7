//! Tools about what people and playbooks do: cases, actions, the audit log, the overview; and what a playbook would come to.
//!
//! In: the shared state, who asks, arguments. Out: what a use case of the desk gives. Invariant: nothing is changed; what a playbook would do
//! is told as a dry run, with the page on which a person starts it.

use rmcp::model::JsonObject;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;

use super::tools::{IdParams, Nothing, bounded, given};
use crate::{
    access::Permission,
    app::App,
    auth::Caller,
    desk::{
        action::{self, ActionParams},
        audit::{self, AuditParams},
        case::{self, CaseParams},
        overview, playbook,
    },
    problem::Problem,
};

/// A playbook for an alert.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct PlaybookParams {
    /// The alert or notice.
    alert_id: String,
    /// The playbook's name, as `list_playbooks` has it.
    playbook: String,
}

pub(super) async fn list_cases(app: &App, arguments: &JsonObject) -> Result<Value, Problem> {
    bounded(&case::page(app, &given::<CaseParams>(arguments)?).await?)
}

pub(super) async fn get_case(app: &App, arguments: &JsonObject) -> Result<Value, Problem> {
    let IdParams { id } = given(arguments)?;
    let id = case::number(&id)?;
    let history = case::history(app, id).await?;
    bounded(&json!({"case": case::whole(app, id).await?, "history": history.items}))
}

pub(super) async fn list_actions(app: &App, arguments: &JsonObject) -> Result<Value, Problem> {
    bounded(&action::page(app, &given::<ActionParams>(arguments)?).await?)
}

pub(super) async fn get_action(app: &App, arguments: &JsonObject) -> Result<Value, Problem> {
    let IdParams { id } = given(arguments)?;
    bounded(&action::whole(app, action::number(&id)?).await?)
}

pub(super) async fn list_playbooks(app: &App, arguments: &JsonObject) -> Result<Value, Problem> {
    let Nothing {} = given(arguments)?;
    bounded(&playbook::playbooks(app).await?)
}

pub(super) async fn propose_playbook(
    app: &App,
    caller: &Caller,
    arguments: &JsonObject,
) -> Result<Value, Problem> {
    let PlaybookParams { alert_id, playbook } = given(arguments)?;
    caller.require(Permission::Propose.least())?;
    let run = action::run(app, (&alert_id, &playbook), true, caller).await?;
    bounded(&json!({"would": run, "started_by_a_person_at": format!("/alerts/{alert_id}#response")}))
}

pub(super) async fn list_audit(app: &App, caller: &Caller, arguments: &JsonObject) -> Result<Value, Problem> {
    // As of the route.
    caller.require(Permission::Operate.least())?;
    bounded(&audit::page(app, &given::<AuditParams>(arguments)?).await?)
}

pub(super) async fn get_overview(app: &App, arguments: &JsonObject) -> Result<Value, Problem> {
    let Nothing {} = given(arguments)?;
    bounded(&overview::of(app).await?)
}
