//! What is to be done so that a firewall's tags say what is to be in force.
//!
//! In: what is to be in force, what the firewall lists, its capacity, what it was given. Out: [`Plan`]. Invariants: only our tags are read and
//! touched, on whatever address they are; what there is no room for, and what the firewall cannot hold, is left out and said, never half
//! of it; addresses of others take room, and give none.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ipnet::IpNet;
use vedette_event::{Micros, Span};
use vedette_respond::{
    Action, Target,
    desired::{Command, InForce, Observed, differences},
    network,
};

use super::{
    answer::{Registered, Tag},
    request::{Entry, Timeout},
};

/// What a firewall says may differ so much from what is wanted: it counts whole seconds, from when it has read what it was told.
const TOLERANCE: Span = Span::secs(5);

/// Our tags, by what stands behind the one that is configured. Each action has its own, since a mark that hinders nobody must
/// not come out as a block.
#[derive(Debug, Clone)]
pub(super) struct Tags([(Action, Arc<str>); 3]);

impl Tags {
    pub fn new(tag: &str) -> Self {
        let of = |action, end: &str| (action, Arc::from(format!("{tag}-{end}")));
        Self([of(Action::BlockAddress, "block"), of(Action::IsolateHost, "isolate"), of(Action::Tag, "tag")])
    }

    fn tag(&self, action: Action) -> Option<&Arc<str>> {
        self.0.iter().find(|(own, _)| *own == action).map(|(_, tag)| tag)
    }

    fn action(&self, tag: &str) -> Option<Action> {
        self.0.iter().find(|(_, own)| **own == *tag).map(|(action, _)| *action)
    }
}

/// Why something is not in force at a firewall.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeftOut {
    /// More is to be in force than it takes.
    #[error("there is no room for it")]
    NoRoom,
    /// Of IPv6 it takes single addresses only.
    #[error("a dynamic address group takes single addresses of IPv6 only")]
    Prefix,
    /// It has no such action or target.
    #[error("a dynamic address group cannot hold it")]
    Unfit,
    /// It takes nothing for so long.
    #[error("a dynamic address group takes nothing for longer than thirty days")]
    TooLong,
    /// What is spared cuts it into too many pieces.
    #[error("what is spared cuts it into too many prefixes")]
    Uncut,
    /// It refuses it, in its own words.
    #[error("the firewall refuses it: {0}")]
    Refused(String),
}

/// What a firewall lists.
#[derive(Debug, Default)]
pub(super) struct Listed {
    /// When it was asked.
    pub at: Micros,
    /// Our tags, on which address as it writes it, and for how long as far as it says.
    ours: Vec<(String, Action, Option<u32>)>,
    /// Addresses with tags of others.
    foreign: BTreeSet<IpNet>,
    /// The same, of what is neither an address nor a prefix.
    ranges: usize,
}

impl Listed {
    /// Nothing yet, asked at this time.
    pub fn new(at: Micros) -> Self {
        Self { at, ..Self::default() }
    }

    /// Takes a page in.
    pub fn add(&mut self, page: Vec<Registered>, tags: &Tags) {
        for Registered { ip, tags: on } in page {
            let mut others = on.is_empty();
            for Tag { name, timeout } in on {
                match tags.action(&name) {
                    Some(action) => self.ours.push((ip.clone(), action, timeout)),
                    None => others = true,
                }
            }
            match (others, network(&ip)) {
                (true, Some(net)) => drop(self.foreign.insert(net)),
                (true, None) => self.ranges += 1,
                (false, _) => {}
            }
        }
    }
}

/// What a firewall was given last: for how long, and until when that was.
pub(super) type Given = BTreeMap<(Action, Target), (Timeout, Micros)>;

/// One to register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Registration {
    pub action: Action,
    pub target: Target,
    pub tag: Arc<str>,
    pub until: Micros,
}

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// First.
    pub unregister: Vec<Entry>,
    /// Then.
    pub register: Vec<Registration>,
    /// What is not in force there.
    pub left_out: BTreeMap<(Action, Target), LeftOut>,
    /// How much is to be.
    pub in_force: usize,
}

