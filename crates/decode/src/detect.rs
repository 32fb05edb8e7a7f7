//! `--source auto`: which source a record comes from, told by its form.
//!
//! In: the first record of a file and the known sources. Out: the source, or nothing if no form fits.

use vedette_event::{
    Sources,
    order::SourceIx,
    source::{Form, SourceDef},
};

use crate::{
    json::{
        scan::{Captures, scan},
        select::Selection,
    },
    panos::csv,
    record::paths,
};

/// Members that only AWS WAF writes together.
const AWS_WAF: [&str; 3] = ["webaclId", "terminatingRuleId", "httpRequest"];

/// A JSON source is recognised by this many of its mapped fields, or more.
const MIN_MAPPED: usize = 4;

/// The source of a record: PAN-OS by its CSV, AWS WAF by its members, a mapped JSON source by at least four of its
/// fields (the source with most of them), any other JSON object by the source of form `json`. Of equals the first by
/// name.
#[must_use]
pub fn detect(sample: &[u8], sources: &Sources) -> Option<SourceIx> {
    let text = std::str::from_utf8(sample).ok()?;
    let of = |form: Form| sources.iter().filter(move |(_, def)| def.form == form);
    if csv::begin(text).is_some() && !text.trim_ascii_start().starts_with('{') {
        return of(Form::PanosCsv).map(|(ix, _)| ix).next();
    }
    if present(text, AWS_WAF.map(|path| vec![path.to_owned()]).to_vec())? == AWS_WAF.len()
        && let Some((ix, _)) = of(Form::AwsWaf).next()
    {
        return Some(ix);
    }
    let mut best = (MIN_MAPPED - 1, None);
    for (ix, def) in of(Form::ApiJson) {
        let found = present(text, mapped(def))?;
        if found > best.0 {
            best = (found, Some(ix));
        }
    }
    best.1.or_else(|| of(Form::Json).map(|(ix, _)| ix).next())
}

fn mapped(def: &SourceDef) -> Vec<Vec<String>> {
    def.fields.keys().filter(|name| *name != "@timestamp").map(|name| paths(def, name)).collect()
}

/// How many of these targets a record has; `None` if it is no JSON object.
fn present(record: &str, targets: Vec<Vec<String>>) -> Option<usize> {
    let selection = Selection::new(targets.iter().map(|paths| paths.iter().map(String::as_str)));
    let mut captures = Captures::new(&selection, 0);
    scan(record, &selection, &mut captures, &mut String::new()).ok()?;
    Some(captures.touched().len())
}
