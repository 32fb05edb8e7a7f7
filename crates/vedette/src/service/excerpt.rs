//! What is stored and shown of an event that an alert refers to.
//!
//! In: an event's fields and its record, masked. Out: the same, long texts and what is too much cut, each cut with a mark.
//! Invariant: no excerpt is much longer than [`EVENT_BYTES`] and [`TEXT_BYTES`], whatever the record. Ten events of up to 1 MiB stand behind
//! each alert, and one record may stand behind an alert of every rule, so that whole ones would let who writes the log
//! fill the disk; the record itself stays in Kafka.

use serde_json::{Map, Value};

/// Bytes of one text: longer than nearly every honest one.
const TEXT_BYTES: usize = 8 << 10;
/// Bytes of an event's names and texts together.
const EVENT_BYTES: usize = 32 << 10;
/// Bytes of a field's name; a longer one is left out.
const NAME_BYTES: usize = 1 << 10;
/// What a name, a number or an element takes at least.
const LEAST: usize = 8;
/// The member that says how many others are left out.
const MARK: &str = "…";

/// The record as it came, unless the event names one itself.
const RECORD: &str = "event.original";

/// What is shown of an event, and of the record that it is from, which has room of its own, so that it displaces no field.
pub fn excerpt(event: Map<String, Value>, record: &str) -> Map<String, Value> {
    let mut shown = members(event, &mut { EVENT_BYTES });
    if !shown.contains_key(RECORD) {
        shown.insert(RECORD.to_owned(), part(Value::String(record.to_owned()), &mut { TEXT_BYTES }));
    }
    shown
}

fn members(object: Map<String, Value>, left: &mut usize) -> Map<String, Value> {
    let (mut shown, mut cut) = (Map::new(), 0_usize);
    for (name, value) in object {
        if *left == 0 || name.len() > NAME_BYTES {
            cut += 1;
            continue;
        }
        *left = left.saturating_sub(written(&name) + LEAST);
        shown.insert(name, part(value, left));
    }
    if cut > 0 {
        shown.insert(MARK.to_owned(), format!("{cut} more fields").into());
    }
    shown
}

fn part(value: Value, left: &mut usize) -> Value {
    match value {
        Value::String(text) => {
            let most = TEXT_BYTES.min(*left);
            let len = written(&text);
            *left = left.saturating_sub(len.min(most));
            if len <= most {
                return Value::String(text);
            }
            let mut room = most;
            let fits = |(_, c): &(usize, char)| match room.checked_sub(escaped(*c)) {
                Some(rest) => {
                    room = rest;
                    true
                }
                None => false,
            };
            let end = text.char_indices().take_while(fits).last().map_or(0, |(at, c)| at + c.len_utf8());
            let (shown, rest) = text.split_at(end);
            Value::String(format!("{shown}{MARK} ({} more bytes)", rest.len()))
        }
        Value::Array(list) => {
            let (mut shown, mut cut) = (Vec::new(), 0_usize);
            for element in list {
                if *left == 0 {
                    cut += 1;
                    continue;
                }
                *left = left.saturating_sub(LEAST);
                shown.push(part(element, left));
            }
            if cut > 0 {
                shown.push(format!("{MARK} ({cut} more)").into());
            }
            Value::Array(shown)
        }
        Value::Object(object) => Value::Object(members(object, left)),
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

/// Bytes of a text as JSON writes it, without its quotes.
fn written(text: &str) -> usize {
    text.chars().map(escaped).sum()
}

/// Bytes of a character as JSON writes it.
const fn escaped(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        c => c.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(event: Value) -> Map<String, Value> {
        let Value::Object(event) = event else { panic!("no object") };
        let mut shown = excerpt(event, "the record");
        assert_eq!(shown.remove(RECORD).unwrap(), "the record");
        shown
    }

    #[test]
    fn a_record_displaces_no_field_and_is_cut_itself() {
        let event: Map<_, _> = (0..5).map(|n| (format!("f{n}"), "x".repeat(TEXT_BYTES).into())).collect();
        let shown = excerpt(event.clone(), &"r".repeat(3 * TEXT_BYTES));
        assert_eq!(shown.keys().filter(|name| name.starts_with('f')).count(), 4);
        assert!(shown[RECORD].as_str().unwrap().ends_with("… (16384 more bytes)"));
        let own = Map::from_iter([(RECORD.to_owned(), Value::from("its own"))]);
        assert_eq!(excerpt(own, "another")[RECORD], "its own");
    }

    #[test]
    fn ordinary_events_are_shown_as_they_are() {
        let event = json!({"a": "x".repeat(TEXT_BYTES), "b": [1, "2", {"c": null}], "d": {"e": true}});
        assert_eq!(Value::Object(of(event.clone())), event);
    }

    #[test]
    fn what_is_long_is_cut_with_a_mark() {
        let shown = of(json!({"a": "é".repeat(TEXT_BYTES), "b": 5}));
        let text = shown["a"].as_str().unwrap();
        assert!(
            text.starts_with("éé") && text.ends_with("é… (8192 more bytes)"),
            "{}",
            &text[text.len() - 40..]
        );
        assert_eq!(shown["b"], 5);
        let shown = of(json!({"long".repeat(1_000): 1, "short": 2}));
        assert_eq!(Value::Object(shown), json!({"short": 2, "…": "1 more fields"}));
    }

    #[test]
    fn no_event_is_shown_longer_than_the_bound() {
        let many: Map<String, Value> = (0..50_000).map(|n| (format!("k{n}"), "v".into())).collect();
        let deep = (0..120).fold(json!("x".repeat(1 << 20)), |inner, _| json!({"d": inner, "e": [1, 2]}));
        let list: Vec<usize> = (0..100_000).collect();
        let texts: Vec<String> = (0..100).map(|_| "x".repeat(10_000)).collect();
        for event in [
            json!(many),
            deep,
            json!({"l": list}),
            json!({"t": texts, "z": 1}),
            json!({"n": vec![json!({}); 99_999]}),
            json!({"c": vec!["\u{1}\"\\".repeat(10_000); 9], "\u{1}".repeat(1_000): 1}),
        ] {
            let whole = event.to_string().len();
            let shown = Value::Object(of(event)).to_string();
            assert!(shown.len() < 2 * EVENT_BYTES && whole > 4 * EVENT_BYTES, "{} of {whole}", shown.len());
            assert!(shown.contains("more"), "it says that something is left out");
        }
    }
}
