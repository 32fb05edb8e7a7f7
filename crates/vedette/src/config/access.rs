//! Who may come in, and for how long.

use anyhow::Result;
use serde::Deserialize;
use vedette_api::SessionLimits;
use vedette_event::Span;

use super::Config;

/// A session's use is noted to the minute, so less than a few cannot be told.
const LEAST: Span = Span::secs(300);
/// A quarter of a year: beyond it, a browser that was lost lets in for too long.
const MOST: Span = Span::secs(90 * 86_400);

/// How long people stay signed in.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionConfig {
    /// Without doing anything.
    pub idle: Span,
    /// In all.
    pub longest: Span,
}

impl Default for SessionConfig {
    fn default() -> Self {
        let SessionLimits { idle, longest } = SessionLimits::USUAL;
        Self { idle, longest }
    }
}

impl SessionConfig {
    /// As the API takes them.
    pub fn limits(self) -> SessionLimits {
        let Self { idle, longest } = self;
        SessionLimits { idle, longest }
    }
}

/// Checks the values.
pub fn check(config: &Config) -> Result<()> {
    let SessionConfig { idle, longest } = config.api.sessions;
    for (key, span) in [("idle", idle), ("longest", longest)] {
        if !(LEAST..=MOST).contains(&span) {
            let what = format!("`{span}` must lie between {LEAST} and {MOST}");
            return Err(config.places.wrong(&format!("api.sessions.{key}"), what));
        }
    }
    if idle > longest {
        let what = format!("`{idle}` is more than longest, `{longest}`, which ends every session");
        return Err(config.places.wrong("api.sessions.idle", what));
    }
    Ok(())
}