/// What leads from what a firewall lists to what is to be in force, as far as it takes that.
pub(super) fn plan(
    (in_force, uncut): (Vec<InForce>, Vec<(Action, Target)>),
    (listed, given): (&Listed, &Given),
    (tags, capacity): (&Tags, usize),
    now: Micros,
) -> Plan {
    let mut left_out: BTreeMap<_, _> = uncut.into_iter().map(|key| (key, LeftOut::Uncut)).collect();
    let taken = choose(in_force, listed, (tags, capacity), now, &mut left_out);
    let ends: BTreeMap<(Action, &Target), Micros> =
        taken.iter().map(|one| ((one.action, &one.target), one.until)).collect();
    let mut spelt: BTreeMap<(Action, Target), Vec<&str>> = BTreeMap::new();
    let (mut observed, mut unregister) = (Vec::new(), Vec::new());
    let mut withdraw = |ip: &str, action| {
        let tag = tags.tag(action).cloned();
        unregister.extend(tag.map(|tag| Entry { ip: ip.to_owned(), tag, timeout: None }));
    };
    for (ip, action, timeout) in &listed.ours {
        let Some(target) = network(ip).map(Target::Network) else {
            // A range: we make none.
            withdraw(ip, *action);
            continue;
        };
        let key = (*action, target);
        let wanted = ends.get(&(*action, &key.1)).copied();
        let until = end(*timeout, listed.at, given.get(&key).copied(), wanted);
        observed.push(Observed { action: *action, target: key.1.clone(), until });
        spelt.entry(key).or_default().push(ip);
    }
    drop(ends);
    let count = taken.len();
    let mut register = Vec::new();
    for command in differences(taken, &observed) {
        let (action, target, until) = match command {
            Command::Withdraw { action, target } => (action, target, None),
            Command::Impose { action, target, until, .. } => (action, target, Some(until)),
        };
        // One that is there and has another end is taken away first: it would be left as it is.
        let key = (action, target);
        spelt.get(&key).into_iter().flatten().for_each(|ip| withdraw(ip, action));
        if let (Some(until), Some(tag)) = (until, tags.tag(action).cloned()) {
            register.push(Registration { action, target: key.1, tag, until });
        }
    }
    Plan { unregister, register, left_out, in_force: count }
}

/// Until when an entry stands. A firewall may say for how long still, for how long it was given, or nothing; in the latter two cases it
/// counts what it was given by us, and without that nothing is known.
fn end(
    says: Option<u32>,
    at: Micros,
    given: Option<(Timeout, Micros)>,
    wanted: Option<Micros>,
) -> Option<Micros> {
    let until = match (says, given) {
        (Some(0), _) => return None,
        (Some(says), Some((timeout, until))) if says == timeout.seconds() => until,
        (None, Some((_, until))) => until,
        (Some(says), _) => at.plus(Span::secs(i64::from(says))),
        (None, None) => return None,
    };
    Some(wanted.filter(|wanted| wanted.since(until).0.abs() <= TOLERANCE.0).unwrap_or(until))
}

/// As much as there is room for: the strongest first, of equals what lasts longest.
fn choose(
    in_force: Vec<InForce>,
    listed: &Listed,
    (tags, capacity): (&Tags, usize),
    now: Micros,
    left_out: &mut BTreeMap<(Action, Target), LeftOut>,
) -> Vec<InForce> {
    let (mut fit, unfit): (Vec<_>, Vec<_>) =
        in_force.into_iter().map(|one| (fits(&one, tags, now), one)).partition(|(fits, _)| fits.is_ok());
    for (why, one) in unfit {
        left_out.extend(why.err().map(|why| ((one.action, one.target), why)));
    }
    fit.sort_by(|(_, a), (_, b)| {
        Reverse((a.action, a.until)).cmp(&Reverse((b.action, b.until))).then_with(|| a.target.cmp(&b.target))
    });
    let mut room = capacity.saturating_sub(listed.foreign.len() + listed.ranges);
    let mut inside = BTreeSet::new();
    let mut taken = Vec::new();
    for (net, one) in fit {
        let Ok(net) = net else { continue };
        // An address counts once, however many tags it has.
        if !listed.foreign.contains(&net) && !inside.contains(&net) {
            if room == 0 {
                left_out.insert((one.action, one.target), LeftOut::NoRoom);
                continue;
            }
            room -= 1;
            inside.insert(net);
        }
        taken.push(one);
    }
    taken
}

/// The network, if a firewall can hold it.
fn fits(one: &InForce, tags: &Tags, now: Micros) -> Result<IpNet, LeftOut> {
    let net = one.target.network().filter(|_| tags.tag(one.action).is_some()).ok_or(LeftOut::Unfit)?;
    if matches!(net, IpNet::V6(_)) && net.prefix_len() < net.max_prefix_len() {
        return Err(LeftOut::Prefix);
    }
    if one.until.since(now).0 / 1_000_000 > i64::from(Timeout::MAX.seconds()) {
        return Err(LeftOut::TooLong);
    }
    Ok(net)
}
