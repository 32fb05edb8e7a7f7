//! What made a condition hold: the witness of a crossing.
//!
//! In: a correlation, the events that take part, the crossing event. Out: indexes of the witness.

use std::collections::{BTreeMap, BTreeSet};

use vedette_sigma::{Correlation, CorrelationKind};

use super::conditions::{Taking, window};

/// The witness of the crossing at `at`.
pub fn of(correlation: &Correlation, all: &[Taking<'_>], at: usize) -> BTreeSet<usize> {
    let window = window(correlation, all, at);
    let n = correlation.threshold();
    match &correlation.kind {
        CorrelationKind::EventCount => newest(all, &window, n),
        CorrelationKind::ValueCount(_) => {
            seen_last(window.iter().map(|i| (*i, all[*i].values.iter().cloned().collect())), n)
        }
        CorrelationKind::Temporal => {
            seen_last(window.iter().map(|i| (*i, all[*i].rules.iter().copied().collect())), n)
        }
        CorrelationKind::TemporalOrdered => steps(correlation, all, &window, at),
    }
}

/// "For `event_count ≥ N` the N newest (or, weighted, as few of the newest as suffice)."
fn newest(all: &[Taking<'_>], window: &[usize], n: u64) -> BTreeSet<usize> {
    let enough = (1..=window.len()).find(|few| {
        let newest = &window[window.len() - few..];
        newest.iter().map(|i| all[*i].weight).sum::<u64>() >= n
    });
    window[window.len() - enough.expect("the condition holds")..].iter().copied().collect()
}

/// "For `value_count ≥ N` the latest event of each of the N values seen last; for `temporal` the latest event of each
/// rule (of the rules seen last, where fewer suffice)."
fn seen_last<T: Ord>(things: impl Iterator<Item = (usize, Vec<T>)>, n: u64) -> BTreeSet<usize> {
    let mut latest: BTreeMap<T, usize> = BTreeMap::new();
    for (event, of_event) in things {
        for thing in of_event {
            latest.insert(thing, event);
        }
    }
    let mut events: Vec<usize> = latest.into_values().collect();
    events.sort_unstable_by(|a, b| b.cmp(a));
    events.into_iter().take(usize::try_from(n).expect("small")).collect()
}

/// "For `temporal_ordered`, going back from the crossing event, for each step the latest match before the next step's
/// event."
fn steps(correlation: &Correlation, all: &[Taking<'_>], window: &[usize], at: usize) -> BTreeSet<usize> {
    let mut witness = BTreeSet::from([at]);
    let mut next = at;
    for rule in correlation.rules.iter().rev().skip(1) {
        let earlier = window.iter().rev().find(|i| **i < next && all[**i].rules.contains(rule));
        next = *earlier.expect("the condition holds");
        witness.insert(next);
    }
    witness
}
