//! What differs between two bodies of one alert, so that the one before is kept as what it had otherwise.
//!
//! In: two JSON texts. Out: a small JSON text that makes the second of the first. Invariants: for any two values, applying the
//! difference gives back the other one; equal members cost nothing; work is bounded by the sizes of both, since elements of
//! lists are looked for only where lists are short.
//!
//! A revision changes a few figures and moves the last five references on, so that a difference is a tenth of a body, and a
//! revision that only ends an episode costs some twenty bytes. RFC 7386 was looked at: it cannot tell a member that is null
//! from one that is not there, and writes lists whole.

use serde_json::{Map, Value, json};

/// Elements of lists in which equal ones are looked for.
const LONGEST: usize = 256;

/// The difference that [`apply`] makes `to` with; `None` if both are the same.
pub(crate) fn difference(from: &Value, to: &Value) -> Option<Value> {
    if from == to {
        return None;
    }
    Some(match (from, to) {
        (Value::Object(from), Value::Object(to)) => objects(from, to),
        (Value::Array(from), Value::Array(to)) if from.len().max(to.len()) <= LONGEST => lists(from, to),
        _ => json!({"=": to}),
    })
}

fn objects(from: &Map<String, Value>, to: &Map<String, Value>) -> Value {
    let mut changed = Map::new();
    for (name, to) in to {
        match from.get(name) {
            Some(from) => {
                if let Some(difference) = difference(from, to) {
                    changed.insert(name.clone(), difference);
                }
            }
            None => {
                changed.insert(name.clone(), json!({"=": to}));
            }
        }
    }
    let gone: Vec<&String> = from.keys().filter(|name| !to.contains_key(*name)).collect();
    if gone.is_empty() { json!({"o": changed}) } else { json!({"o": changed, "-": gone}) }
}

/// The first so many elements stay; then come elements of the other list by number, or new ones, each in a list of its own.
fn lists(from: &[Value], to: &[Value]) -> Value {
    let same = from.iter().zip(to).take_while(|(from, to)| from == to).count();
    let rest = to.get(same..).unwrap_or_default().iter().map(|element| {
        let at = from.iter().position(|known| known == element);
        at.map_or_else(|| json!([element]), |at| json!(at))
    });
    json!({"a": same, "+": rest.collect::<Vec<_>>()})
}

/// Makes of a value the one that the difference was taken to; `None` if it is no difference to this value.
pub(crate) fn apply(value: Value, difference: &Value) -> Option<Value> {
    let said = difference.as_object()?;
    if let Some(whole) = said.get("=") {
        return Some(whole.clone());
    }
    match value {
        Value::Object(mut members) => {
            for name in said.get("-").and_then(Value::as_array).into_iter().flatten() {
                members.remove(name.as_str()?);
            }
            for (name, difference) in said.get("o")?.as_object()? {
                let before = members.remove(name).unwrap_or(Value::Null);
                members.insert(name.clone(), apply(before, difference)?);
            }
            Some(Value::Object(members))
        }
        Value::Array(elements) => {
            let same = usize::try_from(said.get("a")?.as_u64()?).ok()?;
            let mut made = elements.get(..same)?.to_vec();
            for element in said.get("+")?.as_array()? {
                made.push(match element {
                    Value::Array(new) => new.first()?.clone(),
                    at => elements.get(usize::try_from(at.as_u64()?).ok()?)?.clone(),
                });
            }
            Some(Value::Array(made))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0_u64..4).prop_map(Value::from),
            "[=o+a-]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("[=o+a-]{1}", inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_difference_gives_back_the_other_value(from in values(), to in values()) {
            match difference(&from, &to) {
                None => prop_assert_eq!(from, to),
                Some(difference) => {
                    let read: Value = serde_json::from_str(&difference.to_string()).unwrap();
                    prop_assert_eq!(apply(from, &read), Some(to));
                }
            }
        }

        #[test]
        fn what_is_no_difference_gives_nothing_and_breaks_nothing(value in values(), difference in values()) {
            let _ = apply(value, &difference);
        }
    }

    #[test]
    fn only_what_differs_is_kept() {
        let event = |n: u64| json!({"topic": "firewall", "partition": 0, "offset": n});
        let body = |state: &str, count: u64, last: std::ops::Range<u64>| {
            let events: Vec<_> = (0..5).chain(last).map(event).collect();
            json!({"alert_id": "0".repeat(64), "state": state, "count": count, "evidence": events, "explanation": {"window": "5m"}})
        };
        let ended = difference(&body("ended", 9, 5..9), &body("active", 9, 5..9)).unwrap();
        assert_eq!(ended.to_string(), r#"{"o":{"state":{"=":"active"}}}"#);
        // Two of the last five are still among the last five of the next one.
        let moved = difference(&body("active", 12, 7..12), &body("active", 9, 4..9)).unwrap();
        let told =
            r#"{"o":{"count":{"=":9},"evidence":{"+":[4,[{"offset":5,"partition":0,"topic":"firewall"}],"#;
        assert!(moved.to_string().starts_with(told), "{moved}");
    }
}
