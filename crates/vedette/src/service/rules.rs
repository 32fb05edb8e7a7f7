//! What is told of rules: what they say of themselves, which never changes, and figures.
//!
//! In: the rules in force, the kernel's figures. Out: [`Rules`]. Invariant: the kernel, which looks at all rules once a second, copies no
//! text; that is done by who asks, at most once a word.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use vedette_api::live::{Coverage, RuleStatus};
use vedette_engine::Compiled;
use vedette_event::RuleIx;
use vedette_sigma::{Expr, Leaf, RuleKind};

/// The rules of a word. The kernel gathers figures alone, and shares the texts, which are a few kilobytes a rule: put together they
/// are by who asks first, so nobody pays for them between requests.
#[derive(Default)]
pub struct Rules {
    known: Arc<Vec<(RuleIx, RuleStatus)>>,
    /// Of each of these.
    coverage: Vec<Coverage>,
    told: OnceLock<Arc<Vec<RuleStatus>>>,
}

impl Rules {
    /// What never changes of each, and what does.
    pub fn new(known: &Arc<Vec<(RuleIx, RuleStatus)>>, coverage: Vec<Coverage>) -> Self {
        Self { known: known.clone(), coverage, told: OnceLock::new() }
    }

    /// With everything that is known of them.
    pub fn told(&self) -> Arc<Vec<RuleStatus>> {
        let put_together = || {
            let all = self.known.iter().zip(&self.coverage);
            let all =
                all.map(|((_, rule), coverage)| RuleStatus { coverage: coverage.clone(), ..rule.clone() });
            Arc::new(all.collect())
        };
        self.told.get_or_init(put_together).clone()
    }
}

/// The rules in force as they are before any event.
pub fn by_id(compiled: &Compiled) -> Vec<(RuleIx, RuleStatus)> {
    let rules = compiled.newest().rules.iter();
    let mut all: Vec<_> = rules.map(|(ix, _)| (ix, unseen(compiled, ix))).collect();
    all.sort_by(|(_, a), (_, b)| a.id.cmp(&b.id));
    all
}

/// A rule as it is before any event.
fn unseen(compiled: &Compiled, ix: RuleIx) -> RuleStatus {
    let rule = compiled.rules.get(ix);
    let id_of = |ix: &RuleIx| compiled.rules.get(*ix).id.to_string();
    let (refers_to, group_by, timespan, condition) = match &rule.kind {
        RuleKind::Detection(_) => (Vec::new(), Vec::new(), None, None),
        RuleKind::Correlation(c) => (
            c.rules.iter().map(id_of).collect(),
            c.group_by.iter().map(|k| k.name.to_string()).collect(),
            Some(c.timespan),
            Some(in_words(c)),
        ),
    };
    RuleStatus {
        id: rule.id.to_string(),
        title: rule.title.to_string(),
        description: rule.description.as_ref().map(ToString::to_string),
        level: rule.level,
        kind: rule.kind.name().to_owned(),
        version: rule.meaning.iter().take(8).map(|b| format!("{b:02x}")).collect(),
        tags: rule.tags.iter().map(ToString::to_string).collect(),
        false_positives: rule.false_positives.iter().map(ToString::to_string).collect(),
        file: rule.file.to_string(),
        line: rule.line as u64,
        emits: rule.emits,
        refers_to,
        sources: compiled.sources_of(ix),
        group_by,
        timespan,
        condition,
        next_steps: rule.extras.next_steps.iter().map(ToString::to_string).collect(),
        text: rule.text.clone(),
        looks_for: looks_for(compiled, ix),
        coverage: Coverage::default(),
    }
}

/// What a rule about one event looks for, by the names that its sources give to fields; what it excludes is not looked for.
fn looks_for(compiled: &Compiled, ix: RuleIx) -> Arc<[Leaf]> {
    fn wanted(condition: &Expr, to: &mut BTreeSet<usize>) {
        match condition {
            Expr::And(parts) | Expr::Or(parts) => parts.iter().for_each(|part| wanted(part, to)),
            Expr::Leaf(at) => {
                to.insert(*at);
            }
            Expr::Not(_) => {}
        }
    }
    let RuleKind::Detection(detection) = &compiled.rules.get(ix).kind else { return Arc::default() };
    let mut places = BTreeSet::new();
    wanted(&detection.condition, &mut places);
    let names = compiled.sources_of(ix);
    let sources: Vec<_> = names.iter().filter_map(|name| compiled.sources.find(name)).collect();
    let mut found: Vec<Leaf> = Vec::new();
    for leaf in places.iter().filter_map(|at| detection.leaves.get(*at)) {
        let fields: BTreeSet<Option<Arc<str>>> = match &leaf.field {
            None => BTreeSet::from([None]),
            Some(written) => {
                let resolved = sources.iter().flat_map(|ix| compiled.sources.get(*ix).resolve(written));
                resolved.map(|name| Some(Arc::from(name))).collect()
            }
        };
        found.extend(fields.into_iter().map(|field| Leaf { field, test: leaf.test.clone() }));
    }
    found.into()
}

/// A condition for people, such as `at least 20 events`.
fn in_words(c: &vedette_sigma::Correlation) -> String {
    use vedette_sigma::{Cmp, CorrelationKind};
    let what = match &c.kind {
        CorrelationKind::EventCount => "events".to_owned(),
        CorrelationKind::ValueCount(fields) => format!("different values of {}", fields.join(", ")),
        CorrelationKind::Temporal => "of its rules".to_owned(),
        CorrelationKind::TemporalOrdered => return "all its rules, in the order written".to_owned(),
    };
    let parts = c.condition.iter().map(|(cmp, n)| match cmp {
        Cmp::Lt => format!("fewer than {n}"),
        Cmp::Lte => format!("at most {n}"),
        Cmp::Gt => format!("more than {n}"),
        Cmp::Gte => format!("at least {n}"),
        Cmp::Eq => format!("exactly {n}"),
        Cmp::Neq => format!("any number but {n}"),
    });
    format!("{} {what}", parts.collect::<Vec<_>>().join(" and "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn rules_are_put_together_once_a_word_and_only_for_who_asks() {
        let text = "
title: B
id: 00000000-0000-4000-8000-00000000000b
logsource: {category: api}
detection: {x: {k: x}, condition: x}
---
title: A
id: 00000000-0000-4000-8000-00000000000a
logsource: {category: api}
detection: {x: {k: x}, condition: x}
";
        let file = vedette_sigma::RuleFile { path: "rules.yml".into(), text: text.into() };
        let sources = Arc::new(crate::content::sources(None).unwrap());
        let rules = vedette_sigma::load(&[file], &vedette_sigma::Lists::new(), &sources);
        let compiled = Compiled::new(Arc::new(rules), sources, Arc::default(), [0; 32]);
        let known = Arc::new(by_id(&compiled));
        let of = |matched: u64| {
            let coverage = (0..2).map(|at| Coverage { matched: matched + at, ..Coverage::default() });
            Rules::new(&known, coverage.collect())
        };
        let (first, second) = (of(1), of(5));
        assert!(first.told.get().is_none() && Arc::strong_count(&known) == 3, "texts are shared");
        assert!(Arc::ptr_eq(&first.told(), &first.told()) && second.told.get().is_none());
        let figures = |rules: &Rules| -> Vec<_> {
            rules.told().iter().map(|rule| (rule.title.clone(), rule.coverage.matched)).collect()
        };
        assert_eq!(figures(&first), [("A".to_owned(), 1), ("B".to_owned(), 2)]);
        assert_eq!(figures(&second), [("A".to_owned(), 5), ("B".to_owned(), 6)]);
    }
}
