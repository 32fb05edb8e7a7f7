//! The queue's form: one change of what is selected, a case of it, and taking changes back.
//!
//! In: rows as they were seen (id, version, revision), or all that match and were there at a `seq`; one button. Out: the queue again,
//! which says how many were changed and offers to take that back; where some were not, which and why. Invariants: the same
//! use cases as the API's; what was not seen is not changed; an address names what was done by its id, and offers it to whom it is of.

use std::sync::Arc;

use askama::Template;
use axum::{
    Extension,
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;
use vedette_store::model::{BulkItem, BulkTarget, Disposition, Effect, Made, Status};

use crate::{
    app::App,
    auth::Caller,
    console::{Frame, alert, forms::FormBody, render, segment, words},
    desk::{
        bulk::{self, BulkOutcome, BulkOutcomeItem, Undo},
        case::{self, CaseBody},
        queue::QueueParams,
        triage::Change,
    },
    params,
    problem::{Kind, Problem},
};

/// What was not changed that a page lists.
const LISTED: usize = 100;

struct Unchanged {
    id: String,
    href: String,
    why: String,
}

#[derive(Template)]
#[template(path = "queue_acts.html")]
struct ActsPage {
    frame: Frame,
    changed: String,
    /// How many were what was asked for already.
    same: u64,
    unchanged: Vec<Unchanged>,
    more: usize,
    back: String,
    /// The change's id and the queue.
    undo: Option<(i64, String)>,
}

/// The fields that all of the queue's forms have.
struct Fields(Vec<(String, String)>);

impl Fields {
    fn one(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.trim());
        found.filter(|value| !value.is_empty())
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The queue that the form stood in.
    fn queue(&self) -> Result<QueueParams, Problem> {
        let query = self.one("back").unwrap_or_default();
        queue_of(query)
    }
}

/// The queue's parameters of a query string.
fn queue_of(query: &str) -> Result<QueueParams, Problem> {
    params::query_of(query).map_err(|_| unreadable("back"))
}

fn unreadable(name: &str) -> Problem {
    Problem::new(Kind::InvalidBody, format!("The form's `{name}` cannot be read."))
}

/// The change that a button stands for.
fn change(act: &str, caller: &Caller) -> Option<Change> {
    let close = |disposition| Change {
        status: Some(Status::Closed),
        disposition: Some(disposition),
        ..Change::default()
    };
    let to = |status| Change { status: Some(status), ..Change::default() };
    Some(match act {
        "acknowledge" => to(Status::Acknowledged),
        "take" => Change { assignee: Some(caller.name.clone()), ..to(Status::Acknowledged) },
        "renew" => to(Status::New),
        other => close(Disposition::parse(other)?),
    })
}

/// A row as its box names it: `id:version:revision`.
fn seen(text: &str) -> Option<BulkItem> {
    let mut parts = text.rsplitn(3, ':');
    let (revision, version, id) = (parts.next()?, parts.next()?, parts.next()?);
    Some(BulkItem {
        id: id.to_owned(),
        version: version.parse().ok()?,
        seen_revision: Some(revision.parse().ok()?),
    })
}

/// `POST /alerts/bulk`.
pub(crate) async fn bulk(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    FormBody(pairs): FormBody<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let fields = Fields(pairs);
    let queue = fields.queue()?;
    let act = fields.one("act").unwrap_or_default();
    let rows = fields.all("alert").map(|row| seen(row).ok_or_else(|| unreadable("alert")));
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    let all = fields.one("all").map(str::parse).transpose().map_err(|_| unreadable("all"))?;
    if act == "case" {
        let alert_ids = match all {
            Some(as_of) => case::listed(&app, &queue.filter().filter()?, as_of).await?,
            None => rows.into_iter().map(|row| row.id).collect(),
        };
        let body = CaseBody {
            title: fields.one("title").unwrap_or_default().to_owned(),
            alert_ids,
            ..CaseBody::default()
        };
        return Ok(match case::open(&app, body, None, &caller).await? {
            Made::New(made) => Redirect::to(&format!("/cases/{}", made.case_id)).into_response(),
            Made::Again(_) => Redirect::to("/cases").into_response(),
        });
    }
    let Some(change) = change(act, &caller) else {
        return Err(Problem::new(Kind::InvalidBody, "No button of this form does that."));
    };
    let target = match all {
        Some(as_of) => BulkTarget::Matching { filter: Box::new(queue.filter().filter()?), as_of },
        None => BulkTarget::Items(rows),
    };
    told(&app, bulk::change_all(&app, &target, change, None, &caller).await?, &queue)
}

/// The queue again where all is what was asked for, else what is not.
fn told(app: &App, made: Made<BulkOutcome>, queue: &QueueParams) -> Result<Response, Problem> {
    // A form has no key.
    let Made::New(BulkOutcome { items, changed, change_id }) = made else {
        return Ok(Redirect::to(&queue.changed(&[])).into_response());
    };
    let same = items.iter().filter(|item| item.effect == Some(Effect::Unchanged)).count() as u64;
    let is_left = |item: &BulkOutcomeItem| matches!(item.effect, None | Some(Effect::Returned));
    let left: Vec<_> = items.into_iter().filter(is_left).collect();
    if left.is_empty() && changed > 0 {
        let did = change_id.map(|id| id.to_string());
        return Ok(Redirect::to(&queue.changed(&[("did", did.as_deref())])).into_response());
    }
    let more = left.len().saturating_sub(LISTED);
    let unchanged = left.into_iter().take(LISTED).map(|item| Unchanged {
        href: segment("/alerts/", &item.id),
        why: item.problem.map_or_else(
            || "It is back in the queue: more had come than was seen.".to_owned(),
            |problem| problem.detail().to_owned(),
        ),
        id: item.id,
    });
    render(&ActsPage {
        frame: Frame::new(&app.live.now(), "/"),
        changed: words::number(changed),
        same,
        unchanged: unchanged.collect(),
        more,
        undo: change_id.map(|id| (id, queue.query())),
        back: queue.changed(&[]),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UndoForm {
    change: i64,
    #[serde(default)]
    back: String,
    /// The alert whose page the form stood on.
    alert: Option<String>,
}

/// `POST /alerts/undo`.
pub(crate) async fn undo(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    FormBody(UndoForm { change, back, alert }): FormBody<UndoForm>,
) -> Result<Response, Problem> {
    let queue = queue_of(&back)?;
    let made = bulk::undo(&app, &Undo { change_id: change }, None, &caller).await?;
    match (alert, made) {
        (Some(id), Made::New(done)) => {
            let problem = done.items.into_iter().find_map(|item| item.problem);
            match problem {
                None => Ok(Redirect::to(&segment("/alerts/", &id)).into_response()),
                Some(problem) => alert::unsaved(&app, &id, &problem, String::new()).await,
            }
        }
        (_, made) => told(&app, made, &queue),
    }
}
