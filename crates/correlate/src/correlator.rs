//! Under construction: the correlator.

use std::{collections::BTreeMap, sync::Arc};

use vedette_event::{FindingBatch, Micros, Partition, Topics};

use crate::{Error, Output, Plan};

/// What a deployment decides.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Keys the hashes of keys and values.
    pub secret: [u8; 32],
    /// Whether conditions are announced before they are final.
    pub notices: bool,
    /// Keys held at most per rule and key group.
    pub budget: usize,
}

/// Keyed windows over findings, in event time.
#[derive(Debug)]
pub struct Correlator {
    plan: Arc<Plan>,
    topics: Arc<Topics>,
    settings: Settings,
}

impl Correlator {
    /// An empty one.
    #[must_use]
    pub fn new(plan: Arc<Plan>, topics: Arc<Topics>, settings: Settings) -> Self {
        Self { plan, topics, settings }
    }

    /// Takes the findings of a batch, to be held until released.
    pub fn push(&mut self, _findings: &FindingBatch<'_>, _out: &mut Output) {
        let _ = (&self.plan, &self.topics, &self.settings);
    }

    /// Lets through what lies below the watermarks (by source; `Micros::MIN` where there is none yet).
    pub fn release(&mut self, _watermarks: &[Micros], _out: &mut Output) {}

    /// The end of all input: lets through everything, every timer fires, every episode ends.
    pub fn finish(&mut self, _out: &mut Output) {}

    /// How many findings wait for their watermark.
    #[must_use]
    pub fn pending(&self) -> usize {
        0
    }

    /// The state of a key group.
    #[must_use]
    pub fn checkpoint(&self, _group: u8) -> Vec<u8> {
        Vec::new()
    }

    /// Takes up the state of a key group; findings below its released watermarks will be skipped.
    ///
    /// # Errors
    /// If the bytes are damaged or of another secret or layout.
    pub fn restore(&mut self, _group: u8, _bytes: &[u8]) -> Result<(), Error> {
        Ok(())
    }

    /// By partition, the lowest offset with an unreleased finding of a key group.
    #[must_use]
    pub fn unreleased(&self, _group: u8) -> BTreeMap<Partition, i64> {
        BTreeMap::new()
    }
}
