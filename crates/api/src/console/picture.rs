//! The picture of an alert: how what its condition measures rose, as steps over time, with the threshold and the crossing.
//!
//! In: a body and its revisions. Out: coordinates for the template, and the same in words and as a table. Invariants: a
//! value holds until the next one that is known, so that no line claims what nobody counted; bounded size, whatever the
//! number of revisions; what is drawn is also said.

use std::fmt::Write as _;

use serde_json::Value;
use vedette_event::{Alert, Micros, alert::Number};

use super::{Stamp, words};
use crate::wire::Revision;

const LEFT: f64 = 52.0;
const RIGHT: f64 = 748.0;
const TOP: f64 = 22.0;
const BOTTOM: f64 = 164.0;
/// A step each six units of the width: closer ones lie upon each other.
const MAX_STEPS: usize = 120;
/// An episode's first events, each of which is referred to.
const FIRST: usize = 5;

/// What the template draws in a box of 760 × 190.
#[derive(Debug)]
pub(super) struct Picture {
    /// What is counted: `events`, `distinct values`, `steps`.
    pub unit: &'static str,
    pub area: String,
    pub steps: String,
    /// Where the values were heard of: x, y, in words.
    pub points: Vec<(String, String, String)>,
    pub rules: Vec<(i32, String)>,
    pub threshold: Option<Threshold>,
    pub crossing: Crossing,
    pub from: Stamp,
    pub to: Stamp,
    /// The picture in one sentence.
    pub alt: String,
    /// The picture as a table: time, value, how it is known.
    pub table: Vec<(Stamp, String, String)>,
    pub note: String,
}

/// The value at which the condition holds.
#[derive(Debug)]
pub(super) struct Threshold {
    pub y: i32,
    pub label: String,
    /// Where its label is written: at the end that the crossing is not at.
    pub x: i32,
    pub anchor: &'static str,
}

/// When the condition was met.
#[derive(Debug)]
pub(super) struct Crossing {
    pub x: String,
    pub at: Stamp,
    /// Where its label is written, so that it stays in the box.
    pub anchor: &'static str,
}

/// A value from a time on.
struct Step {
    at: Micros,
    value: f64,
    how: String,
}

/// The picture of an episode; `None` if there is no stretch of time to draw, or a judged window, which has one value.
pub(super) fn picture(body: &Alert, revisions: &[Revision]) -> Option<Picture> {
    let (unit, threshold, all) = measured(body, revisions)?;
    let (first, last) = (all.first()?.at, all.last()?.at);
    if last <= first {
        return None;
    }
    let steps = thinned(&all);
    let highest = all.iter().map(|step| step.value).fold(threshold.unwrap_or(1) as f64, f64::max);
    let highest = scale(highest.max(1.0).ceil() as u64);
    let length = last.since(first).0 as f64;
    let x = |time: Micros| LEFT + (RIGHT - LEFT) * ((time.since(first).0.max(0)) as f64 / length).min(1.0);
    let y = |value: f64| BOTTOM - (BOTTOM - TOP) * (value / highest as f64);
    let mut line = format!("M{LEFT:.1} {BOTTOM:.1}");
    let mut points = Vec::with_capacity(steps.len());
    for step in &steps {
        let (x, y) = (x(step.at), y(step.value));
        // Along at the value before, then up: never slanting.
        let _ = write!(line, " H{x:.1} V{y:.1}");
        let label =
            format!("{} {unit} by {} UTC: {}", text_of(step.value), Stamp::of(step.at).text, step.how);
        points.push((format!("{x:.1}"), format!("{y:.1}"), label));
    }
    let crossed = x(body.crossed_at);
    let late = crossed > (LEFT + RIGHT) / 2.0;
    Some(Picture {
        area: format!("{line} V{BOTTOM:.1} Z"),
        steps: line,
        points,
        rules: [0, highest / 2, highest]
            .iter()
            .map(|n| (y(*n as f64).round() as i32, words::number(*n)))
            .collect(),
        threshold: threshold.map(|n| Threshold {
            y: y(n as f64).round() as i32,
            label: format!("threshold {}", words::number(n)),
            x: if late { LEFT + 6.0 } else { RIGHT - 2.0 } as i32,
            anchor: if late { "start" } else { "end" },
        }),
        crossing: Crossing {
            x: format!("{crossed:.1}"),
            at: Stamp::of(body.crossed_at),
            anchor: if late { "end" } else { "start" },
        },
        from: Stamp::of(first),
        to: Stamp::of(last),
        alt: alt(body, unit, threshold, &all),
        table: steps.iter().map(|step| (Stamp::of(step.at), text_of(step.value), step.how.clone())).collect(),
        note: match revisions.len() {
            1 => "1 revision".to_owned(),
            n => format!("{n} revisions"),
        },
        unit,
    })
}

/// The picture in words.
fn alt(body: &Alert, unit: &str, threshold: Option<u64>, steps: &[Step]) -> String {
    let last = steps.last().map(|step| (text_of(step.value), Stamp::of(step.at).text));
    let (value, at) = last.unwrap_or_default();
    let bound = threshold.map(|n| format!("The threshold of {} {unit} was crossed", words::number(n)));
    format!(
        "{} at {} UTC; {value} {unit} by {at} UTC.",
        bound.unwrap_or_else(|| "The condition was met".to_owned()),
        Stamp::of(body.crossed_at).text
    )
}

