//! The findings of a batch, ready for their key groups.
//!
//! In: events and their hits. Out: [`Routed`]. Invariant: what comes out is a function of these, of the rules and of the deployment's
//! secret. It asks for no time, no order and no state, so whoever has detected can do it, on whatever thread: it is a third of what a batch
//! costs in correlation, of which there is one thread.

use std::sync::Arc;

use smallvec::SmallVec;
use vedette_event::{EventBatch, Hit};

use super::{
    columns::{Layout, trees_of},
    route,
};
use crate::{
    codec::KeyHasher,
    plan::{Inner, Plan, Tree, VersionUses},
};

/// Says which findings a batch gives; for one thread.
#[derive(Debug)]
pub struct Router {
    plan: Arc<Plan>,
    hasher: KeyHasher,
    /// By version of the rules, by source.
    layouts: Vec<Vec<Layout>>,
    /// Memory reused from event to event.
    uses: Vec<(u32, u16)>,
    payload: Vec<u8>,
    part: Vec<u8>,
    key: Vec<u8>,
}

/// The findings of a batch.
#[derive(Debug, Default)]
pub struct Routed {
    /// By row, then tree.
    pub(crate) findings: Vec<Finding>,
    pub(crate) payloads: Vec<u8>,
    /// Events that have no key in any rule of a tree.
    pub(crate) keyless: Vec<Keyless>,
}

/// One event on its way to one tree in one key group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finding {
    pub row: u32,
    pub tree: u32,
    /// Hash of its key, if it has one key.
    pub hash: Option<u64>,
    /// Where its payload is.
    pub start: usize,
    pub end: usize,
    pub weight: u16,
    pub group: u8,
}

/// An event without a key for a tree.
#[derive(Debug)]
pub(crate) struct Keyless {
    pub row: u32,
    pub tree: u32,
    /// Which of the tree's inner rules it matches.
    pub inner: SmallVec<[u16; 4]>,
}

impl Router {
    /// A router; the secret is that of the correlator.
    #[must_use]
    pub fn new(plan: Arc<Plan>, secret: &[u8; 32]) -> Self {
        Self {
            hasher: KeyHasher::new(secret),
            layouts: layouts(&plan),
            plan,
            uses: Vec::new(),
            payload: Vec::new(),
            part: Vec::new(),
            key: Vec::new(),
        }
    }

    /// The findings of a batch, whose hits are those of one version of the rules, sorted by row.
    pub fn route(&mut self, events: &EventBatch, version: usize, hits: &[Hit]) -> Routed {
        let mut routed = Routed::default();
        let plan = Arc::clone(&self.plan);
        let Some(in_force) = plan.versions.get(version) else { return routed };
        let mut uses = std::mem::take(&mut self.uses);
        if let Some(layout) = self.layout(version, events) {
            layout.refresh(events.projection(), plan.trees.len());
        }
        for hits in hits.chunk_by(|a, b| a.row == b.row) {
            let Some(row) = hits.first().map(|hit| hit.row) else { continue };
            trees_of(in_force, hits, &mut uses);
            if let Some(layout) = self.layout(version, events) {
                layout.next_event();
            }
            for matched in uses.chunk_by(|a, b| a.0 == b.0) {
                self.event(&plan, (events, version), row, matched, &mut routed);
            }
        }
        uses.clear();
        self.uses = uses;
        routed
    }

    fn layout(&mut self, version: usize, events: &EventBatch) -> Option<&mut Layout> {
        self.layouts.get_mut(version)?.get_mut(usize::from(events.source.0))
    }

    /// One event and one tree.
    #[inline]
    fn event(
        &mut self,
        plan: &Plan,
        (events, version): (&EventBatch, usize),
        row: u32,
        matched: &[(u32, u16)],
        out: &mut Routed,
    ) {
        let Self { hasher, layouts, payload, part, key, .. } = self;
        let layouts = layouts.get_mut(version).map(Vec::as_mut_slice).unwrap_or_default();
        let Some(&(at, _)) = matched.first() else { return };
        let Some(tree) = plan.trees.get(at as usize) else { return };
        let Some(layout) = layouts.get_mut(usize::from(events.source.0)) else { return };
        payload.clear();
        let weight = layout.payload((plan, hasher), at, (events, version), row as usize, matched, payload);
        let to = route::destinations(hasher, tree, payload, key);
        if to.is_empty() {
            out.keyless.push(Keyless::of(row, at, tree, matched));
        }
        for to in &to {
            let payload = match &to.matched {
                None => &*payload,
                Some(matched) => {
                    route::write_part(payload, tree, matched, part);
                    &*part
                }
            };
            let start = out.payloads.len();
            out.payloads.extend_from_slice(payload);
            let end = out.payloads.len();
            out.findings.push(Finding { row, tree: at, hash: to.hash, start, end, weight, group: to.group });
        }
    }
}

impl Routed {
    /// What a tree needs of a finding's event.
    #[inline]
    pub(crate) fn payload(&self, start: usize, end: usize) -> &[u8] {
        self.payloads.get(start..end).unwrap_or_default()
    }
}

impl Keyless {
    fn of(row: u32, at: u32, tree: &Tree, matched: &[(u32, u16)]) -> Self {
        let matches = |inner: &Inner| matched.iter().any(|(_, bit)| inner.detections.contains(bit));
        let inner = (0..).zip(&tree.inner).filter(|(_, inner)| matches(inner)).map(|(at, _)| at).collect();
        Self { row, tree: at, inner }
    }
}

/// Where the columns of each version's sources are, to be looked up.
fn layouts(plan: &Plan) -> Vec<Vec<Layout>> {
    let of = |version: &VersionUses| version.sources.defs.iter().map(|_| Layout::default()).collect();
    plan.versions.iter().map(of).collect()
}
