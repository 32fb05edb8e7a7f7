//! From alerts and entities to the events themselves.
//!
//! In: whom something is about, and when. Out: links to hunts. Invariants: whoever may not hunt, or where there is nothing to ask, is shown none;
//! a value goes into SQL through `desk::hunt::text` alone.

use serde_json::Value;
use vedette_event::{Alert, Entity, Micros, Span};

use super::{AROUND, link};
use crate::{
    access::Permission,
    app::App,
    auth,
    console::words,
    desk::hunt::{
        self,
        text::{self, ALL},
    },
    hunts::{Column, HuntSchema},
};

/// Whether whoever looks may hunt, and there is something to ask.
pub(in crate::console) fn may(app: &App) -> bool {
    app.hunts.is_some() && auth::asking().is_some_and(|caller| caller.may(Permission::Hunt))
}

/// What there is to ask, for whoever may.
fn schema(app: &App) -> Option<HuntSchema> {
    if may(app) { hunt::schema(app).ok() } else { None }
}

/// All events of an entity, a quarter of an hour before and after.
pub(in crate::console) fn around(app: &App, (kind, value): (&str, &str), at: Micros) -> Option<String> {
    let sql = text::of_entity(kind, value, &schema(app)?)?;
    Some(link(&sql, at.minus(AROUND), at.plus(AROUND)))
}

/// Hunts that an alert leads to, each with what it is called.
pub(in crate::console) fn of_alert(app: &App, body: &Alert) -> Vec<(String, String)> {
    let Some(schema) = schema(app) else { return Vec::new() };
    let mut links = Vec::new();
    links.extend(behind(body, &schema));
    if let Some(Entity { kind, value }) = &body.entity
        && let Some(sql) = text::of_entity(kind, value.text(), &schema)
    {
        let label = format!("All events of {}, 15 minutes before and after", words::cut(value.text()));
        links.push((label, link(&sql, body.crossed_at.minus(AROUND), body.crossed_at.plus(AROUND))));
    }
    links
}

/// All events with an alert's key, from its first to its last.
fn behind(body: &Alert, schema: &HuntSchema) -> Option<(String, String)> {
    let columns = &schema.tables.first()?.columns;
    let mut sql = ALL.to_owned();
    for (field, value) in &body.key {
        let of = columns.iter().find(|of| of.column.name == **field)?;
        sql = text::narrowed(&sql, &condition(&of.column, value.text())?);
    }
    if sql == ALL {
        return None;
    }
    // An announcement knows only when its condition held.
    let since =
        if body.first_seen < body.crossed_at { body.first_seen } else { body.first_seen.minus(AROUND) };
    let label = "All events with this key, from its first to its last".to_owned();
    Some((label, link(&sql, since, body.last_seen.plus(Span(1)))))
}

/// A part of a key is a text; the column may hold numbers.
fn condition(column: &Column, value: &str) -> Option<String> {
    let number = || value.parse::<serde_json::Number>().ok().map(Value::Number);
    let typed = match &*column.kind {
        "text" | "ip" | "time" | "decimal" => Value::from(value),
        "bool" => Value::Bool(value.parse().ok()?),
        _ => number()?,
    };
    text::condition(column, &typed, true)
}
