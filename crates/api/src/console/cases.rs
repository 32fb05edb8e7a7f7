//! Cases as pages: the list, one case with its line of time, and the forms that do what the API's routes do.

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
use vedette_event::Severity;
use vedette_store::model::{CaseStatus, Disposition, Made};

use super::{Frame, Stamp, forms::FormBody, href, render, segment, words};
use crate::{
    app::App,
    auth::Caller,
    desk::{
        audit::AuditDocument,
        case::{self, CaseAlert, CaseBody, CaseChange, CaseDocument, CaseParams, Selection, WholeCase},
    },
    params::{NoParams, Segment, Strict},
    problem::{Kind, Problem},
};

/// The page's own parameters; no status means: not closed.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    status: Option<String>,
    q: Option<String>,
    cursor: Option<String>,
}

struct Pill {
    label: &'static str,
    href: String,
    current: bool,
}

#[derive(Template)]
#[template(path = "cases.html")]
struct CasesPage {
    frame: Frame,
    pills: Vec<Pill>,
    status: Option<String>,
    q: String,
    rows: Vec<Head>,
    next: Option<String>,
}

/// A case, as a row and as the head of its page.
struct Head {
    id: i64,
    title: String,
    severity: &'static str,
    severity_label: String,
    floor: Option<&'static str>,
    status: &'static str,
    status_label: String,
    disposition: Option<String>,
    assignee: Option<String>,
    version: i64,
    alerts: u64,
    open_alerts: u64,
    notes: u64,
    created_by: String,
    created_at: Stamp,
    changed_at: Stamp,
    merged_into: Option<i64>,
    split_from: Option<i64>,
}

impl Head {
    fn of(case: CaseDocument) -> Self {
        let merged = case.merged_into.is_some();
        Self {
            id: case.case_id,
            title: case.title,
            severity: case.severity.name(),
            severity_label: words::label(case.severity.name()),
            floor: case.severity_floor.map(Severity::name),
            status: case.status.name(),
            status_label: if merged { "Merged".to_owned() } else { words::label(case.status.name()) },
            disposition: case.disposition.map(|disposition| words::label(disposition.name())),
            assignee: case.assignee,
            version: case.version,
            alerts: case.alert_count,
            open_alerts: case.open_alert_count,
            notes: case.note_count,
            created_by: case.created_by,
            created_at: Stamp::of(case.created_at),
            changed_at: Stamp::of(case.changed_at),
            merged_into: case.merged_into,
            split_from: case.split_from,
        }
    }

    fn closed(&self) -> bool {
        self.status == CaseStatus::Closed.name()
    }
}

/// `GET /cases`.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Strict(params): Strict<ListParams>,
) -> Result<Response, Problem> {
    let ListParams { status, q, cursor } = params;
    let asked = match status.as_deref() {
        None => Some("open,in_progress".to_owned()),
        Some("all") => None,
        Some(_) => status.clone(),
    };
    let page = CaseParams { status: asked, q: q.clone(), cursor, ..CaseParams::default() };
    let page = case::page(&app, &page).await?;
    let kept = |name: &'static str, value: Option<&str>| {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        let status = if name == "status" { value } else { status.as_deref() };
        pairs.extend(status.map(|status| ("status", status)));
        pairs.extend(q.as_deref().filter(|q| !q.is_empty()).map(|q| ("q", q)));
        pairs.extend(value.filter(|_| name == "cursor").map(|cursor| ("cursor", cursor)));
        href("/cases", &pairs)
    };
    let pill = |(label, value): (&'static str, Option<&str>)| Pill {
        label,
        href: kept("status", value),
        current: status.as_deref() == value,
    };
    let pills = [("Open", None), ("Closed", Some("closed")), ("All", Some("all"))].map(pill);
    render(&CasesPage {
        frame: Frame::new(&app.live.now(), "/cases"),
        pills: pills.into(),
        next: page.next_cursor.map(|cursor| kept("cursor", Some(&cursor))),
        rows: page.items.into_iter().map(Head::of).collect(),
        status,
        q: q.unwrap_or_default(),
    })
}

struct Row {
    id: String,
    title: String,
    summary: String,
    severity: &'static str,
    severity_label: String,
    status: &'static str,
    status_label: String,
    entity: Option<(String, String)>,
    crossed_at: Stamp,
    count: String,
}

impl Row {
    fn of(alert: CaseAlert) -> Self {
        Self {
            summary: words::cut(&words::without_title(&alert.summary, &alert.title)),
            id: alert.id,
            title: words::cut(&alert.title),
            severity: alert.severity.name(),
            severity_label: words::label(alert.severity.name()),
            status: alert.status.name(),
            status_label: match alert.disposition {
                Some(disposition) => words::label(disposition.name()),
                None => words::label(alert.status.name()),
            },
            entity: alert.entity.map(|entity| (entity.kind, entity.value)),
            crossed_at: Stamp::of(alert.crossed_at),
            count: words::number(alert.count),
        }
    }
}

