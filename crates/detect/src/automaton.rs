//! Whether one of many texts is part of another: an automaton after Aho and Corasick.
//!
//! In: texts, sorted by their bytes. Out: [`Automaton`]. Invariant: building takes time by the sum of the texts, and a
//! question by the length of the text asked about, times at most the 256 bytes that can follow one another; who writes
//! a log chooses both sides. The crate `aho-corasick` was used first: it renumbers its states once they are known, and
//! does so in quadratic time where texts have different lengths (3.6 s for 50,000 numbers, all but 2 % of it there).
//!
//! Source: Aho and Corasick, "Efficient string matching: an aid to bibliographic search" (1975).

/// No node.
const NONE: u32 = u32::MAX;
/// The node of the empty text.
const ROOT: u32 = 0;

/// One prefix of a text; its children are a list, the greatest byte first.
#[derive(Debug, Clone, Copy)]
struct Node {
    byte: u8,
    /// A text ends here, or at a node that this one falls back to.
    ends: bool,
    first_child: u32,
    sibling: u32,
    /// The longest proper suffix that is a prefix of some text, too.
    fall_back: u32,
}

/// The prefixes of all texts.
#[derive(Debug)]
pub(crate) struct Automaton {
    nodes: Vec<Node>,
}

impl Automaton {
    /// Of texts in ascending order of their bytes. A record has 2^20 bytes, so nodes are few enough for their numbers.
    pub(crate) fn new(texts: &[&str]) -> Self {
        let root = Node { byte: 0, ends: false, first_child: NONE, sibling: NONE, fall_back: ROOT };
        let mut automaton = Self { nodes: vec![root] };
        for text in texts {
            let end = text.bytes().fold(ROOT, |node, byte| automaton.grow(node, byte));
            automaton.nodes[end as usize].ends = true;
        }
        automaton.link();
        automaton
    }

    /// The child of a node, made if there is none. In sorted texts it can only be the child that was made last.
    fn grow(&mut self, node: u32, byte: u8) -> u32 {
        let first = self.nodes[node as usize].first_child;
        if first != NONE && self.nodes[first as usize].byte == byte {
            return first;
        }
        let made = u32::try_from(self.nodes.len()).unwrap_or(NONE);
        self.nodes.push(Node { byte, ends: false, first_child: NONE, sibling: first, fall_back: ROOT });
        self.nodes[node as usize].first_child = made;
        made
    }

    /// Says of every node where to fall back to, shorter prefixes first.
    fn link(&mut self) {
        let mut order = vec![ROOT];
        let mut at = 0;
        while let Some(&node) = order.get(at) {
            at += 1;
            let mut child = self.nodes[node as usize].first_child;
            while child != NONE {
                let Node { byte, sibling, .. } = self.nodes[child as usize];
                let fall_back =
                    if node == ROOT { ROOT } else { self.step(self.nodes[node as usize].fall_back, byte) };
                self.nodes[child as usize].fall_back = fall_back;
                self.nodes[child as usize].ends |= self.nodes[fall_back as usize].ends;
                order.push(child);
                child = sibling;
            }
        }
    }

    /// Where a byte leads from a node.
    fn step(&self, mut node: u32, byte: u8) -> u32 {
        loop {
            let mut child = self.nodes[node as usize].first_child;
            while child != NONE {
                stepped();
                let Node { byte: led, sibling, .. } = self.nodes[child as usize];
                if led == byte {
                    return child;
                }
                // Children stand in descending order.
                child = if led < byte { NONE } else { sibling };
            }
            stepped();
            if node == ROOT {
                return ROOT;
            }
            node = self.nodes[node as usize].fall_back;
        }
    }

    /// Whether one of the texts is part of this one.
    pub(crate) fn finds_in(&self, text: &str) -> bool {
        let mut node = ROOT;
        self.nodes[ROOT as usize].ends
            || text.bytes().any(|byte| {
                node = self.step(node, byte);
                self.nodes[node as usize].ends
            })
    }
}

/// Tests count the nodes that are looked at.
#[inline]
fn stepped() {
    #[cfg(test)]
    tests::STEPS.set(tests::STEPS.get() + 1);
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, collections::BTreeSet};

    use proptest::{collection::btree_set, prelude::*};

    use super::*;

    thread_local! {
        pub(super) static STEPS: Cell<usize> = const { Cell::new(0) };
    }

    fn automaton(texts: &BTreeSet<String>) -> Automaton {
        Automaton::new(&texts.iter().map(String::as_str).collect::<Vec<_>>())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_048))]

        #[test]
        fn it_finds_what_looking_for_each_finds(texts in btree_set("[abé]{1,5}", 0..12), text in "[abcé]{0,12}") {
            prop_assert_eq!(automaton(&texts).finds_in(&text), texts.iter().any(|t| text.contains(t.as_str())));
        }
    }

    #[test]
    fn steps_go_by_the_sum_of_the_lengths() {
        // Texts of many lengths, one the beginning of another; and one long run that falls back at every byte.
        let numbers = |n: usize| (0..n).map(|k| format!("y{k}")).collect::<BTreeSet<_>>();
        let run = |n: usize| BTreeSet::from(["a".repeat(n) + "b", "a".repeat(n / 2) + "c"]);
        for n in [2_000, 16_000] {
            for (texts, asked) in [
                (numbers(n), (0..n).map(|k| format!("x{k}")).collect::<String>()),
                (run(4 * n), "a".repeat(8 * n)),
            ] {
                let bytes = texts.iter().map(String::len).sum::<usize>() + asked.len();
                STEPS.set(0);
                assert!(!automaton(&texts).finds_in(&asked));
                assert!(STEPS.get() < 12 * bytes, "{} steps for {bytes} bytes", STEPS.get());
            }
        }
    }
}
