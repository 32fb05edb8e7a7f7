//! From the bytes of a checkpoint back to state.
//!
//! In: bytes, possibly damaged or of other rules and topics. Out: the state of one key group, or an [`Error`] and nothing changed.
//! Invariants: no bytes make it panic; it allocates no more than a small multiple of what it was given; keys that rest on a topic no
//! longer in use are dropped and counted.

use std::collections::{BTreeMap, VecDeque};

use smallvec::SmallVec;
use vedette_event::{Flags, Micros, TopicIx};

use crate::{
    Correlator, Error, GROUPS,
    checkpoint::{MAGIC, SEAL},
    codec::Reader,
    episode::{Episode, Phase},
    event::{Bits, Ends, EventRef, Trail},
    judged::{Distinct, Judged},
    keys::State,
    over::{HELD, Over, Sketch, WIDEST, sketched},
    plan::{Node, NodeKind, Tree},
    storm::{Head, Part},
    window::{Recent, Window},
};

/// A key, read.
struct Read {
    key: SmallVec<[u8; 24]>,
    named: bool,
    newest: Micros,
    state: State,
    phase: Phase,
}

/// An hour of a storm, read.
struct ReadHour {
    start: Micros,
    closed: bool,
    head: Option<Head>,
    part: Part,
}

/// A rule of a tree, read: its keys, and what is over its budget.
type ReadNode = (Vec<Read>, Option<Over>);

/// A tree, read: its rules, and hours.
type ReadTree = (usize, Vec<ReadNode>, Vec<ReadHour>, u64);

/// All of a checkpoint.
struct Staged {
    marks: BTreeMap<[u8; 16], Micros>,
    trees: Vec<ReadTree>,
}

impl Correlator {
    /// Takes up the state of a key group; findings below its released watermarks will be skipped.
    ///
    /// # Errors
    /// If the bytes are damaged or of another secret or layout. The state is then as it was.
    pub fn restore(&mut self, group: u8, bytes: &[u8]) -> Result<(), Error> {
        if bytes.get(..4) != Some(&MAGIC[..4]) {
            return Err(Error::Damaged("it does not start like one"));
        }
        if bytes.get(4) != Some(&MAGIC[4]) {
            return Err(Error::Foreign("it is of another layout"));
        }
        if bytes.get(5..13) != Some(&self.hasher.hash(&MAGIC).to_le_bytes()[..]) {
            return Err(Error::Foreign("it was written with another secret"));
        }
        let (body, seal) = bytes.split_at(bytes.len().saturating_sub(SEAL));
        if seal != self.seal(body) {
            return Err(Error::Damaged("its hash does not fit"));
        }
        let body = body.get(13..).unwrap_or_default();
        let staged = self.stage(group, body).ok_or(Error::Damaged("it ends early or makes no sense"))?;
        self.take_up(group, staged);
        Ok(())
    }

    /// Reads everything without changing anything.
    fn stage(&self, group: u8, body: &[u8]) -> Option<Staged> {
        let mut input =
            Input { reader: Reader::new(body), topics: Vec::new(), time: 0, offset: 0, lost: false };
        if input.reader.byte()? != group || group >= GROUPS {
            return None;
        }
        for _ in 0..input.reader.count()? {
            let name = std::str::from_utf8(input.reader.bytes()?).ok()?;
            input.topics.push(self.topics.find(name));
        }
        let mut marks = BTreeMap::new();
        for _ in 0..input.reader.count()? {
            let mark = Micros(input.reader.signed()?);
            for _ in 0..input.reader.count()? {
                marks.insert(input.fingerprint()?, mark);
            }
        }
        let mut trees = Vec::new();
        for _ in 0..input.reader.count()? {
            let fingerprint = input.fingerprint()?;
            let known = self.plan.trees.iter().position(|tree| tree.fingerprint == fingerprint);
            let length = usize::try_from(input.reader.varint()?).ok()?;
            let rest = input.reader.left().checked_sub(length)?;
            (input.time, input.offset) = (0, 0);
            match known.and_then(|at| self.plan.trees.get(at).map(|tree| (at, tree))) {
                Some((at, tree)) => {
                    let (nodes, hours, lost) = input.tree(tree)?;
                    trees.push((at, nodes, hours, lost));
                }
                None => {
                    input.reader.take(length)?;
                }
            }
            if input.reader.left() != rest {
                return None;
            }
        }
        (input.reader.left() == 0).then_some(Staged { marks, trees })
    }

