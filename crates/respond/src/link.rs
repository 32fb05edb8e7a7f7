//! Checks playbooks against the rules whose alerts start them.
//!
//! In: drafts and faults in the order of files and documents, and what is known of all rules' alerts. Out: [`PlaybookSet`].
//! Invariants: what is accepted names rules by id; each of its steps can run, and has a target that some alert of its trigger has.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use vedette_event::Severity;
use vedette_sigma::fault::{Fault, Place, did_you_mean, nearest, shown};

use crate::{
    condition::Condition,
    deed::ConnectorKind,
    facts::{Facts, RuleFacts, called},
    playbook::{On, Playbook, PlaybookSet},
    read::{Draft, StepMarks, TestMarks},
};

/// Most playbooks. Each is tried at every alert.
const MAX_PLAYBOOKS: usize = 512;
/// For how many unknown names of rules the nearest one is looked for: with thousands of rules that takes milliseconds each.
const MAX_ADVICE: usize = 64;

/// Collects playbooks and checks each as it comes.
pub(crate) struct Linker<'a> {
    facts: &'a Facts<'a>,
    set: PlaybookSet,
    /// Names and ids, each with the place of the first.
    taken: BTreeMap<Arc<str>, (Arc<str>, usize)>,
    advised: Cell<usize>,
}

impl<'a> Linker<'a> {
    pub(crate) fn new(facts: &'a Facts<'a>) -> Self {
        let set = PlaybookSet { established: facts.established.clone(), ..PlaybookSet::default() };
        Self { facts, set, taken: BTreeMap::new(), advised: Cell::new(0) }
    }

    /// Keeps a fault of a document.
    pub(crate) fn reject(&mut self, fault: Fault, file: &Arc<str>, name: Option<Arc<str>>) {
        self.set.rejected.push(fault.reject(file, name));
    }

    /// Checks a playbook and keeps it or what is wrong with it.
    pub(crate) fn add(&mut self, draft: Draft) {
        let (file, name) = (draft.playbook.file.clone(), draft.playbook.name.clone());
        match self.check(draft) {
            Ok((playbook, warnings)) => {
                self.set.playbooks.push(playbook);
                let warnings = warnings.into_iter().map(|fault| fault.reject(&file, Some(name.clone())));
                self.set.warnings.extend(warnings);
            }
            Err(fault) => self.reject(fault, &file, Some(name)),
        }
    }

    pub(crate) fn finish(self) -> PlaybookSet {
        self.set
    }

