//! One version of rules over one version of sources.
//!
//! In: [`RuleSet`], [`Sources`], the version before. Out: [`Version`].
//! Invariant: a rule that means what it meant in the version before has done so since then; one that is new or means something else
//! has since the log time from which the version is in force.

use std::{collections::BTreeMap, sync::Arc};

use vedette_correlate::{Plan, VersionPlan};
use vedette_decode::Decoder;
use vedette_detect::{Evaluator, Program, Spread};
use vedette_event::{Micros, Projection, RuleIx, SourceDef, SourceIx, Sources};
use vedette_sigma::{RuleSet, ir::Rule};

use crate::error::Error;

/// Rules over sources, and from when on they are in force.
#[derive(Debug, Clone)]
pub struct Version {
    /// From this log time on; `Micros::MIN` of the first.
    pub from: Micros,
    /// The rules.
    pub rules: Arc<RuleSet>,
    /// The sources.
    pub sources: Arc<Sources>,
    /// By rule: since when it has meant what it means.
    pub since: Arc<[Micros]>,
    plan: Arc<Plan>,
    /// Whether what is found is correlated.
    pub(crate) correlated: bool,
    programs: Arc<[SourceProgram]>,
}

/// What one source runs.
#[derive(Debug)]
struct SourceProgram {
    projection: Arc<Projection>,
    program: Arc<Program>,
}

/// What makes a rule the same in two versions.
pub(crate) type Instance<'a> = (&'a str, [u8; 32], bool, Micros);

impl Version {
    /// Compiles rules for every source, in force from the beginning. Takes its time; whoever adopts it later need not.
    #[must_use]
    pub fn compile(rules: Arc<RuleSet>, sources: Arc<Sources>) -> Self {
        Self::compile_on(Spread::HERE, rules, sources)
    }

    /// The same, rules side by side.
    #[must_use]
    pub fn compile_on(spread: Spread, rules: Arc<RuleSet>, sources: Arc<Sources>) -> Self {
        let plan = Plan::compile(rules.clone(), sources.clone());
        Self::of(spread, (rules, sources), plan, |_| &[])
    }

    /// The same for somebody whom findings are enough: detectors do not say which key groups these go to, and nothing correlates them.
    #[must_use]
    pub fn uncorrelated_on(spread: Spread, rules: Arc<RuleSet>, sources: Arc<Sources>) -> Self {
        let plan = Plan::empty(rules.clone(), sources.clone());
        Self { correlated: false, ..Self::of(spread, (rules, sources), plan, |_| &[]) }
    }

    /// The same, that has these fields decoded beside those that rules need, of sources whose events have a logsource in common: whoever
    /// else looks at the batches finds them there.
    #[must_use]
    pub fn compile_reading(rules: Arc<RuleSet>, sources: Arc<Sources>, beside: &[&str]) -> Self {
        let plan = Plan::compile(rules.clone(), sources.clone());
        let beside = |def: &SourceDef| if def.own_logsource() { &[][..] } else { beside };
        Self::of(Spread::HERE, (rules, sources), plan, beside)
    }

    /// The same of every source, whatever its events say of themselves, for somebody whom findings are enough.
    #[must_use]
    pub fn uncorrelated_showing(rules: Arc<RuleSet>, sources: Arc<Sources>, beside: &[&str]) -> Self {
        let plan = Plan::empty(rules.clone(), sources.clone());
        Self { correlated: false, ..Self::of(Spread::HERE, (rules, sources), plan, |_| beside) }
    }

    fn of<'a>(
        spread: Spread,
        (rules, sources): (Arc<RuleSet>, Arc<Sources>),
        plan: Plan,
        beside: impl Fn(&SourceDef) -> &'a [&'a str],
    ) -> Self {
        let programs = sources.iter().map(|(ix, def)| {
            let mut fields = vedette_detect::needed_fields(&rules, def);
            fields.extend(plan.needed_fields(ix));
            fields.extend(beside(def).iter().map(|field| Arc::from(*field)));
            let projection = Projection::new(fields);
            let program = Arc::new(Program::compile_on(spread, &rules, def, projection.fields()));
            SourceProgram { projection, program }
        });
        let since = vec![Micros::MIN; rules.rules.len()].into();
        let programs = programs.collect();
        let plan = Arc::new(plan);
        Self { from: Micros::MIN, programs, since, rules, sources, plan, correlated: true }
    }

    /// The same in force from a log time on, its rules since what `since` says.
    #[must_use]
    pub fn in_force(self, from: Micros, since: impl Fn(&Rule) -> Micros) -> Self {
        let since = self.rules.rules.iter().map(since).collect();
        Self { from, since, ..self }
    }

    /// The same in force from a log time on, after another version.
    #[must_use]
    pub fn following(self, before: &Self, from: Micros) -> Self {
        let key = |of: &Self, ix: RuleIx, rule: &Rule| {
            // Where it reads from is part of what waits for whom.
            let state = of.plan.state_of(ix).map(|(state, sources)| (state, sources.to_vec()));
            (rule.id.clone(), rule.meaning, state)
        };
        let known: BTreeMap<_, Micros> = before
            .rules
            .iter()
            .zip(before.since.iter())
            .map(|((ix, rule), since)| (key(before, ix, rule), *since))
            .collect();
        let since =
            self.rules.iter().map(|(ix, rule)| known.get(&key(&self, ix, rule)).copied().unwrap_or(from));
        let since = since.collect();
        Self { from, since, ..self }
    }

    /// Whether all its sources can be decoded.
    ///
    /// # Errors
    /// If one cannot.
    pub fn check(&self) -> Result<(), Error> {
        self.sources.iter().try_for_each(|(source, _)| self.decoder(source, [0; 32]).map(drop))
    }

    /// What is decoded of a source.
    #[must_use]
    pub fn projection(&self, source: SourceIx) -> &Arc<Projection> {
        &self.programs[usize::from(source.0)].projection
    }

    /// Its rules, each with what tells it from the same rule of another meaning.
    pub(crate) fn instances(&self) -> impl Iterator<Item = (RuleIx, Instance<'_>)> {
        let rules = self.rules.iter().zip(self.since.iter());
        rules.map(|((ix, rule), since)| (ix, (&*rule.id, rule.meaning, rule.emits, *since)))
    }

    pub(crate) fn part(&self) -> VersionPlan {
        VersionPlan { from: self.from, plan: self.plan.clone(), since: self.since.clone() }
    }

    pub(crate) fn decoder(&self, source: SourceIx, secret: [u8; 32]) -> Result<Decoder, Error> {
        let def = self.sources.get(source);
        let decoder = Decoder::new(def, &self.sources.fields, self.projection(source), secret)
            .map_err(|cause| Error::Source { source_name: def.name.clone(), cause })?;
        let searched = vedette_detect::searches_records(&self.rules, def);
        Ok(if searched { decoder.searched(def, secret) } else { decoder })
    }

    /// An evaluator of one rule alone over batches of a source, to see what it costs; `None` if it cannot apply to these.
    #[must_use]
    pub fn alone(&self, rule: RuleIx, source: SourceIx) -> Option<Evaluator> {
        let fields = self.projection(source).fields();
        let program = Program::alone(&self.rules, rule, self.sources.get(source), fields)?;
        Some(Evaluator::new(Arc::new(program)))
    }

    pub(crate) fn evaluator(&self, source: SourceIx, secret: [u8; 32]) -> Evaluator {
        let hash = blake3::keyed_hash(&secret, b"detect: memo");
        let seed = hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Evaluator::with_seed(self.programs[usize::from(source.0)].program.clone(), seed)
    }
}
