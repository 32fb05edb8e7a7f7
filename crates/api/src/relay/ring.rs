//! What a relay holds for its readers: the newest changes, ready to be sent, and who has taken what.
//!
//! In: entries in the order of their `seq`, readers that come, take and go. Out: pieces of what a reader has not taken. Invariants: no
//! more bytes than it was given, but for one entry that alone is larger; nothing is dropped that a reader has yet to take, except with
//! that reader; a piece is at most [`PIECE`] bytes and shares them with all other readers.

use std::collections::{BTreeMap, VecDeque};

use hyper::body::Bytes;

/// Bytes handed to a reader at once: as many as its connection holds of what its peer has not taken.
pub(crate) const PIECE: usize = 64 * 1024;

/// What an entry costs besides its text.
const ENTRY: usize = 96;

/// A row that does not match any more; only readers that may know it are told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leaving {
    /// Hash of the row's id.
    pub id: u64,
    /// The `seq` with which the row appeared.
    pub created: i64,
    /// When the relay met the row last, and whether it matched then.
    pub before: Option<(i64, bool)>,
    /// From which `seq` on the relay knows what it met.
    pub knows_from: i64,
}

/// One change as it is sent.
#[derive(Debug)]
pub(crate) struct Entry {
    pub seq: i64,
    pub leaving: Option<Leaving>,
    pub text: Bytes,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.text.len() + ENTRY
    }
}

/// A reader's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(u64);

/// What a reader gets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// All up to this `seq`; empty where nothing in between is for it.
    Piece { texts: Vec<Bytes>, until: i64 },
    /// There is nothing new.
    Nothing,
    /// The ring began anew: what the reader has not taken is not in it.
    Apart,
    /// It did not take what it was handed, and was not waited for any longer.
    Slow,
}

/// The ring.
#[derive(Debug)]
pub(crate) struct Ring {
    /// All changes after this `seq` are here, up to `until`.
    from: i64,
    until: i64,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Up to where each reader has taken; `None` where the ring began anew since.
    readers: BTreeMap<Place, Option<i64>>,
    next: u64,
}

impl Ring {
    pub fn new(seq: i64) -> Self {
        Self { from: seq, until: seq, entries: VecDeque::new(), bytes: 0, readers: BTreeMap::new(), next: 0 }
    }

    /// The last change that is in it.
    pub fn until(&self) -> i64 {
        self.until
    }

    /// A place for one that has seen all up to this `seq`; `None` if some of what follows is not here.
    pub fn join(&mut self, after: i64) -> Option<Place> {
        if after < self.from {
            return None;
        }
        let place = Place(self.next);
        self.next += 1;
        self.readers.insert(place, Some(after));
        Some(place)
    }

    pub fn leave(&mut self, place: Place) {
        self.readers.remove(&place);
    }

    /// What comes next for a reader, as much as is handed over at once. `knows` says whether it may know a row that leaves.
    pub fn take(&mut self, place: Place, knows: impl Fn(&Leaving) -> bool) -> Taken {
        let Some(after) = self.readers.get_mut(&place) else { return Taken::Slow };
        let Some(after) = after else { return Taken::Apart };
        if *after >= self.until {
            return Taken::Nothing;
        }
        let first = self.entries.partition_point(|entry| entry.seq <= *after);
        let (mut texts, mut bytes, mut until) = (Vec::new(), 0, self.until);
        for entry in self.entries.range(first..) {
            if entry.leaving.as_ref().is_some_and(|leaving| !knows(leaving)) || entry.text.is_empty() {
                continue;
            }
            if !texts.is_empty() && bytes + entry.text.len() > PIECE {
                // All before this one.
                until = entry.seq - 1;
                break;
            }
            bytes += entry.text.len();
            texts.push(entry.text.clone());
        }
        *after = until;
        Taken::Piece { texts, until }
    }

    /// Puts an entry behind the others; gives it back where first somebody has to take what is in its way.
    pub fn push(&mut self, entry: Entry, most: usize) -> Result<(), Entry> {
        let taken = self.readers.values().flatten().min().copied().unwrap_or(i64::MAX);
        while !self.entries.is_empty() && self.bytes + entry.bytes() > most {
            if self.entries.front().is_some_and(|front| front.seq > taken) {
                return Err(entry);
            }
            self.drop_oldest();
        }
        self.until = entry.seq;
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        Ok(())
    }

    /// Gives up those who have yet to take the oldest entry.
    pub fn give_up_slow(&mut self) {
        let Some(front) = self.entries.front().map(|entry| entry.seq) else { return };
        self.readers.retain(|_, after| after.is_none_or(|after| after >= front));
    }

