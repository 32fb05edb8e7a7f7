//! What a key is charged for, and how many keys a rule may hold in a key group.
//!
//! In: a plan and the bytes for the state of all its rules. Out: [`Budgets`], in *entries*.
//!
//! An entry is a key with one event: so many bytes for each kind of rule ([`entry`]), with what the allocator loses. What takes more
//! (an open episode, many events or values, a key of kilobytes) is charged as several ([`more`]). New keys are let in up to
//! [`RuleBudget::entries`]; above, a quarter is for those that are there to grow, since they are to stay exact, and for episodes
//! of estimated counts. Beyond that a key that grows takes the place of others that have no open episode, those with one event first.
//! To charge every key for an open episode from the beginning was tried: no key ever had to go, and a flood had
//! room for a fifth of the keys.
//!
//! Of the bytes of a rule in a key group, an eighth is for its sketch, a sixteenth for prefixes, and the rest for keys. They are
//! divided between the rules for good, so that no rule's flood takes the room of another, and what a rule says over its budget
//! depends on its own events alone. One pool for all would let a rule have more, and would make alerts depend on how far the
//! sources of other rules have come.
//!
//! Invariants: charges follow from the events of a key and the plan alone, not from capacities, batches or restarts; all keys of
//! all rules take fewer bytes than were given.

use std::collections::BTreeMap;

use vedette_event::{Order, RuleIx};

use super::sketch;
use crate::{
    GROUPS, Plan,
    chain::{ChainWindow, EPISODE, FEW},
    event::EventRef,
    keys::{AnyWindow, KeyState},
    plan::{Node, NodeKind},
    step::{
        episode::{Episode, Phase},
        judged::Judged,
        tally::Tally,
        window::{Recent, Window},
    },
};

/// Bytes that the allocator needs for a piece.
const PIECE: usize = 16;
/// Bytes of an event in a trail, with room to grow: 8 to 12 as a rule, more with flags and in partitions that are far apart.
const IN_TRAIL: usize = 20;
/// Events that a trail has room for in its place.
const IN_PLACE: usize = 2;
/// Bytes of an event or value in a window, with room to grow.
const IN_WINDOW: usize = (size_of::<EventRef>() + size_of::<u64>()) * 3 / 2;
/// Values that a window has room for from its first.
const FIRST_VALUES: usize = 4;
/// Bytes of a value in a table: a power of two of places, of which at least seven sixteenths are taken.
const IN_TABLE: usize = 20;
/// Bytes of the first and last five events of an episode, beside their place in it.
const ENDS: usize = 2 * (5 * IN_TRAIL + PIECE);
/// Bytes of an episode's two timers in a heap that doubles.
const TIMERS: usize = 2 * 24 * 3 / 2;
/// Bytes of a key's place in the table of keys, and of the gaps in slabs.
const PLACE: usize = 20 + 16;
/// Bytes of a key's places among those that others can replace: in a tree that is two thirds full, of which half are up to date.
const RANKS: usize = 2 * (size_of::<Order>() + size_of::<u64>() + size_of::<u32>()) * 3 / 2;
/// Bytes of keys that need no entry of their own.
const SHORT: usize = 40;
/// The room of a rule of one event against that of a correlation: its keys are those of open episodes, of which a thousand an hour are
/// alerts; a correlation has a key for each address or user that it watches. There can be thousands of the former.
const SINGLE: usize = 1;
const CORRELATION: usize = 4;
/// Sixteenths of a rule's bytes that are for keys.
const KEYS: usize = 13;
/// Entries above the budget, beside a quarter of it: of counts, so that some episodes of estimates can open however small it is.
const fn spare(kind: &NodeKind) -> usize {
    if matches!(kind, NodeKind::Count) { 16 } else { 2 }
}

/// What a rule's room is in proportion to.
const fn weight(kind: &NodeKind) -> usize {
    if matches!(kind, NodeKind::Single) { SINGLE } else { CORRELATION }
}

