//! Looking ahead: conditions over the events read so far, before they are final.
//!
//! In: findings as they are read, and the released state of their key. Out: notices.
//! Invariants: nothing in here reaches an alert. What is believed of a key rests on events that were read, taken in the total
//! order, and on no others: conditions are monotone, so what holds over some of the events holds over all of them, and an
//! alert takes in the event at which it holds. What has no room is left out, which can only make it silent. A key is
//! announced when its condition holds in an episode of which nothing was released, and not again before the announced
//! event is released. Keys, events and the work for each event are bounded.

use std::collections::{BTreeMap, VecDeque};

use hashbrown::HashTable;
use smallvec::SmallVec;
use vedette_event::{Micros, Order, time::HOUR};

use crate::{
    body::STORM_AFTER,
    event::EventRef,
    keys::{AnyWindow, KeyState},
    plan::Node,
    step::{
        episode::{Episode, Phase, continues},
        window::{Joining, Window},
    },
};

/// Bytes of an entry: an event in a queue that doubles, with a few values. A key with its window and its place is three of these.
pub const NOTICE_ENTRY: usize = 208;
/// So many keys may share what there is evenly: an attacker's one address must not take the room of all others.
pub const KEYS_WITH_MOST: usize = 256;
/// What a key costs besides its window and its events, if it is short.
const KEY: usize = 3;
/// Events put in order again, for each one that is read. A late event makes a key's window be filled again, which costs
/// all of its unreleased events: with so many to the good, about 30 late events in a row are looked at at once, and of
/// a key with thousands every few hundredth.
const CREDIT: usize = 16;
/// Of a released window's events, so many cost as much to copy as one costs to put in order.
const COPIED: u64 = 16;

/// What is known of events that are not final.
#[derive(Debug, Clone, Copy)]
pub struct Unreleased {
    /// Those below were released.
    pub below: Micros,
    /// How much more may be remembered.
    pub room: usize,
    /// How much of one key at most.
    pub most_of_key: usize,
}

/// The keys of one rule in one key group that have unreleased findings.
#[derive(Debug, Default)]
pub struct Ahead {
    keys: HashTable<Looking>,
    /// What is remembered, in entries.
    entries: usize,
    /// Events put in order again.
    work: u64,
}

/// What looking at an event found.
#[derive(Debug, Default)]
pub struct Sighting {
    /// It crosses, and not as a continuation: an event for chains.
    pub crosses: bool,
    /// The condition holds in an episode that is to be announced.
    pub announce: Option<Episode>,
    /// The key was not remembered before.
    pub fresh: bool,
}

/// One key, as if all that was read were final.
#[derive(Debug)]
struct Looking {
    key: SmallVec<[u8; 24]>,
    hash: u64,
    window: Window,
    /// Its last episode.
    stand: Option<Stand>,
    /// Unreleased events, in order.
    seen: VecDeque<Seen>,
    /// What they count for.
    recorded: usize,
    /// The last event in order.
    last: Order,
    /// Time of the last event that is not in `seen` for want of room.
    gap: Option<Micros>,
    /// The window lacks events that came late.
    stale: bool,
    /// Events that may be put in order again.
    credit: usize,
    /// The event announced last.
    said: Option<Micros>,
    /// What it counts for.
    entries: usize,
}

/// An episode, as far as it matters here.
#[derive(Debug, Clone, Copy)]
struct Stand {
    crossing: Micros,
    /// The last event at which the condition held.
    held: Micros,
}

/// What an event brought.
#[derive(Debug)]
struct Seen {
    event: EventRef,
    refs: SmallVec<[u16; 4]>,
    values: SmallVec<[u64; 2]>,
}

impl Seen {
    fn of(joining: &Joining<'_>) -> Self {
        Self {
            event: *joining.event,
            refs: SmallVec::from_slice(joining.refs),
            values: SmallVec::from_slice(joining.values),
        }
    }

    fn joining(&self) -> Joining<'_> {
        Joining { event: &self.event, refs: &self.refs, values: &self.values, child: None }
    }
}

/// What a key counts for without its events.
const fn of_key(key: &[u8]) -> usize {
    KEY + key.len() / NOTICE_ENTRY
}

/// What an event counts for.
const fn entries(joining: &Joining<'_>) -> usize {
    1 + joining.values.len() / 8
}

impl Stand {
    fn of(known: Option<&KeyState>) -> Option<Self> {
        match &known?.phase {
            Phase::None => None,
            Phase::Cut(held) => Some(Self { crossing: *held, held: *held }),
            Phase::Open(episode) => Some(Self { crossing: episode.crossing.time, held: episode.held }),
        }
    }

