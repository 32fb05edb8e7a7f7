//! What a tree does when time has come: revisions, ends, judged windows, storms.
//!
//! In: how far time has come. Out: revisions.
//! Invariants: a timer due at `t` fires after all events at or before `t` and before any later one; a timer whose episode moved on
//! does nothing, or asks to be woken later.

use std::cmp::Reverse;

use vedette_event::{Micros, State as Liveness, key_text};

use crate::{
    Output,
    emit::{Scope, key_of},
    episode::Phase,
    judged::Judged,
    keys::{Entry, State},
    plan::{NodeKind, Tree},
    storm::{Head, Hour, Verdict},
    tree::TreeState,
};

/// A revision or an end that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timer {
    pub due: Micros,
    pub node: u32,
    pub slot: u32,
    pub generation: u32,
}

impl TreeState {
    /// Puts a timer into the queue.
    pub fn queue(&mut self, at: usize, slot: u32, due: Micros) {
        let Some(entry) = self.nodes.get(at).and_then(|state| state.keys.get(slot)) else { return };
        self.timers.push(Reverse(Timer { due, node: at as u32, slot, generation: entry.generation }));
        self.next = self.next.min(due);
    }

    /// Fires what is due before `before` (all there is, if `None`).
    #[inline]
    pub fn advance(&mut self, scope: &Scope<'_>, tree: &Tree, before: Option<Micros>, out: &mut Output) {
        if before.is_some_and(|before| self.next >= before) {
            return;
        }
        while let Some(due) = self.due(tree) {
            self.next = due;
            if before.is_some_and(|before| due >= before) {
                return;
            }
            self.fire(scope, tree, due, out);
        }
        self.next = Micros::MAX;
    }

    /// When the next thing is due.
    fn due(&self, tree: &Tree) -> Option<Micros> {
        let timer = self.timers.peek().map(|timer| timer.0.due);
        let judge = self.judge.first().map(|(due, _)| *due);
        let storm = tree.nodes.last().and_then(|node| self.storm.due(node));
        [timer, judge, storm].into_iter().flatten().min()
    }

    /// Does everything that is due at one instant.
    fn fire(&mut self, scope: &Scope<'_>, tree: &Tree, due: Micros, out: &mut Output) {
        while let Some(Reverse(timer)) = self.timers.peek().copied().filter(|timer| timer.0.due <= due) {
            self.timers.pop();
            self.revise(scope, tree, timer, out);
        }
        while let Some((end, at)) = self.judge.first().copied().filter(|(end, _)| *end <= due) {
            self.judge.pop_first();
            self.judge_all(scope, tree, at as usize, end, out);
        }
        let Some(node) = tree.nodes.last() else { return };
        let hours = self.storm.hours.iter().filter(|(start, hour)| hour.due(node, **start) <= due);
        for start in hours.map(|(start, _)| *start).collect::<Vec<_>>() {
            self.revise_storm(scope, tree, start, due, out);
        }
    }

    /// An episode's timer: its next revision, or its end.
    fn revise(&mut self, scope: &Scope<'_>, tree: &Tree, timer: Timer, out: &mut Output) {
        let (at, slot) = (timer.node as usize, timer.slot);
        let (Some(node), Some(state)) = (tree.nodes.get(at), self.nodes.get_mut(at)) else { return };
        let Some(entry) = state.keys.get_mut(slot).filter(|entry| entry.generation == timer.generation)
        else {
            return;
        };
        let Phase::Open(episode) = &mut entry.phase else { return };
        if episode.queued != timer.due {
            return;
        }
        let (due, end) = (episode.due(node), episode.end(node));
        if due > timer.due {
            episode.queued = due;
            self.queue(at, slot, due);
            return;
        }
        if due < end {
            scope.revise(tree, (entry.group, &entry.key), episode, Liveness::Active, out);
            episode.queued = episode.due(node);
            let due = episode.queued;
            self.queue(at, slot, due);
            return;
        }
        if !episode.silent {
            scope.revise(tree, (entry.group, &entry.key), episode, Liveness::Ended, out);
        }
        entry.phase = if end == episode.midnight() { Phase::Cut(episode.held) } else { Phase::None };
        if matches!(entry.phase, Phase::None) {
            // So that nobody takes it for free at an instant at which it was still open.
            entry.newest = end.max(entry.newest);
        }
        if node.kind == NodeKind::Single && (!entry.named || matches!(entry.phase, Phase::None)) {
            state.keys.remove(scope.hasher, slot);
            return;
        }
        state.ranked(node, slot);
    }

