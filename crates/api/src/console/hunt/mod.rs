//! The Hunt page: the events in SQL, for people.
//!
//! In: a text, a stretch of time, a source. Out: the page with the answer as a table, over time, and field by field; what people keep and what
//! they asked. Invariants: a hunt is run by its form, or by following a link of this console, and by nothing that another site sends a
//! browser to; nothing goes into SQL but through `desk::hunt::text`; how far an answer is complete stands above it.

mod answer;
mod event;
pub(super) mod pivot;
pub(super) mod schedules;

use std::{sync::Arc, time::Duration};

use askama::Template;
use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, Method},
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;
use utoipa::IntoParams;
use vedette_event::{Micros, Span};
use vedette_store::model::Role;

pub(super) use self::event::{event, href_of};
use self::{
    answer::Found,
    schedules::{Choices, Scheduled},
};
use super::{Frame, Stamp, forms::FormBody, href, render, words};
use crate::{
    access::Permission,
    app::App,
    auth::Caller,
    desk::{
        case::{self, CaseBody},
        hunt::{
            self, HuntBody,
            saved::{self, SavedHuntBody, SavedHuntDocument},
            schedule,
            text::{self, ALL},
        },
    },
    hunts::{Column, Form, HuntSchema},
    metrics::now,
    params::{Segment, Strict},
    problem::{Kind, Problem, short},
};

/// Rows that are looked at for figures of fields.
const ROWS: usize = 1_000;
/// Hunts of one's own that are listed.
const HISTORY: usize = 20;
/// How far back a hunt looks unless it says otherwise.
const SPAN: &str = "24h";
/// Before and after something that happened: what belongs to it is near.
const AROUND: Span = Span::secs(900);
/// For how long a page may be waited for.
const PATIENCE: Duration = Duration::from_secs(75);

/// Stretches of time to choose from; the last is all there is.
const SPANS: [(&str, &str); 7] = [
    ("15m", "the last 15 minutes"),
    ("1h", "the last hour"),
    ("4h", "the last 4 hours"),
    ("24h", "the last 24 hours"),
    ("7d", "the last 7 days"),
    ("30d", "the last 30 days"),
    ("all", "all there is"),
];

/// What a form or a link asks.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    pub sql: Option<String>,
    /// `24h` and so on, or `all`; what `since` and `until` say goes before it.
    pub span: Option<String>,
    pub since: Option<String>,
    pub until: Option<String>,
    pub source: Option<String>,
    /// A column and a value to narrow it to, as a button says it.
    pub narrow: Option<String>,
}

/// What a button that narrows says.
#[derive(Debug, serde::Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Narrow {
    column: String,
    kind: String,
    value: Value,
    has: bool,
}

fn given(text: &Option<String>) -> Option<String> {
    text.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
}

impl Asked {
    /// The text, with line ends as they were before the form changed them.
    fn sql(&self) -> String {
        let sql = self.sql.as_deref().unwrap_or(ALL).replace("\r\n", "\n");
        if sql.trim().is_empty() { ALL.to_owned() } else { sql.trim_end().to_owned() }
    }

    /// The same, narrowed as a button says.
    fn narrowed(mut self) -> Result<Self, Problem> {
        let Some(narrow) = self.narrow.take() else { return Ok(self) };
        let wrong = || Problem::new(Kind::InvalidBody, "What to narrow the hunt to cannot be read.");
        let Narrow { column, kind, value, has } = serde_json::from_str(&narrow).map_err(|_| wrong())?;
        let condition = text::condition(&Column { name: column, kind }, &value, has).ok_or_else(wrong)?;
        self.sql = Some(text::narrowed(&self.sql(), &condition));
        Ok(self)
    }

    fn span(&self) -> Option<&str> {
        if given(&self.since).is_some() || given(&self.until).is_some() {
            return None;
        }
        Some(self.span.as_deref().filter(|span| !span.is_empty()).unwrap_or(SPAN))
    }

    /// The hunt that it asks for.
    fn body(&self) -> Result<HuntBody, Problem> {
        let since = match self.span() {
            None => given(&self.since),
            Some("all") => None,
            Some(span) => {
                let length = Span::parse(span).filter(|length| length.0 > 0);
                let length = length.ok_or_else(|| {
                    let detail = "`span` must be a whole number and `s`, `m`, `h`, `d` or `w`, or `all`.";
                    Problem::new(Kind::InvalidParameter, detail)
                })?;
                Some(now().minus(length).to_string())
            }
        };
        let until = given(&self.until);
        Ok(HuntBody { sql: self.sql(), source: given(&self.source), since, until, limit: Some(ROWS) })
    }