    fn check(&mut self, draft: Draft) -> Result<(Playbook, Vec<Fault>), Fault> {
        let Draft { mut playbook, marks } = draft;
        self.unique(&playbook.name, "name", marks.name)?;
        self.unique(&playbook.id, "id", marks.id)?;
        for (word, at) in [(&playbook.name, marks.name), (&playbook.id, marks.id)] {
            self.taken.insert(word.clone(), (playbook.file.clone(), at.line));
        }
        if self.set.playbooks.len() >= MAX_PLAYBOOKS {
            let message = format!("there are more than {MAX_PLAYBOOKS} playbooks");
            return Err(Fault::new(marks.root, "too-many", message).help("remove those that are not used"));
        }
        for (name, at) in playbook.body.trigger.rules.iter_mut().zip(&marks.trigger.rules) {
            *name = self.rule(name, *at)?.rule.id.clone();
        }
        let started = self.started(&playbook, &marks.trigger)?;
        let fits = |condition: &Condition| -> Vec<&RuleFacts<'a>> {
            started.iter().copied().filter(|facts| can_hold(condition, facts)).collect()
        };
        let own = playbook.body.conditions.clone();
        if fits(&own).is_empty() {
            return Err(never(
                "the playbook's conditions never hold of an alert that starts it",
                marks.conditions,
                &own,
                &started,
            ));
        }
        let mut warnings = Vec::new();
        let mut ended_by: Vec<(usize, Condition)> = Vec::new();
        for (at, (step, step_marks)) in playbook.body.steps.iter().zip(&marks.steps).enumerate() {
            let whole = own.both(&step.when).map_err(|what| {
                let message =
                    format!("this step can never run: its `{what}` contradicts the playbook's conditions");
                Fault::new(step_marks.when, "never-runs", message)
                    .help("change one of them, or remove the step")
            })?;
            let alerts = fits(&whole);
            if alerts.is_empty() {
                return Err(never("this step can never run", step_marks.when, &whole, &started));
            }
            if let Some((before, _)) = ended_by.iter().find(|(_, ends)| whole.implies(ends)) {
                let before = playbook.body.steps.get(*before).map_or("", |step| &*step.name);
                let message = format!(
                    "this step can never run: whenever its condition holds, so does that of step {}, which is the last then",
                    shown(before)
                );
                return Err(Fault::new(step_marks.at, "never-runs", message)
                    .help("put the narrower condition first, or take `last` away from the step before"));
            }
            self.target(&playbook, at, step_marks, &alerts, &mut warnings)?;
            if step.last {
                ended_by.push((at, whole));
            }
        }
        for (test, marks) in playbook.tests.iter_mut().zip(&marks.tests) {
            self.test(test, marks)?;
        }
        if playbook.tests.is_empty() {
            let fault = Fault::new(marks.root, "no-tests", "the playbook has no tests");
            warnings.push(fault.help("write one alert that starts it and one that nearly does"));
        }
        playbook.version = version(&playbook);
        Ok((playbook, warnings))
    }

    fn unique(&self, word: &Arc<str>, key: &str, at: Place) -> Result<(), Fault> {
        let Some((file, line)) = self.taken.get(word) else { return Ok(()) };
        let message = format!("there is another playbook with the {key} {}", shown(word));
        Err(Fault::new(at, "duplicate-playbook", message)
            .help(format!("it is in {file}, line {line}; give this one another {key}")))
    }

    /// The rule of an id, or else the only one of a name.
    fn rule(&self, word: &Arc<str>, at: Place) -> Result<&'a RuleFacts<'a>, Fault> {
        let by_name = self.facts.names.get(word).map(Vec::as_slice).unwrap_or_default();
        let found = match (self.facts.ids.get(word), by_name) {
            (Some(found), _) | (None, [found]) => self.facts.rules.get(*found),
            (None, []) => None,
            (None, _) => {
                let message = format!("there are {} rules of the name {}", by_name.len(), shown(word));
                return Err(Fault::new(at, "ambiguous-rule", message).help("name it by its `id`"));
            }
        };
        if let Some(found) = found {
            return Ok(found);
        }
        if let Some(caller) = self.facts.quiet.get(word) {
            let message = format!("the rule {} raises no alerts of its own", shown(word));
            let fault = Fault::new(at, "quiet-rule", message);
            return Err(match caller {
                Some(caller) => fault.help(format!("name the rule that refers to it: {}", shown(caller))),
                None => fault.help("name a rule that does"),
            });
        }
        self.advised.set(self.advised.get() + 1);
        let known = if self.advised.get() > MAX_ADVICE { Vec::new() } else { self.facts.called() };
        let help = nearest(word, &known).map_or_else(
            || "name a rule by its `name` or its `id`; `vedette check` lists what was refused".to_owned(),
            |name| format!("did you mean `{name}`?"),
        );
        Err(Fault::new(at, "unknown-rule", format!("there is no rule {}", shown(word))).help(help))
    }

    /// The rules whose alerts start a playbook.
    fn started(
        &self,
        playbook: &Playbook,
        marks: &crate::read::TriggerMarks,
    ) -> Result<Vec<&'a RuleFacts<'a>>, Fault> {
        let trigger = &playbook.body.trigger;
        let all = &self.facts.rules;
        for (tag, at) in trigger.tags.iter().zip(&marks.tags) {
            let mut tags = all.iter().flat_map(|facts| facts.rule.tags.iter());
            if !tags.any(|known| known == tag) {
                let known: BTreeSet<&str> =
                    all.iter().flat_map(|f| f.rule.tags.iter().map(|t| &**t)).collect();
                let known: Vec<&str> = known.into_iter().collect();
                let help = nearest(tag, &known).map_or_else(
                    || "name a tag that some rule has".to_owned(),
                    |n| format!("did you mean `{n}`?"),
                );
                let message = format!("no rule that raises alerts has the tag {}", shown(tag));
                return Err(Fault::new(*at, "unknown-tag", message).help(help));
            }
        }
        for (entity, at) in trigger.entity.iter().zip(&marks.entity) {
            if !all.iter().any(|facts| facts.entities.contains(entity)) {
                let known: BTreeSet<&str> =
                    all.iter().flat_map(|f| f.entities.iter().map(|e| &**e)).collect();
                let message = format!("no rule's alerts are about {}", shown(entity));
                let known: Vec<&str> = known.into_iter().collect();
                return Err(Fault::new(*at, "unknown-entity", message).help(did_you_mean(entity, &known)));
            }
        }
        let named = |facts: &&RuleFacts<'_>| {
            (trigger.rules.is_empty() || trigger.rules.contains(&facts.rule.id))
                && (trigger.tags.is_empty() || facts.rule.tags.iter().any(|tag| trigger.tags.contains(tag)))
                && (trigger.entity.is_empty() || trigger.entity.iter().any(|e| facts.entities.contains(e)))
        };
        let named: Vec<&RuleFacts<'_>> = all.iter().filter(named).collect();
        let Some(highest) = named.iter().map(|facts| facts.level()).max() else {
            let message = "no rule's alerts start this playbook: none has all that the trigger asks for";
            return Err(Fault::new(marks.at, "never-starts", message)
                .help("rules, tags and entity must all hold of one alert; remove one of them"));
        };
        let severe: Vec<&RuleFacts<'_>> =
            named.into_iter().filter(|facts| facts.level() >= trigger.severity).collect();
        if severe.is_empty() {
            let (wanted, highest) = (trigger.severity.name(), highest.name());
            let message =
                format!("the trigger asks for `{wanted}`, and its rules' alerts are `{highest}` at most");
            return Err(
                Fault::new(marks.severity, "never-starts", message).help(format!("write `{highest}`"))
            );
        }
        if trigger.on == On::Notice && !severe.iter().any(|facts| facts.notices) {
            let message = "the rules of the trigger give no notices: their windows are judged when they end";
            return Err(Fault::new(marks.on, "never-starts", message).help("start it on `alert`"));
        }
        Ok(severe)
    }

    /// Refuses a step whose target no alert has, and warns where only some have it.
    fn target(
        &self,
        playbook: &Playbook,
        at: usize,
        marks: &StepMarks,
        alerts: &[&RuleFacts<'_>],
        warnings: &mut Vec<Fault>,
    ) -> Result<(), Fault> {
        let Some(step) = playbook.body.steps.get(at) else { return Ok(()) };
        let irreversible = step.deed.action().filter(|action| !action.reversible());
        if let (Some(action), On::Notice) = (irreversible, playbook.body.trigger.on) {
            let message = format!("`{action}` cannot be undone, and a notice starts only what can");
            return Err(Fault::new(marks.deed, "irreversible-on-notice", message)
                .help("start the playbook on `alert`, or put the step into another one"));
        }
        let Some(field) = &step.target else { return Ok(()) };
        let groups = step.connectors.iter().find(|connector| connector.kind == ConnectorKind::Dag);
        let wide = step.prefix.filter(|prefix| prefix.ipv6 < 128);
        if let (Some(group), Some(_)) = (groups, wide) {
            let message = format!(
                "{} takes single addresses of IPv6 only: what `prefix` widens is not in force there",
                shown(&group.name)
            );
            let fault = Fault::new(marks.target, "group-prefix", message);
            warnings.push(fault.help("leave `ipv6` away, or name another connector beside it"));
        }
        let without: Vec<&str> = alerts
            .iter()
            .filter(|facts| !facts.fields.contains(field))
            .map(|facts| &**called(facts.rule))
            .collect();
        if without.len() < alerts.len() {
            if let Some(first) = without.first() {
                let others = without.len() - 1;
                let more = if others == 0 { String::new() } else { format!(" and {others} others") };
                let message = format!(
                    "alerts of {}{more} have no {}: the step is left out for them",
                    shown(first),
                    shown(field)
                );
                warnings.push(
                    Fault::new(marks.target, "target-not-always", message)
                        .help("name the rules in the trigger, or leave it if that is meant"),
                );
            }
            return Ok(());
        }
        let fields: BTreeSet<&str> = alerts.iter().flat_map(|f| f.fields.iter().map(|f| &**f)).collect();
        let fields: Vec<&str> = fields.into_iter().collect();
        let message = format!("the alerts that start this never have {}", shown(field));
        let help = match fields.as_slice() {
            [] => "they have no key at all: a step with a target needs another trigger".to_owned(),
            fields => format!("their keys have: {}", fields.join(", ")),
        };
        Err(Fault::new(marks.target, "target-never-there", message).help(help))
    }

    fn test(&self, test: &mut crate::playbook::PlaybookTest, marks: &TestMarks) -> Result<(), Fault> {
        let facts = self.rule(&test.rule, marks.rule)?;
        test.rule = facts.rule.id.clone();
        let fields: Vec<&str> = facts.fields.iter().map(|field| &**field).collect();
        for (field, at) in &marks.key {
            if !facts.fields.contains(field) {
                let message = format!("alerts of {} have no {}", shown(called(facts.rule)), shown(field));
                return Err(Fault::new(*at, "unknown-field", message).help(did_you_mean(field, &fields)));
            }
        }
        if let Some(entity) = test.entity.as_ref().filter(|entity| !facts.entities.contains(*entity)) {
            let known: Vec<&str> = facts.entities.iter().map(|field| &**field).collect();
            let message = format!("alerts of {} are not about {}", shown(called(facts.rule)), shown(entity));
            return Err(
                Fault::new(marks.entity, "unknown-entity", message).help(did_you_mean(entity, &known))
            );
        }
        if let Some(severity) = test.severity.filter(|severity| *severity != facts.level()) {
            let message = format!(
                "alerts of {} are `{}`, never `{}`",
                shown(called(facts.rule)),
                facts.level().name(),
                severity.name()
            );
            return Err(Fault::new(marks.at, "impossible-severity", message).help("leave `severity` out"));
        }
        Ok(())
    }
}

