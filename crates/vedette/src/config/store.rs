//! What the store may take, and how long it keeps what.

use anyhow::Result;
use serde::Deserialize;
use vedette_event::{Span, time::DAY};
use vedette_store::model::Retention;

use super::{Config, bytes::Bytes};

/// The longest that anything is kept: beyond it a number is a slip of the pen.
const MAX_KEPT: Span = Span(36_500 * DAY.0);
/// Room for one dead letter of the largest record that Kafka takes by default, many times.
const LEAST_BYTES: Bytes = Bytes(16 << 20);

/// The store.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// How long what is kept.
    pub retention: Kept,
    /// Bytes that the text of one source's dead letters may take; beyond it, offsets and counts.
    pub dead_letter_bytes: Bytes,
}

/// How long what is kept. Alerts that are not closed are kept for ever.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kept {
    /// Alerts and notices after they were closed.
    pub alerts: Span,
    /// The course of an alert, but for its newest point.
    pub revisions: Span,
    /// The text of dead letters.
    pub dead_letters: Span,
    /// Counts of dead letters, health events; at least as long as the letters.
    pub ledger: Span,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { retention: Kept::default(), dead_letter_bytes: Bytes(256 << 20) }
    }
}

impl Default for Kept {
    fn default() -> Self {
        let days = |n| Span(n * DAY.0);
        Self { alerts: days(90), revisions: days(30), dead_letters: days(30), ledger: days(400) }
    }
}

impl From<Kept> for Retention {
    fn from(Kept { alerts, revisions, dead_letters, ledger }: Kept) -> Self {
        Self { alerts, revisions, dead_letters, ledger }
    }
}

/// Checks the values.
pub fn check(config: &Config) -> Result<()> {
    let StoreConfig { retention, dead_letter_bytes } = &config.store;
    for (key, kept) in [
        ("alerts", retention.alerts),
        ("revisions", retention.revisions),
        ("dead_letters", retention.dead_letters),
        ("ledger", retention.ledger),
    ] {
        if !(DAY..=MAX_KEPT).contains(&kept) {
            let what = format!("`{kept}` must lie between {DAY} and {MAX_KEPT}");
            return Err(config.places.wrong(&format!("store.retention.{key}"), what));
        }
    }
    if retention.ledger < retention.dead_letters {
        // A letter without its count would be counted again with the next repetition, and be missing from the ledger until then.
        let what = format!(
            "`{}` is less than dead_letters, `{}`: counts would go before the letters that they count; write at least \
             `{}`, or less for store.retention.dead_letters",
            retention.ledger, retention.dead_letters, retention.dead_letters
        );
        return Err(config.places.wrong("store.retention.ledger", what));
    }
    if *dead_letter_bytes < LEAST_BYTES {
        let what = format!("`{dead_letter_bytes}` must be at least {LEAST_BYTES}");
        return Err(config.places.wrong("store.dead_letter_bytes", what));
    }
    Ok(())
}
