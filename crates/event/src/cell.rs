//! One value of an event: what it is, and its canonical text.
//!
//! In: numbers as JSON spells them. Out: [`Cell`]s of a [`Kind`].
//! Invariant: a cell's text is canonical for its kind and for its field's type (addresses and numbers in one spelling), so
//! that equal values are equal bytes; missing and null cells have an empty text.

/// What a cell holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// The event has no such field.
    Missing = 0,
    /// JSON null.
    Null = 1,
    /// Text, unescaped.
    Text = 2,
    /// A whole number within i64 or u64: decimal digits, `-` only below zero.
    Int = 3,
    /// Any other number, as the nearest f64 written shortest.
    Float = 4,
    /// `true` or `false`.
    Bool = 5,
    /// A JSON list, as its raw text.
    List = 6,
    /// A JSON object, as its raw text.
    Object = 7,
}

impl Kind {
    pub(crate) const ALL: [Self; 8] =
        [Self::Missing, Self::Null, Self::Text, Self::Int, Self::Float, Self::Bool, Self::List, Self::Object];

    /// The names of the codes, from 0, as a schema tells them.
    pub(crate) const CODES: &'static str = "missing,null,text,int,float,bool,list,object";

    /// True of all but missing and null.
    #[must_use]
    #[inline]
    pub const fn is_value(self) -> bool {
        !matches!(self, Self::Missing | Self::Null)
    }

    /// The kind with this code; unknown codes are missing.
    #[must_use]
    pub fn from_code(code: u8) -> Self {
        Self::ALL.get(usize::from(code)).copied().unwrap_or(Self::Missing)
    }
}

/// One value in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cell<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its canonical text; raw JSON for lists and objects.
    pub text: &'a str,
}

impl Cell<'_> {
    /// The event has no such field.
    pub const MISSING: Cell<'static> = Cell { kind: Kind::Missing, text: "" };
}

/// The canonical kind and text of a JSON number: an integer within i64 or u64 (`5`, and `5.0` too), else the nearest f64 written shortest.
///
/// Returns `None` if the text is no JSON number or its nearest f64 is infinite.
#[must_use]
pub fn number(text: &str) -> Option<(Kind, String)> {
    if let Ok(n) = text.parse::<i64>() {
        return Some((Kind::Int, n.to_string()));
    }
    if let Ok(n) = text.parse::<u64>() {
        return Some((Kind::Int, n.to_string()));
    }
    let f: f64 = text.parse().ok()?;
    if !f.is_finite() || !text.bytes().any(|b| b.is_ascii_digit()) {
        return None;
    }
    #[expect(clippy::float_cmp, reason = "the question is whether the value is exactly whole")]
    if f.trunc() == f && f >= -(2_f64.powi(63)) && f < 2_f64.powi(64) {
        return Some((Kind::Int, (f as i128).to_string()));
    }
    serde_json::to_string(&f).ok().map(|text| (Kind::Float, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_spelling() {
        let canonical = |text| number(text).map(|(kind, text)| format!("{kind:?} {text}"));
        assert_eq!(canonical("5"), canonical("5.0"));
        assert_eq!(canonical("5"), canonical("50e-1"));
        assert_eq!(canonical("-0.0").unwrap(), "Int 0");
        assert_eq!(canonical("18446744073709551615").unwrap(), "Int 18446744073709551615");
        assert_eq!(canonical("0.1").unwrap(), "Float 0.1");
        assert_eq!(canonical("1e400"), None);
        assert_eq!(canonical("abc"), None);
        assert_eq!(canonical("inf"), None);
    }
}
