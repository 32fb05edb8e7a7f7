//! What alerts mean, in words: lengths of time, numbers, flags, and why a rule fired.
//!
//! In: a body's explanation (its members are listed in the correlator) and the titles of rules. Out: sentences.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};
use vedette_event::{Alert, Flags, Micros, Span, Value as Scalar, alert::Number};
use vedette_store::model::Withdrawal;

use super::Stamp;
use crate::live::Live;

/// Why an alert fired.
#[derive(Debug, Default)]
pub(super) struct Why {
    pub sentence: String,
    pub facts: Vec<(String, String)>,
}

/// A whole number with thin separators: 12 345.
pub(super) fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// What a condition measured.
pub(super) fn measured(value: Number) -> String {
    match value {
        Number::Int(n) => number(n),
        Number::Float(f) => f.to_string(),
    }
}

/// The names of flags.
pub(super) fn flags(flags: Flags) -> Vec<String> {
    flags.names().map(str::to_owned).collect()
}

/// A length of time, roughly: `4 s`, `3 min`, `2 h`, `5 d`.
pub(super) fn span(span: Span) -> String {
    let seconds = span.0.max(0) / 1_000_000;
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Seconds to the tenth, `1.4 s`; of many of them what [`span`] says.
pub(super) fn seconds(seconds: f64) -> String {
    if seconds < 100.0 { format!("{seconds:.1} s") } else { span(Span::secs(seconds as i64)) }
}

/// How long something lasted.
pub(super) fn lasted(first: Micros, last: Micros) -> String {
    match last.since(first) {
        since if since.0 < 1_000_000 => "at once".to_owned(),
        since => format!("over {}", span(since)),
    }
}

/// A summary without the title with which it usually starts, where that stands above it already.
pub(super) fn without_title(summary: &str, title: &str) -> String {
    let rest = summary.strip_prefix(title).and_then(|rest| rest.strip_prefix(": "));
    rest.unwrap_or(summary).to_owned()
}

/// Characters of a text that a row shows.
pub(super) const IN_ROW: usize = 300;

/// What a row shows of a text.
pub(super) fn cut(text: &str) -> String {
    match text.char_indices().nth(IN_ROW) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// A scalar's text without quotes.
pub(super) fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Why a notice is withdrawn.
pub(super) const fn withdrawn(reason: Withdrawal) -> &'static str {
    match reason {
        Withdrawal::Uncovered => {
            "All of the rule's sources have passed this time, and no alert covers what was announced: events that came \
             later belong before it, its key had no room, or it is part of a storm alert."
        }
        Withdrawal::RuleChanged => {
            "The rule was changed or removed before all of its sources had passed this time."
        }
    }
}

/// What a flag means for whoever reads the alert.
pub(super) fn flag(name: &str) -> &'static str {
    match name {
        "clock=missing" => "Some events carry no readable time; the broker's time stands in.",
        "clock=future" => {
            "Some events claim a time ahead of the broker's clock; the broker's time stands in."
        }
        "clock=late" => {
            "Some events claim a time further back than their source tolerates; they stand at that bound. \
             Their own claims may be right: think of a delayed or forged clock."
        }
        "clock=overtaken" => {
            "Some events came in below what had been evaluated already; they stand at that time. \
             Count and order near it are approximate."
        }
        "clock=broker" => "The broker's clock ran ahead of Vedette's; that clock stands in.",
        "capped" => "There were more distinct values than are counted; the value is a lower bound.",
        "approximate" => "State was over its budget: the count can be too high, never too low.",
        "storm" => {
            "Too many episodes of this rule crossed within an hour; this one alert stands for the rest of them."
        }
        "hunt" => {
            "A scheduled hunt raised this: late, and over what the lake held. No countermeasure follows unless a person approves."
        }
        "cold" => "The rule started without the history it needs; treat what it calls new with care.",
        _ => "Out of the ordinary.",
    }
}

