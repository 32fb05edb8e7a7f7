//! An alert's page: what, who, why, evidence, the picture, one form, one line of time.

use std::{collections::BTreeSet, sync::Arc};

use askama::Template;
use axum::{Extension, extract::State, response::Response};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;
use vedette_event::{Alert, Flags, Micros, Notice, State as Liveness, alert::Explanation};
use vedette_store::model::{AlertRow, RowState};

use super::{
    Frame, Stamp,
    alert_desk::AlertDesk,
    children::{self, Block},
    events::{Cell, Contents, Only, Table, entity_href, place},
    href,
    hunt::pivot,
    marks::Marks,
    picture,
    queue::row::{Seen, of_then},
    render, segment,
    sheet::{About, Before, Who},
    timeline, words,
};
use crate::{
    access::Permission,
    app::App,
    auth::{self, Caller},
    desk::{
        dossier::{self, Dossier},
        past::AsOfParams,
    },
    live::Live,
    metrics::now,
    params::{NoParams, Segment, Segments, Strict},
    problem::{Kind, Problem},
    wire::{Envelope, Revision},
};

/// The page's own parameters.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct AlertParams {
    /// Show only events with this value: `field:value`.
    only: Option<String>,
    /// Show only events without this value: `field:value`.
    without: Option<String>,
    /// As it was at this `seq`, or at this time.
    as_of: Option<String>,
}

impl AlertParams {
    fn filters(&self) -> Result<Vec<Only>, Problem> {
        let parse = |text: &String, without| {
            Only::parse(text, without)
                .ok_or_else(|| Problem::new(Kind::InvalidParameter, "Events are filtered by `field:value`."))
        };
        let only = self.only.iter().map(|text| parse(text, false));
        only.chain(self.without.iter().map(|text| parse(text, true))).collect()
    }
}

/// A filter that is on, with a link that takes it off.
struct Chip {
    text: String,
    off: String,
}

/// That a page shows the past.
pub(super) struct Past {
    pub seq: i64,
    pub exact: bool,
    /// The same page as it is now.
    pub now: String,
}

