//! Rules that a query of the lake names with `sigma('…')`.
//!
//! In: ids and names, the rules that there are, rows of the lake. Out: of each row whether the rule matches. Invariants: the rule sees what it saw when the
//! event was read ([`way`](crate::backtest::way)), and is refused where the lake does not have that; an event that is not evaluated is null, and neither.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result, bail};
use vedette_engine::{Compiled, Version};
use vedette_event::{SourceIx, Sources, TopicIx, Topics};
use vedette_hunt::{
    BooleanArray, Query, RecordBatch, SOURCE, Sigma,
    lake::{Lake, texts},
};
use vedette_sigma::RuleSet;

use super::rules::find;
use crate::{
    backtest::way::{self, Hand},
    table,
};

/// What says which events the rules of a query match. `whose` begins the sentence that says that there is no such rule: `--rules has`.
pub fn over_the_lake(
    query: &Query,
    (all, whose): (&RuleSet, &str),
    sources: &Arc<Sources>,
    (lake, secret): (&Lake, [u8; 32]),
) -> Result<Vec<Sigma>> {
    query.rules().iter().map(|name| sigma(name, (all, whose), sources, (lake, secret))).collect()
}

fn sigma(
    name: &str,
    (all, whose): (&RuleSet, &str),
    sources: &Arc<Sources>,
    (lake, secret): (&Lake, [u8; 32]),
) -> Result<Sigma> {
    let (rule, detection) = find(name, all, whose)?;
    let shown = table::plain(name);
    let mut concerned: BTreeSet<SourceIx> = BTreeSet::new();
    concerned.extend(sources.iter().filter(|(_, def)| def.concerns(&detection.logsource)).map(|(ix, _)| ix));
    if concerned.is_empty() {
        bail!("sigma('{shown}') is for another logsource than that of any source, and never matches");
    }
    if let Some(why) = way::unanswerable(all, rule, sources) {
        bail!(
            "sigma('{shown}') cannot be answered over the lake: {why}; over files it can: `vedette hunt --rules … \"…\" FILE`"
        );
    }
    // Whole records are read of such sources, which is dear, and not of one that there is nothing of.
    concerned.retain(|ix| lake.holds(&sources.get(*ix).name));
    let alone = RuleSet { rules: vec![rule.clone()], ..RuleSet::default() };
    let version = Version::uncorrelated_showing(Arc::new(alone), sources.clone(), &[]);
    let topics = Arc::new(Topics::new(sources.defs.iter().map(|def| def.name.clone())));
    let compiled = Arc::new(Compiled::with_versions(vec![Arc::new(version)], topics, secret));
    let mut needs: BTreeSet<Arc<str>> = [SOURCE.into()].into();
    for (source, columns) in way::wanted(&compiled) {
        if sources.find(&source).is_some_and(|ix| concerned.contains(&ix)) {
            needs.extend(columns);
        }
    }
    let hand = Mutex::new(Hand::new(&compiled, secret)?);
    let judge = move |events: &RecordBatch| {
        // One that panicked ended its query, and there is no other.
        let mut hand = hand.lock().unwrap_or_else(PoisonError::into_inner);
        judged(&mut hand, sources_of(&compiled, &concerned), events).map_err(Into::into)
    };
    Ok(Sigma { rule: name.to_owned(), needs: needs.into_iter().collect(), judge: Arc::new(judge) })
}

/// Finds the sources that a rule concerns by their names.
fn sources_of<'a>(
    compiled: &'a Compiled,
    concerned: &'a BTreeSet<SourceIx>,
) -> impl Fn(&str) -> Option<SourceIx> + use<'a> {
    |name| compiled.sources.find(name).filter(|ix| concerned.contains(ix))
}

fn judged(
    hand: &mut Hand,
    find: impl Fn(&str) -> Option<SourceIx>,
    events: &RecordBatch,
) -> Result<BooleanArray> {
    let mut found = vec![Some(false); events.num_rows()];
    let source = texts(events, SOURCE).context("events of no source")?;
    let concerned = |row: usize| source(row).and_then(&find);
    if (0..events.num_rows()).all(|row| concerned(row).is_none()) {
        return Ok(found.into_iter().collect());
    }
    let mut rows: BTreeMap<SourceIx, Vec<u32>> = BTreeMap::new();
    for (row, judged) in found.iter_mut().enumerate() {
        if let Some(source) = concerned(row) {
            *judged = None;
            rows.entry(source).or_default().push(row as u32);
        }
    }
    for (source, rows) in rows {
        // Rules look at no topic.
        for task in way::tasks(source, events, rows, |_| Some(TopicIx(0)))? {
            let (batches, _) = hand.evaluate(&task)?;
            for batch in batches {
                let row = |row: usize| task.rows[batch.events.records[row] as usize] as usize;
                (0..batch.events.rows()).for_each(|of| found[row(of)] = Some(false));
                batch.hits.iter().for_each(|hit| found[row(hit.row as usize)] = Some(true));
            }
        }
    }
    Ok(found.into_iter().collect())
}

#[cfg(test)]
mod tests;
