//! Sliding windows of one key: does the condition hold at this event, and what is its witness?
//!
//! In: the events of one key that take part, in total order. Out: whether the condition holds at each, and its witness.
//! Invariant: a window keeps no more than the witness (and what shares its oldest event) needs.

use std::{collections::VecDeque, sync::Arc};

use vedette_event::{Micros, Order, Span, TopicIx};

use crate::{
    chain::{ChainWindow, ChildEvent},
    event::{Bits, EventRef, Trail},
    plan::{Node, NodeKind},
};

/// The state of one key's window.
#[derive(Debug, Clone)]
pub enum Window {
    /// A single event: holds at each.
    None,
    /// `event_count`: the newest events whose weights suffice.
    Count {
        /// Oldest first.
        trail: Trail,
        /// Their weight.
        weight: u64,
    },
    /// `event_count` of a key that is counted in the sketch of its key group.
    Shared,
    /// `value_count`: the values seen last and the latest event of each, in the order of those events.
    Distinct(Box<Recent>),
    /// `temporal`: the latest event of each referenced rule.
    Temporal(Box<[Option<EventRef>]>),
    /// `temporal_ordered`: for each step, the latest chain that reaches it.
    Ordered(Box<[Vec<EventRef>]>),
    /// Any of these of a rule over correlations, with what its child events crossed.
    Chain(Box<ChainWindow>),
}

/// Values and the latest event of each.
#[derive(Debug, Clone, Default)]
pub struct Recent {
    /// Hashes of the values.
    pub values: VecDeque<u64>,
    /// Their latest events.
    pub events: VecDeque<EventRef>,
}

/// What an event brings to a window.
#[derive(Debug, Clone, Copy)]
pub struct Joining<'a> {
    /// The event.
    pub event: &'a EventRef,
    /// Numbers of the referenced rules it matches, ascending.
    pub refs: &'a [u16],
    /// Hashes of its values, each once (`value_count`).
    pub values: &'a [u64],
    /// What it crossed, if it is an event of a chain's children.
    pub child: Option<&'a Arc<ChildEvent>>,
}

/// What made a condition hold.
#[derive(Debug, Clone, Default)]
pub struct Witness {
    /// In total order, each once.
    pub events: Vec<EventRef>,
    /// Hashes of the values of these events.
    pub values: Vec<u64>,
    /// The referenced rules these events matched (`temporal`).
    pub matched: Bits,
}

impl Window {
    /// An empty window.
    pub fn new(node: &Node) -> Self {
        let window = Self::plain(node);
        if node.chain { Self::Chain(Box::new(ChainWindow::new(window, VecDeque::new()))) } else { window }
    }

    /// The same without room for what its child events crossed.
    pub fn plain(node: &Node) -> Self {
        match node.kind {
            NodeKind::Single => Self::None,
            NodeKind::Count => Self::Count { trail: Trail::default(), weight: 0 },
            NodeKind::Distinct(_) => Self::Distinct(Box::default()),
            NodeKind::Temporal => Self::Temporal(vec![None; node.refs.len()].into()),
            NodeKind::Ordered => Self::Ordered(vec![Vec::new(); node.refs.len()].into()),
        }
    }

    /// Takes in an event; whether the condition holds at it.
    #[inline]
    pub fn push(&mut self, node: &Node, joining: &Joining<'_>) -> bool {
        let event = joining.event;
        let after = event.time.minus(node.span);
        match self {
            Self::None => true,
            Self::Shared => false,
            Self::Count { trail, weight } => {
                trail.push(event);
                *weight += u64::from(event.weight);
                while let Some(oldest) = trail.front() {
                    let rest = *weight - u64::from(oldest.weight);
                    if oldest.time > after && rest < node.n {
                        break;
                    }
                    trail.pop();
                    *weight = rest;
                }
                trail.shrink();
                *weight >= node.n
            }
            Self::Distinct(recent) => {
                push_values(&mut recent.values, &mut recent.events, joining, after, node.n);
                recent.values.len() as u64 >= node.n
            }
            Self::Temporal(latest) => {
                for at in joining.refs {
                    if let Some(slot) = latest.get_mut(usize::from(*at)) {
                        *slot = Some(*event);
                    }
                }
                let inside = latest.iter().flatten().filter(|event| event.time > after).count();
                inside as u64 >= node.n
            }
            Self::Ordered(chains) => push_step(chains, joining, after),
            Self::Chain(chain) => chain.push(node, joining),
        }
    }

    /// The witness of the condition, which holds at the event pushed last.
    pub fn witness(&self, node: &Node, crossing: &EventRef) -> Witness {
        let mut witness = Witness::default();
        match self {
            Self::None | Self::Shared => witness.events.push(*crossing),
            Self::Count { trail, .. } => witness.events.extend(trail.iter()),
            Self::Distinct(recent) => {
                witness.values.extend(&recent.values);
                witness.events.extend(&recent.events);
            }
            Self::Temporal(latest) => {
                let mut orders: Vec<Order> = latest.iter().flatten().map(EventRef::order).collect();
                orders.sort_unstable_by(|a, b| b.cmp(a));
                let oldest = usize::try_from(node.n.saturating_sub(1)).ok().and_then(|at| orders.get(at));
                for (at, event) in latest.iter().enumerate() {
                    if let (Some(event), Some(oldest)) = (event, oldest)
                        && event.order() >= *oldest
                    {
                        witness.events.push(*event);
                        witness.matched.set(at);
                    }
                }
                witness.events.sort_unstable_by_key(EventRef::order);
            }
            Self::Ordered(chains) => witness.events.extend(chains.last().into_iter().flatten()),
            Self::Chain(chain) => return chain.window.witness(node, crossing),
        }
        witness.events.dedup_by_key(|event| event.order());
        witness
    }

