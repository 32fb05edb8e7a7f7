//! The rules that a query names with `sigma('…')`.
//!
//! In: ids and names, rule files and folders. Out: the rules alone, so that no other is evaluated.
//! Invariant: a rule that is found is one that matches single events, and can apply to the source.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Result, bail};
use vedette_event::RuleIx;
use vedette_sigma::{Rule, RuleKind, RuleSet, fault::nearest, ir::Detection};

use super::files::Files;
use crate::{Failure, content, rejected::print_rejected, table};

/// Rules of a query.
#[derive(Default)]
pub struct Chosen {
    /// Each once.
    pub rules: Arc<RuleSet>,
    /// By the order in which the query names them: which of these each is.
    pub numbers: Vec<RuleIx>,
}

/// The rules of these ids, names or titles.
pub fn chosen(named: &[String], paths: &[PathBuf], files: &Files) -> Result<Chosen, Failure> {
    if named.is_empty() {
        return Ok(Chosen::default());
    }
    let text = content::rules(paths).map_err(Failure::Usage)?;
    let all = text.load(&files.sources);
    let mut rules: Vec<Rule> = Vec::new();
    let mut numbers = Vec::new();
    for name in named {
        let rule = of_source(name, &all, files).map_err(|error| {
            print_rejected(&all, &text);
            Failure::Usage(error)
        })?;
        let at = rules.iter().position(|known| known.id == rule.id).unwrap_or_else(|| {
            rules.push(rule.clone());
            rules.len() - 1
        });
        numbers.push(RuleIx(at as u32));
    }
    Ok(Chosen { rules: Arc::new(RuleSet { rules, ..RuleSet::default() }), numbers })
}

fn of_source<'a>(name: &str, all: &'a RuleSet, files: &Files) -> Result<&'a Rule> {
    let (rule, detection) = find(name, all, "--rules has")?;
    if !files.def().concerns(&detection.logsource) {
        let (shown, source) = (table::plain(name), &files.def().name);
        bail!("sigma('{shown}') is for another logsource than that of source `{source}`, and never matches");
    }
    Ok(rule)
}

/// The rule of this id, name or title, which matches single events. `whose` begins the sentence that says that there is none.
pub fn find<'a>(name: &str, all: &'a RuleSet, whose: &str) -> Result<(&'a Rule, &'a Detection)> {
    let is = |rule: &&Rule| &*rule.id == name || rule.name.as_deref() == Some(name);
    // An id before a title: titles need not be unique.
    let found = all.rules.iter().find(is).or_else(|| all.rules.iter().find(|rule| &*rule.title == name));
    let shown = table::plain(name);
    let Some(rule) = found else {
        let rules = all.rules.iter();
        let names: Vec<&str> = rules
            .flat_map(|rule| [Some(&*rule.id), rule.name.as_deref(), Some(&*rule.title)])
            .flatten()
            .collect();
        let hint = nearest(name, &names).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        bail!("sigma('{shown}'): {whose} no rule with this id, name or title{hint}");
    };
    match &rule.kind {
        RuleKind::Correlation(_) => bail!(
            "sigma('{shown}') is a correlation, which looks at what other rules found; name one of these, or use `vedette scan`"
        ),
        RuleKind::Detection(detection) => Ok((rule, detection)),
    }
}
