//! What an alert says: the body of each revision.
//!
//! In: an episode, or a judged window. Out: [`Draft`], then [`Alert`]s with their id.
//! Summary and explanation are texts for people: their wording is the correlator's ([`vedette_correlate::body`]), what
//! goes into them is worked out here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use vedette_correlate::body::{Detail, explanation, summary};
use vedette_event::{
    Alert, Entity, Evidence, Flags, Micros, RuleIx, RuleRef, Span, State,
    alert::{Child, Explanation, Number},
};
use vedette_sigma::{Correlation, CorrelationKind, Rule, RuleKind, RuleSet};

use super::{
    Input,
    conditions::{self, Taking},
    episodes::{self, Episode},
    keys::{self, Key},
    placement::{Event, Position},
};

/// An alert without its id: its revisions and what the id is made of.
#[derive(Debug, Clone)]
pub struct Draft {
    pub rule: RuleIx,
    pub key: Key,
    pub crossing: Position,
    /// The crossing event's flags.
    pub flags: Flags,
    pub revisions: Vec<Alert>,
    /// When each of them is due.
    pub due: Vec<i64>,
}

/// Who crossed so far: by rule, the drafts of those of its episodes that are events for chains.
pub type Crossed = BTreeMap<RuleIx, Vec<Draft>>;

/// What a revision says beside its events.
struct About<'a> {
    rules: &'a RuleSet,
    crossed: &'a Crossed,
    ix: RuleIx,
    key: &'a Key,
    crossing: &'a Position,
    state: State,
    /// `temporal_ordered`: the times of the witness. Judged: the start of the window.
    steps: Vec<Micros>,
    start: Option<Micros>,
}

/// All revisions of an episode: "Revision 1 is the crossing", then those due later.
pub fn episode(
    (rules, crossed): (&RuleSet, &Crossed),
    ix: RuleIx,
    key: &Key,
    all: &[Taking<'_>],
    episode: &Episode,
) -> Draft {
    // "1 m of event time."
    let update = rules.get(ix).extras.update.unwrap_or(Span::secs(60)).0;
    let crossing = all[episode.crossing].event;
    let steps: Vec<Micros> = episode.witness.iter().map(|i| Micros(all[*i].event.at.time)).collect();
    let body = |events: BTreeSet<usize>, state: State| {
        let events: Vec<&Taking<'_>> = events.into_iter().map(|i| &all[i]).collect();
        let about = About {
            rules,
            crossed,
            ix,
            key,
            crossing: &crossing.at,
            state,
            steps: steps.clone(),
            start: None,
        };
        revision(&about, &events)
    };
    // "The events of the episode are the witness and every event that takes part while it is open."
    let upto = |due: i64| {
        let joined = episode.joined.iter().filter(|i| all[**i].event.at.time <= due);
        joined.chain(&episode.witness).copied().collect()
    };
    let first = episode.witness.iter().copied().chain([episode.crossing]).collect();
    let mut revisions = vec![body(first, State::Active)];
    let mut all_due = vec![crossing.at.time];
    let joined: Vec<i64> = episode.joined.iter().skip(1).map(|i| all[*i].event.at.time).collect();
    for (due, ends) in episodes::revisions(crossing.at.time, &joined, episode.end, update) {
        all_due.push(due);
        revisions.push(body(upto(due), if ends { State::Ended } else { State::Active }));
    }
    for (before, alert) in revisions.iter_mut().enumerate() {
        alert.revision = before as u32 + 1;
        alert.continuation = episode.continuation;
    }
    draft(ix, key, crossing, (revisions, all_due))
}

fn draft(rule: RuleIx, key: &Key, crossing: &Event, (revisions, due): (Vec<Alert>, Vec<i64>)) -> Draft {
    Draft { rule, key: key.clone(), crossing: crossing.at.clone(), flags: crossing.flags, revisions, due }
}

/// "Windows `[k·timespan, (k+1)·timespan)` since 1970-01-01 UTC, each judged when it ends, for the keys that have an
/// event in it. One that holds is an alert of its own, ended at once, revision 1, whose crossing event is its last event."
pub fn judged(
    (rules, crossed): (&RuleSet, &Crossed),
    ix: RuleIx,
    c: &Correlation,
    key: &Key,
    all: &[Taking<'_>],
) -> Vec<Draft> {
    let mut windows: BTreeMap<i64, Vec<&Taking<'_>>> = BTreeMap::new();
    for taking in all {
        windows.entry(taking.event.at.time.div_euclid(c.timespan.0)).or_default().push(taking);
    }
    let holds = |events: &[&Taking<'_>]| {
        conditions::compares(c, conditions::measure(&c.kind, events.iter().copied()))
    };
    windows
        .into_iter()
        .filter(|(_, events)| holds(events))
        .map(|(k, events)| {
            let last = events[events.len() - 1].event;
            let start = Some(Micros(k * c.timespan.0));
            let state = State::Ended;
            let about =
                About { rules, crossed, ix, key, crossing: &last.at, state, steps: Vec::new(), start };
            draft(ix, key, last, (vec![revision(&about, &events)], vec![(k + 1) * c.timespan.0]))
        })
        .collect()
}

/// One body over the events of the episode so far, in total order.
fn revision(about: &About<'_>, events: &[&Taking<'_>]) -> Alert {
    let rule = about.rules.get(about.ix);
    let (value, capped) = value(rule, events);
    let count = events.len() as u64;
    let matched = matched(rule, events);
    let detail = match (&rule.kind, about.start) {
        (_, Some(start)) => Detail::Window { start, matched: &matched },
        (RuleKind::Correlation(c), _) if c.kind == CorrelationKind::Temporal => Detail::Matched(&matched),
        (RuleKind::Correlation(c), _) if c.kind == CorrelationKind::TemporalOrdered => {
            Detail::Steps(&about.steps)
        }
        _ => Detail::Plain,
    };
    Alert {
        alert_id: "".into(),
        revision: 1,
        state: about.state,
        continuation: false,
        rule: Arc::new(rule_ref(rule)),
        key: about.key.clone(),
        entity: entity(rule, about.key),
        first_seen: Micros(events[0].event.at.time),
        crossed_at: Micros(about.crossing.time),
        last_seen: Micros(events[events.len() - 1].event.at.time),
        count,
        value: Number::Int(value),
        severity: rule.level,
        risk: rule.extras.risk.unwrap_or(rule.level.risk()),
        summary: summary(rule, about.key, count, value, &detail),
        evidence: evidence(events.iter().map(|e| (&e.event.at, e.event.flags)).collect()),
        evidence_total: count,
        explanation: {
            let details = explanation(about.rules, about.ix, &detail);
            Explanation { details, ..children(about, events) }
        },
        flags: events.iter().fold(capped, |flags, e| flags.with(e.event.flags)),
    }
}

/// Child episodes that one body lists, by the ruling of [`vedette_correlate::body`].
const LISTED: usize = 128;

/// "The alert's `explanation.children` lists, for each child event in its evidence, the child's rule, key, first and last
/// event, `crossed_at`, count, value and its own first and last five references, down the whole chain."
fn children(about: &About<'_>, events: &[&Taking<'_>]) -> Explanation {
    let RuleKind::Correlation(c) = &about.rules.get(about.ix).kind else { return Explanation::default() };
    let refers = |ix: &RuleIx| matches!(about.rules.get(*ix).kind, RuleKind::Correlation(_));
    if !c.rules.iter().any(refers) {
        return Explanation::default();
    }
    let (mut listed, mut total) = (Vec::new(), 0);
    let n = events.len();
    for (_, event) in events.iter().enumerate().filter(|(i, _)| *i < 5 || *i + 5 >= n) {
        for ix in c.rules.iter().filter(|ix| event.rules.contains(ix)) {
            let of_rule = about.crossed.get(ix).into_iter().flatten();
            let mut here: Vec<&Draft> = of_rule.filter(|draft| draft.crossing == event.event.at).collect();
            here.sort_by_key(|draft| keys::json(&draft.key));
            for draft in here {
                total += 1 + draft.revisions[0].explanation.children_total.unwrap_or(0);
                listed.push(child(about.rules, draft));
            }
        }
    }
    let mut level: Vec<&mut Vec<Child>> = vec![&mut listed];
    let mut room = LISTED;
    while !level.is_empty() {
        for list in &mut level {
            list.truncate(room);
            room -= list.len();
        }
        level = level.into_iter().flatten().filter_map(|child| child.children.as_mut()).collect();
    }
    Explanation { children: Some(listed), children_total: Some(total), ..Explanation::default() }
}

