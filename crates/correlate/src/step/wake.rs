//! Something falls due in a tree: an episode's next revision or its end, judged windows that end, what can be forgotten.
//!
//! In: timers. Out: revisions, crossings.
//! Invariant: a timer whose episode moved on does nothing, or asks to be woken later.

use vedette_event::{Micros, Span, State as Liveness, key_text, time::SECOND};

use super::{
    Step,
    episode::Phase,
    judged::Judged,
    timers::{Due, Timer},
};
use crate::{
    body::key_of,
    keys::{AnyWindow, KeyBytes},
    over::{free, pane},
    plan::NodeKind,
    storm::Crossing,
};

/// Keys are looked through for what can be forgotten no oftener: a rule of five seconds need not do it twice a second.
const OFTEN: Span = Span(10 * SECOND.0);

impl Step<'_> {
    /// Does what is due.
    pub fn wake(&mut self, timer: Timer) {
        match timer.what {
            Due::Episode { node, slot, birth } => self.episode(usize::from(node), slot, birth, timer.due),
            Due::Windows { node } => self.judge(usize::from(node), timer.due),
            Due::Sweep => self.sweep(Some(timer.due)),
            Due::End => self.end(timer.due),
        }
    }

    /// An episode's timer: its next revision, or its end.
    fn episode(&mut self, at: usize, slot: u32, birth: u32, now: Micros) {
        let (Some(node), Some(state)) = (self.tree.nodes.get(at), self.state.nodes.get_mut(at)) else {
            return;
        };
        let Some(known) = state.keys.get_mut(slot).filter(|known| known.birth == birth) else { return };
        let Phase::Open(episode) = &mut known.phase else { return };
        let of_end = episode.queued == now;
        if !of_end && episode.pending != Some(now) {
            return;
        }
        let (due, end) = (episode.due(node), episode.end(node));
        if due > now {
            if of_end {
                episode.queued = due;
                self.wake_at(at, slot, birth, due);
            }
            return;
        }
        let state_then = if due < end { Liveness::Active } else { Liveness::Ended };
        if !episode.silent {
            let place = (self.group, &*known.key);
            let revision = self.cx.bodies().revision((self.tree, now), place, episode, state_then);
            self.report.say(revision);
        }
        if due < end {
            episode.pending = None;
            if of_end {
                episode.queued = end;
                self.wake_at(at, slot, birth, end);
            }
            return;
        }
        known.phase = if end == episode.midnight() { Phase::Cut(episode.held) } else { Phase::None };
        if matches!(known.phase, Phase::None) {
            // So that nobody takes it for free at an instant at which it was still open.
            known.newest = end.max(known.newest);
        }
        if node.kind == NodeKind::Single && (!known.named || matches!(known.phase, Phase::None)) {
            state.keys.remove(self.cx.hasher, slot);
            return;
        }
        state.keys.recharge(node, slot);
        state.ranked(self.cx.hasher, node, slot);
    }

    /// The rule is changed or gone: what is open ends, and nothing is kept. Windows that would be judged later never are, since
    /// nobody knows what else had come.
    fn end(&mut self, now: Micros) {
        for at in 0..self.tree.nodes.len() {
            if self.tree.nodes.get(at).is_some_and(|node| node.judged) {
                self.judge(at, now);
            }
        }
        let root = self.tree.nodes.len().saturating_sub(1);
        for (at, state) in self.state.nodes.iter_mut().enumerate() {
            let mut keys = std::mem::take(&mut state.keys);
            (state.closed, state.judging) = (Vec::new(), None);
            let slots: Vec<u32> = keys.iter().map(|(slot, _)| slot).collect();
            self.report.effort.swept += slots.len() as u64;
            for slot in slots {
                let Some(known) = keys.get_mut(slot) else { continue };
                let Phase::Open(episode) = &mut known.phase else { continue };
                self.agenda.timers.spoil(1 + usize::from(episode.pending.is_some()));
                if at == root && !episode.silent {
                    let place = (self.group, &*known.key);
                    let last = self.cx.bodies().revision((self.tree, now), place, episode, Liveness::Ended);
                    self.report.say(last);
                }
            }
        }
    }

    /// Judges the windows of a rule that end at one instant, in the order of their crossing events.
    fn judge(&mut self, at: usize, end: Micros) {
        let (Some(node), Some(state)) = (self.tree.nodes.get(at), self.state.nodes.get_mut(at)) else {
            return;
        };
        let closed = state.closed.extract_if(.., |(_, window)| window.end(node) <= end);
        let mut windows: Vec<(KeyBytes, Judged)> = closed.collect();
        let over = |window: &AnyWindow| matches!(window, AnyWindow::Judged(w) if w.end(node) <= end);
        let slots: Vec<_> =
            state.keys.iter().filter(|(_, known)| over(&known.window)).map(|(slot, _)| slot).collect();
        for slot in slots {
            if let Some(known) = state.keys.get_mut(slot) {
                let nothing = AnyWindow::Sliding(super::window::Window::None);
                if let AnyWindow::Judged(window) = std::mem::replace(&mut known.window, nothing) {
                    windows.push((known.key.clone(), *window));
                }
            }
            state.keys.remove(self.cx.hasher, slot);
        }
        if at + 1 < self.tree.nodes.len() {
            return;
        }
        windows.retain(|(_, window)| window.holds(node));
        windows.sort_by_cached_key(|(key, window)| (window.last.order(), key_text(&key_of(node, key))));
        for (key, window) in windows {
            let silent = self.folded(&window.last, &key);
            self.count_crossing(&window.last);
            if !silent {
                let only = self.cx.bodies().judged(self.tree, (self.group, &key), &window);
                self.report.say(only);
            }
            self.report.crossings.push(Crossing {
                tree: self.at,
                found: end,
                event: window.last,
                group: self.group,
                key,
                // It has ended.
                slot: u32::MAX,
                silent,
            });
        }
    }

    /// Forgets what can no longer matter to an event at an instant or later; at the end of all input (`None`) nobody asks.
    pub fn sweep(&mut self, now: Option<Micros>) {
        self.state.sweeping = false;
        let Some(now) = now else { return };
        for (node, state) in self.tree.nodes.iter().zip(&mut self.state.nodes) {
            if !node.judged {
                self.report.effort.swept += state.keys.len() as u64;
                state.keys.sweep(self.cx.hasher, |known| free(node, known, now));
            }
        }
        if self.state.nodes.iter().any(|state| !state.keys.is_empty()) {
            self.sweep_from(now);
        }
    }

    /// There are keys that can be forgotten some time.
    pub fn sweep_from(&mut self, now: Micros) {
        if self.state.sweeping {
            return;
        }
        self.state.sweeping = true;
        // What can be forgotten is told from pane to pane, so that each key is looked at some ten times in its life.
        let shortest = self.tree.nodes.iter().filter(|node| !node.judged).map(pane).min().unwrap_or(OFTEN);
        let due = now.floor(shortest.max(OFTEN)).plus(shortest.max(OFTEN));
        self.agenda.timers.push(Timer { due, what: Due::Sweep, tree: self.at });
    }
}
