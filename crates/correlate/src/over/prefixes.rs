//! How often keys of which prefix were seen, in bounded memory.
//!
//! In: prefixes as [`crate::body::prefix`] makes them. Out: those with their counts, the most frequent first.
//! Invariant: what it holds follows from what was added and in which order, and is exact until there are more than it may hold;
//! then the rarer half is forgotten.

use std::collections::BTreeMap;

/// Prefixes held at most.
const MOST: usize = 1_024;
/// Bytes of their texts at most.
const BYTES: usize = 1 << 16;
/// Bytes held whatever room there is: some ten prefixes.
const LEAST: usize = 1 << 10;
/// Bytes of a prefix beside its text: its place in a tree that is two thirds full, its count, and what the allocator needs.
const EACH: usize = 80;

/// Prefixes and their counts.
#[derive(Debug, Clone, Default)]
pub struct Prefixes {
    counts: BTreeMap<String, u64>,
    bytes: usize,
}

impl Prefixes {
    /// Counts one, where there is room for so many bytes.
    pub fn add(&mut self, prefix: String, room: usize) {
        self.put(prefix, 1, room);
    }

    /// Counts so many.
    pub fn put(&mut self, prefix: String, n: u64, room: usize) {
        let bytes = prefix.len();
        let mut fresh = false;
        let count = self.counts.entry(prefix).or_insert_with(|| {
            fresh = true;
            0
        });
        *count = count.saturating_add(n);
        if fresh {
            self.bytes += bytes;
            if !self.fits(1, room) {
                self.prune(room);
            }
        }
    }

    /// Whether it takes no more than one part of what it may.
    fn fits(&self, part: usize, room: usize) -> bool {
        let (n, bytes) = (self.counts.len() * part, self.bytes * part);
        n <= MOST && bytes <= BYTES && bytes + n * EACH <= room.max(LEAST)
    }

    /// Keeps the more frequent half.
    fn prune(&mut self, room: usize) {
        let all = self.top(self.counts.len());
        *self = Self::default();
        for (prefix, n) in all {
            let bytes = prefix.len();
            self.bytes += bytes;
            self.counts.insert(prefix.clone(), n);
            if !self.fits(2, room) {
                self.counts.remove(&prefix);
                self.bytes -= bytes;
                break;
            }
        }
    }

    /// The most frequent, ties by their text.
    pub fn top(&self, n: usize) -> Vec<(String, u64)> {
        let mut all: Vec<_> = self.counts.iter().collect();
        all.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        all.into_iter().take(n).map(|(prefix, n)| (prefix.clone(), *n)).collect()
    }

    /// All, by text.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, u64)> {
        self.counts.iter().map(|(prefix, n)| (prefix.as_str(), *n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frequent_survive_and_memory_is_bounded() {
        let mut prefixes = Prefixes::default();
        for n in 0..10_000 {
            prefixes.add(format!("p{n}"), usize::MAX);
            prefixes.add("often".to_owned(), usize::MAX);
        }
        assert!(prefixes.counts.len() <= MOST && prefixes.counts.len() >= MOST / 2);
        assert_eq!(prefixes.top(1), [("often".to_owned(), 10_000)]);
        prefixes.add("x".repeat(10 * BYTES), usize::MAX);
        assert!(prefixes.bytes <= BYTES);
    }

    #[test]
    fn few_are_kept_where_there_is_little_room() {
        let mut prefixes = Prefixes::default();
        for n in 0..10_000 {
            prefixes.add(format!("p{n}"), 0);
            prefixes.add("often".to_owned(), 0);
            assert!(prefixes.bytes + prefixes.counts.len() * EACH <= LEAST);
        }
        assert_eq!(prefixes.top(1), [("often".to_owned(), 10_000)]);
    }
}
