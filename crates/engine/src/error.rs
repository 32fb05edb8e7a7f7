//! What can go wrong in the kernel: only what it was set up with, never what it reads.

use std::sync::Arc;

/// A failure to set the kernel up or to restore it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A source definition cannot be decoded as it stands.
    #[error("source `{source_name}`: {cause}")]
    Source {
        /// The source's name.
        source_name: Arc<str>,
        /// Why.
        #[source]
        cause: vedette_decode::Error,
    },
    /// A checkpoint is damaged or of another layout.
    #[error("checkpoint of key group {group}: {reason}")]
    Checkpoint {
        /// The key group, 0 to 63.
        group: u8,
        /// What is wrong with it.
        reason: String,
    },
}
