//! One event as the state keeps it, and short sequences of events in few bytes.
//!
//! In: events in total order. Out: [`EventRef`], [`Trail`] (delta-coded, first in first out), [`Bits`].
//! Invariant: what is pushed to a trail comes back unchanged.

use smallvec::SmallVec;
use vedette_event::{Flags, Micros, Order, TopicIx};

use crate::codec::{Reader, unzigzag, write_varint, zigzag};

/// A set of small numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bits(pub SmallVec<[u64; 1]>);

impl Bits {
    /// Adds a number.
    pub fn set(&mut self, at: usize) {
        let word = at / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (at % 64);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Whether a number is there.
    pub fn has(&self, at: usize) -> bool {
        self.0.get(at / 64).is_some_and(|word| word & (1 << (at % 64)) != 0)
    }
}

/// A reference to an event, with what windows need of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventRef {
    /// `ts_event`.
    pub time: Micros,
    /// Offset of the record.
    pub offset: i64,
    /// Partition number.
    pub partition: i32,
    /// Index within the record.
    pub index: u32,
    /// Topic.
    pub topic: TopicIx,
    /// The event's flags.
    pub flags: Flags,
    /// Its weight in `event_count`.
    pub weight: u16,
}

impl EventRef {
    /// Its place in the total order.
    pub const fn order(&self) -> Order {
        Order {
            time: self.time,
            topic: self.topic,
            partition: self.partition,
            offset: self.offset,
            index: self.index,
        }
    }
}

/// Events in few bytes, each written against a base: usually 8 to 10 bytes an event.
#[derive(Debug, Clone, Default)]
pub struct Trail {
    base_time: i64,
    base_offset: i64,
    bytes: Vec<u8>,
    head: u32,
    len: u32,
}

impl Trail {
    /// How many events it holds.
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Appends an event.
    #[inline]
    pub fn push(&mut self, event: &EventRef) {
        if self.len == 0 {
            self.bytes.clear();
            self.head = 0;
            self.base_time = event.time.0;
            self.base_offset = event.offset;
        } else if self.head > 96 && self.head as usize * 2 > self.bytes.len() {
            self.bytes.drain(..self.head as usize);
            self.head = 0;
        }
        if self.bytes.capacity() - self.bytes.len() < 12 {
            // 24, 56, 120, …: full sizes of the allocator, less its own word.
            let target = (self.bytes.capacity() * 2 + 8).max(24);
            self.bytes.reserve_exact(target - self.bytes.len());
        }
        self.encode(event);
        self.len += 1;
    }

    fn encode(&mut self, event: &EventRef) {
        let plain = event.index == 0 && event.flags.is_empty() && event.weight == 1;
        write_varint(&mut self.bytes, zigzag(event.time.0.wrapping_sub(self.base_time)));
        write_varint(&mut self.bytes, zigzag(event.offset.wrapping_sub(self.base_offset)));
        write_varint(&mut self.bytes, zigzag(i64::from(event.partition)) << 1 | u64::from(!plain));
        write_varint(&mut self.bytes, u64::from(event.topic.0));
        if !plain {
            write_varint(&mut self.bytes, u64::from(event.index));
            write_varint(&mut self.bytes, u64::from(event.flags.0));
            write_varint(&mut self.bytes, u64::from(event.weight));
        }
    }

    /// The oldest event.
    #[inline]
    pub fn front(&self) -> Option<EventRef> {
        (self.len > 0).then(|| self.decode(&mut Reader::new(self.rest())))
    }

    /// Drops the oldest event.
    #[inline]
    pub fn pop(&mut self) {
        if self.len == 0 {
            return;
        }
        let rest = self.rest();
        let mut reader = Reader::new(rest);
        self.decode(&mut reader);
        self.head += (rest.len() - reader.left()) as u32;
        self.len -= 1;
    }

    /// Any byte of it, to bring it into the cache.
    #[inline]
    pub fn touch(&self) -> u8 {
        self.bytes.first().copied().unwrap_or_default()
    }

    /// All events, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = EventRef> {
        let mut reader = Reader::new(self.rest());
        (0..self.len).map(move |_| self.decode(&mut reader))
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.head as usize..).unwrap_or_default()
    }

    /// Every byte in here was written by `encode`, so reading cannot fail; zeros stand in if it did.
    #[inline]
    fn decode(&self, reader: &mut Reader<'_>) -> EventRef {
        let mut next = || reader.varint().unwrap_or_default();
        let time = self.base_time.wrapping_add(unzigzag(next()));
        let offset = self.base_offset.wrapping_add(unzigzag(next()));
        let partition = next();
        let topic = TopicIx(next() as u16);
        let (index, flags, weight) = if partition & 1 == 1 {
            (next() as u32, Flags(next() as u16), next() as u16)
        } else {
            (0, Flags::NONE, 1)
        };
        EventRef {
            time: Micros(time),
            offset,
            partition: unzigzag(partition >> 1) as i32,
            index,
            topic,
            flags,
            weight,
        }
    }
}

/// The first five and the last five of a sequence of events, each once.
#[derive(Debug, Clone, Default)]
pub struct Ends {
    first: Trail,
    last: Trail,
}

impl Ends {
    const EACH: usize = 5;

    /// Appends an event.
    pub fn push(&mut self, event: &EventRef) {
        if self.first.len() < Self::EACH {
            self.first.push(event);
            return;
        }
        if self.last.len() == Self::EACH {
            self.last.pop();
        }
        self.last.push(event);
    }

    /// The events it kept, in order.
    pub fn iter(&self) -> impl Iterator<Item = EventRef> {
        self.first.iter().chain(self.last.iter())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event() -> impl Strategy<Value = EventRef> {
        (any::<i64>(), any::<i64>(), any::<i32>(), 0..3_u32, any::<u16>(), 0..32_u16, 1..5_u16).prop_map(
            |(time, offset, partition, index, topic, flags, weight)| EventRef {
                time: Micros(time),
                offset,
                partition,
                index,
                topic: TopicIx(topic),
                flags: Flags(flags),
                weight,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn a_trail_is_a_queue(ops in prop::collection::vec(prop::option::weighted(0.6, event()), 0..200)) {
            let (mut trail, mut model) = (Trail::default(), std::collections::VecDeque::new());
            for op in ops {
                match op {
                    Some(event) => {
                        trail.push(&event);
                        model.push_back(event);
                    }
                    None => {
                        trail.pop();
                        model.pop_front();
                    }
                }
                prop_assert_eq!(trail.front(), model.front().copied());
                prop_assert_eq!(trail.len(), model.len());
            }
            prop_assert!(trail.iter().eq(model));
        }
    }

    #[test]
    fn ends_keep_the_first_and_last_five() {
        let mut ends = Ends::default();
        for n in 0..20 {
            ends.push(&EventRef {
                time: Micros(n),
                offset: n,
                partition: 0,
                index: 0,
                topic: TopicIx(0),
                flags: Flags::NONE,
                weight: 1,
            });
        }
        let times: Vec<_> = ends.iter().map(|e| e.time.0).collect();
        assert_eq!(times, [0, 1, 2, 3, 4, 15, 16, 17, 18, 19]);
    }
}