    /// Refuses what is no stretch of time and no source, so that a link with a slip of the pen does not show as if it said nothing.
    fn check(&self, schema: &HuntSchema) -> Result<(), Problem> {
        self.body()?.question(Form::Values, false)?;
        let Some(source) = given(&self.source) else { return Ok(()) };
        if schema.sources.iter().any(|known| known.name == source) {
            return Ok(());
        }
        let known: Vec<&str> = schema.sources.iter().map(|known| &*known.name).collect();
        let detail = format!("There is no source `{}`; there are: {}.", short(&source), known.join(", "));
        Err(Problem::new(Kind::InvalidParameter, detail))
    }

    /// A link that asks it again.
    fn href(&self) -> String {
        let sql = self.sql();
        let mut pairs = vec![("sql", sql.as_str())];
        pairs.extend(self.span().map(|span| ("span", span)));
        let rest = [("since", &self.since), ("until", &self.until), ("source", &self.source)];
        pairs.extend(rest.into_iter().filter_map(|(name, value)| {
            value.as_deref().filter(|value| !value.is_empty()).map(|value| (name, value))
        }));
        href("/hunt", &pairs)
    }
}

/// A link to a hunt of this text, which asks it.
pub(super) fn link(sql: &str, since: Micros, until: Micros) -> String {
    let asked = Asked {
        sql: Some(sql.to_owned()),
        since: Some(since.to_string()),
        until: Some(until.to_string()),
        ..Asked::default()
    };
    asked.href()
}

/// A kept hunt as a row.
struct Kept {
    saved: SavedHuntDocument,
    href: String,
    removable: bool,
}

/// A hunt that was asked.
struct Before {
    at: Stamp,
    sql: String,
    told: String,
    href: String,
}

struct Option_ {
    value: String,
    label: String,
    chosen: bool,
}

/// What could not be answered.
struct Wrong {
    title: &'static str,
    detail: String,
    pointed: Option<String>,
}

#[derive(Template)]
#[template(path = "hunt.html")]
struct HuntPage {
    frame: Frame,
    sql: String,
    spans: Vec<Option_>,
    since: String,
    until: String,
    source: String,
    /// Why there is nothing to ask, or what there is.
    schema: Result<HuntSchema, String>,
    lasting: String,
    span: String,
    found: Option<Found>,
    wrong: Option<Wrong>,
    kept: Vec<Kept>,
    scheduled: Vec<Scheduled>,
    /// What can be scheduled, for who may.
    choices: Option<Choices>,
    before: Vec<Before>,
}

/// `GET /hunt`: the form; it is asked at once where a link of this console leads here. A page of another site may send a browser here, and
/// starts nothing; nor does what looks whether the page has changed.
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    method: Method,
    headers: HeaderMap,
    Strict(asked): Strict<Asked>,
) -> Result<Response, Problem> {
    let says = |name: &str, wanted: &str| headers.get(name).is_some_and(|value| value == wanted);
    let followed = says("sec-fetch-site", "same-origin") && says("sec-fetch-mode", "navigate");
    let run = method == Method::GET && followed && asked.sql.is_some();
    answered(&app, &caller, asked.narrowed()?, run).await
}

/// `POST /hunt`: asks.
pub(super) async fn ask(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    FormBody(asked): FormBody<Asked>,
) -> Result<Response, Problem> {
    answered(&app, &caller, asked.narrowed()?, true).await
}

async fn answered(app: &Arc<App>, caller: &Caller, asked: Asked, run: bool) -> Result<Response, Problem> {
    let schema = hunt::schema(app).map_err(|problem| problem.detail().to_owned());
    let (found, wrong) = match &schema {
        Err(_) => (None, None),
        Ok(_) if run => match find(app, caller, &asked).await {
            Ok(found) => (Some(found), None),
            Err(problem) => (None, Some(Wrong::of(&problem))),
        },
        Ok(schema) => (None, asked.check(schema).err().as_ref().map(Wrong::of)),
    };
    let chosen = asked.span().map(str::to_owned);
    let offered = |value: &str| SPANS.iter().any(|(known, _)| *known == value);
    let other = chosen.as_deref().filter(|value| !offered(value)).map(|value| (value, value));
    let spans = SPANS.into_iter().chain(other).map(|(value, label)| Option_ {
        value: value.to_owned(),
        label: label.to_owned(),
        chosen: chosen.as_deref() == Some(value),
    });
    let kept = saved::list(app, caller).await?.items;
    let scheduled = schedule::list(app).await?.items;
    let choices = caller.may(Permission::ScheduleHunts).then(|| Choices::of(&kept, &scheduled));
    let removable = |owner: &str| owner == caller.name || caller.role >= Role::Admin;
    let status = wrong.as_ref().map(|_| axum::http::StatusCode::BAD_REQUEST);
    let mut page = render(&HuntPage {
        frame: Frame::new(&app.live.now(), "/hunt"),
        sql: asked.sql(),
        spans: spans.collect(),
        since: asked.since.clone().unwrap_or_default(),
        until: asked.until.clone().unwrap_or_default(),
        source: asked.source.clone().unwrap_or_default(),
        schema,
        lasting: asked.href(),
        span: chosen.unwrap_or_default(),
        found,
        wrong,
        kept: kept
            .into_iter()
            .map(|saved| Kept { href: of_kept(&saved).href(), removable: removable(&saved.owner), saved })
            .collect(),
        scheduled: scheduled.into_iter().map(Into::into).collect(),
        choices,
        before: before(app, caller).await?,
    })?;
    if let Some(status) = status {
        *page.status_mut() = status;
    }
    Ok(page)
}

