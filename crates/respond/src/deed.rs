//! What a step of a playbook does, and what connectors can carry it out.
//!
//! In: names as a playbook writes them. Out: [`Deed`], [`Action`], [`Connector`]. Invariants: every countermeasure has a [`Limit`];
//! one table says which kind of connector can do what to whom, so that a playbook that asks for more is refused when it is read.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use vedette_event::Span;

use crate::target::Sort;

/// A countermeasure. Those of the ladder stand in its order, from the mildest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Marks the target for whatever reads the mark; hinders nobody.
    Tag,
    /// Asks for another factor, or shows a challenge.
    StepUp,
    /// Lets through a few requests only.
    Throttle,
    /// Takes an API key out of use.
    SuspendKey,
    /// Refuses all of an address.
    BlockAddress,
    /// Lets no withdrawal go out.
    HoldWithdrawals,
    /// Ends sessions that began before. They do not come back.
    EndSessions,
    /// Cuts a host off from its network.
    IsolateHost,
}

/// Actions that replace one another on one target: of those in one lane only the strongest is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Tag, step-up challenge, throttle, suspended key, blocked address.
    Ladder,
    /// Withdrawals.
    Withdrawals,
    /// Sessions.
    Sessions,
    /// Hosts.
    Hosts,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Tag,
        Self::StepUp,
        Self::Throttle,
        Self::SuspendKey,
        Self::BlockAddress,
        Self::HoldWithdrawals,
        Self::EndSessions,
        Self::IsolateHost,
    ];

    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tag => "tag",
            Self::StepUp => "step_up",
            Self::Throttle => "throttle",
            Self::SuspendKey => "suspend_key",
            Self::BlockAddress => "block_address",
            Self::HoldWithdrawals => "hold_withdrawals",
            Self::EndSessions => "end_sessions",
            Self::IsolateHost => "isolate_host",
        }
    }

    /// The name of the step that takes it back; none for what cannot be undone, and for what runs out harmlessly.
    #[must_use]
    pub const fn lifted_by(self) -> Option<&'static str> {
        match self {
            Self::BlockAddress => Some("unblock_address"),
            Self::Throttle => Some("unthrottle"),
            Self::SuspendKey => Some("restore_key"),
            Self::HoldWithdrawals => Some("release_withdrawals"),
            Self::IsolateHost => Some("reconnect_host"),
            Self::Tag | Self::StepUp | Self::EndSessions => None,
        }
    }

    /// Which other actions it replaces or gives way to.
    #[must_use]
    pub const fn lane(self) -> Lane {
        match self {
            Self::HoldWithdrawals => Lane::Withdrawals,
            Self::EndSessions => Lane::Sessions,
            Self::IsolateHost => Lane::Hosts,
            Self::Tag | Self::StepUp | Self::Throttle | Self::SuspendKey | Self::BlockAddress => Lane::Ladder,
        }
    }

    /// Whether all is as before once it ends.
    #[must_use]
    pub const fn reversible(self) -> bool {
        !matches!(self, Self::EndSessions)
    }

    /// Whether the never-block set guards against it. A mark hinders nobody, and what is held or suspended is no address.
    #[must_use]
    pub const fn hinders(self) -> bool {
        !matches!(self, Self::Tag)
    }

    /// What it can be done to.
    #[must_use]
    pub const fn sorts(self) -> &'static [Sort] {
        use Sort::{Address, Asn, Country, Host, Key, Session, User, Wallet};
        match self {
            Self::Tag => &[Address, Asn, Country, User, Key, Session, Host, Wallet],
            Self::StepUp => &[Address, User, Session],
            Self::Throttle => &[Address, Asn, Country, User, Key],
            Self::SuspendKey => &[Key],
            Self::BlockAddress => &[Address, Asn, Country],
            Self::HoldWithdrawals => &[User, Wallet],
            Self::EndSessions => &[User, Session],
            Self::IsolateHost => &[Address, Host],
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How long a countermeasure stands: the first time, and for who comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// The first time.
    pub first: Span,
    /// By what it is multiplied for each time before; 1 for always the same.
    pub growth: u32,
    /// Never longer than this.
    pub ceiling: Span,
}

impl Limit {
    /// How long it stands against one who was dealt with so many times before, and at most for `most`.
    #[must_use]
    pub fn after(self, times: u32, most: Span) -> Span {
        let ceiling = self.ceiling.0.min(most.0);
        let mut span = self.first.0;
        for _ in 0..times {
            if span >= ceiling || self.growth <= 1 {
                break;
            }
            span = span.saturating_mul(i64::from(self.growth));
        }
        Span(span.min(ceiling))
    }
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// Tells people.
    Notify,
    /// Opens a ticket.
    Ticket,
    /// Calls an outside program.
    Webhook,
    /// A countermeasure.
    Impose(Action, Limit),
    /// Takes a countermeasure back.
    Lift(Action),
}

