//! From an alert or a notice to what should be done about it.
//!
//! In: playbooks, one alert or notice, the time. Out: [`Proposal`]s in the order of playbooks and steps. Invariants: a pure function; a
//! proposal's id is one of playbook, version, step, target and alert, so that the same alert, told again, proposes nothing new.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vedette_event::{Flags, Micros, Severity};

use crate::{
    deed::{Action, Connector, Deed},
    playbook::{Guards, Mode, On, Playbook, PlaybookSet, Step, Trigger},
    subject::Subject,
    target::{NoTarget, Target},
};

/// What should be done, for which alert, and by which step of which playbook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// Lower-case hexadecimal BLAKE3 of playbook, version, step, target and alert.
    pub id: Arc<str>,
    /// The playbook's name.
    pub playbook: Arc<str>,
    /// Its version.
    pub version: Arc<str>,
    /// The step's name.
    pub step: Arc<str>,
    /// What is to be done.
    pub deed: Deed,
    /// To whom; none for what only tells.
    pub target: Option<Target>,
    /// By what.
    pub connectors: Vec<Connector>,
    /// Whether the playbook acts.
    pub mode: Mode,
    /// The playbook's own guards.
    pub guards: Guards,
    /// For which alert.
    pub cause: Cause,
    /// Whether a person started it.
    pub by_hand: bool,
    /// When it was proposed.
    pub at: Micros,
}

/// What a proposal rests on: all that the guards ask of the alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cause {
    /// A notice, not an alert.
    pub notice: bool,
    /// `alert_id` or `notice_id`.
    pub id: Arc<str>,
    /// The rule's id.
    pub rule: Arc<str>,
    /// The rule's version.
    pub rule_version: Arc<str>,
    /// How severe it was.
    pub severity: Severity,
    /// All flags of the evidence.
    pub flags: Flags,
    /// Whether the rule rests on established flows alone.
    pub established: bool,
}

impl Proposal {
    /// The same with a milder countermeasure, by those of its connectors that can do it; nothing if none can.
    #[must_use]
    pub fn lowered(&self, rung: Action) -> Option<Self> {
        let Deed::Impose(_, limit) = self.deed else { return None };
        let deed = Deed::Impose(rung, limit);
        let target = self.target.clone()?;
        let able = |connector: &&Connector| connector.kind.carries(deed, target.sort());
        let connectors: Vec<Connector> = self.connectors.iter().filter(able).cloned().collect();
        let lowered = !connectors.is_empty() && self.deed.action().is_some_and(|action| action > rung);
        lowered.then(|| Self { id: id(&[&self.id, rung.name()]), deed, connectors, ..self.clone() })
    }
}

/// What a playbook comes to for one alert.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Run {
    /// What it proposes.
    pub proposals: Vec<Proposal>,
    /// The steps that it leaves out.
    pub skipped: Vec<(Arc<str>, Skipped)>,
}

/// Why a step is left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Skipped {
    /// The playbook's conditions do not hold.
    #[error("the playbook's conditions do not hold")]
    Conditions,
    /// The step's do not.
    #[error("its condition does not hold")]
    When,
    /// A step before was the last.
    #[error("step `{0}` was the last")]
    Ended(Arc<str>),
    /// The alert has no such field.
    #[error("the alert has no `{0}`")]
    NoField(Arc<str>),
    /// The value is no target.
    #[error("{0}")]
    NoTarget(#[from] NoTarget),
}

impl Trigger {
    /// Whether an alert or a notice starts the playbook by itself.
    #[must_use]
    pub fn starts(&self, of: &Subject<'_>) -> bool {
        let on = match self.on {
            On::Both => true,
            On::Notice => of.notice,
            On::Alert => !of.notice,
            On::Hand => false,
        };
        on && self.fits(of)
    }

    /// Whether a person may start it for this alert or notice.
    #[must_use]
    pub fn fits(&self, of: &Subject<'_>) -> bool {
        let any = |own: &[Arc<str>], has: &dyn Fn(&Arc<str>) -> bool| own.is_empty() || own.iter().any(has);
        of.severity >= self.severity
            && any(&self.rules, &|id| *id == of.rule.id)
            && any(&self.tags, &|tag| of.rule.tags.contains(tag))
            && any(&self.entity, &|kind| of.entity.is_some_and(|entity| entity.kind == *kind))
    }
}

/// All that the playbooks propose for an alert or a notice, each once.
#[must_use]
pub fn propose(set: &PlaybookSet, of: &Subject<'_>, now: Micros) -> Vec<Proposal> {
    let started = set.playbooks.iter().filter(|playbook| playbook.body.trigger.starts(of));
    started.flat_map(|playbook| run(set, playbook, of, now, false).proposals).collect()
}

/// What a playbook comes to that a person starts; nothing where its trigger does not fit the alert.
#[must_use]
pub fn by_hand(set: &PlaybookSet, playbook: &Playbook, of: &Subject<'_>, now: Micros) -> Option<Run> {
    playbook.body.trigger.fits(of).then(|| run(set, playbook, of, now, true))
}

fn run(set: &PlaybookSet, playbook: &Playbook, of: &Subject<'_>, now: Micros, by_hand: bool) -> Run {
    let mut out = Run::default();
    let held = playbook.body.conditions.holds(of);
    let mut ended: Option<&Step> = None;
    for step in &playbook.body.steps {
        let left_out = match ended {
            _ if !held => Some(Skipped::Conditions),
            Some(last) => Some(Skipped::Ended(last.name.clone())),
            None if !step.when.holds(of) => Some(Skipped::When),
            None => None,
        };
        if let Some(why) = left_out {
            out.skipped.push((step.name.clone(), why));
            continue;
        }
        if step.last {
            ended = Some(step);
        }
        match target(step, of) {
            Ok(target) => {
                out.proposals.push(proposal((set, playbook, step), of, target, (now, by_hand)));
            }
            Err(why) => out.skipped.push((step.name.clone(), why)),
        }
    }
    out
}

fn target(step: &Step, of: &Subject<'_>) -> Result<Option<Target>, Skipped> {
    let Some(field) = &step.target else { return Ok(None) };
    let value = of.value(field).ok_or_else(|| Skipped::NoField(field.clone()))?;
    Ok(Some(Target::of(field, value, step.prefix)?))
}

fn proposal(
    (set, playbook, step): (&PlaybookSet, &Playbook, &Step),
    of: &Subject<'_>,
    target: Option<Target>,
    (now, by_hand): (Micros, bool),
) -> Proposal {
    let shown = target.as_ref().map(ToString::to_string).unwrap_or_default();
    Proposal {
        id: id(&[&playbook.id, &playbook.version, &step.name, step.deed.name(), &shown, of.id]),
        playbook: playbook.name.clone(),
        version: playbook.version.clone(),
        step: step.name.clone(),
        deed: step.deed,
        target,
        connectors: step.connectors.clone(),
        mode: playbook.body.mode,
        guards: playbook.body.guards.clone(),
        cause: Cause {
            notice: of.notice,
            id: of.id.into(),
            rule: of.rule.id.clone(),
            rule_version: of.rule.version.clone(),
            severity: of.severity,
            flags: of.flags,
            established: set.established.contains(&of.rule.id),
        },
        by_hand,
        at: now,
    }
}

/// The parts, each preceded by its length, hashed: two lists of parts have never one text.
pub(crate) fn id(parts: &[&str]) -> Arc<str> {
    let mut hash = blake3::Hasher::new();
    for part in parts {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().to_hex().as_str().into()
}
