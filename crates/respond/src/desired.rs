//! What is to be in force, and what must be done to make it so.
//!
//! In: [`Order`]s of the gate, what a device says it holds, the never-block set, the time. Out: [`Command`]s. Invariants:
//! level-triggered: the commands follow from what is wanted and what is there, not from what was done before; carrying them out
//! makes both the same, and once more changes nothing; nothing stays beyond its end, and no command covers a spared address.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use vedette_event::{Micros, Span};

use crate::{
    deed::{Action, Connector},
    gate::{NeverBlock, Order, World},
    target::Target,
};

/// How much earlier than wanted a device may let go: devices count in whole seconds from when they were told.
pub const SLACK: Span = Span(2_000_000);

/// All countermeasures that are to be in force, by the connector that sees to them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DesiredState {
    stands: BTreeMap<Arc<str>, BTreeMap<(Action, Target), Stand>>,
}

/// How long one stands, what it spares beside the never-block set, and which playbook put it up for longest.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stand {
    until: Micros,
    spared: BTreeSet<IpNet>,
    playbook: Arc<str>,
}

/// A countermeasure that must be in force, cut to what is not spared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InForce {
    /// What.
    pub action: Action,
    /// To whom.
    pub target: Target,
    /// Until when.
    pub until: Micros,
    /// To be let through nonetheless: of a target that no prefix can be cut out of.
    pub except: Vec<IpNet>,
    /// The playbook that it comes from.
    pub playbook: Arc<str>,
}

/// A countermeasure as a device holds it. Connectors report only those that bear our mark.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Observed {
    /// What.
    pub action: Action,
    /// To whom.
    pub target: Target,
    /// Until when; `None` if it would stay for ever, which nothing of ours may.
    pub until: Option<Micros>,
}

/// What a connector is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Take it away.
    Withdraw {
        /// What.
        action: Action,
        /// From whom.
        target: Target,
    },
    /// Put it up, or give it this end where it stands.
    Impose {
        /// What.
        action: Action,
        /// To whom.
        target: Target,
        /// Until when.
        until: Micros,
        /// To be let through nonetheless: of a target that no prefix can be cut out of.
        except: Vec<IpNet>,
    },
}

/// What has to be done, and what cannot be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// In this order: what is withdrawn comes first, so that a spared address passes again as soon as it can.
    pub commands: Vec<Command>,
    /// Targets that what is spared cuts into too many prefixes. They are not in force.
    pub uncut: Vec<(Action, Target)>,
}

impl DesiredState {
    /// Takes an order in. One that is there already stands until the later end, and spares what either does.
    pub fn admit(&mut self, order: &Order) {
        for Connector { name, .. } in &order.connectors {
            let stands = self.stands.entry(name.clone()).or_default();
            let stand = stands.entry((order.action, order.target.clone())).or_insert_with(|| Stand {
                until: order.until,
                spared: BTreeSet::new(),
                playbook: order.playbook.clone(),
            });
            if stand.until < order.until {
                (stand.until, stand.playbook) = (order.until, order.playbook.clone());
            }
            stand.spared.extend(&order.spared);
        }
    }

    /// Takes a countermeasure out, of these connectors.
    pub fn lift(&mut self, action: Action, target: &Target, connectors: &[Connector]) {
        for Connector { name, .. } in connectors {
            if let Some(stands) = self.stands.get_mut(name) {
                stands.remove(&(action, target.clone()));
            }
        }
    }

    /// Forgets what has ended.
    pub fn forget(&mut self, now: Micros) {
        for stands in self.stands.values_mut() {
            stands.retain(|_, stand| stand.until > now);
        }
        self.stands.retain(|_, stands| !stands.is_empty());
    }

    /// The connectors that have something to see to.
    pub fn connectors(&self) -> impl Iterator<Item = &Arc<str>> {
        self.stands.keys()
    }

