//! The alert queue: tallies by severity, filters as links, a table that keeps itself fresh.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, response::Response};
use serde::Deserialize;
use utoipa::IntoParams;
use vedette_event::{Alert, Notice, Severity};
use vedette_store::model::{AlertRow, Filter, RowState, Status, SummaryBy};

use super::{Frame, Stamp, href, render, words};
use crate::{
    app::App,
    desk::{
        filter::FilterParams,
        list::{ListParams, PageParams},
        past::AsOfParams,
    },
    params::Strict,
    problem::Problem,
};

const ROWS: &str = "100";
/// What is not closed.
const OPEN: &str = "new,acknowledged,in_progress";

/// The page's own parameters: each has at most one value, and no status means: not closed.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct QueueParams {
    status: Option<String>,
    severity: Option<String>,
    state: Option<String>,
    source: Option<String>,
    rule: Option<String>,
    entity: Option<String>,
    q: Option<String>,
    sort: Option<String>,
    case: Option<String>,
    /// `yes`: what a snooze hides. Where neither a status nor a case is asked for, that is left out.
    snoozed: Option<String>,
    cursor: Option<String>,
}

impl QueueParams {
    fn pairs(&self) -> [(&'static str, Option<&str>); 10] {
        let Self { status, severity, state, source, rule, entity, q, sort, case, snoozed, cursor: _ } = self;
        [
            ("status", status.as_deref()),
            ("severity", severity.as_deref()),
            ("state", state.as_deref()),
            ("source", source.as_deref()),
            ("rule", rule.as_deref()),
            ("entity", entity.as_deref()),
            ("q", q.as_deref().filter(|q| !q.is_empty())),
            ("sort", sort.as_deref()),
            ("case", case.as_deref()),
            ("snoozed", snoozed.as_deref()),
        ]
    }

    /// This page with one parameter replaced or left out, from the first row on.
    fn with(&self, name: &str, value: Option<&str>) -> String {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for (other, kept) in self.pairs() {
            let value = if other == name { value } else { kept };
            pairs.extend(value.map(|value| (other, value)));
        }
        if name == "cursor" {
            pairs.extend(value.map(|value| (name, value)));
        }
        href("/", &pairs)
    }

    /// The API's parameters for the same rows.
    fn list(&self) -> ListParams {
        let Self { status, severity, state, source, rule, entity, q, sort, case, snoozed, cursor } =
            self.clone();
        let queue = status.is_none() && case.is_none() && snoozed.is_none();
        let snoozed = if queue { Some("no".to_owned()) } else { snoozed };
        let status = match status.as_deref() {
            None => Some(OPEN.to_owned()),
            Some("all") => None,
            Some(_) => status,
        };
        ListParams {
            filter: FilterParams {
                status,
                state,
                severity,
                rule,
                entity,
                source,
                assignee: None,
                technique: None,
                since: None,
                until: None,
                // The search form sends an empty text too.
                q: q.filter(|q| !q.trim().is_empty()),
                case,
                snoozed,
            },
            page: PageParams { sort, limit: Some(ROWS.to_owned()), cursor },
            past: AsOfParams::default(),
        }
    }

    /// Where the page hears of changes after `seq`.
    fn stream(&self, seq: i64) -> String {
        let filter = self.list().filter;
        let after = seq.to_string();
        let mut pairs = vec![("after", after.as_str())];
        let kept = [
            ("status", &filter.status),
            ("state", &filter.state),
            ("severity", &filter.severity),
            ("rule", &filter.rule),
            ("entity", &filter.entity),
            ("source", &filter.source),
            ("q", &filter.q),
            ("case", &filter.case),
            ("snoozed", &filter.snoozed),
        ];
        pairs.extend(kept.iter().filter_map(|(name, value)| value.as_deref().map(|value| (*name, value))));
        href("/api/v1/alerts/stream", &pairs)
    }
}

struct Tally {
    name: &'static str,
    label: String,
    count: u64,
    href: String,
    current: bool,
}

struct Choice {
    label: String,
    href: String,
    current: bool,
}

struct Set {
    label: &'static str,
    choices: Vec<Choice>,
}

/// A filter that is on, with a link that takes it off.
pub(super) struct Chip {
    pub name: &'static str,
    pub value: String,
    pub href: String,
}

struct Column {
    label: &'static str,
    number: bool,
    href: String,
    direction: Option<&'static str>,
}

impl Column {
    fn arrow(&self) -> &'static str {
        match self.direction {
            Some("descending") => " ↓",
            Some(_) => " ↑",
            None => "",
        }
    }
}

