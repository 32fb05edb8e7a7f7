//! The page of dead letters: records that ended unevaluated, newest first.
//!
//! In: a source, if only its own are asked for. Out: a page with a link to the next. Invariant: what a record says is shown to those only
//! who may see it.

use std::sync::Arc;

use askama::Template;
use axum::{Extension, extract::State, response::Response};

use super::{Frame, Stamp, href, queue::Chip, render, words};
use crate::{
    app::App,
    auth::Caller,
    desk::dead_letters::{self, DeadLetter, DeadLetterParams},
    params::Strict,
    problem::Problem,
};

struct LetterRow {
    at: Stamp,
    source: String,
    source_href: String,
    reason: String,
    detail: String,
    payload: Option<String>,
    place: String,
}

impl LetterRow {
    fn of(letter: DeadLetter) -> Self {
        let DeadLetter {
            stored_at, source, topic, partition, offset, index, reason, detail, payload, ..
        } = letter;
        Self {
            at: Stamp::of(stored_at),
            source_href: href("/dead-letters", &[("source", &source)]),
            source,
            reason,
            detail: words::cut(&detail),
            payload: payload.filter(|text| !text.is_empty()),
            place: format!(
                "{topic}/{partition}/{offset}{}",
                index.map(|n| format!("#{n}")).unwrap_or_default()
            ),
        }
    }
}

#[derive(Template)]
#[template(path = "dead_letters.html")]
struct DeadLettersPage {
    frame: Frame,
    chips: Vec<Chip>,
    letters: Vec<LetterRow>,
    next: Option<String>,
}

/// `GET /dead-letters`.
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Strict(params): Strict<DeadLetterParams>,
) -> Result<Response, Problem> {
    let page = dead_letters::page(&app, &caller, &params).await?;
    let live = app.live.now();
    let source = params.source.as_deref();
    let chip =
        |value: &str| Chip { name: "source", value: value.to_owned(), href: "/dead-letters".to_owned() };
    let next = page.next_cursor.map(|cursor| {
        let pairs: Vec<_> =
            source.map(|value| ("source", value)).into_iter().chain([("cursor", cursor.as_str())]).collect();
        href("/dead-letters", &pairs)
    });
    render(&DeadLettersPage {
        frame: Frame::new(&live, "/dead-letters"),
        chips: source.map(chip).into_iter().collect(),
        letters: page.items.into_iter().map(LetterRow::of).collect(),
        next,
    })
}
