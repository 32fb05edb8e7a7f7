//! Whether one event matches one detection: only the predicates that the oracle's rules use.
//!
//! In: a detection, an event. Out: true or false.

use serde_json::Value as Json;
use vedette_event::{LogSource, Sources, source::Form};
use vedette_sigma::{Detection, Expr, Leaf, Piece, Test};

use super::{fields, placement::Event};

/// True if the rule applies to the event and its condition holds.
pub fn matches(detection: &Detection, event: &Event, sources: &Sources) -> bool {
    applies(&detection.logsource, &logsource(event, sources))
        && holds(&detection.condition, &detection.leaves, event, sources)
}

/// "A rule applies unless it and the event both name a logsource key and differ (case ignored)."
fn applies(rule: &LogSource, event: &LogSource) -> bool {
    let agree = |a: &Option<String>, b: &Option<String>| match (a, b) {
        (Some(a), Some(b)) => a.to_lowercase() == b.to_lowercase(),
        _ => true,
    };
    agree(&rule.product, &event.product)
        && agree(&rule.category, &event.category)
        && agree(&rule.service, &event.service)
}

/// "The logsource from the event's own `product`, `category` and `service`" (form `json`), "a value that is not text
/// names nothing"; of other sources from the definition.
fn logsource(event: &Event, sources: &Sources) -> LogSource {
    let def = sources.get(event.source);
    if def.form != Form::Json {
        return def.logsource.clone();
    }
    let own = |name: &str| event.fields.get(name).and_then(Json::as_str).map(str::to_owned);
    LogSource { product: own("product"), category: own("category"), service: own("service") }
}

fn holds(expr: &Expr, leaves: &[Leaf], event: &Event, sources: &Sources) -> bool {
    match expr {
        Expr::And(all) => all.iter().all(|e| holds(e, leaves, event, sources)),
        Expr::Or(any) => any.iter().any(|e| holds(e, leaves, event, sources)),
        Expr::Not(inner) => !holds(inner, leaves, event, sources),
        Expr::Leaf(at) => leaf(&leaves[*at], event, sources),
    }
}

/// A predicate over the field's value: over a list, over any of its elements.
fn leaf(leaf: &Leaf, event: &Event, sources: &Sources) -> bool {
    let name = leaf.field.as_deref().expect("keywords are outside the oracle's scope");
    let found = fields::get(event, name, sources).map(|(_, json)| json);
    match (&leaf.test, found) {
        (Test::Null, found) => found.is_none(),
        (Test::Exists(wanted), found) => found.is_some() == *wanted,
        (_, None) => false,
        (test, Some(Json::Array(list))) => list.iter().any(|element| value(test, element)),
        (test, Some(json)) => value(test, json),
    }
}

fn value(test: &Test, json: &Json) -> bool {
    let text = match json {
        Json::Null | Json::Array(_) | Json::Object(_) => return false,
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    match test {
        Test::Text { pattern, cased: true } => pattern_holds(&pattern.0, &text),
        Test::Text { pattern, cased: false } => {
            let lower: Vec<Piece> = pattern.0.iter().map(lower).collect();
            pattern_holds(&lower, &text.to_lowercase())
        }
        Test::Number(n) => text == **n,
        Test::Bool(b) => text.to_lowercase() == b.to_string(),
        Test::Compare(cmp, n) => text.parse::<f64>().is_ok_and(|f| cmp.holds(&f, &n.0)),
        Test::Not(inner) => !value(inner, json),
        other => panic!("{other:?} is outside the oracle's scope"),
    }
}

fn lower(piece: &Piece) -> Piece {
    match piece {
        Piece::Literal(text) => Piece::Literal(text.to_lowercase().into()),
        other => other.clone(),
    }
}

fn pattern_holds(pieces: &[Piece], text: &str) -> bool {
    match pieces {
        [] => text.is_empty(),
        [Piece::Literal(l), rest @ ..] => text.strip_prefix(&**l).is_some_and(|t| pattern_holds(rest, t)),
        [Piece::One, rest @ ..] => {
            let mut chars = text.chars();
            chars.next().is_some() && pattern_holds(rest, chars.as_str())
        }
        [Piece::Many, rest @ ..] => {
            text.char_indices().any(|(at, _)| pattern_holds(rest, &text[at..])) || pattern_holds(rest, "")
        }
    }
}
