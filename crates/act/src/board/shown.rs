//! What one outlet shows, and how it became so.
//!
//! In: what was shown before, what is to be in force, the time. Out: [`Shown`], with what is new since which version and what was
//! deleted lately. Invariants: one entry a target, the strongest; entries stand in the order of their targets; what is in force is not among
//! what was deleted; both are bounded.

use std::{cmp::Reverse, sync::Arc};

use ipnet::IpNet;
use vedette_event::{
    Micros, Span,
    time::{HOUR, SECOND},
};
use vedette_respond::{Action, ConnectorKind, Target, desired::InForce};

use super::Outlet;

/// What was deleted and is still told. Where more is, the oldest is forgotten: bouncers then hold it to the end they were told.
const MAX_GONE: usize = 100_000;
/// For how long after its end: for bouncers that do not count the time themselves and were away.
const KEPT: Span = HOUR;
/// How many former ends are remembered of an entry that was lengthened again and again.
const MAX_ENDS: usize = 8;
/// How long after a former end a bouncer has surely let go: it counts in whole seconds, from when it was told.
const LETS_GO: Span = Span(2 * SECOND.0);

/// What one outlet shows.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown {
    /// False before the first word.
    pub told: bool,
    /// Rises with each change.
    pub version: u64,
    /// In the order of targets.
    pub entries: Vec<Entry>,
    /// In the order of targets and actions.
    pub gone: Vec<Gone>,
    /// Entries for which there is no room.
    pub left_out: usize,
    /// Entries that the other side can do nothing with.
    pub unfit: usize,
    /// The lengths of the prefixes there are, of IPv4 and of IPv6.
    lengths: [Vec<u8>; 2],
}

/// What is in force.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub target: Target,
    pub action: Action,
    pub until: Micros,
    pub playbook: Arc<str>,
    pub name: Name,
    /// The version in which it became what it is.
    pub since: u64,
    /// It took the place of another action on the same target, or came after one.
    pub instead: bool,
    /// Other ends that it had, in order. Bouncers that leave alone what they hold (as the one for
    /// nftables does) let go at these, and have to be told again.
    ends: Vec<Micros>,
}

/// What was in force.
#[derive(Debug, Clone)]
pub(super) struct Gone {
    pub target: Target,
    pub action: Action,
    pub playbook: Arc<str>,
    pub name: Name,
    /// Since when.
    pub at: Micros,
    /// The ends that it had, in order.
    ends: Vec<Micros>,
    /// The version in which it was taken away; 0 if it ended by itself.
    pub version: u64,
    /// What else is in force on the target.
    pub beside: Beside,
}

/// What is in force on the target of something deleted. Many bouncers know a target by its value alone, and would lift that, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beside {
    Nothing,
    Weaker,
    /// It is not told while that is so.
    Stronger,
}

/// What a decision is called: the same after every restart, since it is made of outlet, action and target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Name {
    pub id: u64,
    pub uuid: [u8; 16],
}

impl Name {
    fn of(outlet: &Outlet, action: Action, target: &Target) -> Self {
        if outlet.kind != ConnectorKind::Crowdsec {
            return Self::default();
        }
        let text = format!("{}\0{action}\0{target}", outlet.name);
        let hash = blake3::hash(text.as_bytes());
        let mut id = [0; 8];
        let mut uuid = [0; 16];
        for (to, from) in id.iter_mut().chain(&mut uuid).zip(hash.as_bytes()) {
            *to = *from;
        }
        // Programs in JavaScript and Lua hold numbers up to 2^53 exactly.
        let id = (u64::from_le_bytes(id) & ((1 << 53) - 1)).max(1);
        // RFC 9562: version 8 is of one's own making.
        uuid[6] = (uuid[6] & 0x0f) | 0x80;
        uuid[8] = (uuid[8] & 0x3f) | 0x80;
        Self { id, uuid }
    }
}

/// How strong an action is at an outlet; `None` if the other side can do nothing with it.
fn strength(kind: ConnectorKind, action: Action, target: &Target) -> Option<u8> {
    let address = matches!(target, Target::Network(_));
    match (kind, action) {
        (ConnectorKind::Edl, Action::BlockAddress) if address => Some(1),
        (ConnectorKind::Crowdsec, Action::BlockAddress) if address => Some(3),
        (ConnectorKind::Crowdsec, Action::StepUp) if address => Some(2),
        (ConnectorKind::Crowdsec, Action::Throttle) if address => Some(1),
        (ConnectorKind::Ratelimit, Action::Throttle) => {
            (address || matches!(target, Target::Named { .. })).then_some(1)
        }
        _ => None,
    }
}

/// One that is to be in force, and how strong it is.
struct Wanted {
    strength: u8,
    new: InForce,
}

