//! From an alert to a countermeasure: what is proposed, whether it may be done, and what must be in force.
//!
//! In: playbooks as text, alerts and notices, the state of the world and the time as values. Out: proposals ([`propose`]), what the
//! guards say to each ([`gate`]), the state that is wanted and the commands that lead to it ([`desired`]). Invariants: nothing here
//! does I/O or reads a clock, randomness or the environment; no countermeasure is without a time limit; nothing that comes
//! out covers an address of the never-block set.

mod cacao;
mod condition;
mod deed;
pub mod desired;
mod facts;
pub mod gate;
mod link;
pub mod playbook;
mod prefix;
mod propose;
mod read;
mod subject;
mod target;
mod trial;

pub use cacao::cacao;
pub use condition::Condition;
pub use deed::{Action, Connector, ConnectorKind, Deed, Lane, Limit};
pub use facts::ESTABLISHED;
pub use playbook::{Playbook, PlaybookSet};
pub use prefix::{TooMany, subtract};
pub use propose::{Cause, Proposal, Run, Skipped, by_hand, propose};
pub use subject::Subject;
pub use target::{NoTarget, Prefix, Sort, Target, network};
pub use trial::{Trial, try_out};
use vedette_event::Sources;
use vedette_sigma::{RuleFile, RuleSet, fault, yaml};

/// Reads all playbooks and checks them against the rules. Never fails as a whole: what cannot be honoured is in [`PlaybookSet::rejected`].
#[must_use]
pub fn load(files: &[RuleFile], rules: &RuleSet, sources: &Sources, policy: &gate::Policy) -> PlaybookSet {
    let facts = facts::Facts::of(rules, sources);
    let mut linker = link::Linker::new(&facts);
    for RuleFile { path, text } in files {
        let documents = match yaml::documents(text) {
            Ok(documents) if documents.is_empty() => {
                // For the same reason as a file without a rule: a truncated one looks like that.
                let start = fault::Place { line: 1, column: 1 };
                let none = fault::Fault::new(start, "no-playbook", "the file holds no playbook");
                linker.reject(
                    none.help("write one, or delete the file: that removes the playbook it held"),
                    path,
                    None,
                );
                continue;
            }
            Ok(documents) => documents,
            Err(fault) => {
                linker.reject(fault, path, None);
                continue;
            }
        };
        for document in &documents {
            match read::read(document, path, policy) {
                Ok(draft) => linker.add(draft),
                Err(fault) => linker.reject(fault, path, read::label(document)),
            }
        }
    }
    linker.finish()
}

#[cfg(test)]
mod tests;
