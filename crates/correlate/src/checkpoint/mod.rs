//! Checkpoints: the state of one key group as bytes.
//!
//! In: [`Correlator`]. Out: bytes, and state from bytes.
//! Layout: a head (layout version, what the keyed hash makes of a known text, key group, topics by name), the released watermark of
//! each tree, then per tree its keys and its part of storms, and a keyed hash of all of it. Trees are known by their
//! fingerprint, so that what is unchanged is found again after rules came and went. Numbers are variable-length;
//! times and offsets are differences from those of the event before.

mod read;
mod write;

use crate::Correlator;

/// What every checkpoint starts with; the last byte is the version of the layout.
const MAGIC: [u8; 5] = *b"VDCP\x05";
/// Bytes of the keyed hash at the end.
const SEAL: usize = 16;

impl Correlator {
    /// The hash at the end, so that only what this deployment wrote is taken up.
    pub(crate) fn seal(&self, bytes: &[u8]) -> [u8; SEAL] {
        let hash = blake3::keyed_hash(&self.settings.secret, bytes);
        hash.as_bytes().first_chunk().copied().unwrap_or_default()
    }
}
