//! Storms: when more than a thousand episodes of one rule cross in one clock hour, the rest become one alert.
//!
//! In: what crossed in each key group in a release. Out: which episodes are folded, and the storm alerts' revisions.
//!
//! Key groups share no counter. Each gives its revisions with the place of their episode's crossing in the total order, as if
//! there were no storms, and here they meet: [`Storms::hear`] keeps the first thousand places of each hour. One that is behind
//! a thousand others stays behind whatever else comes, so its revisions are dropped, and groups that ask before they make a
//! body ([`Storms::behind`]) need not make it. When all groups have come to the watermark everything before it is known, and what is
//! among the first thousand is an alert for good ([`Storms::settle`]). Groups may thus run in any order, or at once: only how many
//! bodies are made in vain depends on it (of 100,000 crossings in one release, 64 groups one after the other make some five thousand).
//!
//! Invariant: an episode is folded exactly if a thousand of its rule and hour cross before it, also while groups that were restored
//! from different watermarks catch up: what the others have crossed beyond the watermark was an alert, so it is among the first
//! thousand, too.

pub mod hour;

use std::{cmp::Ordering, collections::BTreeMap};

use vedette_event::{Micros, Order, State as Liveness, key_text, time::HOUR};

use self::hour::{Folded, Head, Hour, Turn};
use crate::{
    NewRevision,
    body::{self, Bodies, key_of},
    event::EventRef,
    keys::KeyBytes,
    over::budget::Budgets,
    plan::{Plan, Tree},
    step::episode::interval_end,
};

/// An episode of a tree's root that crossed in a key group.
#[derive(Debug, Clone)]
pub struct Crossing {
    pub tree: u32,
    /// When it was found: a judged window's crossing event is found when the window ends.
    pub found: Micros,
    pub event: EventRef,
    pub group: u8,
    pub key: KeyBytes,
    /// Where the episode is, if it is still there: it is known by its crossing event.
    pub slot: u32,
    /// Its group knows that it is folded.
    pub silent: bool,
}

/// The hours of all rules.
#[derive(Debug, Clone)]
pub struct Storms {
    by_tree: BTreeMap<u32, BTreeMap<Micros, Hour>>,
    /// By set of sources: no later than the next thing due.
    next: Vec<Micros>,
    /// By tree: revisions due before were given in an earlier life.
    published: Vec<Micros>,
    /// By tree: bytes of the prefixes of one hour in one key group. There are three hours at most: one that runs, two that are kept.
    prefixes: Vec<usize>,
    /// What crossed since the last time that all groups had come to a watermark, each with its place.
    heard: Vec<(u32, Turn, Crossing)>,
}

/// By tree, which may be vacant.
fn prefixes(plan: &Plan, budgets: &Budgets) -> Vec<usize> {
    let of_tree = |tree: &Tree| tree.nodes.last().map_or(0, |node| budgets.get(node).prefixes / 3);
    plan.trees.iter().map(of_tree).collect()
}

impl Storms {
    pub fn new(plan: &Plan, budgets: &Budgets) -> Self {
        Self {
            prefixes: prefixes(plan, budgets),
            by_tree: BTreeMap::new(),
            next: vec![Micros::MAX; plan.sets.len()],
            published: vec![Micros::MIN; plan.trees.len()],
            heard: Vec::new(),
        }
    }

    /// Whether an episode is folded as far as is known: if so, it is.
    pub fn behind(&self, tree: u32, crossing: Order, key: impl FnOnce() -> body::Key) -> bool {
        let hour = self.by_tree.get(&tree).and_then(|hours| hours.get(&crossing.time.floor(HOUR)));
        let Some((last, text)) = hour.and_then(Hour::last) else { return false };
        // The text decides only between keys of one event.
        match crossing.cmp(last) {
            Ordering::Less => false,
            Ordering::Equal => *key_text(&key()) > **text,
            Ordering::Greater => true,
        }
    }

    /// Takes note of what crossed in a group, and drops from the revisions of this release what is behind too many others now.
    pub fn hear(&mut self, plan: &Plan, crossings: Vec<Crossing>, alerts: &mut Vec<NewRevision>) {
        let mut pushed_out = false;
        for crossing in crossings {
            let Some(tree) = plan.trees.get(crossing.tree as usize) else { continue };
            let text = key_text(&key_of(tree.last(), &crossing.key)).into_boxed_str();
            let place = (crossing.event.order(), text);
            let hours = self.by_tree.entry(crossing.tree).or_default();
            let hour = hours.entry(crossing.event.time.floor(HOUR)).or_default();
            if !crossing.silent {
                pushed_out |= hour.behind(&place);
                pushed_out |= hour.note(place.clone(), crossing.event, crossing.group);
            }
            self.heard.push((crossing.tree, place, crossing));
        }
        if pushed_out {
            alerts.retain(|published| !self.drops(plan, published));
        }
    }