/// Bytes of an entry of a rule over so many others, of which some may be correlations.
pub fn entry(kind: &NodeKind, judged: bool, refs: usize, chain: bool) -> usize {
    let window = match kind {
        _ if judged => size_of::<Judged>() + ENDS + refs / 8 + 2 * PIECE,
        NodeKind::Count => 0,
        // Its episode is open from the first event on.
        NodeKind::Single => episode_bytes(refs),
        NodeKind::Distinct(_) => size_of::<Recent>() + FIRST_VALUES * IN_WINDOW + 3 * PIECE,
        NodeKind::Temporal => refs * size_of::<Option<EventRef>>() + PIECE,
        NodeKind::Ordered => refs * (size_of::<Vec<EventRef>>() + PIECE) + PIECE,
    };
    let ranks = if matches!(kind, NodeKind::Count) && !judged { 0 } else { RANKS };
    let chain = if chain { size_of::<ChainWindow>() + PIECE + FEW * EPISODE } else { 0 };
    size_of::<KeyState>() + SHORT + PLACE + window + ranks + chain
}

/// Bytes of an open episode of a rule over so many others.
const fn episode_bytes(refs: usize) -> usize {
    size_of::<Episode>() + ENDS + TIMERS + PIECE + refs * (size_of::<u64>() + 1)
}

/// Bytes of a window beyond what an entry has room for.
fn window_bytes(node: &Node, window: &Window) -> usize {
    match window {
        Window::None | Window::Shared | Window::Temporal(_) => 0,
        // Its events weigh one at least.
        Window::Count { weight, .. } => {
            let events = usize::try_from((*weight).min(node.n)).unwrap_or(usize::MAX);
            events.saturating_sub(IN_PLACE).saturating_mul(IN_TRAIL)
        }
        Window::Distinct(recent) => recent.values.len().saturating_sub(FIRST_VALUES) * IN_WINDOW,
        Window::Ordered(chains) => chains.iter().map(Vec::len).sum::<usize>() * IN_WINDOW,
        // As many are kept that left the window and were not looked for.
        Window::Chain(chain) => window_bytes(node, &chain.window).saturating_add(2 * chain.bytes()),
    }
}

/// How many entries a key takes beside its first.
pub fn more(node: &Node, state: &KeyState) -> u16 {
    let of_tally = |tally: &Tally| {
        let children: usize = tally.children.iter().map(|child| child.bytes()).sum();
        tally.values.seen.len() * IN_TABLE + children
    };
    let window = match &state.window {
        AnyWindow::Judged(window) => of_tally(&window.tally),
        AnyWindow::Sliding(window) => window_bytes(node, window),
    };
    let episode = match &state.phase {
        Phase::Open(_) if node.kind == NodeKind::Single => 0,
        Phase::Open(episode) => episode_bytes(node.refs.len()) + of_tally(&episode.tally),
        Phase::None | Phase::Cut(_) => 0,
    };
    let bytes = window.saturating_add(episode + state.key.len().saturating_sub(SHORT));
    u16::try_from(bytes.div_ceil(node.entry)).unwrap_or(u16::MAX)
}

/// What one rule may hold in one key group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RuleBudget {
    /// Entries; beyond these no key is new.
    pub entries: usize,
    /// Up to here what is there may grow, and episodes of estimated counts open.
    pub most: usize,
    /// Counters in a row of its sketch.
    pub width: usize,
    /// Bytes of prefixes: as many again are for those of its storms.
    pub prefixes: usize,
}

impl RuleBudget {
    fn of(node: &Node, bytes: usize) -> Self {
        let spare = spare(&node.kind);
        let entries = (bytes / 16 * KEYS / node.entry).saturating_sub(spare) * 4 / 5;
        let column = sketch::ROWS * size_of::<u32>() * sketch::HELD;
        let width = (bytes / 8 / column).clamp(sketch::NARROWEST, sketch::WIDEST);
        Self { entries, most: entries + entries / 4 + spare, width: 1 << width.ilog2(), prefixes: bytes / 32 }
    }

