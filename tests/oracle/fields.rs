//! What a field of an event holds.
//!
//! In: an event, a name as written in a rule. Out: JSON, or the scalar by which values compare.

use std::net::{IpAddr, Ipv6Addr};

use serde_json::{Map, Value as Json};
use vedette_event::{FieldType, SourceDef, Sources, Value, source::Form};

use super::placement::Event;

/// The JSON value of a field as written in a rule, if it is there and not null, with the canonical name it has.
pub fn get<'a>(event: &'a Event, written: &str, sources: &Sources) -> Option<(String, &'a Json)> {
    let names = sources.get(event.source).resolve(written);
    names.into_iter().find_map(|name| Some((name.to_owned(), column(event, name, sources)?)))
}

/// The JSON value of a canonical field, if it is there and not null: "a failed cast leaves the field missing".
pub fn column<'a>(event: &'a Event, name: &str, sources: &Sources) -> Option<&'a Json> {
    let kind = declared(sources.get(event.source), sources, name);
    let of_type = |json: &&Json| match kind {
        None | Some(FieldType::List) => !json.is_null(),
        kind => scalar(json, kind).is_some(),
    };
    find(&event.fields, name).filter(of_type)
}

/// "`a.b` is the field of that name, else `b` inside object `a`."
fn find<'a>(fields: &'a Map<String, Json>, name: &str) -> Option<&'a Json> {
    if let Some(json) = fields.get(name) {
        return Some(json);
    }
    let dots = name.match_indices('.').map(|(at, _)| at);
    dots.into_iter().find_map(|at| match fields.get(&name[..at]) {
        Some(Json::Object(inner)) => find(inner, &name[at + 1..]),
        _ => None,
    })
}

/// The declared type of a canonical field: "in source `json` fields have no declared type".
pub fn declared(def: &SourceDef, sources: &Sources, name: &str) -> Option<FieldType> {
    if def.form == Form::Json { None } else { sources.fields.kind(name) }
}

/// The scalar that a field compares by: "values compare by the field's one type".
/// Lists and objects are no scalars: "a list or object in a key is missing".
pub fn scalar(json: &Json, kind: Option<FieldType>) -> Option<Value> {
    let text = match json {
        Json::Null | Json::Array(_) | Json::Object(_) => return None,
        Json::String(text) => text.clone(),
        Json::Number(n) => canonical(n),
        Json::Bool(b) => b.to_string(),
    };
    let unsigned = |most: u64| text.parse::<u64>().ok().filter(|n| *n <= most);
    match kind {
        // "Number, text and boolean are never equal."
        None => Some(match json {
            Json::Number(_) => Value::Number(text.into()),
            Json::Bool(b) => Value::Bool(*b),
            _ => Value::Text(text.into()),
        }),
        Some(FieldType::Ip) => address(&text).map(|ip| Value::Text(ip.to_string().into())),
        Some(FieldType::U16) => unsigned(65_535).map(|n| Value::Number(n.to_string().into())),
        Some(FieldType::U32) => unsigned(u64::from(u32::MAX)).map(|n| Value::Number(n.to_string().into())),
        Some(FieldType::U64) => unsigned(u64::MAX).map(|n| Value::Number(n.to_string().into())),
        Some(FieldType::I64) => text.parse::<i64>().ok().map(|n| Value::Number(n.to_string().into())),
        Some(FieldType::Text | FieldType::List) => Some(Value::Text(text.into())),
        Some(other) => panic!("{other:?} is outside the oracle's scope"),
    }
}

/// "Keys of declared type ip group IPv6 by /64, written `2001:db8::/64`." "A key part longer than 1,024 bytes is written
/// shortened: as many of its first characters as fit in these, `…`, and the BLAKE3 hash of the whole."
pub fn key_part(json: &Json, kind: Option<FieldType>) -> Option<Value> {
    let value = scalar(json, kind)?;
    match (kind, value.text().parse::<Ipv6Addr>()) {
        (Some(FieldType::Ip), Ok(ip)) => {
            let network = Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64);
            Some(Value::Text(format!("{network}/64").into()))
        }
        _ if value.text().len() > 1_024 => {
            let mut shortened = String::new();
            for character in value.text().chars() {
                if shortened.len() + character.len_utf8() > 1_024 {
                    break;
                }
                shortened.push(character);
            }
            let hash = blake3::hash(value.text().as_bytes());
            Some(Value::Text(format!("{shortened}…{}", hash.to_hex()).into()))
        }
        _ => Some(value),
    }
}

/// "Addresses as addresses": one spelling each; an IPv4-mapped IPv6 address is the IPv4 address.
fn address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// "Integers within i64 or u64 exactly, others as the nearest f64, written shortest"; 5 = 5.0.
fn canonical(number: &serde_json::Number) -> String {
    if let Some(n) = number.as_i64() {
        return n.to_string();
    }
    if let Some(n) = number.as_u64() {
        return n.to_string();
    }
    let f = number.as_f64().expect("a JSON number is one of the three");
    let whole = f.fract() == 0.0 && (-9_223_372_036_854_775_808.0..18_446_744_073_709_551_616.0).contains(&f);
    if whole { format!("{}", f as i128) } else { number.to_string() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_texts_and_booleans_are_never_equal() {
        assert_eq!(scalar(&json!(5), None), scalar(&json!(5.0), None));
        assert_ne!(scalar(&json!(5), None), scalar(&json!("5"), None));
        assert_ne!(scalar(&json!(true), None), scalar(&json!("true"), None));
        assert_eq!(scalar(&json!([5]), None), None);
        assert_eq!(scalar(&json!(null), None), None);
    }

    #[test]
    fn declared_addresses_group_by_64_and_others_do_not() {
        let long = json!("2001:0db8:0:0::1");
        let text = |t: &str| Some(Value::Text(t.into()));
        assert_eq!(key_part(&long, Some(FieldType::Ip)), text("2001:db8::/64"));
        assert_eq!(key_part(&long, None), text("2001:0db8:0:0::1"));
        assert_eq!(scalar(&long, Some(FieldType::Ip)), text("2001:db8::1"));
        assert_eq!(key_part(&json!("::ffff:10.0.0.1"), Some(FieldType::Ip)), text("10.0.0.1"));
        assert_eq!(key_part(&json!("nobody"), Some(FieldType::Ip)), None);
    }

    #[test]
    fn a_dotted_name_is_itself_before_it_is_a_path() {
        let both = json!({"a.b": 1, "a": {"b": 2}});
        assert_eq!(find(both.as_object().unwrap(), "a.b"), Some(&json!(1)));
        let nested = json!({"a": {"b": 2}});
        assert_eq!(find(nested.as_object().unwrap(), "a.b"), Some(&json!(2)));
    }
}
