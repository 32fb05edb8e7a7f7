//! An alert's page: what, who, why, evidence, the picture, triage and history.

use std::{collections::BTreeSet, sync::Arc};

use askama::Template;
use axum::{extract::State, response::Response};
use serde_json::Value;
use vedette_event::{Alert, Flags, Notice, State as Liveness, alert::Explanation};
use vedette_store::model::{AlertRow, RowState, Withdrawal};

use super::{
    Frame, Stamp,
    alert_desk::AlertDesk,
    children::{self, Block},
    events::{Contents, Event},
    href, picture,
    queue::Who,
    render, segment, words,
};
use crate::{
    app::App,
    desk::{
        alert,
        history::{self, HistoryEntry},
    },
    live::Live,
    params::{NoParams, Segment, Strict},
    problem::{Kind, Problem},
    wire::{AlertDocument, Envelope, Revision},
};

struct HistoryItem {
    what: String,
    who: Option<String>,
    at: Stamp,
    text: Option<String>,
}

#[derive(Template)]
#[template(path = "alert.html")]
struct AlertPage {
    frame: Frame,
    desk: AlertDesk,
    stream: String,
    conflict: Option<String>,
    id: String,
    title: String,
    summary: String,
    severity: &'static str,
    severity_label: String,
    state: &'static str,
    withdrawn: bool,
    recurred: bool,
    since_closed: Option<u64>,
    entity: Option<Who>,
    count: String,
    revision: u32,
    first_seen: Stamp,
    last_seen: Stamp,
    crossed_at: Stamp,
    duration: String,
    risk: u32,
    rule_href: String,
    rule_id: String,
    rule_version: String,
    tags: Vec<String>,
    why: words::Why,
    flags: Vec<(String, &'static str)>,
    picture: Option<picture::Picture>,
    evidence_note: String,
    children: Vec<Block>,
    children_note: String,
    events: Vec<Event>,
    key: Vec<(String, String)>,
    related: Vec<(&'static str, String)>,
    status: &'static str,
    status_label: String,
    disposition: Option<String>,
    assignee: Option<String>,
    version: i64,
    history: Vec<HistoryItem>,
}

/// `GET /alerts/{id}`.
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Response, Problem> {
    show(&app, &id, None).await
}

/// The page, with a word on why a form was not saved.
pub(super) async fn show(app: &App, id: &str, conflict: Option<String>) -> Result<Response, Problem> {
    let seq = app.store.newest_seq().await?;
    let document = alert::full(app, id).await?;
    let history = history::of(app, &document.row).await?;
    let live = app.live.now();
    let body = body(&document.row)?;
    let known = app.store.there_at(&children::ids(&body), i64::MAX).await?;
    let desk = AlertDesk::of(app, &document.row).await?;
    let mut page = compose(document, &body, &known, &live);
    page.history = entries(history.items, &page);
    page.conflict = conflict;
    page.desk = desk;
    page.stream = href("/api/v1/alerts/stream", &[("after", &seq.to_string()), ("rule", &page.rule_id)]);
    render(&page)
}

/// The body of a row; that of a notice is brought into an alert's shape.
fn body(row: &AlertRow) -> Result<Alert, Problem> {
    let parsed = match row.state {
        RowState::Notice => serde_json::from_str(&row.body).map(of_notice),
        RowState::Active | RowState::Ended => serde_json::from_str(&row.body),
    };
    parsed.map_err(|error| {
        tracing::error!(%error, id = row.id, "a stored body cannot be read");
        Problem::new(Kind::Internal, "The stored alert cannot be read.")
    })
}

fn of_notice(notice: Notice) -> Alert {
    let Notice {
        notice_id,
        rule_ix: _,
        rule,
        key,
        entity,
        crossed_at,
        count,
        value,
        severity,
        summary,
        evidence,
    } = notice;
    Alert {
        alert_id: notice_id,
        revision: 0,
        state: Liveness::Active,
        continuation: false,
        rule,
        key,
        entity,
        first_seen: crossed_at,
        crossed_at,
        last_seen: crossed_at,
        count,
        value,
        severity,
        risk: severity.risk(),
        summary,
        evidence_total: evidence.len() as u64,
        evidence,
        explanation: Explanation::default(),
        flags: Flags::NONE,
    }
}

fn compose(document: AlertDocument, body: &Alert, known: &BTreeSet<String>, live: &Live) -> AlertPage {
    let AlertDocument { row, envelope } = document;
    let Envelope { predecessor, successor, covers, events, revisions, .. } = envelope;
    let revisions: Vec<Revision> = revisions.unwrap_or_default();
    let mut related = Vec::new();
    related.extend(predecessor.map(|id| ("Continues", id)));
    related.extend(successor.map(|id| ("Continued by", id)));
    related.extend(covers.into_iter().map(|id| ("Covers", id)));
    let notice = row.state == RowState::Notice;
    let withdrawn = row.withdrawn.map(|withdrawn| withdrawn.reason);
    let why = match (notice, withdrawn) {
        (true, None) => announced(body),
        (true, Some(reason)) => {
            words::Why { sentence: words::withdrawn(reason).to_owned(), facts: Vec::new() }
        }
        (false, _) => words::why(body, live),
    };
    let shown = body.evidence.len() as u64;
    let contents = Contents::new(events.unwrap_or_default());
    let children = children::blocks(body, known, &contents);
    AlertPage {
        frame: Frame::new(live, "/"),
        desk: AlertDesk::default(),
        stream: String::new(),
        conflict: None,
        entity: Who::of(&row),
        title: body.rule.title.to_string(),
        summary: words::without_title(&body.summary, &body.rule.title),
        severity: body.severity.name(),
        severity_label: words::label(body.severity.name()),
        state: row.state.name(),
        withdrawn: withdrawn.is_some(),
        recurred: row.recurred,
        since_closed: row.since_closed.filter(|n| *n > 0),
        count: words::number(body.count),
        revision: row.revision,
        first_seen: Stamp::of(body.first_seen),
        last_seen: Stamp::of(body.last_seen),
        crossed_at: Stamp::of(body.crossed_at),
        duration: words::lasted(body.first_seen, body.last_seen),
        risk: body.risk,
        rule_href: segment("/rules/", &body.rule.id),
        rule_version: body.rule.version.to_string(),
        tags: body.rule.tags.iter().map(ToString::to_string).collect(),
        flags: body.flags.names().map(|flag| (flag.to_owned(), words::flag(flag))).collect(),
        picture: if notice { None } else { picture::picture(body.first_seen, &revisions) },
        evidence_note: match body.evidence_total {
            1 => "1 event".to_owned(),
            total if total <= shown => format!("{total} events"),
            total => format!("first and last of {} events", words::number(total)),
        },
        children_note: children::note(body, children.len()),
        children,
        events: contents.events(&body.evidence, body.evidence_total),
        key: body.key.iter().map(|(name, value)| (name.to_string(), value.text().to_owned())).collect(),
        rule_id: body.rule.id.to_string(),
        why,
        related,
        status: row.triage.status.name(),
        status_label: words::label(row.triage.status.name()),
        disposition: row.triage.disposition.map(|disposition| words::label(disposition.name())),
        assignee: row.triage.assignee,
        version: row.triage.version,
        history: Vec::new(),
        id: row.id,
    }
}

fn announced(body: &Alert) -> words::Why {
    let sentence = format!(
        "The condition of “{}” holds over the events read so far. The alert follows once all of the rule's sources \
         have passed this time; it takes over this notice's triage.",
        body.rule.title
    );
    words::Why { sentence, facts: Vec::new() }
}

fn entries(history: Vec<HistoryEntry>, page: &AlertPage) -> Vec<HistoryItem> {
    let opened = HistoryItem {
        what: if page.state == "notice" { "Announced".to_owned() } else { "Condition met".to_owned() },
        who: None,
        at: page.crossed_at.clone(),
        text: None,
    };
    let mut entries: Vec<HistoryItem> = history.into_iter().rev().map(entry).collect();
    entries.push(opened);
    entries
}

fn entry(entry: HistoryEntry) -> HistoryItem {
    let HistoryEntry { at, actor, action, from, to, .. } = entry;
    let at = Stamp::of(at);
    let who = (actor != "vedette").then_some(actor);
    let (what, text) = match action.as_str() {
        "comment" => ("Comment".to_owned(), to.as_ref().map(words::scalar)),
        "recurred" => ("Came back to the queue".to_owned(), None),
        "withdrawn" => {
            let reason = to.as_ref().and_then(Value::as_str).and_then(Withdrawal::parse);
            ("Withdrawn".to_owned(), reason.map(|reason| words::withdrawn(reason).to_owned()))
        }
        "case" => {
            let case = |state: &Option<Value>| state.as_ref()?.get("case")?.as_i64();
            let said = match (case(&from), case(&to)) {
                (_, Some(to)) => format!("Into case {to}"),
                (Some(from), None) => format!("Out of case {from}"),
                (None, None) => "Case".to_owned(),
            };
            (said, None)
        }
        "inherited" => ("Triage taken over from a notice or predecessor".to_owned(), None),
        _ => (changed(from.as_ref(), to.as_ref()), None),
    };
    HistoryItem { what, who, at, text }
}

/// What differs between two states of triage.
fn changed(from: Option<&Value>, to: Option<&Value>) -> String {
    let of = |state: Option<&Value>, name: &str| {
        state.and_then(|state| state.get(name)).filter(|value| !value.is_null()).map(words::scalar)
    };
    let mut parts = Vec::new();
    if of(from, "status") != of(to, "status")
        && let Some(status) = of(to, "status")
    {
        parts.push(words::label(&status));
    }
    if of(from, "disposition") != of(to, "disposition")
        && let Some(disposition) = of(to, "disposition")
    {
        parts.push(format!("as {}", words::label(&disposition).to_lowercase()));
    }
    if of(from, "assignee") != of(to, "assignee") {
        parts.push(match of(to, "assignee") {
            Some(owner) => format!("assigned to {owner}"),
            None => "owner removed".to_owned(),
        });
    }
    let text = parts.join(", ");
    let mut chars = text.chars();
    chars.next().map_or_else(|| "Looked at".to_owned(), |first| first.to_uppercase().chain(chars).collect())
}
