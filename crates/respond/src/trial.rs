//! The inline tests of a playbook.
//!
//! In: a playbook and the rules. Out: for each test whether the proposals came that it expects. Whether the guards would let them be
//! carried out is no part of it, since that depends on the world.

use std::sync::Arc;

use vedette_event::{Entity, Flags, Micros, RuleRef, Value};
use vedette_sigma::{Rule, RuleKind, RuleSet};

use crate::{
    deed::Deed,
    playbook::{Expected, On, Playbook, PlaybookSet, PlaybookTest},
    propose::{Proposal, by_hand, propose},
    subject::Subject,
};

/// How one test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// The test's name.
    pub name: Arc<str>,
    /// Line from 1.
    pub line: usize,
    /// What is wrong; none if it passed.
    pub failed: Option<String>,
}

/// Runs all tests of a playbook of a set.
#[must_use]
pub fn try_out(set: &PlaybookSet, playbook: &Playbook, rules: &RuleSet) -> Vec<Trial> {
    let each = |test: &PlaybookTest| Trial {
        name: test.name.clone(),
        line: test.line,
        failed: match rules.rules.iter().find(|rule| rule.id == test.rule) {
            Some(rule) => failure(set, playbook, rule, test),
            None => Some("the rule is not there any more".to_owned()),
        },
    };
    playbook.tests.iter().map(each).collect()
}

fn failure(set: &PlaybookSet, playbook: &Playbook, rule: &Rule, test: &PlaybookTest) -> Option<String> {
    let reference = reference(rule);
    let entity = entity(rule, test);
    let of = Subject {
        notice: test.notice,
        id: &test.name,
        rule: &reference,
        key: &test.key,
        entity: entity.as_ref(),
        severity: test.severity.unwrap_or(rule.level),
        count: test.count,
        flags: Flags::NONE,
    };
    // A playbook that only a person starts is started by one here.
    let proposals: Vec<Proposal> = match playbook.body.trigger.on {
        On::Hand => by_hand(set, playbook, &of, Micros(0)).map(|run| run.proposals).unwrap_or_default(),
        _ => propose(set, &of, Micros(0)).into_iter().filter(|p| p.playbook == playbook.name).collect(),
    };
    let came = || {
        let shown: Vec<String> = proposals.iter().map(told).collect();
        if shown.is_empty() { "nothing".to_owned() } else { shown.join(", ") }
    };
    if proposals.len() != test.expect.len() {
        return Some(format!(
            "expected {} proposals, came {}: {}",
            test.expect.len(),
            proposals.len(),
            came()
        ));
    }
    let wrong = |(expected, proposal): &(&Expected, &Proposal)| !agrees(expected, proposal);
    let (expected, _) = test.expect.iter().zip(&proposals).find(wrong)?;
    Some(format!("expected {}, came: {}", wanted(expected), came()))
}

fn agrees(expected: &Expected, proposal: &Proposal) -> bool {
    let target = proposal.target.as_ref().map(target_text);
    let span = match proposal.deed {
        Deed::Impose(_, limit) => Some(limit.first),
        _ => None,
    };
    expected.deed == proposal.deed.name()
        && expected.target.as_ref().is_none_or(|wanted| target.as_deref() == Some(&**wanted))
        && expected.span.is_none_or(|wanted| span == Some(wanted))
}

/// A target as a test writes it: what has a name, by its value alone.
fn target_text(target: &crate::Target) -> String {
    match target {
        crate::Target::Named { value, .. } | crate::Target::Country(value) => value.to_string(),
        other => other.to_string(),
    }
}

fn told(proposal: &Proposal) -> String {
    let to = proposal.target.as_ref().map(|target| format!(" {}", target_text(target))).unwrap_or_default();
    match proposal.deed {
        Deed::Impose(_, limit) => format!("{}{to} for {}", proposal.deed.name(), limit.first),
        _ => format!("{}{to}", proposal.deed.name()),
    }
}

fn wanted(expected: &Expected) -> String {
    let to = expected.target.as_ref().map(|target| format!(" {target}")).unwrap_or_default();
    let span = expected.span.map(|span| format!(" for {span}")).unwrap_or_default();
    format!("{}{to}{span}", expected.deed)
}

fn reference(rule: &Rule) -> RuleRef {
    RuleRef {
        id: rule.id.clone(),
        title: rule.title.clone(),
        level: rule.level,
        kind: rule.kind.name().into(),
        version: "test".into(),
        tags: rule.tags.clone(),
    }
}

/// Whom the alert of a test is about: the part of its key that the test or the rule names, or else the key's first part.
fn entity(rule: &Rule, test: &PlaybookTest) -> Option<Entity> {
    let first = match &rule.kind {
        RuleKind::Correlation(correlation) => correlation.group_by.first().map(|part| &part.name),
        RuleKind::Detection(_) => test.key.keys().next(),
    };
    let field = test.entity.as_ref().or(rule.extras.entity.as_ref()).or(first)?;
    let value: &Value = test.key.get(field)?;
    Some(Entity { kind: field.clone(), value: value.clone() })
}
