//! Warnings: things worth a second look that do not stop a rule.

use vedette_event::LogSource;

use crate::{
    Expr,
    detection::Lowered,
    fault::{Fault, Place, shown},
};

/// Looks at a detection by itself.
pub(crate) fn detection(lowered: &Lowered, logsource: &LogSource, source_at: Place, out: &mut Vec<Fault>) {
    if *logsource == LogSource::default() {
        let message = "the rule names neither product, category nor service, so it applies to every source";
        out.push(Fault::new(source_at, "every-source", message).help("name the log source it is about"));
    }
    if holds_on_nothing(&lowered.condition) {
        let message = "the condition only excludes: it fires on every event that none of its values match";
        out.push(
            Fault::new(lowered.condition_at, "only-excludes", message)
                .help("add what to look for: `selection and not …`"),
        );
    }
    for (name, at) in &lowered.unused {
        if !name.starts_with('_') {
            let message = format!("the condition does not use {}", shown(name));
            out.push(Fault::new(*at, "unused-identifier", message));
        }
    }
}

/// Whether the condition holds although no predicate does.
fn holds_on_nothing(condition: &Expr) -> bool {
    match condition {
        Expr::And(parts) => parts.iter().all(holds_on_nothing),
        Expr::Or(parts) => parts.iter().any(holds_on_nothing),
        Expr::Not(inner) => !holds_on_nothing(inner),
        Expr::Leaf(_) => false,
    }
}
