//! Actions, playbooks and guards as pages, with the forms that do what the API's routes do.

use std::{collections::BTreeMap, sync::Arc};

use askama::Template;
use axum::{
    Extension,
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;
use utoipa::IntoParams;
use vedette_act::ConnectorHealth;
use vedette_store::model::{ActionState, AlertRow, Effectiveness};

use super::{Frame, Stamp, forms::FormBody, href, render, segment, visible, words};
use crate::{
    access::Permission,
    app::App,
    auth::{Caller, asking},
    desk::action::{
        self, ActionDocument, ActionParams, Decision, DecisionBody, DeliveryDocument, GuardsDocument,
        LeftOutDocument, NeverBlockBody, PlannedDocument, SkippedDocument, SparedDocument, WholeAction,
    },
    desk::{
        audit::AuditDocument,
        playbook::{self, ConnectorDocument, PlaybookDocument, PlaybookList},
        took::Took,
    },
    params::{NoParams, Segment, Segments, Strict},
    problem::{Kind, Problem},
};

/// Tabs of the page: what the link says, how people call it, which states, which effect.
type Tab = (&'static str, &'static str, &'static [ActionState], Option<Effectiveness>);

const TABS: &[Tab] = &[
    ("waiting", "Waiting", &[ActionState::Waiting], None),
    ("live", "Live", &[ActionState::Due, ActionState::Live], None),
    ("wrong", "Wrong", &[], Some(Effectiveness::Wrong)),
    ("unconfirmed", "Unconfirmed", &[ActionState::Live], Some(Effectiveness::Unconfirmed)),
    ("failed", "Failed", &[ActionState::Failed], None),
    ("refused", "Refused", &[ActionState::Refused], None),
    ("told", "Told", &[ActionState::Telling, ActionState::Done], None),
    ("dry", "Dry runs", &[ActionState::DryRun], None),
    (
        "over",
        "Over",
        &[ActionState::Expired, ActionState::Reverted, ActionState::Rejected, ActionState::Lapsed],
        None,
    ),
];

/// An action in a list.
pub(super) struct Row {
    pub id: i64,
    pub severity: &'static str,
    pub severity_label: String,
    pub what: String,
    pub target: Option<String>,
    pub state: &'static str,
    pub effect: Option<String>,
    /// It is as it should be.
    pub effective: bool,
    pub playbook: String,
    pub step: String,
    pub alert: String,
    pub reasons: Vec<String>,
    pub who: String,
    pub proposed: Stamp,
    pub until: Option<Stamp>,
    pub waits: bool,
    pub live: bool,
    pub failed: bool,
}

impl Row {
    pub(super) fn of(of: ActionDocument) -> Self {
        let approved = of.approvals.join(", ");
        let who = match (&of.proposer, approved.is_empty()) {
            (None, true) => "by the playbook itself".to_owned(),
            (Some(who), true) => format!("proposed by {who}"),
            (None, false) => format!("approved by {approved}"),
            (Some(who), false) => format!("proposed by {who}, approved by {approved}"),
        };
        let waits = of.state == ActionState::Waiting;
        let who = match waits {
            true => format!("{who}; {} of {} approvals", of.approvals.len(), of.approvals_needed),
            false => who,
        };
        Self {
            id: of.action_id,
            severity: of.severity.name(),
            severity_label: words::label(of.severity.name()),
            what: of.deed.replace('_', " "),
            target: of.target.as_deref().map(words::cut),
            state: label(of.state),
            effect: of.effect.map(|effect| match (effect, of.acted_at.zip(of.effect_at)) {
                (Effectiveness::Effective, Some((acted_at, seen_at))) => {
                    format!("effective after {}", words::span(seen_at.since(acted_at)))
                }
                (other, _) => other.name().to_owned(),
            }),
            effective: of.effect == Some(Effectiveness::Effective),
            playbook: of.playbook,
            step: of.step,
            alert: segment("/alerts/", &of.alert_id),
            reasons: of.reasons,
            who,
            proposed: Stamp::of(of.proposed_at),
            until: of.until.map(Stamp::of),
            waits,
            live: of.state == ActionState::Live,
            failed: of.state == ActionState::Failed,
        }
    }
}

fn label(state: ActionState) -> &'static str {
    match state {
        ActionState::DryRun => "dry run",
        other => other.name(),
    }
}

struct Pill {
    label: &'static str,
    href: String,
    current: bool,
    count: u64,
}

#[derive(Template)]
#[template(path = "actions.html")]
struct ActionsPage {
    frame: Frame,
    pills: Vec<Pill>,
    rows: Vec<Row>,
    next: Option<String>,
    empty: &'static str,
    approves: bool,
    kill_switch: bool,
    acts: bool,
    /// Connectors that do not take what they are sent.
    failing: Vec<String>,
    /// Where live ones are not in force, and how many.
    left_out: Vec<String>,
}

/// Which actions.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct TabParams {
    tab: Option<String>,
    cursor: Option<String>,
}

