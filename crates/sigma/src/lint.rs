//! Warnings: things worth a second look that do not stop a rule.

use std::collections::BTreeMap;

use vedette_event::{LogSource, SourceDef, source::Form};

use crate::{
    Cmp, Correlation, CorrelationKind, Expr,
    correlation::RawCorrelation,
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

/// Looks at a correlation whose rules are known.
pub(crate) fn correlation(correlation: &Correlation, raw: &RawCorrelation, out: &mut Vec<Fault>) {
    let most = match correlation.kind {
        CorrelationKind::Temporal => correlation.rules.len() as u64,
        _ => u64::MAX,
    };
    let (mut low, mut high) = (1, most);
    let mut excluded = Vec::new();
    for (cmp, n) in &correlation.condition {
        match cmp {
            Cmp::Gt => low = low.max(n.saturating_add(1)),
            Cmp::Gte => low = low.max(*n),
            Cmp::Lt => high = high.min(n.saturating_sub(1)),
            Cmp::Lte => high = high.min(*n),
            Cmp::Eq => (low, high) = (low.max(*n), high.min(*n)),
            Cmp::Neq => excluded.push(*n),
        }
    }
    if low > high || (low == high && excluded.contains(&low)) {
        out.push(Fault::new(raw.condition_at, "never-holds", "the condition can never hold").help(
            match most {
                u64::MAX => "a window that is judged has at least one event".to_owned(),
                _ => format!("it counts distinct rules, of which there are {most}"),
            },
        ));
    }
}

/// Warns of sources whose times are of different resolution, in a rule that depends on order.
pub(crate) fn resolutions<'a>(sources: impl Iterator<Item = &'a SourceDef>, at: Place, out: &mut Vec<Fault>) {
    let mut by_resolution: BTreeMap<&str, &SourceDef> = BTreeMap::new();
    for def in sources {
        let resolution = match def.form {
            Form::PanosCsv => "seconds",
            Form::AwsWaf | Form::ApiJson => "milliseconds",
            Form::Json => continue,
        };
        by_resolution.entry(resolution).or_insert(def);
    }
    let mut kinds = by_resolution.iter();
    if let (Some((fine, a)), Some((coarse, b))) = (kinds.next(), kinds.next()) {
        let message = format!(
            "the order of events is not sure: source `{}` has times in {fine}, source `{}` in {coarse}",
            a.name, b.name
        );
        out.push(Fault::new(at, "mixed-resolution", message).help("use `temporal`"));
    }
}
