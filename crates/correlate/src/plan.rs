//! Under construction: the compiled plan.

use std::{collections::BTreeSet, sync::Arc};

use vedette_event::{SourceIx, Sources};
use vedette_sigma::ir::RuleSet;

/// What the correlator does with which rule's findings. Immutable and shared.
#[derive(Debug)]
pub struct Plan {
    /// The rules.
    pub rules: Arc<RuleSet>,
    /// The sources.
    pub sources: Arc<Sources>,
}

impl Plan {
    /// Compiles the correlations and the emitting detection rules of a rule set.
    #[must_use]
    pub fn compile(rules: Arc<RuleSet>, sources: Arc<Sources>) -> Self {
        Self { rules, sources }
    }

    /// The canonical columns of a source's events that keys, values, entities and weights need.
    #[must_use]
    pub fn needed_fields(&self, _source: SourceIx) -> BTreeSet<Arc<str>> {
        BTreeSet::new()
    }
}
