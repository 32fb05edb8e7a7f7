//! The page of an event that a hunt found: all its fields, what else its values occur in, a case and a rule that begin with it.
//!
//! In: a place in the log. Out: the page. Invariants: the event is asked for as any other hunt is; the rule is a draft that is shown and nothing
//! more, and its test is the event.

use std::sync::Arc;

use askama::Template;
use axum::{Extension, extract::State, response::Response};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;
use vedette_event::{Micros, Span};

use super::{AROUND, Asked, Frame, Stamp, answer, link, render};
use crate::{
    access::Permission,
    app::App,
    auth::Caller,
    console::{events::TELLING, href, words},
    desk::{
        dossier::RECORD,
        hunt::{
            self, HuntBody,
            draft::{self, Draft},
            text::{self, ALL},
        },
    },
    hunts::{Column, Form},
    params::Strict,
    problem::{Kind, Problem, short},
};

/// Where the event stands.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::console) struct Place {
    topic: String,
    partition: i32,
    offset: i64,
    index: u32,
    /// Its time, so that little is read.
    at: Option<String>,
}

/// A field of the event.
struct Field {
    name: String,
    kind: String,
    shown: answer::Shown,
    /// The value at full length.
    whole: String,
    /// All events with it, around this one.
    around: Option<String>,
}

#[derive(Template)]
#[template(path = "hunt_event.html")]
struct EventPage {
    frame: Frame,
    place: String,
    at: Option<Stamp>,
    source: String,
    fields: Vec<Field>,
    /// The record as it came, if that is kept.
    original: Option<String>,
    sees_originals: bool,
    draft: Option<Draft>,
    title: String,
    note: String,
}

/// The page of the event at this topic, partition, offset and index, which has this time.
pub(in crate::console) fn href_of([topic, partition, offset, index, at]: [&str; 5]) -> String {
    let place =
        [("topic", topic), ("partition", partition), ("offset", offset), ("index", index), ("at", at)];
    href("/hunt/event", &place)
}

/// `GET /hunt/event`.
pub(in crate::console) async fn event(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Strict(of): Strict<Place>,
) -> Result<Response, Problem> {
    let none = || {
        let detail = format!(
            "There is no event at {}/{}/{} in what is kept; the oldest ones go first.",
            short(&of.topic),
            of.partition,
            of.offset
        );
        Problem::new(Kind::NotFound, detail)
    };
    let sees_originals = caller.may(Permission::Originals);
    let sql = text::at_place((&of.topic, of.partition), (of.offset, of.index), sees_originals);
    let sql = sql.ok_or_else(none)?;
    let at = of.at.as_deref().and_then(Micros::parse_rfc3339);
    let body = HuntBody {
        sql,
        since: at.map(|at| at.to_string()),
        until: at.map(|at| at.plus(Span(1)).to_string()),
        limit: Some(1),
        ..HuntBody::default()
    };
    let mut hunt = hunt::begin(&app, &body, Form::Values, &caller).await?;
    let (rows, _) = hunt.values().await?;
    let columns = hunt.document().columns;
    let row = rows.into_iter().next().ok_or_else(none)?;
    let there = columns.into_iter().zip(row).filter(|(_, value)| !value.is_null());
    let (original, there): (Vec<_>, Vec<(Column, Value)>) =
        there.partition(|(column, _)| column.name == RECORD);
    let original = original.first().map(|(_, value)| words::scalar(value));
    let said = |name: &str| {
        there.iter().find(|(column, _)| column.name == name).map(|(_, value)| words::scalar(value))
    };
    let time = said("@timestamp").and_then(|at| Micros::parse_rfc3339(&at));
    let source = said("vedette.source").unwrap_or_default();
    let place = format!("{}/{}/{}#{}", of.topic, of.partition, of.offset, of.index);
    let schema = hunt::schema(&app)?;
    let logsource = schema.sources.iter().find(|known| known.name == source).map(|known| &known.logsource);
    let draft = logsource.and_then(|logsource| draft::of(&there, logsource));
    let told = there.iter().filter(|(column, _)| TELLING.contains(&&*column.name));
    let told: Vec<String> = told
        .map(|(column, value)| format!("{}: {}", column.name, words::cut(&words::scalar(value))))
        .collect();
    let note = format!(
        "Found by a hunt: event {place} of {}, at {}.\n{}\n\n{}",
        source,
        time.map(|at| at.to_string()).unwrap_or_default(),
        told.join("\n"),
        body.sql
    );
    let fields = there.iter().map(|(column, value)| Field {
        name: column.name.clone(),
        kind: column.kind.clone(),
        shown: answer::shown(column, value),
        whole: words::scalar(value),
        around: around(column, value, time),
    });
    let fields = fields.collect();
    let title = format!("Hunt: {}", words::cut(&said("event.action").unwrap_or_else(|| source.clone())));
    let at = time.map(Stamp::of);
    render(&EventPage {
        frame: Frame::new(&app.live.now(), "/hunt"),
        place,
        at,
        source,
        fields,
        original,
        sees_originals,
        draft,
        title,
        note,
    })
}

/// All events with this value, a quarter of an hour before and after.
fn around(column: &Column, value: &Value, time: Option<Micros>) -> Option<String> {
    if words::scalar(value).chars().nth(300).is_some() {
        return None;
    }
    let condition = text::condition(column, value, true)?;
    let sql = text::narrowed(ALL, &condition);
    Some(match time {
        Some(at) => link(&sql, at.minus(AROUND), at.plus(AROUND)),
        None => Asked { sql: Some(sql), ..Asked::default() }.href(),
    })
}
