//! Which events take part in a correlation, and whether its condition holds at one of them.
//!
//! In: events, matches, a correlation. Out: [`Taking`] by key; measures of windows.

use std::collections::{BTreeMap, BTreeSet};

use vedette_event::{RuleIx, Sources, Value};
use vedette_sigma::{Correlation, CorrelationKind, RuleKind};

use super::{
    Input, Matches, fields,
    keys::{self, Key},
    placement::Event,
};

/// An event that takes part for one key.
#[derive(Debug, Clone)]
pub struct Taking<'a> {
    pub event: &'a Event,
    /// The referenced rules it matched that gave it this key.
    pub rules: BTreeSet<RuleIx>,
    /// What it weighs in `event_count`.
    pub weight: u64,
    /// Its value tuples in `value_count`.
    pub values: BTreeSet<Vec<Value>>,
}

/// The events that take part, by key, in the total order: those that match any referenced rule, each once. "One event
/// may take part in two groups, in each only for the rules that gave that key."
pub fn group<'a>(
    correlation: &Correlation,
    events: &'a [Event],
    matches: &Matches,
    input: &Input<'_>,
) -> BTreeMap<Key, Vec<Taking<'a>>> {
    let mut groups: BTreeMap<Key, Vec<Taking<'a>>> = BTreeMap::new();
    for event in events {
        let mut keys: BTreeMap<Key, BTreeSet<RuleIx>> = BTreeMap::new();
        for rule in correlation.rules.iter().filter(|rule| matches[*rule].contains(&event.at)) {
            if let Some(key) = keys::of(correlation, *rule, event, input.sources) {
                keys.entry(key).or_default().insert(*rule);
            }
        }
        let values = match &correlation.kind {
            CorrelationKind::ValueCount(names) => keys::tuples(event, names, input.sources),
            _ => Some(BTreeSet::new()),
        };
        let Some(values) = values else { continue };
        for (key, rules) in keys {
            let weight = weight(event, &rules, input);
            let taking = Taking { event, rules, weight, values: values.clone() };
            groups.entry(key).or_default().push(taking);
        }
    }
    groups
}

/// "PAN-OS repeat counts weigh `event_count` only, from 1 to 10,000, where the source names the field"; "a child's event
/// weighs 1".
fn weight(event: &Event, rules: &BTreeSet<RuleIx>, input: &Input<'_>) -> u64 {
    let is_detection = |rule: &RuleIx| matches!(input.rules.get(*rule).kind, RuleKind::Detection(_));
    if !rules.iter().any(is_detection) {
        return 1;
    }
    repeat_count(event, input.sources).unwrap_or(1).clamp(1, 10_000)
}

fn repeat_count(event: &Event, sources: &Sources) -> Option<u64> {
    let def = sources.get(event.source);
    let (name, json) = fields::get(event, def.weight.as_deref()?, sources)?;
    match fields::scalar(json, fields::declared(def, sources, &name))? {
        Value::Number(n) => n.parse().ok(),
        _ => None,
    }
}

/// "Windows slide over `(t − timespan, t]`, evaluated at each event that takes part, over the events up to and including
/// it in total order": the indexes of those events.
pub fn window(correlation: &Correlation, all: &[Taking<'_>], at: usize) -> Vec<usize> {
    let after = all[at].event.at.time.saturating_sub(correlation.timespan.0);
    (0..=at).filter(|i| all[*i].event.at.time > after).collect()
}

/// What the condition compares: the weighted number of events, the distinct values, the distinct rules.
pub fn measure<'a>(kind: &CorrelationKind, events: impl Iterator<Item = &'a Taking<'a>>) -> u64 {
    match kind {
        CorrelationKind::EventCount => events.map(|e| e.weight).sum(),
        CorrelationKind::ValueCount(_) => {
            events.flat_map(|e| &e.values).collect::<BTreeSet<_>>().len() as u64
        }
        CorrelationKind::Temporal => events.flat_map(|e| &e.rules).collect::<BTreeSet<_>>().len() as u64,
        CorrelationKind::TemporalOrdered => panic!("a sequence is not measured"),
    }
}

/// Whether a condition of `gt` and `gte` alone, or a sequence, holds at an event. "N is at least 1."
pub fn holds_at(correlation: &Correlation, all: &[Taking<'_>], at: usize) -> bool {
    let window = window(correlation, all, at);
    if correlation.kind == CorrelationKind::TemporalOrdered {
        let last = correlation.rules.len() - 1;
        return all[at].rules.contains(&correlation.rules[last])
            && chain(correlation, all, &window, at, last);
    }
    let measured = measure(&correlation.kind, window.iter().map(|i| &all[*i]));
    measured >= 1 && compares(correlation, measured)
}

/// "A chain in strictly increasing total order, one event for one step": is there one of which `at` is step `step`?
fn chain(correlation: &Correlation, all: &[Taking<'_>], window: &[usize], at: usize, step: usize) -> bool {
    let Some(before) = step.checked_sub(1) else { return true };
    let rule = correlation.rules[before];
    window
        .iter()
        .any(|i| *i < at && all[*i].rules.contains(&rule) && chain(correlation, all, window, *i, before))
}

/// All comparisons of the condition.
pub fn compares(correlation: &Correlation, measured: u64) -> bool {
    correlation.condition.iter().all(|(cmp, n)| cmp.holds(&measured, n))
}
