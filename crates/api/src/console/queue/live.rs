//! The stream behind the console's pages: rows as the queue's own template writes them.
//!
//! In: the queue's filters and the last `seq` seen. Out: server-sent events `row` (id and HTML), `leave`, `reset`, and `quiet` where
//! nothing happened for fifteen seconds, so that a page knows that it is not stale. Invariants: those of `desk::follow`.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::State,
    http::{HeaderMap, Response},
};
use serde_json::json;

use super::{params::LiveParams, row};
use crate::{
    access::Permission,
    app::App,
    auth::Caller,
    desk::follow::Follower,
    params::Strict,
    problem::{Kind, Problem},
    relay::{Bytes, Face, Followed},
    sse,
};

/// `GET /live`.
pub(crate) async fn follow(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Strict(params): Strict<LiveParams>,
    headers: HeaderMap,
) -> Result<Response<Body>, Problem> {
    let filter = params.queue.filter().filter()?;
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let after = last.or(params.after).map(|text| {
        text.trim().parse().map_err(|_| Problem::new(Kind::InvalidParameter, "`after` must be a `seq`."))
    });
    let triages = caller.may(Permission::Triage);
    let own = Arc::clone(&app);
    let face = Face {
        name: if triages { "rows to change" } else { "rows" },
        write: Arc::new(move |followed| {
            let app = Arc::clone(&own);
            Box::pin(async move { texts(&app, followed, triages).await })
        }),
    };
    Ok(sse::answer(Follower::take(app, caller, &filter, &face, after.transpose()?).await?))
}

/// What happened as events; none where the store fails.
async fn texts(app: &App, followed: Vec<Followed>, triages: bool) -> Option<Vec<Bytes>> {
    let (mut told, mut found) = (Vec::with_capacity(followed.len()), Vec::new());
    for one in followed {
        told.push(match one {
            Followed::Row { seq, row } => {
                found.push(*row);
                (seq, None)
            }
            Followed::Leave { seq, id } => (seq, Some(sse::event("leave", seq, &json!({ "id": id })).ok()?)),
            Followed::Reset { seq } => (seq, Some(sse::event("reset", seq, &json!({})).ok()?)),
            Followed::Quiet { seq } => (seq, Some(sse::event("quiet", seq, &json!({})).ok()?)),
            Followed::Slow { seq } => (seq, Some(sse::slow(seq))),
        });
    }
    let mut rows = row::rows(app, found, triages).await.ok()?.into_iter();
    let text = |(seq, text)| match text {
        Some(text) => Some(text),
        None => {
            let row = rows.next()?;
            sse::event("row", seq, &json!({ "id": row.id, "html": row.html().ok()? })).ok()
        }
    };
    told.into_iter().map(text).collect()
}
