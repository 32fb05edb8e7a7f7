//! Alerts by brute force, written from the semantics and not from the engine.
//!
//! In: checked rules, source definitions, logs (per topic and partition the records with broker time, claimed time and
//! fields) and stored placements. Out: every revision's body of every alert ([`Outcome`]).
//!
//! The method is the plainest there is: place every event, sort all of them, and for each rule, key and event filter the
//! whole list again. There is no watermark, no timer queue and no state that outlives a function. Every function quotes
//! the sentence it implements.
//!
//! Where the semantics leave room, the oracle reads them as the rulings in [`vedette_correlate::body`] do (no other part
//! of that crate was read), and:
//!
//! - `clock=overtaken` is set where the stored time raised the event's time; other flags stay.
//! - Weight counts for events that match a detection listed in the rule, also where they cross a child too.
//! - An event of which a continuation crosses a child and which matches a detection still takes part as the latter.
//! - An interval that is due at the very end of an episode is one revision with it, ended.

mod accepted;
mod body;
mod chains;
mod conditions;
mod detection;
mod detectors;
mod episodes;
mod examples;
mod fields;
mod generate;
mod kernel;
mod keys;
mod notices;
mod placement;
mod property;
mod storm;
mod versions;
mod witness;

use std::collections::{BTreeMap, BTreeSet};

use vedette_event::{Alert, RuleIx, Sources};
use vedette_sigma::{RuleKind, RuleSet};

use self::{
    body::{Crossed, Draft},
    conditions::{Taking, group},
    episodes::Episode,
    placement::{Event, Log, Position, Stored},
};

/// Everything that alerts are a function of.
pub struct Input<'a> {
    /// The rules.
    pub rules: &'a RuleSet,
    /// The sources.
    pub sources: &'a Sources,
    /// The records of each partition.
    pub logs: &'a [Log],
    /// Placements that are no function of the record alone.
    pub placements: &'a [Stored],
}

/// What must come out.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Every revision's body, in order, by `alert_id`.
    pub revisions: BTreeMap<String, Vec<Alert>>,
    /// The ids of all alerts, "ordered by (crossing event in total order, rule id, key as JSON text)".
    pub scan: Vec<String>,
}

impl Outcome {
    /// The last revision of each alert, in the order of `scan`.
    pub fn last_revisions(&self) -> impl Iterator<Item = &Alert> {
        self.scan.iter().filter_map(|id| self.revisions[id].last())
    }

    /// All bodies as JSON text, by id and revision.
    pub fn bodies(&self) -> BTreeMap<(String, u32), String> {
        let all = self.revisions.iter().flat_map(|(id, list)| list.iter().map(move |alert| (id, alert)));
        all.map(|(id, alert)| ((id.clone(), alert.revision), serde_json::to_string(alert).expect("JSON")))
            .collect()
    }
}

/// Which events match which rule: detections by their condition, correlations by the crossings of their episodes.
type Matches = BTreeMap<RuleIx, BTreeSet<Position>>;

/// All alerts with all their revisions, as they are once everything has been read and every timer has fired.
pub fn alerts(input: &Input<'_>) -> Outcome {
    let events = placement::place_all(input.logs, input.sources, input.placements);
    let mut matches = Matches::new();
    let mut drafts: Vec<Draft> = Vec::new();
    let mut crossed = Crossed::new();
    // A correlation stands after the rules it refers to, so its children's crossings are known.
    for (ix, rule) in input.rules.iter() {
        let mut of_rule = Vec::new();
        match &rule.kind {
            RuleKind::Detection(detection) => {
                let matched: Vec<&Event> =
                    events.iter().filter(|e| detection::matches(detection, e, input.sources)).collect();
                let dated = matched.iter().filter(|e| !e.undated);
                matches.insert(ix, dated.map(|e| e.at.clone()).collect());
                for (key, taking) in keys::by_entity(rule, &matched, ix, input.sources) {
                    let episodes = episodes::single(rule, &key, &taking);
                    of_rule.extend(drafts_of((input.rules, &crossed), ix, &key, &taking, &episodes));
                }
            }
            RuleKind::Correlation(correlation) if correlation.judged() => {
                for (key, taking) in group(correlation, &events, &matches, input) {
                    of_rule.extend(body::judged((input.rules, &crossed), ix, correlation, &key, &taking));
                }
            }
            RuleKind::Correlation(correlation) => {
                let mut crossings = BTreeSet::new();
                for (key, taking) in group(correlation, &events, &matches, input) {
                    let episodes = episodes::correlated(rule, correlation, &taking);
                    // "A chain gets one event per child episode, at its crossing; continuations give none."
                    let own = episodes.iter().filter(|e| !e.continuation);
                    crossings.extend(own.map(|e| taking[e.crossing].event.at.clone()));
                    of_rule.extend(drafts_of((input.rules, &crossed), ix, &key, &taking, &episodes));
                }
                let own = of_rule.iter().filter(|draft| !draft.revisions[0].continuation);
                crossed.insert(ix, own.cloned().collect());
                matches.insert(ix, crossings);
            }
        }
        if rule.emits {
            drafts.extend(storm::fold(input.rules, ix, of_rule, i64::MAX));
        }
    }
    publish(input, drafts)
}

/// The alerts of one rule and key: each episode's revisions.
fn drafts_of(
    rules: (&RuleSet, &Crossed),
    ix: RuleIx,
    key: &keys::Key,
    taking: &[Taking<'_>],
    episodes: &[Episode],
) -> Vec<Draft> {
    episodes.iter().map(|episode| body::episode(rules, ix, key, taking, episode)).collect()
}

/// Gives every draft its id and sorts: "ordered by (crossing event in total order, rule id, key as JSON text)".
fn publish(input: &Input<'_>, mut drafts: Vec<Draft>) -> Outcome {
    drafts.sort_by_key(|draft| {
        let rule = input.rules.get(draft.rule);
        (draft.crossing.clone(), rule.id.clone(), keys::json(&draft.key))
    });
    let mut outcome = Outcome::default();
    for draft in drafts {
        let (id, revisions) = body::finish(input, draft);
        outcome.scan.push(id.clone());
        let before = outcome.revisions.insert(id, revisions);
        assert!(before.is_none(), "two alerts have one id");
    }
    outcome
}
