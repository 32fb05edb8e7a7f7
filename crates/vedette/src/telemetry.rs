//! What is logged: structured lines on standard error.

use std::io::IsTerminal as _;

use anyhow::Result;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::config::{LogConfig, LogFormat};

/// Starts logging.
///
/// # Errors
/// If the level is no filter.
pub fn start(log: &LogConfig) -> Result<()> {
    let filter = filter(&log.level).map_err(anyhow::Error::msg)?;
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        // Their only other place would be standard error itself, by a print that panics once nobody reads it.
        .log_internal_errors(false);
    match log.format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
    Ok(())
}

/// The filter that a level stands for.
///
/// # Errors
/// If it is neither a level nor a list of levels, some for a part of the program. The filter's own reading is wider: it
/// takes any other word for such a part, and then nothing else is logged.
pub fn filter(level: &str) -> Result<EnvFilter, String> {
    let known = |word: &str| match word.split_once('=') {
        Some((part, level)) => !part.is_empty() && level.parse::<LevelFilter>().is_ok(),
        None => !word.is_empty() && word.parse::<LevelFilter>().is_ok(),
    };
    let filter = level.split(',').all(known).then(|| EnvFilter::try_new(level).ok()).flatten();
    filter.ok_or_else(|| {
        format!(
            "`{level}` is no level; write error, warn, info, debug, trace, or a list such as info,vedette_ingest=debug"
        )
    })
}
