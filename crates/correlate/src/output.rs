//! What leaves the correlator.
//!
//! In: pushed by [`crate::Correlator`]. Out: drained by the engine; everything is appended, nothing is ever taken away here.

use std::collections::BTreeMap;

use vedette_event::{Alert, Micros, Notice, Order, RuleIx};

/// A revision to publish.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRevision {
    /// The body.
    pub alert: Alert,
    /// The rule in the rule set.
    pub rule: RuleIx,
    /// The key group that it came from.
    pub group: u8,
    /// The crossing event.
    pub crossing: Order,
    /// Any event of its key at which the condition holds, from `first_seen` up to this time, is of its episode.
    pub covers_until: Micros,
}

/// What happened to a rule's events since the last time somebody looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Events that took part.
    pub matched: u64,
    /// Events that did not: a part of the key was missing, or no value was there.
    pub without_key: u64,
    /// Of those that took part, how many bore a clock flag.
    pub flagged: u64,
    /// Events of new keys that were refused, took another's place or were only estimated, for want of budget.
    pub evicted: u64,
    /// Events that were not evaluated, for want of room to wait for their watermark.
    pub unevaluated: u64,
}

impl Counters {
    /// Adds others.
    pub const fn add(&mut self, other: Self) {
        self.matched += other.matched;
        self.without_key += other.without_key;
        self.flagged += other.flagged;
        self.evicted += other.evicted;
        self.unevaluated += other.unevaluated;
    }
}

/// What was done, by count, to be held against what was new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Effort {
    /// Key groups that had something to do in a release.
    pub groups: u64,
    /// Findings put in order.
    pub sorted: u64,
    /// Bodies of revisions made, storms' apart.
    pub bodies: u64,
    /// Keys looked at for whether they can be forgotten.
    pub swept: u64,
    /// Keys written to checkpoints.
    pub written: u64,
}

impl Effort {
    /// Adds what was done elsewhere.
    pub(crate) const fn add(&mut self, other: Self) {
        self.groups += other.groups;
        self.sorted += other.sorted;
        self.bodies += other.bodies;
        self.swept += other.swept;
        self.written += other.written;
    }
}

/// Something an operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthSignal {
    /// A rule has no room for new keys in a key group: counts of new keys are estimates from now on, new keys of other types
    /// take the place of the oldest with one event, or are left out.
    OverBudget {
        /// The rule.
        rule: RuleIx,
        /// The key group.
        group: u8,
        /// Event time at which room was first missing.
        since: Micros,
        /// Where the keys without room come from, so far: the most frequent prefixes with the number of times.
        prefixes: Vec<(String, u64)>,
    },
    /// That is over: there was room for all new keys for longer than the rule looks back.
    WithinBudget {
        /// The rule.
        rule: RuleIx,
        /// The key group.
        group: u8,
        /// When it began.
        since: Micros,
        /// Event time at which room was last missing.
        until: Micros,
        /// How often room was missing.
        keys: u64,
        /// Where those keys came from.
        prefixes: Vec<(String, u64)>,
    },
    /// Findings of a rule are not evaluated: too many wait for their watermark.
    Unevaluated {
        /// The rule.
        rule: RuleIx,
        /// Event time of the first, so far.
        since: Micros,
        /// True if they wait for a source that stands still.
        standing: bool,
    },
    /// That is over: what came later has been let through.
    EvaluatedAgain {
        /// The rule.
        rule: RuleIx,
        /// Event time of the first.
        since: Micros,
        /// Event time of the last.
        until: Micros,
        /// How many were not evaluated.
        findings: u64,
    },
}

/// Where the correlator puts what it has to say.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Correlated {
    /// Revisions, those of an alert in order.
    pub alerts: Vec<NewRevision>,
    /// Notices.
    pub notices: Vec<Notice>,
    /// Events by the rule they took part in, or in a rule that it refers to.
    pub counters: BTreeMap<RuleIx, Counters>,
    /// Things an operator should know.
    pub health: Vec<HealthSignal>,
}
