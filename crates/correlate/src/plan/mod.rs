//! What happens to which rule's findings: rules compiled to trees of nodes.
//!
//! In: a rule set and the sources. Out: [`Plan`].
//! Invariants: every emitting rule is the root of one tree of its own, which holds all that it refers to, so trees share
//! no state and each waits for its own sources only; in a tree a node comes after the nodes it refers to; a tree is routed as a
//! whole, so what may meet in it is in one key group.

mod build;
mod merge;

use std::{collections::BTreeSet, sync::Arc};

use smallvec::SmallVec;
use vedette_event::{FieldType, Micros, RuleIx, RuleRef, SourceIx, Sources, Span};
use vedette_sigma::ir::{Cmp, RuleKind, RuleSet};

use self::build::Builder;
pub use self::merge::VersionPlan;
use crate::codec::write_bytes;

/// What the correlator does with which rule's findings. Immutable and shared.
#[derive(Debug)]
pub struct Plan {
    /// The rules of all versions in it, the newest's first.
    pub(crate) rules: Arc<RuleSet>,
    /// The newest version's.
    pub(crate) sources: Arc<Sources>,
    /// A tree that was in the plan before has the place it had.
    pub(crate) trees: Vec<Tree>,
    /// Distinct sets of sources that trees read.
    pub(crate) sets: Vec<Vec<SourceIx>>,
    /// By set: its trees, so that a release of one set costs nothing for the trees of others.
    pub(crate) members: Vec<Vec<usize>>,
    /// The versions of rules and sources in it, the oldest first.
    pub(crate) versions: Vec<VersionUses>,
    /// By rule: its tree.
    tree_of: Vec<Option<u32>>,
}

/// What one version's hits are for.
#[derive(Debug)]
pub(crate) struct VersionUses {
    /// By the version's own detection rules: the trees that use it, and its number there.
    pub uses: Vec<SmallVec<[(u32, u16); 2]>>,
    pub sources: Arc<Sources>,
}

/// A rule that emits and all it refers to.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pub root: RuleIx,
    pub set: usize,
    /// The root is the last.
    pub nodes: Vec<Node>,
    pub detections: Vec<RuleIx>,
    pub route: Route,
    /// What is taken from an event, in this order.
    pub slots: Vec<KeptField>,
    pub weighted: bool,
    /// Rules below the root that raise no alerts of their own, each in one tree only: what they see is counted there.
    pub inner: Vec<Inner>,
    /// Same fingerprint, same meaning of the state.
    pub fingerprint: [u8; 16],
    /// Events before take no part: the rule, or what it means, is new then.
    pub since: Micros,
    /// Nor do those from then on, when all that is open ends: the rule is changed or gone. `Micros::MAX` while it is in force.
    pub until: Micros,
    /// As versions before had it, the newest first, for what is said of instants before the time given: titles and levels may change
    /// while the meaning stays.
    pub before: Vec<(Micros, Arc<Tree>)>,
}

/// What of an event decides to which key group it goes for a tree: events that may meet in one of its rules go to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// A tree of one rule: the key, and where the rules it refers to may give different ones, each of them.
    Key,
    /// A tree of several: the cells of these slots, which all its keys have. Without any there is one fixed group.
    Shared(Vec<usize>),
}

/// A rule for which a tree counts besides its root.
#[derive(Debug, Clone)]
pub(crate) struct Inner {
    pub rule: RuleIx,
    /// Its node and those it refers to, however far below.
    pub nodes: Vec<usize>,
    /// The numbers of the detections that these refer to.
    pub detections: Vec<u16>,
}

/// A field whose cell a tree keeps of each event.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeptField {
    /// As written.
    pub field: Arc<str>,
    /// Part of a key: scalars only, IPv6 cut to /64.
    pub key: bool,
}

/// One rule of a tree.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub rule: RuleIx,
    pub rule_ref: Arc<RuleRef>,
    pub refs: Vec<Ref>,
    /// Names of the key's parts, in the order written; of a single-event rule, all names a key may bear.
    pub names: Vec<Arc<str>>,
    /// Distinct ways to read the key from an event: slots, part by part.
    pub recipes: Vec<Vec<usize>>,
    pub kind: NodeKind,
    pub judged: bool,
    /// Some of the rules it refers to are correlations.
    pub chain: bool,
    pub condition: Vec<(Cmp, u64)>,
    /// The threshold; of a judged rule the greatest number in its condition.
    pub n: u64,
    pub span: Span,
    pub rearm: Span,
    pub update: Span,
    /// Bytes of a key with one event.
    pub entry: usize,
    /// Its number among the nodes of all trees.
    pub number: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NodeKind {
    Single,
    Count,
    /// Slots of the values.
    Distinct(Vec<usize>),
    Temporal,
    Ordered,
}