/// What is counted, from which value on the condition holds, and the values as far as they are known.
fn measured(body: &Alert, revisions: &[Revision]) -> Option<(&'static str, Option<u64>, Vec<Step>)> {
    let details = &body.explanation.details;
    let kind = details.get("type").and_then(Value::as_str).unwrap_or_default();
    if details.contains_key("window_start") || details.contains_key("prefixes") {
        return None;
    }
    if kind == "temporal_ordered" {
        let steps = ordered(details.get("steps")?);
        return Some(("steps", Some(steps.len() as u64), steps));
    }
    let bound = details.get("condition").and_then(least);
    let of_values = kind == "value_count" && revisions.iter().all(|revision| revision.value.is_some());
    let mut steps = Vec::new();
    if !of_values {
        // The first events are known one by one.
        let known = body.evidence.iter().take(FIRST).enumerate();
        let known = known.map(|(n, event)| Step {
            at: event.time,
            value: (n + 1) as f64,
            how: format!("event {}", n + 1),
        });
        steps.extend(known);
    }
    for revision in revisions {
        let value = match revision.value {
            Some(value) if of_values => as_f64(value),
            _ => revision.count as f64,
        };
        let how = format!("revision {}", revision.revision);
        // A revision from before the last of the events above says nothing new.
        if steps.last().is_none_or(|last| last.at <= revision.last_seen && last.value <= value) {
            steps.push(Step { at: revision.last_seen, value, how });
        }
    }
    if of_values {
        steps.insert(0, Step { at: body.first_seen, value: 1.0, how: "first event".to_owned() });
        return Some(("distinct values", bound, steps));
    }
    // Events that weigh more than one are counted by weight against the threshold, and by number here.
    let counted =
        matches!(kind, "single" | "") || (kind == "event_count" && as_f64(body.value) == body.count as f64);
    let bound = if kind == "single" { Some(1) } else { bound.filter(|_| counted) };
    Some(("events", bound, steps))
}

/// The steps of an ordered chain: each has its time.
fn ordered(steps: &Value) -> Vec<Step> {
    let steps = steps.as_array().into_iter().flatten().enumerate();
    let step = |(n, step): (usize, &Value)| {
        let at = step.get("time").and_then(Value::as_str).and_then(Micros::parse_rfc3339)?;
        Some(Step { at, value: (n + 1) as f64, how: format!("step {}", n + 1) })
    };
    steps.filter_map(step).collect()
}

/// The least value at which a condition of lower bounds holds.
fn least(condition: &Value) -> Option<u64> {
    let terms = condition.as_object()?;
    let bound = terms.iter().filter_map(|(cmp, n)| match cmp.as_str() {
        "gte" => n.as_u64(),
        "gt" => n.as_u64().map(|n| n.saturating_add(1)),
        _ => None,
    });
    bound.max()
}

/// At most [`MAX_STEPS`], the last among them.
fn thinned(steps: &[Step]) -> Vec<&Step> {
    let stride = steps.len().div_ceil(MAX_STEPS).max(1);
    let mut shown: Vec<&Step> = steps.iter().step_by(stride).collect();
    if let Some(last) = steps.last()
        && shown.last().is_some_and(|shown| !std::ptr::eq(*shown, last))
    {
        shown.push(last);
    }
    shown
}

fn as_f64(value: Number) -> f64 {
    match value {
        Number::Int(n) => n as f64,
        Number::Float(f) => f,
    }
}

fn text_of(value: f64) -> String {
    if value.fract() == 0.0 { words::number(value.max(0.0) as u64) } else { value.to_string() }
}

