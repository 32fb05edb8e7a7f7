//! The alert stream: changes of matching alerts as server-sent events, at least once, in commit order.
//!
//! In: the list's filters and the last `seq` seen. Out: `alert` (the row as in the list), `leave` (it stopped matching),
//! `reset` (the `seq` is too old: read the list again). Invariants: an event's id is its `seq`, so a browser resumes by
//! itself; where nothing happens an id without an event says where to go on; `leave` is for rows that the reader may know, once; a
//! stream ends when its token or session is over, when its reader does not keep up, when the server stops, and after an hour.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::State,
    http::{HeaderMap, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::{
    IntoParams,
    openapi::path::{Parameter, ParameterIn},
};

use crate::{
    app::App,
    auth::Caller,
    desk::{filter::FilterParams, follow::Follower},
    params::Strict,
    problem::{self, Kind, Problem},
    relay::{Bytes, Face, Followed},
    sse,
    wire::AlertDocument,
};

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
/// may have been read before), `reset` (`{seq}`: too old; read the list again). An id without an event, at the beginning and every
/// 15 seconds without events, says up to where all was told. Ends when the token is revoked, when the reader does not keep up with
/// what is published, and after an hour: go on with `Last-Event-ID`.
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
) -> Result<Response<Body>, Problem> {
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
    let face = Face {
        name: "api",
        write: Arc::new(|followed| Box::pin(async { Some(followed.into_iter().map(text).collect()) })),
    };
    Ok(sse::answer(Follower::take(app, caller, &filter, &face, given.transpose()?).await?))
}

fn text(followed: Followed) -> Bytes {
    let (seq, written) = match followed {
        Followed::Row { seq, row } => (seq, sse::event("alert", seq, &AlertDocument::of(*row))),
        Followed::Leave { seq, id } => (seq, sse::event("leave", seq, &Leave { id, seq })),
        Followed::Reset { seq } => (seq, sse::event("reset", seq, &Reset { seq })),
        Followed::Quiet { seq } => (seq, Ok(sse::place(seq))),
        Followed::Slow { seq } => (seq, Ok(sse::slow(seq))),
    };
    written.unwrap_or_else(|error| {
        tracing::error!(%error, seq, "a change could not be written");
        Bytes::new()
    })
}
