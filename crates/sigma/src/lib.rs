//! Sigma rules: YAML text in, checked rules out.
//!
//! In: files of rules, placeholder lists and source definitions. Out: [`RuleSet`]: rules that are honoured exactly,
//! and every other document with the reason, line and column. Invariants: no input makes it panic; size, depth,
//! counts and regular expressions are bounded; the same input gives the same rules in the same order.

mod budget;
mod condition;
mod correlation;
mod detection;
mod document;
mod extension;
mod fault;
mod inline_test;
pub mod ir;
mod link;
mod lint;
mod meaning;
mod modifiers;
mod operand;
mod pattern;
mod render;
mod yaml;

use std::sync::Arc;

pub use ir::*;
pub use render::{Style, lines, render, render_at};
use vedette_event::Sources;

/// A file's name and text.
#[derive(Debug, Clone)]
pub struct RuleFile {
    /// The path, as it should appear in messages.
    pub path: Arc<str>,
    /// Its content.
    pub text: String,
}

/// Placeholder lists by name (`detections/lists/<name>.yml`), for `expand`.
pub type Lists = std::collections::BTreeMap<String, Vec<String>>;

/// Reads, checks and lowers all documents of all files. Never fails as a whole: what cannot be honoured is in [`RuleSet::rejected`].
#[must_use]
pub fn load(files: &[RuleFile], lists: &Lists, sources: &Sources) -> RuleSet {
    let mut linker = link::Linker::default();
    for file in files {
        match yaml::documents(&file.text) {
            Ok(documents) => {
                let mut global = None;
                let mut budget = budget::Budget::default();
                for document in &documents {
                    let label = document::label(document, &file.path);
                    let draft = document::below(global, document)
                        .and_then(|()| document::read(document, label.clone(), lists, &mut budget));
                    linker.add(label, draft);
                    global = global.or_else(|| document::action(document));
                }
            }
            Err(fault) => linker.reject_file(fault, &file.path),
        }
    }
    linker.finish(sources)
}

#[cfg(test)]
mod tests;
