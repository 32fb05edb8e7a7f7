//! Runs a rule's inline tests through the engine.
//!
//! In: accepted rules with their `vedette: tests:`. Out: one [`TestResult`] a test.
//! A test's events are flat objects of canonical fields. They are read as JSON by a source that keeps the logsource, types,
//! taxonomy, entity and weight of a real one: that named by the event's `vedette.source`, else the first that the rule
//! applies to. The first event stands at 2026-01-01T12:00:00Z unless its `at` moves it; `D` is large, so order decides.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};
use vedette_engine::{Compiled, Engine, Output, Published, Settings};
use vedette_event::{
    Flags, LogSource, MAX_ROWS, Micros, Partition, RawBatchBuilder, RuleIx, SourceDef, SourceIx, Sources,
    Span, TopicIx, Topics, source::Form,
};
use vedette_sigma::{Rule, RuleKind, RuleSet, RuleTest};

use crate::scan::FILE_SECRET;

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
pub fn run_all(rules: &Arc<RuleSet>, sources: &Sources) -> Result<Vec<TestResult>> {
    let bench = Bench::new(rules, sources);
    let mut results = Vec::new();
    for (ix, rule) in rules.iter() {
        for test in &rule.tests {
            let alerts = bench.run(ix, test).with_context(|| format!("{}: test `{}`", rule.id, test.name))?;
            let outcome = judge(rule, test, &alerts);
            results.push(TestResult { rule: ix, name: test.name.clone(), line: test.line, outcome });
        }
    }
    Ok(results)
}

/// The compiled rules over sources that read test events.
struct Bench {
    rules: Arc<RuleSet>,
    sources: Arc<Sources>,
    compiled: Arc<Compiled>,
}

impl Bench {
    fn new(rules: &Arc<RuleSet>, sources: &Sources) -> Self {
        let as_json = |def: &SourceDef| SourceDef {
            // Only the mapped form gives canonical fields their declared types.
            form: if def.own_logsource() { Form::Json } else { Form::ApiJson },
            fields: BTreeMap::new(),
            secrets: Vec::new(),
            disorder: Span::secs(86_400),
            ..def.clone()
        };
        let defs = sources.defs.iter().map(as_json).collect();
        let sources = Arc::new(Sources::new(sources.fields.clone(), defs));
        let topics = Arc::new(Topics::new(sources.defs.iter().map(|d| d.name.clone())));
        let compiled = Compiled::new(rules.clone(), sources.clone(), topics, FILE_SECRET);
        Self { rules: rules.clone(), sources, compiled }
    }

    /// The last revision of each alert of this rule.
    fn run(&self, ix: RuleIx, test: &RuleTest) -> Result<Vec<Published>> {
        let default = self.default_source(ix);
        let mut timed: Vec<(Span, SourceIx, String)> = Vec::new();
        for (at, event) in &test.events {
            let (source, text) = self.event(event, *at, default)?;
            timed.push((*at, source, text));
        }
        timed.sort_by_key(|(at, ..)| *at);
        let mut detector = self.compiled.detector()?;
        let settings = Settings { reorder_budget: usize::MAX, ..Settings::new(FILE_SECRET) };
        let mut engine = Engine::new(self.compiled.clone(), settings);
        let mut out = Output::default();
        for (source, _) in self.sources.iter() {
            let partition = Partition { topic: TopicIx(source.0), number: 0 };
            engine.assign(partition, source, 0);
            let mut batch = RawBatchBuilder::new(source, partition);
            let own = timed.iter().filter(|(_, s, _)| *s == source).enumerate();
            for (offset, (at, _, text)) in own {
                batch.push(offset as i64, Some(START.plus(*at)), Flags::NONE, Some(text.as_bytes()));
                if batch.len() == MAX_ROWS {
                    engine.absorb(detector.detect(&batch.take()), &mut out);
                }
            }
            if !batch.is_empty() {
                engine.absorb(detector.detect(&batch.take()), &mut out);
            }
        }
        engine.finish(&mut out);
        let mut last: BTreeMap<Arc<str>, Published> = BTreeMap::new();
        for published in out.correlated.alerts.into_iter().filter(|p| p.rule == ix) {
            last.insert(published.alert.alert_id.clone(), published);
        }
        Ok(last.into_values().collect())
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
    fn default_source(&self, ix: RuleIx) -> SourceIx {
        let logsource = first_logsource(&self.rules, ix);
        let mut named = self.sources.iter().filter(|(_, def)| !def.own_logsource());
        let fits = named.find(|(_, def)| def.logsource.compatible(&logsource));
        let fallback = || self.sources.find("json").unwrap_or(SourceIx(0));
        fits.map_or_else(fallback, |(ix, _)| ix)
    }
}

fn first_logsource(rules: &RuleSet, ix: RuleIx) -> LogSource {
    match &rules.get(ix).kind {
        RuleKind::Detection(d) => d.logsource.clone(),
        RuleKind::Correlation(c) => c.rules.first().map(|r| first_logsource(rules, *r)).unwrap_or_default(),
    }
}

fn judge(rule: &Rule, test: &RuleTest, alerts: &[Published]) -> Outcome {
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
        let key = serde_json::to_value(&published.alert.key).unwrap_or_default();
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
