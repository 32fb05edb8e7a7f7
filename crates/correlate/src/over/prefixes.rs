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

/// Prefixes and their counts.
#[derive(Debug, Clone, Default)]
pub struct Prefixes {
    counts: BTreeMap<String, u64>,
    bytes: usize,
}

impl Prefixes {
    /// Counts one.
    pub fn add(&mut self, prefix: String) {
        self.put(prefix, 1);
    }

    /// Counts so many.
    pub fn put(&mut self, prefix: String, n: u64) {
        let bytes = prefix.len();
        let mut fresh = false;
        let count = self.counts.entry(prefix).or_insert_with(|| {
            fresh = true;
            0
        });
        *count = count.saturating_add(n);
        if fresh {
            self.bytes += bytes;
            if self.counts.len() > MOST || self.bytes > BYTES {
                self.prune();
            }
        }
    }

    /// Keeps the more frequent half.
    fn prune(&mut self) {
        let mut kept = BTreeMap::new();
        self.bytes = 0;
        for (prefix, n) in self.top(MOST / 2) {
            if self.bytes + prefix.len() > BYTES / 2 {
                break;
            }
            self.bytes += prefix.len();
            kept.insert(prefix, n);
        }
        self.counts = kept;
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
            prefixes.add(format!("p{n}"));
            prefixes.add("often".to_owned());
        }
        assert!(prefixes.counts.len() <= MOST);
        assert_eq!(prefixes.top(1), [("often".to_owned(), 10_000)]);
        prefixes.add("x".repeat(10 * BYTES));
        assert!(prefixes.bytes <= BYTES);
    }
}