    /// Puts what was read in the place of what was there.
    fn take_up(&mut self, group: u8, staged: Staged) {
        let Self { plan, trees, hasher, .. } = self;
        for (tree, state) in plan.trees.iter().zip(trees.iter_mut()) {
            for node in &mut state.nodes {
                let old: Vec<_> =
                    node.keys.iter().filter(|(_, e)| e.group == group).map(|(slot, _)| slot).collect();
                for slot in old {
                    node.keys.remove(hasher, slot);
                }
                node.over.remove(&group);
                node.swept = Micros::MIN;
            }
            let Some(mark) = staged.marks.get(&tree.fingerprint) else { continue };
            let marks = state.restored.get_or_insert_with(|| Box::new([Micros::MIN; GROUPS as usize]));
            if let Some(slot) = marks.get_mut(usize::from(group)) {
                *slot = *mark;
            }
        }
        for (at, nodes, hours, lost) in staged.trees {
            let (Some(tree), Some(state)) = (plan.trees.get(at), trees.get_mut(at)) else { continue };
            state.counters.evicted += lost;
            let mark = staged.marks.get(&tree.fingerprint).copied().unwrap_or(Micros::MIN);
            for ((keys, over), node) in nodes.into_iter().zip(&mut state.nodes) {
                node.over.extend(over.map(|over| (group, over)));
                for read in keys {
                    let hash = hasher.hash(&read.key);
                    if read.named && node.keys.find(hash, &read.key).is_some() {
                        continue;
                    }
                    let slot = node.keys.insert(hash, &read.key, group, read.named, read.state);
                    if let Some(entry) = node.keys.get_mut(slot) {
                        entry.newest = read.newest;
                        entry.phase = read.phase;
                    }
                }
            }
            for read in hours {
                let hour = state.storm.hours.entry(read.start).or_default();
                hour.listed += read.part.crossings.len() as u64;
                hour.closed |= read.closed;
                if hour.head.is_none() || (read.head.is_some() && mark >= state.published) {
                    hour.head = read.head;
                }
                hour.parts.insert(group, read.part);
            }
            state.requeue(tree, group);
        }
        for (tree, state) in plan.trees.iter().zip(trees) {
            let mark = staged.marks.get(&tree.fingerprint).copied().unwrap_or(Micros::MIN);
            state.published = state.published.max(mark);
        }
    }
}

/// Reads events against the one before.
struct Input<'a> {
    reader: Reader<'a>,
    /// The topics of the checkpoint as they are now.
    topics: Vec<Option<TopicIx>>,
    time: i64,
    offset: i64,
    /// An event of a topic no longer in use was read.
    lost: bool,
}