/// The next even round number at or above `n`: 2, 4, 6, 10, 20, 40, 60, 100, …
fn scale(n: u64) -> u64 {
    let mut unit = 1_u64;
    loop {
        for step in [2, 4, 6, 8, 10] {
            let Some(top) = unit.checked_mul(step) else { return u64::MAX };
            if top >= n {
                return top;
            }
        }
        unit = unit.saturating_mul(10);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;
    use vedette_event::Severity;

    use super::*;

    fn revision(n: u32, seconds: i64, count: u64, value: u64) -> Revision {
        let at = Micros(seconds * 1_000_000);
        let value = Some(Number::Int(value));
        Revision { revision: n, last_seen: at, count, value, severity: Severity::High, stored_at: at }
    }

    fn body(explanation: &Value, events: &[i64], crossed: i64, count: u64) -> Alert {
        let at = |seconds: i64| Micros(seconds * 1_000_000).to_string();
        let event = |(n, s): (usize, &i64)| json!({"topic": "t", "partition": 0, "offset": n, "index": 0, "time": at(*s), "flags": []});
        serde_json::from_value(json!({
            "alert_id": "a", "revision": 1, "state": "active", "continuation": false,
            "rule": {"id": "r", "title": "R", "level": "high", "type": "x", "version": "v", "tags": []},
            "key": {}, "entity": null, "first_seen": at(events[0]), "crossed_at": at(crossed), "last_seen": at(*events.last().unwrap()),
            "count": count, "value": count, "severity": "high", "risk": 60, "summary": "s",
            "evidence": events.iter().enumerate().map(event).collect::<Vec<_>>(), "evidence_total": count,
            "explanation": explanation, "flags": []
        }))
        .unwrap()
    }

    fn counted() -> Value {
        json!({"type": "event_count", "condition": {"gte": 5}, "window": "5m"})
    }

    #[test]
    fn values_rise_in_steps_and_the_threshold_and_the_crossing_are_marked() {
        let body = body(&counted(), &[0, 10, 20, 30, 40], 40, 10);
        let picture = picture(&body, &[revision(1, 40, 5, 5), revision(2, 100, 10, 10)]).unwrap();
        assert!(!picture.steps.contains(['L', 'C', 'Q']), "no slanting line: {}", picture.steps);
        assert!(picture.steps.starts_with("M52.0 164.0 H52.0 V149.8 H121.6 V135.6"), "{}", picture.steps);
        // Five events one by one; the first revision says the same as the fifth of them.
        let values: Vec<_> =
            picture.table.iter().map(|(_, value, how)| (value.as_str(), how.as_str())).collect();
        let rest = [("5", "event 5"), ("5", "revision 1"), ("10", "revision 2")];
        assert_eq!(values[..4].iter().map(|(v, _)| *v).collect::<Vec<_>>(), ["1", "2", "3", "4"]);
        assert_eq!(values[4..], rest);
        let threshold = picture.threshold.unwrap();
        assert_eq!((threshold.y, threshold.label.as_str()), (93, "threshold 5"));
        // Their labels stand apart.
        assert_eq!((threshold.anchor, picture.crossing.anchor), ("end", "start"));
        assert_eq!(picture.crossing.x, "330.4");
        assert_eq!(
            picture.alt,
            "The threshold of 5 events was crossed at 1970-01-01 00:00:40 UTC; 10 events by 1970-01-01 00:01:40 UTC."
        );
    }

    #[test]
    fn distinct_values_are_drawn_where_revisions_tell_them() {
        let explanation = json!({"type": "value_count", "fields": ["user.name"], "condition": {"gt": 14}});
        let body = body(&explanation, &[0, 10], 5, 900);
        let drawn = picture(&body, &[revision(1, 5, 20, 15), revision(2, 10, 900, 31)]).unwrap();
        assert_eq!(
            (drawn.unit, drawn.threshold.unwrap().label.as_str()),
            ("distinct values", "threshold 15")
        );
        assert_eq!(drawn.table.iter().map(|(_, v, _)| v.as_str()).collect::<Vec<_>>(), ["1", "15", "31"]);
        // Where they do not, events are, and no threshold that they are not compared with.
        let old = Revision { value: None, ..revision(1, 10, 20, 0) };
        let drawn = picture(&body, &[old]).unwrap();
        assert_eq!((drawn.unit, drawn.threshold.is_none()), ("events", true));
    }

    #[test]
    fn an_ordered_chain_is_drawn_by_its_steps() {
        let explanation = json!({"type": "temporal_ordered", "steps": [
            {"rule": "a", "time": "1970-01-01T00:00:01Z"}, {"rule": "b", "time": "1970-01-01T00:00:09Z"}]});
        let drawn = picture(&body(&explanation, &[1, 9], 9, 2), &[revision(1, 9, 2, 2)]).unwrap();
        assert_eq!((drawn.unit, drawn.threshold.unwrap().label.as_str()), ("steps", "threshold 2"));
        assert_eq!(drawn.steps, "M52.0 164.0 H52.0 V93.0 H748.0 V22.0");
    }

    #[test]
    fn the_last_of_many_is_always_shown() {
        for n in [2_u32, 119, 120, 121, 200, 1_440] {
            let many: Vec<_> =
                (1..=n).map(|n| revision(n, 1 + i64::from(n), u64::from(n), u64::from(n))).collect();
            let drawn = picture(&body(&counted(), &[0], 1, u64::from(n)), &many).unwrap();
            assert!(drawn.table.len() <= MAX_STEPS + 1 && drawn.points.last().unwrap().0 == "748.0", "{n}");
            assert_eq!(drawn.table.last().unwrap().1, words::number(u64::from(n)));
        }
        assert!(picture(&body(&counted(), &[0], 0, 1), &[]).is_none());
        let judged =
            json!({"type": "event_count", "condition": {"lt": 3}, "window_start": "1970-01-01T00:00:00Z"});
        assert!(picture(&body(&judged, &[0, 9], 9, 2), &[revision(1, 9, 2, 2)]).is_none());
    }

    #[test]
    fn scales_are_round() {
        for (n, top) in
            [(1, 2), (4, 4), (5, 6), (7, 8), (12, 20), (61, 80), (100, 100), (101, 200), (u64::MAX, u64::MAX)]
        {
            assert_eq!(scale(n), top);
        }
    }
}
