//! The gate: whether what was proposed may be done, by whose word, and how long it stands.
//!
//! In: a proposal, who approved it, the [`World`], the time. Out: a [`Verdict`] with every reason. Invariants: the same function at
//! proposal and at execution; what is not known never counts as harmless; an [`Order`] comes from here only, always with an end,
//! never longer than the ceiling; no approval opens the never-block set, the kill switch, a ceiling or a dry run.

mod decide;
mod world;

use std::{collections::BTreeSet, fmt, sync::Arc};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use vedette_event::{Micros, Severity, Span};

pub use decide::decide;
pub use world::{Live, NeverBlock, Policy, Users, World, is_private};

use crate::{
    deed::{Action, Connector},
    target::Target,
};

/// Who stands behind a proposal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approvals {
    /// Who started it, if a person did.
    pub proposer: Option<Arc<str>>,
    /// Who approved it.
    pub by: BTreeSet<Arc<str>>,
}

impl Approvals {
    /// How many count where so many are needed: where two are, nobody approves what is their own.
    #[must_use]
    pub fn counted(&self, people: u8) -> usize {
        let own = |name: &&Arc<str>| people > 1 && self.proposer.as_ref() == Some(*name);
        self.by.iter().filter(|name| !own(name)).count()
    }
}

/// A countermeasure that may be carried out: it is made by the gate, and is what the desired state consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub(crate) action: Action,
    pub(crate) target: Target,
    pub(crate) until: Micros,
    pub(crate) connectors: Vec<Connector>,
    pub(crate) spared: Vec<IpNet>,
    pub(crate) playbook: Arc<str>,
}

impl Order {
    /// What.
    #[must_use]
    pub const fn action(&self) -> Action {
        self.action
    }

    /// To whom, uncut: what is spared is cut out of it whenever it is made true, so that the set may change meanwhile.
    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// Until when.
    #[must_use]
    pub const fn until(&self) -> Micros {
        self.until
    }

    /// By what.
    #[must_use]
    pub fn connectors(&self) -> &[Connector] {
        &self.connectors
    }

    /// The playbook that it comes from.
    #[must_use]
    pub const fn playbook(&self) -> &Arc<str> {
        &self.playbook
    }
}

/// What may be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// People or programs are told.
    Tell,
    /// A countermeasure.
    Impose(Order),
    /// One is taken back.
    Lift {
        /// What.
        action: Action,
        /// From whom.
        target: Target,
        /// By what.
        connectors: Vec<Connector>,
    },
}

/// What the gate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It may be done.
    Act(Act),
    /// So many people must approve it, in all.
    NeedsApproval {
        /// One or two.
        people: u8,
    },
    /// Only something milder may be done.
    Lower {
        /// This, by a new proposal.
        rung: Action,
    },
    /// It may not be done.
    Refuse,
}

/// What the gate says, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What.
    pub decision: Decision,
    /// Every reason against it, and every limit it was put under.
    pub reasons: Vec<Reason>,
    /// What it would have been, had the playbook not been a dry run.
    pub would: Option<Decision>,
}

impl Verdict {
    /// Whether a breaker opened, which somebody must be paged for.
    #[must_use]
    pub fn pages(&self) -> bool {
        self.reasons.iter().any(|reason| matches!(reason, Reason::Breaker { .. }))
    }
}

/// What a breaker counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cap {
    /// Countermeasures for the rule in the last hour.
    RuleHour,
    /// All of the last hour.
    Hour,
    /// Those that are live.
    Live,
    /// Users that are hit, in millionths of the active ones.
    Share,
}

