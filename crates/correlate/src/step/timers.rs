//! What falls due in a key group: revisions and ends of episodes, ends of judged windows, looking for what can be forgotten.
//!
//! In: timers. Out: those due, in order.
//! Invariants: a timer due at `t` fires after all events at or before `t` and before any later one; an open episode has at most two
//! timers, one for its end and one for a revision before; timers of what is gone are fewer than the others, or few.

use std::{cmp::Reverse, collections::BinaryHeap};

use vedette_event::Micros;

/// Room for so many timers is kept.
const MANY: usize = 256;
/// Timers of what is gone that are not worth looking for.
const FEW: usize = 64;

/// Something that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timer {
    pub due: Micros,
    pub what: Due,
    pub tree: u32,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// The tree's rule ends: before what else is due then, so that a revision and the end are one.
    End,
    /// An episode's next revision, or its end.
    Episode { node: u16, slot: u32, birth: u32 },
    /// Judged windows of a rule end.
    Windows { node: u16 },
    /// What can be forgotten in a tree is to be looked for.
    Sweep,
}

/// The timers of the trees that read one set of sources.
#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<Timer>>,
    /// How many are of what is gone.
    gone: usize,
}

impl Timers {
    #[inline]
    pub fn push(&mut self, timer: Timer) {
        self.heap.push(Reverse(timer));
    }

    /// When the first is due.
    #[inline]
    pub fn next(&self) -> Micros {
        self.heap.peek().map_or(Micros::MAX, |timer| timer.0.due)
    }

    /// Takes out the first that is due before an instant (any, if `None`).
    #[inline]
    pub fn pop(&mut self, before: Option<Micros>) -> Option<Timer> {
        let first = self.heap.peek()?;
        if before.is_some_and(|before| first.0.due >= before) {
            return None;
        }
        let first = self.heap.pop().map(|timer| timer.0);
        // What a flood took is given back.
        if self.heap.capacity() > MANY && self.heap.len() < self.heap.capacity() / 4 {
            self.heap.shrink_to(self.heap.len() * 2);
        }
        first
    }

    /// How many are due before an instant, or more than so many.
    pub fn count(&self, before: Micros, most: usize) -> usize {
        // Behind one that is due later nothing is due before; were the heap laid out otherwise, it would be a worse guess.
        let heap = self.heap.as_slice();
        let (mut found, mut ahead) = (0, vec![0]);
        while let Some(at) = ahead.pop() {
            if heap.get(at).is_some_and(|timer| timer.0.due < before) {
                found += 1;
                if found > most {
                    break;
                }
                ahead.extend([2 * at + 1, 2 * at + 2]);
            }
        }
        found
    }

    /// Takes note that so many are of something that is gone.
    pub const fn spoil(&mut self, timers: usize) {
        self.gone += timers;
    }

    /// How many there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Forgets those of what is gone, once they are many.
    pub fn clean(&mut self, lives: impl Fn(&Timer) -> bool) {
        if self.gone > FEW && self.gone > self.heap.len() / 2 {
            self.heap.retain(|timer| lives(&timer.0));
            self.heap.shrink_to(self.heap.len() * 2);
            self.gone = 0;
        }
    }
}
