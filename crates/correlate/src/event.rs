//! One event as the state keeps it, and short sequences of events in few bytes.
//!
//! In: events in total order. Out: [`EventRef`], [`Trail`] (delta-coded, first in first out), [`Bits`].
//! Invariant: what is pushed to a trail comes back unchanged.

use smallvec::SmallVec;
use vedette_event::{Flags, Incarnation, Micros, Order, Partition, TopicIx};

use crate::codec::{ByteReader, unzigzag, zigzag};

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
    /// Which of the topics of that name.
    pub incarnation: Incarnation,
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
            incarnation: self.incarnation,
            partition: self.partition,
            offset: self.offset,
            index: self.index,
        }
    }

    /// Where it was read.
    pub const fn origin(&self) -> (Partition, Incarnation) {
        (Partition { topic: self.topic, number: self.partition }, self.incarnation)
    }
}

/// Bytes of a trail that need no memory of their own: two or three events.
const SHORT: usize = 22;

/// Where a trail's bytes are.
#[derive(Debug, Clone)]
enum TrailBytes {
    Short([u8; SHORT]),
    Long(Box<[u8]>),
}

/// Events in few bytes, each written against a base: usually 8 to 10 bytes an event.
#[derive(Debug, Clone)]
pub struct Trail {
    base_time: i64,
    base_offset: i64,
    store: TrailBytes,
    head: u32,
    tail: u32,
}

impl Default for Trail {
    fn default() -> Self {
        Self { base_time: 0, base_offset: 0, store: TrailBytes::Short([0; SHORT]), head: 0, tail: 0 }
    }
}

/// The bytes of one event: at most two numbers of ten bytes and six of five.
struct Encoded {
    bytes: [u8; 52],
    len: usize,
}

impl Encoded {
    #[inline]
    fn number(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.byte(n as u8 | 0x80);
            n >>= 7;
        }
        self.byte(n as u8);
    }

    #[inline]
    fn byte(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
    }
}

impl Trail {
    /// Topics whose number stands beside the partition, as long as they are the first of their name.
    const NEAR: u64 = 3;

    /// Appends an event.
    #[inline]
    pub fn push(&mut self, event: &EventRef) {
        if self.head == self.tail {
            (self.head, self.tail) = (0, 0);
            (self.base_time, self.base_offset) = (event.time.0, event.offset);
        }
        let encoded = self.encode(event);
        let mut end = self.tail as usize + encoded.len;
        if end > self.room() {
            end = self.make_room(encoded.len);
        }
        if let (Some(to), Some(from)) =
            (self.bytes_mut().get_mut(end - encoded.len..end), encoded.bytes.get(..encoded.len))
        {
            to.copy_from_slice(from);
        }
        self.tail = end as u32;
    }

