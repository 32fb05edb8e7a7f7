//! Compiled rules against the reference evaluator, and through the whole kernel.
//!
//! In: rules and lines. Invariants: the compiled program finds exactly what the reference finds, whatever came before; no
//! event is evaluated that costs more than a record may.

use std::{cell::RefCell, collections::BTreeSet, sync::Arc};

use vedette_detect::{reference, work::BUDGET};
use vedette_engine::{Compiled, Detector, Engine, EngineSettings, Output};
use vedette_event::{Cell, RawBatch, RuleIx, SourceIx, Topics};
use vedette_sigma::{Lists, RuleSet, load};

use crate::{NAMES, RULES, SECRET, SOURCES, batch, file};

/// Lines for rules of which nothing is known, by source.
const LINES: [(&str, &str); 4] = [
    ("paloalto", include_str!("../rules/paloalto.csv")),
    ("aws_waf", include_str!("../rules/aws_waf.json")),
    ("exchange_api", include_str!("../rules/exchange_api.json")),
    ("json", include_str!("../rules/json.json")),
];

/// Rules compiled for the project's sources.
#[must_use]
pub fn compile(rules: RuleSet) -> Arc<Compiled> {
    let topics = Arc::new(Topics::new(SOURCES.defs.iter().map(|def| def.name.clone())));
    Compiled::new(Arc::new(rules), SOURCES.clone(), topics, SECRET)
}

/// Evaluates a batch and compares each hit and miss with the reference; the events go on into the engine.
fn agree(compiled: &Compiled, detector: &mut Detector, engine: Option<&mut Engine>, raw: &RawBatch) {
    let detected = detector.detect(raw);
    let def = SOURCES.get(raw.source);
    let names = compiled.newest().projection(raw.source).fields();
    for letter in &detected.dead {
        assert_ne!(letter.reason, vedette_event::DeadReason::Panic, "evaluating {raw:?} panicked");
    }
    for batch in &detected.batches {
        let found: BTreeSet<(u32, RuleIx)> = batch.hits.iter().map(|hit| (hit.row, hit.rule)).collect();
        for row in 0..batch.events.rows() {
            let cell = |name: &str| {
                let at = names.iter().position(|known| **known == *name);
                at.map_or(Cell::MISSING, |at| batch.events.columns()[at].cell(row))
            };
            let original = batch.events.original().cell(row).text;
            let work = reference::work(&compiled.rules, def, &cell, original);
            assert!(work.steps <= BUDGET, "event {original:?} was evaluated for {work:?}");
            for (ix, rule) in compiled.rules.iter() {
                let expected = reference::matches(&compiled.rules, ix, def, &cell, original);
                assert_eq!(
                    found.contains(&(row as u32, ix)),
                    expected,
                    "rule `{}` of line {} and event {original:?}",
                    rule.title,
                    rule.line
                );
            }
        }
    }
    if let Some(engine) = engine {
        engine.absorb(detected, &mut Output::default());
    }
}

/// Loads a rule file and runs what it holds over a few events of every source.
pub fn check_rules(text: &str) {
    let rules = load(&[file("fuzz.yml", text)], &Lists::default(), &SOURCES);
    // A carriage return alone ends a line of YAML, too.
    let lines = text.split(['\n', '\r']).count();
    for rejection in rules.rejected.iter().chain(&rules.warnings) {
        assert!((1..=lines + 1).contains(&rejection.line), "{rejection:?} points nowhere");
        assert!(!rejection.message.is_empty() && !rejection.code.is_empty());
        let _ = vedette_sigma::render(rejection, text, vedette_sigma::Style::default());
    }
    if rules.rules.is_empty() {
        return;
    }
    let compiled = compile(rules);
    let mut detector = compiled.detector().expect("the project's sources");
    let mut engine = Engine::new(compiled.clone(), EngineSettings::new(SECRET));
    for (name, lines) in LINES {
        let source = SOURCES.find(name).expect("one of the project's sources");
        agree(
            &compiled,
            &mut detector,
            Some(&mut engine),
            &batch(source, lines.trim_end().as_bytes(), 0, None),
        );
    }
    engine.finish(&mut Output::default());
}

thread_local! {
    static EVALUATED: RefCell<Option<(Arc<Compiled>, Detector)>> = const { RefCell::new(None) };
}

/// Evaluates lines as events of source `json` (or of another one, by number) against the fixed rules.
pub fn check_events(source: u8, data: &[u8]) {
    EVALUATED.with_borrow_mut(|evaluated| {
        let (compiled, detector) = evaluated.get_or_insert_with(|| {
            let rules = load(&[file("every_modifier.yml", RULES)], &Lists::default(), &SOURCES);
            assert!(rules.rejected.is_empty(), "{:?}", rules.rejected);
            let compiled = compile(rules);
            let detector = compiled.detector().expect("the project's sources");
            (compiled, detector)
        });
        let name = NAMES.get(usize::from(source)).unwrap_or(&"json");
        let source: SourceIx = SOURCES.find(name).expect("one of the project's sources");
        agree(compiled, detector, None, &batch(source, data, 0, None));
    });
}