/// Why this alert fired, from its explanation.
pub(super) fn why(body: &Alert, live: &Live) -> Why {
    let explanation = &body.explanation.details;
    if explanation.contains_key("prefixes") {
        return storm(body, explanation);
    }
    if text(explanation, "type") == "hunt" {
        return hunt(body, explanation);
    }
    let window = text(explanation, "window");
    let rules: Vec<String> = list(explanation, "rules").iter().map(|id| title(live, id)).collect();
    let who = same(&list(explanation, "group_by"), &body.key);
    let when = match (explanation.get("window_start"), explanation.get("window_end")) {
        (Some(start), Some(end)) => format!("in the window {} to {}", clock(start), clock(end)),
        _ => format!("within {window}"),
    };
    let quoted = rules.iter().map(|rule| format!("“{rule}”")).collect::<Vec<_>>().join(" or ");
    let bound = condition(explanation);
    let kind = text(explanation, "type");
    let sentence = match kind.as_str() {
        "single" => single(body, &text(explanation, "rearm")),
        "event_count" => format!("{bound} events that match {quoted}{who}, {when}."),
        "value_count" => {
            let fields = list(explanation, "fields").join(", ");
            format!("{bound} distinct values of {fields} in events that match {quoted}{who}, {when}.")
        }
        "temporal" => format!("{bound} of {} rules matched{who}, {when}.", rules.len()),
        "temporal_ordered" => format!("{} steps happened in this order{who}, {when}.", rules.len()),
        _ => body.summary.clone(),
    };
    Why { sentence, facts: facts(body, live, &kind) }
}

/// What a scheduled hunt found, of when, and when it looked.
fn hunt(body: &Alert, explanation: &Map<String, Value>) -> Why {
    let clock = |name: &str| explanation.get(name).map(clock).unwrap_or_default();
    let whom = match (explanation.get("entities_total"), body.entity.as_ref()) {
        (Some(entities), _) => format!(
            " about {} more than a run raises alerts for, among them {}",
            scalar(entities),
            list(explanation, "entities").join(", ")
        ),
        (None, Some(entity)) => format!(" with {} {}", entity.kind, entity.value.text()),
        (None, None) => String::new(),
    };
    let rows = if body.count == 1 { "1 row".to_owned() } else { format!("{} rows", number(body.count)) };
    let sentence = format!(
        "The hunt “{}” found {rows}{whom} among the events from {} until {}. It is run every {}, late and over what the lake holds.",
        text(explanation, "hunt"),
        clock("window_start"),
        clock("window_end"),
        text(explanation, "every")
    );
    let through = match explanation.get("complete_through") {
        Some(Value::String(_)) => clock("complete_through"),
        _ => "not known".to_owned(),
    };
    let mut facts =
        vec![("It ran".to_owned(), clock("ran_at")), ("The lake was complete through".to_owned(), through)];
    if explanation.get("complete") == Some(&Value::Bool(false)) {
        let told = "the lake had not got on for an hour: what came of that time later was not looked at";
        facts.push(("Not complete".to_owned(), told.to_owned()));
    }
    if explanation.get("more") == Some(&Value::Bool(true)) {
        facts.push(("Cut".to_owned(), "there were more rows than a run looks at".to_owned()));
    }
    facts.extend(list(explanation, "missing").into_iter().map(|line| ("Missing".to_owned(), line)));
    Why { sentence, facts }
}

fn single(body: &Alert, rearm: &str) -> String {
    let title = &body.rule.title;
    match body.count {
        0 | 1 => format!("One event matches “{title}”."),
        n => format!(
            "{} events match “{title}”. The first opened this alert; each one within {rearm} of the one before extends it.",
            number(n)
        ),
    }
}

