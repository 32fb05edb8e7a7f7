//! A single value outside its column: what keys and entities are made of.
//!
//! In: a cell's kind and canonical text. Out: [`Value`], compared by type first, then exactly.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::{Number, Value as Json};

use crate::cell::{Cell, Kind};

/// A scalar. Number, text and boolean are never equal to one another; serialises as the JSON scalar.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Value {
    /// Text, compared exactly.
    Text(Box<str>),
    /// A number, as canonical text (see [`crate::cell::number`]).
    Number(Box<str>),
    /// True or false.
    Bool(bool),
}

impl Value {
    /// The scalar in a cell; `None` for missing, null, lists and objects.
    #[must_use]
    pub fn of(cell: Cell<'_>) -> Option<Self> {
        match cell.kind {
            Kind::Text => Some(Self::Text(cell.text.into())),
            Kind::Int | Kind::Float => Some(Self::Number(cell.text.into())),
            Kind::Bool => Some(Self::Bool(cell.text == "true")),
            Kind::Missing | Kind::Null | Kind::List | Kind::Object => None,
        }
    }

    /// The value's text, without quotes.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Text(t) | Self::Number(t) => t,
            Self::Bool(true) => "true",
            Self::Bool(false) => "false",
        }
    }
}

impl Value {
    /// The JSON scalar. There is one for every value, so nothing that is made of keys can fail.
    #[must_use]
    pub fn json(&self) -> Json {
        match self {
            Self::Text(text) => Json::from(&**text),
            Self::Bool(b) => Json::Bool(*b),
            Self::Number(n) => {
                // Not by serde_json, which may read the neighbour of the nearest f64.
                let number = n.parse::<i64>().map(Number::from);
                let number = number.or_else(|_| n.parse::<u64>().map(Number::from)).ok();
                match number.or_else(|| Number::from_f64(n.parse().ok()?)) {
                    Some(number) if number.to_string() == **n => Json::Number(number),
                    // A decimal that no JSON reader would keep apart from its neighbours.
                    _ => Json::from(&**n),
                }
            }
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.json().serialize(s)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        match Json::deserialize(d)? {
            Json::String(text) => Ok(Self::Text(text.into())),
            Json::Number(number) => Ok(Self::Number(number.to_string().into())),
            Json::Bool(b) => Ok(Self::Bool(b)),
            _ => Err(D::Error::custom("a part of a key is a text, a number or a boolean")),
        }
    }
}

/// Bytes of a text in a key. An honest key (an address, a name, a path, nearly every URL) is shorter, and where one is not, what
/// is left of it still tells an analyst what it is; what is held for a key, and written in each revision of its alerts, stays a few kilobytes.
pub const KEY_PART_BYTES: usize = 1_024;

/// A text as it stands in a key: one longer than [`KEY_PART_BYTES`] is its first bytes up to there, cut between characters, then
/// `…` and the BLAKE3 hash of the whole in 64 hexadecimal digits.
///
/// The same for the same text everywhere, without a secret, so that ids of alerts are what they are on any deployment. A
/// shortened spelling is itself longer than the limit, so no text has it as its own: one that short is never shortened, and
/// one that long is written as something else.
#[must_use]
pub fn key_part(text: &str) -> Cow<'_, str> {
    if text.len() <= KEY_PART_BYTES {
        return Cow::Borrowed(text);
    }
    let shown = text.get(..text.floor_char_boundary(KEY_PART_BYTES)).unwrap_or_default();
    Cow::Owned(format!("{shown}…{}", blake3::hash(text.as_bytes()).to_hex()))
}

/// A group key as a JSON object.
#[must_use]
pub fn key_json(key: &BTreeMap<Arc<str>, Value>) -> Json {
    Json::Object(key.iter().map(|(name, value)| (name.to_string(), value.json())).collect())
}

/// A group key as JSON text: what identities and orders of alerts rest on. Two keys have never one text.
#[must_use]
pub fn key_text(key: &BTreeMap<Arc<str>, Value>) -> String {
    key_json(key).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_written_as_it_is_told_apart() {
        let written = |text: &str| Value::Number(text.into()).json().to_string();
        for exact in ["0", "-5", "18446744073709551615", "0.1", "-0.25", "1e+21", "1e-7"] {
            assert_eq!(written(exact), exact);
        }
        assert_eq!(written("0.1234567890123456789"), "\"0.1234567890123456789\"");
    }

    #[test]
    fn a_long_text_is_shortened_in_a_key_and_no_text_is_what_another_is_shortened_to() {
        let most = "x".repeat(KEY_PART_BYTES);
        assert_eq!(key_part(&most), most.as_str());
        let long = format!("{most}y");
        let hash = blake3::hash(long.as_bytes()).to_hex();
        assert_eq!(key_part(&long), format!("{most}…{hash}"));
        assert_ne!(key_part(&long), key_part(&format!("{most}z")));
        // Who writes the shortened spelling gets another one; all of them are longer than what is left as it is.
        assert_ne!(key_part(&key_part(&long)), key_part(&long));
        for text in ["é".repeat(600), format!("x{}", "𝄞".repeat(300)), "€".repeat(1_000)] {
            let short = key_part(&text);
            let (shown, _) = short.split_once('…').unwrap();
            assert!(text.starts_with(shown) && shown.len() > KEY_PART_BYTES - 4, "{}", shown.len());
            assert!(short.len() > KEY_PART_BYTES && short.len() <= KEY_PART_BYTES + 67, "{}", short.len());
        }
    }

    #[test]
    fn a_key_s_text_is_what_an_alert_s_body_has() {
        let text = |text: &str| Value::Text(text.into());
        let key = BTreeMap::from([
            ("z".into(), text("a\"b\\\u{7f}\u{0}\u{2028}é")),
            ("a \"name\"\n".into(), Value::Number("-0.25".into())),
            ("b".into(), Value::Bool(true)),
            ("c".into(), Value::Number("1e999".into())),
        ]);
        assert_eq!(Some(key_text(&key)), serde_json::to_string(&key).ok());
        assert_eq!(key_text(&BTreeMap::new()), "{}");
        assert_eq!(key_text(&BTreeMap::from([("n".into(), text("1"))])), r#"{"n":"1"}"#);
    }
}
