//! What an alert says: the body of each revision.
//!
//! In: an episode, or a judged window. Out: [`Draft`], then [`Alert`]s with their id.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use vedette_event::{Alert, Entity, Evidence, Flags, Micros, RuleIx, RuleRef, Span, State, alert::Number};
use vedette_sigma::{Correlation, CorrelationKind, Rule, RuleKind};

use super::{
    Input,
    conditions::{self, Taking},
    episodes::{self, Episode},
    keys::{self, Key},
    placement::Position,
};

/// An alert without its id: its revisions and what the id is made of.
#[derive(Debug, Clone)]
pub struct Draft {
    pub rule: RuleIx,
    pub key: Key,
    pub crossing: Position,
    pub incarnation: u32,
    pub revisions: Vec<Alert>,
}

/// All revisions of an episode: "Revision 1 is the crossing", then those due later.
pub fn episode(rule: &Rule, ix: RuleIx, key: &Key, all: &[Taking<'_>], episode: &Episode) -> Draft {
    // "1 m of event time."
    let update = rule.extras.update.unwrap_or(Span::secs(60)).0;
    let crossing = all[episode.crossing].event;
    // "The events of the episode are the witness and every event that takes part while it is open."
    let upto = |due: i64| {
        let joined = episode.joined.iter().filter(|i| all[**i].event.at.time <= due);
        let events: BTreeSet<usize> = joined.chain(&episode.witness).copied().collect();
        events.into_iter().map(|i| &all[i]).collect::<Vec<_>>()
    };
    let first: BTreeSet<usize> = episode.witness.iter().copied().chain([episode.crossing]).collect();
    let first: Vec<&Taking<'_>> = first.into_iter().map(|i| &all[i]).collect();
    let mut revisions = vec![revision(rule, key, &first, &crossing.at, State::Active)];
    for (due, ends) in episodes::revisions(episode, all, update) {
        let state = if ends { State::Ended } else { State::Active };
        revisions.push(revision(rule, key, &upto(due), &crossing.at, state));
    }
    for (before, alert) in revisions.iter_mut().enumerate() {
        alert.revision = before as u32 + 1;
        alert.continuation = episode.continuation;
    }
    Draft {
        rule: ix,
        key: key.clone(),
        crossing: crossing.at.clone(),
        incarnation: crossing.incarnation,
        revisions,
    }
}

/// "Windows `[k·timespan, (k+1)·timespan)` since 1970-01-01 UTC, each judged when it ends, for the keys that have an
/// event in it. One that holds is an alert of its own, ended at once, revision 1, whose crossing event is its last event."
pub fn judged(rule: &Rule, ix: RuleIx, c: &Correlation, key: &Key, all: &[Taking<'_>]) -> Vec<Draft> {
    let mut windows: BTreeMap<i64, Vec<&Taking<'_>>> = BTreeMap::new();
    for taking in all {
        windows.entry(taking.event.at.time.div_euclid(c.timespan.0)).or_default().push(taking);
    }
    let held = windows
        .into_values()
        .filter(|events| conditions::compares(c, conditions::measure(&c.kind, events.iter().copied())));
    held.map(|events| {
        let last = events[events.len() - 1].event;
        Draft {
            rule: ix,
            key: key.clone(),
            crossing: last.at.clone(),
            incarnation: last.incarnation,
            revisions: vec![revision(rule, key, &events, &last.at, State::Ended)],
        }
    })
    .collect()
}

/// One body over the events of the episode so far, in total order.
fn revision(rule: &Rule, key: &Key, events: &[&Taking<'_>], crossing: &Position, state: State) -> Alert {
    let (value, capped) = value(rule, events);
    let flags = events.iter().fold(capped, |flags, e| flags.with(e.event.flags));
    let count = events.len() as u64;
    Alert {
        alert_id: "".into(),
        revision: 1,
        state,
        continuation: false,
        rule: Arc::new(rule_ref(rule)),
        key: key.clone(),
        entity: entity(rule, key),
        first_seen: Micros(events[0].event.at.time),
        crossed_at: Micros(crossing.time),
        last_seen: Micros(events[events.len() - 1].event.at.time),
        count,
        value: Number::Int(value),
        severity: rule.level,
        risk: rule.extras.risk.unwrap_or(rule.level.risk()),
        summary: String::new(),
        evidence: evidence(events),
        evidence_total: count,
        explanation: serde_json::Map::new(),
        flags,
    }
}

/// "`value` = their weighted number (`event_count`), the distinct values among them, up to max(1,000, N), then flag
/// `capped` (`value_count`), the distinct rules (`temporal`), the steps (`temporal_ordered`), 1 (single event)."
fn value(rule: &Rule, events: &[&Taking<'_>]) -> (u64, Flags) {
    let RuleKind::Correlation(c) = &rule.kind else { return (1, Flags::NONE) };
    match c.kind {
        CorrelationKind::TemporalOrdered => (c.rules.len() as u64, Flags::NONE),
        CorrelationKind::ValueCount(_) => {
            let all = conditions::measure(&c.kind, events.iter().copied());
            let largest = c.condition.iter().map(|(_, n)| *n).max().unwrap_or(0);
            let n = if c.judged() { largest } else { c.threshold() };
            let most = n.max(1_000);
            if all > most { (most, Flags::CAPPED) } else { (all, Flags::NONE) }
        }
        _ => (conditions::measure(&c.kind, events.iter().copied()), Flags::NONE),
    }
}

/// "Evidence = references (with `ts_event` and flags) of the first and last five of them (each once)."
fn evidence(events: &[&Taking<'_>]) -> Vec<Evidence> {
    let n = events.len();
    let chosen = (0..n).filter(|i| *i < 5 || *i + 5 >= n);
    chosen
        .map(|i| {
            let event = events[i].event;
            Evidence {
                topic: event.at.topic.as_str().into(),
                partition: event.at.partition,
                offset: event.at.offset,
                index: event.at.index,
                time: Micros(event.at.time),
                flags: event.flags,
            }
        })
        .collect()
}

/// `rule {id, title, level, type, version, tags}`.
fn rule_ref(rule: &Rule) -> RuleRef {
    let kind = match &rule.kind {
        RuleKind::Detection(_) => "single",
        RuleKind::Correlation(c) => c.kind.name(),
    };
    let version: String = rule.meaning[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    RuleRef {
        id: rule.id.clone(),
        title: rule.title.clone(),
        level: rule.level,
        kind: kind.into(),
        version: version.into(),
        tags: rule.tags.clone(),
    }
}

/// `entity {type, value}`: the key's entity of a single event; of a correlation the part that `vedette: entity` names,
/// else the first part of the key as written.
fn entity(rule: &Rule, key: &Key) -> Option<Entity> {
    let name = match &rule.kind {
        RuleKind::Detection(_) => key.keys().next().cloned(),
        RuleKind::Correlation(c) => {
            rule.extras.entity.clone().or_else(|| c.group_by.first().map(|part| part.name.clone()))
        }
    }?;
    key.get(&name).map(|value| Entity { kind: name.clone(), value: value.clone() })
}

/// "`alert_id` = blake3(rule id, hash of its meaning, key, `ts_event` + topic + incarnation + partition + offset + index
/// of the crossing event)": texts preceded by their length (u32), integers little-endian, in this order.
pub fn finish(input: &Input<'_>, draft: Draft) -> (String, Vec<Alert>) {
    let rule = input.rules.get(draft.rule);
    let mut hash = blake3::Hasher::new();
    let text = |hash: &mut blake3::Hasher, text: &str| {
        hash.update(&(text.len() as u32).to_le_bytes());
        hash.update(text.as_bytes());
    };
    text(&mut hash, &rule.id);
    hash.update(&rule.meaning);
    text(&mut hash, &keys::json(&draft.key));
    hash.update(&draft.crossing.time.to_le_bytes());
    text(&mut hash, &draft.crossing.topic);
    hash.update(&draft.incarnation.to_le_bytes());
    hash.update(&draft.crossing.partition.to_le_bytes());
    hash.update(&draft.crossing.offset.to_le_bytes());
    hash.update(&draft.crossing.index.to_le_bytes());
    let id = hash.finalize().to_hex().to_string();
    let mut revisions = draft.revisions;
    for alert in &mut revisions {
        alert.alert_id = id.as_str().into();
    }
    (id, revisions)
}