fn facts(body: &Alert, live: &Live, kind: &str) -> Vec<(String, String)> {
    let explanation = &body.explanation.details;
    let mut facts = Vec::new();
    let name = match kind {
        "event_count" => Some("Events so far"),
        "value_count" => Some("Distinct values so far"),
        _ => None,
    };
    if let Some(name) = name {
        let value = measured(body.value);
        let bound = if body.flags.has(Flags::CAPPED) { "at least " } else { "" };
        facts.push((name.to_owned(), format!("{bound}{value}")));
    }
    for (at, step) in explanation.get("steps").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let rule = step.get("rule").map(scalar).unwrap_or_default();
        let time = step.get("time").map(clock).unwrap_or_default();
        facts.push((format!("Step {}, {time}", at + 1), title(live, &rule)));
    }
    for rule in list(explanation, "matched") {
        facts.push(("Matched".to_owned(), title(live, &rule)));
    }
    if kind != "single"
        && let Some(rearm) = explanation.get("rearm")
    {
        facts.push(("Ends after".to_owned(), format!("{} without the condition holding", scalar(rearm))));
    }
    facts
}

fn storm(body: &Alert, explanation: &Map<String, Value>) -> Why {
    let hour = explanation.get("hour").map(clock).unwrap_or_default();
    let before = text(explanation, "alerts_before");
    let sentence = format!(
        "In the hour from {hour}, {before} episodes of “{}” raised alerts of their own; this alert stands for the {} \
         that followed. It most often concerns these networks:",
        body.rule.title,
        number(body.count)
    );
    let prefixes = explanation.get("prefixes").and_then(Value::as_array).into_iter().flatten();
    let fact = |entry: &Value| {
        let of = |name: &str| entry.get(name).map(scalar).unwrap_or_default();
        (of("prefix"), format!("{} episodes", of("episodes")))
    };
    Why { sentence, facts: prefixes.map(fact).collect() }
}

/// `At least 20`, `Fewer than 3`, `At least 5 and at most 10`.
fn condition(explanation: &Map<String, Value>) -> String {
    let terms = explanation.get("condition").and_then(Value::as_object).into_iter().flatten();
    let term = |(cmp, n): (&String, &Value)| {
        let word = match cmp.as_str() {
            "gte" => "at least",
            "gt" => "more than",
            "lte" => "at most",
            "lt" => "fewer than",
            "eq" => "exactly",
            "neq" => "not exactly",
            other => other,
        };
        format!("{word} {n}")
    };
    let joined = terms.map(term).collect::<Vec<_>>().join(" and ");
    let mut chars = joined.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// `, for the same source.ip 203.0.113.7 and user.name root`.
fn same(group_by: &[String], key: &BTreeMap<Arc<str>, Scalar>) -> String {
    let parts: Vec<String> = group_by
        .iter()
        .map(|name| match key.get(&**name) {
            Some(value) => format!("{name} {}", value.text()),
            None => name.clone(),
        })
        .collect();
    if parts.is_empty() { String::new() } else { format!(", for the same {}", parts.join(" and ")) }
}

fn title(live: &Live, id: &str) -> String {
    live.rule(id).map_or_else(|| id.to_owned(), |rule| rule.title.clone())
}

fn text(map: &Map<String, Value>, name: &str) -> String {
    map.get(name).map(scalar).unwrap_or_default()
}

fn list(map: &Map<String, Value>, name: &str) -> Vec<String> {
    map.get(name).and_then(Value::as_array).into_iter().flatten().map(scalar).collect()
}

fn clock(time: &Value) -> String {
    let text = scalar(time);
    Micros::parse_rfc3339(&text).map_or(text, |time| format!("{} UTC", Stamp::of(time).text))
}

/// A stable name as a label: `in_progress` → `In progress`.
pub(super) fn label(name: &str) -> String {
    let spaced = name.replace('_', " ");
    let mut chars = spaced.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(cut("ä"), "ä");
        assert_eq!(cut(&"ä".repeat(301)).chars().count(), 301);
        assert!(cut(&"ä".repeat(9_999)).ends_with('…'));
    }
}
