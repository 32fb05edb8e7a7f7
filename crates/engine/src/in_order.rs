//! What is read, handed on in the order in which it was read, though some of it is away being evaluated.
//!
//! In: items as they are read; for each batch that goes to a detector a place, and what comes back for it, at any time.
//! Out: the items, in the order of their places. Invariants: nothing overtakes anything, whatever comes back first; what is
//! in flight (taken in and not handed on) is bounded in items, batches and payload bytes, beyond which there is no room.
//!
//! One order over all partitions, and not one for each, because what is not a record needs it: an idle proof must come
//! behind the records of its partition, but the word that a partition is read must come *before* the records of all others
//! of its topic that were read later, else the source's watermark passes without it and its first records are overtaken;
//! an accepted topic divides the records of all its partitions. It also lets any detector take any batch, so that a
//! single partition, or a single file, is evaluated by all of them. What it costs, a batch that is slow to evaluate holding
//! up those read after it, would come about anyway as soon as its own detector has no room.

use std::collections::VecDeque;

/// How much may be in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFlight {
    /// Items, batches included: what waits behind a batch costs little, and there may be much of it.
    pub items: usize,
    /// Batches.
    pub batches: usize,
    /// Payload bytes, but for the batch that goes beyond.
    pub bytes: usize,
}

/// Items in the order of their places.
#[derive(Debug)]
pub struct InOrder<T> {
    limit: InFlight,
    /// The number of the first place.
    first: u64,
    places: VecDeque<Queued<T>>,
    batches: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Queued<T> {
    /// None while it is away.
    item: Option<T>,
    /// The payload bytes, if it is a batch.
    batch: Option<usize>,
}

impl<T> InOrder<T> {
    /// Nothing is in flight yet.
    #[must_use]
    pub fn new(limit: InFlight) -> Self {
        Self { limit, first: 0, places: VecDeque::new(), batches: 0, bytes: 0 }
    }

    /// Whether one more item may be taken in.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let InFlight { items, batches, bytes } = self.limit;
        self.places.len() < items && self.batches < batches && self.bytes < bytes
    }

    /// What is in flight.
    #[must_use]
    pub fn in_flight(&self) -> InFlight {
        InFlight { items: self.places.len(), batches: self.batches, bytes: self.bytes }
    }

    /// Takes in an item that goes nowhere: it waits for those before it only.
    pub fn push(&mut self, item: T) {
        self.places.push_back(Queued { item: Some(item), batch: None });
    }

    /// The number of the next place, kept for what comes back for a batch of so many payload bytes.
    #[must_use]
    pub fn keep(&mut self, bytes: usize) -> u64 {
        self.places.push_back(Queued { item: None, batch: Some(bytes) });
        self.batches += 1;
        self.bytes += bytes;
        self.first + self.places.len() as u64 - 1
    }

    /// Puts what came back into the place that was kept for it. A place that was not kept is nobody's.
    pub fn fill(&mut self, number: u64, item: T) {
        let at = number.checked_sub(self.first).and_then(|at| self.places.get_mut(usize::try_from(at).ok()?));
        debug_assert!(at.as_ref().is_some_and(|place| place.item.is_none()), "place {number} was not kept");
        if let Some(place) = at {
            place.item = Some(item);
        }
    }

    /// The next item, unless it is away or there is none.
    pub fn pop(&mut self) -> Option<T> {
        let item = self.places.front_mut()?.item.take()?;
        if let Some(bytes) = self.places.pop_front().and_then(|place| place.batch) {
            self.batches -= 1;
            self.bytes -= bytes;
        }
        self.first += 1;
        Some(item)
    }

    /// True if nothing is in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

#[cfg(test)]
#[path = "tests/in_order.rs"]
mod tests;
