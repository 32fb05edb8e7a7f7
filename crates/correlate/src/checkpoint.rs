//! The state of one key group as bytes.
//!
//! In: [`Correlator`]. Out: bytes for [`Correlator::restore`].
//! Layout: a head (layout version, what the keyed hash makes of a known text, key group, topics by name), the released watermark of
//! each tree, then per tree its keys and its part of storms, and a keyed hash of all of it. Trees are known by their
//! fingerprint, so that what is unchanged is found again after rules came and went. Numbers are variable-length;
//! times and offsets are differences from those of the event before.

use vedette_event::Micros;

use crate::{
    Correlator,
    codec::{write_bytes, write_varint, zigzag},
    episode::{Episode, Phase},
    event::{Bits, Ends, EventRef},
    judged::{Distinct, Judged},
    keys::{Entry, State},
    over::Sketch,
    plan::Tree,
    storm::Hour,
    tree::TreeState,
    window::Window,
};

/// What every checkpoint starts with; the last byte is the version of the layout.
pub const MAGIC: [u8; 5] = *b"VDCP\x04";
/// Bytes of the keyed hash at the end.
pub const SEAL: usize = 16;

/// Writes events against the one before.
#[derive(Debug, Default)]
struct Writer {
    bytes: Vec<u8>,
    time: i64,
    offset: i64,
}

impl Correlator {
    /// The state of a key group.
    #[must_use]
    pub fn checkpoint(&self, group: u8) -> Vec<u8> {
        let mut out = Writer { bytes: Vec::with_capacity(4096), ..Writer::default() };
        out.bytes.extend_from_slice(&MAGIC);
        out.bytes.extend_from_slice(&self.hasher.hash(&MAGIC).to_le_bytes());
        out.bytes.push(group);
        let names: Vec<_> = (0..self.topics.len()).map(|at| vedette_event::TopicIx(at as u16)).collect();
        out.number(names.len() as u64);
        for topic in names {
            write_bytes(&mut out.bytes, self.topics.name(topic).as_bytes());
        }
        self.write_marks(group, &mut out);
        let trees = || self.plan.trees.iter().zip(&self.trees).filter(|(_, state)| holds(state, group));
        out.number(trees().count() as u64);
        for (tree, state) in trees() {
            out.bytes.extend_from_slice(&tree.fingerprint);
            // With its length, so that a tree that is no longer there can be passed over.
            let mut inner = Writer::default();
            inner.tree(tree, state, group);
            write_bytes(&mut out.bytes, &inner.bytes);
        }
        let seal = self.seal(&out.bytes);
        out.bytes.extend_from_slice(&seal);
        out.bytes
    }

    /// The hash at the end, so that only what this deployment wrote is taken up.
    pub(crate) fn seal(&self, bytes: &[u8]) -> [u8; SEAL] {
        let hash = blake3::keyed_hash(&self.settings.secret, bytes);
        hash.as_bytes().first_chunk().copied().unwrap_or_default()
    }

    /// Up to where a tree's events of a key group were let through.
    pub(crate) fn mark(&self, tree: &Tree, state: &TreeState, group: u8) -> Micros {
        let now = self.watermarks.get(tree.set).copied().unwrap_or(Micros::MIN);
        let restored = state.restored.as_ref().and_then(|marks| marks.get(usize::from(group)));
        restored.map_or(now, |mark| now.max(*mark))
    }

    /// Watermarks, each with the trees that stand there.
    fn write_marks(&self, group: u8, out: &mut Writer) {
        let mut marks: std::collections::BTreeMap<Micros, Vec<&Tree>> = std::collections::BTreeMap::new();
        for (tree, state) in self.plan.trees.iter().zip(&self.trees) {
            marks.entry(self.mark(tree, state, group)).or_default().push(tree);
        }
        marks.remove(&Micros::MIN);
        out.number(marks.len() as u64);
        for (mark, trees) in marks {
            out.signed(mark.0);
            out.number(trees.len() as u64);
            for tree in trees {
                out.bytes.extend_from_slice(&tree.fingerprint);
            }
        }
    }
}

/// Whether a tree holds anything of a key group.
fn holds(state: &TreeState, group: u8) -> bool {
    state.nodes.iter().any(|node| node.keys.size(group) > 0 || node.over.contains_key(&group))
        || state.storm.hours.values().any(|hour| hour.parts.contains_key(&group))
}

impl Writer {
    fn number(&mut self, n: u64) {
        write_varint(&mut self.bytes, n);
    }

    fn signed(&mut self, n: i64) {
        write_varint(&mut self.bytes, zigzag(n));
    }

    fn time(&mut self, time: Micros) {
        self.signed(time.0.wrapping_sub(self.time));
        self.time = time.0;
    }

    fn event(&mut self, event: &EventRef) {
        self.time(event.time);
        self.signed(event.offset.wrapping_sub(self.offset));
        self.offset = event.offset;
        self.signed(i64::from(event.partition));
        self.number(u64::from(event.index));
        // Hardly any topic is ever made anew.
        self.number(u64::from(event.topic.0) << 1 | u64::from(event.incarnation > 0));
        if event.incarnation > 0 {
            self.number(u64::from(event.incarnation));
        }
        self.number(u64::from(event.flags.0));
        self.number(u64::from(event.weight));
    }

