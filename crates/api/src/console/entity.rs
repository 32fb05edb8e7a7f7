//! An entity's page: all that concerns one address, user, key or host, over time, with its neighbours.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, response::Response};
use vedette_event::{Micros, Severity};
use vedette_store::model::{AlertRow, ConcernRole, Status};

use super::{
    Frame, Stamp, alert::Past, events::entity_href, href, hunt, queue::row::of_then, render, segment, words,
};
use crate::{
    app::App,
    desk::{
        entity::{self, EntityAlert, EntityDocument, EntityParams},
        past::AsOfParams,
    },
    metrics::now,
    params::{Segments, Strict},
    problem::Problem,
    wire::AlertDocument,
};

/// An alert that concerns it.
struct Line {
    href: String,
    at: Stamp,
    severity: &'static str,
    severity_label: String,
    title: String,
    summary: String,
    count: String,
    status: &'static str,
    status_label: String,
    disposition: Option<String>,
    assignee: Option<String>,
    role: &'static str,
}

struct Neighbour {
    kind: String,
    value: String,
    href: String,
    alerts: String,
}

/// What is listed, over time: a lane for each severity, a dot for each alert.
struct Course {
    label: String,
    lanes: Vec<(u32, String)>,
    /// x, y, severity, whether it is closed, in words.
    dots: Vec<(String, u32, &'static str, bool, String)>,
    from: Stamp,
    until: Stamp,
}

/// Between these are the dots of a [`Course`], in a box of 760 × 124.
const LEFT: f64 = 104.0;
const RIGHT: f64 = 748.0;
/// From lane to lane.
const LANE: u32 = 20;

impl Course {
    /// The course of these alerts until then; none where there is no stretch of time.
    fn of(items: &[EntityAlert], until: Micros) -> Option<Self> {
        let rows = || items.iter().map(|item| &item.alert.row);
        let from = rows().map(|row| row.crossed_at).min()?;
        let until = rows().map(|row| row.crossed_at).max()?.max(until);
        let length = until.since(from).0;
        if length <= 0 || items.len() < 2 {
            return None;
        }
        let lane = |severity: Severity| 14 + LANE * (Severity::Critical as u32 - severity as u32);
        let dot = |row: &AlertRow| {
            let x = LEFT + (RIGHT - LEFT) * (row.crossed_at.since(from).0 as f64 / length as f64);
            let closed = row.triage.status == Status::Closed;
            let told = format!("{}, {}", Stamp::of(row.crossed_at).text, words::cut(&row.rule_title));
            (format!("{x:.1}"), lane(row.severity), row.severity.name(), closed, told)
        };
        let severities =
            [Severity::Critical, Severity::High, Severity::Medium, Severity::Low, Severity::Informational];
        let (from_text, until_text) = (Stamp::of(from), Stamp::of(until));
        let open = rows().filter(|row| row.triage.status != Status::Closed).count();
        Some(Self {
            label: format!(
                "{} alerts from {} to {}, {open} of them open",
                items.len(),
                from_text.text,
                until_text.text
            ),
            lanes: severities
                .map(|severity| {
                    let informational = severity == Severity::Informational;
                    let label = if informational { "Info".to_owned() } else { words::label(severity.name()) };
                    (lane(severity), label)
                })
                .into(),
            dots: rows().map(dot).collect(),
            from: from_text,
            until: until_text,
        })
    }
}

#[derive(Template)]
#[template(path = "entity.html")]
struct EntityPage {
    frame: Frame,
    kind: String,
    value: String,
    queue: String,
    /// All its events around its newest alert.
    hunt: Option<String>,
    first: bool,
    past: Option<Past>,
    /// This page as it is shown, for ever.
    lasting: String,
    open: Vec<Line>,
    verdicts: Vec<(String, &'static str)>,
    neighbours: Vec<Neighbour>,
    neighbours_of: String,
    course: Option<Course>,
    lines: Vec<Line>,
    next: Option<String>,
}

/// `GET /entities/{type}/{value}`.
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Segments(kind, value): Segments,
    Strict(params): Strict<EntityParams>,
) -> Result<Response, Problem> {
    let first = params.cursor.is_none();
    let newest = app.store.newest_seq().await?;
    let at = AsOfParams { as_of: params.as_of.clone() }.seq(&app).await?;
    let document = entity::of(&app, (kind, value), &params, now()).await?;
    let live = app.live.now();
    let EntityDocument { entity, open, verdicts, neighbours, neighbours_of, items, next_cursor } = document;
    let own = entity_href(&entity.kind, &entity.value);
    let as_of = at.map(|at| at.to_string());
    let verdict = |(disposition, n): (&vedette_store::model::Disposition, &u64)| {
        let name = words::label(disposition.name()).to_lowercase();
        (format!("{} {name}", words::number(*n)), disposition.name())
    };
    let neighbour = |of: entity::NeighbourCount| Neighbour {
        href: of_then(entity_href(&of.entity.kind, &of.entity.value), at),
        alerts: words::number(of.alerts),
        kind: of.entity.kind,
        value: of.entity.value,
    };
    render(&EntityPage {
        frame: Frame::new(&live, "/"),
        queue: of_then(
            href("/", &[("status", "all"), ("entity", &entity.value), ("entity_type", &entity.kind)]),
            at,
        ),
        hunt: hunt::pivot::around(&app, (&entity.kind, &entity.value), newest_alert(&items)),
        first,
        open: open.into_iter().map(|document| line(document, ConcernRole::Entity, at)).collect(),
        verdicts: verdicts.iter().map(verdict).collect(),
        neighbours: neighbours.into_iter().map(neighbour).collect(),
        neighbours_of: words::number(neighbours_of),
        // The past ends with the last of its alerts: which time its place stands for is not known to the second.
        course: Course::of(&items, if at.is_some() { Micros::MIN } else { now() }),
        lines: items.into_iter().map(|item| line(item.alert, item.role, at)).collect(),
        next: next_cursor.map(|cursor| {
            let mut pairs = vec![("cursor", cursor.as_str())];
            pairs.extend(as_of.as_deref().map(|at| ("as_of", at)));
            href(&own, &pairs)
        }),
        past: at.map(|seq| Past { seq, exact: true, now: own.clone() }),
        lasting: href(&own, &[("as_of", &at.unwrap_or(newest).to_string())]),
        kind: entity.kind,
        value: entity.value,
    })
}

/// When the newest of them crossed; now if there is none.
fn newest_alert(items: &[EntityAlert]) -> Micros {
    items.iter().map(|item| item.alert.row.crossed_at).max().unwrap_or_else(now)
}

fn line(document: AlertDocument, role: ConcernRole, at: Option<i64>) -> Line {
    let row = document.row;
    Line {
        href: of_then(segment("/alerts/", &row.id), at),
        at: Stamp::of(row.crossed_at),
        severity: row.severity.name(),
        severity_label: words::label(row.severity.name()),
        summary: words::cut(&words::without_title(&row.summary, &row.rule_title)),
        title: words::cut(&row.rule_title),
        count: words::number(row.count),
        status: row.triage.status.name(),
        status_label: words::label(row.triage.status.name()),
        disposition: row.triage.disposition.map(|disposition| words::label(disposition.name())),
        assignee: row.triage.assignee,
        role: match role {
            ConcernRole::Entity => "about it",
            ConcernRole::Key => "in the key",
            ConcernRole::Child => "in an episode below",
            ConcernRole::Evidence => "in the evidence",
        },
    }
}