/// Whom a row is about, with a link to all of theirs.
pub(super) struct Who {
    pub kind: String,
    pub value: String,
    pub href: String,
}

impl Who {
    pub fn of(row: &AlertRow) -> Option<Self> {
        let entity = row.entity.as_ref()?;
        Some(Self {
            kind: entity.kind.clone(),
            value: entity.value.clone(),
            href: href("/", &[("status", "all"), ("entity", &entity.value)]),
        })
    }
}

struct Row {
    id: String,
    seq: i64,
    severity: &'static str,
    severity_label: String,
    title: String,
    summary: String,
    state: &'static str,
    withdrawn: bool,
    continued: bool,
    flags: Vec<String>,
    entity: Option<Who>,
    key: Vec<(String, String)>,
    count: String,
    crossed_at: Stamp,
    last_seen: Stamp,
    status: &'static str,
    status_label: String,
    recurred: bool,
    since_closed: Option<String>,
    assignee: Option<String>,
}

impl Row {
    fn of(row: AlertRow) -> Self {
        let alert: Option<Alert> = serde_json::from_str(&row.body).ok();
        let notice: Option<Notice> =
            if row.state == RowState::Notice { serde_json::from_str(&row.body).ok() } else { None };
        let key = alert.as_ref().map(|body| &body.key).or(notice.as_ref().map(|body| &body.key));
        let entity = row.entity.as_ref().map(|entity| entity.kind.as_str());
        let key = key.into_iter().flatten().filter(|(name, _)| entity != Some(&**name));
        let key = key.map(|(name, value)| (name.to_string(), value.text().to_owned())).collect();
        let summary = words::without_title(&row.summary, &row.rule_title);
        Self {
            entity: Who::of(&row),
            key,
            summary,
            crossed_at: Stamp::of(row.crossed_at),
            last_seen: Stamp::of(row.last_seen),
            continued: alert.as_ref().is_some_and(|body| body.continuation),
            flags: alert.map(|body| words::flags(body.flags)).unwrap_or_default(),
            seq: row.seq,
            severity: row.severity.name(),
            severity_label: words::label(row.severity.name()),
            title: row.rule_title,
            state: row.state.name(),
            withdrawn: row.withdrawn.is_some(),
            count: words::number(row.count),
            status: row.triage.status.name(),
            status_label: words::label(row.triage.status.name()),
            recurred: row.recurred,
            since_closed: row.since_closed.filter(|n| *n > 0).map(words::number),
            assignee: row.triage.assignee,
            id: row.id,
        }
    }
}

#[derive(Template)]
#[template(path = "queue.html")]
struct QueuePage {
    frame: Frame,
    stream: String,
    tallies: Vec<Tally>,
    sets: Vec<Set>,
    chips: Vec<Chip>,
    /// How many rows snoozes hide, and where they are.
    snoozed: Option<(u64, String)>,
    kept: Vec<(&'static str, String)>,
    q: String,
    filtered: bool,
    columns: Vec<Column>,
    rows: Vec<Row>,
    next: Option<String>,
}

/// `GET /`.
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Strict(params): Strict<QueueParams>,
) -> Result<Response, Problem> {
    let seq = app.store.newest_seq().await?;
    let query = params.list().query()?;
    let page = app.store.list(&query).await?;
    let live = app.live.now();
    let sources: Vec<String> = live.sources.iter().map(|source| source.name.clone()).collect();
    let kept = params.pairs().into_iter().filter(|(name, _)| *name != "q");
    let kept = kept.filter_map(|(name, value)| value.map(|value| (name, value.to_owned()))).collect();
    render(&QueuePage {
        frame: Frame::new(&live, "/"),
        stream: params.stream(seq),
        snoozed: snoozed(&app, &params, &query.filter).await?,
        tallies: tallies(&app, &params, query.filter).await?,
        sets: sets(&params, &sources),
        chips: chips(&params, &live),
        kept,
        q: params.q.clone().unwrap_or_default(),
        filtered: params.pairs().iter().any(|(name, value)| *name != "sort" && value.is_some()),
        columns: columns(&params),
        rows: page.items.into_iter().map(Row::of).collect(),
        next: page.next_cursor.map(|cursor| params.with("cursor", Some(&cursor))),
    })
}

