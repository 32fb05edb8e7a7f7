//! `vedette check`: parse, lint, compile and test rules and playbooks.
//!
//! In: files and folders of rules and playbooks. Out: refusals, warnings and test results as text, JSON, SARIF or JUnit XML.
//! Invariant: no network, no state; the tests run through the same engine as the service.

mod report;
mod tester;

use std::{path::PathBuf, sync::Arc};

use vedette_correlate::Plan;
use vedette_event::Sources;
use vedette_sigma::RuleSet;

use crate::{
    Failure, World as _,
    config::memory::{self, Memory},
    content,
    playbook::{self, Playbooks},
};

pub use tester::{Outcome, TestResult};

/// What `check` is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  vedette check
  vedette check detections/rules/waf/ my_rule.yml
  vedette check detections/playbooks/waf_contain.yml
  vedette check detections/ --format junit > report.xml

A playbook is checked with the rules of the folder that its `playbooks/` is in.

Exit status: 0 all is well (warnings stop nothing), 1 a rule or a playbook was refused or a test failed, 2 wrong use.")]
pub struct Args {
    /// Rule files, playbooks and folders.
    #[arg(value_name = "PATH", default_value = "detections/")]
    paths: Vec<PathBuf>,
    /// For people, one JSON object, SARIF 2.1.0 for code hosts, or JUnit XML for CI.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Json,
    Sarif,
    Junit,
}

/// What the rules may hold in memory, where nothing else is configured.
#[derive(Debug)]
pub struct RuleMemory {
    /// Bytes for the process.
    pub budget: u64,
    /// Entries in each of 64 key groups, by rule.
    pub entries: Vec<(Arc<str>, usize)>,
}

impl RuleMemory {
    fn of(rules: &Arc<RuleSet>, sources: &Sources) -> Self {
        let plan = Plan::compile(rules.clone(), Arc::new(sources.clone()));
        let memory = Memory::for_rules(plan.bytes_for(memory::ENTRIES));
        let of_rule = |(rule, entries)| (rules.get(rule).id.clone(), entries);
        Self { budget: memory.budget, entries: plan.entries(memory.state).into_iter().map(of_rule).collect() }
    }
}

/// All that was found.
#[derive(Debug, Clone, Copy)]
pub struct Checked<'a> {
    /// The rules.
    pub rules: &'a RuleSet,
    /// How their tests went.
    pub results: &'a [TestResult],
    /// The playbooks, and how their tests went.
    pub playbooks: &'a Playbooks,
}

/// Runs the command; 1 if anything was refused or a test failed.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let sources = content::sources_here().map_err(Failure::Usage)?;
    let paths = playbook::with_rules(&args.paths);
    let text = content::rules(&paths).map_err(Failure::Usage)?;
    let rules = Arc::new(text.load(&sources));
    let results = tester::run_all(&rules, &sources).world()?;
    let playbooks = Playbooks::read(&paths, &rules, &sources);
    let checked = Checked { rules: &rules, results: &results, playbooks: &playbooks };
    match args.format {
        Format::Text => report::text(&checked, &text, &RuleMemory::of(&rules, &sources)),
        Format::Json => report::json(&checked, &RuleMemory::of(&rules, &sources)),
        Format::Sarif => report::sarif(&checked),
        Format::Junit => report::junit(&checked),
    }
    .world()?;
    let failed = playbooks.failed() > 0 || results.iter().any(|r| matches!(r.outcome, Outcome::Failed(_)));
    Ok(u8::from(failed || !rules.rejected.is_empty() || !playbooks.set.rejected.is_empty()))
}
