//! From the bytes of a checkpoint back to state.
//!
//! In: bytes, possibly damaged or of other rules and topics. Out: the state of one key group, or an [`Error`] and nothing changed.
//! Invariants: no bytes make it panic; it allocates no more than a small multiple of what it was given; keys that rest on a topic no
//! longer in use are dropped and counted.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use smallvec::SmallVec;
use vedette_event::{Flags, Micros, TopicIx};

use super::{MAGIC, SEAL};
use crate::{
    Correlator, Error, GROUPS,
    chain::{ChainWindow, ChildEpisode, ChildEvent, LEVELS},
    codec::ByteReader,
    event::{Bits, Ends, EventRef, Trail},
    keys::{AnyWindow, KeyBytes},
    over::{
        Over,
        sketch::{HELD, Sketch, WIDEST},
        sketched,
    },
    plan::{Node, NodeKind, Tree},
    step::{
        Context, Step,
        episode::{Episode, Phase},
        judged::Judged,
        tally::{Distinct, Tally},
        timers::{Due, Timer},
        window::{Recent, Window},
    },
    storm::{
        Contribution,
        hour::{Folded, Head},
    },
};

/// A key, read.
struct Read {
    key: SmallVec<[u8; 24]>,
    named: bool,
    newest: Micros,
    window: AnyWindow,
    phase: Phase,
}

/// A rule of a tree, read: its keys, and what is over its budget.
type ReadNode = (Vec<Read>, Option<Over>);

/// A tree, read: its rules, and hours.
type ReadTree = (usize, Vec<ReadNode>, Vec<Contribution>, u64);

/// All of a checkpoint.
struct ReadGroup {
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
    fn stage(&self, group: u8, body: &[u8]) -> Option<ReadGroup> {
        let mut input =
            Input { reader: ByteReader::new(body), topics: Vec::new(), time: 0, offset: 0, lost: false };
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
        (input.reader.left() == 0).then_some(ReadGroup { marks, trees })
    }

    /// Puts what was read in the place of what was there.
    fn take_up(&mut self, number: u8, staged: ReadGroup) {
        let plan = std::sync::Arc::clone(&self.plan);
        let mark = |tree: &Tree| staged.marks.get(&tree.fingerprint).copied().unwrap_or(Micros::MIN);
        let marks: Vec<Micros> = plan.trees.iter().map(mark).collect();
        std::sync::Arc::make_mut(&mut self.storms).forget(number);
        let Some(group) = self.groups.get_mut(usize::from(number)) else { return };
        group.clear();
        for (at, nodes, hours, lost) in staged.trees {
            let Some(tree) = plan.trees.get(at) else { continue };
            let mark = marks.get(at).copied().unwrap_or(Micros::MIN);
            let Self { topics, hasher, storms, report, budgets, .. } = self;
            report.of(at as u32).root.evicted += lost;
            let cx = Context { plan: &plan, topics, hasher, budgets, storms };
            if let Some((state, agenda)) = group.at(at as u32, tree) {
                let at = at as u32;
                Step {
                    cx: &cx,
                    at,
                    tree,
                    group: number,
                    state,
                    agenda,
                    report,
                    hash: None,
                    crossed: Vec::new(),
                }
                .take_up(nodes, mark);
            }
            group.drop_if_empty(at as u32);
            for part in hours {
                std::sync::Arc::make_mut(storms).take_up(at as u32, tree, (number, mark), part);
            }
        }
        for (at, mark) in marks.iter().enumerate() {
            std::sync::Arc::make_mut(&mut self.storms).publish(at, *mark);
        }
        group.set_marks(marks);
        self.count_remembered();
    }
}

impl Step<'_> {
    /// Takes up the keys of a tree's rules, and what they have to do.
    fn take_up(&mut self, nodes: Vec<ReadNode>, mark: Micros) {
        let hasher = self.cx.hasher;
        for (at, ((keys, over), node)) in nodes.into_iter().zip(&self.tree.nodes).enumerate() {
            let Some(state) = self.state.nodes.get_mut(at) else { continue };
            if over.is_some() {
                state.over = over.map(Box::new);
                self.agenda.over.insert((self.at, at as u16));
            }
            let mut ends = std::collections::BTreeSet::new();
            for read in keys {
                let hash = hasher.hash(&read.key);
                if read.named && state.keys.find(hash, &read.key).is_some() {
                    continue;
                }
                if let AnyWindow::Judged(window) = &read.window {
                    ends.insert(window.end(node));
                }
                let slot = state.keys.insert(hash, &read.key, read.named, read.window);
                let Some(known) = state.keys.get_mut(slot) else { continue };
                known.newest = read.newest;
                known.phase = read.phase;
                if let Phase::Open(episode) = &mut known.phase {
                    episode.queued = episode.due(node);
                    let what = Due::Episode { node: at as u16, slot, birth: known.birth };
                    self.agenda.timers.push(Timer { due: episode.queued, what, tree: self.at });
                }
                state.keys.recharge(node, slot);
            }
            let has_keys = !state.keys.is_empty();
            ends.into_iter().for_each(|end| self.judge_at(at, end));
            if has_keys && !node.judged {
                self.sweep_from(mark);
            }
        }
    }
}

