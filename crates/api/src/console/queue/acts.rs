//! The queue's form: one change of what is selected, a case of it, and taking changes back.
//!
//! In: rows as they were seen (id, version, revision), or all that match and were there at a `seq`; one button. Out: the queue again,
//! which says how many were changed and offers to take that back; where some were not, which and why. Invariants: the same
//! use cases as the API's; what was not seen is not changed.

use std::sync::Arc;

use askama::Template;
use axum::{
    Extension,
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;
use vedette_store::model::{BulkItem, BulkTarget, Disposition, Made, Status};

use super::params::QueueParams;
use crate::{
    app::App,
    auth::Caller,
    console::{Frame, forms::FormBody, render, segment, words},
    desk::{
        bulk::{self, BulkOutcome, Undo},
        case::{self, CaseBody},
        triage::Change,
    },
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
    unchanged: Vec<Unchanged>,
    more: usize,
    back: String,
    undo: Option<(i64, i64, String)>,
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
    let uri = format!("/?{query}").parse().map_err(|_| unreadable("back"))?;
    let params = axum::extract::Query::<QueueParams>::try_from_uri(&uri);
    params.map(|axum::extract::Query(params)| params).map_err(|_| unreadable("back"))
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

/// An entry as the form has it: `id:version:revision`.
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
    let ids: Vec<String> = fields.all("alert").map(str::to_owned).collect();
    if act == "case" {
        let body = CaseBody {
            title: fields.one("title").unwrap_or_default().to_owned(),
            alert_ids: ids,
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
    let target = match fields.one("all") {
        Some(as_of) => BulkTarget::Matching {
            filter: Box::new(queue.filter().filter()?),
            as_of: as_of.parse().map_err(|_| unreadable("all"))?,
        },
        None => {
            let shown = fields.all("seen").filter_map(seen);
            BulkTarget::Items(shown.filter(|item| ids.contains(&item.id)).collect())
        }
    };
    let outcome = bulk::change_all(&app, &target, change, &caller).await?;
    told(&app, outcome, &queue, true)
}

/// The queue again where all went well, else what did not.
fn told(app: &App, outcome: BulkOutcome, queue: &QueueParams, undo: bool) -> Result<Response, Problem> {
    let BulkOutcome { items, after, until } = outcome;
    let changed = items.iter().filter(|item| item.problem.is_none()).count();
    if changed == items.len() && !items.is_empty() {
        let did = format!("{after}.{until}.{changed}");
        let back = queue.changed(&[("did", Some(did.as_str()).filter(|_| undo))]);
        return Ok(Redirect::to(&back).into_response());
    }
    let failed: Vec<_> = items.into_iter().filter(|item| item.problem.is_some()).collect();
    let more = failed.len().saturating_sub(LISTED);
    let unchanged = failed.into_iter().take(LISTED).map(|item| Unchanged {
        href: segment("/alerts/", &item.id),
        why: item.problem.map(|problem| problem.detail().to_owned()).unwrap_or_default(),
        id: item.id,
    });
    render(&ActsPage {
        frame: Frame::new(&app.live.now(), "/"),
        changed: words::number(changed as u64),
        unchanged: unchanged.collect(),
        more,
        undo: (undo && changed > 0).then(|| (after, until, queue.query())),
        back: queue.changed(&[]),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UndoForm {
    after: i64,
    until: i64,
    #[serde(default)]
    back: String,
}

/// `POST /alerts/undo`.
pub(crate) async fn undo(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    FormBody(UndoForm { after, until, back }): FormBody<UndoForm>,
) -> Result<Response, Problem> {
    let queue = queue_of(&back)?;
    let outcome = bulk::undo(&app, &Undo { after, until }, &caller).await?;
    told(&app, outcome, &queue, false)
}
