//! A playbook as it was read and checked.
//!
//! In: what [`crate::read`] lowered and [`crate::link`] checked. Out: [`Playbook`], immutable. Invariants: rules are named by id; every
//! countermeasure has a time limit and a target that some alert of its trigger has; guards are no looser than the policy's.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ipnet::IpNet;
use serde::Serialize;
use vedette_event::{Severity, Span, Value};
use vedette_sigma::Rejection;

use crate::{
    condition::Condition,
    deed::{Connector, Deed},
    target::Prefix,
};

/// One playbook.
#[derive(Debug, Clone)]
pub struct Playbook {
    /// Its UUID, in lower case.
    pub id: Arc<str>,
    /// By what people and routes call it.
    pub name: Arc<str>,
    /// Its title.
    pub title: Arc<str>,
    /// What it is for.
    pub description: Option<Arc<str>>,
    /// The day it was written, `2026-11-25`.
    pub date: Arc<str>,
    /// The day it was changed last.
    pub modified: Arc<str>,
    /// First 16 hexadecimal digits of the hash of what it does; not of titles, descriptions and tests.
    pub version: Arc<str>,
    /// What it does.
    pub body: Body,
    /// Its inline tests.
    pub tests: Vec<PlaybookTest>,
    /// The file it came from, as given.
    pub file: Arc<str>,
    /// Line from 1.
    pub line: usize,
}

/// What a playbook does: all that its version is made of.
#[derive(Debug, Clone, Serialize)]
pub struct Body {
    /// Whether it acts.
    pub mode: Mode,
    /// What starts it.
    pub trigger: Trigger,
    /// What must hold beside.
    pub conditions: Condition,
    /// Stricter limits than the policy's.
    pub guards: Guards,
    /// In order.
    pub steps: Vec<Step>,
}

/// Whether a playbook acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It only says what it would do.
    #[default]
    DryRun,
    /// A person approves each countermeasure.
    Approve,
    /// It acts where the guards let it.
    Automatic,
}

impl Mode {
    /// All of them with their names.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::DryRun, "dry-run"), (Self::Approve, "approve"), (Self::Automatic, "automatic")];

    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DryRun => "dry-run",
            Self::Approve => "approve",
            Self::Automatic => "automatic",
        }
    }
}

/// On what a playbook starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// The early word, before the alert.
    Notice,
    /// The alert.
    Alert,
    /// Whichever comes first.
    Both,
    /// Only a person starts it.
    Hand,
}

/// Which alerts start a playbook. All that is given must hold.
#[derive(Debug, Clone, Serialize)]
pub struct Trigger {
    /// Alert, notice or hand.
    pub on: On,
    /// Any of these rules, by id; empty for any rule.
    pub rules: Vec<Arc<str>>,
    /// At least as severe.
    pub severity: Severity,
    /// Any of these tags; empty for any.
    pub tags: Vec<Arc<str>>,
    /// About any of these; empty for anything.
    pub entity: Vec<Arc<str>>,
}

/// One step.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// Its name; its number from 1 where it has none.
    pub name: Arc<str>,
    /// What it does.
    pub deed: Deed,
    /// The field of the alert's key that names the target.
    pub target: Option<Arc<str>>,
    /// How far an address is widened.
    pub prefix: Option<Prefix>,
    /// What carries it out.
    pub connectors: Vec<Connector>,
    /// When it is taken.
    pub when: Condition,
    /// Whether no step after it is looked at once its condition held.
    pub last: bool,
}

/// Limits of a playbook of its own. None is looser than the policy's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Guards {
    /// Most countermeasures of this playbook's rule in an hour.
    pub per_hour: Option<u32>,
    /// Most that are live at once.
    pub live: Option<u32>,
    /// Most of the active users that may be hit, in millionths.
    pub share: Option<u32>,
    /// So many users behind an address make it a shared one.
    pub users: Option<u64>,
    /// So many people approve, at least.
    pub people: Option<u8>,
    /// No countermeasure stands longer.
    pub ceiling: Option<Span>,
    /// Spared beside the policy's.
    pub never_block: Vec<IpNet>,
}

/// One inline test: an alert, and what is to be proposed for it.
#[derive(Debug, Clone, PartialEq)]
pub struct PlaybookTest {
    /// Its name.
    pub name: Arc<str>,
    /// Line from 1.
    pub line: usize,
    /// A notice, not an alert.
    pub notice: bool,
    /// The rule's id.
    pub rule: Arc<str>,
    /// The alert's severity; the rule's level if not given.
    pub severity: Option<Severity>,
    /// Whom it is about: a part of the key; the rule's own if not given.
    pub entity: Option<Arc<str>>,
    /// The alert's key.
    pub key: BTreeMap<Arc<str>, Value>,
    /// How many events.
    pub count: u64,
    /// The proposals that must come, in order.
    pub expect: Vec<Expected>,
}

/// One proposal that a test expects.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    /// The step's name in the language, such as `block_address`.
    pub deed: &'static str,
    /// The target, as it is written.
    pub target: Option<Arc<str>>,
    /// How long, the first time.
    pub span: Option<Span>,
}

/// All playbooks of one version of the content.
#[derive(Debug, Clone, Default)]
pub struct PlaybookSet {
    /// Accepted ones, in the order of files and documents.
    pub playbooks: Vec<Playbook>,
    /// Refused ones, by file and line.
    pub rejected: Vec<Rejection>,
    /// Things worth a second look.
    pub warnings: Vec<Rejection>,
    /// Ids of the rules that rest on established flows alone, so that the address they tell is not a forged one.
    pub established: BTreeSet<Arc<str>>,
}

impl PlaybookSet {
    /// The playbook of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Playbook> {
        self.playbooks.iter().find(|playbook| &*playbook.name == name)
    }
}