/// One entry of the line of time: what somebody did, or when an alert crossed.
struct Moment {
    at: Stamp,
    what: String,
    who: Option<String>,
    text: Option<String>,
    href: Option<String>,
}

#[derive(Template)]
#[template(path = "case.html")]
struct CasePage {
    frame: Frame,
    conflict: Option<String>,
    case: Head,
    rows: Vec<Row>,
    actions: Vec<super::actions::Row>,
    moments: Vec<Moment>,
    seq: i64,
    severities: Vec<(&'static str, String)>,
}

/// `GET /cases/{id}`.
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Response, Problem> {
    show(&app, case::number(&id)?, None).await
}

async fn show(app: &App, id: i64, conflict: Option<String>) -> Result<Response, Problem> {
    let WholeCase { case, alerts, actions, seq } = case::whole(app, id).await?;
    let history = case::history(app, id).await?;
    // Machine and people in one line: an alert stands where its condition was met.
    let mut moments: Vec<_> =
        history.items.into_iter().map(|entry| (entry.at, Moment::of(entry, id))).collect();
    for alert in &alerts {
        let moment = Moment {
            at: Stamp::of(alert.crossed_at),
            what: format!("Alert: {}", alert.title),
            who: None,
            text: None,
            href: Some(segment("/alerts/", &alert.id)),
        };
        moments.push((alert.crossed_at, moment));
    }
    moments.sort_by_key(|(at, _)| *at);
    render(&CasePage {
        frame: Frame::new(&app.live.now(), "/cases"),
        conflict,
        case: Head::of(case),
        rows: alerts.into_iter().map(Row::of).collect(),
        actions: actions.into_iter().map(super::actions::Row::of).collect(),
        moments: moments.into_iter().rev().map(|(_, moment)| moment).collect(),
        seq,
        severities: Severity::ALL.iter().map(|s| (s.name(), words::label(s.name()))).collect(),
    })
}

impl Moment {
    fn of(entry: AuditDocument, own: i64) -> Self {
        let AuditDocument { at, actor, action, target, from, to, .. } = entry;
        let member = |name: &str| to.as_ref().and_then(|to| to.get(name));
        let number = |name: &str| member(name).and_then(Value::as_i64);
        let many = |name: &str| {
            let n = member(name).and_then(Value::as_array).map_or(0, Vec::len);
            format!("{n} alert{}", if n == 1 { "" } else { "s" })
        };
        let (mut text, mut other) = (None, None);
        let what = match action.as_str() {
            "case_opened" => "Opened".to_owned(),
            "case_note" => {
                text = to.as_ref().and_then(Value::as_str).map(str::to_owned);
                "Note".to_owned()
            }
            "case_alerts" if member("removed").is_some() => format!("{} taken out", many("removed")),
            "case_alerts" => format!("{} added", many("added")),
            "case_merged" => match (number("from"), number("into")) {
                (Some(from), _) => {
                    other = Some(from);
                    format!("Case {from} merged in, with {}", many("alerts"))
                }
                (_, into) => {
                    other = into;
                    format!("Merged into case {}, with {}", into.unwrap_or_default(), many("alerts"))
                }
            },
            "case_split" => match (number("to"), number("from")) {
                (Some(to), _) => {
                    other = Some(to);
                    format!("{} split off into case {to}", many("alerts"))
                }
                (_, from) => {
                    other = from;
                    format!("Split from case {}, with {}", from.unwrap_or_default(), many("alerts"))
                }
            },
            "case_severity" => {
                format!("Severity rose to {}", member("severity").and_then(Value::as_str).unwrap_or("?"))
            }
            "case_changed" => changes(from.as_ref(), to.as_ref()),
            other => words::label(other),
        };
        let mine = target == format!("case:{own}");
        Self {
            at: Stamp::of(at),
            what: if mine { what } else { format!("{}: {what}", target.replace(':', " ")) },
            who: Some(actor),
            text,
            href: other.map(|id| format!("/cases/{id}")),
        }
    }
}

/// `status: open → closed, assignee: none → ann`.
fn changes(from: Option<&Value>, to: Option<&Value>) -> String {
    let said = |value: Option<&Value>| match value {
        None | Some(Value::Null) => "none".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let members = to.and_then(Value::as_object).into_iter().flatten();
    let changed = members.filter_map(|(name, now)| {
        let was = from.and_then(|from| from.get(name));
        (was != Some(now)).then(|| format!("{}: {} → {}", name.replace('_', " "), said(was), said(Some(now))))
    });
    changed.collect::<Vec<_>>().join(", ")
}

/// The fields of a form, of which `alert` may be there often.
struct Fields(Vec<(String, String)>);

impl Fields {
    fn of(pairs: Vec<(String, String)>, known: &[&'static str]) -> Result<Self, Problem> {
        match pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some(_) => {
                Err(Problem::new(Kind::InvalidBody, "The form has a field that this page does not know."))
            }
            None => Ok(Self(pairs)),
        }
    }

    fn one(&self, name: &str) -> Option<String> {
        let found = self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.trim().to_owned());
        found.filter(|value| !value.is_empty())
    }

    fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(own, _)| own == name).map(|(_, value)| value.clone()).collect()
    }

    /// A field that is there, also with nothing in it.
    fn given(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.trim().to_owned())
    }

    fn number(&self, name: &str) -> Result<i64, Problem> {
        let number = self.one(name).and_then(|text| text.parse().ok());
        number.ok_or_else(|| Problem::new(Kind::InvalidBody, format!("`{name}` must be a number.")))
    }
}

