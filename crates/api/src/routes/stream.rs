//! The alert stream: changes of matching alerts as server-sent events, at least once, in commit order.
//!
//! In: the list's filters and the last `seq` seen. Out: `alert` (the row as in the list), `leave` (it stopped matching),
//! `reset` (the `seq` is too old: read the list again). Invariants: an event's id is its `seq`, so a browser resumes by
//! itself; a reader that lags is sent the newest state of each row, never a growing queue; on shutdown streams end.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use axum::{
    extract::State,
    http::HeaderMap,
    response::sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, watch};
use utoipa::{
    IntoParams,
    openapi::path::{Parameter, ParameterIn},
};
use vedette_store::model::{ChangeKind, Changes, Filter};

use super::alerts::FilterParams;
use crate::{
    app::App,
    params::Strict,
    problem::{self, Kind, Problem},
    wire::Document,
};

/// Changes looked at in one step.
const STEP: u32 = 256;
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Changes committed by another process do not wake us.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// From where to follow.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct AfterParams {
    /// Changes after this `seq`; by default only those from now on. `Last-Event-ID` takes precedence.
    #[param(value_type = Option<i64>)]
    pub after: Option<String>,
}

/// The parameters of the stream.
#[derive(Debug, Deserialize)]
pub(crate) struct StreamParams {
    #[serde(flatten)]
    after: AfterParams,
    #[serde(flatten)]
    filter: FilterParams,
}

impl IntoParams for StreamParams {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        [AfterParams::into_params(&place), FilterParams::into_params(&place)].concat()
    }
}

/// Data of `leave`: the row does not match (for a covered notice: its alert follows).
#[derive(Serialize)]
struct Leave {
    id: String,
    seq: i64,
}

/// Data of `reset`: read the list again, then go on from this `seq`.
#[derive(Serialize)]
struct Reset {
    seq: i64,
}

/// Follows changes of matching alerts. Events: `alert` (data as an item of the list), `leave` (`{id, seq}`: it does not
/// match, and may never have), `reset` (`{seq}`: too old; read the list again).
#[utoipa::path(
    get, path = "/alerts/stream", operation_id = "follow_alerts", tag = "alerts",
    params(StreamParams, ("Last-Event-ID" = Option<i64>, Header, description = "The last event's id, on reconnecting")),
    responses(
        (status = 200, description = "Server-sent events", body = String, content_type = "text/event-stream"),
        (status = "default", description = "A problem", body = problem::Document, content_type = "application/problem+json")
    )
)]
pub(crate) async fn follow(
    State(app): State<Arc<App>>,
    Strict(params): Strict<StreamParams>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let filter = params.filter.filter()?;
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let after = match last.or(params.after.after) {
        None => app.store.newest_seq().await?,
        Some(text) => text.trim().parse().map_err(|_| {
            Problem::new(
                Kind::InvalidParameter,
                "`after` (or `Last-Event-ID`) must be a whole number: a `seq`.",
            )
        })?,
    };
    let permit = Arc::clone(&app.streams).try_acquire_owned();
    let permit = permit.map_err(|_| Problem::new(Kind::TooManyRequests, "Too many streams are open."))?;
    let follower = Follower {
        newest: app.store.watch(),
        stopping: app.stopping.clone(),
        app,
        filter,
        after,
        ready: VecDeque::new(),
        _permit: permit,
    };
    let events = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
}

struct Follower {
    app: Arc<App>,
    filter: Filter,
    after: i64,
    ready: VecDeque<Event>,
    newest: watch::Receiver<i64>,
    stopping: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    /// The next event; `None` when the server stops or the store fails for good.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if *self.stopping.borrow() {
                return None;
            }
            self.newest.mark_unchanged();
            match self.step().await {
                Ok(true) => {}
                Ok(false) => tokio::select! {
                    _ = self.newest.changed() => {}
                    _ = self.stopping.changed() => {}
                    () = tokio::time::sleep(LOOK_AGAIN) => {}
                },
                Err(error) if error.retryable() => tokio::time::sleep(LOOK_AGAIN).await,
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "an alert stream ended");
                    return None;
                }
            }
        }
    }

    /// Looks at the next changes; true if there were any.
    async fn step(&mut self) -> Result<bool, vedette_store::Error> {
        let changes = match self.app.store.changes(self.after, STEP).await? {
            Changes::Reset { seq } => {
                self.after = seq;
                self.ready.extend(event("reset", seq, &Reset { seq }));
                return Ok(true);
            }
            Changes::Next(changes) => changes,
        };
        let Some(last) = changes.last().map(|change| change.seq) else { return Ok(false) };
        let mut touched: BTreeMap<String, i64> = BTreeMap::new();
        for change in changes {
            match change.kind {
                ChangeKind::Alert | ChangeKind::Notice | ChangeKind::Covered | ChangeKind::Triage => {
                    touched.insert(change.id, change.seq);
                }
                _ => {}
            }
        }
        let ids: Vec<String> = touched.keys().cloned().collect();
        let mut rows: BTreeMap<String, _> = self
            .app
            .store
            .matching(&self.filter, &ids)
            .await?
            .into_iter()
            .map(|row| (row.id.clone(), row))
            .collect();
        let mut in_order: Vec<_> = touched.into_iter().collect();
        in_order.sort_by_key(|(_, seq)| *seq);
        for (id, seq) in in_order {
            self.ready.extend(match rows.remove(&id) {
                Some(row) => event("alert", seq, &Document::of(row)),
                None => event("leave", seq, &Leave { id, seq }),
            });
        }
        self.after = last;
        Ok(true)
    }
}

fn event(name: &str, seq: i64, data: &impl Serialize) -> Option<Event> {
    match serde_json::to_string(data) {
        Ok(json) => Some(Event::default().event(name).id(seq.to_string()).data(json)),
        Err(error) => {
            tracing::error!(%error, seq, "a change could not be written");
            None
        }
    }
}