fn of_kept(saved: &SavedHuntDocument) -> Asked {
    let span = saved.span.clone().unwrap_or_else(|| "all".to_owned());
    Asked { sql: Some(saved.sql.clone()), span: Some(span), ..Asked::default() }
}

/// Asks, and looks how what is found lies in time.
async fn find(app: &Arc<App>, caller: &Caller, asked: &Asked) -> Result<Found, Problem> {
    let late = || {
        Problem::new(Kind::Timeout, "The hunt took longer than anybody waits for a page; ask for less time.")
    };
    let work = async {
        let body = asked.body()?;
        let mut hunt = hunt::begin(app, &body, Form::Values, caller).await?;
        let (rows, more) = hunt.values().await?;
        let document = hunt.document();
        drop(hunt);
        let timed =
            document.columns.iter().any(|column| column.name == "@timestamp" && column.kind == "time");
        let course = if timed && more { answer::course(app, caller, &body, &document).await? } else { None };
        Ok(Found::of(document, rows, course))
    };
    timeout(PATIENCE, work).await.map_err(|_| late())?
}

/// The last hunts of one's own, each text once, the newest first.
async fn before(app: &App, caller: &Caller) -> Result<Vec<Before>, Problem> {
    let entries = hunt::history(app, caller, HISTORY).await?;
    let row = |entry: hunt::Past| Before {
        at: Stamp::of(entry.at),
        told: match &*entry.state {
            "done" => {
                format!("{}{} rows", words::number(entry.rows), if entry.more { " or more" } else { "" })
            }
            state => words::label(state).to_lowercase(),
        },
        href: Asked {
            sql: Some(entry.sql.clone()),
            span: None,
            since: entry.since,
            until: entry.until,
            source: entry.source,
            narrow: None,
        }
        .href(),
        sql: entry.sql,
    };
    Ok(entries.into_iter().map(row).collect())
}

impl Wrong {
    fn of(problem: &Problem) -> Self {
        let pointed = problem.told("pointed").and_then(Value::as_str).map(str::to_owned);
        Self { title: problem.title(), detail: problem.detail().to_owned(), pointed }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeepForm {
    name: String,
    sql: String,
    span: Option<String>,
    shared: Option<String>,
}

/// `POST /hunt/saved`.
pub(super) async fn keep(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    FormBody(KeepForm { name, sql, span, shared }): FormBody<KeepForm>,
) -> Result<Response, Problem> {
    let span = given(&span).filter(|span| span != "all");
    let body = SavedHuntBody { name, sql: sql.replace("\r\n", "\n"), span, shared: shared.is_some() };
    saved::save(&app, body, None, &caller).await?;
    Ok(Redirect::to("/hunt#kept").into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// `POST /hunt/saved/{id}/remove`.
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    FormBody(Nothing {}): FormBody<Nothing>,
) -> Result<Response, Problem> {
    saved::remove(&app, &id, &caller).await?;
    Ok(Redirect::to("/hunt#kept").into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CaseForm {
    title: String,
    /// What was found, for the first note.
    note: String,
}

/// Characters of a note.
const MAX_NOTE: usize = 3_900;

/// `POST /hunt/case`: a case that begins with what was found.
pub(super) async fn open_case(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    FormBody(CaseForm { title, note }): FormBody<CaseForm>,
) -> Result<Response, Problem> {
    let body = CaseBody { title, ..CaseBody::default() };
    let made = case::open(&app, body, None, &caller).await?;
    let vedette_store::model::Made::New(opened) = made else {
        return Err(Problem::new(Kind::Internal, "The case was not made."));
    };
    let note: String = note.replace("\r\n", "\n").chars().take(MAX_NOTE).collect();
    if !note.trim().is_empty() {
        case::note(&app, opened.case_id, &note, None, &caller).await?;
    }
    Ok(Redirect::to(&format!("/cases/{}", opened.case_id)).into_response())
}
