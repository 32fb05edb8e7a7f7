//! The stream behind the console's pages: rows as the queue's own template writes them.
//!
//! In: the queue's filters and the last `seq` seen. Out: server-sent events `row` (id and HTML), `leave`, `reset`, and `quiet` where
//! nothing happened for fifteen seconds, so that a page knows that it is not stale. Invariants: those of `desk::follow`.

use std::{collections::VecDeque, convert::Infallible, sync::Arc};

use axum::{
    Extension,
    extract::State,
    http::HeaderMap,
    response::sse::{Event, Sse},
};
use futures::{Stream, stream};
use serde_json::{Value, json};

use super::{params::LiveParams, row};
use crate::{
    access::Permission,
    app::App,
    auth::Caller,
    desk::follow::{Followed, Follower},
    params::Strict,
    problem::{Kind, Problem},
};

/// `GET /live`.
pub(crate) async fn follow(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Strict(params): Strict<LiveParams>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let filter = params.queue.filter().filter()?;
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let after = last.or(params.after).map(|text| {
        text.trim().parse().map_err(|_| Problem::new(Kind::InvalidParameter, "`after` must be a `seq`."))
    });
    let triages = caller.may(Permission::Triage);
    let follower = Follower::take(Arc::clone(&app), caller, filter, after.transpose()?).await?;
    let state = (app, follower, VecDeque::new());
    let events = stream::unfold(state, move |(app, mut follower, mut ready)| async move {
        loop {
            if let Some(event) = ready.pop_front() {
                return Some((Ok(event), (app, follower, ready)));
            }
            ready = events(&app, follower.next().await?, triages).await?;
        }
    });
    Ok(Sse::new(events))
}

/// What happened as events; none where the store fails, which ends the stream: its reader comes back.
async fn events(app: &App, followed: Vec<Followed>, triages: bool) -> Option<VecDeque<Event>> {
    let (mut told, mut found) = (Vec::with_capacity(followed.len()), Vec::new());
    for one in followed {
        told.push(match one {
            Followed::Row { seq, row } => {
                found.push(*row);
                ("row", Some(seq), Value::Null)
            }
            Followed::Leave { seq, id } => ("leave", Some(seq), json!({ "id": id })),
            Followed::Reset { seq } => ("reset", Some(seq), json!({})),
            Followed::Quiet => ("quiet", None, json!({})),
        });
    }
    let mut rows = row::rows(app, found, triages).await.ok()?.into_iter();
    let mut events = VecDeque::with_capacity(told.len());
    for (name, seq, mut data) in told {
        if name == "row" {
            let row = rows.next()?;
            data = json!({ "id": row.id, "html": row.html().ok()? });
        }
        let event = Event::default().event(name).data(data.to_string());
        events.push_back(match seq {
            Some(seq) => event.id(seq.to_string()),
            None => event,
        });
    }
    Some(events)
}
