//! What the lake is to keep.

use std::ops::RangeInclusive;

use anyhow::Result;
use serde::Deserialize;
use vedette_event::{Span, time::DAY};

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
    /// How large all files may become; then the oldest go.
    pub size: Bytes,
}

impl Default for LakeConfig {
    fn default() -> Self {
        Self { on: true, flush: Span::secs(30), keep: Span(90 * DAY.0), size: Bytes(100 << 30) }
    }
}

/// Checks the values.
pub fn check(config: &Config) -> Result<()> {
    let LakeConfig { flush, keep, size, .. } = &config.lake;
    for (key, value, range) in [("lake.flush", flush, FLUSH), ("lake.keep", keep, KEEP)] {
        if !range.contains(value) {
            let what = format!("`{value}` must lie between {} and {}", range.start(), range.end());
            return Err(config.places.wrong(key, what));
        }
    }
    if *size < LEAST {
        return Err(config.places.wrong("lake.size", format!("`{size}` must be at least {LEAST}")));
    }
    Ok(())
}