/// `GET /actions`.
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Strict(params): Strict<TabParams>,
) -> Result<Response, Problem> {
    let name = params.tab.as_deref().unwrap_or(TABS[0].0);
    let Some((tab, _, states, effect)) = TABS.iter().find(|(own, ..)| *own == name) else {
        let valid = TABS.iter().map(|(name, ..)| *name);
        return Err(Problem::new(Kind::InvalidParameter, "There is no such list of actions.").valid(valid));
    };
    let names: Vec<&str> = states.iter().map(|state| state.name()).collect();
    let asked = ActionParams {
        state: (!names.is_empty()).then(|| names.join(",")),
        effect: effect.map(|effect| effect.name().to_owned()),
        cursor: params.cursor,
        ..ActionParams::default()
    };
    let listed = action::page(&app, &asked).await?;
    let (counts, effects) = (app.store.action_counts().await?, app.store.effect_counts().await?);
    let pill = |(own, label, states, effect): &Tab| Pill {
        label,
        href: href("/actions", &[("tab", own)]),
        current: own == tab,
        count: match effect {
            None => states.iter().filter_map(|state| counts.get(state)).sum(),
            Some(effect) => {
                let fits = |of: &(Effectiveness, ActionState)| {
                    of.0 == *effect && (states.is_empty() || states.contains(&of.1))
                };
                effects.iter().filter(|(of, _)| fits(of)).map(|(_, n)| n).sum()
            }
        },
    };
    let next = listed.next_cursor.map(|cursor| href("/actions", &[("tab", tab), ("cursor", &cursor)]));
    let guards = match app.response.is_some() {
        true => Some(action::guards(&app).await?),
        false => None,
    };
    let health = app.response.as_ref().map(|response| response.connectors().read()).unwrap_or_default();
    let leaves_out = |(name, health): (&Arc<str>, &ConnectorHealth)| {
        let count = health.there.as_ref().map_or(0, |there| there.left_out.len());
        (count > 0).then(|| format!("{count} at {name}"))
    };
    let left_out = health.iter().filter_map(leaves_out).collect();
    let failing = health.into_iter().filter(|(_, health)| health.in_a_row > 0);
    render(&ActionsPage {
        failing: failing.map(|(name, _)| name.to_string()).collect(),
        left_out,
        frame: Frame::new(&app.live.now(), "/actions"),
        pills: TABS.iter().map(pill).collect(),
        rows: listed.items.into_iter().map(Row::of).collect(),
        next,
        empty: match *tab {
            "waiting" => "Nothing waits for approval.",
            "live" => "No countermeasure is in force.",
            "wrong" => "No countermeasure hit somebody legitimate.",
            "failed" => "No connector gave anything up.",
            "refused" => "The guards refused nothing.",
            _ => "There is none.",
        },
        approves: caller.may(Permission::Approve),
        kill_switch: guards.is_some_and(|guards| guards.kill_switch),
        acts: app.response.is_some(),
    })
}

struct Step {
    at: Stamp,
    who: String,
    what: String,
    said: String,
}

