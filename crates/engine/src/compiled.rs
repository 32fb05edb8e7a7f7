//! Rules compiled against a set of sources, in the versions of them that something read may need.
//!
//! In: [`RuleSet`], [`Sources`], [`Topics`]. Out: [`Compiled`], immutable and shared by threads.
//! Invariants: a source decodes exactly the columns that some rule, key or entity needs; an event is decoded and evaluated by one
//! version, that which was in force at its `ts_log` (made non-decreasing in its partition, so that a partition passes from one
//! version to the next once); what is below the oldest version is taken for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use vedette_correlate::{Plan, Router};
use vedette_decode::{Decoder, Inspector};
use vedette_event::{Micros, RawBatch, RuleIx, SourceDef, SourceIx, Sources, Span, Topics};
use vedette_sigma::{RuleKind, RuleSet};

use crate::{
    detector::Detector,
    error::Error,
    version::{Instance, Version},
};

/// Versions of rules and sources, and what they are together.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// The rules of all versions, the newest's first: of it, a rule has the number here that it has there.
    pub rules: Arc<RuleSet>,
    /// The newest version's sources.
    pub sources: Arc<Sources>,
    /// The topics they are read from (for files, the sources' names).
    pub topics: Arc<Topics>,
    pub(crate) plan: Arc<Plan>,
    /// The oldest first; never empty.
    pub(crate) versions: Vec<Arc<Version>>,
    /// By rule: the sources it reads, ascending.
    reads: Vec<Vec<SourceIx>>,
    secret: [u8; 32],
}

impl Compiled {
    /// Compiles the rules for every source, in force from the beginning. `secret` keys the hashes of state and of masked secrets.
    #[must_use]
    pub fn new(
        rules: Arc<RuleSet>,
        sources: Arc<Sources>,
        topics: Arc<Topics>,
        secret: [u8; 32],
    ) -> Arc<Self> {
        Self::of(vec![Arc::new(Version::compile(rules, sources))], topics, secret, None)
    }

    /// Several versions, the oldest first, each in force until the next.
    #[must_use]
    pub fn with_versions(versions: Vec<Arc<Version>>, topics: Arc<Topics>, secret: [u8; 32]) -> Arc<Self> {
        Self::of(versions, topics, secret, None)
    }

    fn of(
        versions: Vec<Arc<Version>>,
        topics: Arc<Topics>,
        secret: [u8; 32],
        before: Option<&Plan>,
    ) -> Arc<Self> {
        let parts: Vec<_> = versions.iter().map(|version| version.part()).collect();
        let plan = Plan::merge(&parts, before);
        let rules = plan.rules().clone();
        let sources = versions.last().map(|newest| newest.sources.clone()).unwrap_or_default();
        // In the order of the rules: the newest's first.
        let reads = versions.iter().rev().flat_map(|version| reads(&version.rules, &version.sources));
        Arc::new(Self {
            reads: reads.collect(),
            rules,
            sources,
            topics,
            plan: Arc::new(plan),
            versions,
            secret,
        })
    }

    /// The same with one more version, in force from a log time on. That lies above the one of the version before, and above
    /// every `ts_log` that was read.
    #[must_use]
    pub fn with(&self, version: Version, from: Micros) -> Arc<Self> {
        let version = version.following(self.newest(), from);
        let versions = self.versions.iter().cloned().chain([Arc::new(version)]).collect();
        Self::of(versions, self.topics.clone(), self.secret, Some(&self.plan))
    }

    /// The same without so many of the oldest versions.
    #[must_use]
    pub fn without(&self, oldest: usize) -> Arc<Self> {
        let kept = self.versions.get(oldest..).filter(|kept| !kept.is_empty()).unwrap_or(&self.versions);
        Self::of(kept.to_vec(), self.topics.clone(), self.secret, Some(&self.plan))
    }

    /// The same over another table of the same topics.
    pub(crate) fn with_topics(&self, topics: Topics) -> Arc<Self> {
        Arc::new(Self { topics: Arc::new(topics), ..self.clone() })
    }

    /// Bytes for all state with which each rule may hold at least so many entries in each key group.
    #[must_use]
    pub fn state_for(&self, entries: usize) -> usize {
        self.plan.bytes_for(entries)
    }

    /// How many entries each rule that has keys may hold in a key group, with so many bytes for all state.
    #[must_use]
    pub fn entries(&self, state: usize) -> BTreeMap<RuleIx, usize> {
        self.plan.entries(state)
    }

    /// The versions, the oldest first.
    #[must_use]
    pub fn versions(&self) -> &[Arc<Version>] {
        &self.versions
    }

    /// The version in force for what is read from now on.
    #[must_use]
    pub fn newest(&self) -> &Version {
        // There is always one.
        &self.versions[self.versions.len() - 1]
    }

    /// By rule of `before`: the number that it has here. None of one that is changed or gone and of which all was said.
    #[must_use]
    pub fn carried(&self, before: &Self) -> Vec<Option<RuleIx>> {
        let known = self.known();
        let before = before.versions.iter().rev().flat_map(|version| version.instances());
        before.map(|(_, instance)| known.get(&instance).copied()).collect()
    }