/// A referenced rule.
#[derive(Debug, Clone)]
pub(crate) struct Ref {
    pub from: NodeInput,
    pub recipe: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeInput {
    /// Number of a detection in the tree.
    Detection(u16),
    /// Number of a node in the tree.
    Node(usize),
}

impl Plan {
    /// Compiles the correlations and the emitting detection rules of a rule set.
    #[must_use]
    pub fn compile(rules: Arc<RuleSet>, sources: Arc<Sources>) -> Self {
        let mut plan = Self::empty(Arc::clone(&rules), Arc::clone(&sources));
        let mut uses = vec![SmallVec::new(); rules.rules.len()];
        let mut counted = BTreeSet::new();
        for (ix, rule) in rules.iter().filter(|(_, rule)| rule.emits) {
            let mut tree = Builder::new(&rules, &sources).build(ix);
            let set = reads(&rules, &sources, &tree.detections);
            tree.set = plan.sets.iter().position(|known| *known == set).unwrap_or_else(|| {
                plan.sets.push(set);
                plan.members.push(Vec::new());
                plan.sets.len() - 1
            });
            tree.fingerprint = fingerprint(rule, &tree);
            tree.inner = inner(&rules, &tree, &mut counted);
            let at = plan.trees.len() as u32;
            if let Some(members) = plan.members.get_mut(tree.set) {
                members.push(plan.trees.len());
            }
            for (bit, detection) in tree.detections.iter().enumerate() {
                if let Some(uses) = uses.get_mut(detection.0 as usize) {
                    uses.push((at, bit as u16));
                }
            }
            if let Some(of) = plan.tree_of.get_mut(ix.0 as usize) {
                *of = Some(at);
            }
            plan.trees.push(tree);
        }
        plan.versions = vec![VersionUses { uses, sources }];
        plan.number();
        plan
    }

    /// Of the same rules, as if none of them raised alerts.
    #[must_use]
    pub fn empty(rules: Arc<RuleSet>, sources: Arc<Sources>) -> Self {
        let uses = vec![SmallVec::new(); rules.rules.len()];
        Self {
            versions: vec![VersionUses { uses, sources: Arc::clone(&sources) }],
            tree_of: vec![None; rules.rules.len()],
            trees: Vec::new(),
            sets: Vec::new(),
            members: Vec::new(),
            rules,
            sources,
        }
    }

    /// Numbers the nodes of all trees; a tree as it was before has the same.
    fn number(&mut self) {
        let mut number = 0;
        for tree in &mut self.trees {
            for (_, before) in &mut tree.before {
                for (node, number) in Arc::make_mut(before).nodes.iter_mut().zip(number..) {
                    node.number = number;
                }
            }
            for node in &mut tree.nodes {
                node.number = number;
                number += 1;
            }
        }
    }

    /// The canonical columns of a source's events that keys, values, entities and weights need.
    #[must_use]
    pub fn needed_fields(&self, source: SourceIx) -> BTreeSet<Arc<str>> {
        let def = self.sources.get(source);
        let mut needed = BTreeSet::new();
        for tree in self.trees.iter().filter(|tree| self.sets[tree.set].contains(&source)) {
            if tree.entity_list(&self.rules) {
                needed.extend(def.entity.iter().map(|name| Arc::from(&**name)));
            }
            for slot in &tree.slots {
                needed.extend(def.resolve(&slot.field).into_iter().map(Arc::from));
            }
            if tree.weighted {
                needed.extend(def.weight.iter().map(|name| Arc::from(&**name)));
            }
        }
        needed
    }

    /// What tells the state of a rule that emits from any other, and the sources that it waits for.
    #[must_use]
    pub fn state_of(&self, rule: RuleIx) -> Option<([u8; 16], &[SourceIx])> {
        let tree = self.trees.get(self.tree_of(rule)? as usize)?;
        Some((tree.fingerprint, self.sets.get(tree.set)?))
    }