    /// How much it holds, in events of about 100 bytes.
    pub fn entries(&self) -> usize {
        match self {
            Self::None | Self::Shared => 0,
            Self::Count { trail, .. } => trail.bytes() / 100,
            Self::Distinct(recent) => recent.values.len() / 2,
            Self::Temporal(latest) => latest.len() / 2,
            Self::Ordered(chains) => chains.iter().map(Vec::len).sum::<usize>() / 2,
            Self::Chain(chain) => chain.window.entries(),
        }
    }

    /// The events it holds; of some kinds one may come more than once.
    pub fn events(&self) -> Box<dyn Iterator<Item = EventRef> + '_> {
        match self {
            Self::None | Self::Shared => Box::new(std::iter::empty()),
            Self::Count { trail, .. } => Box::new(trail.iter()),
            Self::Distinct(recent) => Box::new(recent.events.iter().copied()),
            Self::Temporal(latest) => Box::new(latest.iter().flatten().copied()),
            Self::Ordered(chains) => Box::new(chains.iter().flatten().copied()),
            Self::Chain(chain) => chain.window.events(),
        }
    }

    /// The one event it holds, if it is only one; if none was worth keeping, an order at the time of the newest.
    pub fn single(&self, newest: Micros) -> Option<Order> {
        match self {
            Self::None | Self::Shared | Self::Count { .. } => return None,
            Self::Chain(chain) => return chain.window.single(newest),
            Self::Distinct(_) | Self::Temporal(_) | Self::Ordered(_) => {}
        }
        let mut orders = self.events().map(|event| event.order());
        let first = orders.next().unwrap_or_else(|| at(newest));
        orders.all(|order| order == first).then_some(first)
    }

    /// What its events weigh, if they are counted.
    pub fn weight(&self) -> u64 {
        match self {
            Self::Count { weight, .. } => *weight,
            Self::Chain(chain) => chain.window.weight(),
            _ => 0,
        }
    }

    /// The place of the oldest event it holds, or one at the time of the newest, and whether there are others.
    pub fn oldest(&self, newest: Micros) -> (Order, bool) {
        let first = match self {
            Self::Chain(chain) => return chain.window.oldest(newest),
            // The oldest is in front.
            Self::Count { .. } | Self::Distinct(_) => self.events().next(),
            _ => self.events().min_by_key(|event| event.order()),
        };
        let several = match self {
            Self::Count { weight, .. } => first.is_some_and(|first| *weight > u64::from(first.weight)),
            window => window.single(newest).is_none(),
        };
        (first.map_or_else(|| at(newest), |first| first.order()), several)
    }

    /// True if nothing in it can matter to an event at `now` or later, given the time of its newest event.
    pub fn expired(&self, node: &Node, newest: Micros, now: Micros) -> bool {
        node.span == Span::ZERO || newest <= now.minus(node.span)
    }
}

/// An order at a time.
const fn at(time: Micros) -> Order {
    Order { time, topic: TopicIx(0), incarnation: 0, partition: 0, offset: 0, index: 0 }
}

/// Makes room for one more, by a quarter at a time: doubling would leave half of a large window empty.
fn reserve<T>(queue: &mut VecDeque<T>) {
    if queue.len() == queue.capacity() {
        queue.reserve_exact(queue.len() / 4 + 4);
    }
}

/// Gives memory back when most of it is not used.
fn shrink<T>(queue: &mut VecDeque<T>) {
    if queue.capacity() > 64 && queue.len() < queue.capacity() / 4 {
        queue.shrink_to(queue.len() * 2);
    }
}

/// Keeps the `n` values seen last and what shares the oldest's event.
fn push_values(
    values: &mut VecDeque<u64>,
    events: &mut VecDeque<EventRef>,
    joining: &Joining<'_>,
    after: Micros,
    n: u64,
) {
    while events.front().is_some_and(|oldest| oldest.time <= after) {
        values.pop_front();
        events.pop_front();
    }
    for value in joining.values {
        if let Some(at) = position(values, *value) {
            values.remove(at);
            events.remove(at);
        }
        reserve(values);
        reserve(events);
        values.push_back(*value);
        events.push_back(*joining.event);
    }
    let n = usize::try_from(n).unwrap_or(usize::MAX);
    while let Some(nth) = events.len().checked_sub(n).filter(|surplus| *surplus > 0)
        && let (Some(oldest), Some(kept)) = (events.front(), events.get(nth))
        && oldest.order() != kept.order()
    {
        values.pop_front();
        events.pop_front();
    }
    shrink(values);
    shrink(events);
}

fn position(values: &VecDeque<u64>, value: u64) -> Option<usize> {
    let (front, back) = values.as_slices();
    let found = front.iter().position(|known| *known == value);
    found.or_else(|| back.iter().position(|known| *known == value).map(|at| at + front.len()))
}

/// Extends chains by the steps the event matches, the last step first, so that one event serves one step; whether a chain ends here.
fn push_step(chains: &mut [Vec<EventRef>], joining: &Joining<'_>, after: Micros) -> bool {
    let fits = |chain: &Vec<EventRef>| chain.first().is_some_and(|first| first.time > after);
    for step in joining.refs.iter().rev().map(|at| usize::from(*at)) {
        let Some((before, from)) = chains.split_at_mut_checked(step) else { continue };
        let Some(chain) = from.first_mut() else { continue };
        match before.last() {
            None => chain.clear(),
            Some(previous) if fits(previous) => chain.clone_from(previous),
            Some(_) => continue,
        }
        chain.push(*joining.event);
    }
    let last = chains.len().saturating_sub(1);
    joining.refs.last().is_some_and(|at| usize::from(*at) == last) && chains.last().is_some_and(fits)
}
