//! Source definitions (`schemas/sources/<name>.yml`): how one source's records become canonical fields.
//!
//! In: YAML. Out: [`SourceDef`], used by the decoder (form, mapping, types, secrets, time), the rule compiler
//! (logsource, taxonomy), the correlator (entity, weight) and the engine (`D`, `F`).

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{order::SourceIx, schema::Fields, time::Span};

/// What kind of log something is: the three keys of Sigma's `logsource`, compared ignoring case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSource {
    /// For example `paloalto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// For example `firewall`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// For example `traffic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

impl LogSource {
    /// True unless both name a key and differ in it (case ignored).
    #[must_use]
    pub fn compatible(&self, other: &Self) -> bool {
        let agree = |a: &Option<String>, b: &Option<String>| match (a, b) {
            (Some(a), Some(b)) => a.eq_ignore_ascii_case(b) || a.to_lowercase() == b.to_lowercase(),
            _ => true,
        };
        agree(&self.product, &other.product)
            && agree(&self.category, &other.category)
            && agree(&self.service, &other.service)
    }
}

/// The wire form a source's records have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// PAN-OS CSV in any syslog envelope.
    PanosCsv,
    /// AWS WAF JSON.
    AwsWaf,
    /// A flat or nested JSON object whose paths `fields` maps to canonical names.
    ApiJson,
    /// Any JSON object, fields as they are.
    Json,
}

/// One name or several: `url.query` or `[url.query, url.query_decoded]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One name.
    One(String),
    /// Several names; a predicate over the field is true if it is true of any of them.
    Many(Vec<String>),
}

impl OneOrMany {
    /// The names.
    #[must_use]
    pub fn names(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Many(names) => names,
        }
    }
}

/// A source, as its file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceDef {
    /// Its name: the file's name without `.yml`.
    pub name: Arc<str>,
    /// One line for a person.
    pub description: String,
    /// The wire form.
    pub form: Form,
    /// What its events are; in form `json` empty, since each event says so itself.
    #[serde(default)]
    pub logsource: LogSource,
    /// `D`: how far behind broker time a claimed time may lie.
    pub disorder: Span,
    /// `F`: how far ahead of broker time a claimed time may lie.
    pub future: Span,
    /// IANA time zone of times that name none.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// Default entity fields of single-event rules, in order of preference.
    pub entity: Vec<String>,
    /// The field that weighs `event_count` (a repeat count), from 1 to 10,000.
    #[serde(default)]
    pub weight: Option<String>,
    /// Canonical fields that are secrets: replaced by a keyed hash when decoded. `prefix.*` covers all below it.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// Parameters of URLs (`token=…`, ignoring case) whose values are secrets, wherever a URL or a query stands.
    #[serde(default)]
    pub secret_parameters: Vec<String>,
    /// Canonical name → path in the record (dots descend into objects); the first path present counts. Forms with a fixed layout leave it empty.
    #[serde(default)]
    pub fields: BTreeMap<String, OneOrMany>,
    /// Sigma's names for this logsource → canonical names. Names that are not here are canonical already.
    #[serde(default)]
    pub taxonomy: BTreeMap<String, OneOrMany>,
}

fn utc() -> String {
    "UTC".to_owned()
}

impl SourceDef {
    /// The canonical columns that a name written in a rule stands for.
    #[must_use]
    pub fn resolve<'a>(&'a self, written: &'a str) -> Vec<&'a str> {
        match self.taxonomy.get(written) {
            Some(names) => names.names().iter().map(String::as_str).collect(),
            None => vec![written],
        }
    }

    /// True if a rule for this logsource may apply to some of the source's events. Everything that asks which sources a
    /// rule reads asks here: where two answers differed, findings came that nothing ever released.
    #[must_use]
    pub fn concerns(&self, rule: &LogSource) -> bool {
        self.own_logsource() || self.logsource.compatible(rule)
    }

    /// True if events name their own logsource (form `json`), whatever the definition says.
    #[must_use]
    pub fn own_logsource(&self) -> bool {
        self.form == Form::Json
    }
}

/// All sources in use and the canonical fields they share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// The canonical fields.
    pub fields: Fields,
    /// The sources, sorted by name; [`SourceIx`] is the position.
    pub defs: Vec<SourceDef>,
}

impl Sources {
    /// Sorts the definitions by name.
    #[must_use]
    pub fn new(fields: Fields, mut defs: Vec<SourceDef>) -> Self {
        defs.sort_by(|a, b| a.name.cmp(&b.name));
        Self { fields, defs }
    }

    /// A definition of this table.
    #[must_use]
    pub fn get(&self, ix: SourceIx) -> &SourceDef {
        &self.defs[usize::from(ix.0)]
    }

    /// The position of a name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<SourceIx> {
        let at = self.defs.iter().position(|def| &*def.name == name)?;
        u16::try_from(at).ok().map(SourceIx)
    }

    /// All positions and definitions.
    pub fn iter(&self) -> impl Iterator<Item = (SourceIx, &SourceDef)> {
        self.defs.iter().enumerate().map(|(at, def)| (SourceIx(at as u16), def))
    }
}
