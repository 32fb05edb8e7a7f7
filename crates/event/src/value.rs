//! A single value outside its column: what keys and entities are made of.
//!
//! In: a cell's kind and canonical text. Out: [`Value`], compared by type first, then exactly.

use serde::{Serialize, Serializer};

use crate::batch::{Cell, Kind};

/// A scalar. Number, text and boolean are never equal to one another; serialises as the JSON scalar.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Value {
    /// Text, compared exactly.
    Text(Box<str>),
    /// A number, as canonical text (see [`crate::batch::number`]).
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

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(t) => s.serialize_str(t),
            Self::Bool(b) => s.serialize_bool(*b),
            Self::Number(n) => {
                // Not by serde_json, which may read the neighbour of the nearest f64.
                let number = n.parse::<i64>().map(serde_json::Number::from);
                let number = number.or_else(|_| n.parse::<u64>().map(serde_json::Number::from)).ok();
                match number.or_else(|| serde_json::Number::from_f64(n.parse().ok()?)) {
                    Some(number) if number.to_string() == **n => number.serialize(s),
                    // A decimal that no JSON reader would keep apart from its neighbours.
                    _ => s.serialize_str(n),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_written_as_it_is_told_apart() {
        let written = |text: &str| serde_json::to_string(&Value::Number(text.into())).unwrap_or_default();
        for exact in ["0", "-5", "18446744073709551615", "0.1", "-0.25", "1e+21", "1e-7"] {
            assert_eq!(written(exact), exact);
        }
        assert_eq!(written("0.1234567890123456789"), "\"0.1234567890123456789\"");
    }
}