    /// Whether a revision is of an episode that is folded.
    fn drops(&self, plan: &Plan, published: &NewRevision) -> bool {
        let tree = plan.tree_of(published.rule);
        tree.is_some_and(|tree| self.behind(tree, published.crossing, || published.alert.key.clone()))
    }

    /// Whether something crossed or becomes due below a watermark.
    pub fn due(&self, set: usize, below: Option<Micros>) -> bool {
        let next = self.next.get(set).copied().unwrap_or(Micros::MAX);
        !self.heard.is_empty() || below.map_or(next < Micros::MAX, |below| next < below)
    }

    /// All groups have come to a watermark: folds what is to be folded, in total order, and gives the storms' revisions that are due.
    /// `silence` is told of each episode that its group does not know to be folded.
    pub fn settle(
        &mut self,
        bodies: &Bodies<'_>,
        (set, below): (usize, Option<Micros>),
        alerts: &mut Vec<NewRevision>,
        mut silence: impl FnMut(&Crossing),
    ) {
        let mut heard = std::mem::take(&mut self.heard);
        heard.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        for (at, place, crossing) in &heard {
            let Some(tree) = bodies.plan.trees.get(*at as usize) else { continue };
            self.fire(bodies, (*at, tree), Some(crossing.found), alerts);
            let folded = self.cross(bodies, (*at, tree), place, crossing, alerts);
            if folded && !crossing.silent {
                silence(crossing);
            }
        }
        let due = |below: Micros| self.next.get(set).is_some_and(|next| *next < below);
        if below.is_none_or(due) {
            let of_set = |at: &&u32| bodies.plan.trees.get(**at as usize).is_some_and(|tree| tree.set == set);
            let trees: Vec<u32> = self.by_tree.keys().filter(of_set).copied().collect();
            self.note_due(set, Micros::MAX, true);
            for at in trees {
                if let Some(tree) = bodies.plan.trees.get(at as usize) {
                    self.fire(bodies, (at, tree), below, alerts);
                }
            }
        }
    }

    /// Takes note of when something is due in a set; `only` that.
    fn note_due(&mut self, set: usize, due: Micros, only: bool) {
        if let Some(next) = self.next.get_mut(set) {
            *next = if only { due } else { due.min(*next) };
        }
    }

    /// Takes in a crossing, its rule's in total order. True if it is folded.
    fn cross(
        &mut self,
        bodies: &Bodies<'_>,
        (at, tree): (u32, &Tree),
        place: &Turn,
        crossing: &Crossing,
        alerts: &mut Vec<NewRevision>,
    ) -> bool {
        let node = tree.last();
        let event = &crossing.event;
        let start = event.time.floor(HOUR);
        let published = self.published.get(at as usize).copied().unwrap_or(Micros::MIN);
        let hour = self.by_tree.entry(at).or_default().entry(start).or_default();
        let folded = !hour.first.contains_key(place);
        if folded {
            let prefix = body::prefix(&key_of(node, &crossing.key));
            let room = self.prefixes.get(at as usize).copied().unwrap_or(0);
            hour.folded.entry(crossing.group).or_default().add(event, prefix, room);
            match &mut hour.head {
                None => {
                    let mut head = Head { crossing: *event, revision: 0, pending: None };
                    if !node.judged && event.time >= published {
                        head.revision = 1;
                        alerts.push(bodies.storm((tree, event.time), start, hour, &head, Liveness::Active));
                    }
                    hour.head = Some(head);
                }
                Some(head) => {
                    let due = interval_end(head.crossing.time, event.time, node.update.0);
                    if head.pending.is_none() && due >= published {
                        head.pending = Some(due);
                    }
                }
            }
        }
        let due = hour.due(tree, start);
        self.note_due(tree.set, due, false);
        folded
    }