    /// Whether it takes in an event at this time.
    fn open(self, node: &Node, now: Micros) -> bool {
        now <= self.held.plus(node.rearm) && self.crossing.midnight() == now.midnight()
    }
}

/// What decides whether something is to be announced.
struct Said<'a> {
    /// Events below were released.
    below: Micros,
    /// Notices by hour, of a rule whose episodes are alerts.
    hours: Option<&'a BTreeMap<Micros, u64>>,
}

/// What an event did to an episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    /// The condition does not hold.
    No,
    /// It goes on, or goes on after midnight.
    On,
    /// It begins.
    Crosses,
}

impl Looking {
    /// Starts from the released state of the key.
    fn new(node: &Node, key: &[u8], hash: u64, known: Option<&KeyState>, first: Order) -> Self {
        Self {
            key: SmallVec::from_slice(key),
            hash,
            window: released(node, known),
            stand: Stand::of(known),
            seen: VecDeque::new(),
            recorded: 0,
            last: first,
            gap: None,
            stale: false,
            credit: 0,
            said: None,
            entries: of_key(key),
        }
    }

    /// Forgets what was released.
    fn trim(&mut self, below: Micros) {
        while let Some(seen) = self.seen.pop_front_if(|seen| seen.event.time < below) {
            self.recorded -= entries(&seen.joining());
        }
    }

    /// Puts an event among those seen, if there is room.
    fn record(&mut self, joining: &Joining<'_>, unreleased: Unreleased) {
        let (order, more) = (joining.event.order(), entries(joining));
        if self.recorded + more > unreleased.most_of_key || more > unreleased.room {
            self.gap = self.gap.max(Some(joining.event.time));
            return;
        }
        let at = self.seen.partition_point(|seen| seen.event.order() < order);
        self.seen.insert(at, Seen::of(joining));
        self.recorded += more;
    }

    /// Whether an announced event waits for its alert.
    fn waits(&self, below: Micros) -> bool {
        self.said.is_some_and(|said| said >= below)
    }

    /// What is to be announced of an event at which the condition holds.
    fn due(&self, node: &Node, event: &EventRef, said: &Said<'_>) -> Option<Episode> {
        let unreleased = self.stand.is_some_and(|stand| stand.crossing >= said.below);
        let room = said.hours.is_some_and(|hours| room_in(hours, event) > 0);
        let due = room && unreleased && !self.waits(said.below);
        due.then(|| Episode::open(node, event, &self.window.witness(node, event)))
    }

    /// Fills the window again, from the released state and all events in order, if it lacks some; what that says of an
    /// event, and the first episode to be announced. `None` if it is not the time.
    fn again(
        &mut self,
        node: &Node,
        known: Option<&KeyState>,
        joining: &Joining<'_>,
        said: &Said<'_>,
    ) -> Option<Sighting> {
        let cost = self.seen.len() + usize::try_from(node.n / COPIED).unwrap_or(usize::MAX);
        if self.gap.is_some_and(|gap| gap >= said.below) || cost > self.credit {
            return None;
        }
        self.credit -= cost;
        self.stale = false;
        self.window = released(node, known);
        self.stand = Stand::of(known);
        let (order, mut found) = (joining.event.order(), Sighting::default());
        for at in 0..self.seen.len() {
            let Some(seen) = self.seen.get(at) else { break };
            let step = step(&mut self.window, &mut self.stand, node, &seen.joining());
            found.crosses |= step == Move::Crosses && seen.event.order() == order;
            if step != Move::No && found.announce.is_none() {
                found.announce = self.due(node, &seen.event, said);
            }
        }
        Some(found)
    }
}

/// Takes in the next event in order.
fn step(window: &mut Window, stand: &mut Option<Stand>, node: &Node, joining: &Joining<'_>) -> Move {
    if !window.push(node, joining) {
        return Move::No;
    }
    let now = joining.event.time;
    match stand {
        Some(open) if open.open(node, now) => {
            open.held = now;
            Move::On
        }
        before => {
            let goes_on = before.is_some_and(|before| continues(before.held, now, node));
            *before = Some(Stand { crossing: now, held: now });
            if goes_on { Move::On } else { Move::Crosses }
        }
    }
}

