//! What the guards ask of the world: limits, what is spared, what is live, whom it would hit.
//!
//! In: what the caller knows, as values. Out: answers about one target. Invariant: what is not known, or too old, never counts as harmless.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, LazyLock},
};

use ipnet::IpNet;
use vedette_event::{Micros, Span};

use crate::{
    deed::Action,
    prefix::{TooMany, subtract},
    target::{Prefix, Target, unmapped},
};

/// The deployment's limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Most countermeasures for one rule in an hour without approval.
    pub per_rule_hour: u32,
    /// Most in an hour.
    pub per_hour: u32,
    /// Most that are live at once.
    pub live: u32,
    /// Most of the active users that may be hit at once, in millionths.
    pub share: u32,
    /// So many authenticated users behind an address within a day make it a shared one.
    pub shared_users: u64,
    /// No countermeasure stands longer.
    pub ceiling: Span,
    /// One that nobody approved stands no longer.
    pub automatic: Span,
    /// Nothing wider is ever blocked.
    pub widest: Prefix,
    /// What is wider needs two people.
    pub two_people: Prefix,
    /// A proposal that waited longer is not carried out: the address may be somebody else's by then.
    pub lapse: Span,
    /// What is known of users counts as unknown when it is older.
    pub facts: Span,
    /// Into so many prefixes a block may be cut by what is spared.
    pub pieces: usize,
}

impl Default for Policy {
    fn default() -> Self {
        let hour = vedette_event::time::HOUR.0;
        Self {
            per_rule_hour: 20,
            per_hour: 100,
            live: 10_000,
            share: 1_000,
            shared_users: 3,
            // The longest that a dynamic address group takes, too.
            ceiling: Span(30 * 24 * hour),
            automatic: Span(hour),
            widest: Prefix { ipv4: 16, ipv6: 32 },
            two_people: Prefix { ipv4: 24, ipv6: 48 },
            lapse: Span(4 * hour),
            facts: Span(hour / 4),
            pieces: 256,
        }
    }
}

/// What no countermeasure may hit, whoever approves it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NeverBlock {
    /// Own and partner addresses, market makers, monitors.
    pub nets: Vec<IpNet>,
    /// Users, keys, hosts, systems and countries.
    pub targets: BTreeSet<Target>,
}

/// Addresses that are nobody's on the internet: a block of them hits ourselves or nothing. The last stands for all IPv4 addresses.
const PRIVATE: [&str; 15] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "224.0.0.0/3",
    "::/128",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
    "ff00::/8",
    "::ffff:0:0/96",
];

/// The same, read once: they are asked for with every target that is cut.
fn private() -> &'static [IpNet] {
    static NETS: LazyLock<Vec<IpNet>> = LazyLock::new(|| {
        // Not by `network`, which would take the IPv4 network out of the last one.
        PRIVATE.iter().filter_map(|text| text.parse().ok()).collect()
    });
    &NETS
}

/// Whether an address is nobody's on the internet, so that a connector has no business there unless somebody says so.
#[must_use]
pub fn is_private(address: IpAddr) -> bool {
    let address = address.to_canonical();
    // The last of the list stands for all IPv4 addresses.
    private().iter().take(PRIVATE.len() - 1).any(|net| net.contains(&address))
}

impl NeverBlock {
    /// The networks that an action must spare. Whoever isolates a host means one inside, so that private ranges are no guard there.
    #[must_use]
    pub fn spared(&self, action: Action) -> Vec<IpNet> {
        if !action.hinders() {
            return Vec::new();
        }
        let private = private().iter().filter(|_| action != Action::IsolateHost).copied();
        // Whoever writes an IPv4 address as IPv6 means the same address.
        self.nets.iter().map(|net| unmapped(*net)).chain(private).collect()
    }

    /// What remains of a target when everything is spared that this action must spare, and `more` beside.
    ///
    /// # Errors
    /// If more than `most` prefixes remain.
    pub fn cut(
        &self,
        action: Action,
        target: &Target,
        more: &[IpNet],
        most: usize,
    ) -> Result<Vec<Target>, TooMany> {
        if self.targets.contains(target) && action.hinders() {
            return Ok(Vec::new());
        }
        let (Some(net), true) = (target.network(), action.hinders()) else { return Ok(vec![target.clone()]) };
        let mut spared = self.spared(action);
        spared.extend_from_slice(more);
        Ok(subtract(net, &spared, most)?.into_iter().map(Target::Network).collect())
    }
}

/// Who uses the exchange.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Users {
    /// From when it is.
    pub as_of: Micros,
    /// How many were active in the last 24 hours.
    pub active: u64,
    /// Authenticated users seen behind each address in the last 24 hours.
    pub behind: BTreeMap<IpAddr, u64>,
}

impl Users {
    /// Users behind all addresses of a network.
    #[must_use]
    pub fn behind(&self, net: IpNet) -> u64 {
        let seen = self.behind.range(net.network()..=net.broadcast());
        seen.fold(0, |sum, (_, users)| sum.saturating_add(*users))
    }

    /// How many a countermeasure against a target hits; `None` where nobody can tell.
    #[must_use]
    pub fn hit(&self, target: &Target) -> Option<u64> {
        match target {
            Target::Network(net) => Some(self.behind(*net)),
            Target::Named { .. } => Some(1),
            Target::Asn(_) | Target::Country(_) => None,
        }
    }
}

/// A countermeasure that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// What.
    pub action: Action,
    /// To whom.
    pub target: Target,
    /// Until when.
    pub until: Micros,
}

/// All that the guards look at beside the proposal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    /// The deployment's limits.
    pub policy: Policy,
    /// What is spared.
    pub never: NeverBlock,
    /// What is in force.
    pub live: Vec<Live>,
    /// Countermeasures of the last hour, by rule.
    pub acted: BTreeMap<Arc<str>, u32>,
    /// Who uses the exchange.
    pub users: Users,
    /// API keys registered for high frequency.
    pub registered: BTreeSet<Arc<str>>,
    /// How often a target was dealt with before.
    pub earlier: BTreeMap<Target, u32>,
    /// Nothing is done, and what is live is taken back.
    pub kill_switch: bool,
}

impl World {
    /// What is known of users, if it is of now.
    #[must_use]
    pub fn users(&self, now: Micros) -> Option<&Users> {
        (now.since(self.users.as_of) <= self.policy.facts).then_some(&self.users)
    }

    /// Whether a countermeasure of this sort stands against the target already.
    #[must_use]
    pub fn stands(&self, action: Action, target: &Target, now: Micros) -> bool {
        self.live.iter().any(|live| live.action == action && live.target == *target && live.until > now)
    }
}
