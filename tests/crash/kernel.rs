//! The kernel in process, fed with the records that Kafka holds and the times that the broker gave them.
//!
//! In: [`Log`]s and the watermark of each topic's source. Out: every revision's body below those watermarks.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use anyhow::{Context, Result, ensure};
use vedette_engine::{Compiled, Engine, EngineSettings, InForce, Output, Version};
use vedette_event::{
    Fields, Flags, Micros, Partition, RawBatch, RawBatchBuilder, SourceDef, Sources, Span, Topics,
};
use vedette_sigma::{Lists, RuleFile};

use super::{log::Log, stored::Point};
use crate::binary::root;

/// What the kernel says.
#[derive(Debug, Default)]
pub struct Said {
    /// The newest revision of each alert and its body.
    pub bodies: BTreeMap<String, (u32, String)>,
    /// Every revision.
    pub revisions: BTreeMap<(String, u32), Point>,
    /// Rules that have an alert.
    pub rules: BTreeMap<String, usize>,
    /// Alerts that have ended.
    pub ended: usize,
    /// Dead letters.
    pub dead: usize,
}

/// Runs the kernel over the logs, up to exactly these watermarks.
pub fn run(logs: &[Log], disorder: Span, skew: Span, watermarks: &BTreeMap<String, Micros>) -> Result<Said> {
    let version = Arc::new(version(logs, disorder, &rule_files()?)?);
    run_versions(logs, vec![version], (disorder, skew), watermarks)
}

/// These rules over the sources of the logs, in force from the beginning.
pub fn version(logs: &[Log], disorder: Span, files: &[RuleFile]) -> Result<Version> {
    let sources = Arc::new(sources(logs, disorder)?);
    let rules = Arc::new(vedette_sigma::load(files, &Lists::new(), &sources));
    ensure!(rules.rejected.is_empty(), "{:?}", rules.rejected);
    Ok(Version::compile(rules, sources))
}

/// The same by several versions of the rules.
pub fn run_versions(
    logs: &[Log],
    versions: Vec<Arc<Version>>,
    (disorder, skew): (Span, Span),
    watermarks: &BTreeMap<String, Micros>,
) -> Result<Said> {
    let sources = versions.first().context("no version")?.sources.clone();
    let topics = Arc::new(Topics::new(logs.iter().map(|log| log.topic.as_str())));
    let secret = [42; 32];
    let compiled = Compiled::with_versions(versions, topics.clone(), secret);
    let mut engine = Engine::new(compiled.clone(), EngineSettings { skew, ..EngineSettings::new(secret) });
    let mut detector = compiled.detector()?;
    let mut in_force = InForce::new(compiled);
    let mut out = Output::default();
    let place = |log: &Log| -> Result<_> {
        let topic = topics.find(&log.topic).context("unknown topic")?;
        let source = sources.find(log.source).context("unknown source")?;
        Ok((Partition { topic, number: log.partition }, source))
    };
    for log in logs {
        let (partition, source) = place(log)?;
        engine.assign(partition, source, 0);
    }
    for log in logs {
        let (partition, source) = place(log)?;
        let mut batch = RawBatchBuilder::new(source, partition);
        let mut absorb = |batch: RawBatch| {
            let task = in_force.task(&batch);
            engine.absorb(detector.detect_after(&batch, task.before, &mut || ()), &mut out);
        };
        for (offset, (ts_log, payload)) in &log.records {
            batch.push(*offset, Some(*ts_log), Flags::NONE, payload.as_deref());
            if batch.len() == 100 {
                absorb(batch.take());
            }
        }
        if !batch.is_empty() {
            absorb(batch.take());
        }
    }
    for log in logs {
        let reached = watermarks.get(&log.topic).context("a topic without watermark")?;
        engine.idle(place(log)?.0, reached.plus(disorder).plus(skew), &mut out);
    }
    for log in logs {
        let (_, source) = place(log)?;
        ensure!(
            engine.watermark(source) == watermarks[&log.topic],
            "{} is not where it should be",
            log.topic
        );
    }
    ensure!(out.placements.is_empty(), "{:?}", out.placements);
    said(out)
}

fn said(out: Output) -> Result<Said> {
    let mut said = Said { dead: out.dead.len(), ..Said::default() };
    for published in out.correlated.alerts {
        let alert = published.alert;
        let (id, body) = (alert.alert_id.to_string(), serde_json::to_string(&alert)?);
        said.revisions.insert((id.clone(), alert.revision), (alert.last_seen, alert.count, alert.severity));
        if alert.revision == 1 {
            *said.rules.entry(alert.rule.title.to_string()).or_default() += 1;
        }
        said.ended += usize::from(alert.state == vedette_event::State::Ended);
        said.bodies.insert(id, (alert.revision, body));
    }
    Ok(said)
}

fn sources(logs: &[Log], disorder: Span) -> Result<Sources> {
    let schemas = root().join("schemas");
    let fields: Fields = serde_saphyr::from_str(&fs::read_to_string(schemas.join("fields.yml"))?)?;
    let mut defs: Vec<SourceDef> = Vec::new();
    for log in logs {
        if !defs.iter().any(|def| &*def.name == log.source) {
            let path = schemas.join("sources").join(log.source).with_extension("yml");
            let def: SourceDef = serde_saphyr::from_str(&fs::read_to_string(path)?)?;
            defs.push(SourceDef { disorder, ..def });
        }
    }
    Ok(Sources::new(fields, defs))
}

/// The repository's rules and those of this suite.
fn rule_files() -> Result<Vec<RuleFile>> {
    let mut files = Vec::new();
    collect(&root().join("detections"), &mut files)?;
    let own = root().join("tests/crash/rules.yml");
    files.push(RuleFile { path: own.display().to_string().into(), text: fs::read_to_string(own)? });
    Ok(files)
}

fn collect(folder: &Path, files: &mut Vec<RuleFile>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            ensure!(!path.ends_with("lists"), "lists are not read here yet");
            if !path.ends_with("playbooks") {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|e| e == "yml") {
            files.push(RuleFile { path: path.display().to_string().into(), text: fs::read_to_string(path)? });
        }
    }
    Ok(())
}
