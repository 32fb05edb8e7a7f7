//! An event at a key of a sliding rule: the window, the episode, the crossing.
//!
//! In: the key's slot, the event. Out: revisions, crossings, timers.

use vedette_event::{Flags, State as Liveness};

use super::{
    Step,
    episode::{Episode, Phase, continues},
    walk::Taken,
    window::Joining,
};
use crate::{chain::ChildEpisode, keys::AnyWindow, plan::Node, storm::Crossing};

impl Step<'_> {
    /// One event at one key of a sliding rule; `estimate` of what the sketch knows of a key that has no window of its own.
    pub(super) fn slide(
        &mut self,
        at: usize,
        node: &Node,
        (slot, estimate): (u32, Option<u64>),
        joining: &Joining<'_>,
    ) -> Taken {
        let Some(state) = self.state.nodes.get_mut(at) else { return Taken::No };
        // What is there may grow, but not for ever.
        let full = state.entries() >= self.cx.budgets.get(node).most && state.keys.idle() == 0;
        let known = state.keys.get_mut(slot);
        let Some(known) = known else { return Taken::No };
        let AnyWindow::Sliding(window) = &mut known.window else { return Taken::No };
        let event = joining.event;
        let holds = window.push(node, joining) || estimate.is_some_and(|estimate| estimate >= node.n);
        known.newest = event.time;
        if let Phase::Open(episode) = &mut known.phase
            && event.time >= episode.midnight()
        {
            let held = episode.held;
            if !episode.silent {
                let (place, of) = ((self.group, &*known.key), (self.tree, episode.midnight()));
                let last = self.cx.bodies().revision(of, place, episode, Liveness::Ended);
                self.report.say(last);
            }
            known.phase = Phase::Cut(held);
        }
        let flags = if estimate.is_some() { Flags::APPROXIMATE } else { Flags::NONE };
        match &mut known.phase {
            Phase::Open(episode) => {
                let before = episode.pending;
                episode.join(node, joining, holds, full);
                // The timer of its end comes no later than the end itself, and asks again.
                let due = episode.pending.filter(|due| before.is_none() && *due < episode.queued);
                let birth = known.birth;
                if let Some(due) = due {
                    self.wake_at(at, slot, birth, due);
                }
                Taken::Yes(None)
            }
            phase if holds => {
                let witness = window.witness(node, event);
                let mut episode = Episode::open(node, event, &witness);
                episode.tell(window, &witness, joining);
                if let Some(estimate) = estimate {
                    episode.approximate(estimate);
                }
                episode.continuation =
                    matches!(phase, Phase::Cut(held) if continues(*held, event.time, node));
                let crossed = !episode.continuation;
                if crossed && at + 1 < self.tree.nodes.len() {
                    self.crossed.push(ChildEpisode::new(at, node, known.key.clone(), &episode));
                }
                self.open(at, node, slot, episode);
                Taken::Yes(crossed.then_some(flags))
            }
            Phase::None | Phase::Cut(_) => Taken::Yes(None),
        }
    }

    /// Opens an episode at a key.
    fn open(&mut self, at: usize, node: &Node, slot: u32, mut episode: Episode) {
        let root = at + 1 == self.tree.nodes.len();
        episode.silent = !root;
        episode.queued = episode.end(node);
        let due = episode.queued;
        let known = self.state.nodes.get(at).and_then(|state| state.keys.get(slot));
        let Some((birth, key)) = known.map(|known| (known.birth, known.key.clone())) else { return };
        if root {
            episode.silent = self.folded(&episode.crossing, &key);
            self.count_crossing(&episode.crossing);
            if !episode.silent {
                let (place, of) = ((self.group, &*key), (self.tree, episode.crossing.time));
                let first = self.cx.bodies().revision(of, place, &mut episode, Liveness::Active);
                self.report.say(first);
            }
            self.report.crossings.push(Crossing {
                tree: self.at,
                found: episode.crossing.time,
                event: episode.crossing,
                group: self.group,
                key,
                slot,
                silent: episode.silent,
            });
        }
        if let Some(known) = self.state.nodes.get_mut(at).and_then(|state| state.keys.get_mut(slot)) {
            known.phase = Phase::Open(Box::new(episode));
        }
        self.wake_at(at, slot, birth, due);
    }
}
