//! Events on an alert's page: those that it refers to itself, and those of the episodes below it.
//!
//! In: references and the contents that were fetched. Out: [`Event`]s for the templates.

use std::collections::BTreeMap;

use serde_json::Value;
use vedette_event::{Evidence, Incarnation};

use super::{Stamp, words};
use crate::wire::{ContentState, EventContent};

/// Fields shown beside an event's time, the first that it has.
const PEEK: [&str; 14] = [
    "event.action",
    "event.outcome",
    "waf.action",
    "waf.attack_class",
    "user.name",
    "client.ip",
    "source.ip",
    "destination.ip",
    "destination.port",
    "http.request.method",
    "url.path",
    "http.response.status_code",
    "api_key.id",
    "rule.name",
];

/// An event with as much of it as is stored.
pub(super) struct Event {
    pub time: Stamp,
    pub place: String,
    pub flags: Vec<String>,
    pub peek: Vec<(String, String)>,
    pub fields: Vec<(String, String)>,
    pub raw: Option<String>,
    pub absent: String,
    pub gap_before: Option<String>,
}

/// What was fetched for an alert, by reference.
pub(super) struct Contents(BTreeMap<(String, Incarnation, i32, i64, u32), EventContent>);

impl Contents {
    pub fn new(fetched: Vec<EventContent>) -> Self {
        let place = |of: &EventContent| (of.topic.clone(), of.incarnation, of.partition, of.offset, of.index);
        Self(fetched.into_iter().map(|of| (place(&of), of)).collect())
    }

    /// The events of some references, of which there are so many in all: the first five, and the last.
    pub fn events(&self, evidence: &[Evidence], total: u64) -> Vec<Event> {
        let missing = total.saturating_sub(evidence.len() as u64);
        let events = evidence.iter().enumerate().map(|(at, reference)| Event {
            gap_before: (missing > 0 && at == evidence.len().min(5)).then(|| words::number(missing)),
            ..self.event(reference)
        });
        events.collect()
    }

    fn event(&self, reference: &Evidence) -> Event {
        let Evidence { topic, incarnation, partition, offset, index, time, flags } = reference;
        let found = self.0.get(&(topic.to_string(), *incarnation, *partition, *offset, *index));
        let (fields, raw) = found.and_then(|of| of.content.clone()).map(split).unwrap_or_default();
        let peek = PEEK.iter().filter_map(|name| fields.iter().find(|(field, _)| field == name));
        let mut peek: Vec<_> = peek.take(4).cloned().collect();
        if peek.is_empty() {
            peek = fields.iter().take(3).cloned().collect();
        }
        Event {
            time: Stamp::of(*time),
            place: format!(
                "{topic}/{partition}/{offset}{}{}",
                if *index > 0 { format!("#{index}") } else { String::new() },
                if *incarnation > 0 { format!(" (incarnation {incarnation})") } else { String::new() }
            ),
            flags: words::flags(*flags),
            peek,
            fields,
            raw,
            absent: match found.map(|of| of.state) {
                None => "not fetched: an alert keeps what fifty events say".to_owned(),
                Some(ContentState::Gone) => "gone: the broker has deleted this record".to_owned(),
                Some(ContentState::Pending) => "being fetched".to_owned(),
                Some(ContentState::Present) => "empty".to_owned(),
                Some(ContentState::Undecodable) => {
                    let fault = found.and_then(|of| of.fault.as_deref()).unwrap_or_default();
                    format!("cannot be decoded: {fault}")
                }
            },
            gap_before: None,
        }
    }
}

/// An event's content as fields and, where it has one, the record's text.
fn split(content: Value) -> (Vec<(String, String)>, Option<String>) {
    let members = match content {
        Value::Object(members) => members,
        other => return (Vec::new(), Some(words::scalar(&other))),
    };
    let mut fields = Vec::new();
    let mut raw = None;
    for (name, value) in members {
        if name == "event.original" {
            raw = Some(words::scalar(&value));
        } else if let Value::Object(inner) = value {
            fields.extend(
                inner.into_iter().map(|(inner, value)| (format!("{name}.{inner}"), words::scalar(&value))),
            );
        } else {
            fields.push((name, words::scalar(&value)));
        }
    }
    (fields, raw)
}
