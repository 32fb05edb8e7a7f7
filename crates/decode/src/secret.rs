//! Secrets: replaced by a keyed hash, so that they can be compared and counted but not read.
//!
//! In: a value and the deployment's key. Out: `secret:` and 16 hexadecimal digits.
//! Invariant: equal values of one deployment give equal texts; nothing of the value is in it.

use std::fmt::Write;

use vedette_event::SourceDef;

/// Which fields of a source are secrets, and the key that hides them.
#[derive(Clone)]
pub struct Secrets {
    key: [u8; 32],
    fields: Vec<String>,
}

impl Secrets {
    /// The secrets of a source.
    #[must_use]
    pub fn new(def: &SourceDef, key: [u8; 32]) -> Self {
        Self { key, fields: def.secrets.clone() }
    }

    /// True if a field is a secret as a whole.
    #[must_use]
    pub fn covers(&self, field: &str) -> bool {
        self.fields.iter().any(|secret| match secret.strip_suffix('*') {
            Some(prefix) => prefix.ends_with('.') && field.starts_with(prefix),
            None => secret == field,
        })
    }

    /// Appends what stands for a secret value.
    pub fn hide(&self, value: &str, out: &mut String) {
        let hash = blake3::keyed_hash(&self.key, value.as_bytes());
        out.push_str("secret:");
        for byte in &hash.as_bytes()[..8] {
            let _ = write!(out, "{byte:02x}");
        }
    }
}
