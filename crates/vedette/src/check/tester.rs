//! Runs a rule's inline tests through the pipeline and the engine of `run` and `scan`.
//!
//! In: accepted rules with their `vedette: tests:`. Out: one [`TestResult`] a test.
//! A test's events are flat objects of canonical fields. They are read as JSON by a source that keeps the logsource, types,
//! taxonomy, entity and weight of a real one: that named by the event's `vedette.source`, else the first that the rule
//! applies to. The first event stands at 2026-01-01T12:00:00Z unless its `at` moves it; `D` is large, so order decides.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use crossbeam_channel::never;
use serde_json::{Map, Value};
use vedette_engine::{Compiled, Engine, EngineSettings, InForce, NewRevision, Output};
use vedette_event::{
    Flags, LogSource, MAX_ROWS, Micros, Partition, RawBatch, RawBatchBuilder, RuleIx, SourceDef, SourceIx,
    Sources, Span, TopicIx, Topics, source::Form,
};
use vedette_sigma::{Rule, RuleKind, RuleSet, RuleTest};

use crate::{
    pipeline::{Pipeline, Step},
    scan::FILE_SECRET,
};

/// 2026-01-01T12:00:00Z.
const START: Micros = Micros(1_767_268_800_000_000);

/// How one test went.
#[derive(Debug)]
pub struct TestResult {
    /// The rule.
    pub rule: RuleIx,
    /// The test's name.
    pub name: Arc<str>,
    /// The test's line.
    pub line: usize,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a test.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What was expected.
    Passed,
    /// Something else: what was expected and what came.
    Failed(String),
}

/// Runs all tests of all rules.
pub fn run_all(rules: &RuleSet, sources: &Sources) -> Result<Vec<TestResult>> {
    let sources = readable(sources);
    let mut results = Vec::new();
    for (ix, rule) in rules.iter().filter(|(_, rule)| !rule.tests.is_empty()) {
        let bench = Bench::new(rules, ix, &sources);
        for test in &rule.tests {
            let alerts = bench.run(test).with_context(|| format!("{}: test `{}`", rule.id, test.name))?;
            let outcome = judge(rule, test, &alerts);
            results.push(TestResult { rule: ix, name: test.name.clone(), line: test.line, outcome });
        }
    }
    Ok(results)
}

/// The sources as they read test events.
fn readable(sources: &Sources) -> Arc<Sources> {
    let as_json = |def: &SourceDef| SourceDef {
        // Only the mapped form gives canonical fields their declared types.
        form: if def.own_logsource() { Form::Json } else { Form::ApiJson },
        fields: BTreeMap::new(),
        secrets: Vec::new(),
        disorder: Span::secs(86_400),
        ..def.clone()
    };
    Arc::new(Sources::new(sources.fields.clone(), sources.defs.iter().map(as_json).collect()))
}

/// The rule and all it refers to, and its number among them.
fn alone(rules: &RuleSet, ix: RuleIx) -> (RuleSet, RuleIx) {
    let mut wanted = BTreeSet::new();
    let mut ahead = vec![ix];
    while let Some(ix) = ahead.pop() {
        if let (true, RuleKind::Correlation(c)) = (wanted.insert(ix), &rules.get(ix).kind) {
            ahead.extend(&c.rules);
        }
    }
    let numbers: BTreeMap<RuleIx, RuleIx> = wanted.iter().zip(0..).map(|(ix, n)| (*ix, RuleIx(n))).collect();
    let number = |ix: &mut RuleIx| *ix = numbers.get(ix).copied().unwrap_or(*ix);
    let mut kept: Vec<Rule> = wanted.iter().map(|ix| rules.get(*ix).clone()).collect();
    for rule in &mut kept {
        if let RuleKind::Correlation(c) = &mut rule.kind {
            c.rules.iter_mut().for_each(number);
            c.group_by.iter_mut().flat_map(|part| &mut part.fields).for_each(|(rule, _)| number(rule));
        }
    }
    let mut root = ix;
    number(&mut root);
    (RuleSet { rules: kept, ..RuleSet::default() }, root)
}

/// A rule compiled over sources that read test events. No other rule is, because a test would then take time by all.
struct Bench {
    rule: RuleIx,
    rules: Arc<RuleSet>,
    sources: Arc<Sources>,
    compiled: Arc<Compiled>,
}

impl Bench {
    fn new(all: &RuleSet, ix: RuleIx, sources: &Arc<Sources>) -> Self {
        let (rules, rule) = alone(all, ix);
        let rules = Arc::new(rules);
        let topics = Arc::new(Topics::new(sources.defs.iter().map(|d| d.name.clone())));
        let compiled = Compiled::new(rules.clone(), sources.clone(), topics, FILE_SECRET);
        Self { rule, rules, sources: sources.clone(), compiled }
    }

