//! The alert stream: changes of matching alerts as server-sent events, at least once, in commit order.
//!
//! In: the list's filters and the last `seq` seen. Out: `alert` (the row as in the list), `leave` (it stopped matching),
//! `reset` (the `seq` is too old: read the list again). Invariants: an event's id is its `seq`, so a browser resumes by
//! itself; `leave` is for rows that the reader may know, once; a reader that lags is sent the newest state of each row,
//! never a growing queue; a stream ends when its token or session is over, when the server stops, and after an hour.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    convert::Infallible,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use axum::{
    Extension,
    extract::State,
    http::HeaderMap,
    response::sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, stream};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, sleep, sleep_until},
};
use utoipa::{
    IntoParams,
    openapi::path::{Parameter, ParameterIn},
};
use vedette_store::{
    Error,
    model::{ChangeKind, Changes, Filter},
};

use crate::{
    admission::Known as Admitted,
    app::App,
    auth::Caller,
    desk::filter::FilterParams,
    params::Strict,
    problem::{self, Kind, Problem},
    wire::AlertDocument,
};

/// Changes looked at in one step.
const STEP: u32 = 256;
/// Proxies give up connections on which nothing comes for 30 to 60 seconds.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Changes committed by another process do not wake us.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How long a stream lasts. Its reader goes on with a new one, as browsers do by themselves; without an end, readers
/// that take nothing while nothing happens would hold their places for ever.
pub(crate) const MAX_TIME: Duration = Duration::from_secs(3_600);

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

/// Data of `leave`: the row does not match any more (for a covered notice: its alert follows).
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
/// match any more; for a row sent on this stream, and once for one that is older than `after` or `Last-Event-ID`, since it
/// may have been read before), `reset` (`{seq}`: too old; read the list again). Ends when the token is revoked, and after an
/// hour: go on with `Last-Event-ID`.
#[utoipa::path(
    get, path = "/alerts/stream", operation_id = "follow_alerts", tag = "alerts",
    params(StreamParams, ("Last-Event-ID" = Option<i64>, Header, description = "The last event's id, on reconnecting")),
    responses(
        (status = 200, description = "Server-sent events", body = String, content_type = "text/event-stream"),
        problem::ProblemDocument
    )
)]
pub(crate) async fn follow(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Strict(params): Strict<StreamParams>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let filter = params.filter.filter()?;
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let given = last.or(params.after.after).map(|text| {
        text.trim().parse().map_err(|_| {
            Problem::new(
                Kind::InvalidParameter,
                "`after` (or `Last-Event-ID`) must be a whole number: a `seq`.",
            )
        })
    });
    let given = given.transpose()?;
    let after = match given {
        Some(seq) => seq,
        None => app.store.newest_seq().await?,
    };
    let permit = Arc::clone(&app.streams).try_acquire_owned();
    let permit = permit.map_err(|_| Problem::new(Kind::TooManyRequests, "Too many streams are open."))?;
    let follower = Follower {
        ends: Instant::now() + MAX_TIME,
        newest: app.store.watch(),
        access: app.admission.changes(),
        stopping: app.stopping.clone(),
        app,
        caller,
        filter,
        after,
        known: Known::before(given.unwrap_or(i64::MIN)),
        ready: VecDeque::new(),
        _permit: permit,
    };
    let events = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
}

/// Rows that a stream remembers before it starts anew.
const MAX_KNOWN: usize = 16_384;

/// Which rows a reader may hold.
struct Known {
    /// Rows that were there at this `seq` may have been read before.
    before: i64,
    /// Since then, by the hash of the id: whether the row was sent last as one that matches.
    sent: HashMap<u64, bool>,
    hasher: RandomState,
}

impl Known {
    /// Any row that was there at `seq`.
    fn before(seq: i64) -> Self {
        Self { before: seq, sent: HashMap::new(), hasher: RandomState::new() }
    }

    /// Notes what is sent of a row.
    fn note(&mut self, id: &str, matches: bool) {
        self.sent.insert(self.hasher.hash_one(id), matches);
    }

    /// What was sent last of a row.
    fn last(&self, id: &str) -> Option<bool> {
        self.sent.get(&self.hasher.hash_one(id)).copied()
    }
}

struct Follower {
    app: Arc<App>,
    caller: Caller,
    filter: Filter,
    after: i64,
    known: Known,
    ready: VecDeque<Event>,
    ends: Instant,
    newest: watch::Receiver<i64>,
    access: watch::Receiver<Arc<Admitted>>,
    stopping: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    /// The next event; `None` when the token is revoked, its time is over, the server stops or the store fails for good.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if *self.stopping.borrow() || self.revoked() || self.ends <= Instant::now() {
                return None;
            }
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            self.newest.mark_unchanged();
            match self.step().await {
                Ok(true) => {}
                Ok(false) => tokio::select! {
                    _ = self.newest.changed() => {}
                    _ = self.stopping.changed() => {}
                    _ = self.access.changed() => {}
                    () = sleep_until(self.ends) => {}
                    () = sleep(LOOK_AGAIN) => {}
                },
                Err(error) if error.retryable() => sleep(LOOK_AGAIN).await,
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "an alert stream ended");
                    return None;
                }
            }
        }
    }

    /// True if the token or the session is not in force any more.
    fn revoked(&mut self) -> bool {
        self.access.mark_unchanged();
        !self.app.admission.still_lets_in(&self.caller)
    }

    /// Looks at the next changes; true if there were any.
    async fn step(&mut self) -> Result<bool, Error> {
        // Never closed.
        let _turn = self.app.stream_reads.acquire().await;
        let changes = match self.app.store.changes(self.after, STEP).await? {
            Changes::Reset { seq } => {
                self.after = seq;
                self.known = Known::before(seq);
                self.ready.extend(event("reset", seq, &Reset { seq }));
                return Ok(true);
            }
            Changes::Next(changes) => changes,
        };
        let Some(last) = changes.last().map(|change| change.seq) else { return Ok(false) };
        let mut touched: BTreeMap<String, i64> = BTreeMap::new();
        for change in changes {
            match change.kind {
                ChangeKind::Alert
                | ChangeKind::Notice
                | ChangeKind::Covered
                | ChangeKind::Withdrawn
                | ChangeKind::Triage => {
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
        if self.known.sent.len() > MAX_KNOWN {
            self.known = Known::before(self.after);
        }
        let unsent = |id: &&String| !rows.contains_key(*id) && self.known.last(id).is_none();
        let unsent: Vec<String> = ids.iter().filter(unsent).cloned().collect();
        let older = self.app.store.there_at(&unsent, self.known.before).await?;
        let mut in_order: Vec<_> = touched.into_iter().collect();
        in_order.sort_by_key(|(_, seq)| *seq);
        for (id, seq) in in_order {
            let row = rows.remove(&id);
            if row.is_none() && !self.known.last(&id).unwrap_or_else(|| older.contains(&id)) {
                continue;
            }
            self.known.note(&id, row.is_some());
            self.ready.extend(match row {
                Some(row) => event("alert", seq, &AlertDocument::of(row)),
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