/// A child's episode at its crossing: what its revision 1 says, or would say if it raised alerts.
fn child(rules: &RuleSet, draft: &Draft) -> Child {
    let first = draft.revisions[0].clone();
    Child {
        alert_id: rules.get(draft.rule).emits.then(|| id(rules, draft).into()),
        rule: first.rule,
        key: first.key,
        first_seen: first.first_seen,
        crossed_at: first.crossed_at,
        last_seen: first.last_seen,
        count: first.count,
        value: first.value,
        evidence: first.evidence,
        children: first.explanation.children,
        flags: first.flags,
    }
}

/// The distinct referenced rules that the events matched; only `temporal` tells them.
fn matched(rule: &Rule, events: &[&Taking<'_>]) -> Vec<RuleIx> {
    match &rule.kind {
        RuleKind::Correlation(c) if c.kind == CorrelationKind::Temporal => {
            let distinct: BTreeSet<RuleIx> = events.iter().flat_map(|e| e.rules.iter().copied()).collect();
            distinct.into_iter().collect()
        }
        _ => Vec::new(),
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
pub fn evidence(events: Vec<(&Position, Flags)>) -> Vec<Evidence> {
    let n = events.len();
    let chosen = events.into_iter().enumerate().filter(|(i, _)| *i < 5 || *i + 5 >= n);
    chosen
        .map(|(_, (at, flags))| Evidence {
            topic: at.topic.as_str().into(),
            incarnation: at.incarnation as u16,
            partition: at.partition,
            offset: at.offset,
            index: at.index,
            time: Micros(at.time),
            flags,
        })
        .collect()
}

/// `rule {id, title, level, type, version, tags}`.
pub fn rule_ref(rule: &Rule) -> RuleRef {
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
fn id(rules: &RuleSet, draft: &Draft) -> String {
    let rule = rules.get(draft.rule);
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
    hash.update(&draft.crossing.incarnation.to_le_bytes());
    hash.update(&draft.crossing.partition.to_le_bytes());
    hash.update(&draft.crossing.offset.to_le_bytes());
    hash.update(&draft.crossing.index.to_le_bytes());
    hash.finalize().to_hex().to_string()
}

/// A draft's id, and its revisions with it.
pub fn finish(input: &Input<'_>, draft: Draft) -> (String, Vec<Alert>) {
    let id = id(input.rules, &draft);
    let mut revisions = draft.revisions;
    for alert in &mut revisions {
        alert.alert_id = id.as_str().into();
    }
    (id, revisions)
}