    /// Bytes at which a rule has so many entries in a group.
    const fn bytes(node: &Node, entries: usize) -> usize {
        (((entries * 5).div_ceil(4) + spare(&node.kind)) * node.entry).div_ceil(KEYS) * 16
    }
}

/// What each rule may hold in each key group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budgets(Vec<RuleBudget>);

impl Budgets {
    /// Divides the bytes of all state.
    pub fn of(plan: &Plan, bytes: usize) -> Self {
        let each =
            bytes / usize::from(GROUPS) / plan.nodes().map(|node| weight(&node.kind)).sum::<usize>().max(1);
        Self(plan.nodes().map(|node| RuleBudget::of(node, each * weight(&node.kind))).collect())
    }

    /// What a rule of a tree may hold.
    #[inline]
    pub fn get(&self, node: &Node) -> RuleBudget {
        self.0.get(node.number).copied().unwrap_or_default()
    }
}

impl Plan {
    /// The rules of all trees.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.trees.iter().flat_map(|tree| &tree.nodes)
    }

    /// Bytes for all state with which each rule may hold at least so many entries in each key group.
    #[must_use]
    pub fn bytes_for(&self, entries: usize) -> usize {
        let all: usize = self.nodes().map(|node| weight(&node.kind)).sum();
        if entries == 0 {
            return 0;
        }
        let each =
            self.nodes().map(|node| RuleBudget::bytes(node, entries).div_ceil(weight(&node.kind))).max();
        each.unwrap_or(0) * all * usize::from(GROUPS)
    }

    /// How many entries each rule may hold in a key group with so many bytes for all state, by rule: of one that several trees hold,
    /// the least.
    #[must_use]
    pub fn entries(&self, bytes: usize) -> BTreeMap<RuleIx, usize> {
        let budgets = Budgets::of(self, bytes);
        let mut entries = BTreeMap::new();
        for node in self.nodes() {
            let own = budgets.get(node).entries;
            entries.entry(node.rule).and_modify(|least: &mut usize| *least = own.min(*least)).or_insert(own);
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use vedette_sigma::ir::{Cmp, CorrelationKind::*};

    use super::*;
    use crate::tests::harness::{World, correlation, detection, single, world};

    fn rules() -> World {
        let values = ValueCount(vec!["port".into()]);
        let of = |id, kind, cmp, n| correlation(id, kind, &[0], &["user"], "1h", &[(cmp, n)]);
        world(vec![
            detection("d"),
            single("s", true),
            of("c", EventCount, Cmp::Gte, 10),
            of("v", values, Cmp::Gte, 1_000),
            of("t", Temporal, Cmp::Gte, 1),
            of("j", EventCount, Cmp::Lte, 10),
        ])
    }

    #[test]
    fn what_all_rules_may_hold_is_less_than_what_there_is() {
        let plan = rules().plan;
        for bytes in [0, 1, 1 << 20, 64 << 20, 6 << 30] {
            let budgets = Budgets::of(&plan, bytes);
            let of_rule = |node: &Node| {
                let RuleBudget { entries, most, width, prefixes } = budgets.get(node);
                if entries == 0 {
                    return 0;
                }
                let sketch = width * sketch::ROWS * size_of::<u32>() * sketch::HELD;
                most * node.entry + sketch + 2 * prefixes
            };
            let all: usize = plan.nodes().map(of_rule).sum();
            assert!(all * usize::from(GROUPS) <= bytes, "{all} in a group of {bytes}");
        }
    }

    #[test]
    fn the_bytes_for_some_entries_give_as_many() {
        let plan = rules().plan;
        for entries in [1, 4, 1_000, 100_000] {
            let least = plan.entries(plan.bytes_for(entries)).into_values().min();
            assert!(
                least.is_some_and(|least| (entries..=entries + entries / 100 + 4).contains(&least)),
                "{least:?}"
            );
        }
    }
}