/// Whether a condition can hold of an alert of a rule.
fn can_hold(condition: &Condition, facts: &RuleFacts<'_>) -> bool {
    (condition.severity.0..=condition.severity.1).contains(&facts.level())
        && (condition.entity.is_empty() || condition.entity.iter().any(|e| facts.entities.contains(e)))
        && condition.key.keys().all(|name| facts.fields.contains(name))
}

/// The fault of a condition that holds of none of these rules' alerts, with the first thing that keeps it from it.
fn never(what: &str, at: Place, condition: &Condition, started: &[&RuleFacts<'_>]) -> Fault {
    let levels: BTreeSet<Severity> = started.iter().map(|facts| facts.level()).collect();
    let fields: BTreeSet<&str> = started.iter().flat_map(|f| f.fields.iter().map(|f| &**f)).collect();
    let entities: BTreeSet<&str> = started.iter().flat_map(|f| f.entities.iter().map(|f| &**f)).collect();
    let join = |names: &BTreeSet<&str>| names.iter().copied().collect::<Vec<_>>().join(", ");
    let help = if !levels.iter().any(|level| (condition.severity.0..=condition.severity.1).contains(level)) {
        let levels: Vec<&str> = levels.iter().map(|level| level.name()).collect();
        format!("the severities of these alerts are: {}", levels.join(", "))
    } else if !condition.entity.is_empty() && !condition.entity.iter().any(|e| entities.contains(&**e)) {
        format!("these alerts are about: {}", join(&entities))
    } else if condition.key.keys().any(|name| !fields.contains(&**name)) {
        format!("the keys of these alerts have: {}", join(&fields))
    } else {
        "no single rule's alerts have all of it".to_owned()
    };
    Fault::new(at, "never-runs", what).help(help)
}

/// Hash of all that a playbook does. Every key of its maps is a text, so writing it as JSON cannot fail.
fn version(playbook: &Playbook) -> Arc<str> {
    let text = serde_json::to_vec(&playbook.body).unwrap_or_default();
    blake3::hash(&text).to_hex().as_str().get(..16).unwrap_or_default().into()
}