impl Step {
    fn of(entry: AuditDocument) -> Self {
        let text = |key: &str| {
            let value = entry.to.as_ref().and_then(|to| to.get(key));
            value.and_then(|value| value.as_str().map(str::to_owned))
        };
        let until = text("until").map(|until| format!("until {until}"));
        let state = text("state").map(|state| state.replace('_', " "));
        Self {
            at: Stamp::of(entry.at),
            who: entry.actor.clone(),
            what: entry.action.trim_start_matches("action_").replace('_', " "),
            said: [state, until, text("why")].into_iter().flatten().collect::<Vec<_>>().join(", "),
        }
    }
}

#[derive(Template)]
#[template(path = "action.html")]
struct ActionPage {
    frame: Frame,
    row: Row,
    deliveries: Vec<DeliveryDocument>,
    left_out: Vec<LeftOutDocument>,
    steps: Vec<Step>,
    approves: bool,
}

/// `GET /actions/{id}`.
pub(super) async fn one(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Response, Problem> {
    let WholeAction { action, deliveries, left_out, steps } =
        action::whole(&app, action::number(&id)?).await?;
    render(&ActionPage {
        frame: Frame::new(&app.live.now(), "/actions"),
        row: Row::of(action),
        deliveries,
        left_out,
        steps: steps.into_iter().map(Step::of).collect(),
        approves: caller.may(Permission::Approve),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DecisionForm {
    #[serde(default)]
    reason: String,
}

/// `POST /actions/{id}/{decision}`, and back to what it was decided from.
pub(super) async fn decide(
    State(app): State<Arc<App>>,
    Segments(id, decision): Segments,
    Extension(caller): Extension<Caller>,
    FormBody(DecisionForm { reason }): FormBody<DecisionForm>,
) -> Result<Response, Problem> {
    let (decision, tab) = match decision.as_str() {
        "approve" => (Decision::Approve, "waiting"),
        "reject" => (Decision::Reject, "waiting"),
        "revert" => (Decision::Revert, "live"),
        "replay" => (Decision::Replay, "failed"),
        _ => return Err(Problem::new(Kind::NotFound, "There is no such decision about an action.")),
    };
    let body = DecisionBody { reason: Some(reason).filter(|reason| !reason.trim().is_empty()) };
    action::decide(&app, action::number(&id)?, decision, body, &caller).await?;
    Ok(Redirect::to(&href("/actions", &[("tab", tab)])).into_response())
}

#[derive(Template)]
#[template(path = "playbooks.html")]
struct PlaybooksPage {
    frame: Frame,
    playbooks: Vec<PlaybookDocument>,
    rejected: Vec<String>,
    connectors: Vec<ConnectorDocument>,
}

/// `GET /playbooks`.
pub(super) async fn playbooks(
    State(app): State<Arc<App>>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Response, Problem> {
    let PlaybookList { items, rejected, connectors } = playbook::playbooks(&app).await?;
    let frame = Frame::new(&app.live.now(), "/actions");
    render(&PlaybooksPage { frame, playbooks: items, rejected, connectors })
}

#[derive(Template)]
#[template(path = "guards.html")]
struct GuardsPage {
    frame: Frame,
    guards: GuardsDocument,
    text: String,
    sets: bool,
    /// The form would give back something else than what is there.
    altered: bool,
    approves: bool,
}

/// `GET /guards`.
pub(super) async fn guards(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Response, Problem> {
    let guards = action::guards(&app).await?;
    let text = guards.entries.iter().map(line).collect::<Vec<_>>().join("\n");
    let same = |of: &SparedDocument| entry(&line(of)).as_ref() == Some(of);
    let altered = !guards.entries.iter().all(same) || !visible::is_shown_as_it_is(&text);
    render(&GuardsPage {
        frame: Frame::new(&app.live.now(), "/actions"),
        text,
        guards,
        sets: caller.may(Permission::SetNeverBlock),
        altered,
        approves: caller.may(Permission::Approve),
    })
}

/// An entry as a line: `203.0.113.0/24 # why`, or `user.name=alice # why`.
fn line(entry: &SparedDocument) -> String {
    let what = match (&entry.network, &entry.field, &entry.value) {
        (Some(network), ..) => network.clone(),
        (_, Some(field), Some(value)) => format!("{field}={value}"),
        _ => String::new(),
    };
    if entry.note.is_empty() { what } else { format!("{what} # {}", entry.note) }
}

/// The entry that a line says; none where it says nothing.
fn entry(line: &str) -> Option<SparedDocument> {
    let (what, note) = line.split_once(" # ").unwrap_or((line, ""));
    let (what, note) = (what.trim(), note.trim().to_owned());
    let (network, field, value) = match what.split_once('=') {
        _ if what.is_empty() => return None,
        Some((field, value)) => (None, Some(field.trim().to_owned()), Some(value.trim().to_owned())),
        None => (Some(what.to_owned()), None, None),
    };
    Some(SparedDocument { network, field, value, note })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GuardsForm {
    version: i64,
    entries: String,
}

/// `POST /guards`.
pub(super) async fn set_guards(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    FormBody(GuardsForm { version, entries }): FormBody<GuardsForm>,
) -> Result<Response, Problem> {
    let body = NeverBlockBody { entries: entries.lines().filter_map(entry).collect() };
    action::set_never_block(&app, body, version, &caller).await?;
    Ok(Redirect::to("/guards").into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SwitchForm {
    on: bool,
}

/// `POST /kill-switch`.
pub(super) async fn kill_switch(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    FormBody(SwitchForm { on }): FormBody<SwitchForm>,
) -> Result<Response, Problem> {
    action::kill_switch(&app, on, &caller).await?;
    Ok(Redirect::to("/guards").into_response())
}

/// How long half took and how long nearly all; nothing where nothing took effect.
fn seconds(took: &Took) -> Option<(String, String)> {
    Some((words::seconds(took.p50_seconds?), words::seconds(took.p99_seconds?)))
}

/// What an alert's page shows of response, and offers.
pub(super) struct AlertActions {
    pub rows: Vec<Row>,
    /// Playbooks that fit it.
    pub runnable: Vec<String>,
    pub proposes: bool,
}

impl AlertActions {
    /// As they are, or as they were at a `seq`.
    pub(super) async fn of(app: &App, row: &AlertRow, at: Option<i64>) -> Result<Self, Problem> {
        let of_alert = async |id: &str| {
            let params = ActionParams { alert_id: Some(id.to_owned()), ..ActionParams::default() };
            action::page(app, &params).await
        };
        let mut all: BTreeMap<i64, ActionDocument> = BTreeMap::new();
        for id in row.covers.iter().chain([&row.id]) {
            all.extend(of_alert(id).await?.items.into_iter().map(|action| (action.action_id, action)));
        }
        if let Some(seq) = at {
            for (id, action) in std::mem::take(&mut all) {
                let was = app.store.action_at(action.action_id, seq).await?;
                all.extend(was.map(|was| (id, was.into())));
            }
        }
        let runnable = app.response.as_ref().map(|response| response.runnable(row)).unwrap_or_default();
        Ok(Self {
            rows: all.into_values().rev().map(Row::of).collect(),
            runnable,
            proposes: asking().is_some_and(|caller| caller.may(Permission::Propose)),
        })
    }
}

#[derive(Template)]
#[template(path = "playbook_run.html")]
struct RunPage {
    frame: Frame,
    alert: String,
    playbook: String,
    dry_run: bool,
    steps: Vec<PlannedDocument>,
    skipped: Vec<SkippedDocument>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunForm {
    playbook: String,
    /// Only say what it would come to.
    #[serde(default)]
    dry_run: bool,
}

/// `POST /alerts/{id}/playbooks`: what it comes to, and, where that was a dry run, the button that does it.
pub(super) async fn run(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    FormBody(RunForm { playbook, dry_run }): FormBody<RunForm>,
) -> Result<Response, Problem> {
    let done = action::run(&app, (&id, &playbook), dry_run, &caller).await?;
    render(&RunPage {
        frame: Frame::new(&app.live.now(), "/actions"),
        alert: segment("/alerts/", &id),
        playbook,
        dry_run,
        steps: done.steps,
        skipped: done.skipped,
    })
}
