//! Bodies: from state to the alerts and notices that leave.
//!
//! In: a tree, a key, an episode, a judged window or a storm. Out: [`NewRevision`] and [`Notice`].
//! Invariant: every body is made of [`Facts`] in one place, so that what a field means holds for all kinds of alerts.

use std::sync::Arc;

use vedette_event::{
    Alert, Evidence, Flags, Identity, Kind, Micros, Notice, Order, RuleIx, Span, State, Topics, Value,
    alert::{Child, Explanation, Number},
};
use vedette_sigma::ir::Rule;

use super::{Detail, Key};
use crate::{
    NewRevision, body,
    chain::{self, ChildEvent, Cut},
    codec::ByteReader,
    event::{Bits, EventRef},
    plan::{Node, NodeInput, NodeKind, Plan, Tree},
    step::{episode::Episode, judged::Judged},
    storm::hour::{Head, Hour},
};

/// What bodies are made of beside state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bodies<'a> {
    pub plan: &'a Plan,
    pub topics: &'a Topics,
}

/// The parts of an encoded key by name.
pub(crate) fn key_of(node: &Node, key: &[u8]) -> Key {
    let mut parts = Key::new();
    let mut reader = ByteReader::new(key);
    let mut at = 0;
    while reader.left() > 0 {
        if node.kind == NodeKind::Single {
            at = reader.varint().and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
        }
        let (Some(kind), Some(text)) = (reader.byte(), reader.bytes()) else { break };
        let (Some(name), Ok(text)) = (node.names.get(at), std::str::from_utf8(text)) else { break };
        let cell = vedette_event::Cell { kind: Kind::from_code(kind), text };
        if let Some(value) = Value::of(cell) {
            parts.insert(Arc::clone(name), value);
        }
        at += 1;
    }
    parts
}

/// The numbers of referenced rules as rules.
fn rules_of(tree: &Tree, node: &Node, matched: &Bits) -> Vec<RuleIx> {
    let refs = node.refs.iter().enumerate().filter(|(at, _)| matched.has(*at));
    let rules = refs.filter_map(|(_, r)| match r.from {
        NodeInput::Detection(bit) => tree.detections.get(usize::from(bit)).copied(),
        NodeInput::Node(at) => tree.nodes.get(at).map(|node| node.rule),
    });
    rules.collect()
}

/// What of a body does not follow from the rule and the key.
struct Facts<'a> {
    crossing: &'a EventRef,
    revision: u32,
    state: State,
    continuation: bool,
    first_seen: Micros,
    last_seen: Micros,
    count: u64,
    value: u64,
    flags: Flags,
    evidence: Vec<EventRef>,
    covers_until: Micros,
    /// What of the evidence are child events; `None` if the body says nothing of children.
    children: Option<&'a [Arc<ChildEvent>]>,
    detail: Detail<'a>,
}

