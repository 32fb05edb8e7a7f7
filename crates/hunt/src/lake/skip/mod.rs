//! The skip index beside a file: which words and values it may hold, and which of its blocks (row groups) may.
//!
//! In: the events of a file in its order ([`Builder`]); what a query demands ([`Demand`]). Out: the bytes of `NAME.skip`; of each file whether, and
//! which blocks of it, must be read ([`look`]). Invariants: what is skipped cannot match; an index that is absent, damaged, of another
//! version or of another file says "read it", never "no"; a look reads a few kilobytes of an index, whatever its size.
//!
//! # What is in it
//!
//! Of each text (and each element of a list of texts) its words, as `match` tells them apart ([`words`](crate::words)), and the whole
//! of it where that is no single word and has at most [`keys::WHOLE`] bytes, each with its column, as 64-bit keys. A filter (split-block Bloom
//! filter, 1 % false positives) holds those of a block, and one those of the file, where it has several blocks.
//!
//! # Its layout, little-endian
//!
//! | bytes | |
//! |---|---|
//! | 8 | `vdskip`, 0, version |
//! | 8, 8 | bytes and events of the file it is of |
//! | 4, 4 | columns; filters (one for the file, then one for each block) |
//! | 8 each | columns: hash of the name, in whose last two bits stands what the index has of it ([`Held`]) |
//! | 4 each | filters: how many 32-byte cells each has; `u32::MAX` where it is not known what the block holds |
//! | 32 | BLAKE3 of all that |
//!
//! then the filters one behind the other, in pages of up to 31 cells, each followed by a BLAKE3 of the head's hash, the numbers of filter and
//! page, and the page. So a look needs the head and a page for each key, and notices damage in these.

mod build;
mod demand;
mod filter;
mod head;
pub(crate) mod keys;
mod look;

pub use build::Builder;
pub(crate) use demand::Demand;
pub(crate) use look::{Verdict, look};

/// Rows of a block: with more, a needle reads more; with fewer, the same values are written down more often. Of 64 Ki one rare address took
/// 31 ms where Parquet's default of a mebi took 48.
#[cfg(not(test))]
pub(crate) const BLOCK: usize = 65_536;
/// A few hundred events have several blocks in tests.
#[cfg(test)]
pub(crate) const BLOCK: usize = 64;

/// The end of an index's name.
pub(crate) const EXTENSION: &str = "skip";

/// What the index of a file is called.
#[must_use]
pub fn name(file: &str) -> String {
    format!("{}.{EXTENSION}", file.strip_suffix(".parquet").unwrap_or(file))
}
