//! How far back what rules say depends on what was before.
//!
//! In: rules. Out: their finite memory, as the semantics define it: the timespans and rearms along their chains, back from a 00:00 UTC.

use vedette_event::{Micros, Span, time::HOUR};
use vedette_sigma::{RuleKind, RuleSet};

/// The longest memory of all rules.
pub fn longest(rules: &RuleSet) -> Span {
    // A correlation stands behind those it refers to.
    let mut all: Vec<i64> = Vec::with_capacity(rules.rules.len());
    for rule in &rules.rules {
        let own = match &rule.kind {
            RuleKind::Detection(_) => rule.extras.rearm.unwrap_or(HOUR).0,
            RuleKind::Correlation(correlation) => {
                let rearm = rule.extras.rearm.unwrap_or(correlation.timespan);
                let below = correlation.rules.iter().filter_map(|child| all.get(child.0 as usize));
                let below = below.copied().max().unwrap_or(0);
                correlation.timespan.0.saturating_add(rearm.0).saturating_add(below)
            }
        };
        all.push(own);
    }
    Span(all.into_iter().max().unwrap_or(0))
}

/// From where events have to be read, so that all is exact that crosses at this time or later.
pub fn back_from(rules: &RuleSet, time: Micros) -> Micros {
    if time == Micros::MIN { time } else { time.midnight().minus(longest(rules)) }
}
