//! One event at all rules of a tree: at which keys it takes part, for which of the rules referred to.
//!
//! In: an event, its payload, what is to be done at each key ([`AtKey`]). Out: whether it took part.
//! Invariants: rules come after those they refer to, so a chain sees the crossings of this very event; an event whose matched rules give
//! different keys takes part at each for the rules that gave it.

use vedette_event::{Flags, key_text};

use super::window::Joining;
use crate::{
    body::key_of,
    codec::KeyHasher,
    event::EventRef,
    intake::{payload::Payload, values},
    plan::{Node, NodeInput, NodeKind, Tree},
};

/// What became of an event at one key of one rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// No room.
    No,
    /// Took part; if it crossed, not as a continuation, with what is to be known of that.
    Yes(Option<Flags>),
}

/// What is done with an event at a key.
pub trait AtKey {
    /// `at` is the number of the rule's node. Without a key, the event is an episode of its own.
    fn take(&mut self, at: usize, node: &Node, key: Option<&[u8]>, joining: &Joining<'_>) -> Taken;
}

/// Memory reused from event to event.
#[derive(Debug, Default)]
pub struct Scratch {
    key: Vec<u8>,
    refs: Vec<u16>,
    values: Vec<u64>,
    /// What became of the event, by node.
    became: Vec<Option<Taken>>,
}

impl Scratch {
    /// What became of the event, by node; `None` where it had no key.
    pub fn became(&self) -> &[Option<Taken>] {
        &self.became
    }

    /// Whether the event took part in any rule, and whether it was left out for want of room in any.
    pub fn taken(&self) -> (bool, bool) {
        let any = |is: fn(&Taken) -> bool| self.became.iter().flatten().any(is);
        (any(|taken| matches!(taken, Taken::Yes(_))), any(|taken| *taken == Taken::No))
    }
}

/// An event on its way through a tree.
#[derive(Debug, Clone, Copy)]
pub struct Walk<'a, 'b> {
    pub tree: &'a Tree,
    pub hasher: &'a KeyHasher,
    pub event: &'a EventRef,
    pub payload: &'a Payload<'b>,
}

impl Walk<'_, '_> {
    /// Takes the event to each rule of the tree; what became of it is in `scratch`.
    #[inline]
    pub fn all(&self, scratch: &mut Scratch, keys: &mut impl AtKey) {
        scratch.became.clear();
        for (at, node) in self.tree.nodes.iter().enumerate() {
            let became = self.node(at, node, scratch, keys);
            scratch.became.push(became);
        }
    }

    /// One rule: all keys it has there.
    #[inline]
    fn node(&self, at: usize, node: &Node, scratch: &mut Scratch, keys: &mut impl AtKey) -> Option<Taken> {
        if node.kind == NodeKind::Single {
            let joining = Joining { event: self.event, refs: &[], values: &[], child: None };
            return Some(keys.take(at, node, self.payload.entity, &joining));
        }
        scratch.refs.clear();
        let (mut direct, mut flags) = (false, self.event.flags);
        for (ix, r) in node.refs.iter().enumerate() {
            let matches = match r.from {
                NodeInput::Detection(bit) => self.payload.matched.contains(&bit),
                NodeInput::Node(child) => {
                    let Some(Some(Taken::Yes(Some(crossed)))) = scratch.became.get(child) else { continue };
                    flags = flags.with(*crossed);
                    true
                }
            };
            if matches {
                direct |= matches!(r.from, NodeInput::Detection(_));
                scratch.refs.push(ix as u16);
            }
        }
        if scratch.refs.is_empty() {
            return None;
        }
        scratch.values.clear();
        if let NodeKind::Distinct(slots) = &node.kind {
            let cells = slots.iter().filter_map(|slot| self.payload.slots.get(*slot));
            values::values(cells, self.hasher, node.values_of_event(), &mut scratch.values);
            if scratch.values.is_empty() {
                return None;
            }
        }
        // A child's event weighs 1.
        let event = EventRef { weight: if direct { self.event.weight } else { 1 }, flags, ..*self.event };
        if let [recipe] = &node.recipes[..] {
            scratch.key.clear();
            self.payload.key(recipe, &mut scratch.key)?;
            let joining =
                Joining { event: &event, refs: &scratch.refs, values: &scratch.values, child: None };
            return Some(keys.take(at, node, Some(&scratch.key), &joining));
        }
        self.several_keys(at, node, &event, scratch, keys)
    }

    /// An event whose matched rules may give different keys: in each group it takes part for the rules that gave its key.
    fn several_keys(
        &self,
        at: usize,
        node: &Node,
        event: &EventRef,
        scratch: &Scratch,
        keys: &mut impl AtKey,
    ) -> Option<Taken> {
        let mut found: Vec<(Vec<u8>, Vec<u16>)> = Vec::new();
        for ix in &scratch.refs {
            let recipe = node.refs.get(usize::from(*ix)).and_then(|r| node.recipes.get(r.recipe))?;
            let mut key = Vec::new();
            if self.payload.key(recipe, &mut key).is_none() {
                continue;
            }
            match found.iter_mut().find(|(known, _)| *known == key) {
                Some((_, refs)) => refs.push(*ix),
                None => found.push((key, vec![*ix])),
            }
        }
        if found.len() > 1 {
            found.sort_by_cached_key(|(key, _)| key_text(&key_of(node, key)));
        }
        let mut taken = None;
        for (key, refs) in &found {
            let direct = |ix: &u16| {
                node.refs.get(usize::from(*ix)).is_some_and(|r| matches!(r.from, NodeInput::Detection(_)))
            };
            let event = EventRef { weight: if refs.iter().any(direct) { event.weight } else { 1 }, ..*event };
            let joining = Joining { event: &event, refs, values: &scratch.values, child: None };
            taken = match (taken, keys.take(at, node, Some(key), &joining)) {
                (Some(Taken::Yes(a)), Taken::Yes(b)) => Some(Taken::Yes(a.or(b))),
                (Some(Taken::Yes(a)), Taken::No) => Some(Taken::Yes(a)),
                (_, now) => Some(now),
            };
        }
        taken
    }
}
