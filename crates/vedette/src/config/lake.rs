//! What the lake is to keep.

use std::{collections::BTreeMap, ops::RangeInclusive};

use anyhow::Result;
use serde::Deserialize;
use vedette_event::{
    Sources, Span,
    time::{DAY, HOUR},
};

use vedette_store::model::{Holds, LakeFile};

use super::{Config, bytes::Bytes};

/// From a file for each second, which makes many small ones, to what a hunt would miss too long.
const FLUSH: RangeInclusive<Span> = Span::secs(1)..=Span::secs(300);
/// Beyond it a number is a slip of the pen.
const KEEP: RangeInclusive<Span> = DAY..=Span(36_500 * DAY.0);
/// Of originals, which may be many: less than a day is worth something, too.
const KEEP_ORIGINALS: RangeInclusive<Span> = HOUR..=Span(36_500 * DAY.0);
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
    /// Records as they came.
    pub originals: OriginalsConfig,
}

/// Which records are kept as they came, beside their events.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OriginalsConfig {
    /// Which.
    pub records: Records,
    /// Which of some sources instead.
    pub records_by_source: BTreeMap<String, Records>,
    /// How long they are kept, by the times of their events; no longer than these.
    pub keep: Span,
}

/// Which records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Records {
    /// None.
    None,
    /// Those whose events do not say all of them.
    Altered,
    /// All.
    All,
}

impl OriginalsConfig {
    /// Which records of a source are kept.
    pub fn of(&self, source: &str) -> Records {
        self.records_by_source.get(source).copied().unwrap_or(self.records)
    }
}

impl Default for OriginalsConfig {
    fn default() -> Self {
        Self { records: Records::Altered, records_by_source: BTreeMap::new(), keep: Span(7 * DAY.0) }
    }
}

impl LakeConfig {
    /// How long events of a source are kept.
    pub fn keep_of(&self, source: &str) -> Span {
        self.keep_by_source.get(source).copied().unwrap_or(self.keep)
    }

    /// How long a file is kept.
    pub fn keep_of_file(&self, file: &LakeFile) -> Span {
        let events = self.keep_of(&file.source);
        match file.holds {
            Holds::Events => events,
            Holds::Originals => events.min(self.originals.keep),
        }
    }

    /// How long the file of these is kept that goes first.
    pub fn shortest(&self, holds: Holds) -> Span {
        let events = self.keep_by_source.values().copied().fold(self.keep, Ord::min);
        match holds {
            Holds::Events => events,
            Holds::Originals => events.min(self.originals.keep),
        }
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
            originals: OriginalsConfig::default(),
        }
    }
}

/// Checks the names of sources, where it is known which there are.
pub fn check_sources(config: &Config, sources: &Sources) -> Result<()> {
    let LakeConfig { keep_by_source, drop_first, originals, .. } = &config.lake;
    let kept = keep_by_source.keys().map(|source| (format!("lake.keep_by_source.{source}"), source));
    let first = drop_first.iter().enumerate().map(|(at, source)| (format!("lake.drop_first[{at}]"), source));
    let records = originals.records_by_source.keys();
    let records = records.map(|source| (format!("lake.originals.records_by_source.{source}"), source));
    for (key, source) in kept.chain(first).chain(records) {
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
    let LakeConfig { flush, keep, keep_by_source, size, originals, .. } = &config.lake;
    let of_originals = ("lake.originals.keep", &originals.keep, KEEP_ORIGINALS);
    for (key, value, range) in [("lake.flush", flush, FLUSH), ("lake.keep", keep, KEEP), of_originals] {
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

#[cfg(test)]
mod tests {
    use crate::config::{For, read};

    #[test]
    fn what_is_wrong_about_originals_is_said_with_its_place() {
        let kafka = "kafka: {brokers: a:1, topics: [{name: t, source: json}]}";
        for (lake, said) in [
            ("{keep: 5m}", "26: lake.originals.keep: `5m` must lie between 1h and 36500d"),
            (
                "{records: some}",
                "29: lake.originals.records: unknown variant `some`, expected one of none, altered, all",
            ),
            (
                "{records_by_source: {json: raw}}",
                "46: lake.originals.records_by_source.json: unknown variant `raw`, expected one of none, altered, all",
            ),
            ("{kept: 7d}", "20: unknown field `kept`, expected one of records, records_by_source, keep"),
        ] {
            let text = format!("{kafka}\nlake: {{originals: {lake}}}\n");
            let error = read("v.yml", &text, For::Service, |_| None).unwrap_err().to_string();
            assert!(error.starts_with(&format!("v.yml:2:{said}")), "{error}");
        }
    }
}
