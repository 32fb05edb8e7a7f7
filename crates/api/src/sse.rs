//! Server-sent events as text, and the answer that carries them.
//!
//! In: a name, the `seq` to go on from, JSON. Out: one event, or the whole answer of somebody who follows. Invariants: each event has an
//! id, so that a reader that is cut off anywhere goes on after the last one it had whole; data has no line breaks.

use axum::{
    body::Body,
    http::{HeaderValue, Response, header},
};
use futures::{StreamExt as _, stream};
use hyper::body::Bytes;
use serde::Serialize;

use crate::desk::follow::Follower;

/// One event; JSON has no line breaks outside of texts, and writes those in texts as `\n`.
pub(crate) fn event(name: &str, seq: i64, data: &impl Serialize) -> Result<Bytes, serde_json::Error> {
    Ok(format!("event: {name}\nid: {seq}\ndata: {}\n\n", serde_json::to_string(data)?).into())
}

/// Word of where to go on, which is no event to a reader.
pub(crate) fn place(seq: i64) -> Bytes {
    format!("id: {seq}\n\n").into()
}

/// The last word to a reader that takes too slowly: where to go on, and not at once.
pub(crate) fn slow(seq: i64) -> Bytes {
    format!(": too slow; go on after this\nretry: 2000\nid: {seq}\n\n").into()
}

/// The answer: what the follower gives, until it ends.
pub(crate) fn answer(follower: Follower) -> Response<Body> {
    let pieces = stream::unfold(follower, |mut follower| async move {
        let piece = follower.next().await?;
        Some((stream::iter(piece), follower))
    });
    let texts = pieces.flatten().filter(|text| std::future::ready(!text.is_empty()));
    let mut answer = Response::new(Body::from_stream(texts.map(Ok::<_, std::convert::Infallible>)));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    answer
}