#[derive(Template)]
#[template(path = "alert.html")]
struct AlertPage {
    frame: Frame,
    desk: AlertDesk,
    stream: String,
    conflict: Option<String>,
    /// The reader's own change that stands last.
    undo: Option<i64>,
    past: Option<Past>,
    /// This page as it is shown, for ever.
    lasting: String,
    id: String,
    link: String,
    title: String,
    whose: String,
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
    first_age: String,
    last_seen: Stamp,
    crossed_at: Stamp,
    crossed_age: String,
    duration: String,
    risk: u32,
    about: About,
    why: words::Why,
    flags: Vec<(String, &'static str)>,
    picture: Option<picture::Picture>,
    evidence_note: String,
    chips: Vec<Chip>,
    children: Vec<Block>,
    children_note: String,
    events: Table,
    key: Vec<(String, String)>,
    /// How, where, which.
    related: Vec<(&'static str, String, String)>,
    /// What leads to all its events.
    hunts: Vec<(String, String)>,
    /// What a scheduled hunt found.
    found: Option<FoundRows>,
    before: Vec<Before>,
    /// How often the rule was closed about this entity, and as what.
    seen: Option<Seen>,
    status: &'static str,
    status_label: String,
    disposition: Option<String>,
    assignee: Option<String>,
    version: i64,
    draft: String,
    timeline: Vec<timeline::Entry>,
}

/// `GET /alerts/{id}`.
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Strict(params): Strict<AlertParams>,
) -> Result<Response, Problem> {
    show(&app, &id, &params, None).await
}

/// The page, with why a form was not saved, and what was written in it.
pub(super) async fn unsaved(
    app: &App,
    id: &str,
    problem: &Problem,
    text: String,
) -> Result<Response, Problem> {
    let unsaved = Some((problem.detail().to_owned(), text));
    let mut page = show(app, id, &AlertParams::default(), unsaved).await?;
    *page.status_mut() = problem.status();
    Ok(page)
}

async fn show(
    app: &App,
    id: &str,
    params: &AlertParams,
    unsaved: Option<(String, String)>,
) -> Result<Response, Problem> {
    let seq = app.store.newest_seq().await?;
    let filters = params.filters()?;
    let at = AsOfParams { as_of: params.as_of.clone() }.seq(app).await?;
    let (dossier, exact) = match at {
        None => (dossier::of(app, id, now()).await?, true),
        Some(at) => dossier::at(app, id, at).await?,
    };
    let live = app.live.now();
    let body = body(&dossier.document.row)?;
    let known = app.store.there_at(&children::ids(&body), at.unwrap_or(i64::MAX)).await?;
    let desk = AlertDesk::of(app, &dossier.document.row, at).await?;
    let text = app.store.rule_text(&body.rule.id, &body.rule.version).await?;
    let mut page = compose(dossier, desk, &body, (&known, text), &live, (filters, at, pivot::may(app)));
    page.hunts = pivot::of_alert(app, &body);
    if let Some((why, text)) = unsaved {
        (page.conflict, page.draft) = (Some(why), text);
    }
    if let Some(caller) = auth::asking().filter(|caller| at.is_none() && caller.may(Permission::Triage)) {
        page.undo = app.store.own_last_change(&page.id, &caller.name).await?;
    }
    let own = segment("/alerts/", &page.id);
    // Nothing can be changed in the past.
    page.frame.triages &= at.is_none();
    page.past = at.map(|seq| Past { seq, exact, now: own.clone() });
    let fragment = page.link.split_once('#').map(|(_, fragment)| fragment.to_owned()).unwrap_or_default();
    page.lasting = format!("{}#{fragment}", href(&own, &[("as_of", &at.unwrap_or(seq).to_string())]));
    let rule = page.about.id.clone();
    page.stream = href("/live", &[("after", &seq.to_string()), ("status", "all"), ("rule", &rule)]);
    render(&page)
}

/// The body of a row; that of a notice is brought into an alert's shape.
pub(super) fn body(row: &AlertRow) -> Result<Alert, Problem> {
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

fn compose(
    dossier: Dossier,
    desk: AlertDesk,
    body: &Alert,
    (known, text): (&BTreeSet<String>, Option<String>),
    live: &Live,
    (only, at, may_hunt): (Vec<Only>, Option<i64>, bool),
) -> AlertPage {
    let Dossier { document, history, standing, earlier, verdicts, covered } = dossier;
    let (row, envelope) = (document.row, document.envelope);
    let Envelope { predecessor, successor, covers, events, revisions, .. } = envelope;
    let revisions: Vec<Revision> = revisions.unwrap_or_default();
    let of_before = predecessor.map(|id| ("Continues", id));
    let of_after = successor.map(|id| ("Continued by", id));
    let related = of_before.into_iter().chain(of_after).chain(covers.into_iter().map(|id| ("Covers", id)));
    let chips = chips(&row.id, &only, at);
    let marks = Marks::of(live, &body.rule.id);
    let contents = Contents::new((&row.id, at), events.unwrap_or_default(), marks, only);
    let contents = contents.for_who_hunts(may_hunt);
    let children = children::blocks(body, known, &contents);
    let seen =
        row.entity.as_ref().zip(verdicts).and_then(|(of, verdicts)| Seen::of(&row.rule_id, of, verdicts, at));
    let entity = Who::of(&row, standing, at);
    let title = body.rule.title.to_string();
    let whose = entity.as_ref().map(|who| who.value.clone()).unwrap_or_default();
    let table = contents.table("ev", &body.evidence, body.evidence_total);
    AlertPage {
        frame: Frame::new(live, "/"),
        desk,
        stream: String::new(),
        conflict: None,
        undo: None,
        past: None,
        lasting: String::new(),
        link: format!("{}#{}", segment("/alerts/", &row.id), slug(&title, &whose)),
        whose,
        entity,
        summary: words::without_title(&body.summary, &title),
        title,
        severity: body.severity.name(),
        severity_label: words::label(body.severity.name()),
        state: row.state.name(),
        withdrawn: row.withdrawn.is_some(),
        recurred: row.recurred,
        since_closed: row.since_closed.filter(|n| *n > 0),
        count: words::number(body.count),
        revision: row.revision,
        first_seen: Stamp::of(body.first_seen),
        first_age: age(body.first_seen),
        last_seen: Stamp::of(body.last_seen),
        crossed_at: Stamp::of(body.crossed_at),
        crossed_age: age(body.crossed_at),
        duration: words::lasted(body.first_seen, body.last_seen),
        risk: body.risk,
        about: About::of(body, live, text),
        why: why(&row, body, live),
        flags: body.flags.names().map(|flag| (flag.to_owned(), words::flag(flag))).collect(),
        picture: picture::picture(body, &revisions).filter(|_| row.state != RowState::Notice),
        evidence_note: note(body, &table),
        chips,
        children_note: children::note(body, children.len()),
        children,
        events: table,
        key: body.key.iter().map(|(name, value)| (name.to_string(), value.text().to_owned())).collect(),
        related: related.map(|(label, id)| (label, of_then(segment("/alerts/", &id), at), id)).collect(),
        hunts: Vec::new(),
        found: FoundRows::of(body),
        seen,
        before: earlier.into_iter().map(|of| Before::of(of, at)).collect(),
        timeline: timeline::entries(body, row.state, &revisions, &covered, history),
        status: row.triage.status.name(),
        status_label: words::label(row.triage.status.name()),
        disposition: row.triage.disposition.map(|disposition| words::label(disposition.name())),
        assignee: row.triage.assignee,
        version: row.triage.version,
        draft: String::new(),
        id: row.id,
    }
}

/// Rows that a scheduled hunt found, as its alert keeps them.
struct FoundRows {
    columns: Vec<String>,
    rows: Vec<Vec<Option<String>>>,
    note: String,
}

impl FoundRows {
    fn of(body: &Alert) -> Option<Self> {
        let rows = body.explanation.details.get("rows").filter(|_| &*body.rule.kind == "hunt")?.as_array()?;
        let mut columns: Vec<String> = Vec::new();
        for name in rows.iter().filter_map(|row| row.as_object()).flat_map(|row| row.keys()) {
            if !columns.contains(name) {
                columns.push(name.clone());
            }
        }
        let cell = |row: &Value, name: &String| row.get(name).map(|value| words::cut(&words::scalar(value)));
        let note = match rows.len() as u64 {
            shown if shown < body.count => format!("the first {shown} of {}", words::number(body.count)),
            shown => shown.to_string(),
        };
        Some(Self {
            rows: rows.iter().map(|row| columns.iter().map(|name| cell(row, name)).collect()).collect(),
            columns,
            note,
        })
    }
}

/// `10 of 412 events`, and how many of these a filter leaves.
fn note(body: &Alert, table: &Table) -> String {
    let (total, listed) = (body.evidence_total, body.evidence.len());
    let all = match total {
        1 => "1 event".to_owned(),
        total if total <= listed as u64 => format!("{total} events"),
        total => format!("{listed} of {} events: the first and the last", words::number(total)),
    };
    match table.hidden {
        0 => all,
        _ => format!("{} shown, {all}", table.events.len()),
    }
}

fn chips(id: &str, only: &[Only], at: Option<i64>) -> Vec<Chip> {
    let page = segment("/alerts/", id);
    let chip = |of: &Only| {
        let others = only.iter().filter(|other| *other != of);
        let mut others: Vec<(&str, String)> = others
            .map(|other| {
                let name = if other.without { "without" } else { "only" };
                (name, format!("{}:{}", other.field, other.value))
            })
            .collect();
        others.extend(at.map(|at| ("as_of", at.to_string())));
        let pairs: Vec<(&str, &str)> = others.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let word = if of.without { "is not" } else { "is" };
        Chip {
            text: format!("{} {word} {}", of.field, of.value),
            off: format!("{}#evidence", href(&page, &pairs)),
        }
    };
    only.iter().map(chip).collect()
}

/// Words of a title and of whom it is about as the end of an address, so that a link says what it leads to.
fn slug(title: &str, whose: &str) -> String {
    let kept = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':');
    let text = format!("{title} {whose}");
    let words = text.split(|c: char| !kept(c)).filter(|word| !word.is_empty());
    let mut slug = words.collect::<Vec<_>>().join("-").to_ascii_lowercase();
    slug.truncate(100);
    slug
}

/// How long ago that was, kept up by the page's script.
fn age(time: Micros) -> String {
    format!("{} ago", words::span(now().since(time)))
}

fn why(row: &AlertRow, body: &Alert, live: &Live) -> words::Why {
    match (row.state == RowState::Notice, row.withdrawn) {
        (true, None) => announced(body),
        (true, Some(withdrawn)) => {
            words::Why { sentence: words::withdrawn(withdrawn.reason).to_owned(), facts: Vec::new() }
        }
        (false, _) => words::why(body, live),
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

#[derive(Template)]
#[template(path = "event.html")]
struct EventPage {
    frame: Frame,
    id: String,
    title: String,
    time: Stamp,
    place: String,
    cells: Vec<Cell>,
    record: Option<String>,
    sees_records: bool,
}

/// `GET /alerts/{id}/events/{number}`: one event of the evidence with everything that is stored of it.
pub(super) async fn event(
    State(app): State<Arc<App>>,
    Segments(id, number): Segments,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Response, Problem> {
    let document = crate::desk::alert::full(&app, &id).await?;
    let live = app.live.now();
    let body = body(&document.row)?;
    let contents = Contents::new(
        (&document.row.id, None),
        document.envelope.events.unwrap_or_default(),
        Marks::of(&live, &body.rule.id),
        Vec::new(),
    );
    let found = number.parse().ok().and_then(|number| contents.whole(number, &document.row.body));
    let (reference, cells, record) =
        found.ok_or_else(|| Problem::new(Kind::NotFound, "The alert keeps no such event."))?;
    let sees_records = caller.may(Permission::RawRecords);
    render(&EventPage {
        frame: Frame::new(&live, "/"),
        title: body.rule.title.to_string(),
        time: Stamp::of(reference.time),
        place: place(&reference),
        cells,
        record: record.filter(|_| sees_records),
        sees_records,
        id: document.row.id,
    })
}

impl Who {
    /// Where all that concerns it is, or was.
    pub fn href(&self) -> String {
        of_then(entity_href(&self.kind, &self.value), self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_say_what_they_lead_to() {
        assert_eq!(
            slug("Credential stuffing from one address", "203.0.113.54"),
            "credential-stuffing-from-one-address-203.0.113.54"
        );
        assert_eq!(slug("<b>\u{202e}é", ""), "b");
        assert_eq!(slug(&"x ".repeat(500), "").len(), 100);
    }
}