    /// By version, by its own rules: their numbers among all. A rule that is the same in several has that of the newest.
    pub(crate) fn numbers(&self) -> Vec<Vec<RuleIx>> {
        let known = self.known();
        let number = |(ix, instance)| known.get(&instance).copied().unwrap_or(ix);
        self.versions.iter().map(|version| version.instances().map(number).collect()).collect()
    }

    fn known(&self) -> BTreeMap<Instance<'_>, RuleIx> {
        let (mut known, mut offset) = (BTreeMap::new(), 0);
        for version in self.versions.iter().rev() {
            for (ix, instance) in version.instances() {
                known.entry(instance).or_insert(RuleIx(offset + ix.0));
            }
            offset += version.rules.rules.len() as u32;
        }
        known
    }

    /// From when on, in log time, a rule has meant what it means.
    #[must_use]
    pub fn since(&self, rule: RuleIx) -> Micros {
        let mut at = rule.0 as usize;
        for version in self.versions.iter().rev() {
            match at.checked_sub(version.rules.rules.len()) {
                None => return version.since.get(at).copied().unwrap_or(Micros::MIN),
                Some(rest) => at = rest,
            }
        }
        Micros::MIN
    }

    /// Which versions the records of a batch are evaluated by: for each, how many. `before` is the highest `ts_log` of their
    /// partition before them.
    pub(crate) fn split(&self, raw: &RawBatch, before: Option<Micros>) -> Vec<(usize, usize)> {
        if self.versions.len() == 1 {
            return vec![(0, raw.records.len())];
        }
        let mut parts: Vec<(usize, usize)> = Vec::new();
        let mut running = before;
        for record in &raw.records {
            running = running.max(record.ts_log);
            let after = running.map_or(self.versions.len(), |running| {
                self.versions.partition_point(|version| version.from <= running)
            });
            let version = after.saturating_sub(1);
            match parts.last_mut() {
                Some((last, records)) if *last == version => *records += 1,
                _ => parts.push((version, 1)),
            }
        }
        parts
    }

    /// How far back records of a source may be placed: the watermark is held back by so much.
    pub(crate) fn disorder(&self, source: SourceIx) -> Span {
        let of = |version: &Arc<Version>| version.sources.get(source).disorder;
        self.versions.iter().map(of).max().unwrap_or(Span::ZERO)
    }

    /// How far ahead of its record an event may be placed.
    pub(crate) fn future(&self) -> Span {
        let defs = self.versions.iter().flat_map(|version| &version.sources.defs);
        defs.map(|def| def.future).max().unwrap_or(Span::ZERO)
    }

    /// A detector with scratch space of its own, for one thread.
    ///
    /// # Errors
    /// If a source's definition cannot be decoded (an unknown time zone, say).
    pub fn detector(self: &Arc<Self>) -> Result<Detector, Error> {
        Detector::new(self.clone())
    }

    /// What says which key groups findings go to, for one thread; if they are correlated.
    #[must_use]
    pub fn router(&self) -> Option<Router> {
        self.newest().correlated.then(|| Router::new(self.plan.clone(), &self.secret))
    }

    /// A decoder of what the newest rules need of a source.
    ///
    /// # Errors
    /// If the source's definition cannot be decoded.
    pub fn decoder(&self, source: SourceIx) -> Result<Decoder, Error> {
        self.newest().decoder(source, self.secret)
    }

    pub(crate) const fn secret(&self) -> [u8; 32] {
        self.secret
    }

    /// An inspector for each source, in the order of the sources: what a record says, secrets masked.
    ///
    /// # Errors
    /// If a source's definition cannot be decoded.
    pub fn inspectors(&self) -> Result<Vec<Inspector>, Error> {
        let of = |def: &SourceDef| {
            Inspector::new(def, &self.sources.fields, self.secret)
                .map_err(|cause| Error::Source { source_name: def.name.clone(), cause })
        };
        self.sources.defs.iter().map(of).collect()
    }

    /// The sources that a rule reads, ascending: those that some detection in its tree may apply to.
    #[must_use]
    pub fn reads(&self, rule: RuleIx) -> &[SourceIx] {
        self.reads.get(rule.0 as usize).map_or(&[], Vec::as_slice)
    }

    /// The names of the sources that a rule reads, sorted.
    #[must_use]
    pub fn sources_of(&self, rule: RuleIx) -> Vec<String> {
        self.reads(rule).iter().map(|source| self.sources.get(*source).name.to_string()).collect()
    }
}

/// What each rule reads. One pass, because a correlation stands after the rules it refers to: a walk down from each rule
/// takes time by the paths through the rules, of which a file of 18 kB can have 8^10.
fn reads(rules: &RuleSet, sources: &Sources) -> Vec<Vec<SourceIx>> {
    let mut reads: Vec<Vec<SourceIx>> = Vec::with_capacity(rules.rules.len());
    for rule in &rules.rules {
        let own = match &rule.kind {
            RuleKind::Detection(d) => {
                let fits = sources.iter().filter(|(_, def)| def.concerns(&d.logsource));
                fits.map(|(ix, _)| ix).collect()
            }
            RuleKind::Correlation(c) => {
                let children = c.rules.iter().filter_map(|child| reads.get(child.0 as usize));
                let all: BTreeSet<SourceIx> = children.flatten().copied().collect();
                all.into_iter().collect()
            }
        };
        reads.push(own);
    }
    reads
}
