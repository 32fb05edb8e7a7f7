//! What the lake is to keep.

use std::{collections::BTreeMap, ops::RangeInclusive};

use anyhow::Result;
use serde::Deserialize;
use vedette_event::{Sources, Span, time::DAY};

use super::{Config, bytes::Bytes};

/// From a file for each second, which makes many small ones, to what a hunt would miss too long.
const FLUSH: RangeInclusive<Span> = Span::secs(1)..=Span::secs(300);
/// Beyond it a number is a slip of the pen.
const KEEP: RangeInclusive<Span> = DAY..=Span(36_500 * DAY.0);
/// With less, what was just written would go.
const LEAST: Bytes = Bytes(64 << 20);

/// The lake, in the folder `lake` beside the store.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LakeConfig {
    /// Whether events are kept.
    pub on: bool,
    /// How long events wait at most until they are in a file.
    pub flush: Span,
    /// How long events are kept, by their times.
    pub keep: Span,
    /// How long those of some sources are kept instead.
    pub keep_by_source: BTreeMap<String, Span>,
    /// How large all files may become; then the oldest go.
    pub size: Bytes,
    /// Of which sources what is older than a day goes first then, in this order.
    pub drop_first: Vec<String>,
}

impl LakeConfig {
    /// How long events of a source are kept.
    pub fn keep_of(&self, source: &str) -> Span {
        self.keep_by_source.get(source).copied().unwrap_or(self.keep)
    }
}

impl Default for LakeConfig {
    fn default() -> Self {
        Self {
            on: true,
            flush: Span::secs(30),
            keep: Span(90 * DAY.0),
            keep_by_source: BTreeMap::new(),
            size: Bytes(100 << 30),
            drop_first: Vec::new(),
        }
    }
}

/// Checks the names of sources, where it is known which there are.
pub fn check_sources(config: &Config, sources: &Sources) -> Result<()> {
    let LakeConfig { keep_by_source, drop_first, .. } = &config.lake;
    let kept = keep_by_source.keys().map(|source| (format!("lake.keep_by_source.{source}"), source));
    let first = drop_first.iter().enumerate().map(|(at, source)| (format!("lake.drop_first[{at}]"), source));
    for (key, source) in kept.chain(first) {
        if sources.find(source).is_none() {
            let known: Vec<&str> = sources.defs.iter().map(|def| &*def.name).collect();
            let what = format!("there is no source `{source}`; there are: {}", known.join(", "));
            return Err(config.places.wrong(&key, what));
        }
    }
    Ok(())
}

/// Checks the values.
pub fn check(config: &Config) -> Result<()> {
    let LakeConfig { flush, keep, keep_by_source, size, .. } = &config.lake;
    for (key, value, range) in [("lake.flush", flush, FLUSH), ("lake.keep", keep, KEEP)] {
        if !range.contains(value) {
            let what = format!("`{value}` must lie between {} and {}", range.start(), range.end());
            return Err(config.places.wrong(key, what));
        }
    }
    for (source, value) in keep_by_source {
        let key = format!("lake.keep_by_source.{source}");
        if !KEEP.contains(value) {
            let what = format!("`{value}` must lie between {} and {}", KEEP.start(), KEEP.end());
            return Err(config.places.wrong(&key, what));
        }
    }
    if *size < LEAST {
        return Err(config.places.wrong("lake.size", format!("`{size}` must be at least {LEAST}")));
    }
    Ok(())
}
