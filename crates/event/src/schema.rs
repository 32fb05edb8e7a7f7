//! The canonical field list (`schemas/fields.yml`): each name's one type.
//!
//! In: YAML. Out: [`Fields`]. A name that the list lacks (an unmapped JSON field) has no declared type.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The type of a canonical field; every cell of it is canonical text of this type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldType {
    /// Text.
    Text,
    /// Whole number 0 to 65,535.
    U16,
    /// Whole number 0 to 2^32 − 1.
    U32,
    /// Whole number 0 to 2^64 − 1.
    U64,
    /// Signed whole number.
    I64,
    /// Floating point number.
    F64,
    /// Exact decimal number, kept as its text.
    Decimal,
    /// True or false.
    Bool,
    /// IPv4 or IPv6 address in its canonical spelling; an IPv4-mapped IPv6 address is the IPv4 address.
    Ip,
    /// A point in time, RFC 3339 in UTC with microseconds.
    Time,
    /// A list of texts, as JSON.
    List,
    /// A JSON object, as its text.
    Object,
}

/// One entry of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldDef {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: FieldType,
    /// What it means.
    pub description: String,
}

/// All canonical fields by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fields(pub BTreeMap<String, FieldDef>);

impl Fields {
    /// The declared type of a name, if the list has it. `prefix.*` entries stand for every name below the prefix.
    #[must_use]
    pub fn kind(&self, name: &str) -> Option<FieldType> {
        if let Some(def) = self.0.get(name) {
            return Some(def.kind);
        }
        let mut prefix = name;
        while let Some((head, _)) = prefix.rsplit_once('.') {
            if let Some(def) = self.0.get(&format!("{head}.*")) {
                return Some(def.kind);
            }
            prefix = head;
        }
        None
    }
}