fn to_case(id: i64) -> Response {
    Redirect::to(&format!("/cases/{id}")).into_response()
}

/// `POST /cases`: a case of a selection; with `case`, the selection comes into that one.
pub(super) async fn open(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    FormBody(pairs): FormBody<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let fields = Fields::of(pairs, &["title", "alert", "case"])?;
    if fields.one("case").is_some() {
        let id = fields.number("case")?;
        case::add(&app, id, &Selection { alert_ids: fields.all("alert") }, &caller).await?;
        return Ok(to_case(id));
    }
    let body = CaseBody {
        title: fields.one("title").unwrap_or_default(),
        alert_ids: fields.all("alert"),
        ..CaseBody::default()
    };
    match case::open(&app, body, None, &caller).await? {
        Made::New(made) => Ok(to_case(made.case_id)),
        Made::Again(_) => Ok(Redirect::to("/cases").into_response()),
    }
}

/// `POST /cases/{id}/change`.
pub(super) async fn change(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    FormBody(pairs): FormBody<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let known =
        ["version", "title", "assignee", "severity_floor", "status", "disposition", "close_alerts", "as_of"];
    let fields = Fields::of(pairs, &known)?;
    let id = case::number(&id)?;
    let word = |name: &str| Problem::new(Kind::InvalidBody, format!("`{name}` has an unknown value."));
    let parsed = |name: &str| fields.one(name);
    let close_alerts = fields.one("close_alerts").is_some();
    let floor = match fields.given("severity_floor") {
        None => None,
        Some(text) if text.is_empty() => Some(None),
        Some(text) => Some(Some(Severity::parse(&text).ok_or_else(|| word("severity_floor"))?)),
    };
    let status = parsed("status").map(|s| CaseStatus::parse(&s).ok_or_else(|| word("status"))).transpose()?;
    let disposition =
        parsed("disposition").map(|d| Disposition::parse(&d).ok_or_else(|| word("disposition")));
    let change = CaseChange {
        title: fields.one("title"),
        status,
        assignee: fields.given("assignee"),
        disposition: disposition.transpose()?,
        severity_floor: floor,
        close_alerts,
        as_of: if close_alerts { Some(fields.number("as_of")?) } else { None },
    };
    let done = case::change(&app, id, fields.number("version")?, change, &caller).await;
    answered(&app, id, done.map(drop)).await
}

/// Back to the case, or the case with what stands against it.
async fn answered(app: &App, id: i64, done: Result<(), Problem>) -> Result<Response, Problem> {
    match done {
        Ok(()) => Ok(to_case(id)),
        Err(problem) if problem.is(Kind::NotFound) => Err(problem),
        Err(problem) if problem.status().is_client_error() => {
            let mut page = show(app, id, Some(problem.detail().to_owned())).await?;
            *page.status_mut() = problem.status();
            Ok(page)
        }
        Err(problem) => Err(problem),
    }
}

/// `POST /cases/{id}/notes`.
pub(super) async fn note(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    FormBody(pairs): FormBody<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let (id, fields) = (case::number(&id)?, Fields::of(pairs, &["text"])?);
    let text = fields.one("text").unwrap_or_default();
    let done = case::note(&app, id, &text, None, &caller).await.map(drop);
    answered(&app, id, done).await
}

/// `POST /cases/{id}/merge`.
pub(super) async fn merge(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    FormBody(pairs): FormBody<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let (id, fields) = (case::number(&id)?, Fields::of(pairs, &["from"])?);
    let done = match fields.number("from") {
        Ok(from) => case::merge(&app, id, from, &caller).await.map(drop),
        Err(problem) => Err(problem),
    };
    answered(&app, id, done).await
}

/// `POST /cases/{id}/remove`: takes the selection out.
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    FormBody(pairs): FormBody<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let (id, fields) = (case::number(&id)?, Fields::of(pairs, &["alert", "title"])?);
    let done = case::remove(&app, id, &fields.all("alert"), &caller).await.map(drop);
    answered(&app, id, done).await
}

/// `POST /cases/{id}/split`: makes a case of the selection.
pub(super) async fn split(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    FormBody(pairs): FormBody<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let (id, fields) = (case::number(&id)?, Fields::of(pairs, &["alert", "title"])?);
    let body = CaseBody {
        title: fields.one("title").unwrap_or_default(),
        alert_ids: fields.all("alert"),
        ..CaseBody::default()
    };
    match case::split(&app, id, body, None, &caller).await {
        Ok(Made::New(part)) => Ok(to_case(part.case_id)),
        other => answered(&app, id, other.map(drop)).await,
    }
}
