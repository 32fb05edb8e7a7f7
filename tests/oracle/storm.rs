//! Too many episodes of one rule in one hour.
//!
//! In: a rule's drafts. Out: its drafts, those beyond 1,000 in an hour folded into one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use vedette_correlate::body::{Detail, explanation, prefix, summary};
use vedette_event::{
    Alert, Flags, Micros, RuleIx, Span, State,
    alert::{Explanation, Number},
    time::HOUR,
};
use vedette_sigma::{RuleKind, RuleSet};

use super::{
    body::{self, Draft},
    episodes,
    keys::{self, Key},
    placement::Position,
};

/// How many episodes of a rule may cross in one hour before the rest are folded.
const MOST: usize = 1_000;

/// "More than 1,000 episodes of one rule that cross in one UTC clock hour: the rest become one storm alert."
pub fn fold(rules: &RuleSet, ix: RuleIx, mut drafts: Vec<Draft>, until: i64) -> Vec<Draft> {
    drafts.sort_by_key(|draft| (draft.crossing.clone(), keys::json(&draft.key)));
    let mut hours: BTreeMap<i64, Vec<Draft>> = BTreeMap::new();
    for draft in drafts {
        hours.entry(draft.crossing.time.div_euclid(HOUR.0)).or_default().push(draft);
    }
    let mut kept = Vec::new();
    for (hour, mut drafts) in hours {
        let rest = drafts.split_off(drafts.len().min(MOST));
        kept.append(&mut drafts);
        if !rest.is_empty() {
            kept.push(storm(rules, ix, (hour * HOUR.0, until), &rest));
        }
    }
    kept
}

/// "One storm alert (key `{}`, flag `storm`, crossing = that of the 1,001st, `count` = episodes folded)": revised like
/// any other, to the end of its hour; of a judged rule, whose alerts end at once, it ends at once.
fn storm(rules: &RuleSet, ix: RuleIx, (hour, until): (i64, i64), folded: &[Draft]) -> Draft {
    let rule = rules.get(ix);
    let first = &folded[0];
    let crossed = first.crossing.time;
    let judged = matches!(&rule.kind, RuleKind::Correlation(c) if c.judged());
    let update = rule.extras.update.unwrap_or(Span::secs(60)).0;
    let (mut revisions, mut all_due) = (Vec::new(), Vec::new());
    if !judged {
        all_due.push(crossed);
        revisions.push(revision(rules, ix, hour, &folded[..1], State::Active));
    }
    let joined: Vec<i64> = folded[1..].iter().map(|draft| draft.crossing.time).collect();
    for (due, ends) in episodes::revisions(crossed, &joined, until.min(hour + HOUR.0), update) {
        let upto = folded.iter().filter(|draft| draft.crossing.time <= due).count();
        let state = if ends { State::Ended } else { State::Active };
        if ends || !judged {
            all_due.push(due);
            revisions.push(revision(rules, ix, hour, &folded[..upto], state));
        }
    }
    for (before, alert) in revisions.iter_mut().enumerate() {
        alert.revision = before as u32 + 1;
    }
    Draft { key: Key::new(), revisions, due: all_due, ..first.clone() }
}

/// One body over the episodes folded so far: its events are their crossing events.
fn revision(rules: &RuleSet, ix: RuleIx, hour: i64, folded: &[Draft], state: State) -> Alert {
    let rule = rules.get(ix);
    let count = folded.len() as u64;
    let mut by_prefix: BTreeMap<String, u64> = BTreeMap::new();
    for draft in folded {
        *by_prefix.entry(prefix(&draft.key)).or_default() += 1;
    }
    let prefixes: Vec<(String, u64)> = by_prefix.into_iter().collect();
    let detail = Detail::Storm { hour: Micros(hour), prefixes: &prefixes };
    let events: BTreeSet<(&Position, Flags)> = folded.iter().map(|d| (&d.crossing, d.flags)).collect();
    Alert {
        alert_id: "".into(),
        revision: 1,
        state,
        continuation: false,
        rule: Arc::new(body::rule_ref(rule)),
        key: Key::new(),
        entity: None,
        first_seen: Micros(folded[0].crossing.time),
        crossed_at: Micros(folded[0].crossing.time),
        last_seen: Micros(folded[folded.len() - 1].crossing.time),
        count,
        value: Number::Int(count),
        severity: rule.level,
        risk: rule.extras.risk.unwrap_or(rule.level.risk()),
        summary: summary(rule, &Key::new(), count, count, &detail),
        evidence: body::evidence(events.into_iter().collect()),
        evidence_total: count,
        explanation: Explanation { details: explanation(rules, ix, &detail), ..Explanation::default() },
        flags: folded.iter().fold(Flags::STORM, |flags, d| flags.with(d.flags)),
    }
}
