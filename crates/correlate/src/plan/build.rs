//! One rule tree from a rule and all it refers to.
//!
//! In: a rule set, its sources, the number of the root. Out: [`Tree`].
//! Invariant: a rule to which several refer is one node.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use vedette_event::{Micros, RuleIx, Sources, Span};
use vedette_sigma::ir::{Correlation, CorrelationKind, RuleKind, RuleSet};

use super::{KeptField, Node, NodeInput, NodeKind, Ref, Route, Tree};
use crate::{body, over::budget::entry};

/// Builds one tree.
pub(super) struct Builder<'a> {
    rules: &'a RuleSet,
    sources: &'a Sources,
    nodes: Vec<Node>,
    detections: Vec<RuleIx>,
    slots: Vec<KeptField>,
    /// Where each of them is.
    node_of: BTreeMap<RuleIx, usize>,
    detection_of: BTreeMap<RuleIx, u16>,
    slot_of: BTreeMap<KeptField, usize>,
}

impl<'a> Builder<'a> {
    pub(super) const fn new(rules: &'a RuleSet, sources: &'a Sources) -> Self {
        Self {
            rules,
            sources,
            nodes: Vec::new(),
            detections: Vec::new(),
            slots: Vec::new(),
            node_of: BTreeMap::new(),
            detection_of: BTreeMap::new(),
            slot_of: BTreeMap::new(),
        }
    }

    pub(super) fn build(mut self, root: RuleIx) -> Tree {
        let rule = self.rules.get(root);
        match &rule.kind {
            RuleKind::Detection(_) => self.single(root),
            RuleKind::Correlation(correlation) => {
                self.correlation(root, correlation);
            }
        }
        let route = self.route();
        Tree {
            root,
            set: 0,
            weighted: self.nodes.iter().any(|node| node.kind == NodeKind::Count),
            nodes: self.nodes,
            detections: self.detections,
            slots: self.slots,
            route,
            inner: Vec::new(),
            fingerprint: [0; 16],
            since: Micros::MIN,
            until: Micros::MAX,
            before: Vec::new(),
        }
    }

    fn single(&mut self, root: RuleIx) {
        let rule = self.rules.get(root);
        let names = match &rule.extras.entity {
            Some(field) => {
                self.slots.push(KeptField { field: Arc::clone(field), key: true });
                vec![Arc::clone(field)]
            }
            None => {
                let names = self.sources.defs.iter().flat_map(|def| &def.entity);
                let names: BTreeSet<Arc<str>> = names.map(|name| Arc::from(&**name)).collect();
                names.into_iter().collect()
            }
        };
        self.detections.push(root);
        self.nodes.push(Node {
            rule: root,
            rule_ref: Arc::new(body::rule_ref(rule)),
            refs: vec![Ref { from: NodeInput::Detection(0), recipe: 0 }],
            names,
            recipes: vec![vec![0]],
            kind: NodeKind::Single,
            judged: false,
            chain: false,
            condition: Vec::new(),
            n: 1,
            span: Span::ZERO,
            rearm: body::rearm(rule),
            update: Span(body::update(rule).0.max(1)),
            entry: entry(&NodeKind::Single, false, 1, false),
            number: 0,
        });
    }

    /// Adds the node of a correlation after those of its children; its number.
    fn correlation(&mut self, ix: RuleIx, correlation: &Correlation) -> usize {
        if let Some(known) = self.node_of.get(&ix) {
            return *known;
        }
        let mut recipes: Vec<Vec<usize>> = Vec::new();
        let mut recipe_of: BTreeMap<Vec<usize>, usize> = BTreeMap::new();
        let mut refs = Vec::new();
        for &child in &correlation.rules {
            let from = match &self.rules.get(child).kind {
                RuleKind::Detection(_) => NodeInput::Detection(self.detection(child)),
                RuleKind::Correlation(inner) => NodeInput::Node(self.correlation(child, inner)),
            };
            let parts = correlation.group_by.iter().map(|part| part.field_of(child));
            let recipe: Vec<_> = parts.map(|field| self.slot(field, true)).collect();
            let recipe = *recipe_of.entry(recipe).or_insert_with_key(|recipe| {
                recipes.push(recipe.clone());
                recipes.len() - 1
            });
            refs.push(Ref { from, recipe });
        }
        let kind = match &correlation.kind {
            CorrelationKind::EventCount => NodeKind::Count,
            CorrelationKind::ValueCount(fields) => {
                NodeKind::Distinct(fields.iter().map(|field| self.slot(field, false)).collect())
            }
            CorrelationKind::Temporal => NodeKind::Temporal,
            CorrelationKind::TemporalOrdered => NodeKind::Ordered,
        };
        let chain = refs.iter().any(|reference| matches!(reference.from, NodeInput::Node(_)));
        let judged = correlation.judged();
        let greatest = correlation.condition.iter().map(|(_, n)| *n).max().unwrap_or(0);
        let rule = self.rules.get(ix);
        let entry = entry(&kind, judged, refs.len(), chain);
        self.nodes.push(Node {
            rule: ix,
            rule_ref: Arc::new(body::rule_ref(rule)),
            refs,
            names: correlation.group_by.iter().map(|part| Arc::clone(&part.name)).collect(),
            recipes,
            kind,
            judged,
            chain,
            condition: correlation.condition.clone(),
            n: if judged { greatest } else { correlation.threshold() },
            span: Span(correlation.timespan.0.max(1)),
            rearm: body::rearm(rule),
            update: Span(body::update(rule).0.max(1)),
            entry,
            number: 0,
        });
        self.node_of.insert(ix, self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    fn detection(&mut self, ix: RuleIx) -> u16 {
        *self.detection_of.entry(ix).or_insert_with(|| {
            self.detections.push(ix);
            self.detections.len() as u16 - 1
        })
    }

    fn slot(&mut self, field: &Arc<str>, key: bool) -> usize {
        let slot = KeptField { field: Arc::clone(field), key };
        *self.slot_of.entry(slot).or_insert_with_key(|slot| {
            self.slots.push(slot.clone());
            self.slots.len() - 1
        })
    }

    /// With several rules, the key group comes from the plain fields that all keys share.
    fn route(&self) -> Route {
        if self.nodes.len() < 2 {
            return Route::Key;
        }
        let mut shared: Option<BTreeSet<usize>> = None;
        for node in &self.nodes {
            let slots = node.plain();
            shared = Some(shared.map_or(slots.clone(), |so_far| &so_far & &slots));
        }
        Route::Shared(shared.unwrap_or_default().into_iter().collect())
    }
}

impl Node {
    /// The slots of key parts that every referenced rule reads from the same field.
    fn plain(&self) -> BTreeSet<usize> {
        let first = self.recipes.first().into_iter().flatten().enumerate();
        let plain =
            first.filter(|(at, slot)| self.recipes.iter().all(|recipe| recipe.get(*at) == Some(*slot)));
        plain.map(|(_, slot)| *slot).collect()
    }

    /// Which part of its key a slot is.
    pub(super) fn part_of(&self, slot: usize) -> Option<usize> {
        self.recipes.first()?.iter().position(|known| *known == slot)
    }
}
