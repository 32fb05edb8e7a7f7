//! What can be known of the alerts of each rule before there is one.
//!
//! In: a rule set and the sources. Out: [`Facts`]: for each rule that raises alerts the fields of its key, whom it can be about,
//! its level, its tags, whether it gives notices, and whether the address it tells can be a forged one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use vedette_event::{Severity, Sources};
use vedette_sigma::{Rule, RuleKind, RuleSet};

/// The tag by which a rule's author says that it rests on established flows alone.
pub const ESTABLISHED: &str = "vedette.established";

/// Log sources whose events tell of a conversation that took place, so that the address in them answered. Everything else counts as
/// what a sender may forge (a denied SYN, UDP, a packet's log), because a block of a forged address hits a stranger.
const CONVERSATIONS: [&str; 5] = ["api", "application", "authentication", "proxy", "webserver"];

/// What is known of one rule's alerts.
#[derive(Debug)]
pub(crate) struct RuleFacts<'a> {
    pub rule: &'a Rule,
    /// What its key can be made of. An alert of many episodes (a storm) has none of it.
    pub fields: BTreeSet<Arc<str>>,
    /// What it can be about.
    pub entities: BTreeSet<Arc<str>>,
    pub notices: bool,
}

impl RuleFacts<'_> {
    pub(crate) fn level(&self) -> Severity {
        self.rule.level
    }
}

/// What is known of all rules' alerts.
#[derive(Debug, Default)]
pub(crate) struct Facts<'a> {
    pub rules: Vec<RuleFacts<'a>>,
    /// Places in `rules` by id.
    pub ids: BTreeMap<Arc<str>, usize>,
    /// Places in `rules` by name.
    pub names: BTreeMap<Arc<str>, Vec<usize>>,
    /// Rules that raise no alerts themselves, by id and by name, with the name of one that refers to them.
    pub quiet: BTreeMap<Arc<str>, Option<Arc<str>>>,
    /// Ids of rules that rest on established flows alone.
    pub established: BTreeSet<Arc<str>>,
}

impl<'a> Facts<'a> {
    /// Looks at all rules.
    pub(crate) fn of(set: &'a RuleSet, sources: &Sources) -> Self {
        let mut out = Self::default();
        let established = established(set);
        for (ix, rule) in set.iter() {
            if established.get(ix.0 as usize) == Some(&true) {
                out.established.insert(rule.id.clone());
            }
            if !rule.emits {
                let caller = set.iter().skip(ix.0 as usize).find(|(_, other)| match &other.kind {
                    RuleKind::Correlation(correlation) => other.emits && correlation.rules.contains(&ix),
                    RuleKind::Detection(_) => false,
                });
                let caller = caller.map(|(_, other)| called(other).clone());
                let names = [Some(rule.id.clone()), rule.name.clone()];
                out.quiet.extend(names.into_iter().flatten().map(|name| (name, caller.clone())));
                continue;
            }
            let at = out.rules.len();
            out.ids.insert(rule.id.clone(), at);
            if let Some(name) = &rule.name {
                out.names.entry(name.clone()).or_default().push(at);
            }
            out.rules.push(facts(rule, sources));
        }
        out
    }

    /// The names by which rules that raise alerts are called.
    pub(crate) fn called(&self) -> Vec<&str> {
        self.rules.iter().map(|facts| &**called(facts.rule)).collect()
    }
}

/// By what people call a rule.
pub(crate) fn called(rule: &Rule) -> &Arc<str> {
    rule.name.as_ref().unwrap_or(&rule.id)
}

fn facts<'a>(rule: &'a Rule, sources: &Sources) -> RuleFacts<'a> {
    match &rule.kind {
        RuleKind::Correlation(correlation) => {
            let fields: BTreeSet<_> = correlation.group_by.iter().map(|part| part.name.clone()).collect();
            let first = correlation.group_by.first().map(|part| part.name.clone());
            let entities = rule.extras.entity.clone().or(first).into_iter().collect();
            RuleFacts { rule, fields, entities, notices: !correlation.judged() }
        }
        RuleKind::Detection(detection) => {
            let fields: BTreeSet<Arc<str>> = match &rule.extras.entity {
                Some(field) => [field.clone()].into(),
                None => sources
                    .iter()
                    .filter(|(_, def)| def.concerns(&detection.logsource))
                    .flat_map(|(_, def)| def.entity.iter().map(|field| Arc::from(&**field)))
                    .collect(),
            };
            RuleFacts { rule, entities: fields.clone(), fields, notices: true }
        }
    }
}

/// Which rules rest on established flows alone: by their log source or their author's word, and correlations where all below them do.
fn established(set: &RuleSet) -> Vec<bool> {
    let mut known: Vec<bool> = Vec::with_capacity(set.rules.len());
    for rule in &set.rules {
        let said = rule.tags.iter().any(|tag| &**tag == ESTABLISHED);
        let by_kind = match &rule.kind {
            RuleKind::Detection(detection) => {
                let category = detection.logsource.category.as_deref();
                category.is_some_and(|category| CONVERSATIONS.contains(&category))
            }
            // They stand after those they refer to.
            RuleKind::Correlation(correlation) => {
                correlation.rules.iter().all(|ix| known.get(ix.0 as usize) == Some(&true))
            }
        };
        known.push(said || by_kind);
    }
    known
}