    /// Judges the windows of a rule that end at one instant, in the order of their crossing events.
    fn judge_all(&mut self, scope: &Scope<'_>, tree: &Tree, at: usize, end: Micros, out: &mut Output) {
        let (Some(node), Some(state)) = (tree.nodes.get(at), self.nodes.get_mut(at)) else { return };
        let mut windows: Vec<_> =
            state.closed.extract_if(.., |(_, _, window)| window.end(node) <= end).collect();
        let over = |entry: &Entry| matches!(&entry.state, State::Judged(window) if window.end(node) <= end);
        let slots: Vec<_> =
            state.keys.iter().filter(|(_, entry)| over(entry)).map(|(slot, _)| slot).collect();
        for slot in slots {
            if let Some(Entry { key, group, state: State::Judged(window), .. }) = state.keys.get(slot) {
                windows.push((key.clone(), *group, Judged::clone(window)));
            }
            state.keys.remove(scope.hasher, slot);
        }
        windows.retain(|(_, _, window)| window.holds(node));
        windows.sort_by_cached_key(|(key, _, window)| (window.last.order(), key_text(&key_of(node, key))));
        if at + 1 < tree.nodes.len() {
            return;
        }
        for (key, group, window) in &windows {
            let name = || key_of(node, key);
            let verdict = self.storm.cross(node, &window.last, (*group, &name), self.published);
            if verdict == Verdict::Alert {
                scope.judge(tree, (*group, key), window, out);
            }
        }
    }

    /// A storm's next revision, or the end of its hour.
    fn revise_storm(&mut self, scope: &Scope<'_>, tree: &Tree, start: Micros, due: Micros, out: &mut Output) {
        let (Some(node), Some(hour)) = (tree.nodes.last(), self.storm.hours.get_mut(&start)) else { return };
        if hour.closed {
            self.storm.hours.remove(&start);
            return;
        }
        let ended = due >= Hour::end(node, start);
        if let Some(head) = &mut hour.head {
            head.pending = None;
            if due >= self.published {
                head.revision = head.revision.saturating_add(1);
                let (head, state) =
                    (Head::clone(head), if ended { Liveness::Ended } else { Liveness::Active });
                scope.storm(tree, start, hour, &head, state, out);
            }
        }
        if let Some(hour) = self.storm.hours.get_mut(&start) {
            hour.closed = ended;
        }
    }

    /// After a restore: puts what is open in a key group back into the queues.
    pub fn requeue(&mut self, tree: &Tree, group: u8) {
        for (at, node) in tree.nodes.iter().enumerate() {
            let mut due = Vec::new();
            let Some(state) = self.nodes.get_mut(at) else { continue };
            let slots: Vec<_> =
                state.keys.iter().filter(|(_, e)| e.group == group).map(|(slot, _)| slot).collect();
            for slot in slots {
                let Some(entry) = state.keys.get_mut(slot) else { continue };
                if let Phase::Open(episode) = &mut entry.phase {
                    episode.queued = episode.due(node);
                    due.push((slot, episode.queued));
                }
                if let State::Judged(window) = &entry.state {
                    self.judge.insert((window.end(node), at as u32));
                }
            }
            for (slot, due) in due {
                self.queue(at, slot, due);
            }
        }
        // The next look at what is due starts from scratch.
        self.next = Micros::MIN;
    }
}