    /// The tree of a rule that emits.
    pub(crate) fn tree_of(&self, rule: RuleIx) -> Option<u32> {
        self.tree_of.get(rule.0 as usize).copied().flatten()
    }
}

/// Whether a column of a source is an address whose IPv6 form is cut to /64 in keys.
pub(crate) fn cuts(sources: &Sources, source: SourceIx, column: &str) -> bool {
    !sources.get(source).own_logsource() && sources.fields.kind(column) == Some(FieldType::Ip)
}

impl Tree {
    /// Whether it takes in events of an instant.
    #[inline]
    pub fn takes(&self, time: Micros) -> bool {
        time >= self.since && time < self.until
    }

    /// The tree as it was in force at an instant.
    pub fn as_of(&self, time: Micros) -> &Self {
        let before = self.before.iter().take_while(|(until, _)| time < *until).last();
        before.map_or(self, |(_, tree)| tree)
    }

    /// True for a single-event rule whose key comes from the source's entity list.
    pub fn entity_list(&self, rules: &RuleSet) -> bool {
        self.single() && rules.get(self.root).extras.entity.is_none()
    }

    /// The node of its root.
    pub fn last(&self) -> &Node {
        // A tree is built with its root's node.
        &self.nodes[self.nodes.len() - 1]
    }

    /// True if its root is judged when a window ends.
    pub fn judged(&self) -> bool {
        self.last().judged
    }

    /// Distinct values of one event that any of its rules can tell apart.
    pub fn values_of_event(&self) -> usize {
        self.nodes.iter().map(Node::values_of_event).max().unwrap_or(0)
    }

    /// True for a single-event rule.
    pub fn single(&self) -> bool {
        matches!(self.nodes.first(), Some(Node { kind: NodeKind::Single, .. }))
    }
}

/// The rules that a tree counts for besides its root: those that no tree of their own nor an earlier one counts for.
fn inner(rules: &RuleSet, tree: &Tree, counted: &mut BTreeSet<RuleIx>) -> Vec<Inner> {
    let mut inner = Vec::new();
    for (at, node) in tree.nodes.iter().enumerate() {
        if rules.get(node.rule).emits || !counted.insert(node.rule) {
            continue;
        }
        let (mut nodes, mut detections, mut ahead) = (BTreeSet::new(), BTreeSet::new(), vec![at]);
        while let Some(at) = ahead.pop() {
            // A node that several refer to is looked at once: there can be far more paths than nodes.
            if nodes.insert(at) {
                for reference in tree.nodes.get(at).map_or(&[][..], |node| &node.refs) {
                    match reference.from {
                        NodeInput::Node(child) => ahead.push(child),
                        NodeInput::Detection(bit) => drop(detections.insert(bit)),
                    }
                }
            }
        }
        inner.push(Inner {
            rule: node.rule,
            nodes: nodes.into_iter().collect(),
            detections: detections.into_iter().collect(),
        });
    }
    inner
}

/// The sources that some detection of a tree applies to.
fn reads(rules: &RuleSet, sources: &Sources, detections: &[RuleIx]) -> Vec<SourceIx> {
    let applies = |def: &vedette_event::SourceDef| {
        detections.iter().any(|ix| match &rules.get(*ix).kind {
            RuleKind::Detection(detection) => def.concerns(&detection.logsource),
            RuleKind::Correlation(_) => false,
        })
    };
    sources.iter().filter(|(_, def)| applies(def)).map(|(ix, _)| ix).collect()
}

/// What the state of a tree depends on.
fn fingerprint(rule: &vedette_sigma::ir::Rule, tree: &Tree) -> [u8; 16] {
    let mut bytes = Vec::new();
    write_bytes(&mut bytes, rule.id.as_bytes());
    bytes.extend_from_slice(&rule.meaning);
    // The structure, by position: rule numbers may differ between rule sets of the same meaning.
    for node in &tree.nodes {
        let refs: Vec<_> = node.refs.iter().map(|r| (r.from, r.recipe)).collect();
        // Which parts of this rule's key are shared: checkpoints of earlier versions know it like this.
        let route = match &tree.route {
            Route::Key => None,
            Route::Shared(slots) => {
                Some(slots.iter().filter_map(|slot| node.part_of(*slot)).collect::<Vec<_>>())
            }
        };
        let text = format!(
            "{:?}{refs:?}{:?}{:?}{route:?}{}{:?}{}{:?}",
            node.kind, node.names, node.recipes, node.judged, node.condition, node.n, node.span
        );
        write_bytes(&mut bytes, text.as_bytes());
    }
    write_bytes(&mut bytes, format!("{:?}", tree.slots).as_bytes());
    let hash = blake3::hash(&bytes);
    hash.as_bytes().first_chunk().copied().unwrap_or_default()
}