impl Shown {
    /// What is shown after this one.
    pub fn next(&self, outlet: &Outlet, in_force: Vec<InForce>, now: Micros) -> Self {
        let (wanted, left_out, unfit) = choose(outlet, in_force, now);
        let version = self.version + 1;
        let mut change =
            Change { outlet, version, now, entries: Vec::new(), gone: Vec::new(), changed: false };
        change.entries.reserve(wanted.len());
        let mut old = self.entries.iter().peekable();
        for Wanted { new, .. } in wanted {
            while let Some(before) = old.next_if(|old| old.target < new.target) {
                change.lose(before);
            }
            let before = old.next_if(|old| old.target == new.target);
            change.take(before, new, &self.gone);
        }
        old.for_each(|before| change.lose(before));
        let Change { entries, gone, mut changed, .. } = change;
        let gone =
            settle([self.gone.clone(), gone].concat(), &entries, outlet.kind, version, now, &mut changed);
        let lengths = [false, true].map(|v6| {
            let nets = entries.iter().filter_map(|entry| entry.target.network());
            let mut lengths: Vec<u8> =
                nets.filter(|net| matches!(net, IpNet::V6(_)) == v6).map(|net| net.prefix_len()).collect();
            lengths.sort_unstable();
            lengths.dedup();
            lengths
        });
        let version = if changed { version } else { self.version };
        Self { told: true, version, entries, gone, left_out, unfit, lengths }
    }

    /// The same with what ended before.
    pub fn with_ended(&self, outlet: &Outlet, ended: Vec<InForce>, now: Micros) -> Self {
        let version = self.version + 1;
        let mut gone = self.gone.clone();
        gone.extend(ended.into_iter().filter_map(|ended| {
            let InForce { action, target, until, playbook, .. } = plain(ended);
            strength(outlet.kind, action, &target)?;
            let name = Name::of(outlet, action, &target);
            let (at, ends) = (now.min(until), vec![until]);
            Some(Gone { target, action, playbook, name, at, ends, version, beside: Beside::Nothing })
        }));
        let gone = settle(gone, &self.entries, outlet.kind, version, now, &mut true);
        Self { version, gone, ..self.clone() }
    }

    /// The entry of a target.
    pub fn of(&self, target: &Target) -> Option<&Entry> {
        find(&self.entries, target)
    }

    /// Entries whose network holds all of this one.
    pub fn containing(&self, net: IpNet) -> impl Iterator<Item = &Entry> {
        let [v4, v6] = &self.lengths;
        let lengths = if matches!(net, IpNet::V4(_)) { v4 } else { v6 };
        lengths.iter().take_while(move |bits| **bits <= net.prefix_len()).filter_map(move |bits| {
            let wide = IpNet::new(net.addr(), *bits).ok()?.trunc();
            self.of(&Target::Network(wide))
        })
    }

    /// Entries whose network is all within this one.
    pub fn within(&self, net: IpNet) -> impl Iterator<Item = &Entry> {
        let from = self.entries.partition_point(|entry| entry.target < Target::Network(net));
        let rest = self.entries.iter().skip(from);
        rest.take_while(move |entry| entry.target.network().is_some_and(|inner| net.contains(&inner)))
    }
}

impl Entry {
    /// Whether it is in force at this time, for so long that it can be told.
    pub fn stands(&self, now: Micros) -> bool {
        // Less than a second would be written as none, and `0s` means for ever to some.
        self.until.since(now) >= SECOND
    }

    /// Whether a bouncer that let go at a former end has to be told again, between these times.
    pub fn is_let_go(&self, (after, now): (Micros, Micros)) -> bool {
        self.ends.iter().any(|end| {
            let gone = end.plus(LETS_GO);
            after < gone && gone <= now
        })
    }
}

/// Adds former ends to others, as many as there is room for.
fn remember(ends: &mut Vec<Micros>, more: &[Micros], now: Micros) {
    ends.extend(more);
    ends.retain(|end| now.since(*end) < KEPT);
    ends.sort_unstable();
    ends.dedup();
    while ends.len() > MAX_ENDS {
        // The first is the one that bouncers hold which were there from the beginning. Of the others the two that are
        // nearest become the later of both: who holds the earlier is told that much too late.
        let pairs = ends.iter().zip(ends.iter().skip(1)).enumerate().skip(1);
        let Some((nearest, _)) = pairs.min_by_key(|(_, (a, b))| b.since(**a)) else { return };
        ends.remove(nearest);
    }
}

/// The networks cut where their prefix ends.
fn plain(mut one: InForce) -> InForce {
    if let Target::Network(net) = &mut one.target {
        *net = net.trunc();
    }
    one
}