/// A reason of the gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The playbook only says what it would do.
    DryRun,
    /// The playbook has a person approve what it does.
    ApproveMode,
    /// The kill switch is on.
    KillSwitch,
    /// The proposal waited too long.
    Lapsed(Span),
    /// It has no target, or no connector that could do it.
    Unable,
    /// A connector of this name is not configured.
    NoConnector(Arc<str>),
    /// It has no time limit.
    NoLimit,
    /// All of the target is in the never-block set.
    NeverBlock(Target),
    /// Parts of the target are spared.
    Cut {
        /// How many prefixes remain.
        pieces: usize,
    },
    /// What is spared cuts the target into too many prefixes.
    TooManyPieces(usize),
    /// Addresses to spare go along with the order, and whatever carries it out sees to it.
    SparedByConnector(usize),
    /// The prefix is broader than any that may be blocked.
    TooBroad(u8),
    /// The target is so wide that two people must approve.
    Wide(Target),
    /// The severity starts no countermeasure.
    SeverityTooLow(Severity),
    /// The severity asks for a person.
    SeverityAsks(Severity),
    /// It cannot be undone.
    Irreversible(Action),
    /// It cannot be undone, and a notice starts only what can.
    IrreversibleOnNotice(Action),
    /// The rule rests on flows whose source can be forged.
    Forgeable,
    /// The evidence bears flags of the clock.
    Clock,
    /// A scheduled hunt raised the alert, late: whoever it is about may be somebody else by now.
    Hunt,
    /// So many users are behind the address.
    Shared(u64),
    /// How many users are behind the address is not known, or from too long ago.
    UsersUnknown,
    /// The key is registered for high frequency.
    Registered,
    /// A cap is reached.
    Breaker {
        /// Which.
        cap: Cap,
        /// What is counted, this one included.
        count: u64,
        /// The cap.
        most: u64,
    },
    /// The playbook's own guard asks for so many people.
    Guard(u8),
    /// What is taken back on an alert's word alone could be taken back on an attacker's.
    LiftUnasked,
    /// It stands shorter than the playbook says.
    Shortened {
        /// What the playbook says.
        from: Span,
        /// How long it stands.
        to: Span,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DryRun => f.write_str("the playbook is a dry run"),
            Self::ApproveMode => f.write_str("the playbook has each countermeasure approved"),
            Self::KillSwitch => f.write_str("the kill switch is on"),
            Self::Lapsed(span) => write!(f, "it was proposed more than {span} ago"),
            Self::Unable => f.write_str("it has no target, or a connector that cannot do it"),
            Self::NoConnector(name) => write!(f, "the configuration has no connector `{name}`"),
            Self::NoLimit => f.write_str("it has no time limit"),
            Self::NeverBlock(target) => write!(f, "{target} is in the never-block set"),
            Self::Cut { pieces } => {
                write!(f, "addresses of the never-block set are cut out: {pieces} prefixes remain")
            }
            Self::TooManyPieces(most) => {
                write!(f, "the never-block set cuts it into more than {most} prefixes")
            }
            Self::SparedByConnector(n) => write!(f, "{n} networks to spare go along with the order"),
            Self::TooBroad(bits) => write!(f, "no prefix broader than /{bits} may be blocked"),
            Self::Wide(target) => write!(f, "{target} is wide: two people approve it"),
            Self::SeverityTooLow(level) => {
                write!(f, "a severity of {} starts no countermeasure", level.name())
            }
            Self::SeverityAsks(level) => write!(f, "at a severity of {} a person approves it", level.name()),
            Self::Irreversible(action) => write!(f, "{action} cannot be undone: a person approves it"),
            Self::IrreversibleOnNotice(action) => {
                write!(f, "{action} cannot be undone, and a notice starts only what can")
            }
            Self::Forgeable => f.write_str("the rule rests on flows whose source can be forged"),
            Self::Clock => f.write_str("the times of the evidence are in doubt"),
            Self::Hunt => f.write_str(
                "a scheduled hunt raised it, late and over what the lake holds: a person approves it",
            ),
            Self::Shared(users) => write!(f, "{users} users are behind the address: throttling is the most"),
            Self::UsersUnknown => f.write_str("how many users it hits is not known"),
            Self::Registered => f.write_str("the key is registered for high frequency"),
            Self::Breaker { cap, count, most } => match cap {
                Cap::RuleHour => {
                    write!(f, "the breaker is open: {count} for this rule within an hour, at most {most}")
                }
                Cap::Hour => write!(f, "the breaker is open: {count} within an hour, at most {most}"),
                Cap::Live => write!(f, "the breaker is open: {count} would be live, at most {most}"),
                Cap::Share => {
                    write!(f, "the breaker is open: {count} of a million active users hit, at most {most}")
                }
            },
            Self::Guard(people) => write!(f, "the playbook asks for {people} to approve it"),
            Self::LiftUnasked => f.write_str("a person approves what is taken back"),
            Self::Shortened { from, to } => write!(f, "it stands for {to}, not {from}"),
        }
    }
}