    fn events<'a>(&mut self, events: impl ExactSizeIterator<Item = &'a EventRef>) {
        self.number(events.len() as u64);
        for event in events {
            self.event(event);
        }
    }

    fn ends(&mut self, ends: &Ends) {
        let events: Vec<_> = ends.iter().collect();
        self.events(events.iter());
    }

    fn bits(&mut self, bits: &Bits) {
        self.number(bits.0.len() as u64);
        for word in &bits.0 {
            self.number(*word);
        }
    }

    fn distinct(&mut self, distinct: &Distinct) {
        let mut seen: Vec<_> = distinct.seen.iter().copied().collect();
        seen.sort_unstable();
        self.number(u64::from(distinct.more));
        self.hashes(seen.into_iter());
    }

    fn hashes(&mut self, hashes: impl ExactSizeIterator<Item = u64>) {
        self.number(hashes.len() as u64);
        for hash in hashes {
            self.bytes.extend_from_slice(&hash.to_le_bytes());
        }
    }

    fn tree(&mut self, tree: &Tree, state: &TreeState, group: u8) {
        for (_, node) in tree.nodes.iter().zip(&state.nodes) {
            self.number(node.keys.size(group) as u64);
            for (_, entry) in node.keys.iter().filter(|(_, entry)| entry.group == group) {
                self.entry(entry);
            }
            self.sketch(node.over.get(&group).and_then(|over| over.sketch.as_ref()));
        }
        let hours = state.storm.hours.iter().filter(|(_, hour)| hour.parts.contains_key(&group));
        self.number(hours.clone().count() as u64);
        for (start, hour) in hours {
            self.hour(*start, hour, group);
        }
    }

    fn sketch(&mut self, sketch: Option<&Sketch>) {
        self.number(sketch.map_or(0, |sketch| sketch.width as u64));
        let Some(sketch) = sketch else { return };
        self.number(sketch.panes.len() as u64);
        for (number, counters) in &sketch.panes {
            self.signed(*number);
            let raised = counters.iter().enumerate().filter(|(_, n)| **n > 0);
            self.number(raised.clone().count() as u64);
            let mut before = 0;
            for (at, n) in raised {
                self.number((at - before) as u64);
                self.number(u64::from(*n));
                before = at;
            }
        }
    }

    fn entry(&mut self, entry: &Entry) {
        let phase = match entry.phase {
            Phase::None => 0,
            Phase::Cut(_) => 2,
            Phase::Open(_) => 4,
        };
        let shared = matches!(entry.state, State::Sliding(Window::Shared));
        self.number(phase | u64::from(entry.named) | u64::from(shared) << 3);
        write_bytes(&mut self.bytes, &entry.key);
        match &entry.state {
            State::Sliding(window) => {
                self.time(entry.newest);
                self.window(window);
            }
            State::Judged(window) => self.judged(window),
        }
        match &entry.phase {
            Phase::None => {}
            Phase::Cut(held) => self.time(*held),
            Phase::Open(episode) => self.episode(episode),
        }
    }

    fn window(&mut self, window: &Window) {
        match window {
            Window::None | Window::Shared => {}
            Window::Count { trail, .. } => {
                let events: Vec<_> = trail.iter().collect();
                self.events(events.iter());
            }
            Window::Distinct(recent) => {
                self.events(recent.events.iter());
                self.hashes(recent.values.iter().copied());
            }
            Window::Temporal(latest) => {
                for slot in latest {
                    self.events(slot.iter());
                }
            }
            Window::Ordered(chains) => {
                for chain in chains {
                    self.events(chain.iter());
                }
            }
        }
    }

    fn judged(&mut self, window: &Judged) {
        self.time(window.start);
        self.time(window.first_seen);
        self.event(&window.last);
        self.number(window.count);
        self.number(window.weight);
        self.number(u64::from(window.flags.0));
        self.ends(&window.ends);
        self.distinct(&window.values);
        self.bits(&window.matched);
    }

    fn episode(&mut self, episode: &Episode) {
        self.event(&episode.crossing);
        self.number(
            u64::from(episode.silent)
                | u64::from(episode.continuation) << 1
                | u64::from(episode.pending.is_some()) << 2,
        );
        self.number(u64::from(episode.revision));
        self.time(episode.first_seen);
        self.time(episode.last_seen);
        self.time(episode.held);
        if let Some(pending) = episode.pending {
            self.time(pending);
        }
        self.number(episode.count);
        self.number(episode.weight);
        self.number(u64::from(episode.flags.0));
        self.ends(&episode.ends);
        self.distinct(&episode.values);
        self.bits(&episode.matched);
        self.number(episode.steps.len() as u64);
        for step in &episode.steps {
            self.time(*step);
        }
    }

    fn hour(&mut self, start: Micros, hour: &Hour, group: u8) {
        self.time(start);
        let head = hour.head.as_ref();
        let pending = head.and_then(|head| head.pending);
        self.number(
            u64::from(hour.closed) | u64::from(head.is_some()) << 1 | u64::from(pending.is_some()) << 2,
        );
        if let Some(head) = head {
            self.event(&head.crossing);
            self.number(u64::from(head.revision));
        }
        if let Some(pending) = pending {
            self.time(pending);
        }
        let Some(part) = hour.parts.get(&group) else { return };
        self.number(part.crossings.len() as u64);
        for (event, key) in &part.crossings {
            self.event(event);
            write_bytes(&mut self.bytes, key.as_bytes());
        }
        self.number(part.folded);
        self.ends(&part.ends);
        self.number(u64::from(part.flags.0));
        self.number(part.prefixes.iter().len() as u64);
        for (prefix, n) in part.prefixes.iter() {
            write_bytes(&mut self.bytes, prefix.as_bytes());
            self.number(n);
        }
    }
}