/// What snoozes keep out of this page.
async fn snoozed(app: &App, params: &QueueParams, filter: &Filter) -> Result<Option<(u64, String)>, Problem> {
    if filter.snoozed != Some(false) {
        return Ok(None);
    }
    let hidden = Filter { snoozed: Some(true), ..filter.clone() };
    let count =
        app.store.summary(SummaryBy::Severity, &hidden).await?.groups.iter().map(|group| group.count).sum();
    Ok(Some((count, params.with("snoozed", Some("yes")))).filter(|(count, _)| *count > 0))
}

/// Counts by severity of what the other filters leave.
async fn tallies(app: &App, params: &QueueParams, filter: Filter) -> Result<Vec<Tally>, Problem> {
    let filter = Filter { severity: std::collections::BTreeSet::new(), ..filter };
    let counts = app.store.summary(SummaryBy::Severity, &filter).await?;
    let tally = |severity: Severity| {
        let name = severity.name();
        let current = params.severity.as_deref() == Some(name);
        Tally {
            name,
            label: words::label(name),
            count: counts.groups.iter().find(|group| group.name == name).map_or(0, |group| group.count),
            href: params.with("severity", if current { None } else { Some(name) }),
            current,
        }
    };
    Ok(Severity::ALL.into_iter().rev().map(tally).collect())
}

fn sets(params: &QueueParams, sources: &[String]) -> Vec<Set> {
    let choices = |name: &str, current: Option<&str>, all: &[(Option<&str>, String)]| {
        let choice = |(value, label): &(Option<&str>, String)| Choice {
            label: label.clone(),
            href: params.with(name, *value),
            current: current == *value,
        };
        all.iter().map(choice).collect::<Vec<_>>()
    };
    let named = |name: &'static str| (Some(name), words::label(name));
    let mut status = vec![(None, "Open".to_owned())];
    status.extend(Status::ALL.iter().map(|status| named(status.name())));
    status.push((Some("all"), "All".to_owned()));
    let mut state = vec![(None, "Any state".to_owned())];
    state.extend(RowState::ALL.iter().map(|state| named(state.name())));
    let mut source = vec![(None, "All sources".to_owned())];
    source.extend(sources.iter().map(|name| (Some(name.as_str()), name.clone())));
    let mut sets = vec![
        Set { label: "Status", choices: choices("status", params.status.as_deref(), &status) },
        Set { label: "State", choices: choices("state", params.state.as_deref(), &state) },
    ];
    if sources.len() > 1 {
        sets.push(Set { label: "Source", choices: choices("source", params.source.as_deref(), &source) });
    }
    sets
}

fn chips(params: &QueueParams, live: &crate::live::Live) -> Vec<Chip> {
    let rule =
        params.rule.as_ref().map(|id| live.rule(id).map_or_else(|| id.clone(), |rule| rule.title.clone()));
    let on = [
        ("rule", rule),
        ("entity", params.entity.clone()),
        ("case", params.case.clone()),
        ("snoozed", params.snoozed.clone()),
        ("q", params.q.clone().filter(|q| !q.is_empty())),
    ];
    let chip = |(name, value): (&'static str, Option<String>)| {
        let shown = if name == "q" { "search" } else { name };
        value.map(|value| Chip { name: shown, value, href: params.with(name, None) })
    };
    on.into_iter().filter_map(chip).collect()
}

fn columns(params: &QueueParams) -> Vec<Column> {
    let sort = params.sort.as_deref().unwrap_or("-crossed_at");
    let sorted = |label, number, key: &str| {
        let descending = format!("-{key}");
        let direction = match sort {
            s if s == key => Some("ascending"),
            s if s == descending => Some("descending"),
            _ => None,
        };
        let next = if direction == Some("descending") { key } else { &descending };
        Column { label, number, href: params.with("sort", Some(next)), direction }
    };
    let plain = |label| Column { label, number: false, href: String::new(), direction: None };
    vec![
        sorted("Severity", false, "severity"),
        plain("Alert"),
        plain("Entity"),
        plain("Key"),
        sorted("Events", true, "count"),
        sorted("Condition met", true, "crossed_at"),
        sorted("Last seen", true, "last_seen"),
        plain("Status"),
    ]
}
