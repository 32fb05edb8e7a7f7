//! Which versions of the rules evaluate what is read, decided where batches are handed to detectors.
//!
//! In: batches in the order of reading, new versions between them. Out: for each batch, what to evaluate it by ([`Task`]).
//! Invariants: a version is in force from a log time above every `ts_log` handed out before, so that nothing handed out would have
//! needed it; the versions change between two batches, and the kernel is told in that place ([`crate::InOrder`]).

use std::{collections::BTreeMap, sync::Arc};

use vedette_event::{Micros, Partition, RawBatch, Span};

use crate::{Compiled, Engine, Version};

/// The versions for what is handed out next.
#[derive(Debug)]
pub struct InForce {
    compiled: Arc<Compiled>,
    /// By partition: the highest `ts_log` so far.
    highest: BTreeMap<Partition, Micros>,
    /// The highest that was ever read, also what a restart has yet to read again.
    newest: Option<Micros>,
}

/// How to evaluate a batch.
#[derive(Debug, Clone)]
pub struct Task {
    /// The versions.
    pub compiled: Arc<Compiled>,
    /// The highest `ts_log` of the partition before the batch.
    pub before: Option<Micros>,
}

impl InForce {
    /// Nothing was read yet.
    #[must_use]
    pub const fn new(compiled: Arc<Compiled>) -> Self {
        Self { compiled, highest: BTreeMap::new(), newest: None }
    }

    /// Begins where a kernel is, to which nothing is on its way.
    #[must_use]
    pub fn of(engine: &Engine) -> Self {
        Self { compiled: engine.compiled.clone(), highest: engine.highest(), newest: engine.newest_log() }
    }

    /// The versions as they are.
    #[must_use]
    pub const fn compiled(&self) -> &Arc<Compiled> {
        &self.compiled
    }

    /// What to evaluate a batch by, which follows those before.
    #[must_use]
    pub fn task(&mut self, raw: &RawBatch) -> Task {
        let newest = raw.records.iter().filter_map(|record| record.ts_log).max();
        let before = self.highest.get(&raw.partition).copied();
        self.newest = self.newest.max(newest);
        if let Some(highest) = before.max(newest) {
            self.highest.insert(raw.partition, highest);
        }
        Task { compiled: self.compiled.clone(), before }
    }

    /// One more version for what follows, in force from `least` on, or from above all that was handed out.
    pub fn add(&mut self, version: Version, least: Micros) -> &Arc<Compiled> {
        let handed_out = self.newest.map_or(Micros::MIN, |newest| newest.plus(Span(1)));
        let before = self.compiled.newest().from;
        let after = if before == Micros::MIN { before } else { before.plus(Span(1)) };
        self.compiled = self.compiled.with(version, least.max(handed_out).max(after));
        &self.compiled
    }

    /// Without so many of the oldest versions, for what follows.
    pub fn drop_oldest(&mut self, versions: usize) -> &Arc<Compiled> {
        self.compiled = self.compiled.without(versions);
        &self.compiled
    }
}
