//! The state of one key group as bytes.
//!
//! In: [`Correlator`]. Out: bytes for [`Correlator::restore`], as [`super`] describes them.
//! Invariant: only what the group holds is walked.

use std::{collections::BTreeMap, sync::Arc};

use vedette_event::{Micros, TopicIx};

use super::MAGIC;
use crate::{
    Correlator,
    chain::ChildEvent,
    codec::{write_bytes, write_varint, zigzag},
    event::{Bits, Ends, EventRef},
    group::Group,
    keys::{AnyWindow, KeyState},
    over::sketch::Sketch,
    plan::Tree,
    step::{
        TreeState,
        episode::{Episode, Phase},
        judged::Judged,
        tally::{Distinct, Tally},
        window::Window,
    },
    storm::hour::{Folded, Hour},
};

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
    pub fn checkpoint(&mut self, group: u8) -> Vec<u8> {
        let mut out = Writer { bytes: Vec::with_capacity(4096), ..Writer::default() };
        out.bytes.extend_from_slice(&MAGIC);
        out.bytes.extend_from_slice(&self.hasher.hash(&MAGIC).to_le_bytes());
        out.bytes.push(group);
        out.number(self.topics.len() as u64);
        for topic in 0..self.topics.len() {
            write_bytes(&mut out.bytes, self.topics.name(TopicIx(topic as u16)).as_bytes());
        }
        if let Some(state) = self.groups.get(usize::from(group)) {
            self.write_marks(state, &mut out);
            self.report.effort.written += self.write_trees(state, &mut out);
        }
        let seal = self.seal(&out.bytes);
        out.bytes.extend_from_slice(&seal);
        out.bytes
    }

    /// Watermarks, each with the trees that stand there.
    fn write_marks(&self, group: &Group, out: &mut Writer) {
        let mut marks: BTreeMap<Micros, Vec<&Tree>> = BTreeMap::new();
        for (tree, at) in self.plan.trees.iter().zip(0..).filter(|(tree, _)| !tree.is_vacant()) {
            let now = self.watermarks.get(tree.set).copied().unwrap_or(Micros::MIN);
            marks.entry(now.max(group.mark(at))).or_default().push(tree);
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

    /// The trees of which there is something; how many keys they have.
    fn write_trees(&self, group: &Group, out: &mut Writer) -> u64 {
        let number = group.number;
        let of_storms = self.storms.trees().filter(|at| self.storms.of_group(*at, number).next().is_some());
        let kept = group
            .trees()
            .filter(|(_, state)| state.nodes.iter().any(|node| !node.keys.is_empty() || node.over.is_some()));
        let trees: std::collections::BTreeSet<u32> = kept.map(|(at, _)| at).chain(of_storms).collect();
        out.number(trees.len() as u64);
        let mut keys = 0;
        for at in trees {
            let Some(tree) = self.plan.trees.get(at as usize) else { continue };
            out.bytes.extend_from_slice(&tree.fingerprint);
            // With its length, so that a tree that is no longer there can be passed over.
            let mut inner = Writer::default();
            keys += inner.tree(tree, group.tree(at));
            let hours: Vec<_> = self.storms.of_group(at, number).collect();
            inner.number(hours.len() as u64);
            for (start, hour) in hours {
                inner.hour(start, hour, number);
            }
            write_bytes(&mut out.bytes, &inner.bytes);
        }
        keys
    }
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

    /// The keys of a tree's rules; how many there are.
    fn tree(&mut self, tree: &Tree, state: Option<&TreeState>) -> u64 {
        let mut keys = 0;
        for at in 0..tree.nodes.len() {
            let Some(node) = state.and_then(|state| state.nodes.get(at)) else {
                // No keys, no sketch.
                self.number(0);
                self.number(0);
                continue;
            };
            self.number(node.keys.len() as u64);
            for (_, known) in node.keys.iter() {
                self.key(known);
            }
            keys += node.keys.len() as u64;
            self.sketch(node.over.as_ref().and_then(|over| over.sketch.as_ref()));
        }
        keys
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

    fn key(&mut self, known: &KeyState) {
        let phase = match known.phase {
            Phase::None => 0,
            Phase::Cut(_) => 2,
            Phase::Open(_) => 4,
        };
        let shared = matches!(known.window, AnyWindow::Sliding(Window::Shared));
        self.number(phase | u64::from(known.named) | u64::from(shared) << 3);
        write_bytes(&mut self.bytes, &known.key);
        match &known.window {
            AnyWindow::Sliding(window) => {
                self.time(known.newest);
                self.window(window);
            }
            AnyWindow::Judged(window) => self.judged(window),
        }
        match &known.phase {
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
            Window::Chain(chain) => {
                self.window(&chain.window);
                self.children(chain.needed());
            }
        }
    }

    /// What child events crossed, each with what lies below it.
    fn children<'a>(&mut self, events: impl Iterator<Item = &'a Arc<ChildEvent>>) {
        let events: Vec<_> = events.collect();
        self.number(events.len() as u64);
        for child in events {
            self.event(&child.event);
            self.number(child.total);
            self.number(child.episodes.len() as u64);
            for episode in &child.episodes {
                self.number(u64::from(episode.node));
                write_bytes(&mut self.bytes, &episode.key);
                self.time(episode.first_seen);
                self.number(episode.count);
                self.number(episode.value);
                self.number(u64::from(episode.flags.0));
                let evidence: Vec<_> = episode.evidence.iter().collect();
                self.events(evidence.iter());
                self.children(episode.below.iter());
            }
        }
    }

    fn tally(&mut self, tally: &Tally) {
        self.number(tally.count);
        self.number(tally.weight);
        self.number(u64::from(tally.flags.0));
        self.ends(&tally.ends);
        self.distinct(&tally.values);
        self.bits(&tally.matched);
        self.children(tally.children.iter());
    }

    fn judged(&mut self, window: &Judged) {
        self.time(window.start);
        self.time(window.first_seen);
        self.event(&window.last);
        self.tally(&window.tally);
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
        self.tally(&episode.tally);
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
        let first = || hour.first.iter().filter(|(_, (_, of))| *of == group);
        self.number(first().count() as u64);
        for ((_, text), (event, _)) in first() {
            self.event(event);
            write_bytes(&mut self.bytes, text.as_bytes());
        }
        let none = Folded::default();
        let folded = hour.folded.get(&group).unwrap_or(&none);
        self.number(folded.episodes);
        self.ends(&folded.ends);
        self.number(u64::from(folded.flags.0));
        self.number(folded.prefixes.iter().len() as u64);
        for (prefix, n) in folded.prefixes.iter() {
            write_bytes(&mut self.bytes, prefix.as_bytes());
            self.number(n);
        }
    }
}