/// A copy of the released window.
fn released(node: &Node, known: Option<&KeyState>) -> Window {
    match known.map(|known| &known.window) {
        None | Some(AnyWindow::Judged(_) | AnyWindow::Sliding(Window::Shared)) => Window::plain(node),
        // Notices say nothing of children.
        Some(AnyWindow::Sliding(Window::Chain(chain))) => chain.window.clone(),
        Some(AnyWindow::Sliding(window)) => window.clone(),
    }
}

impl Ahead {
    /// Takes in an event of a key. Episodes are announced where there are `hours` (the rule's notices by clock hour); else only
    /// their crossings matter.
    pub fn look(
        &mut self,
        node: &Node,
        (key, hash): (&[u8], u64),
        known: Option<&KeyState>,
        joining: &Joining<'_>,
        unreleased: Unreleased,
        hours: Option<&BTreeMap<Micros, u64>>,
    ) -> Sighting {
        let Unreleased { below, room, .. } = unreleased;
        let root = hours.is_some();
        let (order, now) = (joining.event.order(), joining.event.time);
        let remembered = self.keys.find_mut(hash, |looking| looking.key.as_slice() == key);
        let is_new = remembered.is_none();
        let looking = match remembered {
            Some(looking) => looking,
            None if room < of_key(key) => return Sighting::default(),
            None => {
                let fresh = Looking::new(node, key, hash, known, order);
                self.entries += fresh.entries;
                self.keys.insert_unique(hash, fresh, |looking| looking.hash).into_mut()
            }
        };
        looking.trim(below);
        looking.record(joining, unreleased);
        looking.credit = looking.credit.saturating_add(CREDIT);
        let late = order < looking.last;
        looking.last = order.max(looking.last);
        looking.stale |= late;
        // An alert that is open already takes it in.
        let open = Stand::of(known).filter(|stand| stand.crossing < below && stand.open(node, now));
        if let Some(open) = open {
            let held = looking.stand.map_or(open.held, |stand| stand.held.max(open.held));
            looking.stand = Some(Stand { crossing: open.crossing, held });
        }
        let quiet = root && (open.is_some() || looking.waits(below));
        let said = Said { below, hours };
        let (credit, mut found) = (looking.credit, None);
        if looking.stale && !quiet {
            found = looking.again(node, known, joining, &said);
        }
        self.work += (credit - looking.credit) as u64;
        let found = found.unwrap_or_else(|| {
            if late {
                return Sighting::default();
            }
            let step = step(&mut looking.window, &mut looking.stand, node, joining);
            let announce = if step == Move::No { None } else { looking.due(node, joining.event, &said) };
            // Where events are missing, an episode may have begun before.
            Sighting { crosses: step == Move::Crosses && !looking.stale, announce, fresh: false }
        });
        if let Some(episode) = &found.announce {
            looking.said = Some(episode.crossing.time);
        }
        let before = looking.entries;
        looking.entries = of_key(key) + looking.window.entries() + looking.recorded;
        self.entries = self.entries + looking.entries - before;
        Sighting { fresh: is_new, ..found }
    }

    /// Forgets what is remembered of a key all of whose events were released; else when its last event is.
    pub fn fade(&mut self, hash: u64, below: Micros) -> Option<Micros> {
        let over = |looking: &Looking| looking.hash == hash && looking.last.time < below;
        while let Ok(found) = self.keys.find_entry(hash, over) {
            self.entries -= found.remove().0.entries;
        }
        if self.keys.capacity() > 64 && self.keys.len() < self.keys.capacity() / 4 {
            self.keys.shrink_to(self.keys.len() * 2, |looking| looking.hash);
        }
        self.keys.find(hash, |looking| looking.hash == hash).map(|looking| looking.last.time)
    }

    /// Whether it remembers nothing.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// What is remembered, in entries.
    pub const fn entries(&self) -> usize {
        self.entries
    }

    /// Events put in order again so far.
    #[cfg(test)]
    pub const fn work(&self) -> u64 {
        self.work
    }
}

/// An event without a key: an episode of its own, which is announced.
pub fn alone(node: &Node, event: &EventRef, hours: &BTreeMap<Micros, u64>) -> Option<Episode> {
    (room_in(hours, event) > 0).then(|| Episode::open(node, event, &Window::None.witness(node, event)))
}

/// How many more notices of a rule there may be in an event's hour: never more than would raise alerts.
fn room_in(hours: &BTreeMap<Micros, u64>, event: &EventRef) -> u64 {
    STORM_AFTER.saturating_sub(hours.get(&event.time.floor(HOUR)).copied().unwrap_or(0))
}
