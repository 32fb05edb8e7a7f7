//! What is left of a record: `event.unmapped`, and the fields that decide what is.
//!
//! In: a source and the canonical fields. Out: the names of all that its records can fill ([`all_fields`]), the last of
//! which takes what the others leave.
//!
//! OCSF calls the attributes that a mapping leaves out `unmapped`, an object under the source's own names. ECS has no name for
//! them, so they stand under `event.`, as `event.original` does.
//!
//! # What is left
//!
//! What a field of [`all_fields`] took is not in `event.unmapped`; all else of the record is, as it was written, whichever
//! fields a projection asks for. A field takes a member, or a cell, if it holds its value: what cannot be cast to the field's
//! type stays, as does what another path, or a later member of the same name, came before. Of a number or a time that
//! is written in a way of its own the field has the canonical text. Lists are taken whole or not at all, and what the decoder makes
//! of several parts of a record (of AWS WAF: headers, rules, labels, matches, the action) takes none of them. Form `json` has no
//! types, so a column may not be able to hold what its member says: there nothing is taken, and what is left is the record itself, to the
//! last blank, with its secrets hidden. So it can be decoded once more.
//!
//! # What it costs
//!
//! Processor time by record of the simulator's, as ratios (whole processes in turn, medians). Where nobody asks for it decoding takes 0.99
//! to 1.03 of what it took before there was such a column, when two copies of one program differ by 1.02, and 0.94 to 1.01 of the
//! instructions.
//!
//! | source | all fields, to what eight columns take | with `event.unmapped`, to all fields without |
//! |---|---|---|
//! | json | 0.90 (its records use no canonical name) | 1.08 |
//! | exchange_api | 1.68 | 1.07 |
//! | paloalto | 2.41 (five columns) | 1.13 |
//! | aws_waf | 1.65 | 1.44: in the lists of headers secrets are looked for |
//!
//! Without secrets, blanks and anything taken, it points at the record; else each record's is written once, into one text that is
//! kept. Only where a secret is hidden something is allocated.

use std::sync::Arc;

use vedette_event::{Fields, SourceDef, source::Form};

use crate::panos::layout::LogType;

/// The field that holds what no other took.
pub const UNMAPPED: &str = "event.unmapped";

/// Canonical fields that are not read from records: Vedette says them itself.
const STAMPED: [&str; 4] = ["event.original", "event.ingested", "event.dataset", UNMAPPED];

/// The names of all fields that records of a source can fill, sorted, and `event.unmapped` last: with these columns a batch
/// holds all of its records.
///
/// For JSON these are all of the list, since a record may use canonical names itself. `prefix.*` stands for no name, so a
/// field below one is among them only where the mapping names it.
#[must_use]
pub fn all_fields(def: &SourceDef, fields: &Fields) -> Vec<Arc<str>> {
    let mut names: Vec<Arc<str>> = match def.form {
        Form::PanosCsv => LogType::ALL.into_iter().flat_map(LogType::fields).map(Arc::from).collect(),
        Form::AwsWaf | Form::ApiJson | Form::Json => {
            let listed = fields.0.keys().filter(|name| !name.ends_with(".*"));
            listed.chain(def.fields.keys()).map(|name| Arc::from(&**name)).collect()
        }
    };
    names.retain(|name| !STAMPED.contains(&&**name) && !name.starts_with("vedette."));
    names.sort_unstable();
    names.dedup();
    names.push(UNMAPPED.into());
    names
}

/// The fields that are no columns of a projection and yet have to be looked at, because they decide what is left; none where
/// nobody asks for what is.
#[must_use]
pub fn hidden_fields(def: &SourceDef, fields: &Fields, projection: &[Arc<str>]) -> Vec<Arc<str>> {
    let asked = projection.iter().any(|name| **name == *UNMAPPED);
    if !asked || def.form == Form::Json {
        return Vec::new();
    }
    let mut hidden = all_fields(def, fields);
    hidden.retain(|name| !projection.contains(name));
    hidden
}