    /// Gives a tree's revisions that are due before an instant (all, if `None`), and forgets hours that are long over.
    fn fire(
        &mut self,
        bodies: &Bodies<'_>,
        (at, tree): (u32, &Tree),
        before: Option<Micros>,
        alerts: &mut Vec<NewRevision>,
    ) {
        let published = self.published.get(at as usize).copied().unwrap_or(Micros::MIN);
        let Some(hours) = self.by_tree.get_mut(&at) else { return };
        let next = loop {
            let first = hours.iter().map(|(start, hour)| (hour.due(tree, *start), *start)).min();
            let Some((due, start)) = first.filter(|(due, _)| before.is_none_or(|before| *due < before))
            else {
                break first.map(|(due, _)| due);
            };
            let Some(hour) = hours.get_mut(&start) else { break None };
            if hour.closed {
                hours.remove(&start);
                continue;
            }
            let ended = due >= Hour::end(tree, start);
            if let Some(head) = &mut hour.head {
                head.pending = None;
                if due >= published {
                    head.revision = head.revision.saturating_add(1);
                    let head = Head::clone(head);
                    let state = if ended { Liveness::Ended } else { Liveness::Active };
                    alerts.push(bodies.storm((tree, due), start, hour, &head, state));
                }
            }
            hour.closed = ended;
        };
        if hours.is_empty() {
            self.by_tree.remove(&at);
        }
        if let Some(next) = next {
            self.note_due(tree.set, next, false);
        }
    }

    /// Makes room for another plan; of trees that end by it, what is due is looked at anew.
    pub fn adopt(&mut self, plan: &Plan, budgets: &Budgets, ending: impl Iterator<Item = usize>) {
        self.prefixes = prefixes(plan, budgets);
        self.next.resize(plan.sets.len(), Micros::MAX);
        self.published.resize(plan.trees.len(), Micros::MIN);
        ending.for_each(|set| self.note_due(set, Micros::MIN, true));
    }

    /// Forgets a tree.
    pub fn drop_tree(&mut self, at: u32) {
        self.by_tree.remove(&at);
        if let Some(published) = self.published.get_mut(at as usize) {
            *published = Micros::MIN;
        }
    }

    /// The trees of which something crossed in hours that are remembered.
    pub fn trees(&self) -> impl Iterator<Item = u32> {
        self.by_tree.keys().copied()
    }

    /// What of a tree's hours goes into a key group's checkpoint.
    pub fn of_group(&self, tree: u32, group: u8) -> impl Iterator<Item = (Micros, &Hour)> {
        let hours = self.by_tree.get(&tree).into_iter().flatten();
        hours.map(|(start, hour)| (*start, hour)).filter(move |(_, hour)| {
            // What a storm has said goes into the checkpoints of all groups, so that the newest of them brings the newest: with
            // an older one, revisions would be numbered again from there.
            let told = hour.head.is_some();
            told || hour.folded.contains_key(&group) || hour.first.values().any(|(_, of)| *of == group)
        })
    }

    /// Before a restore: forgets what a key group contributed.
    pub fn forget(&mut self, group: u8) {
        for hour in self.by_tree.values_mut().flat_map(BTreeMap::values_mut) {
            hour.folded.remove(&group);
            hour.first.retain(|_, (_, of)| *of != group);
        }
    }

    /// Takes up what a key group contributed to an hour, as it was when the group had come to `mark`.
    pub fn take_up(&mut self, at: u32, tree: &Tree, (group, mark): (u8, Micros), part: Contribution) {
        let published = self.published.get(at as usize).copied().unwrap_or(Micros::MIN);
        let hour = self.by_tree.entry(at).or_default().entry(part.start).or_default();
        hour.closed |= part.closed;
        if hour.head.is_none() || (part.head.is_some() && mark >= published) {
            hour.head = part.head;
        }
        for (event, text) in part.first {
            hour.note((event.order(), text), event, group);
        }
        if part.folded.episodes > 0 {
            hour.folded.insert(group, part.folded);
        }
        // The next look at what is due starts from scratch.
        self.note_due(tree.set, Micros::MIN, true);
    }

    /// A tree's revisions below were given already.
    pub fn publish(&mut self, at: usize, below: Micros) {
        if let Some(published) = self.published.get_mut(at) {
            *published = below.max(*published);
        }
    }
}

/// What a key group contributes to an hour, as a checkpoint has it.
#[derive(Debug)]
pub struct Contribution {
    pub start: Micros,
    pub closed: bool,
    pub head: Option<Head>,
    /// Crossings that raised alerts, each with its key as JSON text.
    pub first: Vec<(EventRef, Box<str>)>,
    pub folded: Folded,
}