    /// The last revision of each alert of this rule.
    fn run(&self, test: &RuleTest) -> Result<Vec<NewRevision>> {
        let default = self.default_source();
        let mut timed: Vec<(Span, SourceIx, String)> = Vec::new();
        for (at, event) in &test.events {
            let (source, text) = self.event(event, *at, default)?;
            timed.push((*at, source, text));
        }
        timed.sort_by_key(|(at, ..)| *at);
        let mut engine = Engine::new(self.compiled.clone(), EngineSettings::new(FILE_SECRET));
        for (source, _) in self.sources.iter() {
            // All at once, as in `scan`: no source's time may pass while another has not begun.
            engine.assign(partition_of(source), source, 0);
        }
        // One thread, which is the pipeline of the service without a hop.
        let (mut pipeline, _) =
            Pipeline::new(InForce::new(self.compiled.clone()), 1, Ok::<RawBatch, Infallible>)?;
        let (nobody, mut out) = (never(), Output::default());
        for batch in self.batches(&timed) {
            pipeline.put(batch);
            while let Ok(Step::Batch(detected)) = pipeline.next(&nobody, Duration::ZERO, &mut || ()) {
                engine.absorb(detected, &mut out);
            }
        }
        engine.finish(&mut out);
        let mut last: BTreeMap<Arc<str>, NewRevision> = BTreeMap::new();
        for published in out.correlated.alerts.into_iter().filter(|p| p.rule == self.rule) {
            last.insert(published.alert.alert_id.clone(), published);
        }
        Ok(last.into_values().collect())
    }

    /// Each source's events, in order, as the records of its one partition.
    fn batches(&self, timed: &[(Span, SourceIx, String)]) -> Vec<RawBatch> {
        let mut batches = Vec::new();
        for (source, _) in self.sources.iter() {
            let own: Vec<_> = timed.iter().filter(|(_, of, _)| *of == source).collect();
            for (events, first) in own.chunks(MAX_ROWS).zip((0..).step_by(MAX_ROWS)) {
                let mut batch = RawBatchBuilder::new(source, partition_of(source));
                for ((at, _, text), offset) in events.iter().zip(first..) {
                    batch.push(offset, Some(START.plus(*at)), Flags::NONE, Some(text.as_bytes()));
                }
                batches.push(batch.take());
            }
        }
        batches
    }

    fn event(&self, event: &Map<String, Value>, at: Span, default: SourceIx) -> Result<(SourceIx, String)> {
        let mut event = event.clone();
        let source = match event.remove("vedette.source") {
            None => default,
            Some(name) => name
                .as_str()
                .and_then(|name| self.sources.find(name))
                .with_context(|| format!("vedette.source: there is no source {name}"))?,
        };
        event.entry("@timestamp").or_insert_with(|| START.plus(at).to_string().into());
        Ok((source, serde_json::to_string(&event)?))
    }

    /// The first source that names its logsource and that the rule applies to; else `json`, else the first of all.
    fn default_source(&self) -> SourceIx {
        let logsource = first_logsource(&self.rules, self.rule);
        let mut named = self.sources.iter().filter(|(_, def)| !def.own_logsource());
        let fits = named.find(|(_, def)| def.logsource.compatible(&logsource));
        let fallback = || self.sources.find("json").unwrap_or(SourceIx(0));
        fits.map_or_else(fallback, |(ix, _)| ix)
    }
}

/// Of each source there is one partition.
const fn partition_of(source: SourceIx) -> Partition {
    Partition { topic: TopicIx(source.0), number: 0 }
}

fn first_logsource(rules: &RuleSet, ix: RuleIx) -> LogSource {
    match &rules.get(ix).kind {
        RuleKind::Detection(d) => d.logsource.clone(),
        RuleKind::Correlation(c) => c.rules.first().map(|r| first_logsource(rules, *r)).unwrap_or_default(),
    }
}

fn judge(rule: &Rule, test: &RuleTest, alerts: &[NewRevision]) -> Outcome {
    if !rule.emits {
        return Outcome::Failed(
            "the rule raises no alerts of its own (`generate` is false); test its correlation".into(),
        );
    }
    if alerts.len() != test.alerts {
        let came: Vec<_> = alerts.iter().map(|p| p.alert.summary.as_str()).collect();
        return Outcome::Failed(format!("expected {} alerts, came {}: {came:?}", test.alerts, alerts.len()));
    }
    for published in alerts {
        let key = vedette_event::key_json(&published.alert.key);
        for (part, wanted) in &test.group {
            if key.get(part) != Some(wanted) {
                return Outcome::Failed(format!("expected {part}: {wanted} in the key, came {key}"));
            }
        }
        if let Some(wanted) = test.count.filter(|n| *n != published.alert.count) {
            return Outcome::Failed(format!("expected count {wanted}, came {}", published.alert.count));
        }
    }
    Outcome::Passed
}
