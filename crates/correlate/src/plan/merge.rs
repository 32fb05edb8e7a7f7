//! One plan over several versions of rules: the one in force for what is read now, and those before it that something read may
//! still need.
//!
//! In: each version compiled by itself, the plan before. Out: the plan of all.
//! Invariants: a rule whose meaning is the same in two versions is one tree, with the numbers of the newest; a tree and a set of
//! sources that were in the plan before keep their places, so that nothing which waits, is kept or is due has to be touched; one
//! that is no longer in it leaves a place for another.

use std::{collections::BTreeMap, sync::Arc};

use vedette_event::{Micros, RuleIx, SourceIx};
use vedette_sigma::ir::{Rule, RuleKind, RuleSet};

use super::{Plan, Route, Tree, VersionUses};

/// One version of the rules.
#[derive(Debug, Clone)]
pub struct VersionPlan {
    /// From when on, in log time, it is in force.
    pub from: Micros,
    /// Compiled by itself ([`Plan::compile`]).
    pub plan: Arc<Plan>,
    /// By rule: since when it has meant what it means.
    pub since: Arc<[Micros]>,
}

impl Plan {
    /// One plan over versions, the oldest first. `before` is the plan whose places are kept.
    #[must_use]
    pub fn merge(parts: &[VersionPlan], before: Option<&Self>) -> Self {
        let (rules, offsets) = rules(parts);
        let newest = parts.last().map(|part| &part.plan);
        let mut plan = Self {
            sources: newest.map(|plan| plan.sources.clone()).unwrap_or_default(),
            trees: Vec::new(),
            sets: before.map(|before| before.sets.clone()).unwrap_or_default(),
            members: Vec::new(),
            versions: Vec::new(),
            tree_of: vec![None; rules.rules.len()],
            rules,
        };
        let mut until = Micros::MAX;
        let mut found: BTreeMap<[u8; 16], Tree> = BTreeMap::new();
        // By version, the newest first: the fingerprints of its trees.
        let mut fingerprints: Vec<Vec<[u8; 16]>> = Vec::new();
        for (part, offset) in parts.iter().zip(&offsets).rev() {
            let mut of_part = Vec::new();
            for tree in &part.plan.trees {
                let since = part.since.get(tree.root.0 as usize).copied().unwrap_or(Micros::MIN);
                let fingerprint = identity(tree.fingerprint, since);
                of_part.push(fingerprint);
                let tree = tree.renumbered(*offset);
                let set = plan.set(part.plan.sets.get(tree.set));
                let tree = Tree { fingerprint, since, until, set, ..tree };
                match found.get_mut(&fingerprint) {
                    Some(newer) => newer.before.push((until, Arc::new(tree))),
                    None => drop(found.insert(fingerprint, tree)),
                }
            }
            fingerprints.push(of_part);
            until = part.from;
        }
        let places = plan.place(found, before);
        for ((part, offset), of_part) in parts.iter().zip(&offsets).zip(fingerprints.iter().rev()) {
            plan.use_in(part, *offset, of_part, &places);
        }
        plan.members = vec![Vec::new(); plan.sets.len()];
        for (at, tree) in plan.trees.iter().enumerate().filter(|(_, tree)| !tree.is_vacant()) {
            if let Some(members) = plan.members.get_mut(tree.set) {
                members.push(at);
            }
        }
        plan.number();
        plan
    }

    /// The rules of all versions in it, the newest's first.
    #[must_use]
    pub const fn rules(&self) -> &Arc<RuleSet> {
        &self.rules
    }

    /// The number of a set of sources.
    fn set(&mut self, sources: Option<&Vec<SourceIx>>) -> usize {
        let sources = sources.map(Vec::as_slice).unwrap_or_default();
        self.sets.iter().position(|known| known == sources).unwrap_or_else(|| {
            self.sets.push(sources.to_vec());
            self.sets.len() - 1
        })
    }

