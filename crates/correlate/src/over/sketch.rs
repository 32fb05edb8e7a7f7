//! Counts of keys that have no room of their own: never too low.
//!
//! In: hashes of keys with weights, in order of time. Out: estimates over a timespan.
//! Invariant: memory is bounded by panes and width, whatever the number of keys.

use std::collections::VecDeque;

use vedette_event::Micros;

use super::{PANES, pane};
use crate::plan::Node;

/// Panes that a sketch holds at most: those that a window can touch, and the one before.
pub const HELD: usize = PANES as usize + 2;
/// Rows of counters of a pane.
pub const ROWS: usize = 4;
/// Counters of a row at least.
pub const NARROWEST: usize = 16;
/// Counters of a row at most.
pub const WIDEST: usize = 4_096;

/// Counts of all keys that share it: a count-min sketch for each pane of time.
#[derive(Debug)]
pub struct Sketch {
    /// Counters of a row: a power of two.
    pub width: usize,
    /// By number, in order: rows of counters.
    pub panes: VecDeque<(i64, Box<[u32]>)>,
}

impl Sketch {
    /// An empty one with so many counters in a row, a power of two.
    pub const fn new(width: usize) -> Self {
        Self { width, panes: VecDeque::new() }
    }

    /// How many counters a pane has.
    pub const fn counters(&self) -> usize {
        self.width * ROWS
    }

    /// Where a key's counters are.
    fn places(width: usize, hash: u64) -> [usize; ROWS] {
        let step = (hash >> 32) | 1;
        let place = |row: usize| {
            row * width + (hash.wrapping_add(step.wrapping_mul(row as u64)) as usize & (width - 1))
        };
        std::array::from_fn(place)
    }

    /// The weight of a key's events in `(now − span, now]`, or more.
    pub fn estimate(&self, node: &Node, hash: u64, now: Micros) -> u64 {
        let (length, after) = (pane(node), now.minus(node.span));
        let touched = self.panes.iter().filter(|(number, _)| {
            number.saturating_add(1).saturating_mul(length.0).saturating_sub(1) > after.0
        });
        touched.fold(0, |sum, (_, counters)| {
            let of = Self::places(self.width, hash).into_iter();
            let least = of.map(|at| counters.get(at).copied().unwrap_or(u32::MAX)).min().unwrap_or(u32::MAX);
            // A full counter says nothing but that there were many.
            if least == u32::MAX { u64::MAX } else { u64::saturating_add(sum, u64::from(least)) }
        })
    }

    /// Counts an event, raising no counter higher than its key needs.
    pub fn add(&mut self, node: &Node, hash: u64, weight: u64, now: Micros) {
        let number = now.0.div_euclid(pane(node).0);
        if self.panes.back().is_none_or(|(newest, _)| *newest < number) {
            if self.panes.len() == HELD {
                self.panes.pop_front();
            }
            self.panes.push_back((number, vec![0; self.counters()].into()));
        }
        let places = Self::places(self.width, hash);
        let Some((_, counters)) = self.panes.back_mut() else { return };
        let least = places.iter().filter_map(|at| counters.get(*at)).min().copied().unwrap_or(0);
        let raised = least.saturating_add(u32::try_from(weight).unwrap_or(u32::MAX));
        for at in places {
            if let Some(counter) = counters.get_mut(at) {
                *counter = raised.max(*counter);
            }
        }
    }

    /// The start of its oldest pane.
    pub fn oldest(&self, node: &Node) -> Micros {
        let oldest = self.panes.front().map_or(0, |(number, _)| *number);
        Micros(oldest.saturating_mul(pane(node).0))
    }

    /// The end of its newest pane.
    pub fn newest(&self, node: &Node) -> Micros {
        let newest = self.panes.back().map_or(0, |(number, _)| *number);
        Micros(newest.saturating_add(1).saturating_mul(pane(node).0))
    }
}
