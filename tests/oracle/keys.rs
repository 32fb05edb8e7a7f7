//! Whom an event counts for: group keys, entities, and the values of `value_count`.
//!
//! In: an event and what a rule asks. Out: [`Key`]s and value tuples.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::Value as Json;
use vedette_event::{RuleIx, Sources, Value};
use vedette_sigma::{Correlation, Rule};

use super::{conditions::Taking, fields, placement::Event};

/// A group key: "a key part bears the name written in `group-by`, or the alias".
pub type Key = BTreeMap<Arc<str>, Value>;

/// The key as JSON text.
pub fn json(key: &Key) -> String {
    serde_json::to_string(key).expect("a key is JSON")
}

/// The key that an event has for one referenced rule; "a missing or null part: the event does not take part".
pub fn of(correlation: &Correlation, matched: RuleIx, event: &Event, sources: &Sources) -> Option<Key> {
    let parts = correlation.group_by.iter().map(|part| {
        // "An alias that does not name the matched rule is a plain field."
        let value = part_of(event, part.field_of(matched), sources)?;
        Some((part.name.clone(), value))
    });
    parts.collect()
}

/// One part of a key, named as in a rule.
fn part_of(event: &Event, written: &str, sources: &Sources) -> Option<Value> {
    let (name, json) = fields::get(event, written, sources)?;
    part(event, &name, json, sources)
}

fn part(event: &Event, name: &str, json: &Json, sources: &Sources) -> Option<Value> {
    fields::key_part(json, fields::declared(sources.get(event.source), sources, name))
}

/// "Single-event rules use the same path per (rule, entity), key `{entity field: value}`. The source definition lists its
/// default entity fields in order; `vedette: entity` replaces the list. With none present the key is `{}`."
pub fn by_entity<'a>(
    rule: &Rule,
    matched: &[&'a Event],
    ix: RuleIx,
    sources: &Sources,
) -> BTreeMap<Key, Vec<Taking<'a>>> {
    let mut groups: BTreeMap<Key, Vec<Taking<'a>>> = BTreeMap::new();
    for event in matched {
        let found: Option<(Arc<str>, Value)> = match &rule.extras.entity {
            Some(name) => part_of(event, name, sources).map(|value| (name.clone(), value)),
            None => sources.get(event.source).entity.iter().find_map(|name| {
                let value = part(event, name, fields::column(event, name, sources)?, sources)?;
                Some((name.as_str().into(), value))
            }),
        };
        let taking = Taking { event, rules: BTreeSet::from([ix]), weight: 1, values: BTreeSet::new() };
        groups.entry(found.into_iter().collect()).or_default().push(taking);
    }
    groups
}

/// The value tuples of an event: "the tuple for several fields; each element of a list, the product for several lists;
/// nulls are no values; an event without the field does not take part", nor does one without a single value.
pub fn tuples(event: &Event, names: &[Arc<str>], sources: &Sources) -> Option<BTreeSet<Vec<Value>>> {
    let mut tuples: Vec<Vec<Value>> = vec![Vec::new()];
    for written in names {
        let (name, json) = fields::get(event, written, sources)?;
        let kind = fields::declared(sources.get(event.source), sources, &name);
        let values: Vec<Value> = match json {
            Json::Array(list) => list.iter().filter_map(|element| fields::scalar(element, kind)).collect(),
            one => vec![fields::scalar(one, kind)?],
        };
        let with = |tuple: &Vec<Value>, value: &Value| {
            let mut longer = tuple.clone();
            longer.push(value.clone());
            longer
        };
        tuples = tuples.iter().flat_map(|tuple| values.iter().map(move |value| with(tuple, value))).collect();
    }
    let each_once: BTreeSet<Vec<Value>> = tuples.into_iter().collect();
    (!each_once.is_empty()).then_some(each_once)
}
