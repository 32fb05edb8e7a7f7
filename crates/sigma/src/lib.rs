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
pub mod fault;
mod inline_test;
pub mod ir;
mod link;
mod lint;
mod meaning;
mod modifiers;
mod operand;
mod pattern;
mod render;
pub mod yaml;

use std::sync::Arc;

pub use ir::*;
pub use render::{Style, lines, render, render_at};
use vedette_event::Sources;

/// A file's name and text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleFile {
    /// The path, as it should appear in messages.
    pub path: Arc<str>,
    /// Its content.
    pub text: String,
}

/// Placeholder lists by name (`detections/lists/<name>.yml`), for `expand`.
pub type Lists = std::collections::BTreeMap<String, Vec<String>>;

/// What one file says, as far as it can be told without the others.
#[derive(Debug)]
pub struct ReadFile {
    path: Arc<str>,
    documents: Result<Vec<ReadDocument>, fault::Fault>,
}

type ReadDocument = (document::Label, Result<document::Draft, fault::Fault>);

/// The code of a file without any rule. It is refused because that is how a file looks between an editor's or a copy's truncating and
/// its writing: taken as meant, it would take rules away that nobody removed.
pub const NO_RULE: &str = "no-rule";

/// Reads, checks and lowers the documents of one file. Nothing of it depends on other files, so that files can be read on several threads.
#[must_use]
pub fn read(file: &RuleFile, lists: &Lists, sources: &Sources) -> ReadFile {
    let read = |documents: Vec<yaml::Document>| {
        let mut global = None;
        let mut budget = budget::FileBudget::default();
        let mut read = Vec::with_capacity(documents.len());
        let texts = texts(&file.text, &documents);
        for (document, text) in documents.iter().zip(texts) {
            let label = document::label(document, &file.path, text);
            let draft = document::below(global, document)
                .and_then(|()| document::read(document, label.clone(), (lists, sources), &mut budget));
            read.push((label, draft));
            global = global.or_else(|| document::action(document));
        }
        read
    };
    let some = |documents: Vec<yaml::Document>| {
        let start = fault::Place { line: 1, column: 1 };
        let none = || {
            fault::Fault::new(start, NO_RULE, "the file holds no rule")
                .help("write one, or delete the file: that removes the rules it held")
        };
        if documents.is_empty() { Err(none()) } else { Ok(documents) }
    };
    ReadFile { path: file.path.clone(), documents: yaml::documents(&file.text).and_then(some).map(read) }
}

/// What stands in the file for each document: from the line where it begins to where the next one does, without the marks between.
fn texts<'a>(text: &'a str, documents: &[yaml::Document]) -> Vec<&'a str> {
    let starts: Vec<usize> =
        std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
    let line = |line: usize| starts.get(line.saturating_sub(1)).copied().unwrap_or(text.len());
    let begins: Vec<usize> = documents.iter().map(|document| line(document.root.at.line)).collect();
    let ends = begins.iter().skip(1).copied().chain([text.len()]);
    let cut = |(from, to): (usize, usize)| {
        let whole = text.get(from..to).unwrap_or_default().trim_end();
        let whole = whole.strip_suffix("---").unwrap_or(whole).trim_end();
        let end = (0..=ir::MAX_TEXT.min(whole.len())).rev().find(|end| whole.is_char_boundary(*end));
        whole.get(..end.unwrap_or(0)).unwrap_or_default()
    };
    begins.iter().copied().zip(ends).map(cut).collect()
}

/// Joins what was read of all files, in their order. Never fails as a whole: what cannot be honoured is in [`RuleSet::rejected`].
#[must_use]
pub fn link(files: impl IntoIterator<Item = ReadFile>, sources: &Sources) -> RuleSet {
    let mut linker = link::Linker::default();
    for ReadFile { path, documents } in files {
        match documents {
            Ok(documents) => documents.into_iter().for_each(|(label, draft)| linker.add(label, draft)),
            Err(fault) => linker.reject_file(fault, &path),
        }
    }
    linker.finish(sources)
}

/// Reads all files and joins them.
#[must_use]
pub fn load(files: &[RuleFile], lists: &Lists, sources: &Sources) -> RuleSet {
    link(files.iter().map(|file| read(file, lists, sources)), sources)
}

#[cfg(test)]
mod tests;
