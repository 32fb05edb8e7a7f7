//! Checking a rule's text without taking it up.
//!
//! In: a text. Out: what of it would be a rule, what is refused and why. Invariants: nothing is loaded, stored or changed by it; what
//! is known besides (sources, placeholder lists) is what the service would read at this moment.

use std::{fmt, sync::Arc};

use serde::Serialize;
use vedette_sigma::{Rejection, RuleSet};

use crate::live::Rejected;

/// Bytes of a text that is checked: longer than any rule that people write.
pub const MAX_TEXT: usize = 64 * 1024;

/// Checks texts, with what the binary knows. It reads files, so it is asked aside from the runtime's threads.
#[derive(Clone)]
pub struct RuleCheck(Arc<dyn Fn(String) -> Result<RuleSet, String> + Send + Sync>);

impl RuleCheck {
    /// Checks by this; an error is what keeps it from checking anything.
    pub fn new(check: impl Fn(String) -> Result<RuleSet, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(check))
    }

    /// What would become of the text. Waits for files.
    pub(crate) fn of(&self, text: String) -> Result<Checked, String> {
        (self.0)(text).map(Checked::of)
    }
}

impl fmt::Debug for RuleCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RuleCheck")
    }
}

/// What would become of a rule's text.
#[derive(Debug, Serialize)]
pub(crate) struct Checked {
    /// The rules that would be in force.
    accepted: Vec<Accepted>,
    /// Documents that would be refused.
    refused: Vec<Rejected>,
    /// Worth a second look.
    warnings: Vec<Rejected>,
}

/// A rule that would be in force.
#[derive(Debug, Serialize)]
struct Accepted {
    id: String,
    title: String,
}

impl Checked {
    fn of(rules: RuleSet) -> Self {
        let accepted = rules
            .rules
            .iter()
            .map(|rule| Accepted { id: rule.id.to_string(), title: rule.title.to_string() });
        let told = |all: Vec<Rejection>| all.into_iter().map(Rejected::from).collect();
        Self { accepted: accepted.collect(), refused: told(rules.rejected), warnings: told(rules.warnings) }
    }
}

impl From<Rejection> for Rejected {
    fn from(Rejection { file, line, column, rule_id, code, message, help }: Rejection) -> Self {
        Self {
            file: file.to_string(),
            line: line as u64,
            column: column as u64,
            rule_id: rule_id.map(|id| id.to_string()),
            code: code.to_owned(),
            message,
            help,
            kept: false,
        }
    }
}