    /// Puts the trees where they were, and new ones where there is a place.
    fn place(
        &mut self,
        mut found: BTreeMap<[u8; 16], Tree>,
        before: Option<&Self>,
    ) -> BTreeMap<[u8; 16], u32> {
        let (mut places, mut vacant) = (BTreeMap::new(), Vec::new());
        for (at, tree) in before.iter().flat_map(|before| &before.trees).enumerate() {
            let at = at as u32;
            match found.remove(&tree.fingerprint) {
                Some(tree) => {
                    places.insert(tree.fingerprint, at);
                    self.trees.push(tree);
                }
                None => {
                    vacant.push(at);
                    self.trees.push(Tree::vacant(tree.set));
                }
            }
        }
        // New ones in the order of their rules, so that a plan follows from its versions alone.
        let mut new: Vec<Tree> = found.into_values().collect();
        new.sort_by_key(|tree| tree.root);
        vacant.reverse();
        for tree in new {
            let at = vacant.pop().unwrap_or(self.trees.len() as u32);
            places.insert(tree.fingerprint, at);
            match self.trees.get_mut(at as usize) {
                Some(place) => *place = tree,
                None => self.trees.push(tree),
            }
        }
        places
    }

    /// Says what the hits of a version are for.
    fn use_in(
        &mut self,
        part: &VersionPlan,
        offset: u32,
        fingerprints: &[[u8; 16]],
        places: &BTreeMap<[u8; 16], u32>,
    ) {
        let place = |tree: u32| Some(*places.get(fingerprints.get(tree as usize)?)?);
        let own = part.plan.versions.first().map(|own| &own.uses[..]).unwrap_or_default();
        let uses = own.iter().map(|uses| {
            let mut here: smallvec::SmallVec<[(u32, u16); 2]> =
                uses.iter().filter_map(|(tree, bit)| Some((place(*tree)?, *bit))).collect();
            here.sort_unstable();
            here
        });
        let uses = uses.collect();
        for (rule, tree) in part.plan.tree_of.iter().enumerate() {
            if let Some(of) = self.tree_of.get_mut(offset as usize + rule) {
                *of = tree.and_then(place);
            }
        }
        self.versions.push(VersionUses { uses, sources: part.plan.sources.clone() });
    }
}

impl Tree {
    /// The same with its rules numbered from another number on.
    fn renumbered(&self, by: u32) -> Self {
        let mut tree = self.clone();
        let rules = std::iter::once(&mut tree.root)
            .chain(tree.nodes.iter_mut().map(|node| &mut node.rule))
            .chain(&mut tree.detections)
            .chain(tree.inner.iter_mut().map(|inner| &mut inner.rule));
        rules.for_each(|rule| rule.0 += by);
        tree
    }

    /// What stands where a tree was: it takes nothing in, and nothing is kept of it.
    fn vacant(set: usize) -> Self {
        Self {
            root: RuleIx(0),
            set,
            nodes: Vec::new(),
            detections: Vec::new(),
            route: Route::Key,
            slots: Vec::new(),
            weighted: false,
            inner: Vec::new(),
            fingerprint: [0; 16],
            since: Micros::MAX,
            until: Micros::MIN,
            before: Vec::new(),
        }
    }

    /// Whether it is only a place for another.
    pub fn is_vacant(&self) -> bool {
        self.nodes.is_empty()
    }
}

/// The rules of all versions, the newest's first, and from which number on each version's stand.
fn rules(parts: &[VersionPlan]) -> (Arc<RuleSet>, Vec<u32>) {
    if let [only] = parts {
        return (only.plan.rules.clone(), vec![0]);
    }
    let (mut all, mut offsets) = (RuleSet::default(), Vec::new());
    for part in parts.iter().rev() {
        let offset = all.rules.len() as u32;
        offsets.push(offset);
        all.rules.extend(part.plan.rules.rules.iter().map(|rule| renumbered(rule, offset)));
        if offset == 0 {
            all.rejected.clone_from(&part.plan.rules.rejected);
            all.warnings.clone_from(&part.plan.rules.warnings);
        }
    }
    offsets.reverse();
    (Arc::new(all), offsets)
}

/// A rule whose references are numbered from another number on.
fn renumbered(rule: &Rule, by: u32) -> Rule {
    let mut rule = rule.clone();
    if let RuleKind::Correlation(correlation) = &mut rule.kind {
        correlation.rules.iter_mut().for_each(|rule| rule.0 += by);
        let fields = correlation.group_by.iter_mut().flat_map(|part| &mut part.fields);
        fields.for_each(|(rule, _)| rule.0 += by);
    }
    rule
}

/// What tells the state of a rule from that of the same rule at another time: changed and changed back, it is new.
fn identity(fingerprint: [u8; 16], since: Micros) -> [u8; 16] {
    if since == Micros::MIN {
        return fingerprint;
    }
    let mut hash = blake3::Hasher::new();
    hash.update(&fingerprint);
    hash.update(&since.0.to_le_bytes());
    hash.finalize().as_bytes().first_chunk().copied().unwrap_or_default()
}
