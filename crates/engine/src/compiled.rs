//! A rule set compiled against a set of sources: programs, plan and the columns each source must decode.
//!
//! In: [`RuleSet`], [`Sources`], [`Topics`]. Out: [`Compiled`], immutable and shared by threads.
//! Invariant: a source decodes exactly the columns that some rule, key or entity needs.

use std::{collections::BTreeSet, sync::Arc};

use vedette_correlate::Plan;
use vedette_decode::{Decoder, Inspector};
use vedette_detect::{Evaluator, Program};
use vedette_event::{RuleIx, SourceDef, SourceIx, Sources, Topics};
use vedette_sigma::{RuleKind, RuleSet};

use crate::{detector::Detector, error::Error};

/// One version of rules over one version of sources.
#[derive(Debug)]
pub struct Compiled {
    /// The rules.
    pub rules: Arc<RuleSet>,
    /// The sources.
    pub sources: Arc<Sources>,
    /// The topics they are read from (for files, the sources' names).
    pub topics: Arc<Topics>,
    pub(crate) plan: Arc<Plan>,
    lanes: Vec<SourceProgram>,
    secret: [u8; 32],
}

/// What one source runs.
#[derive(Debug)]
struct SourceProgram {
    projection: Arc<[Arc<str>]>,
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
                let projection: Arc<[Arc<str>]> = fields.into_iter().collect();
                let program = Arc::new(Program::compile(&rules, ix, &sources, &projection));
                SourceProgram { projection, program }
            })
            .collect();
        Arc::new(Self { rules, sources, topics, plan, lanes, secret })
    }

    /// The canonical names of a source's columns, in order.
    #[must_use]
    pub fn projection(&self, source: SourceIx) -> &Arc<[Arc<str>]> {
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

    /// Names of the sources that a rule reads, sorted: those that some detection in its tree may apply to.
    #[must_use]
    pub fn sources_of(&self, rule: RuleIx) -> Vec<String> {
        match &self.rules.get(rule).kind {
            RuleKind::Detection(d) => {
                let fits = self.sources.defs.iter().filter(|def| def.concerns(&d.logsource));
                fits.map(|def| def.name.to_string()).collect()
            }
            RuleKind::Correlation(c) => {
                let all: BTreeSet<String> = c.rules.iter().flat_map(|r| self.sources_of(*r)).collect();
                all.into_iter().collect()
            }
        }
    }

    pub(crate) fn evaluator(&self, source: SourceIx) -> Evaluator {
        let hash = blake3::keyed_hash(&self.secret, b"detect: memo");
        let seed = hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Evaluator::with_seed(self.lanes[usize::from(source.0)].program.clone(), seed)
    }
}
