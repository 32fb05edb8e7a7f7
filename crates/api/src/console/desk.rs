//! Snoozes, saved views, exceptions and the audit log as pages, with the forms that do what the API's routes do.

use std::sync::Arc;

use askama::Template;
use axum::{
    Extension,
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;
use vedette_event::Span;
use vedette_store::model::Role;

use super::{Frame, Stamp, forms::FormBody, href, render, segment, words};
use crate::{
    app::App,
    auth::Caller,
    desk::{
        audit::{self, AuditDocument, AuditParams},
        exception::{self, ExceptionDocument},
        snooze::{self, SnoozeBody, SnoozeDocument, SnoozeParams},
        view::{self, ViewBody, ViewDocument},
    },
    metrics::now,
    params::{NoParams, Segment, Strict, query_of},
    problem::{Kind, Problem},
};

struct SnoozeRow {
    id: i64,
    rule: String,
    rule_href: String,
    entity: String,
    entity_type: String,
    severity: &'static str,
    reason: String,
    by: String,
    until: Stamp,
    ended: Option<(Stamp, String)>,
    hidden: u64,
    href: String,
}

impl SnoozeRow {
    fn of(snooze: SnoozeDocument) -> Self {
        Self {
            id: snooze.snooze_id,
            rule_href: segment("/rules/", &snooze.rule),
            href: href(
                "/",
                &[
                    ("snoozed", "yes"),
                    ("rule", &snooze.rule),
                    ("entity", &snooze.entity.value),
                    ("entity_type", &snooze.entity.kind),
                ],
            ),
            rule: words::cut(&snooze.rule_title),
            entity: snooze.entity.value,
            entity_type: snooze.entity.kind,
            severity: snooze.severity.name(),
            reason: snooze.reason,
            by: snooze.created_by,
            until: Stamp::of(snooze.until),
            ended: snooze.ended_at.map(Stamp::of).zip(snooze.ended_by),
            hidden: snooze.hidden,
        }
    }
}

#[derive(Template)]
#[template(path = "snoozes.html")]
struct SnoozesPage {
    frame: Frame,
    in_force: Vec<SnoozeRow>,
    ended: Vec<SnoozeRow>,
}

/// `GET /snoozes`.
pub(super) async fn snoozes(
    State(app): State<Arc<App>>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Response, Problem> {
    let of = async |state: &str| {
        let params = SnoozeParams { state: Some(state.to_owned()) };
        let listed = snooze::list(&app, &params).await?.items;
        Ok::<_, Problem>(listed.into_iter().map(SnoozeRow::of).collect::<Vec<_>>())
    };
    let (in_force, mut ended) = (of("in_force").await?, of("ended").await?);
    ended.truncate(50);
    render(&SnoozesPage { frame: Frame::new(&app.live.now(), "/snoozes"), in_force, ended })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SnoozeForm {
    alert: String,
    hours: i64,
    reason: String,
}

/// `POST /snoozes`: from an alert's page, and back to it.
pub(super) async fn begin_snooze(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    FormBody(form): FormBody<SnoozeForm>,
) -> Result<Response, Problem> {
    if !(1..=168).contains(&form.hours) {
        return Err(Problem::new(Kind::InvalidBody, "A snooze lasts 1 to 168 hours."));
    }
    let until = now().plus(Span::secs(form.hours * 3_600)).to_string();
    let back = segment("/alerts/", &form.alert);
    let body = SnoozeBody { alert_id: Some(form.alert), until, reason: form.reason, ..SnoozeBody::default() };
    snooze::begin(&app, body, None, &caller).await?;
    Ok(Redirect::to(&back).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// `POST /snoozes/{id}/lift`.
pub(super) async fn lift_snooze(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    FormBody(Nothing {}): FormBody<Nothing>,
) -> Result<Response, Problem> {
    snooze::lift(&app, &id, &caller).await?;
    Ok(Redirect::to("/snoozes").into_response())
}

struct ViewRow {
    view: ViewDocument,
    href: String,
    removable: bool,
}

#[derive(Template)]
#[template(path = "views.html")]
struct ViewsPage {
    frame: Frame,
    rows: Vec<ViewRow>,
    query: String,
}

/// The query to be saved, as the queue's link gives it.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ViewParams {
    query: Option<String>,
}

/// `GET /views`.
pub(super) async fn views(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Strict(params): Strict<ViewParams>,
) -> Result<Response, Problem> {
    let row = |view: ViewDocument| ViewRow {
        href: if view.query.is_empty() { "/".to_owned() } else { format!("/?{}", view.query) },
        removable: view.owner == caller.name || caller.role >= Role::Admin,
        view,
    };
    let rows = view::list(&app, &caller).await?.items.into_iter().map(row).collect();
    let query = params.query.unwrap_or_default();
    render(&ViewsPage { frame: Frame::new(&app.live.now(), "/views"), rows, query })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ViewForm {
    name: String,
    query: String,
    shared: Option<String>,
}

/// `POST /views`.
pub(super) async fn save_view(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    FormBody(ViewForm { name, query, shared }): FormBody<ViewForm>,
) -> Result<Response, Problem> {
    let queue = query_of(&view::written(&query))?;
    view::save(&app, ViewBody { name, query, shared: shared.is_some() }, &queue, None, &caller).await?;
    Ok(Redirect::to("/views").into_response())
}

/// `POST /views/{id}/remove`.
pub(super) async fn remove_view(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    FormBody(Nothing {}): FormBody<Nothing>,
) -> Result<Response, Problem> {
    view::remove(&app, &id, &caller).await?;
    Ok(Redirect::to("/views").into_response())
}

struct AuditRow {
    at: Stamp,
    actor: String,
    actor_href: String,
    action: String,
    action_href: String,
    target: String,
    target_href: String,
    /// Before and after.
    states: [Told; 2],
}

/// A state: its beginning, and what is looked at by itself.
struct Told {
    short: String,
    whole: Option<String>,
}

/// Characters of a state that stand in its row.
const SHORT: usize = 90;
/// Characters of one that is looked at; what is hidden in it is written out, which makes it longer.
const LONG: usize = 2_000;

impl Told {
    fn of(text: String) -> Self {
        match text.char_indices().nth(SHORT) {
            Some((at, _)) => {
                let end = text.char_indices().nth(LONG).map(|(end, _)| end);
                let whole = end.map(|end| format!("{}…", &text[..end]));
                Self { short: format!("{}…", &text[..at]), whole: Some(whole.unwrap_or(text)) }
            }
            None => Self { short: text, whole: None },
        }
    }
}

impl AuditRow {
    fn of(entry: AuditDocument) -> Self {
        let said = |value: Option<Value>| {
            Told::of(match value {
                None => "–".to_owned(),
                Some(Value::String(text)) => text,
                Some(other) => other.to_string(),
            })
        };
        let AuditDocument { at, actor, action, target, from, to, .. } = entry;
        Self {
            at: Stamp::of(at),
            actor_href: href("/audit", &[("actor", &actor)]),
            action_href: href("/audit", &[("action", &action)]),
            target_href: href("/audit", &[("target", &target)]),
            actor,
            action,
            target,
            states: [said(from), said(to)],
        }
    }
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    frame: Frame,
    params: AuditParams,
    rows: Vec<AuditRow>,
    next: Option<String>,
}

/// `GET /audit`.
pub(super) async fn audit(
    State(app): State<Arc<App>>,
    Strict(params): Strict<AuditParams>,
) -> Result<Response, Problem> {
    // A form sends empty fields, too.
    let kept = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
    let params = AuditParams {
        actor: kept(&params.actor),
        action: kept(&params.action),
        target: kept(&params.target),
        since: kept(&params.since),
        until: kept(&params.until),
        limit: kept(&params.limit),
        cursor: params.cursor,
    };
    let page = audit::page(&app, &params).await?;
    let next = page.next_cursor.map(|cursor| {
        let of = [
            ("actor", &params.actor),
            ("action", &params.action),
            ("target", &params.target),
            ("since", &params.since),
            ("until", &params.until),
            ("limit", &params.limit),
        ];
        let mut pairs: Vec<(&str, &str)> =
            of.iter().filter_map(|(name, value)| value.as_deref().map(|value| (*name, value))).collect();
        pairs.push(("cursor", &cursor));
        href("/audit", &pairs)
    });
    let rows = page.items.into_iter().map(AuditRow::of).collect();
    render(&AuditPage { frame: Frame::new(&app.live.now(), "/audit"), params, rows, next })
}

#[derive(Template)]
#[template(path = "exception.html")]
struct ExceptionPage {
    frame: Frame,
    id: String,
    told: ExceptionDocument,
    since: Stamp,
}

/// `GET /alerts/{id}/exception`.
pub(super) async fn exception(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Response, Problem> {
    let told = exception::of(&app, &id, &caller).await?;
    let since = Stamp::of(told.since);
    render(&ExceptionPage { frame: Frame::new(&app.live.now(), "/"), id, told, since })
}
