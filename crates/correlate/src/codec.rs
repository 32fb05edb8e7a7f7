//! Bytes in and out: variable-length integers, texts, keyed hashes.
//!
//! In: numbers and texts. Out: bytes, and [`ByteReader`], which never panics and never allocates more than it was given.

use std::hash::Hasher as _;

use foldhash::{SharedSeed, quality::FoldHasher};

/// Maps small negative numbers to small positive ones.
pub const fn zigzag(n: i64) -> u64 {
    (n.wrapping_shl(1) ^ (n >> 63)) as u64
}

/// The opposite of [`zigzag`].
pub const fn unzigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

/// Seven bits a byte, lowest first.
#[inline]
pub fn write_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// A length and that many bytes.
pub fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads what the functions above wrote; `None` where the bytes end or make no sense.
#[derive(Debug, Clone)]
pub struct ByteReader<'a> {
    bytes: &'a [u8],
}

impl<'a> ByteReader<'a> {
    /// Reads from the start of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// How many bytes are left.
    pub const fn left(&self) -> usize {
        self.bytes.len()
    }

    /// One byte.
    #[inline]
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    /// See [`write_varint`].
    #[inline]
    pub fn varint(&mut self) -> Option<u64> {
        let (mut n, mut shift) = (0_u64, 0);
        loop {
            let byte = self.byte()?;
            n |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(n);
            }
            shift += 7;
        }
    }

    /// That many bytes.
    pub fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(n)?;
        self.bytes = rest;
        Some(taken)
    }

    /// See [`write_bytes`].
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let n = usize::try_from(self.varint()?).ok()?;
        self.take(n)
    }

    /// A count of things of at least one byte each: never more than what is left.
    pub fn count(&mut self) -> Option<usize> {
        let n = usize::try_from(self.varint()?).ok()?;
        (n <= self.bytes.len()).then_some(n)
    }

    /// A signed number.
    pub fn signed(&mut self) -> Option<i64> {
        self.varint().map(unzigzag)
    }
}

/// Keyed 64-bit hashes of keys and values.
#[derive(Debug, Clone)]
pub struct KeyHasher {
    seed: u64,
    shared: SharedSeed,
}

impl KeyHasher {
    /// Seeds from the deployment's secret.
    pub fn new(secret: &[u8; 32]) -> Self {
        let word = |purpose: &[u8]| {
            let hash = blake3::keyed_hash(secret, purpose);
            hash.as_bytes().first_chunk().copied().map_or(0, u64::from_le_bytes)
        };
        Self { seed: word(b"vedette key seed"), shared: SharedSeed::from_u64(word(b"vedette shared seed")) }
    }

    /// The hash of some bytes.
    #[inline]
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared);
        hasher.write(bytes);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_round_trip_and_short_input_is_refused() {
        for n in [0, 1, 127, 128, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            write_varint(&mut out, n);
            assert_eq!(ByteReader::new(&out).varint(), Some(n));
            assert_eq!(ByteReader::new(&out[..out.len() - 1]).varint(), None);
        }
        for n in [0, -1, 1, i64::MIN, i64::MAX] {
            assert_eq!(unzigzag(zigzag(n)), n);
        }
        assert_eq!(ByteReader::new(&[0xff; 32]).varint(), None);
    }

    #[test]
    fn hashes_depend_on_the_secret() {
        let (a, b) = (KeyHasher::new(&[1; 32]), KeyHasher::new(&[2; 32]));
        assert_ne!(a.hash(b"key"), b.hash(b"key"));
        assert_eq!(a.hash(b"key"), KeyHasher::new(&[1; 32]).hash(b"key"));
    }
}
