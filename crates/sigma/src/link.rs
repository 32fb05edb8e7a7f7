//! Joins drafts into a rule set: unique ids, references, order, who emits, what each rule means.
//!
//! In: drafts and faults, in the order of files and documents. Out: [`RuleSet`].

use std::{collections::BTreeMap, sync::Arc};

use vedette_event::Sources;

use crate::{
    Rejection, Rule, RuleKind, RuleSet,
    document::{Body, Draft, Label},
    fault::{Fault, shown},
};

/// Collects drafts.
#[derive(Default)]
pub(crate) struct Linker {
    drafts: Vec<Draft>,
    ids: BTreeMap<Arc<str>, Label>,
    rejected: Vec<Rejection>,
    warnings: Vec<Rejection>,
}

impl Linker {
    /// Takes a document, read or refused.
    pub fn add(&mut self, label: Label, draft: Result<Draft, Fault>) {
        if let Some(first) = self.ids.get(&label.id) {
            let message = format!("the id {} is taken by {}:{}", shown(&label.id), first.file, first.at.line);
            let fault = Fault::new(label.id_at.unwrap_or(label.at), "duplicate-id", message)
                .help("give the rule an id of its own");
            self.rejected.push(fault.reject(&label.file, Some(label.id)));
            return;
        }
        self.ids.insert(label.id.clone(), label.clone());
        match draft {
            Ok(draft) => self.drafts.push(draft),
            Err(fault) => self.rejected.push(fault.reject(&label.file, Some(label.id))),
        }
    }

    /// Takes a file that is no YAML.
    pub fn reject_file(&mut self, fault: Fault, file: &Arc<str>) {
        self.rejected.push(fault.reject(file, None));
    }

    /// Resolves what the drafts refer to.
    pub fn finish(mut self, sources: &Sources) -> RuleSet {
        let _ = sources;
        let mut rules = Vec::new();
        for draft in self.drafts {
            for warning in draft.warnings {
                self.warnings.push(warning.reject(&draft.label.file, Some(draft.label.id.clone())));
            }
            let Body::Detection { detection, .. } = draft.body else { continue };
            rules.push(Rule {
                id: draft.label.id,
                name: draft.label.name,
                title: draft.title,
                description: draft.description,
                level: draft.level,
                tags: draft.tags,
                false_positives: draft.false_positives,
                file: draft.label.file,
                line: draft.label.at.line,
                emits: true,
                kind: RuleKind::Detection(detection),
                extras: draft.extras,
                meaning: [0; 32],
                tests: draft.tests,
            });
        }
        RuleSet { rules, rejected: self.rejected, warnings: self.warnings }
    }
}
