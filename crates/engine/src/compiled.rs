//! A rule set compiled against a set of sources: programs, plan and the columns each source must decode.
//!
//! In: [`RuleSet`], [`Sources`], [`Topics`]. Out: [`Compiled`], immutable and shared by threads.
//! Invariant: a source decodes exactly the columns that some rule, key or entity needs.

use std::{collections::BTreeSet, sync::Arc};

use vedette_correlate::Plan;
use vedette_decode::{Decoder, Inspector};
use vedette_detect::{Evaluator, Program};
use vedette_event::{Projection, RuleIx, SourceDef, SourceIx, Sources, Topics};
use vedette_sigma::{RuleKind, RuleSet};

use crate::{detector::Detector, error::Error};

/// One version of rules over one version of sources.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// The rules.
    pub rules: Arc<RuleSet>,
    /// The sources.
    pub sources: Arc<Sources>,
    /// The topics they are read from (for files, the sources' names).
    pub topics: Arc<Topics>,
    pub(crate) plan: Arc<Plan>,
    lanes: Vec<SourceProgram>,
    /// By rule: the sources it reads, ascending.
    reads: Vec<Vec<SourceIx>>,
    secret: [u8; 32],
}

/// What one source runs.
#[derive(Debug, Clone)]
struct SourceProgram {
    projection: Arc<Projection>,
    program: Arc<Program>,
}

impl Compiled {
    /// Compiles the rules for every source. `secret` keys the hashes of state and of masked secrets.
    #[must_use]
    pub fn new(
        rules: Arc<RuleSet>,
        sources: Arc<Sources>,
        topics: Arc<Topics>,
        secret: [u8; 32],
    ) -> Arc<Self> {
        let plan = Arc::new(Plan::compile(rules.clone(), sources.clone()));
        let lanes = sources
            .iter()
            .map(|(ix, def)| {
                let mut fields = vedette_detect::needed_fields(&rules, def);
                fields.extend(plan.needed_fields(ix));
                let projection = Projection::new(fields);
                let program = Arc::new(Program::compile(&rules, ix, &sources, projection.fields()));
                SourceProgram { projection, program }
            })
            .collect();
        let reads = reads(&rules, &sources);
        Arc::new(Self { rules, sources, topics, plan, lanes, reads, secret })
    }

    /// The same over another table of the same topics.
    pub(crate) fn with_topics(&self, topics: Topics) -> Arc<Self> {
        Arc::new(Self { topics: Arc::new(topics), ..self.clone() })
    }

    /// What is decoded of a source.
    #[must_use]
    pub fn projection(&self, source: SourceIx) -> &Arc<Projection> {
        &self.lanes[usize::from(source.0)].projection
    }

    /// A detector with scratch space of its own, for one thread.
    ///
    /// # Errors
    /// If a source's definition cannot be decoded (an unknown time zone, say).
    pub fn detector(self: &Arc<Self>) -> Result<Detector, Error> {
        let lane = |(ix, _)| Ok((self.decoder(ix)?, self.evaluator(ix)));
        let lanes = self.sources.iter().map(lane).collect::<Result<_, Error>>()?;
        Ok(Detector::new(self.clone(), lanes))
    }

    /// A decoder of what the rules need of a source.
    ///
    /// # Errors
    /// If the source's definition cannot be decoded.
    pub fn decoder(&self, source: SourceIx) -> Result<Decoder, Error> {
        let def = self.sources.get(source);
        let decoder = Decoder::new(def, &self.sources.fields, self.projection(source), self.secret)
            .map_err(|cause| Error::Source { source_name: def.name.clone(), cause })?;
        let searched = vedette_detect::searches_records(&self.rules, def);
        Ok(if searched { decoder.searched(def, self.secret) } else { decoder })
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

    pub(crate) fn evaluator(&self, source: SourceIx) -> Evaluator {
        let hash = blake3::keyed_hash(&self.secret, b"detect: memo");
        let seed = hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Evaluator::with_seed(self.lanes[usize::from(source.0)].program.clone(), seed)
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
