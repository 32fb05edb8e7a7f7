//! Versions of the rules as the store holds them: from which log time on each is in force, and what it is compiled from.
//!
//! In: stored rows, the texts of each. Out: [`Version`]s for the engine, rows to store.
//! Invariants: what is in force when is decided by the engine when a version comes into force, and stored before anything that
//! follows from it, so every later start agrees; the first version of all is in force from the beginning.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use vedette_engine::Version;
use vedette_event::{Micros, Sources};
use vedette_sigma::{RuleSet, ir::Rule};
use vedette_store::model::RuleVersion;

use crate::texts::Texts;

/// Versions that may be needed at once: each holds the programs of all its rules. More are asked for only while a source stands
/// still and the rules are changed again and again.
pub const MOST: usize = 16;

/// One rule of a stored version.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    id: String,
    meaning: String,
    since_us: i64,
}

/// Since when the rules of a stored version have meant what they mean.
pub struct Since(BTreeMap<(String, String), Micros>);

impl Since {
    /// Of a stored row.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of(row: &RuleVersion) -> Result<Self> {
        let entries: Vec<Entry> = serde_json::from_str(&row.content)
            .with_context(|| format!("stored rule version {}", row.version))?;
        Ok(Self(entries.into_iter().map(|e| ((e.id, e.meaning), Micros(e.since_us))).collect()))
    }

    /// Of a rule.
    pub fn get(&self, rule: &Rule) -> Option<Micros> {
        self.0.get(&(rule.id.to_string(), hexadecimal(&rule.meaning))).copied()
    }
}

/// The versions that are stored with their texts, the oldest first.
///
/// # Errors
/// If one cannot be read.
pub fn stored(rows: &[RuleVersion]) -> Result<Vec<(&RuleVersion, Texts)>> {
    let kept: Vec<&RuleVersion> = rows.iter().filter(|row| !row.texts.is_empty()).collect();
    let unpack = |row: &RuleVersion| {
        Texts::unpack(&row.texts).with_context(|| format!("stored rule version {}", row.number))
    };
    let kept = kept[kept.len().saturating_sub(MOST)..].iter();
    kept.map(|row| Ok((*row, unpack(row)?))).collect()
}

/// One of them, compiled.
///
/// # Errors
/// If it cannot be read.
pub fn compile_stored(row: &RuleVersion, rules: Arc<RuleSet>, sources: Arc<Sources>) -> Result<Version> {
    let since = Since::of(row)?;
    // A rule that is not listed was refused when the version came into force, and is not now.
    let from = row.in_force_from;
    Ok(Version::compile(rules, sources).in_force(from, |rule| since.get(rule).unwrap_or(from)))
}

/// The same, none of them in force from later than `above`, which lies above every `ts_log` that was read: a clock that was
/// ahead once does not silence a rule until it is right, and what was to speak only from then on has said nothing yet.
pub fn no_later(version: Version, above: Micros) -> Version {
    let since: BTreeMap<_, _> = version
        .rules
        .rules
        .iter()
        .zip(version.since.iter())
        .map(|(rule, since)| ((rule.id.to_string(), rule.meaning), (*since).min(above)))
        .collect();
    let from = version.from.min(above);
    version.in_force(from, |rule| since.get(&(rule.id.to_string(), rule.meaning)).copied().unwrap_or(above))
}

/// The row of a version.
///
/// # Errors
/// If it cannot be written out.
pub fn row(number: u64, version: &Version, texts: Vec<u8>) -> Result<RuleVersion> {
    let rules = version.rules.rules.iter().zip(version.since.iter());
    let entry = |(rule, since): (&Rule, &Micros)| Entry {
        id: rule.id.to_string(),
        meaning: hexadecimal(&rule.meaning),
        since_us: since.0,
    };
    let mut entries: Vec<Entry> = rules.map(entry).collect();
    entries.sort_by(|a, b| a.id.cmp(&b.id));
    let content = serde_json::to_string(&entries)?;
    let hash = vedette_event::raw::record_hash(Some(content.as_bytes()));
    Ok(RuleVersion { number, version: hexadecimal(&hash), in_force_from: version.from, content, texts })
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