impl Deed {
    /// The names of all steps there are.
    #[must_use]
    pub fn names() -> Vec<&'static str> {
        let actions = Action::ALL.map(Action::name);
        let lifts = Action::ALL.into_iter().filter_map(Action::lifted_by);
        ["notify", "ticket", "webhook"].into_iter().chain(actions).chain(lifts).collect()
    }

    /// The name of the step.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Notify => "notify",
            Self::Ticket => "ticket",
            Self::Webhook => "webhook",
            Self::Impose(action, _) => action.name(),
            Self::Lift(action) => match action.lifted_by() {
                Some(name) => name,
                None => "lift",
            },
        }
    }

    /// The countermeasure that it puts up or takes back.
    #[must_use]
    pub const fn action(self) -> Option<Action> {
        match self {
            Self::Impose(action, _) | Self::Lift(action) => Some(action),
            Self::Notify | Self::Ticket | Self::Webhook => None,
        }
    }
}

/// The kinds of connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectorKind {
    /// A signed HTTP request.
    Webhook,
    /// Slack.
    Slack,
    /// PagerDuty.
    Pagerduty,
    /// E-mail.
    Email,
    /// A Kafka topic.
    Kafka,
    /// An external dynamic list of a firewall.
    Edl,
    /// A dynamic address group of a firewall.
    Dag,
    /// The interface of CrowdSec's bouncers.
    Crowdsec,
    /// The feed of rate limits.
    Ratelimit,
}

impl ConnectorKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Webhook,
        Self::Slack,
        Self::Pagerduty,
        Self::Email,
        Self::Kafka,
        Self::Edl,
        Self::Dag,
        Self::Crowdsec,
        Self::Ratelimit,
    ];

    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Slack => "slack",
            Self::Pagerduty => "pagerduty",
            Self::Email => "email",
            Self::Kafka => "kafka",
            Self::Edl => "edl",
            Self::Dag => "dag",
            Self::Crowdsec => "crowdsec",
            Self::Ratelimit => "ratelimit",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it can carry out a deed, and that against such a target.
    ///
    /// Autonomous systems and countries go to programs of the deployment's own only: these are given the addresses to spare with the
    /// order, and lists of addresses cannot hold them.
    #[must_use]
    pub const fn carries(self, deed: Deed, sort: Option<Sort>) -> bool {
        use ConnectorKind::{Crowdsec, Dag, Edl, Email, Kafka, Pagerduty, Ratelimit, Slack, Webhook};
        match deed {
            Deed::Notify => matches!(self, Slack | Pagerduty | Email | Webhook | Kafka),
            Deed::Ticket => matches!(self, Webhook | Email),
            Deed::Webhook => matches!(self, Webhook),
            Deed::Impose(action, _) | Deed::Lift(action) => match self {
                Webhook | Kafka => true,
                Slack | Pagerduty | Email => false,
                Edl => matches!((action, sort), (Action::BlockAddress, None | Some(Sort::Address))),
                Dag => matches!(
                    (action, sort),
                    (Action::Tag | Action::BlockAddress | Action::IsolateHost, None | Some(Sort::Address))
                ),
                Crowdsec => matches!(
                    (action, sort),
                    (Action::StepUp | Action::Throttle | Action::BlockAddress, None | Some(Sort::Address))
                ),
                Ratelimit => matches!(
                    (action, sort),
                    (Action::Throttle, None | Some(Sort::Address | Sort::User | Sort::Key))
                ),
            },
        }
    }
}

/// A connector as a playbook names it: its kind, and which of that kind where there are several (`slack/soc`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Connector {
    /// Its kind.
    pub kind: ConnectorKind,
    /// As written.
    pub name: Arc<str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_back_is_dealt_with_longer_up_to_the_ceiling() {
        let limit = Limit { first: Span::secs(60), growth: 4, ceiling: Span::secs(1_000) };
        let hour = Span::secs(3_600);
        let after = |times| limit.after(times, hour).0 / 1_000_000;
        assert_eq!([0, 1, 2, 3, u32::MAX].map(after), [60, 240, 960, 1_000, 1_000]);
        assert_eq!(limit.after(9, Span::secs(90)), Span::secs(90));
        assert_eq!(Limit { growth: 1, ..limit }.after(u32::MAX, hour), Span::secs(60));
    }

    #[test]
    fn names_are_told_apart_and_every_action_can_be_carried_out_to_each_sort() {
        let mut names = Deed::names();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 3 + 8 + 5);
        let limit = Limit { first: Span::secs(1), growth: 1, ceiling: Span::secs(1) };
        for action in Action::ALL {
            for sort in action.sorts() {
                let deed = Deed::Impose(action, limit);
                assert!(ConnectorKind::ALL.into_iter().any(|kind| kind.carries(deed, Some(*sort))));
            }
        }
        let wide = Deed::Impose(Action::BlockAddress, limit);
        assert!(!ConnectorKind::Crowdsec.carries(wide, Some(Sort::Asn)));
    }
}