/// Of each target the strongest, of equals the longest; and of all as many as there is room for, in the order of targets.
fn choose(outlet: &Outlet, in_force: Vec<InForce>, now: Micros) -> (Vec<Wanted>, usize, usize) {
    let all = in_force.len();
    let fitting = in_force.into_iter().map(plain).filter_map(|new| {
        let strength = strength(outlet.kind, new.action, &new.target)?;
        Some(Wanted { strength, new })
    });
    let mut wanted: Vec<Wanted> = fitting.collect();
    let unfit = all - wanted.len();
    wanted.retain(|wanted| wanted.new.until > now);
    wanted.sort_by(|a, b| {
        let of = |w: &Wanted| (w.strength, w.new.until);
        a.new
            .target
            .cmp(&b.new.target)
            .then_with(|| of(b).cmp(&of(a)))
            .then_with(|| a.new.playbook.cmp(&b.new.playbook))
    });
    wanted.dedup_by(|next, kept| next.new.target == kept.new.target);
    let left_out = wanted.len().saturating_sub(outlet.capacity);
    if left_out > 0 {
        // Stable, so that of equals those with the first targets stay.
        wanted.sort_by_key(|wanted| Reverse((wanted.strength, wanted.new.until)));
        wanted.truncate(outlet.capacity);
        wanted.sort_by(|a, b| a.new.target.cmp(&b.new.target));
    }
    (wanted, left_out, unfit)
}

/// A change under way.
struct Change<'a> {
    outlet: &'a Outlet,
    version: u64,
    now: Micros,
    entries: Vec<Entry>,
    gone: Vec<Gone>,
    changed: bool,
}

impl Change<'_> {
    /// Notes that an entry is in force no more.
    fn lose(&mut self, Entry { target, action, until, playbook, name, ends, .. }: &Entry) {
        let ended = *until <= self.now;
        let mut ends = ends.clone();
        remember(&mut ends, &[*until], self.now);
        self.gone.push(Gone {
            target: target.clone(),
            action: *action,
            playbook: playbook.clone(),
            name: *name,
            at: self.now.min(*until),
            ends,
            version: if ended { 0 } else { self.version },
            beside: Beside::Nothing,
        });
        self.changed = true;
    }

    /// Notes that an entry is in force, and what of it is new.
    fn take(&mut self, before: Option<&Entry>, new: InForce, gone: &[Gone]) {
        let InForce { action, target, until, playbook, .. } = new;
        match before {
            Some(before) if before.action == action => {
                let mut entry = Entry { playbook, until, ..before.clone() };
                if until != before.until {
                    self.changed = true;
                    entry.since = self.version;
                    remember(&mut entry.ends, &[before.until], self.now);
                }
                self.entries.push(entry);
            }
            before => {
                if let Some(before) = before {
                    self.lose(before);
                }
                self.changed = true;
                let from = gone.partition_point(|gone| gone.target < target);
                let former = || gone.iter().skip(from).take_while(|gone| gone.target == target);
                let instead = before.is_some() || former().any(|gone| gone.action != action);
                // A bouncer that has not heard that it was gone holds it to a former end.
                let ends = former().find(|gone| gone.action == action).map(|gone| gone.ends.clone());
                let (ends, since) = (ends.unwrap_or_default(), self.version);
                let name = Name::of(self.outlet, action, &target);
                let entry = Entry { target, action, until, playbook, name, since, instead, ends };
                self.entries.push(entry);
            }
        }
    }
}

fn find<'a>(entries: &'a [Entry], target: &Target) -> Option<&'a Entry> {
    entries.binary_search_by(|entry| entry.target.cmp(target)).ok().and_then(|at| entries.get(at))
}

/// What was deleted, in order, once each, without what is in force again and what nobody can hold any more.
fn settle(
    mut gone: Vec<Gone>,
    entries: &[Entry],
    kind: ConnectorKind,
    version: u64,
    now: Micros,
    changed: &mut bool,
) -> Vec<Gone> {
    gone.sort_by(|a, b| (&a.target, a.action, Reverse(a.at)).cmp(&(&b.target, b.action, Reverse(b.at))));
    gone.dedup_by(|earlier, kept| {
        let same = earlier.target == kept.target && earlier.action == kept.action;
        if same {
            remember(&mut kept.ends, &earlier.ends, now);
        }
        same
    });
    gone.retain_mut(|gone| {
        if now.since(gone.ends.last().copied().unwrap_or(gone.at).max(gone.at)) >= KEPT {
            return false;
        }
        let strong = |action| strength(kind, action, &gone.target);
        let beside = match find(entries, &gone.target) {
            Some(entry) if entry.action == gone.action => return false,
            Some(entry) if strong(entry.action) > strong(gone.action) => Beside::Stronger,
            Some(_) => Beside::Weaker,
            None => Beside::Nothing,
        };
        if gone.beside == Beside::Stronger && beside != Beside::Stronger {
            // It was not told until now.
            (gone.version, gone.at) = (version, now);
            *changed = true;
        }
        gone.beside = beside;
        true
    });
    if let Some(over) = gone.len().checked_sub(MAX_GONE).filter(|over| *over > 0) {
        let mut times: Vec<Micros> = gone.iter().map(|gone| gone.at).collect();
        times.sort_unstable();
        let oldest = times.get(over).copied().unwrap_or(Micros::MAX);
        gone.retain(|gone| gone.at >= oldest);
        gone.truncate(MAX_GONE);
    }
    gone
}