impl Bodies<'_> {
    /// References to events.
    fn evidence(&self, events: impl Iterator<Item = EventRef>) -> Vec<Evidence> {
        let evidence = events.map(|event| Evidence {
            topic: Arc::clone(self.topics.name(event.topic)),
            incarnation: event.incarnation,
            partition: event.partition,
            offset: event.offset,
            index: event.index,
            time: event.time,
            flags: event.flags,
        });
        evidence.collect()
    }

    /// The identity of an episode.
    fn identity(&self, rule: &Rule, key: &Key, crossing: Order) -> Arc<str> {
        let topic = self.topics.name(crossing.topic);
        Identity { rule_id: &rule.id, meaning: &rule.meaning, key, crossing, topic }.alert_id()
    }

    /// The episodes that some events crossed, as far as they are listed.
    fn children(
        &self,
        tree: &Tree,
        events: &[Arc<ChildEvent>],
        (level, cut): (usize, &mut Option<Cut>),
    ) -> Vec<Child> {
        let mut listed = Vec::new();
        for event in events {
            for episode in event.episodes.iter() {
                let Some(node) = tree.nodes.get(usize::from(episode.node)) else { continue };
                if cut.as_mut().is_some_and(|cut| !cut.lists(level)) {
                    return listed;
                }
                let (rule, key) = (self.plan.rules.get(node.rule), key_of(node, &episode.key));
                listed.push(Child {
                    alert_id: rule.emits.then(|| self.identity(rule, &key, event.order())),
                    rule: Arc::clone(&node.rule_ref),
                    key,
                    first_seen: episode.first_seen,
                    crossed_at: event.event.time,
                    last_seen: event.event.time,
                    count: episode.count,
                    value: Number::Int(episode.value),
                    evidence: self.evidence(episode.evidence.iter()),
                    children: node.chain.then(|| self.children(tree, &episode.below, (level + 1, cut))),
                    flags: episode.flags,
                });
            }
        }
        listed
    }

    fn publish(&self, tree: &Tree, group: u8, key: Key, facts: Facts<'_>) -> NewRevision {
        let rule = self.plan.rules.get(tree.root);
        let (crossing, covers_until) = (facts.crossing.order(), facts.covers_until);
        let listed = |children| self.children(tree, children, (0, &mut Cut::of(children)));
        let alert = Alert {
            alert_id: self.identity(rule, &key, crossing),
            revision: facts.revision,
            state: facts.state,
            continuation: facts.continuation,
            rule: Arc::clone(&tree.last().rule_ref),
            entity: match facts.detail {
                Detail::Storm { .. } => None,
                _ => body::entity(rule, &key),
            },
            first_seen: facts.first_seen,
            crossed_at: crossing.time,
            last_seen: facts.last_seen,
            count: facts.count,
            value: Number::Int(facts.value),
            severity: rule.level,
            risk: body::risk(rule),
            summary: body::summary(rule, &key, facts.count, facts.value, &facts.detail),
            evidence: self.evidence(facts.evidence.into_iter()),
            evidence_total: facts.count,
            explanation: Explanation {
                children: facts.children.map(listed),
                children_total: facts.children.map(chain::total),
                details: body::explanation(&self.plan.rules, tree.root, &facts.detail),
            },
            flags: facts.flags,
            key,
        };
        NewRevision { alert, rule: tree.root, group, crossing, covers_until }
    }

    /// Gives the next revision of an episode, as its rule was in force when it is due.
    pub fn revision(
        &self,
        (tree, now): (&Tree, Micros),
        (group, key): (u8, &[u8]),
        episode: &mut Episode,
        state: State,
    ) -> NewRevision {
        let tree = tree.as_of(now);
        let node = tree.last();
        episode.revision = episode.revision.saturating_add(1);
        episode.pending = None;
        let matched = rules_of(tree, node, &episode.tally.matched);
        let crossing = episode.crossing.time;
        let facts = Facts {
            crossing: &episode.crossing,
            revision: episode.revision,
            state,
            continuation: episode.continuation,
            first_seen: episode.first_seen,
            last_seen: episode.last_seen,
            count: episode.tally.count,
            value: episode.tally.measured(node),
            flags: episode.flags(),
            evidence: episode.tally.ends.iter().collect(),
            // Without a key each event is its own episode, which nothing extends.
            covers_until: match (&node.kind, key) {
                (NodeKind::Single, []) => crossing,
                _ => episode.held.plus(node.rearm).min(episode.midnight().minus(Span(1))),
            },
            children: node.chain.then_some(&*episode.tally.children),
            detail: match node.kind {
                NodeKind::Temporal => Detail::Matched(&matched),
                NodeKind::Ordered => Detail::Steps(&episode.steps),
                NodeKind::Single | NodeKind::Count | NodeKind::Distinct(_) => Detail::Plain,
            },
        };
        self.publish(tree, group, key_of(node, key), facts)
    }

    /// Gives the one revision of a judged window.
    pub fn judged(&self, tree: &Tree, (group, key): (u8, &[u8]), window: &Judged) -> NewRevision {
        let tree = tree.as_of(window.end(tree.last()));
        let node = tree.last();
        let cap = node.values_cap();
        let (measured, matched) = (window.tally.measured(node), rules_of(tree, node, &window.tally.matched));
        let distinct = matches!(node.kind, NodeKind::Distinct(_));
        let capped = if distinct && measured > cap { Flags::CAPPED } else { Flags::NONE };
        let facts = Facts {
            crossing: &window.last,
            revision: 1,
            state: State::Ended,
            continuation: false,
            first_seen: window.first_seen,
            last_seen: window.last.time,
            count: window.tally.count,
            value: if distinct { measured.min(cap) } else { measured },
            flags: window.tally.flags.with(capped),
            evidence: window.tally.ends.iter().collect(),
            covers_until: window.last.time,
            children: node.chain.then_some(&*window.tally.children),
            detail: Detail::Window { start: window.start, matched: &matched },
        };
        self.publish(tree, group, key_of(node, key), facts)
    }

    /// Gives the next revision of a storm.
    pub fn storm(
        &self,
        (tree, now): (&Tree, Micros),
        start: Micros,
        hour: &Hour,
        head: &Head,
        state: State,
    ) -> NewRevision {
        let tree = tree.as_of(now);
        let prefixes = hour.prefixes();
        let evidence = hour.evidence();
        let (count, last_seen) =
            (hour.episodes(), evidence.last().map_or(head.crossing.time, |last| last.time));
        let facts = Facts {
            crossing: &head.crossing,
            revision: head.revision,
            state,
            continuation: false,
            first_seen: head.crossing.time,
            last_seen,
            covers_until: last_seen,
            count,
            value: count,
            flags: hour.flags().with(Flags::STORM),
            evidence,
            children: None,
            detail: Detail::Storm { hour: start, prefixes: &prefixes },
        };
        self.publish(tree, 0, Key::new(), facts)
    }

    /// Announces an episode of a tree's root.
    pub fn notice(&self, tree: &Tree, key: &[u8], episode: &Episode) -> Notice {
        let tree = tree.as_of(episode.crossing.time);
        let node = tree.last();
        let (rule, crossing) = (self.plan.rules.get(tree.root), &episode.crossing);
        let key = key_of(node, key);
        let identity = self.identity(rule, &key, crossing.order());
        let value = episode.tally.measured(node);
        Notice {
            notice_id: blake3::keyed_hash(b"vedette: a notice, not an alert.", identity.as_bytes())
                .to_hex()
                .as_str()
                .into(),
            rule_ix: tree.root,
            rule: Arc::clone(&node.rule_ref),
            entity: body::entity(rule, &key),
            crossed_at: crossing.time,
            count: episode.tally.count,
            value: Number::Int(value),
            severity: rule.level,
            summary: body::summary(rule, &key, episode.tally.count, value, &Detail::Plain),
            evidence: self.evidence(std::iter::once(*crossing)),
            key,
        }
    }
}
