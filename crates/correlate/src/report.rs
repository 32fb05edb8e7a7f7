//! What a key group has to say after a step, until all groups have come as far.
//!
//! In: from [`crate::step`]. Out: taken by [`crate::Correlator`], which puts the groups' reports together.
//! Invariant: nothing that a group does depends on what is in here, so that each can have a report of its own.

use vedette_event::Flags;

use crate::{
    Counters, Effort, HealthSignal, NewRevision, pending::Held, plan::Plan, step::walk::Scratch,
    storm::Crossing,
};

/// What is new.
#[derive(Debug)]
pub struct Report {
    /// Revisions, those of an alert in order.
    pub alerts: Vec<NewRevision>,
    pub health: Vec<HealthSignal>,
    /// Episodes of roots that opened, and judged windows that held.
    pub crossings: Vec<Crossing>,
    pub effort: Effort,
    /// Memory to work in.
    pub scratch: Scratch,
    pub ready: Vec<Held>,
    /// By tree.
    tally: Vec<TreeCounts>,
    /// Trees of which something was counted.
    counted: Vec<u32>,
}

/// What was counted of a tree.
#[derive(Debug, Clone, Default)]
pub struct TreeCounts {
    /// Of the root.
    pub root: Counters,
    /// The same of the plan's inner rules.
    pub inner: Vec<Counters>,
    /// Findings that wait no more, in entries.
    pub left: usize,
    listed: bool,
}

impl TreeCounts {
    /// Counts an event for the root.
    #[inline]
    pub fn event(&mut self, taken: bool, skipped: bool, flags: Flags) {
        count(&mut self.root, taken, skipped, flags);
    }
}

/// Counts an event that took part, or had no key, or was skipped, which counts for nothing.
#[inline]
pub fn count(counters: &mut Counters, taken: bool, skipped: bool, flags: Flags) {
    if taken {
        counters.matched += 1;
        counters.flagged += u64::from(!flags.is_empty());
    } else if !skipped {
        counters.without_key += 1;
    }
}

impl Report {
    pub fn new(plan: &Plan) -> Self {
        let tally = |tree: &crate::plan::Tree| TreeCounts {
            inner: vec![Counters::default(); tree.inner.len()],
            ..TreeCounts::default()
        };
        Self {
            alerts: Vec::new(),
            health: Vec::new(),
            crossings: Vec::new(),
            effort: Effort::default(),
            scratch: Scratch::default(),
            ready: Vec::new(),
            tally: plan.trees.iter().map(tally).collect(),
            counted: Vec::new(),
        }
    }

    /// Counts by another plan. What was counted has been taken out.
    pub fn adopt(&mut self, plan: &Plan) {
        let Self { effort, scratch, ready, .. } = std::mem::replace(self, Self::new(plan));
        (self.effort, self.scratch, self.ready) = (effort, scratch, ready);
    }

    /// Says a revision.
    pub fn say(&mut self, revision: NewRevision) {
        self.effort.bodies += 1;
        self.alerts.push(revision);
    }

    /// What is counted of a tree.
    #[inline]
    pub fn of(&mut self, tree: u32) -> &mut TreeCounts {
        // There is one for each tree of the plan, and no other trees.
        let tally = &mut self.tally[tree as usize];
        if !tally.listed {
            tally.listed = true;
            self.counted.push(tree);
        }
        tally
    }

    /// Takes over what another report holds.
    pub fn append(&mut self, other: &mut Self) {
        // Their memory does not stay: a step can end all that a flood began.
        self.alerts.append(&mut std::mem::take(&mut other.alerts));
        self.health.append(&mut other.health);
        self.crossings.append(&mut std::mem::take(&mut other.crossings));
        self.effort.add(std::mem::take(&mut other.effort));
        other.take(|tree, counts| {
            let of = self.of(tree);
            of.root.add(counts.root);
            of.inner.iter_mut().zip(&counts.inner).for_each(|(of, counts)| of.add(*counts));
            of.left += counts.left;
        });
    }

    /// Takes out what was counted.
    pub fn take(&mut self, mut each: impl FnMut(u32, &mut TreeCounts)) {
        for tree in self.counted.drain(..) {
            if let Some(tally) = self.tally.get_mut(tree as usize) {
                each(tree, tally);
                tally.root = Counters::default();
                tally.inner.fill(Counters::default());
                (tally.left, tally.listed) = (0, false);
            }
        }
    }
}
