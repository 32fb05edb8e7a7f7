//! Secrets: from a file or the environment, never in the configuration itself.
//!
//! In: where one is. Out: its text. Invariant: no error quotes it.

use std::{fmt, path::Path, path::PathBuf};

use serde::Deserialize;

/// Bytes of a secret's file.
const MAX_SECRET: u64 = 4_096;

/// Where a secret is: one of the two.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretFrom {
    /// A file that holds it and nothing else.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// A variable of the environment.
    #[serde(default)]
    pub env: Option<String>,
}

impl SecretFrom {
    /// The secret.
    ///
    /// # Errors
    /// Where it should be and why it is not there.
    pub fn read(&self) -> Result<String, String> {
        match (&self.file, &self.env) {
            (Some(file), None) => read(file),
            (None, Some(name)) => match std::env::var(name) {
                Ok(secret) if !secret.is_empty() => Ok(secret),
                Ok(_) => Err(format!("the variable {name} is empty")),
                Err(_) => Err(format!("the variable {name} is not set")),
            },
            _ => Err("needs either `file:` or `env:`".to_owned()),
        }
    }
}

/// The secret that a file holds.
///
/// # Errors
/// Why it cannot be read.
pub fn read(path: &Path) -> Result<String, String> {
    let unread = |what: &dyn fmt::Display| format!("`{}` cannot be read: {what}", path.display());
    if std::fs::metadata(path).map_err(|e| unread(&e))?.len() > MAX_SECRET {
        return Err(unread(&"it is too long for a secret"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| unread(&e))?;
    let secret = text.trim_end_matches(['\r', '\n']).to_owned();
    if secret.is_empty() { Err(format!("`{}` is empty", path.display())) } else { Ok(secret) }
}
