//! What can go wrong in the kernel: what it was set up with, and what it cannot write down; never what it reads.

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
    /// A checkpoint cannot be written so that it could be read back.
    #[error("checkpoint of key group {group} cannot be written: {reason}")]
    Unwritten {
        /// The key group, 0 to 63, or [`crate::POSITIONS`].
        group: u8,
        /// Why.
        reason: String,
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