    fn room(&self) -> usize {
        match &self.store {
            TrailBytes::Short(bytes) => bytes.len(),
            TrailBytes::Long(bytes) => bytes.len(),
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.store {
            TrailBytes::Short(bytes) => bytes,
            TrailBytes::Long(bytes) => bytes,
        }
    }

    /// Makes room for `more` bytes, first by moving what is left to the front; where they will end.
    #[cold]
    fn make_room(&mut self, more: usize) -> usize {
        let (head, len) = (self.head as usize, (self.tail - self.head) as usize);
        let needed = len + more;
        if head > 0 && needed + needed / 8 <= self.room() {
            self.bytes_mut().copy_within(head..head + len, 0);
        } else {
            // Full sizes of the allocator: 48, 64, 80, …
            let room = (needed + needed / 8).next_multiple_of(16);
            let mut bytes = Vec::with_capacity(room);
            bytes.extend_from_slice(self.rest());
            bytes.resize(room, 0);
            self.store = TrailBytes::Long(bytes.into_boxed_slice());
        }
        (self.head, self.tail) = (0, len as u32);
        needed
    }

    #[inline]
    fn encode(&self, event: &EventRef) -> Encoded {
        let mut out = Encoded { bytes: [0; 52], len: 0 };
        let plain = event.index == 0 && event.flags.is_empty() && event.weight == 1;
        let topic = u64::from(event.topic.0);
        let near = if event.incarnation == 0 { topic.min(Self::NEAR) } else { Self::NEAR };
        out.number(event.time.0.wrapping_sub(self.base_time) as u64);
        out.number(zigzag(event.offset.wrapping_sub(self.base_offset)));
        out.number(zigzag(i64::from(event.partition)) << 3 | near << 1 | u64::from(!plain));
        if near == Self::NEAR {
            out.number(topic);
            out.number(u64::from(event.incarnation));
        }
        if !plain {
            out.number(u64::from(event.index));
            out.number(u64::from(event.flags.0));
            out.number(u64::from(event.weight));
        }
        out
    }

    /// The oldest event.
    #[inline]
    pub fn front(&self) -> Option<EventRef> {
        (self.head < self.tail).then(|| self.decode(&mut ByteReader::new(self.rest())))
    }

    /// Drops the oldest event.
    #[inline]
    pub fn pop(&mut self) {
        let rest = self.rest();
        if rest.is_empty() {
            return;
        }
        let mut reader = ByteReader::new(rest);
        self.decode(&mut reader);
        self.head += (rest.len() - reader.left()) as u32;
    }

    /// Gives memory back when most of it is not used.
    #[inline]
    pub fn shrink(&mut self) {
        let len = self.rest().len();
        if self.room() > 256 && len < self.room() / 4 {
            let mut bytes = Vec::with_capacity(2 * len);
            bytes.extend_from_slice(self.rest());
            bytes.resize(2 * len, 0);
            self.store = TrailBytes::Long(bytes.into_boxed_slice());
            (self.head, self.tail) = (0, len as u32);
        }
    }

    /// Any byte of it, to bring it into the cache.
    #[inline]
    pub fn touch(&self) -> u8 {
        self.rest().first().copied().unwrap_or_default()
    }

    /// How many bytes they take.
    pub const fn bytes(&self) -> usize {
        (self.tail - self.head) as usize
    }

    /// All events, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = EventRef> {
        let mut reader = ByteReader::new(self.rest());
        std::iter::from_fn(move || (reader.left() > 0).then(|| self.decode(&mut reader)))
    }

    #[inline]
    fn rest(&self) -> &[u8] {
        let bytes = match &self.store {
            TrailBytes::Short(bytes) => &bytes[..],
            TrailBytes::Long(bytes) => bytes,
        };
        bytes.get(self.head as usize..self.tail as usize).unwrap_or_default()
    }

    /// Every byte in here was written by `encode`, so reading cannot fail; zeros stand in if it did.
    #[inline]
    fn decode(&self, reader: &mut ByteReader<'_>) -> EventRef {
        let mut next = || reader.varint().unwrap_or_default();
        let time = self.base_time.wrapping_add(next() as i64);
        let offset = self.base_offset.wrapping_add(unzigzag(next()));
        let place = next();
        let near = place >> 1 & 3;
        let (topic, incarnation) = if near == Self::NEAR { (next(), next()) } else { (near, 0) };
        let (index, flags, weight) = if place & 1 == 1 {
            (next() as u32, Flags(next() as u16), next() as u16)
        } else {
            (0, Flags::NONE, 1)
        };
        EventRef {
            time: Micros(time),
            offset,
            partition: unzigzag(place >> 3) as i32,
            index,
            topic: TopicIx(topic as u16),
            incarnation: incarnation as Incarnation,
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
    /// How many events each holds.
    held: (u8, u8),
}

impl Ends {
    /// An alert names its first and last five events as evidence.
    const EACH: u8 = 5;

    /// Appends an event.
    pub fn push(&mut self, event: &EventRef) {
        if self.held.0 < Self::EACH {
            self.first.push(event);
            self.held.0 += 1;
            return;
        }
        if self.held.1 == Self::EACH {
            self.last.pop();
        } else {
            self.held.1 += 1;
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
        let topic = prop_oneof![(0..5_u16, 0..2_u16), any::<(u16, u16)>()];
        (any::<i64>(), any::<i64>(), any::<i32>(), 0..3_u32, topic, 0..32_u16, 1..5_u16).prop_map(
            |(time, offset, partition, index, (topic, incarnation), flags, weight)| EventRef {
                time: Micros(time),
                offset,
                partition,
                index,
                topic: TopicIx(topic),
                incarnation,
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
                prop_assert_eq!(trail.iter().count(), model.len());
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
                incarnation: 0,
                flags: Flags::NONE,
                weight: 1,
            });
        }
        let times: Vec<_> = ends.iter().map(|e| e.time.0).collect();
        assert_eq!(times, [0, 1, 2, 3, 4, 15, 16, 17, 18, 19]);
    }
}