/// Reads events against the one before.
struct Input<'a> {
    reader: ByteReader<'a>,
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

    fn tree(&mut self, tree: &Tree) -> Option<(Vec<ReadNode>, Vec<Contribution>, u64)> {
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
        let (newest, window) = if node.judged {
            let window = self.judged()?;
            (window.last.time, AnyWindow::Judged(Box::new(window)))
        } else {
            let (newest, shared) = (self.time()?, bits & 8 != 0);
            if shared && !sketched(node) {
                return None;
            }
            (newest, AnyWindow::Sliding(if shared { Window::Shared } else { self.window(node)? }))
        };
        let phase = match bits >> 1 & 3 {
            0 => Phase::None,
            1 => Phase::Cut(self.time()?),
            2 => Phase::Open(Box::new(self.episode()?)),
            _ => return None,
        };
        Some(Read { key, named: bits & 1 == 1, newest, window, phase })
    }

    fn window(&mut self, node: &Node) -> Option<Window> {
        let window = self.plain_window(node)?;
        if !node.chain {
            return Some(window);
        }
        let children = self.children(LEVELS)?;
        Some(Window::Chain(Box::new(ChainWindow::new(window, children.into()))))
    }

    fn plain_window(&mut self, node: &Node) -> Option<Window> {
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

    /// What child events crossed, so many levels down at most.
    fn children(&mut self, levels: usize) -> Option<Vec<Arc<ChildEvent>>> {
        let (n, levels) = (self.reader.count()?, levels.checked_sub(1));
        let mut children = Vec::new();
        for _ in 0..n {
            let levels = levels?;
            let (event, total) = (self.event()?, self.number()?);
            let mut episodes = Vec::new();
            for _ in 0..self.reader.count()? {
                episodes.push(ChildEpisode {
                    node: self.number()?,
                    key: KeyBytes::new(self.reader.bytes()?),
                    first_seen: self.time()?,
                    count: self.number()?,
                    value: self.number()?,
                    flags: self.flags()?,
                    evidence: {
                        let mut evidence = Trail::default();
                        self.events()?.iter().for_each(|event| evidence.push(event));
                        evidence
                    },
                    below: self.children(levels)?.into(),
                });
            }
            children.push(Arc::new(ChildEvent { event, episodes: episodes.into(), total }));
        }
        Some(children)
    }

    fn tally(&mut self) -> Option<Tally> {
        Some(Tally {
            count: self.number()?,
            weight: self.number()?,
            flags: self.flags()?,
            ends: self.ends()?,
            values: self.distinct()?,
            matched: self.bits()?,
            children: self.children(LEVELS)?,
        })
    }

    fn judged(&mut self) -> Option<Judged> {
        Some(Judged {
            start: self.time()?,
            first_seen: self.time()?,
            last: self.event()?,
            tally: self.tally()?,
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
            tally: self.tally()?,
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

    fn hour(&mut self) -> Option<Contribution> {
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
        let mut first = Vec::new();
        for _ in 0..self.reader.count()? {
            let event = self.event()?;
            first.push((event, std::str::from_utf8(self.reader.bytes()?).ok()?.into()));
        }
        let mut folded = Folded {
            episodes: self.number()?,
            ends: self.ends()?,
            flags: self.flags()?,
            ..Folded::default()
        };
        folded.last = folded.ends.iter().last().map(|event| event.order());
        for _ in 0..self.reader.count()? {
            let prefix = std::str::from_utf8(self.reader.bytes()?).ok()?.to_owned();
            folded.prefixes.put(prefix, self.number()?, usize::MAX);
        }
        Some(Contribution { start, closed: bits & 1 != 0, head, first, folded })
    }
}