impl Input<'_> {
    fn fingerprint(&mut self) -> Option<[u8; 16]> {
        self.reader.take(16)?.first_chunk().copied()
    }

    fn number<T: TryFrom<u64>>(&mut self) -> Option<T> {
        T::try_from(self.reader.varint()?).ok()
    }

    fn time(&mut self) -> Option<Micros> {
        self.time = self.time.wrapping_add(self.reader.signed()?);
        Some(Micros(self.time))
    }

    fn flags(&mut self) -> Option<Flags> {
        self.number().map(Flags)
    }

    fn event(&mut self) -> Option<EventRef> {
        let time = self.time()?;
        self.offset = self.offset.wrapping_add(self.reader.signed()?);
        let partition = i32::try_from(self.reader.signed()?).ok()?;
        let index = self.number()?;
        let place: usize = self.number()?;
        let topic = *self.topics.get(place >> 1)?;
        let incarnation = if place & 1 == 1 { self.number()? } else { 0 };
        self.lost |= topic.is_none();
        let topic = topic.unwrap_or(TopicIx(0));
        Some(EventRef {
            time,
            offset: self.offset,
            partition,
            index,
            topic,
            incarnation,
            flags: self.flags()?,
            weight: self.number()?,
        })
    }

    fn events(&mut self) -> Option<Vec<EventRef>> {
        let n = self.reader.count()?;
        let mut events = Vec::new();
        for _ in 0..n {
            events.push(self.event()?);
        }
        Some(events)
    }

    fn ends(&mut self) -> Option<Ends> {
        let mut ends = Ends::default();
        for event in self.events()? {
            ends.push(&event);
        }
        Some(ends)
    }

    fn bits(&mut self) -> Option<Bits> {
        let n = self.reader.count()?;
        let mut bits = Bits::default();
        for _ in 0..n {
            bits.0.push(self.reader.varint()?);
        }
        Some(bits)
    }

    fn hashes(&mut self) -> Option<Vec<u64>> {
        let n = self.reader.count()?;
        let mut hashes = Vec::new();
        for _ in 0..n {
            hashes.push(u64::from_le_bytes(*self.reader.take(8)?.first_chunk()?));
        }
        Some(hashes)
    }

    fn distinct(&mut self) -> Option<Distinct> {
        let more = self.number::<u64>()? == 1;
        let mut distinct = Distinct::default();
        for hash in self.hashes()? {
            distinct.add(hash, u64::MAX);
        }
        distinct.more = more;
        Some(distinct)
    }

    fn tree(&mut self, tree: &Tree) -> Option<(Vec<ReadNode>, Vec<ReadHour>, u64)> {
        let (mut nodes, mut hours, mut lost) = (Vec::new(), Vec::new(), 0);
        for node in &tree.nodes {
            let mut keys = Vec::new();
            for _ in 0..self.reader.count()? {
                self.lost = false;
                let read = self.entry(node)?;
                if self.lost {
                    lost += 1;
                } else {
                    keys.push(read);
                }
            }
            nodes.push((keys, self.over(node)?));
        }
        for _ in 0..self.reader.count()? {
            self.lost = false;
            let hour = self.hour()?;
            if !self.lost {
                hours.push(hour);
            }
        }
        Some((nodes, hours, lost))
    }

    /// A sketch; the outer `None` if it makes no sense.
    #[expect(clippy::option_option, reason = "the outer one is for damage")]
    fn over(&mut self, node: &Node) -> Option<Option<Over>> {
        let width: usize = self.number()?;
        if width == 0 {
            return Some(None);
        }
        if !sketched(node) || !width.is_power_of_two() || width > WIDEST {
            return None;
        }
        let mut sketch = Sketch { width, panes: VecDeque::new() };
        for _ in 0..self.reader.count().filter(|n| *n <= HELD)? {
            let number = self.reader.signed()?;
            if sketch.panes.back().is_some_and(|(before, _)| *before >= number) {
                return None;
            }
            let mut counters = vec![0; sketch.counters()];
            let mut at = 0_usize;
            for _ in 0..self.reader.count()? {
                at = at.checked_add(self.number()?)?;
                *counters.get_mut(at)? = self.number()?;
            }
            sketch.panes.push_back((number, counters.into()));
        }
        let (since, until) = (sketch.oldest(node), sketch.newest(node));
        let mut over = Over::new(since, Some(sketch));
        over.last = until;
        Some(Some(over))
    }

    fn entry(&mut self, node: &Node) -> Option<Read> {
        let bits: u64 = self.number()?;
        let key = SmallVec::from_slice(self.reader.bytes()?);
        let (newest, state) = if node.judged {
            let window = self.judged()?;
            (window.last.time, State::Judged(Box::new(window)))
        } else {
            let (newest, shared) = (self.time()?, bits & 8 != 0);
            if shared && !sketched(node) {
                return None;
            }
            (newest, State::Sliding(if shared { Window::Shared } else { self.window(node)? }))
        };
        let phase = match bits >> 1 & 3 {
            0 => Phase::None,
            1 => Phase::Cut(self.time()?),
            2 => Phase::Open(Box::new(self.episode()?)),
            _ => return None,
        };
        Some(Read { key, named: bits & 1 == 1, newest, state, phase })
    }

    fn window(&mut self, node: &Node) -> Option<Window> {
        Some(match node.kind {
            NodeKind::Single => Window::None,
            NodeKind::Count => {
                let (mut trail, mut weight) = (Trail::default(), 0_u64);
                for event in self.events()? {
                    trail.push(&event);
                    weight += u64::from(event.weight);
                }
                Window::Count { trail, weight }
            }
            NodeKind::Distinct(_) => {
                let (events, values) = (self.events()?, self.hashes()?);
                if events.len() != values.len() {
                    return None;
                }
                Window::Distinct(Box::new(Recent { values: values.into(), events: events.into() }))
            }
            NodeKind::Temporal => {
                let mut latest = Vec::new();
                for _ in &node.refs {
                    latest.push(self.events()?.first().copied());
                }
                Window::Temporal(latest.into())
            }
            NodeKind::Ordered => {
                let mut chains = Vec::new();
                for _ in &node.refs {
                    chains.push(self.events()?);
                }
                Window::Ordered(chains.into())
            }
        })
    }

    fn judged(&mut self) -> Option<Judged> {
        Some(Judged {
            start: self.time()?,
            first_seen: self.time()?,
            last: self.event()?,
            count: self.number()?,
            weight: self.number()?,
            flags: self.flags()?,
            ends: self.ends()?,
            values: self.distinct()?,
            matched: self.bits()?,
        })
    }

    fn episode(&mut self) -> Option<Episode> {
        let crossing = self.event()?;
        let bits: u64 = self.number()?;
        Some(Episode {
            crossing,
            silent: bits & 1 != 0,
            continuation: bits & 2 != 0,
            revision: self.number()?,
            first_seen: self.time()?,
            last_seen: self.time()?,
            held: self.time()?,
            pending: if bits & 4 != 0 { Some(self.time()?) } else { None },
            count: self.number()?,
            weight: self.number()?,
            flags: self.flags()?,
            ends: self.ends()?,
            values: self.distinct()?,
            matched: self.bits()?,
            steps: {
                let mut steps = Vec::new();
                for _ in 0..self.reader.count()? {
                    steps.push(self.time()?);
                }
                steps
            },
            queued: Micros::MAX,
        })
    }

    fn hour(&mut self) -> Option<ReadHour> {
        let start = self.time()?;
        let bits: u64 = self.number()?;
        let mut head = None;
        if bits & 2 != 0 {
            head = Some(Head { crossing: self.event()?, revision: self.number()?, pending: None });
        }
        if bits & 4 != 0 {
            let pending = self.time()?;
            if let Some(head) = &mut head {
                head.pending = Some(pending);
            }
        }
        let mut crossings = Vec::new();
        for _ in 0..self.reader.count()? {
            let event = self.event()?;
            crossings.push((event, std::str::from_utf8(self.reader.bytes()?).ok()?.into()));
        }
        let mut part = Part {
            crossings,
            folded: self.number()?,
            ends: self.ends()?,
            flags: self.flags()?,
            ..Part::default()
        };
        part.last = part.ends.iter().last().map(|event| event.order());
        for _ in 0..self.reader.count()? {
            let prefix = std::str::from_utf8(self.reader.bytes()?).ok()?.to_owned();
            part.prefixes.put(prefix, self.number()?);
        }
        Some(ReadHour { start, closed: bits & 1 != 0, head, part })
    }
}