    /// Nothing up to this `seq` was for anybody.
    pub fn pass(&mut self, seq: i64) {
        self.until = self.until.max(seq);
    }

    /// Begins anew from here, since what was in between is not known.
    pub fn begin_anew(&mut self, seq: i64) {
        self.entries.clear();
        (self.from, self.until, self.bytes) = (seq, seq, 0);
        self.readers.values_mut().for_each(|after| *after = None);
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.entries.pop_front() {
            self.from = oldest.seq;
            self.bytes -= oldest.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn row(seq: i64, bytes: usize) -> Entry {
        Entry { seq, leaving: None, text: Bytes::from(vec![b'x'; bytes]) }
    }

    fn all(_: &Leaving) -> bool {
        true
    }

    /// How many texts a reader gets, and up to where.
    fn take(ring: &mut Ring, place: Place) -> (usize, i64) {
        match ring.take(place, all) {
            Taken::Piece { texts, until } => (texts.len(), until),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_piece_is_bounded_and_goes_on_where_it_ended() {
        let mut ring = Ring::new(10);
        let place = ring.join(10).unwrap();
        assert_eq!(ring.take(place, all), Taken::Nothing);
        for seq in 11..=14 {
            ring.push(row(seq, PIECE / 3), usize::MAX).unwrap();
        }
        ring.pass(20);
        assert_eq!(take(&mut ring, place), (3, 13));
        assert_eq!(take(&mut ring, place), (1, 20));
        assert_eq!(ring.take(place, all), Taken::Nothing);
        // Larger than a piece, and handed over alone.
        ring.push(row(21, PIECE * 2), usize::MAX).unwrap();
        ring.push(row(22, 1), usize::MAX).unwrap();
        assert_eq!(take(&mut ring, place), (1, 21));
        assert_eq!(take(&mut ring, place), (1, 22));
    }

    #[test]
    fn what_a_reader_has_yet_to_take_stays_until_it_is_given_up() {
        let mut ring = Ring::new(0);
        let (prompt, slow) = (ring.join(0).unwrap(), ring.join(0).unwrap());
        let most = 10 * (100 + ENTRY);
        for seq in 1..=10 {
            ring.push(row(seq, 100), most).unwrap();
        }
        assert_eq!(take(&mut ring, prompt), (10, 10));
        let refused = ring.push(row(11, 100), most).unwrap_err();
        ring.give_up_slow();
        ring.push(refused, most).unwrap();
        assert_eq!(ring.take(slow, all), Taken::Slow);
        assert_eq!(take(&mut ring, prompt), (1, 11));
        assert_eq!((ring.entries.len(), ring.bytes), (10, most));
        // Who has seen less than what is here has to read by itself first.
        assert_eq!(ring.join(0), None);
        assert!(ring.join(1).is_some());
    }

    #[test]
    fn nobody_is_waited_for_who_has_taken_or_gone() {
        let mut ring = Ring::new(0);
        let gone = ring.join(0).unwrap();
        ring.leave(gone);
        let ahead = ring.join(500).unwrap();
        for seq in 1..=1_000 {
            if seq > 500 {
                let _ = ring.take(ahead, all);
            }
            ring.push(row(seq, 100), 5 * (100 + ENTRY)).unwrap();
            assert!(ring.bytes <= 5 * (100 + ENTRY));
        }
        // One larger than all room is alone.
        let _ = ring.take(ahead, all);
        ring.push(row(1_001, 10_000), 1_000).unwrap();
        assert_eq!(ring.entries.len(), 1);
    }

    #[test]
    fn a_leaving_is_told_to_those_who_may_know_it() {
        let mut ring = Ring::new(0);
        let (knows, strange) = (ring.join(0).unwrap(), ring.join(0).unwrap());
        let leaving = Leaving { id: 7, created: 0, before: None, knows_from: 0 };
        ring.push(Entry { leaving: Some(leaving), ..row(1, 10) }, 1_000).unwrap();
        assert_eq!(take(&mut ring, knows), (1, 1));
        assert_eq!(ring.take(strange, |_| false), Taken::Piece { texts: Vec::new(), until: 1 });
    }

    #[test]
    fn after_a_new_beginning_readers_read_by_themselves() {
        let mut ring = Ring::new(0);
        let place = ring.join(0).unwrap();
        ring.push(row(1, 10), 1_000).unwrap();
        ring.begin_anew(50);
        assert_eq!(ring.take(place, all), Taken::Apart);
        assert_eq!((ring.bytes, ring.join(49)), (0, None));
        // It holds nothing up.
        for seq in 51..=99 {
            ring.push(row(seq, 100), 500).unwrap();
        }
    }
}