    /// What a connector must have in force at a time: spared addresses cut out, of each lane on each target the strongest alone. And
    /// the targets that what is spared cuts into too many prefixes, which are not in force.
    #[must_use]
    pub fn in_force(
        &self,
        connector: &str,
        world: &World,
        now: Micros,
    ) -> (Vec<InForce>, Vec<(Action, Target)>) {
        let mut wanted = Wanted::default();
        let stands = self.stands.get(connector).filter(|_| !world.kill_switch);
        for ((action, target), stand) in stands.into_iter().flatten() {
            if stand.until <= now {
                continue;
            }
            let more: Vec<IpNet> = stand.spared.iter().copied().collect();
            match world.never.cut(*action, target, &more, world.policy.pieces) {
                Ok(pieces) => {
                    let except = except(&world.never, *action, target, &more);
                    for target in pieces {
                        let (except, playbook) = (except.clone(), stand.playbook.clone());
                        wanted.add(InForce { action: *action, target, until: stand.until, except, playbook });
                    }
                }
                Err(_) => wanted.uncut.push((*action, target.clone())),
            }
        }
        (wanted.by_lane.into_values().collect(), wanted.uncut)
    }
}

/// What goes along with an order against a target that no prefix can be cut out of.
fn except(never: &NeverBlock, action: Action, target: &Target, more: &[IpNet]) -> Vec<IpNet> {
    match target {
        Target::Asn(_) | Target::Country(_) if action.hinders() => {
            let all: BTreeSet<IpNet> = never.nets.iter().chain(more).copied().collect();
            all.into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// Each lane's strongest action on each target.
#[derive(Default)]
struct Wanted {
    by_lane: BTreeMap<(crate::Lane, Target), InForce>,
    uncut: Vec<(Action, Target)>,
}

impl Wanted {
    fn add(&mut self, new: InForce) {
        match self.by_lane.entry((new.action.lane(), new.target.clone())) {
            Entry::Vacant(free) => drop(free.insert(new)),
            // The later end counts among equals only: a throttle that lasts longer must not lengthen a block.
            Entry::Occupied(mut held) if (new.action, new.until) > (held.get().action, held.get().until) => {
                held.insert(new);
            }
            Entry::Occupied(_) => {}
        }
    }
}

/// What a connector must do so that its device holds what is wanted.
#[must_use]
pub fn reconcile(
    state: &DesiredState,
    connector: &str,
    observed: &[Observed],
    world: &World,
    now: Micros,
) -> Reconciled {
    let (in_force, uncut) = state.in_force(connector, world, now);
    Reconciled { commands: differences(in_force, observed), uncut }
}

/// What leads from what a device holds to what it must hold: to all of [`DesiredState::in_force`], or to as much of it as there is room for.
/// What is withdrawn comes first, so that a spared address passes again as soon as it can.
#[must_use]
pub fn differences(in_force: Vec<InForce>, observed: &[Observed]) -> Vec<Command> {
    let mut wanted: BTreeMap<(Action, Target), (Micros, Vec<IpNet>)> = BTreeMap::new();
    for InForce { action, target, until, except, .. } in in_force {
        wanted.insert((action, target), (until, except));
    }
    // A device may list a thing twice; then every entry must be right.
    let mut right: BTreeMap<(Action, &Target), bool> = BTreeMap::new();
    for held in observed {
        let fits = wanted.get(&(held.action, held.target.clone())).is_some_and(|(until, _)| {
            held.until.is_some_and(|held| (until.minus(SLACK)..=*until).contains(&held))
        });
        let all = right.entry((held.action, &held.target)).or_insert(true);
        *all = *all && fits;
    }
    let mut commands = Vec::new();
    for (action, target) in right.keys() {
        if !wanted.contains_key(&(*action, (*target).clone())) {
            commands.push(Command::Withdraw { action: *action, target: (*target).clone() });
        }
    }
    for ((action, target), (until, except)) in wanted {
        if right.get(&(action, &target)) != Some(&true) {
            commands.push(Command::Impose { action, target, until, except });
        }
    }
    commands
}
