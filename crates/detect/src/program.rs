//! Rules compiled for one source.
//!
//! In: the rule set, the source and the names of the batch's columns. Out: [`Program`], immutable and shared by threads.

use std::{collections::BTreeSet, sync::Arc};

use vedette_event::{RuleIx, SourceDef, SourceIx, Sources};
use vedette_sigma::{Detection, RuleKind, RuleSet, Test};

/// The canonical columns that the rules which can apply to a source need; with `product`, `category` and `service` where
/// events name their own logsource.
#[must_use]
pub fn needed_fields(rules: &RuleSet, source: &SourceDef) -> BTreeSet<Arc<str>> {
    let mut needed = BTreeSet::new();
    let mut add = |written: &str| {
        for column in source.resolve(written) {
            if !needed.contains(column) {
                needed.insert(Arc::from(column));
            }
        }
    };
    for (_, detection) in applicable(rules, source) {
        for leaf in &detection.leaves {
            if let Some(field) = &leaf.field {
                add(field);
                other_fields(&leaf.test, &mut add);
            }
        }
    }
    if source.own_logsource() {
        needed.extend(["product", "category", "service"].map(Arc::from));
    }
    needed
}

/// Calls `add` with each field that a predicate refers to beside its own.
fn other_fields(test: &Test, add: &mut impl FnMut(&str)) {
    match test {
        Test::FieldRef { other, .. } => add(other),
        Test::Not(inner) => other_fields(inner, add),
        _ => {}
    }
}

/// The detection rules that can apply to events of a source.
pub(crate) fn applicable<'r>(
    rules: &'r RuleSet,
    source: &SourceDef,
) -> impl Iterator<Item = (RuleIx, &'r Detection)> {
    rules.iter().filter_map(move |(ix, rule)| match &rule.kind {
        RuleKind::Detection(detection)
            if source.own_logsource() || detection.logsource.compatible(&source.logsource) =>
        {
            Some((ix, detection))
        }
        _ => None,
    })
}

/// All detection rules that can apply to one source.
#[derive(Debug)]
pub struct Program {
    pub(crate) rules: RuleSet,
    pub(crate) source: SourceDef,
    pub(crate) fields: Vec<Arc<str>>,
}

impl Program {
    /// Compiles the rules for a source whose batches have these columns, in this order (a superset of [`needed_fields`]).
    #[must_use]
    pub fn compile(rules: &RuleSet, source: SourceIx, sources: &Sources, fields: &[Arc<str>]) -> Self {
        Self { rules: rules.clone(), source: sources.get(source).clone(), fields: fields.to_vec() }
    }
}
